/* Mixtures of experts: Hugging Face's files have each expert's matrices alone, MLX's all of a block in one.
 * What has no codes is written in the first way, which both programs load; MLX's codes are in the second
 * alone.
 */
#include "convert/conversion.h"
#include "model/stored_codes.h"
#include <stdio.h>

graft_status gr_conversion_experts_config(gr_conversion *c, const char *path, graft_error *err) {
    const gr_json_scope root = {c->config, path, ""};
    if (c->columns.bits) {
        gr_fail(err, GRAFT_UNSUPPORTED, "experts quantized by AWQ or GPTQ");
        gr_where(err, "%s: quantization_config.quant_method", path);
        return gr_hint(err, "start from the model's unquantized release");
    }
    GR_TRY(gr_config_expert_count(&c->experts, &root, err));
    /* mlx-lm knows this word of the two alone */
    return gr_put(c->config, "num_experts", json_integer(c->experts)) ? GRAFT_OK : gr_no_memory(err, 64);
}

/* model.layers.L.mlp.experts.E.X.weight */
typedef struct expert_name {
    int layer, expert;
    gr_role role;
} expert_name;

static void write_name(char *name, size_t size, const expert_name *n, int64_t expert) {
    char base[140];
    gr_expert_name(base, sizeof base, n->role, n->layer, expert);
    snprintf(name, size, "%s.weight", base);
}

/* The name itself, not one that means the same number: "experts.07" is no expert's. */
static bool read_name(expert_name *n, const char *name) {
    char leaf[24], again[160];
    if (sscanf(name, "model.layers.%4d.mlp.experts.%6d.%23[a-z_].weight", &n->layer, &n->expert, leaf) != 3)
        return false;
    n->role = GR_EXPERT_GATE;
    while (n->role <= GR_EXPERT_DOWN && strcmp(leaf, gr_role_table[n->role].type) != 0) n->role++;
    if (n->role > GR_EXPERT_DOWN || n->layer < 0 || n->expert < 0) return false;
    write_name(again, sizeof again, n, n->expert);
    return strcmp(name, again) == 0;
}

/* How transformers has them in memory: gate and up as one. */
static bool in_memory(const char *name) {
    return gr_ends_with(name, ".mlp.experts.gate_up_proj") || gr_ends_with(name, ".mlp.experts.down_proj");
}

bool gr_conversion_expert(const gr_tensor *t) {
    expert_name n;
    return read_name(&n, t->name) || in_memory(t->name);
}

static graft_status unlike(const gr_conversion *c, const gr_tensor *t, const char *what, graft_error *err) {
    gr_fail(err, GRAFT_MISMATCH, "%s %s", t->name, what);
    return gr_where(err, "%s", gr_safetensors_path(c->tensors, t));
}

/* The place of expert e's matrix, which is like the first one's. */
static graft_status find_part(const uint8_t **part, const gr_conversion *c, const gr_tensor *first,
                              const expert_name *n, int64_t e, graft_error *err) {
    char name[160];
    write_name(name, sizeof name, n, e);
    const gr_tensor *t = gr_safetensors_find(c->tensors, name);
    if (!t) {
        gr_fail(err, GRAFT_NOT_FOUND, "tensor %s is missing", name);
        return gr_where(err, "%s", c->options->model);
    }
    if (t->dtype != first->dtype || t->ndim != 2 || t->shape[0] != first->shape[0] ||
        t->shape[1] != first->shape[1])
        return unlike(c, t, "differs from the first expert's in type or shape", err);
    *part = t->data;
    return GRAFT_OK;
}

/* All of them are to be there, once. */
static graft_status check_names(const gr_conversion *c, const gr_tensor *t, const expert_name *n,
                                graft_error *err) {
    char first[160], stacked[160], base[140];
    write_name(first, sizeof first, n, 0);
    gr_role_name(base, sizeof base, n->role, n->layer);
    snprintf(stacked, sizeof stacked, "%s.weight", base);
    if (n->expert >= c->experts) return unlike(c, t, "is of more experts than the config has", err);
    if (gr_safetensors_find(c->tensors, stacked)) {
        gr_fail(err, GRAFT_MISMATCH, "experts are there twice: each alone, and stacked");
        gr_where(err, "%s", c->options->model);
        return gr_found(err, "%s, %s", t->name, stacked);
    }
    if (gr_safetensors_find(c->tensors, first)) return GRAFT_OK;
    gr_fail(err, GRAFT_NOT_FOUND, "tensor %s is missing", first);
    return gr_where(err, "%s", c->options->model);
}

graft_status gr_conversion_add_experts(gr_conversion *c, const gr_tensor *t, graft_error *err) {
    char name[160], base[140];
    expert_name n;
    if (!read_name(&n, t->name)) return unlike(c, t, GR_EXPERTS_IN_MEMORY, err);
    GR_TRY(check_names(c, t, &n, err));
    if (n.expert > 0) return GRAFT_OK; /* in the job of the first */
    if (!gr_dtype_is_float(t->dtype) || t->ndim != 2 || !t->shape[0] || !t->shape[1])
        return unlike(c, t, "is no matrix of 16- or 32-bit floats", err);
    const int64_t shape[] = {c->experts, t->shape[0], t->shape[1]};
    gr_role_name(base, sizeof base, n.role, n.layer);
    snprintf(name, sizeof name, "%s.weight", base);
    gr_job *job;
    GR_TRY(gr_jobs_add(&job, &c->jobs, name, 3, shape, c->options->model, err));
    job->from = (gr_source){.kind = GR_FROM_DENSE,
                            .dtype = t->dtype,
                            .parts = gr_calloc((size_t)c->experts, sizeof *job->from.parts),
                            .part_rows = t->shape[0],
                            .row_bytes = (size_t)job->cols * gr_dtype_bytes(t->dtype)};
    if (!job->from.parts) return gr_no_memory(err, (size_t)c->experts * sizeof *job->from.parts);
    for (int64_t e = 0; e < c->experts; e++) GR_TRY(find_part(&job->from.parts[e], c, t, &n, e, err));
    return gr_conversion_plan_dense(c, job, t, err);
}

void gr_conversion_part_experts(gr_conversion *c) {
    for (size_t i = 0; i < c->jobs.count; i++)
        if (gr_job_quantized(&c->jobs.items[i])) return;
    for (size_t i = 0; i < c->jobs.count; i++) {
        gr_job *job = &c->jobs.items[i];
        job->alone =
            gr_role_expert(job->role) && job->shape[0] == c->experts && strstr(job->path, GR_STACKED);
    }
}
