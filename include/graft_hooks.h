/* graft_hooks.h - how a running call talks to its host: events one way, a stop flag the other.
 */
#ifndef GRAFT_HOOKS_H
#define GRAFT_HOOKS_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What an event tells; after each kind the fields that it fills. */
typedef enum graft_event_kind {
    GRAFT_EVENT_NOTE,     /* text: something the user should know */
    GRAFT_EVENT_PROGRESS, /* phase, done, total */
    GRAFT_EVENT_TRAIN,    /* a report: train */
    GRAFT_EVENT_VALID,    /* a validation: valid */
    GRAFT_EVENT_SAVED,    /* text: what was written */
    GRAFT_EVENT_TEXT      /* text: a piece of generated text, length `done` */
} graft_event_kind;

/* Means over pairs, names and meanings as TRL's metrics: rewards/chosen, rewards/accuracies, logps/chosen and
 * so on. A reward is beta times the log-probability (dpo: above the reference's; orpo: per token). */
typedef struct graft_preference {
    int64_t pairs; /* 0: no preferences, and nothing else here means anything */
    double reward_chosen, reward_rejected, accuracy, margin;
    double logp_chosen, logp_rejected;                /* dpo: of whole answers; orpo: per token */
    double nll_loss, log_odds_ratio, log_odds_chosen; /* orpo; else NaN */
} graft_preference;

/* Something that happened. Pointers are borrowed until the callback returns; fields that a kind does not name
 * are 0. */
typedef struct graft_event {
    graft_event_kind kind;
    const char *text;
    const char *phase; /* what is under way: "train", "validate", "tokenize", "convert" or "evaluate", say */
    int64_t done, total;
    int64_t iteration;
    double train_loss, val_loss, val_time, learning_rate;
    double iterations_per_second, tokens_per_second, grad_norm;
    int64_t trained_tokens;
    uint64_t peak_memory_bytes;
    graft_preference preference; /* train, valid: with a loss of preferences */
    int64_t trial;               /* of a sweep: which, from 1; 0: none */
} graft_event;

/* What the host hangs into a call. Borrowed until the call returns. */
typedef struct graft_hooks {
    void *user;
    void (*event)(void *user, const graft_event *event); /* may be NULL; called in the calling thread */
    const volatile int *stop; /* may be NULL; non-zero asks to stop soon (training saves first) */
    struct graft_comm *ranks; /* graft_train: the ranks that train together (graft_ranks.h); NULL: this
                                 process alone. A trainer's steps and graft_sweep refuse several; everything
                                 else runs alone and leaves it unread */
} graft_hooks;

#ifdef __cplusplus
}
#endif
#endif
