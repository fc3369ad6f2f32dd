#include "base/os.h"
#include "files/json_read.h"
#include "report/curve.h"
#include <jansson.h>
#include <math.h>

#define METRICS_LIMIT ((size_t)1 << 30)

typedef struct losses {
    double *x, *y;
    size_t count, x_cap, y_cap;
} losses;

static bool push(losses *l, double x, double y) {
    if (!gr_grow((void **)&l->x, &l->x_cap, l->count, sizeof *l->x) ||
        !gr_grow((void **)&l->y, &l->y_cap, l->count, sizeof *l->y))
        return false;
    l->x[l->count] = x;
    l->y[l->count++] = y;
    return true;
}

/* A loss that is no number (null, where a run went to NaN) leaves a gap. */
static graft_status take_line(const char *text, size_t len, losses *train, losses *valid, graft_error *err) {
    json_error_t why;
    json_t *object = gr_json_loadb(text, len, 0, &why);
    if (!object && gr_json_no_memory(&why)) return gr_no_memory(err, len);
    if (!object) return gr_fail(err, GRAFT_CORRUPT, "not valid JSON: %s", why.text);
    const json_t *iteration = json_object_get(object, "iteration");
    graft_status st = GRAFT_OK;
    const char *const keys[] = {"train_loss", "val_loss"};
    losses *const series[] = {train, valid};
    for (int i = 0; i < 2 && json_is_number(iteration); i++) {
        const json_t *loss = json_object_get(object, keys[i]);
        double y = json_is_number(loss) ? json_number_value(loss) : NAN;
        if (loss && !push(series[i], json_number_value(iteration), y)) st = gr_no_memory(err, len);
    }
    json_decref(object);
    return st;
}

static graft_status take_all(const char *text, size_t size, const char *path, losses *train, losses *valid,
                             graft_error *err) {
    const char *end = text + size;
    for (unsigned long long line = 1; text < end; line++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        if (stop > text && take_line(text, (size_t)(stop - text), train, valid, err) != GRAFT_OK)
            return gr_where(err, "%s, line %llu", path, line);
        text = stop + 1;
    }
    return GRAFT_OK;
}

graft_status gr_curve_from_metrics(const char *metrics_path, const char *svg_path, const char *title,
                                   graft_error *err) {
    char *text = NULL;
    size_t size;
    losses train = {0}, valid = {0};
    gr_buf svg = {0};
    GR_TRY(gr_file_read(&text, &size, metrics_path, METRICS_LIMIT, err));
    graft_status st;
    GR_GOTO(take_all(text, size, metrics_path, &train, &valid, err));
    const gr_series series[] = {
        {.name = "training", .x = train.x, .y = train.y, .count = train.count},
        {.name = "validation", .x = valid.x, .y = valid.y, .count = valid.count, .points = true},
    };
    GR_GOTO(gr_curve_svg(&svg, title, "iteration", "loss", series, valid.count ? 2 : 1, err));
    GR_GOTO(gr_file_replace(svg_path, svg.data, svg.len, err));
done:
    gr_buf_free(&svg);
    free(train.x);
    free(train.y);
    free(valid.x);
    free(valid.y);
    free(text);
    return st;
}
