/* Any bytes as --quant-predicate: refused with a reason, or choices that quantization can follow. */
#include "convert/quant_rules.h"
#include "weights/affine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const paths[] = {"model.layers.0.mlp.down_proj", "model.layers.31.self_attn.v_proj",
                                        "lm_head", "model.embed_tokens", ""};
    graft_error err = {0};
    gr_quant_rules *rules;
    char *text = gr_strndup((const char *)data, size);
    if (!text) return 0;
    if (gr_quant_rules_new(&rules, text, 4, 64, &err) == GRAFT_OK) {
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
            gr_quant_choice choice = gr_quant_rules_choose(rules, paths[i], i % 2, (int64_t)i * 16);
            if (choice.quantize && !gr_affine_valid(choice.bits, choice.group)) abort();
        }
        if (gr_quant_rules_used(rules, &err) != GRAFT_OK && !err.what[0]) abort();
        gr_quant_rules_free(rules);
    } else if (rules || !err.what[0]) {
        abort(); /* every refusal says why */
    }
    free(text);
    return 0;
}
