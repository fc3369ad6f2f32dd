#include "layers/dora.h"
#include <math.h>

#define STEP 512 /* columns of a row decoded at once, on the stack */
#define ROWS 16  /* rows per task */

typedef struct square_job {
    float *squares;
    const gr_mat *mat;
} square_job;

static void square_rows(void *context, int task, int worker) {
    const square_job *j = context;
    const gr_mat *m = j->mat;
    int64_t end = gr_min_i64(((int64_t)task + 1) * ROWS, m->rows);
    float w[STEP];
    (void)worker;
    for (int64_t o = (int64_t)task * ROWS; o < end; o++) {
        double sum = 0;
        for (int64_t i = 0; i < m->cols; i += STEP) {
            int64_t n = gr_min_i64(STEP, m->cols - i);
            gr_mat_row(w, m, o, i, n);
            for (int64_t k = 0; k < n; k++) sum += (double)w[k] * (double)w[k];
        }
        j->squares[o] = (float)sum;
    }
}

void gr_row_squares(const gr_compute *c, float *squares, const gr_mat *mat) {
    square_job j = {squares, mat};
    gr_pool_run(c->pool, square_rows, &j, (int)((mat->rows + ROWS - 1) / ROWS));
}

typedef struct norm_job {
    const gr_dora *d;
    const float *b, *cross, *magnitude;
    int64_t rank, out;
    float scale;
} norm_job;

#define COLUMNS 256 /* outputs per task */

static void norm_columns(void *context, int task, int worker) {
    const norm_job *j = context;
    int64_t o0 = (int64_t)task * COLUMNS, n = gr_min_i64(COLUMNS, j->out - o0);
    double sum[COLUMNS] = {0};
    (void)worker;
    for (int64_t r = 0; r < j->rank; r++) {
        const float *b = j->b + r * j->out + o0, *cross = j->cross + r * j->out + o0;
        for (int64_t i = 0; i < n; i++) sum[i] += (double)b[i] * (double)cross[i];
    }
    for (int64_t i = 0; i < n; i++) {
        double square = (double)j->d->squares[o0 + i] + 2 * (double)j->scale * sum[i];
        double norm = sqrt(fmax(square, 1e-30));
        j->d->inv_norm[o0 + i] = (float)(1 / norm);
        j->d->gain[o0 + i] = (float)((double)j->magnitude[o0 + i] / norm);
    }
}

void gr_dora_refresh(const gr_compute *c, const gr_dora *d, const gr_mat *w, const float *a, const float *b,
                     const float *magnitude, int64_t rank, float scale, const gr_dora_scratch *scratch) {
    int64_t in = w->cols, out = w->rows;
    gr_mat a_mat = gr_mat_f32(a, rank, in, 1), b_mat = gr_mat_f32(b, rank, out, scale / 2);
    c->k->to_act(scratch->a, a, rank * in);
    gr_product square = {.x = scratch->a, .ldx = in, .w = &a_mat, .trans = true, .k = in};
    gr_matmul(c, rank, rank, &square, 1, &(gr_epilogue){.y = scratch->aa, .ldy = rank});
    gr_product p[2] = {{.x = scratch->a, .ldx = in, .w = w, .trans = true, .k = in},
                       {.x = scratch->aa, .ldx = rank, .w = &b_mat, .k = rank}};
    gr_matmul(c, rank, out, p, 2, &(gr_epilogue){.y = scratch->cross, .ldy = out, .y_f32 = true});
    norm_job j = {d, b, scratch->cross, magnitude, rank, out, scale};
    gr_pool_run(c->pool, norm_columns, &j, (int)((out + COLUMNS - 1) / COLUMNS));
}
