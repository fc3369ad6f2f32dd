#include "layers/merge.h"
#include <math.h>

#define BLOCK 256 /* columns whose sums stay in the first cache */

/* sums[n] = row of scale (A^T B)^T, columns first .. first + n of an A of `cols`. */
static void delta_of(float *sums, const gr_merge *m, int64_t cols, int64_t row, int64_t first, int64_t n) {
    memset(sums, 0, (size_t)n * sizeof *sums);
    for (int64_t r = 0; r < m->rank; r++) {
        const float *a = m->a + r * cols + first;
        const float factor = m->scale * m->b[r * m->out + row];
        if (factor == 0) continue;
        for (int64_t i = 0; i < n; i++) sums[i] += factor * a[i];
    }
}

static void add_delta(float *w, const gr_merge *m, int64_t row) {
    const int64_t pool = gr_max_i64(m->pool, 1), cols = m->in / pool;
    float delta[BLOCK];
    for (int64_t first = 0; first < cols; first += BLOCK) {
        int64_t n = gr_min_i64(BLOCK, cols - first);
        delta_of(delta, m, cols, row, first, n);
        for (int64_t g = 0; g < n; g++)
            for (int64_t i = 0; i < pool; i++, w++) *w = delta[g] == 0 ? *w : *w + delta[g]; /* -0 stays -0 */
    }
}

void gr_merge_sums(float *sums, const gr_merge *m, int64_t row) {
    delta_of(sums, m, m->in / m->pool, row, 0, m->in / m->pool);
}

/* A gain this near to 1 is what f32 makes of a magnitude that nobody moved. */
#define UNMOVED 1e-6

void gr_merge_row(float *w, const gr_merge *m, int64_t row) {
    double square = 0;
    add_delta(w, m, row);
    if (!m->magnitude) return;
    for (int64_t i = 0; i < m->in; i++) square += (double)w[i] * (double)w[i];
    double gain = (double)m->magnitude[row] / sqrt(fmax(square, 1e-30)); /* as layers/dora.c */
    if (fabs(gain - 1) < UNMOVED) return;
    for (int64_t i = 0; i < m->in; i++) w[i] = (float)((double)w[i] * gain);
}
