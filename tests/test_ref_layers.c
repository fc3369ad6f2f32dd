/* The layers of ref/: every backward against central differences of its forward, and forward by hand. */
#include "ref/ref.h"
#include "tests/ref_check.h"

static double next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) / 9007199254740992.0 * 2 - 1;
}

static double *randoms(uint64_t seed, long n) {
    double *p = malloc((size_t)(n + 1) * sizeof *p);
    assert_non_null(p);
    for (long i = 0; i < n; i++) p[i] = next_random(&seed);
    return p;
}

static double *zeros(long n) {
    double *p = calloc((size_t)n + 1, sizeof *p);
    assert_non_null(p);
    return p;
}

static double weighted(const double *y, const double *weight, long n) {
    double sum = 0;
    for (long i = 0; i < n; i++) sum += y[i] * weight[i];
    return sum;
}

typedef struct linear_case {
    ref_linear l;
    double *x, *y, *xa, *weight;
    int tokens;
} linear_case;

static double linear_value(void *context) {
    linear_case *c = context;
    ref_linear_forward(c->y, c->xa, c->x, &c->l, c->tokens);
    return weighted(c->y, c->weight, (long)c->tokens * c->l.out);
}

static void check_linear(int rank, bool bias, bool dropout, int pool) {
    enum { IN = 8, OUT = 5, T = 3 };
    linear_case c = {.tokens = T, .x = randoms(1, T * IN), .y = zeros(T * OUT), .xa = zeros((long)T * rank)};
    c.weight = randoms(2, T * OUT);
    c.l = (ref_linear){
        .in = IN, .out = OUT, .rank = rank, .pool = pool, .scale = 1.5, .w = randoms(3, IN * OUT)};
    const long columns = pool > 0 ? IN / pool : IN;
    c.l.dw = zeros(IN * OUT);
    if (bias) c.l.bias = randoms(4, OUT), c.l.dbias = zeros(OUT);
    if (rank > 0) {
        c.l.a = randoms(5, rank * columns), c.l.da = zeros(rank * columns);
        c.l.b = randoms(6, (long)rank * OUT), c.l.db = zeros((long)rank * OUT);
    }
    double *drop = zeros(T * IN), *dx = zeros(T * IN);
    for (int i = 0; i < T * IN; i++) drop[i] = i % 3 ? 1.5 : 0;
    if (dropout) c.l.drop = drop;
    linear_value(&c);
    ref_linear_backward(dx, c.weight, c.x, c.xa, &c.l, T);
    check_gradient("linear dx", c.x, dx, T * IN, 1, linear_value, &c);
    check_gradient("linear dw", c.l.w, c.l.dw, IN * OUT, 1, linear_value, &c);
    if (bias) check_gradient("linear dbias", c.l.bias, c.l.dbias, OUT, 1, linear_value, &c);
    if (rank > 0) {
        check_gradient("linear dA", c.l.a, c.l.da, rank * columns, 1, linear_value, &c);
        check_gradient("linear dB", c.l.b, c.l.db, (long)rank * OUT, 1, linear_value, &c);
    }
    double *all[] = {c.x,       c.y,   c.xa,   c.weight, c.l.w,  c.l.dw, c.l.bias,
                     c.l.dbias, c.l.a, c.l.da, c.l.b,    c.l.db, dx,     drop};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
}

static void test_linear(void **state) {
    (void)state;
    check_linear(0, false, false, 0);
    check_linear(0, true, false, 0);
    check_linear(2, false, false, 0);
    check_linear(3, true, false, 0);
    check_linear(3, true, true, 0);
    check_linear(3, true, true, 4);
}

/* y against the formula written out once: W + scale * B^T A as one matrix. */
static void test_linear_orientation(void **state) {
    (void)state;
    double w[2 * 3] = {1, 2, 3, 4, 5, 6}, a[1 * 3] = {1, 0, 2}, b[1 * 2] = {3, -1}, x[3] = {1, 1, 2}, y[2],
                 xa[1];
    ref_linear l = {.in = 3, .out = 2, .rank = 1, .scale = 2, .w = w, .a = a, .b = b};
    ref_linear_forward(y, xa, x, &l, 1);
    assert_near(xa[0], 5, 0);
    assert_near(y[0], 9 + 2 * 5 * 3, 0);
    assert_near(y[1], 21 - 2 * 5, 0);
}

typedef struct dora_case {
    linear_case c;
    double gain[5]; /* the rows' length frozen, as backward takes it */
} dora_case;

static double dora_value(void *context) {
    dora_case *d = context;
    ref_linear plain = d->c.l;
    plain.m = NULL;
    ref_linear_forward(d->c.y, d->c.xa, d->c.x, &plain, d->c.tokens);
    double sum = 0;
    for (int t = 0; t < d->c.tokens; t++)
        for (int o = 0; o < plain.out; o++)
            sum += d->c.weight[t * plain.out + o] * d->c.y[t * plain.out + o] * d->c.l.m[o] / d->gain[o];
    return sum;
}

static void check_dora(bool dropout) {
    enum { IN = 7, OUT = 5, T = 3, R = 2 };
    dora_case d = {.c = {.tokens = T, .x = randoms(1, T * IN), .y = zeros(T * OUT), .xa = zeros(T * R)}};
    linear_case *c = &d.c;
    c->weight = randoms(2, T * OUT);
    c->l = (ref_linear){.in = IN,
                        .out = OUT,
                        .rank = R,
                        .scale = 0.5,
                        .w = randoms(3, IN * OUT),
                        .a = randoms(5, R * IN),
                        .b = randoms(6, R * OUT),
                        .m = randoms(7, OUT),
                        .da = zeros(R * IN),
                        .db = zeros(R * OUT),
                        .dm = zeros(OUT)};
    double drop[T * IN];
    for (int i = 0; i < T * IN; i++) drop[i] = i % 4 ? 1.25 : 0;
    if (dropout) c->l.drop = drop;
    for (int o = 0; o < OUT; o++) {
        double sum = 0;
        for (int i = 0; i < IN; i++) {
            double v = c->l.w[o * IN + i];
            for (int r = 0; r < R; r++) v += 0.5 * c->l.b[r * OUT + o] * c->l.a[r * IN + i];
            sum += v * v;
        }
        d.gain[o] = sqrt(sum);
    }
    double *dx = zeros(T * IN);
    ref_linear_forward(c->y, c->xa, c->x, &c->l, T);
    double value = weighted(c->y, c->weight, T * OUT);
    assert_near(value, dora_value(&d), 1e-12);
    ref_linear_backward(dx, c->weight, c->x, c->xa, &c->l, T);
    check_gradient("dora dx", c->x, dx, T * IN, 1, dora_value, &d);
    check_gradient("dora dA", c->l.a, c->l.da, R * IN, 1, dora_value, &d);
    check_gradient("dora dB", c->l.b, c->l.db, R * OUT, 1, dora_value, &d);
    check_gradient("dora dm", c->l.m, c->l.dm, OUT, 1, dora_value, &d);
    double *all[] = {c->x,   c->y,   c->xa,   c->weight, c->l.w,  c->l.a,
                     c->l.b, c->l.m, c->l.da, c->l.db,   c->l.dm, dx};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
}

static void test_dora(void **state) {
    (void)state;
    check_dora(false);
    check_dora(true);
}

enum { N = 4, WIDTH = 6 };
typedef struct small_case {
    double x[N * WIDTH], w[N * WIDTH], y[N * WIDTH], weight[N * WIDTH], one;
    int target[N];
    bool gelu;
} small_case;

static void small_new(small_case *c) {
    uint64_t seed = 11;
    for (int i = 0; i < N * WIDTH; i++) {
        c->x[i] = next_random(&seed);
        c->w[i] = 2 * next_random(&seed);
        c->weight[i] = next_random(&seed);
    }
    for (int t = 0; t < N; t++) c->target[t] = t == 1 ? -1 : (t * 5) % WIDTH;
}

static double rmsnorm_value(void *context) {
    small_case *c = context;
    ref_rmsnorm_forward(c->y, c->x, c->w, c->one, 1e-5, N, WIDTH);
    return weighted(c->y, c->weight, N * WIDTH);
}

static void check_rmsnorm(double one) {
    small_case c = {.one = one};
    double dx[N * WIDTH] = {0}, dw[WIDTH] = {0};
    small_new(&c);
    ref_rmsnorm_backward(dx, dw, c.weight, c.x, c.w, c.one, 1e-5, N, WIDTH);
    check_gradient("rmsnorm dx", c.x, dx, N * WIDTH, 1, rmsnorm_value, &c);
    check_gradient("rmsnorm dw", c.w, dw, WIDTH, 1, rmsnorm_value, &c);
}

static void test_rmsnorm(void **state) {
    (void)state;
    check_rmsnorm(0);
    check_rmsnorm(1);
}

static double swiglu_value(void *context) {
    small_case *c = context;
    (c->gelu ? ref_geglu_forward : ref_swiglu_forward)(c->y, c->x, c->w, N * WIDTH);
    return weighted(c->y, c->weight, N * WIDTH);
}

static void check_gate(bool gelu) {
    small_case c = {.gelu = gelu};
    double dgate[N * WIDTH] = {0}, dup[N * WIDTH] = {0};
    small_new(&c);
    (gelu ? ref_geglu_backward : ref_swiglu_backward)(dgate, dup, c.weight, c.x, c.w, N * WIDTH);
    check_gradient("gate: dgate", c.x, dgate, N * WIDTH, 1, swiglu_value, &c);
    check_gradient("gate: dup", c.w, dup, N * WIDTH, 1, swiglu_value, &c);
}

static void test_swiglu(void **state) {
    (void)state;
    check_gate(false);
    check_gate(true);
}

static double loss_value(void *context) {
    small_case *c = context;
    return ref_cross_entropy(NULL, c->x, c->target, N, WIDTH);
}

static void test_cross_entropy(void **state) {
    (void)state;
    small_case c;
    double dlogits[N * WIDTH] = {0};
    small_new(&c);
    double loss = ref_cross_entropy(dlogits, c.x, c.target, N, WIDTH);
    check_gradient("dlogits", c.x, dlogits, N * WIDTH, 1, loss_value, &c);
    for (int j = 0; j < WIDTH; j++) assert_near(dlogits[WIDTH + j], 0, 0);
    for (int i = 0; i < N * WIDTH; i++)
        c.x[i] += 1000; /* a shift of all logits changes nothing, and nothing overflows */
    assert_near(loss_value(&c), loss, 1e-11);
    for (int i = 0; i < N * WIDTH; i++) c.x[i] = 0;
    assert_near(loss_value(&c), 3 * log(WIDTH), 1e-14);
}

static void test_embedding(void **state) {
    (void)state;
    double table[3 * 2] = {1, 2, 3, 4, 5, 6}, x[3 * 2], dx[3 * 2] = {1, 10, 2, 20, 4, 40}, d[3 * 2] = {0};
    double a[2] = {1, -1}, b[3] = {0, 7, 3}, da[2] = {0}, db[3] = {0};
    const int ids[] = {2, 0, 2};
    ref_linear l = {.in = 2, .out = 3, .w = table, .dw = d};
    ref_embed_forward(x, &l, ids, 3);
    ref_embed_backward(dx, &l, ids, 3);
    const double expected_x[] = {5, 6, 1, 2, 5, 6}, expected_d[] = {2, 20, 0, 0, 5, 50};
    assert_memory_equal(x, expected_x, sizeof x);
    assert_memory_equal(d, expected_d, sizeof d);
    l = (ref_linear){
        .in = 2, .out = 3, .rank = 1, .scale = 2, .w = table, .a = a, .b = b, .da = da, .db = db};
    ref_embed_forward(x, &l, ids, 3);
    ref_embed_backward(dx, &l, ids, 3);
    const double adapted[] = {11, 0, 1, 2, 11, 0}, expected_da[] = {30, 300}, expected_db[] = {-36, 0, -90};
    assert_memory_equal(x, adapted, sizeof x);
    assert_memory_equal(da, expected_da, sizeof da);
    assert_memory_equal(db, expected_db, sizeof db);
}

typedef struct attention_case {
    ref_attention at;
    double *q, *k, *v, *y, *weight;
    long queries;
} attention_case;

static double attention_value(void *context) {
    attention_case *c = context;
    ref_attention_forward(c->y, c->q, c->k, c->v, &c->at);
    return weighted(c->y, c->weight, c->queries);
}

static void check_attention(int heads, int kv_heads, int window, double cap) {
    enum { D = 4, T = 9 };
    static const int rows[] = {0, 6, 7, T};
    long q = (long)T * heads * D, kv = (long)T * kv_heads * D;
    attention_case c = {.at = {.heads = heads,
                               .kv_heads = kv_heads,
                               .head_dim = D,
                               .window = window,
                               .rows = 3,
                               .cu_seqlens = rows,
                               .scale = 0.6,
                               .cap = cap},
                        .q = randoms(1, q),
                        .k = randoms(2, kv),
                        .v = randoms(3, kv),
                        .y = zeros(q),
                        .weight = randoms(4, q),
                        .queries = q};
    double *dq = zeros(q), *dk = zeros(kv), *dv = zeros(kv);
    ref_attention_backward(dq, dk, dv, c.weight, c.q, c.k, c.v, &c.at);
    check_gradient("attention dq", c.q, dq, q, 1, attention_value, &c);
    check_gradient("attention dk", c.k, dk, kv, 1, attention_value, &c);
    check_gradient("attention dv", c.v, dv, kv, 1, attention_value, &c);
    double *all[] = {c.q, c.k, c.v, c.y, c.weight, dq, dk, dv};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
}

static void test_attention(void **state) {
    (void)state;
    check_attention(2, 2, 0, 0);
    check_attention(4, 2, 0, 0.3);
    check_attention(3, 1, 3, 0);
    check_attention(2, 1, 1, 0.3);
}

/* With all keys zero every visible value weighs the same: the mean tells exactly who is visible. */
static void test_attention_sees_its_row_and_window(void **state) {
    (void)state;
    static const int rows[] = {0, 4, 6};
    const double q[6] = {1, 1, 1, 1, 1, 1}, k[6] = {0}, v[6] = {1, 2, 4, 8, 16, 32};
    double y[6];
    ref_attention at = {.heads = 1, .kv_heads = 1, .head_dim = 1, .rows = 2, .cu_seqlens = rows};
    ref_attention_forward(y, q, k, v, &at);
    const double full[] = {1, 3 / 2.0, 7 / 3.0, 15 / 4.0, 16, 24};
    for (int i = 0; i < 6; i++) assert_near(y[i], full[i], 1e-15);
    at.window = 2;
    ref_attention_forward(y, q, k, v, &at);
    const double windowed[] = {1, 3 / 2.0, 3, 6, 16, 24};
    for (int i = 0; i < 6; i++) assert_near(y[i], windowed[i], 1e-15);
}

static void test_rope(void **state) {
    (void)state;
    double inv[4], x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, start[8];
    const int pos[] = {3};
    memcpy(start, x, sizeof x);
    ref_rotary r = {inv, 4, 1}, half = {inv, 2, 0.5};
    ref_rope_default(inv, 8, 10000);
    assert_near(inv[1], 0.1, 1e-16);
    assert_near(inv[3], 0.001, 1e-17);
    ref_rope(x, pos, &r, 1, 1, 8, 1);
    assert_near(x[0], cos(3) - 5 * sin(3), 1e-14); /* pairs are (0,4), (1,5) ... */
    assert_near(x[5], 6 * cos(0.3) + 2 * sin(0.3), 1e-14);
    ref_rope(x, pos, &r, 1, 1, 8, -1);
    for (int i = 0; i < 8; i++) assert_near(x[i], start[i], 1e-14);
    ref_rope(x, pos, &half, 1, 1, 8, 1); /* only the first half: pairs (0,2), (1,3) */
    assert_near(x[0], 0.5 * (cos(3) - 3 * sin(3)), 1e-14);
    assert_near(x[5], 6, 1e-14);
    double linear[4], llama3[4];
    ref_rope_linear(linear, 8, 10000, 4);
    assert_near(linear[1], 0.025, 1e-16);
    /* 628 positions: the pairs turn 100, 10, 1 and 0.1 times; high 40 keeps the first, low 4 slows the last
     * two. */
    ref_rope_llama3_scaling s = {
        .factor = 8, .low_freq_factor = 4, .high_freq_factor = 40, .original_positions = 200 * acos(-1)};
    ref_rope_llama3(llama3, 8, 10000, &s);
    assert_near(llama3[0], 1, 1e-15);
    assert_near(llama3[1], 0.1 * (6 / 36.0) + 0.1 / 8 * (30 / 36.0), 1e-15);
    assert_near(llama3[2], 0.01 / 8, 1e-15);
    assert_near(llama3[3], 0.001 / 8, 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_linear_orientation),
        cmocka_unit_test(test_dora),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_sees_its_row_and_window),
        cmocka_unit_test(test_rope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
