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

#define ADAM .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .bias_correction = true

const gr_optim_row gr_optim_table[] = {
    {.name = "adamw",
     .states = 2,
     .defaults = {ADAM, .weight_decay = 0.01},
     .keys = {"betas", "eps", "bias_correction", "weight_decay"},
     .elements = adamw_step},
    {.name = "adam",
     .states = 2,
     .defaults = {ADAM},
     .keys = {"betas", "eps", "bias_correction"},
     .elements = adam_step},
    {.name = "sgd",
     .states = 1,
     .keys = {"momentum", "weight_decay", "dampening", "nesterov"},
     .elements = sgd_step},
    {.name = "adafactor",
     .states = 2,
     .defaults = {.epsilon = 1e-30,
                  .scale_epsilon = 1e-3,
                  .clip_threshold = 1,
                  .decay_rate = -0.8,
                  .scale_parameter = true,
                  .relative_step = true},
     .keys = {"eps", "clip_threshold", "decay_rate", "beta_1", "weight_decay", "scale_parameter",
              "relative_step", "warmup_init"},
     .tensor = gr_adafactor_step,
     .floats = gr_adafactor_floats},
    {.name = "muon",
     .states = 1,
     .products = true,
     .defaults = {.weight_decay = 0.01, .momentum = 0.95, .nesterov = true, .ns_steps = 5},
     .keys = {"momentum", "weight_decay", "nesterov", "ns_steps"},
     .most_momentum = 1,
     .tensor = gr_muon_step,
     .scratch = gr_muon_scratch},
    {0},
};

const gr_optim_row *gr_optim_find(const char *name) {
    for (const gr_optim_row *row = gr_optim_table; name && row->name; row++)
        if (strcmp(row->name, name) == 0) return row;
    return NULL;
}

bool gr_optim_takes(const gr_optim_row *row, const char *key) {
    for (size_t i = 0; row && row->keys[i]; i++)
        if (strcmp(row->keys[i], key) == 0) return true;
    return false;
}

static double or_default(double value, double fallback) {
    return isnan(value) ? fallback : value;
}

gr_optim_config gr_optim_config_of(const graft_options *o) {
    const gr_optim_row *row = gr_optim_find(o->optimizer);
    const gr_optim_config *d = &(row ? row : gr_optim_table)->defaults;
    return (gr_optim_config){
        .beta1 = or_default(o->beta1, d->beta1),
        .beta2 = or_default(o->beta2, d->beta2),
        .epsilon = or_default(o->epsilon, d->epsilon),
        .weight_decay = o->weight_decay,
        .momentum = or_default(o->momentum, d->momentum),
        .dampening = or_default(o->dampening, d->dampening),
        .nesterov = o->nesterov,
        .bias_correction = o->bias_correction,
        .scale_epsilon = or_default(o->scale_epsilon, d->scale_epsilon),
        .clip_threshold = or_default(o->clip_threshold, d->clip_threshold),
        .decay_rate = or_default(o->decay_rate, d->decay_rate),
        .scale_parameter = o->scale_parameter,
        .relative_step = d->relative_step && o->relative_step,
        .warmup_init = o->warmup_init,
        .ns_steps = (int)o->ns_steps,
    };
}

double gr_optim_rate(const gr_optim_config *c, double scheduled, int64_t update) {
    double k = (double)update;
    return c->relative_step ? fmin(c->warmup_init ? 1e-6 * k : 1e-2, 1 / sqrt(k)) : scheduled;
}
