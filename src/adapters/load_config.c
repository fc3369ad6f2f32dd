#include "adapters/adapter_parts.h"
#include "base/name_match.h"
#include "files/json_write.h"
#include <math.h>
#include <stdio.h>

void gr_adapter_config_free(gr_adapter_config *c) {
    gr_patterns_free(c->ranks);
    gr_patterns_free(c->alphas);
    json_decref(c->root);
    free(c->path);
    *c = (gr_adapter_config){0};
}

static gr_json_scope scope_of(const gr_adapter_config *c) {
    return (gr_json_scope){c->root, c->path, ""};
}

static graft_status unsupported(const gr_json_scope *root, const char *key, const char *expected,
                                const json_t *value, graft_error *err) {
    char *text = gr_json_dump(value, JSON_ENCODE_ANY | JSON_COMPACT);
    gr_fail(err, GRAFT_UNSUPPORTED, "this kind of adapter is not supported");
    gr_where(err, "%s: %s", root->file, key);
    gr_expected(err, "%s", expected);
    gr_found(err, "%.200s", text ? text : "");
    free(text);
    return GRAFT_UNSUPPORTED;
}

graft_status gr_adapter_config_open(gr_adapter_config *c, const char *dir, bool optional, gr_reading how,
                                    graft_error *err) {
    gr_json_scope graft;
    char path[128];
    c->type = "lora";
    c->scale = NAN;
    c->path = gr_path_join(dir, "adapter_config.json");
    if (!c->path) return gr_no_memory(err, strlen(dir));
    if (optional && !gr_path_exists_as(c->path, how)) {
        c->root = json_object();
        return c->root ? GRAFT_OK : gr_no_memory(err, strlen(dir));
    }
    graft_status st = gr_json_load_as(&c->root, c->path, GR_CONFIG_LIMIT, how, err);
    if (st == GRAFT_NOT_FOUND)
        return gr_hint(err, "an adapter's kind and scale stand there: mlx-lm, PEFT and graft write it beside "
                            "the tensors");
    GR_TRY(st);
    gr_json_scope root = scope_of(c);
    GR_TRY(gr_json_object(&root, "graft", &graft, path, err));
    if (graft.object) {
        GR_TRY(gr_json_string(&graft, "digest", &c->digest, err));
        GR_TRY(gr_json_bool(&graft, "mlx_padded", &c->padded, err));
        GR_TRY(gr_json_int(&graft, "group_pooled", 32, 128, &c->pool, err));
    }
    return GRAFT_OK;
}

/* Settings of PEFT with which the tensors mean something else. source: PEFT 0.21 LoraConfig */
static graft_status check_peft(const gr_json_scope *root, graft_error *err) {
    static const char *const others[] = {"fan_in_fan_out",
                                         "layer_replication",
                                         "lora_bias",
                                         "megatron_config",
                                         "trainable_token_indices",
                                         "use_qalora",
                                         "alora_invocation_tokens",
                                         "use_bdlora",
                                         "arrow_config",
                                         "kasa_config",
                                         "use_mora",
                                         "monteclora_config",
                                         "velora_config"};
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const char *type = "LORA";
    GR_TRY(gr_json_string(root, "peft_type", &type, err));
    if (strcmp(type, "LORA") != 0)
        return unsupported(root, "peft_type", "LORA", gr_json_field(root, "peft_type"), err);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const json_t *value = gr_json_field(root, others[i]);
        bool empty = !value || json_is_false(value) || (json_is_array(value) && !json_array_size(value)) ||
                     (json_is_object(value) && !json_object_size(value));
        if (!empty) return unsupported(root, others[i], "absent, null or false", value, err);
    }
    /* the others change the base, of which the adapter is then the rest */
    const json_t *init = gr_json_field(root, "init_lora_weights");
    bool fine = !init || json_is_boolean(init);
    for (size_t i = 0; json_is_string(init) && i < sizeof harmless / sizeof *harmless; i++)
        fine |= strcmp(json_string_value(init), harmless[i]) == 0;
    if (fine) return GRAFT_OK;
    unsupported(root, "init_lora_weights", "true, false, gaussian, eva or orthogonal", init, err);
    return gr_hint(err, "save it with PEFT's path_initial_model_for_weight_conversion");
}

/* A mixture's experts as transformers stacks them. Their ranks and alphas are the common ones: which key of a
 * pattern means a parameter is nowhere said. */
static graft_status read_parameters(gr_adapter_config *c, const gr_json_scope *root, graft_error *err) {
    static const char *const patterns[] = {"rank_pattern", "alpha_pattern"};
    const json_t *names = gr_json_field(root, "target_parameters");
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        const bool gate_up = name && gr_name_ends(name, "experts.gate_up_proj", 20),
                   down = name && gr_name_ends(name, "experts.down_proj", 17);
        if (!gate_up && !down)
            return unsupported(root, "target_parameters", "experts.gate_up_proj, experts.down_proj", names,
                               err);
        c->gate_up |= gate_up;
        c->down |= down;
    }
    if (names && !json_is_null(names) && !json_is_array(names))
        return unsupported(root, "target_parameters", "a list of names", names, err);
    for (size_t i = 0; (c->gate_up || c->down) && i < 2; i++) {
        const json_t *value = gr_json_field(root, patterns[i]);
        if (json_is_object(value) && json_object_size(value))
            return unsupported(root, patterns[i], "none beside target_parameters", value, err);
    }
    return GRAFT_OK;
}

static graft_status read_bias(gr_adapter_config *c, const gr_json_scope *root, graft_error *err) {
    const char *bias = "none";
    GR_TRY(gr_json_string(root, "bias", &bias, err));
    c->bias = strcmp(bias, "all") == 0         ? GR_BIAS_ALL
              : strcmp(bias, "lora_only") == 0 ? GR_BIAS_LORA_ONLY
                                               : GR_BIAS_NONE;
    if (c->bias != GR_BIAS_NONE || strcmp(bias, "none") == 0) return GRAFT_OK;
    return unsupported(root, "bias", "none, all or lora_only", gr_json_field(root, "bias"), err);
}

/* More keys than there are modules say nothing, and each would be asked about every module. */
static graft_status read_pattern(gr_patterns **patterns, const gr_json_scope *root, const char *key,
                                 size_t modules, graft_error *err) {
    gr_json_scope inner;
    graft_error own = {0};
    char path[128];
    GR_TRY(gr_json_object(root, key, &inner, path, err));
    const size_t keys = inner.object ? json_object_size(inner.object) : 0;
    if (!keys) return GRAFT_OK;
    if (keys > modules) {
        gr_fail(err, GRAFT_CORRUPT, "more values per module than there are modules");
        gr_where(err, "%s: %s", root->file, key);
        gr_expected(err, "at most %zu keys", modules);
        return gr_found(err, "%zu", keys);
    }
    char *text = gr_json_dump(inner.object, JSON_COMPACT);
    if (!text) return gr_no_memory(err, 64);
    graft_status st = gr_patterns_new(patterns, text, key, &own);
    free(text);
    if (st == GRAFT_OK) return st;
    gr_fail(err, st == GRAFT_NO_MEMORY ? st : GRAFT_CORRUPT, "%s", own.what);
    gr_where(err, "%s: %s", root->file, key);
    gr_expected(err, "numbers above 0 by regular expressions");
    return gr_found(err, "%s", own.found);
}

/* alpha by rank, or (mlx-lm) the scale itself. */
static graft_status read_scale(gr_adapter_config *c, bool peft, const gr_json_scope *root, size_t modules,
                               graft_error *err) {
    gr_json_scope inner;
    char path[128];
    GR_TRY(gr_json_object(root, "lora_parameters", &inner, path, err));
    if (!peft && inner.object) {
        GR_TRY(gr_json_need(&inner, "scale", err));
        c->scale = 0;
        return gr_json_real(&inner, "scale", -1e6, 1e6, &c->scale, err);
    }
    GR_TRY(gr_json_need(root, "lora_alpha", err));
    GR_TRY(gr_json_need(root, "r", err));
    GR_TRY(gr_json_real(root, "lora_alpha", -1e6, 1e6, &c->alpha, err));
    GR_TRY(gr_json_int(root, "r", 1, 1 << 20, &c->rank, err));
    GR_TRY(read_pattern(&c->ranks, root, "rank_pattern", modules, err));
    return read_pattern(&c->alphas, root, "alpha_pattern", modules, err);
}

graft_status gr_adapter_config_read(gr_adapter_config *c, bool peft, size_t modules, graft_error *err) {
    static const char *const kinds[] = {"lora", "dora", "full"};
    gr_json_scope root = scope_of(c);
    bool known = peft;
    GR_TRY(gr_json_bool(&root, "use_rslora", &c->rslora, err));
    if (peft) {
        GR_TRY(check_peft(&root, err));
        GR_TRY(read_parameters(c, &root, err));
        GR_TRY(gr_json_bool(&root, "use_dora", &c->dora, err));
        GR_TRY(gr_json_bool(&root, "ensure_weight_tying", &c->tying, err));
        GR_TRY(read_bias(c, &root, err));
    } else {
        GR_TRY(gr_json_string(&root, "fine_tune_type", &c->type, err));
        GR_TRY(gr_json_int(&root, "num_layers", -(1 << 20), 1 << 20, &c->num_layers, err));
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) known |= strcmp(c->type, kinds[i]) == 0;
        if (!known)
            return unsupported(&root, "fine_tune_type", "lora, dora or full",
                               gr_json_field(&root, "fine_tune_type"), err);
        c->dora = strcmp(c->type, "dora") == 0;
        if (strcmp(c->type, "full") == 0) return GRAFT_OK;
    }
    return read_scale(c, peft, &root, modules, err);
}

graft_status gr_adapter_config_scale(float *scale, const gr_adapter_config *c, const char *path, int64_t rank,
                                     graft_error *err) {
    if (!isnan(c->scale)) {
        *scale = (float)c->scale;
        return GRAFT_OK;
    }
    if (c->by_rank) {
        *scale = gr_adapter_gguf_scale((float)c->alpha, rank);
        return GRAFT_OK;
    }
    char named[300];
    snprintf(named, sizeof named, "%s", path);
    if (c->whole) gr_adapter_whole_name(named, sizeof named, c->whole, path, 0);
    double declared = gr_patterns_value(c->ranks, named, (double)c->rank);
    double alpha = gr_patterns_value(c->alphas, named, c->alpha);
    GR_TRY(gr_patterns_ended(c->ranks, err));
    GR_TRY(gr_patterns_ended(c->alphas, err));
    *scale = (float)(alpha / (c->rslora ? sqrt(declared) : declared));
    if (declared == (double)rank && isfinite(*scale)) return GRAFT_OK;
    gr_fail(err, GRAFT_MISMATCH, "the adapter's rank is not the one of adapter_config.json");
    gr_where(err, "%s: %s", c->path, path);
    gr_expected(err, "rank %g", declared);
    return gr_found(err, "%lld", (long long)rank);
}

bool gr_adapter_config_saves(const gr_adapter_config *c, const char *path) {
    const json_t *names = json_object_get(c->root, "modules_to_save");
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name && gr_ends_with(path, name)) return true;
    }
    return false;
}
