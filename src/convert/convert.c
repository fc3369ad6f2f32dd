#include "convert/convert.h"
#include "base/os.h"
#include "convert/conversion.h"
#include "files/json_write.h"
#include "files/problems.h"
#include "weights/affine.h"
#include <stdio.h>
#include <unistd.h>

void gr_convert_result_free(gr_convert_result *result) {
    for (size_t i = 0; i < result->note_count; i++) free(result->notes[i]);
    free(result->notes);
    *result = (gr_convert_result){0};
}

static graft_status usage(graft_error *err, const char *what, const char *expected, const char *found) {
    gr_fail(err, GRAFT_USAGE, "%s", what);
    gr_expected(err, "%s", expected);
    if (found) gr_found(err, "%s", found);
    return GRAFT_USAGE;
}

static graft_status read_dtype(gr_conversion *c, graft_error *err) {
    const char *name = c->options->dtype;
    c->dtype = -1;
    c->keep_dtypes = !name && c->options->edit_count;
    if (!name) return GRAFT_OK;
    if (strcmp(name, "float16") == 0)
        c->dtype = GR_F16;
    else if (strcmp(name, "bfloat16") == 0)
        c->dtype = GR_BF16;
    else if (strcmp(name, "float32") == 0)
        c->dtype = GR_F32;
    else
        return usage(err, "unknown dtype", "float16, bfloat16 or float32", name);
    return GRAFT_OK;
}

static graft_status check_options(gr_conversion *c, graft_error *err) {
    const gr_convert_options *o = c->options;
    if (!o->model || !o->model[0])
        return usage(err, "no model to convert", "a directory or a .gguf file", NULL);
    if (!o->out || !o->out[0]) return usage(err, "no output directory", "--mlx-path DIR", NULL);
    if (o->quantize && o->dequantize)
        return usage(err, "quantize and dequantize contradict each other", "one of them", NULL);
    if (o->q_embeddings && o->dequantize)
        return usage(err, "q-embeddings and dequantize contradict each other", "one of them", NULL);
    if (o->quant_predicate && !o->quantize) {
        gr_fail(err, GRAFT_USAGE, "quant-predicate without quantize");
        return gr_hint(err, "add -q");
    }
    if (o->q_mode && strcmp(o->q_mode, "affine") != 0) {
        gr_fail(err, GRAFT_UNSUPPORTED, "weights are read in this quantization mode, but not written");
        gr_expected(err, "affine");
        gr_found(err, "q-mode %s", o->q_mode);
        return gr_hint(err, "leave --q-mode out; mlx_lm.convert --q-mode %s writes what graft can train on",
                       o->q_mode);
    }
    c->q_bits = o->q_bits ? o->q_bits : 4;
    c->q_group = o->q_group_size ? o->q_group_size : 64;
    if (!gr_affine_valid(c->q_bits, c->q_group)) {
        gr_fail(err, GRAFT_USAGE, "these q-bits and q-group-size");
        gr_expected(err, "bits 2, 3, 4, 5, 6 or 8; group size 32, 64 or 128");
        return gr_found(err, "bits %d, group size %d", c->q_bits, c->q_group);
    }
    GR_TRY(gr_quant_rules_new(&c->rules, o->quant_predicate, c->q_bits, c->q_group, err));
    return read_dtype(c, err);
}

/* ---- what is quantized */

gr_quant_choice gr_conversion_choose(const gr_conversion *c, const gr_job *job) {
    if (job->role == GR_ROLES) return (gr_quant_choice){0};
    return gr_quant_rules_choose(c->rules, job->path, gr_job_wants_codes(job, c->options->q_embeddings),
                                 json_integer_value(json_object_get(c->config, "num_hidden_layers")));
}

void gr_conversion_quantize(gr_conversion *c, gr_job *job, gr_quant_choice choice) {
    if (job->cols % choice.group) {
        job->op = GR_JOB_FLOAT;
        job->undivided = choice.group;
        c->undivided++;
        return;
    }
    job->op = GR_JOB_QUANTIZE;
    job->bits = choice.bits;
    job->group = choice.group;
}

/* ---- is the result a model? */

static int by_name(const void *a, const void *b) {
    return strcmp((*(const gr_job *const *)a)->name, (*(const gr_job *const *)b)->name);
}

/* experts > 0: that many matrices in one, whose rows are `out` together; alone: a name that the first may
 * have instead, or NULL. */
static void check_tensor(const gr_job **sorted, size_t count, const char *module, const char *part,
                         const char *alone, int64_t experts, int64_t out, int64_t in, gr_problems *bad) {
    char name[160];
    snprintf(name, sizeof name, "%s.%s", module, part);
    gr_job wanted = {.name = name}, *key = &wanted;
    const gr_job **found = bsearch(&key, sorted, count, sizeof *sorted, by_name);
    if (!found) {
        gr_problems_add(bad, GRAFT_NOT_FOUND, "tensor %s%s%s is missing", name, alone ? ", or each of " : "",
                        alone ? alone : "");
        return;
    }
    const gr_job *job = *found;
    const int64_t *shape = job->shape;
    bool fits = experts ? job->ndim == 3 && shape[0] == experts && job->rows == out && job->cols == in
                : in    ? job->ndim == 2 && shape[0] == out && shape[1] == in
                        : job->ndim == 1 && shape[0] == out;
    if (!fits)
        gr_problems_add(bad, GRAFT_MISMATCH, "tensor %s does not have the shape that the config asks for",
                        name);
}

/* Every tensor that the config asks for must be there with its shape: a file that lacks some would only fail
 * later. */
static graft_status check_complete(const gr_conversion *c, const gr_model_config *config, graft_error *err) {
    gr_problems bad = {0};
    const gr_job **sorted = gr_calloc(c->jobs.count, sizeof *sorted);
    if (!sorted) return gr_no_memory(err, c->jobs.count * sizeof *sorted);
    for (size_t i = 0; i < c->jobs.count; i++) sorted[i] = &c->jobs.items[i];
    qsort(sorted, c->jobs.count, sizeof *sorted, by_name);
    for (int64_t layer = 0; layer < config->layers; layer++) {
        for (int r = 0; r < GR_ROLES; r++) {
            char module[128], alone[160];
            int64_t out, in;
            const bool experts = gr_role_expert((gr_role)r);
            if (!gr_role_exists((gr_role)r, config) || (!gr_role_table[r].in_block && layer > 0)) continue;
            gr_role_name(module, sizeof module, (gr_role)r, layer);
            gr_role_shape((gr_role)r, config, &out, &in);
            snprintf(alone, sizeof alone, "model.layers.%lld.mlp.experts.N.%s.weight", (long long)layer,
                     gr_role_table[r].type);
            check_tensor(sorted, c->jobs.count, module, "weight", experts && c->tensors ? alone : NULL,
                         experts ? config->experts : 0, out, in, &bad);
            if (gr_role_has_bias((gr_role)r, config))
                check_tensor(sorted, c->jobs.count, module, "bias", NULL, 0, out, 0, &bad);
        }
    }
    free(sorted);
    return gr_problems_end(&bad, c->options->model, err);
}

static graft_status check_model(const gr_conversion *c, graft_error *err) {
    gr_model_config config;
    json_t *plain = json_copy(c->config); /* shallow: the quantization is not part of what a model is */
    json_object_del(plain, "quantization");
    json_object_del(plain, "quantization_config");
    char *text = gr_json_dump(plain, JSON_COMPACT);
    json_decref(plain);
    if (!text) return gr_no_memory(err, 4096);
    graft_status st = gr_config_parse(&config, text, strlen(text), c->options->model, err);
    free(text);
    GR_TRY(st);
    st = check_complete(c, &config, err);
    gr_config_free(&config);
    return st;
}

/* A model without any codes is not what -q asks for, nor a rule for a module that is not there. */
static graft_status check_quantized(const gr_conversion *c, graft_error *err) {
    size_t i = 0;
    GR_TRY(gr_quant_rules_used(c->rules, err));
    while (i < c->jobs.count && !gr_job_quantized(&c->jobs.items[i])) i++;
    if (!c->options->quantize || i < c->jobs.count) return GRAFT_OK;
    const char *rule = c->undivided ? NULL : gr_quant_rules_refusal(c->rules);
    if (rule) {
        gr_fail(err, GRAFT_USAGE, "quant-predicate leaves nothing to quantize");
        gr_found(err, "%s", rule);
        return gr_hint(err, "narrow that rule, or leave out -q");
    }
    gr_fail(err, GRAFT_USAGE, "nothing can be quantized: no matrix has rows of whole groups of %d",
            c->q_group);
    gr_where(err, "%s", c->options->model);
    return gr_hint(err, c->q_group > 32 ? "try --q-group-size 32" : "leave out -q");
}

static graft_status convert(gr_conversion *c, graft_error *err) {
    bool dir = gr_path_is_dir_as(c->options->model, c->options->reading);
    if (dir && c->options->q_embeddings && !c->options->quantize) {
        gr_fail(err, GRAFT_USAGE, "q-embeddings without quantize");
        return gr_hint(err, "add -q");
    }
    GR_TRY(dir ? gr_conversion_plan_dir(c, err) : gr_conversion_plan_gguf(c, err));
    GR_TRY(check_model(c, err));
    GR_TRY(gr_conversion_edit(c, err));
    GR_TRY(check_quantized(c, err));
    gr_conversion_part_experts(c);
    GR_TRY(gr_conversion_note_undivided(c, err));
    if (c->columns.bits) GR_TRY(gr_conversion_note_awq_gptq(c, err));
    GR_TRY(gr_conversion_prepare_out(c, err));
    GR_TRY(dir ? gr_conversion_copy_files(c, err) : gr_conversion_gguf_files(c, err));
    GR_TRY(gr_conversion_write_shards(c, err));
    GR_TRY(gr_conversion_write_config(c, err));
    return gr_conversion_publish(c, err);
}

graft_status gr_convert(const gr_convert_options *options, gr_convert_result *result, graft_error *err) {
    gr_conversion c = {.options = options, .result = result, .lock = -1};
    graft_error ignored = {0};
    if (!err) err = &ignored;
    *result = (gr_convert_result){0};
    graft_status st = check_options(&c, err);
    if (st == GRAFT_OK) {
        int threads = options->threads > 0 ? options->threads : gr_processors();
        st = gr_pool_new(&c.pool, threads < GR_THREADS_MAX ? threads : GR_THREADS_MAX, err);
    }
    if (st == GRAFT_OK) st = convert(&c, err);
    gr_conversion_discard(&c);
    gr_jobs_free(&c.jobs);
    gr_safetensors_close(c.tensors);
    gr_gguf_close(c.gguf);
    json_decref(c.config);
    if (c.lock >= 0) close(c.lock);
    gr_quant_rules_free(c.rules);
    gr_pool_free(c.pool);
    if (st != GRAFT_OK) gr_convert_result_free(result);
    return st;
}
