/* model/identity.h - which base this is: digests of all that a model computes with, tensor by tensor.
 * What it does: digests, writes them down, says in which tensors two bases differ. Where the files are, in
 * how many pieces, and tensors that nothing computes with change nothing. May include: base, files, model.
 * Never: for anything that somebody could want to forge.
 */
#ifndef GR_MODEL_IDENTITY_H
#define GR_MODEL_IDENTITY_H
#include "base/pool.h"
#include "model/model.h"

/* Fills model->digest and its parts by reading every weight once, on all threads: about the time of one token
 * of generation. Nothing happens to a model without files, or a second time. The result is the same at any
 * number of threads. */
graft_status gr_model_identify(gr_model *model, gr_pool *pool, graft_error *err) GR_MUST_CHECK;

/* .. of the numbers alone: what changes the arithmetic and no tensor tells. */
uint32_t gr_identity_config(const gr_model_config *config);

/* The digests as an object of strings: eight digits a tensor, those of a block's role one after another over
 * the layers. New reference; NULL: none are known, or no memory. */
json_t *gr_identity_json(const gr_model *model);

/* How a model differs from a recorded base. */
typedef struct gr_base_difference {
    int64_t count, all; /* tensors that differ, or that one of the two lacks; tensors of the model */
    bool config;        /* numbers of config.json that change the arithmetic do, too */
    bool linears_only;  /* what differs are linears of the blocks, all of them: another quantization? */
    char text[160];     /* the first of them: "model.norm, lm_head and 3 more"; "" without a record */
} gr_base_difference;
/* recorded: what gr_identity_json made of the base; anything else, as from a file, differs. */
void gr_identity_compare(gr_base_difference *difference, const gr_model *model, const json_t *recorded);
/* "; 14 of 272 tensors differ: .. and 9 more", and what config.json has to do with it; "" if nothing is
 * known. */
void gr_identity_text(char *text, size_t size, const gr_base_difference *difference);

#endif
