#include "options/options.h"
#include "optim/optim_table.h"

static bool given_at(const graft_options *o, int index) {
    return o->given[index / 64] >> (index % 64) & 1;
}

bool gr_options_given(const graft_options *o, const char *name) {
    int index = gr_option_index(name);
    return index >= 0 && given_at(o, index);
}

bool gr_options_asked(const graft_options *o, const char *name) {
    int index = gr_option_index(name);
    return index >= 0 && ((o->given[index / 64] | o->in_file[index / 64]) >> (index % 64) & 1);
}

bool gr_options_default_scale(const graft_options *o) {
    return o->config_file && !isnan(o->lora_scale) && !gr_options_asked(o, "lora-scale");
}

bool gr_options_fp32(const graft_options *o) {
    return o->compute && strcmp(o->compute, "fp32") == 0;
}

bool gr_options_full(const graft_options *o) {
    return o->fine_tune_type && strcmp(o->fine_tune_type, "full") == 0;
}

void graft_options_init(graft_options *o) {
    memset(o, 0, sizeof *o);
    /* a string that did not fit into memory stays NULL; gr_options_check sees it */
    for (size_t i = 0; i < graft_option_count(); i++) (void)gr_option_reset(o, gr_option_row_at(i));
    o->bias_correction = true;
    gr_options_optimizer_defaults(o);
    for (int i = 0; i < 4; i++) o->mlx_schedule_args[i] = NAN;
}

static bool is_text(const gr_option_row *row) {
    return row->kind == GR_OPTION_TEXT || row->kind == GR_OPTION_CHOICE || row->kind == GR_OPTION_LIST ||
           row->kind == GR_OPTION_JSON || row->kind == GR_OPTION_SIZE || row->kind == GR_OPTION_EVERY ||
           row->kind == GR_OPTION_CONFIG;
}

graft_options *graft_options_new(void) {
    graft_options *o = gr_calloc(1, sizeof *o);
    if (o) graft_options_init(o);
    return o;
}

void graft_options_delete(graft_options *o) {
    if (!o) return;
    graft_options_free(o);
    free(o);
}

void graft_options_free(graft_options *o) {
    if (!o) return;
    for (size_t i = 0; i < graft_option_count(); i++) {
        const gr_option_row *row = gr_option_row_at(i);
        if (is_text(row)) free(*(char **)((char *)o + row->offset));
    }
    free(o->mlx_schedule);
    memset(o, 0, sizeof *o);
}

graft_status gr_options_copy(graft_options *to, const graft_options *from, graft_error *err) {
    bool good = true;
    *to = *from;
    for (size_t i = 0; i < graft_option_count(); i++) {
        const gr_option_row *row = gr_option_row_at(i);
        char **at = (char **)((char *)to + row->offset);
        if (!is_text(row) || !*at) continue;
        *at = gr_strdup(*at);
        good = good && *at;
    }
    if (to->mlx_schedule && !(to->mlx_schedule = gr_strdup(from->mlx_schedule))) good = false;
    return good ? GRAFT_OK : gr_no_memory(err, sizeof *to);
}

static graft_status unknown(const graft_options *o, graft_verb verb, const char *name, graft_error *err) {
    const char *names[8 * sizeof o->given] = {0}; /* every row has a bit there */
    for (size_t i = 0; i < graft_option_count(); i++)
        if (graft_option_at(i)->verbs & (unsigned)verb) names[i] = graft_option_at(i)->name;
    bool is_letter = name[0] && !name[1];
    int elsewhere = is_letter ? -1 : gr_option_index(name);
    const char *near =
        elsewhere >= 0 || is_letter ? NULL : gr_nearest_name(name, names, graft_option_count());
    const char *dashes = is_letter ? "-" : "--";
    if (elsewhere >= 0) {
        gr_fail(err, GRAFT_USAGE, "%s%s is not an option of %s", dashes, name, gr_verb_name(verb));
        gr_buf verbs = {0};
        for (unsigned bit = 1; bit <= graft_option_at((size_t)elsewhere)->verbs; bit <<= 1)
            if (graft_option_at((size_t)elsewhere)->verbs & bit)
                gr_buf_printf(&verbs, "%s%s", verbs.len ? ", " : "", gr_verb_name((graft_verb)bit));
        gr_hint(err, "it belongs to %s", verbs.data ? verbs.data : "other verbs");
        gr_buf_free(&verbs);
        return err->status;
    }
    gr_fail(err, GRAFT_USAGE, "unknown option %s%s", dashes, name);
    if (near) return gr_hint(err, "did you mean --%s?", near);
    return gr_hint(err, "graft %s --help lists the options", gr_verb_name(verb));
}

/* What else a file says depends on these two, so that a flag for them reads the file again. */
static graft_status reload(graft_options *o, graft_error *err) {
    if (!o->config_file) return GRAFT_OK;
    char *path = gr_strdup(o->config_file);
    if (!path) return gr_no_memory(err, strlen(o->config_file));
    graft_status st = graft_options_load_yaml(o, path, NULL, err);
    free(path);
    return st;
}

/* What a flag takes back from a file: the other way to say the same. */
static graft_status after_set(graft_options *o, const graft_option *option, int index, graft_error *err) {
    int partner = gr_option_partner(index);
    if (partner >= 0 && !given_at(o, partner) && !gr_option_reset(o, gr_option_row_at((size_t)partner)))
        return gr_no_memory(err, 16);
    if (strcmp(option->name, "warmup") == 0) o->mlx_warmup = o->warmup;
    if (strcmp(option->name, "preset") == 0) return gr_preset_apply(o, err);
    if (strcmp(option->name, "lr-schedule") == 0) return reload(o, err);
    if (strcmp(option->name, "optimizer") != 0) return GRAFT_OK;
    gr_options_optimizer_defaults(o);
    return reload(o, err);
}

static graft_status set(graft_options *o, graft_verb verb, const char *name, const char *value,
                        graft_error *err) {
    const graft_option *option = graft_option_find(verb, name);
    char called[64];
    if (!option) return unknown(o, verb, name, err);
    int index = gr_option_index(option->name);
    const gr_option_row *row = gr_option_row_at((size_t)index);
    snprintf(called, sizeof called, "--%s", option->name);
    if (!value && row->kind != GR_OPTION_SWITCH) {
        gr_fail(err, GRAFT_USAGE, "%s needs a value", called);
        return gr_expected(err, "%s", option->choices ? option->choices : option->value);
    }
    if (row->kind == GR_OPTION_CONFIG) {
        GR_TRY(graft_options_load_yaml(o, value, NULL, err));
    } else {
        GR_TRY(gr_option_store(o, row, value ? value : "true", called, err));
    }
    o->given[index / 64] |= (uint64_t)1 << (index % 64);
    return after_set(o, option, index, err);
}

graft_status graft_options_set(graft_options *o, graft_verb verb, const char *name, const char *value,
                               graft_error *err) {
    graft_error local = {0};
    return set(o, verb, name, value, err ? err : &local);
}

void gr_options_optimizer_defaults(graft_options *o) {
    const gr_optim_row *row = gr_optim_find(o->optimizer);
    o->beta1 = o->beta2 = o->epsilon = o->momentum = o->dampening = NAN;
    o->scale_epsilon = o->clip_threshold = o->decay_rate = NAN;
    o->scale_parameter = o->relative_step = true;
    o->warmup_init = false;
    o->nesterov = row && row->defaults.nesterov;
    o->ns_steps = 5;
    if (row && !gr_options_given(o, "weight-decay")) o->weight_decay = row->defaults.weight_decay;
}

double gr_options_alpha(const graft_options *o) {
    double rank = (double)o->lora_rank;
    if (!isnan(o->lora_scale)) return o->lora_scale * (o->use_rslora ? sqrt(rank) : rank);
    return isnan(o->lora_alpha) ? 2 * rank : o->lora_alpha;
}

double gr_options_scale(const graft_options *o) {
    double rank = (double)o->lora_rank;
    if (!isnan(o->lora_scale)) return o->lora_scale;
    return gr_options_alpha(o) / (o->use_rslora ? sqrt(rank) : rank);
}

static const char *or_null(const char *text) {
    return text && text[0] ? text : NULL;
}

gr_tuning_request gr_options_tuning(const graft_options *o) {
    const char *kind = o->fine_tune_type ? o->fine_tune_type : "lora";
    const char *bias = o->lora_bias ? o->lora_bias : "none";
    return (gr_tuning_request){.kind = strcmp(kind, "full") == 0   ? GR_TUNE_FULL
                                       : strcmp(kind, "dora") == 0 ? GR_TUNE_DORA
                                                                   : GR_TUNE_LORA,
                               .targets = o->lora_targets ? o->lora_targets : "extended",
                               .exclude = o->exclude_modules,
                               .layers = o->layers_to_transform,
                               .num_layers = o->num_layers,
                               .rank = o->lora_rank,
                               .alpha = gr_options_alpha(o),
                               .scale = o->lora_scale,
                               .use_rslora = o->use_rslora,
                               .rank_pattern = or_null(o->rank_pattern),
                               .alpha_pattern = or_null(o->alpha_pattern),
                               .modules_to_save = or_null(o->modules_to_save),
                               .bias = strcmp(bias, "all") == 0         ? GR_BIAS_ALL
                                       : strcmp(bias, "lora_only") == 0 ? GR_BIAS_LORA_ONLY
                                                                        : GR_BIAS_NONE,
                               .dropout = o->lora_dropout};
}

/* ORDER: gr_train_on */
static const char *const train_on_names[] = {"all", "completion", "assistant", "last"};

const char *gr_train_on_name(gr_train_on which) {
    return train_on_names[which];
}

gr_train_on gr_options_train_on(const graft_options *o) {
    if (o->mask_prompt) return GR_TRAIN_COMPLETION;
    for (size_t i = 0; o->train_on && i < sizeof train_on_names / sizeof *train_on_names; i++)
        if (strcmp(o->train_on, train_on_names[i]) == 0) return (gr_train_on)i;
    return GR_TRAIN_ALL;
}

gr_preference gr_options_preference(const graft_options *o) {
    const gr_loss_row *row = gr_loss_find(o->loss);
    bool types = row && row->types;
    return (gr_preference){.loss = row && row->value ? row : NULL,
                           .dpo = types ? gr_dpo_loss_find(o->loss_type ? o->loss_type : "sigmoid") : NULL,
                           .beta = o->beta,
                           .smoothing = o->label_smoothing};
}

gr_rows_config gr_options_rows(const graft_options *o, int32_t vocab_size) {
    gr_overflow overflow = GR_OVERFLOW_REFUSE;
    const gr_loss_row *loss = gr_loss_find(o->loss);
    if (o->overflow && strcmp(o->overflow, "truncate") == 0) overflow = GR_OVERFLOW_TRUNCATE;
    if (o->overflow && strcmp(o->overflow, "drop") == 0) overflow = GR_OVERFLOW_DROP;
    return (gr_rows_config){.train_on = gr_options_train_on(o),
                            .overflow = overflow,
                            .max_seq_length = o->max_seq_length,
                            .vocab_size = vocab_size,
                            .text_feature = o->text_feature,
                            .prompt_feature = o->prompt_feature,
                            .completion_feature = o->completion_feature,
                            .chat_feature = o->chat_feature,
                            .tools_feature = o->tools_feature,
                            .pairs = loss && loss->value,
                            .whole_chosen = loss && loss->whole_chosen,
                            .mlx_masks = loss && loss->mlx_lm,
                            .reading = gr_options_reading(o)};
}

gr_reading gr_options_reading(const graft_options *o) {
    return (gr_reading){o->no_mmap ? GR_READ_IN_MEMORY : GR_READ_MAPPED, o->files, o->file_count};
}

const char *gr_options_adapter_path(const graft_options *o) {
    return o->adapter_path && o->adapter_path[0] ? o->adapter_path : "adapters";
}
