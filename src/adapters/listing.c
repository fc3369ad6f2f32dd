#include "adapters/adapter_parts.h"
#include "base/number.h"
#include "convert/gguf_names.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static bool cannot(gr_buf *why, const char *text, const gr_param *p) {
    char name[256] = "";
    if (p) gr_param_name(name, sizeof name, p);
    if (why) gr_buf_printf(why, "%s%s%s%s", text, p ? " (" : "", name, p ? ")" : "");
    return false;
}

/* A and B of modules that llama.cpp has. source: llama-adapter.cpp */
static bool gguf_holds(const gr_model_config *c, const gr_tuning *t, gr_buf *why) {
    if (!gr_gguf_arch_of(c->arch->model_type)) return cannot(why, "llama.cpp has no such architecture", NULL);
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        char path[200], name[200];
        gr_role_name(path, sizeof path, p->role, p->layer);
        if (p->kind == GR_PARAM_MAGNITUDE) return cannot(why, "llama.cpp knows no DoRA", p);
        if (p->kind == GR_PARAM_BIAS) return cannot(why, "llama.cpp takes no biases beside adapters", p);
        if (p->kind == GR_PARAM_WEIGHT)
            return cannot(why, "llama.cpp takes no whole tensors beside adapters", p);
        if (p->role == GR_EMBED_TOKENS && c->tied)
            return cannot(why, "llama.cpp adapts no embedding that is the head too", p);
        if (!gr_gguf_name_of_hf(name, sizeof name, path))
            return cannot(why, "llama.cpp has no such module", p);
    }
    return true;
}

bool gr_adapter_holds(const gr_adapter_format *f, const gr_model_config *c, const gr_tuning *t, gr_buf *why) {
    if (!f->one_rank && !t->adapted) {
        if (why) gr_buf_printf(why, "%s's files hold adapters, and there is none", f->program);
        return false;
    }
    for (size_t i = 0; !f->one_rank && !f->gguf && i < t->param_count; i++)
        if (gr_role_expert(t->params[i].role))
            return cannot(why,
                          "PEFT adapts transformers' experts with gate and up as one, which is not written",
                          &t->params[i]);
    if (f->gguf) return gguf_holds(c, t, why);
    for (size_t i = 0; f->one_rank && t->adapted && i < t->param_count; i++)
        if (t->params[i].kind == GR_PARAM_BIAS || t->params[i].kind == GR_PARAM_WEIGHT)
            return cannot(why, "mlx-lm takes no biases or whole tensors beside adapters", &t->params[i]);
    return true;
}

void gr_adapter_files(const char *names[GR_ADAPTER_FORMATS + 1], const gr_model_config *c, const gr_tuning *t,
                      unsigned formats) {
    int n = 0;
    if (!formats) formats = GR_ADAPTER_USUAL;
    for (int i = 0; i < GR_ADAPTER_FORMATS; i++) {
        const gr_adapter_format *f = &gr_adapter_format_table[i];
        if (formats >> i & 1 && gr_adapter_holds(f, c, t, NULL)) names[n++] = f->file;
    }
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

/* An alpha that gives the scale exactly, if there is one: first a whole number. */
static float alpha_for(double scale, int64_t rank) {
    double exact = scale * (double)rank;
    const float tries[] = {(float)rint(exact), (float)exact, nextafterf((float)exact, INFINITY),
                           nextafterf((float)exact, -INFINITY)};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++)
        if (tries[i] != 0 && gr_adapter_gguf_scale(tries[i], rank) == (float)scale) return tries[i];
    return (float)exact != 0 ? (float)exact : (float)rank;
}

float gr_adapter_gguf_alpha(const gr_tuning *t, bool *folded) {
    gr_adapter_common common = gr_adapter_common_of(t);
    float alpha = alpha_for(common.scale, gr_max_i64(common.rank, 1));
    for (size_t i = 0; folded && i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        const gr_tuned *x = gr_tuning_of(t, p->role, p->layer);
        if (p->kind == GR_PARAM_A) *folded |= x->scale != gr_adapter_gguf_scale(alpha, x->rank);
    }
    return alpha;
}

/* What lora_b takes so that the program's scale becomes the module's own. */
static float factor_of(const gr_adapter_format *f, const gr_tuned *x, double scale) {
    return f->one_rank || f->gguf ? (x->scale == (float)scale ? 1 : (float)((double)x->scale / scale)) : 1;
}

graft_status gr_adapter_list(gr_adapter_item **items, size_t *count, const gr_adapter_format *f,
                             const gr_tuning *t, const gr_model_config *c, graft_error *err) {
    gr_adapter_common common = gr_adapter_common_of(t);
    float alpha = gr_adapter_gguf_alpha(t, NULL);
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
            if (!gr_adapter_slot_name(item->name, sizeof item->name, f, slot, p->role, p->layer))
                return gr_fail(err, GRAFT_INTERNAL, "%s cannot hold this adapter", f->file);
            item->param = p;
            item->stack = p->stack;
            item->rows = pair && f->one_rank ? common.padded_rank : p->rows / p->stack;
            item->repeat = p->kind == GR_PARAM_A ? gr_max_i64(x->pool, 1) : 1;
            item->transposed = slot->transposed;
            item->head_dim = gr_adapter_pairs(f, c, p->role, p->kind);
            double scale =
                f->gguf ? (double)gr_adapter_gguf_scale(alpha, gr_max_i64(x->rank, 1)) : common.scale;
            item->factor = slot->folds ? factor_of(f, x, scale) : 1;
        }
    }
    *count = n;
    return GRAFT_OK;
}

static void note(gr_buf *notes, const char *format, ...) GR_PRINTF(2, 3);
static void note(gr_buf *notes, const char *format, ...) {
    char text[700];
    va_list args;
    va_start(args, format);
    gr_vformat(text, sizeof text, format, args);
    va_end(args);
    gr_buf_printf(notes, "%s%s", notes->len ? "; " : "", text);
}

static void note_gguf(gr_buf *notes, const gr_model_config *c, const gr_tuning *t) {
    const gr_adapter_format *gguf = &gr_adapter_format_table[2];
    bool folded = false;
    gr_buf why = {0};
    float alpha = gr_adapter_gguf_alpha(t, &folded);
    if (!gr_adapter_holds(gguf, c, t, &why))
        note(notes, "%s is not written: %s", gguf->file, why.data ? why.data : "");
    else if (folded)
        note(notes, "llama.cpp knows one alpha: in %s scales other than %g / rank are folded into lora_b",
             gguf->file, (double)alpha);
    notes->failed |= why.failed;
    gr_buf_free(&why);
}

void gr_adapter_notes(gr_buf *notes, const gr_model_config *c, const gr_tuning *t, unsigned formats) {
    const gr_adapter_format *mlx = &gr_adapter_format_table[0], *peft = &gr_adapter_format_table[1];
    gr_adapter_common common = gr_adapter_common_of(t);
    if (!formats) formats = GR_ADAPTER_USUAL;
    gr_buf why = {0};
    const bool no_peft = formats & GR_ADAPTER_PEFT && !gr_adapter_holds(peft, c, t, &why);
    if (no_peft && t->adapted)
        note(notes, "%s is not written: %s", peft->file, why.data ? why.data : "");
    else if (no_peft)
        note(notes,
             "%s is not written: PEFT's files hold adapters, and there is none; %s has the trained "
             "tensors in 32 bits, so that training can go on from them exactly (mlx-lm loads them "
             "as they are)",
             peft->file, mlx->file);
    else if (formats & GR_ADAPTER_MLX && !gr_adapter_holds(mlx, c, t, NULL))
        note(notes,
             "%s is not written: mlx-lm takes no biases or whole tensors beside adapters; %s "
             "has everything",
             mlx->file, peft->file);
    else if (formats & GR_ADAPTER_MLX && common.uneven)
        note(notes,
             "mlx-lm knows one rank and one scale: in %s all ranks are padded with zeros to %lld and "
             "scales other than %g are folded into lora_b%s%s%s",
             mlx->file, (long long)common.padded_rank, common.scale, formats & GR_ADAPTER_PEFT ? "; " : "",
             formats & GR_ADAPTER_PEFT ? peft->file : "", formats & GR_ADAPTER_PEFT ? " is exact" : "");
    notes->failed |= why.failed;
    gr_buf_free(&why);
    if (formats & GR_ADAPTER_GGUF) note_gguf(notes, c, t);
}
