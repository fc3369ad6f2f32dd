#include "plan/tuning.h"
#include <stdio.h>

const gr_group_row gr_group_table[GR_GROUPS] = {
    {4, {GR_Q_PROJ, GR_K_PROJ, GR_V_PROJ, GR_QKV_PROJ}},
    {1, {GR_O_PROJ}},
    {6, {GR_GATE_PROJ, GR_UP_PROJ, GR_GATE_UP_PROJ, GR_C_FC, GR_EXPERT_GATE, GR_EXPERT_UP}},
    {3, {GR_DOWN_PROJ, GR_C_PROJ, GR_EXPERT_DOWN}},
};

graft_status gr_tuning_new(gr_tuning **out, const gr_model_config *c, graft_error *err) {
    gr_tuning *t = gr_calloc(1, sizeof *t);
    *out = NULL;
    if (!t || !(t->block = gr_calloc((size_t)c->layers, sizeof *t->block))) {
        gr_tuning_free(t);
        return gr_no_memory(err, sizeof *t + (size_t)c->layers * sizeof *t->block);
    }
    t->layers = c->layers;
    *out = t;
    return GRAFT_OK;
}

graft_status gr_tuning_like(gr_tuning **out, const gr_tuning *from, const gr_model_config *c,
                            graft_error *err) {
    GR_TRY(gr_tuning_new(out, c, err));
    gr_tuning *t = *out;
    t->kind = from->kind;
    t->scale = from->scale;
    t->alpha = from->alpha;
    t->use_rslora = from->use_rslora;
    t->pool = from->pool;
    t->qat = from->qat;
    t->bias = from->bias;
    t->dropout = from->dropout;
    return GRAFT_OK;
}

void gr_tuning_free(gr_tuning *t) {
    if (!t) return;
    free(t->block);
    free(t->params);
    free(t);
}

gr_tuned *gr_tuning_at(gr_tuning *t, gr_role role, int64_t layer) {
    return gr_role_table[role].in_block ? &t->block[layer][role] : &t->outside[role];
}

const gr_tuned *gr_tuning_of(const gr_tuning *t, gr_role role, int64_t layer) {
    return gr_role_table[role].in_block ? &t->block[layer][role] : &t->outside[role];
}

int64_t gr_tuning_group(const gr_tuning *t, int64_t layer, int group, int64_t *a) {
    const gr_group_row *row = &gr_group_table[group];
    int64_t sum = 0;
    *a = GR_NOWHERE;
    for (int i = 0; i < row->count; i++) {
        const gr_tuned *x = &t->block[layer][row->role[i]];
        if (x->rank && *a == GR_NOWHERE) *a = x->a;
        sum += x->rank;
    }
    return sum;
}

/* The layout in progress: first pass counts, the second writes the list. */
typedef struct layout {
    gr_tuning *t;
    const gr_model_config *config;
    gr_param *params; /* NULL while counting */
    size_t count;
    int64_t at;
    bool overflow;
} layout;

static int64_t place(layout *y, gr_param_kind kind, gr_role role, int64_t layer, int64_t rows, int64_t cols) {
    gr_param p = {
        .kind = kind, .role = role, .layer = layer, .at = y->at, .rows = rows, .cols = cols, .stack = 1};
    if (gr_role_expert(role)) p.stack = y->config->experts;
    int64_t floats = rows;
    if (cols && !gr_mul_i64(rows, cols, &floats)) y->overflow = true;
    if (floats > INT64_MAX / 64 - y->at) y->overflow = true, floats = 0; /* room for every vector of state */
    if (y->params) y->params[y->count] = p;
    y->count++;
    y->at += floats;
    return p.at;
}

static void place_pair(layout *y, gr_param_kind kind, gr_role role, int64_t layer) {
    gr_tuned *x = gr_tuning_at(y->t, role, layer);
    int64_t out, in;
    gr_role_shape(role, y->config, &out, &in);
    const int64_t stack = gr_role_expert(role) ? gr_max_i64(1, y->config->experts) : 1;
    int64_t *at = kind == GR_PARAM_A ? &x->a : &x->b;
    if (x->pool) in /= x->pool;
    out /= stack;
    *at = x->rank ? place(y, kind, role, layer, x->rank * stack, kind == GR_PARAM_A ? in : out) : GR_NOWHERE;
}

/* Everything of a tensor but A and B. */
static void place_rest(layout *y, gr_role role, int64_t layer) {
    gr_tuned *x = gr_tuning_at(y->t, role, layer);
    int64_t out, in;
    gr_role_shape(role, y->config, &out, &in);
    bool bias = x->train_bias && gr_role_has_bias(role, y->config);
    x->magnitude = x->dora && x->rank ? place(y, GR_PARAM_MAGNITUDE, role, layer, out, 0) : GR_NOWHERE;
    x->bias = bias ? place(y, GR_PARAM_BIAS, role, layer, out, 0) : GR_NOWHERE;
    x->weight = x->train_weight ? place(y, GR_PARAM_WEIGHT, role, layer, out, in) : GR_NOWHERE;
}

/* Per block and group: the A matrices one after another, then the B matrices; then what else trains of the
 * block; after all blocks the tensors outside them. */
static void lay_out(layout *y) {
    y->count = 0;
    y->at = 0;
    for (int64_t l = 0; l < y->config->layers; l++) {
        for (int g = 0; g < GR_GROUPS; g++)
            for (int pass = 0; pass < 2; pass++)
                for (int i = 0; i < gr_group_table[g].count; i++)
                    place_pair(y, pass ? GR_PARAM_B : GR_PARAM_A, gr_group_table[g].role[i], l);
        for (gr_role role = 0; role < GR_ROLES; role++)
            if (gr_role_table[role].in_block) place_rest(y, role, l);
    }
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (gr_role_table[role].in_block) continue;
        place_pair(y, GR_PARAM_A, role, 0);
        place_pair(y, GR_PARAM_B, role, 0);
        place_rest(y, role, 0);
    }
}

graft_status gr_tuning_place(gr_tuning *t, const gr_model_config *c, graft_error *err) {
    layout y = {.t = t, .config = c};
    lay_out(&y);
    if (y.overflow) return gr_fail(err, GRAFT_RANGE, "more trainable parameters than memory can address");
    free(t->params);
    t->params = y.params = gr_calloc(y.count ? y.count : 1, sizeof *y.params);
    if (!t->params) return gr_no_memory(err, y.count * sizeof *y.params);
    lay_out(&y);
    t->param_count = y.count;
    t->parameters = y.at;
    t->adapted = 0;
    t->lowest = t->layers;
    t->embedding_trains = false;
    t->rank = 0;
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        if (p->kind == GR_PARAM_A) t->adapted++, t->rank = gr_max_i64(t->rank, p->rows / p->stack);
        if (gr_role_table[p->role].in_block) t->lowest = gr_min_i64(t->lowest, p->layer);
        if (p->role == GR_EMBED_TOKENS) t->embedding_trains = true;
    }
    if (t->embedding_trains) t->lowest = 0;
    return GRAFT_OK;
}

bool gr_param_transposed(const gr_param *p) {
    if (p->role == GR_EMBED_TOKENS) return p->kind == GR_PARAM_B; /* its lora_a is [vocab, rank] */
    if (gr_role_expert(p->role)) return p->kind == GR_PARAM_B; /* and experts' have the usual orientation */
    return p->kind == GR_PARAM_A;
}

void gr_param_name(char *name, size_t size, const gr_param *p) {
    static const char *const suffix[] = {"lora_A", "lora_B", "magnitude", "bias", "weight"};
    char path[200];
    gr_role_name(path, sizeof path, p->role, p->layer);
    snprintf(name, size, "%s.%s", path, suffix[p->kind]);
}
