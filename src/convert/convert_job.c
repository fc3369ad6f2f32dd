#include "convert/convert_job.h"
#include "base/os.h"
#include "weights/affine.h"
#include "weights/gguf_blocks.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* Elements that are in memory at a time as f32 (4 MB), unless one row is longer. */
#define CHUNK ((int64_t)1 << 20)

graft_status gr_note(gr_convert_result *result, graft_error *err, const char *fmt, ...) {
    gr_buf text = {0};
    char line[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    gr_buf_puts(&text, line);
    char *note = gr_buf_take(&text);
    if (!note ||
        !gr_grow((void **)&result->notes, &result->note_cap, result->note_count, sizeof *result->notes)) {
        free(note);
        return gr_no_memory(err, sizeof line);
    }
    result->notes[result->note_count++] = note;
    return GRAFT_OK;
}

/* The role of a matrix, by the last component of its module's path. */
static gr_role role_of(const char *path, int ndim) {
    const char *dot = strrchr(path, '.'), *last = dot ? dot + 1 : path;
    for (int r = 0; ndim == 2 && r < GR_ROLES; r++)
        if (strcmp(last, gr_role_table[r].type) == 0) return (gr_role)r;
    return GR_ROLES;
}

bool gr_job_wants_codes(const gr_job *job, bool embeddings) {
    if (job->role == GR_ROLES) return false;
    return gr_role_table[job->role].quantize ||
           (embeddings && (job->role == GR_EMBED_TOKENS || job->role == GR_LM_HEAD));
}

gr_job *gr_jobs_add(gr_jobs *jobs, const char *name, int ndim, const int64_t *shape) {
    static const char suffix[] = ".weight";
    size_t len = strlen(name), cut = sizeof suffix - 1;
    bool weight = len > cut && strcmp(name + len - cut, suffix) == 0;
    if (!gr_grow((void **)&jobs->items, &jobs->cap, jobs->count, sizeof *jobs->items)) return NULL;
    gr_job *job = &jobs->items[jobs->count];
    *job = (gr_job){.name = gr_strdup(name),
                    .path = gr_strndup(name, weight ? len - cut : len),
                    .ndim = ndim,
                    .rows = 1,
                    .cols = 1};
    jobs->count++;
    if (!job->name || !job->path) return NULL;
    for (int d = 0; d < ndim; d++) job->shape[d] = shape[d];
    for (int d = 0; d + 1 < ndim; d++) job->rows *= shape[d];
    if (ndim) job->cols = shape[ndim - 1];
    job->role = weight ? role_of(job->path, ndim) : GR_ROLES;
    return job;
}

void gr_jobs_free(gr_jobs *jobs) {
    for (size_t i = 0; i < jobs->count; i++) {
        free(jobs->items[i].name);
        free(jobs->items[i].path);
    }
    free(jobs->items);
    *jobs = (gr_jobs){0};
}

graft_status gr_job_quantize(gr_job *job, int bits, int group, gr_convert_result *result, graft_error *err) {
    if (job->cols % group) {
        job->op = GR_JOB_FLOAT;
        return gr_note(result, err, "%s is not quantized: its rows of %lld values are not whole groups of %d",
                       job->path, (long long)job->cols, group);
    }
    job->op = GR_JOB_QUANTIZE;
    job->bits = bits;
    job->group = group;
    return GRAFT_OK;
}

graft_status gr_job_check_codes(const gr_job *job, const gr_convert_options *options, graft_error *err) {
    bool bits = options->q_bits && options->q_bits != job->bits,
         group = options->q_group_size && options->q_group_size != job->group;
    if (!options->quantize || !gr_job_wants_codes(job, false) || (!bits && !group)) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "%s is quantized already with another %s", job->path,
            bits ? "number of bits" : "group size");
    gr_where(err, "%s", options->model);
    gr_expected(err, "%s %d", bits ? "q-bits" : "q-group-size", bits ? job->bits : job->group);
    gr_found(err, "%d", bits ? options->q_bits : options->q_group_size);
    return gr_hint(err, "dequantize first with -d, then quantize that directory; or leave the number out");
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

int gr_job_outputs(const gr_job *job, gr_tensor out[3]) {
    if (!gr_job_quantized(job)) {
        out[0] = declare(job->name, "", job->dtype, job->ndim, job->shape);
        return out[0].name ? 1 : 0;
    }
    int64_t codes[2] = {job->rows, job->cols * job->bits / 32},
            groups[2] = {job->rows, job->cols / job->group};
    out[0] = declare(job->path, ".weight", GR_U32, 2, codes);
    out[1] = declare(job->path, ".scales", job->dtype, 2, groups);
    out[2] = declare(job->path, ".biases", job->dtype, 2, groups);
    return out[0].name && out[1].name && out[2].name ? 3 : 0;
}

/* ---- reading */

/* The source's row that is row `r` of the output. llama.cpp stores row (head, half j, i) at (head, i, j). */
static int64_t source_row(const gr_source *from, int64_t r) {
    if (!from->head_dim) return r;
    int64_t d = from->head_dim, head = r / d, j = r % d / (d / 2), i = r % (d / 2);
    return head * d + 2 * i + j;
}

static void dense_to_f32(float *out, const uint8_t *in, int64_t n, gr_dtype dtype) {
    uint16_t half;
    double wide;
    switch (dtype) {
    case GR_F16:
        for (int64_t i = 0; i < n; i++) memcpy(&half, in + 2 * i, 2), out[i] = gr_f16_to_f32(half);
        break;
    case GR_BF16:
        for (int64_t i = 0; i < n; i++) memcpy(&half, in + 2 * i, 2), out[i] = gr_bf16_to_f32(half);
        break;
    case GR_F64:
        for (int64_t i = 0; i < n; i++) memcpy(&wide, in + 8 * i, 8), out[i] = (float)wide;
        break;
    default: memcpy(out, in, (size_t)n * 4); break;
    }
}

/* Row r of the output as f32. */
static void read_row(const gr_job *job, int64_t r, float *out) {
    const gr_source *from = &job->from;
    int64_t row = source_row(from, r);
    const uint8_t *at = from->data + (size_t)row * from->row_bytes;
    switch (from->kind) {
    case GR_FROM_DENSE: dense_to_f32(out, at, job->cols, from->dtype); break;
    case GR_FROM_BLOCKS: gr_gguf_dequantize(out, at, from->type, job->cols); break;
    case GR_FROM_AFFINE: {
        size_t groups = (size_t)(job->cols / from->group) * gr_dtype_bytes(from->dtype);
        gr_affine_dequantize(out, at, from->scales + (size_t)row * groups,
                             from->biases + (size_t)row * groups, 1, job->cols, from->bits, from->group,
                             from->dtype);
        break;
    }
    }
}

/* f32 values to elements of dtype; false when a finite value has become infinite. */
static bool narrow(void *out, const float *in, int64_t n, gr_dtype dtype) {
    uint16_t *half = out;
    bool fits = true;
    if (dtype == GR_F32) {
        memcpy(out, in, (size_t)n * 4);
        return true;
    }
    for (int64_t i = 0; i < n; i++) half[i] = dtype == GR_F16 ? gr_f32_to_f16(in[i]) : gr_f32_to_bf16(in[i]);
    uint16_t infinity = dtype == GR_F16 ? 0x7c00 : 0x7f80;
    for (int64_t i = 0; i < n; i++) fits = fits && ((half[i] & 0x7fff) != infinity || isinf(in[i]));
    return fits;
}

bool gr_job_exact_in(const gr_job *job, gr_dtype dtype) {
    float *row = gr_calloc((size_t)job->cols, sizeof *row);
    bool exact = row != NULL;
    for (int64_t r = 0; exact && r < job->rows; r++) {
        read_row(job, r, row);
        for (int64_t i = 0; i < job->cols; i++) {
            float back = dtype == GR_F16 ? gr_f16_to_f32(gr_f32_to_f16(row[i]))
                                         : gr_bf16_to_f32(gr_f32_to_bf16(row[i]));
            exact = exact && back == row[i] && !isinf(back);
        }
    }
    free(row);
    return exact;
}

/* ---- running */

static graft_status does_not_fit(const gr_job *job, graft_error *err) {
    gr_fail(err, GRAFT_RANGE, "a value of %s is too large for %s", job->name, gr_dtype_name(job->dtype));
    return gr_hint(err, "choose --dtype %s", job->dtype == GR_F16 ? "bfloat16 or float32" : "float32");
}

static graft_status run_raw(const gr_job *job, gr_safetensors_writer *writer, graft_error *err) {
    size_t total = (size_t)job->rows * job->from.row_bytes, piece = (size_t)CHUNK * 4;
    for (size_t at = 0; at < total; at += piece) {
        size_t n = total - at < piece ? total - at : piece;
        GR_TRY(gr_safetensors_write(writer, job->from.data + at, n, err));
        gr_map_release(job->from.data + at, n);
    }
    return GRAFT_OK;
}

/* Buffers of a job: values of a block of rows, what they become, and the whole tensor's scales and biases. */
typedef struct work {
    int64_t chunk_rows;
    float *values;
    uint8_t *bytes, *scales, *biases;
    size_t groups_bytes, row_groups_bytes;
} work;

static void work_free(work *w) {
    free(w->values);
    free(w->bytes);
    free(w->scales);
    free(w->biases);
}

static graft_status work_new(work *w, const gr_job *job, graft_error *err) {
    *w = (work){.chunk_rows =
                    gr_min_i64(gr_max_i64(1, CHUNK / gr_max_i64(1, job->cols)), gr_max_i64(1, job->rows))};
    size_t elements = (size_t)(w->chunk_rows * job->cols);
    if (gr_job_quantized(job)) {
        w->row_groups_bytes = (size_t)(job->cols / job->group) * gr_dtype_bytes(job->dtype);
        w->groups_bytes = (size_t)job->rows * w->row_groups_bytes;
        w->scales = gr_calloc(w->groups_bytes, 1);
        w->biases = gr_calloc(w->groups_bytes, 1);
    }
    w->values = gr_calloc(elements, sizeof *w->values);
    w->bytes = gr_calloc(elements, 4);
    if (w->values && w->bytes && (!gr_job_quantized(job) || (w->scales && w->biases))) return GRAFT_OK;
    work_free(w);
    return gr_no_memory(err, elements * 8 + 2 * w->groups_bytes);
}

/* Rows [r0, r0 + n) to w->bytes; *size receives how many bytes they are. */
static graft_status run_rows(const gr_job *job, work *w, int64_t r0, int64_t n, size_t *size,
                             graft_error *err) {
    int64_t count = n * job->cols;
    size_t groups_at = (size_t)r0 * w->row_groups_bytes;
    uint8_t *scales = w->scales ? w->scales + groups_at : NULL,
            *biases = w->biases ? w->biases + groups_at : NULL;
    if (job->op == GR_JOB_REPACK) {
        size_t row_bytes = (size_t)gr_affine_row_bytes(job->cols, job->bits);
        for (int64_t r = 0; r < n; r++) {
            const uint8_t *blocks =
                job->from.data + (size_t)source_row(&job->from, r0 + r) * job->from.row_bytes;
            gr_gguf_to_affine(w->bytes + (size_t)r * row_bytes, scales + (size_t)r * w->row_groups_bytes,
                              biases + (size_t)r * w->row_groups_bytes, blocks, job->from.type, job->cols,
                              job->dtype);
        }
        *size = (size_t)n * row_bytes;
        return GRAFT_OK;
    }
    for (int64_t r = 0; r < n; r++) read_row(job, r0 + r, w->values + r * job->cols);
    if (!narrow(w->bytes, w->values, count, job->dtype)) return does_not_fit(job, err);
    *size = (size_t)count * gr_dtype_bytes(job->dtype);
    if (job->op == GR_JOB_QUANTIZE) { /* from the rounded values: mx.quantize sees the weights' dtype */
        dense_to_f32(w->values, w->bytes, count, job->dtype);
        gr_affine_quantize(w->bytes, scales, biases, w->values, n, job->cols, job->bits, job->group,
                           job->dtype);
        *size = (size_t)(n * gr_affine_row_bytes(job->cols, job->bits));
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

/* Codes of an MLX module go through as they are; its scales and biases are cast. */
static graft_status run_affine_copy(const gr_job *job, gr_safetensors_writer *writer, graft_error *err) {
    int64_t n = job->rows * (job->cols / job->group);
    float *values = gr_calloc((size_t)n, sizeof *values);
    void *out = gr_calloc((size_t)n, 4);
    graft_status st = values && out ? run_raw(job, writer, err) : gr_no_memory(err, (size_t)n * 8);
    for (int k = 0; k < 2 && st == GRAFT_OK; k++) {
        dense_to_f32(values, k ? job->from.biases : job->from.scales, n, job->from.dtype);
        if (!narrow(out, values, n, job->dtype))
            st = does_not_fit(job, err);
        else
            st = gr_safetensors_write(writer, out, (size_t)n * gr_dtype_bytes(job->dtype), err);
    }
    free(values);
    free(out);
    return st;
}

graft_status gr_job_run(const gr_job *job, gr_safetensors_writer *writer, graft_error *err) {
    work w;
    graft_status st = GRAFT_OK;
    if (job->op == GR_JOB_RAW) return run_raw(job, writer, err);
    if (job->op == GR_JOB_REPACK && job->from.kind == GR_FROM_AFFINE)
        return run_affine_copy(job, writer, err);
    GR_TRY(work_new(&w, job, err));
    for (int64_t r = 0; r < job->rows; r += w.chunk_rows) {
        int64_t n = gr_min_i64(w.chunk_rows, job->rows - r);
        size_t size = 0;
        GR_GOTO(run_rows(job, &w, r, n, &size, err));
        GR_GOTO(gr_safetensors_write(writer, w.bytes, size, err));
        /* permutations stay inside a head, so rows before r + n minus one head are done with */
        gr_map_release(job->from.data + (size_t)r * job->from.row_bytes, (size_t)n * job->from.row_bytes);
    }
    if (gr_job_quantized(job)) {
        if (job->op == GR_JOB_REPACK && !finite_groups(&w, job->dtype)) {
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
