/* optim/optim_table.c and its files: ten updates against ref/ and against mlx.optimizers, the gradient tree's
 * sum against a plain one, the same bits on any number of threads. */
#include "base/rng.h"
#include "optim/optim_table.h"
#include "options/options.h"
#include "ref/ref.h"
#include "tests/ref_check.h"
#include <jansson.h>

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

/* The optimizer over these tensors with memory behind it. */
static gr_arena bound(gr_optim *optim, const char *name, const gr_optim_config *config,
                      const gr_optim_tensor *tensors, int64_t count, int64_t parameters, gr_pool *pool) {
    graft_error err = {0};
    gr_arena counting = {0}, arena = {0};
    const gr_optim_row *row = gr_optim_find(name);
    assert_non_null(row);
    assert_int_equal(gr_optim_init(optim, row, config, tensors, count, parameters, NULL, &err), GRAFT_OK);
    gr_optim_bind(optim, &counting, pool);
    assert_int_equal(gr_arena_reserve(&arena, counting.used, &err), GRAFT_OK);
    gr_optim_bind(optim, &arena, pool);
    assert_false(arena.overflow);
    assert_int_equal(arena.used, counting.used);
    return arena;
}

/* Ten updates of `name`, with the reference beside it. `set` changes the settings. */
static void check(const char *name, const gr_optim_config *config, const ref_adam *adam) {
    gr_pool *pools[2] = {pool_of(1), pool_of(3)};
    gr_optim optim[2];
    gr_arena arena[2];
    /* two tensors: the second starts inside a piece */
    const gr_optim_tensor tensors[] = {{.at = 0, .rows = 99, .rate = 1},
                                       {.at = 99, .rows = N - 99, .rate = 1}};
    float *p[2];
    double *q = calloc(N, sizeof *q), *g = calloc(N, sizeof *g), *m = calloc(N, sizeof *m),
           *v = calloc(N, sizeof *v);
    for (int k = 0; k < 2; k++) {
        p[k] = vector(N, 1, 1);
        arena[k] = bound(&optim[k], name, config, tensors, 2, N, pools[k]);
        assert_int_equal(optim[k].nspans, 1);
    }
    for (int i = 0; i < N; i++) q[i] = (double)p[0][i];
    for (int update = 1; update <= 10; update++) {
        float *grad = vector(N, 10 + (uint64_t)update, 0.1f);
        double rate = 0.01 / update, clip = update % 3 ? 1 : 0.25;
        for (int k = 0; k < 2; k++) gr_optim_update(&optim[k], pools[k], p[k], grad, rate, clip, update);
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
        gr_optim_free(&optim[k]);
        gr_arena_free(&arena[k]);
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
    float p = 1, g = 1;
    gr_optim optim;
    const gr_optim_tensor one = {.rows = 1, .rate = 1};
    gr_arena arena = bound(&optim, "sgd", &c, &one, 1, 1, pool);
    gr_optim_update(&optim, pool, &p, &g, 0.5, 1, 1);
    assert_near((double)p, 0.5, 0);
    gr_optim_update(&optim, pool, &p, &g, 0.5, 1, 2);
    assert_near((double)optim.state[0][0], 1.25, 0);
    assert_near((double)p, 0.5 - 0.625, 0);
    optim.config = (gr_optim_config){.momentum = 0.5, .nesterov = true};
    p = 1, optim.state[0][0] = 0;
    gr_optim_update(&optim, pool, &p, &g, 0.5, 1, 1);
    assert_near((double)p, 1 - 0.5 * 1.5, 0);
    gr_optim_free(&optim);
    gr_arena_free(&arena);
    gr_pool_free(pool);
    assert_null(gr_optim_find("lion"));
    int count = 0;
#define NAME(word, called) assert_string_equal(gr_optim_table[count++].name, called);
    GR_OPTIM_MAP(NAME)
    assert_null(gr_optim_table[count].name);
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

/* ---- tensors as mlx.optimizers sees them */

enum { TENSORS = 3, LARGE = 700 * 500 }; /* the last is cut for the threads */

/* One golden run, its tensor stored as it is and, if it is a matrix, also as its transpose. */
static void check_golden(const json_t *runs, const char *run, const char *name, const gr_optim_config *config,
                         double bound_) {
    const json_t *golden = json_object_get(runs, run), *after = json_object_get(golden, "after");
    const json_t *shape = json_object_get(golden, "shape");
    int64_t rows = json_integer_value(json_array_get(shape, 0)),
            cols = json_integer_value(json_array_get(shape, 1));
    if (!shape) rows = 6, cols = 5; /* of the file */
    int64_t n = rows * (cols ? cols : 1);
    gr_pool *pool = pool_of(2);
    assert_non_null(after);
    for (int transposed = 0; transposed <= (cols > 0); transposed++) {
        gr_optim optim;
        const gr_optim_tensor x = {.at = 3,
                                   .rows = transposed ? cols : rows,
                                   .cols = transposed ? rows : cols,
                                   .transposed = transposed,
                                   .rate = 1};
        gr_arena arena = bound(&optim, name, config, &x, 1, n + 5, pool);
        float p[64] = {0}, g[64] = {0};
        int64_t place[64];
        size_t next = 0;
        for (int64_t i = 0; i < n; i++) place[i] = 3 + (transposed ? i % cols * rows + i / cols : i);
        for (int64_t i = 0; i < n; i++) p[place[i]] = (float)ref_formula("p", i);
        for (int k = 1; k <= 10; k++) {
            char gradient[8];
            snprintf(gradient, sizeof gradient, "g%d", k);
            for (int64_t i = 0; i < n; i++) g[place[i]] = 2 * (float)ref_formula(gradient, i);
            gr_optim_update(&optim, pool, p, g, gr_optim_rate(config, 0.01 * k / 10, k), 0.5, k);
            if (k != 1 && k != 2 && k != 10) continue;
            const json_t *values = json_array_get(after, next++);
            assert_int_equal(json_array_size(values), n);
            for (int64_t i = 0; i < n; i++)
                assert_near((double)p[place[i]], json_number_value(json_array_get(values, (size_t)i)),
                            bound_);
        }
        assert_true(p[0] == 0 && p[n + 3] == 0); /* what is not its own */
        gr_optim_free(&optim);
        gr_arena_free(&arena);
    }
    gr_pool_free(pool);
}

/* f32 against mlx in float64: p is below 1.1 and rounds twice an update, 20 * 2^-24 in all. The steps, 0.06
 * in all (muon's tall ones 0.09), carry some thirty roundings and mlx's constants in f32 (1e-7 relative).
 * Five iterations of Newton and Schulz, each a cubic with a slope up to 3.4, may make of 2^-22 some 450 times
 * as much: 1e-4 relative. */
static void as_mlx(void **state) {
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/optim.json", GRAFT_SOURCE_DIR);
    json_t *golden = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    const json_t *runs = json_object_get(golden, "runs");
    gr_optim_config c = {.epsilon = 1e-30, .scale_epsilon = 1e-3, .clip_threshold = 1, .decay_rate = -0.8};
    check_golden(runs, "mlx_adafactor", "adafactor", &c, 2e-6);
    c.scale_parameter = true;
    check_golden(runs, "mlx_adafactor_vector", "adafactor", &c, 2e-6);
    c.relative_step = true;
    check_golden(runs, "mlx_adafactor_default", "adafactor", &c, 2e-6);
    c.warmup_init = true;
    check_golden(runs, "mlx_adafactor_warmup", "adafactor", &c, 2e-6);
    c = (gr_optim_config){.epsilon = 1e-20,
                          .scale_epsilon = 0.8,
                          .clip_threshold = 0.7,
                          .decay_rate = -0.6,
                          .beta1 = 0.9,
                          .weight_decay = 0.02,
                          .scale_parameter = true};
    check_golden(runs, "mlx_adafactor_all", "adafactor", &c, 2e-6);
    c = (gr_optim_config){.momentum = 0.95, .weight_decay = 0.01, .nesterov = true, .ns_steps = 5};
    check_golden(runs, "mlx_muon_wide", "muon", &c, 1e-5);
    check_golden(runs, "mlx_muon_vector", "muon", &c, 2e-6);
    c.nesterov = false;
    check_golden(runs, "mlx_muon_plain", "muon", &c, 1e-5);
    c = (gr_optim_config){.momentum = 0.8, .nesterov = true, .ns_steps = 3};
    check_golden(runs, "mlx_muon_tall", "muon", &c, 1e-5);
    json_decref(golden);
}

/* A large tensor beside small ones: any number of threads gives the same bits. */
static void threads_agree(void **state) {
    (void)state;
    static const char *const names[] = {"adafactor", "muon"};
    const gr_optim_tensor x[TENSORS] = {{.rows = 8, .cols = 300, .transposed = true, .rate = 1},
                                        {.at = 2400, .rows = 77, .rate = 1},
                                        {.at = 2477, .rows = 700, .cols = 500, .rate = 1}};
    gr_optim_config c = {.beta1 = 0.5,
                         .epsilon = 1e-30,
                         .scale_epsilon = 1e-3,
                         .clip_threshold = 1,
                         .decay_rate = -0.8,
                         .scale_parameter = true,
                         .momentum = 0.9,
                         .ns_steps = 2};
    for (int k = 0; k < 2; k++) {
        float *first = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            gr_optim optim;
            gr_pool *pool = pool_of(threads);
            gr_arena arena = bound(&optim, names[k], &c, x, TENSORS, 2477 + LARGE, pool);
            float *p = vector(2477 + LARGE, 5, 1);
            for (int update = 1; update <= 2; update++) {
                float *g = vector(2477 + LARGE, 6 + (uint64_t)update, 0.1f);
                gr_optim_update(&optim, pool, p, g, 0.01, 0.5, update);
                free(g);
            }
            if (first) assert_memory_equal(first, p, (2477 + LARGE) * sizeof *p);
            if (first) free(p);
            if (!first) first = p;
            gr_optim_free(&optim);
            gr_arena_free(&arena);
            gr_pool_free(pool);
        }
        free(first);
    }
}

/* Adafactor's point: rows and columns of matrices instead of whole vectors. */
static void states_are_small(void **state) {
    (void)state;
    graft_error err = {0};
    gr_optim optim;
    gr_optim_config c = {.epsilon = 1e-30};
    const gr_optim_tensor x[] = {{.rows = 16, .cols = 576, .rate = 1}, {.at = 9216, .rows = 77, .rate = 1}};
    const gr_optim_row *row = gr_optim_find("adafactor");
    assert_int_equal(gr_optim_init(&optim, row, &c, x, 2, 9293, NULL, &err), GRAFT_OK);
    assert_int_equal(optim.state_floats[0], 16 + 576 + 77);
    assert_int_equal(optim.state_floats[1], 0);
    assert_int_equal(optim.tensors[1].stat, 16 + 576);
    gr_optim_free(&optim);
    c.beta1 = 0.9;
    assert_int_equal(gr_optim_init(&optim, row, &c, x, 2, 9293, NULL, &err), GRAFT_OK);
    assert_int_equal(optim.state_floats[1], 9293);
    gr_optim_free(&optim);
    assert_int_equal(gr_optim_init(&optim, row, &c, x, 2, 9292, NULL, &err), GRAFT_INTERNAL);
}

/* LoRA+: tensors with a rate and a decay of their own. */
static void rates_by_tensor(void **state) {
    (void)state;
    gr_pool *pool = pool_of(2);
    for (int k = 0; gr_optim_table[k].name; k++) {
        const gr_optim_row *row = &gr_optim_table[k];
        graft_options o;
        graft_options_init(&o);
        free(o.optimizer);
        o.optimizer = strdup(row->name);
        gr_options_optimizer_defaults(&o);
        gr_optim_config c = gr_optim_config_of(&o);
        c.weight_decay = 0.5;
        float p[2][24], g[2][24];
        for (int run = 0; run < 2; run++) {
            gr_optim optim;
            const gr_optim_tensor x[] = {
                {.rows = 2, .cols = 6, .rate = 1},
                {.at = 12, .rows = 3, .cols = 4, .rate = run ? 16 : 1, .no_decay = run == 1}};
            gr_arena arena = bound(&optim, row->name, &c, x, 2, 24, pool);
            for (int i = 0; i < 24; i++) p[run][i] = (float)sin(i), g[run][i] = (float)cos(i);
            gr_optim_update(&optim, pool, p[run], g[run], 0.01, 1, 1);
            gr_optim_free(&optim);
            gr_arena_free(&arena);
        }
        assert_memory_equal(p[0], p[1], 12 * sizeof(float));
        c.weight_decay = 0; /* the second alone, with that rate and without decay */
        gr_optim optim;
        const gr_optim_tensor alone = {.rows = 3, .cols = 4, .rate = 1};
        gr_arena arena = bound(&optim, row->name, &c, &alone, 1, 12, pool);
        float q[12], h[12];
        for (int i = 0; i < 12; i++) q[i] = (float)sin(i + 12), h[i] = (float)cos(i + 12);
        gr_optim_update(&optim, pool, q, h, 0.16, 1, 1);
        assert_memory_equal(q, p[1] + 12, sizeof q);
        assert_memory_not_equal(p[0] + 12, p[1] + 12, sizeof q);
        gr_optim_free(&optim);
        gr_arena_free(&arena);
        graft_options_free(&o);
    }
    gr_pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_updates),      cmocka_unit_test(sgd_by_hand),
        cmocka_unit_test(collected),        cmocka_unit_test(settings),
        cmocka_unit_test(as_mlx),           cmocka_unit_test(threads_agree),
        cmocka_unit_test(states_are_small), cmocka_unit_test(rates_by_tensor),
    };
    return cmocka_run_group_tests_name("optim", tests, NULL, NULL);
}
