#include "base/os.h"
#include "files/json_read.h"
#include "report/run.h"
#include <math.h>
#include <stdio.h>

/* Where the character of text[at] begins. */
static size_t character_at(const char *text, size_t at) {
    while (at && ((unsigned char)text[at] & 0xc0) == 0x80) at--;
    return at;
}

/* The last parts of a path, or their end where there is no room for more, in characters that any page can
 * have. */
static void name_of(char *name, size_t room, const char *dir, int parts) {
    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/') end--;
    size_t start = end;
    for (int i = 0; i < parts && start; i++) {
        while (start && dir[start - 1] == '/' && start < end) start--;
        while (start && dir[start - 1] != '/') start--;
    }
    if (end - start > room - 1) {
        start = end - (room - 1);
        while (start < end && ((unsigned char)dir[start] & 0xc0) == 0x80) start++;
    }
    snprintf(name, room, "%.*s", (int)(end - start), dir + start);
    if (gr_json_utf8(name)) return;
    for (char *p = name; *p; p++)
        if ((unsigned char)*p >= 0x80) *p = '?';
}

/* Two of the runs before count, other than i itself, that are called as run i. */
static bool is_taken(const gr_run *runs, size_t count, size_t i) {
    for (size_t k = 0; k < count; k++)
        if (k != i && strcmp(runs[k].name, runs[i].name) == 0) return true;
    return false;
}

void gr_runs_tell_apart(gr_run *runs, size_t count) {
    bool taken[GR_RUNS_MOST];
    for (int parts = 2; parts <= 16; parts++) {
        for (size_t i = 0; i < count; i++) taken[i] = is_taken(runs, count, i);
        for (size_t i = 0; i < count; i++)
            if (taken[i]) name_of(runs[i].name, sizeof runs[i].name, runs[i].dir, parts);
    }
    for (size_t i = 1; i < count; i++) { /* the same directory twice */
        if (!is_taken(runs, i, i)) continue;
        size_t most = sizeof runs[i].name - sizeof " (8)", len = strlen(runs[i].name);
        size_t at = len > most ? character_at(runs[i].name, most) : len;
        snprintf(runs[i].name + at, sizeof runs[i].name - at, " (%zu)", i + 1);
    }
}

/* A JSON object of the directory, if it is there. */
static graft_status read_object(json_t **object, const char *dir, const char *name, graft_error *err) {
    char *path = gr_path_join(dir, name);
    if (!path) return gr_no_memory(err, 0);
    graft_status st = gr_path_exists(path) ? gr_json_load(object, path, GR_CONFIG_LIMIT, err) : GRAFT_OK;
    if (st == GRAFT_OK && *object && !json_is_object(*object)) {
        gr_fail(err, GRAFT_CORRUPT, "not a JSON object");
        st = gr_where(err, "%s", path);
    }
    if (st == GRAFT_OK) st = gr_json_shallow(*object, path, err);
    free(path);
    return st;
}

static void say(gr_run *r) {
    const gr_metrics *m = &r->metrics;
    gr_buf *n = &r->notes;
    if (m->cut)
        gr_buf_printf(n, "metrics.jsonl ends in the middle of line %llu, which is left out\n",
                      (unsigned long long)m->cut);
    if (m->repeated)
        gr_buf_printf(n,
                      "%zu lines of metrics.jsonl go back to iterations that earlier lines have: the later "
                      "lines are shown\n",
                      m->repeated);
    if (m->without)
        gr_buf_printf(n, "%zu lines of metrics.jsonl have no iteration and are left out\n", m->without);
    if (m->more)
        gr_buf_printf(n,
                      "%zu values of metrics.jsonl stand under more names than are shown, or longer ones\n",
                      m->more);
    if (!r->record) gr_buf_puts(n, "there is no run.json: settings, data and forecast are not known\n");
}

graft_status gr_run_none(gr_run *r, const char *dir, graft_error *err) {
    *r = (gr_run){.dir = gr_strdup(dir), .metrics = {.last = -1}};
    name_of(r->name, sizeof r->name, dir, 1);
    return r->dir ? GRAFT_OK : gr_no_memory(err, 0);
}

graft_status gr_run_read_texts(gr_run *r, const char *dir, graft_error *err) {
    GR_TRY(gr_run_none(r, dir, err));
    char *path = gr_path_join(dir, "metrics.jsonl");
    graft_status st = path ? gr_metrics_read(&r->metrics, path, err) : gr_no_memory(err, 0);
    if (st == GRAFT_NOT_FOUND)
        gr_hint(err, "a report is made of a directory that graft train writes (its --adapter-path)");
    free(path);
    GR_TRY(st);
    GR_TRY(read_object(&r->record, dir, "run.json", err));
    GR_TRY(read_object(&r->samples, dir, "samples.json", err));
    say(r);
    return r->notes.failed ? gr_no_memory(err, 0) : GRAFT_OK;
}

graft_status gr_run_read(gr_run *r, const char *dir, graft_error *err) {
    GR_TRY(gr_run_read_texts(r, dir, err));
    return gr_change_read(&r->change, dir, gr_run_text(r, "earlier_adapter", NULL), err);
}

void gr_run_free(gr_run *r) {
    free(r->dir);
    gr_metrics_free(&r->metrics);
    json_decref(r->record);
    json_decref(r->samples);
    gr_change_free(&r->change);
    gr_buf_free(&r->notes);
    *r = (gr_run){0};
}

const json_t *gr_run_object(const gr_run *r, const char *key) {
    const json_t *value = json_object_get(r->record, key);
    return json_is_object(value) ? value : NULL;
}

static const json_t *find(const gr_run *r, const char *key, const char *inner) {
    const json_t *value = json_object_get(r->record, key);
    return inner ? json_object_get(value, inner) : value;
}

double gr_run_number(const gr_run *r, const char *key, const char *inner) {
    const json_t *value = find(r, key, inner);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *gr_run_text(const gr_run *r, const char *key, const char *inner) {
    return json_string_value(find(r, key, inner));
}

void gr_smooth(double *to, const double *from, size_t n) {
    double mean = 0, weight = 1;
    for (size_t i = 0; i < n; i++) {
        to[i] = NAN;
        if (!isfinite(from[i])) continue;
        mean = GR_SMOOTHING * mean + (1 - GR_SMOOTHING) * from[i];
        weight *= GR_SMOOTHING;
        to[i] = mean / (1 - weight);
    }
}
