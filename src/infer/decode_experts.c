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
    const gr_mat of_gate = gr_stack_mat(&x->e.gate, d->picks[pick]),
                 of_up = gr_stack_mat(&x->e.up, d->picks[pick]);
    const gr_decode_space w = gr_decode_space_of(d, worker);
    k->matvec(gate, &of_gate, in, row0, n);
    k->matvec(up, &of_up, in, row0, n);
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
    (void)worker;
    k->to_f32(sum, to, n);
    for (int64_t j = 0; j < x->e.used; j++) {
        const gr_mat down = gr_stack_mat(&x->e.down, d->picks[j]);
        k->matvec(part - row0, &down, (char *)d->mlp + j * x->e.mlp * k->act_bytes, row0, n);
        k->add_f32(sum, part, n);
    }
    k->to_act(to, sum, n);
}
