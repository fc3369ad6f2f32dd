/* train/fold.c - adapters whose tensor trains too, as one whole tensor: no file format has a place for both.
 */
#include "layers/merge.h"
#include "train/trainer.h"

static bool folds(const gr_tuned *x) {
    return x->rank > 0 && x->train_weight;
}

/* The same without the adapters that fold; without any adapter left it is full training. */
static graft_status plain_tuning(gr_tuning **out, const gr_tuning *from, const gr_model_config *c,
                                 graft_error *err) {
    gr_tuning *t;
    bool adapters = false;
    GR_TRY(gr_tuning_like(&t, from, c, err));
    for (gr_role role = 0; role < GR_ROLES; role++)
        for (int64_t l = 0; l < (gr_role_table[role].in_block ? c->layers : 1); l++) {
            gr_tuned x = *gr_tuning_of(from, role, l);
            if (folds(&x)) x.rank = 0, x.dora = false;
            adapters |= x.rank > 0;
            *gr_tuning_at(t, role, l) = x;
        }
    if (!adapters) {
        t->kind = GR_TUNE_FULL;
        t->full_last = t->layers;
        for (int64_t l = 0; l < t->layers; l++)
            for (gr_role role = 0; role < GR_ROLES; role++) t->block[l][role].saved = false;
    }
    graft_status st = gr_tuning_place(t, c, err);
    if (st != GRAFT_OK) {
        gr_tuning_free(t);
        return st;
    }
    *out = t;
    return GRAFT_OK;
}

typedef struct fold_job {
    float *w; /* [out, in] */
    gr_merge merge;
} fold_job;

static void fold_row(void *context, int task, int worker) {
    const fold_job *j = context;
    (void)worker;
    gr_merge_row(j->w + (int64_t)task * j->merge.in, &j->merge, task);
}

graft_status gr_trainer_fold(const gr_trainer *t, gr_tuning **tuning, float **params, graft_error *err) {
    const gr_tuning *from = t->rt.tuning;
    const gr_model_config *c = &t->rt.model->config;
    bool any = false;
    *tuning = NULL;
    *params = NULL;
    for (size_t i = 0; i < from->param_count; i++)
        any |= folds(gr_tuning_of(from, from->params[i].role, from->params[i].layer));
    if (!any) return GRAFT_OK;
    GR_TRY(plain_tuning(tuning, from, c, err));
    const gr_tuning *now = *tuning;
    *params = gr_calloc((size_t)now->parameters, sizeof **params);
    if (!*params) {
        gr_tuning_free(*tuning);
        *tuning = NULL;
        return gr_no_memory(err, (size_t)now->parameters * sizeof **params);
    }
    gr_trainer_carry(*params, now, t->params, from);
    for (size_t i = 0; i < now->param_count; i++) {
        const gr_param *p = &now->params[i];
        const gr_tuned *x = gr_tuning_of(from, p->role, p->layer);
        if (p->kind != GR_PARAM_WEIGHT || !folds(x)) continue;
        fold_job job = {*params + p->at,
                        {.a = t->params + x->a,
                         .b = t->params + x->b,
                         .magnitude = x->magnitude == GR_NOWHERE ? NULL : t->params + x->magnitude,
                         .rank = x->rank,
                         .in = p->cols,
                         .out = p->rows,
                         .pool = x->pool,
                         .scale = x->scale}};
        gr_pool_run(t->rt.pool, fold_row, &job, (int)p->rows);
    }
    return GRAFT_OK;
}
