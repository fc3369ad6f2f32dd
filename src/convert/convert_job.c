#include "convert/convert_job.h"
#include "base/os.h"
#include "convert/job_values.h"
#include "weights/affine.h"
#include "weights/gguf_blocks.h"
#include <math.h>
#include <stdio.h>

/* Elements that are in memory at a time as f32 (4 MB), unless one row is longer. */
#define CHUNK ((int64_t)1 << 20)

/* The role of a matrix, by the last component of its module's path; experts are many matrices in one tensor.
 */
static gr_role role_of(const char *path, int ndim) {
    const char *dot = strrchr(path, '.'), *last = dot ? dot + 1 : path;
    for (gr_role r = 0; r < GR_ROLES; r++)
        if (ndim == (gr_role_expert(r) ? 3 : 2) && strcmp(last, gr_role_table[r].type) == 0) return r;
    return GR_ROLES;
}

const uint8_t *gr_source_row(const gr_source *from, int64_t row, int64_t *n) {
    if (!from->parts) return from->data + (size_t)row * from->row_bytes;
    int64_t part = row / from->part_rows, at = row % from->part_rows;
    *n = gr_min_i64(*n, from->part_rows - at);
    return from->parts[part] + (size_t)at * from->row_bytes;
}

bool gr_job_wants_codes(const gr_job *job, bool embeddings) {
    if (job->role == GR_ROLES) return false;
    return gr_role_table[job->role].quantize ||
           (embeddings && (job->role == GR_EMBED_TOKENS || job->role == GR_LM_HEAD));
}

static graft_status no_elements(const char *name, const char *file, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "tensor %s has no elements", name);
    gr_where(err, "%s", file);
    return gr_hint(err, "download or convert the model again");
}

graft_status gr_jobs_add(gr_job **added, gr_jobs *jobs, const char *name, int ndim, const int64_t *shape,
                         const char *file, graft_error *err) {
    static const char suffix[] = ".weight";
    size_t len = strlen(name), cut = sizeof suffix - 1;
    bool weight = len > cut && strcmp(name + len - cut, suffix) == 0;
    for (int d = 0; d < ndim; d++)
        if (shape[d] < 1) return no_elements(name, file, err);
    if (!gr_grow((void **)&jobs->items, &jobs->cap, jobs->count, sizeof *jobs->items))
        return gr_no_memory(err, sizeof *jobs->items);
    gr_job *job = &jobs->items[jobs->count];
    *job = (gr_job){.name = gr_strdup(name),
                    .path = gr_strndup(name, weight ? len - cut : len),
                    .ndim = ndim,
                    .rows = 1,
                    .cols = 1};
    jobs->count++;
    if (!job->name || !job->path) return gr_no_memory(err, len);
    for (int d = 0; d < ndim; d++) job->shape[d] = shape[d];
    for (int d = 0; d + 1 < ndim; d++) job->rows *= shape[d];
    if (ndim) job->cols = shape[ndim - 1];
    job->role = weight ? role_of(job->path, ndim) : GR_ROLES;
    *added = job;
    return GRAFT_OK;
}

void gr_jobs_free(gr_jobs *jobs) {
    for (size_t i = 0; i < jobs->count; i++) {
        free(jobs->items[i].name);
        free(jobs->items[i].path);
        free(jobs->items[i].from.parts);
    }
    free(jobs->items);
    *jobs = (gr_jobs){0};
}

/* ---- declaring */

static gr_tensor declare(const char *path, const char *suffix, gr_dtype dtype, int ndim,
                         const int64_t *shape) {
    gr_buf name = {0};
    gr_tensor t = {.dtype = dtype, .ndim = ndim, .bytes = gr_dtype_bytes(dtype)};
    gr_buf_printf(&name, "%s%s", path, suffix);
    t.name = gr_buf_take(&name);
    for (int d = 0; d < ndim; d++) {
        t.shape[d] = shape[d];
        t.bytes *= (size_t)
            shape[d]; /* never more than 4 bytes for each of the source's elements, which were counted */
    }
    return t;
}

/* False, and none has a name, if not all have. */
static bool all_named(gr_tensor *out, size_t n) {
    size_t named = 0;
    for (size_t i = 0; i < n; i++) named += out[i].name != NULL;
    for (size_t i = 0; named < n && i < n; i++) {
        free((void *)(uintptr_t)out[i].name);
        out[i].name = NULL;
    }
    return named == n;
}

size_t gr_job_output_count(const gr_job *job) {
    if (job->alone) return (size_t)job->shape[0];
    return !gr_job_quantized(job) ? 1 : gr_job_mx(job) ? 2 : 3;
}

static void declare_alone(const gr_job *job, gr_tensor *out) {
    const char *at = strstr(job->path, GR_STACKED);
    char path[200];
    for (int64_t e = 0; e < job->shape[0]; e++) {
        snprintf(path, sizeof path, "%.*sexperts.%lld%s", (int)(at - job->path), job->path, (long long)e,
                 at + sizeof GR_STACKED - 1);
        out[e] = declare(path, ".weight", job->dtype, 2, job->shape + 1);
    }
}

static void declare_packed(const gr_job *job, gr_tensor *out) {
    int64_t codes[GR_MAX_DIMS], groups[GR_MAX_DIMS];
    const int n = job->ndim;
    const bool micro = gr_job_mx(job);
    memcpy(codes, job->shape, sizeof codes);
    memcpy(groups, job->shape, sizeof groups);
    codes[n - 1] = job->cols * job->bits / 32;
    groups[n - 1] = job->cols / job->group;
    out[0] = declare(job->path, ".weight", GR_U32, n, codes);
    out[1] = declare(job->path, ".scales", micro ? GR_U8 : job->dtype, n, groups);
    if (!micro) out[2] = declare(job->path, ".biases", job->dtype, n, groups);
}

bool gr_job_outputs(const gr_job *job, gr_tensor *out) {
    if (job->alone)
        declare_alone(job, out);
    else if (gr_job_quantized(job))
        declare_packed(job, out);
    else
        out[0] = declare(job->name, "", job->dtype, job->ndim, job->shape);
    return all_named(out, gr_job_output_count(job));
}

/* ---- running */

static graft_status does_not_fit(const gr_job *job, graft_error *err) {
    gr_fail(err, GRAFT_RANGE, "a value of %s is too large for %s", job->name, gr_dtype_name(job->dtype));
    return gr_hint(err, "choose --dtype %s", job->dtype == GR_F16 ? "bfloat16 or float32" : "float32");
}

static graft_status not_finite(const gr_job *job, graft_error *err) {
    if (job->edit) {
        gr_fail(err, GRAFT_CORRUPT, "%s and its adapter add up to infinities or NaN", job->name);
        return gr_hint(err, "graft eval --adapter-path shows whether the adapter is damaged");
    }
    gr_fail(err, GRAFT_CORRUPT, "%s holds infinities or NaN: their groups would be lost", job->name);
    return gr_hint(err,
                   "check where the weights come from; --quant-predicate %s=false leaves this one as it is",
                   job->path);
}

static graft_status run_raw(const gr_job *job, gr_safetensors_writer *writer, graft_error *err) {
    const size_t piece = (size_t)CHUNK * 4;
    for (int64_t r = 0, rows; r < job->rows; r += rows) {
        rows = job->rows - r;
        const uint8_t *from = gr_source_row(&job->from, r, &rows);
        size_t total = (size_t)rows * job->from.row_bytes;
        for (size_t at = 0; at < total; at += piece) {
            size_t n = total - at < piece ? total - at : piece;
            GR_TRY(gr_safetensors_write(writer, from + at, n, err));
            gr_map_release(from + at, n);
        }
    }
    return GRAFT_OK;
}

/* Buffers of a job: values of a block of rows, what they become, and the whole tensor's scales and biases. */
typedef struct work {
    int64_t chunk_rows;
    float *values, *before; /* `before` for what is edited alone */
    uint8_t *bytes, *scales, *biases;
    size_t groups_bytes, row_groups_bytes;
    size_t row_bytes; /* of the output, without scales and biases */
} work;

static void work_free(work *w) {
    free(w->values);
    free(w->before);
    free(w->bytes);
    free(w->scales);
    free(w->biases);
}

static graft_status work_new(work *w, const gr_job *job, graft_error *err) {
    *w = (work){.chunk_rows =
                    gr_min_i64(gr_max_i64(1, CHUNK / gr_max_i64(1, job->cols)), gr_max_i64(1, job->rows))};
    size_t elements = (size_t)(w->chunk_rows * job->cols);
    w->row_bytes = gr_job_quantized(job) ? (size_t)gr_affine_row_bytes(job->cols, job->bits)
                                         : (size_t)job->cols * gr_dtype_bytes(job->dtype);
    if (gr_job_quantized(job)) {
        w->row_groups_bytes = (size_t)(job->cols / job->group) * gr_dtype_bytes(job->dtype);
        w->groups_bytes = (size_t)job->rows * w->row_groups_bytes;
        w->scales = gr_calloc(w->groups_bytes, 1);
        w->biases = gr_calloc(w->groups_bytes, 1);
    }
    w->values = gr_calloc(elements, sizeof *w->values);
    w->bytes = gr_calloc(elements, 4);
    if (job->edit) w->before = gr_calloc(elements, sizeof *w->before);
    if (w->values && w->bytes && (w->before || !job->edit) &&
        (!gr_job_quantized(job) || (w->scales && w->biases)))
        return GRAFT_OK;
    work_free(w);
    return gr_no_memory(err, elements * 12 + 2 * w->groups_bytes);
}

/* Values rounded to `dtype`, as f32: mx.quantize sees the weights' dtype. An infinity or NaN would spoil its
 * whole group. */
static gr_outcome round_to(float *values, int64_t n, gr_dtype dtype) {
    bool finite = true, fits = true;
    for (int64_t i = 0; i < n; i++) finite = finite && isfinite(values[i]);
    if (!finite) return GR_NOT_FINITE;
    for (int64_t i = 0; dtype != GR_F32 && i < n; i++) {
        values[i] = dtype == GR_F16 ? gr_f16_to_f32(gr_f32_to_f16(values[i]))
                                    : gr_bf16_to_f32(gr_f32_to_bf16(values[i]));
        fits = fits && isfinite(values[i]);
    }
    return fits ? GR_FITS : GR_TOO_LARGE;
}

/* False: a value is not finite. */
static bool edit_row(const gr_job *job, float *values, float *before, int64_t row) {
    memcpy(before, values, (size_t)job->cols * sizeof *values);
    job->edit->row(job->edit, values, row);
    for (int64_t i = 0; i < job->cols; i++)
        if (!isfinite(values[i])) return false;
    gr_job_compare(job, before, values);
    return true;
}

/* Row r0 + r of the output into row r of the chunk. */
static gr_outcome run_row(const gr_job *job, work *w, int64_t r0, int64_t r) {
    float *values = w->values + r * job->cols;
    size_t groups_at = (size_t)(r0 + r) * w->row_groups_bytes;
    uint8_t *bytes = w->bytes + (size_t)r * w->row_bytes;
    if (job->op == GR_JOB_REPACK && job->from.kind == GR_FROM_AWQ_GPTQ)
        return gr_job_awq_gptq_row(job, bytes, w->scales + groups_at, w->biases + groups_at, values, r0 + r);
    if (job->op == GR_JOB_REPACK) {
        const uint8_t *blocks =
            job->from.data + (size_t)gr_job_source_row(&job->from, r0 + r) * job->from.row_bytes;
        gr_gguf_to_affine(bytes, w->scales + groups_at, w->biases + groups_at, blocks, job->from.type,
                          job->cols, job->dtype);
        return GR_FITS;
    }
    if (job->op == GR_JOB_MERGE)
        return gr_job_merge_row(job, bytes, w->scales + groups_at, w->biases + groups_at, values,
                                w->before + r * job->cols, r0 + r);
    gr_job_read_row(job, r0 + r, values);
    if (job->edit && !edit_row(job, values, w->before + r * job->cols, r0 + r)) return GR_NOT_FINITE;
    if (job->op != GR_JOB_QUANTIZE)
        return gr_values_narrow(bytes, values, job->cols, job->dtype) ? GR_FITS : GR_TOO_LARGE;
    gr_outcome rounded = round_to(values, job->cols, job->dtype);
    if (rounded != GR_FITS) return rounded;
    gr_affine_quantize(bytes, w->scales + groups_at, w->biases + groups_at, values, 1, job->cols, job->bits,
                       job->group, job->dtype);
    return GR_FITS;
}

/* A block of rows, cut into tasks; each writes its own rows. */
typedef struct block {
    const gr_job *job;
    work *w;
    int64_t r0, rows, per_task;
    gr_outcome *outcome; /* per task */
} block;

static void run_task(void *context, int task, int worker) {
    const block *b = context;
    (void)worker;
    int64_t end = gr_min_i64(b->rows, (task + 1) * b->per_task);
    b->outcome[task] = GR_FITS;
    for (int64_t r = task * b->per_task; r < end && b->outcome[task] == GR_FITS; r++)
        b->outcome[task] = run_row(b->job, b->w, b->r0, r);
}

#define TASKS 64 /* of a block, at most: enough for threads to even out */

/* Rows [r0, r0 + n) to w->bytes. */
static graft_status run_rows(const gr_job *job, work *w, int64_t r0, int64_t n, gr_pool *pool,
                             graft_error *err) {
    gr_outcome outcomes[TASKS];
    int64_t per_task = (n + TASKS - 1) / TASKS;
    int tasks = (int)((n + per_task - 1) / per_task);
    block b = {job, w, r0, n, per_task, outcomes};
    gr_pool_run(pool, run_task, &b, tasks);
    for (int i = 0; i < tasks; i++) {
        if (outcomes[i] == GR_TOO_LARGE) return does_not_fit(job, err);
        if (outcomes[i] == GR_NOT_FINITE) return not_finite(job, err);
    }
    return GRAFT_OK;
}

/* A scale of a block that f16 cannot hold would ruin its whole group. */
static bool finite_groups(const work *w, gr_dtype dtype) {
    for (size_t i = 0; dtype != GR_F32 && i < w->groups_bytes; i += 2) {
        uint16_t s, b, special = dtype == GR_F16 ? 0x7c00 : 0x7f80;
        memcpy(&s, w->scales + i, 2);
        memcpy(&b, w->biases + i, 2);
        if ((s & special) == special || (b & special) == special) return false;
    }
    return true;
}

/* Scales or biases of an MLX module, cast. */
static graft_status cast_groups(const gr_job *job, const uint8_t *from, gr_safetensors_writer *writer,
                                graft_error *err) {
    int64_t n = job->rows * (job->cols / job->group), piece = gr_min_i64(CHUNK, n);
    size_t in = gr_dtype_bytes(job->from.dtype), out_bytes = gr_dtype_bytes(job->dtype);
    float *values = gr_calloc((size_t)piece, sizeof *values);
    void *out = gr_calloc((size_t)piece, 4);
    graft_status st = values && out ? GRAFT_OK : gr_no_memory(err, (size_t)piece * 8);
    for (int64_t at = 0; at < n && st == GRAFT_OK; at += piece) {
        int64_t count = gr_min_i64(piece, n - at);
        gr_values_widen(values, from + (size_t)at * in, count, job->from.dtype);
        if (!gr_values_narrow(out, values, count, job->dtype))
            st = does_not_fit(job, err);
        else
            st = gr_safetensors_write(writer, out, (size_t)count * out_bytes, err);
        gr_map_release(from + (size_t)at * in, (size_t)count * in);
    }
    free(values);
    free(out);
    return st;
}

/* Codes of an MLX module go through as they are. */
static graft_status run_packed_copy(const gr_job *job, gr_safetensors_writer *writer, graft_error *err) {
    GR_TRY(run_raw(job, writer, err));
    if (job->from.kind == GR_FROM_MICRO)
        return gr_safetensors_write(writer, job->from.scales, (size_t)(job->rows * (job->cols / job->group)),
                                    err);
    GR_TRY(cast_groups(job, job->from.scales, writer, err));
    return cast_groups(job, job->from.biases, writer, err);
}

/* Rows [r, r + n) of the source are done with. Permutations stay inside a head, so that only rows of this and
 * the next block are meant. */
static void release_rows(const gr_job *job, int64_t r, int64_t n) {
    const gr_source *from = &job->from;
    if (from->kind == GR_FROM_AWQ_GPTQ) { /* every row reads all of it */
        const gr_awq_gptq *c = &from->columns;
        if (r + n == job->rows) gr_map_release(c->words, (size_t)(c->in * c->out * c->bits / 8));
        return;
    }
    for (int64_t at = 0, rows; at < n; at += rows) {
        rows = n - at;
        const uint8_t *first = gr_source_row(from, r + at, &rows);
        gr_map_release(first, (size_t)rows * from->row_bytes);
    }
    if (!from->scales) return;
    size_t groups = (size_t)(job->cols / from->group) * gr_dtype_bytes(from->dtype);
    gr_map_release(from->scales + (size_t)r * groups, (size_t)n * groups);
    if (from->biases) gr_map_release(from->biases + (size_t)r * groups, (size_t)n * groups);
}

graft_status gr_job_run(const gr_job *job, gr_safetensors_writer *writer, gr_pool *pool, graft_error *err) {
    work w;
    graft_status st = GRAFT_OK;
    if (job->op == GR_JOB_RAW) return run_raw(job, writer, err);
    if (job->op == GR_JOB_REPACK && job->from.kind != GR_FROM_BLOCKS && job->from.kind != GR_FROM_AWQ_GPTQ)
        return run_packed_copy(job, writer, err);
    GR_TRY(work_new(&w, job, err));
    for (int64_t r = 0; r < job->rows; r += w.chunk_rows) {
        int64_t n = gr_min_i64(w.chunk_rows, job->rows - r);
        GR_GOTO(run_rows(job, &w, r, n, pool, err));
        GR_GOTO(gr_safetensors_write(writer, w.bytes, (size_t)n * w.row_bytes, err));
        release_rows(job, r, n);
    }
    if (gr_job_quantized(job)) {
        if (job->op != GR_JOB_QUANTIZE && !finite_groups(&w, job->dtype)) {
            st = does_not_fit(job, err);
            goto done;
        }
        GR_GOTO(gr_safetensors_write(writer, w.scales, w.groups_bytes, err));
        GR_GOTO(gr_safetensors_write(writer, w.biases, w.groups_bytes, err));
    }
done:
    work_free(&w);
    return st;
}
