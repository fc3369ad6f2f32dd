#include "report/chart.h"
#include "report/curve.h"
#include "report/page_parts.h"
#include "report/svg_text.h"
#include <math.h>
#include <stdio.h>

/* More points than these are drawn as means of neighbours: a screen has no more columns. */
#define POINTS_MOST 400

/* The series of one picture, and what they own. */
typedef struct picture {
    gr_series series[3 * GR_RUNS_MOST];
    double *own[6 * GR_RUNS_MOST];
    size_t count, owned;
    bool failed;
} picture;

static void picture_free(picture *p) {
    for (size_t i = 0; i < p->owned; i++) free(p->own[i]);
}

static double *take(picture *p, size_t n) {
    double *a = gr_calloc(n, sizeof *a);
    if (a) p->own[p->owned++] = a;
    p->failed |= !a;
    return a;
}

/* The mean of from[first, end); gaps count for nothing, of gaps alone it is one. */
static double mean_of(const double *from, size_t first, size_t end) {
    double sum = 0;
    size_t numbers = 0;
    for (size_t k = first; k < end; k++) {
        if (!isfinite(from[k])) continue;
        sum += from[k];
        numbers++;
    }
    return numbers ? sum / (double)numbers : NAN;
}

/* x and y with at most POINTS_MOST points, y in units of `unit`. The first and the last are the curve's own,
 * since they are told in words: of their neighbours they say the first and the last that is a number. */
static size_t thin(double *x, double *y, const double *from_x, const double *from_y, size_t n, double unit) {
    size_t to = n < POINTS_MOST ? n : POINTS_MOST;
    for (size_t i = 0; i < to; i++) {
        size_t first = i * n / to, end = (i + 1) * n / to;
        if (i == 0) {
            while (end - first > 1 && !isfinite(from_y[first])) first++;
            end = first + 1;
        } else if (i + 1 == to) {
            while (end - first > 1 && !isfinite(from_y[end - 1])) end--;
            first = end - 1;
        }
        x[i] = mean_of(from_x, first, end);
        y[i] = mean_of(from_y, first, end) / unit;
    }
    return to;
}

/* A curve of a run; nothing where it has none. */
static void add(picture *p, const gr_metric *m, double unit, bool smooth, gr_series look) {
    if (!m || !m->count || p->failed) return;
    size_t most = m->count < POINTS_MOST ? m->count : POINTS_MOST;
    double *x = take(p, most), *y = take(p, most), *mean = smooth ? gr_calloc(m->count, sizeof *mean) : NULL;
    p->failed |= smooth && !mean;
    if (!p->failed) {
        if (smooth) gr_smooth(mean, m->y, m->count);
        look.x = x;
        look.y = y;
        look.count = thin(x, y, m->x, smooth ? mean : m->y, m->count, unit);
        p->series[p->count++] = look;
    }
    free(mean);
}

/* A level from the first to the last iteration of a metric. */
static void add_level(picture *p, const gr_metric *m, double level, gr_series look) {
    if (!m || !m->count || !isfinite(level) || p->failed) return;
    double *x = take(p, 2), *y = take(p, 2);
    if (p->failed) return;
    x[0] = m->x[0];
    x[1] = m->x[m->count - 1];
    y[0] = y[1] = level;
    look.x = x;
    look.y = y;
    look.count = 2;
    p->series[p->count++] = look;
}

static void put_key(gr_buf *out, const gr_series *s) {
    const char *look = s->faint ? " faint" : s->dashed ? " dashed" : "";
    gr_buf_printf(
        out,
        "<span class=\"key\"><svg viewBox=\"0 0 22 8\" aria-hidden=\"true\"><line class=\"line s%d%s\" "
        "x1=\"0\" y1=\"4\" x2=\"22\" y2=\"4\"/></svg>",
        s->colour - 1, look);
    gr_page_text(out, s->name);
    gr_buf_puts(out, "</span>\n");
}

/* "training loss over iterations: lora from 3.2 to 1.9", for those who do not see it. */
static void tell(gr_buf *text, const char *title, const picture *p) {
    gr_buf_printf(text, "%s over iterations", title);
    for (size_t i = 0; i < p->count; i++) {
        const gr_series *s = &p->series[i];
        if (s->faint || !s->count) continue;
        gr_buf_printf(text, "; %s from ", s->name);
        gr_page_number(text, s->y[0]);
        gr_buf_puts(text, " to ");
        gr_page_number(text, s->y[s->count - 1]);
    }
}

static graft_status put_picture(gr_buf *out, const char *title, picture *p, graft_error *err) {
    gr_buf told = {0};
    graft_status st = p->failed ? gr_no_memory(err, 0) : GRAFT_OK;
    if (st == GRAFT_OK && p->count) {
        tell(&told, title, p);
        gr_buf_puts(out, "<figure><h3>");
        gr_page_text(out, title);
        gr_buf_puts(out, "</h3>\n");
        if (p->count > 1)
            for (size_t i = 0; i < p->count; i++) put_key(out, &p->series[i]);
        st = told.failed ? gr_no_memory(err, 0) : gr_curve_inside(out, told.data, p->series, p->count, err);
        gr_buf_puts(out, "</figure>\n");
    }
    gr_buf_free(&told);
    picture_free(p);
    return st;
}

/* How the k-th of several runs looks. */
static gr_series look_of(const gr_run *runs, size_t k) {
    return (gr_series){
        .name = runs[k].name, .colour = 1 + (int)(k % GR_CHART_COLOURS), .dashed = k >= GR_CHART_COLOURS};
}

static graft_status put_loss(gr_buf *out, const gr_run *run, graft_error *err) {
    picture p = {.count = 0};
    const gr_metric *m = gr_metrics_find(&run->metrics, "train_loss");
    add(&p, m, 1, false, (gr_series){.name = "training", .colour = 1, .faint = true});
    add(&p, m, 1, true, (gr_series){.name = "training, smoothed", .colour = 1});
    add(&p, gr_metrics_find(&run->metrics, "val_loss"), 1, false,
        (gr_series){.name = "validation", .colour = 2, .points = true});
    return put_picture(out, "Loss", &p, err);
}

static graft_status put_losses(gr_buf *out, const gr_run *runs, size_t count, graft_error *err) {
    picture train = {.count = 0}, valid = {.count = 0};
    for (size_t i = 0; i < count; i++) {
        gr_series look = look_of(runs, i);
        add(&train, gr_metrics_find(&runs[i].metrics, "train_loss"), 1, true, look);
        look.points = true;
        add(&valid, gr_metrics_find(&runs[i].metrics, "val_loss"), 1, false, look);
    }
    graft_status st = put_picture(out, "Training loss, smoothed", &train, err);
    if (st != GRAFT_OK) {
        picture_free(&valid);
        return st;
    }
    return put_picture(out, "Validation loss", &valid, err);
}

static graft_status put_metric(gr_buf *out, const gr_run *runs, size_t count, const char *name,
                               const char *title, double unit, graft_error *err) {
    picture p = {.count = 0};
    bool memory = strcmp(name, "peak_memory_bytes") == 0;
    for (size_t i = 0; i < count; i++) {
        const gr_metric *m = gr_metrics_find(&runs[i].metrics, name);
        gr_series look = look_of(runs, i);
        if (count == 1) look.name = memory ? "peak so far" : title;
        add(&p, m, unit, false, look);
        if (memory && count == 1)
            add_level(&p, m, gr_run_number(&runs[i], "memory", "total") / unit,
                      (gr_series){.name = "forecast", .colour = 2, .dashed = true});
    }
    return put_picture(out, title, &p, err);
}

/* What has a picture of its own, and what would show nothing new. */
static const struct {
    const char *name, *title;
    double unit;
} known[] = {{"learning_rate", "Learning rate", 1},
             {"tokens_per_second", "Trained tokens per second", 1},
             {"peak_memory_bytes", "Memory, MB", 1e6},
             {"grad_norm", "Norm of the gradient", 1},
             {"train_loss", NULL, 1},
             {"val_loss", NULL, 1},
             {"val_time", NULL, 1},
             {"iterations_per_second", NULL, 1},
             {"trained_tokens", NULL, 1}};

static bool is_known(const char *name) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) return true;
    return false;
}

/* Did an earlier run have that metric? */
static bool came_before(const gr_run *runs, size_t run, const char *name) {
    for (size_t i = 0; i < run; i++)
        if (gr_metrics_find(&runs[i].metrics, name)) return true;
    return false;
}

graft_status gr_page_charts(gr_buf *out, const gr_run *runs, size_t count, graft_error *err) {
    gr_page_section(out, "curves", "Curves over iterations");
    gr_buf_puts(out, "<div class=\"charts\">\n");
    GR_TRY(count == 1 ? put_loss(out, runs, err) : put_losses(out, runs, count, err));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].title)
            GR_TRY(put_metric(out, runs, count, known[i].name, known[i].title, known[i].unit, err));
    for (size_t r = 0; r < count; r++)
        for (size_t i = 0; i < runs[r].metrics.count; i++) {
            const char *name = runs[r].metrics.list[i].name;
            if (!is_known(name) && !came_before(runs, r, name))
                GR_TRY(put_metric(out, runs, count, name, name, 1, err));
        }
    gr_buf_puts(out, "</div>\n<p>Smoothed: an exponential mean, nine tenths of what was and one of what is "
                     "new.</p></section>\n");
    return GRAFT_OK;
}

graft_status gr_page_lengths(gr_buf *out, const gr_run *run, const char *split, graft_error *err) {
    const json_t *data = json_object_get(gr_run_object(run, "data"), split);
    const json_t *bin = json_object_get(data, "bin"), *counts = json_object_get(data, "lengths");
    size_t n = json_array_size(counts), most = 0;
    double tokens = json_is_number(bin) ? json_number_value(bin) : 0;
    if (!(tokens >= 1 && tokens <= 0x1p40) || !n || n > 64) return GRAFT_OK;
    for (size_t i = 0; i < n; i++) {
        const json_t *c = json_array_get(counts, i);
        if (!json_is_integer(c) || json_integer_value(c) < 0) return GRAFT_OK;
        most = json_integer_value(c) > (json_int_t)most ? (size_t)json_integer_value(c) : most;
    }
    gr_area area = {.left = 60, .right = 390, .top = 12, .bottom = 150};
    gr_axis y = gr_axis_round(0, (double)most, true);
    gr_axis x = gr_axis_round(0, tokens * (double)n, true);
    gr_buf_printf(out, "<figure><h3>Tokens of a row (%s)</h3>\n", split);
    gr_chart_open_inside(out, 400, 178, "how many rows have how many tokens");
    gr_chart_rows(out, &area, &y);
    gr_chart_columns(out, &area, &x);
    for (size_t i = 0; i < n; i++) {
        double width = area.right - area.left;
        double from = gr_axis_place(&x, tokens * (double)i, area.left, width);
        double to = gr_axis_place(&x, tokens * (double)(i + 1), area.left, width);
        double top = gr_area_y(&area, &y, (double)json_integer_value(json_array_get(counts, i)));
        gr_buf_puts(out, "<rect class=\"f0\"");
        gr_chart_attribute(out, "x", from + 1);
        gr_chart_attribute(out, "y", top);
        gr_chart_attribute(out, "width", fmax(to - from - 2, 0.5));
        gr_chart_attribute(out, "height", fmax(area.bottom - top, 0));
        gr_buf_puts(out, "/>\n");
    }
    GR_TRY(gr_chart_close(out, err));
    gr_buf_puts(out, "</figure>\n");
    return GRAFT_OK;
}
