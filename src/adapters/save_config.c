#include "adapters/adapter_parts.h"
#include "files/json_write.h"
#include "model/identity.h"
#include <stdio.h>

/* True when every layer adapts the same roles: short module names then say it all. */
static bool is_regular(const gr_tuning *t) {
    for (int64_t l = 1; l < t->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++)
            if (!t->block[l][role].rank != !t->block[0][role].rank) return false;
    return true;
}

static void add_path(bool *good, json_t *names, gr_role role, int64_t layer) {
    char path[200];
    gr_role_name(path, sizeof path, role, layer);
    gr_json_append(good, names, json_string(path));
}

/* Everything below builds on while there is no memory, and tells through *good. */

/* Paths of the tensors with a trained tensor of that kind; `head`: a tied embedding's other use too. */
static json_t *paths_of(bool *good, const gr_tuning *t, gr_param_kind kind, bool saved, bool head) {
    json_t *names = json_array();
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        if (p->kind != kind || (saved && !gr_tuning_of(t, p->role, p->layer)->saved)) continue;
        add_path(good, names, p->role, p->layer);
        if (head && p->role == GR_EMBED_TOKENS) add_path(good, names, GR_LM_HEAD, 0);
    }
    return names;
}

/* PEFT's target_modules: short names where they hold for every layer. */
static json_t *target_modules(bool *good, const gr_tuning *t, bool tied) {
    if (!is_regular(t)) return paths_of(good, t, GR_PARAM_A, false, tied);
    json_t *names = json_array();
    for (gr_role role = 0; role < GR_LINEARS; role++)
        if (t->block[0][role].rank) gr_json_append(good, names, json_string(gr_role_table[role].type));
    if (t->outside[GR_EMBED_TOKENS].rank) add_path(good, names, GR_EMBED_TOKENS, 0);
    if (t->outside[GR_LM_HEAD].rank || (tied && t->outside[GR_EMBED_TOKENS].rank))
        add_path(good, names, GR_LM_HEAD, 0);
    return names;
}

/* Ranks and alphas that are not the common ones, by full path: PEFT reads the keys as regular expressions for
 * the end of a path, and a full path ends no other. */
static void set_patterns(bool *good, json_t *config, const gr_tuning *t, int64_t rank, double alpha,
                         bool tied) {
    json_t *ranks = json_object(), *alphas = json_object();
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        if (p->kind != GR_PARAM_A) continue;
        const gr_tuned *x = gr_tuning_of(t, p->role, p->layer);
        double own = gr_adapter_alpha(t, x->scale, x->rank);
        for (int use = 0; use < (tied && p->role == GR_EMBED_TOKENS ? 2 : 1); use++) {
            char path[200];
            gr_role_name(path, sizeof path, use ? GR_LM_HEAD : p->role, p->layer);
            if (x->rank != rank) gr_json_put(good, ranks, path, json_integer(x->rank));
            if (own != alpha) gr_json_put(good, alphas, path, json_real(own));
        }
    }
    gr_json_put(good, config, "rank_pattern", ranks);
    gr_json_put(good, config, "alpha_pattern", alphas);
}

/* source: mlx-lm 0.32 load_adapters */
static void set_mlx(bool *good, json_t *config, const gr_tuning *t, const gr_adapter_common *common,
                    const char *base) {
    bool dora = false;
    for (size_t i = 0; i < t->param_count; i++) dora |= t->params[i].kind == GR_PARAM_MAGNITUDE;
    int64_t layers = t->kind == GR_TUNE_FULL && t->full_last > 0 ? t->full_last : t->layers;
    gr_json_put(good, config, "model", json_string(base));
    gr_json_put(good, config, "num_layers", json_integer(layers));
    gr_json_put(good, config, "fine_tune_type", json_string(!t->adapted ? "full" : dora ? "dora" : "lora"));
    gr_json_put(good, config, "lora_parameters",
                !t->adapted ? json_null()
                            : json_pack("{s:I, s:f, s:f, s:o}", "rank", (json_int_t)common->padded_rank,
                                        "scale", common->scale, "dropout", t->dropout, "keys",
                                        paths_of(good, t, GR_PARAM_A, false, false)));
}

/* source: PEFT 0.21 LoraConfig */
static void set_peft(bool *good, json_t *config, const gr_tuning *t, const gr_adapter_common *common,
                     bool tied, const char *base) {
    /* ORDER: gr_bias_mode */
    static const char *const biases[] = {"none", "all", "lora_only"};
    const gr_tuned *embed = &t->outside[GR_EMBED_TOKENS];
    double alpha = gr_adapter_alpha(t, (float)common->scale, common->rank);
    bool dora = false;
    for (size_t i = 0; i < t->param_count; i++) dora |= t->params[i].kind == GR_PARAM_MAGNITUDE;
    json_t *peft = json_pack(
        "{s:s, s:s, s:s, s:I, s:f, s:f, s:s, s:b, s:b, s:b, s:b, s:b, s:o}", "peft_type", "LORA", "task_type",
        "CAUSAL_LM", "base_model_name_or_path", base, "r", (json_int_t)common->rank, "lora_alpha", alpha,
        "lora_dropout", t->dropout, "bias", biases[t->bias], "use_rslora", t->use_rslora, "use_dora", dora,
        "fan_in_fan_out", 0, "inference_mode", 1, "ensure_weight_tying",
        tied && (embed->rank || embed->train_weight), "target_modules", target_modules(good, t, tied));
    if (!peft || json_object_update(config, peft) != 0) *good = false;
    json_decref(peft);
    set_patterns(good, config, t, common->rank, alpha, tied);
}

/* Which base it is, as a whole and by tensor. */
static void set_base(bool *good, json_t *own, const gr_adapter_info *info) {
    const gr_model *model = info->model;
    const gr_adapter_record *record = info->record;
    char digest[24];
    if (record && record->base_digest[0])
        gr_json_put(good, own, "base_digest", json_string(record->base_digest));
    if (record && record->base_tensors)
        gr_json_put(good, own, "base_tensors", json_incref(record->base_tensors));
    if (!model || !model->digest) return;
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)model->digest);
    gr_json_put(good, own, "base_digest", json_string(digest));
    if (model->part_digests) gr_json_put(good, own, "base_tensors", gr_identity_json(model));
}

/* Keys of both programs in one object; each ignores the other's. */
graft_status gr_adapter_save_config(gr_writer *w, const char *dir, const gr_model_config *c,
                                    const gr_tuning *t, const gr_adapter_info *info, const char *digest,
                                    graft_error *err) {
    const gr_adapter_format *mlx = &gr_adapter_format_table[0], *peft = &gr_adapter_format_table[1];
    gr_adapter_common common = gr_adapter_common_of(t);
    char *path = gr_path_join(dir, "adapter_config.json");
    json_t *config = json_object();
    bool good = true;
    if (!path || !config) {
        free(path);
        json_decref(config);
        return gr_no_memory(err, strlen(dir));
    }
    if (gr_adapter_holds(mlx, c, t, NULL)) set_mlx(&good, config, t, &common, info->base);
    if (gr_adapter_holds(peft, c, t, NULL)) set_peft(&good, config, t, &common, c->tied, info->base);
    json_t *saved = paths_of(&good, t, GR_PARAM_WEIGHT, true, c->tied);
    if (json_array_size(saved) == 0) {
        json_decref(saved);
        saved = json_null();
    }
    gr_json_put(&good, config, "modules_to_save", saved);
    json_t *own = json_pack("{s:s, s:s, s:I, s:f, s:b}", "version", "0.1", "digest", digest, "iteration",
                            (json_int_t)info->iteration, "scale", common.scale, "mlx_padded", common.uneven);
    if (t->pool) gr_json_put(&good, own, "group_pooled", json_integer(t->pool));
    set_base(&good, own, info);
    if (info->template_kwargs)
        gr_json_put(&good, own, "template_kwargs", json_loads(info->template_kwargs, 0, NULL));
    gr_json_put(&good, config, "graft", own);
    graft_status st = good ? gr_json_seal(w, path, config, err) : gr_no_memory(err, strlen(dir));
    json_decref(config);
    free(path);
    return st;
}
