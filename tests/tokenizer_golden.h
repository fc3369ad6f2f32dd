/* Golden values of tokenizers (tools/make_tokenizer_golden.py): {"cases": [{"text", "ids" ...}]}. */
#ifndef TOKENIZER_GOLDEN_H
#define TOKENIZER_GOLDEN_H
/* */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* */
#include <cmocka.h>

#include "base/os.h"
#include "text/token_parts.h"
#include <stdio.h>

#define DATA GRAFT_SOURCE_DIR "/tests/data/"
/* The smallest model of a tokenizer.json. */
#define MODEL  "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define GOLDEN GRAFT_SOURCE_DIR "/tests/golden/"

static void expect_ids(const gr_tokenizer *tok, const json_t *row, const char *key, int flags) {
    const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, key);
    graft_error err = {0};
    gr_ids ids = {0};
    if (!want) return;
    if (gr_tokenizer_encode(tok, json_string_value(text), json_string_length(text), flags, &ids, &err))
        fail_msg("%s", err.what);
    bool same = ids.count == json_array_size(want);
    for (size_t i = 0; i < ids.count && same; i++)
        same = ids.ids[i] == json_integer_value(json_array_get(want, i));
    if (!same) {
        for (size_t i = 0; i < ids.count; i++) print_error("%d ", ids.ids[i]);
        fail_msg("%s of \"%s\"", key, json_string_value(text));
    }
    gr_ids_free(&ids);
}

static void expect_text(const gr_tokenizer *tok, const json_t *row, const char *from, const char *key,
                        bool skip) {
    const json_t *source = json_object_get(row, from), *want = json_object_get(row, key);
    graft_error err = {0};
    gr_ids ids = {0};
    gr_buf out = {0};
    if (!want) return;
    for (size_t i = 0; i < json_array_size(source); i++)
        assert_true(gr_ids_push(&ids, (int32_t)json_integer_value(json_array_get(source, i))));
    if (gr_tokenizer_decode(tok, ids.ids, ids.count, skip, &out, &err)) fail_msg("%s", err.what);
    if (out.len != json_string_length(want) ||
        memcmp(out.data ? out.data : "", json_string_value(want), out.len))
        fail_msg("%s: \"%s\" instead of \"%s\"", key, out.data ? out.data : "", json_string_value(want));
    gr_buf_free(&out);
    gr_ids_free(&ids);
}

static void expect_golden(const gr_tokenizer *tok, const char *golden) {
    graft_error err = {0};
    char path[512];
    json_t *root, *row;
    size_t i;
    snprintf(path, sizeof path, GOLDEN "%s", golden);
    char *text;
    size_t len;
    assert_int_equal(gr_file_read(&text, &len, path, 1 << 20, &err), GRAFT_OK);
    root = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
    free(text);
    assert_true(json_array_size(json_object_get(root, "cases")) > 20);
    json_array_foreach(json_object_get(root, "cases"), i, row) {
        expect_ids(tok, row, "ids", GR_ENCODE_ADD_SPECIAL | GR_ENCODE_PARSE_SPECIAL);
        expect_ids(tok, row, "bare", GR_ENCODE_PARSE_SPECIAL);
        expect_ids(tok, row, "plain", GR_ENCODE_PLAIN);
        expect_text(tok, row, "ids", "decoded", false);
        expect_text(tok, row, "ids", "skipped", true);
        expect_text(tok, row, "plain", "decoded_plain", true);
    }
    json_decref(root);
}

#endif
