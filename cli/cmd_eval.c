/* cmd_eval.c - loss, perplexity, accuracy. */
#include "json_out.h"
#include <math.h>

static void print_pairs(const graft_eval_result *r) {
    const graft_preference *p = &r->preference;
    out_buf tokens, rows;
    for (int64_t i = 0; r->row_losses && i < r->rows; i++) {
        const graft_row_loss *row = &r->row_losses[i];
        printf("line %llu: loss %.4f, rewards %+.4f chosen, %+.4f rejected\n", (unsigned long long)row->line,
               row->loss, row->reward_chosen, row->reward_rejected);
    }
    printf("loss        %.4f\n", r->loss);
    if (isfinite(p->nll_loss))
        printf("            %.4f of the chosen texts, log odds ratio %.4f\n", p->nll_loss, p->log_odds_ratio);
    printf("rewards     %+.4f chosen, %+.4f rejected, margin %+.4f\n", p->reward_chosen, p->reward_rejected,
           p->margin);
    printf("accuracy    %.2f %% of the pairs: the chosen answer has the larger reward\n", 100 * p->accuracy);
    printf("over        %s target tokens in %s pairs\n", out_count(&tokens, r->tokens),
           out_count(&rows, r->rows));
}

static void print_result(const graft_eval_result *r) {
    out_buf tokens, rows;
    for (int64_t i = 0; r->row_losses && i < r->rows; i++) {
        const graft_row_loss *row = &r->row_losses[i];
        if (isfinite(row->loss))
            printf("line %llu: loss %.4f, %lld tokens\n", (unsigned long long)row->line, row->loss,
                   (long long)row->tokens);
        else
            printf("line %llu: no target\n", (unsigned long long)row->line);
    }
    printf("loss        %.4f\n", r->loss);
    printf("perplexity  %.3f +- %.3f\n", r->perplexity, r->perplexity_stderr);
    printf("accuracy    %.2f %% of the target tokens\n", 100 * r->accuracy);
    printf("over        %s target tokens in %s rows\n", out_count(&tokens, r->tokens),
           out_count(&rows, r->rows));
}

int cmd_eval(cli *c) {
    graft_eval_result result = {0};
    graft_status status = graft_eval(&c->options, &c->hooks, &result, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->json)
        status = doc_print(c, doc_eval(&result), false);
    else if (status == GRAFT_OK && result.preference.pairs)
        print_pairs(&result);
    else if (status == GRAFT_OK)
        print_result(&result);
    graft_eval_result_free(&result);
    return cli_report(c, status);
}
