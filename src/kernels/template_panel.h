/* kernels/template_panel.h - panels of f32 [k][64] from any stored matrix. Included once per isa_*.c.
 *
 * For y = x W^T, VL rows of the matrix are decoded a vector each and transposed in registers; for dx = dy W a
 * row of the panel is a piece of a row of the matrix.
 */
#ifndef GR_KERNELS_TEMPLATE_PANEL_H
#define GR_KERNELS_TEMPLATE_PANEL_H
#include "kernels/template_decode.h"

/* ---- codes, in whole blocks of 32 along the matrix's rows */

/* VL columns of the panel from rows row.. of the matrix, `present` of them; k codes of one batch of scales.
 */
INLINE void panel_trans_batch(float *dst, const gr_mat *m, code_format format, int64_t row, int present,
                              int64_t k0, int kc) {
    const int bits = code_bits(format), shift = group_shift(m);
    const int64_t stride = m->cols / 8 * bits, g = k0 >> shift, spans = ((k0 + kc - 1) >> shift) - g + 1;
    const uint8_t *p = code_row(m, row, bits) + k0 / 8 * bits;
    float scale[VL][SCALES_MOST], bias[VL][SCALES_MOST];
    for (int i = 0; i < present; i++) row_scales(scale[i], bias[i], m, format, row + i, g, spans);
    for (int k = 0; k < kc; k += 32, p += 4 * bits) {
        UNROLL
        for (int v = 0; v < 32 / VL; v++, dst += VL * GR_NR) {
            int64_t j = ((k0 + k + v * VL) >> shift) - g;
            vf r[VL];
            UNROLL
            for (int i = 0; i < VL; i++)
                r[i] =
                    i < present ? decode_vector(p + i * stride, format, v, scale[i][j], bias[i][j]) : (vf){0};
            v_transpose(r);
            UNROLL
            for (int i = 0; i < VL; i++) v_store(dst + i * GR_NR, r[i]);
        }
    }
}

INLINE void panel_trans(float *dst, const gr_mat *m, code_format format, int64_t n0, int ncols, int64_t k0,
                        int kc) {
    const int batch = (SCALES_MOST - 1) << group_shift(m); /* k0 may lie within a group */
    for (int n = 0; n < GR_NR; n += VL)
        for (int k = 0; k < kc; k += batch) {
            int take = kc - k < batch ? kc - k : batch;
            float *d = dst + (int64_t)k * GR_NR + n;
            if (n + VL <= ncols)
                panel_trans_batch(d, m, format, n0 + n, VL, k0 + k, take);
            else
                panel_trans_batch(d, m, format, n0 + n, ncols > n ? ncols - n : 0, k0 + k, take);
        }
}

INLINE void panel_rows(float *dst, const gr_mat *m, code_format format, int64_t n0, int ncols, int64_t k0,
                       int kc) {
    for (int k = 0; k < kc; k++, dst += GR_NR) {
        decode_blocks(dst, m, format, k0 + k, n0, ncols);
        for (int n = ncols; n < GR_NR; n++) dst[n] = 0;
    }
}

static void panel_coded(float *dst, const gr_mat *m, bool trans, int64_t n0, int ncols, int64_t k0, int kc) {
    switch (code_format_of(m)) {
#define X(f)                                                                                                 \
    case f:                                                                                                  \
        if (trans)                                                                                           \
            panel_trans(dst, m, f, n0, ncols, k0, kc);                                                       \
        else                                                                                                 \
            panel_rows(dst, m, f, n0, ncols, k0, kc);                                                        \
        break;
        CODE_FORMATS(X)
#undef X
    }
}

/* ---- dense numbers */

INLINE void panel_trans_dense(float *dst, const gr_mat *m, gr_dtype dtype, int64_t n0, int ncols, int64_t k0,
                              int kc) {
    const vf alpha = v_set1(m->alpha);
    const size_t size = dtype == GR_F32 ? 4 : 2;
    for (int n = 0; n < GR_NR; n += VL) {
        const char *from[VL];
        for (int i = 0; i < VL; i++)
            from[i] =
                (const char *)m->data + ((n0 + (n + i < ncols ? n + i : 0)) * m->ld + k0) * (int64_t)size;
        for (int k = 0; k < kc; k += VL) {
            int left = kc - k;
            vf r[VL];
            float *d = dst + (int64_t)k * GR_NR + n;
            if (left >= VL && n + VL <= ncols) {
                UNROLL
                for (int i = 0; i < VL; i++) r[i] = decode_element(from[i], dtype, k) * alpha;
                v_transpose(r);
                UNROLL
                for (int i = 0; i < VL; i++) v_store(d + i * GR_NR, r[i]);
                continue;
            }
            for (int i = 0; i < VL; i++) {
                float rest[VL] = {0};
                if (n + i < ncols)
                    decode_dense(rest, from[i] + k * (int64_t)size, dtype, left < VL ? left : VL);
                r[i] = v_load(rest) * alpha;
            }
            v_transpose(r);
            for (int i = 0; i < VL && i < left; i++) v_store(d + i * GR_NR, r[i]);
        }
    }
}

/* ---- any */

static void panel_f32(void *panel, const gr_mat *m, bool trans, int64_t n0, int ncols, int64_t k0, int kc) {
    float *dst = panel;
    int64_t along = trans ? k0 | kc : n0 | ncols; /* of the matrix's rows */
    if (m->layout != GR_DENSE && m->alpha == 1.0f && (along & 31) == 0) {
        panel_coded(dst, m, trans, n0, ncols, k0, kc);
        return;
    }
    if (!trans) {
        for (int k = 0; k < kc; k++, dst += GR_NR) {
            decode_row(dst, m, k0 + k, n0, ncols);
            for (int n = ncols; n < GR_NR; n++) dst[n] = 0;
        }
        return;
    }
    if (m->layout == GR_DENSE) {
        switch (m->dtype) {
        case GR_F32: panel_trans_dense(dst, m, GR_F32, n0, ncols, k0, kc); break;
        case GR_BF16: panel_trans_dense(dst, m, GR_BF16, n0, ncols, k0, kc); break;
        default: panel_trans_dense(dst, m, GR_F16, n0, ncols, k0, kc); break;
        }
        return;
    }
    float row[128];
    for (int n = 0; n < GR_NR; n++)
        for (int k = 0; k < kc; k += 128) {
            int take = kc - k < 128 ? kc - k : 128;
            if (n < ncols)
                decode_row(row, m, n0 + n, k0 + k, take);
            else
                memset(row, 0, sizeof row);
            for (int i = 0; i < take; i++) dst[(int64_t)(k + i) * GR_NR + n] = row[i];
        }
}

#endif
