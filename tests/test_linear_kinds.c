/* Every kind of training that a linear can have against ref/: ranks and scales per module, DoRA, biases,
 * whole weights, dropout and a mix of all; every instruction set that this machine has and both modes; then
 * what must not change a bit: threads, recompute, slices of a batch. */
#include "tests/ref_check.h"
#include "tests/tiny_kinds.h"

static void each_kind(const char *isa, bool fp32) {
    static const int lengths[] = {7, 1, 12};
    for (int kind = 0; kind < KINDS; kind++)
        for (int bits = emulated() ? 4 : 0; bits <= 4; bits += 4) {
            tiny_net n;
            rows r;
            char what[100];
            snprintf(what, sizeof what, "kind %d, %d bits, %s %s", kind, bits, isa, fp32 ? "fp32" : "bf16");
            open_kind(&n, &r, lengths, 3, kind, bits, isa, fp32, 2);
            compare_step(&n, &r, fp32, what);
            tiny_close(&n);
        }
}

static void test_kinds(void **state) {
    (void)state;
    each_isa(each_kind);
}

/* .. and in each family's blocks: norms behind branches, fused matrices, an MLP without gate, partial
 * rotation. What the layers do is above the kernels: the best set tells, on 4 bits. */
static void each_family(const char *isa, bool fp32) {
    static const int lengths[] = {7, 1, 12};
    for (int which = FAMILIES; which < FAMILIES_END; which++)
        for (int kind = 0; kind < KINDS; kind++) {
            tiny_net n;
            rows r;
            char what[100];
            snprintf(what, sizeof what, "family %d, kind %d, %s %s", which, kind, isa,
                     fp32 ? "fp32" : "bf16");
            open_traits(&n, &r, lengths, 3, which, kind, 4, isa, fp32, 2);
            compare_step(&n, &r, fp32, what);
            tiny_close(&n);
        }
}

static void test_families(void **state) {
    (void)state;
    if (!emulated()) with_best(each_family); /* test_net steps through each family there */
}

/* The same step under two ways of computing it gives the same bits. */
static void same_bits(const char *isa, bool fp32) {
    static const int lengths[] = {33, 90, 5, 64, 18};
    static const step_way ways[] = {{1, 5, GR_RECOMPUTE_NONE},  {2, 5, GR_RECOMPUTE_NONE},
                                    {3, 5, GR_RECOMPUTE_LAYER}, {2, 1, GR_RECOMPUTE_NONE},
                                    {1, 2, GR_RECOMPUTE_LAYER}, {2, 5, GR_RECOMPUTE_MLP},
                                    {3, 2, GR_RECOMPUTE_MLP}};
    for (int kind = 0; kind < KINDS; kind++)
        same_bits_each_way(lengths, 5, kind, 4, isa, fp32, ways, sizeof ways / sizeof *ways);
}

static void test_same_bits(void **state) {
    (void)state;
    if (!emulated()) each_isa_bits(same_bits); /* minutes; no matter of the kernels */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds), cmocka_unit_test(test_families),
                                       cmocka_unit_test(test_same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
