/* The front door: checks arguments, finds the model, calls the rooms. No arithmetic. */
#include "graft.h"
#include "adapters/adapter.h"
#include "base/os.h"
#include "convert/convert.h"
#include "convert/convert_events.h"
#include "fit/bench.h"
#include "fit/forecast.h"
#include "fuse/fuse.h"
#include "hub/hub_fetch.h"
#include "infer/bench_generate.h"
#include "infer/session.h"
#include "model/locate.h"
#include "report/info.h"
#include "train/base_model.h"
#include "train/options.h"
#include <stdio.h>

const char *graft_version(void) {
    return GRAFT_VERSION;
}

const char *const *graft_shapes(void) {
    return gr_shape_names();
}

/* A GGUF, or a directory of AWQ or GPTQ linears, is taken code for code into a kept MLX directory, once. */
static graft_status use_kept(char **dir, const char *source, const graft_options *o, const graft_hooks *hooks,
                             graft_error *err) {
    gr_convert_options wish = {.model = source,
                               .reading = gr_options_reading(o),
                               .progress = gr_convert_event,
                               .context = (void *)(uintptr_t)hooks};
    return gr_convert_kept(dir, &wish, gr_convert_note, err);
}

/* As gr_model_locate; a directory is one that can be opened. */
static graft_status locate(char **path, bool *gguf, const graft_options *o, const graft_hooks *hooks,
                           graft_error *err) {
    char *dir;
    GR_TRY(gr_model_locate(path, gguf, o->model, err));
    if (*gguf || !gr_convert_is_columns(*path)) return GRAFT_OK;
    graft_status st = use_kept(&dir, *path, o, hooks, err);
    free(*path);
    *path = dir;
    return st;
}

/* The model's directory, whatever the user named. malloc'ed. */
static graft_status model_dir(char **dir, const graft_options *o, const graft_hooks *hooks,
                              graft_error *err) {
    char *path = NULL;
    bool gguf = false;
    *dir = NULL;
    GR_TRY(locate(&path, &gguf, o, hooks, err));
    if (!gguf) {
        *dir = path;
        return GRAFT_OK;
    }
    graft_status st = use_kept(dir, path, o, hooks, err);
    free(path);
    return st;
}

/* What every verb does first: a usable error struct, checked options. */
static graft_status begin(const graft_options *o, graft_verb verb, graft_error *err) {
    gr_error_clear(err);
    GR_TRY(gr_options_check(o, verb, err));
    return gr_options_refuse_unbuilt(o, err);
}

static graft_status begin_bench(const graft_options *o, const char *benchmark, graft_error *err) {
    GR_TRY(begin(o, GRAFT_VERB_BENCH, err));
    return gr_options_check_bench(o, benchmark, err);
}

#define OWN_ERROR(err)                                                                                       \
    graft_error own_error;                                                                                   \
    if (!(err)) (err) = &own_error

/* The directory to train on: 4 or 16 bits where the options ask for them. */
static graft_status base_dir(char **dir, const graft_options *o, graft_verb verb, const graft_hooks *hooks,
                             graft_error *err) {
    char *path = NULL;
    bool gguf = false;
    *dir = NULL;
    GR_TRY(locate(&path, &gguf, o, hooks, err));
    graft_status st = gr_base_prepare(dir, path, gguf, o, verb, gr_convert_event, gr_convert_note,
                                      (void *)(uintptr_t)hooks, err);
    free(path);
    return st;
}

/* The model's directory, or none where a published shape is asked for. */
static graft_status dir_or_shape(char **dir, const graft_options *o, graft_verb verb,
                                 const graft_hooks *hooks, graft_error *err) {
    *dir = NULL;
    if (!o->model && o->shape) {
        if (!o->data) return GRAFT_OK;
        gr_fail(err, GRAFT_USAGE, "a shape has no tokenizer to read data with");
        return gr_hint(err, "give --model with --data, or --shape without");
    }
    return base_dir(dir, o, verb, hooks, err);
}

graft_status graft_plan_make(const graft_options *o, const graft_hooks *hooks, graft_plan *plan,
                             graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(plan, 0, sizeof *plan);
    GR_TRY(begin(o, GRAFT_VERB_PLAN, err));
    GR_TRY(dir_or_shape(&dir, o, GRAFT_VERB_PLAN, hooks, err));
    graft_status st = gr_forecast(plan, dir, o, hooks, err);
    free(dir);
    return st;
}

graft_status graft_train(const graft_options *o, const graft_hooks *hooks, graft_train_result *result,
                         graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    gr_trainer trainer;
    graft_train_result unused;
    if (!result) result = &unused;
    memset(result, 0, sizeof *result);
    GR_TRY(begin(o, GRAFT_VERB_TRAIN, err));
    GR_TRY(base_dir(&dir, o, GRAFT_VERB_TRAIN, hooks, err));
    graft_status st = gr_trainer_open(&trainer, dir, o, hooks, GR_TRAINER_RUN, err);
    if (st == GRAFT_OK) {
        st = gr_trainer_run(&trainer, result, err);
        gr_trainer_close(&trainer);
    }
    free(dir);
    return st;
}

struct graft_trainer {
    gr_trainer trainer;
    gr_ledger ledger;
    bool broken; /* a freeze failed half-way */
};

static graft_status list_parameters(graft_trainer *t, graft_error *err) {
    gr_ledger_free(&t->ledger);
    return gr_ledger_new(&t->ledger, t->trainer.rt.model, t->trainer.rt.tuning, t->trainer.params, err);
}

graft_status graft_trainer_open(graft_trainer **out, const graft_options *o, const graft_hooks *hooks,
                                graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    *out = NULL;
    GR_TRY(begin(o, GRAFT_VERB_TRAIN, err));
    GR_TRY(base_dir(&dir, o, GRAFT_VERB_TRAIN, hooks, err));
    graft_trainer *t = gr_calloc(1, sizeof *t);
    graft_status st =
        t ? gr_trainer_open(&t->trainer, dir, o, hooks, GR_TRAINER_RUN, err) : gr_no_memory(err, sizeof *t);
    free(dir);
    if (st == GRAFT_OK) {
        st = list_parameters(t, err);
        if (st != GRAFT_OK) gr_trainer_close(&t->trainer);
    }
    if (st != GRAFT_OK)
        free(t);
    else
        *out = t;
    return st;
}

size_t graft_trainer_count(const graft_trainer *t) {
    return t->ledger.count;
}

void graft_trainer_parameter(const graft_trainer *t, size_t index, graft_parameter *p) {
    const gr_ledger_row *row = &t->ledger.rows[index];
    *p = (graft_parameter){.name = row->name,
                           .shape = {row->shape[0], row->shape[1]},
                           .trainable = row->trainable,
                           .adapter = row->adapter,
                           .bits = row->bits};
}

uint64_t graft_trainer_digest(const graft_trainer *t, size_t index) {
    return gr_ledger_digest(&t->ledger.rows[index]);
}

static graft_status usable(const graft_trainer *t, graft_error *err) {
    gr_error_clear(err);
    return t->broken ? gr_fail(err, GRAFT_USAGE, "a freeze failed: this trainer can only be freed")
                     : GRAFT_OK;
}

graft_status graft_trainer_freeze(graft_trainer *t, bool lora_only, graft_error *err) {
    OWN_ERROR(err);
    GR_TRY(usable(t, err));
    graft_status st = gr_trainer_freeze(&t->trainer, lora_only, err);
    if (st != GRAFT_OK && t->trainer.params) return st; /* refused: everything is as it was */
    if (st == GRAFT_OK) st = list_parameters(t, err);
    t->broken = st != GRAFT_OK;
    if (t->broken) gr_ledger_free(&t->ledger); /* it borrowed what is gone */
    return st;
}

graft_status graft_trainer_step(graft_trainer *t, double *loss, graft_error *err) {
    OWN_ERROR(err);
    double unused;
    GR_TRY(usable(t, err));
    return gr_trainer_step(&t->trainer, loss ? loss : &unused, err);
}

graft_status graft_trainer_save(graft_trainer *t, const char *dir, graft_error *err) {
    OWN_ERROR(err);
    GR_TRY(usable(t, err));
    return gr_trainer_save(&t->trainer, dir, err);
}

void graft_trainer_free(graft_trainer *t) {
    if (!t) return;
    gr_ledger_free(&t->ledger);
    gr_trainer_close(&t->trainer);
    free(t);
}

graft_status graft_eval(const graft_options *o, const graft_hooks *hooks, graft_eval_result *result,
                        graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin(o, GRAFT_VERB_EVAL, err));
    GR_TRY(model_dir(&dir, o, hooks, err));
    graft_status st = gr_evaluate(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_generate(const graft_options *o, const graft_hooks *hooks, graft_generation *result,
                            graft_generation *base, graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    if (base) memset(base, 0, sizeof *base);
    GR_TRY(begin(o, GRAFT_VERB_GENERATE, err));
    GR_TRY(model_dir(&dir, o, hooks, err));
    graft_status st = gr_generate(dir, o, hooks, result, base, err);
    free(dir);
    return st;
}

graft_status graft_generate_batch(const graft_options *o, const graft_hooks *hooks,
                                  void (*answer)(void *user, uint64_t line, const graft_generation *answer),
                                  void *user, graft_generation *total, graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(total, 0, sizeof *total);
    GR_TRY(begin(o, GRAFT_VERB_GENERATE, err));
    GR_TRY(model_dir(&dir, o, hooks, err));
    graft_status st = gr_generate_batch(dir, o, hooks, answer, user, total, err);
    free(dir);
    return st;
}

graft_status graft_tokenize(const graft_options *o, const graft_hooks *hooks,
                            void (*row)(void *user, const graft_row *row), void *user, graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    GR_TRY(begin(o, GRAFT_VERB_TOKENIZE, err));
    GR_TRY(model_dir(&dir, o, hooks, err));
    graft_status st = gr_show_rows(dir, o, hooks, row, user, err);
    free(dir);
    return st;
}

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
    OWN_ERROR(err);
    char *path;
    bool gguf;
    gr_convert_result r = {0};
    memset(result, 0, sizeof *result);
    GR_TRY(begin(o, GRAFT_VERB_CONVERT, err));
    GR_TRY(gr_model_locate(&path, &gguf, o->model, err));
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
    OWN_ERROR(err);
    char *path, *dir = NULL;
    bool gguf;
    memset(result, 0, sizeof *result);
    GR_TRY(begin(o, GRAFT_VERB_FUSE, err));
    GR_TRY(locate(&path, &gguf, o, hooks, err));
    graft_status st = gguf ? use_kept(&dir, path, o, hooks, err) : GRAFT_OK;
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
    OWN_ERROR(err);
    gr_adapter_exported done;
    (void)hooks;
    memset(result, 0, sizeof *result);
    GR_TRY(begin(o, GRAFT_VERB_EXPORT, err));
    const gr_adapter_export wish = {.path = gr_options_adapter_path(o),
                                    .to = o->to,
                                    .out = o->out,
                                    .model = o->model,
                                    .merging = merging_of(o->merge),
                                    .merge_rank = o->merge_rank,
                                    .allow_other_base = o->allow_other_base};
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
    OWN_ERROR(err);
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
    if (hooks && hooks->event) hooks->event(hooks->user, &event);
}

static void on_download_note(void *context, const char *text) {
    const graft_hooks *hooks = context;
    graft_event event = {.kind = GRAFT_EVENT_NOTE, .text = text};
    if (hooks && hooks->event) hooks->event(hooks->user, &event);
}

graft_status graft_download(const graft_options *o, const graft_hooks *hooks, graft_download_result *result,
                            graft_error *err) {
    OWN_ERROR(err);
    gr_hub_got got;
    memset(result, 0, sizeof *result);
    GR_TRY(begin(o, GRAFT_VERB_DOWNLOAD, err));
    if (!o->model || !*o->model) {
        gr_fail(err, GRAFT_USAGE, "nothing to download");
        return gr_expected(err, "graft download owner/name");
    }
    void *context = (void *)(uintptr_t)hooks;
    gr_hub_wish wish = {.name = o->model,
                        .include = o->include && *o->include ? o->include : NULL,
                        .limits = {5, 1, 60, hooks ? hooks->stop : NULL, on_download_note, context},
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

graft_status graft_bench_train(const graft_options *o, const graft_hooks *hooks, graft_bench_result *result,
                               graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "train", err));
    if (gr_options_given(o, "peer-steps") && !o->peer) {
        gr_fail(err, GRAFT_USAGE, "--peer-steps without --peer");
        return gr_hint(err, "add --peer torch, mlx or bnb");
    }
    GR_TRY(dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_train(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_export(const graft_options *o, const graft_hooks *hooks, const char *out,
                                graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    GR_TRY(begin_bench(o, "train", err));
    GR_TRY(dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_export(dir, o, hooks, out, err);
    free(dir);
    return st;
}

graft_status graft_bench_curves(const graft_options *o, const graft_hooks *hooks,
                                graft_bench_curves_result *result, graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "curves", err));
    GR_TRY(dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_curves(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_tokenize(const graft_options *o, const graft_hooks *hooks,
                                  graft_bench_tokenize_result *result, graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "tokenize", err));
    GR_TRY(model_dir(&dir, o, hooks, err));
    graft_status st = gr_bench_tokenize(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_tokenize_export(const graft_options *o, const graft_hooks *hooks, const char *out,
                                         graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    GR_TRY(begin_bench(o, "tokenize", err));
    GR_TRY(model_dir(&dir, o, hooks, err));
    graft_status st = gr_bench_tokenize_export(dir, o, out, err);
    free(dir);
    return st;
}

/* The loss of one half on options.data. */
static graft_status evaluate_half(graft_bench_half *half, const graft_options *o, const graft_hooks *hooks,
                                  graft_error *err) {
    graft_eval_result result = {0};
    GR_TRY(gr_evaluate(half->path, o, hooks, &result, err));
    half->loss = result.loss;
    half->perplexity = result.perplexity;
    graft_eval_result_free(&result);
    return GRAFT_OK;
}

graft_status graft_bench_load(const graft_options *o, const graft_hooks *hooks,
                              graft_bench_load_result *result, graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "load", err));
    GR_TRY(model_dir(&dir, o, hooks, err));
    graft_status st = gr_bench_load(dir, o, hooks, result, err);
    free(dir);
    if (st == GRAFT_OK && o->data) {
        st = evaluate_half(&result->quantized, o, hooks, err);
        if (st == GRAFT_OK) st = evaluate_half(&result->plain, o, hooks, err);
        if (st == GRAFT_OK)
            gr_bench_load_compare(result);
        else
            graft_bench_load_result_free(result);
    }
    return st;
}

graft_status graft_bench_checkpoint(const graft_options *o, const graft_hooks *hooks,
                                    graft_bench_checkpoint_result *result, graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "checkpoint", err));
    GR_TRY(dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_checkpoint(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_kernels(const graft_options *o, const graft_hooks *hooks,
                                 graft_bench_kernels_result *result, graft_error *err) {
    OWN_ERROR(err);
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "kernels", err));
    return gr_bench_kernels(o, hooks, result, err);
}

graft_status graft_bench_generate(const graft_options *o, const graft_hooks *hooks,
                                  graft_bench_generate_result *result, graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "generate", err));
    GR_TRY(dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_generate(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_generate_export(const graft_options *o, const graft_hooks *hooks, const char *dir,
                                         graft_error *err) {
    OWN_ERROR(err);
    (void)hooks;
    GR_TRY(begin_bench(o, "generate", err));
    return gr_bench_generate_export(o, dir, err);
}

graft_status graft_bench_accumulate(const graft_options *o, const graft_hooks *hooks,
                                    graft_bench_accumulate_result *result, graft_error *err) {
    OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "accumulate", err));
    GR_TRY(dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_accumulate(dir, o, hooks, result, err);
    free(dir);
    return st;
}
