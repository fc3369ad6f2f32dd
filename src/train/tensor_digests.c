#include "train/tensor_digests.h"
#include "base/digest.h"
#include "weights/affine.h"
#include <stdio.h>

/* A listing in progress: first pass counts, the second writes. */
typedef struct listing {
    const gr_model *model;
    const gr_tuning *tuning;
    const float *params;
    gr_tensor_digests_row *rows; /* NULL while counting */
    size_t count;
} listing;

static gr_tensor_digests_row *next_row(listing *l) {
    return l->rows ? &l->rows[l->count++] : (l->count++, NULL);
}

static void name_row(gr_tensor_digests_row *row, gr_role role, int64_t layer, gr_param_kind kind) {
    gr_param p = {.kind = kind, .role = role, .layer = layer};
    gr_param_name(row->name, sizeof row->name, &p);
    row->kind = kind;
}

/* The bytes of a matrix of the base. */
static void hold_matrix(gr_tensor_digests_row *row, const gr_mat *w) {
    bool dense = w->layout == GR_DENSE;
    size_t all = (size_t)gr_mat_bytes(w),
           codes = dense ? all : (size_t)(w->rows * gr_affine_row_bytes(w->cols, w->bits));
    row->bits = dense ? 8 * (int)gr_dtype_bytes(w->dtype) : w->bits;
    row->data[0] = w->data;
    row->bytes[0] = codes;
    row->data[1] = w->scales;
    row->data[2] = w->biases;
    if (w->scales) row->bytes[1] = w->biases ? (all - codes) / 2 : all - codes;
    if (w->biases) row->bytes[2] = (all - codes) / 2;
}

/* .. and of experts that each lie alone: the first's size is that of all. */
static void hold_stack(gr_tensor_digests_row *row, const gr_stack *experts) {
    const gr_mat first = gr_stack_mat(experts, 0);
    hold_matrix(row, &first);
    row->places = experts->at;
    row->place_count = experts->count;
}

static void hold_floats(gr_tensor_digests_row *row, const float *data, int64_t count) {
    row->bits = 32;
    row->data[0] = data;
    row->bytes[0] = (size_t)count * sizeof *data;
}

/* A weight or bias: the base's, or the one that trains in its place. */
static void list_own(listing *l, gr_role role, int64_t layer, gr_param_kind kind, int64_t at) {
    const gr_mat *w = gr_model_matrix(l->model, role, layer);
    const gr_stack experts = gr_model_stack(l->model, role, layer);
    gr_tensor_digests_row *row = next_row(l);
    int64_t out, in;
    if (!row) return;
    name_row(row, role, layer, kind);
    gr_role_shape(role, &l->model->config, &out, &in);
    if (kind == GR_PARAM_BIAS) in = 0;
    row->shape[0] = out;
    row->shape[1] = in;
    row->trainable = at != GR_NOWHERE;
    if (row->trainable)
        hold_floats(row, l->params + at, in ? out * in : out);
    else if (kind == GR_PARAM_BIAS)
        hold_floats(row, gr_model_bias(l->model, role, layer), out);
    else if (experts.at)
        hold_stack(row, &experts);
    else if (w)
        hold_matrix(row, w);
    else
        hold_floats(row, gr_model_norm(l->model, role, layer), out);
}

static bool all_zero(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (x[i] != 0) return false;
    return true;
}

static gr_tensor_digests_row *list_adapter(listing *l, gr_role role, int64_t layer, gr_param_kind kind,
                                           int64_t at, int64_t rows, int64_t cols) {
    gr_tensor_digests_row *row = at == GR_NOWHERE ? NULL : next_row(l);
    if (!row) return NULL;
    name_row(row, role, layer, kind);
    row->shape[0] = rows;
    row->shape[1] = cols;
    row->trainable = row->adapter = true;
    hold_floats(row, l->params + at, cols ? rows * cols : rows);
    return row;
}

static void list_role(listing *l, gr_role role, int64_t layer) {
    const gr_tuned *x = gr_tuning_of(l->tuning, role, layer);
    int64_t out, in;
    gr_role_shape(role, &l->model->config, &out, &in);
    list_own(l, role, layer, GR_PARAM_WEIGHT, x->weight);
    if (gr_role_has_bias(role, &l->model->config)) list_own(l, role, layer, GR_PARAM_BIAS, x->bias);
    const int64_t stack = gr_role_expert(role) ? l->model->config.experts : 1, rows = x->rank * stack;
    gr_tensor_digests_row *a = list_adapter(l, role, layer, GR_PARAM_A, x->rank ? x->a : GR_NOWHERE, rows,
                                            x->pool ? in / x->pool : in);
    if (a) a->waits = all_zero(l->params + x->b, x->rank * out);
    list_adapter(l, role, layer, GR_PARAM_B, x->rank ? x->b : GR_NOWHERE, rows, out / stack);
    list_adapter(l, role, layer, GR_PARAM_MAGNITUDE, x->magnitude, out, 0);
}

static void list_all(listing *l) {
    const gr_model_config *c = &l->model->config;
    l->count = 0;
    for (int64_t layer = 0; layer < c->layers; layer++)
        for (gr_role role = 0; role < GR_ROLES; role++)
            if (gr_role_table[role].in_block && gr_role_exists(role, c)) list_role(l, role, layer);
    for (gr_role role = 0; role < GR_ROLES; role++)
        if (!gr_role_table[role].in_block && gr_role_exists(role, c)) list_role(l, role, 0);
}

graft_status gr_tensor_digests_new(gr_tensor_digests *ledger, const gr_model *model, const gr_tuning *tuning,
                                   const float *params, graft_error *err) {
    listing l = {.model = model, .tuning = tuning, .params = params};
    list_all(&l);
    *ledger = (gr_tensor_digests){.rows = gr_calloc(l.count, sizeof *l.rows), .count = l.count};
    if (!ledger->rows) return gr_no_memory(err, l.count * sizeof *l.rows);
    l.rows = ledger->rows;
    list_all(&l);
    for (size_t i = 0; i < l.count; i++) { /* nothing is proved of what is not read */
        if (l.rows[i].data[0] && l.rows[i].bytes[0]) continue;
        gr_fail(err, GRAFT_INTERNAL, "a tensor has no bytes to look at");
        gr_where(err, "%s", l.rows[i].name);
        gr_tensor_digests_free(ledger);
        return GRAFT_INTERNAL;
    }
    return GRAFT_OK;
}

void gr_tensor_digests_free(gr_tensor_digests *ledger) {
    free(ledger->rows);
    *ledger = (gr_tensor_digests){0};
}

uint64_t gr_tensor_digests_digest(const gr_tensor_digests_row *row) {
    uint64_t h = GR_DIGEST_START;
    for (int64_t e = 0; e < row->place_count; e++) h = gr_digest_blocks(h, row->places[e], row->bytes[0]);
    for (int i = 0; !row->places && i < GR_TENSOR_DIGESTS_PARTS; i++)
        if (row->data[i]) h = gr_digest_blocks(h, row->data[i], row->bytes[i]);
    return h;
}

typedef struct digest_job {
    const gr_tensor_digests *ledger;
    uint64_t *digests;
} digest_job;

static void digest_task(void *context, int task, int worker) {
    const digest_job *j = context;
    (void)worker;
    j->digests[task] = gr_tensor_digests_digest(&j->ledger->rows[task]);
}

void gr_tensor_digests_digests(const gr_tensor_digests *ledger, gr_pool *pool, uint64_t *digests) {
    gr_pool_run(pool, digest_task, &(digest_job){ledger, digests}, (int)ledger->count);
}

graft_status gr_tensor_digests_check(gr_proof *proof, const gr_tensor_digests *ledger, const uint64_t *before,
                                     const uint64_t *after, int64_t updates, graft_error *err) {
    const gr_tensor_digests_row *still = NULL; /* the first that should have moved */
    int64_t count = 0;
    *proof = (gr_proof){.digest = GR_DIGEST_START};
    for (size_t i = 0; i < ledger->count; i++) {
        const gr_tensor_digests_row *row = &ledger->rows[i];
        bool moved = before[i] != after[i];
        if (!row->trainable && moved) {
            gr_fail(err, GRAFT_INTERNAL, "a frozen tensor changed");
            gr_where(err, "%s", row->name);
            return gr_hint(err, "is another program writing into the model's files?");
        }
        if (!row->trainable) {
            proof->frozen++;
            proof->digest = gr_digest_step(proof->digest, after[i]);
            continue;
        }
        proof->trainable++;
        if (moved) continue;
        if (updates == 1 && row->waits)
            proof->waiting++;
        else if (!count++)
            still = row;
    }
    if (!still) return GRAFT_OK;
    gr_fail(err, GRAFT_MISMATCH, "%lld of %lld trainable tensors did not move", (long long)count,
            (long long)proof->trainable);
    gr_where(err, "%s", still->name);
    return gr_hint(err, "is the learning rate too small for f32, or does no row of the data reach it?");
}
