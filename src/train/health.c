#include "train/health.h"
#include <math.h>

/* A spike is at least so many times the median, so that small differences of even numbers are none, and at
 * least so many median distances above it, so that uneven batches are none. */
#define LOSS_FACTOR 2
#define NORM_FACTOR 5
#define DISTANCES   15

void gr_health_add_row(gr_health *h, int64_t index, uint64_t line, double loss, bool gradient) {
    bool number = isfinite(loss);
    gr_lines_add(&h->rows, line);
    if (!number || !gradient) gr_lines_add(&h->bad, line);
    h->bad_loss |= !number;
    if (!number) return;
    h->loss += loss;
    h->good_row = index + 1;
}

void gr_health_next(gr_health *h) {
    h->rows.count = h->bad.count = 0;
    h->bad_loss = false;
    h->loss = 0;
}

static int by_value(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *x, int64_t n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

/* Is x far above the window's level, its median *usual, and above all of it? */
static bool above(double x, const double window[GR_HEALTH_WINDOW], int64_t seen, double factor,
                  double *usual) {
    double sorted[GR_HEALTH_WINDOW];
    int64_t n = gr_min_i64(seen, GR_HEALTH_WINDOW);
    *usual = NAN;
    if (n < GR_HEALTH_LEAST) return false;
    memcpy(sorted, window, (size_t)n * sizeof *sorted);
    *usual = median(sorted, n);
    double most = sorted[n - 1];
    for (int64_t i = 0; i < n; i++) sorted[i] = fabs(window[i] - *usual);
    return x > most && x > factor * *usual && x > *usual + DISTANCES * median(sorted, n);
}

void gr_health_judge(gr_health *h, gr_verdict *v, double norm, int64_t targets) {
    *v = (gr_verdict){.skipped = !isfinite(norm) || h->bad_loss, .bad_loss = h->bad_loss, .norm = norm};
    if (v->skipped) {
        v->guilty = h->bad.count > 0;
        v->rows = v->guilty ? h->bad : h->rows;
        h->skipped++;
        h->in_a_row++;
        return;
    }
    v->loss = h->loss / (double)gr_max_i64(targets, 1);
    v->loss_spike = above(v->loss, h->losses, h->seen, LOSS_FACTOR, &v->usual_loss);
    v->norm_spike = above(norm, h->norms, h->seen, NORM_FACTOR, &v->usual_norm);
    h->loss_spikes += v->loss_spike;
    h->norm_spikes += v->norm_spike;
    h->losses[h->seen % GR_HEALTH_WINDOW] = v->loss;
    h->norms[h->seen % GR_HEALTH_WINDOW] = norm;
    h->seen++;
    h->applied++;
    h->in_a_row = 0;
}

/* ------------------------------------------------------------------------------------- in a checkpoint */

/* How many there are, and the first of them. */
static json_t *lines(const gr_lines *l) {
    json_t *array = json_pack("[I]", (json_int_t)l->count);
    for (int64_t i = 0; i < gr_min_i64(l->count, GR_FINDING_LINES); i++)
        json_array_append_new(array, json_integer((json_int_t)l->lines[i]));
    return array;
}

json_t *gr_health_json(const gr_health *h) {
    size_t n = (size_t)gr_min_i64(h->seen, GR_HEALTH_WINDOW);
    return json_pack("{s:o,s:o,s:b,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "rows", lines(&h->rows), "bad",
                     lines(&h->bad), "bad_loss", (int)h->bad_loss, "loss", gr_json_bits(&h->loss, 1),
                     "applied", (json_int_t)h->applied, "skipped", (json_int_t)h->skipped, "in_a_row",
                     (json_int_t)h->in_a_row, "loss_spikes", (json_int_t)h->loss_spikes, "norm_spikes",
                     (json_int_t)h->norm_spikes, "good_row", (json_int_t)h->good_row, "seen",
                     (json_int_t)h->seen, "losses", gr_json_bits(h->losses, n), "norms",
                     gr_json_bits(h->norms, n));
}

static graft_status read_lines(const gr_json_scope *j, const char *key, gr_lines *l, graft_error *err) {
    const json_t *array = NULL;
    GR_TRY(gr_json_array(j, key, &array, err));
    int64_t count = json_integer_value(json_array_get(array, 0));
    if (count < 0 || json_array_size(array) != 1 + (size_t)gr_min_i64(count, GR_FINDING_LINES))
        return gr_json_wrong(j, key, "a number of lines and the first of them", array, err);
    l->count = count;
    for (int64_t i = 0; i < gr_min_i64(count, GR_FINDING_LINES); i++)
        l->lines[i] = (uint64_t)json_integer_value(json_array_get(array, (size_t)i + 1));
    return GRAFT_OK;
}

graft_status gr_health_read(gr_health *h, const gr_json_scope *progress, graft_error *err) {
    gr_json_scope j;
    char path[128];
    *h = (gr_health){0};
    GR_TRY(gr_json_need(progress, "health", err));
    GR_TRY(gr_json_object(progress, "health", &j, path, err));
    GR_TRY(read_lines(&j, "rows", &h->rows, err));
    GR_TRY(read_lines(&j, "bad", &h->bad, err));
    GR_TRY(gr_json_bool(&j, "bad_loss", &h->bad_loss, err));
    GR_TRY(gr_json_read_bits(&j, "loss", &h->loss, 1, err));
    const struct {
        const char *key;
        int64_t *value;
    } counts[] = {{"applied", &h->applied},
                  {"skipped", &h->skipped},
                  {"in_a_row", &h->in_a_row},
                  {"loss_spikes", &h->loss_spikes},
                  {"norm_spikes", &h->norm_spikes},
                  {"good_row", &h->good_row},
                  {"seen", &h->seen}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        GR_TRY(gr_json_need(&j, counts[i].key, err));
        GR_TRY(gr_json_int(&j, counts[i].key, 0, INT64_MAX, counts[i].value, err));
    }
    size_t n = (size_t)gr_min_i64(h->seen, GR_HEALTH_WINDOW);
    GR_TRY(gr_json_read_bits(&j, "losses", h->losses, n, err));
    return gr_json_read_bits(&j, "norms", h->norms, n, err);
}
