#include "optim/optim_table.h"
#include "options/options.h"

static void add_real(gr_buf *out, const char *name, double value) {
    if (!isnan(value)) gr_buf_printf(out, "%s: %g\n", name, value);
}

/* A switch of optimizer_config, where that optimizer has it. */
static void add_switch(gr_buf *out, const graft_options *o, const char *key, const char *name, bool value) {
    if (gr_optim_takes(gr_optim_find(o->optimizer), key))
        gr_buf_printf(out, "%s: %s\n", name, value ? "true" : "false");
}

/* What only a YAML sets. */
static void add_config(gr_buf *out, const graft_options *o) {
    if (!o->config_file) return;
    gr_buf_printf(out, "bias-correction: %s\n", o->bias_correction ? "true" : "false");
    add_real(out, "beta1", o->beta1);
    add_real(out, "beta2", o->beta2);
    add_real(out, "epsilon", o->epsilon);
    add_real(out, "momentum", o->momentum);
    add_real(out, "dampening", o->dampening);
    if (o->nesterov) gr_buf_puts(out, "nesterov: true\n");
    add_real(out, "scale-epsilon", o->scale_epsilon);
    add_real(out, "clip-threshold", o->clip_threshold);
    add_real(out, "decay-rate", o->decay_rate);
    add_switch(out, o, "scale_parameter", "scale-parameter", o->scale_parameter);
    add_switch(out, o, "relative_step", "relative-step", o->relative_step);
    add_switch(out, o, "warmup_init", "warmup-init", o->warmup_init);
    if (gr_optim_takes(gr_optim_find(o->optimizer), "ns_steps"))
        gr_buf_printf(out, "ns-steps: %lld\n", (long long)o->ns_steps);
    if (!o->mlx_schedule) return;
    gr_buf_printf(out, "schedule: %s(", o->mlx_schedule);
    for (int i = 0; i < 4 && !isnan(o->mlx_schedule_args[i]); i++)
        gr_buf_printf(out, "%s%g", i ? ", " : "", o->mlx_schedule_args[i]);
    gr_buf_printf(out, "), warm-up %lld from %g\n", (long long)o->mlx_warmup, o->mlx_warmup_init);
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
    static const char *const train_on[] = {"all", "completion", "assistant", "last"}; /* ORDER: gr_train_on */
    gr_buf out = {0}, value = {0};
    for (size_t i = 0; i < graft_option_count(); i++) {
        const gr_option_row *row = gr_option_row_at(i);
        const char *name = row->shown.name;
        if (!(row->shown.verbs & (unsigned)verb) || (loaded && row->shapes_adapter) ||
            (!adapters && row->of_adapters))
            continue;
        gr_buf_clear(&value);
        if (strcmp(name, "train-on") == 0)
            gr_buf_puts(&value, train_on[gr_options_train_on(o)]);
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
