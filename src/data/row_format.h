/* data/row_format.h - one JSON row to ids and mask, in mlx-lm's formats. */
#ifndef GR_DATA_ROW_FORMAT_H
#define GR_DATA_ROW_FORMAT_H
#include "data/rows.h"

/* What one row becomes. Owned by caller until gr_encoded_free; reset before each row. */
typedef struct gr_encoded {
    gr_ids ids;
    uint8_t *mask; /* parallel to ids */
    bool endless;  /* a chat too long to find its mask, which is not taken */
} gr_encoded;
void gr_encoded_free(gr_encoded *row);

/* Parses `json` (one object), finds its format by its keys and encodes it: neither cut nor padded. Errors
 * (what is wrong with this row, without file and line): GRAFT_CORRUPT for bad JSON and wrong types,
 * GRAFT_UNSUPPORTED for a prompt mask on text, GRAFT_NOT_FOUND for a chat row without a template,
 * GRAFT_RANGE for an id at or above config->vocab_size. */
graft_status gr_row_encode(gr_encoded *row, const char *json, size_t len, const gr_tokenizer *tok,
                           const gr_chat *chat, const gr_rows_config *config, graft_error *err) GR_MUST_CHECK;

#endif
