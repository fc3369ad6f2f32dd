/* Rotary frequencies: the angle per position of each pair of a head. */
#include "ref/ref.h"
#include <math.h>

void ref_rope_default(double *inv_freq, int head_dim, double theta) {
    for (int j = 0; j < head_dim / 2; j++) inv_freq[j] = pow(theta, -2.0 * j / head_dim);
}

void ref_rope_linear(double *inv_freq, int head_dim, double theta, double factor) {
    ref_rope_default(inv_freq, head_dim, theta);
    for (int j = 0; j < head_dim / 2; j++) inv_freq[j] /= factor;
}

/* Llama 3.1: slow pairs (wavelength beyond the original context / low) are slowed by `factor`, fast ones
 * stay, between them the two are blended. */
void ref_rope_llama3(double *inv_freq, int head_dim, double theta, const ref_rope_llama3_scaling *s) {
    ref_rope_default(inv_freq, head_dim, theta);
    for (int j = 0; j < head_dim / 2; j++) {
        double turns = s->original_positions * inv_freq[j] / (2 * acos(-1)); /* in the original context */
        double blend = (turns - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
        blend = fmin(1, fmax(0, blend)); /* 1: as trained, 0: slowed */
        inv_freq[j] = blend * inv_freq[j] + (1 - blend) * inv_freq[j] / s->factor;
    }
}
