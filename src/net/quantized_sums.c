/* net/quantized_sums.c - quantization-aware training: the quantized sums of base and adapter, made anew after
 * each update. Their bytes are those that fusing into the base's own quantization writes. */
#include "layers/merge.h"
#include "net/net.h"
#include "weights/affine.h"

/* Is that linear's sum quantized? */
static bool counts(const gr_net *n, int64_t layer, gr_role role) {
    return n->tuning->block[layer][role].rank && n->model->layer[layer].linear[role].layout == GR_AFFINE;
}

/* Bytes of a matrix's codes, and of its scales or biases. */
static void sizes_of(int64_t *codes, int64_t *groups, const gr_mat *w) {
    *codes = w->rows * gr_affine_row_bytes(w->cols, w->bits);
    *groups = w->rows * (w->cols / w->group) * (int64_t)gr_dtype_bytes(w->dtype);
}

void gr_net_bind_qat(gr_net *n, gr_arena *arena) {
    n->sums = NULL;
    if (!n->tuning || !n->tuning->qat) return;
    n->sums = gr_arena_array(arena, n->tuning->layers, sizeof *n->sums);
    for (int64_t l = 0; l < n->tuning->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            gr_mat sum = {0};
            if (counts(n, l, role)) {
                int64_t codes, groups;
                sum = n->model->layer[l].linear[role];
                sizes_of(&codes, &groups, &sum);
                sum.data = gr_arena_array(arena, codes, 1);
                sum.scales = gr_arena_array(arena, groups, 1);
                sum.biases = gr_arena_array(arena, groups, 1);
            }
            if (n->sums) n->sums[l][role] = sum;
        }
}

size_t gr_net_qat_scratch(const gr_net *n) {
    const gr_model_config *c = &n->model->config;
    int64_t widest = gr_max_i64(gr_max_i64(c->hidden, c->mlp), c->heads * c->head_dim);
    return n->tuning && n->tuning->qat ? 2 * sizeof(float) * (size_t)widest : 0;
}

typedef struct sum_job {
    const gr_compute *c;
    const gr_mat *base, *sum;
    gr_merge merge;
} sum_job;

#define ROWS 16 /* of a task */

static void sum_rows(void *context, int task, int worker) {
    const sum_job *j = context;
    const gr_mat *w = j->base;
    const int64_t end = gr_min_i64(((int64_t)task + 1) * ROWS, w->rows);
    const size_t row = (size_t)gr_affine_row_bytes(w->cols, w->bits),
                 groups = (size_t)(w->cols / w->group) * gr_dtype_bytes(w->dtype);
    float *before = (float *)(j->c->scratch + (size_t)worker * j->c->scratch_bytes),
          *after = before + w->cols;
    for (int64_t r = (int64_t)task * ROWS; r < end; r++) {
        const uint8_t *codes = (const uint8_t *)w->data + (size_t)r * row;
        const char *scales = (const char *)w->scales + (size_t)r * groups,
                   *biases = (const char *)w->biases + (size_t)r * groups;
        uint8_t *to = (uint8_t *)(uintptr_t)j->sum->data + (size_t)r * row;
        char *to_scales = (char *)(uintptr_t)j->sum->scales + (size_t)r * groups,
             *to_biases = (char *)(uintptr_t)j->sum->biases + (size_t)r * groups;
        memcpy(to, codes, row);
        memcpy(to_scales, scales, groups);
        memcpy(to_biases, biases, groups);
        gr_affine_dequantize(before, codes, scales, biases, 1, w->cols, w->bits, w->group, w->dtype);
        memcpy(after, before, (size_t)w->cols * sizeof *after);
        gr_merge_row(after, &j->merge, r);
        gr_affine_requantize(to, to_scales, to_biases, after, before, w->cols, w->bits, w->group, w->dtype);
    }
}

void gr_net_refresh_qat(gr_net *n) {
    for (int64_t l = 0; n->sums && l < n->tuning->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            const gr_tuned *t = &n->tuning->block[l][role];
            if (!n->sums[l][role].rows) continue;
            sum_job j = {
                .c = &n->compute,
                .base = &n->model->layer[l].linear[role],
                .sum = &n->sums[l][role],
                .merge = {.a = n->params + t->a, .b = n->params + t->b, .rank = t->rank, .scale = t->scale}};
            j.merge.in = j.base->cols;
            j.merge.out = j.base->rows;
            gr_pool_run(n->compute.pool, sum_rows, &j, (int)((j.base->rows + ROWS - 1) / ROWS));
        }
}
