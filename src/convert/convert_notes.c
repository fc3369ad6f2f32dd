/* What a conversion says to people. */
#include "base/number.h"
#include "convert/conversion.h"
#include <stdarg.h>
#include <stdio.h>

graft_status gr_note_text(gr_convert_result *result, char *note, graft_error *err) {
    if (!note ||
        !gr_grow((void **)&result->notes, &result->note_cap, result->note_count, sizeof *result->notes)) {
        free(note);
        return gr_no_memory(err, 64);
    }
    result->notes[result->note_count++] = note;
    return GRAFT_OK;
}

graft_status gr_note(gr_convert_result *result, graft_error *err, const char *fmt, ...) {
    char line[400];
    va_list ap;
    va_start(ap, fmt);
    gr_vformat(line, sizeof line, fmt, ap);
    va_end(ap);
    return gr_note_text(result, gr_strdup(line), err);
}

/* ---- matrices with rows that the group does not divide, the same one of many blocks together */

/* The block's number and the path behind it; -1 and the whole path for modules outside blocks. */
static int64_t split_path(const char *path, const char **rest) {
    static const char prefix[] = "model.layers.";
    const char *p = path + sizeof prefix - 1;
    int64_t n = 0;
    *rest = path;
    if (strncmp(path, prefix, sizeof prefix - 1) != 0) return -1;
    for (; *p >= '0' && *p <= '9' && n < 1 << 20; p++) n = n * 10 + (*p - '0');
    if (*p != '.') return -1;
    *rest = p + 1;
    return n;
}

/* A job and where it stands. */
typedef struct place {
    const gr_job *job;
    const char *rest;
    int64_t block;
} place;

/* Of one module in several blocks? */
static int by_module(const place *x, const place *y) {
    int order = strcmp(x->rest, y->rest);
    if (!order) order = (x->block < 0) - (y->block < 0);
    if (!order) order = x->job->undivided - y->job->undivided;
    return order ? order : (x->job->cols > y->job->cols) - (x->job->cols < y->job->cols);
}

static int by_place(const void *a, const void *b) {
    const place *x = a, *y = b;
    int order = by_module(x, y);
    return order ? order : (x->block > y->block) - (x->block < y->block);
}

/* Modules that are in `count` places from `from` on. */
typedef struct module {
    const place *from;
    size_t count;
    const gr_job *first;
} module;

static int by_first(const void *a, const void *b) {
    const module *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* "0-3,7" of sorted blocks. */
static void add_ranges(gr_buf *text, const place *at, size_t n) {
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && at[end].block == at[end - 1].block + 1;) end++;
        gr_buf_printf(text, "%s%lld", i ? "," : "", (long long)at[i].block);
        if (end > i + 1) gr_buf_printf(text, "-%lld", (long long)at[end - 1].block);
    }
}

static void add_name(gr_buf *text, const module *m) {
    if (m->from->block >= 0) {
        gr_buf_puts(text, "model.layers.");
        add_ranges(text, m->from, m->count);
        gr_buf_putc(text, '.');
    }
    gr_buf_printf(text, "%s (%lld values, group %d)", m->from->rest, (long long)m->first->cols,
                  m->first->undivided);
}

graft_status gr_conversion_note_undivided(const gr_conversion *c, graft_error *err) {
    gr_buf text = {0};
    size_t n = 0, count = 0;
    if (!c->undivided) return GRAFT_OK;
    place *at = gr_calloc(c->undivided, sizeof *at);
    module *modules = gr_calloc(c->undivided, sizeof *modules);
    if (!at || !modules) {
        free(at);
        free(modules);
        return gr_no_memory(err, c->undivided * sizeof *at);
    }
    for (size_t i = 0; i < c->jobs.count && n < c->undivided; i++) {
        const gr_job *job = &c->jobs.items[i];
        if (!job->undivided) continue;
        at[n].job = job;
        at[n].block = split_path(job->path, &at[n].rest);
        n++;
    }
    qsort(at, n, sizeof *at, by_place);
    for (size_t i = 0; i < n; i++) {
        if (!i || by_module(&at[i], &at[i - 1]) != 0)
            modules[count++] = (module){.from = &at[i], .first = at[i].job};
        module *m = &modules[count - 1];
        m->count++;
        if (at[i].job < m->first) m->first = at[i].job;
    }
    qsort(modules, count, sizeof *modules, by_first);
    gr_buf_printf(&text, "%zu %s not quantized, rows are not whole groups:", c->undivided,
                  c->undivided > 1 ? "matrices are" : "matrix is");
    for (size_t i = 0; i < count; i++) {
        gr_buf_puts(&text, i ? "; " : " ");
        add_name(&text, &modules[i]);
    }
    free(at);
    free(modules);
    return gr_note_text(c->result, gr_buf_take(&text), err);
}
