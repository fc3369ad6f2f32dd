/* The directories of a sweep's trials, for who looks at them afterwards. */
#include "files/json_read.h"
#include "sweep/sweep.h"
#include <math.h>
#include <stdio.h>

/* A trial that wrote something. */
typedef struct found {
    char *dir; /* owned */
    double loss;
    size_t at; /* in the table */
} found;

static int by_loss(const void *a, const void *b) {
    const found *x = a, *y = b;
    double left = isfinite(x->loss) ? x->loss : INFINITY, right = isfinite(y->loss) ? y->loss : INFINITY;
    if (left != right) return left < right ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

static int by_place(const void *a, const void *b) {
    const found *x = a, *y = b;
    return x->at < y->at ? -1 : 1;
}

static bool ran(const char *dir) {
    char *metrics = gr_path_join(dir, "metrics.jsonl");
    bool there = metrics && gr_path_exists(metrics);
    free(metrics);
    return there;
}

static graft_status add(found *all, size_t *count, const json_t *trial, size_t at, const char *place,
                        const char *file, graft_error *err) {
    char inner[32];
    const char *name = NULL;
    double loss = NAN;
    snprintf(inner, sizeof inner, "trials[%zu]", at);
    gr_json_scope s = {trial, file, inner};
    GR_TRY(gr_json_need(&s, "name", err));
    GR_TRY(gr_json_string(&s, "name", &name, err));
    GR_TRY(gr_json_real(&s, "val_loss_best", -1e300, 1e300, &loss, err));
    if (!gr_plain_file_name(name)) {
        gr_fail(err, GRAFT_CORRUPT, "a trial's name is no name of a directory");
        gr_where(err, "%s, %s", file, inner);
        return gr_found(err, "%.100s", name);
    }
    char *dir = gr_path_join(place, name);
    if (!dir) return gr_no_memory(err, 0);
    if (ran(dir))
        all[(*count)++] = (found){dir, loss, at};
    else
        free(dir);
    return GRAFT_OK;
}

/* The first of what is left of them, into dirs[]; the rest is freed. */
static size_t take(char **dirs, size_t most, found *all, size_t count) {
    qsort(all, count, sizeof *all, by_loss);
    size_t n = count < most ? count : most;
    for (size_t i = n; i < count; i++) free(all[i].dir);
    qsort(all, n, sizeof *all, by_place);
    for (size_t i = 0; i < n; i++) dirs[i] = all[i].dir;
    return n;
}

static graft_status read_trials(char **dirs, size_t *count, size_t *left_out, size_t most, const char *place,
                                const gr_json_scope *s, graft_error *err) {
    const json_t *trials = NULL;
    GR_TRY(gr_json_need(s, "trials", err));
    GR_TRY(gr_json_array(s, "trials", &trials, err));
    size_t listed = json_array_size(trials), n = 0;
    if (listed > GR_SWEEP_TRIALS) {
        gr_fail(err, GRAFT_CORRUPT, "more trials than a sweep can have");
        return gr_where(err, "%s", s->file);
    }
    found all[GR_SWEEP_TRIALS];
    graft_status st = GRAFT_OK;
    for (size_t i = 0; i < listed && st == GRAFT_OK; i++)
        st = add(all, &n, json_array_get(trials, i), i, place, s->file, err);
    *count = take(dirs, st == GRAFT_OK ? most : 0, all, n);
    *left_out = n - *count;
    if (st != GRAFT_OK || n) return st;
    gr_fail(err, GRAFT_NOT_FOUND, "no trial of the sweep has begun");
    return gr_where(err, "%s", s->file);
}

bool gr_sweep_is(const char *place) {
    char *path = gr_path_join(place, "sweep.json");
    bool there = path && gr_path_exists(path);
    free(path);
    return there;
}

graft_status gr_sweep_dirs(char **dirs, size_t *count, size_t *left_out, size_t most, const char *place,
                           graft_error *err) {
    json_t *all = NULL;
    char *path = gr_path_join(place, "sweep.json");
    *count = *left_out = 0;
    graft_status st = path ? gr_json_load(&all, path, GR_CONFIG_LIMIT, err) : gr_no_memory(err, 0);
    if (st == GRAFT_OK) {
        gr_json_scope s = {all, path, ""};
        st = read_trials(dirs, count, left_out, most, place, &s, err);
    }
    json_decref(all);
    free(path);
    return st;
}
