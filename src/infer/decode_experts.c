/* infer/decode_experts.c - the legs of a mixture for one token: scores, picks, gate and up of the picked
 * experts, and their down. */
#include "infer/decode_parts.h"

void gr_decode_router(void *context, int task, int worker) {
    const gr_decode_experts *x = context;
    const gr_decode_part *p = x->before;
    int64_t row0 = task * p->chunk, n = gr_min_i64(p->chunk, x->e.router.rows - row0);
    p->d->rt->kernels.matvec(p->d->scores, &x->e.router, gr_decode_input(p, worker), row0, n);
}

void gr_decode_choose(void *context, int task, int worker) {
    const gr_decode_experts *x = context;
    gr_decode *d = x->before->d;
    (void)task;
    (void)worker;
    gr_experts_choose(&x->e, d->picks, d->weights, d->scores);
}

/* Element k of scale * x A^T of an expert, into the low-rank part's place number `to`. */
static void low_element(gr_decode *d, const gr_expert_linear *l, int64_t expert, int64_t k, const void *x,
                        int64_t in, int64_t to) {
    const gr_kernels *kernels = &d->rt->kernels;
    const gr_mat a = gr_mat_f32(l->a + expert * l->rank * in, l->rank, in, l->scale);
    float sum;
    kernels->matvec(&sum - k, &a, x, k, 1);
    kernels->to_act((char *)d->xa + to * kernels->act_bytes, &sum, 1);
}

/* y[n] += the low-rank part from place `from` on, times B. */
static void add_low(gr_decode *d, const gr_expert_linear *l, int64_t expert, int64_t from, float *y,
                    int64_t row0, int64_t n, const gr_decode_space *w) {
    const int64_t out = l->w.all.rows / l->w.count;
    const gr_mat b = gr_mat_f32(l->b + expert * l->rank * out, l->rank, out, 1);
    const char *low = (const char *)d->xa + from * d->rt->kernels.act_bytes;
    for (int64_t at = 0; l->rank && at < n; at += GR_NR)
        gr_decode_add_low_rank(d, &b, low, y + at, row0 + at, gr_min_i64(GR_NR, n - at), w);
}

void gr_decode_open_low(void *context, int task, int worker) {
    const gr_decode_experts *x = context;
    gr_decode *d = x->before->d;
    int64_t pick = task / x->ranks, k = task % x->ranks, of_gate = x->e.gate.rank;
    low_element(d, k < of_gate ? &x->e.gate : &x->e.up, d->picks[pick], k < of_gate ? k : k - of_gate,
                gr_decode_input(x->before, worker), x->e.hidden, task);
}

void gr_decode_close_low(void *context, int task, int worker) {
    const gr_decode_experts *x = context;
    gr_decode *d = x->before->d;
    int64_t pick = task / x->e.down.rank;
    (void)worker;
    low_element(d, &x->e.down, d->picks[pick], task % x->e.down.rank,
                (const char *)d->mlp + pick * x->e.mlp * d->rt->kernels.act_bytes, x->e.mlp, task);
}

/* y[n] act = weight * act(gate) * up of f32 rows, rounded as in the batch path. */
static void activate(const gr_decode_experts *x, char *y, const float *gate, const float *up, int64_t n,
                     float weight, const gr_decode_space *w) {
    const gr_kernels *k = &x->before->d->rt->kernels;
    char *up_act = (char *)w->act + GR_NR * k->act_bytes;
    bool gelu = x->e.activation == GR_GELU_TANH;
    for (int64_t at = 0; at < n; at += GR_NR) {
        int64_t m = gr_min_i64(GR_NR, n - at);
        char *to = y + at * k->act_bytes;
        k->to_act(w->act, gate + at, m);
        k->to_act(up_act, up + at, m);
        gelu ? k->geglu(to, w->act, up_act, m) : k->swiglu(to, w->act, up_act, m);
        k->to_f32(w->sums, to, m);
        k->scale_f32(w->sums, weight, m);
        k->to_act(to, w->sums, m);
    }
}

void gr_decode_experts_open(void *context, int task, int worker) {
    const gr_decode_experts *x = context;
    gr_decode *d = x->before->d;
    const gr_kernels *k = &d->rt->kernels;
    int64_t pick = task / x->chunks, row0 = task % x->chunks * x->chunk,
            n = gr_min_i64(x->chunk, x->e.mlp - row0);
    const void *in = gr_decode_input(x->before, worker);
    float *gate = d->wide + 2 * pick * x->e.mlp, *up = gate + x->e.mlp;
    const int32_t expert = d->picks[pick];
    const gr_mat of_gate = gr_stack_mat(&x->e.gate.w, expert), of_up = gr_stack_mat(&x->e.up.w, expert);
    const gr_decode_space w = gr_decode_space_of(d, worker);
    k->matvec(gate, &of_gate, in, row0, n);
    k->matvec(up, &of_up, in, row0, n);
    add_low(d, &x->e.gate, expert, pick * x->ranks, gate + row0, row0, n, &w);
    add_low(d, &x->e.up, expert, pick * x->ranks + x->e.gate.rank, up + row0, row0, n, &w);
    activate(x, (char *)d->mlp + (pick * x->e.mlp + row0) * k->act_bytes, gate + row0, up + row0, n,
             d->weights[pick], &w);
}

/* Rows of down, of all picks together, into the residual stream. */
void gr_decode_experts_close(void *context, int task, int worker) {
    const gr_decode_experts *x = context;
    gr_decode *d = x->before->d;
    const gr_kernels *k = &d->rt->kernels;
    int64_t row0 = task * x->behind->chunk, n = gr_min_i64(x->behind->chunk, x->e.hidden - row0);
    char *to = (char *)d->x + row0 * k->act_bytes;
    float *sum = d->wide + row0, *part = d->wide + x->e.hidden + row0;
    const gr_decode_space w = gr_decode_space_of(d, worker);
    k->to_f32(sum, to, n);
    for (int64_t j = 0; j < x->e.used; j++) {
        const gr_mat down = gr_stack_mat(&x->e.down.w, d->picks[j]);
        k->matvec(part - row0, &down, (char *)d->mlp + j * x->e.mlp * k->act_bytes, row0, n);
        add_low(d, &x->e.down, d->picks[j], j * x->e.down.rank, part, row0, n, &w);
        k->add_f32(sum, part, n);
    }
    k->to_act(to, sum, n);
}
