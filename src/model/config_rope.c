/* model/config_rope.c - which layers see how far, and how they rotate. */
#include "model/config.h"
#include <math.h>

#define MAX_POSITION ((int64_t)1 << 40)

/* YaRN stretches slow pairs as llama3's rule does, between two numbers of turns. source: arXiv 2309.00071,
 * transformers modeling_rope_utils */
static graft_status read_yarn(gr_rope_config *rope, const gr_json_scope *scaling, graft_error *err) {
    double scale = 0, all = 0;
    bool whole = true;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    GR_TRY(gr_json_real(scaling, "beta_fast", 1e-3, 1e6, &rope->beta_fast, err));
    GR_TRY(gr_json_real(scaling, "beta_slow", 1e-3, 1e6, &rope->beta_slow, err));
    GR_TRY(gr_json_bool(scaling, "truncate", &whole, err));
    rope->fractions = !whole;
    GR_TRY(gr_json_real(scaling, "mscale", 0, 1e3, &scale, err));
    GR_TRY(gr_json_real(scaling, "mscale_all_dim", 0, 1e3, &all, err));
    double grown = rope->factor > 1 ? 0.1 * log(rope->factor) : 0;
    rope->magnitude = scale > 0 && all > 0 ? (1 + scale * grown) / (1 + all * grown) : 1 + grown;
    GR_TRY(gr_json_real(scaling, "attention_factor", 1e-3, 1e3, &rope->magnitude, err));
    GR_TRY(gr_json_need(scaling, "original_max_position_embeddings", err));
    return gr_json_int(scaling, "original_max_position_embeddings", 1, MAX_POSITION,
                       &rope->original_max_position, err);
}

static graft_status read_llama3(gr_rope_config *rope, const gr_json_scope *scaling, int64_t max_position,
                                graft_error *err) {
    rope->low_freq_factor = 1;
    rope->high_freq_factor = 4;
    rope->original_max_position = max_position;
    GR_TRY(gr_json_real(scaling, "low_freq_factor", 1e-3, 1e6, &rope->low_freq_factor, err));
    GR_TRY(gr_json_real(scaling, "high_freq_factor", 1e-3, 1e6, &rope->high_freq_factor, err));
    return gr_json_int(scaling, "original_max_position_embeddings", 1, MAX_POSITION,
                       &rope->original_max_position, err);
}

/* Where a file says that only a part of each head is rotated. */
static graft_status read_partial(gr_model_config *c, const gr_json_scope *scope, graft_error *err) {
    bool may = c->arch->traits & GR_ARCH_PARTIAL;
    double partial = 1;
    if (!gr_json_field(scope, "partial_rotary_factor")) return GRAFT_OK;
    GR_TRY(gr_json_real(scope, "partial_rotary_factor", 0, 1, &partial, err));
    int64_t rotary = (int64_t)((double)c->head_dim * partial);
    if (may && rotary >= 2 && rotary % 2 == 0) {
        c->rotary = rotary;
        return GRAFT_OK;
    }
    if (partial == 1) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "this partial rotary embedding is not supported");
    gr_where(err, "%s: %s%spartial_rotary_factor", scope->file, scope->path, scope->path[0] ? "." : "");
    return gr_found(err, "%g", partial);
}

/* Phi-3: each pair has a divisor of its own, one for rows up to a length and another beyond; of the two the
 * former is what is computed. source: arXiv 2402.13753, transformers modeling_rope_utils */
static graft_status read_long(gr_model_config *c, gr_rope_config *rope, const gr_json_scope *scaling,
                              const gr_json_scope *root, graft_error *err) {
    const json_t *list = NULL;
    size_t pairs = (size_t)c->rotary / 2;
    double longer;
    rope->kind = GR_ROPE_LONG;
    rope->original_max_position = c->arch->original ? c->arch->original : c->max_position;
    GR_TRY(gr_json_int(scaling, "original_max_position_embeddings", 2, MAX_POSITION,
                       &rope->original_max_position, err));
    GR_TRY(gr_json_int(root, "original_max_position_embeddings", 2, MAX_POSITION,
                       &rope->original_max_position, err)); /* beats the rule's */
    longer = (double)c->max_position / (double)rope->original_max_position;
    GR_TRY(gr_json_real(scaling, "factor", 1e-3, 1e6, &longer, err));
    rope->magnitude = longer > 1 ? sqrt(1 + log(longer) / log((double)rope->original_max_position)) : 1;
    GR_TRY(gr_json_real(scaling, "attention_factor", 1e-3, 1e3, &rope->magnitude, err));
    GR_TRY(gr_json_need(scaling, "short_factor", err));
    GR_TRY(gr_json_array(scaling, "short_factor", &list, err));
    if (json_array_size(list) != pairs || pairs > GR_LONG_MOST) {
        gr_fail(err, GRAFT_CORRUPT, "short_factor has not one number for each pair that rotates");
        gr_where(err, "%s: %s", scaling->file, scaling->path);
        gr_expected(err, "%zu, at most %d", pairs, GR_LONG_MOST);
        return gr_found(err, "%zu", json_array_size(list));
    }
    for (size_t i = 0; i < pairs; i++) {
        const json_t *x = json_array_get(list, i);
        rope->divisor[i] = json_number_value(x);
        if (!json_is_number(x) || !(rope->divisor[i] >= 1e-3 && rope->divisor[i] <= 1e6))
            return gr_json_wrong(scaling, "short_factor", "numbers from 0.001 to 1e6", x, err);
    }
    c->row_limit = rope->original_max_position;
    return GRAFT_OK;
}

static const struct {
    const char *name;
    gr_rope_kind kind;
} kinds[] = {{"default", GR_ROPE_DEFAULT}, {"linear", GR_ROPE_LINEAR}, {"llama3", GR_ROPE_LLAMA3},
             {"yarn", GR_ROPE_YARN},       {"longrope", GR_ROPE_LONG}, {"su", GR_ROPE_LONG}};
#define KINDS (sizeof kinds / sizeof *kinds)

static graft_status unknown_scaling(const gr_json_scope *scaling, const char *kind, graft_error *err) {
    gr_buf known = {0};
    for (size_t i = 0; i < KINDS; i++) gr_buf_printf(&known, "%s%s", i ? ", " : "", kinds[i].name);
    gr_fail(err, GRAFT_UNSUPPORTED, "rotary scaling is not supported");
    gr_where(err, "%s: %s", scaling->file, scaling->path);
    gr_expected(err, "one of %s", known.data ? known.data : "");
    gr_buf_free(&known);
    return gr_found(err, "%s", kind);
}

/* The scaling rule by its name in either style; `scaling` is rope_scaling or rope_parameters. */
static graft_status read_scaling(gr_model_config *c, gr_rope_config *rope, const gr_json_scope *scaling,
                                 const gr_json_scope *root, graft_error *err) {
    const char *name = kinds[0].name;
    size_t k = 0;
    bool fused = c->arch->traits & GR_ARCH_FUSED;
    if (json_is_object(json_object_get(scaling->object, "full_attention")) ||
        json_is_object(json_object_get(scaling->object, "sliding_attention")))
        return unknown_scaling(scaling, "a rule for each kind of layer", err);
    GR_TRY(read_partial(c, scaling, err));
    GR_TRY(gr_json_string(scaling, "type", &name, err)); /* the older name */
    GR_TRY(gr_json_string(scaling, "rope_type", &name, err));
    GR_TRY(gr_json_real(scaling, "rope_theta", 1, 1e12, &rope->theta, err));
    while (k < KINDS && strcmp(kinds[k].name, name) != 0) k++;
    if (k == KINDS) return unknown_scaling(scaling, name, err);
    gr_rope_kind kind = fused && kinds[k].kind == GR_ROPE_YARN ? GR_ROPE_LONG : kinds[k].kind; /* old Phi */
    if (kind == GR_ROPE_DEFAULT) return GRAFT_OK;
    if (kind == GR_ROPE_LONG) return read_long(c, rope, scaling, root, err);
    GR_TRY(gr_json_need(scaling, "factor", err));
    GR_TRY(gr_json_real(scaling, "factor", 1e-3, 1e6, &rope->factor, err));
    rope->kind = kind;
    if (kind == GR_ROPE_LLAMA3) return read_llama3(rope, scaling, c->max_position, err);
    return kind == GR_ROPE_YARN ? read_yarn(rope, scaling, err) : GRAFT_OK;
}

/* Gemma 3: one rule for layers with a window, one for the others, each under the layer's type. In the older
 * style the former only has a base of its own. */
static graft_status read_two(gr_model_config *c, const gr_json_scope *scaling, const gr_json_scope *root,
                             graft_error *err) {
    static const char *const types[GR_ROPES] = {"full_attention", "sliding_attention"};
    for (int i = 0; i < GR_ROPES; i++) {
        gr_json_scope inner;
        char path[128];
        GR_TRY(gr_json_object(scaling, types[i], &inner, path, err));
        if (inner.object) GR_TRY(read_scaling(c, &c->rope[i], &inner, root, err));
    }
    return GRAFT_OK;
}

/* Ministral 3: queries turn as keys do, and grow with every original length. source: transformers
 * modeling_ministral3 */
static graft_status read_growth(gr_model_config *c, const gr_json_scope *scaling, graft_error *err) {
    static const char key[] = "original_max_position_embeddings";
    gr_rope_config *r = &c->rope[1];
    if (!gr_json_field(scaling, "llama_4_scaling_beta")) return GRAFT_OK;
    *r = c->rope[0];
    GR_TRY(gr_json_real(scaling, "llama_4_scaling_beta", 0, 1e3, &r->growth, err));
    GR_TRY(gr_json_need(scaling, key, err));
    return gr_json_int(scaling, key, 2, MAX_POSITION, &r->step, err);
}

static graft_status read_ropes(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    bool local = c->arch->traits & GR_ARCH_LOCAL_ROPE, ruled = false;
    for (int i = 0; i < GR_ROPES; i++)
        c->rope[i] = (gr_rope_config){.kind = GR_ROPE_DEFAULT, .theta = 10000, .factor = 1, .magnitude = 1};
    if (c->arch->theta > 0) c->rope[0].theta = c->arch->theta;
    c->rotary = c->head_dim;
    if (c->arch->partial > 0) c->rotary = (int64_t)((double)c->head_dim * c->arch->partial);
    GR_TRY(read_partial(c, root, err));
    GR_TRY(gr_json_real(root, "rope_theta", 1, 1e12, &c->rope[0].theta, err));
    if (local) GR_TRY(gr_json_real(root, "rope_local_base_freq", 1, 1e12, &c->rope[1].theta, err));
    for (int i = 0; i < 2; i++) {
        gr_json_scope inner;
        char path[128];
        GR_TRY(gr_json_object(root, keys[i], &inner, path, err));
        if (!inner.object) continue;
        bool two =
            local && (gr_json_field(&inner, "full_attention") || gr_json_field(&inner, "sliding_attention"));
        GR_TRY(two ? read_two(c, &inner, root, err) : read_scaling(c, &c->rope[0], &inner, root, err));
        if (c->arch->traits & GR_ARCH_GROWING_QUERIES) GR_TRY(read_growth(c, &inner, err));
        ruled = true;
    }
    /* without one transformers scales, by numbers of its own */
    return c->arch->traits & GR_ARCH_GROWING_QUERIES && !ruled ? gr_json_need(root, "rope_parameters", err)
                                                               : GRAFT_OK;
}

/* Does that layer, without other word, see a window only? */
static bool has_window(const gr_model_config *c, int64_t layer, int64_t first, int64_t pattern) {
    if (c->arch->traits & GR_ARCH_PATTERN) return (layer + 1) % pattern != 0;
    if (c->arch->traits & GR_ARCH_SOME_ROPE) return c->rope_of[layer] == GR_NO_ROPE;
    return layer >= first;
}

/* layer_types: a word of attention for every layer. */
static graft_status check_types(const gr_model_config *c, const gr_json_scope *root, const json_t *types,
                                graft_error *err) {
    if (json_array_size(types) != (size_t)c->layers) {
        gr_fail(err, GRAFT_CORRUPT, "layer_types is not as long as the model");
        gr_where(err, "%s", root->file);
        gr_expected(err, "%lld words", (long long)c->layers);
        return gr_found(err, "%zu", json_array_size(types));
    }
    for (size_t l = 0; l < json_array_size(types); l++) {
        const char *type = json_string_value(json_array_get(types, l));
        if (type && (strcmp(type, "full_attention") == 0 || strcmp(type, "sliding_attention") == 0)) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "this kind of layer is not supported");
        gr_where(err, "%s: layer_types[%zu]", root->file, l);
        gr_expected(err, "full_attention or sliding_attention");
        return gr_found(err, "%s", type ? type : "no string");
    }
    return GRAFT_OK;
}

/* Which layers see how far. Qwen: layers from max_window_layers on; newer files list layer_types. */
static graft_status read_windows(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    const unsigned always = GR_ARCH_WINDOW | GR_ARCH_PATTERN,
                   asked = GR_ARCH_LAYER_WINDOW | GR_ARCH_SOME_ROPE;
    int64_t window = c->arch->window, first = 0, pattern = c->arch->pattern;
    bool use = c->arch->traits & always;
    const json_t *types = NULL;
    if (!(c->arch->traits & (always | asked))) return GRAFT_OK;
    if (json_is_null(json_object_get(root->object, "sliding_window"))) window = 0;
    GR_TRY(gr_json_int(root, "sliding_window", 1, MAX_POSITION, &window, err));
    if (c->arch->traits & asked) GR_TRY(gr_json_bool(root, "use_sliding_window", &use, err));
    if (c->arch->traits & GR_ARCH_LAYER_WINDOW) {
        first = c->layers;
        GR_TRY(gr_json_int(root, "max_window_layers", 0, MAX_POSITION, &first, err));
    }
    if (c->arch->traits & GR_ARCH_LOCAL_ROPE)
        GR_TRY(gr_json_int(root, "sliding_window_pattern", 1, GR_MAX_LAYERS, &pattern, err));
    if (!use) window = 0;
    GR_TRY(gr_json_array(root, "layer_types", &types, err));
    if (types) GR_TRY(check_types(c, root, types, err));
    for (int64_t l = 0; l < c->layers; l++) {
        const char *type = types ? json_string_value(json_array_get(types, (size_t)l)) : NULL;
        c->window[l] = has_window(c, l, first, pattern) ? window : 0;
        if (type && strcmp(type, "full_attention") == 0) c->window[l] = 0;
        if (type && strcmp(type, "sliding_attention") == 0) c->window[l] = window;
        if (c->arch->traits & GR_ARCH_LOCAL_ROPE) c->rope_of[l] = c->window[l] > 0;
    }
    return GRAFT_OK;
}

/* SmolLM3: 1 rotates, 0 does not; without a list every fourth layer, or n-th, does not. */
static graft_status read_rope_layers(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    const json_t *list = NULL;
    int64_t interval = 4;
    if (!(c->arch->traits & GR_ARCH_SOME_ROPE)) return GRAFT_OK;
    GR_TRY(gr_json_int(root, "no_rope_layer_interval", 1, MAX_POSITION, &interval, err));
    GR_TRY(gr_json_array(root, "no_rope_layers", &list, err));
    if (list && json_array_size(list) < (size_t)c->layers) {
        gr_fail(err, GRAFT_CORRUPT, "no_rope_layers is shorter than the model");
        gr_where(err, "%s", root->file);
        gr_expected(err, "%lld numbers", (long long)c->layers);
        return gr_found(err, "%zu", json_array_size(list));
    }
    for (int64_t l = 0; l < c->layers; l++) {
        const json_t *own = list ? json_array_get(list, (size_t)l) : NULL;
        if (own && !json_is_integer(own) && !json_is_boolean(own))
            return gr_json_wrong(root, "no_rope_layers", "a list of 0 and 1", own, err);
        bool rotates = own ? json_is_true(own) || json_integer_value(own) : (l + 1) % interval != 0;
        if (!rotates) c->rope_of[l] = GR_NO_ROPE;
    }
    return GRAFT_OK;
}

graft_status gr_config_rope(gr_model_config *c, const gr_json_scope *root, graft_error *err) {
    GR_TRY(read_ropes(c, root, err));
    GR_TRY(read_rope_layers(c, root, err));
    return read_windows(c, root, err);
}
