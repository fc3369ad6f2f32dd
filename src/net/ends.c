/* net/ends.c - embedding, head and norms as they train: the base's tensors or their places in the parameters.
 */
#include "net/net.h"

/* What trains of a tensor; all zero, places nowhere, without a tuning. */
static gr_tuned tuned_of(const gr_net *n, gr_role role, int64_t layer) {
    if (n->tuning) return *gr_tuning_of(n->tuning, role, layer);
    return (gr_tuned){
        .a = GR_NOWHERE, .b = GR_NOWHERE, .magnitude = GR_NOWHERE, .bias = GR_NOWHERE, .weight = GR_NOWHERE};
}

/* An element of the parameters; NULL while measuring. */
static const float *param_at(const gr_net *n, int64_t at) {
    return n->params && at != GR_NOWHERE ? n->params + at : NULL;
}

/* The base's table, or the one that trains, described in *trained. */
static const gr_mat *table_of(const gr_net *n, const gr_mat *base, const gr_tuned *x, gr_mat *trained) {
    const float *data = param_at(n, x->weight);
    if (!data) return base;
    *trained = gr_mat_f32(data, base->rows, base->cols, 1);
    return trained;
}

bool gr_net_one_row(const gr_model_config *c, const gr_tuning *t) {
    return c->tied && t && t->embedding_trains;
}

bool gr_net_fixed_tile(const gr_model_config *c, const gr_tuning *t) {
    for (size_t i = 0; t && i < t->param_count; i++) {
        gr_role role = t->params[i].role;
        if (role == GR_LM_HEAD || role == GR_NORM || (c->tied && role == GR_EMBED_TOKENS)) return true;
    }
    return false;
}

int64_t gr_net_tile(const gr_net_config *x, const gr_model_config *c, const gr_tuning *t) {
    int64_t tile = x->head_tile ? x->head_tile : gr_head_tile(c->vocab),
            targets = x->targets ? x->targets : gr_max_i64(x->tokens, 1);
    return gr_net_fixed_tile(c, t) ? gr_min_i64(tile, targets) : gr_head_even_tile(tile, targets);
}

void gr_net_use(gr_net *n, const gr_tuning *tuning) {
    const gr_model *m = n->model;
    gr_head *h = &n->head;
    n->tuning = tuning;
    gr_tuned in = tuned_of(n, GR_EMBED_TOKENS, 0), out = m->config.tied ? in : tuned_of(n, GR_LM_HEAD, 0);
    n->embedding = (gr_embedding){.table = table_of(n, &m->embed, &in, &n->trained_embed),
                                  .multiplier = (float)m->config.embedding_scale,
                                  .rank = in.rank,
                                  .scale = in.scale,
                                  .a = param_at(n, in.a),
                                  .b = param_at(n, in.b),
                                  .a_at = in.a,
                                  .b_at = in.b,
                                  .w_at = in.weight,
                                  .shared = gr_net_one_row(&m->config, tuning)};
    h->w = table_of(n, &m->head, &out, &n->trained_head);
    h->norm = gr_net_norm(n, GR_NORM, 0);
    h->norm_factor = gr_norm_factor(&m->config, GR_NORM);
    h->softmax.cap = (float)m->config.logit_cap;
    h->rank = out.rank;
    h->scale = out.scale;
    h->a = param_at(n, out.a);
    h->b = param_at(n, out.b);
    h->a_at = out.a;
    h->b_at = out.b;
    h->w_at = out.weight;
    h->norm_at = tuned_of(n, GR_NORM, 0).weight;
    h->norm_bias_at = tuned_of(n, GR_NORM, 0).bias;
    h->shared = n->embedding.shared;
}

/* Where what a trained norm multiplies with is kept, if that is not its weight. */
static float *used_place(const gr_net *n, gr_role role, int64_t layer) {
    return n->used ? n->used[role == GR_NORM ? n->model->config.layers : layer][role] : NULL;
}

gr_norm gr_net_norm(const gr_net *n, gr_role role, int64_t layer) {
    gr_norm norm = {.eps = (float)n->model->config.norm_eps};
    if (role == GR_ROLES) return norm;
    const gr_tuned x = tuned_of(n, role, layer);
    const float *trained = param_at(n, x.weight), *used = used_place(n, role, layer);
    const float *bias = param_at(n, x.bias);
    norm.bias = bias ? bias : gr_model_bias(n->model, role, layer);
    norm.weight = !trained ? gr_model_used_norm(n->model, role, layer) : used ? used : trained;
    return norm;
}

gr_norm gr_net_norm_at(const gr_net *n, gr_norm_place place, int64_t layer) {
    return gr_net_norm(n, gr_norm_role(&n->model->config, place), layer);
}

/* Calls visit for every norm that trains. */
static void each_trained_norm(gr_net *n, void (*visit)(gr_net *n, const gr_param *p, void *context),
                              void *context) {
    for (size_t i = 0; n->tuning && i < n->tuning->param_count; i++) {
        const gr_param *p = &n->tuning->params[i];
        if (p->kind == GR_PARAM_WEIGHT && !p->cols) visit(n, p, context);
    }
}

static void bind_used(gr_net *n, const gr_param *p, void *arena) {
    int64_t layer = p->role == GR_NORM ? n->model->config.layers : p->layer;
    float *place = gr_arena_array(arena, p->rows, sizeof *place);
    if (n->used) n->used[layer][p->role] = place;
}

void gr_net_bind_norms(gr_net *n, gr_arena *arena) {
    const gr_model_config *c = &n->model->config;
    n->used = NULL;
    if (!gr_norm_differs(c)) return;
    n->used = gr_arena_array(arena, c->layers + 1, sizeof *n->used);
    if (n->used) memset(n->used, 0, (size_t)(c->layers + 1) * sizeof *n->used);
    each_trained_norm(n, bind_used, arena);
}

static void refresh_used(gr_net *n, const gr_param *p, void *context) {
    (void)context;
    gr_norm_used(used_place(n, p->role, p->layer), n->params + p->at, &n->model->config, p->role);
}

void gr_net_refresh_norms(gr_net *n) {
    if (n->used) each_trained_norm(n, refresh_used, NULL);
}
