#include "kernels/profile.h"
#include "base/os.h"
#include <string.h>

const char *const gr_part_name[GR_PARTS] = {
#define X(part, name, limit) name,
    GR_PART_MAP(X)
#undef X
};

const gr_part_limit gr_part_limits[GR_PARTS] = {
#define X(part, name, limit) GR_LIMIT_##limit,
    GR_PART_MAP(X)
#undef X
};

/* Ends the part that runs. */
static void settle(gr_profile *p) {
    double now = gr_clock(), busy = gr_pool_busy(p->pool);
    p->part[p->now].seconds += now - p->since;
    p->part[p->now].busy += busy - p->busy;
    p->since = now;
    p->busy = busy;
}

void gr_profile_begin(gr_profile *p, gr_pool *pool) {
    memset(p, 0, sizeof *p);
    p->pool = pool;
    p->now = GR_PART_REST;
    gr_pool_measure(pool, true);
    p->since = gr_clock();
    p->busy = gr_pool_busy(pool);
}

void gr_profile_end(gr_profile *p) {
    settle(p);
    gr_pool_measure(p->pool, false);
}

gr_part gr_profile_enter(gr_profile *p, gr_part part) {
    gr_part before = p->now;
    settle(p);
    p->now = part;
    return before;
}
