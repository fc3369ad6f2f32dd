/* Adapters of a whole model of images and text, whose text part is all that is here. */
#include "adapters/adapter_parts.h"
#include <stdio.h>

/* source: transformers 5.23 modeling_gemma3.py (PEFT's names), as before 4.52; mlx-lm 0.32 models/gemma3.py
 */
static const gr_adapter_whole wholes[] = {{"model.language_model.", ""},
                                          {"language_model.model.", "language_model."}};

const gr_adapter_whole *gr_adapter_whole_of(const gr_tensor *tensors, size_t count, const char *prefix) {
    const size_t n = strlen(prefix);
    for (size_t i = 0; i < count; i++)
        for (size_t w = 0; w < sizeof wholes / sizeof *wholes; w++)
            if (strncmp(tensors[i].name, prefix, n) == 0 &&
                strncmp(tensors[i].name + n, wholes[w].model, strlen(wholes[w].model)) == 0)
                return &wholes[w];
    return NULL;
}

void gr_adapter_whole_name(char *name, size_t size, const gr_adapter_whole *whole, const char *own,
                           size_t prefix) {
    static const char model[] = "model.";
    const char *rest = own + prefix;
    const bool inside = strncmp(rest, model, sizeof model - 1) == 0;
    if (inside) rest += sizeof model - 1;
    snprintf(name, size, "%.*s%s%s", (int)prefix, own, inside ? whole->model : whole->head, rest);
}
