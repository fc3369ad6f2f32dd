/* LoRA+: rates and decay of every kind of trained tensor as in PEFT (tests/golden/loraplus.txt), and what
 * they do to a run. */
#include "tests/golden_lines.h"
#include "tests/tiny_run.h"

/* A PEFT name as one of our tensors. */
static gr_param param_of(const char *name) {
    gr_param p = {.kind = GR_PARAM_WEIGHT, .rows = 8, .cols = 8, .role = GR_ROLES};
    for (gr_role role = 0; role < GR_ROLES; role++) {
        const char *at = strstr(name, gr_role_table[role].type);
        /* "norm" stands in other names too */
        if (at && (role != GR_NORM || strstr(name, "model.norm"))) p.role = role;
    }
    if (strstr(name, "lora_A") || strstr(name, "embedding_A")) p.kind = GR_PARAM_A;
    if (strstr(name, "lora_B") || strstr(name, "embedding_B")) p.kind = GR_PARAM_B;
    if (strstr(name, "magnitude")) p.kind = GR_PARAM_MAGNITUDE;
    if (strstr(name, ".bias")) p.kind = GR_PARAM_BIAS;
    if (p.kind == GR_PARAM_MAGNITUDE || p.kind == GR_PARAM_BIAS || strstr(name, "norm")) p.cols = 0;
    return p;
}

static void groups_are_pefts(void **state) {
    (void)state;
    int lines = 0;
    for (golden_line line = golden_open("loraplus.txt"); golden_next(&line); lines++) {
        gr_param p = param_of(line.words[0]);
        gr_optim_tensor x = {.rate = 1};
        assert_int_equal(line.count, 3);
        assert_int_not_equal(p.role, GR_ROLES);
        gr_trainer_loraplus(&x, &p, 16, 1e-3);
        if (fabs(x.rate - strtod(line.words[1], NULL)) > 1e-12 || x.no_decay == (line.words[2][0] == '1'))
            fail_msg("%s: rate %g, decays %d", line.words[0], x.rate, !x.no_decay);
    }
    assert_int_equal(lines, 21);
}

/* The sum of squares of A or of B after a run. */
static double size_of(const char *out, const char *part) {
    char *dir = tiny_join(root, out), *path = tiny_join(dir, "adapters.safetensors");
    gr_safetensors *file = NULL;
    graft_error err = {0};
    double sum = 0;
    assert_int_equal(gr_safetensors_open(&file, path, &err), GRAFT_OK);
    for (size_t i = 0; i < gr_safetensors_count(file); i++) {
        const gr_tensor *x = gr_safetensors_at(file, i);
        for (size_t k = 0; strstr(x->name, part) && k < x->bytes; k += sizeof(float)) {
            float value;
            memcpy(&value, x->data + k, sizeof value);
            sum += (double)value * (double)value;
        }
    }
    gr_safetensors_close(file);
    free(path);
    free(dir);
    return sum;
}

static void b_moves_faster(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    must_train(model, "plain", NULL, NULL, NULL);
    must_train(model, "one", (const char *const[]){"loraplus-lr-ratio", "1", NULL}, NULL, NULL);
    same_results("plain", "one");
    must_train(model, "ratio", (const char *const[]){"loraplus-lr-ratio", "4", NULL}, NULL, NULL);
    double b = sqrt(size_of("ratio", "lora_b") / size_of("plain", "lora_b"));
    /* three steps of adamw from zero, each near the rate: four times as far; A as far as before */
    assert_true(b > 3 && b < 5);
    assert_true(fabs(size_of("ratio", "lora_a") / size_of("plain", "lora_a") - 1) < 0.05);
    forget("plain");
    forget("one");
    forget("ratio");
    graft_error err = {0};
    assert_int_equal(
        train(model, "out", (const char *const[]){"loraplus-lr-ratio", "0", NULL}, NULL, NULL, &err),
        GRAFT_USAGE);
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_pefts),
        cmocka_unit_test(b_moves_faster),
    };
    return cmocka_run_group_tests_name("loraplus", tests, setup, teardown);
}
