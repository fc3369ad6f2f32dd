/* bench_curves_out.c - `graft bench curves`: speed and memory as a setting grows. */
#include "bench_out.h"

static void print_curves(const graft_bench_curves_result *r) {
    out_buf x[4];
    printf("%-12s %-34s   %s\n%-12s", "", "everything kept", "with recompute", r->over);
    for (int i = 0; i < 2; i++) printf(" %10s %9s %12s%s", "tokens/s", "of peak", "process", i ? "\n" : "  ");
    for (size_t i = 0; i < r->npoints; i++) {
        const graft_bench_cost *a = &r->points[i].none, *b = &r->points[i].layer;
        printf("%-12lld %10.1f %9s %12s   %10.1f %9s %12s\n", (long long)r->points[i].value,
               a->tokens_per_second, cell_percent(&x[0], a->percent_of_peak),
               out_size(&x[1], a->peak_rss_bytes), b->tokens_per_second,
               cell_percent(&x[2], b->percent_of_peak), out_size(&x[3], b->peak_rss_bytes));
    }
}

graft_status bench_curves(cli *c) {
    graft_bench_curves_result r = {0};
    char name[64];
    graft_status status = graft_bench_curves(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status != GRAFT_OK) return status;
    const char *path = bench_picture_path(c, name, sizeof name);
    status = path ? graft_bench_curves_svg(&r, path, &c->err) : GRAFT_OK;
    status = bench_picture_written(c, status, &path);
    if (!c->json) print_curves(&r);
    return bench_finish(c, c->json ? doc_bench_curves(&r) : NULL, path, status);
}
