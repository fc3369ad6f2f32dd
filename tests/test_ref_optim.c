/* The optimizers, clipping and rate schedules of ref/, by hand. */
#include "ref/ref.h"
#include "tests/ref_check.h"

static void test_adam_first_steps(void **state) {
    (void)state;
    double p = 1, g = 0.5, m = 0, v = 0;
    ref_adam o = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .bias_correction = true};
    ref_adam_step(&p, &g, &m, &v, 1, 1, 0.1, &o);
    assert_near(p, 1 - 0.001 - 0.1 * 0.5 / (0.5 + 1e-8), 1e-14); /* corrected: the first step is the rate */
    p = 1, m = 0, v = 0, o.bias_correction = false, o.weight_decay = 0;
    ref_adam_step(&p, &g, &m, &v, 1, 1, 0.1, &o);
    assert_near(p, 1 - 0.1 * 0.05 / (sqrt(0.00025) + 1e-8), 1e-14);
    double q = 1, velocity = 0;
    ref_sgd_step(&q, &g, &velocity, 1, 0.1, 0.9, 0);
    ref_sgd_step(&q, &g, &velocity, 1, 0.1, 0.9, 0);
    assert_near(q, 1 - 0.1 * 0.5 - 0.1 * 0.95, 1e-15);
}

static void test_clip(void **state) {
    (void)state;
    double a[2] = {3, 0}, b[1] = {4};
    double *const g[] = {a, b};
    const long sizes[] = {2, 1};
    assert_near(ref_clip(g, sizes, 2, 10), 5, 1e-15);
    assert_near(a[0], 3, 0);
    assert_near(ref_clip(g, sizes, 2, 1), 5, 1e-15);
    assert_near(a[0], 3 / (5 + 1e-6), 1e-15);
    assert_near(b[0], 4 / (5 + 1e-6), 1e-15);
    assert_near(ref_clip(g, sizes, 2, 0), 5 / (5 + 1e-6), 1e-15);
    assert_near(b[0], 4 / (5 + 1e-6), 1e-15);
}

static void test_schedules(void **state) {
    (void)state;
    static const double linear[] = {0.5, 1, 1, 0.75, 0.5, 0.25};
    for (int k = 1; k <= 6; k++) {
        assert_near(ref_rate(REF_LINEAR, 1, 2, 6, k), linear[k - 1], 1e-15);
        assert_near(ref_rate(REF_CONSTANT, 3, 2, 6, k), k < 2 ? 1.5 : 3, 1e-15);
    }
    assert_near(ref_rate(REF_COSINE, 2, 0, 4, 1), 2, 1e-15);
    assert_near(ref_rate(REF_COSINE, 2, 0, 4, 3), 1, 1e-15);
    assert_near(ref_rate(REF_COSINE, 2, 2, 6, 4), 1 + sqrt(0.5), 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adam_first_steps),
        cmocka_unit_test(test_clip),
        cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
