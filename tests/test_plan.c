/* forecast/plan_table.c: the table of layer types of a model and a selection, and the figures beside it. */
#include "forecast/plan_table.h"
#include "tests/tiny_dir.h"

/* The table of a shape with a selection; the request's scale is left to the ranks. */
static graft_plan table(const char *shape, gr_tuning_request r) {
    graft_plan p = {0};
    graft_error err = {0};
    gr_model *m = NULL;
    gr_tuning *tuning = NULL;
    r.scale = NAN;
    if (r.kind != GR_TUNE_FULL && !r.rank) r.rank = 16;
    r.alpha = 2 * (double)r.rank;
    if (gr_model_from_shape(&m, shape, false, &err) != GRAFT_OK ||
        gr_tuning_select(&tuning, &m->config, &r, &err) != GRAFT_OK ||
        gr_plan_table(&p, m, tuning, &err) != GRAFT_OK)
        fail_msg("%s %s", err.what, err.found);
    p.parameters_total = gr_model_parameters(m);
    p.parameters_trainable = tuning->parameters;
    gr_tuning_free(tuning);
    gr_model_free(m);
    return p;
}

static const graft_plan_tensor *tensor(const graft_plan *p, const char *name) {
    for (size_t i = 0; i < p->tensors_count; i++)
        if (strcmp(p->tensors_list[i].name, name) == 0) return &p->tensors_list[i];
    fail_msg("no %s", name);
    return NULL;
}

/* The 13 rows of the usual policy (docs/weights.md) on Llama-3-8B with its standard set, number by number. */
static void guide_rows(void **state) {
    (void)state;
    static const struct {
        const char *type;
        bool quantize, lora;
        const char *frozen;
        int64_t tensors, parameters;
    } rows[] = {{"q_proj", true, true, "partial", 32, 32LL * 4096 * 4096},
                {"k_proj", true, false, "true", 32, 32LL * 1024 * 4096},
                {"v_proj", true, true, "partial", 32, 32LL * 1024 * 4096},
                {"o_proj", true, false, "true", 32, 32LL * 4096 * 4096},
                {"gate_proj", true, false, "true", 32, 32LL * 14336 * 4096},
                {"up_proj", true, false, "true", 32, 32LL * 14336 * 4096},
                {"down_proj", true, false, "true", 32, 32LL * 14336 * 4096},
                {"embed_tokens", false, false, "true", 1, 128256LL * 4096},
                {"lm_head", false, false, "true", 1, 128256LL * 4096},
                {"input_layernorm", false, false, "true", 32, 32LL * 4096},
                {"post_attention_layernorm", false, false, "true", 32, 32LL * 4096},
                {"norm", false, false, "true", 1, 4096},
                {"rotary_emb", false, false, "true", 0, 0}};
    graft_plan p = table("llama-3-8b", (gr_tuning_request){.targets = "standard"});
    int64_t parameters = 0, tensors = 0;
    for (int i = 0; i < GRAFT_PLAN_TYPES; i++) {
        const graft_plan_type *t = &p.types[i];
        assert_string_equal(t->type, rows[i].type);
        assert_int_equal(t->quantize, rows[i].quantize);
        assert_int_equal(t->lora, rows[i].lora);
        assert_string_equal(t->frozen, rows[i].frozen);
        assert_int_equal(t->tensors, rows[i].tensors);
        assert_int_equal(t->parameters, rows[i].parameters);
        /* 4 bits and two 16-bit numbers for every 64 weights, or 16 bits */
        assert_int_equal(t->bytes, rows[i].quantize ? rows[i].parameters * 9 / 16 : rows[i].parameters * 2);
        parameters += t->parameters;
        tensors += t->tensors;
    }
    assert_int_equal(parameters, p.parameters_total);
    assert_int_equal(tensors, p.tensors_count);
    graft_plan_free(&p);
}

/* The share that trains on Llama-3-8B's shape at rank 16, counted by hand: r (in + out) for each linear. */
static void percentages(void **state) {
    (void)state;
    static const struct {
        const char *set;
        int64_t trainable;
        double percent;
    } cases[] = {{"standard", 32LL * 16 * (8192 + 5120), 0.085},
                 {"extended", 32LL * 16 * (2 * 8192 + 2 * 5120), 0.17},
                 {"all-linear", 32LL * 16 * (2 * 8192 + 2 * 5120 + 3 * 18432), 0.52}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_plan p;
        graft_options o;
        graft_error err = {0};
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_PLAN,
                 (const char *const[]){"shape", "llama-3-8b", "lora-targets", cases[i].set, "lora-rank", "16",
                                       "max-seq-length", "256", "threads", "1", "batch-size", "1", NULL});
        if (graft_plan_make(&o, NULL, &p, &err) != GRAFT_OK) fail_msg("%s", err.what);
        assert_int_equal(p.parameters_total, 8030261248);
        assert_int_equal(p.parameters_trainable, cases[i].trainable);
        double percent = 100 * (double)p.parameters_trainable / (double)p.parameters_total;
        assert_true(fabs(percent - cases[i].percent) < 0.005);
        /* both are the same vectors, once over what trains and once over everything */
        double here = (double)p.gradients_optimizer / (double)p.parameters_trainable,
               full = (double)p.full_gradients_optimizer / (double)p.parameters_total;
        assert_true(fabs(here - full) < 1e-3 * full);
        assert_int_equal(p.full.mapped, 2 * p.parameters_total);
        assert_true(p.full.total > p.memory.total);
        graft_plan_free(&p);
        graft_options_free(&o);
    }
}

/* Ranks by pattern and layer show tensor by tensor. */
static void tensors_by_pattern(void **state) {
    (void)state;
    graft_plan p = table("qwen2.5-0.5b", (gr_tuning_request){.targets = "extended",
                                                             .layers = "22,23",
                                                             .rank = 8,
                                                             .rank_pattern = "layers.23.self_attn.v_proj=4"});
    const graft_plan_tensor *v = tensor(&p, "model.layers.23.self_attn.v_proj");
    assert_true(v->adapter);
    assert_int_equal(v->rank, 4);
    assert_string_equal(v->frozen, "partial");
    assert_string_equal(v->role, "v_proj");
    assert_int_equal(v->shape[0], 128);
    assert_int_equal(v->shape[1], 896);
    assert_int_equal(v->bits, 4);
    assert_int_equal(v->group_size, 64);
    assert_int_equal(v->bytes, 128 * 896 * 9 / 16);
    assert_int_equal(tensor(&p, "model.layers.22.self_attn.v_proj")->rank, 8);
    const graft_plan_tensor *other = tensor(&p, "model.layers.21.self_attn.v_proj"),
                            *bias = tensor(&p, "model.layers.23.self_attn.v_proj.bias");
    assert_false(other->adapter);
    assert_int_equal(other->rank, 0);
    assert_string_equal(other->frozen, "true");
    assert_string_equal(bias->frozen, "true");
    assert_int_equal(bias->shape[0], 128);
    assert_int_equal(bias->shape[1], 0);
    assert_false(bias->quantize);
    assert_string_equal(p.types[GR_V_PROJ].frozen, "partial");
    assert_non_null(strstr(p.types[GR_V_PROJ].notes, "ranks 4 to 8"));
    assert_non_null(strstr(p.types[GR_V_PROJ].notes, "with bias"));
    assert_non_null(strstr(p.types[gr_guide_type(GR_LM_HEAD)].notes, "tied"));
    graft_plan_free(&p);
}

/* What trains whole is not frozen: the last blocks of full, saved modules, biases. */
static void whole_weights(void **state) {
    (void)state;
    graft_plan p = table("qwen3-0.6b", (gr_tuning_request){.kind = GR_TUNE_FULL, .num_layers = -1});
    assert_string_equal(p.types[GR_Q_PROJ].frozen, "false");
    assert_string_equal(p.types[gr_guide_type(GR_INPUT_LAYERNORM)].frozen, "false");
    assert_string_equal(p.types[gr_guide_type(GR_NORM)].frozen,
                        "partial"); /* the heads' norms train, the last one does not */
    assert_string_equal(p.types[gr_guide_type(GR_EMBED_TOKENS)].frozen, "true");
    assert_string_equal(tensor(&p, "model.layers.0.self_attn.q_norm")->role, "norm");
    graft_plan_free(&p);
    p = table("qwen3-0.6b", (gr_tuning_request){.kind = GR_TUNE_FULL, .num_layers = 1});
    assert_string_equal(p.types[GR_Q_PROJ].frozen, "partial");
    assert_string_equal(tensor(&p, "model.layers.27.mlp.up_proj")->frozen, "false");
    assert_string_equal(tensor(&p, "model.layers.26.mlp.up_proj")->frozen, "true");
    graft_plan_free(&p);
    p = table("mistral-7b", (gr_tuning_request){.targets = "standard", .modules_to_save = "lm_head"});
    assert_string_equal(p.types[gr_guide_type(GR_LM_HEAD)].frozen, "false");
    assert_non_null(strstr(p.types[gr_guide_type(GR_LM_HEAD)].notes, "trains whole"));
    assert_string_equal(p.types[GR_Q_PROJ].frozen, "partial");
    graft_plan_free(&p);
    p = table("qwen2.5-0.5b", (gr_tuning_request){.targets = "o_proj", .bias = GR_BIAS_ALL});
    assert_string_equal(tensor(&p, "model.layers.3.self_attn.q_proj.bias")->frozen, "false");
    assert_string_equal(tensor(&p, "model.layers.3.self_attn.q_proj")->frozen, "true");
    assert_string_equal(p.types[GR_Q_PROJ].frozen, "partial");
    assert_false(p.types[GR_Q_PROJ].lora);
    graft_plan_free(&p);
    p = table("qwen2.5-0.5b", (gr_tuning_request){.kind = GR_TUNE_DORA, .targets = "standard"});
    assert_non_null(strstr(p.types[GR_Q_PROJ].notes, "DoRA"));
    graft_plan_free(&p);
}

/* Seconds that a plan gives to all updates: what is left of its time beside the tokens. */
static double updating(const char *model, const char *data, const char *const *more) {
    graft_options o;
    graft_plan p;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_PLAN,
             (const char *const[]){"model", model, "data", data, "fine-tune-type", "full", "batch-size", "1",
                                   "threads", "1", "iters", "1000", NULL});
    tiny_set(&o, GRAFT_VERB_PLAN, more);
    if (graft_plan_make(&o, NULL, &p, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    double seconds = p.time_seconds - (double)p.time_tokens / p.tokens_per_second;
    graft_plan_free(&p);
    graft_options_free(&o);
    return seconds;
}

/* The optimizer is part of a step, and with muon much of it: 1000 updates of full training are some 30
 * products of matrices for every one of adamw's passes over a vector. */
static void time_of_updates(void **state) {
    (void)state;
    char *root = tiny_temp(), *model = tiny_model_dir(root, "base", &(tiny_spec){0}),
         *data = tiny_data_dir(root, "data", 3, 0);
    static const char *const of_adamw[] = {"optimizer", "adamw", NULL};
    static const char *const of_muon[] = {"optimizer", "muon", NULL};
    static const char *const of_fewer[] = {"optimizer", "muon", "grad-accumulation-steps", "100", NULL};
    bool ordered = false; /* each is a calibration, and a machine that stalls in one says nothing */
    for (int tries = 0; tries < 5 && !ordered; tries++) {
        double adamw = updating(model, data, of_adamw), muon = updating(model, data, of_muon),
               fewer = updating(model, data, of_fewer);
        if (!(adamw > 0 && muon > 0 && fewer > 0)) fail_msg("%g, %g, %g s", adamw, muon, fewer);
        ordered = muon > adamw && fewer < muon;
        if (!ordered) print_message("adamw %g, muon %g, a hundredth of it %g s\n", adamw, muon, fewer);
    }
    assert_true(ordered);
    free(data);
    free(model);
    tiny_remove(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(guide_rows), cmocka_unit_test(percentages),
                                       cmocka_unit_test(tensors_by_pattern), cmocka_unit_test(whole_weights),
                                       cmocka_unit_test(time_of_updates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
