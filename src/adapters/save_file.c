/* One format's tensor file, written as a stream. */
#include "adapters/adapter_parts.h"
#include "convert/gguf_names.h"

#define CHUNK 4096 /* floats that are turned, scaled or padded at once */

static graft_status put(const gr_adapter_out *out, const void *bytes, size_t n, graft_error *err) {
    return out->gguf ? gr_gguf_write(out->gguf, bytes, n, err)
                     : gr_safetensors_write(out->tensors, bytes, n, err);
}

/* One matrix of a tensor in the file's order: element (i, j) of graft's [rows, cols]. */
static graft_status write_matrix(const gr_adapter_out *out, const gr_adapter_item *item, int64_t at_matrix,
                                 const float *params, graft_error *err) {
    const gr_param *p = item->param;
    const int64_t own = p->rows / p->stack;
    const float *from = params + p->at + at_matrix * own * p->cols;
    int64_t cols = gr_max_i64(p->cols, 1) * item->repeat, count = item->rows * cols;
    if (!item->transposed && item->factor == 1 && item->rows == own && item->repeat == 1)
        return put(out, from, (size_t)count * sizeof *from, err);
    float chunk[CHUNK];
    for (int64_t at = 0; at < count; at += CHUNK) {
        int64_t n = gr_min_i64(CHUNK, count - at);
        for (int64_t k = 0; k < n; k++) {
            int64_t i = item->transposed ? (at + k) % item->rows : (at + k) / cols;
            int64_t j = item->transposed ? (at + k) / item->rows : (at + k) % cols;
            if (item->head_dim) j = gr_gguf_unpaired_row(j, item->head_dim);
            chunk[k] = i < own ? from[(i * cols + j) / item->repeat] * item->factor : 0;
        }
        GR_TRY(put(out, chunk, (size_t)n * sizeof *chunk, err));
    }
    return GRAFT_OK;
}

static graft_status write_item(const gr_adapter_out *out, const gr_adapter_item *item, const float *params,
                               graft_error *err) {
    for (int64_t i = 0; i < item->stack; i++) GR_TRY(write_matrix(out, item, i, params, err));
    return GRAFT_OK;
}

static void shape_of(int64_t shape[GR_MAX_DIMS], int *ndim, size_t *bytes, const gr_adapter_item *item) {
    int64_t cols = item->param->cols * item->repeat;
    *ndim = cols ? 2 : 1;
    *bytes = (size_t)(item->stack * item->rows * (cols ? cols : 1)) * sizeof(float);
    if (gr_role_expert(item->param->role)) *ndim = 3, *shape++ = item->stack;
    shape[0] = item->transposed ? cols : item->rows;
    if (cols) shape[1] = item->transposed ? item->rows : cols;
}

static graft_status create_safetensors(gr_adapter_out *out, const char *path, const gr_adapter_item *items,
                                       size_t count, const gr_adapter_words *words, graft_error *err) {
    const char *metadata[] = {"format",
                              "pt",
                              "iteration",
                              words->iteration,
                              "digest",
                              words->digest,
                              words->base_digest[0] ? "base_digest" : NULL,
                              words->base_digest,
                              NULL};
    gr_tensor *tensors = gr_calloc(count, sizeof *tensors);
    if (!tensors) return gr_no_memory(err, count * sizeof *tensors);
    for (size_t i = 0; i < count; i++) {
        tensors[i] = (gr_tensor){.name = items[i].name, .dtype = GR_F32};
        shape_of(tensors[i].shape, &tensors[i].ndim, &tensors[i].bytes, &items[i]);
    }
    graft_status st = gr_safetensors_create(&out->tensors, path, tensors, count, metadata, err);
    free(tensors);
    return st;
}

/* source: llama.cpp convert_lora_to_gguf.py, llama-adapter.cpp */
static graft_status create_gguf(gr_adapter_out *out, const char *path, const gr_adapter_item *items,
                                size_t count, const gr_model_config *c, float alpha, int64_t pool,
                                const gr_adapter_words *words, const char *base, graft_error *err) {
    gr_gguf_keys keys = {0};
    gr_gguf_tensor *tensors = gr_calloc(count, sizeof *tensors);
    if (!tensors) return gr_no_memory(err, count * sizeof *tensors);
    gr_gguf_put_string(&keys, "general.architecture", gr_gguf_arch_of(c->arch->model_type)->gguf);
    gr_gguf_put_string(&keys, "general.type", "adapter");
    gr_gguf_put_string(&keys, "adapter.type", "lora");
    gr_gguf_put_float(&keys, "adapter.lora.alpha", alpha);
    gr_gguf_put_u32(&keys, "general.file_type", 0); /* all f32 */
    gr_gguf_put_u32(&keys, "general.base_model.count", 1);
    gr_gguf_put_string(&keys, "general.base_model.0.name", base);
    gr_gguf_put_string(&keys, "graft.iteration", words->iteration);
    gr_gguf_put_string(&keys, "graft.digest", words->digest);
    if (words->base_digest[0]) gr_gguf_put_string(&keys, "graft.base_digest", words->base_digest);
    gr_gguf_put_bool(&keys, "graft.exact", words->exact);
    if (pool) gr_gguf_put_u32(&keys, "graft.group_pooled", (uint32_t)pool);
    for (size_t i = 0; i < count; i++) {
        tensors[i] = (gr_gguf_tensor){.name = items[i].name, .type = GR_GGUF_F32};
        shape_of(tensors[i].shape, &tensors[i].ndim, &tensors[i].bytes, &items[i]);
    }
    graft_status st = gr_gguf_create(&out->gguf, path, &keys, tensors, count, err);
    free(tensors);
    return st;
}

/* Frees the writer when it fails, as theirs do. */
static graft_status seal(gr_adapter_out *out, graft_error *err) {
    graft_status st = out->gguf ? gr_gguf_seal(out->gguf, err) : gr_safetensors_seal(out->tensors, err);
    if (st != GRAFT_OK) *out = (gr_adapter_out){0};
    return st;
}

graft_status gr_adapter_file_seal(gr_adapter_out *out, const char *path, const gr_adapter_format *f,
                                  const gr_model_config *c, const gr_tuning *tuning, const float *params,
                                  const gr_adapter_words *words, const char *base, graft_error *err) {
    gr_adapter_item *items = NULL;
    gr_adapter_words own = *words;
    size_t count = 0;
    bool folded = false;
    float alpha = gr_adapter_gguf_alpha(tuning, &folded);
    graft_status st = gr_adapter_list(&items, &count, f, tuning, c, err);
    own.exact = !folded;
    if (st == GRAFT_OK)
        st = f->gguf ? create_gguf(out, path, items, count, c, alpha, tuning->pool, &own, base, err)
                     : create_safetensors(out, path, items, count, &own, err);
    for (size_t i = 0; st == GRAFT_OK && i < count; i++) {
        st = write_item(out, &items[i], params, err);
        if (st != GRAFT_OK) gr_adapter_file_abort(out);
    }
    if (st == GRAFT_OK) st = seal(out, err);
    free(items);
    return st;
}

graft_status gr_adapter_file_replace(gr_adapter_out *out, graft_error *err) {
    gr_adapter_out own = *out;
    *out = (gr_adapter_out){0};
    return own.gguf ? gr_gguf_replace(own.gguf, err) : gr_safetensors_replace(own.tensors, err);
}

void gr_adapter_file_abort(gr_adapter_out *out) {
    gr_gguf_abort(out->gguf);
    gr_safetensors_abort(out->tensors);
    *out = (gr_adapter_out){0};
}
