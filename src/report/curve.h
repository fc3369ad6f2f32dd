/* report/curve.h - loss curves as SVG pictures and as text. May include: base, jansson. Never: trains. */
#ifndef GR_REPORT_CURVE_H
#define GR_REPORT_CURVE_H
#include "base/memory.h"

typedef struct gr_series {
    const char *name;
    const double *x, *y; /* NaN in y: a gap */
    size_t count;
    bool points; /* draw markers too (validation) */
    bool faint;  /* behind the others, without its last value */
    bool dashed;
    int colour; /* 1 + its number; 0: the place among the series */
} gr_series;

/* A self-contained SVG (no scripts, no external fonts): axes with round ticks, grid, legend, last values;
 * readable in light and dark viewers. Zero or one point give a picture too. */
graft_status gr_curve_svg(gr_buf *out, const char *title, const char *x_label, const char *y_label,
                          const gr_series *series, size_t count, graft_error *err) GR_MUST_CHECK;
/* The same as a part of a page (gr_chart_open_inside): without labels and legend, which the page has. title:
 * for those who do not see it. */
graft_status gr_curve_inside(gr_buf *out, const char *title, const gr_series *series, size_t count,
                             graft_error *err) GR_MUST_CHECK;
/* loss.svg from a metrics.jsonl (train_loss and val_loss over iteration). */
graft_status gr_curve_from_metrics(const char *metrics_path, const char *svg_path, const char *title,
                                   graft_error *err) GR_MUST_CHECK;

#endif
