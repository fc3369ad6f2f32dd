#include "report/curve.h"
#include "report/chart.h"
#include "report/svg_text.h"
#include <math.h>

/* The picture, in its own units; viewers scale it. */
enum { WIDTH = 760, HEIGHT = 440 };
static const gr_area area = {.left = 72, .right = WIDTH - 110, .top = 64, .bottom = HEIGHT - 58};

static bool shown(const gr_series *s, size_t i) {
    return isfinite(s->x[i]) && isfinite(s->y[i]);
}

/* False when there is no point at all. */
static bool find_axes(const gr_series *series, size_t count, gr_axis *x, gr_axis *y) {
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (size_t s = 0; s < count; s++) {
        for (size_t i = 0; i < series[s].count; i++) {
            if (!shown(&series[s], i)) continue;
            double at[2] = {series[s].x[i], series[s].y[i]};
            for (int k = 0; k < 2; k++) {
                low[k] = fmin(low[k], at[k]);
                high[k] = fmax(high[k], at[k]);
            }
        }
    }
    bool any = low[0] <= high[0];
    /* half of the range at most, so that differences of huge values do not overflow */
    for (int k = 0; any && k < 2; k++) {
        low[k] = fmax(low[k], -1e300);
        high[k] = fmin(high[k], 1e300);
    }
    *x = any ? gr_axis_round(low[0], high[0], true) : (gr_axis){0, 1, 1, 0};
    *y = any ? gr_axis_round(low[1], high[1], false) : (gr_axis){0, 1, 0.2, 1};
    return any;
}

static double at_x(const gr_axis *x, double v) {
    return gr_axis_place(x, v, area.left, area.right - area.left);
}

static double at_y(const gr_axis *y, double v) {
    return gr_area_y(&area, y, v);
}

static void put_point(gr_buf *out, double x, double y) {
    gr_svg_number(out, x, 2);
    gr_buf_putc(out, ',');
    gr_svg_number(out, y, 2);
}

/* A gap ends a line; the next point starts another. */
static void put_curve(gr_buf *out, const gr_series *s, int colour, const gr_axis *x, const gr_axis *y) {
    bool open = false;
    for (size_t i = 0; i < s->count; i++) {
        bool visible = shown(s, i);
        if (visible && !open) gr_buf_printf(out, "<polyline class=\"line s%d\" points=\"", colour);
        if (visible) {
            if (open) gr_buf_putc(out, ' ');
            put_point(out, at_x(x, s->x[i]), at_y(y, s->y[i]));
        } else if (open) {
            gr_buf_puts(out, "\"/>\n");
        }
        open = visible;
    }
    if (open) gr_buf_puts(out, "\"/>\n");
    for (size_t i = 0; i < s->count; i++) {
        bool lonely = (i == 0 || !shown(s, i - 1)) && (i + 1 == s->count || !shown(s, i + 1));
        if (!shown(s, i) || !(s->points || lonely)) continue;
        gr_buf_printf(out, "<circle class=\"f%d\" r=\"3.5\"", colour);
        gr_chart_attribute(out, "cx", at_x(x, s->x[i]));
        gr_chart_attribute(out, "cy", at_y(y, s->y[i]));
        gr_buf_puts(out, "/>\n");
    }
}

/* Decimals that show a hundredth of a tick, at most nine. */
static int value_decimals(const gr_axis *y) {
    return y->decimals + 2 > 9 ? 9 : y->decimals + 2;
}

typedef struct end_label {
    double y; /* of the text's base line */
    double value;
    int colour;
} end_label;

/* Last values beside their curves, moved apart where they would touch. */
static void put_last_values(gr_buf *out, const gr_series *series, size_t count, const gr_axis *y) {
    end_label labels[GR_CHART_COLOURS];
    size_t n = 0;
    for (size_t s = 0; s < count && n < GR_CHART_COLOURS; s++) {
        size_t last = series[s].count;
        while (last && !shown(&series[s], last - 1)) last--;
        if (!last) continue;
        double v = series[s].y[last - 1];
        end_label label = {.y = at_y(y, v) + 4.5, .value = v, .colour = (int)(s % GR_CHART_COLOURS)};
        size_t at = n++;
        for (; at && labels[at - 1].y > label.y; at--) labels[at] = labels[at - 1];
        labels[at] = label;
    }
    for (size_t i = 1; i < n; i++) labels[i].y = fmax(labels[i].y, labels[i - 1].y + 16);
    for (size_t i = 0; i < n; i++) {
        gr_buf_puts(out, "<text");
        gr_chart_attribute(out, "x", area.right + 10);
        gr_chart_attribute(out, "y", labels[i].y);
        gr_buf_printf(out, " class=\"f%d\">", labels[i].colour);
        gr_svg_number(out, labels[i].value, value_decimals(y));
        gr_buf_puts(out, "</text>\n");
    }
}

graft_status gr_curve_svg(gr_buf *out, const char *title, const char *x_label, const char *y_label,
                          const gr_series *series, size_t count, graft_error *err) {
    gr_axis x, y;
    bool any = find_axes(series, count, &x, &y);
    double middle = (area.left + area.right) / 2, legend = area.left;
    gr_chart_open(out, WIDTH, HEIGHT, area.left, title);
    gr_chart_text(out, middle, HEIGHT - 14, "middle");
    gr_svg_text(out, x_label);
    gr_buf_puts(out, "</text>\n");
    gr_chart_y_label(out, &area, y_label);
    gr_chart_rows(out, &area, &y);
    gr_chart_columns(out, &area, &x);
    for (size_t s = 0; s < count; s++)
        legend = gr_chart_legend(out, &area, legend, series[s].name, (int)(s % GR_CHART_COLOURS));
    for (size_t s = 0; s < count; s++) put_curve(out, &series[s], (int)(s % GR_CHART_COLOURS), &x, &y);
    put_last_values(out, series, count, &y);
    if (!any) {
        gr_chart_text(out, middle, (area.top + area.bottom) / 2, "middle");
        gr_buf_puts(out, "no values yet</text>\n");
    }
    return gr_chart_close(out, err);
}
