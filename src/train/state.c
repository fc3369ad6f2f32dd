#include "train/trainer.h"
#include <math.h>

_Static_assert(sizeof(((gr_gradients *)0)->slots) / sizeof(float *) >= GR_TREE_LEVELS, "slots of a tree");
_Static_assert(GR_UPDATE_ROWS_END >> (GR_TREE_LEVELS - 1) == 0, "an update's tree has a slot for each level");

int64_t gr_trainer_update_rows(const gr_trainer *t) {
    int64_t batch = t->o->batch_size, iterations = t->o->grad_accumulation_steps;
    if (t->train && t->iters > 0) { /* a run of a few rows needs no tree for more */
        batch = gr_min_i64(batch, t->order.packs ? gr_order_units(&t->order)
                                                 : gr_rows_count(t->train) / gr_rows_width(t->train));
        iterations = gr_min_i64(iterations, t->iters);
    }
    return batch * iterations; /* below GR_UPDATE_ROWS_END: gr_options_check */
}

/* source: PEFT 0.21 create_loraplus_optimizer. B and every vector have the ratio's rate, an adapted embedding
 * PEFT's fixed one, and biases do not decay. */
#define LORAPLUS_EMBEDDING 1e-6

void gr_trainer_loraplus(gr_optim_tensor *x, const gr_param *p, double ratio, double rate) {
    bool pair = p->kind == GR_PARAM_A || p->kind == GR_PARAM_B;
    if (pair && p->role == GR_EMBED_TOKENS)
        x->rate = rate > 0 ? LORAPLUS_EMBEDDING / rate : 0;
    else if (p->kind == GR_PARAM_B || p->cols == 0)
        x->rate = ratio;
    x->no_decay = p->kind == GR_PARAM_BIAS;
}

graft_status gr_trainer_optimizer(gr_trainer *t, graft_error *err) {
    const gr_tuning *tuning = t->rt.tuning;
    const gr_optim_row *row = gr_optim_find(t->o->optimizer);
    if (!row) {
        gr_fail(err, GRAFT_UNSUPPORTED, "optimizer %s is not built", t->o->optimizer);
        return gr_hint(err, "%s", GR_NAME_LIST(GR_OPTIM_MAP));
    }
    size_t count = 0;
    for (size_t i = 0; i < tuning->param_count; i++) count += (size_t)tuning->params[i].stack;
    gr_optim_tensor *tensors = gr_calloc(count, sizeof *tensors);
    if (!tensors) return gr_no_memory(err, count * sizeof *tensors);
    count = 0;
    for (size_t i = 0; i < tuning->param_count; i++) {
        const gr_param *p = &tuning->params[i];
        /* every expert's matrices are tensors of their own; to mlx-lm's Adafactor and Muon they are one */
        for (int64_t k = 0; k < p->stack; k++) {
            const int64_t rows = p->rows / p->stack;
            gr_optim_tensor *x = &tensors[count++];
            *x = (gr_optim_tensor){.at = p->at + k * rows * p->cols,
                                   .rows = rows,
                                   .cols = p->cols,
                                   .transposed = gr_param_transposed(p),
                                   .rate = 1};
            if (!isnan(t->o->loraplus_lr_ratio))
                gr_trainer_loraplus(x, p, t->o->loraplus_lr_ratio, t->o->learning_rate);
        }
    }
    gr_optim_config config = gr_optim_config_of(t->o);
    gr_optim_free(&t->optim);
    graft_status st = gr_optim_init(&t->optim, row, &config, tensors, (int64_t)count, tuning->parameters,
                                    t->rt.kernels.isa, err);
    free(tensors);
    return st;
}

/* Does anything train beside linears, whose gradients are products and vectors that join at once? */
static bool has_leaves(const gr_tuning *tuning) {
    for (size_t i = 0; i < tuning->param_count; i++)
        if (tuning->params[i].role >= GR_LINEARS) return true;
    return false;
}

void gr_trainer_bind_state(gr_trainer *t, gr_arena *arena) {
    int64_t n = t->rt.tuning->parameters, rows = gr_trainer_update_rows(t);
    bool from_adapter = t->preference.loss && t->preference.loss->needs_reference &&
                        (t->o->resume_adapter_file || t->kept_reference);
    t->params = gr_arena_array(arena, n, sizeof(float));
    t->reference = from_adapter ? gr_arena_array(arena, n, sizeof(float)) : NULL;
    t->preference.reference = t->reference;
    t->gradients.count = gr_gradients_slots(rows, has_leaves(t->rt.tuning));
    if (t->together.ranks) {
        int64_t batch = gr_min_i64(rows, t->o->batch_size), size = gr_ranks_size(t->together.ranks);
        int most = gr_share_slots((uint64_t)((batch + size - 1) / size), has_leaves(t->rt.tuning));
        /* checkpoints inside an update pass through them; mlx-lm's loss can end there */
        bool inside = rows > batch || (t->mlx_loss && t->o->grad_accumulation_steps > 1);
        t->gradients.count = inside && t->gradients.count > most ? t->gradients.count : most;
        gr_reduce_bind(&t->together.reduction, arena, rows, batch);
    }
    for (int i = 0; i < t->gradients.count; i++)
        t->gradients.slots[i] = gr_arena_array(arena, n, sizeof(float));
    t->grad = t->gradients.slots[0]; /* an update empties the tree before the next row */
    gr_optim_bind(&t->optim, arena, t->rt.pool);
}
