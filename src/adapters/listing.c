#include "adapters/adapter_parts.h"
#include <math.h>

bool gr_adapter_holds(const gr_adapter_format *f, const gr_tuning *t) {
    if (!f->one_rank) return t->adapted > 0;
    for (size_t i = 0; t->adapted && i < t->param_count; i++)
        if (t->params[i].kind == GR_PARAM_BIAS || t->params[i].kind == GR_PARAM_WEIGHT) return false;
    return true;
}

void gr_adapter_files(const char *names[3], const gr_tuning *t) {
    int n = 0;
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name; f++)
        if (gr_adapter_holds(f, t)) names[n++] = f->file;
    names[n] = NULL;
}

gr_adapter_common gr_adapter_common_of(const gr_tuning *t) {
    const gr_tuned *common = NULL;
    gr_adapter_common c = {.padded_rank = t->rank, .scale = t->scale};
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        if (p->kind != GR_PARAM_A) continue;
        const gr_tuned *x = gr_tuning_of(t, p->role, p->layer);
        if (!common || common->scale == 0) common = x; /* nothing folds into a scale of 0 */
        if (x->scale == 0 || x->scale != (float)t->scale) continue;
        common = x; /* the scale that the request gave to all but the exceptions */
        break;
    }
    if (!common) return c;
    c.rank = common->rank;
    if (common->scale != (float)t->scale) c.scale = (double)common->scale;
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        if (p->kind != GR_PARAM_A) continue;
        const gr_tuned *x = gr_tuning_of(t, p->role, p->layer);
        c.uneven |= x->rank != common->rank || x->scale != common->scale;
    }
    return c;
}

double gr_adapter_alpha(const gr_tuning *t, float scale, int64_t rank) {
    double by = t->use_rslora ? sqrt((double)rank) : (double)rank, exact = (double)scale * by;
    if ((float)(t->alpha / by) == scale) return t->alpha;
    return (float)(rint(exact) / by) == scale ? rint(exact) : exact;
}

graft_status gr_adapter_list(gr_adapter_item **items, size_t *count, const gr_adapter_format *f,
                             const gr_tuning *t, const gr_model_config *c, graft_error *err) {
    gr_adapter_common common = gr_adapter_common_of(t);
    size_t n = 0;
    *count = 0;
    *items = gr_calloc(t->param_count * 2, sizeof **items); /* a tied embedding's tensors stand there twice */
    if (!*items) return gr_no_memory(err, t->param_count * 2 * sizeof **items);
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        const gr_tuned *x = gr_tuning_of(t, p->role, p->layer);
        for (int s = 0; s < f->slot_count; s++) {
            const gr_adapter_slot *slot = &f->slots[s];
            if (slot->kind != p->kind || !gr_adapter_slot_on(slot, p->role, x->rank > 0, c)) continue;
            gr_adapter_item *item = &(*items)[n++];
            bool pair = p->kind == GR_PARAM_A || p->kind == GR_PARAM_B;
            gr_adapter_slot_name(item->name, sizeof item->name, f, slot, p->role, p->layer);
            item->param = p;
            item->rows = pair && f->one_rank ? common.padded_rank : p->rows;
            item->transposed = slot->transposed;
            item->factor =
                slot->folds && x->scale != (float)common.scale ? (float)((double)x->scale / common.scale) : 1;
        }
    }
    *count = n;
    return GRAFT_OK;
}

void gr_adapter_notes(gr_buf *notes, const gr_tuning *t) {
    const gr_adapter_format *mlx = &gr_adapter_format_table[0], *peft = &gr_adapter_format_table[1];
    gr_adapter_common common = gr_adapter_common_of(t);
    if (!gr_adapter_holds(peft, t))
        gr_buf_printf(notes,
                      "%s is not written: PEFT's files hold adapters, and there is none; %s has the trained "
                      "tensors in 32 bits, so that training can go on from them exactly (mlx-lm loads them "
                      "as they are)",
                      peft->file, mlx->file);
    else if (!gr_adapter_holds(mlx, t))
        gr_buf_printf(notes,
                      "%s is not written: mlx-lm takes no biases or whole tensors beside adapters; %s "
                      "has everything",
                      mlx->file, peft->file);
    else if (common.uneven)
        gr_buf_printf(
            notes,
            "mlx-lm knows one rank and one scale: in %s all ranks are padded with zeros to %lld and "
            "scales other than %g are folded into lora_b; %s is exact",
            mlx->file, (long long)common.padded_rank, common.scale, peft->file);
}
