/* kernels/template_burst.h - multiply-adds from registers alone: the peak that a tile can be compared with.
 * Included once per isa_*.c after it defines BURST_CHAINS: independent sums, enough to hide the latency.
 */

static double burst(int64_t loops) {
    volatile float start = 0.5f; /* hides the values from the compiler */
    vf a = v_set1(start), b = v_set1(start), c[BURST_CHAINS];
    UNROLL
    for (int i = 0; i < BURST_CHAINS; i++) c[i] = v_set1(start); /* read anew: equal chains would merge */
    for (int64_t l = 0; l < loops; l++) {
        UNROLL
        for (int i = 0; i < BURST_CHAINS; i++) c[i] = v_fma(c[i], a, b);
    }
    vf sum = c[0];
    UNROLL
    for (int i = 1; i < BURST_CHAINS; i++) sum += c[i];
    start = v_sum(sum);
    return 2.0 * VL * BURST_CHAINS * (double)loops;
}
