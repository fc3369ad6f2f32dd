#include "layers/rowwise.h"

#define PIECE 16 /* tokens per task: short enough to balance, long enough to be worth a task */

typedef struct pieces {
    void (*body)(void *context, int64_t t0, int64_t t1);
    void *context;
    int64_t tokens;
} pieces;

static void run_piece(void *context, int task, int worker) {
    const pieces *p = context;
    (void)worker;
    p->body(p->context, (int64_t)task * PIECE, gr_min_i64(((int64_t)task + 1) * PIECE, p->tokens));
}

void gr_for_tokens(const gr_compute *c, int64_t tokens, void (*body)(void *context, int64_t t0, int64_t t1),
                   void *context) {
    pieces p = {body, context, tokens};
    gr_pool_run(c->pool, run_piece, &p, (int)((tokens + PIECE - 1) / PIECE));
}

void gr_run_part(const gr_compute *c, gr_part part, int64_t bytes, int64_t tokens,
                 void (*body)(void *context, int64_t t0, int64_t t1), void *context) {
    gr_part before = gr_part_enter(c->profile, part);
    gr_for_tokens(c, tokens, body, context);
    gr_part_work(c->profile, 0, (double)(tokens * bytes));
    gr_part_enter(c->profile, before);
}

typedef struct rotary_job {
    const gr_kernels *k;
    const gr_rotary *r;
    const gr_batch *batch;
    void *x;
    float *rstd, *dy;
    const void *raw;
} rotary_job;

/* Calls visit for every token of [t0, t1) with its position within its row. */
static void each_position(const gr_batch *b, int64_t t0, int64_t t1,
                          void (*visit)(const rotary_job *, int64_t t, int64_t pos), const rotary_job *j) {
    int64_t row = 0;
    while (b->start[row + 1] <= t0) row++;
    for (int64_t t = t0; t < t1; t++) {
        while (b->start[row + 1] <= t) row++;
        visit(j, t, t - b->start[row]);
    }
}

/* Elements of a vector that one norm takes, and how many such vectors a token has. */
static int64_t norm_width(const gr_rotary *r) {
    return r->wide ? r->heads * r->d : r->d;
}

static void rotary_token(const rotary_job *j, int64_t t, int64_t pos) {
    const gr_rotary *r = j->r;
    int64_t n = norm_width(r), all = r->heads * r->d, act = j->k->act_bytes, norms = all / n;
    char *x = (char *)j->x + t * r->ld * act;
    for (int64_t h = 0; r->norm && h < norms; h++)
        j->k->rmsnorm(x + h * n * act, &j->rstd[t * norms + h],
                      (const char *)j->raw + (t * all + h * n) * act, r->norm, r->eps, n);
    for (int64_t h = 0; r->cosine && h < r->heads; h++)
        j->k->rope(x + h * r->d * act, r->cosine + pos * r->half, r->sine + pos * r->half, (int)r->half, 1);
}

static void rotary_piece(void *context, int64_t t0, int64_t t1) {
    const rotary_job *j = context;
    each_position(j->batch, t0, t1, rotary_token, j);
}

void gr_rotary_forward(const gr_compute *c, const gr_rotary *r, void *x, float *rstd, const void *raw,
                       const gr_batch *batch) {
    rotary_job j = {.k = c->k, .r = r, .batch = batch, .x = x, .rstd = rstd, .raw = raw};
    gr_run_part(c, GR_PART_ROTARY, 2 * r->heads * r->d * c->k->act_bytes, batch->tokens, rotary_piece, &j);
}

/* One vector of n through its norm, in a buffer of as many floats. */
static void norm_back(const rotary_job *j, char *x, const float *dy, const char *raw, float rstd, int64_t n,
                      float *space) {
    memset(space, 0, (size_t)n * sizeof *space);
    j->k->rmsnorm_back(space, dy, true, raw, rstd, j->r->norm, n);
    j->k->to_act(x, space, n);
}

/* Apart from the others: the stack of a wide norm is not theirs to pay for. */
static __attribute__((noinline)) void wide_norm_back(const rotary_job *j, char *x, const float *dy,
                                                     const char *raw, float rstd, int64_t n) {
    float space[GR_MAX_WIDE];
    norm_back(j, x, dy, raw, rstd, n, space);
}

static void head_norms_back(const rotary_job *j, char *x, const float *dy, const char *raw,
                            const float *rstd) {
    const gr_rotary *r = j->r;
    float space[GR_MAX_HEAD_DIM];
    int64_t step = r->d * j->k->act_bytes;
    for (int64_t h = 0; h < r->heads; h++)
        norm_back(j, x + h * step, dy + h * r->d, raw + h * step, rstd[h], r->d, space);
}

static void rotary_back_token(const rotary_job *j, int64_t t, int64_t pos) {
    const gr_rotary *r = j->r;
    int64_t all = r->heads * r->d, act = j->k->act_bytes;
    char *x = (char *)j->x + t * r->ld * act;
    const char *raw = (const char *)j->raw + t * all * act;
    float *dy = j->dy + t * all;
    for (int64_t h = 0; r->cosine && h < r->heads; h++)
        j->k->rope_f32(dy + h * r->d, r->cosine + pos * r->half, r->sine + pos * r->half, (int)r->half, -1);
    if (!r->norm)
        j->k->to_act(x, dy, all);
    else if (r->wide)
        wide_norm_back(j, x, dy, raw, j->rstd[t], all);
    else
        head_norms_back(j, x, dy, raw, j->rstd + t * r->heads);
}

static void rotary_back_piece(void *context, int64_t t0, int64_t t1) {
    const rotary_job *j = context;
    each_position(j->batch, t0, t1, rotary_back_token, j);
}

void gr_rotary_backward(const gr_compute *c, const gr_rotary *r, void *dx, float *dy, const float *rstd,
                        const void *raw, const gr_batch *batch) {
    rotary_job j = {
        .k = c->k, .r = r, .batch = batch, .x = dx, .dy = dy, .rstd = (float *)(uintptr_t)rstd, .raw = raw};
    gr_run_part(c, GR_PART_ROTARY, r->heads * r->d * (c->k->act_bytes + 4), batch->tokens, rotary_back_piece,
                &j);
}

typedef struct gate_job {
    const gr_kernels *k;
    gr_activation activation;
    char *y, *gate, *up;
    const char *dy;
    int64_t m, ld;
} gate_job;

static void gate_run(const gate_job *j, int64_t y, int64_t x, int64_t n) {
    int64_t act = j->k->act_bytes;
    if (!j->gate)
        j->k->gelu(j->y + y * act, j->up + x * act, n);
    else if (j->activation == GR_GELU_TANH)
        j->k->geglu(j->y + y * act, j->gate + x * act, j->up + x * act, n);
    else
        j->k->swiglu(j->y + y * act, j->gate + x * act, j->up + x * act, n);
}

static void gate_run_back(const gate_job *j, int64_t y, int64_t x, int64_t n) {
    int64_t act = j->k->act_bytes;
    char *gate = j->gate + x * act, *up = j->up + x * act;
    const char *dy = j->dy + y * act;
    if (!j->gate)
        j->k->gelu_back(up, dy, up, n);
    else if (j->activation == GR_GELU_TANH)
        j->k->geglu_back(gate, up, dy, gate, up, n);
    else
        j->k->swiglu_back(gate, up, dy, gate, up, n);
}

/* Tokens [t0, t1), at once where they lie without a gap. */
static void each_run(const gate_job *j, int64_t t0, int64_t t1,
                     void (*run)(const gate_job *, int64_t y, int64_t x, int64_t n)) {
    int64_t step = j->ld == j->m ? t1 - t0 : 1;
    for (int64_t t = t0; t < t1; t += step) run(j, t * j->m, t * j->ld, step * j->m);
}

static void gate_piece(void *context, int64_t t0, int64_t t1) {
    each_run(context, t0, t1, gate_run);
}

void gr_gate_forward(const gr_compute *c, gr_activation activation, void *y, const void *gate, const void *up,
                     int64_t ld, int64_t tokens, int64_t m) {
    gate_job j = {.k = c->k,
                  .activation = activation,
                  .y = y,
                  .gate = (char *)(uintptr_t)gate,
                  .up = (char *)(uintptr_t)up,
                  .m = m,
                  .ld = ld};
    gr_run_part(c, GR_PART_SWIGLU, 3 * m * c->k->act_bytes, tokens, gate_piece, &j);
}

static void gate_back_piece(void *context, int64_t t0, int64_t t1) {
    each_run(context, t0, t1, gate_run_back);
}

void gr_gate_backward(const gr_compute *c, gr_activation activation, void *gate, void *up, const void *dy,
                      int64_t ld, int64_t tokens, int64_t m) {
    gate_job j = {.k = c->k, .activation = activation, .gate = gate, .up = up, .dy = dy, .m = m, .ld = ld};
    gr_run_part(c, GR_PART_SWIGLU, 5 * m * c->k->act_bytes, tokens, gate_back_piece, &j);
}

typedef struct round_job {
    const gr_kernels *k;
    void *y;
    const float *x;
    int64_t n;
} round_job;

#define ROUND_PIECE 8192

static void round_task(void *context, int task, int worker) {
    const round_job *j = context;
    int64_t at = (int64_t)task * ROUND_PIECE;
    (void)worker;
    j->k->to_act((char *)j->y + at * j->k->act_bytes, j->x + at, gr_min_i64(ROUND_PIECE, j->n - at));
}

void gr_round_act(const gr_compute *c, void *y, const float *x, int64_t n) {
    round_job j = {c->k, y, x, n};
    gr_part before = gr_part_enter(c->profile, GR_PART_ROUND);
    gr_pool_run(c->pool, round_task, &j, (int)((n + ROUND_PIECE - 1) / ROUND_PIECE));
    gr_part_work(c->profile, 0, (double)(n * (4 + c->k->act_bytes)));
    gr_part_enter(c->profile, before);
}
