#include "layers/merge.h"
#include <math.h>

#define BLOCK 256 /* columns whose sums stay in the first cache */

static void add_delta(float *w, const gr_merge *m, int64_t row, int64_t first, int64_t n) {
    float delta[BLOCK] = {0};
    for (int64_t r = 0; r < m->rank; r++) {
        const float *a = m->a + r * m->in + first;
        const float factor = m->scale * m->b[r * m->out + row];
        if (factor == 0) continue;
        for (int64_t i = 0; i < n; i++) delta[i] += factor * a[i];
    }
    for (int64_t i = 0; i < n; i++) w[i] = delta[i] == 0 ? w[i] : w[i] + delta[i]; /* -0 stays -0 */
}

/* A gain this near to 1 is what f32 makes of a magnitude that nobody moved. */
#define UNMOVED 1e-6

void gr_merge_row(float *w, const gr_merge *m, int64_t row) {
    double square = 0;
    for (int64_t first = 0; first < m->in; first += BLOCK)
        add_delta(w + first, m, row, first, gr_min_i64(BLOCK, m->in - first));
    if (!m->magnitude) return;
    for (int64_t i = 0; i < m->in; i++) square += (double)w[i] * (double)w[i];
    double gain = (double)m->magnitude[row] / sqrt(fmax(square, 1e-30)); /* as layers/dora.c */
    if (fabs(gain - 1) < UNMOVED) return;
    for (int64_t i = 0; i < m->in; i++) w[i] = (float)((double)w[i] * gain);
}
