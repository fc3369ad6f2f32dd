/* Stored matrices, panels, tiles, finishing, and the matmul and matvec drivers: every instruction set and
 * mode against scalar double; the same bits at any number of threads and for any slice of the rows. */
#include "kernel_check.h"

#include "kernels/peak.h"
#include "tests/each_isa.h"

/* ---- a random stored matrix with its values in double, packed by the test's own code */
typedef struct stored {
    gr_mat m;
    double *value; /* [rows, cols], exact but for one rounding of scale * code + bias */
    unsigned char *data, *scales, *biases;
} stored;

static float put(unsigned char *at, int64_t i, gr_dtype dtype, float v) {
    uint16_t h = dtype == GR_BF16 ? gr_f32_to_bf16(v) : gr_f32_to_f16(v);
    if (dtype == GR_F32)
        memcpy(at + 4 * i, &v, 4);
    else
        memcpy(at + 2 * i, &h, 2);
    return dtype == GR_F32 ? v : dtype == GR_BF16 ? gr_bf16_to_f32(h) : gr_f16_to_f32(h);
}

/* bits 0: dense with ld = cols + 3. Every array starts at an odd multiple of two bytes, as MLX files may. */
static stored stored_new(int64_t rows, int64_t cols, int bits, int group, gr_dtype dtype, float alpha) {
    stored s = {.value = malloc((size_t)(rows * cols) * 8 + 8)};
    int64_t ld = cols + 3, groups = bits ? cols / group : 0, row_bytes = cols * bits / 8;
    s.data = calloc(1, (size_t)(bits ? rows * row_bytes : rows * ld * 4) + 2);
    s.scales = calloc(1, (size_t)(rows * groups) * 4 + 2);
    s.biases = calloc(1, (size_t)(rows * groups) * 4 + 2);
    s.m = (gr_mat){bits ? GR_AFFINE : GR_DENSE,
                   dtype,
                   bits,
                   group,
                   rows,
                   cols,
                   bits ? 0 : ld,
                   s.data + 2,
                   s.scales + 2,
                   s.biases + 2,
                   alpha};
    for (int64_t i = 0; i < rows * groups; i++) {
        float scale = uniform(-0.1f, 0.1f);
        put(s.scales + 2, i, dtype, scale);
        put(s.biases + 2, i, dtype, -scale * (float)(1 << (bits - 1)) + uniform(-0.02f, 0.02f));
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            float v;
            if (!bits) {
                v = put(s.data + 2, r * ld + c, dtype,
                        number(dtype == GR_F16 ? ORDINARY
                               : below(20)     ? ORDINARY
                                               : TINY));
                s.value[r * cols + c] = (double)(v * alpha);
                continue;
            }
            int code = below(1 << bits);
            for (int b = 0; b < bits; b++) { /* one little-endian bit stream */
                int64_t at = c * bits + b;
                if (code >> b & 1) s.data[2 + r * row_bytes + at / 8] |= (unsigned char)(1 << (at & 7));
            }
            float scale = 0, bias = 0;
            int64_t g = r * groups + c / group;
            if (dtype == GR_F32) {
                memcpy(&scale, s.scales + 2 + 4 * g, 4), memcpy(&bias, s.biases + 2 + 4 * g, 4);
            } else {
                uint16_t hs, hb;
                memcpy(&hs, s.scales + 2 + 2 * g, 2), memcpy(&hb, s.biases + 2 + 2 * g, 2);
                scale = dtype == GR_BF16 ? gr_bf16_to_f32(hs) : gr_f16_to_f32(hs);
                bias = dtype == GR_BF16 ? gr_bf16_to_f32(hb) : gr_f16_to_f32(hb);
            }
            v = (float)code * scale + bias;
            s.value[r * cols + c] = (double)(v * alpha);
        }
    return s;
}
static void stored_free(stored *s) {
    free(s->value), free(s->data), free(s->scales), free(s->biases);
}

static const int all_bits[] = {0, 2, 3, 4, 5, 6, 8};
static const gr_dtype all_types[] = {GR_F32, GR_F16, GR_BF16};

static void test_rows(void **state) {
    (void)state;
    gr_rng_seed(&rng, seed, 1);
    for (int b = 0; b < 7; b++)
        for (int t = 0; t < 3; t++) {
            stored s = stored_new(3, 256, all_bits[b], 64, all_types[t], b % 2 ? 1 : 0.5f);
            float row[256];
            gr_mat_row(row, &s.m, 2, 5, 200);
            for (int i = 0; i < 200; i++) assert_true((double)row[i] == s.value[2 * 256 + 5 + i]);
            stored_free(&s);
        }
}

static size_t one_panel_bytes(const gr_kernels *k, int kc) {
    return (size_t)(kc + (kc & 1)) * GR_NR * (k->pair ? 2 : 4);
}
static float panel_get(const gr_kernels *k, const void *panel, int kk, int n) {
    if (k->pair) return gr_bf16_to_f32(((const uint16_t *)panel)[((kk / 2) * GR_NR + n) * 2 + (kk & 1)]);
    return ((const float *)panel)[kk * GR_NR + n];
}
/* A value as a panel holds it. */
static double in_panel(const gr_kernels *k, double v) {
    return k->pair ? (double)gr_bf16_to_f32(gr_f32_to_bf16((float)v)) : v;
}

static void check_panel(const gr_kernels *k, const void *panel, const stored *s, bool trans, int64_t n0,
                        int ncols, int64_t k0, int kc) {
    for (int kk = 0; kk < kc + (k->pair ? kc & 1 : 0); kk++)
        for (int n = 0; n < GR_NR; n++) {
            bool inside = n < ncols && kk < kc;
            int64_t at = trans ? (n0 + n) * s->m.cols + k0 + kk : (k0 + kk) * s->m.cols + n0 + n;
            double want = inside ? s->value[at] : 0, unit = k->pair ? EPS_BF16 * 1.001 : 0;
            near_f32((double)panel_get(k, panel, kk, n), want, unit * fabs(want) + 2 * EPS32 * 0.1 * 256,
                     kk * 64 + n);
            if (!inside) assert_true(panel_get(k, panel, kk, n) == 0);
        }
}

static void panels(const gr_kernels *k) {
    for (int b = 0; b < 7; b++)
        for (int group = 32; group <= 128; group *= 2)
            for (int t = 0; t < 3; t++)
                for (int trans = 0; trans < 2; trans++) {
                    if (emulated() && t != b % 3) continue; /* minutes, for all */
                    int bits = all_bits[b];
                    int64_t out = 75, in = bits ? 3 * group : 100 + group;
                    stored s = stored_new(out, in, bits, group, all_types[t],
                                          bits          ? 1
                                          : group == 32 ? 1
                                                        : -2.5f);
                    int64_t n = trans ? out : in, kk = trans ? in : out;
                    for (int64_t n0 = 0; n0 < n; n0 += GR_NR) {
                        int ncols = (int)gr_min_i64(GR_NR, n - n0);
                        int64_t k0 = trans ? (in > 128 ? 128 : 0) : 4;
                        int kc = (int)(kk - k0);
                        CASE(k, "panel bits %d group %d dtype %d trans %d n0 %d k0 %d kc %d", bits, group,
                             (int)all_types[t], trans, (int)n0, (int)k0, kc);
                        guarded p = guarded_new(one_panel_bytes(k, kc), 0);
                        k->panel(p.data, &s.m, trans, n0, ncols, k0, kc);
                        check_panel(k, p.data, &s, trans, n0, ncols, k0, kc);
                        guarded_free(&p);
                    }
                    stored_free(&s);
                }
}

static void panels_of_acts(const gr_kernels *k) {
    static const int shapes[][2] = {{1, 1}, {3, 64}, {64, 64}, {65, 31}, {40, 129}, {128, 128}};
    for (int c = 0; c < 12; c++) {
        int ncols = shapes[c / 2][0] > 64 ? 64 : shapes[c / 2][0], kc = shapes[c / 2][1], trans = c & 1;
        int rows = trans ? ncols : kc, cols = trans ? kc : ncols, ld = cols + 1;
        CASE(k, "panel_act ncols %d kc %d trans %d", ncols, kc, trans);
        guarded x = act_new(k, (int64_t)rows * ld - 1, 1), p = guarded_new(one_panel_bytes(k, kc), 0);
        act_fill(k, x.data, (int64_t)rows * ld - 1, ORDINARY);
        k->panel_act(p.data, x.data, ld, trans, 0, ncols, 0, kc);
        for (int kk = 0; kk < kc + (k->pair ? kc & 1 : 0); kk++)
            for (int n = 0; n < GR_NR; n++) {
                bool inside = n < ncols && kk < kc;
                assert_true(panel_get(k, p.data, kk, n) ==
                            (inside ? act_get(k, x.data, trans ? n * ld + kk : kk * ld + n) : 0));
            }
        guarded_free(&x), guarded_free(&p);
    }
}

/* Two terms of odd and even lengths; A ends where its guard begins. */
static void tiles(const gr_kernels *k) {
    static const int lengths[] = {1, 2, 3, 7, 16, 31, 32, 33, 64, 129, 600};
    for (int l = 0; l < 11; l++)
        for (int rows = 1; rows <= GR_MR; rows++)
            for (int kind = ORDINARY; kind <= SUBNORMAL; kind++) {
                int kc[2] = {lengths[l], lengths[(l + 3) % 11]};
                if (emulated() && (kind + rows + l) % 4) continue;
                bool more = rows & 1;
                CASE(k, "tile rows %d kc %d+%d kind %d accumulate %d", rows, kc[0], kc[1], kind, more);
                guarded a[2], b[2], p[2], c = guarded_new(sizeof(float) * (size_t)(rows * 70 - 6), 4);
                gr_term terms[2];
                for (int t = 0; t < 2; t++) {
                    int lda = kc[t] + t * 5;
                    a[t] = act_new(k, (int64_t)(rows - 1) * lda + kc[t], 1 + t);
                    b[t] = act_new(k, (int64_t)kc[t] * GR_NR, 0);
                    act_fill(k, a[t].data, (int64_t)(rows - 1) * lda + kc[t], kind);
                    act_fill(k, b[t].data, (int64_t)kc[t] * GR_NR, ORDINARY);
                    p[t] = guarded_new(one_panel_bytes(k, kc[t]), 0);
                    k->panel_act(p[t].data, b[t].data, GR_NR, false, 0, GR_NR, 0, kc[t]);
                    terms[t] = (gr_term){a[t].data, lda, p[t].data, kc[t]};
                }
                float *out = (float *)(void *)c.data, one[GR_NR];
                for (int i = 0; i < rows * 70 - 6; i++) out[i] = 0.5f;
                for (int n = 0; n < GR_NR; n++) one[n] = 0.5f;
                k->tile(terms, 2, out, 70, rows, more);
                for (int i = 0; i < rows; i++)
                    for (int n = 0; n < GR_NR; n++) {
                        double sum = more ? 0.5 : 0, size = sum;
                        for (int t = 0; t < 2; t++)
                            for (int kk = 0; kk < kc[t]; kk++) {
                                double v = (double)act_get(k, a[t].data, (int64_t)i * terms[t].lda + kk) *
                                           (double)act_get(k, b[t].data, kk * GR_NR + n);
                                sum += v, size += fabs(v);
                            }
                        double count = kc[0] + kc[1] + 1;
                        near_f32((double)out[i * 70 + n], sum,
                                 2 * sqrt(count) * EPS32 * size + count * SMALLEST * 4, i * 64 + n);
                    }
                for (int i = 0; i < rows; i++) { /* the same bits alone */
                    gr_term alone[2] = {terms[0], terms[1]};
                    for (int t = 0; t < 2; t++)
                        alone[t].a = (const char *)terms[t].a + i * terms[t].lda * k->act_bytes;
                    for (int n = 0; n < GR_NR; n++) one[n] = 0.5f;
                    k->tile(alone, 2, one, GR_NR, 1, more);
                    if (memcmp(one, out + i * 70, sizeof one) != 0)
                        fail_msg("%s: row %d differs alone", where, i);
                }
                for (int cols = 1; k->tile_narrow && cols <= GR_NR; cols += 7) { /* and with few columns */
                    float few[GR_MR * GR_NR];
                    for (int i = 0; i < GR_MR * GR_NR; i++) few[i] = 0.5f;
                    k->tile_narrow(terms, 2, few, GR_NR, rows, cols, more);
                    for (int i = 0; i < rows; i++)
                        if (memcmp(few + i * GR_NR, out + i * 70, (size_t)cols * 4) != 0)
                            fail_msg("%s: row %d differs in %d columns", where, i, cols);
                }
                for (int i = 0; i + 1 < rows; i++) assert_true(out[i * 70 + 64] == 0.5f);
                for (int t = 0; t < 2; t++) guarded_free(&a[t]), guarded_free(&b[t]), guarded_free(&p[t]);
                guarded_free(&c);
            }
}

static void finishes(const gr_kernels *k) {
    enum { LDC = 64, LDY = 90, M = 8, N0 = 5 };
    for (int mode = 0; mode < 32; mode++)
        for (int cols = 1; cols <= 64; cols += 9) {
            bool f32 = mode & 1, add = f32 && mode & 2, bias = mode & 4, residual = mode & 8,
                 scale = mode & 16;
            int rows = 1 + cols % 6;
            CASE(k, "finish f32 %d add %d scale %d bias %d residual %d rows %d cols %d", f32, add, scale,
                 bias, residual, rows, cols);
            float c[6 * LDC], b[LDY], by[LDY];
            size_t width = f32 ? 4 : (size_t)k->act_bytes;
            guarded y = guarded_new(width * (LDY * (size_t)(rows + 1) + N0 + (size_t)cols), width);
            guarded res = act_new(k, LDY * M, 1);
            act_fill(k, res.data, LDY * M, ORDINARY);
            for (int i = 0; i < 6 * LDC; i++) c[i] = number(ORDINARY);
            for (int i = 0; i < LDY; i++) b[i] = number(ORDINARY), by[i] = number(ORDINARY);
            memset(y.data, 0, y.bytes);
            gr_epilogue e = {.y = y.data,
                             .ldy = LDY,
                             .y_f32 = f32,
                             .column_scale = scale ? by : NULL,
                             .bias = bias ? b : NULL,
                             .residual = residual ? res.data : NULL,
                             .ld_residual = LDY,
                             .accumulate = add};
            for (int twice = 0; twice < 2; twice++) k->finish(&e, c, LDC, 2, rows, N0, cols);
            for (int i = 0; i < rows; i++)
                for (int n = 0; n < cols; n++) {
                    int64_t at = (2 + i) * LDY + N0 + n;
                    double want = (double)c[i * LDC + n];
                    if (scale) want *= (double)by[N0 + n];
                    if (bias) want += (double)b[N0 + n];
                    if (residual) want += (double)act_get(k, res.data, at);
                    if (add) want *= 2;
                    if (f32)
                        near_f32((double)((float *)(void *)y.data)[at], want, 12 * EPS32 * 4, at);
                    else
                        near_act(k, y.data, at, want, 12 * EPS32 * 4);
                }
            guarded_free(&y), guarded_free(&res);
        }
}

/* Rows summed through the slots make the tree that the definition says, whatever the row's number. */
static void gradient_slots(const gr_kernels *k) {
    enum { ROWS = 11, COLS = 37 };
    CASE(k, "slots");
    static float got[4][COLS], want[4][COLS];
    float *slots[4] = {got[0], got[1], got[2], got[3]}, c[64];
    memset(got, 0, sizeof got), memset(want, 0, sizeof want);
    for (uint64_t row = 0; row < ROWS; row++) {
        for (int n = 0; n < COLS; n++) c[n] = number(MIXED);
        gr_epilogue e = {.ldy = COLS, .slots = slots, .row = row};
        k->finish(&e, c, 64, 0, 1, 0, COLS);
        for (int n = 0; n < COLS; n++) {
            float v = c[n];
            int t = 0;
            for (; row >> t & 1; t++) v = want[t][n] + v;
            want[t][n] = v;
        }
        assert_true(memcmp(got, want, sizeof got) == 0);
    }
}

/* ---- the drivers */

typedef struct engine {
    gr_compute c;
    gr_pool *pool;
} engine;
static engine engine_new(const gr_kernels *k, int threads) {
    engine e = {0};
    if (gr_pool_new(&e.pool, threads, NULL) != GRAFT_OK) fail_msg("no pool");
    size_t bytes = gr_matmul_scratch(k);
    e.c = (gr_compute){.k = k,
                       .pool = e.pool,
                       .scratch = aligned_alloc(64, bytes * (size_t)threads),
                       .scratch_bytes = bytes};
    return e;
}
static void engine_free(engine *e) {
    gr_pool_free(e->pool), free(e->c.scratch);
}

/* x1 W^T (affine) + x2 B (dense, alpha, not transposed) + x3 act: forward and backward and activations at
 * once. */
static void one_matmul(const gr_kernels *k, int m, int n, int kin, int bits, int rank) {
    CASE(k, "matmul m %d n %d k %d bits %d rank %d", m, n, kin, bits, rank);
    stored w = stored_new(n, kin, bits, 32, GR_F16, 1), lora = stored_new(rank, n, 0, 0, GR_F32, 2);
    int inner[3] = {kin, rank, 19}, ld[3] = {kin + 1, rank, 19};
    guarded x[3], act = act_new(k, 19 * (n + 2), 0);
    act_fill(k, act.data, 19 * (n + 2), ORDINARY);
    for (int p = 0; p < 3; p++) {
        x[p] = act_new(k, (int64_t)(m - 1) * ld[p] + inner[p], 1);
        act_fill(k, x[p].data, (int64_t)(m - 1) * ld[p] + inner[p], ORDINARY);
    }
    gr_product products[3] = {
        {.x = x[0].data, .ldx = ld[0], .w = &w.m, .trans = true, .k = inner[0]},
        {.x = x[1].data, .ldx = ld[1], .w = &lora.m, .k = inner[1]},
        {.x = x[2].data, .ldx = ld[2], .w_act = act.data, .ld_w = n + 2, .k = inner[2]}};
    guarded y[3];
    int64_t ldy = n + 3, size = (int64_t)(m - 1) * ldy + n;
    for (int threads = 1; threads <= 2; threads++) {
        engine e = engine_new(k, threads);
        y[threads] = guarded_new((size_t)size * 4, 4);
        memset(y[threads].data, 0, y[threads].bytes);
        gr_epilogue to = {.y = y[threads].data, .ldy = ldy, .y_f32 = true};
        gr_matmul(&e.c, m, n, products, 3, &to);
        engine_free(&e);
    }
    if (memcmp(y[1].data, y[2].data, y[1].bytes) != 0) fail_msg("%s: 1 and 2 threads differ", where);
    y[0] = guarded_new((size_t)size * 4, 8); /* in two slices of rows */
    memset(y[0].data, 0, y[0].bytes);
    engine e = engine_new(k, 2);
    for (int m0 = 0, m1 = 1 + m / 3; m0 < m; m0 = m1, m1 = m) {
        gr_product part[3];
        for (int p = 0; p < 3; p++) {
            part[p] = products[p];
            part[p].x = x[p].data + (int64_t)m0 * ld[p] * k->act_bytes;
        }
        gr_epilogue to = {.y = y[0].data + m0 * ldy * 4, .ldy = ldy, .y_f32 = true};
        gr_matmul(&e.c, m1 - m0, n, part, 3, &to);
    }
    engine_free(&e);
    if (memcmp(y[0].data, y[1].data, y[1].bytes) != 0) fail_msg("%s: slices of rows differ", where);
    for (int i = 0; i < m; i += 1 + m / 40)
        for (int j = 0; j < n; j++) {
            double sum = 0, xx = 0, ww = 0;
            for (int p = 0; p < 3; p++)
                for (int q = 0; q < inner[p]; q++) {
                    double a = (double)act_get(k, x[p].data, (int64_t)i * ld[p] + q);
                    double b = p == 0   ? in_panel(k, w.value[(int64_t)j * kin + q])
                               : p == 1 ? in_panel(k, lora.value[(int64_t)q * n + j])
                                        : (double)act_get(k, act.data, q * (n + 2) + j);
                    sum += a * b, xx += a * a, ww += b * b;
                }
            double slack = 2 * sqrt(kin + rank + 19) * EPS32 * sqrt(xx * ww);
            near_f32((double)((float *)(void *)y[1].data)[i * ldy + j], sum, slack, i * ldy + j);
        }
    for (int p = 0; p < 3; p++) guarded_free(&x[p]), guarded_free(&y[p]);
    guarded_free(&act), stored_free(&w), stored_free(&lora);
}

static void matmuls(const gr_kernels *k) {
    one_matmul(k, 1, 1, 32, 4, 1);
    one_matmul(k, 5, 16, 64, 8, 3);
    one_matmul(k, 7, 65, 96, 3, 16);
    one_matmul(k, 13, 33, k->kc, 4, 16);
    if (emulated()) return;
    one_matmul(k, 100, 130, 576, 4, 8);
    one_matmul(k, 497, 70, 64, 6, 16);
    one_matmul(k, 50, 66, 2 * k->kc + 64, 5, 33);
    one_matmul(k, 8, 40, k->kc + k->kc / 8 + 32, 2, 700);
}

/* A weight as matvec has it. */
static double in_matvec(const gr_kernels *k, const gr_mat *m, double v) {
    bool exact = k->exact_codes && m->layout == GR_AFFINE && 8 % m->bits == 0;
    return exact ? v : in_panel(k, v);
}

/* Some columns are a multiple of no block but their group, some more than are done at a time. */
static void matvecs(const gr_kernels *k) {
    static const int widths[] = {384, 416, 576, 4224, 8192 + 320, 64, 96, 288};
    for (int b = 0; b < 7; b++)
        for (int i = 0; i < 24; i++) {
            if (emulated() && widths[i / 3] > 1000 && all_bits[b] != 4) continue;
            int t = i % 3, rows = 70, cols = widths[i / 3] - (b ? 0 : 5);
            int group = cols % 64 ? 32 : cols % 128 || i % 2 ? 64 : 128;
            if (i % 4 == 0) group = 32;
            CASE(k, "matvec bits %d group %d dtype %d cols %d", all_bits[b], group, (int)all_types[t], cols);
            stored s = stored_new(rows, cols, all_bits[b], group, all_types[t], b ? 1 : 0.5f);
            guarded x = act_new(k, cols, 1), y[3];
            act_fill(k, x.data, cols, ORDINARY);
            for (int threads = 1; threads <= 2; threads++) {
                engine e = engine_new(k, threads);
                y[threads] = guarded_new((size_t)rows * 4, 4);
                gr_matvec(&e.c, (float *)(void *)y[threads].data, &s.m, x.data);
                engine_free(&e);
            }
            assert_true(memcmp(y[1].data, y[2].data, y[1].bytes) == 0);
            for (int r = 0; r < rows; r++) {
                double sum = 0, xx = 0, ww = 0;
                for (int c = 0; c < cols; c++) {
                    double a = (double)act_get(k, x.data, c), v = in_matvec(k, &s.m, s.value[r * cols + c]);
                    sum += a * v, xx += a * a, ww += v * v;
                }
                near_f32((double)((float *)(void *)y[1].data)[r], sum, 2 * sqrt(cols) * EPS32 * sqrt(xx * ww),
                         r);
            }
            guarded_free(&x), guarded_free(&y[1]), guarded_free(&y[2]), stored_free(&s);
        }
}

static void peaks(const gr_kernels *k) {
    engine e = engine_new(k, 1);
    double peak = gr_peak_gflops(&e.c);
    if (!(peak > 0.05 && peak < 1e6)) fail_msg("%s: peak %g", k->isa, peak);
    engine_free(&e);
}

#define EACH(name)                                                                                           \
    static void test_##name(void **state) {                                                                  \
        (void)state;                                                                                         \
        each_table(name);                                                                                    \
    }
EACH(panels)
EACH(panels_of_acts)
EACH(tiles)
EACH(finishes)
EACH(gradient_slots)
EACH(matmuls)
EACH(matvecs)
EACH(peaks)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),           cmocka_unit_test(test_panels),
        cmocka_unit_test(test_panels_of_acts), cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_finishes),       cmocka_unit_test(test_gradient_slots),
        cmocka_unit_test(test_matmuls),        cmocka_unit_test(test_matvecs),
        cmocka_unit_test(test_peaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
