#include "adapters/adapter.h"
#include "base/number.h"
#include "base/os.h"
#include "report/run.h"
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

/* Products of columns take rank * rank numbers and as many operations a column. */
#define RANK_MOST 256

/* gram[r, r] = sum over the other side of x_i x_j; along: the rank is the last side. */
static void gram_of(double *gram, double *row, const gr_tensor *t, int64_t rank, bool along) {
    int64_t others = t->shape[along ? 0 : 1];
    memset(gram, 0, (size_t)(rank * rank) * sizeof *gram);
    for (int64_t k = 0; k < others; k++) {
        for (int64_t i = 0; i < rank; i++)
            row[i] = (double)gr_float_at(t->data, along ? k * rank + i : i * others + k, t->dtype);
        for (int64_t i = 0; i < rank; i++)
            for (int64_t j = 0; j <= i; j++) gram[i * rank + j] += row[i] * row[j];
    }
}

/* |B A| of two grams, of which the lower halves are there. */
static double norm_of(const double *a, const double *b, int64_t rank) {
    double sum = 0;
    for (int64_t i = 0; i < rank; i++)
        for (int64_t j = 0; j <= i; j++) sum += (i == j ? 1 : 2) * a[i * rank + j] * b[i * rank + j];
    return sqrt(fmax(sum, 0));
}

/* "model.layers.3.self_attn.q_proj": 3 and the rest; -1 and all of it outside of blocks. */
static int64_t place_of(const char **module, const char *path) {
    static const char layers[] = "layers.";
    const char *at = strstr(path, layers), *rest = at ? strchr(at + strlen(layers), '.') : NULL;
    int64_t layer = -1;
    *module = path;
    if (!rest) return -1;
    char number[24];
    snprintf(number, sizeof number, "%.*s", (int)gr_min_i64(rest - at - (int)strlen(layers), 23),
             at + strlen(layers));
    if (!gr_parse_int(number, &layer) || layer < 0 || layer >= GR_CHANGE_ROWS - 1) return -1;
    *module = rest + 1;
    return layer;
}

/* The column of a module; -1: there are too many. */
static int column_of(gr_change *c, const char *module) {
    for (size_t i = 0; i < c->modules; i++)
        if (strcmp(c->module[i], module) == 0) return (int)i;
    if (c->modules == GR_CHANGE_MODULES) return -1;
    snprintf(c->module[c->modules], sizeof *c->module, "%s", module); /* it has a module's whole path */
    return (int)c->modules++;
}

typedef struct room {
    double *gram[2], *row; /* [RANK_MOST, RANK_MOST], [RANK_MOST] */
} room;

/* Matrix number e of a stack. */
static gr_tensor matrix_of(const gr_tensor *t, int64_t e) {
    gr_tensor m = *t;
    if (t->ndim == 2) return m;
    m.ndim = 2;
    m.shape[0] = t->shape[1];
    m.shape[1] = t->shape[2];
    m.data += (size_t)e * (t->bytes / (size_t)t->shape[0]);
    return m;
}

/* |B A| over all matrices of a stack. */
static double norm_over(const room *r, const gr_adapter_module *m) {
    double sum = 0;
    for (int64_t e = 0; e < (m->a->ndim == 3 ? m->a->shape[0] : 1); e++) {
        const gr_tensor own_a = matrix_of(m->a, e), own_b = matrix_of(m->b, e);
        gram_of(r->gram[0], r->row, &own_a, m->rank, m->a_last);
        gram_of(r->gram[1], r->row, &own_b, m->rank, m->b_last);
        double norm = norm_of(r->gram[0], r->gram[1], m->rank);
        sum += norm * norm;
    }
    return sqrt(sum);
}

/* false: it is not measured. */
static bool take_module(gr_change *c, const room *r, const gr_adapter_module *m) {
    const char *module;
    int64_t layer = place_of(&module, m->path);
    if (m->rank < 1 || m->rank > RANK_MOST) return false;
    double norm = fabs((double)m->scale) * norm_over(r, m);
    int column = isfinite(norm) ? column_of(c, module) : -1;
    if (column < 0) return false;
    c->norm[(layer < 0 ? GR_CHANGE_ROWS - 1 : layer) * GR_CHANGE_MODULES + column] = norm;
    if (layer < 0)
        c->outside = true;
    else
        c->rows = gr_max_i64(c->rows, layer + 1);
    c->most = fmax(c->most, norm);
    return true;
}

static void take_all(gr_change *c, const room *r, const gr_adapter_modules *m) {
    c->left_out = m->left_out;
    for (size_t i = 0; i < m->count; i++) c->left_out += !take_module(c, r, &m->list[i]);
    if (!c->outside) return; /* below the blocks, wherever they end */
    memmove(c->norm + c->rows * GR_CHANGE_MODULES, c->norm + (GR_CHANGE_ROWS - 1) * GR_CHANGE_MODULES,
            GR_CHANGE_MODULES * sizeof *c->norm);
    c->rows++;
}

/* What is wrong with the machine, not with the file, is an error. */
static graft_status pass_on(const graft_error *why, graft_error *err) {
    if (why->status != GRAFT_NO_MEMORY && why->status != GRAFT_IO) return GRAFT_OK;
    if (err->status == GRAFT_OK) *err = *why;
    return why->status;
}

static graft_status measure(gr_change *c, const gr_adapter_modules *m, graft_error *err) {
    room r = {{gr_calloc((size_t)RANK_MOST * RANK_MOST, sizeof(double)),
               gr_calloc((size_t)RANK_MOST * RANK_MOST, sizeof(double))},
              gr_calloc(RANK_MOST, sizeof(double))};
    c->norm = gr_calloc((size_t)GR_CHANGE_ROWS * GR_CHANGE_MODULES, sizeof *c->norm);
    bool good = r.gram[0] && r.gram[1] && r.row && c->norm;
    for (size_t i = 0; good && i < (size_t)GR_CHANGE_ROWS * GR_CHANGE_MODULES; i++) c->norm[i] = NAN;
    if (good) take_all(c, &r, m);
    c->none = c->rows ? NULL : "the file has no low-rank pairs that can be measured";
    free(r.gram[0]);
    free(r.gram[1]);
    free(r.row);
    return good ? GRAFT_OK : gr_no_memory(err, 0);
}

void gr_change_stamp(char stamp[GR_CHANGE_STAMP], const char *dir) {
    struct stat s;
    char *path = gr_path_join(dir, "adapter_config.json");
    stamp[0] = '\0';
    if (path && stat(path, &s) == 0)
        snprintf(stamp, GR_CHANGE_STAMP, "%lld.%09ld", (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    free(path);
}

graft_status gr_change_read(gr_change *c, const char *dir, const char *earlier, graft_error *err) {
    char stamp[GR_CHANGE_STAMP];
    gr_adapter_modules m;
    graft_error why = {0};
    *c = (gr_change){.none = "no adapter was saved yet"};
    gr_change_stamp(stamp, dir);
    if (earlier && strcmp(stamp, earlier) == 0) return GRAFT_OK;
    graft_status st = gr_adapter_modules_read(&m, dir, &why);
    c->dora = m.dora;
    if (st == GRAFT_NOT_FOUND && !stamp[0]) {
        st = GRAFT_OK;
    } else if (st != GRAFT_OK) {
        c->none = strstr(why.where, "adapter_config.json")
                      ? "adapter_config.json is missing, damaged or of a kind that is not measured"
                      : "the adapter's file cannot be read";
        st = pass_on(&why, err);
    } else if (m.full) {
        c->none = "whole tensors were trained: without the base there is nothing to compare them with";
    } else if (m.there) {
        st = measure(c, &m, err);
    }
    gr_adapter_modules_free(&m);
    return st;
}

void gr_change_free(gr_change *c) {
    free(c->norm);
    *c = (gr_change){0};
}
