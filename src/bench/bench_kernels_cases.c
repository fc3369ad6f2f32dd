/* The lines of `bench kernels` about products: with stored weights, their parts, one row, and attention. */
#include "bench/bench_kernels.h"
#include "layers/attention.h"
#include <stdio.h>

/* ---------------------------------------------------------------------------------------- stored weights */

typedef struct format {
    gr_layout layout;
    gr_dtype dtype;
    int bits, group;
    const char *name;
} format;

static const format formats[] = {{GR_AFFINE, GR_F16, 4, 32, "4-bit g32"},
                                 {GR_AFFINE, GR_F16, 4, 64, "4-bit g64"},
                                 {GR_AFFINE, GR_F16, 4, 128, "4-bit g128"},
                                 {GR_AFFINE, GR_BF16, 2, 64, "2-bit g64"},
                                 {GR_AFFINE, GR_BF16, 3, 64, "3-bit g64"},
                                 {GR_AFFINE, GR_BF16, 5, 64, "5-bit g64"},
                                 {GR_AFFINE, GR_BF16, 6, 64, "6-bit g64"},
                                 {GR_AFFINE, GR_F16, 8, 32, "8-bit g32"},
                                 {GR_AFFINE, GR_F16, 8, 64, "8-bit g64"},
                                 {GR_MX, GR_U8, 4, 32, "mxfp4"},
                                 {GR_MX, GR_U8, 8, 32, "mxfp8"},
                                 {GR_MX, GR_U8, 4, 16, "nvfp4"},
                                 {GR_DENSE, GR_BF16, 16, 0, "bf16"},
                                 {GR_DENSE, GR_F16, 16, 0, "f16"},
                                 {GR_DENSE, GR_F32, 32, 0, "f32"}};
enum { FORMATS = sizeof formats / sizeof *formats };

typedef struct weights {
    const format *f;
    int64_t out, in;
    size_t codes, scales, bytes; /* of one matrix: its data, one array of scales, all of it with gaps */
    int64_t copies;              /* that fit into memory */
} weights;

static weights weights_of(const format *f, int64_t out, int64_t in) {
    weights w = {.f = f, .out = out, .in = in, .codes = (size_t)(out * in * f->bits / 8)};
    if (f->group) w.scales = (size_t)(out * (in / f->group)) * (f->layout == GR_MX ? 1 : 2);
    w.bytes = gr_round_up(w.codes, 64) + 2 * gr_round_up(w.scales, 64);
    w.copies = (int64_t)(GR_BENCH_MEMORY / w.bytes);
    return w;
}

/* Copy number n. The bytes are random: codes are any, scales and biases any numbers; products with weights
 * take the same instructions whatever they hold. */
static gr_mat weights_at(const gr_bench_kernels_run *b, const weights *w, int64_t n) {
    const char *at = b->memory + (size_t)(n % w->copies) * w->bytes;
    const char *scales = at + gr_round_up(w->codes, 64);
    return (gr_mat){.layout = w->f->layout,
                    .dtype = w->f->dtype,
                    .bits = w->f->bits,
                    .group = w->f->group,
                    .rows = w->out,
                    .cols = w->in,
                    .ld = w->in,
                    .data = at,
                    .scales = scales,
                    .biases = scales + gr_round_up(w->scales, 64),
                    .alpha = 1.0f};
}

/* ----------------------------------------------------------------------------------------------- products */

typedef struct product {
    const gr_bench_kernels_run *b;
    weights w;
    int64_t t;
    bool trans;
} product;

static void run_matmul(const gr_compute *c, void *context, int64_t call) {
    const product *p = context;
    gr_mat w = weights_at(p->b, &p->w, call);
    int64_t k = p->trans ? p->w.in : p->w.out, n = p->trans ? p->w.out : p->w.in;
    gr_product x = {.x = p->b->x, .ldx = k, .w = &w, .trans = p->trans, .k = k};
    gr_epilogue e = {.y = p->b->y, .ldy = n};
    gr_matmul(c, p->t, n, &x, 1, &e);
}

static void run_matvec(const gr_compute *c, void *context, int64_t call) {
    const product *p = context;
    gr_mat w = weights_at(p->b, &p->w, call);
    gr_matvec(c, (float *)(void *)p->b->y, &w, p->b->x);
}

typedef struct panel_job {
    const gr_compute *c;
    const product *p;
    gr_mat w;
} panel_job;

static void panel_task(void *context, int task, int worker) {
    const panel_job *j = context;
    const gr_kernels *k = j->c->k;
    int64_t length = j->p->trans ? j->w.cols : j->w.rows;
    for (int64_t k0 = 0; k0 < length; k0 += k->kc)
        k->panel(j->c->scratch + (size_t)worker * j->c->scratch_bytes, &j->w, j->p->trans, task * GR_NR,
                 GR_NR, k0, (int)gr_min_i64(k->kc, length - k0));
}

static void run_panels(const gr_compute *c, void *context, int64_t call) {
    panel_job j = {c, context, {0}};
    j.w = weights_at(j.p->b, &j.p->w, call);
    gr_pool_run(c->pool, panel_task, &j, (int)((j.p->trans ? j.w.rows : j.w.cols) / GR_NR));
}

static void add_matmul(gr_bench_kernels_run *b, const format *f, int64_t out, int64_t in, int64_t t) {
    for (int back = 0; back < 2; back++) {
        char name[64];
        product p = {b, weights_of(f, out, in), t, !back};
        if (!gr_bench_kernel_wanted(b, name, sizeof name, "matmul %s %s %dx%d T%d",
                                    back ? "backward" : "forward", f->name, (int)out, (int)in, (int)t))
            continue;
        double flops = 2.0 * (double)t * (double)out * (double)in;
        gr_bench_kernel(b, &(gr_bench_kernel_case){name, run_matmul, &p, flops, false});
    }
}

static void add_streaming(gr_bench_kernels_run *b, const format *f, int64_t out, int64_t in, int kind) {
    static const char *const kinds[] = {"panel forward", "panel backward", "matvec"};
    char name[64];
    product p = {b, weights_of(f, out, in), 1, kind == 0};
    if (!gr_bench_kernel_wanted(b, name, sizeof name, "%s %s %dx%d", kinds[kind], f->name, (int)out, (int)in))
        return;
    double bytes = (double)p.w.codes + (double)p.w.scales * (f->layout == GR_AFFINE ? 2 : 1);
    gr_bench_kernel(b, &(gr_bench_kernel_case){name, kind == 2 ? run_matvec : run_panels, &p, bytes, true});
}

/* The tile alone: every strip of 516 rows through one panel that stays where it is. */
static void tile_task(void *context, int task, int worker) {
    const gr_compute *c = ((const panel_job *)context)->c;
    const gr_bench_kernels_run *b = ((const panel_job *)context)->p->b;
    char *panel = c->scratch + (size_t)worker * c->scratch_bytes;
    float out[GR_MR * GR_NR] __attribute__((aligned(64)));
    (void)task;
    for (int64_t m = 0; m < GR_MBLK; m += GR_MR) {
        gr_term term = {b->x + m * c->k->kc * c->k->act_bytes, c->k->kc, panel, c->k->kc};
        c->k->tile(&term, 1, out, GR_NR, GR_MR, false);
    }
}

static void run_tiles(const gr_compute *c, void *context, int64_t call) {
    panel_job j = {.c = c, .p = context};
    (void)call;
    gr_pool_run(c->pool, tile_task, &j, gr_pool_threads(((const product *)context)->b->all.pool));
}

static void add_tile(gr_bench_kernels_run *b) {
    char name[64];
    product p = {.b = b};
    const gr_kernels *k = &b->kernels;
    if (!gr_bench_kernel_wanted(b, name, sizeof name, "tile K%d", k->kc)) return;
    double flops = 2.0 * GR_MBLK * GR_NR * k->kc * b->r->threads;
    memset(b->all.scratch, 0, b->all.scratch_bytes * (size_t)b->r->threads);
    gr_bench_kernel(b, &(gr_bench_kernel_case){name, run_tiles, &p, flops, false});
}

/* ---------------------------------------------------------------------------------------------- attention */

typedef struct heads {
    const gr_bench_kernels_run *b;
    gr_attention a;
    bool backward;
} heads;

enum { MOST_QUERIES = 2048 * 16 * 128 }; /* elements of q of the largest case */

static void run_attention(const gr_compute *c, void *context, int64_t call) {
    const heads *h = context;
    const gr_attention *a = &h->a;
    const size_t n = MOST_QUERIES * 4; /* bytes, wide enough for f32 */
    int64_t start[] = {0, a->longest};
    gr_batch batch = {.start = start, .nrows = 1, .tokens = a->longest};
    char *q = h->b->x, *y = h->b->y, *k = h->b->x + n, *v = h->b->x + n + n / 2;
    (void)call;
    char *out = h->b->x + 2 * n;
    float *lse = (float *)(void *)(h->b->x + 3 * n), *delta = lse + a->longest * a->heads;
    if (h->backward)
        gr_attention_backward(c, a, (float *)(void *)y, (float *)(void *)(y + n),
                              (float *)(void *)(y + n + n / 2), q, k, v, out, y + 2 * n, lse, delta, &batch);
    else
        gr_attention_forward(c, a, out, lse, q, k, v, &batch);
}

static void add_attention(gr_bench_kernels_run *b, int d, int64_t s, bool backward) {
    char name[64];
    heads h = {b, {.heads = 1024 / d, .kv_heads = 512 / d, .d = d, .longest = s}, backward};
    if (!gr_bench_kernel_wanted(b, name, sizeof name, "attention %s d%d S%d",
                                backward ? "backward" : "forward", d, (int)s))
        return;
    /* causal: half of the products 2 S S d, two of them forward and five backward */
    double flops = (backward ? 5 : 2) * (double)s * (double)s * (double)(h.a.heads * d);
    if (!b->counting) run_attention(&b->all, &(heads){b, h.a, false}, 0); /* what backward reads */
    gr_bench_kernel(b, &(gr_bench_kernel_case){name, run_attention, &h, flops, false});
}

size_t gr_bench_kernels_scratch(const gr_kernels *k) {
    size_t most = gr_matmul_scratch(k);
    for (int d = 64; d <= 128; d *= 2)
        for (int backward = 0; backward < 2; backward++) {
            gr_attention a = {.heads = 1024 / d, .kv_heads = 512 / d, .d = d, .longest = 2048};
            size_t bytes = gr_attention_scratch(k, &a, backward);
            if (bytes > most) most = bytes;
        }
    return gr_round_up(most, 64);
}

/* -------------------------------------------------------------------------------------------------- all */

/* Small numbers of either sign: products of random bits would soon be infinite. */
static void fill_activations(gr_bench_kernels_run *b) {
    gr_rng rng;
    float v[64];
    gr_rng_seed(&rng, b->o->seed, 1);
    const size_t each = 64 * (size_t)b->kernels.act_bytes, some = 8192 * each;
    for (size_t at = 0; at < some; at += each) {
        for (int i = 0; i < 64; i++) v[i] = (float)gr_rng_uniform(&rng) - 0.5f;
        b->kernels.to_act(b->x + at, v, 64);
    }
    for (size_t at = some; at < GR_BENCH_ACT; at += some)
        memcpy(b->x + at, b->x, GR_BENCH_ACT - at < some ? GR_BENCH_ACT - at : some);
    memcpy(b->y, b->x, GR_BENCH_ACT);
}

void gr_bench_kernels_products(gr_bench_kernels_run *b) {
    static const int shapes[][2] = {{576, 576},   {1536, 576},  {576, 1536},
                                    {2048, 2048}, {8192, 2048}, {2048, 8192}};
    char wanted[32];
    snprintf(wanted, sizeof wanted, "%d-bit g%d", (int)b->o->bits, (int)b->o->q_group_size);
    format chosen = {GR_AFFINE, GR_F16, (int)b->o->bits, (int)b->o->q_group_size, wanted};
    if (!b->counting && b->status == GRAFT_OK) fill_activations(b);
    for (int t = 512; t <= 2048; t *= 4)
        for (int i = 0; i < 6; i++) add_matmul(b, &chosen, shapes[i][0], shapes[i][1], t);
    for (int i = 0; i < FORMATS; i++) /* the others at one shape */
        if (formats[i].bits != chosen.bits || formats[i].group != chosen.group)
            add_matmul(b, &formats[i], 2048, 2048, 512);
    add_tile(b);
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < FORMATS; i++) add_streaming(b, &formats[i], 2048, 2048, kind);
    add_streaming(b, &chosen, 576, 576, 2);
    add_streaming(b, &chosen, 1536, 576, 2);
    add_streaming(b, &chosen, 576, 1536, 2);
    add_streaming(b, &formats[7], 49152, 576, 2);
    add_streaming(b, &formats[12], 49152, 576, 2);
    for (int d = 64; d <= 128; d *= 2)
        for (int s = 512; s <= 2048; s *= 4)
            for (int backward = 0; backward < 2; backward++) add_attention(b, d, s, backward);
}
