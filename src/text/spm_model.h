/* text/spm_model.h - what a SentencePiece vocabulary holds, from a tokenizer.model file or from GGUF's lists,
 * and its parts as texts of tokenizer.json. Private to the tokenizer. Never: encoding.
 */
#ifndef GR_TEXT_SPM_MODEL_H
#define GR_TEXT_SPM_MODEL_H
#include "base/memory.h"
#include <jansson.h>

typedef enum gr_piece_type { /* SentencePiece's numbers, which GGUF's token types took over */
                             GR_PIECE_NORMAL = 1,
                             GR_PIECE_UNKNOWN = 2,
                             GR_PIECE_CONTROL = 3,
                             GR_PIECE_USER = 4,
                             GR_PIECE_UNUSED = 5,
                             GR_PIECE_BYTE = 6,
} gr_piece_type;
typedef struct gr_spm_piece {
    const char *text; /* borrowed; UTF-8 or what the reader of tokenizer.json is to refuse */
    size_t len;
    double score;
    int64_t type;
} gr_spm_piece;

typedef struct gr_spm_model {
    gr_spm_piece *pieces;
    size_t count, cap;
    int64_t kind; /* 1 Unigram, 2 BPE */
    bool byte_fallback, add_dummy_prefix, remove_extra_whitespaces;
    int64_t unk, bos, eos; /* ids; -1 none */
    const char *charsmap;  /* borrowed; NULL none */
    size_t charsmap_len;
} gr_spm_model;

/* Reads a tokenizer.model (the protocol buffer ModelProto). The pieces borrow from `data`. Kinds other than
 * Unigram and BPE, and settings that change the text in other ways: GRAFT_UNSUPPORTED by name. Freed with
 * gr_spm_model_free, also after an error. */
graft_status gr_spm_model_read(gr_spm_model *model, const char *data, size_t len,
                               graft_error *err) GR_MUST_CHECK;
void gr_spm_model_free(gr_spm_model *model);

/* Appends `,"merges":[..]` of a BPE vocabulary that has scores instead: two pieces merge when together they
 * are a piece, better scores first. */
graft_status gr_spm_put_merges(gr_buf *out, const gr_spm_piece *pieces, size_t count,
                               graft_error *err) GR_MUST_CHECK;
/* Appends the members normalizer, pre_tokenizer and decoder that work as SentencePiece does. charsmap may be
 * NULL. */
void gr_spm_put_parts(gr_buf *out, bool space_prefix, bool squeeze_spaces, const char *charsmap, size_t len);

/* tokenizer.json's text for a tokenizer.model; `config` is tokenizer_config.json's text or NULL. A class
 * LlamaTokenizer or GemmaTokenizer there builds what that class of transformers builds; all else works as
 * SentencePiece itself. */
graft_status gr_spm_to_json(gr_buf *json, const char *data, size_t len, const char *config, size_t config_len,
                            graft_error *err) GR_MUST_CHECK;

/* transformers 5 builds a Llama model's class LlamaTokenizer anew around the model of its tokenizer.json:
 * changes `parts` (a parsed tokenizer.json) the same way when `config` (tokenizer_config.json) names that
 * class and the parts are not byte-level. The post-processor stays. */
graft_status gr_spm_class_parts(json_t *parts, const json_t *config, graft_error *err) GR_MUST_CHECK;

#endif
