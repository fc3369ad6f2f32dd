#include "report/bars.h"
#include "report/chart.h"
#include "report/svg_text.h"
#include <math.h>

enum { WIDTH = 760, HEIGHT = 440, TOP = 84, BOTTOM = HEIGHT - 40, MARGIN = 72, GAP = 78, EDGE = 24 };

/* Zero is always on the axis; the highest bar leaves room for its value. */
static gr_axis find_axis(const gr_bar_panel *p) {
    double low = 0, high = 0;
    for (size_t s = 0; s < p->nseries; s++)
        for (size_t i = 0; i < p->ncategories; i++) {
            double v = p->series[s].values[i];
            if (!isfinite(v)) continue;
            low = fmax(fmin(low, v), -1e300);
            high = fmin(fmax(high, v), 1e300);
        }
    if (high == 0 && low == 0) high = 1;
    return gr_axis_round(low, high + 0.06 * (high - low), false);
}

/* One bar [x, x + width] and its value. */
static void put_bar(gr_buf *out, const gr_area *area, const gr_axis *y, double x, double width, double v,
                    int colour, int decimals) {
    double zero = gr_area_y(area, y, 0), at = gr_area_y(area, y, v);
    gr_buf_printf(out, "<rect class=\"f%d\"", colour);
    gr_chart_attribute(out, "x", x);
    gr_chart_attribute(out, "y", fmin(zero, at));
    gr_chart_attribute(out, "width", width);
    gr_chart_attribute(out, "height", fmax(fabs(zero - at), 0.5));
    gr_buf_puts(out, "/>\n<text class=\"value\"");
    gr_chart_attribute(out, "x", x + width / 2);
    gr_chart_attribute(out, "y", v < 0 ? at + 13 : at - 4);
    gr_buf_puts(out, " text-anchor=\"middle\">");
    gr_svg_number(out, v, decimals);
    gr_buf_puts(out, "</text>\n");
}

static void put_panel(gr_buf *out, const gr_area *area, const gr_bar_panel *p) {
    gr_axis y = find_axis(p);
    double group = (area->right - area->left) / (double)(p->ncategories ? p->ncategories : 1);
    double width = fmin(0.84 * group / (double)(p->nseries ? p->nseries : 1), 64);
    gr_chart_rows(out, area, &y);
    gr_chart_text(out, area->left - 44, area->top - 14, "start");
    gr_svg_text(out, p->label);
    gr_buf_puts(out, "</text>\n");
    for (size_t i = 0; i < p->ncategories; i++) {
        double middle = area->left + group * ((double)i + 0.5);
        for (size_t s = 0; s < p->nseries; s++) {
            double v = p->series[s].values[i];
            double x = middle + width * ((double)s - (double)p->nseries / 2);
            if (isfinite(v))
                put_bar(out, area, &y, x + 1, fmax(width - 2, 1), v, (int)(s % GR_CHART_COLOURS),
                        p->decimals);
        }
        gr_chart_text(out, middle, area->bottom + 20, "middle");
        gr_svg_text(out, p->categories[i]);
        gr_buf_puts(out, "</text>\n");
    }
}

graft_status gr_bars_svg(gr_buf *out, const char *title, const gr_bar_panel *panels, size_t count,
                         graft_error *err) {
    double room =
        (WIDTH - MARGIN - EDGE - (double)GAP * (double)(count ? count - 1 : 0)) / (double)(count ? count : 1);
    gr_area line = {.left = MARGIN, .right = WIDTH - EDGE, .top = TOP - 20, .bottom = BOTTOM};
    double legend = line.left;
    gr_chart_open(out, WIDTH, HEIGHT, MARGIN, title);
    for (size_t s = 0; count && s < panels[0].nseries; s++)
        legend = gr_chart_legend(out, &line, legend, panels[0].series[s].name, (int)s);
    for (size_t i = 0; i < count; i++) {
        double left = MARGIN + (room + GAP) * (double)i;
        gr_area area = {.left = left, .right = left + room, .top = TOP, .bottom = BOTTOM};
        put_panel(out, &area, &panels[i]);
    }
    return gr_chart_close(out, err);
}
