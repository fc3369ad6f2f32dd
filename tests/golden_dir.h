/* tests/golden_dir.h - what tools/make_adapter_golden.py describes, as directories: the base model by
 * formula, the rows, and the adapter that a run starts from, as PEFT would have saved it. */
#ifndef GOLDEN_DIR_H
#define GOLDEN_DIR_H
#include "ref/ref.h"
#include "tests/tiny_dir.h"

#define PEFT_PREFIX "base_model.model."

static inline const json_t *golden_member(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!value) fail_msg("the golden file lacks %s", key);
    return value;
}
static inline const char *golden_text(const json_t *object, const char *key) {
    const char *text = json_string_value(golden_member(object, key));
    assert_non_null(text);
    return text;
}
static inline int64_t golden_int(const json_t *object, const char *key) {
    return json_integer_value(golden_member(object, key));
}
static inline double golden_number(const json_t *object, const char *key) {
    return json_number_value(golden_member(object, key));
}

/* ------------------------------------------------------------------------------- a few tensors in memory */

typedef struct tensor_list {
    gr_tensor tensor[96]; /* their data is malloc'ed; all that `values` gives is f32 */
    char name[96][200];
    size_t count;
} tensor_list;

static inline gr_tensor *list_add(tensor_list *list, const char *name, gr_dtype dtype, int64_t rows,
                                  int64_t cols) {
    assert_in_range(list->count, 0, 95);
    gr_tensor *t = &list->tensor[list->count];
    snprintf(list->name[list->count], sizeof list->name[0], "%s", name);
    *t = (gr_tensor){
        .name = list->name[list->count++], .dtype = dtype, .ndim = cols ? 2 : 1, .shape = {rows, cols}};
    t->bytes = (size_t)(rows * gr_max_i64(cols, 1)) * gr_dtype_bytes(dtype);
    t->data = calloc(1, t->bytes);
    assert_non_null(t->data);
    return t;
}

static inline float *list_floats(const gr_tensor *t) {
    return (float *)(uintptr_t)t->data;
}
static inline int64_t list_size(const gr_tensor *t) {
    return t->shape[0] * (t->ndim > 1 ? t->shape[1] : 1);
}

static inline const gr_tensor *list_find(const tensor_list *list, const char *name) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->name[i], name) == 0) return &list->tensor[i];
    return NULL;
}

static inline void list_save(const tensor_list *list, const char *dir, const char *file) {
    graft_error err = {0};
    char *path = tiny_join(dir, file);
    if (gr_safetensors_save(path, list->tensor, list->count, NULL, &err) != GRAFT_OK)
        fail_msg("%s", err.what);
    free(path);
}

static inline void list_free(tensor_list *list) {
    for (size_t i = 0; i < list->count; i++) free((void *)(uintptr_t)list->tensor[i].data);
    list->count = 0;
}

/* ------------------------------------------------------------------------------------------ the base model
 */

/* tiny_formula.value: embedding 2u, norms 1 + u, the rest u / 2. */
static inline void base_add(tensor_list *base, const char *name, int64_t rows, int64_t cols) {
    double amplitude = strstr(name, "embed") ? 2 : strstr(name, "norm") ? 1 : 0.5;
    gr_tensor *t = list_add(base, name, GR_F32, rows, cols);
    float *x = list_floats(t);
    for (int64_t i = 0; i < list_size(t); i++)
        x[i] = (float)((strstr(name, "norm") ? 1 : 0) + amplitude * ref_formula(name, (long)i));
}

static inline void base_block(tensor_list *base, const json_t *c, const char *type, int layer) {
    int64_t h = golden_int(c, "hidden_size"), m = golden_int(c, "intermediate_size"),
            d = golden_int(c, "head_dim"), q = d * golden_int(c, "num_attention_heads"),
            kv = d * golden_int(c, "num_key_value_heads");
    const struct {
        const char *name;
        int64_t rows, cols;
    } parts[] = {{"self_attn.q_proj", q, h}, {"self_attn.k_proj", kv, h}, {"self_attn.v_proj", kv, h},
                 {"self_attn.o_proj", h, q}, {"mlp.gate_proj", m, h},     {"mlp.up_proj", m, h},
                 {"mlp.down_proj", h, m},    {"input_layernorm", h, 0},   {"post_attention_layernorm", h, 0},
                 {"self_attn.q_norm", d, 0}, {"self_attn.k_norm", d, 0}};
    char name[128];
    for (int i = 0; i < (strcmp(type, "qwen3") ? 9 : 11); i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, parts[i].name);
        base_add(base, name, parts[i].rows, parts[i].cols);
        if (strcmp(type, "qwen2") != 0 || i > 2) continue;
        snprintf(name, sizeof name, "model.layers.%d.%s.bias", layer, parts[i].name);
        base_add(base, name, parts[i].rows, 0);
    }
}

/* A linear of a block as MLX stores it, into `packed`; its values in `base` become what they stand for. */
static inline void base_quantize(tensor_list *packed, const gr_tensor *t, int bits) {
    const int group = 64;
    int64_t rows = t->shape[0], cols = t->shape[1];
    char name[160];
    int stem = (int)(strlen(t->name) - strlen(".weight"));
    gr_tensor *w = list_add(packed, t->name, GR_U32, rows, cols * bits / 32);
    snprintf(name, sizeof name, "%.*s.scales", stem, t->name);
    gr_tensor *s = list_add(packed, name, GR_F32, rows, cols / group);
    snprintf(name, sizeof name, "%.*s.biases", stem, t->name);
    gr_tensor *b = list_add(packed, name, GR_F32, rows, cols / group);
    gr_affine_quantize((uint8_t *)list_floats(w), list_floats(s), list_floats(b), list_floats(t), rows, cols,
                       bits, group, GR_F32);
    gr_affine_dequantize(list_floats(t), w->data, s->data, b->data, rows, cols, bits, group, GR_F32);
}

/* The weights of config `c` into `base` (to be freed), and all files of the model into root/model
 * (malloc'ed). */
static inline char *golden_model_dir(tensor_list *base, const char *root, const json_t *c, int bits) {
    char *dir = tiny_subdir(root, "model");
    const char *type = golden_text(c, "model_type");
    int64_t h = golden_int(c, "hidden_size"), v = golden_int(c, "vocab_size");
    base_add(base, "model.embed_tokens.weight", v, h);
    base_add(base, "model.norm.weight", h, 0);
    if (!json_is_true(golden_member(c, "tie_word_embeddings"))) base_add(base, "lm_head.weight", v, h);
    for (int l = 0; l < golden_int(c, "num_hidden_layers"); l++) base_block(base, c, type, l);
    json_t *config = json_deep_copy(c);
    json_object_set_new(config, "max_position_embeddings", json_integer(64));
    if (bits) {
        tensor_list *packed = calloc(1, sizeof *packed);
        assert_non_null(packed);
        for (size_t i = 0; i < base->count; i++) {
            const gr_tensor *t = &base->tensor[i];
            if (strstr(t->name, "_proj.weight"))
                base_quantize(packed, t, bits);
            else
                memcpy(list_floats(
                           list_add(packed, t->name, GR_F32, t->shape[0], t->ndim > 1 ? t->shape[1] : 0)),
                       t->data, t->bytes);
        }
        list_save(packed, dir, "model.safetensors");
        list_free(packed);
        free(packed);
        json_object_set_new(config, "quantization", json_pack("{s:i,s:i}", "group_size", 64, "bits", bits));
    } else {
        list_save(base, dir, "model.safetensors");
    }
    char *text = json_dumps(config, 0);
    tiny_write(dir, "config.json", text);
    free(text);
    json_decref(config);
    tiny_tokenizer_write(dir, false);
    return dir;
}

/* root/data/train.jsonl of the file's texts (malloc'ed path). */
static inline char *golden_data_dir(const char *root, const json_t *texts) {
    char *dir = tiny_subdir(root, "data");
    gr_buf b = {0};
    size_t i;
    json_t *text;
    json_array_foreach(texts, i, text) gr_buf_printf(&b, "{\"text\": \"%s\"}\n", json_string_value(text));
    tiny_write(dir, "train.jsonl", b.data);
    gr_buf_free(&b);
    return dir;
}

/* --------------------------------------------------------------------------------------------- the start */

static inline const gr_tensor *base_of(const tensor_list *base, const char *name, const char *suffix,
                                       const char *instead) {
    char path[160];
    snprintf(path, sizeof path, "%.*s%s", (int)(strlen(name) - strlen(suffix)), name, instead);
    const gr_tensor *t = list_find(base, path);
    if (!t) fail_msg("%s: the base has no %s", name, path);
    return t;
}

static inline bool ends(const char *name, const char *suffix) {
    return gr_ends_with(name, suffix);
}

/* The first values of a trained tensor, by the formulas of make_adapter_golden.py. */
static inline void start_values(float *x, int64_t n, const char *name, const tensor_list *base, bool full) {
    const gr_tensor *own = NULL;
    double amplitude = 0.125;
    if (full || ends(name, "norm.weight"))
        own = base_of(base, name, "", "");
    else if (ends(name, "lora_A.weight") || ends(name, "lora_embedding_B"))
        amplitude = 0.5;
    else if (ends(name, "lora_B.weight") || ends(name, "lora_embedding_A"))
        amplitude = 0.25;
    else if (ends(name, ".lora_magnitude_vector")) {
        own = base_of(base, name, ".lora_magnitude_vector", ".weight");
        amplitude = 0.25;
    } else if (ends(name, ".base_layer.bias"))
        own = base_of(base, name, ".base_layer.bias", ".bias");
    else
        own = base_of(base, name, "", "");
    for (int64_t i = 0; i < n; i++) {
        double start = own && own->ndim == 1 ? (double)list_floats(own)[i] : 0, sum = 0;
        if (own && own->ndim == 2 && ends(name, "vector")) {
            for (int64_t k = 0; k < own->shape[1]; k++)
                sum += pow((double)list_floats(own)[i * own->shape[1] + k], 2);
            start = sqrt(sum);
        } else if (own && own->ndim == 2) {
            start = (double)list_floats(own)[i];
        }
        x[i] = (float)(full ? start : start + amplitude * ref_formula(name, (long)i));
    }
}

/* All trained tensors at their start, under the names that the golden file has. */
static inline void start_list(tensor_list *start, const json_t *entry, const tensor_list *base) {
    bool full = json_is_null(golden_member(entry, "adapter_config"));
    size_t i;
    json_t *t;
    json_array_foreach(golden_member(entry, "tensors"), i, t) {
        const json_t *shape = golden_member(t, "shape");
        int64_t cols = json_array_size(shape) > 1 ? json_integer_value(json_array_get(shape, 1)) : 0;
        gr_tensor *x = list_add(start, golden_text(t, "name"), GR_F32,
                                json_integer_value(json_array_get(shape, 0)), cols);
        start_values(list_floats(x), list_size(x), x->name, base, full);
    }
}

/* A copy of `t`, transposed if wished, under the name that a tied head has in PEFT's files. */
static inline void add_copy(tensor_list *list, const gr_tensor *t, const char *name, bool transposed) {
    int64_t rows = t->shape[0], cols = t->shape[1];
    gr_tensor *x = list_add(list, name, GR_F32, transposed ? cols : rows, transposed ? rows : cols);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            list_floats(x)[transposed ? j * rows + i : i * cols + j] = list_floats(t)[i * cols + j];
}

/* root/start: what PEFT would have saved of that start; NULL for full training (malloc'ed). */
static inline char *golden_start_dir(const char *root, const json_t *entry, const tensor_list *start,
                                     bool tied) {
    const json_t *given = golden_member(entry, "adapter_config");
    if (json_is_null(given)) return NULL;
    char *dir = tiny_subdir(root, "start"), name[160];
    tensor_list *file = calloc(1, sizeof *file);
    assert_non_null(file);
    for (size_t i = 0; i < start->count; i++) {
        const gr_tensor *t = &start->tensor[i];
        snprintf(name, sizeof name, "%s%s", PEFT_PREFIX, t->name);
        gr_tensor *x = list_add(file, name, GR_F32, t->shape[0], t->ndim > 1 ? t->shape[1] : 0);
        memcpy(list_floats(x), t->data, t->bytes);
        if (tied && ends(t->name, "embed_tokens.weight"))
            add_copy(file, t, PEFT_PREFIX "lm_head.weight", false);
        if (tied && ends(t->name, "lora_embedding_A"))
            add_copy(file, t, PEFT_PREFIX "lm_head.lora_B.weight", true);
        if (tied && ends(t->name, "lora_embedding_B"))
            add_copy(file, t, PEFT_PREFIX "lm_head.lora_A.weight", true);
    }
    list_save(file, dir, "adapter_model.safetensors");
    list_free(file);
    free(file);
    char *text = json_dumps(given, 0);
    tiny_write(dir, "adapter_config.json", text);
    free(text);
    return dir;
}

#endif
