/* Tensor files of any format as a list of floats by name. */
#include "adapters/adapter_parts.h"
#include "base/number.h"
#include "convert/gguf_names.h"
#include "weights/gguf_blocks.h"
#include <math.h>
#include <stdio.h>

bool gr_adapter_is_gguf(const char *path, gr_reading how) {
    gr_map map;
    graft_error why = {0};
    how.kind = GR_READ_HEAD;
    if (gr_map_open(&map, path, how, &why) != GRAFT_OK) return false;
    bool gguf = map.size >= 4 && memcmp(map.data, "GGUF", 4) == 0;
    gr_map_close(&map);
    return gguf;
}

static void keep(char *word, size_t size, const char *text, size_t len) {
    if (text && len < size) snprintf(word, size, "%.*s", (int)len, text);
}

static void words_of_safetensors(gr_adapter_words *w, const gr_safetensors *file) {
    const struct {
        const char *key;
        char *word;
    } rows[] = {{"iteration", w->iteration}, {"digest", w->digest}, {"base_digest", w->base_digest}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = gr_safetensors_metadata(file, rows[i].key);
        keep(rows[i].word, sizeof w->iteration, text, text ? strlen(text) : 0);
    }
    w->exact = true; /* the config says where not */
}

static void words_of_gguf(gr_adapter_words *w, const gr_gguf *file) {
    const struct {
        const char *key;
        char *word;
    } rows[] = {{"graft.iteration", w->iteration},
                {"graft.digest", w->digest},
                {"graft.base_digest", w->base_digest}};
    int64_t exact = 1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text;
        size_t len;
        if (gr_gguf_string(file, rows[i].key, &text, &len))
            keep(rows[i].word, sizeof w->iteration, text, len);
    }
    gr_gguf_int(file, "graft.exact", &exact);
    w->exact = exact != 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const gr_tensor *)a)->name, ((const gr_tensor *)b)->name);
}

/* Elements of all tensors in blocks; false when that overflows. */
static bool count_blocks(const gr_gguf *file, size_t *count) {
    *count = 0;
    for (size_t i = 0; i < gr_gguf_count(file); i++) {
        const gr_gguf_tensor *t = gr_gguf_at(file, i);
        int64_t n = t->bytes ? 1 : 0;
        for (int d = 0; n && d < t->ndim; d++) n *= t->shape[d]; /* fits: the reader has its bytes */
        if (t->type != GR_GGUF_F32 && t->type != GR_GGUF_F16 && t->type != GR_GGUF_BF16 &&
            !gr_add_size(*count, (size_t)n, count))
            return false;
    }
    return true;
}

/* One tensor as the others' readers give theirs; `decoded` moves on where it is in blocks. A row alone may
 * stand there as a vector. */
static gr_tensor plain(const gr_gguf_tensor *t, float **decoded) {
    gr_tensor out = {.name = t->name, .ndim = t->ndim, .data = t->data, .bytes = t->bytes};
    int64_t count = t->bytes ? 1 : 0;
    for (int d = 0; d < t->ndim; d++) out.shape[d] = t->shape[d], count *= t->shape[d];
    if (t->ndim == 1 && (gr_ends_with(t->name, ".lora_a") || gr_ends_with(t->name, ".lora_b"))) {
        out.ndim = 2;
        out.shape[1] = t->shape[0];
        out.shape[0] = 1;
    }
    switch (t->type) {
    case GR_GGUF_F32: out.dtype = GR_F32; return out;
    case GR_GGUF_F16: out.dtype = GR_F16; return out;
    case GR_GGUF_BF16: out.dtype = GR_BF16; return out;
    default: break;
    }
    gr_gguf_dequantize(*decoded, t->data, t->type, count);
    out.dtype = GR_F32;
    out.data = (const uint8_t *)*decoded;
    out.bytes = (size_t)count * sizeof **decoded;
    *decoded += count;
    return out;
}

static graft_status open_gguf(gr_adapter_in *in, const char *path, gr_reading how, graft_error *err) {
    size_t blocks;
    GR_TRY(gr_gguf_open_as(&in->gguf, path, how, err));
    in->count = gr_gguf_count(in->gguf);
    bool fits = count_blocks(in->gguf, &blocks);
    in->own = gr_calloc(in->count, sizeof *in->own);
    in->decoded = fits ? gr_realloc_array(NULL, blocks, sizeof *in->decoded) : NULL;
    if (!in->own || !in->decoded) return gr_no_memory(err, blocks * sizeof *in->decoded);
    float *at = in->decoded;
    for (size_t i = 0; i < in->count; i++) in->own[i] = plain(gr_gguf_at(in->gguf, i), &at);
    qsort(in->own, in->count, sizeof *in->own, by_name);
    in->tensors = in->own;
    words_of_gguf(&in->words, in->gguf);
    return GRAFT_OK;
}

graft_status gr_adapter_in_open(gr_adapter_in *in, const char *path, gr_reading how, graft_error *err) {
    how.kind = GR_READ_IN_MEMORY;
    if (gr_adapter_is_gguf(path, how)) return open_gguf(in, path, how, err);
    GR_TRY(gr_safetensors_open_as(&in->safetensors, path, how, err));
    in->tensors = gr_safetensors_at(in->safetensors, 0);
    in->count = gr_safetensors_count(in->safetensors);
    words_of_safetensors(&in->words, in->safetensors);
    return GRAFT_OK;
}

static graft_status read_words(gr_adapter_words *words, const char *path, gr_reading how, graft_error *err) {
    gr_safetensors *tensors = NULL;
    gr_gguf *gguf = NULL;
    *words = (gr_adapter_words){0};
    if (gr_adapter_is_gguf(path, how)) {
        GR_TRY(gr_gguf_open_as(&gguf, path, how, err));
        words_of_gguf(words, gguf);
        gr_gguf_close(gguf);
        return GRAFT_OK;
    }
    GR_TRY(gr_safetensors_open_as(&tensors, path, how, err));
    words_of_safetensors(words, tensors);
    gr_safetensors_close(tensors);
    return GRAFT_OK;
}

graft_status gr_adapter_words_read(gr_adapter_words *words, const char *path, gr_reading how,
                                   graft_error *err) {
    graft_error own = {0};
    how.kind = GR_READ_HEAD;
    if (read_words(words, path, how, &own) == GRAFT_OK) return GRAFT_OK;
    how.kind = GR_READ_IN_MEMORY;
    return read_words(words, path, how, err);
}

void gr_adapter_in_close(gr_adapter_in *in) {
    gr_safetensors_close(in->safetensors);
    gr_gguf_close(in->gguf);
    free(in->own);
    free(in->decoded);
    *in = (gr_adapter_in){0};
}

const gr_tensor *gr_adapter_in_find(const gr_adapter_in *in, const char *name) {
    const gr_tensor wanted = {.name = name};
    return in->count ? bsearch(&wanted, in->tensors, in->count, sizeof wanted, by_name) : NULL;
}

/* The key's text is `expected`; else *found has what it is. */
static bool is_text(const gr_gguf *file, const char *key, const char *expected, char found[64]) {
    const char *text = "";
    size_t len = 0;
    bool there = gr_gguf_string(file, key, &text, &len);
    snprintf(found, 64, "%.*s", (int)(len < 63 ? len : 63), there ? text : "nothing");
    return there && len == strlen(expected) && memcmp(text, expected, len) == 0;
}

static graft_status refuse(const gr_adapter_in *in, graft_status status, const char *what, const char *key,
                           const char *expected, const char *found, graft_error *err) {
    gr_fail(err, status, "%s", what);
    gr_where(err, "%s: %s", gr_gguf_path(in->gguf), key);
    gr_expected(err, "%s", expected);
    return gr_found(err, "%s", found);
}

graft_status gr_adapter_gguf_read(gr_adapter_config *settings, const gr_adapter_in *in,
                                  const gr_model_config *c, graft_error *err) {
    const gr_gguf_arch *arch = gr_gguf_arch_of(c->arch->model_type);
    char found[64];
    size_t tokens;
    if (!is_text(in->gguf, "general.type", "adapter", found))
        return refuse(in, GRAFT_UNSUPPORTED, "this GGUF file is not an adapter", "general.type", "adapter",
                      found, err);
    if (!is_text(in->gguf, "adapter.type", "lora", found))
        return refuse(in, GRAFT_UNSUPPORTED, "this kind of adapter is not supported", "adapter.type", "lora",
                      found, err);
    if (gr_gguf_array(in->gguf, "adapter.alora.invocation_tokens", &tokens))
        return refuse(in, GRAFT_UNSUPPORTED, "this kind of adapter is not supported",
                      "adapter.alora.invocation_tokens", "none", "a LoRA that some tokens turn on", err);
    if (!arch || !is_text(in->gguf, "general.architecture", arch->gguf, found)) {
        if (!arch) snprintf(found, sizeof found, "a model that llama.cpp does not have");
        return refuse(in, GRAFT_MISMATCH, "the adapter is of another architecture", "general.architecture",
                      arch ? arch->gguf : c->arch->model_type, found, err);
    }
    settings->by_rank = true;
    settings->pool = 0;
    if (gr_gguf_int(in->gguf, "graft.group_pooled", &settings->pool) &&
        (settings->pool < 32 || settings->pool > 128)) {
        snprintf(found, sizeof found, "%lld", (long long)settings->pool);
        return refuse(in, GRAFT_RANGE, "the adapter's group is out of range", "graft.group_pooled",
                      "32 to 128", found, err);
    }
    if (!gr_gguf_float(in->gguf, "adapter.lora.alpha", &settings->alpha)) settings->alpha = 0;
    if (isfinite(settings->alpha) && fabs(settings->alpha) <= 1e9) return GRAFT_OK;
    gr_format(found, sizeof found, "%g", settings->alpha);
    return refuse(in, GRAFT_RANGE, "the adapter's alpha is out of range", "adapter.lora.alpha", "a number",
                  found, err);
}
