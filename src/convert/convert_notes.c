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

/* Is job the same module of another block as `of`? Its block, else -1. */
static int64_t same_module(const gr_job *job, const gr_job *of) {
    const char *rest, *want;
    split_path(of->path, &want);
    int64_t block =
        job->undivided == of->undivided && job->cols == of->cols ? split_path(job->path, &rest) : -1;
    return block >= 0 && strcmp(rest, want) == 0 ? block : -1;
}

static bool is_first(const gr_conversion *c, const gr_job *job) {
    for (const gr_job *j = c->jobs.items; j < job; j++)
        if (j->undivided && same_module(j, job) >= 0) return false;
    return true;
}

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* "0-3,7" of sorted numbers. */
static void add_ranges(gr_buf *text, const int64_t *block, size_t n) {
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && block[end] == block[end - 1] + 1;) end++;
        gr_buf_printf(text, "%s%lld", i ? "," : "", (long long)block[i]);
        if (end > i + 1) gr_buf_printf(text, "-%lld", (long long)block[end - 1]);
    }
}

static void add_name(gr_buf *text, const gr_conversion *c, const gr_job *job, int64_t *block) {
    const char *rest;
    size_t n = 0;
    if (split_path(job->path, &rest) < 0) {
        gr_buf_puts(text, job->path);
    } else {
        for (size_t i = 0; i < c->jobs.count; i++) {
            const gr_job *j = &c->jobs.items[i];
            int64_t number = j->undivided ? same_module(j, job) : -1;
            if (number >= 0) block[n++] = number;
        }
        qsort(block, n, sizeof *block, by_number);
        gr_buf_puts(text, "model.layers.");
        add_ranges(text, block, n);
        gr_buf_printf(text, ".%s", rest);
    }
    gr_buf_printf(text, " (%lld values, group %d)", (long long)job->cols, job->undivided);
}

graft_status gr_conversion_note_undivided(const gr_conversion *c, graft_error *err) {
    gr_buf text = {0};
    if (!c->undivided) return GRAFT_OK;
    int64_t *block = gr_calloc(c->jobs.count, sizeof *block);
    if (!block) return gr_no_memory(err, c->jobs.count * sizeof *block);
    gr_buf_printf(&text, "%zu %s not quantized, rows are not whole groups:", c->undivided,
                  c->undivided > 1 ? "matrices are" : "matrix is");
    bool first = true;
    for (size_t i = 0; i < c->jobs.count; i++) {
        const gr_job *job = &c->jobs.items[i];
        if (!job->undivided || !is_first(c, job)) continue;
        gr_buf_puts(&text, first ? " " : "; ");
        add_name(&text, c, job, block);
        first = false;
    }
    free(block);
    return gr_note_text(c->result, gr_buf_take(&text), err);
}
