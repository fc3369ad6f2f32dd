#include "report/rows_html.h"
#include "base/number.h"
#include <stdio.h>

/* Contrast of text on its ground is above 7:1 in both schemes, for trained tokens too. */
static const char style[] =
    ":root{color-scheme:light "
    "dark;--ground:#fff;--text:#1b1f24;--quiet:#57606a;--rule:#d0d7de;--trained:#b7ebc6;--edge:#8fd3a5}"
    "@media(prefers-color-scheme:dark){:root{--ground:#14171b;--text:#e6e9ec;--quiet:#9aa4af;--rule:#343b43;"
    "--trained:#1d4a2e;--edge:#2f6d46}}"
    "body{margin:2em auto;max-width:75em;padding:0 "
    "1em;background:var(--ground);color:var(--text);font:15px/1.5 system-ui,"
    "sans-serif}"
    "table{border-collapse:collapse}th{text-align:left;font-weight:normal;color:var(--quiet);padding-right:1."
    "5em}"
    "h2{font-size:1em;margin:1.6em 0 .3em}h2 a{color:inherit}h2 small{color:var(--quiet);font-weight:normal}"
    "pre{margin:0;padding:.7em 1em;border:1px solid "
    "var(--rule);border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere;"
    "font:13px/1.65 ui-monospace,monospace}"
    "i,b{font:inherit;font-style:normal}b{background:var(--trained);box-shadow:inset 1px 0 var(--edge)}"
    "i{box-shadow:inset 1px 0 var(--rule)}u{text-decoration:none;color:var(--quiet)}";

/* Text of an element. Line ends keep their mark; other control characters are shown as their pictures (U+2400
 * on), so that nothing in a row is invisible. */
static void put_text(gr_buf *out, const char *text, bool marks) {
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        switch (*p) {
        case '&': gr_buf_puts(out, "&amp;"); break;
        case '<': gr_buf_puts(out, "&lt;"); break;
        case '>': gr_buf_puts(out, "&gt;"); break;
        case '"': gr_buf_puts(out, "&quot;"); break;
        case '\n': gr_buf_puts(out, marks ? "<u>\xe2\x8f\x8e</u>\n" : "\n"); break;
        default:
            if (c < 0x20 && c != '\t')
                gr_buf_printf(out, "\xe2\x90%c", 0x80 + c);
            else
                gr_buf_putc(out, *p);
        }
    }
}

static void put_line(gr_buf *out, const char *name, const char *value) {
    if (!value || !value[0]) return;
    gr_buf_printf(out, "<tr><th>%s</th><td>", name);
    put_text(out, value, false);
    gr_buf_puts(out, "</td></tr>\n");
}

/* Hands over what has been put together. */
static graft_status flush(gr_rows_page *page, graft_error *err) {
    gr_buf *text = &page->text;
    if (text->failed) return gr_no_memory(err, text->cap);
    graft_status st = gr_writer_write(&page->w, text->data, text->len, err);
    gr_buf_clear(text);
    return st;
}

graft_status gr_rows_page_begin(gr_rows_page *page, const char *path, const gr_page_head *head,
                                graft_error *err) {
    gr_buf *out = &page->text;
    char counts[160];
    *page = (gr_rows_page){0};
    GR_TRY(gr_writer_begin(&page->w, path, err));
    gr_buf_printf(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
        "content=\"width=device-width\">\n<title>Rows as the model sees them</title>\n<style>%s</style>\n"
        "</head>\n<body>\n<h1>Rows as the model sees them</h1>\n<table>\n",
        style);
    gr_format(counts, sizeof counts, "%lld rows, %lld tokens, %lld trained (%.1f %%)", (long long)head->rows,
              (long long)head->tokens, (long long)head->targets,
              head->tokens ? 100.0 * (double)head->targets / (double)head->tokens : 0.0);
    put_line(out, "data", head->data);
    put_line(out, "model", head->model);
    put_line(out, "trained on", head->train_on);
    put_line(out, "all", counts);
    put_line(out, "note", head->notes);
    gr_buf_puts(out, "</table>\n<p>Each box is a token: <b>trained</b>, <i>read only</i>. "
                     "<u>\xe2\x8f\x8e</u> is a line end of "
                     "the row.</p>\n");
    return flush(page, err);
}

graft_status gr_rows_page_add(gr_rows_page *page, const graft_row *row, graft_error *err) {
    gr_buf *out = &page->text;
    const char *half = row->half ? row->half : "";
    size_t trained = 0;
    for (size_t i = 0; i < row->count; i++) trained += row->mask[i] != 0;
    gr_buf_printf(out,
                  "<section id=\"L%llu%s\"><h2><a href=\"#L%llu%s\">line %llu%s%s</a> <small>%zu tokens, %zu "
                  "trained</small></h2>\n"
                  "<pre>",
                  (unsigned long long)row->line, half, (unsigned long long)row->line, half,
                  (unsigned long long)row->line, half[0] ? ", " : "", half, row->count, trained);
    for (size_t i = 0; i < row->count; i++) {
        const char *tag = row->mask[i] ? "b" : "i";
        gr_buf_printf(out, "<%s>", tag);
        put_text(out, row->pieces[i], true);
        gr_buf_printf(out, "</%s>", tag);
    }
    gr_buf_puts(out, "</pre></section>\n");
    return flush(page, err);
}

graft_status gr_rows_page_end(gr_rows_page *page, graft_error *err) {
    gr_buf_puts(&page->text, "</body>\n</html>\n");
    graft_status st = flush(page, err);
    if (st == GRAFT_OK) st = gr_writer_commit(&page->w, err);
    gr_rows_page_abort(page);
    return st;
}

void gr_rows_page_abort(gr_rows_page *page) {
    gr_writer_abort(&page->w);
    gr_buf_free(&page->text);
}
