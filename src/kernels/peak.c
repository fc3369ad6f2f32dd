#include "kernels/peak.h"
#include "base/os.h"

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
    double work, best = 0, seconds;
    int64_t loops = 1000;
    while ((seconds = timed_burst(c, loops, &work)) < 4e-3) loops *= 2; /* 4 to 8 ms a burst */
    for (int i = 0; i < 4; i++) {
        double rate = work / timed_burst(c, loops, &work);
        if (rate > best) best = rate;
    }
    return best * gr_pool_threads(c->pool) * 1e-9;
}
