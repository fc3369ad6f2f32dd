/* cmd_fuse.c - adapter into base, and what that cost. */
#include "json_out.h"
#include <math.h>
#include <string.h>

static void print_losses(const graft_fuse_result *r) {
    out_buf tokens, rows;
    printf("loss of the base       %.4f\n", r->loss_base);
    printf("base and adapter       %.4f\n", r->loss_adapter);
    printf("fused                  %.4f\n", r->loss_fused);
    if (isfinite(r->kept))
        printf("kept of the gain       %.1f %%\n", 100 * r->kept);
    else
        puts("kept of the gain       the adapter gains nothing on these rows");
    printf("over                   %s target tokens in %s rows\n", out_count(&tokens, r->tokens),
           out_count(&rows, r->rows));
}

static void print_result(const cli *c, const graft_fuse_result *r) {
    out_buf size;
    const char *path = c->options.save_path ? c->options.save_path : "fused_model";
    fputs("wrote ", stdout);
    out_text(stdout, path, strlen(path), c->stream);
    printf(": %lld tensors, %s, %.3f bits per weight; the adapter is in %lld of them\n",
           (long long)r->tensors, out_size(&size, r->bytes), r->bits_per_weight, (long long)r->changed);
    if (r->measured) print_losses(r);
}

int cmd_fuse(cli *c) {
    graft_fuse_result result = {0};
    graft_status status = graft_fuse(&c->options, &c->hooks, &result, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->json)
        status = doc_print(c, doc_fuse(&result), false);
    else if (status == GRAFT_OK)
        print_result(c, &result);
    return cli_report(c, status);
}
