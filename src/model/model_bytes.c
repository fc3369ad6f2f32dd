/* What a model's matrices take, and how many numbers they hold. */
#include "model/model.h"
#include "weights/affine.h"

gr_mat *gr_model_matrix_at(gr_model *m, int64_t i) {
    int64_t in_blocks = m->config.layers * GR_LINEARS;
    if (i < in_blocks) return &m->layer[i / GR_LINEARS].linear[i % GR_LINEARS];
    if (i == in_blocks) return &m->embed;
    if (i == in_blocks + 1 && !m->config.tied) return &m->head;
    return NULL;
}

bool gr_model_quantized(const gr_model *m) {
    const gr_mat *mat;
    for (int64_t i = 0; (mat = gr_model_matrix_at((gr_model *)(uintptr_t)m, i)); i++)
        if (mat->layout != GR_DENSE) return true;
    return false;
}

uint64_t gr_mat_bytes(const gr_mat *mat) {
    if (mat->layout == GR_DENSE) return (uint64_t)(mat->rows * mat->cols) * gr_dtype_bytes(mat->dtype);
    int per_group = mat->layout == GR_AFFINE ? 2 : 1; /* scales, and biases */
    return (uint64_t)(mat->rows * gr_affine_row_bytes(mat->cols, mat->bits)) +
           per_group * (uint64_t)(mat->rows * (mat->cols / mat->group)) * gr_dtype_bytes(mat->dtype);
}

/* Elements of norms and biases. */
static int64_t small_parameters(const gr_model *m) {
    const gr_model_config *c = &m->config;
    int64_t total = 0, n, in;
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (!gr_role_exists(role, c)) continue;
        gr_role_shape(role, c, &n, &in);
        n = (in ? 0 : n) + (gr_role_has_bias(role, c) ? n : 0);
        total += n * (gr_role_table[role].in_block ? c->layers : 1);
    }
    return total;
}

int64_t gr_model_parameters(const gr_model *m) {
    int64_t total = small_parameters(m);
    const gr_mat *mat;
    for (int64_t i = 0; (mat = gr_model_matrix_at((gr_model *)(uintptr_t)m, i)); i++)
        total += mat->rows * mat->cols;
    return total;
}

uint64_t gr_model_small_bytes(const gr_model *m) {
    return (uint64_t)small_parameters(m) * sizeof *m->small * (gr_norm_differs(&m->config) ? 2 : 1);
}

uint64_t gr_model_weight_bytes(const gr_model *m) {
    uint64_t total = gr_model_small_bytes(m);
    const gr_mat *mat;
    for (int64_t i = 0; (mat = gr_model_matrix_at((gr_model *)(uintptr_t)m, i)); i++)
        total += gr_mat_bytes(mat);
    return total;
}

uint64_t gr_model_held_bytes(const gr_model *m) {
    uint64_t touched = gr_model_weight_bytes(m);
    if (!m->file || m->reading.kind == GR_READ_MAPPED) return touched;
    uint64_t files = gr_safetensors_bytes(m->file) + gr_model_small_bytes(m);
    return files > touched ? files : touched;
}
