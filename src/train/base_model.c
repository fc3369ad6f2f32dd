#include "train/base_model.h"
#include "base/os.h"
#include "data/split_file.h"
#include "files/gguf.h"
#include "files/safetensors.h"
#include "model/config.h"
#include "train/trainer.h"
#include <errno.h>
#include <stdio.h>

/* How the weights lie in their files. */
typedef struct stored {
    bool weights, quantized;
} stored;

static bool is_plain(gr_gguf_type type) {
    return type == GR_GGUF_F32 || type == GR_GGUF_F16 || type == GR_GGUF_BF16;
}

static graft_status look_at_gguf(stored *s, const char *path, gr_reading how, graft_error *err) {
    gr_gguf *file;
    GR_TRY(gr_gguf_open_as(&file, path, how, err));
    s->weights = true;
    for (size_t i = 0; i < gr_gguf_count(file); i++) s->quantized |= !is_plain(gr_gguf_at(file, i)->type);
    gr_gguf_close(file);
    return GRAFT_OK;
}

/* The tensors' names decide where there are any: some configs are silent. */
static graft_status look_at_dir(stored *s, const char *dir, gr_reading how, graft_error *err) {
    gr_model_config config;
    gr_safetensors *file = NULL;
    GR_TRY(gr_config_open_as(&config, dir, how, err));
    s->quantized = config.quantization != NULL;
    gr_config_free(&config);
    graft_status st = gr_safetensors_open_as(&file, dir, how, err);
    if (st == GRAFT_NOT_FOUND) {
        gr_error_clear(err);
        return GRAFT_OK;
    }
    GR_TRY(st);
    s->weights = true;
    s->quantized = false;
    for (size_t i = 0; i < gr_safetensors_count(file); i++)
        s->quantized |= gr_ends_with(gr_safetensors_at(file, i)->name, ".scales");
    gr_safetensors_close(file);
    return GRAFT_OK;
}

static graft_status needs_16_bits(const char *path, const graft_options *o, graft_error *err) {
    bool full = gr_options_full(o);
    const char *model = o->model ? o->model : path, *slash = strrchr(model, '/');
    const char *name = slash && slash[1] ? slash + 1 : model;
    int length = (int)strlen(name);
    if (gr_ends_with(name, ".gguf")) length -= 5;
    while (length > 0 && name[length - 1] == '/') length--;
    gr_fail(err, GRAFT_USAGE, "%s trains on 16-bit weights, and this model is quantized",
            full ? "fine-tune-type full" : "the preset full");
    gr_where(err, "%s", model);
    return gr_hint(err, "graft convert --model %s -d --mlx-path %.*s-16bit", model, length, name);
}

/* A wrong name is told before minutes of conversion and tokenizing. */
static graft_status check_selection(const char *dir, const graft_options *o, graft_error *err) {
    gr_model_config config;
    gr_tuning *tuning = NULL;
    if (o->resume_adapter_file) return GRAFT_OK;
    GR_TRY(gr_config_open_as(&config, dir, gr_options_reading(o), err));
    gr_tuning_request request = gr_options_tuning(o);
    graft_status st = gr_tuning_select(&tuning, &config, &request, err);
    gr_tuning_free(tuning);
    gr_config_free(&config);
    return st;
}

static graft_status must_exist(const char *path, const char *hint, gr_reading how, graft_error *err) {
    if (gr_path_exists_as(path, how)) return GRAFT_OK;
    gr_fail_errno(err, ENOENT, "cannot open", path);
    return gr_hint(err, "%s", hint);
}

static graft_status check_data(const graft_options *o, graft_error *err) {
    char *rows = NULL, *valid = NULL;
    graft_status st = gr_data_place(&rows, o->data, "train", gr_options_reading(o), err);
    if (st == GRAFT_OK) st = must_exist(rows, gr_data_wanted, gr_options_reading(o), err);
    if (st == GRAFT_OK) st = gr_data_place(&valid, o->data, "valid", gr_options_reading(o), err);
    if (st == GRAFT_OK && o->keep_best && !gr_options_splits(o) &&
        (!gr_path_is_dir_as(o->data, gr_options_reading(o)) ||
         !gr_path_exists_as(valid, gr_options_reading(o)))) {
        gr_fail(err, GRAFT_USAGE, "--keep-best needs validation");
        st = gr_hint(
            err, "put held-out rows into a valid.jsonl beside those of training, or say --valid-split 0.05");
    }
    free(rows);
    free(valid);
    return st;
}

graft_status gr_base_check_inputs(const graft_options *o, bool run, graft_error *err) {
    if (!o->data && run) {
        gr_fail(err, GRAFT_USAGE, "--data is missing");
        return gr_hint(err, "%s", gr_data_wanted);
    }
    if (o->data) GR_TRY(check_data(o, err));
    return o->resume_adapter_file ? must_exist(o->resume_adapter_file,
                                               "--resume-adapter-file takes an adapter's file or directory",
                                               gr_options_reading(o), err)
                                  : GRAFT_OK;
}

/* Would the run fit its --budget on the 4 bits that the conversion is for? Planned from config.json. The file
 * of an adapter belongs to weights that are not there yet, so such a run is asked later. */
static graft_status check_budget(const char *path, const gr_convert_options *wish, const graft_options *o,
                                 graft_error *err) {
    char *kept;
    gr_trainer planned;
    if (!o->budget || o->resume_adapter_file) return GRAFT_OK;
    GR_TRY(gr_convert_find_kept(&kept, wish, err));
    bool converted = kept != NULL;
    free(kept);
    if (converted) return GRAFT_OK;
    GR_TRY(gr_trainer_open(&planned, path, o, NULL, GR_TRAINER_PLAN, err));
    gr_trainer_close(&planned);
    return GRAFT_OK;
}

graft_status gr_base_prepare(char **dir, const char *path, bool gguf, const graft_options *o, graft_verb verb,
                             gr_convert_progress *progress, gr_convert_say *say, void *context,
                             graft_error *err) {
    gr_base_wish wish = gr_options_base(o);
    stored s = {0};
    *dir = NULL;
    if (wish != GR_BASE_ANY)
        GR_TRY(gguf ? look_at_gguf(&s, path, gr_options_reading(o), err)
                    : look_at_dir(&s, path, gr_options_reading(o), err));
    if (wish == GR_BASE_16_BIT && s.quantized) return needs_16_bits(path, o, err);
    if (!gguf) GR_TRY(check_selection(path, o, err));
    bool quantize = wish == GR_BASE_4_BIT && s.weights && !s.quantized;
    if (!gguf && !quantize) return (*dir = gr_strdup(path)) ? GRAFT_OK : gr_no_memory(err, strlen(path));
    gr_convert_options asked = {.model = path,
                                .reading = gr_options_reading(o),
                                .threads = o->threads,
                                .progress = progress,
                                .context = context};
    if (quantize) asked.quantize = true, asked.q_bits = 4, asked.q_group_size = 64;
    if (verb != GRAFT_VERB_BENCH) GR_TRY(gr_base_check_inputs(o, verb == GRAFT_VERB_TRAIN, err));
    if (!gguf && verb == GRAFT_VERB_PLAN) /* which waits for no conversion */
        return gr_convert_kept_or_own(dir, &asked, err);
    if (!gguf && verb == GRAFT_VERB_TRAIN) GR_TRY(check_budget(path, &asked, o, err));
    GR_TRY(gr_convert_kept(dir, &asked, say, err));
    graft_status st = gguf ? check_selection(*dir, o, err) : GRAFT_OK;
    if (st != GRAFT_OK) {
        free(*dir);
        *dir = NULL;
        return st;
    }
    if (!quantize) return GRAFT_OK;
    gr_buf text = {0};
    gr_buf_printf(
        &text,
        "preset %s: training on 4-bit weights, groups of 64, kept in %s; use its adapter with --model %s",
        o->preset, *dir, *dir);
    if (text.data) say(context, text.data);
    gr_buf_free(&text);
    return GRAFT_OK;
}
