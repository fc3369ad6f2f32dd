/* An mlx-lm LoRA configuration (mlx_lm/lora.py of 0.32.2) becomes options: what the file says, and mlx-lm's
 * defaults for what it leaves out. Flags given before or after win. */
#include "options/mlx_config.h"
#include "base/os.h"
#include "options/yaml.h"

/* mlx-lm's values where they differ from the table's, or where a file must bring the option back to it. */
static const char *const mlx_defaults[][2] = {
    {"optimizer", "adam"},
    {"seed", "0"},
    {"num-layers", "16"},
    {"batch-size", "4"},
    {"iters", "1000"},
    {"val-batches", "25"},
    {"learning-rate", "1e-5"},
    {"steps-per-report", "10"},
    {"steps-per-eval", "200"},
    {"save-every", "100"},
    {"max-seq-length", "2048"},
    {"grad-accumulation-steps", "1"},
    {"lora-rank", "8"},
    {"lora-scale", "20"},
    {"lora-dropout", "0"},
    {"lora-targets", "all-linear"},
    {"lr-schedule", "constant"},
    {"warmup", "0"},
    {"grad-clip", "0"},
    {"fine-tune-type", "lora"},
    {"adapter-path", "adapters"},
    {"mask-prompt", "false"},
};

/* Keys that say how mlx-lm is run, not what is trained. */
static const char *const no_meaning[] = {
    "train", "test", "test_batches", "clear_cache_threshold", "project_name", "trust_remote_code", "config"};
/* Keys that ask for something nobody here does. */
static const char *const cannot[][2] = {
    {"wandb",
     "take it out; metrics.jsonl in the adapter directory holds every number, and report_to: tensorboard "
     "writes event files"},
    {"report_to", "tensorboard is written; metrics.jsonl in the adapter directory holds every number anyway"},
    {"hf_dataset", "download the data as files and point data at them; prompt_feature, completion_feature, "
                   "chat_feature and "
                   "text_feature are keys of their own here, and valid_split does what slices of train do"},
};

/* What mlx-lm also does with a configuration: to measure instead of training, or after it. */
static const struct {
    const char *key;
    bool asks;
    const char *hint;
} other_work[] = {
    {"train", false, "set it to true or take it out; graft eval measures without training"},
    {"test", true, "take it out and run graft eval on the adapter after training"},
};
/* What keys of older versions are called now. */
static const char *const renamed[][2] = {{"lora_layers", "num_layers"}};

/* ---- the document */

static graft_status unknown_top(const gr_config *l, const char *key, graft_error *err) {
    static const char *const special[] = {"lora_parameters", "optimizer_config", "lr_schedule"};
    char names[GR_OPTION_ROWS][48];
    const char *all[GR_OPTION_ROWS + COUNT(special)];
    size_t n = 0;
    for (size_t i = 0; i < COUNT(renamed); i++)
        if (strcmp(renamed[i][0], key) == 0) {
            gr_config_unknown(l, "", key, NULL, 0, err);
            return gr_hint(err, "did you mean \"%s\"?", renamed[i][1]);
        }
    for (size_t i = 0; i < graft_option_count(); i++) {
        if (!(graft_option_at(i)->verbs & GRAFT_VERB_TRAIN)) continue;
        snprintf(names[n], sizeof names[n], "%s", graft_option_at(i)->name);
        for (char *p = names[n]; *p; p++)
            if (*p == '-') *p = '_'; /* as keys are written */
        all[n] = names[n];
        n++;
    }
    for (size_t i = 0; i < COUNT(special); i++) all[n++] = special[i];
    return gr_config_unknown(l, "", key, all, n, err);
}

static graft_status refuse_other_work(const gr_config *l, const char *key, const json_t *value,
                                      graft_error *err) {
    for (size_t i = 0; json_is_boolean(value) && i < COUNT(other_work); i++) {
        if (strcmp(other_work[i].key, key) != 0 || json_is_true(value) != other_work[i].asks) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "\"%s: %s\" asks for what graft train does not do", key,
                other_work[i].asks ? "true" : "false");
        gr_where(err, "%s", l->path);
        return gr_hint(err, "%s", other_work[i].hint);
    }
    return GRAFT_OK;
}

static graft_status load_key(gr_config *l, const char *key, const json_t *value, graft_error *err) {
    GR_TRY(refuse_other_work(l, key, value, err));
    for (size_t i = 0; i < COUNT(no_meaning); i++) {
        if (strcmp(no_meaning[i], key) != 0) continue;
        gr_buf_printf(&l->note, "%s%s", l->note.len ? ", " : "", key);
        return GRAFT_OK;
    }
    if (json_is_null(value)) value = NULL;
    for (size_t i = 0; i < COUNT(cannot); i++) {
        if (strcmp(cannot[i][0], key) != 0) continue;
        if (!value) return GRAFT_OK;
        if (json_is_string(value) && strcmp(json_string_value(value), "tensorboard") == 0) break;
        gr_fail(err, GRAFT_UNSUPPORTED, "key \"%s\" asks for what graft does not do", key);
        gr_where(err, "%s", l->path);
        return gr_hint(err, "%s", cannot[i][1]);
    }
    if (strcmp(key, "optimizer_config") == 0 || strcmp(key, "optimizer") == 0)
        return GRAFT_OK; /* see load_all */
    if (strcmp(key, "lora_parameters") == 0) return value ? gr_config_lora(l, value, err) : GRAFT_OK;
    if (strcmp(key, "lr_schedule") == 0 && json_is_object(value)) return GRAFT_OK; /* after learning_rate */
    /* mlx-lm's is a switch; not to recompute is its default, what saves memory without a trace is ours */
    if (strcmp(key, "grad_checkpoint") == 0 && json_is_boolean(value))
        return gr_config_store(l, gr_option_index("grad-checkpoint"), json_is_true(value) ? "layer" : "none",
                               key, err);
    if (graft_option_find(GRAFT_VERB_TRAIN, key) && key[1])
        return gr_config_store_json(l, key, value, key, err);
    return unknown_top(l, key, err);
}

/* Two keys of a file that say the same in other words. */
static graft_status refuse_twins(const gr_config *l, const json_t *root, graft_error *err) {
    const char *key, *other;
    json_t *value, *there;
    json_object_foreach((json_t *)root, key, value) {
        int index = gr_option_index(key), partner = index < 0 ? -1 : gr_option_partner(index);
        if (partner < 0 || partner < index) continue;
        json_object_foreach((json_t *)root, other, there) {
            if (gr_option_index(other) != partner) continue;
            gr_fail(err, GRAFT_USAGE, "%s and %s say the same thing twice", key, other);
            gr_where(err, "%s", l->path);
            return gr_hint(err, "keep one of them");
        }
    }
    return GRAFT_OK;
}

/* A second file must not inherit the first one's schedule. */
static void forget_schedule(graft_options *o) {
    free(o->mlx_schedule);
    o->mlx_schedule = NULL;
    o->mlx_warmup = 0;
    o->mlx_warmup_init = 0;
    for (size_t i = 0; i < COUNT(o->mlx_schedule_args); i++) o->mlx_schedule_args[i] = NAN;
}

static graft_status load_all(gr_config *l, const json_t *root, graft_error *err) {
    const char *key;
    json_t *value;
    GR_TRY(refuse_twins(l, root, err));
    for (size_t i = 0; i < COUNT(mlx_defaults); i++)
        GR_TRY(gr_config_store(l, gr_option_index(mlx_defaults[i][0]), mlx_defaults[i][1], mlx_defaults[i][0],
                               err));
    memset(l->o->in_file, 0, sizeof l->o->in_file); /* defaults are nobody's wish */
    forget_schedule(l->o);
    /* a preset of the file: its other keys beat it */
    GR_TRY(gr_config_store_json(l, "preset", json_object_get(root, "preset"), "preset", err));
    GR_TRY(gr_preset_apply(l->o, err));
    json_object_foreach((json_t *)root, key, value) GR_TRY(load_key(l, key, value, err));
    const json_t *schedule = json_object_get(root, "lr_schedule");
    if (json_is_object(schedule)) GR_TRY(gr_config_schedule(l, schedule, err));
    const json_t *optimizer = json_object_get(root, "optimizer");
    if (optimizer) GR_TRY(gr_config_optimizer_name(l, optimizer, err));
    GR_TRY(gr_config_optimizers(l, json_object_get(root, "optimizer_config"), err));
    /* one of the command line beats the file */
    return gr_options_given(l->o, "preset") ? gr_preset_apply(l->o, err) : GRAFT_OK;
}

/* What a file says of adapters, where it asks for none. */
static void note_adapter_keys(gr_config *l, const json_t *root) {
    const char *key;
    json_t *value;
    if (!gr_options_full(l->o)) return;
    json_object_foreach((json_t *)root, key, value) {
        int index = gr_option_index(key);
        bool of_adapters = strcmp(key, "lora_parameters") == 0 ||
                           (index >= 0 && gr_option_row_at((size_t)index)->of_adapters);
        if (of_adapters && !json_is_null(value))
            gr_buf_printf(&l->note, "%s%s (fine_tune_type full trains no adapter)", l->note.len ? ", " : "",
                          key);
    }
}

static graft_status take_note(gr_config *l, char **note, graft_error *err) {
    if (!l->note.len) return GRAFT_OK;
    gr_buf text = {0};
    gr_buf_printf(&text, "%s: keys without meaning here: %s", l->path, l->note.data);
    if (note)
        *note = gr_buf_take(&text);
    else
        gr_buf_free(&text);
    return note && !*note ? gr_no_memory(err, l->note.len) : GRAFT_OK;
}

static graft_status load_text(graft_options *o, const char *path, const char *text, size_t len, char **note,
                              graft_error *err) {
    gr_config l = {.o = o, .path = path};
    json_t *root;
    GR_TRY(gr_yaml_parse(&root, text, len, path, err));
    if (json_is_null(root)) root = json_object(); /* an empty file leaves everything to the defaults */
    if (!root) return gr_no_memory(err, 64);
    graft_status st;
    if (json_is_object(root)) {
        st = load_all(&l, root, err);
    } else {
        gr_fail(err, GRAFT_USAGE, "a configuration is a list of keys and values");
        st = gr_where(err, "%s", path);
    }
    if (st == GRAFT_OK) note_adapter_keys(&l, root);
    if (st == GRAFT_OK) st = take_note(&l, note, err);
    gr_buf_free(&l.note);
    json_decref(root);
    return st;
}

graft_status graft_options_load_yaml(graft_options *o, const char *path, char **note, graft_error *err) {
    graft_error local = {0};
    if (!err) err = &local;
    if (note) *note = NULL;
    char *text, *copy = gr_strdup(path);
    size_t len;
    if (!copy) return gr_no_memory(err, strlen(path));
    graft_status st = gr_file_read_as(&text, &len, path, GR_YAML_LIMIT, gr_options_reading(o), err);
    if (st == GRAFT_OK) {
        st = load_text(o, path, text, len, note, err);
        free(text);
    }
    if (st != GRAFT_OK) {
        free(copy);
        return st;
    }
    free(o->config_file);
    o->config_file = copy;
    return GRAFT_OK;
}
