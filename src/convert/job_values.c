#include "convert/job_values.h"
#include "convert/gguf_names.h"
#include "weights/affine.h"
#include "weights/gguf_blocks.h"
#include "weights/mx_float.h"
#include <math.h>

int64_t gr_job_source_row(const gr_source *from, int64_t r) {
    return from->head_dim ? gr_gguf_paired_row(r, from->head_dim) : r;
}

void gr_values_widen(float *out, const uint8_t *in, int64_t n, gr_dtype dtype) {
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

void gr_job_read_row(const gr_job *job, int64_t r, float *out) {
    const gr_source *from = &job->from;
    int64_t row = gr_job_source_row(from, r), one = 1;
    const uint8_t *at = gr_source_row(from, row, &one);
    switch (from->kind) {
    case GR_FROM_AWQ_GPTQ: gr_awq_gptq_values(&from->columns, row, out); break;
    case GR_FROM_DENSE: gr_values_widen(out, at, job->cols, from->dtype); break;
    case GR_FROM_BLOCKS: gr_gguf_dequantize(out, at, from->type, job->cols); break;
    case GR_FROM_AFFINE: {
        size_t groups = (size_t)(job->cols / from->group) * gr_dtype_bytes(from->dtype);
        gr_affine_dequantize(out, at, from->scales + (size_t)row * groups,
                             from->biases + (size_t)row * groups, 1, job->cols, from->bits, from->group,
                             from->dtype);
        break;
    }
    case GR_FROM_MICRO:
        gr_mx_dequantize(out, at, from->scales + row * (job->cols / from->group), 1, job->cols, from->bits,
                         from->group);
        break;
    }
    for (int64_t i = 0; from->plus != 0 && i < job->cols; i++) out[i] += from->plus;
}

bool gr_values_narrow(void *out, const float *in, int64_t n, gr_dtype dtype) {
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
        gr_job_read_row(job, r, row);
        for (int64_t i = 0; i < job->cols; i++) {
            float back = dtype == GR_F16 ? gr_f16_to_f32(gr_f32_to_f16(row[i]))
                                         : gr_bf16_to_f32(gr_f32_to_bf16(row[i]));
            exact = exact && back == row[i] && !isinf(back);
        }
    }
    free(row);
    return exact;
}

gr_outcome gr_job_awq_gptq_row(const gr_job *job, uint8_t *codes, uint8_t *scales, uint8_t *biases,
                               float *room, int64_t row) {
    const int64_t groups = job->cols / job->group;
    gr_awq_gptq_row(&job->from.columns, row, codes, room, room + groups);
    bool fits = gr_values_narrow(scales, room, groups, job->dtype) &&
                gr_values_narrow(biases, room + groups, groups, job->dtype);
    return fits ? GR_FITS : GR_TOO_LARGE;
}

static void note_moved(const gr_job *job) {
    atomic_store_explicit(job->edit->moved, true, memory_order_relaxed);
}

static bool asks(const gr_job *job) {
    return job->edit->moved && !atomic_load_explicit(job->edit->moved, memory_order_relaxed);
}

void gr_job_compare(const gr_job *job, const float *before, const float *after) {
    const size_t bytes = gr_dtype_bytes(job->dtype);
    for (int64_t i = 0; asks(job) && i < job->cols; i++) {
        uint8_t was[8], is[8];
        if (memcmp(&before[i], &after[i], sizeof *before) == 0) continue;
        gr_values_narrow(was, &before[i], 1, job->dtype);
        gr_values_narrow(is, &after[i], 1, job->dtype);
        if (memcmp(was, is, bytes) != 0) note_moved(job);
    }
}

/* Are the scales or biases that are written those of the source? */
static bool same_groups(const gr_job *job, const uint8_t *written, const uint8_t *own) {
    const size_t in = gr_dtype_bytes(job->from.dtype), out = gr_dtype_bytes(job->dtype);
    for (int64_t g = 0; g < job->cols / job->group; g++) {
        float value;
        uint8_t was[8];
        gr_values_widen(&value, own + (size_t)g * in, 1, job->from.dtype);
        gr_values_narrow(was, &value, 1, job->dtype);
        if (memcmp(was, written + (size_t)g * out, out) != 0) return false;
    }
    return true;
}

/* The row's biases and what the edit adds to them. `sums` has room for the row. */
static gr_outcome shift_biases(const gr_job *job, uint8_t *biases, float *sums, const uint8_t *from,
                               int64_t row) {
    const int64_t groups = job->cols / job->group, each = job->edit->group / job->group;
    const size_t in = gr_dtype_bytes(job->from.dtype), out = gr_dtype_bytes(job->dtype);
    job->edit->sums(job->edit, sums, row);
    for (int64_t g = 0; g < groups; g++) {
        float bias;
        if (sums[g / each] == 0) continue;
        gr_values_widen(&bias, from + (size_t)g * in, 1, job->from.dtype);
        bias += sums[g / each];
        if (!isfinite(bias)) return GR_NOT_FINITE;
        if (!gr_values_narrow(biases + (size_t)g * out, &bias, 1, job->dtype)) return GR_TOO_LARGE;
    }
    return GR_FITS;
}

static gr_outcome merge_row(const gr_job *job, uint8_t *codes, uint8_t *scales, uint8_t *biases,
                            float *values, float *before, int64_t row) {
    const gr_source *from = &job->from;
    const int64_t groups = job->cols / job->group;
    const size_t in = (size_t)groups * gr_dtype_bytes(from->dtype);
    const uint8_t *own_scales = from->scales + (size_t)row * in,
                  *own_biases = from->biases + (size_t)row * in;
    memcpy(codes, from->data + (size_t)row * from->row_bytes, from->row_bytes);
    gr_values_widen(values, own_scales, groups, from->dtype);
    if (!gr_values_narrow(scales, values, groups, job->dtype)) return GR_TOO_LARGE;
    gr_values_widen(values, own_biases, groups, from->dtype);
    if (!gr_values_narrow(biases, values, groups, job->dtype)) return GR_TOO_LARGE;
    if (job->edit->sums && job->edit->group % job->group == 0)
        return shift_biases(job, biases, values, own_biases, row);
    gr_job_read_row(job, row, before);
    memcpy(values, before, (size_t)job->cols * sizeof *values);
    job->edit->row(job->edit, values, row);
    for (int64_t i = 0; i < job->cols; i++)
        if (!isfinite(values[i])) return GR_NOT_FINITE;
    gr_affine_requantize(codes, scales, biases, values, before, job->cols, job->bits, job->group, job->dtype);
    return GR_FITS;
}

gr_outcome gr_job_merge_row(const gr_job *job, uint8_t *codes, uint8_t *scales, uint8_t *biases,
                            float *values, float *before, int64_t row) {
    const gr_source *from = &job->from;
    const size_t in = (size_t)(job->cols / job->group) * gr_dtype_bytes(from->dtype);
    gr_outcome outcome = merge_row(job, codes, scales, biases, values, before, row);
    if (outcome == GR_FITS && asks(job) &&
        !(memcmp(codes, from->data + (size_t)row * from->row_bytes, from->row_bytes) == 0 &&
          same_groups(job, scales, from->scales + (size_t)row * in) &&
          same_groups(job, biases, from->biases + (size_t)row * in)))
        note_moved(job);
    return outcome;
}
