#include "model/config.h"

graft_status gr_config_expert_count(int64_t *count, const gr_json_scope *root, graft_error *err) {
    /* transformers 5 writes the second for Qwen3-MoE */
    static const char *const keys[] = {"num_experts", "num_local_experts"};
    int64_t of[2] = {0};
    for (int i = 0; i < 2; i++) GR_TRY(gr_json_int(root, keys[i], 1, GR_MAX_EXPERTS, &of[i], err));
    if (!of[1]) GR_TRY(gr_json_need(root, keys[0], err));
    *count = of[0] ? of[0] : of[1];
    if (!of[0] || !of[1] || of[0] == of[1]) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "two numbers of experts");
    gr_where(err, "%s", root->file);
    return gr_found(err, "num_experts %lld, num_local_experts %lld", (long long)of[0], (long long)of[1]);
}

static graft_status refuse(const gr_json_scope *root, const char *key, const char *expected,
                           graft_error *err) {
    gr_fail(err, GRAFT_UNSUPPORTED, "a variant of this mixture of experts is not supported");
    gr_where(err, "%s: %s", root->file, key);
    return gr_expected(err, "%s", expected);
}

/* Every block is a mixture, as in all that were published. */
static graft_status check_layers(const gr_json_scope *root, graft_error *err) {
    const json_t *list = NULL;
    int64_t step = 1;
    GR_TRY(gr_json_int(root, "decoder_sparse_step", 1, GR_MAX_LAYERS, &step, err));
    if (step != 1) return refuse(root, "decoder_sparse_step", "1: a mixture in every block", err);
    GR_TRY(gr_json_array(root, "mlp_only_layers", &list, err));
    return json_array_size(list) ? refuse(root, "mlp_only_layers", "[]: a mixture in every block", err)
                                 : GRAFT_OK;
}

graft_status gr_config_experts(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    int64_t all;
    if (!(c->arch->traits & GR_ARCH_EXPERTS)) return GRAFT_OK;
    GR_TRY(gr_config_expert_count(&c->experts, root, err));
    GR_TRY(gr_json_need(root, "num_experts_per_tok", err));
    GR_TRY(gr_json_int(root, "num_experts_per_tok", 1, c->experts, &c->experts_used, err));
    GR_TRY(gr_json_bool(root, "norm_topk_prob", &c->experts_normed, err));
    GR_TRY(check_layers(root, err));
    if (gr_json_field(root, "clip_qkv")) return refuse(root, "clip_qkv", "null", err);
    if (gr_mul_i64(c->experts * c->mlp, c->hidden, &all) && all <= (int64_t)1 << 40) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "the experts of a block are too large");
    gr_where(err, "%s", root->file);
    return gr_found(err, "%lld of %lld x %lld", (long long)c->experts, (long long)c->mlp,
                    (long long)c->hidden);
}
