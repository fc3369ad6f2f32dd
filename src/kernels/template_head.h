/* kernels/template_head.h - the softmax over a vocabulary, panel by panel. Included once per isa_*.c and
 * mode.
 *
 * A finished tile of logits leaves as exp(logit - largest of its panel), with that largest and the sum: what
 * is kept of a logit takes 16 bits and is as exact as the gradient that it becomes. The panels' sums then
 * join to one log-sum-exp, and each panel is scaled once.
 */

INLINE vf NAME(logits_n)(const float *c, int n, float other) {
    return n >= VL ? v_load(c) : v_between(v_load_n(c, n), 0, 0, n, other);
}

/* One row of one panel. */
INLINE void NAME(softmax_row)(act_t *p, float *top, float *sum, const float *c, int cols) {
    vf most = v_set1(-INFINITY), total = {0};
    for (int n = 0; n < cols; n += VL) most = v_max(NAME(logits_n)(c + n, cols - n, -INFINITY), most);
    float max = v_top(most);
    for (int n = 0; n < cols; n += VL) {
        vf e = v_exp(v_load_n(c + n, cols - n) - max);
        total += NAME(logits_n)((const float *)&e, cols - n, 0);
        if (p) NAME(store_n)(p + n, e, cols - n);
    }
    *top = max;
    *sum = v_sum(total);
}

/* The first of equals counts as the largest. */
static bool NAME(leads)(const float *c, int cols, int at) {
    for (int i = 0; i < cols; i++)
        if (i < at ? c[i] >= c[at] : c[i] > c[at]) return false;
    return true;
}

static void NAME(finish_softmax)(const gr_softmax *s, const float *c, int64_t ldc, int64_t m0, int rows,
                                 int64_t n0, int cols) {
    float capped[GR_NR];
    for (int i = 0; i < rows; i++, c += ldc) {
        int64_t m = m0 + i, at = m * s->panels + n0 / GR_NR, target = s->target[m] - n0;
        act_t *p = s->p ? (act_t *)s->p + m * s->ldp + n0 : NULL;
        const float *row = c;
        if (s->cap > 0) {
            memcpy(capped, c, sizeof capped);
            NAME(soft_cap)(capped, GR_NR, 1, s->cap);
            row = capped;
        }
        if (cols == GR_NR)
            NAME(softmax_row)(p, &s->top[at], &s->sum[at], row, GR_NR);
        else
            NAME(softmax_row)(p, &s->top[at], &s->sum[at], row, cols);
        if (target < 0 || target >= cols) continue;
        s->target_logit[m] = row[target];
        s->leads[m] = NAME(leads)(row, cols, (int)target);
    }
}

/* Sums of 64 vectors in f32, those sums in double: the error stays near that of one exp. */
static double NAME(softmax_join)(const float *top, const float *sum, int64_t n) {
    vf most = v_set1(-INFINITY);
    for (int64_t i = 0; i < n; i += VL)
        most = v_max(NAME(logits_n)(top + i, (int)gr_min_i64(VL, n - i), -INFINITY), most);
    float max = v_top(most);
    double total = 0;
    for (int64_t block = 0; block < n; block += 64 * VL) {
        vf part = {0};
        for (int64_t i = block; i < n && i < block + 64 * VL; i += VL) {
            int take = (int)gr_min_i64(VL, n - i);
            vf e = v_exp(v_load_n(top + i, take) - max) * v_load_n(sum + i, take);
            part += NAME(logits_n)((const float *)&e, take, 0);
        }
        total += (double)v_sum(part);
    }
    return (double)max + log(total);
}

static void NAME(softmax_factors)(float *factor, const float *top, int64_t n, double lse, float weight) {
    float high = (float)lse, low = (float)(lse - (double)high); /* x - high is exact where x is near lse */
    for (int64_t i = 0; i < n; i += VL)
        v_store_n(factor + i, v_exp((v_load_n(top + i, n - i) - high) - low) * weight, n - i);
}

static void NAME(softmax_scale)(void *p, int64_t n, const float *factor) {
    act_t *at = p;
    for (int64_t i = 0; i < n; i += GR_NR) {
        float f = factor[i / GR_NR];
        int64_t cols = gr_min_i64(GR_NR, n - i);
        for (int64_t k = i; k < i + cols; k += VL)
            NAME(store_n)(at + k, NAME(load_n)(at + k, i + cols - k) * f, i + cols - k);
    }
}

/* A logit is found again from its weight p: log(p) + lse; where p is 0 nothing is left to scale. */
static void NAME(softmax_uncap)(void *p, int64_t n, float lse, float inverse, float cap) {
    act_t *at = p;
    for (int64_t i = 0; i < n; i += VL) {
        vf v = NAME(load_n)(at + i, n - i), t = (v_log(v * inverse) + lse) * (1 / cap);
        t = v_select(t < -1.0f, v_set1(-1), t);
        t = v_select(t > 1.0f, v_set1(1), t);
        NAME(store_n)(at + i, v * (1.0f - t * t), n - i);
    }
}
