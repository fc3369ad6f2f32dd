/* base/relay.h - many short jobs, one after another, in one run of the pool.
 *
 * Each leg's tasks run on every thread that is there; the next leg begins when all of them are done. Between
 * legs threads only look at a counter, which costs a tenth of a run of the pool. A thread that comes late
 * joins where the others are, and none is waited for that took no task. Each thread begins with a share of
 * neighbouring tasks and then helps with the others', so that it reads memory in order.
 */
#ifndef GR_BASE_RELAY_H
#define GR_BASE_RELAY_H
#include "base/memory.h"
#include "base/pool.h"

typedef struct gr_leg {
    gr_task *task;
    void *context;
    int count;       /* of tasks; 0: the leg is left out */
    gr_task *before; /* NULL, or asks for memory of the task that this worker will probably take first in the
                        leg: called while others still work on the leg before it */
} gr_leg;

typedef struct gr_leg_state gr_leg_state;

typedef struct gr_relay {
    gr_leg *legs; /* [count], to be filled and changed between runs */
    int count;
    int shares;          /* of a leg's tasks */
    gr_leg_state *state; /* [count, shares] */
} gr_relay;

/* Places legs and state for `most` legs; count is 0. */
void gr_relay_bind(gr_relay *r, gr_arena *arena, const gr_pool *pool, int64_t most);
/* Runs legs[0 .. count). As gr_pool_run: one thread at a time, never from a task. */
void gr_relay_run(gr_relay *r, gr_pool *pool);

#endif
