/* Tokenizers of model directories: tokenizer.json with a class of transformers, SentencePiece's
 * tokenizer.model, and what stands beside them, against golden values of transformers and sentencepiece. */
#include "gguf_bytes.h"
#include "temp_dir.h"
#include "text/chat_templates.h"
#include "text/spm_model.h"
#include "tokenizer_golden.h"
#include <sys/stat.h>

static void put_bytes(const char *dir, const char *name, const char *bytes, size_t n) {
    graft_error err = {0};
    char *path = gr_path_join(dir, name);
    assert_int_equal(gr_file_replace(path, bytes, n, &err), GRAFT_OK);
    free(path);
}

static void put_file(const char *dir, const char *name, const char *text) {
    put_bytes(dir, name, text, strlen(text));
}

static void drop_file(const char *dir, const char *name) {
    char *path = gr_path_join(dir, name);
    unlink(path);
    free(path);
}

static int32_t special_id(const gr_tokenizer *tok, const char *name) {
    return gr_tokenizer_id(tok, gr_tokenizer_special(tok, name));
}

static void reads_a_directory(void **state) {
    (void)state;
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json", "generation_config.json",
                                        "chat_template.jinja", "special_tokens_map.json"};
    char dir[] = "/tmp/graft_tokenizer_XXXXXX";
    graft_error err = {0};
    gr_tokenizer *tok = NULL;
    gr_ids ids = {0};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(gr_tokenizer_open_as(&tok, dir, GR_MAPPED, &err), GRAFT_NOT_FOUND);
    assert_true(err.hint[0] != 0);
    gr_error_clear(&err);
    put_file(dir, files[0], "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true}]," MODEL "}");
    put_file(dir, files[1],
             "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</"
             "s>\"},\"add_bos_token\":true,\"add_eos_token\":true,"
             "\"model_max_length\":1000000000000000019884624838656,"
             "\"chat_template\":[{\"name\":\"default\",\"template\":\"D\"},{\"name\":\"tool_use\","
             "\"template\":\"T\"}]}");
    put_file(dir, files[2], "{\"eos_token_id\":[2,4]}");
    put_file(dir, files[4], "{\"pad_token\":\"<pad>\",\"bos_token\":\"<s>\"}");
    if (gr_tokenizer_open_as(&tok, dir, GR_MAPPED, &err)) fail_msg("%s", err.what);
    assert_int_equal(gr_tokenizer_bos(tok), 3);
    assert_true(gr_tokenizer_eos(tok) >= 4 && gr_tokenizer_is_special(tok, gr_tokenizer_eos(tok)));
    assert_true(special_id(tok, "pad_token") >= 4);
    assert_true(gr_tokenizer_is_stop(tok, 2) && gr_tokenizer_is_stop(tok, gr_tokenizer_eos(tok)));
    assert_false(gr_tokenizer_is_stop(tok, 0));
    assert_string_equal(gr_tokenizer_special(tok, "eos_token"), "</s>");
    assert_null(gr_tokenizer_special(tok, "mask_token"));
    assert_string_equal(gr_tokenizer_chat_template(tok, NULL), "D");
    assert_string_equal(gr_tokenizer_chat_template(tok, "tool_use"), "T");
    assert_null(gr_tokenizer_chat_template(tok, "other"));
    assert_int_equal(gr_tokenizer_encode(tok, "ab<s>", 5, GR_ENCODE_ADD_SPECIAL, &ids, &err), GRAFT_OK);
    /* <s> is text here and nothing of it is in the vocabulary; add_bos_token has no say beside a
     * tokenizer.json. */
    assert_int_equal(ids.count, 1);
    assert_int_equal(ids.ids[0], 2);
    gr_tokenizer_free(tok);
    put_file(dir, files[3], "J");
    assert_int_equal(gr_tokenizer_open_as(&tok, dir, GR_MAPPED, &err), GRAFT_OK);
    assert_string_equal(gr_tokenizer_chat_template(tok, NULL), "J");
    gr_tokenizer_free(tok);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) drop_file(dir, files[i]);
    rmdir(dir);
    gr_ids_free(&ids);
}

/* A directory with the file that a golden names, its tokenizer_config.json and a config.json. */
static void open_golden_directory(const char *dir, const char *name) {
    char path[512], *text;
    size_t len;
    graft_error err = {0};
    gr_tokenizer *tok;
    gr_buf config = {0};
    snprintf(path, sizeof path, GOLDEN "tokenizer_%s.json", name);
    assert_int_equal(gr_file_read(&text, &len, path, 1 << 20, &err), GRAFT_OK);
    json_t *root = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
    free(text);
    const char *file = json_string_value(json_object_get(root, "file")),
               *as = gr_ends_with(file, ".model") ? "tokenizer.model" : "tokenizer.json";
    snprintf(path, sizeof path, DATA "%s", file);
    assert_int_equal(gr_file_read(&text, &len, path, 1 << 20, &err), GRAFT_OK);
    put_bytes(dir, as, text, len);
    free(text);
    gr_buf_printf(&config, "{\"model_type\":\"%s\"}", json_string_value(json_object_get(root, "model_type")));
    put_file(dir, "config.json", config.data);
    put_file(dir, "tokenizer_config.json", json_string_value(json_object_get(root, "config")));
    if (gr_tokenizer_open_as(&tok, dir, GR_MAPPED, &err)) fail_msg("%s: %s", name, err.what);
    char golden[64];
    snprintf(golden, sizeof golden, "tokenizer_%s.json", name);
    expect_golden(tok, golden);
    gr_tokenizer_free(tok);
    gr_buf_free(&config);
    json_decref(root);
    drop_file(dir, as);
    drop_file(dir, "config.json");
    drop_file(dir, "tokenizer_config.json");
}

static void directories_equal_reference(void **state) {
    static const char *const names[] = {
        "spm_bpe",     "spm_unigram",        "spm_llama",        "spm_llama_legacy", "spm_gemma",
        "class_llama", "class_llama_legacy", "class_llama_bare", "class_of_others"};
    char dir[] = "/tmp/graft_tokenizer_XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) open_golden_directory(dir, names[i]);
    rmdir(dir);
}

/* added_tokens.json beside a tokenizer.model: new ids, special when the config names them. */
static void old_added_tokens(void **state) {
    char dir[] = "/tmp/graft_tokenizer_XXXXXX", *text;
    size_t len;
    graft_error err = {0};
    gr_tokenizer *tok;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(gr_file_read(&text, &len, DATA "spm_llama.model", 1 << 20, &err), GRAFT_OK);
    put_bytes(dir, "tokenizer.model", text, len);
    put_file(dir, "added_tokens.json", "{\"<|b|>\":431,\"<|a|>\":430}");
    put_file(dir, "tokenizer_config.json", "{\"pad_token\":\"<|a|>\"}");
    assert_int_equal(gr_tokenizer_open_as(&tok, dir, GR_MAPPED, &err), GRAFT_OK);
    assert_int_equal(gr_tokenizer_id(tok, "<|a|>"), 430);
    assert_int_equal(gr_tokenizer_id(tok, "<|b|>"), 431);
    assert_int_equal(special_id(tok, "pad_token"), 430);
    assert_true(gr_tokenizer_is_special(tok, 430));
    assert_false(gr_tokenizer_is_special(tok, 431));
    gr_tokenizer_free(tok);
    put_file(dir, "added_tokens.json", "[");
    assert_int_equal(gr_tokenizer_open_as(&tok, dir, GR_MAPPED, &err), GRAFT_CORRUPT);
    assert_non_null(strstr(err.where, "added_tokens.json"));
    drop_file(dir, "added_tokens.json");
    /* Cut off anywhere it is refused or has fewer pieces; never worse. */
    for (size_t cut = 0; cut < len; cut += 97) {
        graft_error why = {0};
        put_bytes(dir, "tokenizer.model", text, cut);
        if (!gr_tokenizer_open_as(&tok, dir, GR_MAPPED, &why))
            gr_tokenizer_free(tok);
        else
            assert_non_null(strstr(why.where, "tokenizer.model"));
    }
    free(text);
    drop_file(dir, "tokenizer.model");
    drop_file(dir, "tokenizer_config.json");
    rmdir(dir);
}

/* Which templates and special tokens count where files say different things: transformers'. */
static void files_that_disagree(void **state) {
    static const char *const templates[] = {"default", "tool_use", "rag", "notes"}, *const tokens[] = {
                                                                                        "bos_token",
                                                                                        "eos_token",
                                                                                        "pad_token"};
    json_t *root = json_load_file(GOLDEN "tokenizer_dirs.json", 0, NULL), *row, *text;
    const char *name, *json = json_string_value(json_object_get(root, "tokenizer"));
    size_t i;
    (void)state;
    json_array_foreach(json_object_get(root, "cases"), i, row) {
        temp_dir dir = temp_dir_new();
        graft_error err = {0};
        gr_tokenizer *tok;
        temp_file(&dir, "tokenizer.json", json, strlen(json));
        mkdir(temp_path(&dir, "additional_chat_templates"), 0700);
        json_object_foreach(json_object_get(row, "files"), name, text)
            temp_file(&dir, name, json_string_value(text), json_string_length(text));
        if (gr_tokenizer_open_as(&tok, dir.path, GR_MAPPED, &err)) fail_msg("case %zu: %s", i, err.what);
        for (size_t k = 0; k < sizeof templates / sizeof *templates; k++) {
            const char *got = gr_tokenizer_chat_template(tok, templates[k]),
                       *want = json_string_value(
                           json_object_get(json_object_get(row, "templates"), templates[k]));
            if (!got != !want || (got && strcmp(got, want)))
                fail_msg("case %zu: %s is %s, not %s", i, templates[k], got, want);
        }
        for (size_t k = 0; k < sizeof tokens / sizeof *tokens; k++) {
            const char *got = gr_tokenizer_special(tok, tokens[k]),
                       *want = json_string_value(json_object_get(json_object_get(row, "special"), tokens[k]));
            if (!got != !want || (got && strcmp(got, want)))
                fail_msg("case %zu: %s is %s, not %s", i, tokens[k], got, want);
        }
        gr_tokenizer_free(tok);
        temp_dir_free(&dir);
    }
    assert_true(i > 8);
    json_decref(root);
}

/* As gguf-py writes a list of templates; and with the one for tools, but no list. */
static void templates_of_gguf(void **state) {
    (void)state;
    for (int listed = 0; listed < 2; listed++) {
        temp_dir dir = temp_dir_new();
        graft_error err = {0};
        gr_buf b = {0};
        gr_gguf *file;
        json_t *value;
        put_header(&b, 3, 0, listed ? 4 : 3);
        put_key_string(&b, "tokenizer.chat_template.tool_use", "T");
        put_key_string(&b, "tokenizer.chat_template.unlisted", "U");
        if (listed) put_key_array(&b, "tokenizer.chat_templates", GR_GGUF_STRING, 2);
        if (listed) put_string(&b, "tool_use");
        if (listed) put_string(&b, "absent");
        put_key_string(&b, "tokenizer.chat_template", "D");
        put_padding(&b, 32);
        if (gr_gguf_open(&file, temp_file(&dir, "x.gguf", b.data, b.len), &err)) fail_msg("%s", err.what);
        assert_int_equal(gr_chat_templates_of_gguf(&value, file, &err), GRAFT_OK);
        assert_string_equal(gr_chat_template_named(value, NULL), "D");
        assert_string_equal(gr_chat_template_named(value, "tool_use"), "T");
        assert_null(gr_chat_template_named(value, "absent"));
        assert_int_equal(json_array_size(value), 2);
        json_decref(value);
        gr_gguf_close(file);
        gr_buf_free(&b);
        temp_dir_free(&dir);
    }
}

static void names_what_no_model_file_can(void **state) {
    static const struct {
        const char *bytes;
        size_t len;
        const char *word;
        graft_status status;
    } cases[] = {
        {"", 0, "no pieces", GRAFT_CORRUPT},
        {"\x0a\x7f", 2, "damaged", GRAFT_CORRUPT},
        {"\x0b", 1, "damaged", GRAFT_CORRUPT},
        {"\x0a\x03\x0a\x05x", 5, "pieces cannot be read", GRAFT_CORRUPT},
        {"\x0a\x08\x0a\x01x\x15\0\0\xc0\x7f", 10, "scores", GRAFT_CORRUPT},
        {"\x0a\x03\x0a\x01x\x12\x02\x18\x03", 9, "type is not supported", GRAFT_UNSUPPORTED},
        {"\x0a\x03\x0a\x01x\x12\x03\xc0\x01\x01", 10, "treat_whitespace_as_suffix", GRAFT_UNSUPPORTED},
        {"\x0a\x03\x0a\x01x\x1a\x02\x28\0", 9, "escape_whitespaces", GRAFT_UNSUPPORTED},
        {"\x0a\x03\x0a\x01x\x2a\x03\x12\x01z", 10, "denormalizer", GRAFT_UNSUPPORTED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_spm_model model;
        graft_error err = {0};
        graft_status st = gr_spm_model_read(&model, cases[i].bytes, cases[i].len, &err);
        if (st != cases[i].status || !strstr(err.what, cases[i].word))
            fail_msg("case %zu: %d %s", i, st, err.what);
        gr_spm_model_free(&model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_directory), cmocka_unit_test(directories_equal_reference),
        cmocka_unit_test(old_added_tokens),  cmocka_unit_test(files_that_disagree),
        cmocka_unit_test(templates_of_gguf), cmocka_unit_test(names_what_no_model_file_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
