/* mxfp4, mxfp8, nvfp4: decoded as mlx does (tests/golden/mx_float.txt), row by row, in panels of both
 * directions and in products, by every instruction set and mode. */
#include "golden_lines.h"
#include "kernel_check.h"
#include "weights/mx_float.h"

/* Equal bits, any NaN for NaN. */
static void same(const float *got, const float *want, int64_t n, const char *what) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], 4) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s: element %lld is %g, not %g", what, (long long)i, (double)got[i], (double)want[i]);
}

static void decodes_as_mlx(void **state) {
    (void)state;
    golden_line line = golden_open("mx_float.txt");
    int modes = 0;
    while (golden_next(&line)) {
        const gr_mx_row *row = gr_mx_by_mode(line.words[0]);
        size_t ncodes, nscales, nvalues;
        assert_true(row != NULL && gr_mx_by_format(row->bits, row->group) == row);
        uint8_t *codes = golden_bytes(line.words[1], &ncodes),
                *scales = golden_bytes(line.words[2], &nscales);
        float *values = (float *)(void *)golden_bytes(line.words[3], &nvalues);
        int64_t n = (int64_t)nvalues / 4;
        assert_true(n == (int64_t)nscales * row->group && n * row->bits == (int64_t)ncodes * 8);
        float *got = calloc((size_t)n, 4);
        gr_mx_dequantize(got, codes, scales, 1, n, row->bits, row->group);
        same(got, values, n, row->mode);
        gr_mat mat = {.layout = GR_MX,
                      .dtype = GR_U8,
                      .bits = row->bits,
                      .group = row->group,
                      .rows = 1,
                      .cols = n,
                      .data = codes,
                      .scales = scales,
                      .alpha = 1};
        memset(got, 0, nvalues);
        gr_mat_row(got, &mat, 0, 3, n - 3);
        same(got, values + 3, n - 3, "gr_mat_row");
        free(codes), free(scales), free(values), free(got);
        modes++;
    }
    assert_true(modes == 3 && !gr_mx_by_mode("affine") && !gr_mx_by_format(8, 16));
}

/* ---- random matrices of ordinary values */

typedef struct micro {
    gr_mat m;
    uint8_t *codes, *scales;
    float *value; /* [rows, cols], from gr_mat_row */
} micro;

static micro micro_new(int64_t rows, int64_t cols, int bits, int group, float alpha) {
    size_t ncodes = (size_t)(rows * cols * bits / 8), nscales = (size_t)(rows * cols / group);
    micro x = {
        .codes = malloc(ncodes + 1), .scales = malloc(nscales), .value = malloc((size_t)(rows * cols) * 4)};
    for (size_t i = 0; i < ncodes; i++) {
        int byte = below(256);
        x.codes[i + 1] =
            (uint8_t)(bits == 8 && (byte & 127) > 88 ? byte & 0xbf : byte); /* no NaN, below 32 */
    }
    /* E8M0: 2^-9 .. 2^-2; E4M3: 2^-4 .. 2^1 and its negatives */
    for (size_t i = 0; i < nscales; i++)
        x.scales[i] = (uint8_t)(group == 16 ? (24 + below(40)) | below(2) << 7 : 118 + below(8));
    x.m = (gr_mat){.layout = GR_MX,
                   .dtype = GR_U8,
                   .bits = bits,
                   .group = group,
                   .rows = rows,
                   .cols = cols,
                   .data = x.codes + 1,
                   .scales = x.scales,
                   .alpha = alpha};
    for (int64_t r = 0; r < rows; r++) gr_mat_row(x.value + r * cols, &x.m, r, 0, cols);
    return x;
}
static void micro_free(micro *x) {
    free(x->codes), free(x->scales), free(x->value);
}

/* A panel holds the values themselves, or in pair mode their bf16. */
static void one_panel(const gr_kernels *k, const micro *x, bool trans, int64_t n0, int ncols, int64_t k0,
                      int kc) {
    size_t bytes = gr_panel_bytes(k, kc);
    guarded p = guarded_new(bytes, 0);
    k->panel(p.data, &x->m, trans, n0, ncols, k0, kc);
    for (int kk = 0; kk < kc; kk++)
        for (int n = 0; n < GR_NR; n++) {
            int64_t at = trans ? (n0 + n) * x->m.cols + k0 + kk : (k0 + kk) * x->m.cols + n0 + n;
            float want = n < ncols ? x->value[at] : 0, got;
            if (k->pair) {
                want = gr_bf16_to_f32(gr_f32_to_bf16(want));
                got = gr_bf16_to_f32(((uint16_t *)(void *)p.data)[((kk / 2) * GR_NR + n) * 2 + (kk & 1)]);
            } else {
                got = ((float *)(void *)p.data)[kk * GR_NR + n];
            }
            if (!(got == want))
                fail_msg("%s: k %d n %d is %g, not %g", where, kk, n, (double)got, (double)want);
        }
    guarded_free(&p);
}

static const int formats[][2] = {{4, 32}, {8, 32}, {4, 16}};

static void panels(const gr_kernels *k) {
    for (int f = 0; f < 3; f++)
        for (int a = 0; a < 2; a++) {
            micro x = micro_new(70, 160, formats[f][0], formats[f][1], a ? -0.5f : 1);
            for (int64_t n0 = 0; n0 < 160; n0 += GR_NR) {
                int ncols = (int)gr_min_i64(GR_NR, 160 - n0);
                CASE(k, "micro panel bits %d group %d n0 %d", formats[f][0], formats[f][1], (int)n0);
                if (n0 < 70) one_panel(k, &x, true, n0, (int)gr_min_i64(GR_NR, 70 - n0), 0, 160);
                if (n0 < 70) one_panel(k, &x, true, n0, (int)gr_min_i64(GR_NR, 70 - n0), 32, 97);
                one_panel(k, &x, false, n0, ncols, 3, 67);
            }
            micro_free(&x);
        }
}

static void products(const gr_kernels *k) {
    for (int f = 0; f < 3; f++) {
        const int ROWS = 70,
                  COLS = formats[f][1] == 16 ? 4208 : 4224; /* 4208: half a block of 32 at the end */
        CASE(k, "micro matvec bits %d group %d", formats[f][0], formats[f][1]);
        micro w = micro_new(ROWS, COLS, formats[f][0], formats[f][1], 1);
        guarded x = act_new(k, COLS, 1), y = guarded_new((size_t)ROWS * 4, 4);
        act_fill(k, x.data, COLS, ORDINARY);
        k->matvec((float *)(void *)y.data, &w.m, x.data, 0, ROWS);
        for (int r = 0; r < ROWS; r++) {
            double sum = 0, xx = 0, ww = 0;
            for (int c = 0; c < COLS; c++) {
                float v = w.value[r * COLS + c];
                if (k->pair) v = gr_bf16_to_f32(gr_f32_to_bf16(v));
                double b = (double)act_get(k, x.data, c);
                sum += b * (double)v, xx += b * b, ww += (double)v * (double)v;
            }
            near_f32((double)((float *)(void *)y.data)[r], sum, 2 * sqrt(COLS) * EPS32 * sqrt(xx * ww), r);
        }
        guarded_free(&x), guarded_free(&y), micro_free(&w);
    }
}

#define EACH(name)                                                                                           \
    static void test_##name(void **state) {                                                                  \
        (void)state;                                                                                         \
        each_table(name);                                                                                    \
    }
EACH(panels)
EACH(products)

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(decodes_as_mlx), cmocka_unit_test(test_panels),
                                       cmocka_unit_test(test_products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
