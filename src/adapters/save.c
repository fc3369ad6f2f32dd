#include "adapters/adapter_parts.h"
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define CHUNK 4096 /* floats that are turned, scaled or padded at once */

/* One tensor in the file's order: element (i, j) of graft's [rows, cols]. */
static graft_status write_item(gr_safetensors_writer *w, const gr_adapter_item *item, const float *params,
                               graft_error *err) {
    const gr_param *p = item->param;
    const float *from = params + p->at;
    int64_t cols = p->cols ? p->cols : 1, count = item->rows * cols;
    if (!item->transposed && item->factor == 1 && item->rows == p->rows)
        return gr_safetensors_write(w, from, (size_t)count * sizeof *from, err);
    float chunk[CHUNK];
    for (int64_t at = 0; at < count; at += CHUNK) {
        int64_t n = gr_min_i64(CHUNK, count - at);
        for (int64_t k = 0; k < n; k++) {
            int64_t i = item->transposed ? (at + k) % item->rows : (at + k) / cols;
            int64_t j = item->transposed ? (at + k) / item->rows : (at + k) % cols;
            chunk[k] = i < p->rows ? from[i * cols + j] * item->factor : 0;
        }
        GR_TRY(gr_safetensors_write(w, chunk, (size_t)n * sizeof *chunk, err));
    }
    return GRAFT_OK;
}

static gr_tensor declare(const gr_adapter_item *item) {
    int64_t cols = item->param->cols;
    gr_tensor t = {.name = item->name,
                   .dtype = GR_F32,
                   .ndim = cols ? 2 : 1,
                   .bytes = (size_t)(item->rows * (cols ? cols : 1)) * sizeof(float)};
    t.shape[0] = item->transposed ? cols : item->rows;
    if (cols) t.shape[1] = item->transposed ? item->rows : cols;
    return t;
}

/* The file under its temporary name; *out stays NULL after failure. */
static graft_status write_file(gr_safetensors_writer **out, const char *path, const gr_adapter_item *items,
                               const gr_tensor *tensors, size_t count, const float *params,
                               const char *const *metadata, graft_error *err) {
    gr_safetensors_writer *w = NULL;
    graft_status st = gr_safetensors_create(&w, path, tensors, count, metadata, err);
    for (size_t i = 0; st == GRAFT_OK && i < count; i++) {
        st = write_item(w, &items[i], params, err);
        if (st != GRAFT_OK) gr_safetensors_abort(w);
    }
    if (st == GRAFT_OK) st = gr_safetensors_seal(w, err);
    if (st == GRAFT_OK) *out = w;
    return st;
}

/* One format's tensor file up to its commit; none where the format cannot hold the tuning. */
static graft_status prepare_format(gr_safetensors_writer **out, const char *dir, const gr_adapter_format *f,
                                   const gr_model_config *c, const gr_tuning *tuning, const float *params,
                                   const char *const *metadata, graft_error *err) {
    gr_adapter_item *items = NULL;
    gr_tensor *tensors = NULL;
    size_t count = 0;
    graft_status st = GRAFT_OK;
    if (!gr_adapter_holds(f, tuning)) return GRAFT_OK;
    char *path = gr_path_join(dir, f->file);
    if (!path) return gr_no_memory(err, strlen(dir));
    GR_GOTO(gr_adapter_list(&items, &count, f, tuning, c, err));
    tensors = gr_calloc(count, sizeof *tensors);
    if (!tensors) GR_GOTO(gr_no_memory(err, count * sizeof *tensors));
    for (size_t i = 0; i < count; i++) tensors[i] = declare(&items[i]);
    st = write_file(out, path, items, tensors, count, params, metadata, err);
done:
    free(items);
    free(tensors);
    free(path);
    return st;
}

static graft_status remove_older(const char *dir, const gr_adapter_format *f, graft_error *err) {
    char *path = gr_path_join(dir, f->file);
    if (!path) return gr_no_memory(err, strlen(dir));
    graft_status st = GRAFT_OK;
    if (unlink(path) != 0 && errno != ENOENT)
        st = gr_fail_errno(err, errno, "cannot remove the file of an earlier save", path);
    free(path);
    return st;
}

/* All that belongs to a save, sealed before the first file takes its place: a full disk leaves the adapter
 * that was there before whole. */
typedef struct saving {
    gr_safetensors_writer *tensors[GR_ADAPTER_FORMATS];
    gr_writer config;
} saving;

static graft_status commit(saving *s, const char *dir, graft_error *err) {
    for (int i = 0; i < GR_ADAPTER_FORMATS; i++)
        if (!s->tensors[i]) GR_TRY(remove_older(dir, &gr_adapter_format_table[i], err));
    for (int i = 0; i < GR_ADAPTER_FORMATS; i++) {
        gr_safetensors_writer *w = s->tensors[i];
        s->tensors[i] = NULL;
        if (w) GR_TRY(gr_safetensors_replace(w, err));
    }
    GR_TRY(gr_writer_replace(&s->config, err));
    return gr_dir_sync(dir, err);
}

graft_status gr_adapter_save(const char *dir, const gr_model_config *c, const gr_tuning *tuning,
                             const float *params, const gr_adapter_info *info, graft_error *err) {
    char digest[17], iteration[24], base[24];
    bool known = info->model && info->model->digest;
    gr_adapter_digest(digest, params, tuning->parameters);
    snprintf(iteration, sizeof iteration, "%lld", (long long)info->iteration);
    if (known) snprintf(base, sizeof base, "%016llx", (unsigned long long)info->model->digest);
    const char *metadata[] = {
        "format", "pt", "iteration", iteration, "digest", digest, known ? "base_digest" : NULL, base, NULL};
    saving s = {.config = {.fd = -1}};
    graft_status st = gr_make_dirs(dir, err);
    for (int i = 0; st == GRAFT_OK && i < GR_ADAPTER_FORMATS; i++)
        st =
            prepare_format(&s.tensors[i], dir, &gr_adapter_format_table[i], c, tuning, params, metadata, err);
    if (st == GRAFT_OK) st = gr_adapter_save_config(&s.config, dir, c, tuning, info, digest, err);
    if (st == GRAFT_OK) st = commit(&s, dir, err);
    for (int i = 0; i < GR_ADAPTER_FORMATS; i++) gr_safetensors_abort(s.tensors[i]);
    gr_writer_abort(&s.config);
    return st;
}
