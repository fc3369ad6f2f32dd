/* A SentencePiece vocabulary as texts of tokenizer.json, which are then read like files: there is one reader,
 * and what convert writes is what was used. */
#include "base/number.h"
#include "files/json_read.h"
#include "text/spm_model.h"
#include "text/token_parts.h"

#define SPACE "\xe2\x96\x81" /* stands for a space in pieces */

/* ---- merges from scores */
typedef struct scored {
    double score;
    uint32_t token, left_len; /* the piece, cut after left_len bytes */
} scored;

static int by_score(const void *pa, const void *pb) {
    const scored *a = pa, *b = pb;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->token != b->token) return a->token < b->token ? -1 : 1; /* user-defined pieces all have 0 */
    return a->left_len < b->left_len ? -1 : a->left_len > b->left_len;
}

static bool is_piece(const gr_spm_piece *p) {
    return p->type == GR_PIECE_NORMAL || p->type == GR_PIECE_USER || p->type == GR_PIECE_UNUSED;
}

static graft_status collect_merges(const gr_spm_piece *pieces, size_t npieces, const gr_vocab *vocab,
                                   scored **list, size_t *count, graft_error *err) {
    size_t cap = 0;
    for (size_t i = 0; i < npieces; i++) {
        const gr_spm_piece *p = &pieces[i];
        /* No piece of a real model is that long; cutting it everywhere would be quadratic. */
        if (!is_piece(p) || p->len > 512) continue;
        for (size_t cut = 1; cut < p->len; cut++) {
            if (((uint8_t)p->text[cut] & 0xc0) == 0x80) continue;
            if (gr_vocab_id(vocab, p->text, cut) < 0 || gr_vocab_id(vocab, p->text + cut, p->len - cut) < 0)
                continue;
            if (!gr_grow((void **)list, &cap, *count, sizeof **list))
                return gr_no_memory(err, cap * 2 * sizeof **list);
            (*list)[(*count)++] = (scored){p->score, (uint32_t)i, (uint32_t)cut};
        }
    }
    return GRAFT_OK;
}

static graft_status piece_table(const gr_spm_piece *pieces, size_t count, gr_vocab *vocab, graft_error *err) {
    for (size_t i = 0; i < count; i++)
        if (is_piece(&pieces[i])) GR_TRY(gr_vocab_add(vocab, pieces[i].text, pieces[i].len, (int64_t)i, err));
    return gr_vocab_finish(vocab, err);
}

graft_status gr_spm_put_merges(gr_buf *out, const gr_spm_piece *pieces, size_t npieces, graft_error *err) {
    gr_vocab vocab = {0};
    scored *list = NULL;
    size_t count = 0;
    graft_status st = piece_table(pieces, npieces, &vocab, err);
    if (!st) st = collect_merges(pieces, npieces, &vocab, &list, &count, err);
    if (count) qsort(list, count, sizeof *list, by_score);
    gr_buf_puts(out, ",\"merges\":[");
    for (size_t i = 0; i < count && !st; i++) {
        const gr_spm_piece *p = &pieces[list[i].token];
        gr_buf_puts(out, i ? ",\n[" : "\n[");
        gr_json_put_string(out, p->text, list[i].left_len);
        gr_buf_putc(out, ',');
        gr_json_put_string(out, p->text + list[i].left_len, p->len - list[i].left_len);
        gr_buf_putc(out, ']');
    }
    gr_buf_putc(out, ']');
    gr_vocab_free(&vocab);
    free(list);
    return st;
}

/* ---- the parts around the model */
static void put_base64(gr_buf *out, const char *bytes, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++) v = v << 8 | (k < have ? (uint8_t)bytes[i + k] : 0);
        for (size_t k = 0; k < 4; k++) gr_buf_putc(out, k <= have ? digits[v >> (18 - 6 * k) & 63] : '=');
    }
}

static void put_decoder(gr_buf *out, bool space_prefix) {
    gr_buf_puts(out, "\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
                     "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" SPACE "\"},\"content\":\" \"},"
                     "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}");
    if (space_prefix) gr_buf_puts(out, ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}");
    gr_buf_puts(out, "]},\n");
}

void gr_spm_put_parts(gr_buf *out, bool space_prefix, bool squeeze_spaces, const char *charsmap, size_t len) {
    gr_buf_puts(out, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    if (charsmap) {
        gr_buf_puts(out, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");
        put_base64(out, charsmap, len);
        gr_buf_puts(out, "\"},");
    }
    if (squeeze_spaces)
        gr_buf_puts(
            out, "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\A +|(?<! ) +\\\\z\"},\"content\":\"\"},"
                 "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"},");
    if (space_prefix) gr_buf_puts(out, "{\"type\":\"Prepend\",\"prepend\":\"" SPACE "\"},");
    gr_buf_puts(out, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE "\"}]},\n"
                     "\"pre_tokenizer\":null,\n");
    put_decoder(out, space_prefix);
}

/* ---- a tokenizer.model */
typedef enum spm_class { CLASS_OTHER, CLASS_LLAMA, CLASS_GEMMA } spm_class;
typedef struct wish { /* what tokenizer_config.json says */
    spm_class class;
    bool add_bos, add_eos, legacy, prefix;
} wish;

static graft_status read_wish(wish *w, const json_t *config, graft_error *err) {
    const char *name;
    GR_TRY(gr_member_string(config, "tokenizer_class", &name, NULL, err));
    if (name && (!strcmp(name, "LlamaTokenizer") || !strcmp(name, "LlamaTokenizerFast")))
        w->class = CLASS_LLAMA;
    if (name && (!strcmp(name, "GemmaTokenizer") || !strcmp(name, "GemmaTokenizerFast")))
        w->class = CLASS_GEMMA;
    GR_TRY(gr_member_bool(config, "add_bos_token", false, &w->add_bos, err));
    GR_TRY(gr_member_bool(config, "add_eos_token", false, &w->add_eos, err));
    GR_TRY(gr_member_bool(config, "legacy", false, &w->legacy, err));
    return gr_member_bool(config, "add_prefix_space", true, &w->prefix, err);
}

static void put_llama_parts(gr_buf *out, const wish *w) {
    gr_buf_printf(out,
                  "\"normalizer\":null,\n\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" SPACE
                  "\",\"prepend_scheme\":\"%s\",\"split\":false},\n",
                  !w->prefix  ? "never"
                  : w->legacy ? "always"
                              : "first");
    put_decoder(out, w->prefix);
}

static void put_gemma_parts(gr_buf *out) {
    gr_buf_puts(out,
                "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE
                "\"},\n"
                "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":"
                "\"MergedWithPrevious\",\"invert\":false},\n");
    put_decoder(out, false);
}

static void put_added(gr_buf *out, const gr_spm_model *m, spm_class class) {
    bool first = true;
    gr_buf_puts(out, "\"added_tokens\":[");
    for (size_t i = 0; i < m->count; i++) {
        const gr_spm_piece *p = &m->pieces[i];
        bool special = p->type == GR_PIECE_CONTROL || p->type == GR_PIECE_UNKNOWN;
        special = special ||
                  (class == CLASS_GEMMA && p->len == 6 && !memcmp(p->text, "<mask>", 6)); /* its default */
        if ((!special && p->type != GR_PIECE_USER) || !p->len) continue;
        gr_buf_printf(out, "%s{\"id\":%zu,\"content\":", first ? "\n" : ",\n", i);
        gr_json_put_string(out, p->text, p->len);
        gr_buf_printf(out, ",\"normalized\":false,\"special\":%s}", special ? "true" : "false");
        first = false;
    }
    gr_buf_puts(out, "],\n");
}

static void put_special(gr_buf *out, const gr_spm_model *m, int64_t id) {
    gr_json_put_string(out, m->pieces[id].text, m->pieces[id].len);
    gr_buf_puts(out, ":{\"id\":");
    gr_json_put_string(out, m->pieces[id].text, m->pieces[id].len);
    gr_buf_printf(out, ",\"ids\":[%lld],\"tokens\":[]}", (long long)id);
}

static void put_template_item(gr_buf *out, const gr_spm_model *m, int64_t id) {
    gr_buf_puts(out, "{\"SpecialToken\":{\"id\":");
    gr_json_put_string(out, m->pieces[id].text, m->pieces[id].len);
    gr_buf_puts(out, ",\"type_id\":0}}");
}

static void put_postprocessor(gr_buf *out, const gr_spm_model *m, const wish *w) {
    int64_t bos = w->add_bos ? m->bos : -1, eos = w->add_eos ? m->eos : -1;
    if (bos < 0 && eos < 0) return;
    gr_buf_puts(out, "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[");
    if (bos >= 0) put_template_item(out, m, bos), gr_buf_putc(out, ',');
    gr_buf_puts(out, "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}");
    if (eos >= 0) gr_buf_putc(out, ','), put_template_item(out, m, eos);
    gr_buf_puts(out, "],\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\","
                     "\"type_id\":1}}],\"special_tokens\":{");
    if (bos >= 0) put_special(out, m, bos);
    if (eos >= 0 && eos != bos) {
        if (bos >= 0) gr_buf_putc(out, ',');
        put_special(out, m, eos);
    }
    gr_buf_puts(out, "}},\n");
}

static graft_status put_model(gr_buf *out, const gr_spm_model *m, bool byte_fallback, graft_error *err) {
    bool bpe = m->kind == 2;
    gr_buf_printf(out, "\"model\":{\"type\":\"%s\",\"byte_fallback\":%s,", bpe ? "BPE" : "Unigram",
                  byte_fallback ? "true" : "false");
    if (bpe && m->unk >= 0) {
        gr_buf_puts(out, "\"fuse_unk\":true,\"unk_token\":");
        gr_json_put_string(out, m->pieces[m->unk].text, m->pieces[m->unk].len);
        gr_buf_putc(out, ',');
    }
    if (!bpe && m->unk >= 0) gr_buf_printf(out, "\"unk_id\":%lld,", (long long)m->unk);
    gr_buf_printf(out, "\"vocab\":%c", bpe ? '{' : '[');
    for (size_t i = 0; i < m->count; i++) {
        gr_buf_puts(out, i ? ",\n" : "\n");
        if (!bpe) gr_buf_putc(out, '[');
        gr_json_put_string(out, m->pieces[i].text, m->pieces[i].len);
        if (bpe) {
            gr_buf_printf(out, ":%zu", i);
            continue;
        }
        gr_buf_putc(out, ',');
        gr_buf_real(out, (double)m->pieces[i].score, 9);
        gr_buf_putc(out, ']');
    }
    gr_buf_putc(out, bpe ? '}' : ']');
    if (bpe) GR_TRY(gr_spm_put_merges(out, m->pieces, m->count, err));
    gr_buf_puts(out, "}}\n");
    return GRAFT_OK;
}

static graft_status put_tokenizer(gr_buf *out, const gr_spm_model *m, const wish *w, graft_error *err) {
    spm_class class = m->kind == 2 ? w->class : CLASS_OTHER;
    gr_buf_puts(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    put_added(out, m, class);
    if (class == CLASS_LLAMA)
        put_llama_parts(out, w);
    else if (class == CLASS_GEMMA)
        put_gemma_parts(out);
    else
        gr_spm_put_parts(out, m->add_dummy_prefix, m->remove_extra_whitespaces, m->charsmap, m->charsmap_len);
    put_postprocessor(out, m, w);
    GR_TRY(put_model(out, m, class == CLASS_OTHER ? m->byte_fallback : true, err));
    return out->failed ? gr_no_memory(err, out->len) : GRAFT_OK;
}

graft_status gr_spm_to_json(gr_buf *json, const char *data, size_t len, const char *config, size_t config_len,
                            graft_error *err) {
    gr_spm_model model = {0};
    wish w = {.prefix = true};
    json_t *settings = NULL;
    graft_status st = gr_spm_model_read(&model, data, len, err);
    if (!st && config) st = gr_json_parse(&settings, config, config_len, "tokenizer_config.json", err);
    if (!st && settings) st = read_wish(&w, settings, err);
    if (!st) st = put_tokenizer(json, &model, &w, err);
    json_decref(settings);
    gr_spm_model_free(&model);
    return st;
}

static bool names_byte_level(const json_t *node) {
    const json_t *item;
    const char *key, *type = json_string_value(json_object_get(node, "type"));
    size_t i;
    if (type && !strcmp(type, "ByteLevel")) return true;
    json_array_foreach(node, i, item) if (names_byte_level(item)) return true;
    json_object_foreach((json_t *)(uintptr_t)node, key, item) if (names_byte_level(item)) return true;
    return false;
}

graft_status gr_spm_class_parts(json_t *parts, const json_t *config, graft_error *err) {
    wish w = {.prefix = true};
    json_t *model = json_object_get(parts, "model"), *made = NULL;
    const char *type = json_string_value(json_object_get(model, "type"));
    GR_TRY(read_wish(&w, config, err));
    if (w.class != CLASS_LLAMA || !type || strcmp(type, "BPE") ||
        names_byte_level(json_object_get(parts, "pre_tokenizer")) ||
        names_byte_level(json_object_get(parts, "decoder")))
        return GRAFT_OK;
    gr_buf text = {0};
    gr_buf_putc(&text, '{');
    put_llama_parts(&text, &w);
    gr_buf_puts(&text, "\"truncation\":null}");
    graft_status st = text.failed ? gr_no_memory(err, text.len)
                                  : gr_json_parse(&made, text.data, text.len, "LlamaTokenizer", err);
    gr_buf_free(&text);
    if (!st && (json_object_update(parts, made) || json_object_set_new(model, "unk_token", json_null()) ||
                json_object_set_new(model, "fuse_unk", json_true()) ||
                json_object_set_new(model, "byte_fallback", json_true())))
        st = gr_no_memory(err, 0);
    json_decref(made);
    return st;
}
