/* net/ against ref/: loss and every LoRA gradient of small models, for each architecture's traits, every
 * instruction set that this machine has and both modes; then what must not change a bit: threads, recompute,
 * slices of a batch.
 *
 * Tolerances. fp32: a value passes L*12 roundings of products of length K; relative error of a tensor's norm
 * about sqrt(K) * 2^-24 * depth = 1e-5 for K 128 and depth 60; 1e-4 leaves room for cancellation. bf16:
 * storage rounds each activation by 2^-9 relative; about 12 roundings per block in both directions, two
 * blocks: sqrt(48) * 2^-9 = 1.4e-2 of a tensor's norm; 6e-2 leaves room for the adapters' small products. A
 * wrong formula shows at 1e-1 or more.
 */
#include "tests/ref_check.h"
#include "tests/tiny_net.h"

static const ref_rope_llama3_scaling llama3 = {8, 1, 4, 32};

static ref_tiny llama(void) {
    return (ref_tiny){.vocab = 130,
                      .hidden = 64,
                      .layers = 2,
                      .heads = 4,
                      .kv_heads = 2,
                      .head_dim = 16,
                      .mlp = 128,
                      .rank = 4,
                      .scale = 2,
                      .eps = 1e-5,
                      .theta = 10000};
}

static ref_tiny traits(int which) {
    ref_tiny s = llama();
    if (which == 1) s.tied = true, s.llama3 = &llama3;
    if (which == 2) s.window = 5;
    if (which == 3) s.qkv_bias = true, s.kv_heads = 1;
    if (which == 4) s.qk_norm = true, s.head_dim = 32;
    if (which == 5) s.window = 150, s.head_dim = 80, s.heads = 2;
    return s;
}

enum { MAX = 400 };
typedef struct rows {
    int cu[8], ids[MAX], mask[MAX], target[MAX];
    ref_batch batch;
} rows;

static void make_rows(rows *r, const int *lengths, int count, int vocab) {
    uint32_t x = 12345;
    r->cu[0] = 0;
    for (int i = 0; i < count; i++) r->cu[i + 1] = r->cu[i] + lengths[i];
    for (int t = 0; t < r->cu[count]; t++) {
        x = x * 1664525 + 1013904223;
        r->ids[t] = (int)((x >> 8) % (uint32_t)vocab);
        r->mask[t] = (x >> 4) % 4 != 0;
    }
    ref_targets(r->target, r->ids, r->mask, r->cu, count);
    r->batch = (ref_batch){
        .rows = count, .tokens = r->cu[count], .cu_seqlens = r->cu, .ids = r->ids, .target = r->target};
}

static double distance(const double *truth, const float *found, long n, double *norm) {
    double d = 0, w = 0;
    for (long i = 0; i < n; i++) {
        d += (truth[i] - (double)found[i]) * (truth[i] - (double)found[i]);
        w += truth[i] * truth[i];
    }
    *norm = sqrt(w);
    return sqrt(d);
}

/* Every tensor of the adapter within `limit` of its own norm. */
static void compare_gradients(const tiny_net *n, const float *grad, double limit, const char *what) {
    for (int l = 0; l < n->spec.layers; l++)
        for (int i = 0; i < GR_LINEARS; i++) {
            const ref_linear *r = &n->ref->blocks[l].linear[i];
            const gr_tuned *x = &n->rt.tuning->block[l][i];
            double norm, d = distance(r->da, grad + x->a, (long)r->rank * r->in, &norm);
            if (!(d <= limit * norm))
                fail_msg("%s: layer %d linear %d dA: off by %.2e of %.2e", what, l, i, d, norm);
            d = distance(r->db, grad + x->b, (long)r->rank * r->out, &norm);
            if (!(d <= limit * norm))
                fail_msg("%s: layer %d linear %d dB: off by %.2e of %.2e", what, l, i, d, norm);
        }
}

static void against_ref(int which, int bits, int group, const char *isa, bool fp32, const int *lengths,
                        int count) {
    tiny_net n;
    rows r;
    char what[200];
    snprintf(what, sizeof what, "traits %d, %d bits, %s %s, %d rows", which, bits, isa,
             fp32 ? "fp32" : "bf16", count);
    tiny_open(&n, traits(which), bits, group, isa, fp32, 2);
    make_rows(&r, lengths, count, n.spec.vocab);
    ref_run *run = ref_run_new(n.ref, r.batch.tokens);
    double truth = ref_model_forward(run, n.ref, &r.batch);
    ref_model_backward(run, n.ref, &r.batch);
    float *grad = tiny_keep(&n, (size_t)n.rt.tuning->parameters * sizeof *grad);
    double loss = tiny_step(&n, &r.batch, count, false, grad), limit = fp32 ? 1e-4 : 6e-2;
    if (!(fabs(loss - truth) <= (fp32 ? 2e-6 : 2e-3) * truth))
        fail_msg("%s: loss %.9g, ref %.9g", what, loss, truth);
    compare_gradients(&n, grad, limit, what);
    ref_run_free(run);
    tiny_close(&n);
}

static void each_isa(void (*check)(const char *isa, bool fp32)) {
    for (const gr_isa *isa = gr_isa_table; isa->name; isa++)
        if (isa->available()) {
            check(isa->name, true);
            check(isa->name, false);
        }
}

static const int short_rows[] = {7, 1, 12}, long_rows[] = {300, 40};

static void short_batch(const char *isa, bool fp32) {
    for (int which = 0; which < 5; which++) against_ref(which, 0, 0, isa, fp32, short_rows, 3);
}

static void long_batch(const char *isa, bool fp32) {
    against_ref(0, 0, 0, isa, fp32, long_rows, 2);
    against_ref(5, 0, 0, isa, fp32, long_rows, 2);
}

static void quantized_batch(const char *isa, bool fp32) {
    static const int combos[][2] = {{4, 64}, {4, 32}, {3, 64}, {8, 32}};
    for (int i = 0; i < 4; i++) against_ref(1, combos[i][0], combos[i][1], isa, fp32, short_rows, 3);
}

static void test_architectures(void **state) {
    (void)state;
    each_isa(short_batch);
}

static void test_long_rows(void **state) {
    (void)state;
    each_isa(long_batch);
}

static void test_quantized(void **state) {
    (void)state;
    each_isa(quantized_batch);
}

/* The same step under two ways of computing it gives the same bits. */
static void same_bits(const char *isa, bool fp32) {
    static const int lengths[] = {33, 150, 5, 64, 18};
    static const struct {
        int threads, at_once;
        bool recompute;
    } ways[] = {{1, 5, false}, {2, 5, false}, {3, 5, true}, {2, 1, false}, {1, 2, true}};
    float *first = NULL;
    double first_loss = 0;
    size_t bytes = 0;
    for (int w = 0; w < 5; w++) {
        tiny_net n;
        rows r;
        tiny_open(&n, traits(1), 4, 64, isa, fp32, ways[w].threads);
        make_rows(&r, lengths, 5, n.spec.vocab);
        bytes = (size_t)n.rt.tuning->parameters * sizeof(float);
        float *grad = malloc(bytes);
        assert_non_null(grad);
        double loss = tiny_step(&n, &r.batch, ways[w].at_once, ways[w].recompute, grad);
        if (w == 0) first = grad, first_loss = loss;
        if (w && (memcmp(first, grad, bytes) != 0 || loss != first_loss))
            fail_msg("%s fp32 %d: way %d gives other bits", isa, fp32, w);
        if (w) free(grad);
        tiny_close(&n);
    }
    free(first);
}

static void test_same_bits(void **state) {
    (void)state;
    each_isa(same_bits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_architectures),
        cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_quantized),
        cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
