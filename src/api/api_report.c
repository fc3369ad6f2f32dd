#include "adapters/adapter.h"
#include "api/api.h"
#include "files/json_write.h"
#include "infer/session.h"
#include "report/page.h"
#include "sweep/sweep.h"
#include <stdio.h>

/* The prompts answered by the base and by the adapter in dir. */
static graft_status make_samples(const char *dir, const graft_options *asked, const graft_hooks *hooks,
                                 graft_error *err) {
    graft_options o = *asked; /* borrows everything */
    gr_adapter_record record = {0};
    char *model_dir = NULL;
    graft_status st = gr_adapter_record_read(&record, dir, err);
    o.adapter_path = (char *)(uintptr_t)dir;
    if (!o.model) o.model = record.base;
    if (st == GRAFT_OK && !o.model) {
        gr_fail(err, GRAFT_USAGE, "the adapter does not say which model it belongs to");
        gr_where(err, "%s", dir);
        st = gr_hint(err, "--model names it");
    }
    if (st == GRAFT_OK) st = gr_api_model_dir(&model_dir, &o, true, hooks, err);
    if (st == GRAFT_OK) st = gr_samples_save(model_dir, &o, hooks, err);
    free(model_dir);
    gr_adapter_record_free(&record);
    return st;
}

static graft_status write_page(graft_report_result *result, const gr_run *runs, size_t count,
                               graft_error *err) {
    gr_buf page = {0};
    json_t *numbers = NULL;
    graft_status st = gr_page_html(&page, runs, count, err);
    if (st == GRAFT_OK) st = gr_page_numbers(&numbers, runs, count, err);
    if (st == GRAFT_OK && !(result->json = gr_json_dump(numbers, JSON_COMPACT))) st = gr_no_memory(err, 0);
    if (st == GRAFT_OK) st = gr_file_replace(result->html, page.data, page.len, err);
    json_decref(numbers);
    gr_buf_free(&page);
    return st;
}

static graft_status take_notes(graft_report_result *result, const char *first, const gr_run *runs,
                               size_t count, graft_error *err) {
    gr_buf notes = {0};
    if (first[0]) gr_buf_printf(&notes, "%s\n", first);
    for (size_t i = 0; i < count; i++) {
        const char *text = runs[i].notes.data ? runs[i].notes.data : "";
        while (*text) {
            size_t n = strcspn(text, "\n");
            gr_buf_printf(&notes, "%s: %.*s\n", runs[i].dir, (int)n, text);
            text += n + (text[n] == '\n');
        }
    }
    bool failed = notes.failed;
    result->notes = notes.data ? gr_buf_take(&notes) : gr_strdup("");
    return failed || !result->notes ? gr_no_memory(err, 0) : GRAFT_OK;
}

/* Directories to report on, and the one that the page goes into; NULL: none. */
typedef struct subject {
    const char *const *dirs;
    size_t count;
    const char *place;
    char note[160]; /* "" for none */
} subject;

static graft_status report(graft_report_result *result, const subject *what, const graft_options *o,
                           const graft_hooks *hooks, graft_error *err) {
    gr_run runs[GR_RUNS_MOST] = {0};
    size_t opened = 0, count = what->count;
    graft_status st = GRAFT_OK;
    for (size_t i = 0; i < count && st == GRAFT_OK; i++) { /* what is wrong with one, before any work */
        st = gr_run_read(&runs[i], what->dirs[i], err);
        opened = i + 1;
    }
    for (size_t i = 0; o->prompts && i < count && st == GRAFT_OK; i++) {
        st = make_samples(what->dirs[i], o, hooks, err);
        gr_run_free(&runs[i]);
        if (st == GRAFT_OK) st = gr_run_read(&runs[i], what->dirs[i], err);
    }
    if (st == GRAFT_OK) {
        gr_runs_tell_apart(runs, count);
        result->html = o->html       ? gr_strdup(o->html)
                       : what->place ? gr_path_join(what->place, "report.html")
                                     : gr_strdup("report.html");
        st = result->html ? take_notes(result, what->note, runs, count, err) : gr_no_memory(err, 0);
    }
    if (st == GRAFT_OK) st = write_page(result, runs, count, err);
    for (size_t i = 0; i < opened; i++) gr_run_free(&runs[i]);
    return st;
}

/* The trials of a sweep: all, or the best of them. */
static graft_status report_sweep(graft_report_result *result, const char *place, const graft_options *o,
                                 const graft_hooks *hooks, graft_error *err) {
    char *dirs[GR_RUNS_MOST];
    size_t left_out;
    subject what = {.dirs = (const char *const *)dirs, .place = place};
    GR_TRY(gr_sweep_dirs(dirs, &what.count, &left_out, GR_RUNS_MOST, place, err));
    if (left_out)
        snprintf(what.note, sizeof what.note,
                 "the %zu trials with the lowest validation losses; %zu more are left out", what.count,
                 left_out);
    graft_status st = report(result, &what, o, hooks, err);
    for (size_t i = 0; i < what.count; i++) free(dirs[i]);
    return st;
}

graft_status graft_report(const char *const *dirs, size_t count, const graft_options *o,
                          const graft_hooks *hooks, graft_report_result *result, graft_error *err) {
    GR_API_OWN_ERROR(err);
    _Static_assert(GR_RUNS_MOST == GRAFT_REPORT_DIRS, "the page has room for what the header promises");
    memset(result, 0, sizeof *result);
    GR_TRY(gr_api_begin(o, GRAFT_VERB_REPORT, err));
    if (!count || count > GR_RUNS_MOST) {
        gr_fail(err, GRAFT_USAGE, count ? "too many directories" : "no directory to report on");
        gr_expected(err, "1 to %d", GR_RUNS_MOST);
        return gr_found(err, "%zu", count);
    }
    subject what = {.dirs = dirs, .count = count, .place = count == 1 ? dirs[0] : NULL};
    graft_status st = count == 1 && gr_sweep_is(dirs[0]) ? report_sweep(result, dirs[0], o, hooks, err)
                                                         : report(result, &what, o, hooks, err);
    if (st != GRAFT_OK) graft_report_result_free(result);
    return st;
}

void graft_report_result_free(graft_report_result *result) {
    if (!result) return;
    free(result->html);
    free(result->json);
    free(result->notes);
    memset(result, 0, sizeof *result);
}
