#include "base/nearest.h"
#include "model/config.h"
#include <stdio.h>

/* hidden, mlp, layers, heads, kv heads, vocab and what differs, from the models' published config.json files.
 */
#define SHAPE(type, h, m, l, heads, kv, v, tied, rest)                                                       \
    "{\"model_type\":\"" type "\",\"hidden_size\":" #h ",\"intermediate_size\":" #m                          \
    ",\"num_hidden_layers\":" #l ",\"num_attention_heads\":" #heads ",\"num_key_value_heads\":" #kv          \
    ",\"vocab_size\":" #v ",\"tie_word_embeddings\":" #tied rest "}"
#define LLAMA3_ROPE(f)                                                                                       \
    ",\"rope_theta\":500000,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072,\"rope_scaling\":{"     \
    "\"rope_type\":\"llama3\","                                                                              \
    "\"factor\":" #f                                                                                         \
    ",\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}"
#define GEMMA3(h, m, l, heads, kv, v, window, rest)                                                          \
    SHAPE("gemma3_text", h, m, l, heads, kv, v, true,                                                        \
          ",\"head_dim\":256,\"sliding_window\":" #window ",\"max_position_embeddings\":32768" rest)
#define MIXTURE(type, h, m, l, heads, kv, v, experts, used, rest)                                            \
    SHAPE(type, h, m, l, heads, kv, v, false,                                                                \
          ",\"num_experts\":" #experts ",\"num_experts_per_tok\":" #used rest)
#define PHI(theta, most) ",\"rope_theta\":" theta ",\"rms_norm_eps\":1e-5,\"max_position_embeddings\":" most
/* longrope without its factors, which cost nothing: one for each of 48 pairs */
#define ONES12 "1,1,1,1,1,1,1,1,1,1,1,1"
#define LONG_PHI                                                                                             \
    PHI("10000", "131072")                                                                                   \
    ",\"original_max_position_embeddings\":4096,\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":"   \
    "[" ONES12 "," ONES12 "," ONES12 "," ONES12 "]}"
#define QWEN(eps) ",\"rope_theta\":1000000,\"rms_norm_eps\":1e-6,\"max_position_embeddings\":32768" eps

/* One row per shape: X(name, config.json text) */
#define SHAPES(X)                                                                                            \
    X("smollm2-135m",                                                                                        \
      SHAPE("llama", 576, 1536, 30, 9, 3, 49152, true,                                                       \
            ",\"rope_theta\":100000,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":8192"))                \
    X("smollm2-360m",                                                                                        \
      SHAPE("llama", 960, 2560, 32, 15, 5, 49152, true,                                                      \
            ",\"rope_theta\":100000,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":8192"))                \
    X("smollm2-1.7b",                                                                                        \
      SHAPE("llama", 2048, 8192, 24, 32, 32, 49152, true,                                                    \
            ",\"rope_theta\":130000,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":8192"))                \
    X("llama-3.2-1b",                                                                                        \
      SHAPE("llama", 2048, 8192, 16, 32, 8, 128256, true, ",\"head_dim\":64" LLAMA3_ROPE(32)))               \
    X("llama-3.2-3b",                                                                                        \
      SHAPE("llama", 3072, 8192, 28, 24, 8, 128256, true, ",\"head_dim\":128" LLAMA3_ROPE(32)))              \
    X("llama-3-8b", SHAPE("llama", 4096, 14336, 32, 32, 8, 128256, false,                                    \
                          ",\"rope_theta\":500000,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":8192"))  \
    X("mistral-7b", SHAPE("mistral", 4096, 14336, 32, 32, 8, 32000, false,                                   \
                          ",\"rope_theta\":10000,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":32768,"   \
                          "\"sliding_window\":4096"))                                                        \
    X("qwen2.5-0.5b", SHAPE("qwen2", 896, 4864, 24, 14, 2, 151936, true, QWEN("")))                          \
    X("qwen2.5-1.5b", SHAPE("qwen2", 1536, 8960, 28, 12, 2, 151936, true, QWEN("")))                         \
    X("qwen2.5-3b", SHAPE("qwen2", 2048, 11008, 36, 16, 2, 151936, true, QWEN("")))                          \
    X("qwen2.5-7b", SHAPE("qwen2", 3584, 18944, 28, 28, 4, 152064, false, QWEN("")))                         \
    X("qwen2.5-14b", SHAPE("qwen2", 5120, 13824, 48, 40, 8, 152064, false, QWEN("")))                        \
    X("qwen2.5-32b", SHAPE("qwen2", 5120, 27648, 64, 40, 8, 152064, false, QWEN("")))                        \
    X("qwen2.5-72b", SHAPE("qwen2", 8192, 29568, 80, 64, 8, 152064, false, QWEN("")))                        \
    X("qwen3-0.6b", SHAPE("qwen3", 1024, 3072, 28, 16, 8, 151936, true, QWEN(",\"head_dim\":128")))          \
    X("qwen3-1.7b", SHAPE("qwen3", 2048, 6144, 28, 16, 8, 151936, true, QWEN(",\"head_dim\":128")))          \
    X("qwen3-4b", SHAPE("qwen3", 2560, 9728, 36, 32, 8, 151936, true, QWEN(",\"head_dim\":128")))            \
    X("qwen3-8b", SHAPE("qwen3", 4096, 12288, 36, 32, 8, 151936, false, QWEN(",\"head_dim\":128")))          \
    X("qwen3-14b", SHAPE("qwen3", 5120, 17408, 40, 40, 8, 151936, false, QWEN(",\"head_dim\":128")))         \
    X("qwen3-32b", SHAPE("qwen3", 5120, 25600, 64, 64, 8, 151936, false, QWEN(",\"head_dim\":128")))         \
    X("qwen3-30b-a3b", MIXTURE("qwen3_moe", 2048, 6144, 48, 32, 4, 151936, 128, 8,                           \
                               ",\"moe_intermediate_size\":768,\"norm_topk_prob\":true"                      \
                               ",\"rope_theta\":1000000,\"rms_norm_eps\":1e-6,\"head_dim\":128"              \
                               ",\"max_position_embeddings\":40960"))                                        \
    X("olmoe-1b-7b",                                                                                         \
      MIXTURE("olmoe", 2048, 1024, 16, 16, 16, 50304, 64, 8,                                                 \
              ",\"rope_theta\":10000,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":4096"))               \
    X("gemma-3-270m", GEMMA3(640, 2048, 18, 4, 1, 262144, 512, ""))                                          \
    X("gemma-3-1b", GEMMA3(1152, 6912, 26, 4, 1, 262144, 512, ""))                                           \
    X("gemma-3-4b", GEMMA3(2560, 10240, 34, 8, 4, 262208, 1024,                                              \
                           ",\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8}"))                     \
    X("gemma-2-2b", SHAPE("gemma2", 2304, 9216, 26, 8, 4, 256000, true, ",\"head_dim\":256"))                \
    X("smollm3-3b",                                                                                          \
      SHAPE("smollm3", 2048, 11008, 36, 16, 4, 128256, true,                                                 \
            ",\"rope_theta\":5000000,\"rms_norm_eps\":1e-6,\"max_position_embeddings\":65536"))              \
    X("granite-3.3-2b",                                                                                      \
      SHAPE("granite", 2048, 8192, 40, 32, 8, 49159, true,                                                   \
            ",\"rope_theta\":10000000,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":131072,"             \
            "\"embedding_multiplier\":12,\"residual_multiplier\":0.22,\"attention_multiplier\":0.015625,"    \
            "\"logits_scaling\":8"))                                                                         \
    X("olmo-2-1b", SHAPE("olmo2", 2048, 8192, 16, 16, 16, 100352, false,                                     \
                         ",\"rope_theta\":500000,\"rms_norm_eps\":1e-6,\"max_position_embeddings\":4096"))   \
    X("phi-3.5-mini", SHAPE("phi3", 3072, 8192, 32, 32, 32, 32064, false, LONG_PHI))                         \
    X("phi-4-mini",                                                                                          \
      SHAPE("phi3", 3072, 8192, 32, 24, 8, 200064, true, LONG_PHI ",\"partial_rotary_factor\":0.75"))        \
    X("phi-4", SHAPE("phi3", 5120, 17920, 40, 40, 10, 100352, false, PHI("250000", "16384")))                \
    X("stablelm-2-1.6b",                                                                                     \
      SHAPE("stablelm", 2048, 5632, 24, 32, 32, 100352, false,                                               \
            ",\"use_qkv_bias\":true,\"layer_norm_eps\":1e-5,\"max_position_embeddings\":4096"))              \
    X("starcoder2-3b", SHAPE("starcoder2", 3072, 12288, 30, 24, 2, 49152, true,                              \
                             ",\"rope_theta\":999999.44,\"norm_epsilon\":1e-5,\"sliding_window\":4096,"      \
                             "\"max_position_embeddings\":16384"))

#define ROW(name, config) {name, config},
const gr_shape gr_shape_table[] = {SHAPES(ROW){0}};

#define NAME(name, config) name,
const char *const *gr_shape_names(void) {
    static const char *const names[] = {SHAPES(NAME) NULL};
    return names;
}

graft_status gr_shape_config(gr_model_config *config, const char *name, graft_error *err) {
    char known[1024] = "";
    size_t used = 0;
    for (const gr_shape *shape = gr_shape_table; shape->name; shape++) {
        if (gr_same_name(shape->name, name)) /* in any case */
            return gr_config_parse(config, shape->config, strlen(shape->config), name, err);
        int n = used < sizeof known
                    ? snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", shape->name)
                    : 0;
        used += n > 0 ? (size_t)n : 0;
    }
    gr_fail(err, GRAFT_USAGE, "no published shape has this name");
    gr_expected(err, "%s", known);
    gr_found(err, "%s", name);
    const char *near =
        gr_nearest_name(name, gr_shape_names(), sizeof gr_shape_table / sizeof *gr_shape_table - 1);
    return near ? gr_hint(err, "did you mean %s?", near) : err->status;
}
