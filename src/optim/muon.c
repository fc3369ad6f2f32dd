/* source: https://kellerjordan.github.io/posts/muon; mlx.optimizers.Muon of mlx 0.32. A matrix moves by its
 * momentum with all singular values near one; a vector by the momentum itself. */
#include "base/memory.h"
#include "optim/optim_table.h"
#include <math.h>

#define PIECE 16384 /* elements of a task */

/* The other matrix, and two squares of the shorter side. Overflow gives more than any arena takes. */
int64_t gr_muon_scratch(const gr_optim_tensor *x) {
    int64_t n, square, side = gr_min_i64(x->rows, x->cols);
    if (x->cols == 0) return 0;
    if (!gr_mul_i64(x->rows, x->cols, &n) || !gr_mul_i64(2 * side, side, &square)) return INT64_MAX;
    return n > INT64_MAX - square ? INT64_MAX : n + square;
}

typedef struct job {
    const gr_optim_step *step;
    float *p, *g, *v;
    const float *x; /* the direction, as stored */
    float factor;
    int64_t n;
} job;

/* g = the momentum's direction */
static void momentum_piece(void *context, int task, int worker) {
    const job *j = context;
    const gr_optim_config *c = &j->step->optim->config;
    float clip = (float)j->step->clip, decay = (float)j->step->decay;
    float keep = (float)c->momentum, fresh = (float)(1 - c->momentum);
    (void)worker;
    for (int64_t i = (int64_t)task * PIECE; i < gr_min_i64(((int64_t)task + 1) * PIECE, j->n); i++) {
        float g = j->g[i] * clip + decay * j->p[i];
        j->v[i] = keep * j->v[i] + fresh * g;
        j->g[i] = c->nesterov ? g * fresh + j->v[i] * keep : j->v[i];
    }
}

static void move_piece(void *context, int task, int worker) {
    const job *j = context;
    (void)worker;
    for (int64_t i = (int64_t)task * PIECE; i < gr_min_i64(((int64_t)task + 1) * PIECE, j->n); i++)
        j->p[i] -= j->factor * j->x[i];
}

static void over_pieces(const job *j, gr_task *task, gr_pool *pool) {
    gr_optim_run(pool, task, (void *)(uintptr_t)j, (j->n + PIECE - 1) / PIECE);
}

/* y[m, n] = x[m, k] op(w), all f32 without gaps */
static void product(const gr_compute *c, float *y, const float *x, const float *w, bool trans, int64_t m,
                    int64_t n, int64_t k) {
    gr_product one = {.x = x, .ldx = k, .w_act = w, .ld_w = trans ? k : n, .trans = trans, .k = k};
    gr_epilogue e = {.y = y, .ldy = n, .y_f32 = true};
    gr_matmul(c, m, n, &one, 1, &e);
}

/* X <- a X + (b XX' + c (XX')^2) X, `steps` times, from X / |X|. x[m, n], m <= n, and other[m, n] are both
 * used; returns the one that holds the result. square: [2, m, m]. */
static float *orthogonal(const gr_compute *c, float *x, float *other, float *square, int64_t m, int64_t n,
                         int steps) {
    static const float a = 3.4445f, b = -4.7750f, cc = 2.0315f;
    float *gram = square, *sum = square + m * m;
    double norm = 0;
    for (int64_t i = 0; i < m * n; i++) norm += (double)x[i] * (double)x[i];
    float factor = (float)(1 / (sqrt(norm) + 1e-7));
    for (int64_t i = 0; i < m * n; i++) x[i] *= factor;
    for (int s = 0; s < steps; s++) {
        product(c, gram, x, x, true, m, m, n);
        product(c, sum, gram, gram, false, m, m, m);
        for (int64_t i = 0; i < m * m; i++) sum[i] = b * gram[i] + cc * sum[i];
        for (int64_t i = 0; i < m; i++) sum[i * m + i] += a;
        product(c, other, sum, x, false, m, n, m);
        float *swap = x;
        x = other;
        other = swap;
    }
    return x;
}

void gr_muon_step(const gr_optim_step *s, const gr_optim_tensor *x, gr_pool *pool) {
    const gr_optim *o = s->optim;
    int64_t rows = x->rows, cols = x->cols;
    job j = {.step = s, .p = s->params + x->at, .g = s->grad + x->at, .v = o->state[0] + x->at};
    j.n = cols ? rows * cols : rows;
    j.factor = (float)s->rate;
    over_pieces(&j, momentum_piece, pool);
    j.x = j.g;
    if (cols) {
        float *from = j.g, *other = o->scratch, *square = o->scratch + j.n;
        bool tall = rows > cols;
        if (tall) { /* the product with its transpose shall be the small one */
            o->kernels.transpose(other, rows, j.g, cols, rows, cols);
            from = other;
            other = j.g;
        }
        float *done = orthogonal(&o->compute, from, other, square, gr_min_i64(rows, cols),
                                 gr_max_i64(rows, cols), o->config.ns_steps);
        j.x = done;
        if (tall) {
            float *back = done == j.g ? o->scratch : j.g;
            o->kernels.transpose(back, cols, done, rows, cols, rows);
            j.x = back;
        }
        double shape = x->transposed ? (double)cols / (double)rows : (double)rows / (double)cols;
        j.factor = (float)(s->rate * sqrt(fmax(1, shape)));
    }
    over_pieces(&j, move_piece, pool);
}
