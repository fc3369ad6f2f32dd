/* Where the matrices of a mixture's experts lie: one after another, as MLX has them, or each alone. */
#include "model/stored_codes.h"
#include <stdio.h>

static const gr_tensor *find(const gr_safetensors *file, const char *base, const char *suffix) {
    char name[256];
    snprintf(name, sizeof name, "%s%s", base, suffix);
    return gr_safetensors_find(file, name);
}

/* [experts, out, in] as [experts * out, in]; false where it is no such tensor. */
static bool flatten(gr_tensor *flat, const gr_tensor *t, int64_t experts) {
    if (t->ndim != 3 || t->shape[0] != experts || !gr_mul_i64(experts, t->shape[1], &flat->shape[0]))
        return false;
    flat->dtype = t->dtype, flat->data = t->data, flat->name = t->name;
    flat->ndim = 2;
    flat->shape[1] = t->shape[2];
    return true;
}

static const char *bind_stacked(gr_mat *mat, const gr_safetensors *file, const gr_model_config *c,
                                const char *base, const gr_tensor *w) {
    static const char *const suffix[] = {".weight", ".scales", ".biases"};
    gr_tensor flat[3] = {0};
    bool there[3] = {0};
    for (int i = 0; i < 3; i++) {
        const gr_tensor *t = i ? find(file, base, suffix[i]) : w;
        if (t && !flatten(&flat[i], t, c->experts)) return "has a wrong type or shape";
        there[i] = t != NULL;
    }
    if (there[1]) {
        const gr_stored_codes_tensors packed = {&flat[0], &flat[1], there[2] ? &flat[2] : NULL,
                                                find(file, base, ".global_scale")};
        return gr_stored_codes_bind(mat, c, base, &packed);
    }
    if (!gr_dtype_is_float(w->dtype) || flat[0].shape[0] != mat->rows || flat[0].shape[1] != mat->cols)
        return "has a wrong type or shape";
    mat->dtype = w->dtype, mat->data = w->data;
    return NULL;
}

/* Up to the first that is wrong: a file without experts would have a million of them. */
static const char *bind_alone(gr_mat *mat, const void **places, char *name, size_t size,
                              const gr_safetensors *file, int64_t experts, gr_role role, int64_t layer) {
    for (int64_t e = 0; e < experts; e++) {
        gr_expert_name(name, size, role, layer, e);
        const gr_tensor *w = find(file, name, ".weight");
        if (!w) return "has no weight";
        if (!e) mat->dtype = w->dtype;
        if (!gr_dtype_is_float(w->dtype) || w->dtype != mat->dtype || w->ndim != 2 ||
            w->shape[0] != mat->rows / experts || w->shape[1] != mat->cols)
            return "has a wrong type or shape";
        places[e] = w->data;
    }
    return NULL;
}

const char *gr_experts_bind(gr_mat *mat, const void **places, char *name, size_t size,
                            const gr_safetensors *file, const gr_model_config *c, gr_role role,
                            int64_t layer) {
    gr_expert_name(name, size, role, layer, 0);
    const gr_tensor *alone = find(file, name, ".weight");
    gr_role_name(name, size, role, layer);
    const gr_tensor *stacked = find(file, name, ".weight");
    if (stacked && alone) return "is there a second time, each expert alone";
    if (stacked) return bind_stacked(mat, file, c, name, stacked);
    snprintf(name, size, "model.layers.%lld.mlp.experts.%s", (long long)layer,
             role == GR_EXPERT_DOWN ? "down_proj" : "gate_up_proj");
    if (gr_safetensors_find(file, name)) return GR_EXPERTS_IN_MEMORY;
    return bind_alone(mat, places, name, size, file, c->experts, role, layer);
}
