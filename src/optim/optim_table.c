#include "optim/optim_table.h"
#include <math.h>

/* source: arXiv 1711.05101; torch.optim.AdamW (decay first), mlx.optimizers.AdamW (the same with decay
 * rate*wd) */
static void adam_elements(const gr_optim_step *s, int64_t i0, int64_t i1, bool decoupled) {
    const gr_optim_config *c = &s->optim->config;
    double t = (double)s->update;
    double c1 = c->bias_correction ? 1 - pow(c->beta1, t) : 1,
           c2 = c->bias_correction ? 1 - pow(c->beta2, t) : 1;
    float b1 = (float)c->beta1, b2 = (float)c->beta2, one_b1 = (float)(1 - c->beta1),
          one_b2 = (float)(1 - c->beta2);
    float keep = decoupled ? (float)(1 - s->rate * s->decay) : 1, coupled = decoupled ? 0 : (float)s->decay;
    float step = (float)(s->rate / c1), root = (float)(1 / sqrt(c2)), eps = (float)c->epsilon,
          clip = (float)s->clip;
    float *restrict p = s->params, *restrict m = s->optim->state[0], *restrict v = s->optim->state[1];
    const float *restrict grad = s->grad;
    for (int64_t i = i0; i < i1; i++) {
        float g = grad[i] * clip + coupled * p[i];
        m[i] = b1 * m[i] + one_b1 * g;
        v[i] = b2 * v[i] + one_b2 * g * g;
        p[i] = p[i] * keep - step * m[i] / (sqrtf(v[i]) * root + eps);
    }
}

static void adamw_step(const gr_optim_step *s, int64_t i0, int64_t i1) {
    adam_elements(s, i0, i1, true);
}

static void adam_step(const gr_optim_step *s, int64_t i0, int64_t i1) {
    adam_elements(s, i0, i1, false);
}

/* source: torch.optim.SGD (the first update's momentum is the gradient itself), weight decay added to the
 * gradient */
static void sgd_step(const gr_optim_step *s, int64_t i0, int64_t i1) {
    const gr_optim_config *c = &s->optim->config;
    float rate = (float)s->rate, momentum = (float)c->momentum,
          fresh = s->update == 1 ? 1 : (float)(1 - c->dampening);
    float decay = (float)s->decay, clip = (float)s->clip;
    float *restrict p = s->params, *restrict v = s->optim->state[0];
    const float *restrict grad = s->grad;
    for (int64_t i = i0; i < i1; i++) {
        float g = grad[i] * clip + decay * p[i];
        v[i] = momentum * v[i] + fresh * g;
        p[i] -= rate * (c->nesterov ? g + momentum * v[i] : v[i]);
    }
}

const gr_optim_row gr_optim_table[] = {
    {.name = "adamw", .states = 2, .decay = 0.01, .elements = adamw_step, .source = "torch.optim.AdamW"},
    {.name = "adam", .states = 2, .elements = adam_step, .source = "torch.optim.Adam"},
    {.name = "sgd", .states = 1, .elements = sgd_step, .source = "torch.optim.SGD"},
    {.name = "adafactor",
     .states = 2,
     .tensor = gr_adafactor_step,
     .floats = gr_adafactor_floats,
     .source = "mlx.optimizers.Adafactor"},
    {.name = "muon",
     .states = 1,
     .decay = 0.01,
     .products = true,
     .tensor = gr_muon_step,
     .scratch = gr_muon_scratch,
     .source = "mlx.optimizers.Muon"},
    {0},
};

const gr_optim_row *gr_optim_find(const char *name) {
    for (const gr_optim_row *row = gr_optim_table; row->name; row++)
        if (strcmp(row->name, name) == 0) return row;
    return NULL;
}

static double or_default(double value, double fallback) {
    return isnan(value) ? fallback : value;
}

gr_optim_config gr_optim_config_of(const graft_options *o) {
    bool muon = o->optimizer && strcmp(o->optimizer, "muon") == 0,
         adafactor = o->optimizer && strcmp(o->optimizer, "adafactor") == 0;
    return (gr_optim_config){
        .beta1 = or_default(o->beta1, adafactor ? 0 : 0.9),
        .beta2 = or_default(o->beta2, 0.999),
        .epsilon = or_default(o->epsilon, adafactor ? 1e-30 : 1e-8),
        .weight_decay = o->weight_decay,
        .momentum = or_default(o->momentum, muon ? 0.95 : 0),
        .dampening = or_default(o->dampening, 0),
        .nesterov = o->nesterov,
        .bias_correction = o->bias_correction,
        .scale_epsilon = or_default(o->scale_epsilon, 1e-3),
        .clip_threshold = or_default(o->clip_threshold, 1),
        .decay_rate = or_default(o->decay_rate, -0.8),
        .scale_parameter = o->scale_parameter,
        .relative_step = adafactor && o->relative_step,
        .warmup_init = o->warmup_init,
        .ns_steps = (int)o->ns_steps,
    };
}

double gr_optim_rate(const gr_optim_config *c, double scheduled, int64_t update) {
    double k = (double)update;
    return c->relative_step ? fmin(c->warmup_init ? 1e-6 * k : 1e-2, 1 / sqrt(k)) : scheduled;
}
