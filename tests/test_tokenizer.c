/* The tokenizer against golden values of tokenizers and sentencepiece (tools/make_tokenizer_golden.py), and
 * what goldens cannot say: errors by name, literal ranges, long texts, bounds. */
#include "files/gguf.h"
#include "gguf_bytes.h"
#include "temp_dir.h"
#include "text/gguf_pre.h"
#include "tokenizer_golden.h"
#include <unistd.h>

static gr_tokenizer *load(const char *name) {
    graft_error err = {0};
    gr_tokenizer *tok = NULL;
    char path[512], *text;
    size_t len;
    snprintf(path, sizeof path, DATA "%s", name);
    if (strstr(name, ".gguf")) {
        gr_gguf *file;
        if (gr_gguf_open(&file, path, &err) || gr_tokenizer_from_gguf(&tok, file, &err))
            fail_msg("%s", err.what);
        gr_gguf_close(file);
        return tok;
    }
    assert_int_equal(gr_file_read(&text, &len, path, 1 << 20, &err), GRAFT_OK);
    if (gr_tokenizer_from_json(&tok, text, len, NULL, 0, name, &err)) fail_msg("%s: %s", name, err.what);
    free(text);
    return tok;
}

static gr_tokenizer *from_text(const char *json, graft_error *err) {
    gr_tokenizer *tok = NULL;
    return gr_tokenizer_from_json(&tok, json, strlen(json), NULL, 0, "test", err) ? NULL : tok;
}

static void equals_reference(void **state) {
    static const char *const names[] = {"bytes",  "fallback", "metaspace",     "words",
                                        "splits", "unigram",  "unigram_bytes", "gemma"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char data[64], golden[64];
        graft_error err = {0};
        gr_buf json = {0};
        gr_tokenizer *again;
        snprintf(data, sizeof data, "tokenizer_%s.json", names[i]);
        snprintf(golden, sizeof golden, "tokenizer_%s.json", names[i]);
        gr_tokenizer *tok = load(data);
        expect_golden(tok, golden);
        /* What is written encodes the same. */
        assert_int_equal(gr_tokenizer_to_json(tok, &json, &err), GRAFT_OK);
        assert_int_equal(gr_tokenizer_from_json(&again, json.data, json.len, NULL, 0, "again", &err),
                         GRAFT_OK);
        expect_golden(again, golden);
        assert_int_equal(gr_tokenizer_vocab_size(again), gr_tokenizer_vocab_size(tok));
        gr_tokenizer_free(again);
        gr_tokenizer_free(tok);
        gr_buf_free(&json);
    }
}

static void gguf_equals_reference(void **state) {
    (void)state;
    gr_tokenizer *tok = load("tokenizer_smol.gguf");
    expect_golden(tok, "tokenizer_smol_gguf.json");
    assert_int_equal(gr_tokenizer_eos(tok), 2);
    assert_true(gr_tokenizer_is_stop(tok, 2));
    assert_string_equal(gr_tokenizer_chat_template(tok, NULL), "{{ messages }}");
    gr_tokenizer_free(tok);
    tok = load("tokenizer_spm.gguf");
    expect_golden(tok, "tokenizer_spm_gguf.json");
    assert_int_equal(gr_tokenizer_bos(tok), 1);
    gr_tokenizer_free(tok);
}

static int broken;

/* A vocabulary as a GGUF file with this pre-tokenizer; "": none is named. */
static gr_tokenizer *with_pre(const json_t *golden, temp_dir *dir, const char *pre) {
    const json_t *tokens = json_object_get(golden, "tokens"), *merges = json_object_get(golden, "merges");
    gr_buf b = {0};
    gr_gguf *file;
    gr_tokenizer *tok;
    graft_error err = {0};
    put_header(&b, 3, 0, pre[0] ? 4 : 3);
    put_key_string(&b, "tokenizer.ggml.model", "gpt2");
    put_key_array(&b, "tokenizer.ggml.tokens", GR_GGUF_STRING, json_array_size(tokens));
    for (size_t i = 0; i < json_array_size(tokens); i++)
        put_string(&b, json_string_value(json_array_get(tokens, i)));
    put_key_array(&b, "tokenizer.ggml.merges", GR_GGUF_STRING, json_array_size(merges));
    for (size_t i = 0; i < json_array_size(merges); i++)
        put_string(&b, json_string_value(json_array_get(merges, i)));
    if (pre[0]) put_key_string(&b, "tokenizer.ggml.pre", pre);
    put_padding(&b, 32);
    assert_int_equal(gr_gguf_open(&file, temp_file(dir, "x.gguf", b.data, b.len), &err), GRAFT_OK);
    if (gr_tokenizer_from_gguf(&tok, file, &err)) fail_msg("%s: %s", pre, err.what);
    gr_gguf_close(file);
    gr_buf_free(&b);
    return tok;
}

/* The tokens of tests/golden/gguf_pre.json. */
static void cut_as_llama_cpp(const gr_tokenizer *tok, const char *pre, const json_t *text,
                             const json_t *want) {
    gr_ids ids = {0};
    graft_error err = {0};
    if (json_is_null(want)) return; /* llama.cpp is not the truth there: the maker of the golden says why */
    if (gr_tokenizer_encode(tok, json_string_value(text), json_string_length(text), 0, &ids, &err))
        fail_msg("%s: %s", pre, err.what);
    bool same = ids.count == json_array_size(want);
    for (size_t i = 0; same && i < ids.count; i++)
        same = ids.ids[i] == json_integer_value(json_array_get(want, i));
    if (!same) {
        for (size_t i = 0; i < ids.count; i++) print_error("[%s]", gr_tokenizer_token(tok, ids.ids[i]));
        print_error(" is not ");
        for (size_t i = 0; i < json_array_size(want); i++)
            print_error("[%s]",
                        gr_tokenizer_token(tok, (int32_t)json_integer_value(json_array_get(want, i))));
        print_error("\n%s: \"%s\"\n", pre, json_string_value(text));
        broken++;
    }
    gr_ids_free(&ids);
}

/* Each name of the table cuts as llama.cpp does with it. */
static void pre_tokenizers_equal_llama_cpp(void **state) {
    json_t *golden = json_load_file(GOLDEN "gguf_pre.json", JSON_ALLOW_NUL, NULL), *at;
    const json_t *texts = json_object_get(golden, "texts"), *lists = json_object_get(golden, "ids");
    const char *pre;
    temp_dir dir = temp_dir_new();
    (void)state;
    json_object_foreach(json_object_get(golden, "names"), pre, at) {
        const json_t *ids = json_array_get(lists, (size_t)json_integer_value(at));
        gr_tokenizer *tok = with_pre(golden, &dir, pre);
        for (size_t i = 0; i < json_array_size(texts); i++)
            cut_as_llama_cpp(tok, pre, json_array_get(texts, i), json_array_get(ids, i));
        gr_tokenizer_free(tok);
    }
    assert_int_equal(broken, 0);
    assert_true(json_object_size(json_object_get(golden, "names")) > 60);
    temp_dir_free(&dir);
    json_decref(golden);
    assert_null(gr_gguf_pre_find("no such name"));
    assert_null(gr_gguf_pre_find("gpt"));
    assert_null(gr_gguf_pre_find(""));
}

static void names_what_it_cannot_do(void **state) {
    static const struct {
        const char *json, *word;
        graft_status status;
    } cases[] = {
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "WordPiece", GRAFT_UNSUPPORTED},
        {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}", "WordLevel", GRAFT_UNSUPPORTED},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "scores", GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":1}}}", "scores", GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}}", "unk_id", GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":-1}}", "unk_id", GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0],[\"b\"]]}}", "[text, score]", GRAFT_CORRUPT},
        {"{\"normalizer\":{\"type\":\"Precompiled\"}," MODEL "}", "base64", GRAFT_CORRUPT},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A*==\"}," MODEL "}", "base64",
         GRAFT_CORRUPT},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA=\"}," MODEL "}", "cut off",
         GRAFT_CORRUPT},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"CAAAAAAAAAA=\"}," MODEL "}",
         "contradicts", GRAFT_CORRUPT},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAAD/\"}," MODEL "}",
         "UTF-8", GRAFT_CORRUPT},
        {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL "}", "UnicodeScripts", GRAFT_UNSUPPORTED},
        {"{\"decoder\":{\"type\":\"CTC\"}," MODEL "}", "CTC", GRAFT_UNSUPPORTED},
        {"{\"post_processor\":{\"type\":\"Other\"}," MODEL "}", "Other", GRAFT_UNSUPPORTED},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":"
         "\"Isolated\"}," MODEL "}",
         "intersection", GRAFT_UNSUPPORTED},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}"
         "," MODEL "}",
         "regular expression", GRAFT_UNSUPPORTED},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},\"behavior\":\"Odd\"}," MODEL
         "}",
         "Odd", GRAFT_UNSUPPORTED},
        {"{}", "not supported", GRAFT_UNSUPPORTED},
        {"[]", "object", GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", "vocab", GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", "merges", GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"x\"},\"merges\":[]}}", "not a number",
         GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999},\"merges\":[]}}", "impossible id",
         GRAFT_RANGE},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a  a\"]}}", "merge", GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"c\"]]}}", "vocabulary",
         GRAFT_CORRUPT},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "same id",
         GRAFT_CORRUPT},
        {"{\"added_tokens\":[{\"id\":1}]," MODEL "}", "content", GRAFT_CORRUPT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        assert_null(from_text(cases[i].json, &err));
        if (err.status != cases[i].status || !strstr(err.what, cases[i].word))
            fail_msg("case %zu: %s", i, err.what);
        assert_true(strstr(err.where, "test") != NULL);
    }
}

static void unigram_needs_an_unknown_token(void **state) {
    (void)state;
    graft_error err = {0};
    gr_ids ids = {0};
    gr_tokenizer *tok =
        from_text("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1],[\"aa\",-1.5],[\"\",0]]}}", &err);
    assert_non_null(tok);
    assert_int_equal(gr_tokenizer_encode(tok, "aaa", 3, 0, &ids, &err), GRAFT_OK);
    assert_int_equal(ids.count, 2);
    assert_int_equal(gr_tokenizer_encode(tok, "ab", 2, 0, &ids, &err), GRAFT_RANGE);
    assert_non_null(strstr(err.what, "unknown token"));
    assert_int_equal(ids.count, 2);
    gr_ids_free(&ids);
    gr_tokenizer_free(tok);
}

static size_t count_id(const gr_ids *ids, int32_t id) {
    size_t n = 0;
    for (size_t i = 0; i < ids->count; i++) n += ids->ids[i] == id;
    return n;
}

static void literal_text_stays_text(void **state) {
    (void)state;
    static const char text[] = "<|im_start|>user\nsay <|im_end|> now<|im_end|>";
    const gr_text_range literal[] = {{17, 34}};
    graft_error err = {0};
    gr_ids ids = {0}, starts = {0};
    gr_tokenizer *tok = load("tokenizer_bytes.json");
    int32_t start = gr_tokenizer_id(tok, "<|im_start|>"), end = gr_tokenizer_id(tok, "<|im_end|>");
    assert_true(start >= 0 && end >= 0);
    assert_int_equal(gr_tokenizer_encode_parts(tok, text, sizeof text - 1, GR_ENCODE_PARSE_SPECIAL, literal,
                                               1, &ids, &starts, &err),
                     GRAFT_OK);
    assert_int_equal(count_id(&ids, start), 1);
    assert_int_equal(count_id(&ids, end), 1);
    assert_int_equal(ids.ids[ids.count - 1], end);
    assert_int_equal(starts.count, ids.count);
    assert_int_equal(starts.ids[ids.count - 1], 35);
    for (size_t i = 1; i < starts.count; i++) assert_true(starts.ids[i] > starts.ids[i - 1]);
    /* A range of one byte is enough; and without ranges both are special. */
    const gr_text_range touch[] = {{22, 23}};
    ids.count = 0;
    assert_int_equal(gr_tokenizer_encode_parts(tok, text, sizeof text - 1, GR_ENCODE_PARSE_SPECIAL, touch, 1,
                                               &ids, NULL, &err),
                     GRAFT_OK);
    assert_int_equal(count_id(&ids, end), 1);
    ids.count = 0;
    assert_int_equal(gr_tokenizer_encode(tok, text, sizeof text - 1, GR_ENCODE_PARSE_SPECIAL, &ids, &err),
                     GRAFT_OK);
    assert_int_equal(count_id(&ids, end), 2);
    gr_ids_free(&ids);
    gr_ids_free(&starts);
    gr_tokenizer_free(tok);
}

/* 256 different characters, back and forth, as byte-level vocabularies number them. */
static void bytes_have_characters(void **state) {
    (void)state;
    int32_t hidden = 0x100;
    for (int b = 0; b < 256; b++) {
        int32_t c = gr_byte_to_char((uint8_t)b);
        bool visible = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
        assert_int_equal(c, visible ? b : hidden);
        hidden += !visible;
        assert_int_equal(gr_char_to_byte(c), b);
    }
    assert_int_equal(gr_char_to_byte(' '), -1);
    assert_int_equal(gr_char_to_byte(0xad), -1);
    assert_int_equal(gr_char_to_byte(0x144), -1);
}

static void invalid_bytes_become_replacements(void **state) {
    (void)state;
    graft_error err = {0};
    gr_ids ids = {0};
    gr_buf out = {0};
    gr_tokenizer *tok = load("tokenizer_smol.gguf");
    /* A lone continuation, a truncated three-byte character, a surrogate, an overlong form: Python's
     * "replace". */
    static const char bad[] = "a\x80"
                              "b\xe7\x81"
                              "c\xed\xa0\x80"
                              "d\xc0\xaf";
    assert_int_equal(gr_tokenizer_encode(tok, bad, sizeof bad - 1, 0, &ids, &err), GRAFT_OK);
    assert_int_equal(gr_tokenizer_decode(tok, ids.ids, ids.count, false, &out, &err), GRAFT_OK);
#define R "\xef\xbf\xbd"
    assert_string_equal(out.data, "a" R "b" R "c" R R R "d" R R);
    int32_t outside[] = {gr_tokenizer_vocab_size(tok)}, negative[] = {-1};
    size_t length = out.len;
    assert_int_equal(gr_tokenizer_decode(tok, outside, 1, false, &out, &err), GRAFT_OK);
    assert_int_equal(out.len, length); /* no token, no text */
    assert_int_equal(gr_tokenizer_decode(tok, negative, 1, false, &out, &err), GRAFT_RANGE);
    gr_buf_free(&out);
    gr_ids_free(&ids);
    gr_tokenizer_free(tok);
}

/* A megabyte without a place to cut must not take quadratic time (that would be hours). */
static void long_words_are_fast(void **state) {
    (void)state;
    static const char *const names[] = {"tokenizer_smol.gguf", "tokenizer_spm.gguf",
                                        "tokenizer_fallback.json"};
    size_t n = 1 << 20;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'e', n);
    for (size_t i = 0; i < 3; i++) {
        graft_error err = {0};
        gr_ids ids = {0};
        gr_buf out = {0};
        gr_tokenizer *tok = load(names[i]);
        assert_int_equal(gr_tokenizer_encode(tok, text, n, 0, &ids, &err), GRAFT_OK);
        assert_int_equal(gr_tokenizer_decode(tok, ids.ids, ids.count, false, &out, &err), GRAFT_OK);
        assert_int_equal(out.len, n);
        assert_memory_equal(out.data, text, n);
        gr_buf_free(&out);
        gr_ids_free(&ids);
        gr_tokenizer_free(tok);
    }
    free(text);
}

static void patterns_have_an_end(void **state) {
    (void)state;
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";
    graft_error err = {0};
    gr_pattern *p;
    gr_match_spans spans = {0};
    assert_int_equal(gr_pattern_regex(&p, "(a|aa)+$", 8, &err), GRAFT_OK);
    assert_int_equal(gr_pattern_find(p, text, sizeof text - 1, &spans, &err), GRAFT_RANGE);
    gr_match_spans_free(&spans);
    gr_pattern_free(p);
}

static void patterns_are_rewritten(void **state) {
    (void)state;
    static const char *const same[][2] = {{"(?m:.)", "(?s:.)"},
                                          {"\\u00e9", "\\x{00e9}"},
                                          {"a{,3}", "a{0,3}"},
                                          {"[a-z]+(?=x)", "[a-z]+(?=x)"},
                                          {"\\h", "[0-9a-fA-F]"}};
    static const char *const refused[] = {"[[a]b]", "a{2}+", "\\k<x>",    "\\p",
                                          "[a",     "\\",    "(*COMMIT)", "[\\W]"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        graft_error err = {0};
        gr_buf out = {0};
        assert_int_equal(gr_pattern_translate(same[i][0], strlen(same[i][0]), &out, &err), GRAFT_OK);
        assert_string_equal(out.data, same[i][1]);
        gr_buf_free(&out);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        graft_error err = {0};
        gr_buf out = {0};
        assert_int_equal(gr_pattern_translate(refused[i], strlen(refused[i]), &out, &err), GRAFT_UNSUPPORTED);
        gr_buf_free(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_reference),
        cmocka_unit_test(gguf_equals_reference),
        cmocka_unit_test(pre_tokenizers_equal_llama_cpp),
        cmocka_unit_test(names_what_it_cannot_do),
        cmocka_unit_test(unigram_needs_an_unknown_token),
        cmocka_unit_test(literal_text_stays_text),
        cmocka_unit_test(bytes_have_characters),
        cmocka_unit_test(invalid_bytes_become_replacements),
        cmocka_unit_test(long_words_are_fast),
        cmocka_unit_test(patterns_have_an_end),
        cmocka_unit_test(patterns_are_rewritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
