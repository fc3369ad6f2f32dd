/* train/optim_table.c: ten updates against ref/, the gradient tree's sum against a plain one, the same bits
 * on any number of threads. */
#include "base/rng.h"
#include "ref/ref.h"
#include "tests/ref_check.h"
#include "train/optim_table.h"
#include "train/options.h"

enum { N = 16384 * 2 + 37, SLOTS = 5 }; /* over a piece's end, and odd */

static float *vector(int64_t n, uint64_t stream, float scale) {
    gr_rng rng;
    float *x = calloc((size_t)n, sizeof *x);
    assert_non_null(x);
    gr_rng_seed(&rng, 3, stream);
    for (int64_t i = 0; i < n; i++) x[i] = scale * (float)(2 * gr_rng_uniform(&rng) - 1);
    return x;
}

static gr_pool *pool_of(int threads) {
    gr_pool *pool = NULL;
    graft_error err = {0};
    assert_int_equal(gr_pool_new(&pool, threads, &err), GRAFT_OK);
    return pool;
}

/* Ten updates of `name`, with the reference beside it. `set` changes the settings. */
static void check(const char *name, const gr_optim_config *config, const ref_adam *adam) {
    const gr_optim_row *row = gr_optim_find(name);
    gr_pool *pools[2] = {pool_of(1), pool_of(3)};
    float *p[2], *state[2][2];
    double *q = calloc(N, sizeof *q), *g = calloc(N, sizeof *g), *m = calloc(N, sizeof *m),
           *v = calloc(N, sizeof *v);
    assert_non_null(row);
    for (int k = 0; k < 2; k++) {
        p[k] = vector(N, 1, 1);
        for (int s = 0; s < 2; s++) state[k][s] = calloc(N, sizeof(float));
    }
    for (int i = 0; i < N; i++) q[i] = (double)p[0][i];
    for (int update = 1; update <= 10; update++) {
        float *grad = vector(N, 10 + (uint64_t)update, 0.1f);
        double rate = 0.01 / update, clip = update % 3 ? 1 : 0.25;
        for (int k = 0; k < 2; k++) {
            gr_optim_step step = {.config = config,
                                  .params = p[k],
                                  .grad = grad,
                                  .state = {state[k][0], state[k][1]},
                                  .rate = rate,
                                  .clip = clip,
                                  .update = update};
            gr_optim_apply(pools[k], row, &step, N);
        }
        for (int i = 0; i < N; i++) g[i] = (double)grad[i] * clip;
        if (adam) {
            if (strcmp(name, "adam") == 0) /* its decay is a part of the gradient */
                for (int i = 0; i < N; i++) g[i] += config->weight_decay * q[i];
            ref_adam_step(q, g, m, v, N, update, rate, adam);
        } else {
            ref_sgd_step(q, g, v, N, rate, config->momentum, config->weight_decay);
        }
        free(grad);
    }
    assert_memory_equal(p[0], p[1], N * sizeof(float));
    /* p is below 1.04. An update rounds the factor of the decay, its product with p and the difference by
     * 2^-25 each: ten of them 15 * 2^-24. The steps, 0.03 in all, carry a dozen relative roundings: 0.4 *
     * 2^-24. */
    for (int i = 0; i < N; i++) assert_near((double)p[0][i], q[i], 1.04 * 16 * 0x1p-24);
    for (int k = 0; k < 2; k++) {
        gr_pool_free(pools[k]);
        free(p[k]);
        free(state[k][0]);
        free(state[k][1]);
    }
    free(q);
    free(g);
    free(m);
    free(v);
}

static void ten_updates(void **state) {
    (void)state;
    gr_optim_config c = {
        .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01, .bias_correction = true};
    check("adamw", &c, &(ref_adam){0.9, 0.999, 1e-8, 0.01, true});
    c.bias_correction = false; /* as mlx-lm's configurations have it */
    check("adamw", &c, &(ref_adam){0.9, 0.999, 1e-8, 0.01, false});
    c.bias_correction = true;
    c.weight_decay = 0.05;
    c.beta1 = 0.8, c.beta2 = 0.95, c.epsilon = 1e-6;
    check("adam", &c, &(ref_adam){0.8, 0.95, 1e-6, 0, true});
    c = (gr_optim_config){.momentum = 0.9, .weight_decay = 0.01};
    check("sgd", &c, NULL);
    c.momentum = 0;
    check("sgd", &c, NULL);
}

/* torch: velocity starts as the gradient, later ones enter times (1 - dampening); Nesterov looks ahead. */
static void sgd_by_hand(void **state) {
    (void)state;
    gr_pool *pool = pool_of(1);
    gr_optim_config c = {.momentum = 0.5, .dampening = 0.25, .nesterov = false};
    float p = 1, v = 0, g = 1;
    gr_optim_step step = {
        .config = &c, .params = &p, .grad = &g, .state = {&v}, .rate = 0.5, .clip = 1, .update = 1};
    gr_optim_apply(pool, gr_optim_find("sgd"), &step, 1);
    assert_near((double)p, 0.5, 0);
    step.update = 2;
    gr_optim_apply(pool, gr_optim_find("sgd"), &step, 1);
    assert_near((double)v, 1.25, 0);
    assert_near((double)p, 0.5 - 0.625, 0);
    c = (gr_optim_config){.momentum = 0.5, .nesterov = true};
    p = 1, v = 0, step.update = 1;
    gr_optim_apply(pool, gr_optim_find("sgd"), &step, 1);
    assert_near((double)p, 1 - 0.5 * 1.5, 0);
    gr_pool_free(pool);
    assert_null(gr_optim_find("lion"));
}

static void collected(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 37, 16384, N,
                                    16384 * 256 + 5}; /* the last: more than one round of pieces */
    static const uint64_t rows[] = {1, 2, 5, 6, 31, 0};
    gr_pool *one = pool_of(1), *three = pool_of(3);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        float *slots[SLOTS], *a = calloc((size_t)n, sizeof *a), *b = calloc((size_t)n, sizeof *b);
        for (int i = 0; i < SLOTS; i++) slots[i] = vector(n, 50 + (uint64_t)i, 1);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            if (n > N && r > 2) continue; /* time */
            double x = gr_optim_collect(one, a, slots, rows[r], 7, n), norm = 0, largest = 0;
            double y = gr_optim_collect(three, b, slots, rows[r], 7, n);
            assert_memory_equal(&x, &y, sizeof x);
            assert_memory_equal(a, b, (size_t)n * sizeof *a);
            for (int64_t i = 0; i < n; i++) {
                double sum = 0;
                for (int level = 0; level < SLOTS; level++)
                    if (rows[r] >> level & 1) sum += (double)slots[level][i];
                norm += sum / 7 * sum / 7;
                largest = fmax(largest, fabs((double)a[i] - sum / 7));
            }
            /* four additions and a product: each value is below 5 */
            assert_true(largest <= 6 * 5 * 0x1p-24);
            assert_near(x, sqrt(norm), 1e-6 * sqrt(norm) + 1e-300);
        }
        for (int i = 0; i < SLOTS; i++) free(slots[i]);
        free(a);
        free(b);
    }
    gr_pool_free(one);
    gr_pool_free(three);
}

/* What the options leave open takes torch's defaults. */
static void settings(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    gr_optim_config c = gr_optim_config_of(&o);
    assert_near(c.beta1, 0.9, 0);
    assert_near(c.beta2, 0.999, 0);
    assert_near(c.epsilon, 1e-8, 0);
    assert_near(c.weight_decay, 0.01, 0);
    assert_near(c.momentum, 0, 0);
    assert_true(c.bias_correction);
    o.beta1 = 0.5;
    o.momentum = 0.9;
    c = gr_optim_config_of(&o);
    assert_near(c.beta1, 0.5, 0);
    assert_near(c.momentum, 0.9, 0);
    graft_options_free(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_updates),
        cmocka_unit_test(sgd_by_hand),
        cmocka_unit_test(collected),
        cmocka_unit_test(settings),
    };
    return cmocka_run_group_tests_name("optim", tests, NULL, NULL);
}
