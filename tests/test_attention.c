/* Attention forward and backward: every instruction set and mode against ref/, ragged rows, windows, grouped
 * heads; and the same bits whatever the threads and the batch around a row. */
#include "kernel_check.h"
#include "layers/attention.h"
#include "ref/ref.h"
#include "tests/each_isa.h"
#include "tests/sanitized.h"

typedef struct shape {
    int heads, kv_heads, d, window, rows, start[8];
} shape;

static const shape shapes[] = {
    {2, 2, 64, 0, 1, {0, 1}},
    {2, 1, 64, 0, 3, {0, 5, 70, 200}},
    {3, 1, 16, 0, 2, {0, 127, 258}},
    {1, 1, 80, 0, 1, {0, 449}},
    {4, 2, 96, 50, 2, {0, 391, 400}},
    {2, 2, 128, 0, 1, {0, 385}},
    {5, 1, 24, 7, 2, {0, 193, 261}},
    {1, 1, 256, 0, 1, {0, 131}},
    {7, 1, 33, 1, 1, {0, 66}},
    {3, 3, 64, 200, 1, {0, 700}},
    {9, 3, 32, 64, 3, {0, 64, 192, 577}},
    {6, 2, 64, 0, 1, {0, 640}},
    {2, 1, 64, 0, 3, {0, 30, 1060, 1250}},
    {1, 1, 40, 300, 1, {0, 1500}},
};
#define SHAPES ((int)(sizeof shapes / sizeof *shapes))

/* The reference alone takes minutes of an emulated processor for these, and of one that is watched. */
static bool too_long(const shape *s) {
    int work = s->start[s->rows] * s->heads;
    return (emulated() && work > 800) || (SANITIZED && work > 1600);
}

typedef struct arrays {
    void *q, *k, *v, *dout, *out;
    float *lse, *dq, *dk, *dv;
} arrays;

static void *act_random(const gr_kernels *k, int64_t n, float size) {
    void *x = malloc((size_t)n * (size_t)k->act_bytes);
    for (int64_t i = 0; i < n; i++) act_set(k, x, i, uniform(-size, size));
    return x;
}

static double *doubles(const gr_kernels *k, const void *x, int64_t n) {
    double *y = malloc((size_t)n * sizeof *y);
    for (int64_t i = 0; i < n; i++) y[i] = (double)act_get(k, x, i);
    return y;
}

static arrays arrays_new(const gr_kernels *k, const shape *s) {
    int64_t t = s->start[s->rows], q = t * s->heads * s->d, kv = t * s->kv_heads * s->d;
    return (arrays){.q = act_random(k, q, 3),
                    .k = act_random(k, kv, 3),
                    .v = act_random(k, kv, 1),
                    .dout = act_random(k, q, 1),
                    .out = calloc((size_t)q, 4),
                    .lse = calloc((size_t)(t * s->heads), 4),
                    .dq = calloc((size_t)q, 4),
                    .dk = calloc((size_t)kv, 4),
                    .dv = calloc((size_t)kv, 4)};
}

static void arrays_free(arrays *x) {
    free(x->q), free(x->k), free(x->v), free(x->dout), free(x->out);
    free(x->lse), free(x->dq), free(x->dk), free(x->dv);
}

/* Rows [row, row + rows) of the shape, forward and backward on so many threads. */
static void run(const gr_kernels *k, const shape *s, const arrays *x, int threads, int row, int rows) {
    gr_pool *pool;
    graft_error err = {0};
    if (gr_pool_new(&pool, threads, &err) != GRAFT_OK) fail_msg("%s", err.what);
    int64_t start[8], longest = 0, t0 = s->start[row];
    for (int i = 0; i <= rows; i++) {
        start[i] = s->start[row + i] - t0;
        if (i) longest = gr_max_i64(longest, start[i] - start[i - 1]);
    }
    gr_attention a = {.heads = s->heads,
                      .kv_heads = s->kv_heads,
                      .d = s->d,
                      .window = s->window,
                      .longest = longest,
                      .scale = 1 / sqrtf((float)s->d),
                      .ldq = s->heads * s->d,
                      .ldkv = s->kv_heads * s->d};
    gr_compute c = {.k = k, .pool = pool, .scratch_bytes = gr_attention_scratch(k, &a, true)};
    guarded scratch = guarded_new(c.scratch_bytes * (size_t)threads, 0);
    memset(scratch.data, 0xff, scratch.bytes); /* NaN: what is read must have been written */
    c.scratch = (char *)scratch.data;
    gr_batch b = {.start = start, .nrows = rows, .tokens = start[rows]};
    int64_t q = t0 * s->heads * s->d, kv = t0 * s->kv_heads * s->d;
    const char *xq = (char *)x->q + q * k->act_bytes, *xk = (char *)x->k + kv * k->act_bytes,
               *xv = (char *)x->v + kv * k->act_bytes, *g = (char *)x->dout + q * k->act_bytes;
    char *out = (char *)x->out + q * k->act_bytes;
    float *lse = x->lse + t0 * s->heads; /* [heads, tokens] of these rows alone */
    float *delta = malloc((size_t)(b.tokens * s->heads) * sizeof *delta);
    assert_non_null(delta);
    gr_attention_forward(&c, &a, out, lse, xq, xk, xv, &b);
    gr_attention_backward(&c, &a, x->dq + q, x->dk + kv, x->dv + kv, xq, xk, xv, out, g, lse, delta, &b);
    free(delta);
    gr_pool_free(pool);
    guarded_free(&scratch);
}

/* What rounding may do to each result. unit: of a weight and what is made of it; fine: of a score. */
typedef struct bounds {
    double *out, *dq, *dk, *dv;
} bounds;

static void add_bounds(bounds *b, const shape *s, const double *q, const double *k, const double *v,
                       const double *dout, double unit, double fine, int r, int head) {
    int d = s->d, t0 = s->start[r], len = s->start[r + 1] - t0, kvh = head / (s->heads / s->kv_heads);
    double scale = 1 / sqrt(d), *p = malloc((size_t)len * 8), *slack = malloc((size_t)len * 8);
    for (int i = 0; i < len; i++) {
        int64_t at = (int64_t)(t0 + i) * s->heads * d + head * d;
        int first = s->window && i >= s->window ? i - s->window + 1 : 0;
        double top = -INFINITY, sum = 0, size = 0, worst = 0;
        for (int j = first; j <= i; j++) {
            int64_t kv = (int64_t)(t0 + j) * s->kv_heads * d + kvh * d;
            double x = 0, reach = 0;
            for (int e = 0; e < d; e++) {
                x += q[at + e] * k[kv + e] * scale;
                reach += fabs(q[at + e] * k[kv + e]) * scale;
            }
            p[j] = x;
            slack[j] = fine * (1 + reach); /* of the exponent: relative error of the weight */
            worst = fmax(worst, slack[j]);
            top = fmax(top, x);
        }
        for (int j = first; j <= i; j++) sum += p[j] = exp(p[j] - top);
        for (int j = first; j <= i; j++) p[j] /= sum;
        for (int e = 0; e < d; e++) { /* out, and through it delta */
            double through = 0;
            for (int j = first; j <= i; j++)
                through += p[j] * fabs(v[(int64_t)(t0 + j) * s->kv_heads * d + kvh * d + e]);
            b->out[at + e] = (2 * unit + 2 * worst) * through;
            size += through * fabs(dout[at + e]);
        }
        for (int j = first; j <= i; j++) {
            int64_t kv = (int64_t)(t0 + j) * s->kv_heads * d + kvh * d;
            double dp = 0;
            for (int e = 0; e < d; e++) dp += fabs(v[kv + e] * dout[at + e]);
            double dw = (unit + 3 * worst) * p[j],
                   ds = scale * p[j] * (unit + 4 * worst + 2 * fine) * (dp + 3 * size);
            for (int e = 0; e < d; e++) {
                b->dv[kv + e] += dw * fabs(dout[at + e]);
                b->dq[at + e] += ds * fabs(k[kv + e]);
                b->dk[kv + e] += ds * fabs(q[at + e]);
            }
        }
    }
    free(p), free(slack);
}

static void compare(const float *got, const double *want, const double *slack, int64_t n, const char *name) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= slack[i] + 1e-30))
            fail_msg("%s: %s[%lld] is %.9g, expected %.9g +- %.3g", where, name, (long long)i, (double)got[i],
                     want[i], slack[i]);
}

/* The truth about one shape. Every table of a mode gets the same numbers, so that it is computed once for
 * all. */
typedef struct truth {
    double *y, *dq, *dk, *dv; /* NULL: not computed yet */
    bounds b;
} truth;

static const shape *now; /* the shape that the tables run through */
static truth known[2];   /* of it, in bf16 and in fp32 */

static truth truth_new(const gr_kernels *k, const shape *s, const arrays *x) {
    int64_t t = s->start[s->rows], nq = t * s->heads * s->d, nk = t * s->kv_heads * s->d;
    double *q = doubles(k, x->q, nq), *kk = doubles(k, x->k, nk), *v = doubles(k, x->v, nk),
           *g = doubles(k, x->dout, nq);
    truth r = {calloc((size_t)nq, 8),
               calloc((size_t)nq, 8),
               calloc((size_t)nk, 8),
               calloc((size_t)nk, 8),
               {calloc((size_t)nq, 8), calloc((size_t)nq, 8), calloc((size_t)nk, 8), calloc((size_t)nk, 8)}};
    ref_attention at = {s->heads, s->kv_heads, s->d, s->window, s->rows, s->start, 1 / sqrt(s->d), 0};
    ref_attention_forward(r.y, q, kk, v, &at);
    ref_attention_backward(r.dq, r.dk, r.dv, g, q, kk, v, &at);
    /* Sums of n terms in f32: sqrt(n) of their roundings are left. */
    double fine = (8 + sqrt(s->d) + sqrt((double)t)) * EPS32, unit = k->fp32 ? fine : EPS_BF16 + fine;
    for (int row = 0; row < s->rows; row++)
        for (int h = 0; h < s->heads; h++) add_bounds(&r.b, s, q, kk, v, g, unit, fine, row, h);
    free(q), free(kk), free(v), free(g);
    return r;
}

static void truth_free(truth *r) {
    free(r->y), free(r->dq), free(r->dk), free(r->dv);
    free(r->b.out), free(r->b.dq), free(r->b.dk), free(r->b.dv);
    *r = (truth){0};
}

static void against_ref(const gr_kernels *k) {
    const shape *s = now;
    truth *want = &known[k->fp32];
    CASE(k, "heads %d/%d d %d window %d tokens %d", s->heads, s->kv_heads, s->d, s->window,
         s->start[s->rows]);
    int64_t t = s->start[s->rows], nq = t * s->heads * s->d, nk = t * s->kv_heads * s->d;
    arrays x = arrays_new(k, s);
    run(k, s, &x, 2, 0, s->rows);
    if (!want->y) *want = truth_new(k, s, &x);
    float *out = malloc((size_t)nq * 4);
    for (int64_t i = 0; i < nq; i++) out[i] = act_get(k, x.out, i);
    compare(out, want->y, want->b.out, nq, "out");
    compare(x.dq, want->dq, want->b.dq, nq, "dq");
    compare(x.dk, want->dk, want->b.dk, nk, "dk");
    compare(x.dv, want->dv, want->b.dv, nk, "dv");
    free(out);
    arrays_free(&x);
}

/* exp(score - lse) sums to 1 over the keys of a query. */
static void sums_of_weights(const gr_kernels *k) {
    static const shape s = {2, 1, 64, 0, 1, {0, 333}};
    CASE(k, "lse");
    arrays x = arrays_new(k, &s);
    run(k, &s, &x, 1, 0, 1);
    for (int h = 0; h < s.heads; h++)
        for (int i = 0; i < 333; i++) {
            double sum = 0;
            for (int j = 0; j <= i; j++) {
                double dot = 0;
                for (int e = 0; e < 64; e++)
                    dot +=
                        (double)act_get(k, x.q, (i * 2 + h) * 64 + e) * (double)act_get(k, x.k, j * 64 + e);
                sum += exp(dot / 8 - (double)x.lse[h * 333 + i]);
            }
            near_f32(sum, 1, 100 * EPS32, i); /* scores to 40: their roundings, and e^x's */
        }
    arrays_free(&x);
}

/* The same bits on any number of threads, and for a row alone as among others. */
static void same_bits(const gr_kernels *k) {
    for (int n = 0; n < SHAPES; n++) {
        const shape *s = &shapes[n];
        if (too_long(s)) continue;
        CASE(k, "bits, heads %d/%d d %d window %d", s->heads, s->kv_heads, s->d, s->window);
        size_t t = (size_t)s->start[s->rows], nq = t * (size_t)(s->heads * s->d),
               nk = t * (size_t)(s->kv_heads * s->d);
        arrays x = arrays_new(k, s), y = x;
        y.out = calloc(nq, 4), y.lse = calloc(t * (size_t)s->heads, 4);
        y.dq = calloc(nq, 4), y.dk = calloc(nk, 4), y.dv = calloc(nk, 4);
        run(k, s, &x, 1, 0, s->rows);
        for (int kind = 0; kind < 3; kind++) {
            if (kind < 2) run(k, s, &y, 2 + 3 * kind, 0, s->rows);
            for (int r = 0; kind == 2 && r < s->rows; r++) run(k, s, &y, 2, r, 1);
            assert_memory_equal(x.out, y.out, nq * (size_t)k->act_bytes);
            assert_memory_equal(x.dq, y.dq, nq * 4);
            assert_memory_equal(x.dk, y.dk, nk * 4);
            assert_memory_equal(x.dv, y.dv, nk * 4);
        }
        free(y.out), free(y.lse), free(y.dq), free(y.dk), free(y.dv);
        arrays_free(&x);
    }
}

/* As each_table, but once where two sets share their kernels. */
static void each_own_table(void (*body)(const gr_kernels *k)) {
    for (const gr_isa *isa = gr_isa_table; isa->name; isa++)
        for (int fp32 = 0; fp32 < 2; fp32++)
            if (isa_counts(isa, fp32)) one_table(isa, fp32, body);
}

static void test_against_ref(void **state) {
    (void)state;
    for (int n = 0; n < SHAPES; n++) {
        now = &shapes[n];
        if (too_long(now)) continue;
        each_own_table(against_ref);
        truth_free(&known[0]);
        truth_free(&known[1]);
    }
}

static void test_sums_of_weights(void **state) {
    (void)state;
    each_own_table(sums_of_weights);
}

static void test_same_bits(void **state) {
    (void)state;
    each_own_table(same_bits);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_ref),
                                       cmocka_unit_test(test_sums_of_weights),
                                       cmocka_unit_test(test_same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
