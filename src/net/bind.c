#include "net/net.h"

const char *const gr_recompute_name[GR_RECOMPUTES] = {"none", "mlp", "layer"};

/* [rows, cols] elements of `size` bytes. A product that does not fit sets the arena's overflow flag. */
static void *take(gr_arena *arena, int64_t rows, int64_t cols, size_t size) {
    int64_t count;
    if (gr_mul_i64(rows, cols, &count)) return gr_arena_array(arena, count, size);
    arena->overflow = true;
    return NULL;
}

/* The lowest block that backward comes to, and whose forward pass it needs; `layers` if it comes to none. */
static int64_t lowest_block(const gr_net *n) {
    if (!n->config.training) return n->model->config.layers;
    return n->tuning ? n->tuning->lowest : 0;
}

/* Does backward come to any block? */
static bool descends(const gr_net *n) {
    return lowest_block(n) < n->model->config.layers;
}

/* So many elements behind a place; NULL while measuring. */
static void *behind(void *place, int64_t elements, size_t size) {
    return place ? (char *)place + (size_t)elements * size : NULL;
}

static bool has_norm(const gr_net *n, gr_norm_place place) {
    return gr_norm_role(&n->model->config, place) != GR_ROLES;
}

static void bind_branch(const gr_net *n, gr_saved *s, gr_arena *arena, int i) {
    s->branch[i] = take(arena, n->config.tokens, n->model->config.hidden, (size_t)n->compute.k->act_bytes);
    s->rstd_branch[i] = gr_arena_array(arena, n->config.tokens, sizeof(float));
}

/* What one layer keeps of its attention, and x_mid. */
static void bind_attention(const gr_net *n, gr_saved *s, gr_arena *arena) {
    const gr_model_config *c = &n->model->config;
    int64_t t = n->config.tokens, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    size_t act = (size_t)n->compute.k->act_bytes;
    if (c->arch->traits & GR_ARCH_FUSED) {
        s->q = take(arena, t, q + 2 * kv, act);
        s->k = behind(s->q, q, act);
        s->v = behind(s->q, q + kv, act);
    } else {
        s->q = take(arena, t, q, act);
        s->k = take(arena, t, kv, act);
        s->v = take(arena, t, kv, act);
    }
    if (c->qk_norm) {
        s->q_raw = take(arena, t, q, act);
        s->k_raw = take(arena, t, kv, act);
        s->q_rstd = take(arena, t, c->heads, sizeof(float));
        s->k_rstd = take(arena, t, c->kv_heads, sizeof(float));
    }
    if (has_norm(n, GR_BEHIND_ATTENTION)) bind_branch(n, s, arena, 0);
    s->attn = take(arena, t, q, act);
    s->lse = take(arena, t, c->heads, sizeof(float));
    s->x_mid = take(arena, t, c->hidden, act);
    s->rstd_in = gr_arena_array(arena, t, sizeof(float));
    s->rstd_mid = gr_arena_array(arena, t, sizeof(float));
}

/* Most low-rank columns of group g over all layers. */
static int64_t most_ranks(const gr_net *n, int g) {
    int64_t most = 0, a;
    for (int64_t l = 0; n->tuning && l < n->tuning->layers; l++)
        most = gr_max_i64(most, gr_tuning_group(n->tuning, l, g, &a));
    return most;
}

static void bind_low_rank(const gr_net *n, gr_saved *s, gr_arena *arena, int g) {
    int64_t ranks = n->model->config.experts && g >= GR_GATE_UP ? 0 : most_ranks(n, g);
    s->xa[g] = ranks ? take(arena, n->config.tokens, ranks, (size_t)n->compute.k->act_bytes) : NULL;
}

/* Rows of gate, up and what is made of them. */
static int64_t mlp_rows(const gr_net *n) {
    int64_t used = n->model->config.experts_used;
    return n->config.tokens * (used ? used : 1);
}

/* What a layer keeps but x: the first has everything, the others share with it what is computed again. */
static void bind_saved(const gr_net *n, gr_saved *s, gr_arena *arena, bool first) {
    const gr_model_config *c = &n->model->config;
    size_t act = (size_t)n->compute.k->act_bytes;
    if (has_norm(n, GR_BEHIND_MLP)) bind_branch(n, s, arena, 1); /* recompute ends before down */
    if (!first && n->config.recompute == GR_RECOMPUTE_LAYER) return;
    bind_attention(n, s, arena);
    for (int g = 0; g < GR_GATE_UP; g++) bind_low_rank(n, s, arena, g);
    if (!first && n->config.recompute == GR_RECOMPUTE_MLP) return;
    if (c->experts) {
        gr_routing_bind(&s->routing, arena, c->experts, c->experts_used, n->config.tokens);
        s->routing.xa = take(arena, mlp_rows(n), most_ranks(n, GR_GATE_UP), act);
    }
    if (c->arch->traits & GR_ARCH_FUSED) {
        s->gate = take(arena, n->config.tokens, 2 * c->mlp, act);
        s->up = behind(s->gate, c->mlp, act);
    } else {
        if (!(c->arch->traits & GR_ARCH_PLAIN_MLP)) s->gate = take(arena, mlp_rows(n), c->mlp, act);
        s->up = take(arena, mlp_rows(n), c->mlp, act);
    }
    for (int g = GR_GATE_UP; g < GR_GROUPS; g++) bind_low_rank(n, s, arena, g);
}

static void bind_all_saved(gr_net *n, gr_arena *lasting, gr_arena *saved) {
    int64_t layers = n->model->config.layers, lowest = lowest_block(n);
    size_t act = (size_t)n->compute.k->act_bytes;
    gr_saved first = {0};
    n->saved = gr_arena_array(lasting, layers + 1, sizeof *n->saved);
    void *ping[2] = {0}; /* where nothing is kept two inputs suffice */
    for (int64_t l = 0; l <= layers; l++) {
        gr_saved s = first;
        bool kept = lowest < layers && l >= lowest;
        if (l < layers && (l == 0 || kept)) bind_saved(n, &s, saved, l == 0);
        if (l == 0) first = s;
        if (l == layers)
            s.x = n->norm; /* read by the head alone, before backward needs a norm again */
        else if (kept || l < 2)
            s.x = take(saved, n->config.tokens, n->model->config.hidden, act);
        else
            s.x = ping[l % 2];
        if (l < 2) ping[l] = s.x;
        if (n->saved) n->saved[l] = s;
    }
}

/* Is there a trained tensor of that kind in a block's linears? */
static bool trains_kind(const gr_net *n, gr_param_kind kind) {
    for (size_t i = 0; n->tuning && i < n->tuning->param_count; i++)
        if (n->tuning->params[i].kind == kind && n->tuning->params[i].role < GR_LINEARS) return true;
    return false;
}

/* Most elements of a linear's input or output. */
static int64_t widest_linear(const gr_model_config *c) {
    int64_t most = 0, out, in;
    for (gr_role role = 0; role < GR_LINEARS; role++) {
        if (!gr_role_exists(role, c) || gr_role_expert(role)) continue;
        gr_role_shape(role, c, &out, &in);
        most = gr_max_i64(most, gr_max_i64(out, in));
    }
    return most;
}

/* Backward of what is not plain LoRA. */
static void bind_extras(gr_net *n, gr_arena *scratch) {
    const gr_model_config *c = &n->model->config;
    gr_linear_scratch *s = &n->linear_scratch;
    int64_t t = n->config.tokens, widest = widest_linear(c);
    size_t act = (size_t)n->compute.k->act_bytes;
    bool dora = trains_kind(n, GR_PARAM_MAGNITUDE);
    if (n->tuning && n->tuning->dropout > 0) s->dropped = take(scratch, t, widest, act);
    if (n->tuning && n->tuning->pool) s->pooled = take(scratch, t, widest / n->tuning->pool, act);
    if (dora || trains_kind(n, GR_PARAM_WEIGHT)) s->wide = take(scratch, t, widest, act);
    if (dora || trains_kind(n, GR_PARAM_BIAS)) s->sums = gr_arena_array(scratch, widest, sizeof(float));
}

/* The zeros of the largest pooled A. */
static void bind_zeros(gr_net *n, gr_arena *scratch) {
    n->zeros = NULL;
    n->zeros_bytes = 0;
    for (size_t i = 0; n->tuning && n->tuning->pool && i < n->tuning->param_count; i++) {
        const gr_param *p = &n->tuning->params[i];
        if (p->kind != GR_PARAM_A) continue;
        int64_t bytes = gr_linear_zeros(p->rows * GR_GROUP_MOST, p->cols * n->tuning->pool);
        n->zeros_bytes = gr_max_i64(n->zeros_bytes, bytes);
    }
    if (n->zeros_bytes) n->zeros = gr_arena_array(scratch, n->zeros_bytes, 1);
}

/* What backward needs all the way down. */
static void bind_backward(gr_net *n, gr_arena *scratch) {
    int64_t t = n->config.tokens, ranks = 0;
    size_t act = (size_t)n->compute.k->act_bytes;
    n->dres = take(scratch, t, n->model->config.hidden, sizeof(float));
    n->d_hidden = n->norm; /* a linear's dx may take the place of its x */
    for (int g = 0; g < GR_GROUPS; g++) {
        int64_t rows = n->model->config.experts && g >= GR_GATE_UP ? mlp_rows(n) : t;
        ranks = gr_max_i64(ranks, (rows + t - 1) / gr_max_i64(t, 1) * most_ranks(n, g));
    }
    n->linear_scratch.dxa = take(scratch, t, ranks, act);
    n->linear_scratch.dxa_t = take(scratch, t, ranks, act);
    n->linear_scratch.xa_t = take(scratch, t, ranks, act);
    bind_extras(n, scratch);
}

/* Buffers for what trains of the head itself. */
static void bind_head_training(gr_net *n, gr_arena *scratch) {
    gr_head *h = &n->head;
    size_t act = (size_t)n->compute.k->act_bytes;
    h->dx = take(scratch, h->tile, h->hidden, sizeof(float));
    if (h->w_at != GR_NOWHERE) h->dlogits_t = take(scratch, h->vocab, h->tile, act);
    if (!h->rank) return;
    if (n->tuning->dropout > 0) {
        h->dropped = take(scratch, h->tile, h->hidden, act);
        h->low = take(scratch, h->tile, h->hidden, act);
    }
    h->dxa = take(scratch, h->tile, h->rank, act);
    h->xa_t = take(scratch, h->rank, h->tile, act);
    h->dxa_t = take(scratch, h->rank, h->tile, act);
}

/* The part of scratch that is used in turns has three tenants: SwiGLU's output and its gradient, attention's
 * gradients, a tile of the head. None outlives its use; what does is bound elsewhere. */
static void bind_mlp(gr_net *n, gr_arena *scratch) {
    const gr_model_config *c = &n->model->config;
    size_t act = (size_t)n->compute.k->act_bytes;
    n->act_mlp = take(scratch, mlp_rows(n), c->mlp, act);
    n->d_mlp = n->act_mlp;
    n->experts = (gr_experts_scratch){.act = n->act_mlp};
    if (!c->experts) return;
    n->experts.wide = take(scratch, mlp_rows(n), c->hidden, act);
    n->experts.xa = take(scratch, mlp_rows(n), most_ranks(n, GR_GROUPS - 1), act);
    n->experts.low = &n->linear_scratch;
    if (!descends(n)) return;
    n->experts.scores = take(scratch, n->config.tokens, c->experts, act);
    n->experts.dw = gr_arena_array(scratch, mlp_rows(n), sizeof *n->experts.dw);
}

static void bind_attention_back(gr_net *n, gr_arena *scratch) {
    const gr_model_config *c = &n->model->config;
    int64_t t = n->config.tokens, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    if (!descends(n)) return;
    n->d_attn = take(scratch, t, q, (size_t)n->compute.k->act_bytes);
    n->dq_f32 = take(scratch, t, q, sizeof(float));
    n->dk_f32 = take(scratch, t, kv, sizeof(float));
    n->dv_f32 = take(scratch, t, kv, sizeof(float));
    n->delta = take(scratch, t, c->heads, sizeof(float));
}

static void bind_softmax(gr_net *n, gr_arena *scratch) {
    gr_head *h = &n->head;
    gr_softmax *s = &h->softmax;
    s->ldp = h->vocab;
    s->panels = (h->vocab + GR_NR - 1) / GR_NR;
    if (n->config.training) s->p = take(scratch, h->tile, h->vocab, (size_t)n->compute.k->act_bytes);
    s->top = take(scratch, h->tile, s->panels, sizeof(float));
    s->sum = take(scratch, h->tile, s->panels, sizeof(float));
    s->target_logit = gr_arena_array(scratch, h->tile, sizeof(float));
    s->leads = gr_arena_array(scratch, h->tile, sizeof(bool));
    h->lse = s->cap > 0 ? gr_arena_array(scratch, h->tile, sizeof(float)) : NULL;
    s->target = h->target = gr_arena_array(scratch, h->tile, sizeof(int32_t));
}

static void bind_head(gr_net *n, gr_arena *scratch) {
    const gr_model_config *c = &n->model->config;
    size_t act = (size_t)n->compute.k->act_bytes;
    gr_head *h = &n->head;
    *h = (gr_head){.hidden = c->hidden, .vocab = c->vocab, .layer = c->layers, .weight = 1};
    gr_net_use(n, n->tuning);
    h->tile = gr_net_tile(&n->config, c, n->tuning);
    bind_softmax(n, scratch);
    h->x_in = take(scratch, h->tile, c->hidden, act);
    h->x = take(scratch, h->tile, c->hidden, act);
    h->rstd = gr_arena_array(scratch, h->tile, sizeof(float));
    h->at = gr_arena_array(scratch, h->tile, sizeof *h->at);
    if (h->rank) h->xa = take(scratch, h->tile, h->rank, act);
    if (n->config.training) bind_head_training(n, scratch);
}

/* Each tenant begins where the others do; the largest makes the size. */
static void bind_in_turns(gr_net *n, gr_arena *scratch) {
    void (*const tenant[])(gr_net *, gr_arena *) = {bind_mlp, bind_attention_back, bind_head};
    size_t start = scratch->used, most = start;
    for (size_t i = 0; i < sizeof tenant / sizeof *tenant; i++) {
        scratch->used = start;
        tenant[i](n, scratch);
        if (scratch->used > most) most = scratch->used;
    }
    scratch->used = most;
}

static void bind_workers(gr_net *n, gr_arena *scratch) {
    const gr_model_config *c = &n->model->config;
    gr_attention a = {
        .heads = c->heads, .kv_heads = c->kv_heads, .d = c->head_dim, .longest = n->config.longest};
    size_t bytes = gr_matmul_scratch(n->compute.k);
    size_t attention = gr_attention_scratch(n->compute.k, &a, n->config.training);
    size_t row = sizeof(float) * (size_t)gr_max_i64(c->hidden, c->mlp); /* the embedding's f32 row */
    if (attention > bytes) bytes = attention;
    if (row > bytes) bytes = row;
    if (gr_net_qat_scratch(n) > bytes) bytes = gr_net_qat_scratch(n);
    if (gr_net_joins(c) && gr_join_scratch(c->hidden) > bytes) bytes = gr_join_scratch(c->hidden);
    n->compute.scratch_bytes = gr_round_up(bytes, 4096);
    n->compute.scratch = gr_arena_array(scratch, gr_pool_threads(n->compute.pool), n->compute.scratch_bytes);
}

void gr_net_bind(gr_net *n, gr_arena *kept, gr_arena *saved, gr_arena *scratch) {
    const gr_model_config *c = &n->model->config;
    int64_t half = c->rotary / 2;
    n->norm = take(scratch, n->config.tokens, c->hidden, (size_t)n->compute.k->act_bytes);
    bind_all_saved(n, kept, saved);
    for (int i = 0; i < gr_rope_count(c); i++) {
        n->cosine[i] = take(kept, n->config.longest, half, sizeof(float));
        n->sine[i] = take(kept, n->config.longest, half, sizeof(float));
    }
    n->targets = gr_arena_array(scratch, n->config.tokens, sizeof *n->targets);
    gr_net_bind_dora(n, kept);
    gr_net_bind_norms(n, kept);
    bind_zeros(n, kept);
    gr_net_bind_qat(n, kept);
    if (descends(n)) bind_backward(n, scratch);
    bind_in_turns(n, scratch);
    bind_workers(n, scratch);
}

void gr_net_prepare(gr_net *n) {
    int64_t half = n->model->config.rotary / 2;
    n->stale = true;
    if (n->zeros) memset(n->zeros, 0, (size_t)n->zeros_bytes);
    for (int r = 0; r < gr_rope_count(&n->model->config); r++)
        for (int64_t pos = 0; pos < n->config.longest; pos++)
            gr_model_angles(n->cosine[r] + pos * half, n->sine[r] + pos * half, n->model, r, pos);
}
