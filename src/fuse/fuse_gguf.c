/* A GGUF file with the adapter in its tensors: metadata and every other byte are the base's. */
#include "base/pool.h"
#include "convert/convert_events.h"
#include "convert/gguf_names.h"
#include "files/gguf_write.h"
#include "fuse/fuse.h"
#include "weights/gguf_blocks.h"
#include <math.h>

#define CHUNK ((int64_t)1 << 20) /* elements of the rows that are in memory at a time */

/* One tensor that is edited. */
typedef struct edited {
    const gr_gguf_tensor *tensor;
    const gr_edit *edit;
    int64_t head_dim;       /* > 0: rows are stored for rotation of pairs */
    int64_t elements;       /* of a block */
    size_t block, row_size; /* bytes */
} edited;

/* Rows of it at work; each worker has room for two rows of floats. */
typedef struct piece {
    const edited *e;
    uint8_t *out;
    float *scratch;
    int64_t first;
    bool *bad; /* per row: a value is not finite, or not in the tensor's type */
} piece;

static bool block_fits(const uint8_t *block, gr_gguf_type type) {
    uint16_t halves[2], special = type == GR_GGUF_BF16 ? 0x7f80 : 0x7c00;
    if (type == GR_GGUF_F32) return true;
    memcpy(halves, block, type == GR_GGUF_Q4_1 ? 4 : 2);
    return (halves[0] & special) != special && (type != GR_GGUF_Q4_1 || (halves[1] & special) != special);
}

/* What is the same for all of a block of Q4_1 is added to its minimum. */
static bool shift_row(const edited *e, uint8_t *out, float *sums, int64_t row) {
    const int64_t each = e->edit->group / e->elements;
    e->edit->sums(e->edit, sums, row);
    for (int64_t b = 0; b < e->edit->cols / e->elements; b++) {
        uint8_t *at = out + (size_t)b * e->block + 2;
        uint16_t half;
        if (sums[b / each] == 0) continue;
        memcpy(&half, at, sizeof half);
        half = gr_f32_to_f16(gr_f16_to_f32(half) + sums[b / each]);
        memcpy(at, &half, sizeof half);
        if (!block_fits(at - 2, GR_GGUF_Q4_1)) return false;
    }
    return true;
}

static bool merge_row(const edited *e, uint8_t *out, float *before, float *after, int64_t row) {
    const gr_gguf_type type = e->tensor->type;
    const int64_t cols = e->edit->cols;
    if (type == GR_GGUF_Q4_1 && e->edit->sums && e->edit->group % e->elements == 0)
        return shift_row(e, out, before, row);
    gr_gguf_dequantize(before, out, type, cols);
    memcpy(after, before, (size_t)cols * sizeof *after);
    e->edit->row(e->edit, after, row);
    for (int64_t i = 0; i < cols; i++)
        if (!isfinite(after[i])) return false;
    for (int64_t i = 0; i < cols; i += e->elements) {
        uint8_t *block = out + (size_t)(i / e->elements) * e->block;
        if (memcmp(after + i, before + i, (size_t)e->elements * sizeof *after) == 0) continue;
        gr_gguf_quantize_block(block, after + i, type);
        if (!block_fits(block, type)) return false;
    }
    return true;
}

static void run_row(void *context, int task, int worker) {
    const piece *p = context;
    const edited *e = p->e;
    float *before = p->scratch + 2 * (int64_t)worker * e->edit->cols;
    int64_t row = p->first + task;
    if (e->head_dim) row = gr_gguf_unpaired_row(row, e->head_dim);
    p->bad[task] = !merge_row(e, p->out + (size_t)task * e->row_size, before, before + e->edit->cols, row);
}

static graft_status does_not_fit(const edited *e, graft_error *err) {
    gr_fail(err, GRAFT_RANGE, "a value of %s with the adapter is too large for %s", e->tensor->name,
            gr_gguf_type_name(e->tensor->type));
    return gr_hint(err, "fuse into an MLX directory: --save-path DIR --dequantize --dtype bfloat16");
}

static graft_status write_edited(const edited *e, gr_gguf_writer *w, gr_pool *pool, graft_error *err) {
    const int64_t most = gr_min_i64(gr_max_i64(1, CHUNK / gr_max_i64(1, e->edit->cols)), e->edit->rows);
    piece p = {.e = e,
               .out = gr_calloc((size_t)most, e->row_size),
               .scratch = gr_calloc((size_t)(2 * gr_pool_threads(pool) * e->edit->cols), sizeof(float)),
               .bad = gr_calloc((size_t)most, sizeof(bool))};
    graft_status st = GRAFT_OK;
    if (!p.out || !p.scratch || !p.bad) GR_GOTO(gr_no_memory(err, (size_t)most * e->row_size));
    for (int64_t n; p.first < e->edit->rows; p.first += n) {
        const uint8_t *from = e->tensor->data + (size_t)p.first * e->row_size;
        n = gr_min_i64(most, e->edit->rows - p.first);
        memcpy(p.out, from, (size_t)n * e->row_size);
        gr_pool_run(pool, run_row, &p, (int)n);
        for (int64_t r = 0; r < n; r++)
            if (p.bad[r]) GR_GOTO(does_not_fit(e, err));
        if (memcmp(p.out, from, (size_t)n * e->row_size) != 0) atomic_store(e->edit->moved, true);
        GR_GOTO(gr_gguf_write(w, p.out, (size_t)n * e->row_size, err));
        gr_map_release(from, (size_t)n * e->row_size);
    }
done:
    free(p.out);
    free(p.scratch);
    free(p.bad);
    return st;
}

/* A vector whose values are replaced; those of q and k lie in their rows' order. */
static graft_status write_vector(const edited *e, gr_gguf_writer *w, graft_error *err) {
    const int64_t n = e->edit->cols;
    float *values = gr_calloc((size_t)n, sizeof *values);
    uint8_t *out = gr_calloc((size_t)n, e->block);
    graft_status st = values && out ? GRAFT_OK : gr_no_memory(err, (size_t)n * 8);
    if (st == GRAFT_OK) e->edit->row(e->edit, values, 0);
    for (int64_t i = 0; st == GRAFT_OK && i < n; i++) {
        int64_t from = e->head_dim ? gr_gguf_unpaired_row(i, e->head_dim) : i;
        uint8_t *to = out + (size_t)i * e->block;
        gr_gguf_quantize_block(to, &values[from], e->tensor->type);
        if (!isfinite(values[from]) || !block_fits(to, e->tensor->type)) st = does_not_fit(e, err);
    }
    if (st == GRAFT_OK && memcmp(out, e->tensor->data, (size_t)n * e->block) != 0)
        atomic_store(e->edit->moved, true);
    if (st == GRAFT_OK) st = gr_gguf_write(w, out, (size_t)n * e->block, err);
    free(values);
    free(out);
    return st;
}

static graft_status write_tensor(const gr_gguf_tensor *t, const edited *e, gr_gguf_writer *w, gr_pool *pool,
                                 graft_error *err) {
    if (e->edit) return t->ndim == 1 ? write_vector(e, w, err) : write_edited(e, w, pool, err);
    for (size_t at = 0; at < t->bytes; at += (size_t)CHUNK) {
        size_t n = t->bytes - at < (size_t)CHUNK ? t->bytes - at : (size_t)CHUNK;
        GR_TRY(gr_gguf_write(w, t->data + at, n, err));
        gr_map_release(t->data + at, n);
    }
    return GRAFT_OK;
}

static graft_status refuse(const gr_gguf *file, const edited *e, const char *what, graft_error *err) {
    gr_fail(err, GRAFT_UNSUPPORTED, "%s %s", e->tensor->name, what);
    gr_where(err, "%s", gr_gguf_path(file));
    gr_expected(err, "F32, F16, BF16, Q8_0, Q4_0 or Q4_1");
    gr_found(err, "%s", gr_gguf_type_name(e->tensor->type));
    return gr_hint(err, "fuse into an MLX directory (--save-path DIR), or let llama.cpp apply the adapter: "
                        "graft export --to gguf");
}

/* The edit of that tensor, if there is one, and how it lies. */
static graft_status look_up(edited *e, const gr_gguf *file, const gr_gguf_tensor *t,
                            const gr_fuse_edits *edits, const gr_model_config *c, graft_error *err) {
    const gr_gguf_arch *arch = gr_gguf_arch_of(c->arch->model_type);
    gr_buf name = {0};
    *e = (edited){.tensor = t};
    if (arch && gr_gguf_name_to_hf(&name, arch, t->name) && name.data)
        e->edit = gr_edits_find(edits->edits, edits->count, name.data);
    bool rotated =
             name.data && (strstr(name.data, "self_attn.q_proj.") || strstr(name.data, "self_attn.k_proj.")),
         norm = name.data && strstr(name.data, "norm."), failed = name.failed;
    gr_buf_free(&name);
    if (failed) return gr_no_memory(err, 64);
    if (!e->edit) return GRAFT_OK;
    const int64_t one[] = {1};
    const int64_t cols = t->shape[t->ndim - 1];
    int64_t rows = 1; /* of all matrices, where a tensor is a mixture's experts */
    for (int d = 0; d + 1 < t->ndim; d++) rows *= t->shape[d];
    e->head_dim = rotated && arch && arch->pairs ? c->head_dim : 0;
    e->elements = gr_gguf_affine_bits(t->type) ? GR_GGUF_GROUP : 1;
    if (!gr_gguf_can_quantize(t->type))
        return refuse(file, e, "is in blocks that are read and never written", err);
    if (norm && c->arch->traits & GR_ARCH_ONE_PLUS)
        return refuse(file, e, "is a norm that GGUF has plus one", err);
    const int64_t shape[] = {e->elements};
    if (rows != e->edit->rows || cols != e->edit->cols || cols % e->elements ||
        !gr_gguf_tensor_bytes(&e->block, t->type, e->elements > 1 ? shape : one, 1))
        return gr_fail(err, GRAFT_MISMATCH, "tensor %s does not have the shape of what is fused into it",
                       t->name);
    e->row_size = e->block * (size_t)(cols / e->elements);
    return GRAFT_OK;
}

/* Everything is looked up before the first byte is written. */
static graft_status plan(edited *all, const gr_gguf *file, const gr_fuse_edits *edits,
                         const gr_model_config *c, graft_error *err) {
    size_t used = 0;
    for (size_t i = 0; i < gr_gguf_count(file); i++) {
        GR_TRY(look_up(&all[i], file, gr_gguf_at(file, i), edits, c, err));
        used += all[i].edit != NULL;
    }
    if (used == edits->count) return GRAFT_OK;
    gr_fail(err, GRAFT_MISMATCH, "the file lacks %zu of the %zu tensors that the adapter changes",
            edits->count - used, edits->count);
    return gr_where(err, "%s", gr_gguf_path(file));
}

static graft_status write(const edited *all, const gr_gguf *file, const char *out, gr_pool *pool,
                          const graft_hooks *hooks, graft_fuse_result *r, graft_error *err) {
    gr_gguf_keys keys = {0};
    gr_gguf_writer *w = NULL;
    const size_t count = gr_gguf_count(file);
    double elements = 0;
    gr_gguf_tensor *tensors = gr_calloc(count, sizeof *tensors);
    if (!tensors) return gr_no_memory(err, count * sizeof *tensors);
    for (size_t i = 0; i < count; i++) {
        double n = 1;
        tensors[i] = *gr_gguf_at(file, i);
        for (int d = 0; d < tensors[i].ndim; d++) n *= (double)tensors[i].shape[d];
        elements += n;
        r->bytes += tensors[i].bytes;
    }
    for (size_t i = 0; gr_gguf_value_at(file, i); i++) gr_gguf_put_value(&keys, gr_gguf_value_at(file, i));
    graft_status st = gr_gguf_create(&w, out, &keys, tensors, count, err);
    free(tensors);
    for (size_t i = 0; st == GRAFT_OK && i < count; i++) {
        if (!gr_convert_event((void *)(uintptr_t)hooks, gr_gguf_at(file, i)->name, i, count))
            st = gr_fail(err, GRAFT_INTERRUPTED, "fusing stopped; nothing was written");
        else
            st = write_tensor(gr_gguf_at(file, i), &all[i], w, pool, err);
    }
    if (st != GRAFT_OK) {
        gr_gguf_abort(w);
        return st;
    }
    r->tensors = (int64_t)count;
    r->bits_per_weight = elements > 0 ? 8 * (double)r->bytes / elements : 0;
    gr_convert_event((void *)(uintptr_t)hooks, "", count, count);
    return gr_gguf_commit(w, err);
}

graft_status gr_fuse_gguf(const char *gguf, const char *out, gr_reading reading, int threads,
                          const gr_fuse_edits *edits, const gr_model_config *config, const graft_hooks *hooks,
                          graft_fuse_result *result, graft_error *err) {
    gr_gguf *file = NULL;
    gr_pool *pool = NULL;
    graft_status st;
    GR_TRY(gr_gguf_open_as(&file, gguf, reading, err));
    edited *all = gr_calloc(gr_gguf_count(file) + 1, sizeof *all);
    if (!all) GR_GOTO(gr_no_memory(err, gr_gguf_count(file) * sizeof *all));
    GR_GOTO(plan(all, file, edits, config, err));
    GR_GOTO(
        gr_pool_new(&pool, (int)gr_min_i64(threads > 0 ? threads : gr_processors(), GR_THREADS_MAX), err));
    st = write(all, file, out, pool, hooks, result, err);
    result->changed = gr_fuse_edits_moved(edits);
done:
    gr_pool_free(pool);
    free(all);
    gr_gguf_close(file);
    return st;
}
