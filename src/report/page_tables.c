#include "report/page_parts.h"
#include <math.h>

static bool same(const json_t *a, const json_t *b) {
    return a == b || (a && b && json_equal(a, b));
}

/* A setting that is not the same in every run. */
static bool differs(const gr_run *runs, size_t count, const char *name) {
    const json_t *first = json_object_get(gr_run_object(&runs[0], "settings"), name);
    for (size_t i = 1; i < count; i++)
        if (!same(first, json_object_get(gr_run_object(&runs[i], "settings"), name))) return true;
    return false;
}

static void put_row(gr_buf *out, const gr_run *runs, size_t count, const char *name) {
    gr_buf_puts(out, "<tr><th scope=\"row\">");
    gr_page_text(out, name);
    gr_buf_puts(out, "</th>");
    for (size_t i = 0; i < count; i++) {
        const char *value = json_string_value(json_object_get(gr_run_object(&runs[i], "settings"), name));
        gr_buf_puts(out, "<td>");
        gr_page_text(out, value ? value : "\xe2\x80\x93");
        gr_buf_puts(out, "</td>");
    }
    gr_buf_puts(out, "</tr>\n");
}

/* Rows of all settings, or of those that differ, each name once: where the first run that has it stands. */
static void put_rows(gr_buf *out, const gr_run *runs, size_t count, bool differing) {
    for (size_t r = 0; r < count; r++) {
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)gr_run_object(&runs[r], "settings"), name, value) {
            bool before = false;
            for (size_t i = 0; i < r; i++)
                before |= json_object_get(gr_run_object(&runs[i], "settings"), name) != NULL;
            if (!before && json_is_string(value) && (!differing || differs(runs, count, name)))
                put_row(out, runs, count, name);
        }
    }
}

static void put_settings(gr_buf *out, const gr_run *runs, size_t count, bool differing) {
    gr_buf_puts(out, "<div class=\"wide\"><table><thead><tr><th scope=\"col\">setting</th>");
    for (size_t i = 0; i < count; i++) {
        gr_buf_puts(out, "<th scope=\"col\">");
        gr_page_text(out, count > 1 ? runs[i].name : "value");
        gr_buf_puts(out, "</th>");
    }
    gr_buf_puts(out, "</tr></thead><tbody>\n");
    put_rows(out, runs, count, differing);
    gr_buf_puts(out, "</tbody></table></div>\n");
}

void gr_page_settings(gr_buf *out, const gr_run *runs, size_t count) {
    bool any = false;
    for (size_t i = 0; i < count; i++) any |= gr_run_object(&runs[i], "settings") != NULL;
    if (!any) return;
    gr_page_section(out, "settings", count > 1 ? "Settings that differ" : "Settings in force");
    if (count > 1) put_settings(out, runs, count, true);
    gr_buf_printf(out, "<details id=\"all-settings\"%s><summary>%s</summary>\n", count > 1 ? "" : " open",
                  count > 1 ? "All settings" : "All");
    put_settings(out, runs, count, false);
    gr_buf_puts(out, "</details></section>\n");
}

/* One statistic of train and valid. */
static void put_statistic(gr_buf *out, const json_t *data, const char *key, const char *title) {
    static const char *const splits[] = {"train", "valid"};
    gr_buf_printf(out, "<tr><th scope=\"row\">%s</th>", title);
    for (int i = 0; i < 2; i++) {
        const json_t *split = json_object_get(data, splits[i]), *value = json_object_get(split, key);
        if (!json_is_object(split)) continue;
        gr_buf_puts(out, "<td class=\"n\">");
        if (json_is_string(value))
            gr_page_text(out, json_string_value(value));
        else
            gr_page_count(out, json_is_number(value) ? json_number_value(value) : NAN);
        gr_buf_puts(out, "</td>");
    }
    gr_buf_puts(out, "</tr>\n");
}

graft_status gr_page_data(gr_buf *out, const gr_run *run, graft_error *err) {
    static const char *const rows[][2] = {{"file", "file"},
                                          {"rows", "rows"},
                                          {"tokens", "tokens"},
                                          {"targets", "tokens with loss"},
                                          {"shortest", "shortest row"},
                                          {"median", "median"},
                                          {"longest", "longest"}};
    const json_t *data = gr_run_object(run, "data");
    if (!json_is_object(json_object_get(data, "train"))) return GRAFT_OK;
    gr_page_section(out, "data", "Data");
    gr_buf_puts(out, "<div class=\"two\"><div class=\"wide\"><table><thead><tr><th></th><th class=\"n\" "
                     "scope=\"col\">training</th>");
    if (json_is_object(json_object_get(data, "valid")))
        gr_buf_puts(out, "<th class=\"n\" scope=\"col\">validation</th>");
    gr_buf_puts(out, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) put_statistic(out, data, rows[i][0], rows[i][1]);
    gr_buf_puts(out, "</tbody></table></div>\n");
    GR_TRY(gr_page_lengths(out, run, "train", err));
    gr_buf_puts(out, "</div></section>\n");
    return GRAFT_OK;
}

static void put_answer(gr_buf *out, const json_t *sample, const char *key, const char *title) {
    const char *text = json_string_value(json_object_get(sample, key));
    if (!text) return;
    gr_buf_printf(out, "<div><h3>%s</h3><pre>", title);
    gr_page_text(out, text);
    gr_buf_puts(out, "</pre></div>\n");
}

void gr_page_samples(gr_buf *out, const gr_run *run) {
    const json_t *samples = json_object_get(run->samples, "samples"), *sample,
                 *iteration = json_object_get(run->samples, "iteration");
    size_t i;
    if (!json_array_size(samples)) return;
    gr_page_section(out, "samples", "Samples, before and after");
    if (json_is_integer(iteration))
        gr_buf_printf(out, "<p>after: the adapter of iteration %lld</p>\n",
                      (long long)json_integer_value(iteration));
    json_array_foreach((json_t *)(uintptr_t)samples, i, sample) {
        const char *prompt = json_string_value(json_object_get(sample, "prompt"));
        gr_buf_puts(out, "<p class=\"ask\">");
        gr_page_text(out, prompt ? prompt : "");
        gr_buf_puts(out, "</p>\n<div class=\"two\">\n");
        put_answer(out, sample, "base", "before");
        put_answer(out, sample, "adapter", "after");
        gr_buf_puts(out, "</div>\n");
    }
    gr_buf_puts(out, "</section>\n");
}
