/* Token by token against the whole sequence at once, for every kind of training: the
 * prompt's path and decode's share no arithmetic. Tolerances as in test_eval.c; here the widest product has
 * length 128, and DoRA and biases add a rounding each. */
#include "infer/decode.h"
#include "infer/decode_batch.h"
#include "tests/ref_check.h"
#include "tests/tiny_kinds.h"

static double off_by(const float *a, const float *b, int64_t n) {
    double off = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        off += pow((double)a[i] - (double)b[i], 2);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(off / norm);
}

/* Token t's logits of several rows at once, of which the second is the same row. */
static void by_batch(tiny_net *n, const rows *r, int prompt, float *found) {
    gr_decode_batch d;
    graft_error err = {0};
    int64_t start[3] = {0, prompt, 2 * prompt}, tokens = r->batch.tokens, vocab = n->spec.vocab;
    int32_t ids[2 * 8], next[2];
    for (int i = 0; i < 2 * prompt; i++) ids[i] = r->ids[i % prompt];
    gr_batch batch = {.ids = ids, .start = start, .nrows = 2, .tokens = 2 * prompt};
    assert_int_equal(gr_decode_batch_init(&d, &n->rt, 2, 2, tokens, &err), GRAFT_OK);
    gr_decode_batch_prompts(&d, &batch);
    for (int64_t t = prompt - 1; t < tokens; t++) {
        next[0] = next[1] = r->ids[t];
        if (t >= prompt) gr_decode_batch_step(&d, next);
        assert_memory_equal(d.logits, d.logits + vocab, (size_t)vocab * sizeof *d.logits);
        memcpy(found + t * vocab, d.logits, (size_t)vocab * sizeof *found);
    }
    gr_decode_batch_free(&d);
}

static bool so_often(void *user) {
    return (*(int *)user)-- > 0;
}

/* A lent cache has the same bits however many tokens come at a time, and however often that was given up. */
static void by_pieces(tiny_net *n, const rows *r) {
    static const int64_t pieces[] = {1, 3, 7, 1000};
    gr_decode_batch d;
    graft_error err = {0};
    gr_arena arena = {0};
    int64_t tokens = r->batch.tokens, vocab = n->spec.vocab;
    float *first = tiny_keep(n, (size_t)vocab * sizeof *first);
    assert_int_equal(gr_decode_batch_init(&d, &n->rt, 7, 0, tokens, &err), GRAFT_OK);
    (void)gr_decode_batch_cache(&arena, &n->rt, tokens);
    size_t bytes = arena.used;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        arena = (gr_arena){0};
        assert_int_equal(gr_arena_reserve(&arena, bytes, &err), GRAFT_OK);
        gr_kv_cache cache = gr_decode_batch_cache(&arena, &n->rt, tokens);
        for (int64_t at = 0, count; at < tokens; at += count) {
            int blocks = 1; /* of two at least */
            count = gr_min_i64(gr_min_i64(pieces[i], 7), tokens - at);
            n->rt.net.go_on = so_often, n->rt.net.go_on_context = &blocks;
            assert_false(gr_decode_batch_extend(&d, &cache, r->ids + at, count));
            n->rt.net.go_on = NULL;
            assert_int_equal(cache.length, at);
            count = gr_min_i64(pieces[i], tokens - at);
            assert_true(gr_decode_batch_extend(&d, &cache, r->ids + at, count));
        }
        assert_int_equal(cache.length, tokens);
        if (i == 0) memcpy(first, d.logits, (size_t)vocab * sizeof *first);
        assert_memory_equal(d.logits, first, (size_t)vocab * sizeof *first);
        gr_arena_free(&arena);
    }
    gr_decode_batch_free(&d);
}

/* All paths over the one row; how far apart they are. */
static double paths_apart(tiny_net *n, const rows *r) {
    enum { PROMPT = 3 };
    graft_error err = {0};
    gr_decode d;
    int64_t start[2] = {0, r->batch.tokens}, tokens = r->batch.tokens, vocab = n->spec.vocab;
    gr_net_config config = {.tokens = tokens, .longest = tokens};
    assert_int_equal(gr_runtime_bind(&n->rt, &config, &err), GRAFT_OK);
    assert_int_equal(gr_decode_init(&d, &n->rt, tokens, false, &err), GRAFT_OK);
    gr_batch batch = {.ids = r->ids, .start = start, .nrows = 1, .tokens = tokens};
    gr_net *net = &n->rt.net;
    float *whole = tiny_keep(n, (size_t)(tokens * vocab) * sizeof *whole),
          *found = tiny_keep(n, (size_t)(tokens * vocab) * sizeof *found);
    gr_net_forward(net, &batch);
    for (int64_t t = 0; t < tokens; t++) {
        gr_head_logits(&net->compute, &net->head, whole + t * vocab, net->saved[n->spec.layers].x, t, 1);
    }
    gr_decode_prompt(&d, r->ids, PROMPT);
    for (int64_t t = PROMPT - 1; t < tokens; t++) {
        if (t >= PROMPT) gr_decode_token(&d, r->ids[t]);
        memcpy(found + t * vocab, d.logits, (size_t)vocab * sizeof *found);
    }
    int64_t first = (PROMPT - 1) * vocab;
    gr_decode_free(&d);
    double off = off_by(found + first, whole + first, tokens * vocab - first);
    by_batch(n, r, PROMPT, found);
    by_pieces(n, r);
    return fmax(off, off_by(found + first, whole + first, tokens * vocab - first));
}

static const int one_row[] = {24};

static void compare_paths(int kind, const char *isa, bool fp32) {
    tiny_net n;
    rows r;
    open_kind(&n, &r, one_row, 1, kind, 4, isa, fp32, 2);
    double off = paths_apart(&n, &r);
    if (!(off <= (fp32 ? 1e-4 : 3e-2)))
        fail_msg("kind %d, %s %s: off by %.3g", kind, isa, fp32 ? "fp32" : "bf16", off);
    tiny_close(&n);
}

/* Embedding, head and norms as they train; what takes a tensor's place has other values than it. */
static void compare_ends(int what, bool tied, const char *isa, bool fp32) {
    tiny_net n;
    rows r;
    ref_tiny spec = traits(tied ? 1 : 4);
    spec.rank = 0, spec.end_rank = what & TINY_ENDS ? 3 : 0, spec.train_all = true;
    tiny_open_with(&n, spec, 4, 64, isa, fp32, 2, what);
    make_rows(&r, one_row, 1, spec.vocab);
    for (int64_t i = 0; i < n.rt.tuning->parameters; i++) n.params[i] *= 1 + 0.25f * (float)(i % 5 - 2);
    double off = paths_apart(&n, &r);
    if (!(off <= (fp32 ? 1e-4 : 3e-2)))
        fail_msg("ends %d, tied %d, %s %s: off by %.3g", what, tied, isa, fp32 ? "fp32" : "bf16", off);
    tiny_close(&n);
}

/* Decoding has kernels of its own in every set: all count, but where each is emulated. */
static bool worth_it(const gr_isa *isa) {
    return emulated() ? isa_is_best(isa) : isa->available();
}

static void test_ends(void **state) {
    (void)state;
    static const int ways[] = {TINY_ENDS, TINY_EMBED | TINY_HEAD, TINY_NORMS};
    for (const gr_isa *isa = gr_isa_table; isa->name; isa++)
        for (int way = 0; worth_it(isa) && way < 12; way++)
            compare_ends(ways[way % 3], way / 3 % 2, isa->name, way / 6);
}

static void compare_family(int which, const char *isa, bool fp32) {
    tiny_net n;
    rows r;
    ref_tiny spec = traits(which);
    spec.train_all = true;
    tiny_open_with(&n, spec, 4, 64, isa, fp32, 2, TINY_LINEARS | TINY_NORMS);
    make_rows(&r, one_row, 1, spec.vocab);
    double off = paths_apart(&n, &r);
    if (!(off <= (fp32 ? 1e-4 : 3e-2)))
        fail_msg("family %d, %s %s: off by %.3g", which, isa, fp32 ? "fp32" : "bf16", off);
    tiny_close(&n);
}

static void each_family(const char *isa, bool fp32) {
    for (int which = FAMILIES; which < FAMILIES_END; which++) compare_family(which, isa, fp32);
}

static void test_families(void **state) {
    (void)state;
    each_isa(each_family);
}

static void test_kinds(void **state) {
    (void)state;
    for (const gr_isa *isa = gr_isa_table; isa->name; isa++)
        for (int kind = 0; worth_it(isa) && kind < KINDS; kind++) {
            compare_paths(kind, isa->name, true);
            compare_paths(kind, isa->name, false);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds), cmocka_unit_test(test_ends),
                                       cmocka_unit_test(test_families)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
