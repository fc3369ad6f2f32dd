/* Any text through tokenizers that keep every byte: decoding what was encoded gives the text back, tokens
 * begin where they should, and the shortcuts for known expressions cut as the expressions themselves do. */
#include "text/tokenizer.h"
#include <utf8proc.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define GPT2                                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+"
#define LLAMA3                                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "                   \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define QWEN2                                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "                        \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

/* A byte as byte-level vocabularies spell it, escaped for JSON. */
static void put_byte(gr_buf *json, int byte) {
    bool plain = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    int other = 0;
    for (int b = 0; b < byte; b++)
        other += !((b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae);
    gr_buf_printf(json, "\\u%04x", plain ? byte : 256 + other);
}

/* All bytes, and merges of one letter, of spaces and of the two bytes of an accented letter. */
static gr_tokenizer *byte_level(const char *regex) {
    static const char *const merges[] = {"a a",
                                         "aa aa",
                                         "t h",
                                         "th e",
                                         "\\u0120 \\u0120",
                                         "\\u0120\\u0120 \\u0120\\u0120",
                                         "\\u00c3 \\u00a9",
                                         "1 1",
                                         "\\u010a \\u010a"};
    static const char *const made[] = {"aa",
                                       "aaaa",
                                       "th",
                                       "the",
                                       "\\u0120\\u0120",
                                       "\\u0120\\u0120\\u0120\\u0120",
                                       "\\u00c3\\u00a9",
                                       "11",
                                       "\\u010a\\u010a"};
    gr_buf json = {0};
    gr_tokenizer *tok;
    gr_buf_puts(
        &json, "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
               "{\"Regex\":\"");
    gr_buf_puts(&json, regex);
    gr_buf_puts(&json,
                "\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                "\"use_regex\":false}]},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
                "\"vocab\":{");
    for (int b = 0; b < 256; b++) {
        gr_buf_puts(&json, b ? ",\"" : "\"");
        put_byte(&json, b);
        gr_buf_printf(&json, "\":%d", b);
    }
    for (int i = 0; i < 9; i++) gr_buf_printf(&json, ",\"%s\":%d", made[i], 256 + i);
    gr_buf_puts(&json, "},\"merges\":[");
    for (int i = 0; i < 9; i++) gr_buf_printf(&json, "%s\"%s\"", i ? "," : "", merges[i]);
    gr_buf_puts(&json, "]}}");
    if (gr_tokenizer_from_json(&tok, json.data, json.len, NULL, 0, "round trip", NULL) != GRAFT_OK) abort();
    gr_buf_free(&json);
    return tok;
}

/* SentencePiece's way: letters, pairs of them, bytes for all else. */
static gr_tokenizer *with_fallback(void) {
    gr_buf json = {0};
    gr_tokenizer *tok;
    gr_buf_puts(
        &json,
        "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"},"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
        "\"\xe2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]},"
        "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"\xe2\x96\x81\":0,\"a\":1,\"aa\":2,"
        "\"\xe2\x96\x81\xe2\x96\x81\":3");
    for (int b = 0; b < 256; b++) gr_buf_printf(&json, ",\"<0x%02X>\":%d", b, b + 4);
    gr_buf_puts(&json, "},\"merges\":[\"a a\",\"\xe2\x96\x81 \xe2\x96\x81\"]}}");
    if (gr_tokenizer_from_json(&tok, json.data, json.len, NULL, 0, "round trip", NULL) != GRAFT_OK) abort();
    gr_buf_free(&json);
    return tok;
}

static void encode(const gr_tokenizer *tok, const char *text, size_t len, gr_ids *ids, gr_ids *starts) {
    if (gr_tokenizer_encode_parts(tok, text, len, GR_ENCODE_PARSE_SPECIAL, NULL, 0, ids, starts, NULL) !=
        GRAFT_OK)
        abort();
    for (size_t i = 0; i < ids->count; i++)
        if (starts->ids[i] < 0 || starts->ids[i] >= (int32_t)len ||
            (i && starts->ids[i] < starts->ids[i - 1]))
            abort();
}

static void round_trip(const gr_tokenizer *tok, const char *text, size_t len, bool same) {
    gr_ids ids = {0}, starts = {0};
    gr_buf back = {0};
    encode(tok, text, len, &ids, &starts);
    if (gr_tokenizer_decode(tok, ids.ids, ids.count, false, &back, NULL) != GRAFT_OK) abort();
    if (same && (back.len != len || (len && memcmp(back.data, text, len) != 0))) abort();
    gr_ids_free(&ids);
    gr_ids_free(&starts);
    gr_buf_free(&back);
}

static void same_ids(const gr_tokenizer *a, const gr_tokenizer *b, const char *text, size_t len) {
    gr_ids x = {0}, y = {0}, sx = {0}, sy = {0};
    encode(a, text, len, &x, &sx);
    encode(b, text, len, &y, &sy);
    if (x.count != y.count || (x.count && memcmp(x.ids, y.ids, x.count * sizeof *x.ids) != 0)) abort();
    gr_ids_free(&x);
    gr_ids_free(&y);
    gr_ids_free(&sx);
    gr_ids_free(&sy);
}

static bool valid_utf8(const char *p, size_t len) {
    for (utf8proc_int32_t code; len;) {
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)len, &code);
        if (n <= 0) return false;
        p += n, len -= (size_t)n;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const regexes[] = {GPT2,  "(?:" GPT2 ")", LLAMA3, "(?:" LLAMA3 ")",
                                          QWEN2, "(?:" QWEN2 ")"};
    static gr_tokenizer *toks[7];
    const char *text = (const char *)data;
    for (int i = 0; !toks[6] && i < 7; i++) toks[i] = i < 6 ? byte_level(regexes[i]) : with_fallback();
    if (size > 1 << 14) return 0;
    bool valid = valid_utf8(text, size);
    for (int i = 0; i < 6; i += 2) {
        round_trip(toks[i], text, size, valid);
        same_ids(toks[i], toks[i + 1], text, size);
    }
    /* its own sign for a space, and text that spells a byte, come back as something else */
    round_trip(toks[6], text, size, valid && !memmem(text, size, "\xe2\x96\x81", 3));
    return 0;
}
