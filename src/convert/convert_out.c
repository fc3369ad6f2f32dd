/* What goes into the output directory: shards, index, config.json. */
#include "base/os.h"
#include "convert/conversion.h"
#include "files/json_write.h"
#include <stdio.h>

/* Largest shard, as mlx-lm's. A module is never torn apart. */
#define SHARD_BYTES ((uint64_t)5 << 30)

/* ---- shards */

/* All output tensors, in the order of the jobs, and which shard each job is in. */
typedef struct layout {
    gr_tensor *tensors;
    size_t *first; /* of each job, and one past the last */
    size_t *shard; /* of each job */
    size_t count, shards;
    uint64_t bytes;
} layout;

static void layout_free(layout *l) {
    for (size_t i = 0; i < l->count; i++) free((void *)(uintptr_t)l->tensors[i].name);
    free(l->tensors);
    free(l->first);
    free(l->shard);
}

static graft_status layout_new(layout *l, const gr_jobs *jobs, uint64_t shard_bytes, graft_error *err) {
    uint64_t in_shard = 0;
    size_t most = 0;
    for (size_t j = 0; j < jobs->count; j++) most += gr_job_output_count(&jobs->items[j]);
    *l = (layout){.tensors = gr_calloc(most, sizeof *l->tensors),
                  .first = gr_calloc(jobs->count + 1, sizeof *l->first),
                  .shard = gr_calloc(jobs->count, sizeof *l->shard),
                  .shards = 1};
    if (!l->tensors || !l->first || !l->shard) return gr_no_memory(err, most * sizeof *l->tensors);
    for (size_t j = 0; j < jobs->count; j++) {
        uint64_t bytes = 0;
        const size_t n = gr_job_output_count(&jobs->items[j]);
        if (!gr_job_outputs(&jobs->items[j], &l->tensors[l->count]))
            return gr_no_memory(err, n * sizeof *l->tensors);
        for (size_t k = 0; k < n; k++) bytes += l->tensors[l->count + k].bytes;
        if (in_shard && in_shard + bytes > shard_bytes) {
            l->shards++;
            in_shard = 0;
        }
        l->first[j] = l->count;
        l->shard[j] = l->shards - 1;
        l->count += n;
        l->first[j + 1] = l->count;
        l->bytes += bytes;
        in_shard += bytes;
    }
    return GRAFT_OK;
}

static void shard_name(char name[64], size_t shard, size_t shards) {
    if (shards == 1)
        snprintf(name, 64, "model.safetensors");
    else
        snprintf(name, 64, "model-%05zu-of-%05zu.safetensors", shard + 1, shards);
}

/* Reports progress; GRAFT_INTERRUPTED when the caller does not want the rest. */
static graft_status go_on(const gr_conversion *c, const char *name, size_t done, graft_error *err) {
    const gr_convert_options *o = c->options;
    if (!o->progress || o->progress(o->context, name, done, c->jobs.count)) return GRAFT_OK;
    return gr_fail(err, GRAFT_INTERRUPTED, "conversion stopped; nothing was written");
}

/* Jobs [from, to) into one file. */
static graft_status write_shard(const gr_conversion *c, const layout *l, size_t from, size_t to,
                                graft_error *err) {
    static const char *const metadata[] = {"format", "mlx", NULL};
    gr_safetensors_writer *writer = NULL;
    graft_status st;
    char name[64];
    shard_name(name, l->shard[from], l->shards);
    char *path = gr_path_join(c->out, name);
    if (!path) return gr_no_memory(err, sizeof name);
    GR_GOTO(gr_safetensors_create(&writer, path, l->tensors + l->first[from], l->first[to] - l->first[from],
                                  metadata, err));
    for (size_t j = from; j < to; j++) {
        GR_GOTO(go_on(c, c->jobs.items[j].name, j, err));
        GR_GOTO(gr_job_run(&c->jobs.items[j], writer, c->pool, err));
    }
    st = gr_safetensors_commit(writer, err);
    writer = NULL;
done:
    gr_safetensors_abort(writer);
    free(path);
    return st;
}

static graft_status write_index(const gr_conversion *c, const layout *l, graft_error *err) {
    json_t *map = json_object(), *root;
    bool good = map != NULL;
    for (size_t j = 0; j < c->jobs.count; j++) {
        char name[64];
        shard_name(name, l->shard[j], l->shards);
        for (size_t t = l->first[j]; t < l->first[j + 1]; t++)
            good = good && gr_put(map, l->tensors[t].name, json_string(name));
    }
    root = json_pack("{s:{s:I, s:I}, s:o}", "metadata", "total_size", (json_int_t)l->bytes,
                     "total_parameters", (json_int_t)c->result->parameters, "weight_map", map);
    char *path = gr_path_join(c->out, "model.safetensors.index.json");
    graft_status st = good && root && path ? gr_json_save(path, root, err) : gr_no_memory(err, l->count * 64);
    json_decref(root);
    free(path);
    return st;
}

graft_status gr_conversion_write_shards(gr_conversion *c, graft_error *err) {
    layout l;
    graft_status st;
    GR_GOTO(layout_new(&l, &c->jobs, c->options->shard_bytes ? c->options->shard_bytes : SHARD_BYTES, err));
    for (size_t j = 0; j < c->jobs.count; j++)
        c->result->parameters += (uint64_t)(c->jobs.items[j].rows * c->jobs.items[j].cols);
    for (size_t from = 0, to; from < c->jobs.count; from = to) {
        for (to = from + 1; to < c->jobs.count && l.shard[to] == l.shard[from];) to++;
        GR_GOTO(write_shard(c, &l, from, to, err));
    }
    GR_GOTO(write_index(c, &l, err));
    c->result->tensors = l.count;
    c->result->bytes = l.bytes;
    c->result->bits_per_weight =
        c->result->parameters ? 8.0 * (double)l.bytes / (double)c->result->parameters : 0;
    st = go_on(c, "", c->jobs.count, err);
done:
    layout_free(&l);
    return st;
}

/* ---- config */

/* mlx-lm's default under a recipe; else the most frequent format, where the source had none. */
static void choose_default(gr_conversion *c) {
    static const int groups[] = {16, 32, 64, 128}; /* of every format that is written: mx_float.h, affine.h */
    enum { BITS = 9, GROUPS = sizeof groups / sizeof *groups };
    size_t count[BITS][GROUPS] = {0}, best = 0;
    if (c->top_bits) return;
    if (gr_quant_rules_mixed(c->rules)) {
        c->top_bits = c->q_bits;
        c->top_group = c->q_group;
        return;
    }
    for (int pass = 0; pass < 2; pass++) /* count; then the first job of the most frequent */
        for (size_t i = 0; i < c->jobs.count; i++) {
            const gr_job *job = &c->jobs.items[i];
            size_t g = 0;
            while (g < GROUPS && groups[g] != job->group) g++;
            if (!gr_job_quantized(job) || g == GROUPS || job->bits >= BITS) continue;
            size_t *n = &count[job->bits][g];
            if (pass == 0) {
                ++*n;
            } else if (*n > best) {
                best = *n;
                c->top_bits = job->bits;
                c->top_group = job->group;
                c->top_micro = gr_job_mx(job) ? gr_mx_by_format(job->bits, job->group) : NULL;
            }
        }
}

static json_t *format_of(int bits, int group, const gr_mx_row *micro) {
    return json_pack("{s:i, s:i, s:s}", "group_size", group, "bits", bits, "mode",
                     micro ? micro->mode : "affine");
}

/* Default, own entries of modules that differ from it (of all under a recipe, as in mlx-lm), and false for
 * linears and heads that are not quantized. */
static json_t *quantization(const gr_conversion *c) {
    json_t *quant = format_of(c->top_bits, c->top_group, c->top_micro);
    bool good = quant != NULL;
    for (size_t i = 0; i < c->jobs.count; i++) {
        const gr_job *job = &c->jobs.items[i];
        const gr_mx_row *micro = gr_job_mx(job) ? gr_mx_by_format(job->bits, job->group) : NULL;
        if (!gr_job_quantized(job)) {
            bool expected = gr_job_wants_codes(job, false) || job->role == GR_LM_HEAD;
            if (expected) good = good && gr_put(quant, job->path, json_false());
        } else if (job->bits != c->top_bits || job->group != c->top_group || micro != c->top_micro ||
                   (gr_quant_rules_mixed(c->rules) && job->op == GR_JOB_QUANTIZE)) {
            good = good && gr_put(quant, job->path, format_of(job->bits, job->group, micro));
        }
    }
    if (good) return quant;
    json_decref(quant);
    return NULL;
}

graft_status gr_conversion_write_config(gr_conversion *c, graft_error *err) {
    bool any = false, good = true;
    json_object_del(c->config, "quantization");
    json_object_del(c->config, "quantization_config");
    json_object_del(c->config, "_name_or_path");
    for (size_t i = 0; i < c->jobs.count; i++) any = any || gr_job_quantized(&c->jobs.items[i]);
    if (any) {
        choose_default(c);
        json_t *quant = quantization(c);
        good = gr_put(c->config, "quantization", quant);
        good = good && gr_put(c->config, "quantization_config", json_incref(quant));
    }
    static const char *const texts[] = {[GR_F32] = "float32", [GR_F16] = "float16", [GR_BF16] = "bfloat16"};
    if (c->dtype >= 0) {
        good = good && gr_put(c->config, "torch_dtype", json_string(texts[c->dtype]));
        if (json_object_get(c->config, "dtype"))
            good = good && gr_put(c->config, "dtype", json_string(texts[c->dtype]));
    }
    char *path = gr_path_join(c->out, "config.json");
    graft_status st = good && path ? gr_json_save(path, c->config, err) : gr_no_memory(err, 256);
    free(path);
    return st;
}
