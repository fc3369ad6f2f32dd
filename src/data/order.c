#include "base/memory.h"
#include "data/rows.h"

/* Streams of the run's seed from here on belong to the order of rows, one per epoch. */
#define ORDER_STREAM 0x6f72646572000000u

/* Fisher-Yates from the identity, so that an epoch's order needs no earlier epoch. File order and its packs
 * are the same in each. */
static void permute(gr_order *order) {
    if (!order->permutation) return;
    gr_rng rng;
    gr_rng_seed(&rng, order->seed, ORDER_STREAM + order->epoch);
    for (int64_t i = 0; i < order->count; i++) order->permutation[i] = (int32_t)i;
    for (int64_t i = order->count - 1; i > 0; i--) {
        int64_t j = (int64_t)gr_rng_below(&rng, (uint64_t)i + 1);
        int32_t swap = order->permutation[i];
        order->permutation[i] = order->permutation[j];
        order->permutation[j] = swap;
    }
    if (order->packs) gr_packs_fill(order->packs, order->permutation, order->count);
}

graft_status gr_order_init(gr_order *order, int64_t count, bool shuffle, uint64_t seed, graft_error *err) {
    *order = (gr_order){.count = count, .shuffle = shuffle, .seed = seed, .width = 1};
    if (count < 1 || count > INT32_MAX) {
        gr_fail(err, GRAFT_RANGE, "a data set must have 1 to %d rows", INT32_MAX);
        return gr_found(err, "%lld", (long long)count);
    }
    if (!shuffle) return GRAFT_OK;
    order->permutation = gr_calloc((size_t)count, sizeof *order->permutation);
    if (!order->permutation) return gr_no_memory(err, (size_t)count * sizeof *order->permutation);
    permute(order);
    return GRAFT_OK;
}

graft_status gr_order_pack(gr_order *order, int32_t *cost, int64_t capacity, graft_error *err) {
    GR_TRY(gr_packs_new(&order->packs, cost, order->count, capacity, err));
    gr_packs_fill(order->packs, order->permutation, order->count);
    return GRAFT_OK;
}

int64_t gr_order_units(const gr_order *order) {
    return order->packs ? order->packs->count : order->count;
}

int64_t gr_order_unit_rows(const gr_order *order, int64_t unit) {
    return order->packs ? order->packs->start[unit + 1] - order->packs->start[unit] : order->width;
}

int64_t gr_order_row(const gr_order *order, int64_t unit, int64_t k) {
    return order->packs ? order->packs->row[order->packs->start[unit] + k] : unit * order->width + k;
}

graft_status gr_order_seek(gr_order *order, uint64_t epoch, int64_t position, graft_error *err) {
    if (position < 0 || position > gr_order_units(order)) {
        gr_fail(err, GRAFT_MISMATCH, "the checkpoint's position is not in this data set");
        gr_expected(err, "0 to %lld %s", (long long)gr_order_units(order), order->packs ? "packs" : "rows");
        gr_found(err, "%lld", (long long)position);
        return gr_hint(err, "resume with the data the run was started with");
    }
    bool other = epoch != order->epoch;
    order->epoch = epoch;
    order->position = position;
    if (other) permute(order);
    return GRAFT_OK;
}

int64_t gr_order_take(gr_order *order, int64_t *units, int64_t n) {
    if (order->position == gr_order_units(order)) {
        order->epoch++;
        order->position = 0;
        permute(order);
    }
    int64_t taken = gr_min_i64(n, gr_order_units(order) - order->position);
    for (int64_t i = 0; i < taken; i++) {
        int64_t at = order->position + i;
        units[i] = order->permutation && !order->packs ? order->permutation[at] : at;
    }
    order->position += taken;
    return taken;
}

int64_t gr_order_iterations_per_epoch(int64_t count, int64_t batch) {
    return count / batch + (count % batch != 0);
}

void gr_order_free(gr_order *order) {
    free(order->permutation);
    gr_packs_free(order->packs);
    *order = (gr_order){0};
}
