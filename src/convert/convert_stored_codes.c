/* Modules that are codes already: MLX's affine groups and block floats as sources. */
#include "convert/conversion.h"
#include "weights/affine.h"
#include <stdio.h>

#define MODULE_SIZE 500

/* ---- which format */

/* Values in a row of this module, from the config's sizes; 0 when the role or the config does not say. */
static int64_t expected_cols(const gr_conversion *c, gr_role role) {
    const gr_arch *arch = gr_arch_find(json_string_value(json_object_get(c->config, "model_type")));
    const char *key = role == GR_DOWN_PROJ || role == GR_C_PROJ ? "intermediate_size"
                      : role != GR_EXPERT_DOWN                  ? "hidden_size"
                      : arch && arch->mlp_key                   ? arch->mlp_key
                                                                : "intermediate_size";
    if (role == GR_ROLES) return 0;
    if (role != GR_O_PROJ) return json_integer_value(json_object_get(c->config, key));
    int64_t heads = json_integer_value(json_object_get(c->config, "num_attention_heads")),
            d = json_integer_value(json_object_get(c->config, "head_dim"));
    int64_t hidden = json_integer_value(json_object_get(c->config, "hidden_size"));
    if (!d && arch) d = arch->head_dim;
    if (heads < 1 || heads > 1 << 20 || d < 0 || d > 1 << 20) return 0;
    return d ? heads * d : hidden / heads * heads;
}

static bool known(bool micro, int64_t bits, int64_t group) {
    if (bits < 1 || bits > 8 || group < 1 || group > 128) return false;
    return micro ? gr_mx_by_format((int)bits, (int)group) != NULL : gr_affine_valid((int)bits, (int)group);
}

static graft_status unclear(const gr_conversion *c, const gr_job *job, int64_t words, int64_t groups,
                            graft_error *err) {
    gr_fail(err, GRAFT_MISMATCH, "bits and group_size of %s do not follow from config and shapes", job->path);
    gr_where(err, "%s", c->options->model);
    gr_expected(err, "config.json to hold its quantization");
    return gr_found(err, "%lld words and %lld groups in a row", (long long)words, (long long)groups);
}

/* Bits and group of a quantized module. The config's sizes say how long a row is, the shapes then the rest,
 * as in mlx-lm; of a module that the sizes do not tell, the config's own numbers as far as the shapes allow.
 * module: its path in the source */
static graft_status module_format(const gr_conversion *c, const gr_job *job, const char *module, bool micro,
                                  int64_t words, int64_t groups, int *bits, int *group, graft_error *err) {
    const json_t *quant = json_object_get(c->config, "quantization");
    if (!quant) quant = json_object_get(c->config, "quantization_config");
    const json_t *own = json_object_get(quant, module);
    int64_t b = c->top_bits, g = c->top_group, cols = expected_cols(c, job->role);
    if (json_is_object(own) && json_object_get(own, "bits"))
        b = json_integer_value(json_object_get(own, "bits"));
    if (json_is_object(own) && json_object_get(own, "group_size"))
        g = json_integer_value(json_object_get(own, "group_size"));
    if (groups <= 0 || words <= 0 || words * 32 % groups) return unclear(c, job, words, groups, err);
    int64_t product = words * 32 / groups; /* bits * group */
    if (cols > 0 && words * 32 % cols == 0 && cols % groups == 0)
        b = words * 32 / cols, g = cols / groups;
    else if (g > 0 && b != product / g && product % g == 0 && known(micro, product / g, g))
        b = product / g;
    else if (b > 0 && g != product / b && product % b == 0)
        g = product / b;
    if (!known(micro, b, g) || b * g != product) return unclear(c, job, words, groups, err);
    *bits = (int)b;
    *group = (int)g;
    return GRAFT_OK;
}

/* ---- adding */

static graft_status not_a_module(const gr_conversion *c, const gr_job *job, const gr_tensor *weight,
                                 graft_error *err) {
    gr_fail(
        err, GRAFT_CORRUPT,
        "%s is not a quantized module: weight u32, scales and biases of one float type, or scales of 8 bits",
        job->path);
    return gr_where(err, "%s", gr_safetensors_path(c->tensors, weight));
}

static bool fits(const gr_tensor *weight, const gr_tensor *scales, const gr_tensor *biases) {
    const int n = weight->ndim; /* 3: experts */
    if (weight->dtype != GR_U32 || (n != 2 && n != 3) || scales->ndim != n ||
        memcmp(scales->shape, weight->shape, sizeof(int64_t) * (size_t)(n - 1)) != 0)
        return false;
    if (scales->dtype == GR_U8) return !biases;
    return gr_dtype_is_float(scales->dtype) && biases && biases->ndim == n &&
           biases->dtype == scales->dtype &&
           memcmp(scales->shape, biases->shape, sizeof(int64_t) * (size_t)n) == 0;
}

/* Codes stay as they are; other ones that are asked for with quantize would be made from rounded values. */
graft_status gr_conversion_check_codes(const gr_conversion *c, const gr_job *job, graft_error *err) {
    const gr_convert_options *o = c->options;
    gr_quant_choice choice = gr_conversion_choose(c, job);
    bool bits = (o->q_bits || choice.asked) && choice.bits != job->bits,
         group = (o->q_group_size || choice.asked) && choice.group != job->group;
    bool spoken = gr_job_wants_codes(job, false) || choice.asked;
    if (!o->quantize || !spoken || (choice.quantize && !bits && !group)) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "%s is quantized already%s", job->path,
            !choice.quantize ? ""
            : bits           ? " with another number of bits"
                             : " with another group size");
    gr_where(err, "%s", o->model);
    if (choice.quantize) {
        gr_expected(err, "%s %d", bits ? "bits" : "group size", bits ? job->bits : job->group);
        gr_found(err, "%d", bits ? choice.bits : choice.group);
    }
    return gr_hint(err, "dequantize first with -d, then quantize that directory; or leave the number out");
}

static const gr_tensor *part(const gr_conversion *c, const char *module, const char *suffix) {
    char name[MODULE_SIZE + 16];
    snprintf(name, sizeof name, "%s%s", module, suffix);
    return gr_safetensors_find(c->tensors, name);
}

graft_status gr_conversion_add_stored_codes(gr_conversion *c, const gr_tensor *weight,
                                            const gr_tensor *scales, const char *name, graft_error *err) {
    char module[MODULE_SIZE] = ""; /* a longer name is no module's, and has no parts */
    const size_t len = strlen(weight->name) - strlen(".weight"); /* which all of them end in */
    if (len < sizeof module) snprintf(module, sizeof module, "%.*s", (int)len, weight->name);
    gr_job *job;
    GR_TRY(gr_jobs_add(&job, &c->jobs, name, weight->ndim, weight->shape, c->options->model, err));
    const gr_tensor *biases = part(c, module, ".biases");
    if (!fits(weight, scales, biases)) return not_a_module(c, job, weight, err);
    bool micro = !biases;
    if (part(c, module, ".global_scale")) {
        gr_fail(err, GRAFT_UNSUPPORTED, "%s has a global scale", job->path);
        return gr_where(err, "%s", gr_safetensors_path(c->tensors, weight));
    }
    gr_source *from = &job->from;
    *from = (gr_source){.kind = micro ? GR_FROM_MICRO : GR_FROM_AFFINE,
                        .dtype = scales->dtype,
                        .data = weight->data,
                        .scales = scales->data,
                        .biases = micro ? NULL : biases->data};
    const int last = weight->ndim - 1;
    const int64_t words = weight->shape[last], groups = scales->shape[last];
    GR_TRY(module_format(c, job, module, micro, words, groups, &from->bits, &from->group, err));
    from->row_bytes = (size_t)words * 4;
    job->cols = job->shape[last] = groups * from->group;
    bool cast = c->dtype >= 0 && (!c->keep_dtypes || c->options->dequantize);
    job->dtype = cast ? (gr_dtype)c->dtype : micro ? GR_BF16 : scales->dtype;
    job->op = c->options->dequantize ? GR_JOB_FLOAT : GR_JOB_REPACK;
    if (job->op == GR_JOB_FLOAT) return GRAFT_OK;
    job->bits = from->bits;
    job->group = from->group;
    return gr_conversion_check_codes(c, job, err);
}
