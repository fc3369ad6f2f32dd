/* weights/affine against values that mlx made (tests/golden/affine.txt). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden_lines.h"
#include "weights/affine.h"
#include <math.h>

enum { ROWS = 3, COLS = 128 };

static void quantize_equals_mlx(void **state) {
    (void)state;
    golden_line line = golden_open("affine.txt");
    float *w = NULL;
    int combinations = 0;
    while (golden_next(&line)) {
        int dtype = gr_dtype_from_name(line.words[1]);
        size_t n, ncodes, nscales, nbiases;
        assert_true(dtype >= 0);
        if (line.words[0][0] == 'w') {
            free(w);
            w = (float *)golden_bytes(line.words[2], &n);
            assert_int_equal(n, ROWS * COLS * 4);
            continue;
        }
        int bits = atoi(line.words[2]), group = atoi(line.words[3]);
        uint8_t *codes = golden_bytes(line.words[4], &ncodes),
                *scales = golden_bytes(line.words[5], &nscales),
                *biases = golden_bytes(line.words[6], &nbiases);
        uint8_t got_codes[ROWS * COLS + 1], got_scales[ROWS * COLS / 32 * 4],
            got_biases[ROWS * COLS / 32 * 4];
        assert_int_equal(ncodes, ROWS * gr_affine_row_bytes(COLS, bits));
        got_codes[ncodes] = 0xa5; /* nothing is written beyond the last row */
        gr_affine_quantize(got_codes, got_scales, got_biases, w, ROWS, COLS, bits, group, (gr_dtype)dtype);
        assert_memory_equal(got_codes, codes, ncodes);
        assert_memory_equal(got_scales, scales, nscales);
        assert_memory_equal(got_biases, biases, nbiases);
        assert_int_equal(got_codes[ncodes], 0xa5);
        free(codes);
        free(scales);
        free(biases);
        combinations++;
    }
    free(w);
    assert_int_equal(combinations, 54);
}

/* In f32 every value is met within half a step; the group's far edge exactly up to rounding of scale * code +
 * bias. */
static void dequantize_inverts(void **state) {
    (void)state;
    static const int all_bits[] = {2, 3, 4, 5, 6, 8};
    for (size_t b = 0; b < 6; b++) {
        float w[256], back[256], scales[8], biases[8];
        uint8_t codes[256];
        int bits = all_bits[b];
        for (int i = 0; i < 256; i++) w[i] = sinf((float)(i * i)) * (1 + (float)(i / 32));
        gr_affine_quantize(codes, scales, biases, w, 2, 128, bits, 32, GR_F32);
        gr_affine_dequantize(back, codes, scales, biases, 2, 128, bits, 32, GR_F32);
        for (int i = 0; i < 256; i++) {
            /* moving zero onto a code stretches the range by up to one step at the near edge */
            assert_true(fabsf(back[i] - w[i]) <= fabsf(scales[i / 32]) * 1.001f);
            const uint8_t *row = codes + i / 128 * gr_affine_row_bytes(128, bits);
            float code = (float)gr_affine_code(row, i % 128, bits);
            assert_true(back[i] == scales[i / 32] * code + biases[i / 32]);
        }
    }
}

static void unaligned_memory_works(void **state) {
    (void)state;
    float w[64], back[64];
    uint8_t codes[2][40], scales[2][5], biases[2][5];
    for (int i = 0; i < 64; i++) w[i] = (float)(i - 20);
    gr_affine_quantize(codes[0], scales[0], biases[0], w, 2, 32, 4, 32, GR_F16);
    gr_affine_quantize(codes[1] + 1, scales[1] + 1, biases[1] + 1, w, 2, 32, 4, 32, GR_F16);
    assert_memory_equal(codes[0], codes[1] + 1, 32);
    assert_memory_equal(scales[0], scales[1] + 1, 4);
    assert_memory_equal(biases[0], biases[1] + 1, 4);
    gr_affine_dequantize(back, codes[1] + 1, scales[1] + 1, biases[1] + 1, 2, 32, 4, 32, GR_F16);
    assert_true(back[0] == -20 &&
                back[63] == 43); /* the edges of the two groups are integers that f16 holds */
}

static void nan_does_not_escape(void **state) {
    (void)state;
    float w[32], scale, bias;
    uint8_t codes[16];
    for (int i = 0; i < 32; i++) w[i] = (float)i;
    w[9] = NAN;
    gr_affine_quantize(codes, &scale, &bias, w, 1, 32, 4, 32, GR_F32);
    assert_true(bias == 31 && scale < 0);
    assert_int_equal(gr_affine_code(codes, 9, 4), 0);
    assert_int_equal(gr_affine_code(codes, 0, 4), 15);
}

static void valid_combinations(void **state) {
    (void)state;
    int valid = 0;
    for (int bits = -1; bits < 20; bits++)
        for (int group = 0; group <= 256; group++) valid += gr_affine_valid(bits, group);
    assert_int_equal(valid, 18);
    assert_false(gr_affine_valid(7, 64));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantize_equals_mlx), cmocka_unit_test(dequantize_inverts),
        cmocka_unit_test(unaligned_memory_works), cmocka_unit_test(nan_does_not_escape),
        cmocka_unit_test(valid_combinations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
