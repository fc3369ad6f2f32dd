#include "kernels/peak.h"
#include "base/os.h"
#include <math.h>
#include <stdatomic.h>

typedef struct burst_job {
    const gr_kernels *k;
    int64_t loops;
    double *work; /* of the first task; all do the same */
} burst_job;

static void run_burst(void *context, int task, int worker) {
    const burst_job *j = context;
    (void)worker;
    double work = j->k->burst(j->loops);
    if (task == 0) *j->work = work;
}

/* Seconds of one burst on every thread; *work receives the operations of one thread. */
static double timed_burst(const gr_compute *c, int64_t loops, double *work) {
    burst_job j = {c->k, loops, work};
    double start = gr_clock();
    gr_pool_run(c->pool, run_burst, &j, gr_pool_threads(c->pool));
    return gr_clock() - start;
}

double gr_peak_gflops(const gr_compute *c) {
    double work, best = 0;
    int64_t loops = 1000;
    while (timed_burst(c, loops, &work) < 4e-3) loops *= 2; /* 4 to 8 ms a burst */
    for (int i = 0; i < 4; i++) {
        double rate = work / timed_burst(c, loops, &work);
        if (rate > best) best = rate;
    }
    return best * gr_pool_threads(c->pool) * 1e-9;
}

#define READ_PIECE ((size_t)1 << 20) /* of a task */

typedef struct read_job {
    const char *memory;
    _Atomic uint64_t sink; /* what was read is used: nothing of it can be left out */
} read_job;

static void read_piece(void *context, int task, int worker) {
    typedef uint64_t line __attribute__((vector_size(64), aligned(64), may_alias));
    read_job *j = context;
    const line *at = (const line *)(const void *)(j->memory + (size_t)task * READ_PIECE);
    line sum[4] = {{0}};
    (void)worker;
    for (size_t i = 0; i < READ_PIECE / sizeof(line); i += 4)
        for (int k = 0; k < 4; k++) sum[k] ^= at[i + (size_t)k];
    sum[0] ^= sum[1] ^ sum[2] ^ sum[3];
    atomic_fetch_xor_explicit(&j->sink, sum[0][0] ^ sum[0][7], memory_order_relaxed);
}

double gr_read_gbs(gr_pool *pool, const void *memory) {
    read_job j = {.memory = memory};
    double best = 0;
    for (int i = 0; i < 4; i++) {
        double start = gr_clock();
        gr_pool_run(pool, read_piece, &j, (int)(GR_READ_BYTES / READ_PIECE));
        best = fmax(best, (double)GR_READ_BYTES / (gr_clock() - start) * 1e-9);
    }
    return best;
}
