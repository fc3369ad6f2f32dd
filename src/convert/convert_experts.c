/* Mixtures of experts: Hugging Face's files have each expert's matrices alone, MLX's all of a block in one.
 */
#include "convert/conversion.h"
#include <stdio.h>

graft_status gr_conversion_experts_config(gr_conversion *c, const char *path, graft_error *err) {
    json_t *config = c->config, *count = json_object_get(config, "num_experts"),
           *other = json_object_get(config, "num_local_experts");
    if (!count && other) /* transformers 5's word; mlx-lm knows the older one */
        if (!gr_put(config, "num_experts", json_incref(other))) return gr_no_memory(err, 64);
    if (c->columns.bits) {
        gr_fail(err, GRAFT_UNSUPPORTED, "experts quantized by AWQ or GPTQ");
        gr_where(err, "%s: quantization_config.quant_method", path);
        return gr_hint(err, "start from the model's unquantized release");
    }
    const gr_json_scope root = {config, path, ""};
    GR_TRY(gr_json_need(&root, "num_experts", err));
    return gr_json_int(&root, "num_experts", 1, GR_MAX_EXPERTS, &c->experts, err);
}

/* model.layers.L.mlp.experts.E.X.weight */
typedef struct expert_name {
    int layer, expert;
    char leaf[24];
} expert_name;

static bool read_name(expert_name *n, const char *name) {
    int end = 0;
    gr_role role = GR_EXPERT_GATE;
    if (sscanf(name, "model.layers.%4d.mlp.experts.%6d.%23[a-z_].weight%n", &n->layer, &n->expert, n->leaf,
               &end) != 3 ||
        !end || name[end])
        return false;
    while (role <= GR_EXPERT_DOWN && strcmp(n->leaf, gr_role_table[role].type) != 0) role++;
    return role <= GR_EXPERT_DOWN && n->layer >= 0 && n->expert >= 0;
}

bool gr_conversion_expert(const gr_tensor *t) {
    expert_name n;
    return read_name(&n, t->name);
}

static graft_status unlike(const gr_conversion *c, const gr_tensor *t, const char *what, graft_error *err) {
    gr_fail(err, GRAFT_MISMATCH, "%s %s", t->name, what);
    return gr_where(err, "%s", gr_safetensors_path(c->tensors, t));
}

/* The place of expert e's matrix, which is like the first one's. */
static graft_status find_part(const uint8_t **part, const gr_conversion *c, const gr_tensor *first,
                              const expert_name *n, int64_t e, graft_error *err) {
    char name[160];
    snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%lld.%s.weight", n->layer, (long long)e,
             n->leaf);
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

graft_status gr_conversion_add_experts(gr_conversion *c, const gr_tensor *t, graft_error *err) {
    char name[160];
    expert_name n;
    if (!read_name(&n, t->name)) return GRAFT_OK;
    if (n.expert >= c->experts) return unlike(c, t, "is of more experts than the config has", err);
    if (n.expert > 0) return GRAFT_OK; /* in the job of the first */
    if (!gr_dtype_is_float(t->dtype) || t->ndim != 2 || !t->shape[0] || !t->shape[1])
        return unlike(c, t, "is no matrix of 16- or 32-bit floats", err);
    const int64_t shape[] = {c->experts, t->shape[0], t->shape[1]};
    snprintf(name, sizeof name, "model.layers.%d.mlp.switch_mlp.%s.weight", n.layer, n.leaf);
    gr_job *job = gr_jobs_add(&c->jobs, name, 3, shape);
    if (!job) return gr_no_memory(err, sizeof *job);
    job->from = (gr_source){.kind = GR_FROM_DENSE,
                            .dtype = t->dtype,
                            .parts = gr_calloc((size_t)c->experts, sizeof *job->from.parts),
                            .part_rows = t->shape[0],
                            .row_bytes = (size_t)job->cols * gr_dtype_bytes(t->dtype)};
    if (!job->from.parts) return gr_no_memory(err, (size_t)c->experts * sizeof *job->from.parts);
    for (int64_t e = 0; e < c->experts; e++) GR_TRY(find_part(&job->from.parts[e], c, t, &n, e, err));
    return gr_conversion_plan_dense(c, job, t, err);
}
