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

/* y[N, out] = sum over the stacks of x_i W_e^T, or of x_i W_e (trans false), each expert over its slots. */
static void products(const steps *s, void *y, const gr_stack *const *w, void *const *x, int count,
                     bool trans) {
    for (int64_t e = 0; e < w[0]->count; e++) {
        int64_t at = s->r->first[e], n = s->r->first[e + 1] - at, out = 0;
        gr_mat mat[2];
        gr_product p[2];
        if (!n) continue;
        for (int i = 0; i < count; i++) {
            mat[i] = gr_stack_mat(w[i], e);
            int64_t in = trans ? mat[i].cols : mat[i].rows;
            out = trans ? mat[i].rows : mat[i].cols;
            p[i] =
                (gr_product){.x = row(s->c, x[i], at, in), .ldx = in, .w = &mat[i], .trans = trans, .k = in};
        }
        gr_matmul(s->c, n, out, p, count, &(gr_epilogue){.y = row(s->c, y, at, out), .ldy = out});
    }
}

/* ------------------------------------------------------------------ forward */

void gr_experts_open(const gr_compute *c, const gr_experts *e, gr_routing *r, void *gate, void *up,
                     const void *x, int64_t tokens, const gr_experts_scratch *scratch) {
    steps s = {.c = c, .e = e, .r = r, .s = scratch, .x = (char *)(uintptr_t)x};
    const gr_stack *gates[] = {&e->gate}, *ups[] = {&e->up};
    void *wide[] = {scratch->wide};
    gr_part before = gr_part_enter(c->profile, GR_PART_LINEAR);
    gr_product p = {.x = x, .ldx = e->hidden, .w = &e->router, .trans = true, .k = e->hidden};
    gr_matmul(c, tokens, e->router.rows, &p, 1,
              &(gr_epilogue){.y = r->p, .ldy = e->router.rows, .y_f32 = true});
    gr_for_tokens(c, tokens, choose_tokens, &s);
    sort_picks(e, r, tokens);
    gr_for_tokens(c, gr_expert_slots(e, tokens), gather, &s);
    products(&s, gate, gates, wide, 1, true);
    products(&s, up, ups, wide, 1, true);
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
    const gr_stack *downs[] = {&e->down};
    void *act[] = {scratch->act};
    gr_run_part(c, GR_PART_SWIGLU, 3 * e->mlp * c->k->act_bytes, gr_expert_slots(e, tokens), activate_slots,
                &s);
    gr_part before = gr_part_enter(c->profile, GR_PART_LINEAR);
    products(&s, scratch->wide, downs, act, 1, true);
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

void gr_experts_backward(const gr_compute *c, const gr_experts *e, const gr_routing *r, void *d, void *gate,
                         void *up, int64_t tokens, const gr_experts_scratch *scratch) {
    int64_t slots = gr_expert_slots(e, tokens), n = e->router.rows;
    steps s = {
        .c = c, .e = e, .r = r, .s = scratch, .x = d, .gate = gate, .up = up, .residual = (const char *)d};
    const gr_stack *downs[] = {&e->down}, *both[] = {&e->gate, &e->up};
    void *wide[] = {scratch->wide}, *dy[] = {gate, up};
    gr_part before = gr_part_enter(c->profile, GR_PART_LINEAR_DX);
    gr_for_tokens(c, slots, gather, &s);
    products(&s, scratch->act, downs, wide, 1, false);
    gr_part_enter(c->profile, GR_PART_SWIGLU);
    gr_pool_run(c->pool, back_slots, &s, (int)((slots + SLOTS - 1) / SLOTS));
    gr_part_enter(c->profile, GR_PART_LINEAR_DX);
    products(&s, scratch->wide, both, dy, 2, false);
    gr_for_tokens(c, tokens, back_tokens, &s);
    gr_product p = {.x = scratch->scores, .ldx = n, .w = &e->router, .k = n};
    gr_matmul(c, tokens, e->hidden, &p, 1, &(gr_epilogue){.y = d, .ldy = e->hidden});
    gr_for_tokens(c, tokens, scatter, &s);
    gr_part_enter(c->profile, before);
}
