/* bench_kernels_out.c - `graft bench kernels`: products, attention and elementwise work alone. */
#include "bench_out.h"
#include <math.h>
#include <string.h>

static const char *number(out_buf *b, const char *format, double value) {
    if (isfinite(value))
        snprintf(b->text, sizeof b->text, format, value);
    else
        snprintf(b->text, sizeof b->text, "-");
    return b->text;
}

static void print_kernels(const graft_bench_kernels_result *r) {
    const char *isa = NULL;
    out_buf x[5];
    for (size_t i = 0; i < r->nkernels; i++) {
        const graft_bench_kernel *k = &r->kernels[i];
        if (!isa || strcmp(isa, k->isa) != 0) {
            printf("%s%s, %s activations, %d thread%s\n", isa ? "\n" : "", k->isa, r->fp32 ? "f32" : "bf16",
                   r->threads, r->threads == 1 ? "" : "s");
            printf("%-44s %10s %8s %-7s %9s %8s %s\n", "", "us", "rate", "", "limit", "percent",
                   r->threads > 1 ? " speedup" : "");
        }
        isa = k->isa;
        printf("%-44s %10s %8s %-7s %9s %8s", k->name, number(&x[0], "%.1f", k->seconds * 1e6),
               number(&x[1], "%.4g", k->rate), k->bandwidth ? "GB/s" : "GFLOP/s",
               number(&x[2], "%.4g", k->limit), number(&x[3], "%.1f %%", k->percent));
        printf(r->threads > 1 ? " %8s\n" : "\n", number(&x[4], "%.2f x", k->scaling));
    }
}

static json_t *doc_kernels(const graft_bench_kernels_result *r) {
    json_t *kernels = json_array();
    for (size_t i = 0; kernels && i < r->nkernels; i++) {
        const graft_bench_kernel *k = &r->kernels[i];
        json_t *line = json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:o}", "isa", k->isa, "name", k->name,
                                 "seconds", doc_number(k->seconds), "rate", doc_number(k->rate), "limit",
                                 doc_number(k->limit), "unit", k->bandwidth ? "GB/s" : "GFLOP/s", "percent",
                                 doc_number(k->percent), "speedup", doc_number(k->scaling));
        if (json_array_append_new(kernels, line) == 0) continue;
        json_decref(kernels);
        kernels = NULL;
    }
    return json_pack("{s:s, s:i, s:o}", "compute", r->fp32 ? "fp32" : "bf16", "threads", r->threads,
                     "kernels", kernels);
}

graft_status bench_kernels(cli *c) {
    graft_bench_kernels_result r = {0};
    graft_status status = graft_bench_kernels(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->json) status = doc_print(c, doc_kernels(&r), false);
    if (status == GRAFT_OK && !c->json) print_kernels(&r);
    graft_bench_kernels_result_free(&r);
    return status;
}
