#include "adapters/adapter_parts.h"
#include "convert/gguf_names.h"
#include <stdio.h>

/* What the error struct has room for; the count says how many there are. */
#define LISTED_BYTES 240

static void problem(gr_adapter_reader *r, const char *name, const char *text) {
    size_t n = strlen(r->format->prefix);
    if (strncmp(name, r->format->prefix, n) == 0) name += n; /* every name has it */
    r->problem_count++;
    if (r->problems.len + strlen(name) + strlen(text) + 3 > LISTED_BYTES) {
        r->more_problems = true;
        return;
    }
    gr_buf_printf(&r->problems, "%s%s %s", r->problems.len ? "; " : "", name, text);
}

gr_adapter_find *gr_adapter_found(const gr_adapter_reader *r, gr_role role, int64_t layer,
                                  gr_param_kind kind) {
    int64_t at = (gr_role_table[role].in_block ? layer : 0) * GR_ROLES + (int64_t)role;
    return &r->found[at * GR_PARAM_KINDS + (int64_t)kind];
}

static const gr_tensor *look_up(gr_adapter_reader *r, const char *name) {
    char named[400];
    if (r->settings->whole) {
        gr_adapter_whole_name(named, sizeof named, r->settings->whole, name, strlen(r->format->prefix));
        name = named;
    }
    const gr_tensor *t = gr_adapter_in_find(&r->file, name);
    if (t) r->used[t - r->file.tensors] = true;
    return t;
}

/* PEFT wraps a module once for each of its parameters that is adapted, in the module's own order: of two the
 * first is inside. False: that stack is not adapted. source: PEFT 0.21 ParamWrapper */
static bool stacked_name(char *name, size_t size, const gr_adapter_reader *r, const gr_adapter_slot *slot,
                         gr_role role, int64_t layer) {
    const bool down = role == GR_EXPERT_DOWN, both = r->settings->gate_up && r->settings->down;
    snprintf(name, size, "%smodel.layers.%lld.mlp.experts%s%s", r->format->prefix, (long long)layer,
             both && !down ? ".base_layer" : "", slot->suffix);
    return down ? r->settings->down : r->settings->gate_up;
}

/* Its tensors hold all experts' matrices, gate and up in one. */
static void set_woven(gr_adapter_find *f, const gr_adapter_reader *r, gr_role role) {
    int64_t out, in;
    gr_role_shape(role, r->config, &out, &in);
    out /= r->config->experts;
    f->woven = true;
    f->outputs = role == GR_EXPERT_DOWN ? out : 2 * out;
    f->output = role == GR_EXPERT_UP ? out : 0;
}

/* Takes whatever the file has of one tensor of the base. */
static void find_one(gr_adapter_reader *r, gr_role role, int64_t layer) {
    gr_adapter_find *own = gr_adapter_found(r, role, layer, 0);
    for (int i = 0; i < r->format->slot_count; i++) {
        const gr_adapter_slot *slot = &r->format->slots[i];
        bool adapted = own[GR_PARAM_A].tensor || own[GR_PARAM_B].tensor;
        char name[300];
        if (!gr_adapter_slot_on(slot, role, adapted, r->config)) continue;
        if (slot->kind == GR_PARAM_BIAS && !gr_role_has_bias(role, r->config)) continue;
        const bool woven = slot->on == GR_ON_EXPERTS && r->format->prefix[0];
        if (woven ? !stacked_name(name, sizeof name, r, slot, role, layer)
                  : !gr_adapter_slot_name(name, sizeof name, r->format, slot, role, layer))
            continue;
        gr_adapter_find *f = slot->on == GR_ON_TIED_HEAD ? &r->tied[slot->kind] : &own[slot->kind];
        f->tensor = look_up(r, name);
        f->slot = slot;
        f->head_dim = gr_adapter_pairs(r->format, r->config, role, slot->kind);
        f->stack = gr_role_expert(role) ? r->config->experts : 1;
        if (woven) set_woven(f, r, role);
    }
}

/* Is `f` a tensor [rows, cols] in graft's orientation (cols 0: a vector), or a stack of them? *rows 0: any,
 * and is set. */
static bool fits_woven(const gr_adapter_find *f, int64_t *rows, int64_t cols) {
    const gr_tensor *t = f->tensor;
    const bool b = f->slot->transposed;
    const int64_t all = t->ndim == 2 ? t->shape[b ? 1 : 0] : 0; /* rank * experts */
    if (t->ndim != 2 || !gr_dtype_is_float(t->dtype) || all < 1 || all % f->stack) return false;
    if (t->shape[b ? 0 : 1] != (b ? f->outputs : cols) || (*rows && *rows != all / f->stack)) return false;
    *rows = all / f->stack;
    return true;
}

static bool fits(const gr_adapter_find *f, int64_t *rows, int64_t cols) {
    const gr_tensor *t = f->tensor;
    if (f->woven) return fits_woven(f, rows, cols);
    const bool turned = f->slot->transposed, stacked = f->slot->on == GR_ON_EXPERTS;
    const int64_t *shape = t->shape + (stacked ? 1 : 0);
    if (t->ndim != (cols ? 2 : 1) + stacked || !gr_dtype_is_float(t->dtype)) return false;
    if (stacked && t->shape[0] != f->stack) return false;
    int64_t r = shape[turned ? 1 : 0];
    if (r < 1 || (*rows && r != *rows) || (cols && shape[turned ? 0 : 1] != cols)) return false;
    *rows = r;
    return true;
}

static void check_pair(gr_adapter_reader *r, const gr_adapter_find *a, const gr_adapter_find *b, int64_t in,
                       int64_t out) {
    int64_t rank = 0;
    if (!a->tensor && !b->tensor) return;
    if (!a->tensor || !b->tensor)
        problem(r, (a->tensor ? a : b)->tensor->name, "has no partner");
    else if (!fits(a, &rank, in))
        problem(r, a->tensor->name, "does not fit the base");
    else if (!fits(b, &rank, out))
        problem(r, b->tensor->name, "does not fit the base");
}

static void check_one(gr_adapter_reader *r, gr_role role, int64_t layer) {
    const gr_adapter_find *f = gr_adapter_found(r, role, layer, 0), *m = &f[GR_PARAM_MAGNITUDE];
    int64_t out, in;
    const bool experts = gr_role_expert(role);
    for (int kind = 0; kind < GR_PARAM_KINDS; kind++) {
        bool held = experts && !r->settings->dora && (kind == GR_PARAM_A || kind == GR_PARAM_B);
        if (!f[kind].tensor || held || (role != GR_ROUTER && !experts)) continue;
        problem(r, f[kind].tensor->name,
                experts ? "trains a mixture's experts by more than LoRA"
                        : "trains a mixture's router, which stays as it is");
        r->router |= !experts;
        return;
    }
    gr_role_shape(role, r->config, &out, &in);
    if (experts) out /= r->config->experts;
    check_pair(r, &f[GR_PARAM_A], &f[GR_PARAM_B], in, out);
    if (f[GR_PARAM_A].tensor && role >= GR_LINEARS && r->settings->dora)
        problem(r, f[GR_PARAM_A].tensor->name, "is DoRA outside the blocks, which is not supported");
    else if (f[GR_PARAM_A].tensor && !m->tensor && r->settings->dora)
        problem(r, f[GR_PARAM_A].tensor->name, "has no DoRA magnitude");
    if (m->tensor && !(r->settings->dora && f[GR_PARAM_A].tensor))
        problem(r, m->tensor->name, "is of DoRA, but adapter_config.json or its matrices are not");
    else if (m->tensor && !fits(m, &out, 0))
        problem(r, m->tensor->name, "does not fit the base");
    if (f[GR_PARAM_WEIGHT].tensor && f[GR_PARAM_A].tensor)
        problem(r, f[GR_PARAM_WEIGHT].tensor->name, "stands beside an adapter of the same tensor");
    if (f[GR_PARAM_BIAS].tensor && !fits(&f[GR_PARAM_BIAS], &out, 0))
        problem(r, f[GR_PARAM_BIAS].tensor->name, "does not fit the base");
    if (f[GR_PARAM_WEIGHT].tensor && !fits(&f[GR_PARAM_WEIGHT], &out, in))
        problem(r, f[GR_PARAM_WEIGHT].tensor->name, "does not fit the base");
}

/* rows: of all matrices of a stack. */
static float number_at(const gr_adapter_find *f, int64_t i, int64_t j, int64_t rows, int64_t cols) {
    const int64_t stack = gr_max_i64(f->stack, 1), own = rows / stack, first = i / own * own * cols;
    if (f->head_dim) j = gr_gguf_paired_row(j, f->head_dim);
    if (f->woven && f->slot->transposed)
        return gr_float_at(f->tensor->data, ((f->output + j) * own + i % own) * stack + i / own,
                           f->tensor->dtype);
    i %= own;
    return gr_float_at(f->tensor->data, first + (f->slot->transposed ? j * own + i : i * cols + j),
                       f->tensor->dtype);
}

static bool same(const gr_adapter_find *a, const gr_adapter_find *b, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            if (number_at(a, i, j, rows, cols) != number_at(b, i, j, rows, cols)) return false;
    return true;
}

/* PEFT keeps the two uses of a tied embedding apart unless it is told not to; here they are one. A, B or the
 * whole weight must therefore be there for both and equal, or (A and B) for one under ensure_weight_tying. */
static void check_tied(gr_adapter_reader *r) {
    if (!r->config->tied || r->format->one_rank) return; /* mlx-lm's uses are one, too */
    const gr_param_kind kinds[] = {GR_PARAM_A, GR_PARAM_B, GR_PARAM_WEIGHT};
    int64_t vocab, hidden;
    gr_role_shape(GR_EMBED_TOKENS, r->config, &vocab, &hidden);
    for (int i = 0; i < 3; i++) {
        const gr_adapter_find *own = gr_adapter_found(r, GR_EMBED_TOKENS, 0, kinds[i]);
        const gr_adapter_find *copy = &r->tied[kinds[i]];
        int64_t cols = kinds[i] == GR_PARAM_B ? vocab : hidden,
                rows = kinds[i] == GR_PARAM_WEIGHT ? vocab : 0;
        bool pair = kinds[i] != GR_PARAM_WEIGHT;
        if (!own->tensor && !copy->tensor) continue;
        if (own->tensor && !copy->tensor && pair && r->settings->tying) continue;
        if (!own->tensor || !copy->tensor)
            problem(r, (own->tensor ? own : copy)->tensor->name,
                    "changes one use of the tied embedding only (ensure_weight_tying is off)");
        else if (!fits(copy, &rows, cols) || !fits(own, &rows, cols))
            problem(r, copy->tensor->name, "does not fit the base");
        else if (!same(own, copy, rows, cols))
            problem(r, copy->tensor->name, "is not the tied embedding's");
    }
}

/* What PEFT saves beside an adapted embedding or head: the frozen weight, which the base has. */
static bool is_frozen_copy(const gr_adapter_reader *r, const gr_tensor *t) {
    static const gr_role roles[] = {GR_EMBED_TOKENS, GR_LM_HEAD};
    int64_t out, in;
    gr_role_shape(GR_EMBED_TOKENS, r->config, &out, &in);
    for (int i = 0; i < 2; i++) {
        char path[200], name[300], named[400];
        gr_role_name(path, sizeof path, roles[i], 0);
        snprintf(name, sizeof name, "%s%s.base_layer.weight", r->format->prefix, path);
        if (r->settings->whole)
            gr_adapter_whole_name(named, sizeof named, r->settings->whole, name, strlen(r->format->prefix));
        if (strcmp(r->settings->whole ? named : name, t->name) == 0 && t->ndim == 2 && t->shape[0] == out &&
            t->shape[1] == in)
            return true;
    }
    return false;
}

static void name_strangers(gr_adapter_reader *r) {
    for (size_t i = 0; i < r->file.count; i++) {
        const gr_tensor *t = &r->file.tensors[i];
        if (!r->used[i] && !(r->format->prefix[0] && is_frozen_copy(r, t)))
            problem(r, t->name, "is not an adapter of this base");
    }
}

graft_status gr_adapter_find_all(gr_adapter_reader *r, const char *path, graft_error *err) {
    size_t places = (size_t)r->config->layers * GR_ROLES * GR_PARAM_KINDS;
    r->found = gr_calloc(places, sizeof *r->found);
    r->used = gr_calloc(r->file.count, sizeof *r->used);
    if (!r->found || !r->used) return gr_no_memory(err, places * sizeof *r->found);
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (!gr_role_exists(role, r->config)) continue;
        for (int64_t l = 0; l < (gr_role_table[role].in_block ? r->config->layers : 1); l++) {
            find_one(r, role, l);
            check_one(r, role, l);
        }
    }
    check_tied(r);
    name_strangers(r);
    if (!r->problem_count) return GRAFT_OK;
    gr_fail(err, GRAFT_MISMATCH, "%d tensors of the adapter do not fit the base model", r->problem_count);
    gr_where(err, "%s", path);
    gr_found(err, "%s%s", r->problems.data ? r->problems.data : "", r->more_problems ? "; .." : "");
    if (r->router)
        gr_hint(err,
                "mlx-lm adapts mlp.gate unless lora_parameters has keys: name there what is to be adapted");
    return GRAFT_MISMATCH;
}

bool gr_adapter_copy(float *to, const gr_param *p, int64_t pool, const gr_adapter_find *from) {
    const int64_t repeat = p->kind == GR_PARAM_A ? gr_max_i64(pool, 1) : 1,
                  cols = gr_max_i64(p->cols, 1) * repeat;
    bool same = true;
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            float *own = &to[(i * cols + j) / repeat], x = number_at(from, i, j, p->rows, cols);
            if (j % repeat == 0) *own = x;
            same = same && memcmp(own, &x, sizeof x) == 0;
        }
    return same;
}

void gr_adapter_reader_free(gr_adapter_reader *r) {
    gr_buf_free(&r->problems);
    free(r->found);
    free(r->used);
    gr_adapter_in_close(&r->file);
    *r = (gr_adapter_reader){0};
}
