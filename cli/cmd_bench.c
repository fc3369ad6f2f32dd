/* cmd_bench.c - how fast this machine trains. A new benchmark is a row here. */
#include "json_out.h"
#include <string.h>

static void print_train(const graft_bench_result *r) {
    out_buf peak, forecast;
    printf("speed    %.4g tokens per second, %.4g s per step\n", r->tokens_per_second, r->step_seconds);
    printf("compute  %.4g GFLOP/s, %.1f %% of the measured peak of %.4g (%.1f %% without recompute)\n",
           r->gflops, r->percent_of_peak, r->peak_gflops, r->percent_of_peak_without_recompute);
    printf("memory   peak %s, forecast %s\n", out_size(&peak, r->peak_rss_bytes),
           out_size(&forecast, r->forecast_bytes));
    if (r->nlosses)
        printf("loss     %.4f -> %.4f in %zu steps\n", r->losses[0], r->losses[r->nlosses - 1], r->nlosses);
}

static graft_status bench_train(cli *c) {
    graft_bench_result result = {0};
    graft_status status = graft_bench_train(&c->options, &c->hooks, &result, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->json)
        status = doc_print(c, doc_bench(&result), false);
    else if (status == GRAFT_OK)
        print_train(&result);
    graft_bench_result_free(&result);
    return status;
}

static const struct benchmark {
    const char *name;
    graft_status (*run)(cli *c);
} benchmarks[] = {{"train", bench_train}};

int cmd_bench(cli *c) {
    const char *name = c->words_count ? c->words[0] : NULL;
    char known[128] = "";
    size_t at = 0;
    for (size_t i = 0; i < sizeof benchmarks / sizeof *benchmarks; i++) {
        if (name && strcmp(benchmarks[i].name, name) == 0) return cli_report(c, benchmarks[i].run(c));
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", benchmarks[i].name);
    }
    cli_fail(c, GRAFT_USAGE, "no such benchmark in this version");
    cli_expected(c, known);
    cli_found(c, name ? name : "none");
    cli_hint(c, "graft bench %s", benchmarks[0].name);
    return cli_report(c, GRAFT_USAGE);
}
