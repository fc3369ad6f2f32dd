/* Adapters whose A is shared inside each quantization group of the base. source: QA-LoRA, arXiv 2309.14717 */
#include "model/model.h"
#include "plan/tuning.h"

static graft_status cannot(const gr_param *p, const char *what, const char *hint, graft_error *err) {
    char path[200];
    gr_role_name(path, sizeof path, p->role, p->layer);
    gr_fail(err, GRAFT_UNSUPPORTED, "--group-pooled: %s %s", path, what);
    return gr_hint(err, "%s", hint);
}

/* The group of what that A is beside. */
static graft_status group_of(int64_t *group, const gr_param *p, const gr_model *model, graft_error *err) {
    const gr_mat *w = gr_model_matrix(model, p->role, p->layer);
    if (p->role >= GR_LINEARS)
        return cannot(p, "is no linear of a block", "leave it out of --lora-targets", err);
    if (gr_role_expert(p->role))
        return cannot(p, "is a mixture's experts", "leave it out of --lora-targets", err);
    if (w->layout == GR_MX)
        return cannot(p, "is stored in block floats, whose groups have no bias that could hold an adapter",
                      "train on an affine quantization, or without --group-pooled", err);
    if (w->layout != GR_AFFINE)
        return cannot(p, "has no quantization groups: it is stored in 16 or 32 bits",
                      "quantize the base first (graft convert -q), or leave --group-pooled out", err);
    *group = w->group;
    return GRAFT_OK;
}

graft_status gr_tuning_pool(gr_tuning *t, const gr_model *model, graft_error *err) {
    int64_t group = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < t->param_count; i++) {
            const gr_param *p = &t->params[i];
            int64_t own = 0;
            if (p->kind != GR_PARAM_A) continue;
            GR_TRY(group_of(&own, p, model, err));
            if (pass && p->cols % group)
                return cannot(p, "has rows that are no multiple of the base's largest group",
                              "--exclude-modules leaves it out", err);
            group = gr_max_i64(group, own); /* every group divides a larger one */
        }
    for (size_t i = 0; i < t->param_count; i++) {
        const gr_param *p = &t->params[i];
        if (p->kind == GR_PARAM_A) gr_tuning_at(t, p->role, p->layer)->pool = group;
    }
    t->pool = group;
    return gr_tuning_place(t, &model->config, err);
}
