#include "adapters/adapter.h"
#include "files/json_read.h"
#include <math.h>
#include <stdio.h>

/* What is being read. */
typedef struct reader {
    const gr_model_config *config;
    gr_safetensors *file;
    const gr_adapter_format *format;
    int64_t *ranks; /* [layers * GR_LINEARS] */
    gr_buf problems;
    int count;
} reader;

static void problem(reader *r, const char *name, const char *text) {
    if (++r->count <= 6) gr_buf_printf(&r->problems, "%s%s %s", r->problems.len ? "; " : "", name, text);
}

/* The format whose A suffix some tensor has. */
static const gr_adapter_format *probe(const gr_safetensors *file) {
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name; f++)
        for (size_t i = 0; i < gr_safetensors_count(file); i++)
            if (gr_ends_with(gr_safetensors_at(file, i)->name, f->a)) return f;
    return NULL;
}

static const gr_tensor *tensor_of(const reader *r, gr_role role, int64_t layer, bool b) {
    char path[200], name[300];
    gr_role_name(path, sizeof path, role, layer);
    snprintf(name, sizeof name, "%s%s%s", r->format->prefix, path, b ? r->format->b : r->format->a);
    return gr_safetensors_find(r->file, name);
}

/* Does `t` have shape [rank, width] in graft's orientation? *rank 0: any, and is set. */
static bool fits(const gr_tensor *t, bool transposed, int64_t width, int64_t *rank) {
    if (t->ndim != 2 || !gr_dtype_is_float(t->dtype)) return false;
    int64_t r = t->shape[transposed ? 1 : 0], w = t->shape[transposed ? 0 : 1];
    if (w != width || r < 1 || (*rank && r != *rank)) return false;
    *rank = r;
    return true;
}

/* Ranks of all linears; every tensor of the file must be one of them. */
static void find_ranks(reader *r) {
    size_t used = 0;
    for (int64_t l = 0; l < r->config->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            const gr_tensor *a = tensor_of(r, role, l, false), *b = tensor_of(r, role, l, true);
            int64_t out, in, rank = 0;
            if (!a && !b) continue;
            used += (size_t)(a != NULL) + (size_t)(b != NULL);
            gr_role_shape(role, r->config, &out, &in);
            if (!a || !b)
                problem(r, (a ? a : b)->name, "has no partner");
            else if (!fits(a, r->format->a_transposed, in, &rank))
                problem(r, a->name, "does not fit the base");
            else if (!fits(b, r->format->b_transposed, out, &rank))
                problem(r, b->name, "does not fit the base");
            else
                r->ranks[l * GR_LINEARS + role] = rank;
        }
    if (used == gr_safetensors_count(r->file)) return;
    for (size_t i = 0; i < gr_safetensors_count(r->file); i++) { /* name the strangers */
        const char *name = gr_safetensors_at(r->file, i)->name;
        bool known = false;
        for (int64_t l = 0; l < r->config->layers && !known; l++)
            for (gr_role role = 0; role < GR_LINEARS && !known; role++)
                for (int b = 0; b < 2 && !known; b++) {
                    const gr_tensor *t = tensor_of(r, role, l, b);
                    known = t && strcmp(t->name, name) == 0;
                }
        if (!known) problem(r, name, "is not an adapter of this base");
    }
}

static void copy_matrix(float *to, const gr_tensor *t, bool transposed, int64_t rank, int64_t width) {
    for (int64_t i = 0; i < rank; i++)
        for (int64_t j = 0; j < width; j++)
            to[i * width + j] = gr_float_at(t->data, transposed ? j * rank + i : i * width + j, t->dtype);
}

static void copy_all(const reader *r, const gr_tuning *tuning, float *params) {
    for (int64_t l = 0; l < tuning->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            const gr_tuned *x = &tuning->block[l][role];
            int64_t out, in;
            if (!x->rank) continue;
            gr_role_shape(role, r->config, &out, &in);
            copy_matrix(params + x->a, tensor_of(r, role, l, false), r->format->a_transposed, x->rank, in);
            copy_matrix(params + x->b, tensor_of(r, role, l, true), r->format->b_transposed, x->rank, out);
        }
}

/* Kinds of adapters this reader would get wrong. */
static graft_status check_kind(const gr_json_scope *root, graft_error *err) {
    const char *type = "lora", *bias = "none";
    bool dora = false;
    GR_TRY(gr_json_string(root, "fine_tune_type", &type, err));
    GR_TRY(gr_json_bool(root, "use_dora", &dora, err));
    GR_TRY(gr_json_string(root, "bias", &bias, err));
    if (strcmp(type, "lora") == 0 && !dora && strcmp(bias, "none") == 0) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "this kind of adapter is not supported");
    gr_where(err, "%s", root->file);
    gr_expected(err, "LoRA without biases");
    return gr_found(err, "%s%s, bias %s", type, dora ? " with DoRA" : "", bias);
}

/* The factor before B A: mlx-lm's scale as it is, PEFT's alpha by rank; *rank is PEFT's, 0 where scale says
 * all. */
static graft_status read_scale(double *scale, int64_t *rank, bool peft, const gr_json_scope *root,
                               graft_error *err) {
    gr_json_scope inner;
    char path[128];
    double alpha = 0;
    bool rslora = false;
    GR_TRY(check_kind(root, err));
    GR_TRY(gr_json_object(root, "lora_parameters", &inner, path, err));
    if (!peft && inner.object) {
        GR_TRY(gr_json_need(&inner, "scale", err));
        return gr_json_real(&inner, "scale", -1e6, 1e6, scale, err);
    }
    GR_TRY(gr_json_need(root, "lora_alpha", err));
    GR_TRY(gr_json_need(root, "r", err));
    GR_TRY(gr_json_real(root, "lora_alpha", -1e6, 1e6, &alpha, err));
    GR_TRY(gr_json_int(root, "r", 1, 1 << 20, rank, err));
    GR_TRY(gr_json_bool(root, "use_rslora", &rslora, err));
    for (int i = 0; i < 2; i++) {
        static const char *const keys[] = {"rank_pattern", "alpha_pattern"};
        GR_TRY(gr_json_object(root, keys[i], &inner, path, err));
        if (!inner.object || json_object_size(inner.object) == 0) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "ranks or alphas per module are not supported");
        return gr_where(err, "%s: %s", root->file, keys[i]);
    }
    *scale = rslora ? alpha / sqrt((double)*rank) : alpha / (double)*rank;
    return GRAFT_OK;
}

static graft_status torn(const char *path, const char *mine, const char *other, const char *theirs,
                         graft_error *err) {
    gr_fail(err, GRAFT_MISMATCH, "the adapter's files are not of one save");
    gr_where(err, "%s", path);
    gr_expected(err, "digest %s as in %s", theirs, other);
    gr_found(err, "%s", mine);
    return gr_hint(err, "the train command with --resume writes them anew from its checkpoint");
}

/* The config's digest against the one of the tensor file that is read. */
static graft_status check_config_digest(const gr_json_scope *root, const char *path, const char *digest,
                                        graft_error *err) {
    gr_json_scope graft;
    char where[128];
    const char *recorded = NULL;
    GR_TRY(gr_json_object(root, "graft", &graft, where, err));
    if (!graft.object) return GRAFT_OK;
    GR_TRY(gr_json_string(&graft, "digest", &recorded, err));
    if (!digest || !recorded || strcmp(digest, recorded) == 0) return GRAFT_OK;
    return torn(path, digest, root->file, recorded, err);
}

/* The digests of all formats' files in dir against the one that is read. */
static graft_status check_siblings(const char *path, const char *dir, const char *digest, graft_error *err) {
    graft_status st = GRAFT_OK;
    for (const gr_adapter_format *f = gr_adapter_format_table; digest && f->name && st == GRAFT_OK; f++) {
        gr_safetensors *file = NULL;
        graft_error damaged = {0}; /* a sibling that cannot be read is none */
        char *other = gr_path_join(dir, f->file);
        if (!other) return gr_no_memory(err, strlen(dir));
        if (gr_path_exists(other) && gr_safetensors_open(&file, other, &damaged) == GRAFT_OK) {
            const char *theirs = gr_safetensors_metadata(file, "digest");
            if (theirs && strcmp(theirs, digest) != 0) st = torn(path, digest, other, theirs, err);
        }
        gr_safetensors_close(file);
        free(other);
    }
    return st;
}

static graft_status load_config(double *scale, int64_t *rank, const reader *r, const char *file,
                                const char *dir, graft_error *err) {
    json_t *object = NULL;
    char *path = gr_path_join(dir, "adapter_config.json");
    if (!path) return gr_no_memory(err, strlen(dir));
    graft_status st = gr_json_load(&object, path, GR_JSON_LIMIT, err);
    if (st == GRAFT_OK) {
        gr_json_scope root = {object, path, ""};
        st = check_config_digest(&root, file, gr_safetensors_metadata(r->file, "digest"), err);
        if (st == GRAFT_OK) st = read_scale(scale, rank, strcmp(r->format->name, "peft") == 0, &root, err);
    }
    json_decref(object);
    free(path);
    return st;
}

/* The tensor file of a directory, or the path itself; *dir receives where its config is. Both malloc'ed. */
static graft_status locate(char **file, char **dir, const char *path, graft_error *err) {
    const char *slash = strrchr(path, '/');
    *file = *dir = NULL;
    if (!gr_path_is_dir(path)) {
        *file = gr_strdup(path);
        *dir = slash ? gr_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : gr_strdup(".");
        return *file && *dir ? GRAFT_OK : gr_no_memory(err, strlen(path));
    }
    *dir = gr_strdup(path);
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name && !*file; f++) {
        *file = gr_path_join(path, f->file);
        if (*file && gr_path_exists(*file)) return *dir ? GRAFT_OK : gr_no_memory(err, strlen(path));
        free(*file);
        *file = NULL;
    }
    gr_fail(err, GRAFT_NOT_FOUND, "no adapter in this directory");
    gr_where(err, "%s", path);
    return gr_expected(err, "adapters.safetensors or adapter_model.safetensors");
}

static graft_status check_base(const gr_safetensors *file, const char *path, uint64_t base_digest,
                               graft_error *err) {
    const char *recorded = gr_safetensors_metadata(file, "base_digest");
    char mine[24];
    snprintf(mine, sizeof mine, "%016llx", (unsigned long long)base_digest);
    if (!base_digest || !recorded || strcmp(recorded, mine) == 0) return GRAFT_OK;
    gr_fail(err, GRAFT_MISMATCH, "the adapter was trained on another base model");
    gr_where(err, "%s", path);
    gr_expected(err, "base digest %s", recorded);
    gr_found(err, "%s", mine);
    return gr_hint(err, "give --model the base that adapter_config.json names");
}

static graft_status no_format(const char *path, graft_error *err) {
    gr_fail(err, GRAFT_UNSUPPORTED, "not an adapter that is known");
    gr_where(err, "%s", path);
    return gr_expected(err, "tensors named .lora_a (mlx-lm) or .lora_A.weight (PEFT)");
}

/* alpha / r is the scale of tensors of rank r only. */
static graft_status check_ranks(const reader *r, int64_t rank, const char *path, graft_error *err) {
    for (int64_t i = 0; rank && i < r->config->layers * GR_LINEARS; i++) {
        if (!r->ranks[i] || r->ranks[i] == rank) continue;
        gr_fail(err, GRAFT_MISMATCH, "the adapter's rank is not the one of adapter_config.json");
        gr_where(err, "%s", path);
        gr_expected(err, "rank %lld", (long long)rank);
        return gr_found(err, "%lld", (long long)r->ranks[i]);
    }
    return GRAFT_OK;
}

static graft_status load_from(reader *r, gr_tuning **tuning, float **params, const char *path,
                              const char *dir, uint64_t base_digest, graft_error *err) {
    double scale = 0;
    int64_t rank = 0;
    GR_TRY(gr_safetensors_open(&r->file, path, err));
    r->format = probe(r->file);
    if (!r->format) return no_format(path, err);
    GR_TRY(check_base(r->file, path, base_digest, err));
    GR_TRY(check_siblings(path, dir, gr_safetensors_metadata(r->file, "digest"), err));
    GR_TRY(load_config(&scale, &rank, r, path, dir, err));
    find_ranks(r);
    if (r->count) {
        gr_fail(err, GRAFT_MISMATCH, "%d tensors of the adapter do not fit the base model", r->count);
        gr_where(err, "%s", path);
        return gr_found(err, "%s%s", r->problems.data ? r->problems.data : "", r->count > 6 ? "; .." : "");
    }
    GR_TRY(check_ranks(r, rank, path, err));
    GR_TRY(gr_tuning_new(tuning, r->config, err));
    for (int64_t l = 0; l < r->config->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            gr_tuned *x = gr_tuning_at(*tuning, role, l);
            x->rank = r->ranks[l * GR_LINEARS + role];
            x->scale = x->rank ? (float)scale : 0;
        }
    GR_TRY(gr_tuning_place(*tuning, r->config, err));
    (*tuning)->scale = scale;
    (*tuning)->alpha = scale * (double)(*tuning)->rank;
    *params = gr_calloc((size_t)(*tuning)->parameters, sizeof **params);
    if (!*params) return gr_no_memory(err, (size_t)(*tuning)->parameters * sizeof **params);
    copy_all(r, *tuning, *params);
    return GRAFT_OK;
}

graft_status gr_adapter_load(gr_tuning **tuning, float **params, const char *path,
                             const gr_model_config *config, uint64_t base_digest, graft_error *err) {
    reader r = {.config = config};
    char *file = NULL, *dir = NULL;
    *tuning = NULL;
    *params = NULL;
    r.ranks = gr_calloc((size_t)config->layers * GR_LINEARS, sizeof *r.ranks);
    graft_status st =
        r.ranks ? locate(&file, &dir, path, err) : gr_no_memory(err, (size_t)config->layers * GR_LINEARS * 8);
    if (st == GRAFT_OK) st = load_from(&r, tuning, params, file, dir, base_digest, err);
    if (st != GRAFT_OK) {
        gr_tuning_free(*tuning);
        free(*params);
        *tuning = NULL;
        *params = NULL;
    }
    gr_safetensors_close(r.file);
    gr_buf_free(&r.problems);
    free(r.ranks);
    free(file);
    free(dir);
    return st;
}
