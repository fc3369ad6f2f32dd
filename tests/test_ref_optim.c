/* The optimizers, clipping and rate schedules of ref/, by hand. */
#include "ref/ref.h"
#include "tests/ref_check.h"
#include <jansson.h>

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

/* tests/golden/optim.json: ten steps of torch and mlx on formula values (tools/make_optim_golden.py). */
enum { VALUES = 30, STEPS = 10 };
typedef void (*step_fn)(double *p, const double *g, double *m, double *v, int k, double rate);

static void check_optimizer(const char *name, step_fn step, double bound) {
    char path[512], gradient[8];
    snprintf(path, sizeof path, "%s/tests/golden/optim.json", GRAFT_SOURCE_DIR);
    json_t *golden = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    const json_t *kept = json_object_get(golden, "kept_steps");
    const json_t *after = json_object_get(json_object_get(json_object_get(golden, "runs"), name), "after");
    assert_int_equal(json_array_size(after), 3);
    double p[VALUES], g[VALUES], m[VALUES] = {0}, v[VALUES] = {0};
    size_t next = 0;
    for (int i = 0; i < VALUES; i++) p[i] = ref_formula("p", i);
    for (int k = 1; k <= STEPS; k++) {
        snprintf(gradient, sizeof gradient, "g%d", k);
        for (int i = 0; i < VALUES; i++) g[i] = ref_formula(gradient, i);
        step(p, g, m, v, k, 0.01 * k / 10);
        if (json_integer_value(json_array_get(kept, next)) != k) continue;
        const json_t *values = json_array_get(after, next++);
        assert_int_equal(json_array_size(values), VALUES);
        for (int i = 0; i < VALUES; i++)
            assert_near(p[i], json_number_value(json_array_get(values, (size_t)i)), bound);
    }
    assert_int_equal(next, 3);
    json_decref(golden);
}

static void adamw(double *p, const double *g, double *m, double *v, int k, double rate) {
    ref_adam o = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .bias_correction = true};
    ref_adam_step(p, g, m, v, VALUES, k, rate, &o);
}

static void adam(double *p, const double *g, double *m, double *v, int k, double rate) {
    ref_adam o = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .bias_correction = true};
    ref_adam_step(p, g, m, v, VALUES, k, rate, &o);
}

static void adam_uncorrected(double *p, const double *g, double *m, double *v, int k, double rate) {
    ref_adam o = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    ref_adam_step(p, g, m, v, VALUES, k, rate, &o);
}

static void sgd(double *p, const double *g, double *m, double *v, int k, double rate) {
    (void)v, (void)k;
    ref_sgd_step(p, g, m, VALUES, rate, 0.9, 0.01);
}

/* torch runs in float64. mlx rounds its constants to float32, 1e-7 relative: its uncorrected steps are up
 * to 3.2 times the rate, 10 of them 0.2 in all, and 1 - 0.999 is off by 1e-5 relative: 1e-5 * 0.2 / 2 = 1e-6.
 */
static void test_optimizers_as_torch_and_mlx(void **state) {
    (void)state;
    check_optimizer("adamw", adamw, 1e-14);
    check_optimizer("adam", adam, 1e-14);
    check_optimizer("sgd", sgd, 1e-14);
    check_optimizer("mlx_sgd", sgd, 1e-7);
    check_optimizer("mlx_adamw_corrected", adamw, 1e-6);
    check_optimizer("mlx_adam_uncorrected", adam_uncorrected, 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adam_first_steps),
        cmocka_unit_test(test_optimizers_as_torch_and_mlx),
        cmocka_unit_test(test_clip),
        cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
