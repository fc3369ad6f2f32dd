#include "files/json_bits.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "sweep/sweep.h"
#include "train/settings_changed.h"
#include <math.h>
#include <stdio.h>

static json_t *trial_json(bool *good, const graft_sweep_trial *t) {
    json_t *all = json_object();
    gr_json_put(good, all, "name", json_string(t->name));
    gr_json_put(good, all, "values", json_string(t->values));
    gr_json_put(good, all, "state", json_string(t->state));
    if (t->error) gr_json_put(good, all, "error", json_string(gr_json_utf8(t->error) ? t->error : "?"));
    gr_json_put(good, all, "iterations", json_integer(t->iterations));
    gr_json_put(good, all, "train_loss", gr_json_number(t->train_loss));
    gr_json_put(good, all, "val_loss_first", gr_json_number(t->val_loss_first));
    gr_json_put(good, all, "val_loss_last", gr_json_number(t->val_loss_last));
    gr_json_put(good, all, "val_loss_best", gr_json_number(t->val_loss_best));
    gr_json_put(good, all, "seconds", gr_json_number(t->seconds));
    gr_json_put(good, all, "peak_memory_bytes", json_integer((json_int_t)t->peak_memory_bytes));
    gr_json_put(good, all, "forecast_bytes", json_integer((json_int_t)t->forecast_bytes));
    return all;
}

graft_status gr_sweep_save(const char *place, const graft_options *o, const gr_sweep_inputs *in,
                           const graft_sweep_result *r, graft_error *err) {
    bool good = true;
    json_t *all = json_object(), *trials = json_array();
    char *settings = gr_options_settings(o, GRAFT_VERB_TRAIN), *path = gr_path_join(place, "sweep.json");
    for (size_t i = 0; i < r->ntrials; i++) gr_json_append(&good, trials, trial_json(&good, &r->trials[i]));
    gr_json_put(&good, all, "grid", json_string(o->grid));
    gr_json_put(&good, all, "halving", json_integer(o->halving));
    gr_json_put(&good, all, "settings",
                settings ? json_string(gr_json_utf8(settings) ? settings : "") : NULL);
    gr_json_put(&good, all, "base", gr_json_hex(in->base));
    gr_json_put(&good, all, "train", gr_json_hex(in->train));
    gr_json_put(&good, all, "valid", gr_json_hex(in->valid));
    gr_json_put(&good, all, "trials", trials);
    gr_json_put(&good, all, "best", r->best >= 0 ? json_string(r->trials[r->best].name) : json_null());
    graft_status st = good && path ? gr_json_save(path, all, err) : gr_no_memory(err, 0);
    json_decref(all);
    free(settings);
    free(path);
    return st;
}

static const char *const states[] = {GRAFT_SWEEP_WAITING, GRAFT_SWEEP_DONE,    GRAFT_SWEEP_STOPPED,
                                     GRAFT_SWEEP_PAUSED,  GRAFT_SWEEP_DROPPED, GRAFT_SWEEP_FAILED};

static graft_status read_real(const gr_json_scope *s, const char *key, double *value, graft_error *err) {
    *value = NAN;
    return gr_json_real(s, key, -1e300, 1e300, value, err);
}

static graft_status read_trial(graft_sweep_trial *t, const gr_json_scope *s, graft_error *err) {
    const char *name = NULL, *state = NULL, *error = NULL;
    int64_t peak = 0;
    GR_TRY(gr_json_string(s, "name", &name, err));
    GR_TRY(gr_json_string(s, "state", &state, err));
    GR_TRY(gr_json_string(s, "error", &error, err));
    for (size_t i = 0; state && i < sizeof states / sizeof *states; i++)
        if (strcmp(states[i], state) == 0) t->state = states[i];
    if (!name || strcmp(name, t->name) != 0 || !state || strcmp(state, t->state) != 0) {
        gr_fail(err, GRAFT_CORRUPT, "a trial of the sweep is not what it was");
        gr_where(err, "%s", s->file);
        gr_expected(err, "%s", t->name);
        return gr_found(err, "%s", name ? name : "nothing");
    }
    GR_TRY(gr_json_int(s, "iterations", 0, INT64_MAX, &t->iterations, err));
    GR_TRY(gr_json_int(s, "peak_memory_bytes", 0, INT64_MAX, &peak, err));
    t->peak_memory_bytes = (uint64_t)peak;
    GR_TRY(read_real(s, "train_loss", &t->train_loss, err));
    GR_TRY(read_real(s, "val_loss_first", &t->val_loss_first, err));
    GR_TRY(read_real(s, "val_loss_last", &t->val_loss_last, err));
    GR_TRY(read_real(s, "val_loss_best", &t->val_loss_best, err));
    GR_TRY(read_real(s, "seconds", &t->seconds, err));
    if (error && !(t->error = gr_strdup(error))) return gr_no_memory(err, 0);
    return GRAFT_OK;
}

/* The settings of all trials, and the grid, are those of the sweep that goes on. */
static graft_status compare(const gr_json_scope *s, const graft_options *o, graft_error *err) {
    const char *grid = NULL, *then = NULL;
    char before[24], today[24];
    int64_t halving = 0;
    char *now = gr_options_settings(o, GRAFT_VERB_TRAIN);
    gr_changes changes = {.allow = NULL, .other_base = o->allow_other_base};
    graft_status st = now ? GRAFT_OK : gr_no_memory(err, 0);
    if (st == GRAFT_OK) st = gr_json_need(s, "grid", err);
    if (st == GRAFT_OK) st = gr_json_string(s, "grid", &grid, err);
    if (st == GRAFT_OK) st = gr_json_int(s, "halving", 0, INT64_MAX, &halving, err);
    if (st == GRAFT_OK) st = gr_json_need(s, "settings", err);
    if (st == GRAFT_OK) st = gr_json_string(s, "settings", &then, err);
    if (st == GRAFT_OK) {
        gr_changes_settings(&changes, then, now);
        if (strcmp(grid, o->grid) != 0) gr_changes_add(&changes, "grid", grid, o->grid);
        snprintf(before, sizeof before, "%lld", (long long)halving);
        snprintf(today, sizeof today, "%lld", (long long)o->halving);
        if (halving != o->halving) gr_changes_add(&changes, "halving", before, today);
        if (changes.refused.failed) st = gr_no_memory(err, 0);
    }
    if (st == GRAFT_OK && changes.count) {
        st = gr_fail(err, GRAFT_MISMATCH, "the sweep was begun with other settings");
        gr_where(err, "%s", s->file);
        gr_found(err, "%s", changes.refused.data);
        gr_hint(err, "the same command with --resume continues; another --adapter-path begins anew");
    }
    gr_changes_free(&changes);
    free(now);
    return st;
}

static graft_status read_inputs(gr_sweep_inputs *in, const gr_json_scope *s, graft_error *err) {
    GR_TRY(gr_json_read_hex(s, "base", &in->base, err));
    GR_TRY(gr_json_read_hex(s, "train", &in->train, err));
    return gr_json_read_hex(s, "valid", &in->valid, err);
}

graft_status gr_sweep_same_inputs(const gr_sweep_inputs *then, const gr_sweep_inputs *now, const char *place,
                                  graft_error *err) {
    const struct {
        const char *name;
        uint64_t then, now;
    } all[] = {{"base", then->base, now->base},
               {"training rows", then->train, now->train},
               {"validation rows", then->valid, now->valid}};
    gr_buf differ = {0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].then != all[i].now)
            gr_buf_printf(&differ, "%s%s: digest %016llx -> %016llx", differ.len ? "\n" : "", all[i].name,
                          (unsigned long long)all[i].then, (unsigned long long)all[i].now);
    graft_status st = GRAFT_OK;
    if (differ.failed) {
        st = gr_no_memory(err, 256);
    } else if (differ.len) {
        st = gr_fail(err, GRAFT_MISMATCH, "the trials so far were measured with another base or other rows");
        gr_where(err, "%s/sweep.json", place);
        gr_found(err, "%s", differ.data);
        gr_hint(err,
                "their losses do not compare: another --adapter-path begins anew (a template that prints "
                "the date makes other rows every day)");
    }
    gr_buf_free(&differ);
    return st;
}

graft_status gr_sweep_load(graft_sweep_result *r, gr_sweep_inputs *inputs, bool *found, const char *place,
                           const graft_options *o, graft_error *err) {
    json_t *all = NULL;
    const json_t *trials = NULL;
    char *path = gr_path_join(place, "sweep.json");
    graft_status st = path ? GRAFT_OK : gr_no_memory(err, 0);
    *found = path && gr_path_exists(path);
    if (*found) st = gr_json_load(&all, path, GR_CONFIG_LIMIT, err);
    if (*found && st == GRAFT_OK) {
        gr_json_scope s = {all, path, ""};
        st = compare(&s, o, err);
        if (st == GRAFT_OK) st = read_inputs(inputs, &s, err);
        if (st == GRAFT_OK) st = gr_json_array(&s, "trials", &trials, err);
        if (st == GRAFT_OK && json_array_size(trials) != r->ntrials) {
            st = gr_fail(err, GRAFT_CORRUPT, "the sweep has another number of trials");
            gr_where(err, "%s", path);
        }
        for (size_t i = 0; i < r->ntrials && st == GRAFT_OK; i++) {
            char inner[32];
            snprintf(inner, sizeof inner, "trials[%zu]", i);
            gr_json_scope one = {json_array_get(trials, i), path, inner};
            st = read_trial(&r->trials[i], &one, err);
        }
    }
    json_decref(all);
    free(path);
    return st;
}
