/* kernels/template_softmax.h - softmax blocks of attention.
 * Included once per isa_*.c and mode.
 */

static float NAME(softmax_keys)(void *p, const float *s, int n, int lo, int hi, float scale, float *max,
                                float *sum) {
    act_t *out = p;
    vf top = v_set1(*max), total = {0};
    if (lo < 0) lo = 0;
    if (hi > n) hi = n;
    if (lo >= hi) {
        memset(out, 0, (size_t)(n > 0 ? n : 0) * sizeof(act_t));
        return 1.0f;
    }
    int first = lo / VL * VL; /* vectors before it and from hi on are all zero */
    for (int i = first; i < hi; i += VL)
        top = v_max(v_between(v_load_n(s + i, n - i) * scale, i, lo, hi, *max), top);
    float new_max = v_top(top);
    memset(out, 0, (size_t)first * sizeof(act_t));
    for (int i = first; i < hi; i += VL) {
        vf e = v_between(v_exp(v_load_n(s + i, n - i) * scale - new_max), i, lo, hi, 0);
        total += e;
        NAME(store_n)(out + i, e, n - i);
    }
    int done = (hi + VL - 1) / VL * VL;
    if (done < n) memset(out + done, 0, (size_t)(n - done) * sizeof(act_t));
    float factor = v_exp1(*max - new_max);
    *sum = *sum * factor + v_sum(total);
    *max = new_max;
    return factor;
}

/* Lanes of columns c.. that see key row i keep v. */
INLINE vf NAME(see)(vf v, int c, int i, int diag, int window, float other) {
    int lo = i - diag, hi = window ? lo + window : GR_NR;
    return lo > c || hi < c + VL ? v_between(v, c, lo, hi, other) : v;
}

static bool NAME(softmax_block)(void *panel, const float *s, int n, int diag, int window, float scale,
                                float *max, float *sum, float *factor) {
    bool moved = false;
    for (int c = 0; c < GR_NR; c += VL) {
        vf top = v_set1(-INFINITY), total = {0}, old = v_load(max + c);
        for (int i = 0; i < n; i++)
            top = v_max(NAME(see)(v_load(s + i * GR_NR + c), c, i, diag, window, -INFINITY), top);
        vi rise = top * scale > old + GR_SOFTMAX_SLACK;
        vf now = v_select(rise, top * scale, old), base = v_select(now == -INFINITY, (vf){0}, now);
        for (int l = 0; l < VL; l++) moved |= rise[l] != 0;
        for (int i = 0; i < n; i++) {
            vf e = v_exp(v_load(s + i * GR_NR + c) * scale - base);
            e = NAME(see)(e, c, i, diag, window, 0);
            total += e;
            v_store((float *)panel + i * GR_NR + c, e);
        }
        vf fold = v_exp(old - base);
        v_store(max + c, now);
        v_store(factor + c, fold);
        v_store(sum + c, v_load(sum + c) * fold + total);
    }
    return moved;
}

static void NAME(softmax_block_back)(void *p, void *ds, void *panel, const float *s, const float *dp, int n,
                                     int diag, int window, float scale, const float *lse,
                                     const float *delta) {
    for (int i = 0; i < n; i++)
        for (int c = 0; c < GR_NR; c += VL) {
            int at = i * GR_NR + c;
            vf e = v_exp(v_load(s + at) * scale - v_load(lse + c));
            e = NAME(see)(e, c, i, diag, window, 0);
            vf d = NAME(see)(e * (v_load(dp + at) - v_load(delta + c)), c, i, diag, window, 0);
            NAME(store_n)((act_t *)p + at, e, VL);
            NAME(store_n)((act_t *)ds + at, d, VL);
            v_store((float *)panel + at, d);
        }
}

static void NAME(weigh_columns)(void *y, bool y_f32, const float *x, const float *weight, int64_t rows) {
    for (int64_t i = 0; i < rows * GR_NR; i += VL) {
        vf v = v_load(x + i) * v_load(weight + i % GR_NR);
        if (y_f32)
            v_store((float *)y + i, v);
        else
            NAME(store_n)((act_t *)y + i, v, VL);
    }
}

/* A block of 16 x 16: a cache line of each side at a time. */
static void NAME(add_transposed)(float *y, int64_t ldy, const float *x, int rows, int cols, float scale,
                                 bool accumulate) {
    for (int r0 = 0; r0 < rows; r0 += 16)
        for (int c0 = 0; c0 < cols; c0 += 16) {
            int r1 = r0 + 16 < rows ? r0 + 16 : rows, c1 = c0 + 16 < cols ? c0 + 16 : cols;
            for (int c = c0; c < c1; c++)
                for (int r = r0; r < r1; r++) {
                    float v = x[r * GR_NR + c] * scale, *to = &y[c * ldy + r];
                    *to = accumulate ? *to + v : v;
                }
        }
}

static void NAME(soft_cap)(float *s, int64_t n, float scale, float cap) {
    for (int64_t i = 0; i < n; i += VL)
        v_store_n(s + i, v_tanh(v_load_n(s + i, n - i) * (scale / cap)) * cap, n - i);
}

/* ds = p (dp - delta) (1 - tanh^2): what dp must be for softmax_block_back to give that. */
static void NAME(soft_cap_back)(float *s, float *dp, int rows, float scale, float cap, const float *delta) {
    for (int64_t i = 0; i < (int64_t)rows * GR_NR; i += VL) {
        vf t = v_tanh(v_load(s + i) * (scale / cap)), d = v_load(delta + i % GR_NR);
        v_store(s + i, t * cap);
        v_store(dp + i, (v_load(dp + i) - d) * (1.0f - t * t) + d);
    }
}
