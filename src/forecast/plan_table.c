#include "forecast/plan_table.h"
#include <stdio.h>

/* What the rows of one type have in common. */
typedef struct type_sum {
    int64_t trained, frozen, partial; /* tensors */
    int64_t least_rank, most_rank, dense, biases, trained_biases;
    bool dora, saved;
} type_sum;

typedef struct table {
    graft_plan *plan;
    const gr_model *m;
    const gr_tuning *tuning;
    type_sum sum[GRAFT_PLAN_TYPES];
    size_t used; /* of plan->storage */
} table;

enum { NAME_BYTES = 100, NOTE_BYTES = 200 };

/* Strings of a plan: room was made for all of them, so that they never move. */
static const char *keep(table *t, const char *text) {
    char *at = t->plan->storage + t->used;
    size_t n = strlen(text) + 1;
    memcpy(at, text, n);
    t->used += n;
    return at;
}

static void add(table *t, gr_role role, const char *name, const gr_mat *mat, int64_t n, bool trained,
                int64_t rank) {
    graft_plan_tensor *x = &t->plan->tensors_list[t->plan->tensors_count++];
    graft_plan_type *type = &t->plan->types[gr_guide_type(role)];
    type_sum *sum = &t->sum[gr_guide_type(role)];
    bool quantize = mat && mat->layout != GR_DENSE;
    *x = (graft_plan_tensor){.name = keep(t, name),
                             .shape = {mat ? mat->rows : n, mat ? mat->cols : 0},
                             .role = role < GR_LINEARS ? gr_role_table[role].type : type->type,
                             .quantize = quantize,
                             .bits = quantize ? mat->bits
                                     : mat    ? 8 * (int)gr_dtype_bytes(mat->dtype)
                                              : 16,
                             .group_size = quantize ? mat->group : 0,
                             .adapter = rank > 0,
                             .rank = rank,
                             .frozen = trained    ? "false"
                                       : rank > 0 ? "partial"
                                                  : "true",
                             .bytes =
                                 mat ? gr_mat_bytes(mat) : (uint64_t)n * 2}; /* as 16-bit files have them */
    type->tensors++;
    type->parameters += mat ? mat->rows * mat->cols : n;
    type->bytes += x->bytes;
    type->quantize |= quantize;
    type->lora |= rank > 0;
    sum->dense += mat && !quantize;
    *(trained ? &sum->trained : rank > 0 ? &sum->partial : &sum->frozen) += 1;
    if (rank == 0) return;
    sum->least_rank = sum->least_rank ? gr_min_i64(sum->least_rank, rank) : rank;
    sum->most_rank = gr_max_i64(sum->most_rank, rank);
}

/* A tensor of the model and its bias. */
static void add_role(table *t, gr_role role, int64_t layer) {
    const gr_model_config *c = &t->m->config;
    const gr_tuned *x = gr_tuning_of(t->tuning, role, layer);
    type_sum *sum = &t->sum[gr_guide_type(role)];
    char name[NAME_BYTES];
    int64_t out, in;
    if (!gr_role_exists(role, c)) return;
    gr_role_name(name, sizeof name, role, layer);
    gr_role_shape(role, c, &out, &in);
    add(t, role, name, gr_model_matrix(t->m, role, layer), out, x->train_weight, x->rank);
    sum->dora |= x->dora && x->rank;
    sum->saved |= x->saved;
    if (!gr_role_has_bias(role, c)) return;
    snprintf(name + strlen(name), sizeof name - strlen(name), ".bias");
    add(t, role, name, NULL, out, x->train_bias, 0);
    sum->biases++;
    sum->trained_biases += x->train_bias;
}

static void note(char notes[NOTE_BYTES], const char *text) {
    size_t n = strlen(notes);
    snprintf(notes + n, NOTE_BYTES - n, "%s%s", n ? "; " : "", text);
}

/* q, k and v are counted in q's row, gate and up in gate's. */
static void note_fused(char notes[NOTE_BYTES], gr_role role) {
    if (role == GR_Q_PROJ) note(notes, "qkv_proj: q, k and v in one");
    if (role == GR_K_PROJ || role == GR_V_PROJ) note(notes, "in qkv_proj");
    if (role == GR_GATE_PROJ) note(notes, "gate_up_proj: gate and up in one");
    if (role == GR_UP_PROJ) note(notes, "in gate_up_proj");
}

/* What the columns cannot say. */
static void note_type(table *t, int type) {
    const gr_model_config *c = &t->m->config;
    const type_sum *sum = &t->sum[type];
    gr_role role = gr_guide_types[type];
    char notes[NOTE_BYTES] = "", text[64];
    if (gr_role_table[role].notes[0]) note(notes, gr_role_table[role].notes);
    if (role == GR_LM_HEAD && c->tied) note(notes, "tied to embed_tokens");
    if (role == GR_EMBED_TOKENS && !c->tied) note(notes, "memory counts it whole: an upper bound");
    if (c->arch->traits & GR_ARCH_FUSED) note_fused(notes, role);
    if (role == GR_UP_PROJ && gr_role_exists(GR_C_FC, c)) note(notes, "its name is c_fc");
    if (role == GR_DOWN_PROJ && gr_role_exists(GR_C_PROJ, c)) note(notes, "its name is c_proj");
    if (role == GR_GATE_PROJ && c->experts) note(notes, "with the router, mlp.gate");
    if ((role == GR_GATE_PROJ || role == GR_UP_PROJ || role == GR_DOWN_PROJ) && c->experts)
        note(notes, "all experts of a block are one tensor");
    if (role == GR_NORM && c->qk_norm) note(notes, "with the norms of q and k");
    if (role == GR_NORM && gr_role_exists(GR_POST_FEEDFORWARD_LAYERNORM, c))
        note(notes, gr_role_exists(GR_PRE_FEEDFORWARD_LAYERNORM, c)
                        ? "with pre_feedforward_layernorm and post_feedforward_layernorm"
                        : "with post_feedforward_layernorm");
    if (sum->biases)
        note(notes, sum->trained_biases ? "with bias, 16-bit, trains" : "with bias, 16-bit and frozen");
    if (t->plan->types[type].quantize && sum->dense) {
        snprintf(text, sizeof text, "%lld of them stay 16-bit", (long long)sum->dense);
        note(notes, text);
    }
    if (sum->least_rank != sum->most_rank) {
        snprintf(text, sizeof text, "ranks %lld to %lld", (long long)sum->least_rank,
                 (long long)sum->most_rank);
        note(notes, text);
    }
    if (sum->dora) note(notes, "DoRA");
    if (sum->saved) note(notes, "trains whole");
    t->plan->types[type].notes = keep(t, notes);
}

static void finish_type(table *t, int type) {
    const type_sum *sum = &t->sum[type];
    t->plan->types[type].frozen = sum->partial || (sum->trained && sum->frozen) ? "partial"
                                  : sum->trained                                ? "false"
                                                                                : "true";
    note_type(t, type);
}

graft_status gr_plan_table(graft_plan *plan, const gr_model *m, const gr_tuning *tuning, graft_error *err) {
    size_t most = (size_t)m->config.layers * 2 * GR_ROLES + 8,
           bytes = most * NAME_BYTES + (size_t)GRAFT_PLAN_TYPES * NOTE_BYTES;
    table t = {.plan = plan, .m = m, .tuning = tuning};
    plan->storage = gr_calloc(bytes, 1);
    plan->tensors_list = gr_calloc(most, sizeof *plan->tensors_list);
    if (!plan->storage || !plan->tensors_list) return gr_no_memory(err, bytes);
    for (int i = 0; i < GR_GUIDE_TYPES; i++) plan->types[i].type = gr_role_table[gr_guide_types[i]].type;
    add_role(&t, GR_EMBED_TOKENS, 0);
    for (int64_t l = 0; l < m->config.layers; l++)
        for (gr_role role = 0; role < GR_ROLES; role++)
            if (gr_role_table[role].in_block) add_role(&t, role, l);
    add_role(&t, GR_NORM, 0);
    add_role(&t, GR_LM_HEAD, 0);
    for (int i = 0; i < GR_GUIDE_TYPES; i++) finish_type(&t, i);
    return GRAFT_OK;
}
