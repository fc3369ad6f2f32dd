/* bench/bench_kernels.h - the inside of `bench kernels`: how a line is measured (bench_kernels.c) and which
 * lines there are (bench_kernels_cases.c, bench_kernels_rows.c). May include: what fit may.
 */
#ifndef GR_BENCH_BENCH_KERNELS_H
#define GR_BENCH_BENCH_KERNELS_H
#include "base/rng.h"
#include "bench/bench.h"
#include "kernels/peak.h"

/* Read for the limit, and where weights lie: far beyond caches. */
#define GR_BENCH_MEMORY GR_READ_BYTES

typedef struct gr_bench_kernels_run {
    const graft_options *o;
    const graft_hooks *hooks;
    graft_bench_kernels_result *r;
    graft_error *err;
    graft_status status; /* the first failure: every later line is skipped */
    bool counting;       /* only adds to total */
    int64_t total;
    gr_kernels kernels;
    gr_compute all, one; /* of the whole pool, and of a pool of one thread */
    double best_peak[2], best_read[2];
    gr_arena arena;
    char *memory; /* random, GR_BENCH_MEMORY bytes */
    char *x, *y;  /* two arrays of activations, GR_BENCH_ACT bytes each */
} gr_bench_kernels_run;

#define GR_BENCH_ACT ((size_t)64 << 20)

/* One line. */
typedef struct gr_bench_kernel_case {
    const char *name;
    /* one call; `call` counts them, so that weights can move on through memory */
    void (*run)(const gr_compute *c, void *context, int64_t call);
    void *context;
    double work;    /* of one call: operations, or bytes */
    bool bandwidth; /* bytes */
} gr_bench_kernel_case;

/* Is the line wanted? Formats its name. */
bool gr_bench_kernel_wanted(const gr_bench_kernels_run *b, char *name, size_t size, const char *format, ...)
    GR_PRINTF(4, 5);
/* Measures a wanted line and appends it to the result. */
void gr_bench_kernel(gr_bench_kernels_run *b, const gr_bench_kernel_case *x);

/* Every line of the table in b->kernels. */
void gr_bench_kernels_products(gr_bench_kernels_run *b);
void gr_bench_kernels_rows(gr_bench_kernels_run *b);
/* Bytes of scratch that a worker needs for them. */
size_t gr_bench_kernels_scratch(const gr_kernels *k);

#endif
