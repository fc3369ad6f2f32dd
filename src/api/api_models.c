#include "adapters/adapter.h"
#include "api/api.h"
#include "base/hooks.h"
#include "base/os.h"
#include "convert/convert.h"
#include "convert/convert_events.h"
#include "fuse/fuse.h"
#include "hub/hub_fetch.h"
#include "model/locate.h"
#include "report/info.h"

/* One string of all notes, a line each. */
static graft_status hand_over(graft_convert_result *out, const gr_convert_result *r, graft_error *err) {
    gr_buf notes = {0};
    for (size_t i = 0; i < r->note_count; i++) gr_buf_printf(&notes, "%s\n", r->notes[i]);
    *out = (graft_convert_result){.bits_per_weight = r->bits_per_weight,
                                  .tensors = (int64_t)r->tensors,
                                  .bytes = r->bytes,
                                  .notes = gr_buf_take(&notes)};
    return out->notes ? GRAFT_OK : gr_no_memory(err, 0);
}

graft_status graft_convert(const graft_options *o, const graft_hooks *hooks, graft_convert_result *result,
                           graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *path;
    bool gguf;
    gr_convert_result r = {0};
    memset(result, 0, sizeof *result);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_CONVERT, err));
    GR_TRY(gr_model_locate_as(&path, &gguf, o->model, gr_options_reading(o), err));
    gr_convert_options options = {.model = path,
                                  .out = o->mlx_path ? o->mlx_path : "mlx_model",
                                  .quantize = o->quantize,
                                  .q_bits = (int)o->q_bits,
                                  .q_group_size = (int)o->q_group_size,
                                  .q_mode = o->q_mode,
                                  .quant_predicate =
                                      o->quant_predicate && o->quant_predicate[0] ? o->quant_predicate : NULL,
                                  .q_embeddings = o->q_embeddings,
                                  .dequantize = o->dequantize,
                                  .dtype = o->dtype,
                                  .reading = gr_options_reading(o),
                                  .threads = (int)o->threads,
                                  .progress = gr_convert_event,
                                  .context = (void *)(uintptr_t)hooks};
    /* not asked for: 4 and 64, and codes that are there keep theirs */
    if (o->q_bits == 4 && !gr_options_given(o, "q-bits")) options.q_bits = 0;
    if (o->q_group_size == 64 && !gr_options_given(o, "q-group-size")) options.q_group_size = 0;
    graft_status st = gr_convert(&options, &r, err);
    if (st == GRAFT_OK) st = hand_over(result, &r, err);
    gr_convert_result_free(&r);
    free(path);
    return st;
}

void graft_convert_result_free(graft_convert_result *result) {
    if (!result) return;
    free(result->notes);
    memset(result, 0, sizeof *result);
}

graft_status graft_fuse(const graft_options *o, const graft_hooks *hooks, graft_fuse_result *result,
                        graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *path, *dir = NULL;
    bool gguf;
    memset(result, 0, sizeof *result);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_FUSE, err));
    GR_TRY(gr_api_locate(&path, &gguf, o, true, hooks, err));
    graft_status st = gguf ? gr_api_use_kept(&dir, path, o, hooks, err) : GRAFT_OK;
    if (st == GRAFT_OK) st = gr_fuse(gguf ? dir : path, gguf ? path : NULL, o, hooks, result, err);
    free(dir);
    free(path);
    return st;
}

static gr_adapter_merging merging_of(const char *name) {
    if (!name || strcmp(name, "cat") == 0) return GR_MERGE_CAT;
    return strcmp(name, "linear") == 0 ? GR_MERGE_LINEAR : GR_MERGE_SVD;
}

graft_status graft_export(const graft_options *o, const graft_hooks *hooks, graft_export_result *result,
                          graft_error *err) {
    GR_API_OWN_ERROR(err);
    gr_adapter_exported done;
    (void)hooks;
    memset(result, 0, sizeof *result);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_EXPORT, err));
    const gr_adapter_export wish = {.path = gr_options_adapter_path(o),
                                    .to = o->to,
                                    .out = o->out,
                                    .model = o->model,
                                    .merging = merging_of(o->merge),
                                    .merge_rank = o->merge_rank,
                                    .allow_other_base = o->allow_other_base,
                                    .threads = o->threads};
    GR_TRY(gr_adapter_export_run(&done, &wish, err));
    *result = (graft_export_result){.base = done.base,
                                    .notes = done.notes,
                                    .modules = done.modules,
                                    .rank = done.rank,
                                    .parameters = done.parameters};
    _Static_assert(sizeof done.files == sizeof result->files, "a format more needs a place in graft.h");
    memcpy(result->files, done.files, sizeof done.files);
    memcpy(result->digest, done.digest, sizeof done.digest);
    return GRAFT_OK;
}

void graft_export_result_free(graft_export_result *result) {
    if (!result) return;
    free(result->base);
    free(result->notes);
    memset(result, 0, sizeof *result);
}

const char *graft_adapter_program(const char *file_name) {
    return gr_adapter_program(file_name);
}

graft_status graft_info(const char *path, char **json, graft_error *err) {
    GR_API_OWN_ERROR(err);
    gr_error_clear(err);
    *json = NULL;
    if (!path) return gr_fail(err, GRAFT_USAGE, "no path given");
    if (gr_path_exists(path)) return gr_info_json(json, path, err);
    char *found;
    bool gguf;
    GR_TRY(gr_model_locate(&found, &gguf, path,
                           err)); /* a name in the cache, or the error that says how to get it */
    graft_status st = gr_info_json(json, found, err);
    free(found);
    return st;
}

static void on_download(void *context, uint64_t done, uint64_t total) {
    const graft_hooks *hooks = context;
    graft_event event = {.kind = GRAFT_EVENT_PROGRESS,
                         .phase = "download, MB",
                         .done = (int64_t)(done / 1000000),
                         .total = (int64_t)((total + 999999) / 1000000)};
    gr_event(hooks, &event);
}

static void on_download_note(void *context, const char *text) {
    const graft_hooks *hooks = context;
    graft_event event = {.kind = GRAFT_EVENT_NOTE, .text = text};
    gr_event(hooks, &event);
}

graft_status graft_download(const graft_options *o, const graft_hooks *hooks, graft_download_result *result,
                            graft_error *err) {
    GR_API_OWN_ERROR(err);
    gr_hub_got got;
    memset(result, 0, sizeof *result);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_DOWNLOAD, err));
    if (!o->model || !*o->model) {
        gr_fail(err, GRAFT_USAGE, "nothing to download");
        return gr_expected(err, "graft download owner/name");
    }
    void *context = (void *)(uintptr_t)hooks;
    gr_hub_wish wish = {.name = o->model,
                        .include = o->include && *o->include ? o->include : NULL,
                        .limits = {5, 1, 60, gr_stop_of(hooks), on_download_note, context},
                        .progress = on_download,
                        .context = context};
    graft_status st = gr_hub_fetch(&wish, &got, err);
    result->path = got.path;
    memcpy(result->commit, got.commit, sizeof got.commit);
    result->files = got.files, result->bytes = got.bytes, result->fetched = got.fetched;
    return st;
}

void graft_download_result_free(graft_download_result *result) {
    if (!result) return;
    free(result->path);
    memset(result, 0, sizeof *result);
}
