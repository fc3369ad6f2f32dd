/* data/rows.h - rows of a data set as tokens and masks, and the order in which training takes them.
 * What it does: rows of a file (records.h) -> ids and target masks; which rows an iteration takes.
 * May include: base, files, text. Never: models, losses.
 *
 * Formats, recognized per row by its keys:
 *   {"text": ..}   special tokens by the post-processor, EOS appended if absent
 *   all others     conversations (conversation.h), through the chat template
 * or, where the loss is one of preferences, all as pairs (preference.h)
 */
#ifndef GR_DATA_ROWS_H
#define GR_DATA_ROWS_H
#include "base/rng.h"
#include "data/pack.h"
#include "files/records.h"
#include "text/chat.h"

typedef enum gr_overflow { GR_OVERFLOW_REFUSE, GR_OVERFLOW_TRUNCATE, GR_OVERFLOW_DROP } gr_overflow;

typedef struct gr_rows_config {
    gr_train_on train_on;
    gr_overflow overflow;
    int64_t max_seq_length; /* tokens a row may have; <= 0: no limit */
    int32_t vocab_size;     /* ids at or above it are refused (GRAFT_RANGE), 0: not checked */
    const char *text_feature, *prompt_feature, *completion_feature, *chat_feature,
        *tools_feature; /* NULL: mlx-lm's names */
    bool mlx_masks;     /* --loss mlx-lm: see below */
    bool pairs;         /* rows of preferences (preference.h): two rows each, the chosen and the rejected */
    bool whole_chosen;  /* pairs: all tokens of the chosen half carry loss, its prompt's too */
    gr_reading reading; /* of the file */
    bool allow_untargeted; /* a file without any target is fine (tokenize); else GRAFT_CORRUPT */
} gr_rows_config;

/* --loss mlx-lm (0.32.2, tuner/trainer.py default_loss, iterate_batches). Its mask of a row of n tokens with
 * prompt offset o trains targets o..n *including* n, the first pad token (id 0), and batches are always wider
 * than their longest row unless max_seq_length bounds them. With mlx_masks a row shorter than max_seq_length
 * therefore ends in one more token, id 0, a target: attention is causal, so this is exact per row. What is
 * not a row's affair is left to the trainer: an iteration's loss is the mean over the targets of its batch;
 * accumulation averages these means (and their gradients) with equal weights, not by tokens; a short last
 * batch of an epoch is dropped (take again), data with fewer rows than a batch is an error; iterations that
 * do not fill an accumulation at the end of the run make no update; reported losses are means of means;
 * validation weights batches by targets and also drops the short one. mlx-lm cuts rows that are too long:
 * here `overflow` says so. */

/* One row ready for the model. Borrowed until gr_rows_free. */
typedef struct gr_row {
    uint64_t line; /* in the file, from 1 */
    const int32_t *ids;
    const uint8_t *mask; /* mask[i] = 1: token i is a target; mask[0] = 0 */
    int64_t count;       /* tokens */
    int64_t targets;     /* number of ones in mask */
    uint64_t source;     /* digest of the row as it stands in the file */
    int64_t prompt;      /* of a pair: tokens before the answer; else 0 */
} gr_row;

typedef struct gr_rows gr_rows;
/* Reads and tokenizes every row of a file and checks it. All rows that do not parse or do not fit are
 * collected: the error names the number and the first lines. progress(user, done, total) may be NULL. tok and
 * chat are borrowed; chat may be NULL when the data has only text rows (a chat row then fails with the hint).
 * Token ids are kept in memory (about 5 bytes per token); texts are not. */
graft_status gr_rows_open(gr_rows **rows, const char *path, const gr_tokenizer *tok, const gr_chat *chat,
                          const gr_rows_config *config,
                          void (*progress)(void *user, int64_t done, int64_t total), void *user,
                          graft_error *err) GR_MUST_CHECK;
/* One row from its JSON text (for `tokenize --text` and tests): as gr_rows_open on a single line. */
graft_status gr_rows_from_text(gr_rows **rows, const char *json, size_t len, const gr_tokenizer *tok,
                               const gr_chat *chat, const gr_rows_config *config,
                               graft_error *err) GR_MUST_CHECK;
void gr_rows_free(gr_rows *rows);
const char *gr_rows_name(const gr_rows *rows); /* of the file, without its directory; "" without a file */
int64_t gr_rows_count(const gr_rows *rows);
/* Rows that a line of the file gives: 1, or 2 where they are pairs; the chosen half is first. */
int gr_rows_width(const gr_rows *rows);
gr_row gr_rows_at(const gr_rows *rows, int64_t index);
int64_t gr_rows_longest(const gr_rows *rows); /* tokens of the longest row */
int64_t gr_rows_tokens(const gr_rows *rows);  /* all tokens */
int64_t gr_rows_targets(const gr_rows *rows);
/* Moves the rows that are marked [count], both of a pair or none, into *out, in their order. Notes stay with
 * `rows`. */
graft_status gr_rows_take(gr_rows **out, gr_rows *rows, const bool *which, graft_error *err) GR_MUST_CHECK;
/* How many rows were truncated, dropped, have no target; and a malloc'ed line naming them by line number
 * (NULL if there is nothing to say). */
char *gr_rows_notes(const gr_rows *rows);
/* Hash of all ids and masks in order: resume refuses other data. */
uint64_t gr_rows_digest(const gr_rows *rows);

/* The order of rows over epochs: epoch e is a permutation that depends on (seed, e) only, or file order. What
 * it hands out are units: rows, or with gr_order_pack the packs of the current epoch. */
typedef struct gr_order {
    int64_t count; /* rows */
    bool shuffle;
    uint64_t seed;
    uint64_t epoch;       /* current */
    int64_t position;     /* units taken from the current epoch */
    int32_t *permutation; /* of the current epoch; NULL without shuffle */
    gr_packs *packs;      /* of the current epoch; NULL: units are `width` rows */
    int width;            /* 1; 2 where rows are pairs, of which `count` is the number */
} gr_order;
graft_status gr_order_init(gr_order *order, int64_t count, bool shuffle, uint64_t seed,
                           graft_error *err) GR_MUST_CHECK; /* width is 1 */
/* Makes packs of the rows, in the epoch's order; right after gr_order_init. cost [count] and capacity as in
 * gr_packs_new. */
graft_status gr_order_pack(gr_order *order, int32_t *cost, int64_t capacity, graft_error *err) GR_MUST_CHECK;
/* Units of an epoch: the same number in each. */
int64_t gr_order_units(const gr_order *order);
/* Rows of a unit of the current epoch, and the k-th of them. */
int64_t gr_order_unit_rows(const gr_order *order, int64_t unit);
int64_t gr_order_row(const gr_order *order, int64_t unit, int64_t k);
/* Moves to an earlier position (resume). */
graft_status gr_order_seek(gr_order *order, uint64_t epoch, int64_t position, graft_error *err) GR_MUST_CHECK;
/* Takes up to n units of the current epoch; returns how many (< n only at the end of an epoch: the last batch
 * may be short; the next call starts the next epoch, whose packs are others). */
int64_t gr_order_take(gr_order *order, int64_t *units, int64_t n);
/* Iterations of `batch` units that one epoch of `count` has (its last may be short). */
int64_t gr_order_iterations_per_epoch(int64_t count, int64_t batch);
void gr_order_free(gr_order *order);

#endif
