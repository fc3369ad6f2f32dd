/* graft_infer.h - what a model says: evaluation, generation, and rows as it sees them.
 */
#ifndef GRAFT_INFER_H
#define GRAFT_INFER_H
#include "graft_hooks.h"
#include "graft_options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------- eval */

/* How well one row is predicted. */
typedef struct graft_row_loss {
    uint64_t line; /* in the file, from 1 */
    double loss;   /* mean over the row's targets, NaN without any; with preferences the pair's */
    int64_t tokens;
    double reward_chosen, reward_rejected; /* with preferences */
} graft_row_loss;

/* How well rows are predicted. Free it. */
typedef struct graft_eval_result {
    double loss, perplexity, perplexity_stderr, accuracy; /* with preferences perplexity is NaN: pairs have
                                                             none, and accuracy is that of the rewards */
    int64_t tokens, rows;                                 /* rows: with preferences, pairs */
    graft_preference preference;                          /* of options.loss dpo and orpo */
    graft_row_loss *row_losses;                           /* `rows` of them when options.per_row, else NULL */
} graft_eval_result;

/* Evaluates options.split of options.data, with options.adapter_path if it is set. */
graft_status graft_eval(const graft_options *options, const graft_hooks *hooks, graft_eval_result *result,
                        graft_error *err);
void graft_eval_result_free(graft_eval_result *result);

/* ------------------------------------------------------------------------------------------- generate */

/* One answer. Free it. */
typedef struct graft_generation {
    char *text;
    int64_t tokens, prompt_tokens;
    double prompt_tokens_per_second, generation_tokens_per_second;
} graft_generation;

/* Answers options.prompt; with options.compare, `base` (not NULL) receives the answer without the adapter.
 * Pieces are sent as GRAFT_EVENT_TEXT events (of the adapter's answer). GRAFT_INTERRUPTED when the stop flag
 * was raised; both are empty then, as after every failure. */
graft_status graft_generate(const graft_options *options, const graft_hooks *hooks, graft_generation *result,
                            graft_generation *base, graft_error *err);
void graft_generation_free(graft_generation *generation);

/* Answers every line of options.prompts (a JSON string, {"prompt": ..} or {"messages": ..}),
 * options.batch_size at once. answer(user, ..) is called in the order of the lines, with a text that is
 * borrowed and rates that are 0; `total` receives the sums and the rates of all. A line's answer has the same
 * bits at every batch size. */
graft_status graft_generate_batch(const graft_options *options, const graft_hooks *hooks,
                                  void (*answer)(void *user, uint64_t line, const graft_generation *answer),
                                  void *user, graft_generation *total, graft_error *err);

/* ------------------------------------------------------------------------------------------- tokenize */

/* One row as the model sees it. Borrowed until the callback returns. */
typedef struct graft_row {
    uint64_t line;
    const int32_t *ids;
    const uint8_t *mask; /* 1: this token is a target */
    size_t count;
    const char *text;          /* decoded, or the rendering */
    const char *const *pieces; /* one string per token, for display; tokens that share a character
                                  have it at the first */
    const char *half;          /* "chosen", "rejected"; NULL where rows are no pairs */
} graft_row;

/* Calls row(user, ..) for every row of options.data, or for options.text or options.messages. With
 * options.render, only `text` (the rendered template) is set. With options.html the rows are written there as
 * a page too. */
graft_status graft_tokenize(const graft_options *options, const graft_hooks *hooks,
                            void (*row)(void *user, const graft_row *row), void *user, graft_error *err);

#ifdef __cplusplus
}
#endif
#endif
