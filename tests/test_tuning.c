/* plan/tuning.c: which linears an adapter request selects, how many parameters that makes, and what is
 * refused.
 */
#include "model/model.h"
#include "plan/tuning.h"
#include "tests/ref_check.h"
#include <locale.h>

static gr_tuning_request request(const char *targets) {
    return (gr_tuning_request){.targets = targets, .num_layers = -1, .rank = 16, .scale = 2, .alpha = 32};
}

static gr_model_config shape(const char *name) {
    gr_model_config c;
    graft_error err = {0};
    assert_int_equal(gr_shape_config(&c, name, &err), GRAFT_OK);
    return c;
}

/* Parameters of a request; -1 and the error when it is refused. Checks the layout on the way. */
static int64_t count(const gr_model_config *c, const gr_tuning_request *r, int64_t *adapted,
                     graft_error *err) {
    gr_tuning *tuning = NULL;
    if (gr_tuning_select(&tuning, c, r, err) != GRAFT_OK) {
        assert_null(tuning);
        return -1;
    }
    int64_t n = tuning->parameters, linears = 0, at = 0;
    for (int64_t l = 0; l < c->layers; l++)
        for (int g = 0; g < GR_GROUPS; g++) { /* all A of a group one after another, then all B; no gap */
            int64_t in, out, first;
            for (int pass = 0; pass < 2; pass++)
                for (int i = 0; i < gr_group_table[g].count; i++) {
                    gr_role role = gr_group_table[g].role[i];
                    const gr_tuned *x = &tuning->block[l][role];
                    gr_role_shape(role, c, &out, &in);
                    if (x->rank) assert_int_equal(pass ? x->b : x->a, at);
                    if (gr_role_expert(role) && !pass) in *= gr_max_i64(1, c->experts); /* a matrix each */
                    at += x->rank * (pass ? out : in);
                    linears += pass && x->rank;
                    if (x->rank) assert_true(l >= tuning->lowest);
                }
            assert_true(gr_tuning_group(tuning, l, g, &first) % r->rank == 0);
        }
    assert_int_equal(at, n);
    assert_int_equal(linears, tuning->adapted);
    if (adapted) *adapted = tuning->adapted;
    gr_tuning_free(tuning);
    return n;
}

static void selections(void **state) {
    (void)state;
    /* smollm2-135m: hidden 576, kv 192, mlp 1536, 30 layers; one r16 adapter of in x out is 16 (in + out) */
    enum { Q = 16 * (576 + 576), KV = 16 * (576 + 192), MLP = 16 * (576 + 1536), L = 30 };
    static const struct {
        const char *targets, *exclude, *layers;
        int64_t num_layers, parameters, adapted;
    } cases[] = {
        {"standard", NULL, NULL, -1, L * (Q + KV), 2 * L},
        {"extended", NULL, NULL, -1, L * (2 * Q + 2 * KV), 4 * L},
        {"full", NULL, NULL, -1, L * (2 * Q + 2 * KV + 3 * MLP), 7 * L},
        {"all-linear", NULL, NULL, -1, L * (2 * Q + 2 * KV + 3 * MLP), 7 * L},
        {"q_proj", NULL, NULL, 0, L * Q, L},
        {" q_proj , v_proj,", NULL, NULL, 0, L * (Q + KV), 2 * L},
        {"self_attn.q_proj", NULL, NULL, 0, L * Q, L},
        {"model.layers.3.mlp.down_proj", NULL, NULL, -1, MLP, 1},
        {"q_proj,q_proj", NULL, NULL, -1, L * Q, L},
        {"re:.*\\.(q|k)_proj", NULL, NULL, -1, L * (Q + KV), 2 * L},
        {"re:model\\.layers\\.[0-4]\\..*", NULL, NULL, -1, 5 * (2 * Q + 2 * KV + 3 * MLP), 35},
        {"extended", "k_proj,o_proj", NULL, -1, L * (Q + KV), 2 * L},
        {"full", "re:.*mlp.*", NULL, -1, L * (2 * Q + 2 * KV), 4 * L},
        {"extended", NULL, "0,1,5-7", -1, 5 * (2 * Q + 2 * KV), 20},
        {"extended", NULL, " 29 ", -1, 2 * Q + 2 * KV, 4},
        {"extended", NULL, NULL, 16, 16 * (2 * Q + 2 * KV), 64},
        {"extended", NULL, "0-19", 12, 2 * (2 * Q + 2 * KV), 8}, /* the last 12 of 30 begin at 18 */
    };
    gr_model_config c = shape("smollm2-135m");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_tuning_request r = request(cases[i].targets);
        graft_error err = {0};
        int64_t adapted = 0;
        r.exclude = cases[i].exclude;
        r.layers = cases[i].layers;
        r.num_layers = cases[i].num_layers;
        int64_t n = count(&c, &r, &adapted, &err);
        if (n != cases[i].parameters || adapted != cases[i].adapted)
            fail_msg("%s: %lld of %lld, %lld linears %s", cases[i].targets, (long long)n,
                     (long long)cases[i].parameters, (long long)adapted, err.what);
    }
    /* published counts: PEFT prints these for r 16 on q, k, v, o, and r 8 on q, v */
    gr_model_config big = shape("llama-3-8b");
    gr_tuning_request r = request("extended");
    graft_error err = {0};
    assert_int_equal(count(&big, &r, NULL, &err), 13631488);
    r.targets = "standard";
    r.rank = 8;
    assert_int_equal(count(&big, &r, NULL, &err), 3407872);
    r.targets = "full";
    r.rank = 16;
    assert_int_equal(count(&big, &r, NULL, &err), 41943040);
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *targets, *exclude, *layers, *said;
    } cases[] = {
        {"q_prj", NULL, NULL, "q_proj"},
        {"q_proj,w_pack", NULL, NULL, "w_pack"},
        {"proj", NULL, NULL, "proj"}, /* PEFT matches whole parts of a path */
        {"_proj", NULL, NULL, "_proj"},
        {"lm_head", NULL, NULL, "lm_head"},
        {"Extended", NULL, NULL, "extended"},
        {"", NULL, NULL, "nothing"},
        {",", NULL, NULL, "nothing"},
        {"re:q_proj", NULL, NULL, "nothing"}, /* the whole path must match */
        {"re:(", NULL, NULL, "regular expression"},
        {"q_proj", "q_proj", NULL, "nothing"},
        {"q_proj", "re:[", NULL, "regular expression"},
        {"extended", "k_prj", NULL, "--exclude-modules"},
        {"extended", "k_proj,up", NULL, "--exclude-modules"},
        {"extended", NULL, "30", "layers"},
        {"extended", NULL, "-1", "layers"},
        {"extended", NULL, "5-3", "layers"},
        {"extended", NULL, "1;2", "layers"},
        {"extended", NULL, "one", "layers"},
        {"extended", NULL, "0-99999999999999999999", "layers"},
        {"extended", NULL, "", "nothing"},
    };
    gr_model_config c = shape("smollm2-135m");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_tuning_request r = request(cases[i].targets);
        graft_error e = {0};
        char all[2048];
        r.exclude = cases[i].exclude;
        r.layers = cases[i].layers;
        assert_int_equal(count(&c, &r, NULL, &e), -1);
        snprintf(all, sizeof all, "%s|%s|%s|%s|%s", e.what, e.where, e.expected, e.found, e.hint);
        if (e.status != GRAFT_USAGE || !strstr(all, cases[i].said))
            fail_msg("%s: status %d, %s", cases[i].targets, e.status, all);
    }
}

/* In a set q, k or v also means a fused qkv_proj, gate or up a gate_up_proj; a name means what it says. */
static void fused_linears(void **state) {
    (void)state;
    static const struct {
        const char *shape, *targets;
        int64_t adapted;
    } cases[] = {{"phi-4-mini", "standard", 32},
                 {"phi-4-mini", "extended", 64},
                 {"phi-4-mini", "full", 128},
                 {"phi-4-mini", "qkv_proj", 32},
                 {"phi-4-mini", "q_proj", -1},
                 {"starcoder2-3b", "standard", 60},
                 {"starcoder2-3b", "full", 6 * 30},
                 {"starcoder2-3b", "c_fc", 30},
                 {"starcoder2-3b", "up_proj", -1},
                 {"gemma-3-1b", "full", 7 * 26},
                 {"olmo-2-1b", "extended", 4 * 16},
                 {"qwen3-30b-a3b", "standard", 2 * 48},
                 {"qwen3-30b-a3b", "extended", 4 * 48},
                 {"qwen3-30b-a3b", "all-linear", 7 * 48},
                 {"qwen3-30b-a3b", "re:.*switch_mlp.*", 3 * 48},
                 {"qwen3-30b-a3b", "q_proj,mlp.switch_mlp.down_proj", 2 * 48}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_model_config c = shape(cases[i].shape);
        gr_tuning_request r = request(cases[i].targets);
        graft_error e = {0};
        int64_t adapted = -1;
        bool good = count(&c, &r, &adapted, &e) >= 0;
        if (!good || cases[i].adapted < 0)
            assert_int_equal(e.status, cases[i].adapted < 0 ? GRAFT_USAGE : GRAFT_OK);
        assert_int_equal(adapted, cases[i].adapted);
    }
}

/* The same selection from the ranks of an adapter that was read. */
static void placed_by_hand(void **state) {
    (void)state;
    gr_model_config c = shape("smollm2-135m");
    gr_tuning_request r = request("extended");
    graft_error err = {0};
    gr_tuning *chosen = NULL, *read = NULL;
    assert_int_equal(gr_tuning_select(&chosen, &c, &r, &err), GRAFT_OK);
    assert_int_equal(gr_tuning_new(&read, &c, &err), GRAFT_OK);
    for (int64_t l = 0; l < 30; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            read->block[l][role].rank = chosen->block[l][role].rank;
            read->block[l][role].scale = chosen->block[l][role].scale;
        }
    assert_int_equal(gr_tuning_place(read, &c, &err), GRAFT_OK);
    assert_int_equal(read->parameters, chosen->parameters);
    assert_int_equal(read->adapted, chosen->adapted);
    assert_int_equal(read->rank, 16);
    assert_memory_equal(read->block, chosen->block, sizeof *read->block * 30);
    gr_tuning_free(chosen);
    gr_tuning_free(read);
}

static gr_tuning *selected(const gr_model_config *c, const gr_tuning_request *r) {
    graft_error err = {0};
    gr_tuning *t = NULL;
    if (gr_tuning_select(&t, c, r, &err) != GRAFT_OK) fail_msg("%s: %s", err.what, err.found);
    int64_t at = 0; /* the list covers the vector without a gap */
    for (size_t i = 0; i < t->param_count; i++) {
        assert_int_equal(t->params[i].at, at);
        at += gr_param_count(&t->params[i]);
    }
    assert_int_equal(at, t->parameters);
    return t;
}

/* Routers train in no way, experts by LoRA alone. */
static void mixtures(void **state) {
    (void)state;
    gr_model_config c = shape("olmoe-1b-7b");
    const struct {
        const char *targets, *without, *save;
        gr_tuning_kind kind;
        double dropout;
        const char *said; /* NULL: accepted */
    } cases[] = {{"all-linear", NULL, NULL, GR_TUNE_LORA, 0, NULL},
                 {"all-linear", NULL, NULL, GR_TUNE_DORA, 0, "LoRA alone"},
                 {"all-linear", NULL, NULL, GR_TUNE_LORA, 0.1, "without dropout"},
                 {"all-linear", "gate_proj,up_proj,down_proj", NULL, GR_TUNE_DORA, 0.1, NULL},
                 {"extended", NULL, NULL, GR_TUNE_DORA, 0.1, NULL},
                 {"mlp.gate", NULL, NULL, GR_TUNE_LORA, 0, "router"},
                 {"re:.*mlp.*", NULL, NULL, GR_TUNE_LORA, 0, "router"},
                 {"extended", NULL, "mlp.gate", GR_TUNE_LORA, 0, "router"},
                 {"extended", NULL, "up_proj", GR_TUNE_LORA, 0, "LoRA alone"},
                 {NULL, NULL, NULL, GR_TUNE_FULL, 0, "LoRA alone"},
                 /* in some other block than the first */
                 {"re:.*layers\\.1\\.mlp.*up_proj", NULL, NULL, GR_TUNE_DORA, 0, "LoRA alone"},
                 {"re:.*layers\\.1\\.mlp.*up_proj", NULL, NULL, GR_TUNE_LORA, 0.1, "without dropout"},
                 {"re:.*layers\\.3\\.mlp\\.gate", NULL, NULL, GR_TUNE_LORA, 0, "router"},
                 {"extended", NULL, "layers.2.mlp.gate", GR_TUNE_LORA, 0, "router"},
                 /* what no file can hold */
                 {"all-linear", NULL, "norm", GR_TUNE_LORA, 0, "no adapter file"},
                 {"all-linear", NULL, "lm_head", GR_TUNE_LORA, 0, "no adapter file"},
                 {"extended", NULL, "norm,lm_head", GR_TUNE_LORA, 0, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_tuning_request r = request(cases[i].targets);
        graft_error e = {0};
        gr_tuning *t = NULL;
        r.exclude = cases[i].without, r.modules_to_save = cases[i].save, r.kind = cases[i].kind;
        r.dropout = cases[i].dropout;
        graft_status st = gr_tuning_select(&t, &c, &r, &e);
        assert_int_equal(st, cases[i].said ? GRAFT_UNSUPPORTED : GRAFT_OK);
        if (cases[i].said && !strstr(e.what, cases[i].said)) fail_msg("%zu: %s", i, e.what);
        gr_tuning_free(t);
    }
    gr_tuning_request r = request("re:.*(o_proj|layers\\.1\\.mlp.*up_proj)");
    r.kind = GR_TUNE_DORA, r.num_layers = 2; /* block 1 is left out */
    gr_tuning_free(selected(&c, &r));
}

/* Ranks and scales by module; the first key that matches counts, and scale follows the module's own rank. */
static void patterns(void **state) {
    (void)state;
    gr_model_config c = shape("smollm2-135m");
    static const char *const ranks[] = {"layers.0.self_attn.q_proj=4,q_proj=8",
                                        "{\"layers.0.self_attn.q_proj\": 4, \"q_proj\": 8}"};
    for (int i = 0; i < 2; i++) {
        gr_tuning_request r = request("extended");
        r.scale = NAN;
        r.rank_pattern = ranks[i];
        r.alpha_pattern = "v_proj=64";
        gr_tuning *t = selected(&c, &r);
        assert_int_equal(t->block[0][GR_Q_PROJ].rank, 4);
        assert_int_equal(t->block[1][GR_Q_PROJ].rank, 8);
        assert_int_equal(t->block[1][GR_K_PROJ].rank, 16);
        assert_near(t->block[0][GR_Q_PROJ].scale, 8, 0);
        assert_near(t->block[1][GR_Q_PROJ].scale, 4, 0);
        assert_near(t->block[1][GR_K_PROJ].scale, 2, 0);
        assert_near(t->block[1][GR_V_PROJ].scale, 4, 0);
        gr_tuning_free(t);
        r.use_rslora = true;
        t = selected(&c, &r);
        assert_near(t->block[0][GR_Q_PROJ].scale, 16, 0);
        assert_near(t->block[1][GR_K_PROJ].scale, 8, 0);
        gr_tuning_free(t);
    }
}

/* A module's own alpha beats a scale of all modules. */
static void alpha_beats_scale(void **state) {
    (void)state;
    gr_model_config c = shape("smollm2-135m");
    gr_tuning_request r = request("standard");
    r.scale = 20;
    r.alpha_pattern = "v_proj=64";
    gr_tuning *t = selected(&c, &r);
    assert_near(t->block[0][GR_Q_PROJ].scale, 20, 0);
    assert_near(t->block[0][GR_V_PROJ].scale, 4, 0);
    gr_tuning_free(t);
}

/* Numbers are read the same in a host whose decimal point is a comma. */
static void any_locale(void **state) {
    (void)state;
    gr_model_config c = shape("smollm2-135m");
    gr_tuning_request r = request("standard");
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (setlocale(LC_NUMERIC, names[i])) break;
    r.scale = NAN;
    r.alpha_pattern = "q_proj=0.5,v_proj=1e1";
    gr_tuning *t = selected(&c, &r);
    setlocale(LC_NUMERIC, "C");
    assert_near(t->block[0][GR_Q_PROJ].scale, 0.5 / 16, 0);
    assert_near(t->block[0][GR_V_PROJ].scale, 10.0 / 16, 0);
    gr_tuning_free(t);
}

/* What is trained beside A and B, on a model with biases (and, tied or not, an embedding). */
static void kinds(void **state) {
    (void)state;
    enum { H = 896, KV = 128, V = 151936, M = 4864, L = 24 };
    gr_model_config c = shape("qwen2.5-0.5b");
    gr_tuning_request r = request("q_proj");
    int64_t lora = (int64_t)L * 16 * (H + H), biases = H + 2 * KV;
    r.bias = GR_BIAS_LORA_ONLY;
    gr_tuning *t = selected(&c, &r);
    assert_int_equal(t->parameters, lora + L * H);
    gr_tuning_free(t);
    r.bias = GR_BIAS_ALL;
    r.num_layers = 1; /* biases train in all layers, as PEFT's do */
    t = selected(&c, &r);
    assert_int_equal(t->parameters, lora / L + L * biases);
    assert_int_equal(t->lowest, 0);
    gr_tuning_free(t);
    r = request("q_proj");
    r.kind = GR_TUNE_DORA;
    t = selected(&c, &r);
    assert_int_equal(t->parameters, lora + L * H);
    assert_int_equal(t->block[3][GR_Q_PROJ].magnitude + H, t->block[4][GR_Q_PROJ].a);
    gr_tuning_free(t);
    r = request("q_proj,embed_tokens");
    t = selected(&c, &r);
    assert_int_equal(t->parameters, lora + 16 * (H + V));
    assert_true(t->embedding_trains);
    gr_tuning_free(t);
    r = request("q_proj");
    r.modules_to_save = "embed_tokens,norm";
    r.num_layers = 2;
    t = selected(&c, &r);
    assert_int_equal(t->parameters, lora / L * 2 + (int64_t)V * H + H);
    assert_int_equal(t->lowest, 0);
    assert_true(t->outside[GR_EMBED_TOKENS].saved && t->outside[GR_NORM].saved);
    gr_tuning_free(t);
    r = (gr_tuning_request){.kind = GR_TUNE_FULL, .num_layers = 2, .rank = 16, .alpha = 32, .scale = NAN};
    t = selected(&c, &r);
    int64_t block = 2 * H * H + 2 * H * KV + 3 * (int64_t)H * M + biases + 2 * H;
    assert_int_equal(t->parameters, 2 * block);
    assert_int_equal(t->lowest, L - 2);
    assert_int_equal(t->adapted, 0);
    gr_tuning_free(t);
}

static void refused_kinds(void **state) {
    (void)state;
    gr_model_config c = shape("smollm2-135m");
    static const struct {
        gr_tuning_request r;
        const char *said;
    } cases[] = {
        {{.targets = "q_proj", .rank = 4, .modules_to_save = "embed_token"}, "did you mean embed_tokens"},
        {{.targets = "q_poj", .rank = 4}, "did you mean q_proj"},
        {{.targets = "q_proj", .rank = 4, .rank_pattern = "k_proj=8"}, "k_proj"},
        {{.targets = "q_proj", .rank = 4, .rank_pattern = "q_proj"}, "MODULE=NUMBER"},
        {{.targets = "q_proj", .rank = 4, .rank_pattern = "q_proj=0.5"}, "whole"},
        {{.targets = "q_proj", .rank = 4, .alpha_pattern = "q_proj=-1"}, "--alpha-pattern"},
        {{.targets = "q_proj", .rank = 4, .alpha_pattern = "{\"q_proj\": []}"}, "--alpha-pattern"},
        {{.targets = "q_proj", .rank = 4, .alpha_pattern = "(=1"}, "--alpha-pattern"},
        {{.targets = "q_proj", .rank = 4, .alpha_pattern = "q_proj=0"}, "above 0"},
        {{.targets = "q_proj", .rank = 4, .alpha_pattern = "q_proj=1e-60"}, "above 0"},
        {{.targets = "q_proj", .rank = 4, .rank_pattern = "q_proj=0x10"}, "MODULE=NUMBER"},
        {{.targets = "q_proj", .rank = 4, .rank_pattern = "q_proj= 8"}, "MODULE=NUMBER"},
        {{.targets = "q_proj", .rank = 4, .rank_pattern = "q_proj=65537"}, "to 65536"},
        {{.targets = "standard", .rank = 4, .rank_pattern = "q_proj=8,layers.0.self_attn.q_proj=4"},
         "layers.0.self_attn.q_proj after q_proj"},
        {{.targets = "q_proj", .rank = 4, .layers = "0", .num_layers = 1},
         "--layers-to-transform 0 --num-layers 1"},
        {{.targets = "q_proj", .exclude = "q_proj", .rank = 4},
         "--lora-targets q_proj --exclude-modules q_proj"},
        {{.targets = "embed_tokens", .rank = 4, .kind = GR_TUNE_DORA}, "DoRA"},
        {{.kind = GR_TUNE_FULL, .layers = "0-1", .num_layers = 3, .rank = 1}, "nothing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_tuning_request r = cases[i].r;
        graft_error e = {0};
        gr_tuning *t = NULL;
        char all[2048];
        r.scale = NAN;
        r.alpha = 8;
        assert_int_equal(gr_tuning_select(&t, &c, &r, &e), GRAFT_USAGE);
        snprintf(all, sizeof all, "%s|%s|%s|%s|%s", e.what, e.where, e.expected, e.found, e.hint);
        if (t || !strstr(all, cases[i].said)) fail_msg("case %zu: %s", i, all);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selections),
        cmocka_unit_test(refusals),
        cmocka_unit_test(fused_linears),
        cmocka_unit_test(placed_by_hand),
        cmocka_unit_test(mixtures),
        cmocka_unit_test(patterns),
        cmocka_unit_test(kinds),
        cmocka_unit_test(refused_kinds),
        cmocka_unit_test(alpha_beats_scale),
        cmocka_unit_test(any_locale),
    };
    return cmocka_run_group_tests_name("lora", tests, NULL, NULL);
}
