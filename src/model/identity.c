#include "model/identity.h"
#include "base/digest.h"
#include "base/os.h"
#include "weights/affine.h"
#include <math.h>
#include <stdio.h>

/* Bytes of a task: enough that starting it costs nothing, few enough that all threads have some. */
#define PIECE ((size_t)4 << 20)

typedef struct piece {
    const uint8_t *data;
    size_t bytes;
    int64_t part; /* that it belongs to */
    uint64_t digest;
} piece;

/* First pass counts, the second writes. */
typedef struct listing {
    const gr_model *model;
    piece *pieces; /* NULL while counting */
    int64_t count;
} listing;

/* Place of a tensor among the parts. */
static int64_t part_of(gr_role role, int64_t layer) {
    return (gr_role_table[role].in_block ? layer : 0) * GR_ROLES + (int64_t)role;
}

static void add(listing *l, int64_t part, const void *data, uint64_t bytes) {
    for (uint64_t at = 0; data && at < bytes; at += PIECE) {
        size_t n = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
        if (l->pieces) l->pieces[l->count] = (piece){(const uint8_t *)data + at, n, part, 0};
        l->count++;
    }
}

static void add_matrix(listing *l, int64_t part, const gr_mat *w) {
    bool dense = w->layout == GR_DENSE;
    uint64_t all = gr_mat_bytes(w),
             codes = dense ? all : (uint64_t)(w->rows * gr_affine_row_bytes(w->cols, w->bits));
    add(l, part, w->data, codes);
    add(l, part, w->scales, w->biases ? (all - codes) / 2 : all - codes);
    add(l, part, w->biases, (all - codes) / 2);
}

static void add_role(listing *l, gr_role role, int64_t layer) {
    const gr_model *m = l->model;
    const gr_mat *w = gr_model_matrix(m, role, layer);
    int64_t part = part_of(role, layer), out, in;
    gr_role_shape(role, &m->config, &out, &in);
    const gr_stack experts = gr_model_stack(m, role, layer);
    for (int64_t e = 0; e < experts.count; e++) { /* each by itself, wherever it lies */
        const gr_mat own = gr_stack_mat(&experts, e);
        add_matrix(l, part, &own);
    }
    if (experts.count) return;
    if (w)
        add_matrix(l, part, w);
    else
        add(l, part, gr_model_norm(m, role, layer), (uint64_t)out * sizeof(float));
    add(l, part, gr_model_bias(m, role, layer), (uint64_t)out * sizeof(float));
}

static void add_all(listing *l) {
    const gr_model_config *c = &l->model->config;
    l->count = 0;
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (!gr_role_exists(role, c)) continue;
        for (int64_t layer = 0; layer < (gr_role_table[role].in_block ? c->layers : 1); layer++)
            add_role(l, role, layer);
    }
}

static void digest_piece(void *context, int task, int worker) {
    piece *p = (piece *)context + task;
    (void)worker;
    p->digest = gr_digest_blocks(GR_DIGEST_START, p->data, p->bytes);
}

/* A part before its bytes: how they are to be read. */
static uint64_t begin_part(const gr_model *m, gr_role role, int64_t layer) {
    const gr_mat *w = gr_model_matrix(m, role, layer);
    uint64_t h = gr_digest_number(GR_DIGEST_START, (uint64_t)gr_role_table[role].number);
    if (!w) return h;
    const int64_t numbers[] = {w->layout, w->dtype, w->bits, w->group, w->rows, w->cols};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        h = gr_digest_number(h, (uint64_t)numbers[i]);
    return h;
}

static uint64_t add_float(uint64_t h, double x) {
    float f = (float)x; /* GGUF has no more digits */
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return gr_digest_number(h, bits);
}

static uint32_t fold32(uint64_t h) {
    return (uint32_t)(h ^ h >> 32);
}

/* What stretches a rotation: behind the name of its rule, only where the rule has it. */
static uint64_t add_stretch(uint64_t h, const gr_rope_config *r) {
    if (r->kind != GR_ROPE_LLAMA3 && r->kind != GR_ROPE_YARN) return h;
    h = add_float(add_float(h, r->low_freq_factor), r->high_freq_factor);
    return gr_digest_number(h, (uint64_t)r->original_max_position);
}

static uint64_t add_divisors(uint64_t h, const gr_rope_config *r, int64_t rotary) {
    for (int64_t i = 0; r->kind == GR_ROPE_LONG && i < rotary / 2; i++) h = add_float(h, r->divisor[i]);
    return h;
}

/* The second rotation: what it has beyond a plain one as well, with names of their own. */
static uint64_t add_second(uint64_t h, const gr_rope_config *r, int64_t rotary) {
    const double numbers[][2] = {{r->magnitude, 1}, {r->beta_fast, 0}, {r->beta_slow, 0},
                                 {r->fractions, 0}, {r->growth, 0},    {(double)r->step, 0}};
    h = add_float(add_float(gr_digest_number(h, (uint64_t)r->kind), r->theta), r->factor);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if ((float)numbers[i][0] != (float)numbers[i][1])
            h = add_float(gr_digest_number(h, 1100 + i), numbers[i][0]);
    return add_divisors(add_stretch(h, r), r, rotary);
}

/* What plain Llama has not, each number behind a name of its own: bases without it keep their digests. */
static uint64_t digest_traits(uint64_t h, const gr_model_config *c) {
    const gr_rope_config *r = c->rope;
    const int64_t mixture[] = {c->experts, c->experts_used, c->experts_normed};
    const double usual = 1 / sqrt((double)c->head_dim);
    const double numbers[][2] = {
        {c->activation, GR_SILU},    {c->embedding_scale, 1}, {c->residual_scale, 1}, {c->logit_scale, 1},
        {c->attention_scale, usual}, {c->attention_cap, 0},   {c->logit_cap, 0},      {r->magnitude, 1},
        {r->beta_fast, 0},           {r->beta_slow, 0},       {r->fractions, 0},      {r->growth, 0},
        {(double)r->step, 0}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if ((float)numbers[i][0] != (float)numbers[i][1])
            h = add_float(gr_digest_number(h, 1000 + i), numbers[i][0]);
    const unsigned counted = GR_ARCH_ONE_PLUS | GR_ARCH_SANDWICH | GR_ARCH_NORM_BEHIND;
    unsigned traits = c->arch->traits & counted;
    if (c->rotary != c->head_dim) h = gr_digest_number(gr_digest_number(h, 2001), (uint64_t)c->rotary);
    h = add_divisors(h, r, c->rotary);
    if (traits) h = gr_digest_number(gr_digest_number(h, 2000), traits);
    for (uint64_t i = 0; c->experts && i < sizeof mixture / sizeof *mixture; i++)
        h = gr_digest_number(gr_digest_number(h, 2100 + i), (uint64_t)mixture[i]);
    for (int64_t l = 0; l < c->layers; l++)
        if (c->rope_of[l])
            h = gr_digest_number(gr_digest_number(h, 3000 + (uint64_t)l), (uint64_t)c->rope_of[l]);
    return gr_rope_count(c) == 2 ? add_second(h, &r[1], c->rotary) : h;
}

uint32_t gr_identity_config(const gr_model_config *c) {
    const gr_rope_config *r = &c->rope[0];
    const int64_t numbers[] = {c->layers, c->heads, c->kv_heads, c->head_dim, c->tied, c->qk_norm, r->kind};
    uint64_t h = GR_DIGEST_START;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        h = gr_digest_number(h, (uint64_t)numbers[i]);
    h = add_float(add_float(h, c->norm_eps), r->theta);
    if (r->kind != GR_ROPE_DEFAULT) h = add_float(h, r->factor);
    h = add_stretch(h, r);
    for (int64_t l = 0; l < c->layers; l++) h = gr_digest_number(h, (uint64_t)c->window[l]);
    return fold32(digest_traits(h, c));
}

/* The pieces stand part by part, role by role. */
static void fold(gr_model *m, const piece *pieces, int64_t count) {
    const gr_model_config *c = &m->config;
    int64_t at = 0;
    m->config_digest = gr_identity_config(c);
    m->digest = gr_digest_number(GR_DIGEST_START, m->config_digest);
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (!gr_role_exists(role, c)) continue;
        for (int64_t layer = 0; layer < (gr_role_table[role].in_block ? c->layers : 1); layer++) {
            int64_t part = part_of(role, layer);
            uint64_t h = begin_part(m, role, layer);
            for (; at < count && pieces[at].part == part; at++) h = gr_digest_number(h, pieces[at].digest);
            m->part_digests[part] = (uint32_t)(h ^ h >> 32);
            m->digest = gr_digest_number(m->digest, h);
        }
    }
    if (!m->digest) m->digest = 1; /* 0 is: not known */
}

graft_status gr_model_identify(gr_model *m, gr_pool *pool, graft_error *err) {
    listing l = {.model = m};
    size_t parts = (size_t)m->config.layers * GR_ROLES;
    if (!m->file || m->digest) return GRAFT_OK;
    add_all(&l);
    m->part_digests = gr_calloc(parts, sizeof *m->part_digests);
    l.pieces = gr_calloc((size_t)l.count, sizeof *l.pieces);
    if (!m->part_digests || !l.pieces) {
        free(l.pieces);
        free(m->part_digests);
        m->part_digests = NULL;
        return gr_no_memory(err, (size_t)l.count * sizeof *l.pieces + parts * sizeof *m->part_digests);
    }
    add_all(&l);
    gr_pool_run(pool, digest_piece, l.pieces, (int)l.count);
    fold(m, l.pieces, l.count);
    if (!m->config.tied) /* of which a batch needs a few rows: the others shall not count as held */
        gr_map_release(m->embed.data, gr_mat_bytes(&m->embed));
    free(l.pieces);
    return GRAFT_OK;
}

/* ------------------------------------------------------------------------------------------ as a record */

enum { DIGITS = 8 };

/* The digests of a role over its layers. */
static void role_text(gr_buf *out, const gr_model *m, gr_role role) {
    gr_buf_clear(out);
    for (int64_t l = 0; l < (gr_role_table[role].in_block ? m->config.layers : 1); l++)
        gr_buf_printf(out, "%08x", m->part_digests[part_of(role, l)]);
}

json_t *gr_identity_json(const gr_model *m) {
    gr_buf text = {0};
    if (!m || !m->part_digests) return NULL;
    gr_buf_printf(&text, "%08x", m->config_digest);
    json_t *record = json_pack("{s:s}", "config", text.data ? text.data : "");
    for (gr_role role = 0; record && role < GR_ROLES; role++) {
        if (!gr_role_exists(role, &m->config)) continue;
        role_text(&text, m, role);
        if (!text.data || text.failed ||
            json_object_set_new(record, gr_role_table[role].path, json_string(text.data)) != 0) {
            json_decref(record);
            record = NULL;
        }
    }
    gr_buf_free(&text);
    return record;
}

typedef struct comparison {
    gr_base_difference *d;
    gr_buf names;
    int64_t unnamed;
    bool others;       /* something but a linear of a block differs */
    bool same_linears; /* some do not differ */
} comparison;

static void differs(comparison *c, gr_role role, int64_t layer) {
    char name[200];
    gr_role_name(name, sizeof name, role, layer);
    c->others |= role >= GR_LINEARS;
    c->d->count++;
    if (c->unnamed || c->names.len + strlen(name) + sizeof ", and 1000000 more" > sizeof c->d->text)
        c->unnamed++;
    else
        gr_buf_printf(&c->names, "%s%s", c->names.len ? ", " : "", name);
}

/* `then`: as recorded, "" where it was not. */
static void compare_role(comparison *c, const gr_model *m, gr_role role, const char *then) {
    gr_buf now = {0};
    bool here = gr_role_exists(role, &m->config);
    int64_t layers = !here ? 0 : gr_role_table[role].in_block ? m->config.layers : 1;
    int64_t recorded = gr_min_i64((int64_t)(strlen(then) / DIGITS), GR_MAX_LAYERS);
    if (here) role_text(&now, m, role);
    c->d->all += layers;
    for (int64_t l = 0; l < gr_max_i64(layers, recorded); l++) {
        bool both = l < layers && l < recorded && now.data && !now.failed;
        if (!both || memcmp(then + DIGITS * l, now.data + DIGITS * l, DIGITS) != 0)
            differs(c, role, l);
        else
            c->same_linears |= role < GR_LINEARS;
    }
    gr_buf_free(&now);
}

void gr_identity_compare(gr_base_difference *d, const gr_model *m, const json_t *recorded) {
    comparison c = {.d = d};
    char config[DIGITS + 1];
    *d = (gr_base_difference){0};
    if (!m->part_digests || !json_is_object(recorded)) return;
    for (gr_role role = 0; role < GR_ROLES; role++) {
        const char *then = json_string_value(json_object_get(recorded, gr_role_table[role].path));
        compare_role(&c, m, role, then ? then : "");
    }
    snprintf(config, sizeof config, "%08x", m->config_digest);
    const char *then = json_string_value(json_object_get(recorded, "config"));
    d->config = !then || strcmp(then, config) != 0;
    d->linears_only = d->count && !c.others && !c.same_linears && !d->config;
    if (c.unnamed)
        snprintf(d->text, sizeof d->text, "%s and %lld more", c.names.data ? c.names.data : "",
                 (long long)c.unnamed);
    else if (c.names.data)
        snprintf(d->text, sizeof d->text, "%s", c.names.data);
    gr_buf_free(&c.names);
}

void gr_identity_text(char *text, size_t size, const gr_base_difference *d) {
    if (d->count)
        snprintf(text, size, "; %lld of %lld tensors differ%s: %s", (long long)d->count, (long long)d->all,
                 d->config ? ", as do numbers of config.json" : "", d->text);
    else
        snprintf(text, size, "%s", d->config ? "; numbers of config.json differ, no tensor does" : "");
}
