/* Token by token against the whole sequence at once, for every kind of training that a linear can have: the
 * prompt's path and decode's share no arithmetic. Tolerances as in test_eval.c; here the widest product has
 * length 128, and DoRA and biases add a rounding each. */
#include "infer/decode.h"
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

static void compare_paths(int kind, const char *isa, bool fp32) {
    enum { PROMPT = 3 };
    static const int lengths[] = {24};
    graft_error err = {0};
    tiny_net n;
    rows r;
    gr_decode d;
    open_kind(&n, &r, lengths, 1, kind, 4, isa, fp32, 2);
    int64_t start[2] = {0, r.batch.tokens}, tokens = r.batch.tokens, vocab = n.spec.vocab;
    gr_net_config config = {.tokens = tokens, .longest = tokens};
    assert_int_equal(gr_runtime_bind(&n.rt, &config, &err), GRAFT_OK);
    assert_int_equal(gr_decode_init(&d, &n.rt, tokens, &err), GRAFT_OK);
    gr_batch batch = {.ids = r.ids, .start = start, .nrows = 1, .tokens = tokens};
    gr_net *net = &n.rt.net;
    float *whole = tiny_keep(&n, (size_t)(tokens * vocab) * sizeof *whole),
          *found = tiny_keep(&n, (size_t)(tokens * vocab) * sizeof *found);
    gr_net_forward(net, &batch);
    for (int64_t t = 0; t < tokens; t++) {
        gr_head_logits(&net->compute, &net->head, net->saved[n.spec.layers].x, t, 1);
        memcpy(whole + t * vocab, net->head.logits, (size_t)vocab * sizeof *whole);
    }
    gr_decode_prompt(&d, r.ids, PROMPT);
    for (int64_t t = PROMPT - 1; t < tokens; t++) {
        if (t >= PROMPT) gr_decode_token(&d, r.ids[t]);
        memcpy(found + t * vocab, d.logits, (size_t)vocab * sizeof *found);
    }
    int64_t first = (PROMPT - 1) * vocab;
    double off = off_by(found + first, whole + first, tokens * vocab - first);
    if (!(off <= (fp32 ? 1e-4 : 3e-2)))
        fail_msg("kind %d, %s %s: off by %.3g", kind, isa, fp32 ? "fp32" : "bf16", off);
    gr_decode_free(&d);
    tiny_close(&n);
}

static void test_kinds(void **state) {
    (void)state;
    for (const gr_isa *isa = gr_isa_table; isa->name; isa++)
        for (int kind = 0; isa->available() && kind < KINDS; kind++) {
            compare_paths(kind, isa->name, true);
            compare_paths(kind, isa->name, false);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
