#include "layers/embedding.h"

#define PIECE   16 /* tokens per task */
#define COLUMNS 64 /* of the table's gradient per task: a task reads its part of every token, in order */

void gr_embedding_row(const gr_embedding *e, float *row, int64_t id) {
    int64_t n = e->table->cols, vocab = e->table->rows;
    gr_mat_row(row, e->table, id, 0, n);
    for (int64_t r = 0; r < e->rank; r++) {
        const float *a = e->a + r * n;
        float factor = e->scale * e->b[r * vocab + id];
        for (int64_t i = 0; i < n; i++) row[i] += factor * a[i];
    }
    for (int64_t i = 0; e->multiplier != 1 && i < n; i++) row[i] *= e->multiplier;
}

typedef struct lookup_job {
    const gr_compute *c;
    const gr_embedding *e;
    void *x;
    const int32_t *ids;
    int64_t tokens;
} lookup_job;

static void lookup_task(void *context, int task, int worker) {
    const lookup_job *j = context;
    int64_t n = j->e->table->cols, t1 = gr_min_i64(((int64_t)task + 1) * PIECE, j->tokens);
    float *row = (float *)(void *)(j->c->scratch + (size_t)worker * j->c->scratch_bytes);
    for (int64_t t = (int64_t)task * PIECE; t < t1; t++) {
        gr_embedding_row(j->e, row, j->ids[t]);
        j->c->k->to_act((char *)j->x + (size_t)(t * n) * (size_t)j->c->k->act_bytes, row, n);
    }
}

void gr_embedding_forward(const gr_compute *c, const gr_embedding *e, void *x, const int32_t *ids,
                          int64_t tokens) {
    lookup_job j = {c, e, x, ids, tokens};
    gr_part before = gr_part_enter(c->profile, GR_PART_EMBEDDING);
    gr_pool_run(c->pool, lookup_task, &j, (int)((tokens + PIECE - 1) / PIECE));
    gr_part_work(c->profile, 0, (double)(tokens * e->table->cols * c->k->act_bytes * 2));
    gr_part_enter(c->profile, before);
}

/* One row of data. */
typedef struct back_job {
    const gr_compute *c;
    const gr_embedding *e;
    float *dw, *da, *db;
    const float *dx;    /* of the row's first token */
    const int32_t *ids; /* likewise */
    int64_t tokens;
} back_job;

static void table_columns(void *context, int task, int worker) {
    const back_job *j = context;
    int64_t n = j->e->table->cols, vocab = j->e->table->rows, c0 = (int64_t)task * COLUMNS,
            cols = gr_min_i64(COLUMNS, n - c0);
    (void)worker;
    for (int64_t v = 0; !j->e->shared && v < vocab; v++)
        memset(j->dw + v * n + c0, 0, (size_t)cols * sizeof(float));
    for (int64_t t = 0; t < j->tokens; t++)
        j->c->k->add_f32(j->dw + j->ids[t] * n + c0, j->dx + t * n + c0, cols);
}

/* Row r of A and of B: dA[r] += scale * B[r, id] dx, dB[r, id] += scale * A[r] . dx. */
static void adapter_rank(void *context, int r, int worker) {
    const back_job *j = context;
    const gr_embedding *e = j->e;
    int64_t n = e->table->cols, vocab = e->table->rows;
    const float *a = e->a + r * n, *b = e->b + r * vocab;
    float *da = j->da + r * n, *db = j->db + r * vocab;
    (void)worker;
    if (!e->shared) {
        memset(da, 0, (size_t)n * sizeof *da);
        memset(db, 0, (size_t)vocab * sizeof *db);
    }
    for (int64_t t = 0; t < j->tokens; t++) {
        const float *dx = j->dx + t * n;
        float factor = e->scale * b[j->ids[t]];
        double dot = 0;
        for (int64_t i = 0; i < n; i++) {
            dot += (double)a[i] * (double)dx[i];
            da[i] += factor * dx[i];
        }
        db[j->ids[t]] += e->scale * (float)dot;
    }
}

void gr_embedding_backward(const gr_compute *c, const gr_embedding *e, const gr_gradients *gradients,
                           const float *dx, const gr_batch *batch) {
    int64_t n = e->table->cols, vocab = e->table->rows;
    for (int64_t row = 0; row < batch->nrows; row++) {
        int64_t t0 = batch->start[row];
        uint64_t leaf = batch->first + (uint64_t)row;
        back_job j = {
            .c = c, .e = e, .dx = dx + t0 * n, .ids = batch->ids + t0, .tokens = batch->start[row + 1] - t0};
        if (e->w_at != GR_NOWHERE) {
            j.dw = gr_gradients_leaf(gradients, e->w_at, leaf);
            gr_pool_run(c->pool, table_columns, &j, (int)((n + COLUMNS - 1) / COLUMNS));
            gr_gradients_join(c, gradients, e->w_at, leaf, vocab * n);
        }
        if (!e->rank) continue;
        j.da = gr_gradients_leaf(gradients, e->a_at, leaf);
        j.db = gr_gradients_leaf(gradients, e->b_at, leaf);
        gr_pool_run(c->pool, adapter_rank, &j, (int)e->rank);
        gr_gradients_join(c, gradients, e->a_at, leaf, e->rank * n);
        gr_gradients_join(c, gradients, e->b_at, leaf, e->rank * vocab);
    }
}
