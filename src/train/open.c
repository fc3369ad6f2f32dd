#include "base/hooks.h"
#include "base/number.h"
#include "data/duplicates.h"
#include "data/split_file.h"
#include "model/identity.h"
#include "optim/schedule_table.h"
#include "train/base_model.h"
#include "train/checkpoint_files.h"
#include "train/trainer.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h> /* malloc_trim */
#endif

void gr_trainer_event(const gr_trainer *t, const graft_event *event) {
    gr_event(t->hooks, event);
}

void gr_trainer_note(const gr_trainer *t, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    gr_vformat(text, sizeof text, fmt, ap);
    va_end(ap);
    gr_trainer_event(t, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = text});
}

static void tokenize_progress(void *user, int64_t done, int64_t total) {
    gr_trainer_event(
        user,
        &(graft_event){.kind = GRAFT_EVENT_PROGRESS, .phase = "tokenize", .done = done, .total = total});
}

/* The rows of a split, *rows stays NULL where an optional file is missing. */
static graft_status open_rows(gr_trainer *t, gr_rows **rows, const char *split, bool needed, int64_t vocab,
                              graft_error *err) {
    char *path;
    GR_TRY(gr_data_place(&path, t->o->data, split, gr_options_reading(t->o), err));
    graft_status st = GRAFT_OK;
    if (needed || (gr_path_is_dir_as(t->o->data, gr_options_reading(t->o)) &&
                   gr_path_exists_as(path, gr_options_reading(t->o)))) {
        gr_rows_config config = gr_options_rows(t->o, (int32_t)vocab);
        char *unread = gr_data_unread(t->o->data, path, gr_options_reading(t->o));
        if (unread) gr_trainer_note(t, "%s", unread);
        free(unread);
        st = gr_rows_open(rows, path, t->tok, t->chat, &config, tokenize_progress, t, err);
    }
    if (st == GRAFT_NOT_FOUND) gr_hint(err, "%s", gr_data_wanted);
    free(path);
    if (st != GRAFT_OK || !*rows) return st;
    char *notes = gr_rows_notes(*rows), *twins = gr_duplicates_note(*rows, *rows, NULL);
    if (notes) gr_trainer_note(t, "%s: %s", gr_rows_name(*rows), notes);
    if (twins) gr_trainer_note(t, "%s: %s", gr_rows_name(*rows), twins);
    free(notes);
    free(twins);
    return GRAFT_OK;
}

/* --valid-split: part of the rows becomes those of validation. */
static graft_status split_rows(gr_trainer *t, graft_error *err) {
    char *note;
    GR_TRY(gr_options_check_split(t->o, err));
    GR_TRY(gr_options_split(&t->valid, &note, t->train, t->o, err));
    gr_trainer_note(t, "%s", note);
    free(note);
    return GRAFT_OK;
}

/* What was trained on says nothing about what was not. */
static void say_leaks(const gr_trainer *t) {
    char *twins = t->valid ? gr_duplicates_note(t->valid, t->train, gr_rows_name(t->train)) : NULL;
    if (twins)
        gr_trainer_note(t, "%s: %s: the validation loss will look better than it is", gr_rows_name(t->valid),
                        twins);
    free(twins);
}

/* An adapter to start from may have been taught otherwise: it is the user's to say so again. */
static graft_status use_template_kwargs(const gr_trainer *t, graft_error *err) {
    const graft_options *o = t->o;
    const char *own = o->template_kwargs && o->template_kwargs[0] ? o->template_kwargs : NULL;
    char *note = NULL, *recorded = NULL;
    GR_TRY(gr_options_template(&note, t->chat, o, NULL, err));
    if (!o->resume_adapter_file) return GRAFT_OK;
    GR_TRY(gr_adapter_template_kwargs(&recorded, NULL, o->resume_adapter_file, gr_options_reading(o), err));
    if (recorded && !gr_adapter_same_kwargs(own, recorded))
        gr_trainer_note(t, "%s was trained with --template-kwargs '%.300s', and this run has %.300s",
                        o->resume_adapter_file, recorded, own ? own : "none");
    free(recorded);
    return GRAFT_OK;
}

static graft_status open_data(gr_trainer *t, const char *dir, const gr_model_config *config,
                              gr_trainer_purpose purpose, graft_error *err) {
    bool run = purpose == GR_TRAINER_RUN;
    GR_TRY(gr_base_check_inputs(t->o, run, err));
    if (!dir || !t->o->data) return GRAFT_OK;
    GR_TRY(gr_chat_open(&t->tok, &t->chat, dir, gr_options_reading(t->o), t->now, err));
    GR_TRY(use_template_kwargs(t, err));
    GR_TRY(open_rows(t, &t->train, "train", true, config->vocab, err));
    if (!gr_options_splits(t->o))
        GR_TRY(open_rows(t, &t->valid, "valid", false, config->vocab, err));
    else
        GR_TRY(split_rows(t, err));
    say_leaks(t);
    if (t->o->patience <= 0 || t->valid) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "--patience counts validations, and there are no rows to validate on");
    return gr_hint(err, "add valid.jsonl to --data, or --valid-split 0.1");
}

/* A rank above the smaller side of its matrix buys nothing but memory. */
static void warn_of_ranks(const gr_trainer *t) {
    gr_buf text = {0};
    for (gr_role role = 0; role < GR_ROLES; role++) {
        int64_t out, in, most = 0;
        gr_role_shape(role, &t->rt.model->config, &out, &in);
        for (int64_t l = 0; l < (gr_role_table[role].in_block ? t->rt.tuning->layers : 1); l++)
            most = gr_max_i64(most, gr_tuning_of(t->rt.tuning, role, l)->rank);
        if (gr_role_expert(role)) out /= gr_max_i64(1, t->rt.model->config.experts); /* of each by itself */
        if (most > gr_min_i64(out, in))
            gr_buf_printf(&text, "%s%s has %lld x %lld", text.len ? ", " : "", gr_role_table[role].type,
                          (long long)out, (long long)in);
    }
    if (text.data)
        gr_trainer_note(t, "rank %lld is above its matrix: %s; it learns no more than a rank that fits",
                        (long long)t->rt.tuning->rank, text.data);
    gr_buf_free(&text);
}

/* In the words of --fine-tune-type. */
static const char *kind_name(const gr_tuning *tuning) {
    return !tuning->adapted ? "full" : tuning->kind == GR_TUNE_DORA ? "dora" : "lora";
}

/* A sum of several is an adapter of its own: training one needs its files. */
static graft_status check_single(const graft_options *o, graft_error *err) {
    bool single = true;
    if (o->resume_adapter_file)
        GR_TRY(gr_adapter_is_single(&single, o->resume_adapter_file, gr_options_reading(o), err));
    if (single) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "--resume-adapter-file takes one adapter, without a weight");
    gr_found(err, "%s", o->resume_adapter_file);
    return gr_hint(err, "graft export --merge cat --adapter-path LIST --out DIR makes one adapter of a list");
}

/* What is asked for must be what the file holds. */
static graft_status check_loaded(const gr_trainer *t, graft_error *err) {
    static const char *const of_adapters[] = {"lora-dropout", "loraplus-lr-ratio"};
    const graft_options *o = t->o;
    const char *kind = kind_name(t->rt.tuning), *asked = o->fine_tune_type ? o->fine_tune_type : "lora";
    bool named = gr_options_asked(o, "fine-tune-type") || strcmp(asked, "lora") != 0;
    if (named && strcmp(asked, kind) != 0) {
        gr_fail(err, GRAFT_USAGE, "--fine-tune-type %s cannot change the kind of --resume-adapter-file",
                asked);
        gr_where(err, "%s", o->resume_adapter_file);
        gr_expected(err, "%s", kind);
        gr_found(err, "%s", asked);
        return gr_hint(err, "leave it away: the kind comes with the file");
    }
    for (size_t i = 0; !t->rt.tuning->adapted && i < 2; i++) {
        if (!gr_options_given(o, of_adapters[i])) continue;
        gr_fail(err, GRAFT_USAGE, "--%s is for adapters, and the file holds whole tensors alone",
                of_adapters[i]);
        return gr_where(err, "%s", o->resume_adapter_file);
    }
    for (size_t i = 0; o->lora_dropout > 0 && i < t->rt.tuning->param_count; i++) {
        if (!gr_role_expert(t->rt.tuning->params[i].role)) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "experts of a mixture train without dropout");
        gr_where(err, "%s", o->resume_adapter_file);
        return gr_hint(err, "leave out --lora-dropout");
    }
    return GRAFT_OK;
}

/* Of a scale of 0 no gradient ever comes back. */
static graft_status check_scales(const gr_trainer *t, graft_error *err) {
    char name[200];
    for (size_t i = 0; i < t->rt.tuning->param_count; i++) {
        const gr_param *p = &t->rt.tuning->params[i];
        if (p->kind != GR_PARAM_A || gr_tuning_of(t->rt.tuning, p->role, p->layer)->scale != 0) continue;
        gr_param_name(name, sizeof name, p);
        gr_fail(err, GRAFT_USAGE, "an adapter of scale 0 does nothing, for ever");
        gr_where(err, "%s", t->o->resume_adapter_file);
        return gr_found(err, "%s", name);
    }
    return GRAFT_OK;
}

void gr_trainer_kind(const gr_trainer *t, gr_buf *text) {
    const gr_tuning *tuning = t->rt.tuning;
    if (tuning->pool) gr_buf_printf(text, "A shared inside groups of %lld, ", (long long)tuning->pool);
    if (tuning->adapted)
        gr_buf_printf(text, "%s, rank %lld, scale %g", kind_name(tuning), (long long)tuning->rank,
                      tuning->scale);
    else
        gr_buf_printf(text, "%s, %zu whole tensors", kind_name(tuning), tuning->param_count);
}

static void say_loaded(const gr_trainer *t) {
    const graft_options *o = t->o;
    gr_buf kind = {0};
    gr_trainer_kind(t, &kind);
    if (kind.data) gr_trainer_note(t, "starting from %s: %s", o->resume_adapter_file, kind.data);
    gr_buf_free(&kind);
    if (o->config_file || o->preset)
        gr_trainer_note(t, "its tensors, rank and scale hold, not those of %s",
                        o->preset ? "the preset" : o->config_file);
}

/* Wishes that came to nothing. */
static void say_without_effect(const gr_trainer *t, const gr_tuning_request *r) {
    const gr_tuning *tuning = t->rt.tuning;
    if (r->bias != GR_BIAS_NONE && tuning->bias == GR_BIAS_NONE)
        gr_trainer_note(t, "--lora-bias %s has no effect: %s has a bias", t->o->lora_bias,
                        r->bias == GR_BIAS_ALL ? "no module of this model" : "no adapted module");
    if (r->kind != GR_TUNE_FULL && !tuning->adapted)
        gr_trainer_note(t,
                        "no adapter remains: --modules-to-save or --lora-bias trains the base's own tensors, "
                        "and nothing else of --lora-targets is left");
}

/* The adapter: chosen by the options, or read from --resume-adapter-file. *start receives its parameters
 * then. */
graft_status gr_trainer_select(gr_trainer *t, float **start, graft_error *err) {
    const graft_options *o = t->o;
    const gr_model_config *config = &t->rt.model->config;
    *start = NULL;
    if (o->resume_adapter_file) {
        /* A run that goes on takes its numbers from the checkpoint; its own directory may be the one that a
         * kill left torn. */
        gr_adapter_base base = {.model = t->rt.model,
                                .allow_other = o->allow_other_base,
                                .reading = gr_options_reading(o),
                                .shape_only = o->resume && gr_checkpoint_newest(t, INT64_MAX) >= 0};
        GR_TRY(gr_adapter_load(&t->rt.tuning, start, o->resume_adapter_file, config, &base, err));
        if (base.note[0]) gr_trainer_note(t, "%s", base.note);
        t->rt.tuning->dropout = o->lora_dropout; /* how to train, not what was trained */
        GR_TRY(check_loaded(t, err));
        GR_TRY(check_scales(t, err));
        if (o->qat) GR_TRY(gr_tuning_qat(t->rt.tuning, t->rt.model, err));
        say_loaded(t);
        return GRAFT_OK;
    }
    gr_tuning_request request = gr_options_tuning(o);
    GR_TRY(gr_tuning_select(&t->rt.tuning, config, &request, err));
    if (o->group_pooled) GR_TRY(gr_tuning_pool(t->rt.tuning, t->rt.model, err));
    if (o->qat) GR_TRY(gr_tuning_qat(t->rt.tuning, t->rt.model, err));
    warn_of_ranks(t);
    say_without_effect(t, &request);
    return GRAFT_OK;
}

/* A plan on 4 bits of a model in 16: from its config, since a plan need not wait for the conversion. */
static graft_status plan_in_4_bits(gr_trainer *t, gr_model **model, graft_error *err) {
    gr_model *in_16 = *model;
    if (gr_options_base(t->o) != GR_BASE_4_BIT || !in_16->file || gr_model_quantized(in_16)) return GRAFT_OK;
    *model = NULL;
    graft_status st = gr_model_from_config(model, in_16->dir, err);
    if (st == GRAFT_OK)
        gr_trainer_note(t,
                        "preset %s: training will quantize %s to 4 bits once, groups of 64; sizes are those "
                        "of that, and the speed is a guess",
                        t->o->preset, in_16->dir);
    gr_model_free(in_16);
    return st;
}

/* A plan of weights that training will convert first. */
static graft_status plan_of_columns(gr_trainer *t, gr_model **model, const char *dir, graft_error *err) {
    GR_TRY(gr_model_from_config(model, dir, err));
    gr_trainer_note(
        t,
        "training will convert %s once, and keep its %d-bit codes; sizes are those that config.json "
        "asks for, and the speed is a guess",
        dir, (*model)->config.bits);
    return GRAFT_OK;
}

static graft_status open_model(gr_trainer *t, const char *dir, bool columns, gr_trainer_purpose purpose,
                               graft_error *err) {
    gr_model *model = NULL;
    bool shared = t->beside && t->beside->base;
    if (shared)
        model = gr_model_share(t->beside->base);
    else if (!dir)
        GR_TRY(gr_model_from_shape(&model, t->o->shape, false, err));
    else if (columns && purpose == GR_TRAINER_PLAN)
        GR_TRY(plan_of_columns(t, &model, dir, err));
    else {
        graft_status st = gr_model_open_as(&model, dir, gr_options_reading(t->o), err);
        if (st == GRAFT_NOT_FOUND &&
            purpose == GR_TRAINER_PLAN) { /* config.json alone is enough for a plan */
            gr_error_clear(err);
            st = gr_model_from_config(&model, dir, err);
            if (st == GRAFT_OK)
                gr_trainer_note(t, "%s holds no weights: sizes are those that config.json asks for", dir);
        }
        GR_TRY(st);
        if (purpose == GR_TRAINER_PLAN) GR_TRY(plan_in_4_bits(t, &model, err));
    }
    if (gr_options_base(t->o) == GR_BASE_16_BIT && !shared) gr_model_assume_16_bit(model);
    GR_TRY(gr_runtime_init(&t->rt, model, t->o->threads, gr_options_fp32(t->o), err));
    /* a plan compares nothing with the base unless it starts from an adapter */
    return purpose == GR_TRAINER_RUN || t->o->resume_adapter_file
               ? gr_model_identify(t->rt.model, t->rt.pool, err)
               : GRAFT_OK;
}

/* A rate of 0 all through: nothing moves. */
static void say_rate(const gr_trainer *t) {
    const graft_options *o = t->o;
    if (o->learning_rate != 0 || gr_optim_config_of(o).relative_step) return;
    for (int64_t k = 0; k <= 4; k++)
        if (gr_schedule_rate(o, gr_max_i64(1, t->updates / 4 * k), t->updates) != 0) return;
    gr_trainer_note(t, "--learning-rate 0: no tensor can move, and the run changes nothing");
}

static graft_status open_all(gr_trainer *t, const char *dir, gr_trainer_purpose purpose, graft_error *err) {
    const graft_options *o = t->o;
    gr_model_config config;
    t->dir = gr_options_adapter_path(o);
    t->formats = GR_ADAPTER_USUAL | (o->gguf ? GR_ADAPTER_GGUF : 0);
    t->mlx_loss = gr_options_rows(o, 0).mlx_masks;
    t->preference = gr_options_preference(o);
    /* templates may print the date: a resumed run must see the day it was started */
    if (!o->resume || !gr_checkpoint_peek(t, &t->now, &t->kept_reference)) t->now = (int64_t)time(NULL);
    if (purpose == GR_TRAINER_RUN) GR_TRY(gr_trainer_join(t, err));
    t->p.first_val = t->p.last_val = t->p.best_val = t->p.train_loss = NAN;
    t->p.validated = t->saved = -1;
    GR_TRY(gr_schedule_check(o, err));
    GR_TRY(check_single(o, err));
    if (o->save_every) GR_TRY(gr_parse_every(&t->save_iterations, &t->save_seconds, o->save_every, err));
    t->indices = gr_calloc((size_t)o->batch_size, sizeof *t->indices);
    if (!t->indices) return gr_no_memory(err, (size_t)o->batch_size * sizeof *t->indices);
    GR_TRY(dir ? gr_config_open_as(&config, dir, gr_options_reading(o), err)
               : gr_shape_config(&config, o->shape, err));
    graft_status st = open_data(t, dir, &config, purpose, err);
    bool columns = config.columns;
    gr_config_free(&config);
    GR_TRY(st);
#ifdef __GLIBC__
    malloc_trim(0); /* what tokenizing needed for a moment shall not count as held */
#endif
    GR_TRY(open_model(t, dir, columns, purpose, err));
    GR_TRY(gr_trainer_select(t, &t->start, err));
    if (gr_optim_config_of(o).relative_step)
        gr_trainer_note(t,
                        "adafactor sets its own rate, as in mlx-lm: --learning-rate and the schedule are not "
                        "used unless optimizer_config of a --config says relative_step: false");
    GR_TRY(gr_trainer_count_work(t, err));
    say_rate(t);
    gr_net_config net = {.longest = t->work.longest};
    GR_TRY(gr_trainer_reserve(t, &net, GR_TRAINER_PLAN, err));
    return purpose == GR_TRAINER_RUN ? gr_trainer_ready(t, err) : GRAFT_OK;
}

graft_status gr_trainer_open(gr_trainer *t, const char *dir, const graft_options *o, const graft_hooks *hooks,
                             gr_trainer_purpose purpose, graft_error *err) {
    *t = (gr_trainer){.o = o, .hooks = hooks};
    graft_status st = open_all(t, dir, purpose, err);
    if (st != GRAFT_OK) gr_trainer_close(t);
    return st;
}

graft_status gr_trainer_open_beside(gr_trainer *t, const gr_beside *beside, const char *dir,
                                    const graft_options *o, const graft_hooks *hooks, graft_error *err) {
    *t = (gr_trainer){.o = o, .hooks = hooks, .beside = beside};
    graft_status st = open_all(t, dir, GR_TRAINER_RUN, err);
    if (st != GRAFT_OK) gr_trainer_close(t);
    return st;
}

graft_status gr_trainer_open_among(gr_trainer *t, gr_ranks *ranks, const char *dir, const graft_options *o,
                                   const graft_hooks *hooks, graft_error *err) {
    *t = (gr_trainer){.o = o, .hooks = hooks, .together.ranks = ranks};
    graft_status st = open_all(t, dir, GR_TRAINER_RUN, err);
    if (st != GRAFT_OK) {
        gr_trainer_part(t, err);
        gr_trainer_close(t);
    }
    return st;
}

void gr_trainer_close(gr_trainer *t) {
    gr_dir_lock_release(&t->lock);
    gr_trainer_unwatch(t);
    gr_batch_free(&t->buffer);
    gr_order_free(&t->order);
    free(t->indices);
    free(t->results);
    free(t->together.wire);
    free(t->together.wire_start);
    free(t->together.leaves);
    free(t->together.scores);
    free(t->together.texts[0]);
    free(t->together.texts[1]);
    gr_reduce_free(&t->together.reduction);
    free(t->start);
    gr_optim_free(&t->optim);
    gr_events_close(t->events);
    gr_arena_free(&t->state);
    gr_runtime_free(&t->rt);
    gr_rows_free(t->train);
    gr_rows_free(t->valid);
    gr_chat_free(t->chat);
    gr_tokenizer_free(t->tok);
    *t = (gr_trainer){0};
}
