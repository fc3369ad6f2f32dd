/* cmd_download.c - a model from the hub into the cache. */
#include "json_out.h"
#include <string.h>

json_t *doc_download(const char *model, const graft_download_result *r) {
    json_t *doc = json_pack("{s:o, s:s, s:o, s:I, s:I, s:I}", "model", doc_text(model), "commit", r->commit,
                            "path", doc_text(r->path), "files", (json_int_t)r->files, "bytes",
                            (json_int_t)r->bytes, "fetched_bytes", (json_int_t)r->fetched);
    return doc;
}

static void print_result(const cli *c, const char *model, const graft_download_result *r) {
    out_buf all, now;
    printf("%zu files, %s (%s fetched now): ", r->files, out_size(&all, r->bytes),
           out_size(&now, r->fetched));
    out_text(stdout, r->path, strlen(r->path), c->stream);
    fputs("\nuse it with --model ", stdout);
    out_text(stdout, model, strlen(model), c->stream);
    putchar('\n');
}

int cmd_download(cli *c) {
    graft_download_result result = {0};
    graft_status status = GRAFT_OK;
    if (c->words_count)
        status = graft_options_set(&c->options, GRAFT_VERB_DOWNLOAD, "model", c->words[0], &c->err);
    if (status == GRAFT_OK) status = graft_download(&c->options, &c->hooks, &result, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->json)
        status = doc_print(c, doc_download(c->options.model, &result), false);
    else if (status == GRAFT_OK)
        print_result(c, c->options.model, &result);
    graft_download_result_free(&result);
    return cli_report(c, status);
}
