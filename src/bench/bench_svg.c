/* The pictures of graft.h's benchmark results. */
#include "base/number.h"
#include "base/os.h"
#include "bench/bench.h"
#include "report/bars.h"
#include "report/curve.h"
#include <math.h>
#include <stdio.h>

static graft_status save(gr_buf *out, graft_status drawn, const char *path, graft_error *err) {
    gr_remove_temps_of(path);
    if (drawn == GRAFT_OK) drawn = gr_file_replace(path, out->data, out->len, err);
    gr_buf_free(out);
    return drawn;
}

graft_status graft_bench_train_svg(const graft_bench_result *r, const graft_bench_peer *peer,
                                   const char *path, graft_error *err) {
    graft_error own;
    if (!err) err = &own;
    gr_error_clear(err);
    gr_buf out = {0};
    size_t most = peer && peer->nlosses > r->nlosses ? peer->nlosses : r->nlosses;
    double *x = gr_calloc(most, sizeof *x);
    char names[2][120], title[160];
    if (!x) return gr_no_memory(err, most * sizeof *x);
    for (size_t i = 0; i < most; i++) x[i] = (double)i + 1;
    snprintf(names[0], sizeof names[0], "graft, %.0f tokens/s", r->tokens_per_second);
    gr_series series[2] = {{.name = names[0], .x = x, .y = r->losses, .count = r->nlosses}};
    snprintf(title, sizeof title, "training loss by step, peak memory %.0f MB",
             (double)r->peak_rss_bytes / 1e6);
    if (peer) {
        gr_format(names[1], sizeof names[1], "%.80s, %.4g tokens/s", peer->program, peer->tokens_per_second);
        series[1] =
            (gr_series){.name = names[1], .x = x, .y = peer->losses, .count = peer->nlosses, .points = true};
        gr_format(title, sizeof title, "the same batches: graft is %.1f times as fast",
                  r->tokens_per_second / peer->tokens_per_second);
    }
    graft_status st = gr_curve_svg(&out, title, "step", "loss", series, peer ? 2 : 1, err);
    free(x);
    return save(&out, st, path, err);
}

static double megabytes(uint64_t bytes) {
    return bytes ? (double)bytes / 1e6 : NAN;
}

static void name_half(char *name, size_t size, const graft_bench_half *half) {
    if (half->bits)
        snprintf(name, size, "%d-bit", half->bits);
    else
        snprintf(name, size, "mixed");
}

graft_status graft_bench_load_svg(const graft_bench_load_result *r, const char *path, graft_error *err) {
    graft_error own;
    if (!err) err = &own;
    gr_error_clear(err);
    gr_buf out = {0};
    const graft_bench_half *half[2] = {&r->plain, &r->quantized};
    const char *const memory[] = {"weights", "process peak"}, *const seconds[] = {"cached", "from disk"},
                      *const quality[] = {"loss"};
    char names[2][16];
    double bytes[2][2], times[2][2], losses[2];
    gr_bar_series series[3][2];
    for (int i = 0; i < 2; i++) {
        name_half(names[i], sizeof names[i], half[i]);
        bytes[i][0] = megabytes(half[i]->weight_bytes);
        bytes[i][1] = megabytes(half[i]->peak_rss_bytes);
        times[i][0] = half[i]->load_seconds * 1e3;
        times[i][1] = half[i]->cold_seconds * 1e3;
        losses[i] = half[i]->loss;
        series[0][i] = (gr_bar_series){names[i], bytes[i]};
        series[1][i] = (gr_bar_series){names[i], times[i]};
        series[2][i] = (gr_bar_series){names[i], &losses[i]};
    }
    const gr_bar_panel panels[] = {{"memory, MB", memory, 2, series[0], 2, 0},
                                   {"load time, ms", seconds, 2, series[1], 2, 1},
                                   {"on the data", quality, 1, series[2], 2, 3}};
    size_t count = isfinite(r->loss_difference) ? 3 : 2;
    return save(&out, gr_bars_svg(&out, "loading the model", panels, count, err), path, err);
}

graft_status graft_bench_checkpoint_svg(const graft_bench_checkpoint_result *r, const char *path,
                                        graft_error *err) {
    graft_error own;
    if (!err) err = &own;
    gr_error_clear(err);
    size_t n = r->nlengths;
    gr_buf out = {0};
    double *values = gr_calloc(n * 8, sizeof *values);
    char(*text)[24] = gr_calloc(n, sizeof *text);
    const char **names = gr_calloc(n, sizeof *names);
    graft_status st = values && text && names ? GRAFT_OK : gr_no_memory(err, n * 64);
    for (size_t i = 0; st == GRAFT_OK && i < n; i++) {
        const graft_bench_length *x = &r->lengths[i];
        const double row[] = {x->saved_percent,        x->forecast_saved_percent, x->mlp_saved_percent,
                              x->stated_saved_percent, x->slower_percent,         x->forecast_slower_percent,
                              x->mlp_slower_percent,   x->stated_slower_percent};
        for (size_t k = 0; k < 8; k++) values[k * n + i] = row[k];
        snprintf(text[i], sizeof text[i], "%lld", (long long)x->seq_length);
        names[i] = text[i];
    }
    if (st == GRAFT_OK) {
        static const char *const series_names[] = {"measured", "forecast", "measured, mlp only",
                                                   "stated (weights.md)"};
        gr_bar_series series[8];
        size_t shown = 3; /* nothing is stated for most lengths */
        for (size_t i = 0; i < n; i++)
            if (isfinite(r->lengths[i].stated_saved_percent) || isfinite(r->lengths[i].stated_slower_percent))
                shown = 4;
        for (size_t k = 0; k < 8; k++) series[k] = (gr_bar_series){series_names[k % 4], values + k * n};
        const gr_bar_panel panels[] = {{"memory saved, %", names, n, series, shown, 0},
                                       {"slower, %", names, n, series + 4, shown, 0}};
        st = gr_bars_svg(&out, "recompute by sequence length", panels, 2, err);
    }
    free(values);
    free(text);
    free(names);
    return save(&out, st, path, err);
}

graft_status graft_bench_curves_svg(const graft_bench_curves_result *r, const char *path, graft_error *err) {
    graft_error own;
    if (!err) err = &own;
    gr_error_clear(err);
    gr_buf out = {0};
    double values[4][GRAFT_BENCH_POINTS];
    char text[GRAFT_BENCH_POINTS][24], title[64];
    const char *names[GRAFT_BENCH_POINTS];
    for (size_t i = 0; i < r->npoints; i++) {
        const graft_bench_point *x = &r->points[i];
        values[0][i] = x->none.tokens_per_second;
        values[1][i] = x->layer.tokens_per_second;
        values[2][i] = megabytes(x->none.peak_rss_bytes);
        values[3][i] = megabytes(x->layer.peak_rss_bytes);
        snprintf(text[i], sizeof text[i], "%lld", (long long)x->value);
        names[i] = text[i];
    }
    gr_bar_series series[4];
    for (int k = 0; k < 4; k++)
        series[k] = (gr_bar_series){k % 2 ? "blocks computed again" : "everything kept", values[k]};
    const gr_bar_panel panels[] = {{"tokens per second", names, r->npoints, series, 2, 0},
                                   {"peak memory, MB", names, r->npoints, series + 2, 2, 0}};
    snprintf(title, sizeof title, "a training step by %s", r->over);
    return save(&out, gr_bars_svg(&out, title, panels, 2, err), path, err);
}

graft_status graft_bench_accumulate_svg(const graft_bench_accumulate_result *r, const char *path,
                                        graft_error *err) {
    graft_error own;
    if (!err) err = &own;
    gr_error_clear(err);
    gr_buf out = {0};
    double values[2][GRAFT_BENCH_SPLITS];
    char text[GRAFT_BENCH_SPLITS][24];
    const char *names[GRAFT_BENCH_SPLITS];
    for (size_t i = 0; i < r->nsplits; i++) {
        values[0][i] = 100 * r->splits[i].relative_difference;
        values[1][i] = 100 * r->splits[i].means_relative_difference;
        snprintf(text[i], sizeof text[i], "%lld batches", (long long)r->splits[i].micro_batches);
        names[i] = text[i];
    }
    const gr_bar_series series[] = {{"graft", values[0]}, {"mean of means", values[1]}};
    const gr_bar_panel panel = {
        "difference from the gradient of one batch, %", names, r->nsplits, series, 2, 2};
    return save(&out, gr_bars_svg(&out, "gradient of micro-batches", &panel, 1, err), path, err);
}
