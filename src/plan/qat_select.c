/* Quantization-aware training: which linears compute with the quantized sum of base and adapter. */
#include "model/model.h"
#include "plan/tuning.h"

static graft_status cannot(gr_role role, int64_t layer, const char *what, const char *hint,
                           graft_error *err) {
    char path[200];
    gr_role_name(path, sizeof path, role, layer);
    gr_fail(err, GRAFT_UNSUPPORTED, "--qat: %s %s", path, what);
    return gr_hint(err, "%s", hint);
}

/* A group of linears shares dx: all of its adapted ones are quantized, or none. */
static graft_status check_group(const gr_tuning *t, const gr_model *model, int64_t layer, int group,
                                bool *any, graft_error *err) {
    const gr_group_row *row = &gr_group_table[group];
    int quantized = 0, adapted = 0;
    for (int i = 0; i < row->count; i++) {
        if (!t->block[layer][row->role[i]].rank) continue;
        const gr_mat *w = gr_model_matrix(model, row->role[i], layer);
        if (gr_role_expert(row->role[i]))
            return cannot(row->role[i], layer, "is a mixture's experts", "leave it out of --lora-targets",
                          err);
        adapted++;
        quantized += w->layout == GR_AFFINE;
        if (w->layout == GR_MX)
            return cannot(row->role[i], layer, "is stored in block floats, which are read and never written",
                          "train on an affine quantization, or without --qat", err);
        if (quantized && quantized != adapted)
            return cannot(row->role[i], layer,
                          "and the linears that read the same input are not stored alike",
                          "--exclude-modules leaves those out that are in 16 bits", err);
    }
    *any |= quantized > 0;
    return GRAFT_OK;
}

graft_status gr_tuning_qat(gr_tuning *t, const gr_model *model, graft_error *err) {
    static const gr_role ends[] = {GR_EMBED_TOKENS, GR_LM_HEAD};
    bool any = false;
    for (int64_t l = 0; l < t->layers; l++)
        for (int g = 0; g < GR_GROUPS; g++) GR_TRY(check_group(t, model, l, g, &any, err));
    for (int i = 0; i < 2; i++)
        if (t->outside[ends[i]].rank && gr_model_matrix(model, ends[i], 0)->layout != GR_DENSE)
            return cannot(ends[i], 0, "is quantized and no linear of a block",
                          "leave it out of --lora-targets", err);
    if (!any) {
        gr_fail(err, GRAFT_UNSUPPORTED, "--qat: nothing that is adapted is quantized");
        return gr_hint(err, "without it the adapter fuses into 16 bits as it is; or graft convert -q first");
    }
    for (size_t i = 0; i < t->param_count; i++)
        if (t->params[i].kind == GR_PARAM_MAGNITUDE)
            return cannot(t->params[i].role, t->params[i].layer, "has DoRA", "DoRA trains without --qat",
                          err);
    if (t->pool) {
        gr_fail(err, GRAFT_USAGE, "--qat and an adapter that is group-pooled contradict each other");
        return gr_hint(err, "group-pooled adapters fuse exactly: leave --qat out");
    }
    t->qat = true;
    return GRAFT_OK;
}
