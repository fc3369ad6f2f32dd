#include "model/config.h"
#include <math.h>

/* Llama 3.x: long wavelengths are stretched by `factor`, short ones kept, those between blended. */
static double llama3_scaled(double inv_freq, const gr_rope_config *rope) {
    double context = (double)rope->original_max_position;
    double wavelength = 2 * M_PI / inv_freq;
    if (wavelength > context / rope->low_freq_factor) return inv_freq / rope->factor;
    if (wavelength < context / rope->high_freq_factor) return inv_freq;
    double smooth =
        (context / wavelength - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - smooth) * inv_freq / rope->factor + smooth * inv_freq;
}

void gr_rope_frequencies(double *inv_freq, const gr_model_config *c) {
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        double f = pow(c->rope.theta, -2.0 * (double)i / (double)c->head_dim);
        if (c->rope.kind == GR_ROPE_LINEAR) f /= c->rope.factor;
        if (c->rope.kind == GR_ROPE_LLAMA3) f = llama3_scaled(f, &c->rope);
        inv_freq[i] = f;
    }
}
