/* net/ against ref/: loss and every gradient of small models, for each architecture's traits, every
 * instruction set that this machine has and both modes; then what must not change a bit: threads, recompute,
 * slices of a batch. Tolerances: tests/tiny_kinds.h.
 */
#include "tests/ref_check.h"
#include "tests/tiny_kinds.h"

static void against_ref(ref_tiny spec, int trained, int bits, int group, const char *isa, bool fp32,
                        const int *lengths, int count, const char *name) {
    tiny_net n;
    rows r;
    char what[200];
    snprintf(what, sizeof what, "%s, trained %d, %d bits, %s %s, %d rows", name, trained, bits, isa,
             fp32 ? "fp32" : "bf16", count);
    if (!(trained & TINY_LINEARS)) spec.rank = spec.expert_rank = 0;
    if (!(trained & TINY_ENDS)) spec.end_rank = 0;
    tiny_open_with(&n, spec, bits, group, isa, fp32, 2, trained);
    make_rows(&r, lengths, count, n.spec.vocab);
    compare_step(&n, &r, fp32, what);
    tiny_close(&n);
}

static void traits_against_ref(int which, int bits, int group, const char *isa, bool fp32, const int *lengths,
                               int count) {
    char name[20];
    snprintf(name, sizeof name, "traits %d", which);
    against_ref(traits(which), TINY_LINEARS, bits, group, isa, fp32, lengths, count, name);
}

static const int short_rows[] = {7, 1, 12}, long_rows[] = {300, 40};

static void short_batch(const char *isa, bool fp32) {
    for (int which = 0; which < 5; which++) traits_against_ref(which, 0, 0, isa, fp32, short_rows, 3);
    for (int which = FAMILIES; which < FAMILIES_END; which++)
        traits_against_ref(which, 0, 0, isa, fp32, short_rows, 3);
    if (fp32) traits_against_ref(ONE_EXPERT, 0, 0, isa, fp32, short_rows, 3);
}

/* Everything that trains, in each family. */
static void family_batch(const char *isa, bool fp32) {
    for (int which = FAMILIES; which < FAMILIES_END; which++) {
        ref_tiny s = traits(which);
        char name[32];
        s.end_rank = 3;
        s.train_all = true;
        snprintf(name, sizeof name, "ends of family %d", which);
        against_ref(s, TINY_LINEARS | TINY_ENDS | TINY_NORMS, 0, 0, isa, fp32, short_rows, 3, name);
        if (s.tied) against_ref(s, TINY_EMBED | TINY_NORMS, 0, 0, isa, fp32, short_rows, 3, name);
    }
}

static void test_families(void **state) {
    (void)state;
    with_best(family_batch);
}

static void long_batch(const char *isa, bool fp32) {
    traits_against_ref(0, 0, 0, isa, fp32, long_rows, 2);
    traits_against_ref(5, 0, 0, isa, fp32, long_rows, 2);
    traits_against_ref(GEMMA2, 0, 0, isa, fp32, long_rows, 2);
}

static void quantized_batch(const char *isa, bool fp32) {
    static const int combos[][2] = {{4, 64}, {4, 32}, {3, 64}, {8, 32}};
    for (int i = 0; i < 4; i++) traits_against_ref(1, combos[i][0], combos[i][1], isa, fp32, short_rows, 3);
    traits_against_ref(QWEN3_MOE, 4, 64, isa, fp32, short_rows, 3);
}

static void test_architectures(void **state) {
    (void)state;
    each_isa(short_batch);
}

static void test_long_rows(void **state) {
    (void)state;
    each_isa(long_batch);
}

static void test_quantized(void **state) {
    (void)state;
    each_isa(quantized_batch);
}

/* What trains outside the linears. */
static void ends_batch(const char *isa, bool fp32) {
    static const int ways[] = {TINY_ENDS,
                               TINY_NORMS,
                               TINY_EMBED,
                               TINY_HEAD,
                               TINY_LAST | TINY_NORMS,
                               TINY_LINEARS | TINY_ENDS | TINY_NORMS,
                               TINY_LINEARS | TINY_NORMS | TINY_EMBED | TINY_HEAD};
    for (int which = 0; which < 2; which++)
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            ref_tiny s = traits(which ? 1 : 4); /* untied with norms of q and k; tied */
            if (which && ways[i] == TINY_HEAD) continue;
            s.end_rank = 3;
            s.train_all = true;
            against_ref(s, ways[i], 0, 0, isa, fp32, short_rows, 3, which ? "tied" : "untied");
        }
}

static void test_ends(void **state) {
    (void)state;
    each_isa(ends_batch);
}

/* The head's adapter under dropout; a tied one's lookup does not drop. */
static void dropped_head(const char *isa, bool fp32) {
    for (int tied = 0; tied < 2; tied++) {
        tiny_net n;
        rows r;
        ref_tiny s = traits(tied);
        s.rank = 0, s.end_rank = 3, s.train_all = true;
        tiny_open_with(&n, s, 0, 0, isa, fp32, 2, TINY_ENDS | TINY_NORMS);
        make_rows(&r, short_rows, 3, s.vocab);
        set_mask(&n, &r, s.layers, 0, tied ? &n.ref->embed : &n.ref->head);
        n.rt.tuning->dropout = drop.p, n.dropout = &drop;
        compare_step(&n, &r, fp32, tied ? "dropped, tied" : "dropped, untied");
        tiny_close(&n);
    }
}

static void test_dropped_head(void **state) {
    (void)state;
    each_isa(dropped_head);
}

/* Rows longer than a tile of the head are cut, and their pieces added. */
static void test_ends_long(void **state) {
    (void)state;
    static const int lengths[] = {9, 380, 11};
    for (int tied = 0; tied < 2; tied++) {
        ref_tiny s = traits(tied);
        s.end_rank = 3;
        s.train_all = true;
        against_ref(s, TINY_ENDS | TINY_NORMS, 0, 0, gr_isa_table[0].name, true, lengths, 3, "long");
        against_ref(s, TINY_EMBED | TINY_HEAD, 0, 0, gr_isa_table[0].name, true, lengths, 3, "long");
    }
}

/* The same step under two ways of computing it gives the same bits. */
static void same_bits_of(const char *isa, bool fp32, ref_tiny spec, int trained) {
    static const int lengths[] = {33, 270, 5, 64, 18};
    static const struct {
        int threads, at_once;
        gr_recompute recompute;
    } ways[] = {{1, 5, GR_RECOMPUTE_NONE}, {2, 5, GR_RECOMPUTE_NONE},  {3, 5, GR_RECOMPUTE_LAYER},
                {2, 1, GR_RECOMPUTE_NONE}, {1, 2, GR_RECOMPUTE_LAYER}, {2, 5, GR_RECOMPUTE_MLP},
                {3, 2, GR_RECOMPUTE_MLP}};
    float *first = NULL;
    double first_loss = 0;
    size_t bytes = 0;
    for (int w = 0; w < 7; w++) {
        tiny_net n;
        rows r;
        tiny_open_with(&n, spec, 4, 64, isa, fp32, ways[w].threads, trained);
        make_rows(&r, lengths, 5, n.spec.vocab);
        int at_once = gr_net_one_row(&n.rt.model->config, n.rt.tuning) ? 1 : ways[w].at_once;
        bytes = (size_t)n.rt.tuning->parameters * sizeof(float);
        float *grad = malloc(bytes);
        assert_non_null(grad);
        double loss = tiny_step(&n, &r.batch, at_once, ways[w].recompute, grad);
        if (w == 0) first = grad, first_loss = loss;
        if (w && (memcmp(first, grad, bytes) != 0 || loss != first_loss))
            fail_msg("%s fp32 %d trained %d: way %d gives other bits", isa, fp32, trained, w);
        if (w) free(grad);
        tiny_close(&n);
    }
    free(first);
}

static void same_bits(const char *isa, bool fp32) {
    ref_tiny untied = traits(4), tied = traits(1);
    same_bits_of(isa, fp32, tied, TINY_LINEARS);
    if (emulated()) return; /* half a minute each */
    untied.train_all = tied.train_all = true;
    untied.end_rank = 3;
    same_bits_of(isa, fp32, untied, TINY_LINEARS | TINY_ENDS | TINY_NORMS);
    untied.end_rank = 0;
    same_bits_of(isa, fp32, untied, TINY_EMBED | TINY_HEAD | TINY_NORMS);
    same_bits_of(isa, fp32, tied, TINY_EMBED | TINY_NORMS);
}

/* Of the families those with a layer or a layout of their own. */
static void family_bits(const char *isa, bool fp32) {
    static const int some[] = {GEMMA2, OLMO2, PHI, STARCODER2, QWEN3_MOE};
    for (int i = 0; i < 5 && !fp32; i++) {
        ref_tiny s = traits(some[i]);
        s.train_all = true;
        same_bits_of(isa, fp32, s, TINY_LINEARS | TINY_NORMS);
    }
}

static void test_same_bits(void **state) {
    (void)state;
    each_isa_bits(same_bits);
    if (!emulated()) with_best(family_bits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_architectures), cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_families),      cmocka_unit_test(test_quantized),
        cmocka_unit_test(test_ends),          cmocka_unit_test(test_dropped_head),
        cmocka_unit_test(test_ends_long),     cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
