#include "report/curve.h"
#include "report/chart.h"
#include "report/svg_text.h"
#include <math.h>

/* A picture by itself, and one inside a page: small, so that its text is read on a phone. In their own units;
 * viewers scale them. */
enum { WIDTH = 760, HEIGHT = 440, SMALL_WIDTH = 400, SMALL_HEIGHT = 230 };
enum { LETTER = 8 }; /* width of one, about */

typedef struct frame {
    gr_area area;
    gr_axis x, y;
    bool any; /* there is a point */
} frame;

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
        low[k] = fmin(fmax(low[k], -1e300), 1e300);
        high[k] = fmin(fmax(high[k], -1e300), 1e300);
    }
    *x = any ? gr_axis_round(low[0], high[0], true) : (gr_axis){0, 1, 1, 0};
    *y = any ? gr_axis_round(low[1], high[1], false) : (gr_axis){0, 1, 0.2, 1};
    return any;
}

static double at_x(const frame *f, double v) {
    return gr_axis_place(&f->x, v, f->area.left, f->area.right - f->area.left);
}

static double at_y(const frame *f, double v) {
    return gr_area_y(&f->area, &f->y, v);
}

static void put_point(gr_buf *out, double x, double y) {
    gr_svg_number(out, x, 2);
    gr_buf_putc(out, ',');
    gr_svg_number(out, y, 2);
}

/* A gap ends a line; the next point starts another. */
static void put_curve(gr_buf *out, const gr_series *s, int colour, const frame *f) {
    const char *look = s->faint ? " faint" : s->dashed ? " dashed" : "";
    bool open = false;
    for (size_t i = 0; i < s->count; i++) {
        bool visible = shown(s, i);
        if (visible && !open) gr_buf_printf(out, "<polyline class=\"line s%d%s\" points=\"", colour, look);
        if (visible) {
            if (open) gr_buf_putc(out, ' ');
            put_point(out, at_x(f, s->x[i]), at_y(f, s->y[i]));
        } else if (open) {
            gr_buf_puts(out, "\"/>\n");
        }
        open = visible;
    }
    if (open) gr_buf_puts(out, "\"/>\n");
    for (size_t i = 0; i < s->count; i++) {
        bool lonely = (i == 0 || !shown(s, i - 1)) && (i + 1 == s->count || !shown(s, i + 1));
        if (!shown(s, i) || !(s->points || lonely)) continue;
        gr_buf_printf(out, "<circle class=\"f%d%s\" r=\"3.5\"", colour, s->faint ? look : "");
        gr_chart_attribute(out, "cx", at_x(f, s->x[i]));
        gr_chart_attribute(out, "cy", at_y(f, s->y[i]));
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
static int colour_of(const gr_series *series, size_t s) {
    return series[s].colour ? series[s].colour - 1 : (int)(s % GR_CHART_COLOURS);
}

static void put_last_values(gr_buf *out, const gr_series *series, size_t count, const frame *f) {
    end_label labels[GR_CHART_COLOURS];
    size_t n = 0;
    for (size_t s = 0; s < count && n < GR_CHART_COLOURS; s++) {
        size_t last = series[s].faint ? 0 : series[s].count;
        while (last && !shown(&series[s], last - 1)) last--;
        if (!last) continue;
        double v = series[s].y[last - 1];
        end_label label = {.y = at_y(f, v) + 4.5, .value = v, .colour = colour_of(series, s)};
        size_t at = n++;
        for (; at && labels[at - 1].y > label.y; at--) labels[at] = labels[at - 1];
        labels[at] = label;
    }
    for (size_t i = 1; i < n; i++) labels[i].y = fmax(labels[i].y, labels[i - 1].y + 16);
    double below = n ? fmax(labels[n - 1].y - f->area.bottom, 0) : 0; /* the ticks of x are there */
    for (size_t i = 0; i < n; i++) labels[i].y -= below;
    for (size_t i = 0; i < n; i++) {
        gr_buf_puts(out, "<text");
        gr_chart_attribute(out, "x", f->area.right + 10);
        gr_chart_attribute(out, "y", labels[i].y);
        gr_buf_printf(out, " class=\"f%d\">", labels[i].colour);
        gr_svg_number(out, labels[i].value, value_decimals(&f->y));
        gr_buf_puts(out, "</text>\n");
    }
}

/* Axes, curves and last values. */
static void put_all(gr_buf *out, const gr_series *series, size_t count, const frame *f) {
    gr_chart_rows(out, &f->area, &f->y);
    gr_chart_columns(out, &f->area, &f->x);
    for (size_t s = 0; s < count; s++) put_curve(out, &series[s], colour_of(series, s), f);
    put_last_values(out, series, count, f);
    if (f->any) return;
    gr_chart_text(out, (f->area.left + f->area.right) / 2, (f->area.top + f->area.bottom) / 2, "middle");
    gr_buf_puts(out, "no values yet</text>\n");
}

graft_status gr_curve_svg(gr_buf *out, const char *title, const char *x_label, const char *y_label,
                          const gr_series *series, size_t count, graft_error *err) {
    frame f = {.area = {.left = 72, .right = WIDTH - 110, .top = 64, .bottom = HEIGHT - 58}};
    f.any = find_axes(series, count, &f.x, &f.y);
    double legend = f.area.left;
    gr_chart_open(out, WIDTH, HEIGHT, f.area.left, title);
    gr_chart_text(out, (f.area.left + f.area.right) / 2, HEIGHT - 14, "middle");
    gr_svg_text(out, x_label);
    gr_buf_puts(out, "</text>\n");
    gr_chart_y_label(out, &f.area, y_label);
    for (size_t s = 0; s < count; s++)
        legend = gr_chart_legend(out, &f.area, legend, series[s].name, colour_of(series, s));
    put_all(out, series, count, &f);
    return gr_chart_close(out, err);
}

/* Characters of the longest tick, or of the last values. */
static double widest(const gr_axis *y, int decimals) {
    double ends[] = {y->low, y->high};
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        gr_buf text = {0};
        gr_svg_number(&text, ends[i], decimals);
        most = text.len > most ? text.len : most;
        gr_buf_free(&text);
    }
    return (double)most;
}

graft_status gr_curve_inside(gr_buf *out, const char *title, const gr_series *series, size_t count,
                             graft_error *err) {
    frame f = {.area = {.top = 12, .bottom = SMALL_HEIGHT - 28}};
    f.any = find_axes(series, count, &f.x, &f.y);
    f.area.left = 12 + LETTER * widest(&f.y, f.y.decimals);
    f.area.right = SMALL_WIDTH - 14 - LETTER * widest(&f.y, value_decimals(&f.y));
    gr_chart_open_inside(out, SMALL_WIDTH, SMALL_HEIGHT, title);
    put_all(out, series, count, &f);
    return gr_chart_close(out, err);
}
