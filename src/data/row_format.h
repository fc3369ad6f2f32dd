/* data/row_format.h - one JSON row to ids and mask, in mlx-lm's formats. */
#ifndef GR_DATA_ROW_FORMAT_H
#define GR_DATA_ROW_FORMAT_H
#include "data/rows.h"

/* What one row becomes. Owned by caller until gr_encoded_free; reset before each row. */
typedef struct gr_encoded {
    gr_ids ids;
    uint8_t *mask;      /* parallel to ids */
    bool unread_system; /* see gr_conversation */
    bool endless;       /* a chat too long to find its mask, which is not taken */
} gr_encoded;
void gr_encoded_free(gr_encoded *row);

/* Parses `json` (one object), finds its format by its keys and encodes it: neither cut nor padded. Errors
 * (what is wrong with this row, without file and line): GRAFT_CORRUPT for bad JSON and wrong types,
 * GRAFT_UNSUPPORTED for a prompt mask on text, GRAFT_NOT_FOUND for a chat row without a template,
 * GRAFT_RANGE for an id at or above config->vocab_size. */
graft_status gr_row_encode(gr_encoded *row, const char *json, size_t len, const gr_tokenizer *tok,
                           const gr_chat *chat, const gr_rows_config *config, graft_error *err) GR_MUST_CHECK;

/* A pair: both halves as prompt and answer together. */
typedef struct gr_encoded_pair {
    gr_encoded half[2]; /* chosen, rejected; masks: the answer's tokens */
    int64_t prompt;     /* tokens that both begin with, and no answer's */
    bool merged;        /* the prompt alone has other tokens at its end than these */
} gr_encoded_pair;
void gr_encoded_pair_free(gr_encoded_pair *pair);
/* Likewise for a row of preferences (preference.h), tokens as TRL 1.16 makes them: texts with special tokens
 * by the post-processor and EOS appended if absent; chats rendered; prompt and answer encoded together, the
 * answer beginning where that differs from the prompt alone. With config->whole_chosen the chosen half's mask
 * is of all its tokens. GRAFT_CORRUPT for an answer without tokens too. pair_format.c. */
graft_status gr_pair_encode(gr_encoded_pair *pair, const char *json, size_t len, const gr_tokenizer *tok,
                            const gr_chat *chat, const gr_rows_config *config,
                            graft_error *err) GR_MUST_CHECK;

/* The parts that both share. One JSON object, owned by caller. */
graft_status gr_row_parse(json_t **object, const char *json, size_t len, graft_error *err) GR_MUST_CHECK;
/* No token at all, or one that the model does not have. */
graft_status gr_row_check_ids(const gr_ids *ids, int32_t vocab_size, graft_error *err) GR_MUST_CHECK;
/* GRAFT_NOT_FOUND: a chat row, and no template. */
graft_status gr_row_no_template(graft_error *err);

#endif
