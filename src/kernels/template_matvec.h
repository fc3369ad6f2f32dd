/* kernels/template_matvec.h - one activation row times a stored matrix. Included once per isa_*.c and mode.
 */

static void NAME(matvec)(float *y, const gr_mat *mat, const void *x, int64_t row0, int64_t nrows) {
    float xs[DOT_K] __attribute__((aligned(64)));
    dot_pass pass = {.m = mat, .x = xs};
    for (int64_t k0 = 0; k0 < mat->cols || k0 == 0; k0 += DOT_K) {
        pass.k0 = k0;
        pass.n = gr_min_i64(DOT_K, mat->cols - k0);
        NAME(to_f32)(xs, (const act_t *)x + k0, pass.n);
        if (mat->layout == GR_DENSE)
            dot_numbers(y, &pass, row0, nrows);
        else
            dot_coded(y, &pass, row0, nrows);
    }
}
