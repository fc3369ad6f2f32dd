/* kernels/template_matvec.h - one activation row times a stored matrix. Included once per isa_*.c and mode.
 */

#define MATVEC_BLOCK                                                                                         \
    512               /* weights decoded at a time: by their end the first ones have left the store queue */
#define MATVEC_K 2048 /* x as f32 for this many columns at a time, on the stack: 8 KB of L1 */

static void NAME(matvec)(float *y, const gr_mat *mat, const void *x, int64_t row0, int64_t nrows) {
    float xs[MATVEC_K], w[MATVEC_BLOCK];
    for (int64_t k0 = 0; k0 < mat->cols || k0 == 0; k0 += MATVEC_K) {
        int64_t kc = gr_min_i64(MATVEC_K, mat->cols - k0);
        NAME(to_f32)(xs, (const act_t *)x + k0, kc);
        for (int64_t r = row0; r < row0 + nrows; r++) {
            vf sum[4] = {{0}, {0}, {0}, {0}};
            for (int64_t k = 0; k < kc; k += MATVEC_BLOCK) {
                int64_t take = gr_min_i64(MATVEC_BLOCK, kc - k);
                decode_row(w, mat, r, k0 + k, take);
                for (int64_t i = 0; i < take; i += 4 * VL) {
                    UNROLL
                    for (int j = 0; j < 4; j++) {
                        int64_t at = i + j * VL;
                        if (at < take)
                            sum[j] =
                                v_fma(v_load_n(w + at, take - at), v_load_n(xs + k + at, take - at), sum[j]);
                    }
                }
            }
            float total = v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
            y[r] = k0 ? y[r] + total : total;
        }
    }
}
