/* cmd_convert.c - any model in, MLX directory out. */
#include "json_out.h"
#include <string.h>

static void print_result(const cli *c, const graft_convert_result *r) {
    if (r->notes && r->notes[0]) {
        out_text(stdout, r->notes, strlen(r->notes), c->stream);
        if (r->notes[strlen(r->notes) - 1] != '\n') putchar('\n');
    }
    out_buf size;
    fputs("wrote ", stdout);
    if (c->options.mlx_path) out_text(stdout, c->options.mlx_path, strlen(c->options.mlx_path), c->stream);
    printf(": %lld tensors, %s, %.3f bits per weight\n", (long long)r->tensors, out_size(&size, r->bytes),
           r->bits_per_weight);
}

int cmd_convert(cli *c) {
    graft_convert_result result = {0};
    graft_status status = graft_convert(&c->options, &c->hooks, &result, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->json)
        status = doc_print(c, doc_convert(&result), false);
    else if (status == GRAFT_OK)
        print_result(c, &result);
    graft_convert_result_free(&result);
    return cli_report(c, status);
}
