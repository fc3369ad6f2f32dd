/* bench_kernels [ISA|best] [fp32|bf16] [threads] [shape] - gr_matmul straight from 4-bit weights, in percent
 * of the peak that the same run measures.
 *
 * On a shared machine a sample counts only when a burst before and one after it reach 92 % of the best burst
 * seen: then nobody else had the cores. The median of the samples is printed, and how many were thrown away.
 */
#include "base/memory.h"
#include "base/os.h"
#include "base/rng.h"
#include "kernels/peak.h"
#include <stdio.h>
#include <time.h>

enum { SAMPLES = 7, PATIENCE = 40 };

typedef struct bench {
    gr_compute c;
    double best_peak; /* GFLOP/s */
    gr_rng rng;
    gr_arena arena; /* as in the library: one block, huge pages asked for */
} bench;

static double burst(bench *b) {
    double peak = gr_peak_gflops(&b->c);
    if (peak > b->best_peak) b->best_peak = peak;
    return peak;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct work {
    int64_t m, n, k;
    gr_product product;
    gr_epilogue to;
} work;

/* Seconds of one call, over at least 15 ms of calls. */
static double timed(const bench *b, const work *w) {
    double start = gr_clock(), now = start;
    int calls = 0;
    while (now - start < 0.015) {
        if (w->m == 1)
            gr_matvec(&b->c, w->to.y, w->product.w, w->product.x);
        else
            gr_matmul(&b->c, w->m, w->n, &w->product, 1, &w->to);
        calls++;
        now = gr_clock();
    }
    return (now - start) / calls;
}

static void measure(bench *b, const char *what, const work *w) {
    double percent[SAMPLES], gflops[SAMPLES];
    int good = 0, refused = 0;
    timed(b, w);
    while (good < SAMPLES && refused < PATIENCE) {
        double before = burst(b), seconds = timed(b, w), after = burst(b);
        if (before < 0.92 * b->best_peak || after < 0.92 * b->best_peak) {
            refused++;
            nanosleep(&(struct timespec){0, 20000000}, NULL);
            continue;
        }
        gflops[good] = 2.0 * (double)w->m * (double)w->n * (double)w->k / seconds * 1e-9;
        percent[good] = 100 * gflops[good] / (before > after ? before : after);
        good++;
    }
    if (!good) {
        printf("%-8s M %4d N %5d K %5d: the machine was never free\n", what, (int)w->m, (int)w->n, (int)w->k);
        return;
    }
    qsort(percent, (size_t)good, sizeof *percent, ascending);
    qsort(gflops, (size_t)good, sizeof *gflops, ascending);
    printf("%-8s M %4d N %5d K %5d  %7.1f GFLOP/s  %5.1f %% of peak  (%d samples, %d refused)\n", what,
           (int)w->m, (int)w->n, (int)w->k, gflops[good / 2], percent[good / 2], good, refused);
    fflush(stdout);
}

static void fill_act(bench *b, void *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float v = (float)gr_rng_uniform(&b->rng) - 0.5f;
        b->c.k->to_act((char *)x + i * b->c.k->act_bytes, &v, 1);
    }
}

static void shape(bench *b, int64_t out, int64_t in) {
    size_t mark = gr_arena_mark(&b->arena);
    int64_t wide = gr_max_i64(out, in), groups = in / 64;
    size_t act = (size_t)b->c.k->act_bytes;
    uint8_t *codes = gr_arena_take(&b->arena, (size_t)(out * in / 2));
    uint16_t *scales = gr_arena_take(&b->arena, (size_t)(out * groups) * 2),
             *biases = gr_arena_take(&b->arena, (size_t)(out * groups) * 2);
    void *x = gr_arena_take(&b->arena, (size_t)(2048 * wide) * act),
         *y = gr_arena_take(&b->arena, (size_t)(2048 * wide) * act);
    for (int64_t i = 0; i < out * in / 2; i++) codes[i] = (uint8_t)gr_rng_next(&b->rng);
    for (int64_t i = 0; i < out * groups; i++)
        scales[i] = gr_f32_to_f16(0.01f), biases[i] = gr_f32_to_f16(-0.08f);
    fill_act(b, x, 2048 * wide);
    gr_mat w = {GR_AFFINE, GR_F16, 4, 64, out, in, 0, codes, scales, biases, 1.0f};
    for (int64_t m = 512; m <= 2048; m *= 4) {
        work forward = {m, out, in, {x, in, &w, NULL, 0, true, in}, {.y = y, .ldy = out}};
        work backward = {m, in, out, {x, out, &w, NULL, 0, false, out}, {.y = y, .ldy = in}};
        measure(b, "forward", &forward);
        measure(b, "backward", &backward);
    }
    work one = {1, out, in, {x, in, &w, NULL, 0, true, in}, {.y = y, .y_f32 = true}};
    double seconds = timed(b, &one);
    printf("matvec   N %5d K %5d  %.1f us, %.1f GB/s of codes\n", (int)out, (int)in, seconds * 1e6,
           (double)(out * in) / 2 / seconds * 1e-9);
    gr_arena_release(&b->arena, mark);
}

int main(int argc, char **argv) {
    const char *isa = argc > 1 && strcmp(argv[1], "best") != 0 ? argv[1] : NULL;
    bool fp32 = argc > 2 && strcmp(argv[2], "fp32") == 0;
    int threads = argc > 3 ? atoi(argv[3]) : gr_processors();
    graft_error err = {0};
    gr_kernels table;
    gr_pool *pool;
    bench b = {0};
    if (gr_kernels_init(&table, isa, fp32, &err) != GRAFT_OK ||
        gr_pool_new(&pool, threads, &err) != GRAFT_OK ||
        gr_arena_reserve(&b.arena, 256 << 20, &err) != GRAFT_OK) {
        fprintf(stderr, "bench_kernels: %s, expected %s, found %s\n", err.what, err.expected, err.found);
        return 2;
    }
    size_t bytes = gr_matmul_scratch(&table);
    b.c = (gr_compute){.k = &table,
                       .pool = pool,
                       .scratch = gr_arena_take(&b.arena, bytes * (size_t)threads),
                       .scratch_bytes = bytes};
    gr_rng_seed(&b.rng, 1, 0);
    for (int i = 0; i < 10; i++) burst(&b);
    printf("%s, %s activations, %d threads, peak %.0f GFLOP/s\n", table.isa, fp32 ? "f32" : "bf16", threads,
           b.best_peak);
    static const int shapes[][2] = {{576, 576},   {1536, 576},  {576, 1536},
                                    {2048, 2048}, {8192, 2048}, {2048, 8192}};
    for (int i = 0; i < 6; i++)
        if (argc < 5 || atoi(argv[4]) == i) shape(&b, shapes[i][0], shapes[i][1]);
    gr_pool_free(pool);
    return 0;
}
