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

static graft_status write_file(const char *path, const gr_adapter_item *items, const gr_tensor *tensors,
                               size_t count, const float *params, const char *const *metadata,
                               graft_error *err) {
    gr_safetensors_writer *w = NULL;
    graft_status st = gr_safetensors_create(&w, path, tensors, count, metadata, err);
    for (size_t i = 0; st == GRAFT_OK && i < count; i++) {
        st = write_item(w, &items[i], params, err);
        if (st != GRAFT_OK) gr_safetensors_abort(w);
    }
    return st == GRAFT_OK ? gr_safetensors_commit(w, err) : st;
}

/* One format's tensor file, or none in the place of an older one. */
static graft_status save_format(const char *dir, const gr_adapter_format *f, const gr_model_config *c,
                                const gr_tuning *tuning, const float *params, const char *const *metadata,
                                graft_error *err) {
    gr_adapter_item *items = NULL;
    gr_tensor *tensors = NULL;
    size_t count = 0;
    graft_status st = GRAFT_OK;
    char *path = gr_path_join(dir, f->file);
    if (!path) return gr_no_memory(err, strlen(dir));
    if (!gr_adapter_holds(f, tuning)) {
        if (unlink(path) != 0 && errno != ENOENT)
            st = gr_fail_errno(err, errno, "cannot remove the file of an earlier save", path);
        free(path);
        return st;
    }
    GR_GOTO(gr_adapter_list(&items, &count, f, tuning, c, err));
    tensors = gr_calloc(count, sizeof *tensors);
    if (!tensors) GR_GOTO(gr_no_memory(err, count * sizeof *tensors));
    for (size_t i = 0; i < count; i++) tensors[i] = declare(&items[i]);
    st = write_file(path, items, tensors, count, params, metadata, err);
done:
    free(items);
    free(tensors);
    free(path);
    return st;
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
    GR_TRY(gr_make_dirs(dir, err));
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name; f++)
        GR_TRY(save_format(dir, f, c, tuning, params, metadata, err));
    return gr_adapter_save_config(dir, c, tuning, info, digest, err);
}
