/* kernels/kernels_template.h - every kernel of the table in vector extensions, for one mode.
 *
 * An isa_*.c defines VL (floats of a vector) and TILE_VECS (vectors of columns that a tile keeps in
 * registers), then includes this file twice: with ACT_F32 0 and 1. Each pass leaves one function, NAME(fill),
 * that fills a table.
 */
#include "kernels/template_dot.h"
#include "kernels/template_panel.h"
#include "kernels/vec.h"
#ifndef GR_KERNELS_BURST
#define GR_KERNELS_BURST
#include "kernels/template_burst.h"
#endif

#undef NAME
#undef act_t
#if ACT_F32
#define NAME(x) x##_f32act
#define act_t   float
#else
#define NAME(x) x##_bf16act
#define act_t   uint16_t
#endif

#ifndef TILE_KC
#define TILE_KC 512 /* k of one pass: a panel of 128 KB, half of the smallest L2 that we expect */
#endif

/* n >= VL: a whole vector. Else the rest is 0 (load) or untouched (store). */
INLINE vf NAME(load_n)(const act_t *p, int64_t n) {
#if ACT_F32
    return v_load_n(p, n);
#else
    if (n >= VL) return v_from_bf16(p);
    uint16_t t[VL] = {0};
    memcpy(t, p, (size_t)n * 2);
    return v_from_bf16(t);
#endif
}

INLINE void NAME(store_n)(act_t *p, vf v, int64_t n) {
#if ACT_F32
    v_store_n(p, v, n);
#else
    if (n >= VL) {
        v_to_bf16(p, v);
        return;
    }
    uint16_t t[VL];
    v_to_bf16(t, v);
    memcpy(p, t, (size_t)n * 2);
#endif
}

#include "kernels/template_rows.h" /* first: the others convert rows with it */

#include "kernels/template_softmax.h"

#include "kernels/template_head.h"
#include "kernels/template_matvec.h"
#include "kernels/template_tile.h"

static void NAME(panel_act)(void *dst, const void *act, int64_t ld, bool trans, int64_t n0, int ncols,
                            int64_t k0, int kc) {
    gr_mat m = {
        .layout = GR_DENSE, .dtype = ACT_F32 ? GR_F32 : GR_BF16, .ld = ld, .data = act, .alpha = 1.0f};
    panel_f32(dst, &m, trans, n0, ncols, k0, kc);
}

static void NAME(panel_both)(void *along, void *across, const void *x, int64_t ld, int rows, int64_t d) {
    NAME(panel_act)(along, x, ld, true, 0, rows, 0, (int)d);
    for (int64_t n = 0; n < d; n += GR_NR) NAME(panel_act)
    ((float *)across + n * GR_NR, x, ld, false, n, (int)gr_min_i64(GR_NR, d - n), 0, rows);
}

static void NAME(dots)(float *y, const void *a, const void *b, int64_t ld, int64_t rows, int64_t n) {
    for (int64_t i = 0; i < rows; i++)
        y[i] = NAME(dot)((const act_t *)a + i * ld, (const act_t *)b + i * ld, n);
}

static void NAME(fill)(gr_kernels *t, const char *isa) {
    *t = (gr_kernels){.isa = isa,
                      .fp32 = ACT_F32,
                      .act_bytes = (int)sizeof(act_t),
                      .pair = false,
                      .kc = TILE_KC,
                      .panel = panel_f32,
                      .panel_act = NAME(panel_act),
                      .tile = NAME(tile),
                      .finish = NAME(finish),
                      .to_act = NAME(to_act),
                      .to_f32 = NAME(to_f32),
                      .transpose = NAME(transpose),
                      .rmsnorm = NAME(rmsnorm),
                      .rmsnorm_back = NAME(rmsnorm_back),
                      .layernorm = NAME(layernorm),
                      .layernorm_back = NAME(layernorm_back),
                      .rope = NAME(rope),
                      .rope_f32 = NAME(rope_f32),
                      .swiglu = NAME(swiglu),
                      .swiglu_back = NAME(swiglu_back),
                      .geglu = NAME(geglu),
                      .geglu_back = NAME(geglu_back),
                      .gelu = NAME(gelu),
                      .gelu_back = NAME(gelu_back),
                      .soft_cap = NAME(soft_cap),
                      .soft_cap_back = NAME(soft_cap_back),
                      .softmax_keys = NAME(softmax_keys),
                      .softmax_block = NAME(softmax_block),
                      .softmax_block_back = NAME(softmax_block_back),
                      .weigh_columns = NAME(weigh_columns),
                      .add_transposed = NAME(add_transposed),
                      .panel_both = NAME(panel_both),
                      .dots = NAME(dots),
                      .scale_f32 = NAME(scale_f32),
                      .drop = NAME(drop),
                      .dot = NAME(dot),
                      .add_f32 = NAME(add_f32),
                      .finish_softmax = NAME(finish_softmax),
                      .softmax_join = NAME(softmax_join),
                      .softmax_factors = NAME(softmax_factors),
                      .softmax_scale = NAME(softmax_scale),
                      .softmax_uncap = NAME(softmax_uncap),
                      .matvec = NAME(matvec),
                      .burst = burst};
}
