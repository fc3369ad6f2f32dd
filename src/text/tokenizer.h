/* text/tokenizer.h - text to token ids and back, as the `tokenizers` package does for tokenizer.json (models
 * BPE and Unigram). What it does: byte-level BPE, BPE with byte fallback / Metaspace, Unigram; added tokens;
 * normalizers; pre-tokenizers; post-processor; decoder. Also a tokenizer from GGUF metadata. May include:
 * base, files. Never: models, chats.
 */
#ifndef GR_TEXT_TOKENIZER_H
#define GR_TEXT_TOKENIZER_H
#include "base/memory.h"
#include "files/gguf.h"

typedef struct gr_tokenizer gr_tokenizer;

/* From a model directory: tokenizer.json, or SentencePiece's tokenizer.model where there is none (with
 * added_tokens.json), plus tokenizer_config.json / special_tokens_map.json (bos, eos, pad
 * and other special tokens, added_tokens_decoder), generation_config.json and config.json (eos ids),
 * chat templates (chat_templates.h). As in transformers 5, add_bos_token and add_eos_token mean nothing
 * beside a tokenizer.json: its post-processor decides; and a Llama model's class LlamaTokenizer has parts of
 * its own. Owned by caller until gr_tokenizer_free. Immutable afterwards: two threads may use one. */
graft_status gr_tokenizer_open_as(gr_tokenizer **tok, const char *dir, gr_reading how,
                                  graft_error *err) GR_MUST_CHECK;
/* From buffers: tokenizer.json text and tokenizer_config.json text (may be NULL). `name` appears in errors.
 */
graft_status gr_tokenizer_from_json(gr_tokenizer **tok, const char *json, size_t len, const char *config,
                                    size_t config_len, const char *name, graft_error *err) GR_MUST_CHECK;
/* From tokenizer.ggml.* (tokens, merges, token types, `pre` by a table; model "gpt2" and "llama"). */
graft_status gr_tokenizer_from_gguf(gr_tokenizer **tok, const gr_gguf *file, graft_error *err) GR_MUST_CHECK;
/* tokenizer.json text that the `tokenizers` package loads and that encodes the same (for convert from GGUF).
 */
graft_status gr_tokenizer_to_json(const gr_tokenizer *tok, gr_buf *json, graft_error *err) GR_MUST_CHECK;
void gr_tokenizer_free(gr_tokenizer *tok);

typedef struct gr_ids {
    int32_t *ids;
    size_t count, cap;
} gr_ids;
void gr_ids_free(gr_ids *ids);
/* Appends one; false on failure. */
bool gr_ids_push(gr_ids *ids, int32_t id);

typedef enum gr_encode_flags {
    GR_ENCODE_PLAIN = 0,
    GR_ENCODE_ADD_SPECIAL = 1,   /* what the post-processor adds (BOS, EOS ..) */
    GR_ENCODE_PARSE_SPECIAL = 2, /* special tokens written in the text become their ids; else they are text
                                    (non-special added tokens are always recognized) */
} gr_encode_flags;
/* Appends the ids of UTF-8 text (invalid bytes become U+FFFD, as Python's errors="replace"). */
graft_status gr_tokenizer_encode(const gr_tokenizer *tok, const char *text, size_t len, int flags,
                                 gr_ids *out, graft_error *err) GR_MUST_CHECK;
/* The same where parts of the text are data: a special token that touches one of the `literal` byte ranges
 * (ascending, disjoint) stays text even under GR_ENCODE_PARSE_SPECIAL. starts (may be NULL) gets one entry
 * for each id: the byte of `text` where its token begins, -1 for ids that the post-processor put in. Texts
 * beyond 1 GiB: GRAFT_RANGE. */
typedef struct gr_text_range {
    size_t start, end;
} gr_text_range;
graft_status gr_tokenizer_encode_parts(const gr_tokenizer *tok, const char *text, size_t len, int flags,
                                       const gr_text_range *literal, size_t nliteral, gr_ids *out,
                                       gr_ids *starts, graft_error *err) GR_MUST_CHECK;
/* Appends the text of ids. skip_special leaves special tokens out; ids that no token has have no text, as in
 * the tokenizers package. Negative ids: GRAFT_RANGE. */
graft_status gr_tokenizer_decode(const gr_tokenizer *tok, const int32_t *ids, size_t count, bool skip_special,
                                 gr_buf *out, graft_error *err) GR_MUST_CHECK;

/* What an id is to a text that grows, special tokens left out. */
typedef enum gr_token_role {
    GR_TOKEN_SILENT, /* it has no text */
    GR_TOKEN_BYTE,   /* perhaps one byte of a run, all of whose text may change with the next one */
    GR_TOKEN_WHOLE,  /* what is behind it follows from it and what comes after it, where it has text of its
                        own that ends in a whole character */
    GR_TOKEN_BOUND   /* else */
} gr_token_role;
gr_token_role gr_tokenizer_role(const gr_tokenizer *tok, int32_t id);

int32_t gr_tokenizer_vocab_size(const gr_tokenizer *tok);            /* largest id + 1 */
int32_t gr_tokenizer_id(const gr_tokenizer *tok, const char *token); /* -1 if unknown */
const char *gr_tokenizer_token(const gr_tokenizer *tok, int32_t id); /* its stored spelling; NULL if none */
/* Bytes of the longest special token that text begins with; 0: none. */
size_t gr_tokenizer_special_at(const gr_tokenizer *tok, const char *text, size_t n);
bool gr_tokenizer_is_special(const gr_tokenizer *tok, int32_t id);
int32_t gr_tokenizer_bos(const gr_tokenizer *tok); /* -1 if none */
int32_t gr_tokenizer_eos(const gr_tokenizer *tok); /* tokenizer_config's eos_token, else the first eos id of a
                                                      directory's configs; -1 if none */
/* The spelling of a named special token as chat templates see it: "bos_token", "eos_token", "unk_token",
 * "pad_token", "sep_token", "cls_token", "mask_token" and others of tokenizer_config; NULL if none. Borrowed.
 */
const char *gr_tokenizer_special(const gr_tokenizer *tok, const char *name);
bool gr_tokenizer_is_stop(const gr_tokenizer *tok,
                          int32_t id); /* eos_token or an eos id of generation_config / config.json */
/* Those ids, count of them. Borrowed. */
const int32_t *gr_tokenizer_stops(const gr_tokenizer *tok, size_t *count);
/* The chat template's source, NULL if none: the default one, or with a `name` another, e.g. "tool_use"
 * (chat_templates.h says where they stand). Borrowed. */
const char *gr_tokenizer_chat_template(const gr_tokenizer *tok, const char *name);

#endif
