/* A sum of adapters cut to fewer ranks: the nearest matrix of that rank. The sum's factors are short, so that
 * nothing of the size of the base is made: both are brought to orthogonal rows, and what lies between them is
 * decomposed. */
#include "adapters/adapter_parts.h"
#include <math.h>

/* rows [n, cols] become k <= n orthonormal ones, rows = L q with L [n, k]; twice is enough (Giraud 2005). */
static int64_t orthogonal_rows(double *q, double *l, const float *rows, int64_t n, int64_t cols) {
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++) {
        double *x = q + k * cols, before = 0, after = 0;
        for (int64_t j = 0; j < cols; j++) x[j] = (double)rows[i * cols + j], before += x[j] * x[j];
        for (int pass = 0; pass < 2; pass++)
            for (int64_t r = 0; r < k; r++) {
                double dot = 0;
                for (int64_t j = 0; j < cols; j++) dot += x[j] * q[r * cols + j];
                for (int64_t j = 0; j < cols; j++) x[j] -= dot * q[r * cols + j];
                l[i * n + r] += dot;
            }
        for (int64_t j = 0; j < cols; j++) after += x[j] * x[j];
        if (k == cols || !(after > 1e-24 * before)) continue; /* in the span of those before */
        after = sqrt(after);
        for (int64_t j = 0; j < cols; j++) x[j] /= after;
        l[i * n + k++] = after;
    }
    return k;
}

/* Rotates columns p and q of c [n, n], and of v, so that they become orthogonal; false if they were. */
static bool rotate(double *c, double *v, int64_t n, int64_t p, int64_t q) {
    double a = 0, b = 0, d = 0;
    for (int64_t i = 0; i < n; i++) {
        a += c[i * n + p] * c[i * n + p];
        b += c[i * n + q] * c[i * n + q];
        d += c[i * n + p] * c[i * n + q];
    }
    if (fabs(d) <= 1e-15 * sqrt(a * b)) return false;
    double zeta = (b - a) / (2 * d), t = (zeta >= 0 ? 1 : -1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
    double cs = 1 / sqrt(1 + t * t), sn = cs * t;
    for (int64_t i = 0; i < n; i++) {
        double x = c[i * n + p], y = c[i * n + q], z = v[i * n + p], w = v[i * n + q];
        c[i * n + p] = cs * x - sn * y;
        c[i * n + q] = sn * x + cs * y;
        v[i * n + p] = cs * z - sn * w;
        v[i * n + q] = sn * z + cs * w;
    }
    return true;
}

/* One-sided Jacobi: c v = u s, with u s left in c. source: Demmel, Applied Numerical Linear Algebra, 5.4.3 */
static void decompose(double *c, double *v, int64_t n) {
    for (int64_t i = 0; i < n * n; i++) v[i] = i % (n + 1) == 0;
    for (int sweep = 0; sweep < 60; sweep++) {
        bool turned = false;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) turned |= rotate(c, v, n, p, q);
        if (!turned) return;
    }
}

static double column_norm(const double *c, int64_t n, int64_t at) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += c[i * n + at] * c[i * n + at];
    return sum;
}

/* The column with the largest norm that is not taken yet. */
static int64_t take_largest(const double *c, bool *taken, int64_t n) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || column_norm(c, n, i) > column_norm(c, n, best))) best = i;
    taken[best] = true;
    return best;
}

/* to[j] = sum over k of column `at` of m [n, n] times q [n, cols] */
static void put_row(float *to, const double *m, int64_t n, int64_t at, const double *q, int64_t cols,
                    double scale) {
    for (int64_t j = 0; j < cols; j++) {
        double sum = 0;
        for (int64_t k = 0; k < n; k++) sum += m[k * n + at] * q[k * cols + j];
        to[j] = (float)(sum * scale);
    }
}

/* One module: A [n, in], B [n, out] and their scale become rank rows each, with scale 1. */
static graft_status cut_module(float *to_a, float *to_b, int64_t rank, const float *a, const float *b,
                               int64_t n, int64_t in, int64_t out, double scale, graft_error *err) {
    size_t square = (size_t)(n * n), all = 4 * square + (size_t)(n + 1) * (size_t)(in + out);
    double *room = gr_calloc(all, sizeof *room);
    bool *taken = gr_calloc((size_t)n, sizeof *taken);
    if (!room || !taken) {
        free(room);
        free(taken);
        return gr_no_memory(err, all * sizeof *room);
    }
    double *la = room, *lb = la + square, *core = lb + square, *v = core + square, *qa = v + square,
           *qb = qa + (n + 1) * in;
    orthogonal_rows(qa, la, a, n, in);
    orthogonal_rows(qb, lb, b, n, out);
    for (int64_t i = 0; i < n; i++) /* B^T A between the orthogonal rows */
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < n; k++) core[i * n + j] += lb[k * n + i] * la[k * n + j];
    decompose(core, v, n);
    for (int64_t r = 0; r < rank; r++) {
        int64_t at = take_largest(core, taken, n);
        put_row(to_a + r * in, v, n, at, qa, in, 1);
        put_row(to_b + r * out, core, n, at, qb, out, scale);
    }
    free(room);
    free(taken);
    return GRAFT_OK;
}

/* Ranks: the one asked for, or the largest that a part has there; never more than the sum's. */
static void size_cut(gr_tuning *t, const gr_tuning *sum, const gr_adapter_part *parts, size_t count,
                     int64_t rank) {
    for (size_t k = 0; k < sum->param_count; k++) {
        const gr_param *p = &sum->params[k];
        gr_tuned *x = gr_tuning_at(t, p->role, p->layer);
        int64_t most = 0;
        for (size_t i = 0; i < count; i++)
            most = gr_max_i64(most, gr_tuning_of(parts[i].tuning, p->role, p->layer)->rank);
        x->rank = gr_min_i64(rank ? rank : most, gr_tuning_of(sum, p->role, p->layer)->rank);
        x->scale = 1;
        x->pool = gr_tuning_of(sum, p->role, p->layer)->pool;
    }
    t->kind = GR_TUNE_LORA;
    t->pool = sum->pool;
    t->scale = 1;
}

graft_status gr_adapter_cut(gr_tuning **tuning, float **params, const gr_adapter_part *parts, size_t count,
                            int64_t rank, const gr_model_config *c, graft_error *err) {
    gr_tuning *sum = *tuning, *t = NULL;
    float *made = NULL;
    graft_status st;
    GR_TRY(gr_tuning_new(&t, c, err));
    size_cut(t, sum, parts, count, rank);
    GR_GOTO(gr_tuning_place(t, c, err));
    t->alpha = (double)t->rank;
    made = gr_calloc((size_t)t->parameters, sizeof *made);
    if (!made) GR_GOTO(gr_no_memory(err, (size_t)t->parameters * sizeof *made));
    for (size_t k = 0; k < t->param_count; k++) {
        const gr_param *p = &t->params[k];
        if (p->kind != GR_PARAM_A) continue;
        const gr_tuned *to = gr_tuning_of(t, p->role, p->layer), *from = gr_tuning_of(sum, p->role, p->layer);
        int64_t out, in;
        gr_role_shape(p->role, c, &out, &in);
        in = p->cols;
        out /= p->stack;
        for (int64_t e = 0; e < p->stack; e++) /* each of a mixture's experts by itself */
            GR_GOTO(cut_module(made + to->a + e * to->rank * in, made + to->b + e * to->rank * out, to->rank,
                               *params + from->a + e * from->rank * in,
                               *params + from->b + e * from->rank * out, from->rank, in, out,
                               (double)from->scale, err));
    }
    gr_tuning_free(sum);
    free(*params);
    *tuning = t;
    *params = made;
    return GRAFT_OK;
done:
    gr_tuning_free(t);
    free(made);
    return st;
}
