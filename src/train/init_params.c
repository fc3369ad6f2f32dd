/* train/init_params.c - the values that a run begins with: a fresh adapter changes nothing, and what takes
 * the place of a tensor of the base is that tensor. */
#include "train/trainer.h"
#include <math.h>

/* A ~ U(-1/sqrt(in), 1/sqrt(in)). One stream per tensor: the selection does not change the others. */
static void start_a(gr_trainer *t, const gr_param *p) {
    gr_rng rng;
    const int64_t linears = 7; /* of a block, by their numbers */
    bool linear = p->role < GR_LINEARS;
    int64_t number = gr_role_table[p->role].number;
    int64_t stream = (linear ? p->layer : t->rt.model->config.layers) * linears + number;
    /* a pooled one too: columns that hold one number sum to a variance that is LoRA's */
    double bound = 1 / sqrt((double)(p->cols * gr_max_i64(t->rt.tuning->pool, 1)));
    gr_rng_seed(&rng, t->o->seed, (uint64_t)stream + 1);
    for (int64_t i = 0; i < p->rows * p->cols; i++)
        t->params[p->at + i] = (float)((2 * gr_rng_uniform(&rng) - 1) * bound);
}

static void copy_weight(gr_trainer *t, const gr_param *p, float *to) {
    const gr_model *m = t->rt.model;
    if (!p->cols)
        memcpy(to, gr_model_norm(m, p->role, p->layer), (size_t)p->rows * sizeof *to);
    else
        for (int64_t r = 0; r < p->rows; r++)
            gr_mat_row(to + r * p->cols, gr_model_matrix(m, p->role, p->layer), r, 0, p->cols);
}

/* The magnitude starts as the length of the base's rows: with B = 0 DoRA's gain is 1. */
static void start_magnitude(gr_trainer *t, const gr_param *p, float *to) {
    gr_compute c = {.k = &t->rt.kernels, .pool = t->rt.pool};
    gr_row_squares(&c, to, gr_model_matrix(t->rt.model, p->role, p->layer));
    for (int64_t i = 0; i < p->rows; i++) to[i] = sqrtf(to[i]);
}

void gr_trainer_init_params(gr_trainer *t) {
    const gr_tuning *tuning = t->rt.tuning;
    memset(t->params, 0, (size_t)tuning->parameters * sizeof *t->params);
    for (size_t i = 0; i < tuning->param_count; i++) {
        const gr_param *p = &tuning->params[i];
        float *to = t->params + p->at;
        switch (p->kind) {
        case GR_PARAM_A: start_a(t, p); break;
        case GR_PARAM_B: break;
        case GR_PARAM_MAGNITUDE: start_magnitude(t, p, to); break;
        case GR_PARAM_WEIGHT: copy_weight(t, p, to); break;
        case GR_PARAM_BIAS:
            memcpy(to, gr_model_bias(t->rt.model, p->role, p->layer), (size_t)p->rows * sizeof *to);
            break;
        }
    }
}
