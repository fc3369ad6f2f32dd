/* The text part of a model of images and text (Gemma 3, Mistral 3), as the model of text alone that it is. */
#include "convert/conversion.h"
#include <stdio.h>

/* What transformers' configuration of the part takes where the whole's config.json is silent, as Google's
 * are. source: transformers 5.23 Gemma3TextConfig */
static const struct {
    const char *model_type, *key;
    double value;
} silent[] = {{"gemma3_text", "num_attention_heads", 8},
              {"gemma3_text", "num_key_value_heads", 4},
              {"gemma3_text", "head_dim", 256},
              {"gemma3_text", "vocab_size", 262208},
              {"gemma3_text", "rms_norm_eps", 1e-6},
              {"gemma3_text", "max_position_embeddings", 131072},
              {"gemma3_text", "rope_theta", 1e6},
              {"gemma3_text", "rope_local_base_freq", 10000},
              {"gemma3_text", "query_pre_attn_scalar", 256}};

static bool put_silent(json_t *config, const char *type) {
    bool good = true;
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        double value = silent[i].value;
        bool rope = strncmp(silent[i].key, "rope_", 5) == 0 && json_object_get(config, "rope_parameters");
        if (strcmp(silent[i].model_type, type) != 0 || rope || json_object_get(config, silent[i].key))
            continue;
        bool whole = value == (double)(int64_t)value && !rope;
        good =
            gr_put(config, silent[i].key, whole ? json_integer((json_int_t)value) : json_real(value)) && good;
    }
    return good;
}

graft_status gr_conversion_take_text(gr_conversion *c, graft_error *err) {
    static const char *const common[] = {
        "bos_token_id", "eos_token_id", "pad_token_id",        "dtype",
        "torch_dtype",  "quantization", "quantization_config", "tie_word_embeddings"};
    json_t *part = json_object_get(c->config, "text_config");
    const char *type = json_string_value(json_object_get(part, "model_type")),
               *whole = json_string_value(json_object_get(c->config, "model_type"));
    const gr_arch *arch = type ? gr_arch_find(type) : NULL;
    if (!arch || (whole && gr_arch_find(whole))) return GRAFT_OK;
    json_t *config = json_deep_copy(part);
    bool good = config && put_silent(config, type) &&
                gr_put(config, "architectures", json_pack("[s]", arch->class_name));
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        json_t *value = json_object_get(c->config, common[i]);
        bool tie = strcmp(common[i], "tie_word_embeddings") == 0; /* the whole's is the head's */
        if (good && value && (tie || !json_object_get(config, common[i])))
            good = gr_put(config, common[i], json_deep_copy(value));
        if (good && tie && !value)
            good = gr_put(config, common[i], json_true()); /* as both classes have it */
    }
    graft_status st = good ? gr_note(c->result, err, "the text part of %s is converted, as %s",
                                     whole ? whole : "the model", type)
                           : gr_no_memory(err, 256);
    if (st != GRAFT_OK) {
        json_decref(config);
        return st;
    }
    json_decref(c->config);
    c->config = config;
    c->text_part = true;
    return GRAFT_OK;
}

bool gr_conversion_text_name(char *name, size_t size, const char *source) {
    static const char *const starts[][2] = {
        {"language_model.", ""}, {"model.language_model.", "model."}, {"lm_head.", "lm_head."}};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        size_t n = strlen(starts[i][0]);
        if (strncmp(source, starts[i][0], n) == 0)
            return snprintf(name, size, "%s%s", starts[i][1], source + n) < (int)size;
    }
    return false;
}
