/* Elementwise kernels, norms, softmax and the loss: every instruction set and mode against scalar double. */
#include "kernel_check.h"

static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 257, 576};
#define SIZES ((int)(sizeof sizes / sizeof *sizes))
#define MOST  600

static void conversions(const gr_kernels *k) {
    for (int s = 0; s < SIZES; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            int n = sizes[s];
            CASE(k, "conversions n %d kind %d", n, kind);
            float x[MOST], back[MOST];
            for (int i = 0; i < n; i++) x[i] = number(kind);
            guarded y = act_new(k, n, kind), z = guarded_new((size_t)n * 4, 4);
            k->to_act(y.data, x, n);
            k->to_f32((float *)(void *)z.data, y.data, n);
            for (int i = 0; i < n; i++) {
                near_act(k, y.data, i, (double)x[i], 0);
                memcpy(&back[i], z.data + 4 * i, 4);
                assert_true(back[i] == act_get(k, y.data, i));
                if (!k->fp32 && fabsf(x[i]) > 1e-37f)
                    assert_true(((uint16_t *)(void *)y.data)[i] == gr_f32_to_bf16(x[i]));
            }
            k->scale_f32((float *)(void *)z.data, -1.5f, n);
            k->add_f32((float *)(void *)z.data, x, n);
            for (int i = 0; i < n; i++) {
                float got;
                memcpy(&got, z.data + 4 * i, 4);
                near_f32((double)got, -1.5 * (double)back[i] + (double)x[i], 3 * EPS32 * fabs((double)x[i]),
                         i);
            }
            guarded_free(&y);
            guarded_free(&z);
        }
}

static void special_numbers(const gr_kernels *k) {
    CASE(k, "special numbers");
    float x[5] = {NAN, INFINITY, -INFINITY, 3.4e38f, -0.0f}, back[5];
    uint32_t act[5];
    k->to_act(act, x, 5);
    k->to_f32(back, act, 5);
    assert_true(isnan(back[0]) && back[1] == INFINITY && back[2] == -INFINITY && signbit(back[4]));
    assert_true(k->fp32 ? back[3] == x[3] : back[3] == INFINITY);
}

static void transposes(const gr_kernels *k) {
    static const int shapes[][2] = {{1, 1},   {3, 5},    {16, 16}, {32, 32},
                                    {33, 31}, {64, 128}, {7, 70},  {128, 100}};
    for (int s = 0; s < 8; s++) {
        int rows = shapes[s][0], cols = shapes[s][1], ldx = cols + 3, ldy = rows + 1;
        CASE(k, "transpose %d x %d", rows, cols);
        guarded x = act_new(k, (int64_t)rows * ldx, 1), y = act_new(k, (int64_t)cols * ldy, 3);
        act_fill(k, x.data, (int64_t)rows * ldx, MIXED);
        act_fill(k, y.data, (int64_t)cols * ldy, ZEROS);
        k->transpose(y.data, ldy, x.data, ldx, rows, cols);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < cols; c++)
                assert_true(act_get(k, x.data, r * ldx + c) == act_get(k, y.data, c * ldy + r));
        for (int c = 0; c < cols; c++) assert_true(act_get(k, y.data, c * ldy + rows) == 0); /* the gap */
        guarded_free(&x);
        guarded_free(&y);
    }
}

static void norms(const gr_kernels *k) {
    for (int s = 0; s < SIZES; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            int n = sizes[s];
            bool dy_f32 = s & 1;
            CASE(k, "rmsnorm n %d kind %d dy_f32 %d", n, kind, dy_f32);
            float w[MOST], dyf[MOST], rstd;
            guarded x = act_new(k, n, 1), y = act_new(k, n, 3), dy = act_new(k, n, 0);
            guarded dx = guarded_new((size_t)n * 4, 4);
            act_fill(k, x.data, n, kind);
            act_fill(k, dy.data, n, ORDINARY);
            float *dxf = (float *)(void *)dx.data;
            double sum = 0, dot = 0, before[MOST], size = 0;
            for (int i = 0; i < n; i++) {
                w[i] = uniform(-2, 2);
                dyf[i] = dy_f32 ? number(ORDINARY) : act_get(k, dy.data, i);
                before[i] = (double)(dxf[i] = number(ORDINARY));
                sum += pow((double)act_get(k, x.data, i), 2);
            }
            double r = 1 / sqrt(sum / n + (double)1e-5f);
            k->rmsnorm(y.data, &rstd, x.data, w, 1e-5f, n);
            near_f32((double)rstd, r, (2 + sqrt(n)) * EPS32 * r, -1);
            for (int i = 0; i < n; i++) {
                double z = (double)act_get(k, x.data, i) * r;
                near_act(k, y.data, i, z * (double)w[i], (5 + sqrt(n)) * EPS32 * fabs(z * (double)w[i]));
                dot += z * (double)dyf[i] * (double)w[i] / n;
                size += fabs(z * (double)dyf[i] * (double)w[i]) / n;
            }
            k->rmsnorm_back(dxf, dy_f32 ? (void *)dyf : dy.data, dy_f32, x.data, rstd, w, n);
            for (int i = 0; i < n; i++) {
                double z = (double)act_get(k, x.data, i) * r, g = (double)dyf[i] * (double)w[i];
                double slack =
                    (10 + 2 * sqrt(n)) * EPS32 * (r * (fabs(g) + fabs(z) * size) + fabs(before[i]));
                near_f32((double)dxf[i], before[i] + r * (g - z * dot), slack, i);
            }
            guarded_free(&x), guarded_free(&y), guarded_free(&dy), guarded_free(&dx);
        }
}

static void rotations(const gr_kernels *k) {
    static const int halves[] = {1, 2, 5, 8, 16, 20, 32, 64};
    for (int s = 0; s < 8; s++)
        for (int dir = -1; dir <= 1; dir += 2) {
            int half = halves[s], d = 2 * half + 3;
            CASE(k, "rope half %d dir %d", half, dir);
            float cosine[64], sine[64];
            guarded x = act_new(k, d, 1), f = guarded_new((size_t)d * 4, 4);
            float *xf = (float *)(void *)f.data, before[131], beforef[131];
            for (int i = 0; i < half; i++) cosine[i] = cosf((float)i), sine[i] = sinf((float)i);
            act_fill(k, x.data, d, MIXED);
            for (int i = 0; i < d; i++) before[i] = act_get(k, x.data, i), beforef[i] = xf[i] = number(MIXED);
            k->rope(x.data, cosine, sine, half, dir);
            k->rope_f32(xf, cosine, sine, half, dir);
            for (int i = 0; i < d; i++) {
                int j = i % half;
                double a = (double)before[j], b = (double)before[j + half], af = (double)beforef[j],
                       bf = (double)beforef[j + half], c = (double)cosine[j], sn = dir * (double)sine[j];
                double want = i < half ? a * c - b * sn : b * c + a * sn;
                double wantf = i < half ? af * c - bf * sn : bf * c + af * sn;
                if (i >= 2 * half) want = (double)before[i], wantf = (double)beforef[i];
                near_act(k, x.data, i, want, 3 * EPS32 * (fabs(a) + fabs(b)));
                near_f32((double)xf[i], wantf, 3 * EPS32 * (fabs(af) + fabs(bf)), i);
            }
            guarded_free(&x), guarded_free(&f);
        }
}

static void gates(const gr_kernels *k) {
    for (int s = 0; s < SIZES; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            int n = sizes[s];
            CASE(k, "swiglu n %d kind %d", n, kind);
            guarded g = act_new(k, n, 1), u = act_new(k, n, 0), y = act_new(k, n, 5), dy = act_new(k, n, 2);
            act_fill(k, g.data, n, kind), act_fill(k, u.data, n, ORDINARY), act_fill(k, dy.data, n, ORDINARY);
            double gate[MOST], up[MOST];
            for (int i = 0; i < n; i++)
                gate[i] = (double)act_get(k, g.data, i), up[i] = (double)act_get(k, u.data, i);
            k->swiglu(y.data, g.data, u.data, n);
            if (n > 3) { /* an element's bits do not depend on where it stands */
                char alone[16], other[16];
                k->swiglu(alone, g.data + 2 * k->act_bytes, u.data + 2 * k->act_bytes, 1);
                memcpy(other, y.data + 2 * k->act_bytes, (size_t)k->act_bytes);
                assert_true(memcmp(alone, other, (size_t)k->act_bytes) == 0);
            }
            k->swiglu_back(g.data, u.data, dy.data, g.data, u.data, n); /* in place */
            for (int i = 0; i < n; i++) {
                double e = exp(-gate[i]), sigmoid = 1 / (1 + e), silu = isinf(e) ? 0 : gate[i] * sigmoid;
                double d = (double)act_get(k, dy.data, i),
                       slope = isinf(e) ? 0 : sigmoid * (1 + gate[i] * (1 - sigmoid));
                double tail =
                    fabs(gate[i]) < 1e4 ? sigmoid * (1 + fabs(gate[i])) : sigmoid; /* 1 - sigmoid cancels */
                if (fabs(gate[i]) > 1e4) slope = gate[i] > 0, tail = 1e-3 * slope;
                if (kind == LARGE || kind == MIXED) tail += fabs(gate[i]) * 0x1p-126;
                near_act(k, y.data, i, silu * up[i], 8 * EPS32 * fabs(silu * up[i]) + 1e-33);
                near_act(k, g.data, i, d * up[i] * slope, 8 * EPS32 * fabs(d * up[i]) * tail + 1e-33);
                near_act(k, u.data, i, d * silu, 8 * EPS32 * fabs(d * silu) + 1e-33);
            }
            guarded_free(&g), guarded_free(&u), guarded_free(&y), guarded_free(&dy);
        }
}

static void dots(const gr_kernels *k) {
    for (int s = 0; s < SIZES; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            int n = sizes[s];
            CASE(k, "dot n %d kind %d", n, kind);
            guarded a = act_new(k, n, 1), b = act_new(k, n, 2);
            act_fill(k, a.data, n, kind), act_fill(k, b.data, n, ORDINARY);
            double sum = 0, size = 0;
            for (int i = 0; i < n; i++) {
                double p = (double)act_get(k, a.data, i) * (double)act_get(k, b.data, i);
                sum += p, size += fabs(p);
            }
            near_f32((double)k->dot(a.data, b.data, n), sum, (4 + sqrt(n)) * EPS32 * size, -1);
            guarded_free(&a), guarded_free(&b);
        }
}

/* Not fmax: gcc 12.2 for arm64 crashes on a maximum reduced over it at -O3. */
static double larger(double a, double b) {
    return a > b ? a : b;
}

/* Two blocks of one row, online, against the softmax of the row. */
static void softmax_rows(const gr_kernels *k) {
    for (int s = 0; s < SIZES; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            int n = sizes[s], lo = s % 3 ? below(n) : 0, hi = s % 4 ? lo + below(n - lo + 1) : n;
            float scale = uniform(0.05f, 1), sc[2][MOST], max = -INFINITY, sum = 0, factor[2];
            CASE(k, "softmax n %d lo %d hi %d kind %d scale %g", n, lo, hi, kind, (double)scale);
            guarded p[2];
            for (int b = 0; b < 2; b++) {
                p[b] = act_new(k, n, 1 + b);
                for (int i = 0; i < n; i++) sc[b][i] = number(kind);
                if (b && kind == LARGE) sc[b][lo] = -1e30f;
                factor[b] = k->softmax_keys(p[b].data, sc[b], n, lo, hi, scale, &max, &sum);
            }
            double top = -INFINITY, total = 0;
            for (int b = 0; b < 2; b++)
                for (int i = lo; i < hi; i++) top = larger(top, (double)(sc[b][i] * scale));
            for (int b = 0; b < 2; b++)
                for (int i = lo; i < hi; i++) total += exp((double)(sc[b][i] * scale) - top);
            assert_true(lo < hi ? (double)max == top : max == -INFINITY && sum == 0 && factor[0] == 1);
            near_f32((double)sum, total, (6 + sqrt(n)) * EPS32 * total, -1);
            for (int b = 0; b < 2; b++)
                for (int i = 0; i < n; i++) {
                    double fold = b ? 1 : (double)factor[1];
                    double x = (double)(sc[b][i] * scale) - top, want = i >= lo && i < hi ? exp(x) : 0;
                    double got = (double)act_get(k, p[b].data, i) * fold, unit = k->fp32 ? EPS32 : EPS_BF16;
                    near_f32(got, want, (unit + (6 + fabs(x)) * EPS32) * want, i);
                }
            guarded_free(&p[0]), guarded_free(&p[1]);
        }
}

static float panel_get(const gr_kernels *k, const void *panel, int i, int c) {
    if (!k->pair) return ((const float *)panel)[i * GR_NR + c];
    return gr_bf16_to_f32(((const uint16_t *)panel)[(i / 2 * GR_NR + c) * 2 + i % 2]);
}

/* Blocks of scores: guards behind the panels, the last one's partner is 0 where panels hold pairs. */
typedef struct score_block {
    int n, diag, window;
    float *s;
    guarded panel;
} score_block;

static bool sees(const score_block *b, int i, int c) {
    return i <= c + b->diag && (!b->window || i > c + b->diag - b->window);
}

static double weight(const score_block *b, int i, int c, float scale, double lse) {
    return sees(b, i, c) ? exp((double)b->s[i * GR_NR + c] * (double)scale - lse) : 0;
}

/* What the polynomial is good for; the rest are roundings of x, which e^x takes as its own error. */
static double weight_slack(const gr_kernels *k, double x, double lse) {
    return (k->pair ? 2.7e-6 : 1.5e-7) + (6 + 2 * fabs(x) + 2 * fabs(lse)) * EPS32;
}

static void check_back(const gr_kernels *k, const score_block *b, float scale, const float *lse) {
    guarded p = act_new(k, (int64_t)b->n * GR_NR, 0), ds = act_new(k, (int64_t)b->n * GR_NR, 0),
            panel = guarded_new(gr_panel_bytes(k, b->n), 0);
    float *dp = aligned_alloc(64, (size_t)b->n * GR_NR * 4), delta[GR_NR];
    for (int i = 0; i < b->n * GR_NR; i++) dp[i] = number(ORDINARY);
    for (int c = 0; c < GR_NR; c++) delta[c] = uniform(-1, 1);
    k->softmax_block_back(p.data, ds.data, panel.data, b->s, dp, b->n, b->diag, b->window, scale, lse, delta);
    for (int i = 0; i < b->n; i++)
        for (int c = 0; c < GR_NR; c++) {
            int at = i * GR_NR + c;
            double want = weight(b, i, c, scale, (double)lse[c]), d = (double)dp[at] - (double)delta[c];
            double slack = weight_slack(k, (double)b->s[at] * (double)scale, (double)lse[c]) * want;
            near_act(k, p.data, at, want, slack);
            near_act(k, ds.data, at, want * d, slack * fabs(d) + 4 * EPS32 * want * (fabs(d) + 1));
            double got = (double)panel_get(k, panel.data, i, c), unit = k->pair ? EPS_BF16 : EPS32;
            near_f32(got, want * d, slack * fabs(d) + (unit + 4 * EPS32) * want * (fabs(d) + 1), at);
        }
    if (k->pair && b->n % 2)
        for (int c = 0; c < GR_NR; c++) assert_true(panel_get(k, panel.data, b->n, c) == 0);
    free(dp);
    guarded_free(&p), guarded_free(&ds), guarded_free(&panel);
}

/* Two blocks of keys, online, against the softmax of the columns; then their backward. */
static void softmax_blocks(const gr_kernels *k) {
    static const int keys[] = {1, 2, 5, 6, 36, 63, 64, 65, 100, 192};
    for (int n = 0; n < 10; n++)
        for (int kind = 0; kind < 12; kind++) {
            int window = kind % 3 == 2 ? 1 + below(150) : 0, diag = kind % 2 ? 300 : below(2 * keys[n]) - 10;
            float scale = uniform(0.05f, 1), size = kind == 11 ? 1e9f : 30, max[GR_NR], sum[GR_NR];
            CASE(k, "softmax n %d diag %d window %d scale %g", keys[n], diag, window, (double)scale);
            score_block b[2];
            float factor[2][GR_NR];
            for (int c = 0; c < GR_NR; c++) max[c] = -INFINITY, sum[c] = 0, factor[1][c] = 1;
            for (int i = 0; i < 2; i++) {
                b[i] = (score_block){keys[n], diag - i * keys[n], window, NULL, {0}};
                b[i].s = aligned_alloc(64, (size_t)keys[n] * GR_NR * 4);
                for (int e = 0; e < keys[n] * GR_NR; e++) b[i].s[e] = uniform(-size, size) * (i ? 1 : 0.5f);
                b[i].panel = guarded_new(gr_panel_bytes(k, keys[n]), 0);
                float all[GR_NR];
                if (k->softmax_block(b[i].panel.data, b[i].s, keys[n], b[i].diag, window, scale, max, sum,
                                     all))
                    memcpy(factor[i], all, sizeof all);
            }
            float lse[GR_NR];
            for (int c = 0; c < GR_NR; c++) {
                double top = -INFINITY, total = 0;
                for (int i = 0; i < 2 * keys[n]; i++)
                    if (sees(&b[i / keys[n]], i % keys[n], c))
                        top = larger(top, (double)b[i / keys[n]].s[i % keys[n] * GR_NR + c] * (double)scale);
                for (int i = 0; i < 2 * keys[n]; i++)
                    total += weight(&b[i / keys[n]], i % keys[n], c, scale, top);
                lse[c] = 0;
                if (top == -INFINITY) {
                    assert_true(max[c] == -INFINITY && sum[c] == 0);
                    continue;
                }
                lse[c] = (float)(top + log(total));
                double reach = fmin(fabs(top), 1e9) + 60;
                if (size < 1e3f)
                    near_f32((double)max[c] + log((double)sum[c]), top + log(total),
                             weight_slack(k, reach, top) * 2, c);
                assert_true((double)max[c] <= top * (1 + (top > 0 ? 1e-6 : -1e-6)) && isfinite(sum[c]));
                for (int i = 0; i < 2 * keys[n]; i++) {
                    const score_block *at = &b[i / keys[n]];
                    double fold = i < keys[n] ? (double)factor[1][c] : 1, unit = k->pair ? EPS_BF16 : EPS32;
                    double x = (double)at->s[i % keys[n] * GR_NR + c] * (double)scale;
                    double want = weight(at, i % keys[n], c, scale, (double)max[c]);
                    double got = (double)panel_get(k, at->panel.data, i % keys[n], c) * fold;
                    near_f32(got, want, (unit + 2 * weight_slack(k, x, fabs((double)max[c]) + 60)) * want, i);
                }
                if (k->pair && keys[n] % 2) assert_true(panel_get(k, b[1].panel.data, keys[n], c) == 0);
            }
            for (int i = 0; i < 2; i++) {
                if (size < 1e3f) check_back(k, &b[i], scale, lse);
                free(b[i].s);
                guarded_free(&b[i].panel);
            }
        }
}

static void turned_blocks(const gr_kernels *k) {
    static const int shapes[][2] = {{1, 1}, {16, 16}, {33, 31}, {64, 64}, {80, 5}, {7, 64}, {128, 50}};
    for (int n = 0; n < 14; n++) {
        int rows = shapes[n / 2][0], cols = shapes[n / 2][1], ld = rows + 3;
        bool more = n & 1;
        CASE(k, "turned %d x %d", rows, cols);
        guarded x = guarded_new((size_t)rows * GR_NR * 4, 0),
                y = guarded_new((size_t)cols * (size_t)ld * 4, 4), z = act_new(k, (int64_t)rows * GR_NR, 0);
        float *in = (float *)(void *)x.data, *out = (float *)(void *)y.data, weights[GR_NR];
        for (int c = 0; c < GR_NR; c++) weights[c] = number(ORDINARY);
        for (int i = 0; i < rows * GR_NR; i++) in[i] = number(ORDINARY);
        for (int i = 0; i < cols * ld; i++) out[i] = 2;
        k->add_transposed(out, ld, in, rows, cols, 0.3f, more);
        for (int c = 0; c < cols; c++)
            for (int r = 0; r < ld; r++) {
                double add = r < rows ? (double)0.3f * (double)in[r * GR_NR + c] : 0;
                near_f32((double)out[c * ld + r], r < rows && !more ? add : 2 + add, 2 * EPS32 * fabs(add),
                         r);
            }
        k->weigh_columns(z.data, false, in, weights, rows);
        for (int i = 0; i < rows * GR_NR; i++)
            near_act(k, z.data, i, (double)in[i] * (double)weights[i % GR_NR], 0);
        guarded_free(&x), guarded_free(&y), guarded_free(&z);
    }
}

/* The softmax over a row, panel by panel as the head's product leaves it; then joined and scaled. */
static void losses(const gr_kernels *k) {
    static const int lengths[] = {1, 2, 5, 16, 33, 64, 65, 100, 1000, 4099};
    static const float spread[] = {1, 30, 1e4f, 1e30f};
    for (int s = 0; s < 10; s++)
        for (int kind = 0; kind < 4; kind++) {
            int n = lengths[s], panels = (n + GR_NR - 1) / GR_NR;
            int32_t target = below(n);
            float weight = uniform(0.1f, 1), *logits = malloc((size_t)n * 4), hit = 0;
            bool leads = false, first = true;
            CASE(k, "cross entropy n %d spread %g target %d", n, (double)spread[kind], target);
            guarded p = guarded_new((size_t)n * (size_t)k->act_bytes, k->act_bytes),
                    tops = guarded_new((size_t)panels * 4, 4), sums = guarded_new((size_t)panels * 4, 4);
            float *top = (float *)(void *)tops.data, *sum = (float *)(void *)sums.data;
            double most = -INFINITY, total = 0;
            for (int i = 0; i < n; i++) {
                logits[i] = uniform(-1, 1) * spread[kind];
                if (kind == 0) logits[i] = roundf(logits[i] * 4); /* equal ones */
                most = larger(most, (double)logits[i]);
            }
            for (int i = 0; i < n; i++) {
                total += exp((double)logits[i] - most);
                if (i / GR_NR == target / GR_NR)
                    first &= i < target ? logits[i] < logits[target] : logits[i] <= logits[target];
            }
            gr_softmax to = {p.data, n, panels, top, sum, &target, &hit, &leads, 0};
            for (int i = 0; i < n; i += GR_NR)
                k->finish_softmax(&to, logits + i, GR_NR, 0, 1, i, n - i < GR_NR ? n - i : GR_NR);
            assert_true(hit == logits[target]);
            assert_true(leads == first);
            double want = most + log(total), lse = k->softmax_join(top, sum, panels);
            if (!(fabs(lse - want) <= 1e-6))
                fail_msg("%s: log-sum-exp %.12g, expected %.12g", where, lse, want);
            k->softmax_factors(top, top, panels, lse, weight);
            k->softmax_scale(p.data, n, top);
            for (int i = 0; i < n; i++) {
                double d = exp((double)logits[i] - want) * (double)weight;
                double slack = (24 + 4 * fmin(104, fabs((double)logits[i] - want))) * EPS32 * d;
                near_act(k, p.data, i, d,
                         slack + (k->fp32 ? 0 : d / 255)); /* rounded to act twice, by 2^-8 of it each */
            }
            free(logits);
            guarded_free(&p), guarded_free(&tops), guarded_free(&sums);
        }
    assert_true(k->softmax_join(NULL, NULL, 0) == -INFINITY);
}

/* e^x through a softmax of two scores: relative error at most 2e-7 over the whole range. */
static void exponential(const gr_kernels *k) {
    if (!k->fp32) return;
    for (int i = 0; i < 2000; i++) {
        float s[2 * GR_NR] __attribute__((aligned(64))) = {0}, p[2 * GR_NR] __attribute__((aligned(64)));
        float max[GR_NR], sum[GR_NR] = {0}, factor[GR_NR];
        for (int c = 0; c < GR_NR; c++) s[GR_NR + c] = uniform(-87, 0), max[c] = -INFINITY;
        CASE(k, "exponential %d", i);
        k->softmax_block(p, s, 2, 2, 0, 1, max, sum, factor);
        for (int c = 0; c < GR_NR; c++) {
            double want = exp((double)s[GR_NR + c]), got = (double)p[GR_NR + c];
            if (!(fabs(got - want) <= 2e-7 * want)) fail_msg("%s is %.9g", where, got);
        }
    }
}

/* Dropped elements are 0 and the others keep their bits, by the definition of layers/dropout.h. */
static void drops(const gr_kernels *k) {
    for (int s = 0; s < SIZES; s++) {
        int n = sizes[s], kept = 0;
        uint32_t key = 0xFFFFFFF0u - (uint32_t)s * 77777u, threshold = s % 3 ? 0x40000000u : 0xC0000000u;
        CASE(k, "drop n %d", n);
        guarded x = act_new(k, n, 1), y = act_new(k, n, 0);
        act_fill(k, x.data, n, ORDINARY);
        for (int in_place = 0; in_place < 2; in_place++) {
            guarded *out = in_place ? &x : &y;
            k->drop(out->data, x.data, n, key, threshold);
            for (int i = 0; i < n; i++) {
                uint32_t h = (key ^ (uint32_t)i) + 0x9E3779B9u;
                h = (h ^ (h >> 16)) * 0x7FEB352Du;
                h = (h ^ (h >> 15)) * 0x846CA68Bu;
                bool keep = (h ^ (h >> 16)) >= threshold;
                assert_true(act_get(k, out->data, i) == (keep ? act_get(k, x.data, i) : 0));
                kept += keep;
            }
        }
        if (n > 500) assert_in_range(kept / 2, s % 3 ? n / 2 : n / 8, s % 3 ? n : n / 2);
        guarded_free(&x), guarded_free(&y);
    }
}

#define EACH(name)                                                                                           \
    static void test_##name(void **state) {                                                                  \
        (void)state;                                                                                         \
        each_table(name);                                                                                    \
    }
EACH(conversions)
EACH(special_numbers)
EACH(transposes)
EACH(norms)
EACH(rotations)
EACH(gates)
EACH(dots)
EACH(drops)
EACH(softmax_rows)
EACH(softmax_blocks)
EACH(turned_blocks)
EACH(losses)
EACH(exponential)

static void test_choice(void **state) {
    (void)state;
    gr_kernels table;
    graft_error err = {0};
    assert_true(gr_kernels_init(&table, NULL, false, &err) == GRAFT_OK);
    assert_true(strcmp(table.isa, gr_isa_table[0].name) == 0 || !gr_isa_table[0].available());
    assert_true(gr_kernels_init(&table, "sse9", false, &err) == GRAFT_USAGE);
    assert_true(strstr(err.expected, "portable") != NULL && strcmp(err.found, "sse9") == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),          cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_special_numbers), cmocka_unit_test(test_transposes),
        cmocka_unit_test(test_norms),           cmocka_unit_test(test_rotations),
        cmocka_unit_test(test_gates),           cmocka_unit_test(test_dots),
        cmocka_unit_test(test_softmax_rows),    cmocka_unit_test(test_softmax_blocks),
        cmocka_unit_test(test_turned_blocks),   cmocka_unit_test(test_losses),
        cmocka_unit_test(test_exponential),     cmocka_unit_test(test_drops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
