/* text/tokenizer against tokenizers and texts from an attacker: time and memory grow with the text alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "files/gguf.h"
#include "hostile.h"
#include "text/token_parts.h"
#include <cmocka.h>
#include <utf8proc.h>

#define TEXT_BYTES ((size_t)(SANITIZED ? 24 : 96) << 10)
#define PLAIN      "\"vocab\":{\" \":0,\"a\":1,\"b\":2,\"1\":3,\"!\":4},\"merges\":[],\"unk_token\":\"!\"}"

static gr_tokenizer *open_file(const char *name) {
    gr_tokenizer *tok = NULL;
    graft_error err = {0};
    char path[512], *json;
    size_t len;
    snprintf(path, sizeof path, GRAFT_SOURCE_DIR "/tests/data/%s", name);
    if (gr_ends_with(name, ".gguf")) {
        gr_gguf *file;
        assert_int_equal(gr_gguf_open(&file, path, &err), GRAFT_OK);
        assert_int_equal(gr_tokenizer_from_gguf(&tok, file, &err), GRAFT_OK);
        gr_gguf_close(file);
        return tok;
    }
    assert_int_equal(gr_file_read(&json, &len, path, 1 << 24, &err), GRAFT_OK);
    assert_int_equal(gr_tokenizer_from_json(&tok, json, len, NULL, 0, name, &err), GRAFT_OK);
    free(json);
    return tok;
}

/* {parts, "model": a few letters}: NULL with the error when it is refused. */
static gr_tokenizer *small(const char *parts, graft_error *err) {
    gr_buf json = {0};
    gr_tokenizer *tok;
    gr_buf_printf(&json, "{%s%s\"model\":{\"type\":\"BPE\",%s}", parts, parts[0] ? "," : "", PLAIN);
    graft_status st = gr_tokenizer_from_json(&tok, json.data, json.len, NULL, 0, "small", err);
    gr_buf_free(&json);
    assert_int_equal(st == GRAFT_OK, tok != NULL);
    return tok;
}

/* Encodes and decodes within the time; an error must say why. */
static graft_status quick(const gr_tokenizer *tok, const char *what, const char *text, size_t len) {
    gr_ids ids = {0};
    gr_buf back = {0};
    graft_error err = {0};
    double start = hostile_clock();
    graft_status st = gr_tokenizer_encode(tok, text, len, 3, &ids, &err);
    if (st == GRAFT_OK) st = gr_tokenizer_decode(tok, ids.ids, ids.count, false, &back, &err);
    double seconds = hostile_clock() - start;
    if (seconds > HOSTILE_SECONDS) fail_msg("%s: %.1f s", what, seconds);
    if (st != GRAFT_OK && (st == GRAFT_INTERNAL || st == GRAFT_NO_MEMORY || !err.what[0]))
        fail_msg("%s: %d %s", what, (int)st, err.what);
    gr_ids_free(&ids);
    gr_buf_free(&back);
    return st;
}

static void long_texts(void **state) {
    (void)state;
    static const char *const files[] = {"tokenizer_bytes.json",         "tokenizer_fallback.json",
                                        "tokenizer_metaspace.json",     "tokenizer_splits.json",
                                        "tokenizer_words.json",         "tokenizer_unigram.json",
                                        "tokenizer_unigram_bytes.json", "tokenizer_gemma.json",
                                        "tokenizer_smol.gguf",          "tokenizer_spm.gguf"};
    /* a letter, spaces, an emoji, marks in the wrong order, an ideographic space, the longest of NFKC */
    static const char *const units[] = {
        "a", " ", "\n", "1", "'", "\xf0\x9f\x98\x80", "\xcc\x81\xcc\x96", "\xe3\x80\x80", "\xef\xb7\xba"};
    char *noise = hostile_bytes(TEXT_BYTES);
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        gr_tokenizer *tok = open_file(files[f]);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t len;
            char *text = hostile_text(units[u], TEXT_BYTES, &len);
            assert_int_equal(quick(tok, files[f], text, len), GRAFT_OK);
            free(text);
        }
        assert_int_equal(quick(tok, files[f], noise, TEXT_BYTES), GRAFT_OK);
        gr_tokenizer_free(tok);
    }
    free(noise);
}

/* Long runs of marks take another way: to the same text as utf8proc's own. */
static void long_runs_of_marks(void **state) {
    (void)state;
    static const char *const units[] = {"\xcc\x81\xcc\x96", "\xcc\x95\xcc\xa7\xcd\x85",
                                        "\xe1\xbe\x82\xcc\xa3", "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8",
                                        "\xe0\xbd\xb3\xe0\xbd\xb2"};
    static const struct {
        const char *name;
        utf8proc_option_t form;
    } forms[] = {{"NFC", UTF8PROC_COMPOSE},
                 {"NFD", UTF8PROC_DECOMPOSE},
                 {"NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
                 {"NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++)
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t len;
            gr_normalizer *normalizer;
            gr_ntext text = {0}, other = {0};
            gr_match_spans spans = {0};
            utf8proc_uint8_t *expected;
            char *tail = hostile_text(units[u], 3000, &len);
            json_t *node = json_pack("{s:s}", "type", forms[k].name);
            assert_int_equal(gr_normalizer_from_json(&normalizer, node, NULL), GRAFT_OK);
            gr_ntext_add(&text, "xe", 2, 0);
            gr_ntext_add(&text, tail, len, 2);
            utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text.data, (utf8proc_ssize_t)text.len,
                                              &expected, UTF8PROC_STABLE | forms[k].form);
            assert_int_equal(gr_normalizer_run(normalizer, &text, &other, &spans, NULL), GRAFT_OK);
            assert_int_equal(text.len, n);
            assert_memory_equal(text.data, expected, n);
            free(expected);
            free(tail);
            gr_ntext_free(&text);
            gr_ntext_free(&other);
            gr_match_spans_free(&spans);
            gr_normalizer_free(normalizer);
            json_decref(node);
        }
}

/* Added tokens that are spaces, that take the spaces around them, or that nearly match everywhere. */
static void added_tokens(void **state) {
    (void)state;
    static const char *const flags[] = {"\"lstrip\":true,\"rstrip\":true", "\"lstrip\":true",
                                        "\"rstrip\":true", "\"single_word\":true"};
    static const char *const contents[] = {" ", "  ", "a", " a"};
    char parts[800], long_one[GR_MAX_ADDED_BYTES + 2];
    graft_error err = {0};
    size_t len;
    for (size_t f = 0; f < 4; f++)
        for (size_t c = 0; c < 4; c++) {
            snprintf(parts, sizeof parts,
                     "\"added_tokens\":[{\"id\":9,\"content\":\"%s\",%s,\"special\":false,"
                     "\"normalized\":false}]",
                     contents[c], flags[f]);
            gr_tokenizer *tok = small(parts, &err);
            char *spaces = hostile_text(" ", TEXT_BYTES, &len),
                 *words = hostile_text("  a", TEXT_BYTES, &len);
            assert_int_equal(quick(tok, parts, spaces, TEXT_BYTES), GRAFT_OK);
            assert_int_equal(quick(tok, parts, words, TEXT_BYTES), GRAFT_OK);
            free(spaces);
            free(words);
            gr_tokenizer_free(tok);
        }
    for (int extra = 0; extra < 2; extra++) { /* the longest that is taken, and one byte more */
        memset(long_one, 'a', sizeof long_one);
        long_one[GR_MAX_ADDED_BYTES - 1] = 'b';
        long_one[GR_MAX_ADDED_BYTES + extra] = 0;
        snprintf(parts, sizeof parts, "\"added_tokens\":[{\"id\":9,\"content\":\"%s\",\"special\":false}]",
                 long_one);
        gr_tokenizer *tok = small(parts, &err);
        if (extra) {
            assert_null(tok);
            assert_int_equal(err.status, GRAFT_RANGE);
            assert_non_null(strstr(err.expected, "256 bytes"));
            continue;
        }
        char *text = hostile_text("a", TEXT_BYTES, &len);
        assert_int_equal(quick(tok, "long token", text, len), GRAFT_OK);
        free(text);
        gr_tokenizer_free(tok);
    }
}

/* Adding tokens does not look through all that are there. */
static void many_added_tokens(void **state) {
    (void)state;
    graft_error err = {0};
    for (int extra = 0; extra < 2; extra++) {
        gr_buf parts = {0};
        gr_buf_puts(&parts, "\"added_tokens\":[");
        for (int i = 0; i < GR_MAX_ADDED + extra; i++)
            gr_buf_printf(&parts, "%s{\"id\":%d,\"content\":\"<%06d>\"}", i ? "," : "", 10 + i, i);
        gr_buf_puts(&parts, "]");
        double start = hostile_clock();
        gr_tokenizer *tok = small(parts.data, &err);
        if (hostile_clock() - start > HOSTILE_SECONDS) fail_msg("%.1f s", hostile_clock() - start);
        assert_int_equal(tok == NULL, extra);
        if (extra) assert_non_null(strstr(err.what, "100000"));
        if (tok) assert_int_equal(gr_tokenizer_id(tok, "<000007>"), 12);
        gr_tokenizer_free(tok);
        gr_buf_free(&parts);
    }
}

/* Expressions that try everything: an end after work in proportion to the text. */
static void expressions(void **state) {
    (void)state;
    static const char *const sources[] = {
        "a*b|a",       "(a|aa)+$",      "(?:(?:a*+(?=b)|a))*x",         "a*+!b|a",    "(?=(a+))a*!\\\\1|a",
        "((a*)*)*!|a", "(a?){30}a{30}", "1{1,3}(?=(?:\\\\d{3})*\\\\b)", "(?<=a)a*!|."};
    bool some_refused = false;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        char parts[300];
        graft_error err = {0};
        snprintf(parts, sizeof parts,
                 "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":"
                 "\"Isolated\"}",
                 sources[i]);
        gr_tokenizer *tok = small(parts, &err);
        if (!tok) fail_msg("%s: %s", sources[i], err.what);
        for (int u = 0; u < 2; u++) {
            size_t len;
            char *text = hostile_text(u ? "1" : "a", 3 * TEXT_BYTES, &len);
            text[len - 1] = '!'; /* so that no short cut sees that a part is missing */
            some_refused |= quick(tok, sources[i], text, len) == GRAFT_RANGE;
            free(text);
        }
        gr_tokenizer_free(tok);
    }
    assert_true(some_refused);
}

/* Many added tokens, each of them through an expression that tries everything. */
static void expression_for_each_token(void **state) {
    (void)state;
    gr_buf parts = {0};
    graft_error err = {0};
    gr_buf_puts(&parts,
                "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a*a*a*!\"},\"content\":\"x\"},"
                "\"added_tokens\":[");
    for (int i = 0; i < 5000; i++) {
        gr_buf_printf(&parts, "%s{\"id\":%d,\"normalized\":true,\"content\":\"", i ? "," : "", 10 + i);
        for (int k = 0; k < 120; k++) gr_buf_putc(&parts, 'a');
        gr_buf_printf(&parts, "?!%d\"}", i);
    }
    gr_buf_puts(&parts, "]");
    double start = hostile_clock();
    assert_null(small(parts.data, &err));
    assert_int_equal(err.status, GRAFT_RANGE);
    if (hostile_clock() - start > HOSTILE_SECONDS) fail_msg("%.1f s", hostile_clock() - start);
    gr_buf_free(&parts);
}

/* Steps that make a text longer and longer. */
static void growth(void **state) {
    (void)state;
    gr_buf parts = {0};
    graft_error err = {0};
    size_t len;
    char *text = hostile_text("a", 10000, &len), *spaces = hostile_text(" ", 10000, &len);
    gr_buf_puts(&parts, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 30; i++)
        gr_buf_printf(&parts, "%s{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"}",
                      i ? "," : "");
    gr_buf_puts(&parts, "]}");
    gr_tokenizer *tok = small(parts.data, &err);
    assert_int_equal(quick(tok, "doubling", text, len), GRAFT_RANGE);
    gr_tokenizer_free(tok);
    gr_buf_clear(&parts);
    gr_buf_puts(&parts, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < 30; i++)
        gr_buf_printf(&parts, "%s{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}",
                      i ? "," : "");
    gr_buf_puts(&parts, "]}");
    tok = small(parts.data, &err);
    assert_int_equal(quick(tok, "bytes of bytes", spaces, len), GRAFT_RANGE);
    gr_tokenizer_free(tok);
    char *much = hostile_text("b", 100000, &len);
    gr_buf_clear(&parts);
    gr_buf_printf(&parts,
                  "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}",
                  much);
    tok = small(parts.data, &err);
    assert_int_equal(quick(tok, "long replacement", text, 10000), GRAFT_RANGE);
    gr_tokenizer_free(tok);
    gr_buf_free(&parts);
    free(text);
    free(spaces);
    free(much);
}

/* Unigram tokens that are each other's beginnings: every byte looks as far ahead as the longest. */
static void nested_tokens(void **state) {
    (void)state;
    for (int extra = 0; extra < 2; extra++) {
        gr_buf json = {0};
        graft_error err = {0};
        gr_tokenizer *tok;
        size_t len;
        char run[514] = {0};
        gr_buf_puts(&json, "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"?\",0]");
        for (int i = 0; i < 512 + extra; i++) {
            run[i] = 'a';
            gr_buf_printf(&json, ",[\"%s\",%d]", run, -i);
        }
        gr_buf_puts(&json, "]}}");
        graft_status st = gr_tokenizer_from_json(&tok, json.data, json.len, NULL, 0, "nested", &err);
        gr_buf_free(&json);
        assert_int_equal(st, extra ? GRAFT_RANGE : GRAFT_OK);
        if (st) continue;
        char *text = hostile_text("a", TEXT_BYTES, &len);
        assert_int_equal(quick(tok, "nested", text, len), GRAFT_OK);
        free(text);
        gr_tokenizer_free(tok);
    }
}

/* A map that makes every "a" a long text: the first unit points at 'a', that one at a value. */
static void long_map(void **state) {
    (void)state;
    enum { TEXT = 30000 };
    uint32_t units[256] = {0};
    graft_error err = {0};
    size_t len;
    units['a'] = 'a' | 1 << 8 | ('a' ^ 200) << 10;
    units[200] = 1u << 31;
    gr_ntext in = {0}, out = {0};
    char *blob = calloc(1, 4 + sizeof units + TEXT);
    uint32_t size = sizeof units;
    memcpy(blob, &size, 4);
    memcpy(blob + 4, units, sizeof units);
    memset(blob + 4 + sizeof units, 'b', TEXT);
    gr_buf coded = {0};
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i + 3 <= 4 + sizeof units + TEXT; i += 3) {
        uint32_t v =
            (uint32_t)(uint8_t)blob[i] << 16 | (uint32_t)(uint8_t)blob[i + 1] << 8 | (uint8_t)blob[i + 2];
        for (int k = 18; k >= 0; k -= 6) gr_buf_putc(&coded, digits[v >> k & 63]);
    }
    json_t *node = json_pack("{s:s%}", "precompiled_charsmap", coded.data, coded.len);
    gr_charsmap *map;
    assert_int_equal(gr_charsmap_from_json(&map, node, &err), GRAFT_OK);
    char *text = hostile_text("a", TEXT_BYTES, &len);
    gr_ntext_add(&in, "xa", 2, 0);
    assert_int_equal(gr_charsmap_run(map, &in, &out, &err), GRAFT_RANGE);
    assert_true(out.len > TEXT - 4 && out.data[0] == 'x' && out.data[1] == 'b');
    gr_ntext_clear(&in);
    gr_ntext_add(&in, text, len, 0);
    double start = hostile_clock();
    assert_int_equal(gr_charsmap_run(map, &in, &out, &err), GRAFT_RANGE);
    assert_true(hostile_clock() - start < HOSTILE_SECONDS);
    gr_charsmap_free(map);
    json_decref(node);
    gr_ntext_free(&in);
    gr_ntext_free(&out);
    gr_buf_free(&coded);
    free(text);
    free(blob);
}

/* What the reader refuses at once, and the words it must use. */
static void refused(void **state) {
    (void)state;
    gr_buf steps = {0}, items = {0};
    for (int i = 0; i <= GR_MAX_STEPS; i++) gr_buf_printf(&steps, "%s{\"type\":\"Lowercase\"}", i ? "," : "");
    for (int i = 0; i < 70; i++) gr_buf_puts(&items, "{\"SpecialToken\":{\"id\":\"x\"}},");
    char *regex = calloc(1, 20000);
    memset(regex, 'a', 19999);
    gr_buf parts[4] = {{0}};
    gr_buf_printf(&parts[0], "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s]}", steps.data);
    gr_buf_puts(&parts[1], "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{"
                           "\"id\":\"A\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{}}");
    gr_buf_printf(&parts[2],
                  "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[%s{\"Sequence\":{\"id\":"
                  "\"A\"}}],\"special_tokens\":{\"x\":{\"ids\":[1]}}}",
                  items.data);
    gr_buf_printf(&parts[3],
                  "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":"
                  "\"Isolated\"}",
                  regex);
    static const char *const words[] = {"more than 32 steps", "repeats the text", "more than 64 parts",
                                        "longer than 16384 bytes"};
    for (int i = 0; i < 4; i++) {
        graft_error err = {0};
        assert_null(small(parts[i].data, &err));
        if (!strstr(err.what, words[i])) fail_msg("%s", err.what);
        gr_buf_free(&parts[i]);
    }
    gr_buf_free(&steps);
    gr_buf_free(&items);
    free(regex);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_texts),   cmocka_unit_test(long_runs_of_marks),
        cmocka_unit_test(added_tokens), cmocka_unit_test(many_added_tokens),
        cmocka_unit_test(expressions),  cmocka_unit_test(expression_for_each_token),
        cmocka_unit_test(growth),       cmocka_unit_test(nested_tokens),
        cmocka_unit_test(long_map),     cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
