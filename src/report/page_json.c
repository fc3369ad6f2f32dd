#include "files/json_read.h"
#include "files/json_write.h"
#include "report/page.h"
#include <math.h>

static json_t *list(bool *good, const double *values, size_t n) {
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) {
        double v = values[i];
        bool whole = v == floor(v) && fabs(v) < 1e15;
        gr_json_append(good, all, whole ? json_integer((json_int_t)v) : gr_json_number(v));
    }
    return all;
}

static json_t *curves_of(bool *good, const gr_metrics *m) {
    json_t *all = json_object();
    for (size_t i = 0; i < m->count; i++) {
        const gr_metric *c = &m->list[i];
        json_t *curve = json_object();
        gr_json_put(good, curve, "iterations", list(good, c->x, c->count));
        gr_json_put(good, curve, "values", list(good, c->y, c->count));
        gr_json_put(good, all, c->name, curve);
    }
    return all;
}

static json_t *smoothed_of(bool *good, const gr_metrics *m) {
    const gr_metric *loss = gr_metrics_find(m, "train_loss");
    size_t n = loss ? loss->count : 0;
    double *mean = gr_calloc(n, sizeof *mean);
    *good = *good && mean;
    if (mean && n) gr_smooth(mean, loss->y, n);
    json_t *values = mean ? list(good, mean, n) : NULL;
    free(mean);
    return values;
}

static json_t *change_of(bool *good, const gr_change *c) {
    if (c->none) return json_null();
    json_t *modules = json_array(), *rows = json_array(), *all = json_object();
    for (size_t m = 0; m < c->modules; m++) gr_json_append(good, modules, json_string(c->module[m]));
    for (int64_t r = 0; r < c->rows; r++) {
        json_t *row = json_array();
        for (size_t m = 0; m < c->modules; m++)
            gr_json_append(good, row, gr_json_number(c->norm[r * GR_CHANGE_MODULES + (int64_t)m]));
        gr_json_append(good, rows, row);
    }
    gr_json_put(good, all, "modules", modules);
    gr_json_put(good, all, "norms", rows);
    gr_json_put(good, all, "last_is_outside", json_boolean(c->outside));
    gr_json_put(good, all, "left_out", json_integer((json_int_t)c->left_out));
    return all;
}

static json_t *run_of(bool *good, const gr_run *r) {
    double at = NAN, best = gr_metric_least(gr_metrics_find(&r->metrics, "val_loss"), &at);
    json_t *all = json_object();
    gr_json_put(good, all, "name", json_string(r->name));
    gr_json_put(good, all, "dir", gr_json_utf8(r->dir) ? json_string(r->dir) : json_null());
    gr_json_put(good, all, "iteration", r->metrics.last < 0 ? json_null() : gr_json_number(r->metrics.last));
    gr_json_put(good, all, "train_loss",
                gr_json_number(gr_metric_last(gr_metrics_find(&r->metrics, "train_loss"))));
    gr_json_put(good, all, "val_loss_best", gr_json_number(best));
    gr_json_put(good, all, "val_loss_best_iteration", gr_json_number(at));
    gr_json_put(good, all, "peak_memory_bytes",
                gr_json_number(gr_metric_most(gr_metrics_find(&r->metrics, "peak_memory_bytes"))));
    gr_json_put(good, all, "forecast_bytes", gr_json_number(gr_run_number(r, "memory", "total")));
    gr_json_put(good, all, "skipped_updates", json_integer(r->metrics.skipped));
    gr_json_put(good, all, "spikes", json_integer(r->metrics.spikes));
    gr_json_put(good, all, "curves", curves_of(good, &r->metrics));
    gr_json_put(good, all, "train_loss_smoothed", smoothed_of(good, &r->metrics));
    gr_json_put(good, all, "change", change_of(good, &r->change));
    gr_json_put(good, all, "run", r->record ? json_incref(r->record) : json_null());
    gr_json_put(good, all, "samples", r->samples ? json_incref(r->samples) : json_null());
    gr_json_put(good, all, "notes", json_string(r->notes.data ? r->notes.data : ""));
    return all;
}

graft_status gr_page_numbers(json_t **document, const gr_run *runs, size_t count, graft_error *err) {
    bool good = true;
    json_t *all = json_object(), *list_of_runs = json_array();
    for (size_t i = 0; i < count; i++) gr_json_append(&good, list_of_runs, run_of(&good, &runs[i]));
    gr_json_put(&good, all, "runs", list_of_runs);
    *document = good ? all : NULL;
    if (good) return GRAFT_OK;
    json_decref(all);
    return gr_no_memory(err, 0);
}
