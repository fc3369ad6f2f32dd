/* bench_train_out.c - `graft bench train`: the speed of training steps, beside another program's. */
#include "bench_out.h"
#include "peer.h"
#include <math.h>
#include <string.h>

/* The largest distance of the losses over the steps that both did. */
static double losses_apart(const graft_bench_result *r, const graft_bench_peer *p) {
    double most = 0;
    for (size_t i = 0; i < r->nlosses && i < p->nlosses; i++)
        most = fmax(most, fabs(r->losses[i] - p->losses[i]));
    return most;
}

static void print_train(const graft_bench_result *r) {
    out_buf peak, forecast, least;
    printf("speed    %.4g tokens per second, %.4g s per step\n", r->tokens_per_second, r->step_seconds);
    printf("compute  %.4g GFLOP/s, %.1f %% of the measured peak of %.4g (%.1f %% without recompute)\n",
           r->gflops, r->percent_of_peak, r->peak_gflops, r->percent_of_peak_without_recompute);
    printf(
        "memory   peak %s, forecast %s, floor %s; recompute %s, up to %lld tokens and %lld rows of logits at "
        "once\n",
        out_size(&peak, r->peak_rss_bytes), out_size(&forecast, r->forecast_bytes),
        out_size(&least, r->floor_bytes), r->grad_checkpoint, (long long)r->slice_tokens,
        (long long)r->head_tile);
    if (r->nlosses)
        printf("loss     %.4f -> %.4f in %zu steps\n", r->losses[0], r->losses[r->nlosses - 1], r->nlosses);
}

/* The largest first would hide the order of the step. */
static void print_profile(const graft_bench_result *r) {
    if (!r->nparts) return;
    printf("\n%-34s %10s %8s %8s   %s\n", "part of a step", "seconds", "share", "idle", "of its own limit");
    for (size_t i = 0; i < r->nparts; i++) {
        const graft_bench_part *p = &r->parts[i];
        printf("%-34s %10.4f %6.1f %% %6.1f %%   ", p->name, p->seconds, p->percent, p->idle_percent);
        if (isfinite(p->percent_of_limit))
            printf("%5.1f %% of %s\n", p->percent_of_limit, p->bandwidth ? "bandwidth" : "arithmetic");
        else
            puts("-");
    }
    printf("arithmetic %.4g GFLOP/s, bandwidth of reading %.3g GB/s\n", r->peak_gflops, r->read_gbs);
}

static void print_peer(const cli *c, const graft_bench_result *r, const peer *p) {
    out_buf peak;
    const graft_bench_peer *x = &p->result;
    putchar('\n');
    out_text(stdout, x->program, strlen(x->program), c->stream);
    printf(", the same batches\nspeed    %.4g tokens per second, %.4g s per step\n", x->tokens_per_second,
           x->step_seconds);
    printf("memory   peak %s\n", cell_size(&peak, x->peak_rss_bytes));
    printf("loss     %.4f -> %.4f in %zu steps\n", x->losses[0], x->losses[x->nlosses - 1], x->nlosses);
    printf("graft is %.2f x as fast; the losses differ by %.2g at most%s\n",
           r->tokens_per_second / x->tokens_per_second, losses_apart(r, x),
           c->options.model ? "" : " (random weights of its own)");
}

static json_t *doc_train_and_peer(const graft_bench_result *r, const peer *p) {
    json_t *document = doc_bench(r);
    if (!document || !p->document) return document;
    document = doc_with(document, "peer", json_incref(p->document));
    document = doc_with(document, "speedup", doc_number(r->tokens_per_second / p->result.tokens_per_second));
    document = doc_with(document, "losses_apart", doc_number(losses_apart(r, &p->result)));
    return document;
}

static graft_status show_train(cli *c, const graft_bench_result *r, const peer *p) {
    char name[64];
    const char *path = bench_picture_path(c, name, sizeof name);
    const graft_bench_peer *other = p->document ? &p->result : NULL;
    graft_status drawn = path ? graft_bench_train_svg(r, other, path, &c->err) : GRAFT_OK;
    drawn = bench_picture_written(c, drawn, &path);
    if (!c->json) print_train(r), print_profile(r);
    if (!c->json && other) print_peer(c, r, p);
    return bench_finish(c, c->json ? doc_train_and_peer(r, p) : NULL, path, drawn);
}

graft_status bench_train(cli *c) {
    graft_bench_result result = {0};
    peer other = {0};
    graft_status status = peer_find(c, &other, graft_bench_export);
    if (status == GRAFT_OK) status = graft_bench_train(&c->options, &c->hooks, &result, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->options.peer) status = peer_run(c, &other);
    if (status == GRAFT_OK) status = show_train(c, &result, &other);
    peer_free(&other);
    graft_bench_result_free(&result);
    return status;
}
