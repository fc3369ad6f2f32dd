/* Losses of pairs: ref/ against differences of itself, the fast ones against ref/, and where formulas
 * overflow. */
#include "base/rng.h"
#include "layers/preference_loss.h"
#include "ref/ref.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static const char *const names[] = {"sigmoid", "hinge", "ipo", "robust", "sigmoid_norm"};
enum { KINDS = sizeof names / sizeof *names, ROUNDS = 200 };

typedef struct drawn {
    double logp[2], reference[2], nll, share, beta, smoothing;
    int tokens[2];
} drawn;

static drawn draw(gr_rng *rng) {
    drawn d = {.share = 0.01 + 0.1 * gr_rng_uniform(rng),
               .beta = 0.05 + gr_rng_uniform(rng),
               .smoothing = 0.4 * gr_rng_uniform(rng)};
    for (int i = 0; i < 2; i++) {
        d.tokens[i] = 1 + (int)gr_rng_below(rng, 20);
        d.logp[i] = -(0.1 + 3 * gr_rng_uniform(rng)) * d.tokens[i];
        d.reference[i] = -(0.1 + 3 * gr_rng_uniform(rng)) * d.tokens[i];
    }
    d.nll = -d.logp[0] + 5;
    return d;
}

static gr_preference how(const drawn *d, int kind) {
    return (gr_preference){.loss = gr_loss_find(kind < KINDS ? "dpo" : "orpo"),
                           .dpo = kind < KINDS ? gr_dpo_loss_find(names[kind]) : NULL,
                           .beta = d->beta,
                           .smoothing = kind == 3 ? d->smoothing : 0};
}

static double ref_loss(const drawn *d, int kind, double dlogp[2], double *dnll) {
    *dnll = 0;
    return kind < KINDS
               ? ref_dpo(dlogp, d->logp, d->reference, d->tokens, (ref_dpo_kind)kind, d->beta, d->smoothing)
               : ref_orpo(dlogp, dnll, d->logp, d->tokens, d->nll, d->share, d->beta);
}

/* A central difference of step h is off by h^2 and by 1e-16 / h. */
static void ref_against_differences(void **state) {
    (void)state;
    gr_rng rng;
    gr_rng_seed(&rng, 5, 1);
    for (int round = 0; round < ROUNDS; round++) {
        drawn d = draw(&rng);
        for (int kind = 0; kind <= KINDS; kind++) {
            double dlogp[2], dnll, unused[2], none;
            ref_loss(&d, kind, dlogp, &dnll);
            for (int i = 0; i < 3; i++) {
                const double h = 1e-5;
                drawn up = d, down = d;
                *(i < 2 ? &up.logp[i] : &up.nll) += h;
                *(i < 2 ? &down.logp[i] : &down.nll) -= h;
                double slope =
                    (ref_loss(&up, kind, unused, &none) - ref_loss(&down, kind, unused, &none)) / (2 * h);
                double truth = i < 2 ? dlogp[i] : dnll;
                if (kind == 1 && fabs(slope - truth) > 1e-6 && fabs(slope) < d.beta)
                    continue; /* at the hinge */
                if (!(fabs(slope - truth) <= 1e-7 * (1 + fabs(truth))))
                    fail_msg("kind %d, %d: slope %.12g, ref %.12g", kind, i, slope, truth);
            }
        }
    }
}

static void as_ref(void **state) {
    (void)state;
    gr_rng rng;
    gr_rng_seed(&rng, 6, 1);
    for (int round = 0; round < ROUNDS; round++) {
        drawn d = draw(&rng);
        gr_pair pair = {
            {d.logp[0], d.logp[1]}, {d.reference[0], d.reference[1]}, {d.tokens[0], d.tokens[1]}, d.nll};
        for (int kind = 0; kind <= KINDS; kind++) {
            double dlogp[2], dnll;
            gr_preference p = how(&d, kind);
            gr_pair_value v = gr_preference_value(&p, &pair, d.share);
            double loss = ref_loss(&d, kind, dlogp, &dnll);
            assert_true(fabs(v.loss - loss) <= 1e-12 * (1 + fabs(loss)));
            for (int i = 0; i < 2; i++)
                assert_true(fabs(v.weight[i] + dlogp[i]) <= 1e-12 * (1 + fabs(dlogp[i])));
            assert_true(fabs(v.nll_weight - dnll) <= 1e-15);
        }
    }
}

/* Margins far beyond what exp holds: losses and weights stay numbers, and say what they should. */
static void far_away(void **state) {
    (void)state;
    static const double margins[] = {-1e5, -1e4, 1e4, 1e5};
    drawn d = {.beta = 0.5, .smoothing = 0.1};
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < 4; i++) {
            gr_pair pair = {{margins[i], 0}, {0, 0}, {3, 4}, 1};
            gr_preference p = how(&d, kind);
            gr_pair_value v = gr_preference_value(&p, &pair, 1);
            assert_true(isfinite(v.loss) && isfinite(v.weight[0]) && isfinite(v.weight[1]));
            if (kind == 2) continue;
            assert_true(margins[i] > 0 ? v.loss <= 0 || kind == 3 || v.loss < 1e-3 : v.loss > 100);
            assert_true(v.weight[0] >= 0 && v.weight[1] <= 0);
        }
    /* certain answers: orpo's odds are infinite only where the probability is 1 */
    drawn o = {.beta = 0.1};
    gr_preference p = how(&o, KINDS);
    gr_pair sure = {{-1e-12, -40}, {0, 0}, {2, 2}, 1}, unlikely = {{-4000, -9000}, {0, 0}, {2, 2}, 1};
    gr_pair_value v = gr_preference_value(&p, &sure, 1);
    assert_true(isfinite(v.loss) && isfinite(v.weight[0]) && isfinite(v.weight[1]));
    for (int half = 0; half < 3; half++) { /* a loss of f32 that rounded to 0, in either half or both */
        gr_pair certain = {{half == 1 ? -40 : -0.0, half == 0 ? -40 : 0}, {0, 0}, {2, 2}, 0};
        v = gr_preference_value(&p, &certain, 1);
        assert_true(isfinite(v.loss) && isfinite(v.log_odds));
        assert_true(v.weight[0] >= 0 && v.weight[0] < 1e8 && v.weight[1] <= 0 && v.weight[1] > -1e8);
    }
    v = gr_preference_value(&p, &unlikely, 1);
    assert_true(fabs(v.log_odds - 2500) < 1e-9 && isfinite(v.loss));
}

static void sums(void **state) {
    (void)state;
    gr_rng rng;
    gr_rng_seed(&rng, 7, 1);
    gr_preference_sums s = {0}, back;
    gr_preference p = {0};
    for (int i = 0; i < 5; i++) {
        drawn d = draw(&rng);
        p = how(&d, KINDS);
        gr_pair pair = {{d.logp[0], d.logp[1]}, {0, 0}, {d.tokens[0], d.tokens[1]}, d.nll};
        gr_pair_value v = gr_preference_value(&p, &pair, d.share);
        gr_preference_add(&s, &p, &pair, &v);
    }
    graft_preference m = gr_preference_means(&p, &s);
    assert_int_equal(m.pairs, 5);
    assert_true(fabs(m.margin - (m.reward_chosen - m.reward_rejected)) < 1e-15);
    assert_true(isfinite(m.nll_loss) && m.accuracy >= 0 && m.accuracy <= 1);
    /* a checkpoint has every bit of them */
    graft_error err = {0};
    json_t *j = json_pack("{s:o}", "preference", gr_preference_json(&s)), *none = json_object();
    assert_int_equal(gr_preference_read(&back, &(gr_json_scope){j, "x", ""}, &err), GRAFT_OK);
    assert_memory_equal(&s, &back, sizeof s);
    assert_int_equal(gr_preference_read(&back, &(gr_json_scope){none, "x", ""}, &err), GRAFT_OK);
    assert_int_equal(back.pairs, 0);
    json_object_set_new(j, "preference", json_integer(4));
    assert_int_not_equal(gr_preference_read(&back, &(gr_json_scope){j, "x", ""}, &err), GRAFT_OK);
    json_decref(j);
    json_decref(none);
    assert_null(gr_dpo_loss_find("nca_pair"));
    assert_null(gr_dpo_loss_find(NULL));
}

/* What --loss and --loss-type offer is there. */
static void names_have_rows(void **state) {
    (void)state;
#define FOUND(word, called) assert_string_equal(gr_loss_find(called)->name, called);
    GR_LOSS_MAP(FOUND)
#undef FOUND
#define FOUND(word, called) assert_string_equal(gr_dpo_loss_find(called)->name, called);
    GR_DPO_MAP(FOUND)
    assert_null(gr_loss_find("simpo"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_have_rows),
                                       cmocka_unit_test(ref_against_differences), cmocka_unit_test(as_ref),
                                       cmocka_unit_test(far_away), cmocka_unit_test(sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
