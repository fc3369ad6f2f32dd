/* What a file has of A and B without the base that it belongs to. */
#include "adapters/adapter_parts.h"
#include <stdio.h>

/* The first slot of A or B that spells the tensor's name: an embedding's, whose roles mlx-lm exchanges, reads
 * as a linear there, and the product is the same. */
static const gr_adapter_slot *slot_of(const gr_adapter_format *f, const gr_tensor *t) {
    for (int i = 0; i < f->slot_count; i++) {
        const gr_adapter_slot *s = &f->slots[i];
        bool matrix = s->kind == GR_PARAM_A || s->kind == GR_PARAM_B;
        if (matrix && (t->ndim == 3) == (s->on == GR_ON_EXPERTS) && gr_ends_with(t->name, s->suffix))
            return s;
    }
    return NULL;
}

static const gr_adapter_slot *partner_of(const gr_adapter_format *f, const gr_adapter_slot *a) {
    for (int i = 0; i < f->slot_count; i++)
        if (f->slots[i].kind == GR_PARAM_B && f->slots[i].on == a->on) return &f->slots[i];
    return NULL;
}

static int64_t rank_of(const gr_tensor *t, const gr_adapter_slot *s) {
    return t->shape[t->ndim - (s->transposed ? 1 : 2)];
}

/* Two matrices, or two stacks of as many: what measures a pair strides over no more sides than three. */
static bool are_pair(const gr_tensor *a, const gr_tensor *b, const gr_adapter_slot *of_a,
                     const gr_adapter_slot *of_b) {
    return gr_dtype_is_float(a->dtype) && gr_dtype_is_float(b->dtype) && (a->ndim == 2 || a->ndim == 3) &&
           a->ndim == b->ndim && a->bytes && b->bytes && (a->ndim == 2 || a->shape[0] == b->shape[0]) &&
           rank_of(a, of_a) == rank_of(b, of_b);
}

/* The module of an A that slot `of_a` spells; *good: it has a B, and a scale. */
static graft_status take(gr_adapter_module *m, bool *good, const gr_safetensors *file,
                         const gr_adapter_format *f, const gr_adapter_config *c, const gr_tensor *a,
                         const gr_adapter_slot *of_a, graft_error *err) {
    const gr_adapter_slot *of_b = partner_of(f, of_a);
    size_t len = strlen(a->name) - strlen(of_a->suffix), skip = strlen(f->prefix);
    char other[sizeof m->path + 64];
    graft_error why = {0};
    *good = false;
    if (len >= sizeof m->path || !of_b) return GRAFT_OK;
    snprintf(other, sizeof other, "%.*s%s", (int)len, a->name, of_b->suffix);
    const gr_tensor *b = gr_safetensors_find(file, other);
    if (!b || !are_pair(a, b, of_a, of_b)) return GRAFT_OK;
    if (len < skip || strncmp(a->name, f->prefix, skip) != 0) skip = 0;
    *m = (gr_adapter_module){
        .a = a, .b = b, .a_last = of_a->transposed, .b_last = of_b->transposed, .rank = rank_of(a, of_a)};
    snprintf(m->path, sizeof m->path, "%.*s", (int)(len - skip), a->name + skip);
    graft_status st = gr_adapter_config_scale(&m->scale, c, m->path, m->rank, &why);
    *good = st == GRAFT_OK;
    return st == GRAFT_NO_MEMORY ? gr_no_memory(err, 0) : GRAFT_OK;
}

static graft_status take_all(gr_adapter_modules *m, const gr_adapter_format *f, const gr_adapter_config *c,
                             graft_error *err) {
    size_t cap = 0;
    for (size_t i = 0; i < gr_safetensors_count(m->file); i++) {
        const gr_tensor *t = gr_safetensors_at(m->file, i);
        const gr_adapter_slot *slot = slot_of(f, t);
        bool good;
        if (!slot || slot->kind != GR_PARAM_A) continue;
        if (!gr_grow((void **)&m->list, &cap, m->count, sizeof *m->list))
            return gr_no_memory(err, (m->count + 1) * sizeof *m->list);
        GR_TRY(take(&m->list[m->count], &good, m->file, f, c, t, slot, err));
        m->count += good;
        m->left_out += !good;
    }
    return GRAFT_OK;
}

/* The first of the safetensors files that is there; *path stays NULL where none is. */
static graft_status find_file(char **path, const gr_adapter_format **format, const char *dir,
                              graft_error *err) {
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name; f++) {
        if (f->gguf) continue;
        *path = gr_path_join(dir, f->file);
        *format = f;
        if (!*path) return gr_no_memory(err, strlen(dir));
        if (gr_path_exists(*path)) return GRAFT_OK;
        free(*path);
        *path = NULL;
    }
    return GRAFT_OK;
}

static graft_status read_dir(gr_adapter_modules *m, gr_adapter_config *c, const char *dir, graft_error *err) {
    const gr_adapter_format *format = NULL;
    char *path = NULL;
    GR_TRY(gr_adapter_config_open(c, dir, false, GR_IN_MEMORY, err));
    const gr_json_scope root = {c->root, c->path, ""};
    GR_TRY(gr_json_string(&root, "fine_tune_type", &c->type, err));
    m->there = true;
    m->full = strcmp(c->type, "full") == 0;
    if (m->full) return GRAFT_OK;
    GR_TRY(find_file(&path, &format, dir, err));
    m->there = path != NULL;
    if (!path) return GRAFT_OK;
    graft_status st = gr_safetensors_open_as(&m->file, path, GR_IN_MEMORY, err);
    free(path);
    if (st == GRAFT_OK)
        st = gr_adapter_config_read(c, format->prefix[0] != 0, gr_safetensors_count(m->file), err);
    m->dora = c->dora;
    return st == GRAFT_OK ? take_all(m, format, c, err) : st;
}

graft_status gr_adapter_modules_read(gr_adapter_modules *m, const char *dir, graft_error *err) {
    gr_adapter_config config = {0};
    *m = (gr_adapter_modules){0};
    graft_status st = read_dir(m, &config, dir, err);
    gr_adapter_config_free(&config);
    return st;
}

void gr_adapter_modules_free(gr_adapter_modules *m) {
    free(m->list);
    gr_safetensors_close(m->file);
    *m = (gr_adapter_modules){0};
}
