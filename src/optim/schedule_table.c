#include "optim/schedule_table.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

/* ---- after the warm-up: the share of the peak at p in [0, 1) */

static double share_constant(double p) {
    (void)p;
    return 1;
}
static double share_linear(double p) {
    return 1 - p;
}
static double share_cosine(double p) {
    return 0.5 * (1 + cos(PI * p));
}

static const struct {
    const char *name;
    double (*share)(double p);
} own[] = {
#define ROW(word, name) {name, share_##word},
    GR_SCHEDULE_MAP(ROW)
#undef ROW
};

static double own_rate(const graft_options *o, int64_t k, int64_t total) {
    double peak = o->learning_rate;
    int64_t w = o->warmup;
    if (k <= w) return peak * (double)k / (double)w;
    double p = total > w ? fmin((double)(k - w - 1) / (double)(total - w), 1) : 0;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (o->lr_schedule && strcmp(own[i].name, o->lr_schedule) == 0) return peak * own[i].share(p);
    return peak;
}

/* ---- mlx.optimizers.schedulers: the rate at `step` from 0; a[0] is the initial rate */

static double mlx_cosine(const double *a, int64_t step) {
    double end = isnan(a[2]) ? 0 : a[2], s = fmin((double)step, a[1]);
    return end + 0.5 * (1 + cos(PI / a[1] * s)) * (a[0] - end);
}
static double mlx_linear(const double *a, int64_t step) {
    return fmin((double)step, a[2]) * ((a[1] - a[0]) / a[2]) + a[0];
}
static double mlx_exponential(const double *a, int64_t step) {
    return a[0] * pow(a[1], (double)step);
}
static double mlx_step(const double *a, int64_t step) {
    return a[0] * pow(a[1], floor((double)step / a[2]));
}

static const struct mlx_row {
    const char *name;
    int least, most; /* arguments */
    int steps;       /* the argument that counts steps and must be at least 1; -1: none */
    double (*rate)(const double *arguments, int64_t step);
} mlx[] = {
    {"cosine_decay", 2, 3, 1, mlx_cosine},
    {"linear_schedule", 3, 3, 2, mlx_linear},
    {"exponential_decay", 2, 2, -1, mlx_exponential},
    {"step_decay", 3, 3, 2, mlx_step},
};

static const struct mlx_row *find_mlx(const char *name) {
    for (size_t i = 0; i < sizeof mlx / sizeof *mlx; i++)
        if (strcmp(mlx[i].name, name) == 0) return &mlx[i];
    return NULL;
}

/* mlx-lm joins at warmup + 1: the warm-up's last step is the peak, and so is the schedule's first. */
static double mlx_rate(const graft_options *o, const struct mlx_row *row, int64_t step) {
    double a[4];
    memcpy(a, o->mlx_schedule_args, sizeof a);
    a[0] = o->learning_rate;
    if (o->mlx_warmup <= 0) return row->rate(a, step);
    if (step > o->mlx_warmup) return row->rate(a, step - o->mlx_warmup - 1);
    double ramp[4] = {o->mlx_warmup_init, a[0], (double)o->mlx_warmup, NAN};
    return mlx_linear(ramp, step);
}

double gr_schedule_rate(const graft_options *o, int64_t update, int64_t total_updates) {
    const struct mlx_row *row = o->mlx_schedule ? find_mlx(o->mlx_schedule) : NULL;
    return row ? mlx_rate(o, row, update - 1) : own_rate(o, update, total_updates);
}

graft_status gr_schedule_check(const graft_options *o, graft_error *err) {
    if (!o->mlx_schedule) return GRAFT_OK;
    const struct mlx_row *row = find_mlx(o->mlx_schedule);
    if (!row) {
        gr_buf names = {0};
        for (size_t i = 0; i < sizeof mlx / sizeof *mlx; i++)
            gr_buf_printf(&names, "%s%s", i ? ", " : "", mlx[i].name);
        gr_fail(err, GRAFT_USAGE, "unknown schedule");
        gr_expected(err, "%s", names.data ? names.data : "a schedule of mlx-lm's");
        gr_buf_free(&names);
        return gr_found(err, "%s", o->mlx_schedule);
    }
    int n = 0;
    while (n < 4 && !isnan(o->mlx_schedule_args[n])) n++;
    if (n < row->least || n > row->most) {
        gr_fail(err, GRAFT_USAGE, "%s has %d to %d arguments", row->name, row->least, row->most);
        return gr_found(err, "%d", n);
    }
    double steps = row->steps < 0 ? 1 : o->mlx_schedule_args[row->steps];
    if (steps < 1 || steps > 1e15 || floor(steps) != steps) {
        gr_fail(err, GRAFT_USAGE, "%s counts whole steps, at least 1", row->name);
        return gr_found(err, "%g", steps);
    }
    return GRAFT_OK;
}
