/* The lines of `bench kernels` about rows: norms, rotation, activation, softmax, loss, conversions. Each
 * walks over arrays beyond the caches, so that the limit is memory; written bytes count like read ones. */
#include "bench/bench_kernels.h"

enum { WIDTH = 2048, ROWS_OF_TASK = 16 };

typedef struct row_work {
    const gr_kernels *k;
    char *x, *y; /* one row each of x and y, as far apart as the line asks for */
    float *f;    /* f32 [WIDTH], small */
} row_work;

static void rmsnorm(const row_work *w) {
    float rstd;
    w->k->rmsnorm(w->y, &rstd, w->x, w->f, 1e-5f, WIDTH);
}
static void rmsnorm_back(const row_work *w) {
    w->k->rmsnorm_back((float *)(void *)w->y, w->x, false, w->x, 1.0f, w->f, WIDTH);
}
static void rope(const row_work *w) {
    for (int head = 0; head < WIDTH; head += 64)
        w->k->rope(w->y + head * w->k->act_bytes, w->f, w->f + 32, 32, 1);
}
static void swiglu(const row_work *w) {
    w->k->swiglu(w->y, w->x, w->y, WIDTH);
}
static void swiglu_back(const row_work *w) {
    w->k->swiglu_back(w->x, w->y, w->f, w->x, w->y, WIDTH);
}
static void softmax_block(const row_work *w) {
    float *s = (float *)(void *)w->y; /* keys by 64 queries; an f32 panel takes their place */
    for (int i = 0; i < 2 * GR_NR; i++) w->f[i] = 0;
    w->k->softmax_block(w->k->pair ? (void *)w->x : s, s, WIDTH / GR_NR, WIDTH, 0, 1e-3f, w->f, w->f + GR_NR,
                        w->f + 2 * GR_NR);
}
static void softmax_scale(const row_work *w) {
    w->k->softmax_scale(w->x, WIDTH, w->f);
}
static void to_act(const row_work *w) {
    w->k->to_act(w->x, (float *)(void *)w->y, WIDTH);
}
static void to_f32(const row_work *w) {
    w->k->to_f32((float *)(void *)w->y, w->x, WIDTH);
}
static void add_f32(const row_work *w) {
    w->k->add_f32((float *)(void *)w->y, w->f, WIDTH);
}
static void drop(const row_work *w) {
    w->k->drop(w->y, w->x, WIDTH, 7, 0x20000000u);
}

/* Bytes of a row: act and f32 elements read or written. */
static const struct line {
    const char *name;
    void (*row)(const row_work *w);
    int act, f32;
    bool wide; /* y holds f32 */
} lines[] = {{"rmsnorm", rmsnorm, 2, 0, false},
             {"rmsnorm_back", rmsnorm_back, 1, 2, true},
             {"rope", rope, 2, 0, false},
             {"swiglu", swiglu, 3, 0, false},
             {"swiglu_back", swiglu_back, 4, 0, false},
             {"softmax_block", softmax_block, 1, 1, true},
             {"softmax_scale", softmax_scale, 2, 0, false},
             {"to_act", to_act, 1, 1, true},
             {"to_f32", to_f32, 1, 1, true},
             {"add_f32", add_f32, 0, 2, true},
             {"drop", drop, 2, 0, false}};

typedef struct rows_job {
    const gr_bench_kernels_run *b;
    const struct line *line;
    int rows;
} rows_job;

static void rows_task(void *context, int task, int worker) {
    const rows_job *j = context;
    const gr_kernels *k = &j->b->kernels;
    const size_t act = (size_t)WIDTH * (size_t)k->act_bytes, out = j->line->wide ? WIDTH * 4 : act;
    float *f = (float *)(void *)(j->b->all.scratch + (size_t)worker * j->b->all.scratch_bytes);
    for (size_t i = (size_t)task * ROWS_OF_TASK; i < (size_t)(task + 1) * ROWS_OF_TASK; i++)
        j->line->row(&(row_work){k, j->b->x + i * act, j->b->y + i * out, f});
}

static void run_rows(const gr_compute *c, void *context, int64_t call) {
    (void)call;
    gr_pool_run(c->pool, rows_task, context, ((const rows_job *)context)->rows / ROWS_OF_TASK);
}

void gr_bench_kernels_rows(gr_bench_kernels_run *b) {
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char name[64];
        rows_job j = {b, &lines[i], (int)(GR_BENCH_ACT / (WIDTH * 4))};
        if (!gr_bench_kernel_wanted(b, name, sizeof name, "rows %s", lines[i].name)) continue;
        double bytes = (double)j.rows * WIDTH * (lines[i].act * b->kernels.act_bytes + lines[i].f32 * 4);
        if (!b->counting) { /* numbers of size 1, whatever ran before */
            memset(b->all.scratch, 0, b->all.scratch_bytes * (size_t)b->r->threads);
            for (size_t at = 0; at < GR_BENCH_ACT; at += 4)
                memcpy(b->y + at, &(float){1.5f}, 4), memcpy(b->x + at, &(float){1.5f}, 4);
        }
        gr_bench_kernel(b, &(gr_bench_kernel_case){name, run_rows, &j, bytes, true});
    }
}
