/* report/chart.h - what every picture shares: frame, colours, axes with round ticks, legend, text.
 * May include: base. Never: knows what is drawn.
 */
#ifndef GR_REPORT_CHART_H
#define GR_REPORT_CHART_H
#include "base/memory.h"

/* Classes s0.. (lines) and f0.. (fills) of a picture. */
#define GR_CHART_COLOURS 4

/* Where values are drawn, in the picture's units. */
typedef struct gr_area {
    double left, right, top, bottom;
} gr_area;

typedef struct gr_axis {
    double low, high, step;
    int decimals; /* that tell one tick from the next */
} gr_axis;

/* Ticks at 1, 2 or 5 times a power of ten, and limits on ticks. whole: steps of one at least. */
gr_axis gr_axis_round(double low, double high, bool whole);
/* Where v lies: `from` at the axis' low end, `from` + length at the high one, never outside. */
double gr_axis_place(const gr_axis *axis, double v, double from, double length);
double gr_area_y(const gr_area *area, const gr_axis *y, double v);

/* Opens the document: title, style, background. gr_chart_close ends it. */
void gr_chart_open(gr_buf *out, int width, int height, double left, const char *title);
/* Opens a picture inside a page, which has gr_chart_style once and gives the picture its size; the title is
 * for those who do not see it. */
void gr_chart_open_inside(gr_buf *out, int width, int height, const char *title);
/* What the classes of pictures look like, in light and dark: CSS. Static. */
const char *gr_chart_style(void);
graft_status gr_chart_close(gr_buf *out, graft_error *err) GR_MUST_CHECK;
/* Grid, tick labels and both axes' lines. */
void gr_chart_rows(gr_buf *out, const gr_area *area, const gr_axis *y);
void gr_chart_columns(gr_buf *out, const gr_area *area, const gr_axis *x);
/* Upright text left of the area, centred on it. */
void gr_chart_y_label(gr_buf *out, const gr_area *area, const char *text);
/* One entry at x (the next one's x is returned) above the area. */
double gr_chart_legend(gr_buf *out, const gr_area *area, double x, const char *name, int colour);

void gr_chart_line(gr_buf *out, const char *class, double x1, double y1, double x2, double y2);
void gr_chart_attribute(gr_buf *out, const char *name, double v);
/* <text ..>; the caller writes the text and </text>. anchor: start, middle, end. */
void gr_chart_text(gr_buf *out, double x, double y, const char *anchor);

#endif
