/* cmd_serve.c - says where it listens, and in the end what it did. */
#include "json_out.h"
#include <string.h>

static void on_ready(void *user, int port) {
    cli *c = user;
    const char *host = c->options.host;
    bool six = strchr(host, ':') != NULL;
    progress_clear(&c->bar);
    if (c->json)
        (void)doc_print(c, json_pack("{s:o, s:i}", "host", doc_text(host), "port", port), true);
    else
        printf("listening at http://%s%s%s:%d/v1\n", six ? "[" : "", host, six ? "]" : "", port);
    fflush(stdout);
}

int cmd_serve(cli *c) {
    graft_serve_result r;
    graft_status status = graft_serve(&c->options, &c->hooks, on_ready, c, &r, &c->err);
    progress_clear(&c->bar);
    if (status != GRAFT_OK) return cli_report(c, status);
    if (c->json)
        status =
            doc_print(c,
                      json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "requests", (json_int_t)r.requests,
                                "answers", (json_int_t)r.answers, "refused", (json_int_t)r.refused, "left",
                                (json_int_t)r.left, "cut", (json_int_t)r.cut, "prompt_tokens",
                                (json_int_t)r.prompt_tokens, "tokens", (json_int_t)r.tokens),
                      true);
    else
        printf("%lld requests: %lld answers of %lld tokens, %lld refused, %lld left by their clients, "
               "%lld cut\n",
               (long long)r.requests, (long long)r.answers, (long long)r.tokens, (long long)r.refused,
               (long long)r.left, (long long)r.cut);
    return cli_report(c, status);
}
