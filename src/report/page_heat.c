#include "report/page_parts.h"
#include "report/svg_text.h"
#include <math.h>

/* A shade by a number, and the number: nobody has to see the shade. */
static void put_cell(gr_buf *out, double norm, double most, int decimals) {
    if (!isfinite(norm)) {
        gr_buf_puts(out, "<td></td>");
        return;
    }
    int percent = most > 0 ? (int)(80 * (norm / most)) : 0;
    gr_buf_printf(out, "<td style=\"background:rgba(var(--heat),.%02d)\">", percent);
    gr_svg_number(out, norm, decimals);
    gr_buf_puts(out, "</td>");
}

/* Three digits of the largest norm. */
static int decimals_of(double most) {
    double places = most > 0 ? 2 - floor(log10(most)) : 0;
    return places < 0 ? 0 : places > 9 ? 9 : (int)places;
}

/* The end of a path is what tells modules apart. */
static const char *short_name(const char *module) {
    const char *dot = strrchr(module, '.');
    return dot ? dot + 1 : module;
}

void gr_page_change(gr_buf *out, const gr_run *run) {
    const gr_change *c = &run->change;
    int decimals = decimals_of(c->most);
    gr_page_section(out, "change", "What the adapter changes");
    if (c->none) {
        gr_buf_printf(out, "<p>%s</p></section>\n", c->none);
        return;
    }
    gr_buf_puts(out,
                "<p>The norm of what is added to each weight (Frobenius, of scale times B A) as it was saved "
                "last, by block and module.");
    if (c->dora) gr_buf_puts(out, " The lengths that DoRA trains besides are not in it: they need the base.");
    if (c->left_out)
        gr_buf_printf(out,
                      " %zu modules are not shown: they have a rank above 256, are of more than %d kinds, or "
                      "make no sense.",
                      c->left_out, GR_CHANGE_MODULES);
    gr_buf_puts(out, "</p>\n<div class=\"wide\"><table class=\"heat\"><thead><tr>"
                     "<th scope=\"col\">block</th>");
    for (size_t m = 0; m < c->modules; m++) {
        gr_buf_puts(out, "<th scope=\"col\" title=\"");
        gr_page_text(out, c->module[m]);
        gr_buf_puts(out, "\">");
        gr_page_text(out, short_name(c->module[m]));
        gr_buf_puts(out, "</th>");
    }
    gr_buf_puts(out, "</tr></thead><tbody>\n");
    for (int64_t r = 0; r < c->rows; r++) {
        if (c->outside && r + 1 == c->rows)
            gr_buf_puts(out, "<tr><th scope=\"row\">outside</th>");
        else
            gr_buf_printf(out, "<tr><th scope=\"row\">%lld</th>", (long long)r);
        for (size_t m = 0; m < c->modules; m++)
            put_cell(out, c->norm[r * GR_CHANGE_MODULES + (int64_t)m], c->most, decimals);
        gr_buf_puts(out, "</tr>\n");
    }
    gr_buf_puts(out, "</tbody></table></div></section>\n");
}
