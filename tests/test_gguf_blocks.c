/* weights/gguf_blocks against values that the gguf package made (tests/golden/gguf_blocks.txt). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden_lines.h"
#include "weights/affine.h"
#include "weights/gguf_blocks.h"

/* Blocks -> codes -> f32 must be the numbers that blocks -> f32 gives. */
static void check_affine(const uint8_t *blocks, gr_gguf_type type, const float *values, int64_t count,
                         gr_dtype dtype) {
    uint8_t codes[512], scales[64], biases[64];
    float back[512];
    int bits = gr_gguf_affine_bits(type);
    gr_gguf_to_affine(codes, scales, biases, blocks, type, count, dtype);
    gr_affine_dequantize(back, codes, scales, biases, 1, count, bits, GR_GGUF_GROUP, dtype);
    for (int64_t i = 0; i < count; i++) assert_true(back[i] == values[i]);
}

static void all_types_equal_the_reference(void **state) {
    (void)state;
    golden_line line = golden_open("gguf_blocks.txt");
    int types = 0, affine = 0;
    while (golden_next(&line)) {
        size_t nblocks, nvalues;
        gr_gguf_type type = (gr_gguf_type)atoi(line.words[1]);
        uint8_t *blocks = golden_bytes(line.words[2], &nblocks);
        float *values = (float *)golden_bytes(line.words[3], &nvalues), got[512];
        int64_t count = (int64_t)nvalues / 4;
        assert_string_equal(gr_gguf_type_name(type), line.words[0]);
        assert_true(count <= 512);
        gr_gguf_dequantize(got, blocks, type, count);
        for (int64_t i = 0; i < count; i++)
            assert_true(got[i] == values[i] || (got[i] != got[i] && values[i] != values[i]));
        if (gr_gguf_affine_bits(type)) {
            gr_dtype exact = gr_gguf_affine_dtype(blocks, type, count);
            bool k = type == GR_GGUF_Q4_K || type == GR_GGUF_Q5_K;
            assert_int_equal(exact, k ? GR_F32 : GR_F16);
            check_affine(blocks, type, values, count, GR_F32);
            check_affine(blocks, type, values, count, exact);
            affine++;
        }
        types++;
        free(blocks);
        free(values);
    }
    assert_int_equal(types, 14);
    assert_int_equal(affine, 7);
}

/* ggml's bytes from values. */
static void quantized_as_the_reference(void **state) {
    (void)state;
    golden_line line = golden_open("gguf_quantized.txt");
    int types = 0;
    while (golden_next(&line)) {
        size_t nvalues, nblocks, bytes;
        gr_gguf_type type = (gr_gguf_type)atoi(line.words[1]);
        float *values = (float *)golden_bytes(line.words[2], &nvalues);
        uint8_t *blocks = golden_bytes(line.words[3], &nblocks), out[64];
        const int64_t each = gr_gguf_affine_bits(type) ? GR_GGUF_GROUP : 1, count = (int64_t)nvalues / 4;
        assert_true(gr_gguf_can_quantize(type));
        assert_true(gr_gguf_tensor_bytes(&bytes, type, &each, 1));
        assert_int_equal((size_t)(count / each) * bytes, nblocks);
        for (int64_t i = 0; i < count; i += each) {
            gr_gguf_quantize_block(out, values + i, type);
            assert_memory_equal(out, blocks + (size_t)(i / each) * bytes, bytes);
        }
        types++;
        free(values);
        free(blocks);
    }
    assert_int_equal(types, 5);
    assert_false(gr_gguf_can_quantize(GR_GGUF_Q4_K));
}

/* -8 d beyond f16 asks for f32, although d is a f16 number. */
static void large_scales_need_f32(void **state) {
    (void)state;
    uint8_t block[34] = {0};
    uint16_t d = gr_f32_to_f16(60000.0f / 128);
    memcpy(block, &d, 2);
    assert_int_equal(gr_gguf_affine_dtype(block, GR_GGUF_Q8_0, 32), GR_F16);
    d = gr_f32_to_f16(70000.0f / 128);
    memcpy(block, &d, 2);
    assert_int_equal(gr_gguf_affine_dtype(block, GR_GGUF_Q8_0, 32), GR_F32);
    assert_int_equal(gr_gguf_affine_dtype(block, GR_GGUF_Q4_0, 32), GR_F16);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_types_equal_the_reference),
                                       cmocka_unit_test(quantized_as_the_reference),
                                       cmocka_unit_test(large_scales_need_f32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
