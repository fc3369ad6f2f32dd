/* convert/job_values.h - a job's rows as f32, and values as what is written (inside this room). */
#ifndef GR_CONVERT_JOB_VALUES_H
#define GR_CONVERT_JOB_VALUES_H
#include "convert/convert_job.h"

typedef enum gr_outcome { GR_FITS, GR_TOO_LARGE, GR_NOT_FINITE } gr_outcome;

/* The source's row that is row `r` of the output. llama.cpp stores row (head, half j, i) at (head, i, j). */
int64_t gr_job_source_row(const gr_source *from, int64_t r);
/* Row r of the output as f32. */
void gr_job_read_row(const gr_job *job, int64_t r, float *out);
void gr_values_widen(float *out, const uint8_t *in, int64_t n, gr_dtype dtype);
/* Tells the job's edit if the row is written as other bytes after it than before. */
void gr_job_compare(const gr_job *job, const float *before, const float *after);
/* f32 values to elements of dtype; false when a finite value has become infinite. */
bool gr_values_narrow(void *out, const float *in, int64_t n, gr_dtype dtype);

/* Codes, scales and biases of that row of a REPACK from COLUMNS. room: for the row. */
gr_outcome gr_job_awq_gptq_row(const gr_job *job, uint8_t *codes, uint8_t *scales, uint8_t *biases,
                               float *room, int64_t row);
/* Codes, scales and biases of that row of a MERGE as they are in the source, and then as its edit wants them.
 * values, before: room for the row. */
gr_outcome gr_job_merge_row(const gr_job *job, uint8_t *codes, uint8_t *scales, uint8_t *biases,
                            float *values, float *before, int64_t row);

#endif
