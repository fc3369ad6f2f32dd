#include "base/number.h"
#include "base/os.h"
#include "files/json_read.h"
#include "files/safetensors.h"
#include "report/run.h"
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

/* Products of columns take rank * rank numbers and as many operations a column. */
#define RANK_MOST 256

/* How the two programs name A and B, and which way they lie. ORDER: the first that is there is read */
static const struct {
    const char *file, *a, *b;
    bool columns; /* A [in, rank], B [rank, out]; else A [rank, in], B [out, rank] */
} kinds[] = {{"adapters.safetensors", ".lora_a", ".lora_b", true},
             {"adapter_model.safetensors", ".lora_A.weight", ".lora_B.weight", false}};

static double element(const gr_tensor *t, int64_t i) {
    uint16_t half;
    float f;
    if (t->dtype == GR_F32) {
        memcpy(&f, t->data + 4 * i, 4);
        return f;
    }
    memcpy(&half, t->data + 2 * i, 2);
    return t->dtype == GR_F16 ? gr_f16_to_f32(half) : gr_bf16_to_f32(half);
}

/* gram[r, r] = sum over the other side of x_i x_j; along: the rank is the last side. */
static void gram_of(double *gram, double *row, const gr_tensor *t, int64_t rank, bool along) {
    int64_t others = t->shape[along ? 0 : 1];
    memset(gram, 0, (size_t)(rank * rank) * sizeof *gram);
    for (int64_t k = 0; k < others; k++) {
        for (int64_t i = 0; i < rank; i++) row[i] = element(t, along ? k * rank + i : i * others + k);
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

/* A matrix, or a stack of them. */
static bool is_float(const gr_tensor *t) {
    return (t->ndim == 2 || t->ndim == 3) &&
           (t->dtype == GR_F32 || t->dtype == GR_F16 || t->dtype == GR_BF16);
}

/* "base_model.model.model.layers.3.self_attn.q_proj": 3 and the rest; -1 and all of it outside of blocks. */
static int64_t place_of(char module[64], const char *path, size_t len) {
    static const char layers[] = "layers.";
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)gr_min_i64((int64_t)len, 255), path);
    const char *peft = "base_model.model.";
    const char *start = strncmp(text, peft, strlen(peft)) == 0 ? text + strlen(peft) : text;
    const char *at = strstr(start, layers), *rest = at ? strchr(at + strlen(layers), '.') : NULL;
    int64_t layer = -1;
    if (rest) {
        char number[24];
        snprintf(number, sizeof number, "%.*s", (int)gr_min_i64(rest - at - (int)strlen(layers), 23),
                 at + strlen(layers));
        if (!gr_parse_int(number, &layer) || layer < 0 || layer >= GR_CHANGE_ROWS - 1) layer = -1;
    }
    snprintf(module, 64, "%.63s", layer < 0 ? start : rest + 1);
    return layer;
}

/* The column of a module; -1: there are too many. */
static int column_of(gr_change *c, const char *module) {
    for (size_t i = 0; i < c->modules; i++)
        if (strcmp(c->module[i], module) == 0) return (int)i;
    if (c->modules == GR_CHANGE_MODULES) return -1;
    memcpy(c->module[c->modules], module, 64);
    return (int)c->modules++;
}

static double number_at(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* PEFT's scale of one module, which the config's patterns may name by its path. */
static double peft_scale(const json_t *config, const char *path, size_t len, int64_t rank) {
    static const char peft[] = "base_model.model.";
    char name[256];
    size_t skip = len > strlen(peft) && strncmp(path, peft, strlen(peft)) == 0 ? strlen(peft) : 0;
    snprintf(name, sizeof name, "%.*s", (int)gr_min_i64((int64_t)(len - skip), 255), path + skip);
    double alpha = number_at(json_object_get(config, "alpha_pattern"), name);
    if (isnan(alpha)) alpha = number_at(config, "lora_alpha");
    return alpha / (json_is_true(json_object_get(config, "use_rslora")) ? sqrt((double)rank) : (double)rank);
}

typedef struct reading {
    const json_t *config;
    int kind;
    double *gram[2], *row; /* [RANK_MOST, RANK_MOST], [RANK_MOST] */
} reading;

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

/* |B A| over all matrices of a stack: mlx-lm's experts, which have A [rank, in] and B [out, rank], as PEFT's
 * linears do. */
static double norm_over(const reading *r, const gr_tensor *a, const gr_tensor *b, int64_t rank,
                        bool columns) {
    double sum = 0;
    for (int64_t e = 0; e < (a->ndim == 3 ? a->shape[0] : 1); e++) {
        const gr_tensor own_a = matrix_of(a, e), own_b = matrix_of(b, e);
        gram_of(r->gram[0], r->row, &own_a, rank, columns);
        gram_of(r->gram[1], r->row, &own_b, rank, !columns);
        double norm = norm_of(r->gram[0], r->gram[1], rank);
        sum += norm * norm;
    }
    return sqrt(sum);
}

/* One A with its B; false: they are not measured. */
static bool take_pair(gr_change *c, const reading *r, const gr_tensor *a, const gr_tensor *b, size_t len) {
    const int stack = a->ndim == 3;
    bool columns = kinds[r->kind].columns && !stack;
    int64_t rank = a->shape[columns ? 1 : stack];
    char module[64];
    int64_t layer = place_of(module, a->name, len);
    double scale = kinds[r->kind].columns ? number_at(json_object_get(r->config, "lora_parameters"), "scale")
                                          : peft_scale(r->config, a->name, len, rank);
    if (rank < 1 || rank > RANK_MOST || b->shape[columns ? 0 : 1 + stack] != rank) return false;
    if (!a->bytes || !b->bytes || a->ndim != b->ndim || (stack && a->shape[0] != b->shape[0])) return false;
    int column = column_of(c, module);
    if (column < 0) return false;
    double norm = fabs(scale) * norm_over(r, a, b, rank, columns);
    if (!isfinite(norm)) return false;
    c->norm[(layer < 0 ? GR_CHANGE_ROWS - 1 : layer) * GR_CHANGE_MODULES + column] = norm;
    if (layer < 0)
        c->outside = true;
    else
        c->rows = gr_max_i64(c->rows, layer + 1);
    c->most = fmax(c->most, norm);
    return true;
}

static void take_file(gr_change *c, const reading *r, const gr_safetensors *file) {
    const char *a_end = kinds[r->kind].a, *b_end = kinds[r->kind].b;
    for (size_t i = 0; i < gr_safetensors_count(file); i++) {
        const gr_tensor *a = gr_safetensors_at(file, i);
        char other[256];
        if (!gr_ends_with(a->name, a_end)) continue;
        c->left_out++;
        if (strlen(a->name) >= sizeof other) continue;
        size_t len = strlen(a->name) - strlen(a_end);
        snprintf(other, sizeof other, "%.*s%s", (int)len, a->name, b_end);
        const gr_tensor *b = gr_safetensors_find(file, other);
        if (b && is_float(a) && is_float(b) && take_pair(c, r, a, b, len)) c->left_out--;
    }
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

static graft_status take_config(gr_change *c, const char *dir, const json_t *config, graft_error *err) {
    reading r = {.config = config};
    gr_safetensors *file = NULL;
    graft_error why = {0};
    const int most = (int)(sizeof kinds / sizeof *kinds);
    c->none = "no adapter was saved yet";
    for (; r.kind < most && !file; r.kind += !file) {
        char *path = gr_path_join(dir, kinds[r.kind].file);
        if (!path) return gr_no_memory(err, 0);
        if (gr_path_exists(path) && gr_safetensors_open_as(&file, path, GR_IN_MEMORY, &why) != GRAFT_OK)
            c->none = "the adapter's file cannot be read";
        free(path);
        if (why.status != GRAFT_OK) return pass_on(&why, err);
    }
    if (!file) return GRAFT_OK;
    r.gram[0] = gr_calloc((size_t)RANK_MOST * RANK_MOST, sizeof(double));
    r.gram[1] = gr_calloc((size_t)RANK_MOST * RANK_MOST, sizeof(double));
    r.row = gr_calloc(RANK_MOST, sizeof(double));
    c->norm = gr_calloc((size_t)GR_CHANGE_ROWS * GR_CHANGE_MODULES, sizeof *c->norm);
    bool good = r.gram[0] && r.gram[1] && r.row && c->norm;
    for (size_t i = 0; good && i < (size_t)GR_CHANGE_ROWS * GR_CHANGE_MODULES; i++) c->norm[i] = NAN;
    if (good) take_file(c, &r, file);
    c->none = c->rows ? NULL : "the file has no low-rank pairs that can be measured";
    free(r.gram[0]);
    free(r.gram[1]);
    free(r.row);
    gr_safetensors_close(file);
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

static bool trains_lengths(const json_t *config) {
    const char *kind = json_string_value(json_object_get(config, "fine_tune_type"));
    return (kind && strcmp(kind, "dora") == 0) || json_is_true(json_object_get(config, "use_dora"));
}

graft_status gr_change_read(gr_change *c, const char *dir, const char *earlier, graft_error *err) {
    char stamp[GR_CHANGE_STAMP];
    json_t *config = NULL;
    graft_error why = {0};
    *c = (gr_change){.none = "no adapter was saved yet"};
    gr_change_stamp(stamp, dir);
    if (earlier && strcmp(stamp, earlier) == 0) return GRAFT_OK;
    char *path = gr_path_join(dir, "adapter_config.json");
    if (!path) return gr_no_memory(err, 0);
    graft_status st = GRAFT_OK;
    if (gr_path_exists(path) && gr_json_load(&config, path, GR_CONFIG_LIMIT, &why) != GRAFT_OK) {
        c->none = "adapter_config.json cannot be read";
        st = pass_on(&why, err);
    }
    const char *kind = json_string_value(json_object_get(config, "fine_tune_type"));
    if (kind && strcmp(kind, "full") == 0)
        c->none = "whole tensors were trained: without the base there is nothing to compare them with";
    else if (config)
        st = take_config(c, dir, config, err);
    c->dora = trains_lengths(config);
    json_decref(config);
    free(path);
    return st;
}

void gr_change_free(gr_change *c) {
    free(c->norm);
    *c = (gr_change){0};
}
