/* cmd_report.c - training runs as a page. */
#include "json_out.h"
#include <string.h>

int cmd_report(cli *c) {
    graft_report_result result = {0};
    if (!c->words_count) {
        cli_fail(c, GRAFT_USAGE, "no directory to report on");
        cli_expected(c, "graft report DIR [DIR ...]");
        return cli_report(c, GRAFT_USAGE);
    }
    graft_status status =
        graft_report(c->words, (size_t)c->words_count, &c->options, &c->hooks, &result, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && result.notes[0]) out_text(stderr, result.notes, strlen(result.notes), true);
    if (status == GRAFT_OK && c->json) {
        status = doc_print(c, doc_with(doc_parse(result.json), "html", doc_text(result.html)), false);
    } else if (status == GRAFT_OK) {
        fputs("wrote ", stdout);
        out_text(stdout, result.html, strlen(result.html), c->stream);
        putchar('\n');
    }
    graft_report_result_free(&result);
    return cli_report(c, status);
}
