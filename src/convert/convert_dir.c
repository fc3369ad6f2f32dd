/* Hugging Face and MLX directories as sources. */
#include "convert/conversion.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "text/chat_templates.h"
#include "weights/affine.h"
#include <stdio.h>

/* ---- config */

/* "float16" and so on; -1 for others. */
static int dtype_of(const char *name) {
    if (!name) return -1;
    if (strcmp(name, "float16") == 0) return GR_F16;
    if (strcmp(name, "bfloat16") == 0) return GR_BF16;
    return strcmp(name, "float32") == 0 ? GR_F32 : -1;
}

/* A field under its older name, unless that is there. */
static bool put_old(json_t *config, const char *key, json_t *value) {
    return !value || json_object_get(config, key) || gr_put(config, key, json_incref(value));
}

/* One rule of rotation as transformers 4 and mlx-lm name its parts. */
static bool put_old_rule(json_t *config, json_t *rule) {
    const char *type = json_string_value(json_object_get(rule, "rope_type"));
    bool good = put_old(config, "rope_theta", json_object_get(rule, "rope_theta")) &&
                put_old(config, "partial_rotary_factor", json_object_get(rule, "partial_rotary_factor"));
    if (type && strcmp(type, "default") != 0 && !json_is_object(json_object_get(config, "rope_scaling")))
        good = good && gr_put(config, "rope_scaling", json_deep_copy(rule)) &&
               put_old(json_object_get(config, "rope_scaling"), "type", json_object_get(rule, "rope_type"));
    return good;
}

/* transformers 5 writes rope_parameters only; mlx-lm reads rope_theta and its like. Say both. */
static graft_status add_old_rope(json_t *config, graft_error *err) {
    json_t *rope = json_object_get(config, "rope_parameters"),
           *full = json_object_get(rope, "full_attention"),
           *local = json_object_get(rope, "sliding_attention");
    bool good = put_old_rule(config, full ? full : rope) &&
                put_old(config, "rope_local_base_freq", json_object_get(local, "rope_theta"));
    return good ? GRAFT_OK : gr_no_memory(err, 64);
}

/* The source's own quantization: MLX's modes are understood, other methods are refused. */
static graft_status read_quantization(gr_conversion *c, const char *path, graft_error *err) {
    gr_json_scope root = {c->config, path, ""}, quant;
    char inner[128];
    const char *method = NULL, *mode = "affine";
    int64_t bits = 0, group = 0;
    const char *key = gr_json_field(&root, "quantization") ? "quantization" : "quantization_config";
    GR_TRY(gr_json_object(&root, key, &quant, inner, err));
    if (!quant.object) return GRAFT_OK;
    GR_TRY(gr_json_string(&quant, "quant_method", &method, err));
    GR_TRY(gr_json_string(&quant, "mode", &mode, err));
    c->top_micro = gr_mx_by_mode(mode);
    if (gr_is_awq_gptq(method)) return gr_config_awq_gptq(&c->columns, &quant, method, err);
    if (method || (!c->top_micro && strcmp(mode, "affine") != 0)) {
        gr_fail(err, GRAFT_UNSUPPORTED, "weights quantized by another method");
        gr_where(err, "%s: %s", path, key);
        gr_expected(err,
                    "no quantization, MLX's affine, mxfp4, mxfp8 or nvfp4 mode, or the method awq or gptq");
        gr_found(err, "%s", method ? method : mode);
        return gr_hint(err, "start from the model's unquantized release");
    }
    GR_TRY(gr_json_int(&quant, "bits", 1, 16, &bits, err));
    GR_TRY(gr_json_int(&quant, "group_size", 1, 1 << 20, &group, err));
    bool known = c->top_micro ? gr_mx_by_format((int)bits, (int)group) == c->top_micro
                              : gr_affine_valid((int)bits, (int)group);
    if (bits && !known) {
        gr_fail(err, GRAFT_UNSUPPORTED, "quantization with these bits and group_size");
        gr_where(err, "%s: %s", path, key);
        if (c->top_micro)
            gr_expected(err, "bits %d, group_size %d", c->top_micro->bits, c->top_micro->group);
        else
            gr_expected(err, "bits 2, 3, 4, 5, 6 or 8, group_size 32, 64 or 128");
        return gr_found(err, "bits %lld, group_size %lld", (long long)bits, (long long)group);
    }
    c->top_bits = (int)bits;
    c->top_group = (int)group;
    return GRAFT_OK;
}

/* The reference is the caller's in any case. */
static graft_status load_object(json_t **value, const char *path, size_t limit, gr_reading how,
                                graft_error *err) {
    GR_TRY(gr_json_load_as(value, path, limit, how, err));
    if (json_is_object(*value)) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "not a JSON object");
    return gr_where(err, "%s", path);
}

static graft_status load_config(gr_conversion *c, const char *path, graft_error *err) {
    const char *type = NULL, *dtype = NULL;
    GR_TRY(load_object(&c->config, path, GR_CONFIG_LIMIT, c->options->reading, err));
    GR_TRY(gr_conversion_take_text(c, err));
    gr_json_scope root = {c->config, path, ""};
    GR_TRY(gr_json_need(&root, "model_type", err));
    GR_TRY(gr_json_string(&root, "model_type", &type, err));
    if (!gr_arch_find(type)) {
        gr_buf known = {0};
        for (const gr_arch *a = gr_arch_table; a->model_type; a++)
            gr_buf_printf(&known, "%s%s", a == gr_arch_table ? "" : ", ", a->model_type);
        gr_fail(err, GRAFT_UNSUPPORTED, "architecture cannot be converted");
        gr_where(err, "%s: model_type", path);
        gr_expected(err, "%s", known.data ? known.data : "");
        gr_found(err, "%s", type);
        gr_buf_free(&known);
        return GRAFT_UNSUPPORTED;
    }
    GR_TRY(read_quantization(c, path, err));
    if (gr_arch_find(type)->traits & GR_ARCH_EXPERTS) GR_TRY(gr_conversion_experts_config(c, path, err));
    GR_TRY(gr_json_string(&root, "dtype", &dtype, err));
    GR_TRY(gr_json_string(&root, "torch_dtype", &dtype, err));
    if (c->dtype < 0) c->dtype = dtype_of(dtype);
    return add_old_rope(c->config, err);
}

/* ---- tensors */

/* What becomes of a dense job, whose place in the source is set. */
graft_status gr_conversion_plan_dense(gr_conversion *c, gr_job *job, const gr_tensor *t, graft_error *err) {
    job->dtype = t->dtype;
    if (t->dtype == GR_F8_E4M3 || t->dtype == GR_F8_E5M2) {
        gr_fail(err, GRAFT_UNSUPPORTED, "tensor %s is in 8-bit floats", t->name);
        gr_where(err, "%s", gr_safetensors_path(c->tensors, t));
        return gr_hint(err, "start from the model's 16-bit release");
    }
    if (t->dtype > GR_F64) return GRAFT_OK; /* integers stay: a raw job */
    bool cast = c->dtype >= 0 && !c->keep_dtypes;
    job->dtype = cast ? (gr_dtype)c->dtype : t->dtype == GR_F64 ? GR_F32 : t->dtype;
    job->op = job->dtype == t->dtype ? GR_JOB_RAW : GR_JOB_FLOAT;
    gr_quant_choice choice = gr_conversion_choose(c, job);
    if (c->options->quantize && choice.quantize) gr_conversion_quantize(c, job, choice);
    if (!gr_job_quantized(job) && job->dtype == t->dtype) job->op = GR_JOB_RAW;
    return GRAFT_OK;
}

static graft_status add_dense(gr_conversion *c, const gr_tensor *t, const char *name, graft_error *err) {
    gr_job *job;
    GR_TRY(gr_jobs_add(&job, &c->jobs, name, t->ndim, t->shape, c->options->model, err));
    job->from = (gr_source){.kind = GR_FROM_DENSE,
                            .dtype = t->dtype,
                            .data = t->data,
                            .row_bytes = (size_t)job->cols * gr_dtype_bytes(t->dtype)};
    return gr_conversion_plan_dense(c, job, t, err);
}

#define NAME_SIZE 512 /* a longer name is no module's */

/* The tensor whose name is the first n characters of `name`, and `suffix`. */
static const gr_tensor *sibling(const gr_conversion *c, const char *name, size_t n, const char *suffix) {
    char other[NAME_SIZE];
    int len = snprintf(other, sizeof other, "%.*s%s", (int)gr_min_i64((int64_t)n, NAME_SIZE), name, suffix);
    return len < NAME_SIZE ? gr_safetensors_find(c->tensors, other) : NULL;
}

/* name ends in `suffix`, and the name with `.weight` instead is a tensor of integers: part of a quantized
 * module. */
static bool is_part(const gr_conversion *c, const char *name, const char *suffix) {
    size_t len = strlen(name), cut = strlen(suffix);
    if (len <= cut || strcmp(name + len - cut, suffix) != 0) return false;
    const gr_tensor *weight = sibling(c, name, len - cut, ".weight");
    return weight && weight->dtype == GR_U32;
}

static const gr_tensor *scales_of(const gr_conversion *c, const gr_tensor *t) {
    static const char suffix[] = ".weight";
    size_t len = strlen(t->name), cut = sizeof suffix - 1;
    if (t->dtype != GR_U32 || len <= cut || strcmp(t->name + len - cut, suffix) != 0) return NULL;
    return sibling(c, t->name, len - cut, ".scales");
}

/* A tensor of a text part under the name that it has alone; others are left out. */
static graft_status add_text(gr_conversion *c, const gr_tensor *t, graft_error *err) {
    char name[NAME_SIZE];
    const gr_tensor *scales = scales_of(c, t);
    if (!gr_conversion_text_name(name, sizeof name, t->name)) return GRAFT_OK;
    if (is_part(c, t->name, ".scales") || is_part(c, t->name, ".biases")) return GRAFT_OK;
    if (c->columns.bits) {
        gr_fail(err, GRAFT_UNSUPPORTED, "the text part of a model of images and text in AWQ or GPTQ");
        gr_where(err, "%s: %s", gr_safetensors_path(c->tensors, t), t->name);
        return gr_hint(err, "start from the model's unquantized release, or from MLX's codes");
    }
    return scales ? gr_conversion_add_stored_codes(c, t, scales, name, err) : add_dense(c, t, name, err);
}

graft_status gr_conversion_plan_dir(gr_conversion *c, graft_error *err) {
    char *path = gr_path_join(c->options->model, "config.json");
    if (!path) return gr_no_memory(err, strlen(c->options->model));
    graft_status st = load_config(c, path, err);
    free(path);
    GR_TRY(st);
    GR_TRY(gr_safetensors_open_as(&c->tensors, c->options->model, c->options->reading, err));
    if (c->columns.bits) gr_conversion_awq_gptq_dtype(c);
    bool tied = json_is_true(json_object_get(c->config, "tie_word_embeddings"));
    for (size_t i = 0; i < gr_safetensors_count(c->tensors); i++) {
        const gr_tensor *t = gr_safetensors_at(c->tensors, i), *scales = scales_of(c, t);
        if (strstr(t->name, "rotary_emb.inv_freq") || (tied && strstr(t->name, "lm_head."))) continue;
        if (c->text_part) {
            GR_TRY(add_text(c, t, err));
            continue;
        }
        if (c->columns.bits && gr_conversion_awq_gptq_part(c, t)) continue;
        if (c->columns.bits && gr_ends_with(t->name, ".qweight")) {
            GR_TRY(gr_conversion_add_awq_gptq(c, t, err));
            continue;
        }
        if (c->experts && gr_conversion_expert(t)) {
            GR_TRY(gr_conversion_add_experts(c, t, err));
            continue;
        }
        if (is_part(c, t->name, ".scales") || is_part(c, t->name, ".biases")) continue;
        GR_TRY(scales ? gr_conversion_add_stored_codes(c, t, scales, t->name, err)
                      : add_dense(c, t, t->name, err));
    }
    return c->columns.bits ? gr_conversion_check_awq_gptq(c, err) : GRAFT_OK;
}

/* ---- other files */

static graft_status copy_file(const gr_conversion *c, const char *name, graft_error *err) {
    char *from = gr_path_join(c->options->model, name), *to = gr_path_join(c->out, name), *data = NULL;
    size_t size;
    graft_status st = from && to ? GRAFT_OK : gr_no_memory(err, strlen(name));
    if (st == GRAFT_OK && gr_path_exists_as(from, c->options->reading)) {
        st = gr_file_read_as(&data, &size, from, GR_JSON_LIMIT, c->options->reading, err);
        if (st == GRAFT_OK) st = gr_file_replace(to, data, size, err);
    }
    free(data);
    free(from);
    free(to);
    return st;
}

/* tokenizer_config.json with named templates that stand in files: a conversion has no folders. */
static graft_status save_templates(const gr_conversion *c, json_t *templates, graft_error *err) {
    static const char name[] = "tokenizer_config.json";
    char *from = gr_path_join(c->options->model, name), *to = gr_path_join(c->out, name);
    json_t *config = NULL;
    graft_status st = from && to ? GRAFT_OK : gr_no_memory(err, strlen(name));
    if (st == GRAFT_OK && gr_path_exists_as(from, c->options->reading))
        st = load_object(&config, from, GR_JSON_LIMIT, c->options->reading, err);
    else if (st == GRAFT_OK && !(config = json_object()))
        st = gr_no_memory(err, 64);
    if (st == GRAFT_OK)
        st = json_object_set(config, "chat_template", templates) == 0 ? gr_json_save(to, config, err)
                                                                      : gr_no_memory(err, 64);
    json_decref(config);
    free(from);
    free(to);
    return st;
}

graft_status gr_conversion_copy_files(const gr_conversion *c, graft_error *err) {
    static const char *const names[] = {
        "tokenizer.json", "special_tokens_map.json", "added_tokens.json",      "vocab.json",
        "merges.txt",     "tokenizer.model",         "generation_config.json", "chat_template.json",
    };
    json_t *templates;
    GR_TRY(gr_chat_templates_of_dir(&templates, c->options->model, c->options->reading, err));
    graft_status st = GRAFT_OK;
    if (json_is_array(templates)) {
        st = save_templates(c, templates, err);
    } else {
        st = copy_file(c, "tokenizer_config.json", err);
        if (st == GRAFT_OK) st = copy_file(c, "chat_template.jinja", err);
    }
    json_decref(templates);
    for (size_t i = 0; i < sizeof names / sizeof *names && st == GRAFT_OK; i++)
        st = copy_file(c, names[i], err);
    return st;
}
