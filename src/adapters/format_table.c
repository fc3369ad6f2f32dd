#include "adapters/adapter.h"
#include "base/digest.h"

const gr_adapter_format gr_adapter_format_table[] = {
    {"mlx", "adapters.safetensors", "", ".lora_a", ".lora_b", true, false},
    {"peft", "adapter_model.safetensors", "base_model.model.", ".lora_A.weight", ".lora_B.weight", false,
     true},
    {0},
};

void gr_adapter_digest(char text[17], const float *params, int64_t count) {
    static const char digits[] = "0123456789abcdef";
    uint64_t h = GR_DIGEST_START;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &params[i], 4);
        h = gr_digest_step(h, bits);
    }
    for (int i = 0; i < 16; i++) text[i] = digits[h >> (60 - 4 * i) & 15];
    text[16] = 0;
}
