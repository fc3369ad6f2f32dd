/* kernels/template_tile.h - the 6 x 64 tile on f32 panels, and what happens to a finished tile.
 * Included once per isa_*.c and mode, between definitions of ACT_F32, act_t, NAME, act_load_n and
 * act_store_n.
 */

/* acc[rows][64] += a[rows][kc] * panel[kc][64], TILE_VECS vectors of columns at a time: rows * TILE_VECS
 * accumulators, TILE_VECS vectors of the panel and one element of `a` fill the registers. rows is a constant
 * in every call, and an element's sum does not depend on it. */
INLINE void NAME(tile_rows)(float (*acc)[GR_NR], const float *a, int64_t lda, const float *panel, int kc,
                            int rows) {
    for (int n = 0; n < GR_NR; n += TILE_VECS * VL) {
        vf c[GR_MR][TILE_VECS];
        UNROLL
        for (int i = 0; i < rows; i++) {
            UNROLL
            for (int j = 0; j < TILE_VECS; j++) c[i][j] = v_load(&acc[i][n + j * VL]);
        }
        const float *b = panel + n;
        for (int k = 0; k < kc; k++, b += GR_NR) {
            vf bv[TILE_VECS];
            UNROLL
            for (int j = 0; j < TILE_VECS; j++) bv[j] = v_load(b + j * VL);
            UNROLL
            for (int i = 0; i < rows; i++) {
                vf x = v_set1(a[i * lda + k]);
                UNROLL
                for (int j = 0; j < TILE_VECS; j++) c[i][j] = v_fma(x, bv[j], c[i][j]);
            }
        }
        UNROLL
        for (int i = 0; i < rows; i++) {
            UNROLL
            for (int j = 0; j < TILE_VECS; j++) v_store(&acc[i][n + j * VL], c[i][j]);
        }
    }
}

static void NAME(tile_block)(float (*acc)[GR_NR], const float *a, int64_t lda, const float *panel, int kc,
                             int rows) {
    switch (rows) {
    case 1: NAME(tile_rows)(acc, a, lda, panel, kc, 1); break;
    case 2: NAME(tile_rows)(acc, a, lda, panel, kc, 2); break;
    case 3: NAME(tile_rows)(acc, a, lda, panel, kc, 3); break;
    case 4: NAME(tile_rows)(acc, a, lda, panel, kc, 4); break;
    case 5: NAME(tile_rows)(acc, a, lda, panel, kc, 5); break;
    default: NAME(tile_rows)(acc, a, lda, panel, kc, GR_MR); break;
    }
}

static void NAME(tile_term)(float (*acc)[GR_NR], const gr_term *term, int rows) {
    const act_t *a = term->a;
#if ACT_F32
    NAME(tile_block)(acc, a, term->lda, term->panel, term->kc, rows);
#else
    float strip[GR_MR *
                TILE_KC]; /* bf16 rows as f32: the tile reads every element 64 / (TILE_VECS * VL) times */
    for (int k = 0; k < term->kc; k += TILE_KC) {
        int take = term->kc - k < TILE_KC ? term->kc - k : TILE_KC;
        for (int i = 0; i < rows; i++) NAME(to_f32)(strip + i * TILE_KC, a + i * term->lda + k, take);
        NAME(tile_block)(acc, strip, TILE_KC, (const float *)term->panel + (int64_t)k * GR_NR, take, rows);
    }
#endif
}

static void NAME(tile)(const gr_term *terms, int nterms, float *c, int64_t ldc, int rows, bool accumulate) {
    float acc[GR_MR][GR_NR] __attribute__((aligned(64))) = {0};
    for (int t = 0; t < nterms; t++) NAME(tile_term)(acc, &terms[t], rows);
    for (int i = 0; i < rows; i++, c += ldc)
        for (int n = 0; n < GR_NR; n += VL) {
            vf v = v_load(&acc[i][n]);
            v_store(c + n, accumulate ? v_load(c + n) + v : v);
        }
}

/* One vector of a finished row into the binary counter: see gr_epilogue.slots. `at` is its offset in a slot.
 */
INLINE void NAME(finish_slots)(const gr_epilogue *e, vf v, int64_t at, int64_t count) {
    int t = 0;
    for (uint64_t row = e->row; row & 1; row >>= 1, t++) v = v_load_n(e->slots[t] + at, count) + v;
    v_store_n(e->slots[t] + at, v, count);
}

static void NAME(finish)(const gr_epilogue *e, const float *c, int64_t ldc, int64_t m0, int rows, int64_t n0,
                         int cols) {
    if (cols == GR_NR && !e->column_scale && !e->bias && !e->residual && !e->slots &&
        !e->y_f32) { /* most tiles; 3 % of a short sum */
        act_t *y = (act_t *)e->y + m0 * e->ldy + n0;
        for (int i = 0; i < rows; i++, c += ldc, y += e->ldy) {
            UNROLL
            for (int n = 0; n < GR_NR; n += VL) NAME(store_n)(y + n, v_load(c + n), VL);
        }
        return;
    }
    for (int i = 0; i < rows; i++, c += ldc) {
        int64_t at = (m0 + i) * e->ldy + n0;
        for (int n = 0; n < cols; n += VL) {
            vf v = v_load_n(c + n, cols - n);
            if (e->column_scale) v *= v_load_n(e->column_scale + n0 + n, cols - n);
            if (e->bias) v += v_load_n(e->bias + n0 + n, cols - n);
            if (e->residual)
                v += NAME(load_n)((const act_t *)e->residual + (m0 + i) * e->ld_residual + n0 + n, cols - n);
            if (e->slots) {
                NAME(finish_slots)(e, v, at + n, cols - n);
            } else if (e->y_f32) {
                float *y = (float *)e->y + at + n;
                v_store_n(y, e->accumulate ? v_load_n(y, cols - n) + v : v, cols - n);
            } else {
                NAME(store_n)((act_t *)e->y + at + n, v, cols - n);
            }
        }
    }
}
