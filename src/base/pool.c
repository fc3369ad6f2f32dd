#include "base/pool.h"
#include "base/memory.h"
#include "base/os.h"
#include "base/spin.h"
#include <pthread.h>
#include <stdatomic.h>

/* A job is one gr_pool_run. `ticket` packs the job's number and its next task into one word, so that a worker
 * that wakes late can never take a task of a job that it has not seen. */
struct gr_pool {
    int threads;
    pthread_t *ids;
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
    gr_task *task;
    void *context;
    int count;
    _Atomic uint64_t ticket; /* job number << 32 | next task */
    atomic_int unfinished;   /* tasks of this job not done yet */
    atomic_int stop;
    bool measure;
    _Atomic uint64_t busy; /* nanoseconds inside tasks */
};

typedef struct start_arg {
    gr_pool *pool;
    int worker;
} start_arg;

/* Runs one task, timed if somebody wants to know. */
static void run_one(gr_pool *pool, gr_task *task, void *context, int number, int worker) {
    double start = pool->measure ? gr_clock() : 0;
    task(context, number, worker);
    if (pool->measure)
        atomic_fetch_add_explicit(&pool->busy, (uint64_t)((gr_clock() - start) * 1e9), memory_order_relaxed);
}

/* Takes and runs tasks of job number `job` until none is left. */
static void work(gr_pool *pool, uint32_t job, gr_task *task, void *context, int count, int worker) {
    for (;;) {
        uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
        do {
            if ((uint32_t)(ticket >> 32) != job || (int)(uint32_t)ticket >= count) return;
        } while (!atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket + 1,
                                                        memory_order_acq_rel, memory_order_acquire));
        run_one(pool, task, context, (int)(uint32_t)ticket, worker);
        if (atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->idle);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static void *worker_main(void *arg) {
    gr_pool *pool = ((start_arg *)arg)->pool;
    int worker = ((start_arg *)arg)->worker;
    uint32_t seen = 0;
    free(arg);
    for (;;) {
        for (int i = 0; i < GR_SPINS; i++) {
            if ((uint32_t)(atomic_load_explicit(&pool->ticket, memory_order_relaxed) >> 32) != seen) break;
            if (atomic_load_explicit(&pool->stop, memory_order_relaxed)) break;
            gr_cpu_relax();
        }
        pthread_mutex_lock(&pool->lock);
        while ((uint32_t)(atomic_load(&pool->ticket) >> 32) == seen && !atomic_load(&pool->stop))
            pthread_cond_wait(&pool->wake, &pool->lock);
        seen = (uint32_t)(atomic_load(&pool->ticket) >> 32);
        gr_task *task = pool->task; /* read under the lock: they belong to job `seen` */
        void *context = pool->context;
        int count = pool->count;
        bool stop = atomic_load(&pool->stop);
        pthread_mutex_unlock(&pool->lock);
        if (stop) return NULL;
        work(pool, seen, task, context, count, worker);
    }
}

graft_status gr_pool_new(gr_pool **out, int threads, graft_error *err) {
    *out = NULL;
    if (threads < 1 || threads > GR_THREADS_MAX) {
        gr_fail(err, GRAFT_USAGE, "number of threads");
        gr_expected(err, "1 to %d", GR_THREADS_MAX);
        return gr_found(err, "%d", threads);
    }
    gr_pool *pool = gr_calloc(1, sizeof *pool);
    if (!pool || !(pool->ids = gr_calloc((size_t)threads, sizeof *pool->ids))) {
        free(pool);
        return gr_no_memory(err, sizeof *pool);
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->threads = 1;
    for (int i = 1; i < threads; i++) {
        start_arg *arg = malloc(sizeof *arg);
        if (arg) *arg = (start_arg){pool, i};
        if (!arg || pthread_create(&pool->ids[i], NULL, worker_main, arg) != 0) {
            free(arg);
            gr_pool_free(pool);
            return gr_fail(err, GRAFT_IO, "could not start thread %d of %d", i + 1, threads);
        }
        pool->threads++;
    }
    *out = pool;
    return GRAFT_OK;
}

void gr_pool_free(gr_pool *pool) {
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stop, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i < pool->threads; i++) pthread_join(pool->ids[i], NULL);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->ids);
    free(pool);
}

int gr_pool_threads(const gr_pool *pool) {
    return pool->threads;
}

void gr_pool_run(gr_pool *pool, gr_task *task, void *context, int count) {
    if (count <= 0) return;
    if (pool->threads == 1 || count == 1) {
        for (int i = 0; i < count; i++) run_one(pool, task, context, i, 0);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->task = task;
    pool->context = context;
    pool->count = count;
    atomic_store(&pool->unfinished, count);
    uint32_t job = (uint32_t)(atomic_load(&pool->ticket) >> 32) + 1;
    atomic_store_explicit(&pool->ticket, (uint64_t)job << 32, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    work(pool, job, task, context, count, 0);
    for (int i = 0; i < GR_SPINS && atomic_load_explicit(&pool->unfinished, memory_order_acquire); i++)
        gr_cpu_relax();
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->unfinished)) pthread_cond_wait(&pool->idle, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void gr_pool_measure(gr_pool *pool, bool measure) {
    pool->measure = measure;
}

double gr_pool_busy(const gr_pool *pool) {
    return (double)atomic_load_explicit(&pool->busy, memory_order_relaxed) * 1e-9;
}
