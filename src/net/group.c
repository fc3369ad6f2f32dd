/* net/group.c - a block's linears as the layers see them: base or trained values, adapters, DoRA's gains. */
#include "net/net.h"

/* Where the numbers of DoRA's linears lie; nothing where no linear has DoRA. */
void gr_net_bind_dora(gr_net *n, gr_arena *arena) {
    const gr_tuning *t = n->tuning;
    int64_t rank = 0, in = 0, out = 0;
    n->dora = NULL;
    n->dora_scratch = (gr_dora_scratch){0};
    for (size_t i = 0; t && i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        if (p->kind != GR_PARAM_MAGNITUDE || p->role >= GR_LINEARS) continue;
        const gr_mat *w = &n->model->layer[p->layer].linear[p->role];
        rank = gr_max_i64(rank, t->block[p->layer][p->role].rank);
        in = gr_max_i64(in, w->cols);
        out = gr_max_i64(out, w->rows);
    }
    if (!rank) return;
    n->dora = gr_arena_array(arena, t->layers, sizeof *n->dora);
    for (int64_t l = 0; l < t->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            gr_dora d = {0};
            int64_t rows = n->model->layer[l].linear[role].rows;
            if (t->block[l][role].magnitude != GR_NOWHERE) {
                d.squares = gr_arena_array(arena, rows, sizeof(float));
                d.inv_norm = gr_arena_array(arena, rows, sizeof(float));
                d.gain = gr_arena_array(arena, rows, sizeof(float));
            }
            if (n->dora) n->dora[l][role] = d;
        }
    /* a matrix of a model has fewer than 2^62 elements, and ranks are checked against that by gr_tuning_place
     */
    n->dora_scratch.a = gr_arena_array(arena, rank * in, (size_t)n->compute.k->act_bytes);
    n->dora_scratch.aa = gr_arena_array(arena, rank * rank, (size_t)n->compute.k->act_bytes);
    n->dora_scratch.cross = gr_arena_array(arena, rank * out, sizeof(float));
}

static const float *trained(const gr_net *n, int64_t at) {
    return at == GR_NOWHERE ? NULL : n->params + at;
}

/* The linear with what trains of it. */
static gr_linear linear_of(const gr_net *n, int64_t l, gr_role role) {
    const gr_layer *layer = &n->model->layer[l];
    gr_linear x = {.w = layer->linear[role],
                   .bias = layer->bias[role],
                   .b_at = GR_NOWHERE,
                   .magnitude_at = GR_NOWHERE,
                   .bias_at = GR_NOWHERE,
                   .weight_at = GR_NOWHERE};
    if (!n->tuning || !n->params) return x;
    const gr_tuned *t = &n->tuning->block[l][role];
    x.rank = t->rank;
    x.scale = t->scale;
    x.b = trained(n, t->b);
    x.b_at = t->b;
    x.magnitude_at = t->magnitude;
    x.bias_at = t->bias;
    x.weight_at = t->weight;
    if (t->bias != GR_NOWHERE) x.bias = trained(n, t->bias);
    if (t->weight != GR_NOWHERE) x.w = gr_mat_f32(trained(n, t->weight), x.w.rows, x.w.cols, 1);
    if (n->dora) x.dora = n->dora[l][role];
    x.merged = n->sums && n->sums[l][role].rows;
    if (x.merged) x.w = n->sums[l][role];
    return x;
}

gr_linear_group gr_net_group(const gr_net *n, int64_t l, int g) {
    const gr_group_row *row = &gr_group_table[g];
    gr_linear_group group = {.layer = l, .number = g, .a_at = GR_NOWHERE};
    for (int i = 0; i < row->count; i++) {
        if (!gr_role_exists(row->role[i], &n->model->config) || gr_role_expert(row->role[i])) continue;
        gr_linear *x = &group.linear[group.count++];
        *x = linear_of(n, l, row->role[i]);
        group.merged |= x->merged;
    }
    group.in = group.linear[0].w.cols;
    if (!n->tuning || !n->params || !group.count) return group;
    group.ranks = gr_tuning_group(n->tuning, l, g, &group.a_at);
    group.a = trained(n, group.a_at);
    group.pool = n->tuning->pool;
    group.zeros = n->zeros;
    return group;
}

/* The experts of a role with their adapters. */
static gr_expert_linear experts_of(const gr_net *n, int64_t l, gr_role role) {
    gr_expert_linear x = {.w = gr_model_stack(n->model, role, l), .a_at = GR_NOWHERE, .b_at = GR_NOWHERE};
    if (!n->tuning || !n->params) return x;
    const gr_tuned *t = &n->tuning->block[l][role];
    x.rank = t->rank;
    x.scale = t->scale;
    x.a = trained(n, t->a);
    x.b = trained(n, t->b);
    x.a_at = t->a;
    x.b_at = t->b;
    return x;
}

gr_experts gr_net_experts(const gr_net *n, int64_t l) {
    const gr_model_config *c = &n->model->config;
    return (gr_experts){.hidden = c->hidden,
                        .mlp = c->mlp,
                        .used = c->experts_used,
                        .normed = c->experts_normed,
                        .activation = c->activation,
                        .router = n->model->layer[l].linear[GR_ROUTER],
                        .gate = experts_of(n, l, GR_EXPERT_GATE),
                        .up = experts_of(n, l, GR_EXPERT_UP),
                        .down = experts_of(n, l, GR_EXPERT_DOWN)};
}

void gr_net_refresh(gr_net *n) {
    if (!n->stale || !n->tuning || !n->params) return; /* gr_net_use may have put the tuning aside */
    gr_net_refresh_norms(n);
    gr_net_refresh_qat(n);
    for (int64_t l = 0; n->dora && l < n->tuning->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            const gr_tuned *t = &n->tuning->block[l][role];
            const gr_dora *d = &n->dora[l][role];
            if (!d->gain) continue;
            gr_linear x = linear_of(n, l, role);
            if (!n->squared || t->weight != GR_NOWHERE) gr_row_squares(&n->compute, d->squares, &x.w);
            gr_dora_refresh(&n->compute, d, &x.w, trained(n, t->a), x.b, trained(n, t->magnitude), x.rank,
                            x.scale, &n->dora_scratch);
        }
    n->squared = true;
    n->stale = false;
}
