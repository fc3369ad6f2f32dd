#include "data/findings.h"

void gr_findings_add(gr_findings *findings, uint64_t line, const graft_error *row_error) {
    size_t i = 0;
    while (i < findings->nkinds && strcmp(findings->kinds[i].first.what, row_error->what) != 0) i++;
    if (i == GR_FINDING_KINDS) i = GR_FINDING_KINDS - 1;
    gr_finding *kind = &findings->kinds[i];
    if (i == findings->nkinds) {
        findings->nkinds++;
        kind->first = *row_error;
        kind->rows.count = 0;
    }
    gr_lines_add(&kind->rows, line);
    findings->count++;
}

void gr_lines_add(gr_lines *l, uint64_t line) {
    if (l->count < GR_FINDING_LINES) l->lines[l->count] = line;
    l->count++;
}

void gr_lines_text(const gr_lines *l, gr_buf *out) {
    int64_t named = gr_min_i64(l->count, GR_FINDING_LINES);
    gr_buf_puts(out, l->count == 1 ? "line " : "lines ");
    for (int64_t i = 0; i < named; i++)
        gr_buf_printf(out, "%s%llu", i ? ", " : "", (unsigned long long)l->lines[i]);
    if (l->count > named) gr_buf_printf(out, " and %lld more", (long long)(l->count - named));
}

void gr_findings_text(const gr_findings *findings, gr_buf *out) {
    for (size_t i = 0; i < findings->nkinds; i++) {
        const gr_finding *kind = &findings->kinds[i];
        if (i) gr_buf_puts(out, "; ");
        gr_lines_text(&kind->rows, out);
        gr_buf_printf(out, ": %s", kind->first.what);
        if (kind->first.found[0]) gr_buf_printf(out, " (%s)", kind->first.found);
    }
}

graft_status gr_findings_fail(const gr_findings *findings, const char *path, int64_t rows, graft_error *err) {
    if (findings->count == 0) return GRAFT_OK;
    const graft_error *first = &findings->kinds[0].first;
    gr_buf text = {0};
    gr_findings_text(findings, &text);
    if (text.failed) {
        gr_buf_free(&text);
        return gr_no_memory(err, 1024);
    }
    gr_fail(err, first->status, "%lld of %lld rows cannot be used", (long long)findings->count,
            (long long)rows);
    if (findings->count == 1)
        gr_where(err, "%s, line %llu", path, (unsigned long long)findings->kinds[0].rows.lines[0]);
    gr_where(err, "%s", path);
    if (first->expected[0]) gr_expected(err, "%s", first->expected);
    gr_found(err, "%s", text.data);
    gr_buf_free(&text);
    if (first->hint[0]) gr_hint(err, "%s", first->hint);
    return first->status;
}
