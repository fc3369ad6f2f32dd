#include "bench/bench_profile.h"
#include "base/memory.h"
#include "kernels/peak.h"
#include <math.h>

void gr_bench_profile_add(gr_profile_part *sum, gr_profile *profile) {
    gr_profile_end(profile);
    for (int i = 0; i < GR_PARTS; i++) {
        sum[i].seconds += profile->part[i].seconds;
        sum[i].busy += profile->part[i].busy;
        sum[i].flops += profile->part[i].flops;
        sum[i].bytes += profile->part[i].bytes;
    }
}

static graft_status probe(double *gbs, gr_pool *pool, graft_error *err) {
    gr_arena arena = {0};
    GR_TRY(gr_arena_reserve(&arena, GR_READ_BYTES, err));
    char *memory = gr_arena_take(&arena, GR_READ_BYTES);
    memset(memory, 1, GR_READ_BYTES); /* pages that were never written are all one page of zeros */
    *gbs = gr_read_gbs(pool, memory);
    gr_arena_free(&arena);
    return GRAFT_OK;
}

static graft_bench_part part_of(const graft_bench_result *r, const gr_profile_part *sum, int i, double total,
                                int64_t steps, int threads) {
    bool bandwidth = gr_part_limits[i] == GR_LIMIT_BANDWIDTH;
    double work = bandwidth ? sum->bytes / r->read_gbs : sum->flops / r->peak_gflops;
    return (graft_bench_part){.name = gr_part_name[i],
                              .seconds = sum->seconds / (double)steps,
                              .percent = 100 * sum->seconds / total,
                              .percent_of_limit = work > 0 ? 100 * work * 1e-9 / sum->seconds : NAN,
                              .bandwidth = bandwidth,
                              .idle_percent = 100 * (1 - sum->busy / (sum->seconds * threads))};
}

graft_status gr_bench_profile_result(graft_bench_result *r, const gr_profile_part *sum, int64_t steps,
                                     gr_pool *pool, graft_error *err) {
    double total = 0;
    for (int i = 0; i < GR_PARTS; i++) total += sum[i].seconds;
    r->parts = gr_calloc(GR_PARTS, sizeof *r->parts);
    if (!r->parts) return gr_no_memory(err, GR_PARTS * sizeof *r->parts);
    GR_TRY(probe(&r->read_gbs, pool, err));
    for (int i = 0; i < GR_PARTS; i++)
        if (sum[i].seconds > 0)
            r->parts[r->nparts++] = part_of(r, &sum[i], i, total, steps, gr_pool_threads(pool));
    return GRAFT_OK;
}
