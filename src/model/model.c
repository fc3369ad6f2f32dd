#include "model/model.h"
#include "base/rng.h"
#include "model/packed.h"
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

static void bind_matrix(binder *b, gr_mat *mat, gr_role role, int64_t layer) {
    gr_model *m = b->model;
    char base[200];
    *mat = (gr_mat){.layout = GR_DENSE, .dtype = GR_BF16, .alpha = 1};
    gr_role_shape(role, &m->config, &mat->rows, &mat->cols);
    mat->ld = mat->cols;
    gr_role_name(base, sizeof base, role, layer);
    const char *wrong = NULL;
    if (!m->file) {
        wrong = gr_packed_plan(mat, &m->config, role, base);
        if (wrong) problem(b, base, wrong);
        return;
    }
    gr_packed_tensors packed = {find(m, base, ".weight"), find(m, base, ".scales"), find(m, base, ".biases"),
                                find(m, base, ".global_scale")};
    const gr_tensor *w = packed.weight;
    if (!w)
        problem(b, base, "has no weight");
    else if (packed.scales) {
        wrong = gr_packed_bind(mat, &m->config, base, &packed);
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
        bind_matrix(b, &layer->linear[role], role, l);
        if (!gr_role_has_bias(role, &m->config)) continue;
        gr_role_name(base, sizeof base, role, l);
        layer->bias[role] = bind_vector(b, base, ".bias", layer->linear[role].rows);
    }
    gr_role_name(base, sizeof base, GR_INPUT_LAYERNORM, l);
    layer->input_norm = bind_vector(b, base, ".weight", m->config.hidden);
    gr_role_name(base, sizeof base, GR_POST_ATTENTION_LAYERNORM, l);
    layer->post_norm = bind_vector(b, base, ".weight", m->config.hidden);
    if (!m->config.qk_norm) return;
    snprintf(base, sizeof base, "model.layers.%lld.self_attn", (long long)l);
    layer->q_norm = bind_vector(b, base, ".q_norm.weight", m->config.head_dim);
    layer->k_norm = bind_vector(b, base, ".k_norm.weight", m->config.head_dim);
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
    m->final_norm = bind_vector(b, "model.norm", ".weight", m->config.hidden);
}

/* Counts the small vectors, allocates them, and binds everything. model->config and file are set. */
static graft_status finish_open(gr_model *m, graft_error *err) {
    binder b = {.model = m};
    m->layer = gr_calloc((size_t)m->config.layers, sizeof *m->layer);
    m->inv_freq = gr_calloc((size_t)m->config.head_dim / 2, sizeof *m->inv_freq);
    if (!m->layer || !m->inv_freq) return gr_no_memory(err, sizeof *m->layer * (size_t)m->config.layers);
    gr_rope_frequencies(m->inv_freq, &m->config);
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
    return b.count ? GRAFT_MISMATCH : GRAFT_OK;
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

graft_status gr_model_open_as(gr_model **out, const char *dir, gr_reading how, graft_error *err) {
    gr_model *m;
    GR_TRY(new_model(&m, dir, err));
    graft_status st = gr_config_open(&m->config, dir, err);
    m->reading = how;
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

/* Every matrix of the model in a fixed order; NULL after the last. */
static gr_mat *matrix_at(gr_model *m, int64_t i) {
    int64_t in_blocks = m->config.layers * GR_LINEARS;
    if (i < in_blocks) return &m->layer[i / GR_LINEARS].linear[i % GR_LINEARS];
    if (i == in_blocks) return &m->embed;
    if (i == in_blocks + 1 && !m->config.tied) return &m->head;
    return NULL;
}

static graft_status invent_all(gr_model *m, graft_error *err) {
    size_t total = 0, at = 0;
    gr_mat *mat;
    for (int64_t i = 0; (mat = matrix_at(m, i)); i++) total += gr_round_up((size_t)gr_mat_bytes(mat), 64);
    m->random = aligned_alloc(64, total);
    if (!m->random) return gr_no_memory(err, total);
    for (int64_t i = 0; (mat = matrix_at(m, i)); i++) {
        invent(mat, m->random + at);
        at += gr_round_up((size_t)gr_mat_bytes(mat), 64);
    }
    if (m->config.tied) m->head = m->embed;
    size_t norms = (size_t)m->config.hidden;
    for (int64_t l = 0; l < m->config.layers; l++) {
        gr_layer *layer = &m->layer[l];
        for (size_t i = 0; i < norms; i++)
            ((float *)(uintptr_t)layer->input_norm)[i] = ((float *)(uintptr_t)layer->post_norm)[i] = 1;
        for (int64_t i = 0; layer->q_norm && i < m->config.head_dim; i++)
            ((float *)(uintptr_t)layer->q_norm)[i] = ((float *)(uintptr_t)layer->k_norm)[i] = 1;
    }
    for (size_t i = 0; i < norms; i++) ((float *)(uintptr_t)m->final_norm)[i] = 1;
    return GRAFT_OK;
}

bool gr_model_quantized(const gr_model *m) {
    const gr_mat *mat;
    for (int64_t i = 0; (mat = matrix_at((gr_model *)(uintptr_t)m, i)); i++)
        if (mat->layout != GR_DENSE) return true;
    return false;
}

void gr_model_assume_16_bit(gr_model *m) {
    gr_mat *mat;
    if (m->file || m->random) return;
    for (int64_t i = 0; (mat = matrix_at(m, i)); i++) {
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

void gr_model_free(gr_model *m) {
    if (!m) return;
    gr_safetensors_close(m->file);
    gr_config_free(&m->config);
    free(m->layer);
    free(m->inv_freq);
    free(m->small);
    free(m->random);
    free(m->part_digests);
    free(m->dir);
    free(m);
}

const gr_mat *gr_model_matrix(const gr_model *m, gr_role role, int64_t layer) {
    if (role < GR_LINEARS) return &m->layer[layer].linear[role];
    return role == GR_EMBED_TOKENS ? &m->embed : role == GR_LM_HEAD ? &m->head : NULL;
}

const float *gr_model_norm(const gr_model *m, gr_role role, int64_t layer) {
    switch (role) {
    case GR_INPUT_LAYERNORM: return m->layer[layer].input_norm;
    case GR_POST_ATTENTION_LAYERNORM: return m->layer[layer].post_norm;
    case GR_Q_NORM: return m->layer[layer].q_norm;
    case GR_K_NORM: return m->layer[layer].k_norm;
    case GR_NORM: return m->final_norm;
    default: return NULL;
    }
}

uint64_t gr_mat_bytes(const gr_mat *mat) {
    if (mat->layout == GR_DENSE) return (uint64_t)(mat->rows * mat->cols) * gr_dtype_bytes(mat->dtype);
    int per_group = mat->layout == GR_AFFINE ? 2 : 1; /* scales, and biases */
    return (uint64_t)(mat->rows * gr_affine_row_bytes(mat->cols, mat->bits)) +
           per_group * (uint64_t)(mat->rows * (mat->cols / mat->group)) * gr_dtype_bytes(mat->dtype);
}

/* Elements of norms and biases. */
static int64_t small_parameters(const gr_model *m) {
    const gr_model_config *c = &m->config;
    int64_t each = 2 * c->hidden + (c->qk_norm ? 2 * c->head_dim : 0);
    for (gr_role role = 0; role < GR_LINEARS; role++)
        if (gr_role_has_bias(role, c)) each += m->layer[0].linear[role].rows;
    return each * c->layers + c->hidden;
}

int64_t gr_model_parameters(const gr_model *m) {
    int64_t total = small_parameters(m);
    const gr_mat *mat;
    for (int64_t i = 0; (mat = matrix_at((gr_model *)(uintptr_t)m, i)); i++) total += mat->rows * mat->cols;
    return total;
}

uint64_t gr_model_small_bytes(const gr_model *m) {
    return (uint64_t)small_parameters(m) * sizeof *m->small;
}

uint64_t gr_model_weight_bytes(const gr_model *m) {
    uint64_t total = gr_model_small_bytes(m);
    const gr_mat *mat;
    for (int64_t i = 0; (mat = matrix_at((gr_model *)(uintptr_t)m, i)); i++) total += gr_mat_bytes(mat);
    return total;
}

uint64_t gr_model_held_bytes(const gr_model *m) {
    uint64_t touched = gr_model_weight_bytes(m);
    if (!m->file || m->reading == GR_MAPPED) return touched;
    uint64_t files = gr_safetensors_bytes(m->file) + gr_model_small_bytes(m);
    return files > touched ? files : touched;
}
