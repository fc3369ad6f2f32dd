/* A tuning as edits of its base's tensors. */
#include "adapters/adapter.h"
#include "base/digest.h"
#include "fuse/fuse.h"
#include "layers/merge.h"
#include <stdio.h>

/* One tensor of the base: an adapter on it, or another in its place. */
typedef struct gr_fuse_change {
    char name[256];
    gr_merge merge;
    int64_t stack; /* experts, each with a merge of its own: that of the first stands here; 1: no experts */
    const float *instead; /* [rows, cols]; NULL: merge */
} change;

static void merge_row(const gr_edit *edit, float *values, int64_t row) {
    const change *c = edit->context;
    gr_merge own = c->merge;
    const int64_t expert = row / own.out;
    own.a += expert * own.rank * own.in;
    own.b += expert * own.rank * own.out;
    gr_merge_row(values, &own, row - expert * own.out);
}

static void merge_sums(const gr_edit *edit, float *sums, int64_t row) {
    gr_merge_sums(sums, &((const change *)edit->context)->merge, row);
}

static void replace_row(const gr_edit *edit, float *values, int64_t row) {
    const change *c = edit->context;
    memcpy(values, c->instead + row * edit->cols, (size_t)edit->cols * sizeof *values);
}

static const gr_param *param_of(const gr_tuning *t, const gr_param *like, gr_param_kind kind) {
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        if (p->kind == kind && p->role == like->role && p->layer == like->layer) return p;
    }
    return NULL;
}

/* The adapter whose A is `a`. */
static gr_merge merge_of(const gr_tuning *t, const float *params, const gr_param *a) {
    const gr_param *b = param_of(t, a, GR_PARAM_B), *m = param_of(t, a, GR_PARAM_MAGNITUDE);
    const int64_t pool = gr_tuning_of(t, a->role, a->layer)->pool;
    return (gr_merge){.a = params + a->at,
                      .b = params + b->at,
                      .magnitude = m ? params + m->at : NULL,
                      .rank = a->rows / a->stack,
                      .in = a->cols * gr_max_i64(pool, 1),
                      .pool = pool,
                      .out = b->cols,
                      .scale = gr_tuning_of(t, a->role, a->layer)->scale};
}

/* What that parameter means for the base. A speaks for B and magnitude. False: another speaks for it. */
static bool describe(gr_edit *edit, change *c, const gr_tuning *t, const float *params, const gr_param *p) {
    char path[200];
    if (p->kind == GR_PARAM_B || p->kind == GR_PARAM_MAGNITUDE) return false;
    gr_role_name(path, sizeof path, p->role, p->layer);
    snprintf(c->name, sizeof c->name, "%s.%s", path, p->kind == GR_PARAM_BIAS ? "bias" : "weight");
    *edit = (gr_edit){.name = c->name, .context = c};
    if (p->kind == GR_PARAM_A) {
        c->merge = merge_of(t, params, p);
        c->stack = p->stack;
        edit->rows = c->merge.out * c->stack;
        edit->cols = c->merge.in;
        edit->row = merge_row;
        edit->group = c->merge.pool;
        edit->sums = c->merge.pool ? merge_sums : NULL;
        return true;
    }
    c->instead = params + p->at;
    edit->rows = p->cols ? p->rows : 1;
    edit->cols = p->cols ? p->cols : p->rows;
    edit->row = replace_row;
    return true;
}

static uint64_t key_of(const gr_fuse_edits *e, const gr_tuning *t, const float *params) {
    uint64_t h = GR_DIGEST_START;
    char digest[17];
    gr_adapter_digest(digest, params, t->parameters);
    h = gr_digest_bytes(h, digest, sizeof digest);
    for (size_t i = 0; i < e->count; i++) {
        const change *c = e->edits[i].context;
        h = gr_digest_bytes(h, c->name, strlen(c->name));
        h = gr_digest_bytes(gr_digest_number(h, (uint64_t)c->merge.rank), &c->merge.scale,
                            sizeof c->merge.scale);
    }
    return h;
}

graft_status gr_fuse_edits_new(gr_fuse_edits *e, const gr_tuning *t, const float *params, graft_error *err) {
    *e = (gr_fuse_edits){.edits = gr_calloc(t->param_count, sizeof *e->edits),
                         .changes = gr_calloc(t->param_count, sizeof *e->changes),
                         .moved = gr_calloc(t->param_count, sizeof *e->moved)};
    if (!e->edits || !e->changes || !e->moved) {
        gr_fuse_edits_free(e);
        return gr_no_memory(err, t->param_count * (sizeof *e->edits + sizeof *e->changes));
    }
    for (size_t i = 0; i < t->param_count; i++) {
        if (!describe(&e->edits[e->count], &e->changes[e->count], t, params, &t->params[i])) continue;
        e->edits[e->count].moved = &e->moved[e->count];
        e->count++;
    }
    gr_edits_sort(e->edits, e->count);
    e->key = key_of(e, t, params);
    return GRAFT_OK;
}

int64_t gr_fuse_edits_moved(const gr_fuse_edits *e) {
    int64_t n = 0;
    for (size_t i = 0; i < e->count; i++) n += atomic_load(e->edits[i].moved);
    return n;
}

void gr_fuse_edits_free(gr_fuse_edits *e) {
    free(e->moved);
    free(e->edits);
    free(e->changes);
    *e = (gr_fuse_edits){0};
}
