#include "adapters/adapter.h"
#include <jansson.h>
#include <stdio.h>

/* One tensor of a file before it is written. */
typedef struct entry {
    char name[256];
    const float *from; /* [rows, cols] in graft's orientation */
    int64_t rows, cols;
    bool transposed;
} entry;

/* Every adapted linear's A and B in the format's names. */
static void list_entries(entry *entries, const gr_adapter_format *f, const gr_model_config *c,
                         const gr_tuning *tuning, const float *params) {
    size_t n = 0;
    for (int64_t l = 0; l < tuning->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            const gr_tuned *x = &tuning->block[l][role];
            char path[200];
            int64_t out, in;
            if (!x->rank) continue;
            gr_role_shape(role, c, &out, &in);
            gr_role_name(path, sizeof path, role, l);
            entry *a = &entries[n++], *b = &entries[n++];
            *a = (entry){.from = params + x->a, .rows = x->rank, .cols = in, .transposed = f->a_transposed};
            *b = (entry){.from = params + x->b, .rows = x->rank, .cols = out, .transposed = f->b_transposed};
            snprintf(a->name, sizeof a->name, "%s%s%s", f->prefix, path, f->a);
            snprintf(b->name, sizeof b->name, "%s%s%s", f->prefix, path, f->b);
        }
}

static graft_status write_entry(gr_safetensors_writer *w, const entry *e, float *row, graft_error *err) {
    if (!e->transposed)
        return gr_safetensors_write(w, e->from, (size_t)(e->rows * e->cols) * sizeof *row, err);
    for (int64_t j = 0; j < e->cols; j++) {
        for (int64_t i = 0; i < e->rows; i++) row[i] = e->from[i * e->cols + j];
        GR_TRY(gr_safetensors_write(w, row, (size_t)e->rows * sizeof *row, err));
    }
    return GRAFT_OK;
}

static graft_status write_file(const char *dir, const gr_adapter_format *f, const entry *entries,
                               const gr_tensor *tensors, size_t count, const char *const *metadata,
                               float *row, graft_error *err) {
    gr_safetensors_writer *w = NULL;
    char *path = gr_path_join(dir, f->file);
    if (!path) return gr_no_memory(err, strlen(dir));
    graft_status st = gr_safetensors_create(&w, path, tensors, count, metadata, err);
    free(path);
    for (size_t i = 0; st == GRAFT_OK && i < count; i++) {
        st = write_entry(w, &entries[i], row, err);
        if (st != GRAFT_OK) gr_safetensors_abort(w);
    }
    return st == GRAFT_OK ? gr_safetensors_commit(w, err) : st;
}

/* One format's tensor file. */
static graft_status save_format(const char *dir, const gr_adapter_format *f, const gr_model_config *c,
                                const gr_tuning *tuning, const float *params, const char *const *metadata,
                                graft_error *err) {
    size_t count = (size_t)tuning->adapted * 2;
    entry *entries = gr_calloc(count, sizeof *entries);
    gr_tensor *tensors = gr_calloc(count, sizeof *tensors);
    float *row = gr_calloc((size_t)tuning->rank, sizeof *row);
    graft_status st = GRAFT_OK;
    if (!entries || !tensors || !row) st = gr_no_memory(err, count * sizeof *entries);
    if (st == GRAFT_OK) {
        list_entries(entries, f, c, tuning, params);
        for (size_t i = 0; i < count; i++) {
            const entry *e = &entries[i];
            tensors[i] = (gr_tensor){.name = e->name,
                                     .dtype = GR_F32,
                                     .ndim = 2,
                                     .bytes = (size_t)(e->rows * e->cols) * sizeof(float)};
            tensors[i].shape[0] = e->transposed ? e->cols : e->rows;
            tensors[i].shape[1] = e->transposed ? e->rows : e->cols;
        }
        st = write_file(dir, f, entries, tensors, count, metadata, row, err);
    }
    free(entries);
    free(tensors);
    free(row);
    return st;
}

/* True when every layer adapts the same roles with the same rank: short module names then say it all. */
static bool is_regular(const gr_tuning *tuning) {
    for (int64_t l = 1; l < tuning->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++)
            if (tuning->block[l][role].rank != tuning->block[0][role].rank) return false;
    return true;
}

/* Full paths of the adapted linears, or their short names. */
static json_t *module_names(const gr_tuning *tuning, bool full) {
    json_t *names = json_array();
    for (int64_t l = 0; l < (full ? tuning->layers : 1); l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            char path[200];
            if (!tuning->block[l][role].rank) continue;
            gr_role_name(path, sizeof path, role, l);
            json_array_append_new(names, json_string(full ? path : gr_role_table[role].type));
        }
    return names;
}

/* Keys of both programs in one object; each ignores the other's. source: mlx-lm 0.32 load_adapters, PEFT 0.21
 * LoraConfig */
static json_t *config_json(const gr_tuning *tuning, const gr_adapter_info *info, const char *digest) {
    char base[24];
    snprintf(base, sizeof base, "%016llx", (unsigned long long)info->base_digest);
    json_t *mlx = json_pack("{s:i, s:f, s:f, s:o}", "rank", (int)tuning->rank, "scale", tuning->scale,
                            "dropout", info->dropout, "keys", module_names(tuning, true));
    return json_pack("{s:s, s:i, s:o, s:s, s:s, s:s, s:i, s:f, s:f, s:s, s:b, s:o, s:b, s:b, s:n, s:{s:s, "
                     "s:s, s:s, s:f, s:I}}",
                     "fine_tune_type", "lora", "num_layers", (int)tuning->layers, "lora_parameters", mlx,
                     "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", info->base,
                     "r", (int)tuning->rank, "lora_alpha", tuning->alpha, "lora_dropout", info->dropout,
                     "bias", "none", "use_rslora", info->use_rslora, "target_modules",
                     module_names(tuning, !is_regular(tuning)), "fan_in_fan_out", 0, "inference_mode", 1,
                     "modules_to_save", "graft", "version", "0.1", "base_digest", base, "digest", digest,
                     "scale", tuning->scale, "iteration", (json_int_t)info->iteration);
}

static graft_status save_config(const char *dir, const gr_tuning *tuning, const gr_adapter_info *info,
                                const char *digest, graft_error *err) {
    json_t *config = config_json(tuning, info, digest);
    char *text = config ? json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    char *path = gr_path_join(dir, "adapter_config.json");
    graft_status st = text && path ? gr_file_replace(path, text, strlen(text), err) : gr_no_memory(err, 0);
    free(path);
    free(text);
    json_decref(config);
    return st;
}

graft_status gr_adapter_save(const char *dir, const gr_model_config *c, const gr_tuning *tuning,
                             const float *params, const gr_adapter_info *info, graft_error *err) {
    char digest[17], iteration[24], base[24];
    gr_adapter_digest(digest, params, tuning->parameters);
    snprintf(iteration, sizeof iteration, "%lld", (long long)info->iteration);
    snprintf(base, sizeof base, "%016llx", (unsigned long long)info->base_digest);
    const char *metadata[] = {"format", "pt",          "iteration", iteration, "digest",
                              digest,   "base_digest", base,        NULL};
    GR_TRY(gr_make_dirs(dir, err));
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name; f++)
        GR_TRY(save_format(dir, f, c, tuning, params, metadata, err));
    return save_config(dir, tuning, info, digest, err);
}
