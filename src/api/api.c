#include "api/api.h"
#include "convert/convert.h"
#include "convert/convert_events.h"
#include "model/locate.h"
#include "train/base_model.h"
#include <stdlib.h>

const char *graft_version(void) {
    return GRAFT_VERSION;
}

static bool reads_files(graft_verb verb) {
#define BIT(word, bit, name, files) | (files ? GRAFT_VERB_##word : 0)
    return verb & (0 GRAFT_VERB_MAP(BIT));
#undef BIT
}

graft_status gr_api_begin(const graft_options *o, graft_verb verb, graft_error *err) {
    gr_error_clear(err);
    if (o->file_count && !reads_files(verb)) {
        gr_fail(err, GRAFT_UNSUPPORTED, "this call does not look at files that the host holds in memory");
#define NAME(word, bit, name, files) files ? ", " name : "",
        const char *const names[] = {GRAFT_VERB_MAP(NAME)};
#undef NAME
        gr_buf readers = {0};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) gr_buf_puts(&readers, names[i]);
        gr_hint(err, "options.files is for %s", readers.data ? readers.data + 2 : "other calls");
        gr_buf_free(&readers);
        return err->status;
    }
    return gr_options_check(o, verb, err);
}

static gr_convert_options as_it_is(const char *source, const graft_options *o, const graft_hooks *hooks) {
    return (gr_convert_options){.model = source,
                                .reading = gr_options_reading(o),
                                .threads = o->threads,
                                .progress = gr_convert_event,
                                .context = (void *)(uintptr_t)hooks};
}

graft_status gr_api_use_kept(char **dir, const char *source, const graft_options *o, const graft_hooks *hooks,
                             graft_error *err) {
    gr_convert_options wish = as_it_is(source, o, hooks);
    return gr_convert_kept(dir, &wish, gr_convert_note, err);
}

graft_status gr_api_locate(char **path, bool *gguf, const graft_options *o, bool weights,
                           const graft_hooks *hooks, graft_error *err) {
    char *dir;
    GR_TRY(gr_model_locate_as(path, gguf, o->model, gr_options_reading(o), err));
    if (*gguf || !gr_convert_is_awq_gptq(*path, gr_options_reading(o))) return GRAFT_OK;
    gr_convert_options wish = as_it_is(*path, o, hooks);
    graft_status st =
        weights ? gr_api_use_kept(&dir, *path, o, hooks, err) : gr_convert_kept_or_own(&dir, &wish, err);
    free(*path);
    *path = dir;
    return st;
}

graft_status gr_api_model_dir(char **dir, const graft_options *o, bool weights, const graft_hooks *hooks,
                              graft_error *err) {
    char *path = NULL;
    bool gguf = false;
    *dir = NULL;
    GR_TRY(gr_api_locate(&path, &gguf, o, weights, hooks, err));
    if (!gguf) {
        *dir = path;
        return GRAFT_OK;
    }
    graft_status st = gr_api_use_kept(dir, path, o, hooks, err);
    free(path);
    return st;
}

graft_status gr_api_base_dir(char **dir, const graft_options *o, graft_verb verb, const graft_hooks *hooks,
                             graft_error *err) {
    char *path = NULL;
    bool gguf = false;
    *dir = NULL;
    GR_TRY(gr_api_locate(&path, &gguf, o, verb != GRAFT_VERB_PLAN, hooks, err));
    graft_status st = gr_base_prepare(dir, path, gguf, o, verb, gr_convert_event, gr_convert_note,
                                      (void *)(uintptr_t)hooks, err);
    free(path);
    return st;
}

graft_status gr_api_dir_or_shape(char **dir, const graft_options *o, graft_verb verb,
                                 const graft_hooks *hooks, graft_error *err) {
    *dir = NULL;
    if (!o->model && o->shape) {
        if (!o->data) return GRAFT_OK;
        gr_fail(err, GRAFT_USAGE, "a shape has no tokenizer to read data with");
        return gr_hint(err, "give --model with --data, or --shape without");
    }
    return gr_api_base_dir(dir, o, verb, hooks, err);
}
