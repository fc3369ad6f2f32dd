#include "api/api.h"
#include "base/hooks.h"
#include "report/watch.h"
#include "train/tensor_digests.h"
#include "train/trainer.h"
#include <stdio.h>

/* A run that is watched tells the page how far it is. */
typedef struct watched {
    const graft_hooks *hooks;
    gr_watch *watch; /* NULL: nobody asked for it */
} watched;

static void on_event(void *user, const graft_event *e) {
    const watched *w = user;
    if (e->kind == GRAFT_EVENT_PROGRESS) gr_watch_progress(w->watch, e->phase, e->done, e->total);
    gr_event(w->hooks, e);
}

static graft_status start_watch(watched *w, const graft_options *o, graft_error *err) {
    char text[80];
    if (!o->watch) return GRAFT_OK;
    GR_TRY(gr_watch_open(&w->watch, gr_options_adapter_path(o), (int)o->watch, err));
    snprintf(text, sizeof text, "watch: http://127.0.0.1:%d/", (int)o->watch);
    gr_note(w->hooks, text);
    return GRAFT_OK;
}

/* Leaves the ranks, however it ends. */
static graft_status train(gr_ranks *ranks, const graft_options *o, const graft_hooks *hooks,
                          graft_train_result *result, graft_error *err) {
    char *dir;
    gr_trainer trainer;
    if (gr_api_base_dir(&dir, o, GRAFT_VERB_TRAIN, hooks, err) != GRAFT_OK) return gr_ranks_close(ranks, err);
    graft_status st = gr_trainer_open_among(&trainer, ranks, dir, o, hooks, err);
    if (st == GRAFT_OK) {
        st = gr_trainer_run(&trainer, result, err);
        if (trainer.together.ranks) st = gr_trainer_part(&trainer, err);
        gr_trainer_close(&trainer);
    }
    free(dir);
    return st;
}

graft_status graft_train(const graft_options *o, const graft_hooks *hooks, graft_train_result *result,
                         graft_error *err) {
    GR_API_OWN_ERROR(err);
    gr_ranks *ranks;
    graft_train_result unused;
    if (!result) result = &unused;
    memset(result, 0, sizeof *result);
    graft_status st = gr_api_begin(o, GRAFT_VERB_TRAIN, err); /* whatever it says, the others hear of it */
    st = gr_trainer_meet(&ranks, st, o, hooks, err);
    if (st != GRAFT_OK) return gr_ranks_close(ranks, err);
    watched w = {.hooks = hooks};
    graft_hooks through = {.user = &w, .event = on_event, .stop = gr_stop_of(hooks)};
    st = ranks && gr_ranks_rank(ranks) ? GRAFT_OK : start_watch(&w, o, err);
    st = st == GRAFT_OK ? train(ranks, o, w.watch ? &through : hooks, result, err)
                        : gr_ranks_close(ranks, err);
    gr_watch_close(w.watch);
    return st;
}

struct graft_trainer {
    gr_trainer trainer;
    gr_tensor_digests ledger;
    bool broken; /* a freeze failed half-way */
};

static graft_status list_parameters(graft_trainer *t, graft_error *err) {
    gr_tensor_digests_free(&t->ledger);
    return gr_tensor_digests_new(&t->ledger, t->trainer.rt.model, t->trainer.rt.tuning, t->trainer.params,
                                 err);
}

/* What is part of the loop that a host makes itself has no effect here, and is not taken in silence. */
static graft_status check_stepped(const graft_options *o, graft_error *err) {
    const char *name = o->watch           ? "watch"
                       : o->report_to     ? "report-to"
                       : o->patience      ? "patience"
                       : o->keep_best     ? "keep-best"
                       : o->verify_frozen ? "verify-frozen"
                                          : NULL;
    if (!name) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "--%s is of a whole run, not of training step by step", name);
    return gr_hint(err, "graft_train has it");
}

graft_status graft_trainer_open(graft_trainer **out, const graft_options *o, const graft_hooks *hooks,
                                graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    *out = NULL;
    GR_TRY(gr_api_begin(o, GRAFT_VERB_TRAIN, err));
    if (hooks && hooks->ranks && hooks->ranks->size > 1) {
        gr_fail(err, GRAFT_UNSUPPORTED, "several ranks train with graft_train, not step by step");
        return gr_hint(err, "call graft_train, or leave hooks.ranks NULL");
    }
    GR_TRY(check_stepped(o, err));
    GR_TRY(gr_api_base_dir(&dir, o, GRAFT_VERB_TRAIN, hooks, err));
    graft_trainer *t = gr_calloc(1, sizeof *t);
    graft_status st =
        t ? gr_trainer_open(&t->trainer, dir, o, hooks, GR_TRAINER_RUN, err) : gr_no_memory(err, sizeof *t);
    free(dir);
    if (st == GRAFT_OK) {
        if (o->resume) st = gr_trainer_take_up(&t->trainer, err);
        if (st == GRAFT_OK) st = list_parameters(t, err);
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
    const gr_tensor_digests_row *row = &t->ledger.rows[index];
    *p = (graft_parameter){.name = row->name,
                           .shape = {row->shape[0], row->shape[1]},
                           .trainable = row->trainable,
                           .adapter = row->adapter,
                           .bits = row->bits};
}

uint64_t graft_trainer_digest(const graft_trainer *t, size_t index) {
    return gr_tensor_digests_digest(&t->ledger.rows[index]);
}

const float *graft_trainer_values(const graft_trainer *t, size_t index) {
    const gr_tensor_digests_row *row = &t->ledger.rows[index];
    return row->trainable ? row->data[0] : NULL;
}

static graft_status usable(const graft_trainer *t, graft_error *err) {
    gr_error_clear(err);
    return t->broken ? gr_fail(err, GRAFT_USAGE, "a freeze failed: this trainer can only be freed")
                     : GRAFT_OK;
}

graft_status graft_trainer_freeze(graft_trainer *t, bool lora_only, graft_error *err) {
    GR_API_OWN_ERROR(err);
    GR_TRY(usable(t, err));
    graft_status st = gr_trainer_freeze(&t->trainer, lora_only, err);
    if (st != GRAFT_OK && t->trainer.params) return st; /* refused: everything is as it was */
    if (st == GRAFT_OK) st = list_parameters(t, err);
    t->broken = st != GRAFT_OK;
    if (t->broken) gr_tensor_digests_free(&t->ledger); /* it borrowed what is gone */
    return st;
}

graft_status graft_trainer_step(graft_trainer *t, double *loss, graft_error *err) {
    GR_API_OWN_ERROR(err);
    double unused;
    GR_TRY(usable(t, err));
    return gr_trainer_step(&t->trainer, loss ? loss : &unused, err);
}

graft_status graft_trainer_save(graft_trainer *t, const char *dir, graft_error *err) {
    GR_API_OWN_ERROR(err);
    GR_TRY(usable(t, err));
    return gr_trainer_save(&t->trainer, dir, err);
}

graft_status graft_trainer_checkpoint(graft_trainer *t, graft_error *err) {
    GR_API_OWN_ERROR(err);
    GR_TRY(usable(t, err));
    return gr_trainer_checkpoint(&t->trainer, err);
}

void graft_trainer_free(graft_trainer *t) {
    if (!t) return;
    gr_tensor_digests_free(&t->ledger);
    gr_trainer_close(&t->trainer);
    free(t);
}
