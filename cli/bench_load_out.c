/* bench_load_out.c - `graft bench load`: 16 bits against quantized. */
#include "bench_out.h"
#include <math.h>

static const char *bits_name(out_buf *b, const graft_bench_half *x) {
    if (x->bits)
        snprintf(b->text, sizeof b->text, "%d-bit", x->bits);
    else
        snprintf(b->text, sizeof b->text, "mixed bits");
    return b->text;
}

static void print_load(const graft_bench_load_result *r) {
    const graft_bench_half *a = &r->plain, *b = &r->quantized;
    out_buf x, y, z;
    printf("%-16s %14s %14s\n", "", bits_name(&x, a), bits_name(&y, b));
    printf("%-16s %14s %14s  %.2f x as fast\n", "load time", cell_time(&x, a->load_seconds),
           cell_time(&y, b->load_seconds), r->load_speedup);
    if (isfinite(a->cold_seconds) && isfinite(b->cold_seconds))
        printf("%-16s %14s %14s  %.2f x as fast\n", "  from disk", cell_time(&x, a->cold_seconds),
               cell_time(&y, b->cold_seconds), a->cold_seconds / b->cold_seconds);
    printf("%-16s %14s %14s  %s less\n", "process peak", cell_size(&x, a->peak_rss_bytes),
           cell_size(&y, b->peak_rss_bytes), cell_percent(&z, r->memory_saved_percent));
    printf("%-16s %14s %14s  %s less\n", "weights", out_size(&x, a->weight_bytes),
           out_size(&y, b->weight_bytes), cell_percent(&z, r->weights_saved_percent));
    printf("%-16s %14.3f %14.3f\n", "bits per weight", a->bits_per_weight, b->bits_per_weight);
    printf("%-16s %14s %14s\n", "parameters", out_count(&x, a->parameters), out_count(&y, b->parameters));
    if (!isfinite(r->loss_difference)) return;
    printf("%-16s %14.4f %14.4f  %+.4f\n", "loss", a->loss, b->loss, r->loss_difference);
    printf("%-16s %14.3f %14.3f\n", "perplexity", a->perplexity, b->perplexity);
}

graft_status bench_load(cli *c) {
    graft_bench_load_result r = {0};
    char name[64];
    graft_status status = graft_bench_load(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK) {
        const char *path = bench_picture_path(c, name, sizeof name);
        status = path ? graft_bench_load_svg(&r, path, &c->err) : GRAFT_OK;
        status = bench_picture_written(c, status, &path);
        if (!c->json) print_load(&r);
        status = bench_finish(c, c->json ? doc_bench_load(&r) : NULL, path, status);
    }
    graft_bench_load_result_free(&r);
    return status;
}
