/* tests/kernel_check.h - what the kernel checks share, in the way of dav1d's checkasm: every table that this
 * processor can run, guard bytes around every output, inputs random and extreme, and the seed, the table and
 * the parameters printed with a failure.
 *
 * With GRAFT_PLAIN_MAIN the checks need no cmocka (cross-compiled runs).
 */
#ifndef GR_TESTS_KERNEL_CHECK_H
#define GR_TESTS_KERNEL_CHECK_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef GRAFT_PLAIN_MAIN
struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};
#define cmocka_unit_test(f)                                                                                  \
    { #f, f }
#define fail_msg(...)                                  (printf(__VA_ARGS__), printf("\n"), exit(1))
#define assert_true(c)                                 ((c) ? (void)0 : (void)fail_msg("%s:%d: %s", __FILE__, __LINE__, #c))
#define assert_in_range(v, lo, hi)                     assert_true((v) >= (lo) && (v) <= (hi))
#define cmocka_run_group_tests(tests, setup, teardown) plain_run(tests, (int)(sizeof tests / sizeof *(tests)))
static int plain_run(const struct CMUnitTest *tests, int n) {
    for (int i = 0; i < n; i++) tests[i].run(NULL), printf("ok %s\n", tests[i].name);
    return 0;
}
#else
#include <cmocka.h>
#endif
#include "base/rng.h"
#include "kernels/kernels.h"

#define EPS32    0x1p-24 /* half a unit in the last place of 1 */
#define EPS_BF16 0x1p-8  /* bf16 has 8 bits: half a unit of the largest mantissa, relative to the smallest */
#define SMALLEST 1.2e-38 /* what flushing subnormals to zero may lose */

static const uint64_t seed = 20240607;
static gr_rng rng;
static char where[256]; /* table and parameters of the case that runs */

#define CASE(k, ...)                                                                                         \
    do {                                                                                                     \
        int used_ = snprintf(where, sizeof where, "seed %llu, %s %s, ", (unsigned long long)seed, (k)->isa,  \
                             (k)->fp32 ? "fp32" : "bf16");                                                   \
        snprintf(where + used_, sizeof where - (size_t)used_, __VA_ARGS__);                                  \
    } while (0)

static inline void one_table(const gr_isa *isa, bool fp32, void (*body)(const gr_kernels *k)) {
    gr_kernels table;
    graft_error err = {0};
    if (gr_kernels_init(&table, isa->name, fp32, &err) != GRAFT_OK) fail_msg("%s: %s", isa->name, err.what);
    gr_rng_seed(&rng, seed, 0);
    body(&table);
}

/* Runs body(k) for every available instruction set in both modes. */
static inline void each_table(void (*body)(const gr_kernels *k)) {
    for (const gr_isa *isa = gr_isa_table; isa->name; isa++)
        for (int fp32 = 0; isa->available() && fp32 < 2; fp32++) one_table(isa, fp32, body);
}

/* ---- memory with guards: `offset` bytes behind a 64-byte boundary */

#define GUARD 192
typedef struct guarded {
    unsigned char *block, *data;
    size_t bytes;
} guarded;

static inline guarded guarded_new(size_t bytes, size_t offset) {
    guarded g = {aligned_alloc(64, gr_round_up(bytes + offset + 2 * GUARD, 64)), NULL, bytes};
    if (!g.block) fail_msg("no memory");
    memset(g.block, 0xa5, gr_round_up(bytes + offset + 2 * GUARD, 64));
    g.data = g.block + GUARD + offset;
    return g;
}
static inline void guarded_free(guarded *g) {
    bool ok = true;
    for (const unsigned char *p = g->block; p < g->data; p++) ok &= *p == 0xa5;
    for (const unsigned char *p = g->data + g->bytes; p < g->data + g->bytes + GUARD; p++) ok &= *p == 0xa5;
    free(g->block);
    if (!ok) fail_msg("%s: wrote outside its output", where);
}

/* ---- numbers */

static inline float uniform(float lo, float hi) {
    return lo + (hi - lo) * (float)gr_rng_uniform(&rng);
}
static inline int below(int n) {
    return (int)gr_rng_below(&rng, (uint64_t)n);
}

/* Kinds of input: ordinary, large, tiny, subnormal, zeros of both signs, and a mixture. */
enum { ORDINARY, LARGE, TINY, SUBNORMAL, ZEROS, MIXED, KINDS };
static inline float number(int kind) {
    if (kind == MIXED) kind = below(MIXED);
    float u = uniform(-1, 1);
    switch (kind) {
    case LARGE: return u * 1e9f;
    case TINY: return u * 1e-20f;
    case SUBNORMAL: return u * 1e-39f;
    case ZEROS: return u < 0 ? -0.0f : 0.0f;
    default: return u * 4;
    }
}

static inline float act_get(const gr_kernels *k, const void *p, int64_t i) {
    return k->fp32 ? ((const float *)p)[i] : gr_bf16_to_f32(((const uint16_t *)p)[i]);
}
static inline void act_set(const gr_kernels *k, void *p, int64_t i, float v) {
    if (k->fp32)
        ((float *)p)[i] = v;
    else
        ((uint16_t *)p)[i] = gr_f32_to_bf16(v);
}
static inline void act_fill(const gr_kernels *k, void *p, int64_t n, int kind) {
    for (int64_t i = 0; i < n; i++) act_set(k, p, i, number(kind));
}
static inline guarded act_new(const gr_kernels *k, int64_t n, int offset) {
    return guarded_new((size_t)n * (size_t)k->act_bytes, (size_t)(offset * k->act_bytes));
}

/* |got - want| <= slack: the error of f32 arithmetic, from the caller. */
static inline void near_f32(double got, double want, double slack, int64_t i) {
    if (!(fabs(got - want) <= slack + EPS32 * fabs(want) + SMALLEST) && !(got == want))
        fail_msg("%s: element %lld is %.9g, expected %.9g +- %.3g", where, (long long)i, got, want, slack);
}
/* The same after a rounding to an activation. */
static inline void near_act(const gr_kernels *k, const void *p, int64_t i, double want, double slack) {
    double unit = k->fp32 ? EPS32 : EPS_BF16;
    near_f32((double)act_get(k, p, i), want, slack * (1 + unit) + unit * fabs(want), i);
}

#endif
