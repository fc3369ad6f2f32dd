#include "report/curve.h"
#include "report/svg_text.h"
#include <math.h>
#include <stdio.h>

/* The picture, in its own units; viewers scale it. */
enum { WIDTH = 760, HEIGHT = 440, LEFT = 72, RIGHT = 110, TOP = 64, BOTTOM = 58 };
#define PLOT_WIDTH  (WIDTH - LEFT - RIGHT)
#define PLOT_HEIGHT (HEIGHT - TOP - BOTTOM)
#define TICKS       6 /* about as many on each axis */
#define COLOURS     4

typedef struct axis {
    double low, high, step;
    int decimals; /* that tell one tick from the next */
} axis;

/* Colours with contrast on white and on near-black; told apart by people who do not see red or green. */
static const char style[] =
    "<style>\n"
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-size:13px;fill:#444}\n"
    ".title{font-size:17px;font-weight:600;fill:#111}\n"
    ".back{fill:#fff}.grid{stroke:#e3e3e3;stroke-width:1}.axis{stroke:#888;stroke-width:1}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\n"
    ".s0{stroke:#0072b2}.s1{stroke:#d55e00}.s2{stroke:#009e73}.s3{stroke:#aa4499}\n"
    ".f0{fill:#0072b2}.f1{fill:#d55e00}.f2{fill:#009e73}.f3{fill:#aa4499}\n"
    "@media (prefers-color-scheme: dark){text{fill:#bbb}.title{fill:#eee}.back{fill:#16181c}\n"
    ".grid{stroke:#2d3036}.axis{stroke:#777}\n"
    ".s0{stroke:#56b4e9}.s1{stroke:#f0a050}.s2{stroke:#40c9a2}.s3{stroke:#d68fc6}\n"
    ".f0{fill:#56b4e9}.f1{fill:#f0a050}.f2{fill:#40c9a2}.f3{fill:#d68fc6}}\n"
    "</style>\n";

static bool shown(const gr_series *s, size_t i) {
    return isfinite(s->x[i]) && isfinite(s->y[i]);
}

/* Ticks at 1, 2 or 5 times a power of ten, and limits on ticks. */
static axis round_axis(double low, double high, bool whole) {
    if (!(high > low)) {
        double around = fabs(low) > 0 ? fabs(low) * 0.1 : 1;
        low -= around;
        high += around;
    }
    double raw = (high - low) / TICKS, power = pow(10, floor(log10(raw))), factor = raw / power;
    axis a = {.step = power * (factor <= 1 ? 1 : factor <= 2 ? 2 : factor <= 5 ? 5 : 10)};
    if (whole && a.step < 1) a.step = 1;
    a.low = floor(low / a.step + 1e-9) * a.step;
    a.high = ceil(high / a.step - 1e-9) * a.step;
    if (!(a.high > a.low)) a.high = a.low + a.step;
    double places = -floor(log10(a.step) + 1e-9);
    a.decimals = places < 0 ? 0 : places > 9 ? 9 : (int)places;
    return a;
}

/* False when there is no point at all. */
static bool find_axes(const gr_series *series, size_t count, axis *x, axis *y) {
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
    *x = any ? round_axis(low[0], high[0], true) : (axis){0, 1, 1, 0};
    *y = any ? round_axis(low[1], high[1], false) : (axis){0, 1, 0.2, 1};
    return any;
}

static double place(const axis *a, double v, double from, double length) {
    double share = (v - a->low) / (a->high - a->low);
    return from + length * fmin(fmax(share, 0), 1);
}

static double at_x(const axis *x, double v) {
    return place(x, v, LEFT, PLOT_WIDTH);
}

static double at_y(const axis *y, double v) {
    return place(y, v, HEIGHT - BOTTOM, -PLOT_HEIGHT);
}

static void put_point(gr_buf *out, double x, double y) {
    gr_svg_number(out, x, 2);
    gr_buf_putc(out, ',');
    gr_svg_number(out, y, 2);
}

static void put_attribute(gr_buf *out, const char *name, double v) {
    gr_buf_printf(out, " %s=\"", name);
    gr_svg_number(out, v, 2);
    gr_buf_putc(out, '"');
}

static void put_line(gr_buf *out, const char *class, double x1, double y1, double x2, double y2) {
    gr_buf_printf(out, "<line class=\"%s\"", class);
    put_attribute(out, "x1", x1);
    put_attribute(out, "y1", y1);
    put_attribute(out, "x2", x2);
    put_attribute(out, "y2", y2);
    gr_buf_puts(out, "/>\n");
}

static void open_text(gr_buf *out, double x, double y, const char *anchor) {
    gr_buf_puts(out, "<text");
    put_attribute(out, "x", x);
    put_attribute(out, "y", y);
    gr_buf_printf(out, " text-anchor=\"%s\">", anchor);
}

static void put_axes(gr_buf *out, const axis *x, const axis *y) {
    double left = LEFT, right = WIDTH - RIGHT, top = TOP, bottom = HEIGHT - BOTTOM;
    int columns = (int)llround((x->high - x->low) / x->step),
        rows = (int)llround((y->high - y->low) / y->step);
    for (int i = 0; i <= rows; i++) {
        double v = y->low + i * y->step, at = at_y(y, v);
        put_line(out, "grid", left, at, right, at);
        open_text(out, left - 8, at + 4.5, "end");
        gr_svg_number(out, v, y->decimals);
        gr_buf_puts(out, "</text>\n");
    }
    for (int i = 0; i <= columns; i++) {
        double v = x->low + i * x->step, at = at_x(x, v);
        put_line(out, "axis", at, bottom, at, bottom + 5);
        open_text(out, at, bottom + 20, "middle");
        gr_svg_number(out, v, x->decimals);
        gr_buf_puts(out, "</text>\n");
    }
    put_line(out, "axis", left, bottom, right, bottom);
    put_line(out, "axis", left, top, left, bottom);
}

/* A gap ends a line; the next point starts another. */
static void put_curve(gr_buf *out, const gr_series *s, int colour, const axis *x, const axis *y) {
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
        put_attribute(out, "cx", at_x(x, s->x[i]));
        put_attribute(out, "cy", at_y(y, s->y[i]));
        gr_buf_puts(out, "/>\n");
    }
}

/* Decimals that show a hundredth of a tick, at most nine. */
static int value_decimals(const axis *y) {
    return y->decimals + 2 > 9 ? 9 : y->decimals + 2;
}

typedef struct end_label {
    double y; /* of the text's base line */
    double value;
    int colour;
} end_label;

/* Last values beside their curves, moved apart where they would touch. */
static void put_last_values(gr_buf *out, const gr_series *series, size_t count, const axis *y) {
    end_label labels[COLOURS];
    size_t n = 0;
    for (size_t s = 0; s < count && n < COLOURS; s++) {
        size_t last = series[s].count;
        while (last && !shown(&series[s], last - 1)) last--;
        if (!last) continue;
        double v = series[s].y[last - 1];
        end_label label = {.y = at_y(y, v) + 4.5, .value = v, .colour = (int)(s % COLOURS)};
        size_t at = n++;
        for (; at && labels[at - 1].y > label.y; at--) labels[at] = labels[at - 1];
        labels[at] = label;
    }
    for (size_t i = 1; i < n; i++) labels[i].y = fmax(labels[i].y, labels[i - 1].y + 16);
    for (size_t i = 0; i < n; i++) {
        gr_buf_puts(out, "<text");
        put_attribute(out, "x", WIDTH - RIGHT + 10);
        put_attribute(out, "y", labels[i].y);
        gr_buf_printf(out, " class=\"f%d\">", labels[i].colour);
        gr_svg_number(out, labels[i].value, value_decimals(y));
        gr_buf_puts(out, "</text>\n");
    }
}

static void put_legend(gr_buf *out, const gr_series *series, size_t count) {
    double x = LEFT;
    for (size_t s = 0; s < count; s++) {
        char class[16];
        snprintf(class, sizeof class, "line s%d", (int)(s % COLOURS));
        put_line(out, class, x, TOP - 17, x + 22, TOP - 17);
        open_text(out, x + 29, TOP - 12.5, "start");
        gr_svg_text(out, series[s].name);
        gr_buf_puts(out, "</text>\n");
        x += 29 + 8 * (double)strlen(series[s].name) + 22;
    }
}

static void put_frame(gr_buf *out, const char *title, const char *x_label, const char *y_label) {
    gr_buf_printf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
        "role=\"img\">\n<title>",
        WIDTH, HEIGHT, WIDTH, HEIGHT);
    gr_svg_text(out, title);
    gr_buf_printf(out, "</title>\n%s<rect class=\"back\" width=\"%d\" height=\"%d\"/>\n", style, WIDTH,
                  HEIGHT);
    gr_buf_printf(out, "<text class=\"title\" x=\"%d\" y=\"28\">", LEFT);
    gr_svg_text(out, title);
    gr_buf_puts(out, "</text>\n");
    open_text(out, LEFT + PLOT_WIDTH / 2.0, HEIGHT - 14, "middle");
    gr_svg_text(out, x_label);
    gr_buf_printf(out, "</text>\n<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">",
                  TOP + PLOT_HEIGHT / 2);
    gr_svg_text(out, y_label);
    gr_buf_puts(out, "</text>\n");
}

graft_status gr_curve_svg(gr_buf *out, const char *title, const char *x_label, const char *y_label,
                          const gr_series *series, size_t count, graft_error *err) {
    axis x, y;
    bool any = find_axes(series, count, &x, &y);
    put_frame(out, title, x_label, y_label);
    put_axes(out, &x, &y);
    put_legend(out, series, count);
    for (size_t s = 0; s < count; s++) put_curve(out, &series[s], (int)(s % COLOURS), &x, &y);
    put_last_values(out, series, count, &y);
    if (!any) {
        open_text(out, LEFT + PLOT_WIDTH / 2.0, TOP + PLOT_HEIGHT / 2.0, "middle");
        gr_buf_puts(out, "no values yet</text>\n");
    }
    gr_buf_puts(out, "</svg>\n");
    return out->failed ? gr_no_memory(err, out->cap) : GRAFT_OK;
}
