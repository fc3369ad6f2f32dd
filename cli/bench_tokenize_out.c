/* bench_tokenize_out.c - `graft bench tokenize`: lines to tokens. */
#include "bench_out.h"
#include "peer.h"
#include <string.h>

static bool same_tokens(const graft_bench_tokenize_result *r, const peer *p) {
    char digest[24];
    const char *theirs = json_string_value(json_object_get(p->document, "digest"));
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)r->digest);
    return theirs && strcmp(theirs, digest) == 0;
}

static void print_tokenize(const cli *c, const graft_bench_tokenize_result *r, const peer *p) {
    out_buf a, b, d;
    printf("%s texts, %s, %s tokens; the tokenizer opens in %.3g s\n", out_count(&a, (int64_t)r->texts),
           out_size(&b, r->bytes), out_count(&d, (int64_t)r->tokens), r->open_seconds);
    printf("speed    %.4g million tokens per second, %.4g MB/s, one thread\n", r->tokens_per_second / 1e6,
           r->megabytes_per_second);
    if (!p->document) return;
    putchar('\n');
    out_text(stdout, p->result.program, strlen(p->result.program), c->stream);
    printf(", the same texts\nspeed    %.4g million tokens per second with one thread, %.4g with all\n",
           p->result.tokens_per_second / 1e6, peer_number(p, "batch_tokens_per_second") / 1e6);
    printf("graft is %.2f x as fast; the tokens are %s\n", r->tokens_per_second / p->result.tokens_per_second,
           same_tokens(r, p) ? "the same" : "NOT the same");
}

static json_t *doc_tokenize_and_peer(const graft_bench_tokenize_result *r, const peer *p) {
    json_t *document = doc_bench_tokenize(r);
    if (!document || !p->document) return document;
    document = doc_with(document, "peer", json_incref(p->document));
    document = doc_with(document, "speedup", doc_number(r->tokens_per_second / p->result.tokens_per_second));
    document = doc_with(document, "same_tokens", json_boolean(same_tokens(r, p)));
    return document;
}

graft_status bench_tokenize(cli *c) {
    graft_bench_tokenize_result r = {0};
    peer other = {0};
    graft_status status = peer_find(c, &other, graft_bench_tokenize_export);
    if (status == GRAFT_OK) status = graft_bench_tokenize(&c->options, &c->hooks, &r, &c->err);
    if (status == GRAFT_OK && c->options.peer) status = peer_run(c, &other);
    if (status == GRAFT_OK && c->json) status = doc_print(c, doc_tokenize_and_peer(&r, &other), false);
    if (status == GRAFT_OK && !c->json) print_tokenize(c, &r, &other);
    peer_free(&other);
    return status;
}
