#include "base/number.h"
#include "optim/optim_table.h"
#include "options/options.h"

/* As %g has it, with more digits where it takes them to read the same bits back. */
static void add_value(gr_buf *out, double value) {
    char text[32];
    gr_format(text, sizeof text, "%g", value);
    if (gr_to_real(text, NULL) != value) gr_real_text(text, value);
    gr_buf_puts(out, text);
}

static void add_real(gr_buf *out, const char *name, double value) {
    if (isnan(value)) return;
    gr_buf_printf(out, "%s: ", name);
    add_value(out, value);
    gr_buf_puts(out, "\n");
}

/* A switch of optimizer_config, where that optimizer has it and a file or a host may have set it. */
static void add_switch(gr_buf *out, const graft_options *o, const char *key, const char *name, bool value,
                       bool usual) {
    if ((o->config_file || value != usual) && gr_optim_takes(gr_optim_find(o->optimizer), key))
        gr_buf_printf(out, "%s: %s\n", name, value ? "true" : "false");
}

static void add_schedule(gr_buf *out, const graft_options *o) {
    gr_buf_printf(out, "schedule: %s(", o->mlx_schedule);
    for (int i = 0; i < 4 && !isnan(o->mlx_schedule_args[i]); i++) {
        if (i) gr_buf_puts(out, ", ");
        add_value(out, o->mlx_schedule_args[i]);
    }
    gr_buf_printf(out, "), warm-up %lld from ", (long long)o->mlx_warmup);
    add_value(out, o->mlx_warmup_init);
    gr_buf_puts(out, "\n");
}

/* What only a YAML sets, or a host: what a checkpoint compares must not depend on which. */
static void add_config(gr_buf *out, const graft_options *o) {
    graft_options usual = {.optimizer = o->optimizer}; /* borrows a name */
    gr_options_optimizer_defaults(&usual);
    if (o->config_file || !o->bias_correction)
        gr_buf_printf(out, "bias-correction: %s\n", o->bias_correction ? "true" : "false");
    add_real(out, "beta1", o->beta1);
    add_real(out, "beta2", o->beta2);
    add_real(out, "epsilon", o->epsilon);
    add_real(out, "momentum", o->momentum);
    add_real(out, "dampening", o->dampening);
    if (o->config_file ? o->nesterov : o->nesterov != usual.nesterov)
        gr_buf_printf(out, "nesterov: %s\n", o->nesterov ? "true" : "false");
    add_real(out, "scale-epsilon", o->scale_epsilon);
    add_real(out, "clip-threshold", o->clip_threshold);
    add_real(out, "decay-rate", o->decay_rate);
    add_switch(out, o, "scale_parameter", "scale-parameter", o->scale_parameter, usual.scale_parameter);
    add_switch(out, o, "relative_step", "relative-step", o->relative_step, usual.relative_step);
    add_switch(out, o, "warmup_init", "warmup-init", o->warmup_init, usual.warmup_init);
    if ((o->config_file || o->ns_steps != usual.ns_steps) &&
        gr_optim_takes(gr_optim_find(o->optimizer), "ns_steps"))
        gr_buf_printf(out, "ns-steps: %lld\n", (long long)o->ns_steps);
    if (o->mlx_schedule) add_schedule(out, o);
}

/* Options whose value stands in other words elsewhere would be printed twice. */
static bool spoken_for(const graft_options *o, const char *name) {
    if (strcmp(name, "mask-prompt") == 0 || strcmp(name, "lora-alpha") == 0 ||
        strcmp(name, "lora-scale") == 0)
        return true;
    if (strcmp(name, "iters") == 0) return !isnan(o->epochs);
    if (strcmp(name, "warmup") == 0 || strcmp(name, "lr-schedule") == 0) return o->mlx_schedule != NULL;
    return false;
}

/* loaded: without what an adapter's file says; adapters false: without what only adapters have. */
static char *text_of(const graft_options *o, graft_verb verb, bool loaded, bool adapters) {
    gr_buf out = {0}, value = {0};
    for (size_t i = 0; i < graft_option_count(); i++) {
        const gr_option_row *row = gr_option_row_at(i);
        const char *name = row->shown.name;
        if (!(row->shown.verbs & (unsigned)verb) || (loaded && row->shapes_adapter) ||
            (!adapters && row->of_adapters))
            continue;
        gr_buf_clear(&value);
        if (strcmp(name, "train-on") == 0)
            gr_buf_puts(&value, gr_train_on_name(gr_options_train_on(o)));
        else if (strcmp(name, "api-key") == 0) /* never printed */
            gr_buf_puts(&value, o->api_key ? "set" : "");
        else if (!spoken_for(o, name))
            gr_option_print(o, row, &value);
        if (value.len) gr_buf_printf(&out, "%s: %s\n", name, value.data);
        if (strcmp(name, "lora-rank") == 0)
            gr_buf_printf(&out, "lora-alpha: %g\nlora-scale: %g\n", gr_options_alpha(o), gr_options_scale(o));
    }
    if (verb & (GRAFT_VERB_TRAIN | GRAFT_VERB_PLAN | GRAFT_VERB_BENCH)) add_config(&out, o);
    bool failed = value.failed;
    gr_buf_free(&value);
    if (failed) gr_buf_free(&out);
    return failed ? NULL : gr_buf_take(&out);
}

char *gr_options_settings(const graft_options *o, graft_verb verb) {
    return text_of(o, verb, false, true);
}

char *graft_options_text(const graft_options *o, graft_verb verb) {
    return text_of(o, verb, o->resume_adapter_file != NULL, !gr_options_full(o));
}
