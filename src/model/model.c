#include "model/model.h"
#include "base/rng.h"
#include "model/stored_codes.h"
#include "weights/affine.h"
#include <stdio.h>

/* Collects what does not fit, so that one error can name all of it. */
typedef struct binder {
    gr_model *model;
    float *small; /* next free float of model->small; NULL while counting */
    size_t small_count;
    gr_buf problems;
    int count;
} binder;

static void problem(binder *b, const char *name, const char *text) {
    if (++b->count <= 6) gr_buf_printf(&b->problems, "%s%s %s", b->problems.len ? "; " : "", name, text);
}

/* Name of a tensor with a suffix: "model.layers.0.self_attn.q_proj" + ".weight". */
static const gr_tensor *find(const gr_model *m, const char *base, const char *suffix) {
    char name[256];
    snprintf(name, sizeof name, "%s%s", base, suffix);
    return gr_safetensors_find(m->file, name);
}

/* A vector of n floats as f32 in `small`. */
static const float *bind_vector(binder *b, const char *base, const char *suffix, int64_t n) {
    float *out = b->small ? b->small + b->small_count : NULL;
    b->small_count += (size_t)n;
    if (!out || !b->model->file) return out;
    const gr_tensor *t = find(b->model, base, suffix);
    char name[256];
    snprintf(name, sizeof name, "%s%s", base, suffix);
    if (!t)
        problem(b, name, "is missing");
    else if (!gr_dtype_is_float(t->dtype) || t->ndim != 1 || t->shape[0] != n)
        problem(b, name, "has a wrong type or shape");
    else
        for (int64_t i = 0; i < n; i++) out[i] = gr_float_at(t->data, i, t->dtype);
    return out;
}

/* Random weights of a plausible size for benchmarks. */
static void invent(gr_mat *mat, char *bytes) {
    gr_rng rng;
    gr_rng_seed(&rng, 1, (uint64_t)mat->rows * 31 + (uint64_t)mat->cols);
    size_t codes = (size_t)gr_mat_bytes(mat);
    if (mat->layout == GR_DENSE) {
        uint16_t *w = (uint16_t *)(void *)bytes;
        for (int64_t i = 0; i < mat->rows * mat->cols; i++)
            w[i] = gr_f32_to_bf16(((float)gr_rng_uniform(&rng) - 0.5f) * 0.07f);
        mat->data = bytes;
        return;
    }
    int64_t groups = mat->rows * (mat->cols / mat->group);
    codes -= (size_t)groups * 4;
    for (size_t i = 0; i + 8 <= codes; i += 8) {
        uint64_t word = gr_rng_next(&rng);
        memcpy(bytes + i, &word, 8);
    }
    uint16_t *scales = (uint16_t *)(void *)(bytes + codes), *biases = scales + groups;
    for (int64_t i = 0; i < groups; i++) {
        scales[i] = gr_f32_to_bf16(0.004f);
        biases[i] = gr_f32_to_bf16(-0.03f);
    }
    mat->data = bytes;
    mat->scales = scales;
    mat->biases = biases;
}

/* Experts of a role, in one tensor or each in its own. */
static void bind_experts(binder *b, gr_mat *mat, gr_role role, int64_t layer) {
    gr_model *m = b->model;
    const int64_t kind = role - GR_EXPERT_GATE;
    const void **places = m->experts + (layer * GR_EXPERT_LINEARS + kind) * m->config.experts;
    char name[200];
    const char *wrong = gr_experts_bind(mat, places, name, sizeof name, m->file, &m->config, role, layer);
    if (wrong) problem(b, name, wrong);
    m->layer[layer].expert[kind] = mat->data ? NULL : places;
}

static void bind_matrix(binder *b, gr_mat *mat, gr_role role, int64_t layer) {
    gr_model *m = b->model;
    char base[200];
    *mat = (gr_mat){.layout = GR_DENSE, .dtype = GR_BF16, .alpha = 1};
    gr_role_shape(role, &m->config, &mat->rows, &mat->cols);
    mat->ld = mat->cols;
    gr_role_name(base, sizeof base, role, layer);
    const char *wrong = NULL;
    if (!m->file) {
        wrong = gr_stored_codes_plan(mat, &m->config, role, base);
        if (wrong) problem(b, base, wrong);
        return;
    }
    if (gr_role_expert(role)) {
        bind_experts(b, mat, role, layer);
        return;
    }
    gr_stored_codes_tensors packed = {find(m, base, ".weight"), find(m, base, ".scales"),
                                      find(m, base, ".biases"), find(m, base, ".global_scale")};
    const gr_tensor *w = packed.weight;
    if (!w)
        problem(b, base, "has no weight");
    else if (packed.scales) {
        wrong = gr_stored_codes_bind(mat, &m->config, base, &packed);
        if (wrong) problem(b, base, wrong);
    } else if (!gr_dtype_is_float(w->dtype) || w->ndim != 2 || w->shape[0] != mat->rows ||
               w->shape[1] != mat->cols)
        problem(b, base, "has a wrong type or shape");
    else
        mat->dtype = w->dtype, mat->data = w->data;
}

static void bind_layer(binder *b, int64_t l) {
    gr_model *m = b->model;
    gr_layer *layer = &m->layer[l];
    char base[200];
    layer->window = m->config.window[l];
    for (gr_role role = 0; role < GR_LINEARS; role++) {
        if (!gr_role_exists(role, &m->config)) continue;
        bind_matrix(b, &layer->linear[role], role, l);
        if (!gr_role_has_bias(role, &m->config)) continue;
        gr_role_name(base, sizeof base, role, l);
        layer->bias[role] = bind_vector(b, base, ".bias", layer->linear[role].rows);
    }
    for (gr_role role = GR_LINEARS; role < GR_ROLES; role++) {
        int64_t n, none;
        if (!gr_role_table[role].in_block || !gr_role_exists(role, &m->config)) continue;
        gr_role_name(base, sizeof base, role, l);
        gr_role_shape(role, &m->config, &n, &none);
        layer->norm[role] = layer->used_norm[role] = bind_vector(b, base, ".weight", n);
        if (gr_role_has_bias(role, &m->config)) layer->bias[role] = bind_vector(b, base, ".bias", n);
    }
}

static void bind_all(binder *b) {
    gr_model *m = b->model;
    b->small_count = 0;
    for (int64_t l = 0; l < m->config.layers; l++) bind_layer(b, l);
    bind_matrix(b, &m->embed, GR_EMBED_TOKENS, 0);
    if (m->config.tied)
        m->head = m->embed;
    else
        bind_matrix(b, &m->head, GR_LM_HEAD, 0);
    m->final_norm = m->used_final_norm = bind_vector(b, "model.norm", ".weight", m->config.hidden);
    if (gr_role_has_bias(GR_NORM, &m->config))
        m->final_bias = bind_vector(b, "model.norm", ".bias", m->config.hidden);
}

bool gr_norm_differs(const gr_model_config *c) {
    return c->arch->traits & GR_ARCH_ONE_PLUS || c->logit_scale != 1;
}

float gr_norm_factor(const gr_model_config *c, gr_role role) {
    return role == GR_NORM ? (float)c->logit_scale : 1;
}

void gr_norm_used(float *used, const float *weight, const gr_model_config *c, gr_role role) {
    int64_t n, none;
    float one = c->arch->traits & GR_ARCH_ONE_PLUS ? 1.0f : 0.0f, factor = gr_norm_factor(c, role);
    gr_role_shape(role, c, &n, &none);
    for (int64_t i = 0; i < n; i++) used[i] = (one + weight[i]) * factor;
}

/* Norms as they are multiplied with; `total` floats are room for all of them. */
static graft_status use_norms(gr_model *m, size_t total, graft_error *err) {
    const gr_model_config *c = &m->config;
    if (!gr_norm_differs(c)) return GRAFT_OK;
    float *at = m->used = gr_calloc(total, sizeof *m->used);
    if (!at) return gr_no_memory(err, total * sizeof *m->used);
    for (int64_t l = 0; l < c->layers; l++)
        for (gr_role role = GR_LINEARS; role < GR_ROLES; role++) {
            gr_layer *layer = &m->layer[l];
            int64_t n, none;
            if (!layer->norm[role]) continue;
            gr_norm_used(at, layer->norm[role], c, role);
            layer->used_norm[role] = at;
            gr_role_shape(role, c, &n, &none);
            at += n;
        }
    gr_norm_used(at, m->final_norm, c, GR_NORM);
    m->used_final_norm = at;
    return GRAFT_OK;
}

/* Counts the small vectors, allocates them, and binds everything. model->config and file are set. */
static graft_status finish_open(gr_model *m, graft_error *err) {
    binder b = {.model = m};
    m->layer = gr_calloc((size_t)m->config.layers, sizeof *m->layer);
    if (!m->layer) return gr_no_memory(err, sizeof *m->layer * (size_t)m->config.layers);
    const size_t places = (size_t)(m->config.layers * m->config.experts) * GR_EXPERT_LINEARS;
    if (places && !(m->experts = gr_calloc(places, sizeof *m->experts)))
        return gr_no_memory(err, places * sizeof *m->experts);
    for (int i = 0; i < gr_rope_count(&m->config); i++) {
        m->inv_freq[i] = gr_calloc((size_t)m->config.rotary / 2, sizeof *m->inv_freq[i]);
        if (!m->inv_freq[i]) return gr_no_memory(err, sizeof(double) * (size_t)m->config.rotary / 2);
        gr_rope_frequencies(m->inv_freq[i], &m->config, &m->config.rope[i]);
    }
    bind_all(&b);
    size_t total = b.small_count;
    gr_buf_free(&b.problems);
    b = (binder){.model = m};
    m->small = gr_calloc(total, sizeof *m->small);
    if (!m->small) return gr_no_memory(err, total * sizeof *m->small);
    b.small = m->small;
    bind_all(&b);
    if (b.count) {
        gr_fail(err, GRAFT_MISMATCH, "%d weights do not fit the config", b.count);
        gr_where(err, "%s", m->dir);
        gr_found(err, "%s%s", b.problems.data ? b.problems.data : "", b.count > 6 ? "; .." : "");
        gr_hint(err, "the download may be incomplete, or config.json belongs to another model");
    }
    gr_buf_free(&b.problems);
    return b.count ? GRAFT_MISMATCH : use_norms(m, total, err);
}

static graft_status new_model(gr_model **out, const char *dir, graft_error *err) {
    gr_model *m = gr_calloc(1, sizeof *m);
    *out = NULL;
    if (!m || !(m->dir = gr_strdup(dir))) {
        free(m);
        return gr_no_memory(err, sizeof *m);
    }
    *out = m;
    return GRAFT_OK;
}

/* Hands over on success, frees on failure. */
static graft_status hand_over(gr_model **out, gr_model *m, graft_status st) {
    if (st == GRAFT_OK)
        *out = m;
    else {
        gr_model_free(m);
        *out = NULL;
    }
    return st;
}

static graft_status refuse_columns(const char *dir, graft_error *err) {
    gr_fail(err, GRAFT_UNSUPPORTED, "the weights are those of AWQ or GPTQ, which nothing computes with");
    gr_where(err, "%s: config.json, quantization_config", dir);
    return gr_hint(err, "graft convert --model .. --mlx-path .. keeps their codes and makes them readable");
}

graft_status gr_model_open_as(gr_model **out, const char *dir, gr_reading how, graft_error *err) {
    gr_model *m;
    GR_TRY(new_model(&m, dir, err));
    graft_status st = gr_config_open_as(&m->config, dir, how, err);
    m->reading = how;
    if (st == GRAFT_OK && m->config.columns) st = refuse_columns(dir, err);
    if (st == GRAFT_OK) st = gr_safetensors_open_as(&m->file, dir, how, err);
    if (st == GRAFT_OK) st = finish_open(m, err);
    return hand_over(out, m, st);
}

graft_status gr_model_from_config(gr_model **out, const char *dir, graft_error *err) {
    gr_model *m;
    GR_TRY(new_model(&m, dir, err));
    graft_status st = gr_config_open(&m->config, dir, err);
    if (st == GRAFT_OK) st = finish_open(m, err);
    return hand_over(out, m, st);
}

/* Ones as the weight and as what is multiplied with: any number serves a benchmark. */
static void fill_norm(gr_model *m, gr_role role, int64_t layer) {
    float *stored = (float *)(uintptr_t)gr_model_norm(m, role, layer),
          *used = (float *)(uintptr_t)gr_model_used_norm(m, role, layer);
    int64_t n, none;
    gr_role_shape(role, &m->config, &n, &none);
    for (int64_t i = 0; stored && i < n; i++) stored[i] = used[i] = 1;
}

static graft_status invent_all(gr_model *m, graft_error *err) {
    size_t total = 0, at = 0;
    gr_mat *mat;
    for (int64_t i = 0; (mat = gr_model_matrix_at(m, i)); i++)
        total += gr_round_up((size_t)gr_mat_bytes(mat), 64);
    m->random = aligned_alloc(64, total);
    if (!m->random) return gr_no_memory(err, total);
    for (int64_t i = 0; (mat = gr_model_matrix_at(m, i)); i++) {
        invent(mat, m->random + at);
        at += gr_round_up((size_t)gr_mat_bytes(mat), 64);
    }
    if (m->config.tied) m->head = m->embed;
    for (int64_t l = 0; l < m->config.layers; l++)
        for (gr_role role = GR_LINEARS; role < GR_ROLES; role++) fill_norm(m, role, l);
    fill_norm(m, GR_NORM, 0);
    return GRAFT_OK;
}

void gr_model_assume_16_bit(gr_model *m) {
    gr_mat *mat;
    if (m->file || m->random) return;
    for (int64_t i = 0; (mat = gr_model_matrix_at(m, i)); i++) {
        mat->layout = GR_DENSE;
        mat->dtype = GR_BF16;
        mat->bits = mat->group = 0;
    }
    if (m->config.tied) m->head = m->embed;
}

graft_status gr_model_from_shape(gr_model **out, const char *name, bool weights, graft_error *err) {
    gr_model *m;
    GR_TRY(new_model(&m, name, err));
    graft_status st = gr_shape_config(&m->config, name, err);
    if (st == GRAFT_OK) st = finish_open(m, err);
    if (st == GRAFT_OK && weights) st = invent_all(m, err);
    return hand_over(out, m, st);
}

gr_model *gr_model_share(gr_model *m) {
    atomic_fetch_add(&m->others, 1);
    return m;
}

void gr_model_free(gr_model *m) {
    if (!m || atomic_fetch_sub(&m->others, 1) > 0) return;
    gr_safetensors_close(m->file);
    gr_config_free(&m->config);
    free(m->layer);
    for (int i = 0; i < GR_ROPES; i++) free(m->inv_freq[i]);
    free(m->small);
    free(m->used);
    free(m->random);
    free(m->experts);
    free(m->part_digests);
    free(m->dir);
    free(m);
}

const gr_mat *gr_model_matrix(const gr_model *m, gr_role role, int64_t layer) {
    if (role < GR_LINEARS) return &m->layer[layer].linear[role];
    return role == GR_EMBED_TOKENS ? &m->embed : role == GR_LM_HEAD ? &m->head : NULL;
}

gr_stack gr_model_stack(const gr_model *m, gr_role role, int64_t layer) {
    if (!gr_role_expert(role)) return (gr_stack){0};
    return (gr_stack){.all = m->layer[layer].linear[role],
                      .count = m->config.experts,
                      .at = m->layer[layer].expert[role - GR_EXPERT_GATE]};
}

const float *gr_model_norm(const gr_model *m, gr_role role, int64_t layer) {
    if (role == GR_NORM) return m->final_norm;
    return gr_role_table[role].in_block ? m->layer[layer].norm[role] : NULL;
}

const float *gr_model_bias(const gr_model *m, gr_role role, int64_t layer) {
    if (role == GR_NORM) return m->final_bias;
    return gr_role_table[role].in_block ? m->layer[layer].bias[role] : NULL;
}

const float *gr_model_used_norm(const gr_model *m, gr_role role, int64_t layer) {
    if (role == GR_NORM) return m->used_final_norm;
    return gr_role_table[role].in_block ? m->layer[layer].used_norm[role] : NULL;
}
