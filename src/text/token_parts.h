/* text/token_parts.h - the parts of a tokenizer, in the order text flows through them:
 * added tokens -> normalizer -> added tokens -> pre-tokenizer -> BPE or Unigram -> post-processor; ids ->
 * decoder. Private to the tokenizer's files. Every part is built once from its JSON and is read-only
 * afterwards; what an encoding needs to write lives in gr_encode_work. Borrowed json_t are never kept.
 */
#ifndef GR_TEXT_TOKEN_PARTS_H
#define GR_TEXT_TOKEN_PARTS_H
#include "base/memory.h"
#include "text/tokenizer.h"
#include <jansson.h>

/* Ids at or above this are refused: tables are indexed by id. */
#define GR_MAX_TOKEN_ID (1 << 22)
/* Longest text of one encode call: origins are 32-bit. */
#define GR_MAX_TEXT ((size_t)1 << 30)
/* Added tokens: speech models have 65,536, and the longest known has 46 bytes. Their length bounds the search
 * at each byte of a text. */
#define GR_MAX_ADDED       100000
#define GR_MAX_ADDED_BYTES 256
/* Steps of a normalizer, pre-tokenizer or decoder (8 are the most known), and templates of a post-processor.
 * Each step walks the whole text. */
#define GR_MAX_STEPS 32
/* How much longer the steps may make a text: NFKD alone makes one Arabic sign eleven times as long. */
#define GR_MAX_ANSWERS 16

/* ---- text with the place in the caller's text that each byte came from */
typedef struct gr_ntext {
    char *data;
    uint32_t *origin;
    size_t len, cap;
    bool failed; /* sticky: an allocation failed */
} gr_ntext;
/* Appends n bytes that all came from `origin`. */
void gr_ntext_add(gr_ntext *text, const char *bytes, size_t n, uint32_t origin);
/* Appends bytes start..end of another text with their origins. */
void gr_ntext_copy(gr_ntext *text, const gr_ntext *from, size_t start, size_t end);
/* Appends UTF-8 text with origins base, base + 1 ...; invalid sequences become U+FFFD, one for each maximal
 * part. */
void gr_ntext_sanitize(gr_ntext *text, const char *bytes, size_t n, uint32_t base);
void gr_ntext_clear(gr_ntext *text);
void gr_ntext_free(gr_ntext *text);

/* ---- text cut in pieces; a piece with id >= 0 is an added token and final */
typedef struct gr_piece {
    size_t start, end;
    int32_t id;
} gr_piece;
typedef struct gr_pieces {
    gr_ntext text;
    gr_piece *items;
    size_t count, cap;
    bool failed;
} gr_pieces;
/* Appends a piece; empty text pieces are left out. */
void gr_pieces_add(gr_pieces *pieces, size_t start, size_t end, int32_t id);
void gr_pieces_free(gr_pieces *pieces);

/* ---- characters */
/* Decodes the character at s (valid UTF-8, n >= 1); returns its length. */
int gr_utf8_get(const char *s, size_t n, int32_t *code);
bool gr_char_is_space(int32_t code);  /* White_Space */
bool gr_char_is_number(int32_t code); /* categories Nd, Nl, No */
bool gr_char_is_punct(int32_t code);  /* ASCII punctuation or a P* category */
bool gr_char_is_word(int32_t code);   /* \w of the added tokens' single_word rule */

/* ---- patterns: a literal string or a regular expression in Oniguruma's syntax, matched by PCRE2 */
typedef struct gr_pattern gr_pattern;
typedef struct gr_match_span {
    size_t start, end;
    bool is_match;
} gr_match_span;
typedef struct gr_match_spans {
    gr_match_span *items;
    size_t count, cap;
    bool failed;
    void *match_data; /* pcre2_match_data and its context, made on first use */
    void *match_context;
    uint64_t work, allowed, bytes; /* of regular expressions since these spans exist */
} gr_match_spans;
/* From {"String": s} or {"Regex": s}; or directly. Owned by caller until gr_pattern_free. */
graft_status gr_pattern_from_json(gr_pattern **pattern, const json_t *node, graft_error *err) GR_MUST_CHECK;
graft_status gr_pattern_regex(gr_pattern **pattern, const char *source, size_t len,
                              graft_error *err) GR_MUST_CHECK;
void gr_pattern_free(gr_pattern *pattern);
/* Replaces spans by the matches and the text between them, in order and covering all of text. The work is
 * bounded by the length of what the same spans were used for so far (GRAFT_RANGE). */
graft_status gr_pattern_find(const gr_pattern *pattern, const char *text, size_t len, gr_match_spans *spans,
                             graft_error *err) GR_MUST_CHECK;
void gr_match_spans_add(gr_match_spans *spans, size_t start, size_t end, bool is_match);
/* Bytes of a text of `len` bytes once each match is replaced by `with` bytes; SIZE_MAX when that overflows.
 */
size_t gr_replaced_bytes(const gr_match_spans *spans, size_t len, size_t with);
void gr_match_spans_free(gr_match_spans *spans);
/* The end of the match at `at` < n, beyond it; 0: the regular expression must decide. */
typedef size_t gr_pattern_at(const char *text, size_t n, size_t at);
/* The shortcut of a regular expression that has one, NULL for others. */
gr_pattern_at *gr_pattern_fast(const char *source, size_t len);
#define GR_GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* Rewrites a regular expression from Oniguruma's (Ruby) syntax to PCRE2's. */
graft_status gr_pattern_translate(const char *source, size_t len, gr_buf *out,
                                  graft_error *err) GR_MUST_CHECK;
/* Appends, as ranges of a character class, the code points that \p{name} has in Unicode 16 (Oniguruma's
 * tables) but not in Unicode 14 (the oldest PCRE2 we meet). name: "L", "Lo", "N", "Han" ...; nothing for
 * other names. */
/* Tables of characters where the tokenizers package and utf8proc differ. */
bool gr_unicode_late_number(int32_t code);   /* a number of Unicode 16 or 17 */
bool gr_unicode_not_punct(int32_t code);     /* of a P category now, but not for the Punctuation step */
bool gr_unicode_no_form(int32_t code);       /* a plain character to the package's older normalizer */
int32_t gr_unicode_late_lower(int32_t code); /* lower case of newer letters; 0 for others */
void gr_unicode_extra(const char *name, size_t len, gr_buf *out);

/* ---- added tokens */
typedef struct gr_added_token {
    char *content;
    size_t len;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    /* What decoding sees: the normalized spelling, and whether that is a special token's (set by
     * gr_added_finish; borrowed from the set that finds the token). */
    const char *shown;
    size_t shown_len;
    bool skipped;
} gr_added_token;
typedef struct gr_added_match {
    char *text; /* the spelling to look for, normalized when the token is */
    size_t len;
    uint32_t token;
} gr_added_match;
typedef struct gr_added_set {
    gr_added_match *items; /* sorted by bytes */
    size_t count;
    bool begins[256]; /* first bytes of the spellings */
} gr_added_set;
typedef struct gr_added {
    gr_added_token *tokens;
    size_t count, cap;
    uint32_t *slots; /* by content; open addressing: index + 1 */
    size_t nslots;
    uint64_t seed;
    int32_t next_id; /* beyond all of the tokens' */
    gr_added_set raw, normalized;
    gr_added_set specials; /* as they are spelled */
    int32_t *by_id;        /* id -> index of the token, -1 none; `limit` entries */
    int32_t limit;
} gr_added;

struct gr_normalizer;
/* Adds a token, or replaces the properties of the one with this content. `model_id` is the vocabulary's id of
 * this content or -1; `vocab_count` the number of its entries. */
graft_status gr_added_put(gr_added *added, const gr_added_token *token, int32_t model_id, int32_t vocab_count,
                          graft_error *err) GR_MUST_CHECK;
/* After the last gr_added_put: builds the tables that find tokens. */
graft_status gr_added_finish(gr_added *added, const struct gr_normalizer *normalizer,
                             graft_error *err) GR_MUST_CHECK;
const gr_added_token *gr_added_by_id(const gr_added *added, int32_t id);
const gr_added_token *gr_added_by_content(const gr_added *added, const char *content, size_t len);
void gr_added_free(gr_added *added);
/* The longest spelling at s; NULL if none. */
const gr_added_match *gr_added_longest(const gr_added_set *set, const char *s, size_t n);
/* What may not be matched: special tokens at all, or where they touch one of these ranges of the caller's
 * text. */
typedef struct gr_added_rule {
    bool parse_special;
    const gr_text_range *literal;
    size_t nliteral;
} gr_added_rule;
/* Cuts bytes start..end of `text` and appends the pieces to `out` (offsets of `text`). */
void gr_added_split(const gr_added *added, const gr_added_set *set, const gr_added_rule *rule,
                    const gr_ntext *text, size_t start, size_t end, gr_pieces *out);

/* ---- normalizer: a flat list of steps */
typedef struct gr_normalizer gr_normalizer;
/* NULL node or JSON null: *normalizer is NULL, which every call accepts. */
graft_status gr_normalizer_from_json(gr_normalizer **normalizer, const json_t *node,
                                     graft_error *err) GR_MUST_CHECK;
void gr_normalizer_free(gr_normalizer *normalizer);
/* Replaces `text` by its normal form; `other` and `spans` are scratch. */
graft_status gr_normalizer_run(const gr_normalizer *normalizer, gr_ntext *text, gr_ntext *other,
                               gr_match_spans *spans, graft_error *err) GR_MUST_CHECK;

/* ---- the characters' map of a SentencePiece model (normalizer Precompiled) */
typedef struct gr_charsmap gr_charsmap;
/* From {"precompiled_charsmap": base64}. Owned by caller until gr_charsmap_free. */
graft_status gr_charsmap_from_json(gr_charsmap **map, const json_t *node, graft_error *err) GR_MUST_CHECK;
void gr_charsmap_free(gr_charsmap *map);
/* Appends the mapped text. GRAFT_RANGE when it grows too much. */
graft_status gr_charsmap_run(const gr_charsmap *map, const gr_ntext *in, gr_ntext *out,
                             graft_error *err) GR_MUST_CHECK;

/* ---- pre-tokenizer: a flat list of steps */
typedef struct gr_pretokenizer gr_pretokenizer;
graft_status gr_pretokenizer_from_json(gr_pretokenizer **pre, const json_t *node,
                                       graft_error *err) GR_MUST_CHECK;
void gr_pretokenizer_free(gr_pretokenizer *pre);
/* Cuts and rewrites `pieces`; `other` and `spans` are scratch. */
graft_status gr_pretokenizer_run(const gr_pretokenizer *pre, gr_pieces *pieces, gr_pieces *other,
                                 gr_match_spans *spans, graft_error *err) GR_MUST_CHECK;
/* The visible character that stands for a byte in byte-level vocabularies, and back (-1: stands for none). */
int32_t gr_byte_to_char(uint8_t byte);
int gr_char_to_byte(int32_t code);

/* GRAFT_RANGE when a text of `before` bytes (or tokens' text) became one of `now`: beyond GR_MAX_ANSWERS
 * times and some constant. */
graft_status gr_answer_check(size_t before, size_t now, graft_error *err) GR_MUST_CHECK;
/* GRAFT_RANGE when one more step would be more than GR_MAX_STEPS. `of` names whose. */
graft_status gr_steps_check(size_t count, const char *of, graft_error *err) GR_MUST_CHECK;

/* ---- hashing for the tables below: seeded, so that no file can be made to fill one slot */
uint64_t gr_hash_seed(const void *table);
uint64_t gr_hash_bytes(uint64_t seed, const char *bytes, size_t n);

/* ---- vocabulary and merges */
typedef struct gr_vocab_entry {
    uint32_t offset, len; /* in `bytes`, NUL-terminated there */
    int32_t id;
} gr_vocab_entry;
typedef struct gr_vocab {
    gr_buf bytes;
    gr_vocab_entry *entries;
    size_t count, cap;
    uint32_t *slots; /* open addressing: entry + 1 */
    size_t nslots;
    uint64_t seed;
    int32_t *by_id; /* id -> entry, -1 none */
    int32_t limit;  /* largest id + 1 */
} gr_vocab;
graft_status gr_vocab_add(gr_vocab *vocab, const char *token, size_t len, int64_t id,
                          graft_error *err) GR_MUST_CHECK;
graft_status gr_vocab_finish(gr_vocab *vocab, graft_error *err) GR_MUST_CHECK; /* before any lookup */
int32_t gr_vocab_id(const gr_vocab *vocab, const char *token, size_t len);     /* -1 none */
const char *gr_vocab_token(const gr_vocab *vocab, int32_t id, size_t *len);    /* NULL none */
void gr_vocab_free(gr_vocab *vocab);

typedef struct gr_merge {
    int32_t left, right, made;
    uint32_t rank;
} gr_merge;
typedef struct gr_merges {
    gr_merge *slots; /* open addressing, left < 0: free */
    size_t nslots, count;
    uint64_t seed;
} gr_merges;
graft_status gr_merges_reserve(gr_merges *merges, size_t count, graft_error *err) GR_MUST_CHECK;
void gr_merges_put(gr_merges *merges,
                   gr_merge merge); /* within what was reserved; a pair's last rank counts */
const gr_merge *gr_merges_get(const gr_merges *merges, int32_t left, int32_t right);
void gr_merges_free(gr_merges *merges);

/* ---- the model: a vocabulary, and how BPE or Unigram cuts a piece of text into its tokens */
typedef struct gr_unigram gr_unigram;
typedef struct gr_subwords {
    gr_vocab vocab;
    int32_t unk; /* -1 none */
    bool fuse_unk, byte_fallback;
    int32_t byte_id[256]; /* <0xHH>, -1 none */
    gr_unigram *unigram;  /* NULL: BPE, by what follows */
    gr_merges merges;
    bool ignore_merges;
    char *prefix, *suffix;  /* continuing_subword_prefix, end_of_word_suffix; NULL none */
    int32_t char_id[0x400]; /* one-character tokens by code point, so that byte-level text needs no hashing */
} gr_subwords;
graft_status gr_subwords_from_json(gr_subwords *words, const json_t *model, graft_error *err) GR_MUST_CHECK;
void gr_subwords_free(gr_subwords *words);

typedef struct gr_bpe_symbol {
    int32_t id, prev, next;
    uint32_t start; /* byte of the piece */
    uint32_t len;   /* 0: merged away */
} gr_bpe_symbol;
typedef struct gr_bpe_candidate {
    uint32_t rank;
    int32_t pos, made;
} gr_bpe_candidate;
typedef struct gr_unigram_step { /* the best way to a place of the text */
    double score;
    uint32_t start; /* where its last token begins */
    int32_t id;     /* that token; -1: there is no way yet */
} gr_unigram_step;
/* What one encoding writes; reused from call to call, freed with gr_encode_work_free. */
typedef struct gr_encode_work {
    gr_ntext input, segment, scratch;
    gr_pieces cut, pieces, other;
    gr_match_spans spans;
    gr_bpe_symbol *symbols;
    size_t nsymbols, symbols_cap;
    gr_bpe_candidate *heap;
    size_t nheap, heap_cap;
    gr_unigram_step *best;
    size_t best_cap;
    gr_ids ids, starts, swap_ids, swap_starts;
} gr_encode_work;
void gr_encode_work_free(gr_encode_work *work);
/* Appends the tokens of one piece, not empty, to work->ids and work->starts. BPE: O(n log n). Unigram: O(n)
 * times the longest token; GRAFT_RANGE for a character without a token when the model has no unknown one. */
graft_status gr_bpe_encode(const gr_subwords *words, const gr_ntext *text, size_t start, size_t end,
                           gr_encode_work *work, graft_error *err) GR_MUST_CHECK;
graft_status gr_unigram_encode(const gr_subwords *words, const gr_ntext *text, size_t start, size_t end,
                               gr_encode_work *work, graft_error *err) GR_MUST_CHECK;
/* From scores by id, one for each entry of the vocabulary, whose ids are 0, 1, 2 ... Takes the scores in
 * every case. Then, before anything is encoded, the tree of the tokens: all but the special ones of `added`,
 * so that these are never found in what is text. Tokens beyond 512 bytes: GRAFT_RANGE. */
graft_status gr_unigram_make(gr_unigram **unigram, const gr_vocab *vocab, double *scores,
                             graft_error *err) GR_MUST_CHECK;
graft_status gr_unigram_grow(gr_unigram *unigram, const gr_vocab *vocab, const gr_added *added,
                             graft_error *err) GR_MUST_CHECK;
double gr_unigram_score(const gr_unigram *unigram, int32_t id);
void gr_unigram_free(gr_unigram *unigram);

/* ---- post-processor: templates, applied in order */
typedef struct gr_postprocessor gr_postprocessor;
graft_status gr_postprocessor_from_json(gr_postprocessor **post, const json_t *node,
                                        graft_error *err) GR_MUST_CHECK;
void gr_postprocessor_free(gr_postprocessor *post);
/* Rewrites work->ids and work->starts; the start of an inserted token is -1. False on allocation failure. */
bool gr_postprocessor_run(const gr_postprocessor *post, gr_encode_work *work);
/* The largest id it inserts; -1 none. */
int32_t gr_postprocessor_max_id(const gr_postprocessor *post);

/* ---- decoder: a flat list of steps over the token strings */
typedef struct gr_decoder gr_decoder;
graft_status gr_decoder_from_json(gr_decoder **decoder, const json_t *node, graft_error *err) GR_MUST_CHECK;
void gr_decoder_free(gr_decoder *decoder);
typedef struct gr_token_text { /* token i is bytes ends[i-1] .. ends[i] */
    gr_buf bytes;
    size_t *ends;
    size_t count, cap;
    bool failed;
} gr_token_text;
void gr_token_text_end(gr_token_text *tokens); /* closes a token at the end of `bytes` */
void gr_token_text_free(gr_token_text *tokens);
/* Decodes the tokens and appends the text. `tokens` is used up. */
graft_status gr_decoder_run(const gr_decoder *decoder, gr_token_text *tokens, gr_buf *out,
                            graft_error *err) GR_MUST_CHECK;
/* May this spelling be one byte of a run, which only becomes text together with its neighbours? */
bool gr_decoder_may_take_byte(const gr_decoder *decoder, const char *token, size_t len);
/* Does the text behind a token follow from that token and what comes after it? Where the token alone has text
 * that ends in a whole character, and is no byte of a run. */
bool gr_decoder_restarts(const gr_decoder *decoder);

/* ---- the whole */
struct gr_tokenizer {
    json_t *parts; /* tokenizer.json without vocabulary, merges and added tokens: what gr_tokenizer_to_json
                      writes */
    gr_subwords words;
    gr_added added;
    gr_normalizer *normalizer;
    gr_pretokenizer *pre;
    gr_postprocessor *post;
    gr_decoder *decoder;
    json_t *config; /* tokenizer_config.json, {} if none */
    int32_t bos, eos;
    int32_t *stops;
    size_t nstops, stops_cap;
};
/* The texts a tokenizer is built from. */
typedef struct gr_tokenizer_texts {
    const char *json, *config; /* tokenizer.json; tokenizer_config.json or NULL */
    size_t len, config_len;
    const char *name; /* of the file, for errors */
    bool llama;       /* of a Llama model: see gr_spm_class_parts */
} gr_tokenizer_texts;
graft_status gr_tokenizer_build(gr_tokenizer **tok, const gr_tokenizer_texts *from,
                                graft_error *err) GR_MUST_CHECK;
/* The spelling of a special token, given as a text or as {"content": text}; NULL: neither. Borrowed. */
const json_t *gr_token_spelling(const json_t *value);
/* Reads config (may be NULL) into tok: special tokens, added_tokens_decoder. tok owns config. */
graft_status gr_tokenizer_apply_config(gr_tokenizer *tok, json_t *config, graft_error *err) GR_MUST_CHECK;
graft_status gr_tokenizer_add_stop(gr_tokenizer *tok, int64_t id, graft_error *err) GR_MUST_CHECK;
/* Adds stop ids from "eos_token_id" (a number or a list) of generation_config.json or config.json. */
graft_status gr_tokenizer_add_stops(gr_tokenizer *tok, const json_t *config, graft_error *err) GR_MUST_CHECK;

/* Appends s as a JSON string. s is UTF-8 or whatever the reader is to refuse. */
void gr_json_put_string(gr_buf *out, const char *s, size_t n);
/* ---- JSON members with a default; a member of another type is GRAFT_CORRUPT */
graft_status gr_member_bool(const json_t *object, const char *key, bool fallback, bool *value,
                            graft_error *err) GR_MUST_CHECK;
/* NULL if absent or null; borrowed. */
graft_status gr_member_string(const json_t *object, const char *key, const char **value, size_t *len,
                              graft_error *err) GR_MUST_CHECK;

#endif
