/* A tokenizer from GGUF metadata: its keys are written as tokenizer.json and tokenizer_config.json texts,
 * which are then read like files. So there is one reader, and what convert writes is what was used. */
#include "files/json_write.h"
#include "text/chat_templates.h"
#include "text/gguf_pre.h"
#include "text/spm_model.h"
#include "text/token_parts.h"
#include <stdio.h>

#define KEY(name) "tokenizer.ggml." name

typedef struct source {
    const gr_gguf *file;
    size_t ntokens;
    bool spm; /* model "llama": SentencePiece scores instead of merges */
    bool space_prefix;
    const gr_gguf_pre *pre;
} source;

static int64_t int_of(const gr_gguf *file, const char *key, int64_t fallback) {
    int64_t value;
    return gr_gguf_int(file, key, &value) ? value : fallback;
}

static int64_t token_type(const source *s, size_t i) {
    int64_t type;
    return gr_gguf_array_int(s->file, KEY("token_type"), i, &type) ? type : GR_PIECE_NORMAL;
}

static graft_status bad_key(const char *key, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "the GGUF file's %s is missing or not usable", key);
    return gr_hint(err, "give the model as a directory with tokenizer.json");
}

static graft_status read_source(source *s, const gr_gguf *file, graft_error *err) {
    const char *text;
    size_t len;
    char pre[64] = "default";
    *s = (source){.file = file};
    if (!gr_gguf_string(file, KEY("model"), &text, &len)) return bad_key(KEY("model"), err);
    s->spm = len == 5 && !memcmp(text, "llama", 5);
    if (!s->spm && (len != 4 || memcmp(text, "gpt2", 4))) {
        gr_fail(err, GRAFT_UNSUPPORTED, "the GGUF file's tokenizer model \"%.*s\" is not supported",
                (int)(len < 60 ? len : 60), text);
        return gr_expected(err, "gpt2, llama");
    }
    if (!gr_gguf_array(file, KEY("tokens"), &s->ntokens) || !s->ntokens || s->ntokens > GR_MAX_TOKEN_ID)
        return bad_key(KEY("tokens"), err);
    s->space_prefix = int_of(file, KEY("add_space_prefix"), s->spm) != 0;
    if (s->spm) return GRAFT_OK;
    if (gr_gguf_string(file, KEY("pre"), &text, &len))
        snprintf(pre, sizeof pre, "%.*s", (int)(len < 63 ? len : 63), text);
    s->pre = gr_gguf_pre_find(pre);
    if (s->pre) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "the GGUF file's pre-tokenizer \"%s\" is not known", pre);
    return gr_hint(err, "give the model as a directory with tokenizer.json");
}

static graft_status token_at(const source *s, size_t i, const char **text, size_t *len, graft_error *err) {
    if (gr_gguf_array_string(s->file, KEY("tokens"), i, text, len)) return GRAFT_OK;
    return bad_key(KEY("tokens"), err);
}

static graft_status put_vocab(const source *s, gr_buf *out, graft_error *err) {
    const char *text;
    size_t len;
    gr_buf_puts(out, "\"vocab\":{");
    for (size_t i = 0; i < s->ntokens; i++) {
        char empty[32];
        GR_TRY(token_at(s, i, &text, &len, err));
        if (!len)
            text = empty,
            len = (size_t)snprintf(empty, sizeof empty, "[EMPTY_%zu]", i); /* as llama.cpp does */
        gr_buf_puts(out, i ? ",\n" : "\n");
        gr_json_put_string(out, text, len);
        gr_buf_printf(out, ":%zu", i);
    }
    gr_buf_putc(out, '}');
    return GRAFT_OK;
}

static graft_status put_added(const source *s, gr_buf *out, graft_error *err) {
    const char *text;
    size_t len;
    bool first = true;
    gr_buf_puts(out, "\"added_tokens\":[");
    for (size_t i = 0; i < s->ntokens; i++) {
        int64_t type = token_type(s, i);
        bool special = type == GR_PIECE_CONTROL || type == GR_PIECE_UNKNOWN;
        if (!special && type != GR_PIECE_USER) continue;
        GR_TRY(token_at(s, i, &text, &len, err));
        if (!len) continue;
        gr_buf_printf(out, "%s{\"id\":%zu,\"content\":", first ? "\n" : ",\n", i);
        gr_json_put_string(out, text, len);
        gr_buf_printf(
            out,
            ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":%s}",
            special ? "true" : "false");
        first = false;
    }
    gr_buf_puts(out, "],\n");
    return GRAFT_OK;
}

static graft_status put_merges(const source *s, gr_buf *out, graft_error *err) {
    const char *text;
    size_t len, count;
    if (!gr_gguf_array(s->file, KEY("merges"), &count)) return bad_key(KEY("merges"), err);
    gr_buf_puts(out, ",\"merges\":[");
    for (size_t i = 0; i < count; i++) {
        if (!gr_gguf_array_string(s->file, KEY("merges"), i, &text, &len)) return bad_key(KEY("merges"), err);
        gr_buf_puts(out, i ? ",\n" : "\n");
        const char *space =
            len > 1 ? memchr(text + 1, ' ', len - 1) : NULL; /* a token may begin with a space */
        if (!space) return bad_key(KEY("merges"), err);
        gr_buf_putc(out, '[');
        gr_json_put_string(out, text, (size_t)(space - text));
        gr_buf_putc(out, ',');
        gr_json_put_string(out, space + 1, len - (size_t)(space - text) - 1);
        gr_buf_putc(out, ']');
    }
    gr_buf_putc(out, ']');
    return GRAFT_OK;
}

/* SentencePiece's scores instead of merges. */
static graft_status put_scored_merges(const source *s, gr_buf *out, graft_error *err) {
    gr_spm_piece *pieces = gr_calloc(s->ntokens, sizeof *pieces);
    graft_status st = pieces ? GRAFT_OK : gr_no_memory(err, s->ntokens * sizeof *pieces);
    for (size_t i = 0; i < s->ntokens && !st; i++) {
        gr_spm_piece *p = &pieces[i];
        p->type = token_type(s, i);
        st = token_at(s, i, &p->text, &p->len, err);
        if (!st && !gr_gguf_array_float(s->file, KEY("scores"), i, &p->score))
            st = bad_key(KEY("scores"), err);
    }
    if (!st) st = gr_spm_put_merges(out, pieces, s->ntokens, err);
    free(pieces);
    return st;
}

/* ---- the parts around the model */
static void put_byte_level_parts(const source *s, gr_buf *out) {
    const gr_gguf_pre *p = s->pre;
    gr_buf_puts(out, p->nfc ? "\"normalizer\":{\"type\":\"NFC\"},\n" : "\"normalizer\":null,\n");
    gr_buf_puts(out, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[\n");
    for (int i = 0; i < 5 && p->split[i]; i++) {
        gr_buf_puts(out, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        gr_json_put_string(out, p->split[i], strlen(p->split[i]));
        gr_buf_puts(out, "},\"behavior\":\"Isolated\",\"invert\":false},\n");
    }
    gr_buf_printf(
        out, "{\"type\":\"ByteLevel\",\"add_prefix_space\":%s,\"trim_offsets\":true,\"use_regex\":%s}]},\n",
        s->space_prefix ? "true" : "false", p->gpt2 ? "true" : "false");
    gr_buf_puts(out, "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
                     "\"use_regex\":true},\n");
}

/* The token at the id that the key holds; false if there is none. */
static bool token_of_key(const source *s, const char *key, int64_t fallback, const char **text, size_t *len,
                         int64_t *id) {
    *id = int_of(s->file, key, fallback);
    return *id >= 0 && (uint64_t)*id < s->ntokens &&
           gr_gguf_array_string(s->file, KEY("tokens"), (size_t)*id, text, len) && *len;
}

static void put_special(const source *s, const char *key, bool wanted, int64_t fallback, bool after,
                        gr_buf *items, gr_buf *table) {
    const char *text;
    size_t len;
    int64_t id;
    if (after) gr_buf_printf(items, "%s{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}", items->len ? "," : "");
    if (!wanted || !token_of_key(s, key, fallback, &text, &len, &id)) return;
    gr_buf_puts(items, items->len ? ",{\"SpecialToken\":{\"id\":" : "{\"SpecialToken\":{\"id\":");
    gr_json_put_string(items, text, len);
    gr_buf_puts(items, ",\"type_id\":0}}");
    if (table->len) gr_buf_putc(table, ',');
    gr_json_put_string(table, text, len);
    gr_buf_puts(table, ":{\"id\":");
    gr_json_put_string(table, text, len);
    gr_buf_printf(table, ",\"ids\":[%lld],\"tokens\":[", (long long)id);
    gr_json_put_string(table, text, len);
    gr_buf_puts(table, "]}");
}

static bool adds(const source *s, const char *key, bool fallback) {
    return int_of(s->file, key, fallback) != 0;
}

static void put_postprocessor(const source *s, gr_buf *out) {
    gr_buf items = {0}, table = {0};
    bool bos = adds(s, KEY("add_bos_token"), s->spm || s->pre->add_bos),
         eos = adds(s, KEY("add_eos_token"), false);
    if (!bos && !eos) {
        gr_buf_puts(out, "\"post_processor\":null,\n");
        return;
    }
    put_special(s, KEY("bos_token_id"), bos, s->spm ? 1 : -1, false, &items, &table);
    put_special(s, KEY("eos_token_id"), eos, s->spm ? 2 : -1, true, &items, &table);
    bool same =
        bos && eos && int_of(s->file, KEY("bos_token_id"), 1) == int_of(s->file, KEY("eos_token_id"), 2);
    if (same) { /* one token for both: one entry in the table */
        gr_buf_clear(&table);
        gr_buf drop = {0};
        put_special(s, KEY("bos_token_id"), true, s->spm ? 1 : -1, false, &drop, &table);
        gr_buf_free(&drop);
    }
    if (items.failed || table.failed) out->failed = true;
    gr_buf_printf(out,
                  "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[%s],\"pair\":["
                  "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],"
                  "\"special_tokens\":{%s}},\n",
                  items.data ? items.data : "", table.data ? table.data : "");
    gr_buf_free(&items);
    gr_buf_free(&table);
}

static graft_status put_tokenizer(const source *s, gr_buf *out, graft_error *err) {
    const char *text;
    size_t len;
    int64_t id;
    gr_buf_puts(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    GR_TRY(put_added(s, out, err));
    if (s->spm)
        gr_spm_put_parts(out, s->space_prefix, false, NULL, 0);
    else
        put_byte_level_parts(s, out);
    put_postprocessor(s, out);
    gr_buf_puts(out, "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"continuing_subword_prefix\":null,"
                     "\"end_of_word_suffix\":null,\"unk_token\":");
    if (s->spm && token_of_key(s, KEY("unknown_token_id"), 0, &text, &len, &id))
        gr_json_put_string(out, text, len);
    else
        gr_buf_puts(out, "null");
    gr_buf_printf(out, ",\"fuse_unk\":%s,\"byte_fallback\":%s,\"ignore_merges\":%s,\n",
                  s->spm ? "true" : "false", s->spm ? "true" : "false",
                  !s->spm && s->pre->ignore_merges ? "true" : "false");
    GR_TRY(put_vocab(s, out, err));
    GR_TRY(s->spm ? put_scored_merges(s, out, err) : put_merges(s, out, err));
    gr_buf_puts(out, "}}");
    return out->failed ? gr_no_memory(err, out->len) : GRAFT_OK;
}

static graft_status put_config(const source *s, gr_buf *out, graft_error *err) {
    static const struct {
        const char *name, *key;
        int64_t spm_default;
    } specials[] = {{"bos_token", KEY("bos_token_id"), 1},
                    {"eos_token", KEY("eos_token_id"), 2},
                    {"unk_token", KEY("unknown_token_id"), 0},
                    {"pad_token", KEY("padding_token_id"), -1}};
    const char *text;
    size_t len;
    int64_t id;
    bool bos = adds(s, KEY("add_bos_token"), s->spm || s->pre->add_bos),
         eos = adds(s, KEY("add_eos_token"), false);
    gr_buf_printf(out, "{\"add_bos_token\":%s,\"add_eos_token\":%s", bos ? "true" : "false",
                  eos ? "true" : "false");
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
        if (!token_of_key(s, specials[i].key, s->spm ? specials[i].spm_default : -1, &text, &len, &id))
            continue;
        gr_buf_printf(out, ",\"%s\":", specials[i].name);
        gr_json_put_string(out, text, len);
    }
    json_t *templates;
    GR_TRY(gr_chat_templates_of_gguf(&templates, s->file, err));
    char *dumped = templates ? gr_json_dump(templates, JSON_ENCODE_ANY) : NULL;
    if (dumped) gr_buf_printf(out, ",\"chat_template\":%s", dumped);
    if (templates && !dumped) out->failed = true;
    free(dumped);
    json_decref(templates);
    gr_buf_putc(out, '}');
    return out->failed ? gr_no_memory(err, out->len) : GRAFT_OK;
}

/* Tokens that end a turn, whatever eos_token_id says: GGUF names some by id, the others are known by their
 * names. */
static graft_status add_stops(const source *s, gr_tokenizer *tok, graft_error *err) {
    static const char *const keys[] = {KEY("eos_token_id"), KEY("eot_token_id"), KEY("eom_token_id")};
    static const char *const names[] = {"<|eot_id|>", "<|eom_id|>",    "<|im_end|>",
                                        "<|end|>",    "<end_of_turn>", "<|endoftext|>"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        GR_TRY(gr_tokenizer_add_stop(tok, int_of(s->file, keys[i], -1), err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int32_t id = gr_tokenizer_id(tok, names[i]);
        if (gr_tokenizer_is_special(tok, id)) GR_TRY(gr_tokenizer_add_stop(tok, id, err));
    }
    return GRAFT_OK;
}

graft_status gr_tokenizer_from_gguf(gr_tokenizer **tok, const gr_gguf *file, graft_error *err) {
    source s;
    gr_buf json = {0}, config = {0};
    graft_error local = {0};
    graft_status st;
    if (!err) err = &local;
    *tok = NULL;
    GR_GOTO(read_source(&s, file, err));
    GR_GOTO(put_tokenizer(&s, &json, err));
    GR_GOTO(put_config(&s, &config, err));
    GR_GOTO(
        gr_tokenizer_from_json(tok, json.data, json.len, config.data, config.len, gr_gguf_path(file), err));
    st = add_stops(&s, *tok, err);
    if (st) {
        gr_tokenizer_free(*tok);
        *tok = NULL;
    }
done:
    if (st) gr_where(err, "%s", gr_gguf_path(file));
    gr_buf_free(&json);
    gr_buf_free(&config);
    return st;
}
