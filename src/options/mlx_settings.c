/* The nested parts of an mlx-lm configuration: lora_parameters, optimizer_config, lr_schedule. */
#include "files/json_write.h"
#include "optim/optim_table.h"
#include "optim/schedule_table.h"
#include "options/mlx_config.h"

static bool given(const gr_config *l, int index) {
    int partner = gr_option_partner(index);
    return gr_options_given(l->o, graft_option_at((size_t)index)->name) ||
           (partner >= 0 && gr_options_given(l->o, graft_option_at((size_t)partner)->name));
}

static graft_status wrong_type(const gr_config *l, const char *key, const char *expected, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "key \"%s\" has the wrong type", key);
    gr_where(err, "%s", l->path);
    return gr_expected(err, "%s", expected);
}

graft_status gr_config_unknown(const gr_config *l, const char *in, const char *key, const char *const *names,
                               size_t count, graft_error *err) {
    const char *near = gr_nearest_name(key, names, count);
    gr_fail(err, GRAFT_USAGE, "unknown key \"%s%s%s\"", in, in[0] ? "." : "", key);
    gr_where(err, "%s", l->path);
    if (near) return gr_hint(err, "did you mean \"%s\"?", near);
    return err->status;
}

/* A scalar as the text of a flag; NULL for containers and when out of memory. Owned by caller (free). */
static char *scalar_text(const json_t *value) {
    if (json_is_string(value)) return gr_strdup(json_string_value(value));
    if (json_is_array(value) || json_is_object(value)) return NULL;
    return gr_json_dump(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
}

/* Stores text for an option unless a flag stands; takes back what a default said in other words. */
graft_status gr_config_store(gr_config *l, int index, const char *text, const char *called,
                             graft_error *err) {
    if (given(l, index)) return GRAFT_OK;
    const gr_option_row *row = gr_option_row_at((size_t)index);
    graft_status st = gr_option_store(l->o, row, text, called, err);
    if (st != GRAFT_OK) return gr_where(err, "%s", l->path);
    int partner = gr_option_partner(index);
    if (partner >= 0 && !gr_option_reset(l->o, gr_option_row_at((size_t)partner)))
        return gr_no_memory(err, 16);
    l->o->in_file[index / 64] |= (uint64_t)1 << (index % 64);
    return GRAFT_OK;
}

/* Lists and mappings, as PEFT's configurations have them, as the text of a flag: "a,b", or JSON. */
static bool takes_containers(const char *option, const json_t *value) {
    static const char *const lists[] = {"lora-targets", "exclude-modules", "layers-to-transform",
                                        "modules-to-save"};
    static const char *const mappings[] = {"rank-pattern", "alpha-pattern", "template-kwargs"};
    for (size_t i = 0; json_is_array(value) && i < COUNT(lists); i++)
        if (strcmp(lists[i], option) == 0) return true;
    for (size_t i = 0; json_is_object(value) && i < COUNT(mappings); i++)
        if (strcmp(mappings[i], option) == 0) return true;
    return false;
}

static char *container_text(const json_t *value) {
    gr_buf list = {0};
    size_t i;
    json_t *item;
    if (json_is_object(value)) return gr_json_dump(value, JSON_REAL_PRECISION(17));
    json_array_foreach((json_t *)value, i, item) {
        char *text = scalar_text(item);
        if (!text) list.failed = true;
        gr_buf_printf(&list, "%s%s", i ? "," : "", text ? text : "");
        free(text);
    }
    return gr_buf_take(&list);
}

/* The row of a key, written with either dash. */
static const char *option_name(const char *key) {
    int index = gr_option_index(key);
    return index < 0 ? key : graft_option_at((size_t)index)->name;
}

graft_status gr_config_store_json(gr_config *l, const char *option, const json_t *value, const char *called,
                                  graft_error *err) {
    if (!value || json_is_null(value)) return GRAFT_OK; /* mlx-lm: as if it were left out */
    bool container = takes_containers(option_name(option), value);
    char *text = container ? container_text(value) : scalar_text(value);
    if (!text) return wrong_type(l, called, "a single value", err);
    graft_status st = gr_config_store(l, gr_option_index(option), text, called, err);
    free(text);
    return st;
}

static graft_status number(const gr_config *l, const json_t *object, const char *key, double *out,
                           graft_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return GRAFT_OK;
    if (!json_is_number(value)) return wrong_type(l, key, "a number", err);
    *out = json_number_value(value);
    return GRAFT_OK;
}

static graft_status boolean(const gr_config *l, const json_t *object, const char *key, bool *out,
                            graft_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return GRAFT_OK;
    if (!json_is_boolean(value)) return wrong_type(l, key, "true or false", err);
    *out = json_is_true(value);
    return GRAFT_OK;
}

static graft_status known_keys(const gr_config *l, const json_t *object, const char *in,
                               const char *const *names, size_t count, graft_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        size_t i = 0;
        while (i < count && strcmp(names[i], key) != 0) i++;
        if (i == count) return gr_config_unknown(l, in, key, names, count, err);
    }
    return GRAFT_OK;
}

/* ---- lora_parameters */

static graft_status load_targets(gr_config *l, const json_t *keys, graft_error *err) {
    if (!keys || json_is_null(keys)) return GRAFT_OK;
    if (!json_is_array(keys)) return wrong_type(l, "lora_parameters.keys", "a list of module names", err);
    gr_buf list = {0};
    graft_status st = GRAFT_OK;
    size_t i;
    json_t *key;
    json_array_foreach((json_t *)keys, i, key) {
        const char *name = json_string_value(key);
        if (!name || !name[0] || strchr(name, ','))
            st = wrong_type(l, "lora_parameters.keys", "module names", err);
        if (st != GRAFT_OK) break;
        gr_buf_printf(&list, "%s%s", i ? "," : "", name);
    }
    if (st == GRAFT_OK && list.failed) st = gr_no_memory(err, list.cap);
    if (st == GRAFT_OK && !list.len)
        st = wrong_type(l, "lora_parameters.keys", "at least one module name", err);
    if (st == GRAFT_OK)
        st = gr_config_store(l, gr_option_index("lora-targets"), list.data, "lora_parameters.keys", err);
    gr_buf_free(&list);
    return st;
}

graft_status gr_config_lora(gr_config *l, const json_t *object, graft_error *err) {
    static const char *const names[] = {"keys", "rank", "scale", "alpha", "dropout"};
    if (!json_is_object(object)) return wrong_type(l, "lora_parameters", "keys, rank, scale, dropout", err);
    GR_TRY(known_keys(l, object, "lora_parameters", names, COUNT(names), err));
    const json_t *scale = json_object_get(object, "scale"), *alpha = json_object_get(object, "alpha");
    if (scale && alpha) {
        gr_fail(err, GRAFT_USAGE, "scale and alpha say the same thing twice");
        gr_where(err, "%s: lora_parameters", l->path);
        return gr_hint(err, "scale is the factor itself, alpha is divided by the rank: keep one");
    }
    GR_TRY(
        gr_config_store_json(l, "lora-rank", json_object_get(object, "rank"), "lora_parameters.rank", err));
    GR_TRY(gr_config_store_json(l, "lora-scale", scale, "lora_parameters.scale", err));
    GR_TRY(gr_config_store_json(l, "lora-alpha", alpha, "lora_parameters.alpha", err));
    GR_TRY(gr_config_store_json(l, "lora-dropout", json_object_get(object, "dropout"),
                                "lora_parameters.dropout", err));
    return load_targets(l, json_object_get(object, "keys"), err);
}

/* ---- optimizer_config */

static graft_status load_betas(gr_config *l, const json_t *betas, graft_error *err) {
    if (!betas || json_is_null(betas)) return GRAFT_OK;
    const json_t *a = json_array_get(betas, 0), *b = json_array_get(betas, 1);
    if (json_array_size(betas) != 2 || !json_is_number(a) || !json_is_number(b))
        return wrong_type(l, "betas", "two numbers", err);
    l->o->beta1 = json_number_value(a);
    l->o->beta2 = json_number_value(b);
    bool good = l->o->beta1 >= 0 && l->o->beta1 < 1 && l->o->beta2 >= 0 && l->o->beta2 < 1;
    return good ? GRAFT_OK : wrong_type(l, "betas", "two numbers in [0, 1)", err);
}

static graft_status load_first_moment(gr_config *l, const json_t *object, graft_error *err) {
    GR_TRY(number(l, object, "beta_1", &l->o->beta1, err));
    if (isnan(l->o->beta1) || (l->o->beta1 >= 0 && l->o->beta1 < 1)) return GRAFT_OK;
    return wrong_type(l, "beta_1", "a number in [0, 1)", err);
}

/* adafactor's eps are two: of the squares, and of the parameter's scale. */
static graft_status load_epsilons(gr_config *l, const json_t *eps, graft_error *err) {
    graft_options *o = l->o;
    if (!eps || json_is_null(eps)) return GRAFT_OK;
    const json_t *a = json_array_get(eps, 0), *b = json_array_get(eps, 1);
    if (json_array_size(eps) != 2 || !json_is_number(a) || !json_is_number(b))
        return wrong_type(l, "eps", "two numbers", err);
    o->epsilon = json_number_value(a);
    o->scale_epsilon = json_number_value(b);
    return o->scale_epsilon >= 0 ? GRAFT_OK : wrong_type(l, "eps", "two numbers, at least 0", err);
}

static graft_status check_settings(const gr_config *l, graft_error *err) {
    const graft_options *o = l->o;
    const gr_optim_row *row = gr_optim_find(o->optimizer);
    if (!isnan(o->epsilon) && !(o->epsilon >= 0)) return wrong_type(l, "eps", "a number, at least 0", err);
    if (!isnan(o->momentum) && !(o->momentum >= 0))
        return wrong_type(l, "momentum", "a number, at least 0", err);
    if (row && row->most_momentum > 0 && o->momentum > row->most_momentum)
        return wrong_type(l, "momentum", "a number from 0 to 1", err);
    if (!isnan(o->clip_threshold) && !(o->clip_threshold > 0))
        return wrong_type(l, "clip_threshold", "a number above 0", err);
    if (!isnan(o->decay_rate) && !(o->decay_rate < 0))
        return wrong_type(l, "decay_rate", "a number below 0", err);
    if (o->ns_steps < 0 || o->ns_steps > 1000)
        return wrong_type(l, "ns_steps", "a whole number from 0 to 1000", err);
    return GRAFT_OK;
}

static graft_status load_steps(gr_config *l, const json_t *value, graft_error *err) {
    if (!value || json_is_null(value)) return GRAFT_OK;
    if (!json_is_integer(value)) return wrong_type(l, "ns_steps", "a whole number", err);
    l->o->ns_steps = json_integer_value(value);
    return GRAFT_OK;
}

static graft_status known_settings(const gr_config *l, const json_t *object, graft_error *err) {
    const gr_optim_row *row = gr_optim_find(l->o->optimizer);
    char in[64];
    size_t n = 0;
    if (!row) return GRAFT_OK; /* it is refused by name */
    while (row->keys[n]) n++;
    snprintf(in, sizeof in, "optimizer_config.%s", row->name);
    return known_keys(l, object, in, row->keys, n, err);
}

/* The settings of the optimizer in force; `object` may be NULL. */
static graft_status load_optimizer(gr_config *l, const json_t *object, graft_error *err) {
    graft_options *o = l->o;
    gr_options_optimizer_defaults(o);
    o->bias_correction = false;
    if (!object || json_is_null(object)) return GRAFT_OK;
    if (!json_is_object(object)) return wrong_type(l, "optimizer_config", "settings by optimizer", err);
    GR_TRY(known_settings(l, object, err));
    GR_TRY(load_betas(l, json_object_get(object, "betas"), err));
    GR_TRY(load_first_moment(l, object, err));
    if (gr_optim_takes(gr_optim_find(o->optimizer), "scale_parameter"))
        GR_TRY(load_epsilons(l, json_object_get(object, "eps"), err));
    else
        GR_TRY(number(l, object, "eps", &o->epsilon, err));
    GR_TRY(number(l, object, "momentum", &o->momentum, err));
    GR_TRY(number(l, object, "dampening", &o->dampening, err));
    GR_TRY(number(l, object, "clip_threshold", &o->clip_threshold, err));
    GR_TRY(number(l, object, "decay_rate", &o->decay_rate, err));
    GR_TRY(boolean(l, object, "nesterov", &o->nesterov, err));
    GR_TRY(boolean(l, object, "bias_correction", &o->bias_correction, err));
    GR_TRY(boolean(l, object, "scale_parameter", &o->scale_parameter, err));
    GR_TRY(boolean(l, object, "relative_step", &o->relative_step, err));
    GR_TRY(boolean(l, object, "warmup_init", &o->warmup_init, err));
    GR_TRY(load_steps(l, json_object_get(object, "ns_steps"), err));
    GR_TRY(gr_config_store_json(l, "weight-decay", json_object_get(object, "weight_decay"), "weight_decay",
                                err));
    return check_settings(l, err);
}

graft_status gr_config_optimizers(gr_config *l, const json_t *object, graft_error *err) {
#define NAME(word, name) name,
    static const char *const names[] = {GR_OPTIM_MAP(NAME)};
#undef NAME
    if (!object || json_is_null(object)) return load_optimizer(l, NULL, err);
    if (!json_is_object(object)) return wrong_type(l, "optimizer_config", "settings by optimizer", err);
    GR_TRY(known_keys(l, object, "optimizer_config", names, COUNT(names), err));
    return load_optimizer(l, json_object_get(object, l->o->optimizer), err);
}

/* mlx-lm takes the optimizer's name in any case. */
graft_status gr_config_optimizer_name(gr_config *l, const json_t *value, graft_error *err) {
    if (!json_is_string(value))
        return json_is_null(value) ? GRAFT_OK : wrong_type(l, "optimizer", "a name", err);
    char lower[32];
    snprintf(lower, sizeof lower, "%s", json_string_value(value));
    for (char *p = lower; *p; p++)
        if (*p >= 'A' && *p <= 'Z') *p = (char)(*p - 'A' + 'a');
    return gr_config_store(l, gr_option_index("optimizer"), lower, "optimizer", err);
}

/* ---- lr_schedule */

static graft_status load_arguments(gr_config *l, const json_t *arguments, graft_error *err) {
    size_t n = json_array_size(arguments), i;
    json_t *value;
    if (!json_is_array(arguments) || n < 1 || n > 4)
        return wrong_type(l, "lr_schedule.arguments", "a list of one to four numbers", err);
    json_array_foreach((json_t *)arguments, i, value) {
        if (!json_is_number(value)) return wrong_type(l, "lr_schedule.arguments", "numbers", err);
        l->o->mlx_schedule_args[i] = json_number_value(value);
    }
    char *peak = scalar_text(json_array_get(arguments, 0));
    if (!peak) return gr_no_memory(err, 32);
    /* the first argument is the rate: a flag beats it like every other value of the file */
    graft_status st =
        gr_config_store(l, gr_option_index("learning-rate"), peak, "lr_schedule.arguments[0]", err);
    free(peak);
    return st;
}

graft_status gr_config_schedule(gr_config *l, const json_t *object, graft_error *err) {
    static const char *const names[] = {"name", "arguments", "warmup", "warmup_init"};
    graft_options *o = l->o;
    GR_TRY(known_keys(l, object, "lr_schedule", names, COUNT(names), err));
    if (gr_options_given(o, "lr-schedule")) return GRAFT_OK;
    const char *name = json_string_value(json_object_get(object, "name"));
    if (!name) return wrong_type(l, "lr_schedule.name", "the name of a schedule", err);
    o->mlx_schedule = gr_strdup(name);
    if (!o->mlx_schedule) return gr_no_memory(err, strlen(name));
    GR_TRY(load_arguments(l, json_object_get(object, "arguments"), err));
    GR_TRY(number(l, object, "warmup_init", &o->mlx_warmup_init, err));
    const json_t *warmup = json_object_get(object, "warmup");
    GR_TRY(gr_config_store_json(l, "warmup", warmup, "lr_schedule.warmup", err));
    o->mlx_warmup = o->warmup;
    graft_status st = gr_schedule_check(o, err);
    return st == GRAFT_OK ? st : gr_where(err, "%s: lr_schedule", l->path);
}
