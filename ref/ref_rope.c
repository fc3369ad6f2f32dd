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

/* The number of the pair, as a fraction, that turns so often in the original context. */
static double pair_of(double turns, int head_dim, double theta, double positions) {
    return head_dim * log(positions / (turns * 2 * acos(-1))) / (2 * log(theta));
}

/* YaRN: like llama3, but blended by the pair's number; its ends are whole numbers unless it says otherwise.
 */
void ref_rope_yarn(double *inv_freq, int head_dim, double theta, const ref_rope_yarn_scaling *s) {
    double first = pair_of(s->fast, head_dim, theta, s->original_positions);
    double last = pair_of(s->slow, head_dim, theta, s->original_positions);
    if (!s->fractions) first = floor(first), last = ceil(last);
    first = fmax(0, first), last = fmin(head_dim - 1, last);
    ref_rope_default(inv_freq, head_dim, theta);
    for (int j = 0; j < head_dim / 2; j++) {
        double slowed = fmin(1, fmax(0, (j - first) / (last - first)));
        inv_freq[j] = (1 - slowed) * inv_freq[j] + slowed * inv_freq[j] / s->factor;
    }
}
