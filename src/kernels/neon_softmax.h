/* kernels/neon_softmax.h - blocks of attention scores to panels of bf16 pairs, as template_softmax.h makes
 * panels of f32. Included by isa_neonbf16.c.
 */
#ifndef GR_KERNELS_NEON_SOFTMAX_H
#define GR_KERNELS_NEON_SOFTMAX_H
#include "kernels/neon_pairs.h"

/* Four columns of two rows as pairs. */
INLINE void store_pairs(uint32_t *to, vf a, vf b) {
    uint16x4_t x = vreinterpret_u16_bf16(vcvt_bf16_f32((float32x4_t)a)),
               y = vreinterpret_u16_bf16(vcvt_bf16_f32((float32x4_t)b));
    vst1q_u32(to, vreinterpretq_u32_u16(vcombine_u16(vzip1_u16(x, y), vzip2_u16(x, y))));
}

static bool softmax_block_pairs(void *panel, const float *s, int n, int diag, int window, float scale,
                                float *max, float *sum, float *factor) {
    bool moved = false;
    for (int c = 0; c < GR_NR; c += VL) {
        vf top = v_set1(-INFINITY), total = {0}, old = v_load(max + c);
        for (int i = 0; i < n; i++)
            top = v_max(see_bf16act(v_load(s + i * GR_NR + c), c, i, diag, window, -INFINITY), top);
        vi rise = top * scale > old + GR_SOFTMAX_SLACK;
        vf now = v_select(rise, top * scale, old), base = v_select(now == -INFINITY, (vf){0}, now);
        for (int l = 0; l < VL; l++) moved |= rise[l] != 0;
        for (int i = 0; i < n; i += 2) {
            vf e[2] = {{0}, {0}};
            for (int r = 0; r < 2 && i + r < n; r++) {
                vf x = v_exp(v_load(s + (i + r) * GR_NR + c) * scale - base);
                e[r] = see_bf16act(x, c, i + r, diag, window, 0);
            }
            total += e[0] + e[1];
            store_pairs((uint32_t *)panel + i / 2 * GR_NR + c, e[0], e[1]);
        }
        vf fold = v_exp(old - base);
        v_store(max + c, now);
        v_store(factor + c, fold);
        v_store(sum + c, v_load(sum + c) * fold + total);
    }
    return moved;
}

static void softmax_block_back_pairs(void *p, void *ds, void *panel, const float *s, const float *dp, int n,
                                     int diag, int window, float scale, const float *lse,
                                     const float *delta) {
    for (int i = 0; i < n; i += 2)
        for (int c = 0; c < GR_NR; c += VL) {
            vf d[2] = {{0}, {0}};
            for (int r = 0; r < 2 && i + r < n; r++) {
                int at = (i + r) * GR_NR + c;
                vf e = v_exp(v_load(s + at) * scale - v_load(lse + c));
                e = see_bf16act(e, c, i + r, diag, window, 0);
                d[r] = see_bf16act(e * (v_load(dp + at) - v_load(delta + c)), c, i + r, diag, window, 0);
                v_to_bf16((uint16_t *)p + at, e);
                v_to_bf16((uint16_t *)ds + at, d[r]);
            }
            store_pairs((uint32_t *)panel + i / 2 * GR_NR + c, d[0], d[1]);
        }
}

static void panel_both_pairs(void *along, void *across, const void *x, int64_t ld, int rows, int64_t d) {
    panel_pairs_act(along, x, ld, true, 0, rows, 0, (int)d);
    for (int64_t n = 0; n < d; n += GR_NR)
        panel_pairs_act((uint32_t *)across + n / 2 * GR_NR, x, ld, false, n, (int)gr_min_i64(GR_NR, d - n), 0,
                        rows);
}

#endif
