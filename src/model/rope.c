#include "model/model.h"
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

/* The pair that turns so often within the original context. */
static double turning_pair(const gr_rope_config *rope, double turns, double dim) {
    return dim * log((double)rope->original_max_position / (turns * 2 * M_PI)) / (2 * log(rope->theta));
}

/* YaRN: pair i of dim / 2, blended along a line between two pairs. */
static double yarn_scaled(double inv_freq, const gr_rope_config *rope, double i, double dim) {
    double low = turning_pair(rope, rope->beta_fast, dim), high = turning_pair(rope, rope->beta_slow, dim);
    if (!rope->fractions) low = floor(low), high = ceil(high);
    low = fmax(low, 0), high = fmin(high, dim - 1);
    if (high == low) high += 0.001;
    double stretched = fmin(fmax((i - low) / (high - low), 0), 1);
    return stretched * inv_freq / rope->factor + (1 - stretched) * inv_freq;
}

void gr_rope_frequencies(double *inv_freq, const gr_model_config *c, const gr_rope_config *rope) {
    double dim = (double)c->rotary;
    for (int64_t i = 0; i < c->rotary / 2; i++) {
        double f = pow(rope->theta, -2.0 * (double)i / dim);
        if (rope->kind == GR_ROPE_LINEAR) f /= rope->factor;
        if (rope->kind == GR_ROPE_LLAMA3) f = llama3_scaled(f, rope);
        if (rope->kind == GR_ROPE_YARN) f = yarn_scaled(f, rope, (double)i, dim);
        if (rope->kind == GR_ROPE_LONG) f /= rope->divisor[i];
        inv_freq[i] = f;
    }
}

int gr_rope_of(const gr_model_config *c, int64_t layer, bool queries) {
    int rope = c->rope_of[layer];
    return rope == 0 && queries && c->rope[1].growth > 0 ? 1 : rope;
}

int gr_rope_count(const gr_model_config *c) {
    if (c->rope[1].growth > 0) return 2;
    for (int64_t l = 0; l < c->layers; l++)
        if (c->rope_of[l] == 1) return 2;
    return 1;
}

void gr_model_angles(float *cosine, float *sine, const gr_model *m, int rope, int64_t position) {
    const gr_rope_config *r = &m->config.rope[rope];
    double magnitude = r->magnitude;
    if (r->growth > 0) magnitude *= 1 + r->growth * log1p((double)(position / r->step));
    for (int64_t i = 0; i < m->config.rotary / 2; i++) {
        double angle = (double)position * m->inv_freq[rope][i];
        cosine[i] = (float)(cos(angle) * magnitude);
        sine[i] = (float)(sin(angle) * magnitude);
    }
}
