#include "base/os.h"
#include "files/json_read.h"
#include "report/metrics.h"
#include <math.h>

#define METRICS_LIMIT ((size_t)1 << 30)

const gr_metric *gr_metrics_find(const gr_metrics *m, const char *name) {
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->list[i].name, name) == 0) return &m->list[i];
    return NULL;
}

/* The curve of that name, made if need be. *found is NULL where there are too many. */
static graft_status curve_of(gr_metric **found, gr_metrics *m, const char *name, graft_error *err) {
    *found = (gr_metric *)(uintptr_t)gr_metrics_find(m, name);
    if (*found) return GRAFT_OK;
    if (m->count == GR_METRICS_NAMES || strlen(name) >= sizeof m->list->name) {
        m->more++;
        return GRAFT_OK;
    }
    if (!gr_grow((void **)&m->list, &m->cap, m->count, sizeof *m->list))
        return gr_no_memory(err, (m->count + 1) * sizeof *m->list);
    *found = &m->list[m->count++];
    memset(*found, 0, sizeof **found);
    memcpy((*found)->name, name, strlen(name) + 1);
    return GRAFT_OK;
}

/* The run is at iteration x: it went back over what stands beyond. *again: something does. */
static void go_back(gr_metrics *m, double x, bool *again) {
    for (size_t i = 0; i < m->count; i++)
        for (gr_metric *c = &m->list[i]; c->count && c->x[c->count - 1] > x; c->count--) *again = true;
}

/* *again: the curve has a value of that iteration, which the later line's replaces. */
static graft_status push(gr_metric *c, double x, double y, bool *again, graft_error *err) {
    if (c->count && c->x[c->count - 1] == x) {
        c->count--;
        *again = true;
    }
    if (!gr_grow((void **)&c->x, &c->x_cap, c->count, sizeof *c->x) ||
        !gr_grow((void **)&c->y, &c->y_cap, c->count, sizeof *c->y))
        return gr_no_memory(err, (c->count + 1) * sizeof *c->x);
    c->x[c->count] = x;
    c->y[c->count++] = y;
    return GRAFT_OK;
}

/* Lines about an update that was skipped, or a spike, are counted: their numbers are no curves. */
static bool is_event(gr_metrics *m, const json_t *line) {
    const json_t *skipped = json_object_get(line, "skipped_updates");
    if (json_object_get(line, "spike")) m->spikes++;
    if (json_is_integer(skipped)) m->skipped = json_integer_value(skipped);
    return skipped || json_object_get(line, "spike");
}

static graft_status take_object(gr_metrics *m, json_t *line, graft_error *err) {
    const json_t *iteration = json_object_get(line, "iteration");
    const char *name;
    json_t *value;
    bool again = false;
    m->lines++;
    if (!json_is_number(iteration)) {
        m->without++;
        return GRAFT_OK;
    }
    m->last = json_number_value(iteration);
    go_back(m, m->last, &again);
    if (is_event(m, line)) {
        m->repeated += again;
        return GRAFT_OK;
    }
    json_object_foreach(line, name, value) {
        gr_metric *c;
        if (strcmp(name, "iteration") == 0 || !(json_is_number(value) || json_is_null(value))) continue;
        GR_TRY(curve_of(&c, m, name, err));
        if (c) GR_TRY(push(c, m->last, json_is_null(value) ? NAN : json_number_value(value), &again, err));
    }
    m->repeated += again;
    return GRAFT_OK;
}

/* last: no line end follows. */
static graft_status take_line(gr_metrics *m, const char *text, size_t len, uint64_t number, bool last,
                              graft_error *err) {
    json_error_t why = {0};
    graft_status st = gr_json_fits(text, len, GR_ROW_LIMIT, err);
    json_t *object = st == GRAFT_OK ? gr_json_loadb(text, len, 0, &why) : NULL;
    if (st == GRAFT_OK && object)
        st = json_is_object(object) ? take_object(m, object, err)
                                    : gr_fail(err, GRAFT_CORRUPT, "not a JSON object");
    else if (st == GRAFT_OK && gr_json_no_memory(&why))
        st = gr_no_memory(err, len);
    else if (st == GRAFT_OK && last)
        m->cut = number;
    else if (st == GRAFT_OK)
        st = gr_fail(err, GRAFT_CORRUPT, "not valid JSON: %s", why.text);
    json_decref(object);
    return st;
}

static bool is_blank(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') return false;
    return true;
}

graft_status gr_metrics_parse(gr_metrics *m, const char *text, size_t size, const char *path,
                              graft_error *err) {
    const char *end = text + size;
    *m = (gr_metrics){.last = -1};
    for (uint64_t line = 1; text < end; line++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        bool last = !stop;
        if (last) stop = end;
        size_t len = (size_t)(stop - text);
        if (!is_blank(text, len) && take_line(m, text, len, line, last, err) != GRAFT_OK)
            return gr_where(err, "%s, line %llu", path, (unsigned long long)line);
        text = last ? end : stop + 1;
    }
    return GRAFT_OK;
}

graft_status gr_metrics_read(gr_metrics *m, const char *path, graft_error *err) {
    char *text = NULL;
    size_t size;
    *m = (gr_metrics){.last = -1};
    GR_TRY(gr_file_read(&text, &size, path, METRICS_LIMIT, err));
    graft_status st = gr_metrics_parse(m, text, size, path, err);
    free(text);
    return st;
}

void gr_metrics_free(gr_metrics *m) {
    for (size_t i = 0; i < m->count; i++) {
        free(m->list[i].x);
        free(m->list[i].y);
    }
    free(m->list);
    *m = (gr_metrics){0};
}

double gr_metric_last(const gr_metric *m) {
    for (size_t i = m ? m->count : 0; i; i--)
        if (isfinite(m->y[i - 1])) return m->y[i - 1];
    return NAN;
}

double gr_metric_least(const gr_metric *m, double *x) {
    double least = NAN;
    for (size_t i = 0; m && i < m->count; i++) {
        if (!isfinite(m->y[i]) || m->y[i] >= least) continue;
        least = m->y[i];
        if (x) *x = m->x[i];
    }
    return least;
}

double gr_metric_most(const gr_metric *m) {
    double most = NAN;
    for (size_t i = 0; m && i < m->count; i++)
        if (isfinite(m->y[i]) && !(m->y[i] <= most)) most = m->y[i];
    return most;
}
