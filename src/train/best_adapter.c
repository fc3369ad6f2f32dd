#include "train/trainer.h"
#include <math.h>
#include <unistd.h>

static char *best_dir(const gr_trainer *t) {
    return gr_path_join(t->dir, "best");
}

graft_status gr_best_save(gr_trainer *t, graft_error *err) {
    char *dir = best_dir(t);
    if (!dir) return gr_no_memory(err, 0);
    graft_status st = gr_trainer_save(t, dir, err);
    free(dir);
    t->best_due = st != GRAFT_OK;
    return st;
}

void gr_best_forget(const gr_trainer *t) {
    char *dir = best_dir(t);
    const char *name;
    for (int i = 0; dir && i <= GR_ADAPTER_FORMATS; i++) {
        name = gr_adapter_file_name(i);
        char *path = gr_path_join(dir, name ? name : "adapter_config.json");
        if (path) unlink(path);
        free(path);
    }
    free(dir);
}

/* What is in dir: all that the run saves now, or all but adapter.gguf, if an earlier part of the run had no
 * --gguf. *lacks: that is so. */
static gr_adapter_place which(const gr_trainer *t, gr_adapter_mark *mark, const char *dir, bool *lacks) {
    const gr_model_config *c = &t->rt.model->config;
    unsigned formats = t->formats;
    gr_adapter_place place = gr_adapter_which(mark, dir, c, t->rt.tuning, formats);
    char *gguf = gr_path_join(dir, "adapter.gguf");
    *lacks = place == GR_ADAPTER_TORN && formats & GR_ADAPTER_GGUF && gguf && !gr_path_exists(gguf);
    free(gguf);
    if (*lacks) place = gr_adapter_which(mark, dir, c, t->rt.tuning, GR_ADAPTER_USUAL);
    return place;
}

/* best/ against the checkpoint. It is of another iteration where a run was killed after a better validation
 * and goes on from an older checkpoint, or where it was started without --keep-best: the best is then sought
 * anew. A run whose settings are unchanged comes by that better validation again. */
static graft_status settle_best(gr_trainer *t, graft_error *err) {
    gr_train_progress *p = &t->p;
    gr_adapter_mark mark;
    if (!t->o->keep_best || isnan(p->best_val)) return GRAFT_OK;
    char *dir = best_dir(t);
    if (!dir) return gr_no_memory(err, 0);
    bool lacks;
    gr_adapter_place place = which(t, &mark, dir, &lacks);
    free(dir);
    if (place == GR_ADAPTER_UNREAD) {
        gr_fail(err, GRAFT_IO, "the best adapter so far cannot be read");
        gr_where(err, "%s/best", t->dir);
        return gr_hint(
            err, "when the cause is gone, the same command continues; without --keep-best it is left alone");
    }
    if (place == GR_ADAPTER_WHOLE && mark.iteration == p->best_iteration) {
        if (lacks)
            gr_trainer_note(
                t, "%s/best was saved without --gguf: its adapter.gguf comes with the next better validation",
                t->dir);
        return GRAFT_OK;
    }
    if (p->best_iteration == p->iteration) return gr_best_save(t, err);
    gr_trainer_note(t,
                    "%s/best does not hold the best adapter so far, that of iteration %lld: the best from "
                    "here on goes there",
                    t->dir, (long long)p->best_iteration);
    gr_best_forget(t);
    p->best_val = NAN;
    p->best_iteration = 0;
    return GRAFT_OK;
}

graft_status gr_saved_settle(gr_trainer *t, graft_error *err) {
    gr_adapter_mark mark;
    bool lacks;
    if (which(t, &mark, t->dir, &lacks) == GR_ADAPTER_TORN)
        gr_trainer_note(t, "the adapter's files in %s are not of one save: written anew from the checkpoint",
                        t->dir);
    GR_TRY(gr_trainer_save(t, t->dir, err));
    return settle_best(t, err);
}
