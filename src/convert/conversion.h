/* convert/conversion.h - the state of one conversion, shared by the files of this room. */
#ifndef GR_CONVERT_CONVERSION_H
#define GR_CONVERT_CONVERSION_H
#include "convert/convert_job.h"
#include "convert/quant_rules.h"
#include "files/json_read.h"
#include "weights/mx_float.h"
#include <jansson.h>

typedef struct gr_conversion {
    const gr_convert_options *options;
    gr_convert_result *result;
    int q_bits, q_group; /* of new codes, where no rule says otherwise */
    gr_quant_rules *rules;
    gr_pool *pool;
    int dtype;               /* gr_dtype asked for, -1: none */
    bool text_part;          /* of a larger model: text_part.c */
    bool keep_dtypes;        /* of what is not dequantized, whatever `dtype` says */
    gr_safetensors *tensors; /* the source: one of the two */
    gr_gguf *gguf;
    gr_jobs jobs;
    json_t *config;          /* config.json as it will be, without quantization */
    char *out;               /* the directory that is written, until it is published; owned */
    DIR *made;               /* its listing, open all the time: removing it takes no memory or descriptor */
    bool replaces;           /* options->out was there before */
    char marker[80];         /* what the marker of a directory made by this conversion says */
    int lock;                /* held on the directory that is written; -1: none */
    int top_bits, top_group; /* the config's default for quantized modules; 0: to be found */
    const gr_mx_row *top_micro; /* its mode, NULL: affine */
    gr_awq_gptq columns;        /* AWQ or GPTQ: what its config says; bits 0: neither */
    int64_t experts;            /* of a mixture; in a directory each may have tensors of its own; 0: none */
    size_t undivided;           /* jobs whose rows are not whole groups */
} gr_conversion;

/* Fill jobs and config from the opened source. */
graft_status gr_conversion_plan_dir(gr_conversion *c, graft_error *err) GR_MUST_CHECK;
graft_status gr_conversion_plan_gguf(gr_conversion *c, graft_error *err) GR_MUST_CHECK;
/* What policy, rules and recipe say about a job; {false} for tensors that are no matrices of a known role. */
gr_quant_choice gr_conversion_choose(const gr_conversion *c, const gr_job *job);
/* Makes it a job of QUANTIZE, or of FLOAT when the group does not divide its rows. */
void gr_conversion_quantize(gr_conversion *c, gr_job *job, gr_quant_choice choice);
/* Gives the options' edits to their jobs. */
graft_status gr_conversion_edit(gr_conversion *c, graft_error *err) GR_MUST_CHECK;
/* One note that names every matrix that stays a float because its rows are not whole groups. */
graft_status gr_conversion_note_undivided(const gr_conversion *c, graft_error *err) GR_MUST_CHECK;
/* A module of weight (u32) and scales, affine or micro, becomes a job for tensor `name`, which of a text part
 * is not the weight's own. */
graft_status gr_conversion_add_stored_codes(gr_conversion *c, const gr_tensor *weight,
                                            const gr_tensor *scales, const char *name,
                                            graft_error *err) GR_MUST_CHECK;
/* Codes stay as they are: GRAFT_USAGE when quantize asks for others. */
graft_status gr_conversion_check_codes(const gr_conversion *c, const gr_job *job,
                                       graft_error *err) GR_MUST_CHECK;
/* What becomes of a dense job whose place in the source is set: cast, quantized or as it is. */
graft_status gr_conversion_plan_dense(gr_conversion *c, gr_job *job, const gr_tensor *tensor,
                                      graft_error *err) GR_MUST_CHECK;
/* convert_experts.c: a mixture's config as other programs read it; GRAFT_UNSUPPORTED where its experts are
 * AWQ's or GPTQ's. */
graft_status gr_conversion_experts_config(gr_conversion *c, const char *path, graft_error *err) GR_MUST_CHECK;
/* Is it an expert's own tensor, or a stack that is not read? All of a block's become one job, added with the
 * first of them. errors  GRAFT_NOT_FOUND, GRAFT_MISMATCH name what is missing, twice there, or unlike others
 */
bool gr_conversion_expert(const gr_tensor *tensor);
graft_status gr_conversion_add_experts(gr_conversion *c, const gr_tensor *tensor,
                                       graft_error *err) GR_MUST_CHECK;
/* Of an output without codes every expert is to be a tensor of its own. */
void gr_conversion_part_experts(gr_conversion *c);
/* X.qweight with its parts becomes the job X.weight. GRAFT_UNSUPPORTED for act-order. */
graft_status gr_conversion_add_awq_gptq(gr_conversion *c, const gr_tensor *words,
                                        graft_error *err) GR_MUST_CHECK;
/* Is the tensor a part of such a module, or a bias that says nothing? */
bool gr_conversion_awq_gptq_part(const gr_conversion *c, const gr_tensor *t);
/* GRAFT_CORRUPT where the config speaks of such linears and there is none. */
graft_status gr_conversion_check_awq_gptq(const gr_conversion *c, graft_error *err) GR_MUST_CHECK;
/* One note of what of such linears the output's type does not hold. */
graft_status gr_conversion_note_awq_gptq(const gr_conversion *c, graft_error *err) GR_MUST_CHECK;
/* The dtype of the whole, where the options name none: the scales'. */
void gr_conversion_awq_gptq_dtype(gr_conversion *c);
/* config.json from a GGUF's metadata, into c->config. */
graft_status gr_conversion_gguf_config(gr_conversion *c, graft_error *err) GR_MUST_CHECK;
/* Tokenizer, generation defaults, chat template: copied, or made from the metadata. */
graft_status gr_conversion_copy_files(const gr_conversion *c, graft_error *err) GR_MUST_CHECK;
graft_status gr_conversion_gguf_files(const gr_conversion *c, graft_error *err) GR_MUST_CHECK;

/* A digest of the source and of the wishes that change what is written. Errors: those of gr_convert_key. */
graft_status gr_conversion_key(uint64_t *key, const gr_convert_options *options,
                               graft_error *err) GR_MUST_CHECK;
/* Checks the output directory and makes the one to write into, c->out; GRAFT_USAGE when the output holds what
 * we did not write, or a conversion with another key, or is the source. */
graft_status gr_conversion_prepare_out(gr_conversion *c, graft_error *err) GR_MUST_CHECK;
/* c->out becomes options->out, whole; if another process put the same there meanwhile, theirs stays. */
graft_status gr_conversion_publish(gr_conversion *c, graft_error *err) GR_MUST_CHECK;
/* Removes c->out; harmless after publish. */
void gr_conversion_discard(gr_conversion *c);
/* Runs all jobs into shards and writes the index. */
graft_status gr_conversion_write_shards(gr_conversion *c, graft_error *err) GR_MUST_CHECK;
/* Adds the quantization to the config and writes it: the last file. */
graft_status gr_conversion_write_config(gr_conversion *c, graft_error *err) GR_MUST_CHECK;

/* object[key] = value (stolen); false when out of memory, also for a NULL value. */
static inline bool gr_put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

/* text_part.c: makes config the text part's, where the source is a larger model with a part that is known. */
graft_status gr_conversion_take_text(gr_conversion *conversion, graft_error *err) GR_MUST_CHECK;
/* The name that a tensor of the text part has on its own; false: it belongs to another part. */
bool gr_conversion_text_name(char *name, size_t size, const char *source);

#endif
