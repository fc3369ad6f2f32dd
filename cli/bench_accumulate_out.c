/* bench_accumulate_out.c - `graft bench accumulate`: micro-batches against one batch. */
#include "bench_out.h"

static void print_accumulate(const graft_bench_accumulate_result *r) {
    out_buf a, b, d;
    printf(
        "%lld rows of %lld to %lld targets (%s tokens, %s targets); gradient of %s parameters, norm %.4g\n\n",
        (long long)r->rows, (long long)r->shortest, (long long)r->longest, out_count(&a, r->tokens),
        out_count(&b, r->targets), out_count(&d, r->parameters), r->gradient_norm);
    printf("%-13s %5s   %-35s   %-24s\n", "", "", "graft, from one batch's gradient", "the mean of means");
    printf("%-13s %5s   %-9s %12s %12s   %12s %12s\n", "micro-batches", "rows", "bits", "largest", "relative",
           "largest", "relative");
    for (size_t i = 0; i < r->nsplits; i++) {
        const graft_bench_split *x = &r->splits[i];
        printf("%-13lld %5lld   %-9s %12.3g %12.3g   %12.3g %12.3g\n", (long long)x->micro_batches,
               (long long)x->rows, x->identical ? "the same" : "differ", x->largest_difference,
               x->relative_difference, x->means_largest_difference, x->means_relative_difference);
    }
}

graft_status bench_accumulate(cli *c) {
    graft_bench_accumulate_result r = {0};
    char name[64];
    graft_status status = graft_bench_accumulate(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status != GRAFT_OK) return status;
    const char *path = bench_picture_path(c, name, sizeof name);
    status = path ? graft_bench_accumulate_svg(&r, path, &c->err) : GRAFT_OK;
    status = bench_picture_written(c, status, &path);
    if (!c->json) print_accumulate(&r);
    return bench_finish(c, c->json ? doc_bench_accumulate(&r) : NULL, path, status);
}
