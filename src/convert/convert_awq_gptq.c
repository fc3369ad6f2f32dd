/* Linears that AutoAWQ and AutoGPTQ quantized, as sources: X.qweight, X.qzeros, X.scales (and X.g_idx). */
#include "convert/conversion.h"
#include "convert/job_values.h"
#include "weights/affine.h"
#include <math.h>
#include <stdio.h>

static const gr_tensor *part(const gr_conversion *c, const char *name, size_t n, const char *suffix) {
    char other[512]; /* a longer one is no module's */
    int len = snprintf(other, sizeof other, "%.*s%s", (int)(n < 500 ? n : 500), name, suffix);
    return len < (int)sizeof other && n < 500 ? gr_safetensors_find(c->tensors, other) : NULL;
}

/* Length of the name before `suffix`; 0: it has another end. */
static size_t stem(const char *name, const char *suffix) {
    return gr_ends_with(name, suffix) ? strlen(name) - strlen(suffix) : 0;
}

static bool has_shape(const gr_tensor *t, gr_dtype dtype, int64_t rows, int64_t cols) {
    return t && t->dtype == dtype && t->ndim == 2 && t->shape[0] == rows && t->shape[1] == cols;
}

static graft_status bad_part(const gr_conversion *c, const gr_tensor *t, const char *what, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "%s: %s", t->name, what);
    return gr_where(err, "%s", gr_safetensors_path(c->tensors, t));
}

/* With act-order every input has a group of its own choice: no affine row could say that. */
static graft_status check_order(const gr_conversion *c, const gr_tensor *index, int64_t in,
                                graft_error *err) {
    if (!index) return GRAFT_OK;
    if (index->dtype != GR_I32 || index->ndim != 1 || index->shape[0] != in)
        return bad_part(c, index, "not one group for each input", err);
    for (int64_t i = 0; i < in; i++) {
        int32_t g;
        memcpy(&g, index->data + 4 * i, 4);
        if (g == i / c->columns.group) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "%s: its groups are not consecutive (desc_act)", index->name);
        gr_where(err, "%s", gr_safetensors_path(c->tensors, index));
        return gr_hint(err,
                       "take a release made without act-order (\"desc_act\": false), or the unquantized one");
    }
    return GRAFT_OK;
}

graft_status gr_conversion_add_awq_gptq(gr_conversion *c, const gr_tensor *words, graft_error *err) {
    size_t n = stem(words->name, ".qweight");
    char *name = NULL;
    gr_buf text = {0};
    gr_awq_gptq col = c->columns;
    int64_t per = 32 / col.bits;
    const gr_tensor *scales = part(c, words->name, n, ".scales"), *zeros = part(c, words->name, n, ".qzeros");
    if (words->ndim != 2 || words->dtype != GR_I32)
        return bad_part(c, words, "not a matrix of 32-bit integers", err);
    col.in = words->shape[0] * (col.awq ? 1 : per);
    col.out = words->shape[1] * (col.awq ? per : 1);
    if (col.in % col.group || col.out % per || !col.in || !col.out)
        return bad_part(c, words, "its sizes are no whole groups or words", err);
    if (!scales || !gr_dtype_is_float(scales->dtype) || scales->dtype == GR_F64 ||
        !has_shape(scales, scales->dtype, col.in / col.group, col.out))
        return bad_part(c, words, "its scales are missing or do not fit", err);
    if (zeros && !has_shape(zeros, GR_I32, col.in / col.group, col.out / per))
        return bad_part(c, zeros, "the zeros do not fit the codes", err);
    GR_TRY(check_order(c, part(c, words->name, n, ".g_idx"), col.in, err));
    col.words = words->data, col.scales = scales->data, col.zeros = zeros ? zeros->data : NULL;
    col.dtype = scales->dtype;
    gr_buf_printf(&text, "%.*s.weight", (int)n, words->name);
    if (!(name = gr_buf_take(&text))) return gr_no_memory(err, n);
    gr_job *job;
    graft_status st =
        gr_jobs_add(&job, &c->jobs, name, 2, (const int64_t[2]){col.out, col.in}, c->options->model, err);
    free(name);
    GR_TRY(st);
    job->from = (gr_source){.kind = GR_FROM_AWQ_GPTQ, .columns = col, .bits = col.bits, .group = col.group};
    job->dtype = c->dtype >= 0 ? (gr_dtype)c->dtype : col.dtype;
    job->op = c->options->dequantize ? GR_JOB_FLOAT : GR_JOB_REPACK;
    if (job->op == GR_JOB_FLOAT) return GRAFT_OK;
    job->bits = col.bits;
    job->group = col.group;
    return gr_conversion_check_codes(c, job, err);
}

static bool all_zero(const gr_tensor *t) {
    for (size_t i = 0; i < t->bytes; i++)
        if (t->data[i]) return false;
    return true;
}

/* AutoGPTQ gives every linear a bias; where the model has none it is zero. */
static bool is_empty_bias(const gr_conversion *c, const gr_tensor *t) {
    static const char *const options[] = {"attention_bias", "mlp_bias", "use_bias", "bias"};
    const gr_arch *arch = gr_arch_find(json_string_value(json_object_get(c->config, "model_type")));
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (json_is_true(json_object_get(c->config, options[i]))) return false;
    bool qkv = strstr(t->name, "q_proj") || strstr(t->name, "k_proj") || strstr(t->name, "v_proj");
    return !(arch && (arch->traits & GR_ARCH_QKV_BIAS) && qkv) && all_zero(t);
}

bool gr_conversion_awq_gptq_part(const gr_conversion *c, const gr_tensor *t) {
    static const char *const suffixes[] = {".qzeros", ".scales", ".g_idx", ".bias"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t n = stem(t->name, suffixes[i]);
        if (!n || !part(c, t->name, n, ".qweight")) continue;
        return i < 3 || is_empty_bias(c, t);
    }
    return false;
}

graft_status gr_conversion_check_awq_gptq(const gr_conversion *c, graft_error *err) {
    for (size_t i = 0; i < c->jobs.count; i++)
        if (c->jobs.items[i].from.kind == GR_FROM_AWQ_GPTQ) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "config.json says that the linears are %s, and none is",
            c->columns.awq ? "awq" : "gptq");
    gr_where(err, "%s", c->options->model);
    return gr_expected(err, "tensors named *.qweight");
}

/* mlx-lm gives the whole model the scales' type. */
void gr_conversion_awq_gptq_dtype(gr_conversion *c) {
    for (size_t i = 0; !c->options->dtype && i < gr_safetensors_count(c->tensors); i++) {
        const gr_tensor *t = gr_safetensors_at(c->tensors, i);
        size_t n = stem(t->name, ".scales");
        if (!n || !part(c, t->name, n, ".qweight")) continue;
        c->dtype = (int)t->dtype;
        return;
    }
}

/* ---- what is lost */

typedef struct loss {
    size_t all, rounded; /* scales and biases of groups; of which the type does not hold the value */
    double largest;      /* relative */
} loss;

static graft_status add_loss(loss *l, const gr_job *job, graft_error *err) {
    const gr_awq_gptq *col = &job->from.columns;
    const int64_t n = 2 * (col->in / col->group); /* scales, then biases */
    float *value = gr_calloc((size_t)n, sizeof *value), *back = gr_calloc((size_t)n, sizeof *back);
    uint8_t *written = gr_calloc((size_t)n, sizeof *value);
    graft_status st = value && back && written ? GRAFT_OK : gr_no_memory(err, (size_t)n * 12);
    for (int64_t o = 0; st == GRAFT_OK && o < col->out; o++) {
        gr_awq_gptq_groups(col, o, value, value + n / 2);
        gr_values_narrow(written, value, n, job->dtype);
        gr_values_widen(back, written, n, job->dtype);
        l->all += (size_t)n;
        for (int64_t i = 0; i < n; i++) {
            if (back[i] == value[i]) continue;
            l->rounded++;
            l->largest = fmax(l->largest, fabs((double)back[i] / (double)value[i] - 1));
        }
    }
    free(value);
    free(back);
    free(written);
    return st;
}

graft_status gr_conversion_note_awq_gptq(const gr_conversion *c, graft_error *err) {
    loss l = {0};
    size_t decoded = 0;
    const char *name = c->dtype == GR_BF16 ? "bfloat16" : "float16", *kind = c->columns.awq ? "AWQ" : "GPTQ";
    if (c->dtype == GR_F32) return GRAFT_OK;
    for (size_t i = 0; i < c->jobs.count; i++) {
        const gr_job *job = &c->jobs.items[i];
        if (job->from.kind != GR_FROM_AWQ_GPTQ) continue;
        decoded += job->op == GR_JOB_FLOAT;
        if (job->op == GR_JOB_REPACK) GR_TRY(add_loss(&l, job, err));
    }
    if (decoded)
        GR_TRY(gr_note(c->result, err,
                       "%zu %s matrices decoded, rounded to %s; --dtype float32 keeps their values", decoded,
                       kind, name));
    if (l.rounded)
        GR_TRY(gr_note(
            c->result, err,
            "%s codes stay as they are; of %zu scales and biases (zero times scale) of their groups %zu "
            "are rounded to %s, by at most %.2g of themselves: --dtype float32 keeps them",
            kind, l.all, l.rounded, name, l.largest));
    return GRAFT_OK;
}
