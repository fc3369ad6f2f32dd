/* Models in mxfp4, mxfp8 and nvfp4: read, evaluated, trained and generated from as their dequantized form is,
 * converted back to floats and passed through. */
#include "convert/convert.h"
#include "tests/tiny_dir.h"
#include "tests/tiny_run.h"

static const char *const modes[] = {"mxfp4", "mxfp8", "nvfp4"};

static graft_status convert(const char *model, const char *out, gr_convert_options options,
                            graft_error *err) {
    gr_convert_result result;
    options.model = model;
    options.out = out;
    graft_status st = gr_convert(&options, &result, err);
    gr_convert_result_free(&result);
    return st;
}

static void must_convert(const char *model, const char *out, gr_convert_options options) {
    graft_error err = {0};
    if (convert(model, out, options, &err) != GRAFT_OK) fail_msg("%s %s %s", err.what, err.where, err.found);
}

static graft_eval_result evaluate(const char *model, const char *adapter) {
    graft_options o;
    graft_error err = {0};
    graft_eval_result r = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"model", model, "data", data, "compute", "fp32", "threads", "1", NULL});
    if (adapter) tiny_set(&o, GRAFT_VERB_EVAL, (const char *const[]){"adapter-path", adapter, NULL});
    if (graft_eval(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    graft_options_free(&o);
    return r;
}

static char *trained(const char *model, const char *name) {
    char *out = tiny_join(root, name);
    graft_options o;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", out, "iters", "6",
                                   "lora-rank", "4", "lora-targets", "full", "learning-rate", "2e-2",
                                   "compute", "fp32", "threads", "1", NULL});
    if (graft_train(&o, NULL, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    graft_options_free(&o);
    return out;
}

/* In fp32 every product sees the same f32 weights, so that nothing differs by a single bit. */
static void as_its_floats(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        char *model = tiny_model_dir(root, "model", &(tiny_spec){.mode = modes[i]}),
             *back = tiny_join(root, "back");
        must_convert(model, back, (gr_convert_options){.dequantize = true, .dtype = "float32"});
        graft_eval_result a = evaluate(model, NULL), b = evaluate(back, NULL);
        assert_true(isfinite(a.loss) && a.loss > 1);
        assert_memory_equal(&a.loss, &b.loss, sizeof a.loss);
        char *one = trained(model, "one"), *two = trained(back, "two");
        graft_eval_result c = evaluate(model, one), d = evaluate(back, two);
        assert_true(c.loss < a.loss);
        assert_memory_equal(&c.loss, &d.loss, sizeof c.loss);
        graft_eval_result *all[] = {&a, &b, &c, &d};
        for (int k = 0; k < 4; k++) graft_eval_result_free(all[k]);
        char *dirs[] = {model, back, one, two};
        for (int k = 0; k < 4; k++) tiny_remove(dirs[k]);
    }
}

static void converted(void **state) {
    (void)state;
    graft_error err = {0};
    for (int i = 0; i < 3; i++) {
        const gr_mx_row *format = gr_mx_by_mode(modes[i]);
        char *model = tiny_model_dir(root, "model",
                                     &(tiny_spec){.mode = modes[i], .dtype = GR_BF16, .untied = true}),
             *out = tiny_join(root, "out");
        gr_safetensors *from, *to;
        must_convert(model, out, (gr_convert_options){.quantize = true}); /* codes stay */
        assert_int_equal(gr_safetensors_open(&from, model, &err), GRAFT_OK);
        assert_int_equal(gr_safetensors_open(&to, out, &err), GRAFT_OK);
        assert_int_equal(gr_safetensors_count(from), gr_safetensors_count(to));
        for (size_t t = 0; t < gr_safetensors_count(from); t++) {
            const gr_tensor *x = gr_safetensors_at(from, t), *y = gr_safetensors_at(to, t);
            assert_string_equal(x->name, y->name);
            assert_int_equal(x->dtype, y->dtype);
            assert_memory_equal(x->data, y->data, x->bytes);
        }
        gr_safetensors_close(from);
        gr_safetensors_close(to);
        char *config = tiny_read(out, "config.json", NULL), mode[64];
        snprintf(mode, sizeof mode, "\"mode\": \"%s\"", modes[i]);
        if (!strstr(config, mode)) fail_msg("%s", config);
        free(config);
        gr_model *m = NULL;
        assert_int_equal(gr_model_open(&m, out, &err), GRAFT_OK);
        const gr_mat *q = &m->layer[0].linear[GR_Q_PROJ];
        assert_int_equal(q->layout, GR_MX);
        assert_int_equal(gr_mat_bytes(q),
                         q->rows * q->cols * format->bits / 8 + q->rows * q->cols / format->group);
        gr_model_free(m);
        gr_convert_options other = {
            .quantize = true, .q_bits = format->bits == 4 ? 8 : 4, .q_group_size = 64};
        assert_int_equal(convert(model, out, other, &err), GRAFT_USAGE);
        assert_non_null(strstr(err.what, "quantized already"));
        gr_error_clear(&err);
        tiny_remove(model);
        tiny_remove(out);
    }
}

/* Modes of two modules beside each other, and a config alone. */
static void mixed_and_alone(void **state) {
    (void)state;
    graft_error err = {0};
    gr_model *m = NULL;
    char *model = tiny_model_dir(
        root, "model",
        &(tiny_spec){.mode = "nvfp4",
                     .extra = ",\"quantization_config\":{\"group_size\":16,\"bits\":4,\"mode\":\"nvfp4\"}"});
    char *weights = tiny_join(model, "model.safetensors");
    assert_int_equal(gr_model_open(&m, model, &err), GRAFT_OK);
    uint64_t bytes = gr_model_weight_bytes(m);
    gr_model_free(m);
    assert_int_equal(unlink(weights), 0);
    assert_int_equal(gr_model_from_config(&m, model, &err), GRAFT_OK);
    assert_int_equal(m->layer[1].linear[GR_DOWN_PROJ].layout, GR_MX);
    assert_true(gr_model_weight_bytes(m) <= bytes); /* its embedding is taken for bf16, here it is f32 */
    gr_model_free(m);
    tiny_config_write(model, &(tiny_spec){.mode = "mxfp8", .extra = ",\"x\":1"});
    assert_int_equal(gr_model_from_config(&m, model, &err), GRAFT_OK);
    assert_int_equal(m->layer[1].linear[GR_DOWN_PROJ].bits, 8);
    gr_model_free(m);
    free(weights);
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_its_floats), cmocka_unit_test(converted),
                                       cmocka_unit_test(mixed_and_alone)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
