/* base/pool.h - a pool of threads that runs numbered tasks.
 *
 * Who runs a task varies, what a task computes may not: tasks write disjoint memory, so the result is the
 * same at any thread count. Workers spin briefly for the next job and then sleep, so that a busy machine
 * keeps its slices.
 */
#ifndef GR_BASE_POOL_H
#define GR_BASE_POOL_H
#include "base/status.h"
#include <stdbool.h>

typedef struct gr_pool gr_pool;

/* A task. `worker` is in [0, gr_pool_threads): use it to find this worker's scratch. */
typedef void gr_task(void *context, int task, int worker);

/* More than the options allow would be a mistake: each has its own scratch. */
#define GR_THREADS_MAX 1024

/* threads in [1, GR_THREADS_MAX], the calling thread included; threads - 1 are started. Owned by caller until
 * gr_pool_free. */
graft_status gr_pool_new(gr_pool **pool, int threads, graft_error *err) GR_MUST_CHECK;
void gr_pool_free(gr_pool *pool);
int gr_pool_threads(const gr_pool *pool);

/* Runs task(context, 0 .. count-1, worker) and returns when all are done. Only one thread may call it at a
 * time; a task must not call it. */
void gr_pool_run(gr_pool *pool, gr_task *task, void *context, int count);

/* Whether the time inside tasks is counted; two readings of the clock a task. Between runs only. */
void gr_pool_measure(gr_pool *pool, bool measure);
/* Seconds that all threads together spent inside tasks while it was counted. Between runs only. */
double gr_pool_busy(const gr_pool *pool);

#endif
