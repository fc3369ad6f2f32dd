#include "layers/experts.h"
#include "layers/rowwise.h"
#include <math.h>

/* What the steps over tokens and slots read. */
typedef struct steps {
    const gr_compute *c;
    const gr_experts *e;
    const gr_routing *r;
    const gr_experts_scratch *s;
    char *x, *gate, *up;
    const char *residual;
} steps;

static char *row(const gr_compute *c, const void *base, int64_t i, int64_t width) {
    return (char *)(uintptr_t)base + i * width * c->k->act_bytes;
}

/* ------------------------------------------------------------------ routing */

void gr_routing_bind(gr_routing *r, gr_arena *arena, int64_t experts, int64_t used, int64_t tokens) {
    r->p = gr_arena_array(arena, tokens * experts, sizeof *r->p);
    r->weight = gr_arena_array(arena, tokens * used, sizeof *r->weight);
    r->expert = gr_arena_array(arena, tokens * used, sizeof *r->expert);
    r->slot = gr_arena_array(arena, tokens * used, sizeof *r->slot);
    r->pick = gr_arena_array(arena, tokens * used, sizeof *r->pick);
    r->first = gr_arena_array(arena, experts + 1, sizeof *r->first);
}

void gr_experts_choose(const gr_experts *x, int32_t *expert, float *weight, float *p) {
    int64_t n = x->router.rows;
    float top = p[0], sum = 0, picked = 0;
    bool taken[GR_MAX_EXPERTS] = {0};
    for (int64_t i = 1; i < n; i++) top = fmaxf(top, p[i]);
    for (int64_t i = 0; i < n; i++) sum += p[i] = expf(p[i] - top);
    for (int64_t i = 0; i < n; i++) p[i] /= sum;
    for (int64_t j = 0; j < x->used; j++) {
        int64_t best = -1;
        for (int64_t i = 0; i < n; i++)
            if (!taken[i] && (best < 0 || p[i] > p[best])) best = i;
        taken[best] = true;
        expert[j] = (int32_t)best;
        weight[j] = p[best];
        picked += p[best];
    }
    for (int64_t j = 0; x->normed && j < x->used; j++) weight[j] /= picked;
}

static void choose_tokens(void *context, int64_t t0, int64_t t1) {
    const steps *s = context;
    int64_t used = s->e->used;
    for (int64_t t = t0; t < t1; t++)
        gr_experts_choose(s->e, s->r->expert + t * used, s->r->weight + t * used,
                          s->r->p + t * s->e->router.rows);
}

/* Gives every pick its slot. */
static void sort_picks(const gr_experts *e, const gr_routing *r, int64_t tokens) {
    int64_t picks = gr_expert_slots(e, tokens), n = e->router.rows;
    memset(r->first, 0, (size_t)(n + 1) * sizeof *r->first);
    for (int64_t i = 0; i < picks; i++) r->first[r->expert[i] + 1]++;
    for (int64_t i = 0; i < n; i++) r->first[i + 1] += r->first[i];
    for (int64_t i = 0; i < picks; i++) {
        int64_t slot = r->first[r->expert[i]]++;
        r->slot[i] = (int32_t)slot;
        r->pick[slot] = (int32_t)i;
    }
    for (int64_t i = n; i > 0; i--) r->first[i] = r->first[i - 1];
    r->first[0] = 0;
}

/* ------------------------------------------------------------------ rows from tokens to slots and back */

static void gather(void *context, int64_t s0, int64_t s1) {
    const steps *s = context;
    size_t bytes = (size_t)(s->e->hidden * s->c->k->act_bytes);
    for (int64_t i = s0; i < s1; i++)
        memcpy(row(s->c, s->s->wide, i, s->e->hidden),
               row(s->c, s->x, s->r->pick[i] / s->e->used, s->e->hidden), bytes);
}

#define COLUMNS 256 /* summed at once, on the stack */

/* x[t] = residual[t] + the rows of its slots, in the order of its picks. */
static void scatter(void *context, int64_t t0, int64_t t1) {
    const steps *s = context;
    const gr_kernels *k = s->c->k;
    int64_t h = s->e->hidden, used = s->e->used;
    float sum[COLUMNS], part[COLUMNS];
    for (int64_t t = t0; t < t1; t++)
        for (int64_t i = 0; i < h; i += COLUMNS) {
            int64_t n = gr_min_i64(COLUMNS, h - i), at = i * k->act_bytes;
            k->to_f32(sum, row(s->c, s->residual, t, h) + at, n);
            for (int64_t j = 0; j < used; j++) {
                k->to_f32(part, row(s->c, s->s->wide, s->r->slot[t * used + j], h) + at, n);
                k->add_f32(sum, part, n);
            }
            k->to_act(row(s->c, s->x, t, h) + at, sum, n);
        }
}

/* One term of a sum: x W_e^T, or x W_e, and low F_e with F [experts][rank, out] where there is an adapter. */
typedef struct term {
    const gr_stack *w;
    const void *x, *low;
    const float *factor;
    int64_t rank;
} term;

/* y[N, out] = the sum of the terms, each expert over its slots. */
static void products(const steps *s, void *y, const term *terms, int count, bool trans) {
    for (int64_t e = 0; e < s->e->router.rows; e++) {
        int64_t at = s->r->first[e], n = s->r->first[e + 1] - at, out = 0;
        gr_mat mat[4];
        gr_product p[4];
        int m = 0;
        if (!n) continue;
        for (int i = 0; i < count; i++) {
            const term *t = &terms[i];
            mat[m] = gr_stack_mat(t->w, e);
            int64_t in = trans ? mat[m].cols : mat[m].rows;
            out = trans ? mat[m].rows : mat[m].cols;
            p[m] =
                (gr_product){.x = row(s->c, t->x, at, in), .ldx = in, .w = &mat[m], .trans = trans, .k = in};
            m++;
            if (!t->rank) continue;
            mat[m] = gr_mat_f32(t->factor + e * t->rank * out, t->rank, out, 1);
            p[m] =
                (gr_product){.x = row(s->c, t->low, at, t->rank), .ldx = t->rank, .w = &mat[m], .k = t->rank};
            m++;
        }
        gr_matmul(s->c, n, out, p, m, &(gr_epilogue){.y = row(s->c, y, at, out), .ldy = out});
    }
}

/* low[N, rank] = scale * x F_e^T with F [experts][rank, width]: of A forward, of B backward. */
static void low_rank(const steps *s, void *low, const gr_expert_linear *l, const float *factor, int64_t width,
                     const void *x) {
    for (int64_t e = 0; l->rank && e < s->e->router.rows; e++) {
        int64_t at = s->r->first[e], n = s->r->first[e + 1] - at;
        gr_mat f = gr_mat_f32(factor + e * l->rank * width, l->rank, width, l->scale);
        gr_product p = {.x = row(s->c, x, at, width), .ldx = width, .w = &f, .trans = true, .k = width};
        gr_matmul(s->c, n, l->rank, &p, 1, &(gr_epilogue){.y = row(s->c, low, at, l->rank), .ldy = l->rank});
    }
}

/* Where up's x A^T lies, behind gate's. */
static void *xa_of_up(const steps *s, int64_t slots) {
    return s->r->xa ? row(s->c, s->r->xa, slots, s->e->gate.rank) : NULL;
}

/* ------------------------------------------------------------------ forward */

void gr_experts_open(const gr_compute *c, const gr_experts *e, gr_routing *r, void *gate, void *up,
                     const void *x, int64_t tokens, const gr_experts_scratch *scratch) {
    steps s = {.c = c, .e = e, .r = r, .s = scratch, .x = (char *)(uintptr_t)x};
    const int64_t slots = gr_expert_slots(e, tokens);
    void *of_up = xa_of_up(&s, slots);
    gr_part before = gr_part_enter(c->profile, GR_PART_LINEAR);
    gr_product p = {.x = x, .ldx = e->hidden, .w = &e->router, .trans = true, .k = e->hidden};
    gr_matmul(c, tokens, e->router.rows, &p, 1,
              &(gr_epilogue){.y = r->p, .ldy = e->router.rows, .y_f32 = true});
    gr_for_tokens(c, tokens, choose_tokens, &s);
    sort_picks(e, r, tokens);
    gr_for_tokens(c, slots, gather, &s);
    low_rank(&s, r->xa, &e->gate, e->gate.a, e->hidden, scratch->wide);
    low_rank(&s, of_up, &e->up, e->up.a, e->hidden, scratch->wide);
    products(&s, gate, &(term){&e->gate.w, scratch->wide, r->xa, e->gate.b, e->gate.rank}, 1, true);
    products(&s, up, &(term){&e->up.w, scratch->wide, of_up, e->up.b, e->up.rank}, 1, true);
    gr_part_enter(c->profile, before);
}

static void activate(const steps *s, void *y, int64_t slot) {
    int64_t m = s->e->mlp;
    const char *gate = row(s->c, s->gate, slot, m), *up = row(s->c, s->up, slot, m);
    (s->e->activation == GR_GELU_TANH ? s->c->k->geglu : s->c->k->swiglu)(y, gate, up, m);
}

/* y[mlp] act *= weight */
static void weigh(const steps *s, char *y, float weight) {
    const gr_kernels *k = s->c->k;
    float part[COLUMNS];
    for (int64_t i = 0; i < s->e->mlp; i += COLUMNS) {
        int64_t n = gr_min_i64(COLUMNS, s->e->mlp - i);
        k->to_f32(part, y + i * k->act_bytes, n);
        k->scale_f32(part, weight, n);
        k->to_act(y + i * k->act_bytes, part, n);
    }
}

/* What down reads: the activation times the slot's weight. */
static void activate_slots(void *context, int64_t s0, int64_t s1) {
    const steps *s = context;
    for (int64_t i = s0; i < s1; i++) {
        char *y = row(s->c, s->s->act, i, s->e->mlp);
        activate(s, y, i);
        weigh(s, y, s->r->weight[s->r->pick[i]]);
    }
}

void gr_experts_close(const gr_compute *c, const gr_experts *e, const gr_routing *r, void *y,
                      const void *residual, const void *gate, const void *up, int64_t tokens,
                      const gr_experts_scratch *scratch) {
    steps s = {.c = c,
               .e = e,
               .r = r,
               .s = scratch,
               .x = y,
               .gate = (char *)(uintptr_t)gate,
               .up = (char *)(uintptr_t)up,
               .residual = residual};
    gr_run_part(c, GR_PART_SWIGLU, 3 * e->mlp * c->k->act_bytes, gr_expert_slots(e, tokens), activate_slots,
                &s);
    gr_part before = gr_part_enter(c->profile, GR_PART_LINEAR);
    low_rank(&s, scratch->xa, &e->down, e->down.a, e->mlp, scratch->act);
    products(&s, scratch->wide, &(term){&e->down.w, scratch->act, scratch->xa, e->down.b, e->down.rank}, 1,
             true);
    gr_for_tokens(c, tokens, scatter, &s);
    gr_part_enter(c->profile, before);
}

/* ------------------------------------------------------------------ backward */

/* From the gradient of what down reads: that of the slot's weight, and of gate and up in their places. */
static void back_slot(const steps *s, int64_t slot, char *act) {
    const gr_kernels *k = s->c->k;
    int64_t m = s->e->mlp, pick = s->r->pick[slot];
    char *d = row(s->c, s->s->act, slot, m), *gate = row(s->c, s->gate, slot, m),
         *up = row(s->c, s->up, slot, m);
    activate(s, act, slot);
    s->s->dw[pick] = k->dot(d, act, m);
    weigh(s, d, s->r->weight[pick]);
    (s->e->activation == GR_GELU_TANH ? k->geglu_back : k->swiglu_back)(gate, up, d, gate, up, m);
}

#define SLOTS 16 /* of a task */

static void back_slots(void *context, int task, int worker) {
    const steps *s = context;
    int64_t all = s->r->first[s->e->router.rows], end = gr_min_i64(((int64_t)task + 1) * SLOTS, all);
    for (int64_t i = (int64_t)task * SLOTS; i < end; i++)
        back_slot(s, i, s->c->scratch + (size_t)worker * s->c->scratch_bytes);
}

/* dp of the picks, then through the softmax: scores' gradient = p * (dp - sum of p dp). */
static void back_token(const steps *s, int64_t t) {
    const gr_kernels *k = s->c->k;
    int64_t used = s->e->used, n = s->e->router.rows;
    const float *p = s->r->p + t * n;
    const float *weight = s->r->weight + t * used, *dw = s->s->dw + t * used;
    const int32_t *expert = s->r->expert + t * used;
    float d[GR_MAX_EXPERTS] = {0}, picked = 0, mean = 0, sum = 0;
    for (int64_t j = 0; j < used; j++) {
        picked += p[expert[j]];
        mean += weight[j] * dw[j];
    }
    for (int64_t j = 0; j < used; j++) {
        d[expert[j]] = s->e->normed ? (dw[j] - mean) / picked : dw[j];
        sum += p[expert[j]] * d[expert[j]];
    }
    for (int64_t i = 0; i < n; i++) d[i] = p[i] * (d[i] - sum);
    k->to_act(row(s->c, s->s->scores, t, n), d, n);
}

static void back_tokens(void *context, int64_t t0, int64_t t1) {
    for (int64_t t = t0; t < t1; t++) back_token(context, t);
}

#define BLOCK 64 /* rows of a transposed block */

typedef struct turn_job {
    const gr_compute *c;
    char *y;
    const void *x;
    int64_t rows, cols;
} turn_job;

static void turn_rows(void *context, int task, int worker) {
    const turn_job *j = context;
    int64_t r0 = (int64_t)task * BLOCK, n = gr_min_i64(BLOCK, j->rows - r0);
    (void)worker;
    j->c->k->transpose(j->y + r0 * j->c->k->act_bytes, j->rows, row(j->c, j->x, r0, j->cols), j->cols, n,
                       j->cols);
}

/* y[cols, rows] = x[rows, cols]^T */
static void turn(const gr_compute *c, void *y, const void *x, int64_t rows, int64_t cols) {
    turn_job j = {c, y, x, rows, cols};
    gr_pool_run(c->pool, turn_rows, &j, (int)((rows + BLOCK - 1) / BLOCK));
}

/* dA_e = dxa^T x and dB_e = xa^T dy of every expert and every row of the batch; a row without a token there
 * adds zeros. Slots of an expert are in order of their tokens, so that a row's are neighbours. dxa is in its
 * place. */
static void pair_gradients(const steps *s, const gr_expert_linear *l, const gr_gradients *gradients,
                           const void *x, int64_t in, const void *dy, int64_t out, const void *xa,
                           const gr_batch *batch) {
    const int64_t slots = gr_expert_slots(s->e, batch->tokens), experts = s->e->router.rows, rank = l->rank;
    const gr_linear_scratch *low = s->s->low;
    turn(s->c, low->dxa_t, low->dxa, slots, rank);
    turn(s->c, low->xa_t, xa, slots, rank);
    for (int64_t e = 0; e < experts; e++) {
        int64_t at = s->r->first[e];
        for (int64_t j = 0; j < batch->nrows; j++) {
            int64_t begin = at;
            while (at < s->r->first[e + 1] && s->r->pick[at] / s->e->used < batch->start[j + 1]) at++;
            gr_gradients_add_product(s->c, gradients, l->a_at + e * rank * in, batch->first + (uint64_t)j,
                                     rank, in, row(s->c, low->dxa_t, begin, 1), slots,
                                     row(s->c, x, begin, in), at - begin);
            gr_gradients_add_product(s->c, gradients, l->b_at + e * rank * out, batch->first + (uint64_t)j,
                                     rank, out, row(s->c, low->xa_t, begin, 1), slots,
                                     row(s->c, dy, begin, out), at - begin);
        }
    }
}

bool gr_experts_need_input(const gr_experts *e) {
    return e->gate.rank || e->up.rank;
}

/* down's own; the activation is made again in the place that its gradient takes. */
static void down_gradients(const steps *s, const gr_gradients *gradients, const gr_batch *batch) {
    const gr_expert_linear *l = &s->e->down;
    const int64_t slots = gr_expert_slots(s->e, batch->tokens), h = s->e->hidden, m = s->e->mlp;
    if (!l->rank) return;
    gr_part before = gr_part_enter(s->c->profile, GR_PART_LOW_RANK_GRADIENT);
    gr_for_tokens(s->c, slots, activate_slots, (void *)(uintptr_t)s);
    low_rank(s, s->s->xa, l, l->a, m, s->s->act);
    low_rank(s, s->s->low->dxa, l, l->b, h, s->s->wide);
    pair_gradients(s, l, gradients, s->s->act, m, s->s->wide, h, s->s->xa, batch);
    gr_part_enter(s->c->profile, before);
}

void gr_experts_back_down(const gr_compute *c, const gr_experts *e, const gr_routing *r, const void *d,
                          void *gate, void *up, const gr_gradients *gradients, const gr_batch *batch,
                          const gr_experts_scratch *scratch) {
    const int64_t slots = gr_expert_slots(e, batch->tokens);
    steps s = {.c = c, .e = e, .r = r, .s = scratch, .x = (char *)(uintptr_t)d, .gate = gate, .up = up};
    gr_part before = gr_part_enter(c->profile, GR_PART_LINEAR_DX);
    gr_for_tokens(c, slots, gather, &s);
    down_gradients(&s, gradients, batch);
    const term down = {&e->down.w, scratch->wide, scratch->low->dxa, e->down.a, e->down.rank};
    products(&s, scratch->act, &down, 1, false);
    gr_part_enter(c->profile, GR_PART_SWIGLU);
    gr_pool_run(c->pool, back_slots, &s, (int)((slots + SLOTS - 1) / SLOTS));
    gr_part_enter(c->profile, before);
}

/* gate's and up's own, whose input is gathered first. */
static void open_gradients(const steps *s, const void *dxa[2], const gr_gradients *gradients,
                           const gr_batch *batch) {
    const gr_expert_linear *l[] = {&s->e->gate, &s->e->up};
    const int64_t slots = gr_expert_slots(s->e, batch->tokens), h = s->e->hidden, m = s->e->mlp;
    void *xa[] = {s->r->xa, xa_of_up(s, slots)}, *dy[] = {s->gate, s->up};
    for (int i = 0; i < 2; i++) {
        gr_linear_scratch low = *s->s->low;
        gr_experts_scratch scratch = *s->s;
        steps own = *s;
        if (i) low.dxa = row(s->c, low.dxa, slots, l[0]->rank);
        scratch.low = &low;
        own.s = &scratch;
        dxa[i] = low.dxa;
        if (!l[i]->rank) continue;
        low_rank(&own, low.dxa, l[i], l[i]->b, m, dy[i]);
        pair_gradients(&own, l[i], gradients, s->s->wide, h, dy[i], m, xa[i], batch);
    }
}

void gr_experts_back_open(const gr_compute *c, const gr_experts *e, const gr_routing *r, void *d, void *gate,
                          void *up, const void *x, const gr_gradients *gradients, const gr_batch *batch,
                          const gr_experts_scratch *scratch) {
    const int64_t tokens = batch->tokens, n = e->router.rows;
    steps s = {.c = c, .e = e, .r = r, .s = scratch, .x = (char *)(uintptr_t)x, .gate = gate, .up = up};
    const void *dxa[2] = {NULL, NULL};
    gr_part before = gr_part_enter(c->profile, GR_PART_LOW_RANK_GRADIENT);
    if (x) {
        gr_for_tokens(c, gr_expert_slots(e, tokens), gather, &s);
        open_gradients(&s, dxa, gradients, batch);
    }
    gr_part_enter(c->profile, GR_PART_LINEAR_DX);
    const term terms[] = {{&e->gate.w, gate, dxa[0], e->gate.a, e->gate.rank},
                          {&e->up.w, up, dxa[1], e->up.a, e->up.rank}};
    products(&s, scratch->wide, terms, 2, false);
    gr_for_tokens(c, tokens, back_tokens, &s);
    gr_product p = {.x = scratch->scores, .ldx = n, .w = &e->router, .k = n};
    gr_matmul(c, tokens, e->hidden, &p, 1, &(gr_epilogue){.y = d, .ldy = e->hidden});
    s.x = d;
    s.residual = d;
    gr_for_tokens(c, tokens, scatter, &s);
    gr_part_enter(c->profile, before);
}
