/* convert/quant_rules: MLX's recipes choose as mlx-lm does (tests/golden/recipes.txt); the user's rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "convert/quant_rules.h"
#include "golden_lines.h"
#include <stdio.h>

static gr_quant_rules *rules_of(const char *predicate) {
    graft_error err = {0};
    gr_quant_rules *rules;
    if (gr_quant_rules_new(&rules, predicate, 4, 64, &err) != GRAFT_OK)
        fail_msg("%s: %s %s", predicate, err.what, err.found);
    return rules;
}

static void recipes_equal_mlx_lm(void **state) {
    (void)state;
    golden_line line = golden_open("recipes.txt");
    int lines = 0;
    while (golden_next(&line)) {
        gr_quant_rules *rules = rules_of(line.words[0]);
        int64_t layers = atoi(line.words[1]);
        assert_true(gr_quant_rules_mixed(rules));
        const char *bits = line.words[line.count - 1];
        for (int64_t i = 0; bits[i]; i++) {
            char path[80];
            if (line.count == 3)
                snprintf(path, sizeof path, "%s", i ? "lm_head" : "model.embed_tokens");
            else
                snprintf(path, sizeof path, "model.layers.%d.%s", (int)i, line.words[2]);
            gr_quant_choice choice = gr_quant_rules_choose(rules, path, true, layers);
            if (!choice.quantize || choice.bits != bits[i] - '0' || choice.group != 64)
                fail_msg("%s of %d: %s gets %d bits", line.words[0], (int)layers, path, choice.bits);
        }
        graft_error err = {0};
        bool down = line.count > 3 && strcmp(line.words[2], "mlp.down_proj") == 0;
        assert_int_equal(gr_quant_rules_used(rules, &err), down ? GRAFT_OK : GRAFT_UNSUPPORTED);
        assert_false(gr_quant_rules_choose(rules, "model.embed_tokens", false, layers).quantize);
        gr_quant_rules_free(rules);
        lines++;
    }
    assert_int_equal(lines, 4 * 9 * 8);
}

static void expect(gr_quant_rules *rules, const char *path, bool policy, int bits, int group) {
    gr_quant_choice choice = gr_quant_rules_choose(rules, path, policy, 8);
    if (choice.quantize != (bits != 0) || (bits && (choice.bits != bits || choice.group != group)))
        fail_msg("%s: quantize %d, bits %d, group %d", path, choice.quantize, choice.bits, choice.group);
}

static void rules_decide(void **state) {
    (void)state;
    graft_error err = {0};
    gr_quant_rules *rules = rules_of(NULL);
    expect(rules, "model.layers.0.mlp.up_proj", true, 4, 64);
    expect(rules, "lm_head", false, 0, 0);
    assert_int_equal(gr_quant_rules_used(rules, &err), GRAFT_OK);
    gr_quant_rules_free(rules);
    rules = rules_of("lm_head=8:32; re:model\\.layers\\.[0-9]{1,2}\\.mlp\\.(up|x=4)_proj=6,o_proj=false,"
                     "model.layers.1.self_attn.q_proj=3:128,q_proj=2");
    expect(rules, "lm_head", false, 8, 32); /* against the policy */
    expect(rules, "model.layers.11.mlp.up_proj", true, 6, 64);
    expect(rules, "model.layers.1.mlp.up_proj", true, 6, 64);
    expect(rules, "model.layers.111.mlp.up_proj", true, 4, 64); /* the whole path must match */
    expect(rules, "model.layers.1.self_attn.o_proj", true, 0, 0);
    expect(rules, "model.layers.1.self_attn.q_proj", true, 3, 128); /* the first rule that matches */
    assert_int_equal(gr_quant_rules_used(rules, &err), GRAFT_USAGE);
    assert_string_equal(err.found, "q_proj=2");
    expect(rules, "model.layers.2.self_attn.q_proj", true, 2, 64);
    expect(rules, "model.layers.2.self_attn.xq_proj", true, 4, 64);
    assert_int_equal(gr_quant_rules_used(rules, &err), GRAFT_OK);
    gr_quant_rules_free(rules);
    rules = rules_of("up_porj=2");
    gr_error_clear(&err);
    expect(rules, "model.layers.2.mlp.up_proj", true, 4, 64);
    assert_int_equal(gr_quant_rules_used(rules, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.hint, "up_proj"));
    gr_quant_rules_free(rules);
    rules = rules_of("mixed_2_6,down_proj=8"); /* a rule beats the recipe */
    expect(rules, "model.layers.0.mlp.down_proj", true, 8, 64);
    expect(rules, "model.layers.0.self_attn.v_proj", true, 6, 64);
    expect(rules, "model.layers.1.self_attn.v_proj", true, 2, 64);
    gr_quant_rules_free(rules);
}

static void refuses(void **state) {
    (void)state;
    static const char *const wrong[] = {"",
                                        "mixed_2_8",
                                        "mixed_2_6x",
                                        "q_proj",
                                        "=4",
                                        "q_proj=",
                                        "q_proj=7",
                                        "q_proj=4:48",
                                        "q_proj=4:",
                                        "q_proj=4,",
                                        "q_proj=falsey",
                                        "re:(=4",
                                        "q_proj=4,mixed_2_6",
                                        "q_proj=4 k_proj=4",
                                        "q_proj=99999999999",
                                        ",q_proj=4"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        graft_error err = {0};
        gr_quant_rules *rules;
        if (gr_quant_rules_new(&rules, wrong[i], 4, 64, &err) != GRAFT_USAGE || rules || !err.what[0])
            fail_msg("not refused: %s", wrong[i]);
    }
    /* a pattern that would take for ever matches nothing */
    gr_quant_rules *rules = rules_of("re:(((((a*)*)*)*)*)*b=4");
    expect(rules, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", true, 4, 64);
    gr_quant_rules_free(rules);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(recipes_equal_mlx_lm), cmocka_unit_test(rules_decide),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
