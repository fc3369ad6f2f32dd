/* fuse/fuse_gguf: a GGUF file with an adapter in it. Nothing to add leaves the file as it is, byte for byte;
 * what is added is there to the rounding of each type, in llama.cpp's order of rows; what fits into the
 * minima of Q4_1 moves them alone. */
#include "files/gguf_write.h"
#include "fuse/fuse.h"
#include "tests/tiny_dir.h"
#include "weights/gguf_blocks.h"

static const char config_text[] =
    "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":32,\"vocab_size\":8,\"rms_norm_eps\":"
    "1e-5,"
    "\"max_position_embeddings\":128,\"tie_word_embeddings\":true}";

static struct {
    const char *name;
    int64_t rows, cols; /* rows 0: a vector */
    gr_gguf_type type;
    gr_role role;
} table[] = {{"token_embd.weight", 8, 64, GR_GGUF_Q8_0, GR_EMBED_TOKENS},
             {"blk.0.attn_q.weight", 64, 64, GR_GGUF_Q4_0, GR_Q_PROJ},
             {"blk.0.attn_k.weight", 32, 64, GR_GGUF_Q8_0, GR_K_PROJ},
             {"blk.0.attn_v.weight", 32, 64, GR_GGUF_F16, GR_V_PROJ},
             {"blk.0.attn_output.weight", 64, 64, GR_GGUF_Q4_1, GR_O_PROJ},
             {"blk.0.ffn_gate.weight", 96, 64, GR_GGUF_F32, GR_GATE_PROJ},
             {"blk.0.ffn_up.weight", 96, 64, GR_GGUF_BF16, GR_UP_PROJ},
             {"blk.0.ffn_down.weight", 64, 96, GR_GGUF_Q4_1, GR_DOWN_PROJ},
             {"output_norm.weight", 0, 64, GR_GGUF_F32, GR_NORM}};
enum { TENSORS = sizeof table / sizeof *table };

static char *root, *base, *out;

static void write_base(void) {
    graft_error err = {0};
    gr_gguf_keys keys = {0};
    gr_gguf_writer *w;
    gr_gguf_tensor tensors[TENSORS];
    gr_rng rng;
    gr_rng_seed(&rng, 1, 1);
    gr_gguf_put_string(&keys, "general.architecture", "llama");
    gr_gguf_put_float(&keys, "a.number", 0.5f);
    for (int i = 0; i < TENSORS; i++) {
        const bool vector = !table[i].rows;
        tensors[i] = (gr_gguf_tensor){.name = table[i].name,
                                      .type = table[i].type,
                                      .ndim = vector ? 1 : 2,
                                      .shape = {vector ? table[i].cols : table[i].rows, table[i].cols}};
        assert_true(
            gr_gguf_tensor_bytes(&tensors[i].bytes, table[i].type, tensors[i].shape, tensors[i].ndim));
    }
    assert_int_equal(gr_gguf_create(&w, base, &keys, tensors, TENSORS, &err), GRAFT_OK);
    for (int i = 0; i < TENSORS; i++) {
        const bool five = table[i].type == GR_GGUF_Q5_0;
        const int64_t n = gr_max_i64(table[i].rows, 1) * table[i].cols,
                      each = gr_gguf_affine_bits(table[i].type) ? 32 : 1;
        const size_t block = tensors[i].bytes / (size_t)(n / each);
        for (int64_t at = 0; at < n; at += each) {
            float w32[32];
            uint8_t bytes[64] = {0};
            for (int64_t k = 0; k < each; k++) w32[k] = (float)(gr_rng_uniform(&rng) - 0.45);
            if (!five) gr_gguf_quantize_block(bytes, w32, table[i].type);
            assert_int_equal(gr_gguf_write(w, bytes, block, &err), GRAFT_OK);
        }
    }
    assert_int_equal(gr_gguf_commit(w, &err), GRAFT_OK);
}

typedef struct adapter {
    gr_model_config config;
    gr_tuning *tuning;
    float *params;
} adapter;

/* B is zero, or random. */
static adapter make(const char *targets, bool zero, int64_t pool) {
    graft_error err = {0};
    adapter a;
    gr_rng rng;
    assert_int_equal(gr_config_parse(&a.config, config_text, sizeof config_text - 1, "test", &err), GRAFT_OK);
    gr_tuning_request r = {.targets = targets, .rank = 3, .alpha = 6, .scale = NAN, .num_layers = -1};
    if (gr_tuning_select(&a.tuning, &a.config, &r, &err) != GRAFT_OK) fail_msg("%s", err.what);
    for (size_t i = 0; pool && i < a.tuning->param_count; i++)
        gr_tuning_at(a.tuning, a.tuning->params[i].role, 0)->pool = pool;
    a.tuning->pool = pool;
    assert_int_equal(gr_tuning_place(a.tuning, &a.config, &err), GRAFT_OK);
    a.params = calloc((size_t)a.tuning->parameters, sizeof *a.params);
    assert_non_null(a.params);
    gr_rng_seed(&rng, 2, 2);
    for (size_t i = 0; i < a.tuning->param_count; i++) {
        const gr_param *p = &a.tuning->params[i];
        for (int64_t k = 0; k < gr_param_count(p); k++)
            if (!zero || p->kind != GR_PARAM_B) a.params[p->at + k] = (float)(gr_rng_uniform(&rng) - 0.5) / 4;
    }
    return a;
}

static graft_status fuse(const adapter *a, graft_fuse_result *r, graft_error *err) {
    gr_fuse_edits edits;
    *r = (graft_fuse_result){0};
    unlink(out);
    assert_int_equal(gr_fuse_edits_new(&edits, a->tuning, a->params, err), GRAFT_OK);
    graft_status st = gr_fuse_gguf(base, out, GR_MAPPED, 2, &edits, &a->config, NULL, r, err);
    gr_fuse_edits_free(&edits);
    return st;
}

static void drop(adapter *a) {
    gr_tuning_free(a->tuning);
    free(a->params);
    gr_config_free(&a->config);
}

static void nothing_to_add(void **state) {
    (void)state;
    graft_error err = {0};
    graft_fuse_result r;
    adapter a = make("full", true, 0);
    assert_int_equal(fuse(&a, &r, &err), GRAFT_OK);
    assert_int_equal(r.changed, 0);
    assert_int_equal(r.tensors, TENSORS);
    size_t n, m;
    char *x = tiny_read(root, "base.gguf", &n), *y = tiny_read(root, "out.gguf", &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
    drop(&a);
}

static double delta_of(const adapter *a, gr_role role, int64_t row, int64_t col, int64_t rows, int64_t cols) {
    const gr_tuned *x = gr_tuning_of(a->tuning, role, 0);
    const int64_t pool = gr_max_i64(x->pool, 1);
    double sum = 0;
    for (int64_t r = 0; r < x->rank; r++)
        sum += (double)a->params[x->b + r * rows + row] * (double)a->params[x->a + (r * cols + col) / pool];
    return x->rank ? (double)x->scale * sum : 0;
}

/* The most that rounding may move a value: half a step of its type; Q4_0 also clips by a step. */
static double half_step(gr_gguf_type type, const float *block) {
    float low = block[0], high = low;
    for (int i = 1; i < 32; i++) { /* fmin and fmax here crash gcc 12 for arm64 */
        if (block[i] < low) low = block[i];
        if (block[i] > high) high = block[i];
    }
    const double most = fmax((double)high, -(double)low), range = (double)high - (double)low;
    switch (type) {
    case GR_GGUF_F32: return most * 0x1p-22;
    case GR_GGUF_F16: return most * 0x1p-11;
    case GR_GGUF_BF16: return most * 0x1p-8;
    case GR_GGUF_Q8_0: return most / 127 * 0.6;
    case GR_GGUF_Q4_0: return most / 8 * 1.01;
    default: return range / 15 * 0.6;
    }
}

/* Every tensor of out against base and delta; `exact`: Q4_1 moved its minima alone. */
static void compare(const adapter *a, bool exact) {
    graft_error err = {0};
    gr_gguf *x, *y;
    assert_int_equal(gr_gguf_open(&x, base, &err), GRAFT_OK);
    assert_int_equal(gr_gguf_open(&y, out, &err), GRAFT_OK);
    for (int i = 0; i < TENSORS; i++) {
        const gr_gguf_tensor *p = gr_gguf_find(x, table[i].name), *q = gr_gguf_find(y, table[i].name);
        const int64_t rows = table[i].rows, cols = table[i].cols;
        const bool pairs = table[i].role == GR_Q_PROJ || table[i].role == GR_K_PROJ;
        assert_int_equal(p->type, q->type);
        for (int64_t r = 0; r < rows; r++) {
            float was[96], is[96], want[96];
            const int64_t row =
                pairs ? r / 32 * 32 + r % 2 * 16 + r % 32 / 2 : r; /* in Hugging Face's order */
            const size_t bytes = p->bytes / (size_t)rows;
            gr_gguf_dequantize(was, p->data + (size_t)r * bytes, p->type, cols);
            gr_gguf_dequantize(is, q->data + (size_t)r * bytes, q->type, cols);
            for (int64_t c = 0; c < cols; c++)
                want[c] = (float)((double)was[c] + delta_of(a, table[i].role, row, c, rows, cols));
            for (int64_t c = 0; c < cols; c++) {
                bool minima = exact && p->type == GR_GGUF_Q4_1;
                double bound = minima ? 1e-3 : half_step(p->type, want + c / 32 * 32);
                if (!(fabs((double)is[c] - (double)want[c]) <= bound))
                    fail_msg("%s %d,%d: %g, expected %g", table[i].name, (int)r, (int)c, (double)is[c],
                             (double)want[c]);
            }
            for (size_t k = 0; exact && p->type == GR_GGUF_Q4_1 && k < bytes; k++)
                if (k % 20 != 2 && k % 20 != 3)
                    assert_int_equal(p->data[(size_t)r * bytes + k], q->data[(size_t)r * bytes + k]);
        }
    }
    gr_gguf_close(x);
    gr_gguf_close(y);
}

static void every_type(void **state) {
    (void)state;
    for (int pooled = 0; pooled < 2; pooled++) {
        graft_error err = {0};
        graft_fuse_result r;
        adapter a =
            make(pooled ? "full" : "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj,embed_tokens",
                 false, pooled ? 32 : 0);
        assert_int_equal(fuse(&a, &r, &err), GRAFT_OK);
        assert_int_equal(r.changed, pooled ? 7 : 8);
        compare(&a, pooled);
        drop(&a);
    }
}

static void refusals(void **state) {
    (void)state;
    graft_error err = {0};
    graft_fuse_result r;
    adapter a = make("full", false, 0);
    table[4].type = GR_GGUF_Q5_0;
    write_base();
    assert_int_equal(fuse(&a, &r, &err), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(err.what, "attn_output"));
    assert_non_null(strstr(err.hint, "export"));
    assert_false(gr_path_exists(out));
    drop(&a);
    a = make("q_proj,v_proj", false, 0); /* that tensor is not adapted */
    gr_error_clear(&err);
    assert_int_equal(fuse(&a, &r, &err), GRAFT_OK);
    assert_int_equal(r.changed, 2);
    drop(&a);
}

/* A mixture's experts, in one tensor of three dimensions: each gets what its own adapter adds. */
static void experts(void **state) {
    (void)state;
    enum { EXPERTS = 3, ROWS = 32, COLS = 64 };
    static const char text[] =
        "{\"model_type\":\"qwen3_moe\",\"hidden_size\":64,\"moe_intermediate_size\":32,\"num_experts\":3,"
        "\"num_experts_per_tok\":2,\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":"
        "1,\"head_dim\":32,\"vocab_size\":8,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":128}";
    static float was[EXPERTS][ROWS][COLS];
    graft_error err = {0};
    graft_fuse_result r;
    gr_gguf_keys keys = {0};
    gr_gguf_writer *w;
    gr_gguf *file;
    adapter a;
    gr_gguf_tensor t = {.name = "blk.0.ffn_up_exps.weight",
                        .type = GR_GGUF_F32,
                        .ndim = 3,
                        .shape = {EXPERTS, ROWS, COLS},
                        .bytes = sizeof was};
    for (int i = 0; i < EXPERTS * ROWS * COLS; i++) (&was[0][0][0])[i] = sinf((float)i);
    gr_gguf_put_string(&keys, "general.architecture", "qwen3moe");
    assert_int_equal(gr_gguf_create(&w, base, &keys, &t, 1, &err), GRAFT_OK);
    assert_int_equal(gr_gguf_write(w, was, sizeof was, &err), GRAFT_OK);
    assert_int_equal(gr_gguf_commit(w, &err), GRAFT_OK);
    if (gr_config_parse(&a.config, text, sizeof text - 1, "test", &err) != GRAFT_OK)
        fail_msg("%s %s", err.what, err.where);
    const gr_tuning_request wish = {
        .targets = "up_proj", .rank = 2, .alpha = 3, .scale = NAN, .num_layers = -1};
    assert_int_equal(gr_tuning_select(&a.tuning, &a.config, &wish, &err), GRAFT_OK);
    a.params = calloc((size_t)a.tuning->parameters, sizeof *a.params);
    assert_non_null(a.params);
    for (int64_t i = 0; i < a.tuning->parameters; i++) a.params[i] = cosf((float)i);
    assert_int_equal(fuse(&a, &r, &err), GRAFT_OK);
    assert_int_equal(r.changed, 1);
    assert_int_equal(gr_gguf_open(&file, out, &err), GRAFT_OK);
    const gr_gguf_tensor *is = gr_gguf_find(file, t.name);
    assert_true(is && is->ndim == 3 && is->bytes == sizeof was);
    const gr_tuned *x = &a.tuning->block[0][GR_EXPERT_UP];
    for (int e = 0; e < EXPERTS; e++)
        for (int o = 0; o < ROWS; o++)
            for (int i = 0; i < COLS; i++) {
                double want = (double)was[e][o][i];
                for (int k = 0; k < 2; k++)
                    want += 1.5 * (double)a.params[x->b + (e * 2 + k) * ROWS + o] *
                            (double)a.params[x->a + (e * 2 + k) * COLS + i];
                double found = (double)gr_float_at(is->data, (e * ROWS + o) * COLS + i, GR_F32);
                assert_true(fabs(found - want) < 1e-5);
            }
    gr_gguf_close(file);
    drop(&a);
}

static int setup(void **state) {
    (void)state;
    root = tiny_temp();
    base = tiny_join(root, "base.gguf");
    out = tiny_join(root, "out.gguf");
    write_base();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(base);
    free(out);
    tiny_remove(root);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_to_add), cmocka_unit_test(every_type),
                                       cmocka_unit_test(refusals), cmocka_unit_test(experts)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
