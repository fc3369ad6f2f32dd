#include "layers/preference_loss.h"
#include "files/json_bits.h"
#include <float.h>
#include <math.h>

static double sigmoid(double x) {
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double log_sigmoid(double x) {
    return x >= 0 ? -log1p(exp(-x)) : x - log1p(exp(x));
}

/* log(1 - e^x) of x < 0; source: Maechler, Accurately computing log(1 - exp(-|a|)), 2012 */
static double log1mexp(double x) {
    return x < -0.6931471805599453 ? log1p(-exp(x)) : log(-expm1(x));
}

/* ------------------------------------------------------------------------------------------------ dpo */

static double sigmoid_loss(double margin, double beta, double smoothing, double *slope) {
    (void)smoothing;
    *slope = -beta * sigmoid(-beta * margin);
    return -log_sigmoid(beta * margin);
}

static double hinge_loss(double margin, double beta, double smoothing, double *slope) {
    bool inside = beta * margin < 1;
    (void)smoothing;
    *slope = inside ? -beta : 0;
    return inside ? 1 - beta * margin : 0;
}

static double ipo_loss(double margin, double beta, double smoothing, double *slope) {
    double off = margin - 1 / (2 * beta);
    (void)smoothing;
    *slope = 2 * off;
    return off * off;
}

static double robust_loss(double margin, double beta, double e, double *slope) {
    double x = beta * margin;
    *slope = -beta * ((1 - e) * sigmoid(-x) + e * sigmoid(x)) / (1 - 2 * e);
    return (-(1 - e) * log_sigmoid(x) + e * log_sigmoid(-x)) / (1 - 2 * e);
}

static const gr_dpo_loss losses[] = {{"sigmoid", false, false, sigmoid_loss},
                                     {"hinge", false, false, hinge_loss},
                                     {"ipo", true, false, ipo_loss},
                                     {"robust", false, true, robust_loss},
                                     {"sigmoid_norm", true, false, sigmoid_loss}};

const gr_dpo_loss *gr_dpo_loss_find(const char *name) {
    for (size_t i = 0; name && i < sizeof losses / sizeof *losses; i++)
        if (strcmp(losses[i].name, name) == 0) return &losses[i];
    return NULL;
}

static gr_pair_value dpo_value(const gr_preference *p, const gr_pair *pair, double nll_share) {
    gr_pair_value v = {0};
    (void)nll_share;
    double share[2], ratio[2], slope;
    for (int i = GR_CHOSEN; i <= GR_REJECTED; i++) {
        ratio[i] = pair->logp[i] - pair->reference[i];
        share[i] = p->dpo->per_token ? 1 / fmax((double)pair->tokens[i], 1) : 1;
        v.reward[i] = p->beta * ratio[i];
    }
    double margin = ratio[GR_CHOSEN] * share[GR_CHOSEN] - ratio[GR_REJECTED] * share[GR_REJECTED];
    v.loss = p->dpo->value(margin, p->beta, p->smoothing, &slope);
    v.weight[GR_CHOSEN] = -slope * share[GR_CHOSEN];
    v.weight[GR_REJECTED] = slope * share[GR_REJECTED];
    return v;
}

/* ------------------------------------------------------------------------------------------------ orpo */

/* log p of a token that f32 cannot tell from 1: above it the odds would be infinite, and what falls back from
 * them no number. TRL has no such bound. */
#define SURE (-(double)FLT_EPSILON / 2)

static gr_pair_value orpo_value(const gr_preference *p, const gr_pair *pair, double nll_share) {
    gr_pair_value v = {.nll = pair->nll * nll_share, .nll_weight = nll_share};
    double mean[2], odds[2];
    for (int i = GR_CHOSEN; i <= GR_REJECTED; i++) {
        mean[i] = fmin(pair->logp[i] / fmax((double)pair->tokens[i], 1), SURE);
        odds[i] = mean[i] - log1mexp(mean[i]);
        v.reward[i] = p->beta * mean[i];
    }
    v.log_odds = odds[GR_CHOSEN] - odds[GR_REJECTED];
    v.ratio = log_sigmoid(v.log_odds);
    v.loss = v.nll - p->beta * v.ratio;
    for (int i = GR_CHOSEN; i <= GR_REJECTED; i++) /* the odds' derivative is 1 / (1 - e^x) */
        v.weight[i] = (i == GR_CHOSEN ? 1 : -1) * p->beta * sigmoid(-v.log_odds) / -expm1(mean[i]) /
                      fmax((double)pair->tokens[i], 1);
    return v;
}

/* ------------------------------------------------------------------------------------------------ table */

static const gr_loss_row table[] = {
    {.name = "mlx-lm", .mlx_lm = true},
    {.name = "dpo", .value = dpo_value, .types = true, .needs_reference = true, .passes = 4.0 / 3},
    {.name = "orpo", .value = orpo_value, .whole_chosen = true, .mean_logp = true, .passes = 1},
};

const gr_loss_row *gr_loss_find(const char *name) {
    for (size_t i = 0; name && i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

gr_pair_value gr_preference_value(const gr_preference *p, const gr_pair *pair, double nll_share) {
    return p->loss->value(p, pair, nll_share);
}

/* ------------------------------------------------------------------------------------------------ sums */

void gr_preference_add(gr_preference_sums *s, const gr_preference *p, const gr_pair *pair,
                       const gr_pair_value *v) {
    bool mean = p->loss->mean_logp;
    s->pairs++;
    s->loss += v->loss;
    s->correct += v->reward[GR_CHOSEN] > v->reward[GR_REJECTED];
    s->nll += v->nll;
    s->ratio += v->ratio;
    s->log_odds += v->log_odds;
    for (int i = GR_CHOSEN; i <= GR_REJECTED; i++) {
        s->reward[i] += v->reward[i];
        s->logp[i] += mean ? pair->logp[i] / fmax((double)pair->tokens[i], 1) : pair->logp[i];
    }
}

graft_preference gr_preference_means(const gr_preference *p, const gr_preference_sums *s) {
    double n = (double)(s->pairs ? s->pairs : 1);
    bool likelihood = p->loss && p->loss->whole_chosen;
    return (graft_preference){.pairs = s->pairs,
                              .reward_chosen = s->reward[GR_CHOSEN] / n,
                              .reward_rejected = s->reward[GR_REJECTED] / n,
                              .accuracy = s->correct / n,
                              .margin = (s->reward[GR_CHOSEN] - s->reward[GR_REJECTED]) / n,
                              .logp_chosen = s->logp[GR_CHOSEN] / n,
                              .logp_rejected = s->logp[GR_REJECTED] / n,
                              .nll_loss = likelihood ? s->nll / n : NAN,
                              .log_odds_ratio = likelihood ? s->ratio / n : NAN,
                              .log_odds_chosen = likelihood ? s->log_odds / n : NAN};
}

/* ORDER: what gr_preference_read takes. */
json_t *gr_preference_json(const gr_preference_sums *s) {
    const double words[] = {(double)s->pairs, s->loss,    s->reward[0], s->reward[1], s->correct,
                            s->logp[0],       s->logp[1], s->nll,       s->ratio,     s->log_odds};
    return gr_json_bits(words, sizeof words / sizeof *words);
}

graft_status gr_preference_read(gr_preference_sums *s, const gr_json_scope *progress, graft_error *err) {
    double w[10];
    *s = (gr_preference_sums){0};
    if (!gr_json_field(progress, "preference")) return GRAFT_OK;
    GR_TRY(gr_json_read_bits(progress, "preference", w, sizeof w / sizeof *w, err));
    if (!(w[0] >= 0 && w[0] <= 0x1p53))
        return gr_fail(err, GRAFT_CORRUPT, "checkpoint has no number of pairs");
    *s = (gr_preference_sums){(int64_t)w[0], w[1], {w[2], w[3]}, w[4], {w[5], w[6]}, w[7], w[8], w[9]};
    return GRAFT_OK;
}
