#include "plan/module_match.h"
#include "plan/tuning.h"
#include <math.h>
#include <stdio.h>

#define BITS(role) (1u << (role))
#define EXPERTS    (BITS(GR_EXPERT_GATE) | BITS(GR_EXPERT_UP) | BITS(GR_EXPERT_DOWN))
#define MIXTURE    (EXPERTS | BITS(GR_ROUTER))
#define LINEARS    ((BITS(GR_LINEARS) - 1) & ~BITS(GR_ROUTER))
#define ADAPTABLE  (LINEARS | BITS(GR_EMBED_TOKENS) | BITS(GR_LM_HEAD))
#define SAVABLE    ((BITS(GR_ROLES) - 1 - BITS(GR_ROTARY_EMB)) & ~MIXTURE)

/* A request with its wishes compiled. */
typedef struct selection {
    gr_tuning *t;
    const gr_model_config *config;
    const gr_tuning_request *r;
    gr_matcher *want, *without, *save;
    gr_patterns *ranks, *alphas;
    bool bad_layers;
} selection;

static bool layer_wanted(selection *s, int64_t l) {
    const gr_tuning_request *r = s->r;
    bool wanted = r->num_layers <= 0 || l >= s->config->layers - r->num_layers;
    return (!r->layers || gr_in_layers(r->layers, l, s->config->layers, &s->bad_layers)) && wanted;
}

static bool want_adapter(const selection *s, gr_role role, const char *path) {
    return gr_matches(s->want, role, path) && !(s->without && gr_matches(s->without, role, path));
}

static graft_status refuse_mixture(gr_role role, const char *path, const char *option, graft_error *err) {
    gr_fail(err, GRAFT_UNSUPPORTED, "%s",
            role == GR_ROUTER ? "the router of a mixture cannot be trained"
                              : "experts of a mixture train by LoRA alone, without dropout");
    gr_where(err, "%s", option);
    gr_found(err, "%s", path);
    return gr_hint(err, "--lora-targets extended adapts all of attention");
}

/* A wish for tensors of a mixture that stay as they are, its router and whole experts, in any block: a
 * regular expression may mean one. wish NULL: for all; that of --lora-targets: less what options leave out.
 */
static graft_status check_mixture(selection *s, const gr_matcher *wish, unsigned roles, const char *option,
                                  graft_error *err) {
    const bool adapters = wish == s->want; /* or blocks that train whole, chosen by number as well */
    char path[200];
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (!(BITS(role) & roles) || !gr_role_exists(role, s->config)) continue;
        for (int64_t l = 0; l < s->config->layers; l++) {
            if (adapters && !layer_wanted(s, l)) continue;
            gr_role_name(path, sizeof path, role, l);
            bool wished = !wish || (adapters ? want_adapter(s, role, path) : gr_matches(wish, role, path));
            if (wished) return refuse_mixture(role, path, option, err);
        }
    }
    return GRAFT_OK;
}

/* What experts are not computed with. */
static unsigned unlike_experts(const gr_tuning_request *r) {
    return r->kind == GR_TUNE_DORA || r->dropout > 0 ? MIXTURE : BITS(GR_ROUTER);
}

static graft_status compile(selection *s, graft_error *err) {
    const gr_tuning_request *r = s->r;
    if (r->exclude) {
        GR_TRY(gr_matcher_new(&s->without, r->exclude, "--exclude-modules", true, err));
        /* leaving out what is never adapted is no mistake: PEFT users write it */
        GR_TRY(gr_matcher_check(s->without, s->config, ADAPTABLE | MIXTURE, err));
    }
    if (r->kind != GR_TUNE_FULL) {
        GR_TRY(gr_matcher_new(&s->want, r->targets, "--lora-targets", true, err));
        GR_TRY(check_mixture(s, s->want, unlike_experts(r), "--lora-targets", err));
        GR_TRY(gr_matcher_check(s->want, s->config, ADAPTABLE, err));
    } else if (!r->measured) {
        GR_TRY(check_mixture(s, NULL, EXPERTS, "--fine-tune-type full", err));
    }
    if (r->modules_to_save) {
        GR_TRY(gr_matcher_new(&s->save, r->modules_to_save, "--modules-to-save", false, err));
        GR_TRY(check_mixture(s, s->save, MIXTURE, "--modules-to-save", err));
        GR_TRY(gr_matcher_check(s->save, s->config, SAVABLE, err));
    }
    if (r->rank_pattern) GR_TRY(gr_patterns_new(&s->ranks, r->rank_pattern, "--rank-pattern", err));
    if (r->alpha_pattern) GR_TRY(gr_patterns_new(&s->alphas, r->alpha_pattern, "--alpha-pattern", err));
    return GRAFT_OK;
}

static void release(selection *s) {
    gr_matcher_free(s->want);
    gr_matcher_free(s->without);
    gr_matcher_free(s->save);
    gr_patterns_free(s->ranks);
    gr_patterns_free(s->alphas);
}

/* Gives one tensor its adapter. */
static graft_status adapt(selection *s, gr_tuned *x, const char *path, graft_error *err) {
    const gr_tuning_request *r = s->r;
    double rank = gr_patterns_value(s->ranks, path, (double)r->rank);
    double own = gr_patterns_value(s->alphas, path, NAN); /* beats a scale of all modules */
    if (rank != floor(rank) || rank > GR_RANK_MOST) {
        gr_fail(err, GRAFT_USAGE, "a rank is a whole number");
        gr_where(err, "--rank-pattern, %s", path);
        gr_expected(err, "from 1 to %d", GR_RANK_MOST);
        return gr_found(err, "%.17g", rank);
    }
    double divisor = r->use_rslora ? sqrt(rank) : rank, alpha = isnan(own) ? r->alpha : own;
    double scale = isnan(own) && !isnan(r->scale) ? r->scale : alpha / divisor;
    x->rank = (int64_t)rank;
    x->scale = (float)scale;
    if (!(x->scale > 0) || isinf(x->scale)) {
        gr_fail(err, GRAFT_USAGE, "a scale is a number above 0 that 32 bits hold");
        gr_where(err, "%s", path);
        return gr_found(err, "%g", scale);
    }
    x->dora = r->kind == GR_TUNE_DORA;
    x->train_bias = r->bias == GR_BIAS_LORA_ONLY;
    return GRAFT_OK;
}

static bool trains_anything(const gr_tuned *x) {
    return x->rank || x->train_weight || x->train_bias;
}

/* What trains of one tensor. */
static graft_status decide(selection *s, gr_role role, int64_t layer, bool layer_in, graft_error *err) {
    gr_tuned *x = gr_tuning_at(s->t, role, layer);
    const gr_tuning_request *r = s->r;
    char path[200];
    gr_role_name(path, sizeof path, role, layer);
    if (s->save && BITS(role) & SAVABLE && gr_matches(s->save, role, path)) {
        x->train_weight = x->saved = x->train_bias = true;
        return GRAFT_OK; /* PEFT too adapts no saved module, and saves it whole */
    }
    if (r->kind == GR_TUNE_FULL) {
        x->train_weight = x->train_bias = layer_in && gr_role_table[role].in_block;
        return GRAFT_OK;
    }
    if (layer_in && BITS(role) & ADAPTABLE && want_adapter(s, role, path)) GR_TRY(adapt(s, x, path, err));
    if (r->bias == GR_BIAS_ALL) x->train_bias = true;
    return GRAFT_OK;
}

static graft_status decide_all(selection *s, bool *anything, graft_error *err) {
    const gr_model_config *c = s->config;
    for (gr_role role = 0; role < GR_ROLES; role++) {
        bool block = gr_role_table[role].in_block;
        if (!gr_role_exists(role, c)) continue;
        for (int64_t l = 0; l < (block ? c->layers : 1); l++) {
            /* as in PEFT, a list of layers leaves out what is in none */
            bool in = block ? layer_wanted(s, l) : !s->r->layers;
            GR_TRY(decide(s, role, l, in, err));
            gr_tuned *x = gr_tuning_at(s->t, role, l);
            if (!gr_role_has_bias(role, c)) x->train_bias = false;
            *anything |= trains_anything(x);
        }
    }
    return GRAFT_OK;
}

/* Which options chose, and that they left nothing. */
static graft_status nothing(const gr_tuning_request *r, graft_error *err) {
    const char *const given[][2] = {
        {"--exclude-modules ", r->exclude}, {"--layers-to-transform ", r->layers}, {"--num-layers ", NULL}};
    char last[24];
    gr_buf text = {0};
    snprintf(last, sizeof last, "%lld", (long long)r->num_layers);
    gr_buf_printf(&text, "--lora-targets %s", r->targets ? r->targets : "(none)");
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        const char *value = i == 2 && r->num_layers > 0 ? last : given[i][1];
        if (value) gr_buf_printf(&text, " %s%s", given[i][0], value);
    }
    gr_fail(err, GRAFT_USAGE, "the selection adapts nothing");
    gr_where(err, "%s", text.failed ? "" : text.data);
    gr_buf_free(&text);
    if (r->layers && r->num_layers > 0)
        return gr_hint(err, "none of --layers-to-transform is among the last %lld blocks: give one of both",
                       (long long)r->num_layers);
    return gr_hint(err, "try --lora-targets extended, and `graft plan` to see what is adapted");
}

static graft_status check(const selection *s, bool anything, graft_error *err) {
    const gr_tuning_request *r = s->r;
    if (s->bad_layers) {
        gr_fail(err, GRAFT_USAGE, "--layers-to-transform is not a list of this model's layers");
        gr_expected(err, "numbers and ranges from 0 to %lld, such as 0,1,5-7",
                    (long long)s->config->layers - 1);
        return gr_found(err, "%s", r->layers);
    }
    if (!anything) return nothing(r, err);
    GR_TRY(gr_patterns_check(s->ranks, err));
    GR_TRY(gr_patterns_check(s->alphas, err));
    const gr_tuned *embed = gr_tuning_of(s->t, GR_EMBED_TOKENS, 0), *head = gr_tuning_of(s->t, GR_LM_HEAD, 0);
    if (!embed->dora && !head->dora) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "DoRA adapts the linears of blocks, not embedding and head");
    return gr_hint(err, "leave them out of --lora-targets, or use --fine-tune-type lora");
}

static graft_status check_counts(const selection *s, graft_error *err) {
    if (s->r->num_layers <= s->config->layers) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "--num-layers is more than the model has");
    gr_expected(err, "at most %lld, or -1 for all", (long long)s->config->layers);
    return gr_found(err, "%lld", (long long)s->r->num_layers);
}

static bool trains_bias(const gr_tuning *t) {
    size_t i = 0;
    while (i < t->param_count && t->params[i].kind != GR_PARAM_BIAS) i++;
    return i < t->param_count;
}

/* No file holds both: PEFT's has no place for experts, the others none for what is not A and B. ORDER:
 * gr_adapter_holds */
static graft_status check_files(const gr_tuning *t, graft_error *err) {
    const gr_param *expert = NULL, *own = NULL;
    char name[256];
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        if (p->kind == GR_PARAM_A && gr_role_expert(p->role)) expert = p;
        if (!own && (p->kind == GR_PARAM_BIAS || p->kind == GR_PARAM_WEIGHT)) own = p;
    }
    if (!expert || !own) return GRAFT_OK;
    gr_param_name(name, sizeof name, own);
    gr_fail(err, GRAFT_UNSUPPORTED, "no adapter file holds adapted experts beside biases or whole tensors");
    gr_found(err, "%s", name);
    return gr_hint(err,
                   "leave out --modules-to-save and --lora-bias, or the experts: --lora-targets extended");
}

graft_status gr_tuning_select(gr_tuning **out, const gr_model_config *c, const gr_tuning_request *r,
                              graft_error *err) {
    selection s = {.config = c, .r = r};
    bool anything = false;
    *out = NULL;
    GR_TRY(gr_tuning_new(&s.t, c, err));
    gr_tuning *t = s.t;
    t->kind = r->kind;
    t->alpha = r->alpha;
    t->scale =
        !isnan(r->scale) ? r->scale : r->alpha / (r->use_rslora ? sqrt((double)r->rank) : (double)r->rank);
    t->use_rslora = r->use_rslora;
    t->bias = r->bias;
    t->dropout = r->dropout;
    if (r->kind == GR_TUNE_FULL) t->full_last = r->num_layers > 0 ? r->num_layers : c->layers;
    graft_status st = check_counts(&s, err);
    if (st == GRAFT_OK) st = compile(&s, err);
    if (st == GRAFT_OK) st = decide_all(&s, &anything, err);
    if (st == GRAFT_OK) st = check(&s, anything, err);
    if (st == GRAFT_OK) st = gr_tuning_place(t, c, err);
    if (st == GRAFT_OK) st = check_files(t, err);
    if (st == GRAFT_OK && !trains_bias(t)) t->bias = GR_BIAS_NONE;
    release(&s);
    if (st != GRAFT_OK) {
        gr_tuning_free(t);
        return st;
    }
    *out = t;
    return GRAFT_OK;
}
