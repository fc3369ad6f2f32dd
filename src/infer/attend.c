#include "infer/attend.h"
#include <math.h>

enum { KEYS = GR_ATTEND_KEYS };

/* A worker's block. `group` heads share one head of keys. */
typedef struct space {
    char *panel; /* 64 columns of a range's values */
    float *s;    /* [group, KEYS] */
    char *p;     /* act [group, KEYS] */
    float *o;    /* [group, d64], then the largest score and the sum of weights of each head */
    size_t bytes;
} space;

static int64_t round64(int64_t n) {
    return (n + 63) / 64 * 64;
}

static space carve(char *base, const gr_kernels *k, int64_t group, int64_t d) {
    space w = {0};
    size_t panel = gr_panel_bytes(k, KEYS), s = sizeof(float) * (size_t)(group * KEYS);
    size_t p = (size_t)k->act_bytes * (size_t)(group * KEYS),
           o = sizeof(float) * (size_t)(group * round64(d));
    if (base)
        w = (space){base, (float *)(void *)(base + panel), base + panel + s,
                    (float *)(void *)(base + panel + s + p), 0};
    w.bytes =
        gr_round_up(panel + s + p + o + 2 * sizeof(float) * (size_t)group, 64); /* parts: multiples of 64 */
    return w;
}

size_t gr_attend_space(const gr_kernels *k, int64_t heads, int64_t kv_heads, int64_t d) {
    return carve(NULL, k, heads / kv_heads, d).bytes;
}

int64_t gr_attend_ranges(int64_t length) {
    return (length + KEYS - 1) / KEYS;
}

/* First key that the newest token of a row sees. */
static int64_t first_key(const gr_attend_layer *l, int64_t row) {
    int64_t length = l->a->cache[row].length;
    return l->window > 0 && l->window < length ? length - l->window : 0;
}

/* First range of a row that holds such a key, and how many follow with it. */
static int64_t ranges_of(const gr_attend_layer *l, int64_t row, int64_t *first) {
    *first = first_key(l, row) / KEYS;
    return gr_attend_ranges(l->a->cache[row].length) - *first;
}

int gr_attend_tasks(const gr_attend_layer *l) {
    int64_t tasks = 0, first;
    for (int64_t r = 0; r < l->a->rows; r++) tasks += ranges_of(l, r, &first);
    return (int)(tasks * l->a->kv_heads);
}

int gr_attend_joins(const gr_attend_layer *l) {
    int64_t first;
    for (int64_t r = 0; r < l->a->rows; r++)
        if (ranges_of(l, r, &first) > 1) return (int)(l->a->rows * l->a->heads);
    return 0;
}

/* c[m, 64 from column n] = x[m, kc] times the panel */
static void product(const gr_kernels *k, float *c, int64_t ldc, int64_t m, const char *x, int64_t ldx,
                    const char *panel, int64_t kc) {
    for (int64_t i = 0; i < m; i += GR_MR) {
        gr_term term = {x + i * ldx * k->act_bytes, ldx, panel, (int)kc};
        k->tile(&term, 1, c + i * ldc, ldc, (int)gr_min_i64(GR_MR, m - i), false);
    }
}

/* Where the parts of a head's ranges lie; d + 2 floats each. */
static float *parts_of(const gr_attend *a, int64_t row, int64_t head) {
    return a->parts + (row * a->heads + head) * a->ranges_most * (a->d + 2);
}

/* Sum of weighted values o[d] into the row's attention. */
static void finish(const gr_attend *a, int64_t row, int64_t head, float *o, float sum) {
    a->k->scale_f32(o, 1 / sum, a->d);
    a->k->to_act((char *)a->out + (row * a->heads + head) * a->d * a->k->act_bytes, o, a->d);
}

/* Keys [lo, n) from number t0 on, for all heads of kv. */
static void attend(const gr_attend_layer *l, space *w, int64_t row, int64_t kv, int64_t t0, int64_t lo,
                   int64_t n, float *max, float *sum) {
    const gr_attend *a = l->a;
    const gr_kernels *k = a->k;
    const gr_kv_cache *cache = &a->cache[row];
    int64_t b = k->act_bytes, d = a->d, group = a->heads / a->kv_heads, d64 = round64(d);
    int64_t at = ((l->layer * a->kv_heads + kv) * cache->capacity + t0) * d * b;
    const char *q = (const char *)a->q + (row * a->ldq + kv * group * d) * b;
    gr_mat keys = {.layout = GR_DENSE,
                   .dtype = k->fp32 ? GR_F32 : GR_BF16,
                   .rows = n,
                   .cols = d,
                   .ld = d,
                   .data = cache->k + at,
                   .alpha = 1};
    for (int64_t h = 0; h < group; h++) k->matvec(w->s + h * KEYS, &keys, q + h * d * b, 0, n);
    for (int64_t h = 0; h < group; h++) {
        max[h] = -INFINITY, sum[h] = 0;
        if (a->cap > 0) k->soft_cap(w->s + h * KEYS, n, a->scale, a->cap);
        k->softmax_keys(w->p + h * KEYS * b, w->s + h * KEYS, (int)n, (int)lo, (int)n,
                        a->cap > 0 ? 1 : a->scale, &max[h], &sum[h]);
    }
    for (int64_t c = 0; c < d; c += GR_NR) {
        k->panel_act(w->panel, cache->v + at, d, false, c, (int)gr_min_i64(GR_NR, d - c), 0, (int)n);
        product(k, w->o + c, d64, group, w->p, KEYS, w->panel, n);
    }
}

void gr_attend_task(void *context, int task, int worker) {
    const gr_attend_layer *l = context;
    const gr_attend *a = l->a;
    int64_t group = a->heads / a->kv_heads, row = 0, first, count, at = task / a->kv_heads,
            kv = task % a->kv_heads;
    while (at >= (count = ranges_of(l, row, &first))) at -= count, row++;
    space w = carve(a->space + (size_t)worker * a->space_bytes, a->k, group, a->d);
    int64_t t0 = (first + at) * KEYS, n = gr_min_i64(KEYS, a->cache[row].length - t0);
    float *max = w.o + group * round64(a->d), *sum = max + group;
    attend(l, &w, row, kv, t0, gr_max_i64(0, first_key(l, row) - t0), n, max, sum);
    for (int64_t h = 0; h < group; h++) {
        float *o = w.o + h * round64(a->d), *part = parts_of(a, row, kv * group + h) + at * (a->d + 2);
        if (count == 1) {
            finish(a, row, kv * group + h, o, sum[h]);
        } else {
            memcpy(part, o, (size_t)a->d * sizeof *o);
            part[a->d] = max[h];
            part[a->d + 1] = sum[h];
        }
    }
}

void gr_attend_join(void *context, int task, int worker) {
    const gr_attend_layer *l = context;
    const gr_attend *a = l->a;
    int64_t row = task / a->heads, head = task % a->heads, first, n = ranges_of(l, row, &first);
    float *part = parts_of(a, row, head), *o = part, max = part[a->d], sum = 0;
    (void)worker;
    if (n == 1) return;
    for (int64_t i = 1; i < n; i++) max = fmaxf(max, part[i * (a->d + 2) + a->d]);
    for (int64_t i = 0; i < n; i++, part += a->d + 2) {
        float factor = expf(part[a->d] - max);
        sum += factor * part[a->d + 1];
        a->k->scale_f32(part, factor, a->d);
        if (i) a->k->add_f32(o, part, a->d);
    }
    finish(a, row, head, o, sum);
}
