/* plan/lora.c: which linears an adapter request selects, how many parameters that makes, and what is refused.
 */
#include "model/model.h"
#include "plan/lora.h"
#include "tests/ref_check.h"

static gr_lora_request request(const char *targets) {
    return (gr_lora_request){.targets = targets, .num_layers = -1, .rank = 16, .scale = 2, .alpha = 32};
}

static gr_model_config shape(const char *name) {
    gr_model_config c;
    graft_error err = {0};
    assert_int_equal(gr_shape_config(&c, name, &err), GRAFT_OK);
    return c;
}

/* Parameters of a request; -1 and the error when it is refused. Checks the layout on the way. */
static int64_t count(const gr_model_config *c, const gr_lora_request *r, int64_t *adapted, graft_error *err) {
    gr_lora *lora = NULL;
    if (gr_lora_select(&lora, c, r, err) != GRAFT_OK) {
        assert_null(lora);
        return -1;
    }
    int64_t n = lora->parameters, linears = 0, at = 0;
    for (int64_t l = 0; l < c->layers; l++)
        for (int g = 0; g < GR_GROUPS; g++) { /* all A of a group one after another, then all B; no gap */
            int64_t in, out, first;
            for (int pass = 0; pass < 2; pass++)
                for (int i = 0; i < gr_group_table[g].count; i++) {
                    gr_role role = gr_group_table[g].role[i];
                    const gr_lora_linear *x = &lora->linear[l][role];
                    gr_role_shape(role, c, &out, &in);
                    if (x->rank) assert_int_equal(pass ? x->b : x->a, at);
                    at += x->rank * (pass ? out : in);
                    linears += pass && x->rank;
                    if (x->rank) assert_true(l >= lora->lowest);
                }
            assert_true(gr_lora_group(lora, l, g, &first) % r->rank == 0);
        }
    assert_int_equal(at, n);
    assert_int_equal(linears, lora->adapted);
    if (adapted) *adapted = lora->adapted;
    gr_lora_free(lora);
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
        gr_lora_request r = request(cases[i].targets);
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
    gr_lora_request r = request("extended");
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
        gr_lora_request r = request(cases[i].targets);
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

/* The same selection from the ranks of an adapter that was read. */
static void from_ranks(void **state) {
    (void)state;
    gr_model_config c = shape("smollm2-135m");
    gr_lora_request r = request("extended");
    graft_error err = {0};
    gr_lora *chosen = NULL, *read = NULL;
    int64_t ranks[30 * GR_LINEARS];
    assert_int_equal(gr_lora_select(&chosen, &c, &r, &err), GRAFT_OK);
    for (int i = 0; i < 30 * GR_LINEARS; i++) ranks[i] = chosen->linear[i / GR_LINEARS][i % GR_LINEARS].rank;
    assert_int_equal(gr_lora_from_ranks(&read, &c, ranks, 2, &err), GRAFT_OK);
    assert_int_equal(read->parameters, chosen->parameters);
    assert_int_equal(read->adapted, chosen->adapted);
    assert_int_equal(read->rank, 16);
    assert_near(read->alpha, 32, 0);
    assert_memory_equal(read->linear, chosen->linear, sizeof *read->linear * 30);
    gr_lora_free(chosen);
    gr_lora_free(read);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selections),
        cmocka_unit_test(refusals),
        cmocka_unit_test(from_ranks),
    };
    return cmocka_run_group_tests_name("lora", tests, NULL, NULL);
}
