/* kernels/template_rows.h - elementwise kernels and norms over one row. Included once per isa_*.c and mode.
 * Tails run through the same vector code padded with zeros, so an element's bits depend on its row alone.
 */

static void NAME(to_act)(void *y, const float *x, int64_t n) {
    act_t *out = y;
    for (int64_t i = 0; i < n; i += VL) NAME(store_n)(out + i, v_load_n(x + i, n - i), n - i);
}

static void NAME(to_f32)(float *y, const void *x, int64_t n) {
    const act_t *in = x;
    for (int64_t i = 0; i < n; i += VL) v_store_n(y + i, NAME(load_n)(in + i, n - i), n - i);
}

/* Blocks of 16 x 16: a cache line of each side at a time. */
static void NAME(transpose)(void *y, int64_t ldy, const void *x, int64_t ldx, int64_t rows, int64_t cols) {
    act_t *out = y;
    const act_t *in = x;
    for (int64_t r0 = 0; r0 < rows; r0 += 16)
        for (int64_t c0 = 0; c0 < cols; c0 += 16) {
            int64_t r1 = gr_min_i64(rows, r0 + 16), c1 = gr_min_i64(cols, c0 + 16);
            for (int64_t c = c0; c < c1; c++)
                for (int64_t r = r0; r < r1; r++) out[c * ldy + r] = in[r * ldx + c];
        }
}

static void NAME(scale_f32)(float *y, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i += VL) v_store_n(y + i, v_load_n(y + i, n - i) * factor, n - i);
}

static void NAME(add_f32)(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += VL)
        v_store_n(y + i, v_load_n(y + i, n - i) + v_load_n(x + i, n - i), n - i);
}

/* The hash of layers/dropout.h over VL elements at a time. */
static void NAME(drop)(void *y, const void *x, int64_t n, uint32_t key, uint32_t threshold) {
    act_t *out = y;
    const act_t *in = x;
    vu index;
    for (int i = 0; i < VL; i++) index[i] = (uint32_t)i;
    for (int64_t i = 0; i < n; i += VL) {
        vu h = (index ^ key) + 0x9E3779B9u;
        h = (h ^ (h >> 16)) * 0x7FEB352Du;
        h = (h ^ (h >> 15)) * 0x846CA68Bu;
        h ^= h >> 16;
        NAME(store_n)(out + i, v_select(h >= threshold, NAME(load_n)(in + i, n - i), (vf){0}), n - i);
        index += (uint32_t)VL;
    }
}

static float NAME(dot)(const void *a, const void *b, int64_t n) {
    const act_t *x = a, *y = b;
    vf sum[2] = {{0}, {0}}; /* two chains hide half of the add's latency */
    for (int64_t i = 0; i < n; i += 2 * VL) {
        sum[0] = v_fma(NAME(load_n)(x + i, n - i), NAME(load_n)(y + i, n - i), sum[0]);
        if (n - i > VL)
            sum[1] =
                v_fma(NAME(load_n)(x + i + VL, n - i - VL), NAME(load_n)(y + i + VL, n - i - VL), sum[1]);
    }
    return v_sum(sum[0] + sum[1]);
}

static void NAME(rmsnorm)(void *y, float *rstd, const void *x, const float *weight, float eps, int64_t n) {
    act_t *out = y;
    const act_t *in = x;
    *rstd = 1.0f / sqrtf(NAME(dot)(x, x, n) / (float)n + eps);
    for (int64_t i = 0; i < n; i += VL)
        NAME(store_n)(out + i, NAME(load_n)(in + i, n - i) * *rstd * v_load_n(weight + i, n - i), n - i);
}

/* With z = x * rstd and g = dy * weight: dx += rstd * (g - z * mean(g z)). */
static void NAME(rmsnorm_back)(float *dx, const void *dy, bool dy_f32, const void *x, float rstd,
                               const float *weight, int64_t n) {
    const act_t *in = x;
    vf sum = {0};
    for (int64_t i = 0; i < n; i += VL) {
        vf g = dy_f32 ? v_load_n((const float *)dy + i, n - i) : NAME(load_n)((const act_t *)dy + i, n - i);
        sum = v_fma(g * v_load_n(weight + i, n - i), NAME(load_n)(in + i, n - i) * rstd, sum);
    }
    float mean = v_sum(sum) / (float)n;
    for (int64_t i = 0; i < n; i += VL) {
        vf g = dy_f32 ? v_load_n((const float *)dy + i, n - i) : NAME(load_n)((const act_t *)dy + i, n - i);
        vf z = NAME(load_n)(in + i, n - i) * rstd;
        v_store_n(dx + i, v_load_n(dx + i, n - i) + (g * v_load_n(weight + i, n - i) - z * mean) * rstd,
                  n - i);
    }
}

/* y = (x - mean) / sqrt(variance + eps) * weight + bias. The variance is that of the differences: two passes
 * lose nothing where the mean is large. */
static void NAME(layernorm)(void *y, float *rstd, const void *x, const float *weight, const float *bias,
                            float eps, int64_t n) {
    act_t *out = y;
    const act_t *in = x;
    vf sum = {0}, squares = {0};
    for (int64_t i = 0; i < n; i += VL) sum += NAME(load_n)(in + i, n - i);
    float mean = v_sum(sum) / (float)n;
    for (int64_t i = 0; i < n; i += VL) {
        vf d = v_between(NAME(load_n)(in + i, n - i) - mean, 0, 0, (int)gr_min_i64(VL, n - i), 0);
        squares = v_fma(d, d, squares);
    }
    *rstd = 1.0f / sqrtf(v_sum(squares) / (float)n + eps);
    for (int64_t i = 0; i < n; i += VL) NAME(store_n)
    (out + i,
     (NAME(load_n)(in + i, n - i) - mean) * *rstd * v_load_n(weight + i, n - i) + v_load_n(bias + i, n - i),
     n - i);
}

/* With z = (x - mean) * rstd and g = dy * weight: dx += rstd * (g - mean(g) - z * mean(g z)). */
static void NAME(layernorm_back)(float *dx, const void *dy, bool dy_f32, const void *x, float rstd,
                                 const float *weight, int64_t n) {
    const act_t *in = x;
    vf sum = {0}, flat = {0}, along = {0};
    for (int64_t i = 0; i < n; i += VL) sum += NAME(load_n)(in + i, n - i);
    float mean = v_sum(sum) / (float)n;
    for (int64_t i = 0; i < n; i += VL) {
        vf g = dy_f32 ? v_load_n((const float *)dy + i, n - i) : NAME(load_n)((const act_t *)dy + i, n - i);
        g *= v_load_n(weight + i, n - i); /* 0 behind the end */
        flat += g;
        along = v_fma(g, (NAME(load_n)(in + i, n - i) - mean) * rstd, along);
    }
    float shift = v_sum(flat) / (float)n, slope = v_sum(along) / (float)n;
    for (int64_t i = 0; i < n; i += VL) {
        vf g = dy_f32 ? v_load_n((const float *)dy + i, n - i) : NAME(load_n)((const act_t *)dy + i, n - i);
        vf z = (NAME(load_n)(in + i, n - i) - mean) * rstd;
        g = g * v_load_n(weight + i, n - i) - shift - z * slope;
        v_store_n(dx + i, v_load_n(dx + i, n - i) + g * rstd, n - i);
    }
}

static void NAME(rope)(void *x, const float *cosine, const float *sine, int half, int dir) {
    act_t *low = x, *high = low + half;
    for (int i = 0; i < half; i += VL) {
        vf a = NAME(load_n)(low + i, half - i), b = NAME(load_n)(high + i, half - i);
        vf c = v_load_n(cosine + i, half - i), s = v_load_n(sine + i, half - i) * (float)dir;
        NAME(store_n)(low + i, a * c - b * s, half - i);
        NAME(store_n)(high + i, b * c + a * s, half - i);
    }
}

static void NAME(rope_f32)(float *x, const float *cosine, const float *sine, int half, int dir) {
    for (int i = 0; i < half; i += VL) {
        vf a = v_load_n(x + i, half - i), b = v_load_n(x + half + i, half - i);
        vf c = v_load_n(cosine + i, half - i), s = v_load_n(sine + i, half - i) * (float)dir;
        v_store_n(x + i, a * c - b * s, half - i);
        v_store_n(x + half + i, b * c + a * s, half - i);
    }
}

/* silu(g) = g / (1 + e^-g); e^-g may be infinite, then silu is -0. */
static void NAME(swiglu)(void *y, const void *gate, const void *up, int64_t n) {
    act_t *out = y;
    for (int64_t i = 0; i < n; i += VL) {
        vf g = NAME(load_n)((const act_t *)gate + i, n - i), u = NAME(load_n)((const act_t *)up + i, n - i);
        NAME(store_n)(out + i, g / (1.0f + v_exp(-g)) * u, n - i);
    }
}

static void NAME(swiglu_back)(void *dgate, void *dup, const void *dy, const void *gate, const void *up,
                              int64_t n) {
    for (int64_t i = 0; i < n; i += VL) {
        vf g = NAME(load_n)((const act_t *)gate + i, n - i), u = NAME(load_n)((const act_t *)up + i, n - i);
        vf d = NAME(load_n)((const act_t *)dy + i, n - i), sigmoid = 1.0f / (1.0f + v_exp(-g));
        NAME(store_n)((act_t *)dgate + i, d * u * (sigmoid * (1.0f + g * (1.0f - sigmoid))), n - i);
        NAME(store_n)((act_t *)dup + i, d * (g * sigmoid), n - i);
    }
}

/* GELU with tanh: 0.5 (1 + tanh(z)) = sigmoid(2 z), z = sqrt(2 / pi) (g + 0.044715 g^3). */
#ifndef GR_GELU_SLOPE
#define GR_GELU_SLOPE 0x1.988454p0f  /* 2 sqrt(2 / pi) */
#define GR_GELU_CUBE  0x1.2444f2p-4f /* .. * 0.044715 */
INLINE vf gelu_sigmoid(vf g) {
    return 1.0f / (1.0f + v_exp(-g * (GR_GELU_SLOPE + GR_GELU_CUBE * g * g)));
}
/* d(g s) / dg; s is 0 or 1 where the cube is too large. */
INLINE vf gelu_slope(vf g, vf s) {
    vf inner = s * (1.0f - s) * g, most = v_set1(1e6f);
    vf square = g * g;
    square = v_select(square > most, most, square);
    return s + inner * (GR_GELU_SLOPE + 3.0f * GR_GELU_CUBE * square);
}
#endif

static void NAME(geglu)(void *y, const void *gate, const void *up, int64_t n) {
    act_t *out = y;
    for (int64_t i = 0; i < n; i += VL) {
        vf g = NAME(load_n)((const act_t *)gate + i, n - i), u = NAME(load_n)((const act_t *)up + i, n - i);
        NAME(store_n)(out + i, g * gelu_sigmoid(g) * u, n - i);
    }
}

static void NAME(geglu_back)(void *dgate, void *dup, const void *dy, const void *gate, const void *up,
                             int64_t n) {
    for (int64_t i = 0; i < n; i += VL) {
        vf g = NAME(load_n)((const act_t *)gate + i, n - i), u = NAME(load_n)((const act_t *)up + i, n - i);
        vf d = NAME(load_n)((const act_t *)dy + i, n - i), s = gelu_sigmoid(g);
        NAME(store_n)((act_t *)dgate + i, d * u * gelu_slope(g, s), n - i);
        NAME(store_n)((act_t *)dup + i, d * (g * s), n - i);
    }
}

/* Without up. */
static void NAME(gelu)(void *y, const void *x, int64_t n) {
    act_t *out = y;
    for (int64_t i = 0; i < n; i += VL) {
        vf g = NAME(load_n)((const act_t *)x + i, n - i);
        NAME(store_n)(out + i, g * gelu_sigmoid(g), n - i);
    }
}

static void NAME(gelu_back)(void *dx, const void *dy, const void *x, int64_t n) {
    for (int64_t i = 0; i < n; i += VL) {
        vf g = NAME(load_n)((const act_t *)x + i, n - i), d = NAME(load_n)((const act_t *)dy + i, n - i);
        NAME(store_n)((act_t *)dx + i, d * gelu_slope(g, gelu_sigmoid(g)), n - i);
    }
}
