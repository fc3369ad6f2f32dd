/* bench_generate_out.c - `graft bench generate`: a prompt read, an answer written. */
#include "bench_out.h"
#include "peer.h"
#include <string.h>

static void print_generate(const cli *c, const graft_bench_generate_result *r, const peer *p) {
    out_buf a;
    if (r->batch_size > 1) printf("%lld rows at once\n", (long long)r->batch_size);
    printf("prompt   %.4g tokens per second (%lld), %.4g GFLOP/s, %.1f %% of the measured peak of %.4g\n",
           r->prompt_tokens_per_second, (long long)r->prompt_tokens, r->prompt_gflops,
           r->prompt_percent_of_peak, r->peak_gflops);
    printf("answer   %.4g tokens per second (%lld), %.4g GB/s, %.1f %% of the measured bandwidth of %.4g\n",
           r->generation_tokens_per_second, (long long)r->tokens, r->generation_gbs,
           r->generation_percent_of_bandwidth, r->read_gbs);
    printf("memory   peak %s\n", out_size(&a, r->peak_rss_bytes));
    if (!p->document) return;
    double prompt = peer_number(p, "prompt_tokens_per_second");
    putchar('\n');
    out_text(stdout, p->result.program, strlen(p->result.program), c->stream);
    printf(", the same file and prompt\nprompt   %.4g tokens per second\nanswer   %.4g tokens per second\n",
           prompt, p->result.tokens_per_second);
    printf("memory   peak %s\n", cell_size(&a, p->result.peak_rss_bytes));
    printf("graft is %.2f x as fast with the prompt, %.2f x with the answer\n",
           r->prompt_tokens_per_second / prompt,
           r->generation_tokens_per_second / p->result.tokens_per_second);
}

static json_t *doc_generate_and_peer(const graft_bench_generate_result *r, const peer *p) {
    json_t *document = doc_bench_generate(r);
    if (!document || !p->document) return document;
    document = doc_with(document, "peer", json_incref(p->document));
    document = doc_with(document, "prompt_speedup",
                        doc_number(r->prompt_tokens_per_second / peer_number(p, "prompt_tokens_per_second")));
    document = doc_with(document, "speedup",
                        doc_number(r->generation_tokens_per_second / p->result.tokens_per_second));
    return document;
}

graft_status bench_generate(cli *c) {
    graft_bench_generate_result r = {0};
    peer other = {0};
    graft_status status = peer_find(c, &other, graft_bench_generate_export);
    if (status == GRAFT_OK) status = graft_bench_generate(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->options.peer) status = peer_run(c, &other);
    if (status == GRAFT_OK && c->json) status = doc_print(c, doc_generate_and_peer(&r, &other), false);
    if (status == GRAFT_OK && !c->json) print_generate(c, &r, &other);
    peer_free(&other);
    return status;
}
