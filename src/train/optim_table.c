#include "train/optim_table.h"
#include "base/memory.h"
#include "kernels/kernels.h"
#include <math.h>

/* source: arXiv 1711.05101; torch.optim.AdamW (decay first), mlx.optimizers.AdamW (the same with decay
 * rate*wd) */
static void adam_elements(const gr_optim_step *s, int64_t i0, int64_t i1, bool decoupled) {
    const gr_optim_config *c = s->config;
    double t = (double)s->update;
    double c1 = c->bias_correction ? 1 - pow(c->beta1, t) : 1,
           c2 = c->bias_correction ? 1 - pow(c->beta2, t) : 1;
    float b1 = (float)c->beta1, b2 = (float)c->beta2, one_b1 = (float)(1 - c->beta1),
          one_b2 = (float)(1 - c->beta2);
    float keep = decoupled ? (float)(1 - s->rate * c->weight_decay) : 1,
          coupled = decoupled ? 0 : (float)c->weight_decay;
    float step = (float)(s->rate / c1), root = (float)(1 / sqrt(c2)), eps = (float)c->epsilon,
          clip = (float)s->clip;
    float *restrict p = s->params, *restrict m = s->state[0], *restrict v = s->state[1];
    const float *restrict grad = s->grad;
    for (int64_t i = i0; i < i1; i++) {
        float g = grad[i] * clip + coupled * p[i];
        m[i] = b1 * m[i] + one_b1 * g;
        v[i] = b2 * v[i] + one_b2 * g * g;
        p[i] = p[i] * keep - step * m[i] / (sqrtf(v[i]) * root + eps);
    }
}

static void adamw_step(const gr_optim_step *s, int64_t i0, int64_t i1) {
    adam_elements(s, i0, i1, true);
}

static void adam_step(const gr_optim_step *s, int64_t i0, int64_t i1) {
    adam_elements(s, i0, i1, false);
}

/* source: torch.optim.SGD (the first update's momentum is the gradient itself), weight decay added to the
 * gradient */
static void sgd_step(const gr_optim_step *s, int64_t i0, int64_t i1) {
    const gr_optim_config *c = s->config;
    float rate = (float)s->rate, momentum = (float)c->momentum,
          fresh = s->update == 1 ? 1 : (float)(1 - c->dampening);
    float decay = (float)c->weight_decay, clip = (float)s->clip;
    float *restrict p = s->params, *restrict v = s->state[0];
    const float *restrict grad = s->grad;
    for (int64_t i = i0; i < i1; i++) {
        float g = grad[i] * clip + decay * p[i];
        v[i] = momentum * v[i] + fresh * g;
        p[i] -= rate * (c->nesterov ? g + momentum * v[i] : v[i]);
    }
}

const gr_optim_row gr_optim_table[] = {
    {"adamw", 2, adamw_step, "torch.optim.AdamW"},
    {"adam", 2, adam_step, "torch.optim.Adam"},
    {"sgd", 1, sgd_step, "torch.optim.SGD"},
    {0},
};

const gr_optim_row *gr_optim_find(const char *name) {
    for (const gr_optim_row *row = gr_optim_table; row->name; row++)
        if (strcmp(row->name, name) == 0) return row;
    return NULL;
}

static double or_default(double value, double fallback) {
    return isnan(value) ? fallback : value;
}

gr_optim_config gr_optim_config_of(const graft_options *o) {
    return (gr_optim_config){
        .beta1 = or_default(o->beta1, 0.9),
        .beta2 = or_default(o->beta2, 0.999),
        .epsilon = or_default(o->epsilon, 1e-8),
        .weight_decay = o->weight_decay,
        .momentum = or_default(o->momentum, 0),
        .dampening = or_default(o->dampening, 0),
        .nesterov = o->nesterov,
        .bias_correction = o->bias_correction,
    };
}

#define PIECE                                                                                                \
    16384 /* elements per task; also the unit of the norm's sum, so that it does not depend on threads */

typedef struct collect_job {
    float *grad;
    float *const *slots;
    double *sums;
    uint64_t rows;
    float factor;
    int64_t n;
} collect_job;

static void collect_piece(void *context, int task, int worker) {
    collect_job *j = context;
    int64_t i0 = (int64_t)task * PIECE, i1 = gr_min_i64(i0 + PIECE, j->n);
    bool first = true;
    double sum = 0;
    (void)worker;
    for (int level = 0; j->rows >> level; level++) {
        if (!(j->rows >> level & 1)) continue;
        const float *slot = j->slots[level];
        for (int64_t i = i0; i < i1; i++) j->grad[i] = first ? slot[i] : slot[i] + j->grad[i];
        first = false;
    }
    for (int64_t i = i0; i < i1; i++) {
        j->grad[i] = first ? 0 : j->grad[i] * j->factor;
        sum += (double)j->grad[i] * (double)j->grad[i];
    }
    j->sums[task % 256] = sum;
}

double gr_optim_collect(gr_pool *pool, float *grad, float *const *slots, uint64_t rows, int64_t targets,
                        int64_t n) {
    double sums[256], total = 0;
    float factor = (float)(1.0 / (double)gr_max_i64(targets, 1));
    for (int64_t at = 0; at < n; at += 256 * (int64_t)PIECE) { /* 256 pieces at a time: no allocation */
        float *shifted[GR_TREE_LEVELS];
        for (int level = 0; level < GR_TREE_LEVELS; level++)
            shifted[level] = rows >> level ? slots[level] + at : NULL;
        int64_t part = gr_min_i64(n - at, 256 * (int64_t)PIECE);
        int pieces = (int)((part + PIECE - 1) / PIECE);
        collect_job j = {grad + at, shifted, sums, rows, factor, part};
        gr_pool_run(pool, collect_piece, &j, pieces);
        for (int i = 0; i < pieces; i++) total += sums[i];
    }
    return sqrt(total);
}

typedef struct apply_job {
    const gr_optim_row *row;
    const gr_optim_step *step;
    int64_t n;
} apply_job;

static void apply_piece(void *context, int task, int worker) {
    const apply_job *j = context;
    (void)worker;
    j->row->step(j->step, (int64_t)task * PIECE, gr_min_i64((int64_t)(task + 1) * PIECE, j->n));
}

void gr_optim_apply(gr_pool *pool, const gr_optim_row *row, const gr_optim_step *step, int64_t n) {
    apply_job j = {row, step, n};
    gr_pool_run(pool, apply_piece, &j, (int)((n + PIECE - 1) / PIECE));
}
