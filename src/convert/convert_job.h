/* convert/convert_job.h - one tensor's way from the source to the output (inside this room). */
#ifndef GR_CONVERT_CONVERT_JOB_H
#define GR_CONVERT_CONVERT_JOB_H
#include "base/pool.h"
#include "convert/convert.h"
#include "convert/edit.h"
#include "files/gguf.h"
#include "files/safetensors.h"
#include "model/roles.h"
#include "weights/awq_gptq.h"

/* Where the numbers come from; pointers into the mapped source. */
typedef enum gr_source_kind {
    GR_FROM_DENSE,
    GR_FROM_BLOCKS,
    GR_FROM_AFFINE,
    GR_FROM_MICRO,
    GR_FROM_AWQ_GPTQ
} gr_source_kind;
typedef struct gr_source {
    gr_source_kind kind;
    gr_dtype dtype;    /* DENSE: of the elements; AFFINE: of scales and biases */
    gr_gguf_type type; /* BLOCKS */
    const uint8_t *data;
    const uint8_t *
        *parts; /* DENSE, instead of data: tensors of part_rows rows each, one after another; owned */
    int64_t part_rows;
    const uint8_t *scales, *biases; /* AFFINE; MICRO has no biases */
    gr_awq_gptq columns;            /* COLUMNS, which uses none of the pointers here */
    int bits, group;                /* AFFINE, MICRO, COLUMNS */
    size_t row_bytes;
    float plus;       /* added to every value of a vector: -1 where a norm is stored as 1 + weight */
    int64_t head_dim; /* > 0: rows are permuted within heads as llama.cpp permutes q and k; undo it */
} gr_source;

/* RAW copies bytes; FLOAT makes elements of `dtype`; QUANTIZE rounds to `dtype` and quantizes; REPACK takes
 * codes as they are and makes scales and biases of `dtype`, except that MICRO scales stay what they are;
 * MERGE does that with AFFINE groups that `edit` leaves, and follows it in the others. */
typedef enum gr_job_op { GR_JOB_RAW, GR_JOB_FLOAT, GR_JOB_QUANTIZE, GR_JOB_REPACK, GR_JOB_MERGE } gr_job_op;
typedef struct gr_job {
    char *path;   /* module, e.g. model.layers.0.mlp.up_proj; the whole name where there is no .weight */
    char *name;   /* tensor, e.g. model.layers.0.mlp.up_proj.weight */
    gr_role role; /* of a matrix; GR_ROLES where it is none that the table knows */
    gr_job_op op;
    gr_source from;
    gr_dtype dtype;  /* of the output's floats (of scales and biases when quantized) */
    int bits, group; /* of the output; 0 when it is not quantized */
    int undivided;   /* the group that should have divided its rows; 0: none */
    bool alone;      /* experts, each of which becomes a tensor of its own */
    int ndim;
    int64_t shape[GR_MAX_DIMS]; /* of the values */
    int64_t rows, cols;
    const gr_edit *edit; /* NULL, or what changes its values: FLOAT, QUANTIZE and MERGE do; borrowed */
} gr_job;

typedef struct gr_jobs {
    gr_job *items;
    size_t count, cap;
} gr_jobs;

/* Appends a job for tensor `name` of that model with role, path and rows x cols filled in; *job is valid
 * until the next one. errors  GRAFT_CORRUPT for a tensor without elements, which no model has */
graft_status gr_jobs_add(gr_job **job, gr_jobs *jobs, const char *name, int ndim, const int64_t *shape,
                         const char *file, graft_error *err) GR_MUST_CHECK;
void gr_jobs_free(gr_jobs *jobs);

/* A row where the source has it; rows from there on that lie one after another, at most n. */
const uint8_t *gr_source_row(const gr_source *from, int64_t row, int64_t *n);
/* Is it quantized under the usual policy (linears), or with `embeddings` (embedding and head)? */
bool gr_job_wants_codes(const gr_job *job, bool embeddings);
static inline bool gr_job_quantized(const gr_job *job) {
    return job->bits != 0;
}
static inline bool gr_job_mx(const gr_job *job) { /* of the output */
    return job->bits != 0 && job->from.kind == GR_FROM_MICRO;
}

/* What stands in the path of stacked experts where an expert alone has "experts.N". */
#define GR_STACKED "switch_mlp"
/* The job's output tensors: 1, or 2 or 3 (weight, scales, biases), or each expert's weight. */
size_t gr_job_output_count(const gr_job *job);
/* Names owned by caller through free(); false when out of memory, and none has a name then. */
bool gr_job_outputs(const gr_job *job, gr_tensor *out);
/* Writes them; GRAFT_RANGE when a value does not fit `dtype`. */
graft_status gr_job_run(const gr_job *job, gr_safetensors_writer *writer, gr_pool *pool,
                        graft_error *err) GR_MUST_CHECK;

/* Are all values of a float or block source numbers of `dtype`? */
bool gr_job_exact_in(const gr_job *job, gr_dtype dtype);

/* Adds a sentence for people; gr_note_text takes it over (malloc'ed; NULL is out of memory). */
graft_status gr_note_text(gr_convert_result *result, char *note, graft_error *err) GR_MUST_CHECK;
graft_status gr_note(gr_convert_result *result, graft_error *err, const char *fmt, ...)
    GR_PRINTF(3, 4) GR_MUST_CHECK;

#endif
