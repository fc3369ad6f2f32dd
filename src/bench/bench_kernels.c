/* How a line of `bench kernels` is measured.
 *
 * Other programs take cores for a while: a sample counts only when the limit measured right before and right
 * after it is near the best one seen; then nobody else had them. The median of the samples is the line.
 */
#include "bench/bench_kernels.h"
#include "base/hooks.h"
#include "base/number.h"
#include "bench/bench_run.h"
#include "kernels/isa.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum { SAMPLES = 5, PATIENCE = 12 };
#define SAMPLE_SECONDS 0.012
#define NEAR_PEAK      0.92
#define NEAR_READ      0.85 /* memory is shared with machines that we do not see */

bool gr_bench_kernel_wanted(const gr_bench_kernels_run *b, char *name, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    gr_vformat(name, size, format, args);
    va_end(args);
    for (const char *at = b->o->only; at && *at;) {
        char word[64];
        size_t n = strcspn(at, ",");
        if (n >= sizeof word) return false;
        memcpy(word, at, n);
        word[n] = '\0';
        if (!strstr(name, word)) return false;
        at += n + (at[n] == ',');
    }
    return b->status == GRAFT_OK;
}

/* The limit now; *best keeps the best one seen. */
static double limit_now(gr_bench_kernels_run *b, const gr_compute *c, bool bandwidth) {
    bool one = c == &b->one;
    double *best = bandwidth ? &b->best_read[one] : &b->best_peak[one];
    double now = bandwidth ? gr_read_gbs(c->pool, b->memory) : gr_peak_gflops(c);
    if (now > *best) *best = now;
    return now;
}

/* Seconds of one call. */
static double timed(const gr_compute *c, const gr_bench_kernel_case *x, int64_t *calls) {
    double start = gr_clock(), now = start;
    int64_t before = *calls;
    while (now - start < SAMPLE_SECONDS) {
        x->run(c, x->context, (*calls)++);
        now = gr_clock();
    }
    return (now - start) / (double)(*calls - before);
}

/* The medians of the samples: seconds of a call and the limit beside it. False: the machine was never free.
 */
static bool sample(gr_bench_kernels_run *b, const gr_compute *c, const gr_bench_kernel_case *x,
                   double *seconds, double *limit) {
    double took[SAMPLES], limits[SAMPLES];
    int good = 0;
    int64_t calls = 0;
    timed(c, x, &calls);
    double *best = x->bandwidth ? &b->best_read[c == &b->one] : &b->best_peak[c == &b->one];
    double before = limit_now(b, c, x->bandwidth);
    for (int tries = 0; good < SAMPLES && tries < SAMPLES + PATIENCE; tries++) {
        double once = timed(c, x, &calls), after = limit_now(b, c, x->bandwidth);
        if (fmin(before, after) < (x->bandwidth ? NEAR_READ : NEAR_PEAK) * *best) {
            nanosleep(&(struct timespec){0, 20000000}, NULL);
            after = limit_now(b, c, x->bandwidth);
        } else {
            took[good] = once;
            limits[good++] = fmax(before, after);
        }
        before = after;
    }
    if (!good) return false;
    gr_bench_sort(took, good);
    gr_bench_sort(limits, good);
    *seconds = took[good / 2];
    *limit = limits[good / 2];
    return true;
}

static bool stopped(gr_bench_kernels_run *b) {
    const volatile int *stop = gr_stop_of(b->hooks);
    if (gr_raised(stop) && b->status == GRAFT_OK)
        b->status = gr_fail(b->err, GRAFT_INTERRUPTED, "benchmark stopped");
    return b->status != GRAFT_OK;
}

void gr_bench_kernel(gr_bench_kernels_run *b, const gr_bench_kernel_case *x) {
    b->total += b->counting;
    if (b->counting || stopped(b)) return;
    graft_bench_kernels_result *r = b->r;
    graft_bench_kernel *k = gr_realloc_array(r->kernels, r->nkernels + 1, sizeof *k);
    if (!k) {
        b->status = gr_no_memory(b->err, (r->nkernels + 1) * sizeof *k);
        return;
    }
    r->kernels = k;
    k += r->nkernels++;
    *k = (graft_bench_kernel){.isa = b->kernels.isa,
                              .bandwidth = x->bandwidth,
                              .seconds = NAN,
                              .rate = NAN,
                              .limit = NAN,
                              .percent = NAN,
                              .scaling = NAN};
    snprintf(k->name, sizeof k->name, "%s", x->name);
    if (sample(b, &b->all, x, &k->seconds, &k->limit)) {
        double alone, unused;
        k->rate = x->work / k->seconds * 1e-9;
        k->percent = 100 * k->rate / k->limit;
        if (r->threads > 1 && sample(b, &b->one, x, &alone, &unused)) k->scaling = alone / k->seconds;
    }
    gr_progress(b->hooks, "measure", (int64_t)r->nkernels, b->total);
}

static void every_line(gr_bench_kernels_run *b, bool fp32, bool counting) {
    b->counting = counting;
    for (const gr_isa *i = gr_isa_table; i->name; i++) {
        if (b->o->isa ? strcmp(i->name, b->o->isa) != 0 : !i->available()) continue;
        if (b->status == GRAFT_OK) b->status = gr_kernels_init(&b->kernels, i->name, fp32, b->err);
        memset(b->best_peak, 0, sizeof b->best_peak);
        gr_bench_kernels_products(b);
        gr_bench_kernels_rows(b);
    }
}

/* Pools, scratch that is enough for every table, and memory full of random bytes. */
static graft_status prepare(gr_bench_kernels_run *b, bool fp32, graft_error *err) {
    gr_kernels *k = &b->kernels;
    size_t scratch = 0;
    GR_TRY(gr_kernels_init(k, b->o->isa, fp32, err)); /* says what there is */
    for (const gr_isa *i = gr_isa_table; i->name; i++)
        if (i->available() && gr_kernels_init(k, i->name, fp32, err) == GRAFT_OK &&
            gr_bench_kernels_scratch(k) > scratch)
            scratch = gr_bench_kernels_scratch(k);
    int threads = b->o->threads ? b->o->threads : (int)gr_min_i64(gr_processors(), GR_THREADS_MAX);
    b->r->fp32 = fp32;
    b->r->threads = threads;
    b->all = b->one = (gr_compute){.k = k, .scratch_bytes = scratch};
    GR_TRY(gr_pool_new(&b->all.pool, threads, err));
    GR_TRY(gr_pool_new(&b->one.pool, 1, err));
    GR_TRY(gr_arena_reserve(&b->arena, GR_BENCH_MEMORY + 2 * GR_BENCH_ACT + (size_t)threads * scratch + 4096,
                            err));
    b->all.scratch = b->one.scratch = gr_arena_take(&b->arena, (size_t)threads * scratch);
    b->memory = gr_arena_take(&b->arena, GR_BENCH_MEMORY);
    b->x = gr_arena_take(&b->arena, GR_BENCH_ACT);
    b->y = gr_arena_take(&b->arena, GR_BENCH_ACT);
    gr_rng rng;
    gr_rng_seed(&rng, b->o->seed, 0);
    for (size_t i = 0; i < GR_BENCH_MEMORY; i += 8) {
        uint64_t v = gr_rng_next(&rng);
        memcpy(b->memory + i, &v, 8);
    }
    return GRAFT_OK;
}

graft_status gr_bench_kernels(const graft_options *o, const graft_hooks *hooks, graft_bench_kernels_result *r,
                              graft_error *err) {
    bool fp32 = gr_options_fp32(o);
    gr_bench_kernels_run b = {.o = o, .hooks = hooks, .r = r, .err = err};
    b.status = prepare(&b, fp32, err);
    if (b.status == GRAFT_OK) {
        for (int i = 0; i < 10; i++) limit_now(&b, &b.all, false); /* out of its sleep */
        every_line(&b, fp32, true);
        if (b.status == GRAFT_OK && b.total == 0) {
            gr_fail(err, GRAFT_USAGE, "no line has all of these words");
            gr_found(err, "%s", o->only ? o->only : "");
            b.status = gr_hint(err, "for example --only matmul,2048x2048 or --only matvec");
            b.status = GRAFT_USAGE;
        }
        every_line(&b, fp32, false);
    }
    gr_pool_free(b.all.pool);
    gr_pool_free(b.one.pool);
    gr_arena_free(&b.arena);
    if (b.status != GRAFT_OK) graft_bench_kernels_result_free(r);
    return b.status;
}

void graft_bench_kernels_result_free(graft_bench_kernels_result *result) {
    if (!result) return;
    free(result->kernels);
    memset(result, 0, sizeof *result);
}
