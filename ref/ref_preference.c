/* Losses of preferences: see ref.h. Straight from the papers' formulas, and so only for numbers of usual
 * size. */
#include "ref/ref.h"
#include <math.h>

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* arXiv 2305.18290 eq. 7; 2305.10425; 2310.12036 eq. 17; 2403.00409 */
double ref_dpo(double *dlogp, const double *logp, const double *reference, const int *tokens,
               ref_dpo_kind kind, double beta, double smoothing) {
    int per_token = kind == REF_DPO_IPO || kind == REF_DPO_SIGMOID_NORM;
    double nc = per_token ? tokens[0] : 1, nr = per_token ? tokens[1] : 1;
    double margin = (logp[0] - reference[0]) / nc - (logp[1] - reference[1]) / nr, x = beta * margin, loss,
           dmargin;
    if (kind == REF_DPO_HINGE) {
        loss = x < 1 ? 1 - x : 0;
        dmargin = x < 1 ? -beta : 0;
    } else if (kind == REF_DPO_IPO) {
        loss = pow(margin - 1 / (2 * beta), 2);
        dmargin = 2 * (margin - 1 / (2 * beta));
    } else {
        double e = kind == REF_DPO_ROBUST ? smoothing : 0;
        loss = (-(1 - e) * log(sigmoid(x)) + e * log(sigmoid(-x))) / (1 - 2 * e);
        dmargin = -beta * ((1 - e) * sigmoid(-x) + e * sigmoid(x)) / (1 - 2 * e);
    }
    dlogp[0] = dmargin / nc;
    dlogp[1] = -dmargin / nr;
    return loss;
}

/* arXiv 2403.07691 eq. 4 to 7 */
double ref_orpo(double *dlogp, double *dnll, const double *logp, const int *tokens, double nll, double share,
                double beta) {
    double pc = exp(logp[0] / tokens[0]), pr = exp(logp[1] / tokens[1]);
    double log_odds = log(pc / (1 - pc)) - log(pr / (1 - pr)), dlog_odds = -beta * sigmoid(-log_odds);
    dlogp[0] = dlog_odds / (1 - pc) / tokens[0];
    dlogp[1] = -dlog_odds / (1 - pr) / tokens[1];
    *dnll = share;
    return nll * share - beta * log(sigmoid(log_odds));
}
