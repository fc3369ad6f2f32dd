/* Layers that look at one token at a time: linear with LoRA, RMSNorm, rotary positions, SwiGLU, embedding,
 * loss. */
#include "ref/ref.h"
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

/* Where A has its number for column i. */
static size_t place_in_a(const ref_linear *l, int r, int i) {
    return l->pool > 0 ? (size_t)r * (l->in / l->pool) + i / l->pool : (size_t)r * l->in + i;
}

/* Length of row o of W + scale * B^T A (DoRA). */
static double adapted_row_norm(const ref_linear *l, int o) {
    double sum = 0;
    for (int i = 0; i < l->in; i++) {
        double w = l->w[(size_t)o * l->in + i];
        for (int r = 0; r < l->rank; r++)
            w += l->scale * l->b[(size_t)r * l->out + o] * l->a[place_in_a(l, r, i)];
        sum += w * w;
    }
    return sqrt(sum);
}

/* What DoRA multiplies row o's result by; 1 without it. The bias is added after. */
static double row_gain(const ref_linear *l, int o) {
    return l->m != NULL ? l->m[o] / adapted_row_norm(l, o) : 1;
}

/* Row o's result before gain and bias. */
static double linear_dot(const double *x, const double *xa, const ref_linear *l, int o) {
    double y = 0;
    for (int i = 0; i < l->in; i++) y += x[i] * l->w[(size_t)o * l->in + i];
    for (int r = 0; r < l->rank; r++) y += l->scale * xa[r] * l->b[(size_t)r * l->out + o];
    return y;
}

/* Factor on element i of token t on its way to A. */
static double drop_at(const ref_linear *l, int t, int i) {
    return l->drop != NULL ? l->drop[(size_t)t * l->in + i] : 1;
}

void ref_linear_forward(double *y, double *xa, const double *x, const ref_linear *l, int tokens) {
    for (int t = 0; t < tokens; t++)
        for (int r = 0; r < l->rank; r++) {
            double sum = 0;
            for (int i = 0; i < l->in; i++)
                sum += drop_at(l, t, i) * x[(size_t)t * l->in + i] * l->a[place_in_a(l, r, i)];
            xa[(size_t)t * l->rank + r] = sum;
        }
    for (int o = 0; o < l->out; o++) {
        double gain = row_gain(l, o);
        for (int t = 0; t < tokens; t++)
            y[(size_t)t * l->out + o] =
                gain * linear_dot(x + (size_t)t * l->in, xa == NULL ? NULL : xa + (size_t)t * l->rank, l, o) +
                (l->bias != NULL ? l->bias[o] : 0);
    }
}

/* Token t. dxa [rank] is the gradient of x A^T, a scratch of the caller. */
static void token_backward(double *dx, double *dxa, const double *gain, const double *dy, const double *x,
                           const double *xa, const ref_linear *l, int t) {
    for (int r = 0; r < l->rank; r++) dxa[r] = 0;
    for (int o = 0; o < l->out; o++) {
        double d = dy[o] * gain[o];
        if (l->dbias != NULL) l->dbias[o] += dy[o];
        if (l->dm != NULL) l->dm[o] += d * linear_dot(x, xa, l, o) / l->m[o];
        for (int i = 0; i < l->in; i++) dx[i] += d * l->w[(size_t)o * l->in + i];
        for (int i = 0; i < l->in && l->dw != NULL; i++) l->dw[(size_t)o * l->in + i] += d * x[i];
        for (int r = 0; r < l->rank; r++) {
            dxa[r] += l->scale * d * l->b[(size_t)r * l->out + o];
            if (l->db != NULL) l->db[(size_t)r * l->out + o] += l->scale * d * xa[r];
        }
    }
    for (int r = 0; r < l->rank; r++)
        for (int i = 0; i < l->in; i++) {
            dx[i] += drop_at(l, t, i) * dxa[r] * l->a[place_in_a(l, r, i)];
            if (l->da != NULL) l->da[place_in_a(l, r, i)] += dxa[r] * drop_at(l, t, i) * x[i];
        }
}

void ref_linear_backward(double *dx, const double *dy, const double *x, const double *xa, const ref_linear *l,
                         int tokens) {
    double *gain = calloc((size_t)l->out + 1, sizeof *gain), *dxa = calloc((size_t)l->rank + 1, sizeof *dxa);
    if (gain == NULL || dxa == NULL) abort();
    for (int o = 0; o < l->out; o++) gain[o] = row_gain(l, o);
    for (int t = 0; t < tokens; t++)
        token_backward(dx + (size_t)t * l->in, dxa, gain, dy + (size_t)t * l->out, x + (size_t)t * l->in,
                       xa == NULL ? NULL : xa + (size_t)t * l->rank, l, t);
    free(gain);
    free(dxa);
}

static double inverse_rms(const double *x, double eps, int width) {
    double sum = 0;
    for (int i = 0; i < width; i++) sum += x[i] * x[i];
    return 1 / sqrt(sum / width + eps);
}

void ref_rmsnorm_forward(double *y, const double *x, const double *w, double one, double eps, int n,
                         int width) {
    for (int t = 0; t < n; t++, x += width, y += width) {
        double s = inverse_rms(x, eps, width);
        for (int i = 0; i < width; i++) y[i] = x[i] * s * (one + w[i]);
    }
}

/* With s = 1/rms: ds/dx[i] = -s^3 x[i] / width, hence the second term. */
void ref_rmsnorm_backward(double *dx, double *dw, const double *dy, const double *x, const double *w,
                          double one, double eps, int n, int width) {
    for (int t = 0; t < n; t++, x += width, dy += width, dx += width) {
        double s = inverse_rms(x, eps, width), dot = 0;
        for (int i = 0; i < width; i++) dot += dy[i] * (one + w[i]) * x[i];
        for (int i = 0; i < width; i++) {
            dx[i] += dy[i] * (one + w[i]) * s - x[i] * dot * s * s * s / width;
            if (dw != NULL) dw[i] += dy[i] * x[i] * s;
        }
    }
}

static double mean_of(const double *x, int width) {
    double sum = 0;
    for (int i = 0; i < width; i++) sum += x[i] / width;
    return sum;
}

static double inverse_deviation(const double *x, double mean, double eps, int width) {
    double sum = 0;
    for (int i = 0; i < width; i++) sum += (x[i] - mean) * (x[i] - mean) / width;
    return 1 / sqrt(sum + eps);
}

void ref_layernorm_forward(double *y, const double *x, const double *w, const double *b, double eps, int n,
                           int width) {
    for (int t = 0; t < n; t++, x += width, y += width) {
        double mean = mean_of(x, width), s = inverse_deviation(x, mean, eps, width);
        for (int i = 0; i < width; i++) y[i] = (x[i] - mean) * s * w[i] + b[i];
    }
}

/* With z = (x - mean) s and g = dy w: dx = s (g - mean(g) - z mean(g z)). */
void ref_layernorm_backward(double *dx, double *dw, double *db, const double *dy, const double *x,
                            const double *w, double eps, int n, int width) {
    for (int t = 0; t < n; t++, x += width, dy += width, dx += width) {
        double mean = mean_of(x, width), s = inverse_deviation(x, mean, eps, width), flat = 0, along = 0;
        for (int i = 0; i < width; i++) {
            flat += dy[i] * w[i] / width;
            along += dy[i] * w[i] * (x[i] - mean) * s / width;
        }
        for (int i = 0; i < width; i++) {
            double z = (x[i] - mean) * s;
            dx[i] += s * (dy[i] * w[i] - flat - z * along);
            if (dw != NULL) dw[i] += dy[i] * z;
            if (db != NULL) db[i] += dy[i];
        }
    }
}

void ref_grow(double *x, const int *pos, double growth, int step, int tokens, int width) {
    for (int t = 0; growth > 0 && t < tokens; t++)
        for (int i = 0; i < width; i++) x[t * width + i] *= 1 + growth * log(1 + pos[t] / step);
}

void ref_rope(double *x, const int *pos, const ref_rotary *r, int tokens, int heads, int head_dim, int sign) {
    for (int t = 0; t < tokens; t++)
        for (int h = 0; h < heads; h++, x += head_dim)
            for (int j = 0; j < r->half; j++) {
                double angle = sign * pos[t] * r->inv_freq[j];
                double c = r->magnitude * cos(angle), s = r->magnitude * sin(angle);
                double first = x[j], second = x[j + r->half];
                x[j] = first * c - second * s;
                x[j + r->half] = second * c + first * s;
            }
}

void ref_swiglu_forward(double *act, const double *gate, const double *up, long n) {
    for (long i = 0; i < n; i++) act[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
}

/* silu(g) = g * sigmoid(g), so silu'(g) = sigmoid * (1 + g * (1 - sigmoid)). */
void ref_swiglu_backward(double *dgate, double *dup, const double *dact, const double *gate, const double *up,
                         long n) {
    for (long i = 0; i < n; i++) {
        double g = gate[i], sigmoid = 1 / (1 + exp(-g));
        dgate[i] += dact[i] * up[i] * sigmoid * (1 + g * (1 - sigmoid));
        dup[i] += dact[i] * g * sigmoid;
    }
}

/* gelu(g) = g * sigmoid(z) with z = 2 sqrt(2/pi) (g + 0.044715 g^3), which is 0.5 g (1 + tanh(z/2)). */
static double gelu_sigmoid(double g) {
    return 1 / (1 + exp(-2 * sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g)));
}

void ref_geglu_forward(double *act, const double *gate, const double *up, long n) {
    for (long i = 0; i < n; i++) act[i] = gate[i] * gelu_sigmoid(gate[i]) * up[i];
}

void ref_geglu_backward(double *dgate, double *dup, const double *dact, const double *gate, const double *up,
                        long n) {
    for (long i = 0; i < n; i++) {
        double g = gate[i], s = gelu_sigmoid(g), dz = 2 * sqrt(2 / acos(-1)) * (1 + 3 * 0.044715 * g * g);
        dgate[i] += dact[i] * up[i] * (s + g * s * (1 - s) * dz);
        dup[i] += dact[i] * g * s;
    }
}

void ref_embed_forward(double *x, const ref_linear *l, const int *ids, int tokens) {
    for (int t = 0; t < tokens; t++)
        for (int i = 0; i < l->in; i++) {
            double sum = 0;
            for (int r = 0; r < l->rank; r++)
                sum += l->b[(size_t)r * l->out + ids[t]] * l->a[(size_t)r * l->in + i];
            x[(size_t)t * l->in + i] = l->w[(size_t)ids[t] * l->in + i] + l->scale * sum;
        }
}

void ref_embed_backward(const double *dx, const ref_linear *l, const int *ids, int tokens) {
    for (int t = 0; t < tokens; t++, dx += l->in)
        for (int i = 0; i < l->in; i++) {
            if (l->dw != NULL) l->dw[(size_t)ids[t] * l->in + i] += dx[i];
            for (int r = 0; r < l->rank; r++) {
                size_t a = (size_t)r * l->in + i, b = (size_t)r * l->out + ids[t];
                if (l->da != NULL) l->da[a] += l->scale * l->b[b] * dx[i];
                if (l->db != NULL) l->db[b] += l->scale * l->a[a] * dx[i];
            }
        }
}

/* d(-log softmax[target]) / dlogit[j] = softmax[j] - (j == target). */
double ref_cross_entropy(double *dlogits, const double *logits, const int *target, int tokens, int vocab) {
    double loss = 0;
    for (int t = 0; t < tokens; t++) {
        if (target[t] < 0) continue;
        const double *z = logits + (size_t)t * vocab;
        double max = z[0], sum = 0;
        for (int j = 1; j < vocab; j++) max = fmax(max, z[j]);
        for (int j = 0; j < vocab; j++) sum += exp(z[j] - max);
        loss += max + log(sum) - z[target[t]];
        if (dlogits == NULL) continue;
        for (int j = 0; j < vocab; j++)
            dlogits[(size_t)t * vocab + j] += exp(z[j] - max) / sum - (j == target[t] ? 1 : 0);
    }
    return loss;
}
