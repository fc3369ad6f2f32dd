#include "report/chart.h"
#include "report/svg_text.h"
#include <math.h>
#include <stdio.h>

#define TICKS 6 /* about as many on each axis */

/* Colours with contrast on white and on near-black; told apart by people who do not see red or green. */
static const char style[] =
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-size:13px;fill:#444}\n"
    ".title{font-size:17px;font-weight:600;fill:#111}.value{font-size:11px}\n"
    ".back{fill:#fff}.grid{stroke:#e3e3e3;stroke-width:1}.axis{stroke:#888;stroke-width:1}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\n"
    ".faint{opacity:.35}.dashed{stroke-dasharray:7 5}\n"
    ".s0{stroke:#0072b2}.s1{stroke:#d55e00}.s2{stroke:#009e73}.s3{stroke:#aa4499}\n"
    ".f0{fill:#0072b2}.f1{fill:#d55e00}.f2{fill:#009e73}.f3{fill:#aa4499}\n"
    "@media (prefers-color-scheme: dark){text{fill:#bbb}.title{fill:#eee}.back{fill:#16181c}\n"
    ".grid{stroke:#2d3036}.axis{stroke:#777}\n"
    ".s0{stroke:#56b4e9}.s1{stroke:#f0a050}.s2{stroke:#40c9a2}.s3{stroke:#d68fc6}\n"
    ".f0{fill:#56b4e9}.f1{fill:#f0a050}.f2{fill:#40c9a2}.f3{fill:#d68fc6}}\n";

const char *gr_chart_style(void) {
    return style;
}

gr_axis gr_axis_round(double low, double high, bool whole) {
    static const double least = 1e-290, most = 2e307; /* beyond them steps are 0, or infinite */
    low = fmin(fmax(low, -most), most);
    high = fmin(fmax(high, -most), most);
    if (!(high - low > least)) {
        double around = fabs(low) > least ? fabs(low) * 0.1 : 1;
        low -= around;
        high += around;
    }
    double raw = (high - low) / TICKS, power = pow(10, floor(log10(raw))), factor = raw / power;
    gr_axis a = {.step = power * (factor <= 1 ? 1 : factor <= 2 ? 2 : factor <= 5 ? 5 : 10)};
    if (whole && a.step < 1) a.step = 1;
    a.low = floor(low / a.step + 1e-9) * a.step;
    a.high = ceil(high / a.step - 1e-9) * a.step;
    if (!(a.high > a.low)) a.high = a.low + a.step;
    double places = -floor(log10(a.step) + 1e-9);
    a.decimals = places < 0 ? 0 : places > 9 ? 9 : (int)places;
    return a;
}

double gr_axis_place(const gr_axis *a, double v, double from, double length) {
    double share = (v - a->low) / (a->high - a->low);
    return from + length * fmin(fmax(share, 0), 1);
}

double gr_area_y(const gr_area *area, const gr_axis *y, double v) {
    return gr_axis_place(y, v, area->bottom, area->top - area->bottom);
}

void gr_chart_attribute(gr_buf *out, const char *name, double v) {
    gr_buf_printf(out, " %s=\"", name);
    gr_svg_number(out, v, 2);
    gr_buf_putc(out, '"');
}

void gr_chart_line(gr_buf *out, const char *class, double x1, double y1, double x2, double y2) {
    gr_buf_printf(out, "<line class=\"%s\"", class);
    gr_chart_attribute(out, "x1", x1);
    gr_chart_attribute(out, "y1", y1);
    gr_chart_attribute(out, "x2", x2);
    gr_chart_attribute(out, "y2", y2);
    gr_buf_puts(out, "/>\n");
}

void gr_chart_text(gr_buf *out, double x, double y, const char *anchor) {
    gr_buf_puts(out, "<text");
    gr_chart_attribute(out, "x", x);
    gr_chart_attribute(out, "y", y);
    gr_buf_printf(out, " text-anchor=\"%s\">", anchor);
}

void gr_chart_rows(gr_buf *out, const gr_area *area, const gr_axis *y) {
    int rows = (int)llround((y->high - y->low) / y->step);
    for (int i = 0; i <= rows; i++) {
        double v = y->low + i * y->step, at = gr_area_y(area, y, v);
        gr_chart_line(out, "grid", area->left, at, area->right, at);
        gr_chart_text(out, area->left - 8, at + 4.5, "end");
        gr_svg_number(out, v, y->decimals);
        gr_buf_puts(out, "</text>\n");
    }
    gr_chart_line(out, "axis", area->left, area->bottom, area->right, area->bottom);
    gr_chart_line(out, "axis", area->left, area->top, area->left, area->bottom);
}

void gr_chart_columns(gr_buf *out, const gr_area *area, const gr_axis *x) {
    int columns = (int)llround((x->high - x->low) / x->step);
    for (int i = 0; i <= columns; i++) {
        double v = x->low + i * x->step, at = gr_axis_place(x, v, area->left, area->right - area->left);
        gr_chart_line(out, "axis", at, area->bottom, at, area->bottom + 5);
        gr_chart_text(out, at, area->bottom + 20, "middle");
        gr_svg_number(out, v, x->decimals);
        gr_buf_puts(out, "</text>\n");
    }
}

void gr_chart_y_label(gr_buf *out, const gr_area *area, const char *text) {
    gr_buf_puts(out, "<text transform=\"translate(");
    gr_svg_number(out, area->left - 54, 0);
    gr_buf_putc(out, ' ');
    gr_svg_number(out, (area->top + area->bottom) / 2, 0);
    gr_buf_puts(out, ") rotate(-90)\" text-anchor=\"middle\">");
    gr_svg_text(out, text);
    gr_buf_puts(out, "</text>\n");
}

double gr_chart_legend(gr_buf *out, const gr_area *area, double x, const char *name, int colour) {
    char class[16];
    snprintf(class, sizeof class, "line s%d", colour % GR_CHART_COLOURS);
    gr_chart_line(out, class, x, area->top - 17, x + 22, area->top - 17);
    gr_chart_text(out, x + 29, area->top - 12.5, "start");
    gr_svg_text(out, name);
    gr_buf_puts(out, "</text>\n");
    return x + 29 + 8 * (double)strlen(name) + 22;
}

void gr_chart_open(gr_buf *out, int width, int height, double left, const char *title) {
    gr_buf_printf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
        "role=\"img\">\n<title>",
        width, height, width, height);
    gr_svg_text(out, title);
    gr_buf_printf(out, "</title>\n<style>\n%s</style>\n<rect class=\"back\" width=\"%d\" height=\"%d\"/>\n",
                  style, width, height);
    gr_buf_puts(out, "<text class=\"title\"");
    gr_chart_attribute(out, "x", left);
    gr_buf_puts(out, " y=\"28\">");
    gr_svg_text(out, title);
    gr_buf_puts(out, "</text>\n");
}

void gr_chart_open_inside(gr_buf *out, int width, int height, const char *title) {
    gr_buf_printf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\">\n<title>", width, height);
    gr_svg_text(out, title);
    gr_buf_puts(out, "</title>\n");
}

graft_status gr_chart_close(gr_buf *out, graft_error *err) {
    gr_buf_puts(out, "</svg>\n");
    return out->failed ? gr_no_memory(err, out->cap) : GRAFT_OK;
}
