#include "model/stored_codes.h"
#include "weights/affine.h"
#include "weights/mx_float.h"

/* A field of a quantization entry; -1, which fits nothing, for numbers that cannot be meant. */
static void read_small(const json_t *entry, const char *key, int *value) {
    const json_t *field = json_object_get(entry, key);
    if (!json_is_integer(field)) return;
    int64_t n = json_integer_value(field);
    *value = n > 0 && n <= 1 << 20 ? (int)n : -1;
}

static const json_t *entry_of(const gr_model_config *c, const char *module) {
    return c->quantization ? json_object_get(c->quantization, module) : NULL;
}

/* Does the module's own entry, if it has one, say the same? */
static bool entry_agrees(const gr_model_config *c, const char *module, const gr_mat *mat) {
    const json_t *entry = entry_of(c, module);
    int bits = mat->bits, group = mat->group;
    read_small(entry, "bits", &bits);
    read_small(entry, "group_size", &group);
    return bits == mat->bits && group == mat->group;
}

static bool is_packed(const gr_mat *mat, const gr_tensor *weight, const gr_tensor *scales) {
    return weight->dtype == GR_U32 && weight->ndim == 2 && scales->ndim == 2 &&
           (gr_dtype_is_float(scales->dtype) || scales->dtype == GR_U8) && mat->cols > 0;
}

const char *gr_stored_codes_bind(gr_mat *mat, const gr_model_config *c, const char *module,
                                 const gr_stored_codes_tensors *t) {
    const gr_tensor *w = t->weight, *s = t->scales, *z = t->biases;
    bool micro = s->dtype == GR_U8;
    int64_t packed;
    if (!is_packed(mat, w, s) || t->global_scale || micro == (z != NULL) ||
        (z && (z->ndim != 2 || z->dtype != s->dtype)))
        return "is quantized in a way that is not supported";
    if (w->shape[0] != mat->rows || s->shape[0] != mat->rows || s->shape[1] < 1 || mat->cols % s->shape[1] ||
        (z && (z->shape[0] != s->shape[0] || z->shape[1] != s->shape[1])) ||
        !gr_mul_i64(w->shape[1], 32, &packed) || packed % mat->cols || packed / mat->cols > 8 ||
        mat->cols / s->shape[1] > 128)
        return "has quantized shapes that do not fit its bits and group_size";
    mat->bits = (int)(packed / mat->cols);
    mat->group = (int)(mat->cols / s->shape[1]);
    bool known =
        micro ? gr_mx_by_format(mat->bits, mat->group) != NULL : gr_affine_valid(mat->bits, mat->group);
    if (!known || !entry_agrees(c, module, mat))
        return "has quantized shapes that do not fit its bits and group_size";
    mat->layout = micro ? GR_MX : GR_AFFINE;
    mat->dtype = s->dtype;
    mat->data = w->data;
    mat->scales = s->data;
    mat->biases = z ? z->data : NULL;
    return NULL;
}

const char *gr_stored_codes_plan(gr_mat *mat, const gr_model_config *c, gr_role role, const char *module) {
    const json_t *entry = entry_of(c, module);
    const gr_mx_row *micro = c->micro;
    bool linear = gr_role_table[role].quantize;
    int bits = 4, group = 64;
    if (c->quantization) {
        bool by_default = linear && c->bits && c->group && !json_is_false(entry);
        if (!by_default && !json_is_object(entry) && !json_is_true(entry)) return NULL;
        const char *mode = json_string_value(json_object_get(entry, "mode"));
        if (mode) micro = gr_mx_by_mode(mode);
        bits = c->bits, group = c->group;
        read_small(entry, "bits", &bits);
        read_small(entry, "group_size", &group);
        bool known = micro ? gr_mx_by_format(bits, group) == micro : gr_affine_valid(bits, group);
        if (!known || mat->cols % group) return "cannot have the bits and group_size that the config gives";
    } else if (!linear || mat->cols % group) {
        return NULL;
    }
    mat->layout = micro ? GR_MX : GR_AFFINE;
    mat->bits = bits, mat->group = group;
    if (micro) mat->dtype = GR_U8;
    return NULL;
}
