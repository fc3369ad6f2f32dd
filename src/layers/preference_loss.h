/* layers/preference_loss.h - the table of losses, and those of pairs: what two answers' log-probabilities
 * cost, and what that says about each of their tokens. May include: base, options' names. Never: models,
 * rows.
 *
 * With log-probabilities c and r of the chosen and the rejected answer, c0 and r0 those of the reference
 * (the model without what is trained), n their tokens and D = (c - c0) - (r - r0):
 *
 *   dpo    sigmoid       -log s(beta D)                                  arXiv 2305.18290 eq. 7
 *          hinge         max(0, 1 - beta D)                              arXiv 2305.10425
 *          ipo           (d - 1 / (2 beta))^2                            arXiv 2310.12036 eq. 17, per token
 *          robust        (-(1-e) log s(beta D) + e log s(-beta D)) / (1-2e)    arXiv 2403.00409; e: smoothing
 *          sigmoid_norm  -log s(beta d)
 *          d: as D, each half divided by its number of tokens
 *   orpo   NLL of prompt and chosen answer, per token, - beta log s(o)   arXiv 2403.07691 eq. 6
 *          o = log odds(c/n) - log odds(r/n),  odds(x) = e^x / (1 - e^x)
 *
 * Names, and what their papers leave open, as in TRL 1.16 (trainer/dpo_trainer.py, experimental/orpo).
 */
#ifndef GR_LAYERS_PREFERENCE_LOSS_H
#define GR_LAYERS_PREFERENCE_LOSS_H
#include "base/name_list.h"
#include "files/json_read.h"
#include "graft.h"

/* Names of --loss and of dpo's --loss-type: each has a row in preference_loss.c. */
#define GR_LOSS_MAP(X) X(mlx_lm, "mlx-lm") X(dpo, "dpo") X(orpo, "orpo")
#define GR_DPO_MAP(X)                                                                                        \
    X(sigmoid, "sigmoid") X(hinge, "hinge") X(ipo, "ipo") X(robust, "robust") X(sigmoid_norm, "sigmoid_"     \
                                                                                              "norm")

typedef struct gr_loss_row gr_loss_row;
typedef struct gr_dpo_loss {
    const char *name;
    bool per_token; /* of the margin */
    bool smoothed;  /* label_smoothing means something */
    /* The loss at a margin; *slope: its derivative. */
    double (*value)(double margin, double beta, double smoothing, double *slope);
} gr_dpo_loss;
/* NULL if unknown. */
const gr_dpo_loss *gr_dpo_loss_find(const char *name);

typedef struct gr_preference {
    const gr_loss_row *loss; /* one of pairs; NULL: rows train one by one */
    const gr_dpo_loss *dpo;  /* NULL: the loss has no types */
    double beta, smoothing;
    const float
        *reference; /* dpo: parameters of the reference, laid out as the model's; NULL: the base alone */
} gr_preference;

enum { GR_CHOSEN, GR_REJECTED };

/* What the model says about a pair. */
typedef struct gr_pair {
    double logp[2], reference[2]; /* of the answers; the reference's are 0 with orpo */
    int64_t tokens[2];            /* of the answers */
    double nll;                   /* minus log p of every target of the chosen half */
} gr_pair;

typedef struct gr_pair_value {
    double loss;
    double reward[2];            /* TRL's: beta times the log-ratio; with orpo times the mean log p */
    double nll, ratio, log_odds; /* orpo's parts: loss = nll - beta ratio; 0 with dpo */
    /* the gradient: of each answer's tokens' -log p, and of that of every target of the chosen half besides
     */
    double weight[2], nll_weight;
} gr_pair_value;

/* A loss that --loss names; without one it is the mean over the targets of an update. */
struct gr_loss_row {
    const char *name;
    bool mlx_lm; /* mlx-lm's mask, padding, mean of means, dropped partial batch */
    /* of pairs, all of them: */
    gr_pair_value (*value)(const gr_preference *p, const gr_pair *pair, double nll_share); /* NULL: of rows */
    bool types;           /* it has --loss-type */
    bool needs_reference; /* a forward pass of the model without what trains */
    bool whole_chosen;    /* it has the likelihood of the chosen half: that one's prompt carries loss too */
    bool mean_logp;       /* TRL logs sums for dpo and means for orpo */
    double passes;        /* work of a step, in steps without a loss of pairs */
};
/* NULL if unknown or NULL. */
const gr_loss_row *gr_loss_find(const char *name);

/* nll_share: what a token's -log p counts for in orpo's likelihood; 1 / targets would be this pair's mean. */
gr_pair_value gr_preference_value(const gr_preference *p, const gr_pair *pair, double nll_share);

/* Sums over pairs, in their order. */
typedef struct gr_preference_sums {
    int64_t pairs;
    double loss, reward[2], correct, logp[2], nll, ratio, log_odds;
} gr_preference_sums;
void gr_preference_add(gr_preference_sums *sums, const gr_preference *p, const gr_pair *pair,
                       const gr_pair_value *value);
/* The means; pairs 0: nothing was added, or the loss is none of pairs. */
graft_preference gr_preference_means(const gr_preference *p, const gr_preference_sums *sums);

/* For a checkpoint: every bit of them. New reference; NULL when out of memory. */
json_t *gr_preference_json(const gr_preference_sums *sums);
/* Reads what gr_preference_json made, at "preference" of a checkpoint's progress; where that has none, zeros.
 */
graft_status gr_preference_read(gr_preference_sums *sums, const gr_json_scope *progress,
                                graft_error *err) GR_MUST_CHECK;

#endif
