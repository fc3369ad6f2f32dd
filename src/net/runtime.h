/* net/runtime.h - a model ready to compute: weights, kernels, pool, adapter, bound buffers.
 * May include: everything above net. Never: tokens, files other than the model's.
 */
#ifndef GR_NET_RUNTIME_H
#define GR_NET_RUNTIME_H
#include "net/batch.h"
#include "net/net.h"

typedef struct gr_runtime {
    gr_model *model; /* owned */
    gr_kernels kernels;
    gr_pool *pool;     /* owned */
    gr_tuning *tuning; /* owned; NULL: base only */
    float *params;     /* borrowed or owned by `owned_params` */
    float *owned_params;
    gr_net net;
    gr_arena saved, scratch;
} gr_runtime;

/* Takes the model over (also on failure). threads 0: all cores; isa NULL: GRAFT_ISA, else the best. */
graft_status gr_runtime_init(gr_runtime *r, gr_model *model, int threads, bool fp32,
                             graft_error *err) GR_MUST_CHECK;
/* Most tokens of one batch and of one row: below it no product of tokens and a model's sizes overflows. */
#define GR_NET_TOKENS_MAX ((int64_t)1 << 31)
/* GRAFT_UNSUPPORTED for rows longer than the architecture is computed for. */
graft_status gr_runtime_row_fits(const gr_model *model, int64_t tokens, graft_error *err) GR_MUST_CHECK;
/* Measures (base NULL) what a configuration would take, in bytes. Keeps nothing. GRAFT_RANGE when the tokens
 * are above GR_NET_TOKENS_MAX, or their picks of a mixture's experts above INT32_MAX, or the bytes do not fit
 * 64 bits. */
graft_status gr_runtime_measure(const gr_runtime *r, const gr_net_config *config, uint64_t *saved,
                                uint64_t *scratch, graft_error *err) GR_MUST_CHECK;
/* Reserves and binds; a second call replaces the first's buffers. */
graft_status gr_runtime_bind(gr_runtime *r, const gr_net_config *config, graft_error *err) GR_MUST_CHECK;
/* The same for runtimes that answer in turns and share two arenas, which the caller has reserved: r->scratch
 * holds what r keeps to itself, by gr_runtime_measure_kept. A second call cannot fail. */
graft_status gr_runtime_bind_lent(gr_runtime *r, const gr_net_config *config, gr_arena *saved,
                                  gr_arena *scratch, graft_error *err) GR_MUST_CHECK;
graft_status gr_runtime_measure_kept(const gr_runtime *r, const gr_net_config *config, uint64_t *kept,
                                     uint64_t *saved, uint64_t *scratch, graft_error *err) GR_MUST_CHECK;
void gr_runtime_free(gr_runtime *r);

/* Sums over rows, in double and in row order. */
typedef struct gr_score {
    double loss, loss_squared; /* sums over targets */
    int64_t tokens, correct, rows;
} gr_score;

void gr_score_add(gr_score *sum, const gr_score *own);

/* Scores rows [first, first+count) of the data set; batches are filled up to the bound tokens. each (may be
 * NULL) is called per row with its own sums. stop is polled between batches (may be NULL). */
void gr_runtime_score(gr_runtime *r, gr_batch_buffer *buffer, const gr_rows *rows, int64_t first,
                      int64_t count, gr_score *score,
                      void (*each)(void *user, int64_t row, const gr_score *own), void *user,
                      const volatile int *stop);

#endif
