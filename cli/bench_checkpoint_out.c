/* bench_checkpoint_out.c - `graft bench checkpoint`: what recompute saves and costs by length. */
#include "bench_out.h"

/* The rung between: gate and up alone are computed again. */
static void print_mlp(const graft_bench_checkpoint_result *r) {
    out_buf x[7];
    printf(
        "\nonly gate and up again (--grad-checkpoint mlp)\n%-8s %10s   %8s %8s   %10s   %8s %8s   %10s %8s\n",
        "tokens", "peak", "saved", "forecast", "step", "slower", "forecast", "buffers", "saved");
    for (size_t i = 0; i < r->nlengths; i++) {
        const graft_bench_length *l = &r->lengths[i];
        printf("%-8lld %10s   %8s %8s   %10s   %8s %8s", (long long)l->seq_length,
               cell_size(&x[0], l->peak_mlp), cell_percent(&x[1], l->mlp_saved_percent),
               cell_percent(&x[2], l->mlp_forecast_saved_percent), cell_time(&x[3], l->step_mlp),
               cell_percent(&x[4], l->mlp_slower_percent),
               cell_percent(&x[5], l->mlp_forecast_slower_percent));
        printf("   %10s %8s\n", cell_size(&x[0], l->activations_mlp),
               cell_percent(&x[6], l->mlp_activations_saved_percent));
    }
}

static void print_checkpoint(const graft_bench_checkpoint_result *r) {
    out_buf x[8];
    bool same = true;
    printf("%-8s %21s   %-26s   %21s   %-26s\n", "", "process peak", "memory saved by recompute",
           "seconds of a step", "slower with recompute");
    printf("%-8s %10s %10s   %8s %8s %8s   %10s %10s   %8s %8s %8s\n", "tokens", "keep all", "recompute",
           "measured", "forecast", "stated", "keep all", "recompute", "measured", "forecast", "stated");
    for (size_t i = 0; i < r->nlengths; i++) {
        const graft_bench_length *l = &r->lengths[i];
        printf("%-8lld %10s %10s   %8s %8s %8s   %10s %10s", (long long)l->seq_length,
               cell_size(&x[0], l->peak_none), cell_size(&x[1], l->peak_layer),
               cell_percent(&x[2], l->saved_percent), cell_percent(&x[3], l->forecast_saved_percent),
               cell_percent(&x[4], l->stated_saved_percent), cell_time(&x[5], l->step_none),
               cell_time(&x[6], l->step_layer));
        printf("   %8s %8s %8s\n", cell_percent(&x[0], l->slower_percent),
               cell_percent(&x[1], l->forecast_slower_percent),
               cell_percent(&x[2], l->stated_slower_percent));
        same &= l->same_losses || l->step_none <= 0 || l->step_layer <= 0;
    }
    printf("\n%-8s %21s   %8s\n%-8s %10s %10s   %8s\n", "", "kept and work buffers", "saved", "tokens",
           "keep all", "recompute", "");
    for (size_t i = 0; i < r->nlengths; i++) {
        const graft_bench_length *l = &r->lengths[i];
        printf("%-8lld %10s %10s   %8s\n", (long long)l->seq_length, cell_size(&x[0], l->activations_none),
               cell_size(&x[1], l->activations_layer), cell_percent(&x[2], l->activations_saved_percent));
    }
    print_mlp(r);
    puts(same ? "\nall ways gave the same losses, bit for bit" : "\nthe losses DIFFER between the ways");
}

graft_status bench_checkpoint(cli *c) {
    graft_bench_checkpoint_result r = {0};
    char name[64];
    graft_status status = graft_bench_checkpoint(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK) {
        const char *path = bench_picture_path(c, name, sizeof name);
        status = path ? graft_bench_checkpoint_svg(&r, path, &c->err) : GRAFT_OK;
        status = bench_picture_written(c, status, &path);
        if (!c->json) print_checkpoint(&r);
        status = bench_finish(c, c->json ? doc_bench_checkpoint(&r) : NULL, path, status);
    }
    graft_bench_checkpoint_result_free(&r);
    return status;
}
