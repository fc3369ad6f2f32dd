#include "base/os.h"
#include "report/curve.h"
#include "report/metrics.h"

static gr_series series_of(const gr_metrics *m, const char *metric, const char *name, bool points) {
    const gr_metric *c = gr_metrics_find(m, metric);
    gr_series s = {.name = name, .points = points};
    if (c) s.x = c->x, s.y = c->y, s.count = c->count;
    return s;
}

graft_status gr_curve_from_metrics(const char *metrics_path, const char *svg_path, const char *title,
                                   graft_error *err) {
    gr_metrics m;
    gr_buf svg = {0};
    graft_status st;
    GR_GOTO(gr_metrics_read(&m, metrics_path, err));
    const gr_series series[] = {series_of(&m, "train_loss", "training", false),
                                series_of(&m, "val_loss", "validation", true)};
    GR_GOTO(gr_curve_svg(&svg, title, "iteration", "loss", series, series[1].count ? 2 : 1, err));
    GR_GOTO(gr_file_replace(svg_path, svg.data, svg.len, err));
done:
    gr_buf_free(&svg);
    gr_metrics_free(&m);
    return st;
}
