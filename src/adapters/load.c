#include "adapters/adapter_parts.h"
#include <math.h>
#include <stdio.h>

static graft_status torn(const char *path, const char *mine, const char *other, const char *theirs,
                         graft_error *err) {
    gr_fail(err, GRAFT_MISMATCH, "the adapter's files are not of one save");
    gr_where(err, "%s", path);
    gr_expected(err, "digest %s as in %s", theirs, other);
    gr_found(err, "%s", mine);
    return gr_hint(err, "the train command with --resume writes them anew from its checkpoint");
}

/* The config's digest against the one of the tensor file that is read. */
static graft_status check_config_digest(const gr_adapter_config *c, const char *path, const char *digest,
                                        graft_error *err) {
    if (!digest || !c->digest || strcmp(digest, c->digest) == 0) return GRAFT_OK;
    return torn(path, digest, c->path, c->digest, err);
}

/* The digests of all formats' files in dir against the one that is read. */
static graft_status check_siblings(const char *path, const char *dir, const char *digest, gr_reading how,
                                   graft_error *err) {
    graft_status st = GRAFT_OK;
    for (const gr_adapter_format *f = gr_adapter_format_table; digest && f->name && st == GRAFT_OK; f++) {
        gr_adapter_words words;
        graft_error damaged = {0}; /* a sibling that cannot be read is none */
        char *other = gr_path_join(dir, f->file);
        if (!other) return gr_no_memory(err, strlen(dir));
        if (strcmp(other, path) != 0 && gr_path_exists_as(other, how) &&
            gr_adapter_words_read(&words, other, how, &damaged) == GRAFT_OK && words.digest[0] &&
            strcmp(words.digest, digest) != 0)
            st = torn(path, digest, other, words.digest, err);
        free(other);
    }
    return st;
}

static graft_status no_format(const char *path, graft_error *err) {
    gr_fail(err, GRAFT_UNSUPPORTED, "not an adapter that is known");
    gr_where(err, "%s", path);
    return gr_expected(err, "tensors named .lora_a (mlx-lm) or .lora_A.weight (PEFT), or a GGUF file");
}

/* The format by its names: PEFT's have a prefix, mlx-lm's a suffix, whole tensors are named as the base's. */
static const gr_adapter_format *probe(const gr_adapter_in *file, bool full) {
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name; f++) {
        if (f->gguf != (file->gguf != NULL)) continue;
        if (f->gguf) return f;
        for (size_t i = 0; i < file->count; i++) {
            const char *name = file->tensors[i].name;
            size_t n = strlen(f->prefix);
            if (n && strncmp(name, f->prefix, n) == 0) return f;
            if (!n && (gr_ends_with(name, f->slots[0].suffix) ||
                       (full && strncmp(name, gr_adapter_format_table[1].prefix,
                                        strlen(gr_adapter_format_table[1].prefix)) != 0)))
                return f;
        }
    }
    return NULL;
}

/* Columns of A that are one number. */
static graft_status pool_of(int64_t *pool, const gr_adapter_reader *r, gr_role role, const char *path,
                            graft_error *err) {
    int64_t out, in;
    gr_role_shape(role, r->config, &out, &in);
    *pool = gr_role_expert(role) ? 0 : r->settings->pool;
    bool group = *pool == 32 || *pool == 64 || *pool == 128;
    if (!*pool || (group && in % *pool == 0 && !r->settings->dora)) return GRAFT_OK;
    if (r->settings->dora)
        gr_fail(err, GRAFT_UNSUPPORTED, "%s is of DoRA and group_pooled, which cannot be both", path);
    else if (!group)
        gr_fail(err, GRAFT_CORRUPT, "group_pooled is not 32, 64 or 128");
    else
        gr_fail(err, GRAFT_CORRUPT, "group_pooled does not divide the rows of %s", path);
    gr_where(err, "%s: graft.group_pooled", r->settings->path);
    return gr_found(err, "%lld", (long long)*pool);
}

/* What the file has becomes what trains. */
static graft_status wish(gr_tuning *t, const gr_adapter_reader *r, gr_role role, int64_t layer,
                         graft_error *err) {
    const gr_adapter_find *f = gr_adapter_found(r, role, layer, 0);
    gr_tuned *x = gr_tuning_at(t, role, layer);
    const gr_tensor *a = f[GR_PARAM_A].tensor;
    char path[200];
    gr_role_name(path, sizeof path, role, layer);
    if (a) {
        const bool stacked = gr_role_expert(role) && !f[GR_PARAM_A].woven; /* three dimensions */
        x->rank = a->shape[(stacked ? 1 : 0) + (f[GR_PARAM_A].slot->transposed ? 1 : 0)];
        if (f[GR_PARAM_A].woven) x->rank /= f[GR_PARAM_A].stack;
        x->dora = r->settings->dora;
        if (role < GR_LINEARS) GR_TRY(pool_of(&x->pool, r, role, path, err));
        GR_TRY(gr_adapter_config_scale(&x->scale, r->settings, path, x->rank, err));
        if (role == GR_EMBED_TOKENS && r->tied[GR_PARAM_A].tensor) { /* its other use has a path of its own */
            float head;
            GR_TRY(gr_adapter_config_scale(&head, r->settings, "lm_head", x->rank, err));
            if (head != x->scale)
                return gr_fail(err, GRAFT_MISMATCH,
                               "%s: lm_head and the embedding it is tied to have other "
                               "alphas",
                               r->settings->path);
        }
    }
    x->train_bias = f[GR_PARAM_BIAS].tensor != NULL;
    x->train_weight = f[GR_PARAM_WEIGHT].tensor != NULL;
    x->saved = x->train_weight && (r->format->prefix[0] || !gr_role_table[role].in_block ||
                                   gr_adapter_config_saves(r->settings, path));
    return GRAFT_OK;
}

static graft_status fill(gr_tuning *t, const gr_adapter_reader *r, graft_error *err) {
    const gr_adapter_config *c = r->settings;
    t->kind = strcmp(c->type, "full") == 0 ? GR_TUNE_FULL : c->dora ? GR_TUNE_DORA : GR_TUNE_LORA;
    t->bias = c->bias;
    t->use_rslora = c->rslora;
    t->pool = c->pool;
    if (t->kind == GR_TUNE_FULL)
        t->full_last = c->num_layers > 0 ? gr_min_i64(c->num_layers, t->layers) : t->layers;
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (!gr_role_exists(role, r->config)) continue;
        for (int64_t l = 0; l < (gr_role_table[role].in_block ? t->layers : 1); l++)
            GR_TRY(wish(t, r, role, l, err));
    }
    GR_TRY(gr_tuning_place(t, r->config, err));
    if (!isnan(c->scale)) { /* mlx-lm's number; alpha follows */
        double by = (double)gr_max_i64(t->rank, 1);
        t->scale = c->scale;
        t->alpha = c->scale * (c->rslora ? sqrt(by) : by);
    } else if (c->by_rank) {
        t->scale = (double)gr_adapter_gguf_scale((float)c->alpha, gr_max_i64(t->rank, 1));
        t->alpha = t->scale * (double)t->rank;
    } else if (c->rank) {
        t->alpha = c->alpha;
        t->scale = c->alpha / (c->rslora ? sqrt((double)c->rank) : (double)c->rank);
    }
    return GRAFT_OK;
}

/* What was read against the digest that was written with it: also a file whose names and sizes are all right
 * may have been altered. A padded or folded file has other numbers than what was trained. */
static graft_status check_numbers(const gr_adapter_reader *r, const char *path, const char *digest,
                                  const float *params, int64_t count, graft_error *err) {
    char own[17];
    if (!digest || !r->file.words.exact || (r->settings->padded && r->format->one_rank)) return GRAFT_OK;
    gr_adapter_digest(own, params, count);
    if (strcmp(own, digest) == 0) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "the adapter's numbers are not those that were saved");
    gr_where(err, "%s", path);
    gr_expected(err, "digest %s", digest);
    gr_found(err, "%s", own);
    return gr_hint(
        err, "the file is damaged, or was edited: train with --resume writes it anew from its checkpoint");
}

static graft_status not_pooled(const char *tensor, const char *file, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "%s is not the same inside each group, though the config says group_pooled",
            tensor);
    gr_where(err, "%s", file);
    return gr_hint(err, "another program has trained it on, or it is damaged: without group_pooled in "
                        "adapter_config.json it is an adapter like any other");
}

/* The characters of a file's text that a line has room for; -1 where it is not fit to be printed. */
static int shown_bytes(const char *text, size_t len) {
    enum { MOST = 80 };
    char copy[MOST + 1];
    size_t n = len < MOST ? len : MOST;
    while (n && n < len && ((unsigned char)text[n] & 0xC0) == 0x80) n--; /* between two characters */
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < ' ' || c == 0x7F) return -1;
        if (c == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0) return -1; /* U+0080 to U+009F */
    }
    memcpy(copy, text, n);
    copy[n] = 0;
    return gr_json_utf8(copy) ? (int)n : -1;
}

/* What a GGUF file says of how it wants to be asked, which no program does by itself. source: llama.cpp
 * src/llama-arch.cpp, LLM_KV_ADAPTER_LORA_TASK_NAME, _PROMPT_PREFIX */
static void note_wishes(gr_adapter_base *base, const gr_gguf *file) {
    static const char *const keys[] = {"adapter.lora.task_name", "adapter.lora.prompt_prefix"};
    for (size_t i = 0; base && i < sizeof keys / sizeof *keys; i++) {
        const char *text;
        size_t len, have = strlen(base->note);
        if (!gr_gguf_string(file, keys[i], &text, &len) || !len) continue;
        const int shown = shown_bytes(text, len);
        snprintf(
            base->note + have, sizeof base->note - have,
            "%sthe adapter's %s is %s%.*s%s: nothing is done with it, and no file that graft writes has it",
            have ? "; " : "", keys[i], shown < 0 ? "not printable" : "\"", shown < 0 ? 0 : shown, text,
            shown < 0 ? "" : "\"");
    }
}

static graft_status load_from(gr_adapter_reader *r, gr_adapter_config *c, gr_tuning **tuning, float **params,
                              const gr_adapter_spot *p, gr_adapter_base *base, graft_error *err) {
    GR_TRY(gr_adapter_in_open(&r->file, p->file, p->how, err));
    const gr_json_scope root = {c->root, c->path, ""};
    if (!r->file.gguf) GR_TRY(gr_json_string(&root, "fine_tune_type", &c->type, err));
    r->format = probe(&r->file, strcmp(c->type, "full") == 0);
    if (!r->format) return no_format(p->file, err);
    c->whole = gr_adapter_whole_of(r->file.tensors, r->file.count, r->format->prefix);
    const char *digest = r->file.words.digest[0] ? r->file.words.digest : NULL;
    GR_TRY(gr_adapter_check_base(base, &r->file.words, c, p->file, err));
    const bool numbers = !base || !base->shape_only;
    if (numbers) GR_TRY(check_siblings(p->file, p->dir, digest, p->how, err));
    if (numbers) GR_TRY(check_config_digest(c, p->file, digest, err));
    GR_TRY(r->format->gguf ? gr_adapter_gguf_read(c, &r->file, r->config, err)
                           : gr_adapter_config_read(c, r->format->prefix[0] != 0,
                                                    (size_t)r->config->layers * GR_ROLES, err));
    if (r->format->gguf) note_wishes(base, r->file.gguf);
    GR_TRY(gr_adapter_find_all(r, p->file, err));
    GR_TRY(gr_tuning_new(tuning, r->config, err));
    gr_tuning *t = *tuning;
    GR_TRY(fill(t, r, err));
    *params = gr_calloc((size_t)t->parameters, sizeof **params);
    if (!*params) return gr_no_memory(err, (size_t)t->parameters * sizeof **params);
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *own = &t->params[i];
        const gr_adapter_find *from = gr_adapter_found(r, own->role, own->layer, own->kind);
        if (!gr_adapter_copy(*params + own->at, own, gr_tuning_of(t, own->role, own->layer)->pool, from))
            return not_pooled(from->tensor->name, p->file, err);
    }
    return numbers ? check_numbers(r, p->file, digest, *params, t->parameters, err) : GRAFT_OK;
}

graft_status gr_adapter_load_one(gr_tuning **tuning, float **params, const char *path,
                                 const gr_model_config *config, gr_adapter_base *base, graft_error *err) {
    gr_adapter_config c = {0};
    gr_adapter_reader r = {.config = config, .settings = &c};
    gr_adapter_spot p = {.how = base ? base->reading : GR_MAPPED};
    *tuning = NULL;
    *params = NULL;
    graft_status st = gr_adapter_spot_find(&p, path, err);
    if (st == GRAFT_OK) st = gr_adapter_config_open(&c, p.dir, gr_adapter_is_gguf(p.file, p.how), p.how, err);
    if (st == GRAFT_OK) st = gr_adapter_spot_exact(&p, &c, gr_path_is_dir_as(path, p.how), err);
    if (st == GRAFT_OK) st = load_from(&r, &c, tuning, params, &p, base, err);
    if (st != GRAFT_OK) {
        gr_tuning_free(*tuning);
        free(*params);
        *tuning = NULL;
        *params = NULL;
    }
    gr_adapter_reader_free(&r);
    gr_adapter_config_free(&c);
    gr_adapter_spot_free(&p);
    return st;
}
