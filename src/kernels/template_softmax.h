/* kernels/template_softmax.h - softmax rows of attention.
 * Included once per isa_*.c and mode.
 */

static float NAME(softmax_block)(void *p, const float *s, int n, int lo, int hi, float scale, float *max,
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

static void NAME(softmax_block_back)(void *p, void *ds, const float *s, const float *dp, int n, int lo,
                                     int hi, float scale, float lse, float delta) {
    for (int i = 0; i < n; i += VL) {
        vf e = {0}, d = {0};
        if (i < hi && i + VL > lo) {
            e = v_between(v_exp(v_load_n(s + i, n - i) * scale - lse), i, lo, hi, 0);
            d = v_between(e * scale * (v_load_n(dp + i, n - i) - delta), i, lo, hi, 0);
        }
        NAME(store_n)((act_t *)p + i, e, n - i);
        NAME(store_n)((act_t *)ds + i, d, n - i);
    }
}
