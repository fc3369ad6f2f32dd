#include "base/relay.h"
#include "base/spin.h"
#include <sched.h>
#include <stdatomic.h>

/* Of one share of a leg; a cache line each, so that threads do not meet without need. */
struct gr_leg_state {
    _Alignas(64) atomic_int next; /* from the share's first task */
    atomic_int done;              /* of the whole leg; in the first share's */
};

#define SHARES_MOST 8 /* more threads begin at the same places */

void gr_relay_bind(gr_relay *r, gr_arena *arena, const gr_pool *pool, int64_t most) {
    *r = (gr_relay){.shares = (int)gr_min_i64(gr_pool_threads(pool), SHARES_MOST)};
    r->state = gr_arena_array(arena, most * r->shares, sizeof *r->state);
    r->legs = gr_arena_array(arena, most, sizeof *r->legs);
}

/* First task of a share; of share number `shares`: the end. */
static int share_start(const gr_relay *r, const gr_leg *leg, int share) {
    return (int)((int64_t)leg->count * share / r->shares);
}

static void run_share(const gr_relay *r, const gr_leg *leg, gr_leg_state *s, int share, int worker) {
    int first = share_start(r, leg, share), count = share_start(r, leg, share + 1) - first, ran = 0;
    while (atomic_load_explicit(&s[share].next, memory_order_relaxed) < count) {
        int task = atomic_fetch_add_explicit(&s[share].next, 1, memory_order_relaxed);
        if (task >= count) break;
        leg->task(leg->context, first + task, worker);
        ran++;
    }
    if (ran) atomic_fetch_add_explicit(&s->done, ran, memory_order_release);
}

static void look_ahead(const gr_relay *r, int next, int worker) {
    while (next < r->count && !r->legs[next].count) next++;
    if (next == r->count || !r->legs[next].before) return;
    const gr_leg *leg = &r->legs[next];
    leg->before(leg->context, share_start(r, leg, worker % r->shares), worker);
}

static void run_legs(void *context, int unused, int worker) {
    const gr_relay *r = context;
    (void)unused;
    for (int i = 0; i < r->count; i++) {
        const gr_leg *leg = &r->legs[i];
        gr_leg_state *s = &r->state[(size_t)i * (size_t)r->shares];
        if (!leg->count) continue;
        for (int k = 0; k < r->shares; k++) run_share(r, leg, s, (worker + k) % r->shares, worker);
        if (atomic_load_explicit(&s->done, memory_order_acquire) < leg->count) look_ahead(r, i + 1, worker);
        for (int n = 0; atomic_load_explicit(&s->done, memory_order_acquire) < leg->count; n++) {
            if (n < GR_SPINS)
                gr_cpu_relax();
            else
                sched_yield(); /* a thread with a task of this leg has lost its processor */
        }
    }
}

void gr_relay_run(gr_relay *r, gr_pool *pool) {
    for (int i = 0; i < r->count * r->shares; i++) {
        atomic_store_explicit(&r->state[i].next, 0, memory_order_relaxed);
        atomic_store_explicit(&r->state[i].done, 0, memory_order_relaxed);
    }
    gr_pool_run(pool, run_legs, r, gr_pool_threads(pool));
}
