/* report/bars.h - groups of bars as SVG pictures, several panels side by side. May include: base. */
#ifndef GR_REPORT_BARS_H
#define GR_REPORT_BARS_H
#include "base/memory.h"

typedef struct gr_bar_series {
    const char *name;     /* the same names in every panel: one legend, one colour each */
    const double *values; /* [categories of the panel]; NaN: no bar */
} gr_bar_series;

typedef struct gr_bar_panel {
    const char *label; /* of the values, with their unit */
    const char *const *categories;
    size_t ncategories;
    const gr_bar_series *series;
    size_t nseries;
    int decimals; /* of the values that stand above the bars */
} gr_bar_panel;

/* A self-contained SVG like gr_curve_svg's. Bars start at zero, values may be negative. */
graft_status gr_bars_svg(gr_buf *out, const char *title, const gr_bar_panel *panels, size_t count,
                         graft_error *err) GR_MUST_CHECK;

#endif
