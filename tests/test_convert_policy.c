/* The guide's table on a real conversion: for every role and every kind of tensor, is it quantized? */
#include "convert/convert.h"
#include "model/roles.h"
#include "tests/tiny_root.h"

/* The guide's words: a tensor whose name holds one of them is not quantized. */
static bool skipped(const char *name) {
    static const char *const words[] = {"embed_tokens", "lm_head", "layernorm", "norm", "rotary_emb", "bias"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(name, words[i])) return true;
    return false;
}

/* Checks every tensor of the source; returns how many became codes. */
static int check(const char *model, const char *out, bool embeddings) {
    graft_error err = {0};
    gr_safetensors *from, *to;
    gr_convert_result result;
    int codes = 0;
    gr_convert_options options = {
        .model = model, .out = out, .quantize = true, .q_group_size = 32, .q_embeddings = embeddings};
    if (gr_convert(&options, &result, &err) != GRAFT_OK) fail_msg("%s", err.what);
    gr_convert_result_free(&result);
    assert_int_equal(gr_safetensors_open(&from, model, &err), GRAFT_OK);
    assert_int_equal(gr_safetensors_open(&to, out, &err), GRAFT_OK);
    for (size_t i = 0; i < gr_safetensors_count(from); i++) {
        const gr_tensor *t = gr_safetensors_at(from, i), *now = gr_safetensors_find(to, t->name);
        bool asked = embeddings && (strstr(t->name, "embed_tokens") || strstr(t->name, "lm_head"));
        bool want = asked || !skipped(t->name);
        if (!now || (now->dtype == GR_U32) != want) fail_msg("%s: quantized must be %d", t->name, want);
        if (!want) assert_memory_equal(now->data, t->data, t->bytes); /* 16-bit as it was */
        codes += want;
    }
    gr_safetensors_close(from);
    gr_safetensors_close(to);
    return codes;
}

static void guides_table(void **state) {
    (void)state;
    static const char *const types[] = {"llama", "mistral", "qwen2", "qwen3"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char *model =
            tiny_model_dir(root, "model", &(tiny_spec){.type = types[i], .dtype = GR_BF16, .untied = true});
        char *out = tiny_join(root, "out"), *all = tiny_join(root, "all");
        assert_int_equal(check(model, out, false), TINY_LAYERS * 7);
        assert_int_equal(check(model, all, true), TINY_LAYERS * 7 + 2);
        tiny_remove(model);
        tiny_remove(out);
        tiny_remove(all);
    }
    /* the same in words of the role table */
    for (int r = 0; r < GR_ROLES; r++)
        assert_int_equal(gr_role_table[r].quantize, r < GR_LINEARS && r != GR_ROUTER);
    for (int r = GR_LINEARS; r < GR_ROLES; r++) assert_true(skipped(gr_role_table[r].type));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(guides_table)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
