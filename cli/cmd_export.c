/* cmd_export.c - an adapter in the formats of other programs. */
#include "json_out.h"
#include <string.h>

static void print_result(const cli *c, const graft_export_result *r) {
    out_buf modules, parameters;
    printf("%s parameters in %s modules, ranks up to %lld\n", out_count(&parameters, r->parameters),
           out_count(&modules, r->modules), (long long)r->rank);
    for (int i = 0; r->files[i]; i++) {
        fputs("wrote ", stdout);
        out_text(stdout, c->options.out, strlen(c->options.out), c->stream);
        printf("/%s for %s\n", r->files[i], graft_adapter_program(r->files[i]));
    }
    if (!r->notes[0]) return;
    out_text(stdout, r->notes, strlen(r->notes), c->stream);
    putchar('\n');
}

int cmd_export(cli *c) {
    graft_export_result result = {0};
    graft_status status = graft_export(&c->options, &c->hooks, &result, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->json)
        status = doc_print(c, doc_export(&result, c->options.out), false);
    else if (status == GRAFT_OK)
        print_result(c, &result);
    graft_export_result_free(&result);
    return cli_report(c, status);
}
