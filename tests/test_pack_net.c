/* Packs in net/: loss and every gradient are those of the rows one by one (ref/ adds them in double), nothing
 * of one segment reaches another, and the way of computing changes no bit. Tolerances: tests/tiny_kinds.h. */
#include "tests/ref_check.h"
#include "tests/tiny_kinds.h"

static const int lengths[] = {7, 1, 12, 5, 9}, longer[] = {130, 3, 64, 150, 18};

/* Three rows a pack and two; everything in one; against ref, which never packs. */
static void against_ref(const char *isa, bool fp32) {
    for (tiny_per_pack = 3; tiny_per_pack <= 5; tiny_per_pack += 2) {
        for (int which = 0; which < 6; which++) {
            tiny_net n;
            rows r;
            char what[100];
            tiny_open(&n, traits(which), which == 1 ? 4 : 0, 64, isa, fp32, 2);
            make_rows(&r, which == 5 ? longer : lengths, 5, n.spec.vocab);
            snprintf(what, sizeof what, "traits %d, %s, %d rows a pack", which, isa, tiny_per_pack);
            compare_step(&n, &r, fp32, what);
            tiny_close(&n);
        }
        for (int kind = 0; kind < KINDS; kind++) {
            tiny_net n;
            rows r;
            char what[100];
            open_kind(&n, &r, lengths, 5, kind, 0, isa, fp32, 2);
            snprintf(what, sizeof what, "kind %d, %s, %d rows a pack", kind, isa, tiny_per_pack);
            compare_step(&n, &r, fp32, what);
            tiny_close(&n);
        }
    }
    tiny_per_pack = 1;
}

/* Families of other layers, in packs that are longer than their windows. */
static void families(const char *isa, bool fp32) {
    tiny_per_pack = 3;
    for (int which = FAMILIES; which < FAMILIES_END; which++) {
        tiny_net n;
        rows r;
        char what[100];
        tiny_open(&n, traits(which), 0, 64, isa, fp32, 2);
        make_rows(&r, lengths, 5, n.spec.vocab);
        snprintf(what, sizeof what, "family %d, %s", which, isa);
        compare_step(&n, &r, fp32, what);
        tiny_close(&n);
    }
    tiny_per_pack = 1;
}

static void test_families(void **state) {
    (void)state;
    with_best(families);
}

static void test_against_ref(void **state) {
    (void)state;
    each_isa(against_ref);
}

/* What trains at the ends, whose gradient is a leaf by itself too; packs longer than a tile of the head. */
static void test_ends(void **state) {
    (void)state;
    static const int ways[] = {TINY_ENDS | TINY_NORMS, TINY_EMBED | TINY_NORMS, TINY_EMBED | TINY_HEAD};
    tiny_per_pack = 3;
    for (int tied = 0; tied < 2; tied++)
        for (int i = 0; i < 3; i++) {
            tiny_net n;
            rows r;
            ref_tiny s = traits(tied);
            s.rank = 0;
            s.end_rank = ways[i] & TINY_ENDS ? 3 : 0;
            s.train_all = true;
            tiny_open_with(&n, s, 0, 0, gr_isa_table[0].name, true, 2, ways[i]);
            make_rows(&r, longer, 5, s.vocab);
            compare_step(&n, &r, true, tied ? "tied" : "untied");
            tiny_close(&n);
        }
    tiny_per_pack = 1;
}

/* Packed and not, in the same arithmetic: f32 sums of up to K = 365 terms in another order. Each gradient's
 * element is a sum of K products, rounded K times at most: K * 2^-24 of the sum of magnitudes, which for a
 * whole tensor is a few times its norm; the limit is sqrt(K) * 2^-24 * 100, about 1e-4. */
static void test_same_as_unpacked(void **state) {
    (void)state;
    for (int kind = RANKS; kind < KINDS; kind++) {
        if (kind == DROPOUT || kind == EVERYTHING || kind == POOLED)
            continue; /* packs have masks of their own */
        float *grad[2];
        double loss[2], d = 0, norm = 0;
        int64_t count = 0;
        for (int packed = 0; packed < 2; packed++) {
            tiny_net n;
            rows r;
            tiny_per_pack = packed ? 5 : 1;
            open_kind(&n, &r, longer, 5, kind, 0, gr_isa_table[0].name, true, 1);
            count = n.rt.tuning->parameters;
            grad[packed] = malloc((size_t)count * sizeof(float));
            assert_non_null(grad[packed]);
            loss[packed] = tiny_step(&n, &r.batch, 5, GR_RECOMPUTE_NONE, grad[packed]);
            tiny_close(&n);
        }
        tiny_per_pack = 1;
        assert_true(loss[0] == loss[1]); /* a token's loss does not depend on what else is in the batch */
        for (int64_t i = 0; i < count; i++) {
            double a = (double)grad[0][i], b = (double)grad[1][i];
            d += (a - b) * (a - b);
            norm += a * a;
        }
        if (!(sqrt(d) <= 1e-4 * sqrt(norm))) fail_msg("kind %d: %.2e of %.2e", kind, sqrt(d), sqrt(norm));
        free(grad[0]);
        free(grad[1]);
    }
}

/* Losses of all targets of one pack of five rows. */
static int64_t losses(tiny_net *n, const rows *r, double out[MAX]) {
    int64_t start[] = {0, r->cu[5]}, segment[6];
    for (int i = 0; i <= 5; i++) segment[i] = r->cu[i];
    gr_batch batch = {.ids = r->ids,
                      .target = r->target,
                      .start = start,
                      .nrows = 1,
                      .tokens = r->cu[5],
                      .segment = segment,
                      .nsegments = 5};
    gr_net_forward(&n->rt.net, &batch);
    int64_t count = gr_net_loss(&n->rt.net, &batch, NULL);
    for (int64_t i = 0; i < count; i++) out[i] = n->rt.net.targets[i].loss;
    return count;
}

/* Other tokens in one segment: not a bit changes in the losses of the others, whatever comes before. */
static void leaks(const char *isa, bool fp32) {
    for (int which = 0; which < FAMILIES_END; which++) {
        if (which == 6) which = FAMILIES;
        tiny_net n;
        rows r;
        double before[MAX], after[MAX];
        graft_error err = {0};
        tiny_open(&n, traits(which), 4, 64, isa, fp32, 2);
        make_rows(&r, longer, 5, n.spec.vocab);
        gr_net_config config = {.tokens = r.cu[5], .longest = 150};
        assert_int_equal(gr_runtime_bind(&n.rt, &config, &err), GRAFT_OK);
        int64_t count = losses(&n, &r, before);
        for (int changed = 0; changed < 5; changed++) {
            rows other = r;
            for (int t = r.cu[changed]; t < r.cu[changed + 1]; t++)
                other.ids[t] = (r.ids[t] + 1 + t % 7) % n.spec.vocab; /* the targets stay */
            assert_int_equal(losses(&n, &other, after), count);
            int differ = 0;
            for (int64_t t = 0, i = 0; t < r.cu[5]; t++) {
                if (r.target[t] < 0) continue;
                bool own = t >= r.cu[changed] && t < r.cu[changed + 1];
                if (!own && before[i] != after[i])
                    fail_msg("%s, traits %d: segment %d reaches token %lld", isa, which, changed,
                             (long long)t);
                differ += before[i] != after[i];
                i++;
            }
            if (r.cu[changed + 1] - r.cu[changed] > 3) assert_true(differ > 0);
        }
        tiny_close(&n);
    }
}

static void test_no_leak(void **state) {
    (void)state;
    each_isa_bits(leaks);
}

/* Threads, recompute and slices of the batch of packs. */
static void same_bits(const char *isa, bool fp32) {
    static const step_way ways[] = {{1, 3, GR_RECOMPUTE_NONE},  {2, 3, GR_RECOMPUTE_NONE},
                                    {3, 3, GR_RECOMPUTE_LAYER}, {2, 1, GR_RECOMPUTE_LAYER},
                                    {1, 2, GR_RECOMPUTE_MLP},   {2, 1, GR_RECOMPUTE_MLP}};
    tiny_per_pack = 2;
    for (int kind = 0; kind < KINDS; kind++)
        same_bits_each_way(longer, 5, kind, kind == WEIGHTS || kind == EVERYTHING ? 0 : 4, isa, fp32, ways,
                           sizeof ways / sizeof *ways);
    tiny_per_pack = 1;
}

static void test_same_bits(void **state) {
    (void)state;
    each_isa_bits(same_bits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_ref), cmocka_unit_test(test_families),
        cmocka_unit_test(test_ends),        cmocka_unit_test(test_same_as_unpacked),
        cmocka_unit_test(test_no_leak),     cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
