/* source: arXiv 1804.04235; mlx.optimizers.Adafactor of mlx 0.32. Of a matrix's squared gradients only the
 * means over its rows and columns are kept. Their product is the same for a matrix and its transpose; which
 * of the two is divided by its mean is mlx-lm's choice of orientation. */
#include "base/memory.h"
#include "optim/optim_table.h"
#include <math.h>

#define MOST_PIECES 64  /* of a tensor: their sums stand on the stack */
#define COLUMNS     128 /* of a block of columns */

int64_t gr_adafactor_floats(const gr_optim_config *c, const gr_optim_tensor *x, int state) {
    if (state == 1) return c->beta1 > 0 ? GR_OPTIM_WHOLE : 0;
    return x->rows + x->cols;
}

typedef struct job {
    const gr_optim_step *step;
    const gr_optim_config *c;
    int64_t rows, cols; /* a vector is one row */
    bool vector, transposed;
    float *p, *moment; /* moment NULL: none */
    const float *g;
    float *row, *col;      /* statistics; of a vector, col alone */
    float beta2;           /* of this update */
    double mean;           /* of row, or of col where mlx-lm holds the transpose */
    double rate;           /* times the parameter's scale */
    double limit;          /* the update is divided by it */
    int64_t piece, pieces; /* rows of a piece */
    double sums[MOST_PIECES];
} job;

static double total(const job *j) {
    double sum = 0;
    for (int64_t i = 0; i < j->pieces; i++) sum += j->sums[i];
    return sum;
}

/* Rows of the parameter: the sum of its squares. */
static void parameter_sum(void *context, int task, int worker) {
    job *j = context;
    int64_t i0 = task * j->piece * j->cols, i1 = gr_min_i64(i0 + j->piece * j->cols, j->rows * j->cols);
    double sum = 0;
    (void)worker;
    for (int64_t i = i0; i < i1; i++) sum += (double)j->p[i] * (double)j->p[i];
    j->sums[task] = sum;
}

static float mixed(const job *j, float old, double fresh) {
    return j->beta2 * old + (1 - j->beta2) * (float)fresh;
}

static void row_means(void *context, int task, int worker) {
    job *j = context;
    double clip = j->step->clip, eps = j->c->epsilon;
    (void)worker;
    for (int64_t r = task * j->piece; r < gr_min_i64((task + 1) * j->piece, j->rows); r++) {
        const float *g = j->g + r * j->cols;
        double sum = 0;
        for (int64_t i = 0; i < j->cols; i++) sum += (double)g[i] * (double)g[i];
        j->row[r] = mixed(j, j->row[r], sum * clip * clip / (double)j->cols + eps);
    }
}

/* Also a vector's own squares: it has one row. */
static void column_means(void *context, int task, int worker) {
    job *j = context;
    int64_t c0 = (int64_t)task * COLUMNS;
    int n = (int)gr_min_i64(COLUMNS, j->cols - c0);
    double sums[COLUMNS] = {0}, clip = j->step->clip, eps = j->c->epsilon;
    (void)worker;
    for (int64_t r = 0; r < j->rows; r++)
        for (int i = 0; i < n; i++) {
            double g = (double)j->g[r * j->cols + c0 + i];
            sums[i] += g * g;
        }
    for (int i = 0; i < n; i++)
        j->col[c0 + i] = mixed(j, j->col[c0 + i], sums[i] * clip * clip / (double)j->rows + eps);
}

/* u[n] = the update of n elements of row r from column c0, before it is limited and scaled. */
static void unscaled(const job *j, int64_t r, int64_t c0, int n, float *u) {
    const float *g = j->g + r * j->cols + c0, *col = j->col + c0;
    float mean = (float)j->mean, clip = (float)j->step->clip, factor = clip;
    if (!j->vector) factor = clip / sqrtf(j->transposed ? j->row[r] : j->row[r] / mean);
    float divisor = !j->vector && j->transposed ? 1 / mean : 1;
    for (int i = 0; i < n; i++) u[i] = g[i] * (factor / sqrtf(col[i] * divisor));
}

static void update_sum(void *context, int task, int worker) {
    job *j = context;
    float u[COLUMNS];
    double sum = 0;
    (void)worker;
    for (int64_t r = task * j->piece; r < gr_min_i64((task + 1) * j->piece, j->rows); r++)
        for (int64_t c0 = 0; c0 < j->cols; c0 += COLUMNS) {
            int n = (int)gr_min_i64(COLUMNS, j->cols - c0);
            unscaled(j, r, c0, n, u);
            for (int i = 0; i < n; i++) sum += (double)u[i] * (double)u[i];
        }
    j->sums[task] = sum;
}

static void move(void *context, int task, int worker) {
    job *j = context;
    float u[COLUMNS], factor = (float)(j->rate / j->limit), keep = (float)(1 - j->step->decay * j->rate);
    float beta1 = (float)j->c->beta1;
    (void)worker;
    for (int64_t r = task * j->piece; r < gr_min_i64((task + 1) * j->piece, j->rows); r++)
        for (int64_t c0 = 0; c0 < j->cols; c0 += COLUMNS) {
            int n = (int)gr_min_i64(COLUMNS, j->cols - c0);
            float *p = j->p + r * j->cols + c0, *m = j->moment ? j->moment + r * j->cols + c0 : NULL;
            unscaled(j, r, c0, n, u);
            for (int i = 0; i < n; i++) u[i] *= factor;
            for (int i = 0; m && i < n; i++) u[i] = m[i] = beta1 * m[i] + (1 - beta1) * u[i];
            for (int i = 0; i < n; i++) p[i] = p[i] * keep - u[i];
        }
}

static double mean_of(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i];
    return sum / (double)n;
}

void gr_adafactor_step(const gr_optim_step *s, const gr_optim_tensor *x, gr_pool *pool) {
    const gr_optim_config *c = &s->optim->config;
    job j = {.step = s, .c = c, .vector = x->cols == 0, .transposed = x->transposed};
    j.rows = j.vector ? 1 : x->rows;
    j.cols = j.vector ? x->rows : x->cols;
    j.p = s->params + x->at;
    j.g = s->grad + x->at;
    j.moment = c->beta1 > 0 ? s->optim->state[1] + x->at : NULL;
    j.row = s->optim->state[0] + x->stat;
    j.col = j.vector ? j.row : j.row + x->rows;
    j.beta2 = (float)(1 - pow((double)s->update, c->decay_rate));
    j.piece = gr_max_i64((j.rows + MOST_PIECES - 1) / MOST_PIECES, 16384 / j.cols + 1);
    j.pieces = (j.rows + j.piece - 1) / j.piece;
    double n = (double)(j.rows * j.cols);
    j.rate = s->rate;
    if (c->scale_parameter) {
        gr_optim_run(pool, parameter_sum, &j, j.pieces);
        j.rate *= fmax(c->scale_epsilon, sqrt(total(&j) / n));
    }
    if (!j.vector) gr_optim_run(pool, row_means, &j, j.pieces);
    gr_optim_run(pool, column_means, &j, (j.cols + COLUMNS - 1) / COLUMNS);
    j.mean = j.vector ? 1 : j.transposed ? mean_of(j.col, j.cols) : mean_of(j.row, j.rows);
    gr_optim_run(pool, update_sum, &j, j.pieces);
    j.limit = fmax(1, sqrt(total(&j) / n) / c->clip_threshold);
    gr_optim_run(pool, move, &j, j.pieces);
}
