/* adapters/: every kind of adapter written and read back, in the names and shapes of PEFT 0.21 and mlx-lm
 * 0.32; what a format cannot hold is left out and said; files of other programs that mean something else are
 * refused. */
#include "tests/tiny_bases.h"

static bool has(const char *dir, const char *name) {
    char *path = tiny_join(dir, name);
    bool there = gr_path_exists(path);
    free(path);
    return there;
}

static const char *const mlx_file = "adapters.safetensors", *const peft_file = "adapter_model.safetensors";

/* Which files a kind gets, and that each gives all of it back. */
static void round_trips(void **state) {
    (void)state;
    static const struct {
        const char *what;
        gr_model_config *config;
        gr_tuning_request r;
        bool mlx, peft, padded;
    } cases[] = {
        {"dora", &tied, {.kind = GR_TUNE_DORA, .targets = "full"}, true, true, false},
        {"embedding", &tied, {.targets = "q_proj,embed_tokens"}, true, true, false},
        {"embedding and head", &biased, {.targets = "embed_tokens,lm_head"}, true, true, false},
        {"bias all", &biased, {.targets = "q_proj", .bias = GR_BIAS_ALL}, false, true, false},
        {"bias of the adapted",
         &biased,
         {.targets = "q_proj,o_proj", .bias = GR_BIAS_LORA_ONLY},
         false,
         true,
         false},
        {"dora with biases",
         &biased,
         {.kind = GR_TUNE_DORA, .targets = "extended", .bias = GR_BIAS_ALL},
         false,
         true,
         false},
        {"saved, tied", &tied, {.targets = "v_proj", .modules_to_save = "embed_tokens"}, false, true, false},
        {"saved, apart",
         &biased,
         {.targets = "v_proj", .modules_to_save = "lm_head,norm,layers.1.self_attn.q_proj"},
         false,
         true,
         false},
        {"ranks",
         &tied,
         {.targets = "extended", .rank_pattern = "k_proj=2,layers.1.self_attn.v_proj=7"},
         true,
         true,
         true},
        {"alphas", &tied, {.targets = "extended", .alpha_pattern = "k_proj=5"}, true, true, true},
        {"both, rsLoRA, embedding",
         &tied,
         {.targets = "q_proj,o_proj,embed_tokens",
          .rank_pattern = "{\"o_proj\":3,\"embed_tokens\":2}",
          .alpha_pattern = "o_proj=0.7",
          .use_rslora = true},
         true,
         true,
         true},
        {"full", &biased, {.kind = GR_TUNE_FULL}, true, false, false},
        {"full, last block",
         &tied,
         {.kind = GR_TUNE_FULL, .num_layers = 1, .modules_to_save = "embed_tokens"},
         true,
         false,
         false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_tuning_request r = cases[i].r;
        gr_buf notes = {0};
        r.rank = 4;
        r.alpha = 8;
        r.scale = NAN;
        made m = make(cases[i].config, r);
        char *dir = save("k", &m), *mlx = tiny_join(dir, mlx_file), *peft = tiny_join(dir, peft_file);
        if (gr_path_exists(mlx) != cases[i].mlx || gr_path_exists(peft) != cases[i].peft)
            fail_msg("%s: wrong files", cases[i].what);
        equal(&m, dir);
        if (cases[i].peft) equal(&m, peft);
        if (cases[i].mlx && !cases[i].padded) equal(&m, mlx);
        gr_adapter_notes(&notes, m.config, m.tuning, 0);
        assert_int_equal(notes.len != 0, !cases[i].mlx || !cases[i].peft || cases[i].padded);
        gr_buf_free(&notes);
        free(mlx);
        free(peft);
        tiny_remove(dir);
        drop(&m);
    }
}

typedef struct expected {
    const char *name;
    int64_t rows, cols;
} expected;

/* The file holds these tensors and no others. */
static gr_safetensors *holds(const char *dir, const char *file, const expected *tensors, size_t count) {
    graft_error err = {0};
    gr_safetensors *f = NULL;
    char *path = tiny_join(dir, file);
    if (gr_safetensors_open(&f, path, &err) != GRAFT_OK) fail_msg("%s: %s", path, err.what);
    for (size_t i = 0; i < count; i++) value(f, tensors[i].name, tensors[i].rows, tensors[i].cols, 0, 0);
    if (gr_safetensors_count(f) != count)
        fail_msg("%s has %zu tensors, not %zu", path, gr_safetensors_count(f), count);
    free(path);
    return f;
}

#define P        "base_model.model."
#define L(n)     "model.layers." #n ".self_attn."
#define COUNT(x) (sizeof(x) / sizeof *(x))

static double number(const json_t *j, const char *a, const char *b) {
    const json_t *inner = b ? json_object_get(json_object_get(j, a), b) : json_object_get(j, a);
    if (!json_is_number(inner)) fail_msg("%s %s is no number", a, b ? b : "");
    return json_number_value(inner);
}

static json_t *config_of(const char *dir) {
    char *text = tiny_read(dir, "adapter_config.json", NULL);
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    free(text);
    return j;
}

static bool lists(const json_t *j, const char *key, const char *name) {
    const json_t *list = json_object_get(j, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), name) == 0) return true;
    return false;
}

/* source: what PEFT 0.21.2 and mlx-lm 0.32.2 save for these requests */
static void names(void **state) {
    (void)state;
    made m = make(&biased, (gr_tuning_request){.kind = GR_TUNE_DORA,
                                               .targets = "re:.*1.self_attn.[qo]_proj",
                                               .rank = 4,
                                               .alpha = 8,
                                               .scale = NAN,
                                               .bias = GR_BIAS_LORA_ONLY,
                                               .modules_to_save = "model.norm"});
    static const expected with_bias[] = {
        {P L(1) "q_proj.lora_A.weight", 4, 64},         {P L(1) "q_proj.lora_B.weight", 64, 4},
        {P L(1) "q_proj.lora_magnitude_vector", 64, 0}, {P L(1) "q_proj.base_layer.bias", 64, 0},
        {P L(1) "o_proj.lora_A.weight", 4, 64},         {P L(1) "o_proj.lora_B.weight", 64, 4},
        {P L(1) "o_proj.lora_magnitude_vector", 64, 0}, {P "model.norm.weight", 64, 0}};
    char *dir = save("n", &m);
    gr_safetensors_close(holds(dir, peft_file, with_bias, COUNT(with_bias)));
    json_t *j = config_of(dir);
    assert_true(json_is_true(json_object_get(j, "use_dora")));
    assert_string_equal(json_string_value(json_object_get(j, "bias")), "lora_only");
    assert_true(lists(j, "modules_to_save", "model.norm"));
    assert_null(json_object_get(j, "fine_tune_type")); /* there is nothing for mlx-lm */
    json_decref(j);
    tiny_remove(dir);
    drop(&m);

    m = make(&biased, (gr_tuning_request){.targets = "layers.0.self_attn.k_proj",
                                          .rank = 4,
                                          .alpha = 8,
                                          .scale = NAN,
                                          .bias = GR_BIAS_ALL});
    static const expected biases[] = {{P L(0) "k_proj.lora_A.weight", 4, 64},
                                      {P L(0) "k_proj.lora_B.weight", 32, 4},
                                      {P L(0) "k_proj.base_layer.bias", 32, 0},
                                      {P L(0) "q_proj.bias", 64, 0},
                                      {P L(0) "v_proj.bias", 32, 0},
                                      {P L(1) "q_proj.bias", 64, 0},
                                      {P L(1) "k_proj.bias", 32, 0},
                                      {P L(1) "v_proj.bias", 32, 0}};
    dir = save("n", &m);
    gr_safetensors_close(holds(dir, peft_file, biases, COUNT(biases)));
    tiny_remove(dir);
    drop(&m);
}

static void embedding_names(void **state) {
    (void)state;
    made m = make(&tied, (gr_tuning_request){.targets = "embed_tokens", .rank = 3, .alpha = 6, .scale = NAN});
    static const expected mlx[] = {{"model.embed_tokens.lora_a", TINY_VOCAB, 3},
                                   {"model.embed_tokens.lora_b", 3, 64}};
    static const expected peft[] = {{P "model.embed_tokens.lora_embedding_A", 3, TINY_VOCAB},
                                    {P "model.embed_tokens.lora_embedding_B", 64, 3},
                                    {P "lm_head.lora_A.weight", 3, 64},
                                    {P "lm_head.lora_B.weight", TINY_VOCAB, 3}};
    char *dir = save("e", &m);
    gr_safetensors *a = holds(dir, mlx_file, mlx, COUNT(mlx)), *b = holds(dir, peft_file, peft, COUNT(peft));
    const gr_tuned *x = &m.tuning->outside[GR_EMBED_TOKENS];
    const float *A = m.params + x->a, *B = m.params + x->b; /* [3, 64] and [3, vocab] */
    for (int r = 0; r < 3; r++) {
        double down = (double)B[r * TINY_VOCAB + 77], up = (double)A[r * 64 + 9];
        assert_near((double)value(a, mlx[0].name, TINY_VOCAB, 3, 77, r), down, 0);
        assert_near((double)value(a, mlx[1].name, 3, 64, r, 9), up, 0);
        assert_near((double)value(b, peft[0].name, 3, TINY_VOCAB, r, 77), down, 0);
        assert_near((double)value(b, peft[1].name, 64, 3, 9, r), up, 0);
        assert_near((double)value(b, peft[2].name, 3, 64, r, 9), up, 0);
        assert_near((double)value(b, peft[3].name, TINY_VOCAB, 3, 77, r), down, 0);
    }
    json_t *j = config_of(dir);
    assert_true(json_is_true(json_object_get(j, "ensure_weight_tying")));
    assert_true(lists(j, "target_modules", "model.embed_tokens"));
    assert_true(lists(j, "target_modules", "lm_head"));
    assert_true(lists(json_object_get(j, "lora_parameters"), "keys", "model.embed_tokens"));
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "lora_parameters"), "keys")), 1);
    json_decref(j);
    gr_safetensors_close(a);
    gr_safetensors_close(b);
    tiny_remove(dir);
    drop(&m);
}

/* One rank and one scale for mlx-lm: zeros to the largest rank, the rest of the scale in lora_b. */
static void padded(void **state) {
    (void)state;
    made m = make(&tied, (gr_tuning_request){.targets = "layers.0.self_attn.q_proj,layers.1.self_attn.k_proj",
                                             .rank = 2,
                                             .alpha = 8,
                                             .scale = NAN,
                                             .rank_pattern = "k_proj=5",
                                             .alpha_pattern = "k_proj=10"});
    static const expected mlx[] = {{L(0) "q_proj.lora_a", 64, 5},
                                   {L(0) "q_proj.lora_b", 5, 64},
                                   {L(1) "k_proj.lora_a", 64, 5},
                                   {L(1) "k_proj.lora_b", 5, 32}};
    char *dir = save("p", &m), *path = tiny_join(dir, mlx_file);
    gr_safetensors *f = holds(dir, mlx_file, mlx, COUNT(mlx));
    const gr_tuned *q = &m.tuning->block[0][GR_Q_PROJ], *k = &m.tuning->block[1][GR_K_PROJ];
    assert_near((double)value(f, mlx[0].name, 64, 5, 7, 1), (double)m.params[q->a + 64 + 7], 0);
    assert_near((double)value(f, mlx[0].name, 64, 5, 7, 2), 0, 0);
    assert_near((double)value(f, mlx[1].name, 5, 64, 1, 7), (double)m.params[q->b + 64 + 7], 0);
    assert_near((double)value(f, mlx[1].name, 5, 64, 4, 7), 0, 0);
    assert_near((double)value(f, mlx[2].name, 64, 5, 7, 4), (double)m.params[k->a + 4 * 64 + 7], 0);
    /* its scale is 10 / 5, the common one 8 / 2 */
    assert_near((double)value(f, mlx[3].name, 5, 32, 4, 7), (double)m.params[k->b + 4 * 32 + 7] / 2, 0);
    gr_safetensors_close(f);
    json_t *j = config_of(dir);
    assert_near(number(j, "lora_parameters", "rank"), 5, 0);
    assert_near(number(j, "lora_parameters", "scale"), 4, 0);
    assert_near(number(j, "r", NULL), 2, 0);
    assert_near(number(j, "lora_alpha", NULL), 8, 0);
    assert_near(number(j, "rank_pattern", L(1) "k_proj"), 5, 0);
    assert_near(number(j, "alpha_pattern", L(1) "k_proj"), 10, 0);
    assert_int_equal(json_object_size(json_object_get(j, "rank_pattern")), 1);
    assert_int_equal(json_object_size(json_object_get(j, "alpha_pattern")), 1);
    json_decref(j);
    made back = load(&m, path); /* by name, it is read as mlx-lm reads it */
    assert_int_equal(back.tuning->block[0][GR_Q_PROJ].rank, 5);
    assert_near((double)back.tuning->block[1][GR_K_PROJ].scale, 4, 0);
    drop(&back);
    char *peft = tiny_join(dir, peft_file); /* and alone it is all there is */
    unlink(peft);
    back = load(&m, dir);
    assert_int_equal(back.tuning->block[0][GR_Q_PROJ].rank, 5);
    drop(&back);
    free(peft);
    free(path);
    tiny_remove(dir);
    drop(&m);
}

static void full_names(void **state) {
    (void)state;
    made m =
        make(&biased,
             (gr_tuning_request){.kind = GR_TUNE_FULL, .num_layers = 1, .rank = 4, .alpha = 8, .scale = NAN});
    static const expected mlx[] = {{L(1) "q_proj.weight", 64, 64},
                                   {L(1) "k_proj.weight", 32, 64},
                                   {L(1) "v_proj.weight", 32, 64},
                                   {L(1) "o_proj.weight", 64, 64},
                                   {L(1) "q_proj.bias", 64, 0},
                                   {L(1) "k_proj.bias", 32, 0},
                                   {L(1) "v_proj.bias", 32, 0},
                                   {"model.layers.1.mlp.gate_proj.weight", 96, 64},
                                   {"model.layers.1.mlp.up_proj.weight", 96, 64},
                                   {"model.layers.1.mlp.down_proj.weight", 64, 96},
                                   {"model.layers.1.input_layernorm.weight", 64, 0},
                                   {"model.layers.1.post_attention_layernorm.weight", 64, 0}};
    char *dir = save("f", &m);
    gr_safetensors_close(holds(dir, mlx_file, mlx, COUNT(mlx)));
    json_t *j = config_of(dir);
    assert_string_equal(json_string_value(json_object_get(j, "fine_tune_type")), "full");
    assert_near(number(j, "num_layers", NULL), 1, 0);
    assert_true(json_is_null(json_object_get(j, "lora_parameters")));
    assert_null(json_object_get(j, "peft_type"));
    json_decref(j);
    refused(&tied, dir, mlx_file, "{}", GRAFT_MISMATCH, "q_proj.bias is not an adapter"); /* another base */
    tiny_remove(dir);
    drop(&m);
}

/* A kind that no longer has a file leaves none of an earlier save. */
static void stale_files(void **state) {
    (void)state;
    gr_tuning_request r = {.targets = "q_proj", .rank = 4, .alpha = 8, .scale = NAN};
    made plain = make(&biased, r);
    r.bias = GR_BIAS_ALL;
    made with_bias = make(&biased, r);
    made full = make(&biased, (gr_tuning_request){.kind = GR_TUNE_FULL, .rank = 4, .alpha = 8, .scale = NAN});
    char *dir = NULL;
    made *const order[] = {&plain, &with_bias, &full, &plain};
    static const bool mlx[] = {true, false, true, true}, peft[] = {true, true, false, true};
    for (int i = 0; i < 4; i++) {
        free(dir);
        dir = save("s", order[i]);
        assert_int_equal(has(dir, mlx_file), mlx[i]);
        assert_int_equal(has(dir, peft_file), peft[i]);
        equal(order[i], dir);
    }
    tiny_remove(dir);
    drop(&plain);
    drop(&with_bias);
    drop(&full);
}

/* A file of zeros, as another program would write it, but for one tensor of ones (NULL: none). */
static char *foreign(const expected *tensors, size_t count, const char *config, const char *ones) {
    gr_tensor list[8] = {0};
    static float zero[TINY_VOCAB * 64], one[TINY_VOCAB * 64];
    graft_error err = {0};
    char *dir = tiny_subdir(root, "o"), *path = tiny_join(dir, peft_file);
    for (size_t i = 0; i < COUNT(one); i++) one[i] = 1;
    for (size_t i = 0; i < count; i++) {
        const expected *x = &tensors[i];
        bool is_one = ones && strcmp(ones, x->name) == 0;
        list[i] = (gr_tensor){.name = x->name,
                              .dtype = GR_F32,
                              .ndim = x->cols ? 2 : 1,
                              .shape = {x->rows, x->cols},
                              .data = (const uint8_t *)(is_one ? one : zero),
                              .bytes = (size_t)(x->rows * (x->cols ? x->cols : 1)) * 4};
    }
    if (gr_safetensors_save(path, list, count, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    tiny_write(dir, "adapter_config.json", config);
    free(path);
    return dir;
}

/* PEFT adapts the two uses of a tied embedding apart unless told otherwise. */
static void tied_uses(void **state) {
    (void)state;
    static const char *const config = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4}";
    static const expected pairs[] = {{P "model.embed_tokens.lora_embedding_A", 2, TINY_VOCAB},
                                     {P "model.embed_tokens.lora_embedding_B", 64, 2},
                                     {P "lm_head.lora_A.weight", 2, 64},
                                     {P "lm_head.lora_B.weight", TINY_VOCAB, 2},
                                     {P "model.embed_tokens.base_layer.weight", TINY_VOCAB, 64},
                                     {P "lm_head.base_layer.weight", TINY_VOCAB, 64}};
    made m = make(&tied, (gr_tuning_request){.targets = "embed_tokens", .rank = 2, .alpha = 4, .scale = NAN});
    memset(m.params, 0, (size_t)m.tuning->parameters * sizeof *m.params);
    char *dir = foreign(pairs, 6, config, NULL); /* the frozen weights are the base's own */
    equal(&m, dir);
    refused(&tied, dir, peft_file, "{\"alpha_pattern\":{\"lm_head\":3}}", GRAFT_MISMATCH, "other alphas");
    tiny_remove(dir);
    dir = foreign(pairs, 2, config, NULL);
    refused(&tied, dir, peft_file, "{}", GRAFT_MISMATCH, "lora_embedding_A changes one use");
    tiny_write(dir, "adapter_config.json",
               "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"ensure_weight_tying\":true}");
    equal(&m, dir);
    tiny_remove(dir);
    dir = foreign(pairs + 2, 2, config, NULL);
    refused(&tied, dir, peft_file, "{\"ensure_weight_tying\":true}", GRAFT_MISMATCH, "one use");
    tiny_remove(dir);
    dir = foreign(pairs, 4, config, pairs[3].name);
    refused(&tied, dir, peft_file, "{}", GRAFT_MISMATCH, "lm_head.lora_B.weight is not the tied");
    tiny_remove(dir);
    drop(&m);

    static const expected weights[] = {{P "model.embed_tokens.weight", TINY_VOCAB, 64},
                                       {P "lm_head.weight", TINY_VOCAB, 64}};
    m = make(&tied, (gr_tuning_request){.kind = GR_TUNE_FULL,
                                        .num_layers = 1,
                                        .rank = 2,
                                        .alpha = 4,
                                        .scale = NAN,
                                        .modules_to_save = "embed_tokens"});
    dir = foreign(weights, 2, config, NULL);
    made back = load(&m, dir);
    assert_int_equal(back.tuning->param_count, 1);
    assert_true(back.tuning->outside[GR_EMBED_TOKENS].saved);
    drop(&back);
    tiny_remove(dir);
    dir = foreign(weights, 2, config, weights[1].name);
    refused(&tied, dir, peft_file, "{}", GRAFT_MISMATCH, "lm_head.weight is not the tied");
    tiny_remove(dir);
    dir = foreign(weights, 1, config, NULL);
    refused(&tied, dir, peft_file, "{\"ensure_weight_tying\":true}", GRAFT_MISMATCH, "one use");
    tiny_remove(dir);
    drop(&m);
}

/* All that does not fit is named at once. */
static void refusals(void **state) {
    (void)state;
    static const char *const config = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"use_dora\":true}";
    static const expected tensors[] = {{P L(0) "q_proj.lora_A.weight", 2, 64},
                                       {P L(0) "q_proj.lora_B.weight", 64, 2},
                                       {P L(0) "q_proj.lora_magnitude_vector", 63, 0},
                                       {P L(0) "q_proj.bias", 64, 0},
                                       {P L(1) "k_proj.bias", 31, 0},
                                       {P "model.norm.weight", 65, 0},
                                       {P L(0) "o_proj.base_layer.bias", 64, 0}};
    static const char *const said[] = {"5 tensors", "q_proj.lora_magnitude_vector does not fit",
                                       "k_proj.bias does not fit", "norm.weight does not fit"};
    char *dir = foreign(tensors, 7, config, NULL);
    for (size_t i = 0; i < COUNT(said); i++) refused(&biased, dir, peft_file, "{}", GRAFT_MISMATCH, said[i]);
    tiny_remove(dir);
    /* an adapted linear's bias is base_layer.bias; PEFT drops others */
    dir = foreign(tensors, 4, config, NULL);
    refused(&biased, dir, peft_file, "{}", GRAFT_MISMATCH, "q_proj.bias is not an adapter");
    char *lone = tiny_join(dir, "adapter_config.json"); /* a file alone does not say its scale */
    graft_error err = {0};
    gr_tuning *tuning;
    float *params;
    unlink(lone);
    assert_int_equal(gr_adapter_load(&tuning, &params, dir, &biased, NULL, &err), GRAFT_NOT_FOUND);
    assert_non_null(strstr(err.hint, "scale"));
    free(lone);
    tiny_remove(dir);
    static const expected embed[] = {{P "lm_head.lora_A.weight", 2, 64},
                                     {P "lm_head.lora_B.weight", TINY_VOCAB, 2},
                                     {P "lm_head.lora_magnitude_vector", TINY_VOCAB, 0}};
    dir = foreign(embed, 3, config, NULL);
    refused(&biased, dir, peft_file, "{}", GRAFT_MISMATCH, "DoRA outside the blocks");
    tiny_remove(dir);
    static const expected both[] = {{P "lm_head.lora_A.weight", 2, 64},
                                    {P "lm_head.lora_B.weight", TINY_VOCAB, 2},
                                    {P "lm_head.weight", TINY_VOCAB, 64}};
    dir = foreign(both, 3, config, NULL);
    refused(&biased, dir, peft_file, "{\"use_dora\":false}", GRAFT_MISMATCH, "lm_head.weight stands beside");
    tiny_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips), cmocka_unit_test(names),      cmocka_unit_test(embedding_names),
        cmocka_unit_test(padded),      cmocka_unit_test(full_names), cmocka_unit_test(stale_files),
        cmocka_unit_test(tied_uses),   cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests_name("adapter kinds", tests, setup, teardown);
}
