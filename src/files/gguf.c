#include "files/gguf.h"
#include "base/os.h"
#include "files/gguf_value.h"
#include "files/problems.h"
#include <stdio.h>

struct gr_gguf {
    gr_map map;
    char *path;
    gr_gguf_value *values; /* in file order */
    size_t nvalues, value_cap;
    gr_gguf_value **by_key; /* sorted */
    gr_gguf_tensor *tensors;
    size_t ntensors, tensor_cap;
    gr_gguf_tensor **by_name; /* sorted */
};

/* Bytes of the smallest key-value pair and tensor entry: a count that could not fit the file is refused at
 * once. */
#define MIN_VALUE_BYTES  13
#define MIN_TENSOR_BYTES 24

void gr_gguf_close(gr_gguf *file) {
    if (!file) return;
    for (size_t i = 0; i < file->nvalues; i++) {
        free(file->values[i].key);
        free(file->values[i].offsets);
    }
    for (size_t i = 0; i < file->ntensors; i++) free((void *)(uintptr_t)file->tensors[i].name);
    gr_map_close(&file->map);
    free(file->path);
    free(file->values);
    free(file->by_key);
    free(file->tensors);
    free(file->by_name);
    free(file);
}

/* ---- block types */

static bool type_sizes(uint32_t number, int64_t *elements, size_t *bytes) {
    switch (number) {
#define X(name, code, per_block, block_bytes)                                                                \
    case code: *elements = per_block, *bytes = block_bytes; return true;
        GR_GGUF_TYPE_MAP(X)
#undef X
    default: return false;
    }
}

const char *gr_gguf_type_name(gr_gguf_type type) {
    switch (type) {
#define X(name, code, per_block, block_bytes)                                                                \
    case GR_GGUF_##name: return #name;
        GR_GGUF_TYPE_MAP(X)
#undef X
    }
    return "?";
}

bool gr_gguf_tensor_bytes(size_t *bytes, gr_gguf_type type, const int64_t *shape, int ndim) {
    int64_t per_block, count = 1;
    size_t block_bytes;
    bool zero = false;
    if (!type_sizes((uint32_t)type, &per_block, &block_bytes)) return false;
    for (int d = 0; d < ndim; d++) {
        zero |= shape[d] == 0;
        if (shape[d] < 0 || (shape[d] && !gr_mul_i64(count, shape[d], &count))) return false;
    }
    if ((ndim ? shape[ndim - 1] : 1) % per_block) return false;
    if (!gr_mul_size((size_t)(count / per_block), block_bytes, bytes)) return false;
    if (zero) *bytes = 0;
    return true;
}

/* ---- tensors */

static graft_status broken(const gr_gguf *file, const gr_gguf_reader *in, const char *what,
                           graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "%s", what);
    return gr_where(err, "%s, byte %zu", file->path, in->at);
}

/* Shape, type and byte count; the offset into the data section in *offset. GGUF writes the innermost
 * dimension first. */
static graft_status read_tensor(gr_gguf *file, gr_gguf_reader *in, uint64_t *offset, graft_error *err) {
    uint32_t ndim, type;
    uint64_t dims[GR_MAX_DIMS];
    int64_t per_block;
    size_t block_bytes;
    char *name;
    if (!gr_grow((void **)&file->tensors, &file->tensor_cap, file->ntensors, sizeof *file->tensors))
        return gr_no_memory(err, sizeof *file->tensors);
    gr_gguf_tensor *t = &file->tensors[file->ntensors];
    *t = (gr_gguf_tensor){0};
    if (!gr_gguf_read_name(in, &name))
        return broken(file, in, "tensor name is cut off, contains a zero byte or is not UTF-8", err);
    if (!name) return gr_no_memory(err, in->size);
    t->name = name;
    file->ntensors++;
    if (!gr_gguf_read_u32(in, &ndim)) return broken(file, in, "tensor list is cut off", err);
    if (ndim > GR_MAX_DIMS) {
        gr_fail(err, GRAFT_CORRUPT, "tensor %s has %u dimensions", name, ndim);
        return gr_where(err, "%s, byte %zu", file->path, in->at);
    }
    for (uint32_t d = 0; d < ndim; d++)
        if (!gr_gguf_read_u64(in, &dims[d])) return broken(file, in, "tensor list is cut off", err);
    if (!gr_gguf_read_u32(in, &type) || !gr_gguf_read_u64(in, offset))
        return broken(file, in, "tensor list is cut off", err);
    if (!type_sizes(type, &per_block, &block_bytes)) {
        gr_fail(err, GRAFT_UNSUPPORTED, "tensor %s has a type that is not known here", name);
        gr_where(err, "%s", file->path);
        gr_found(err, "ggml type number %u", type);
        return gr_hint(err, "requantize the model to Q4_K_M, Q8_0 or F16 with llama-quantize");
    }
    t->type = (gr_gguf_type)type;
    t->ndim = (int)ndim;
    bool whole = (ndim ? dims[0] : 1) % (uint64_t)per_block == 0;
    for (uint32_t d = 0; d < ndim; d++) t->shape[ndim - 1 - d] = dims[d] <= INT64_MAX ? (int64_t)dims[d] : -1;
    if (whole && !gr_gguf_tensor_bytes(&t->bytes, t->type, t->shape, t->ndim)) {
        gr_fail(err, GRAFT_CORRUPT, "tensor %s: the shape's size overflows", name);
        return gr_where(err, "%s", file->path);
    }
    if (!whole) {
        gr_fail(err, GRAFT_CORRUPT, "tensor %s: a row is not a whole number of %s blocks", name,
                gr_gguf_type_name(t->type));
        return gr_where(err, "%s", file->path);
    }
    return GRAFT_OK;
}

typedef struct extent {
    uint64_t begin, end;
    const char *name;
} extent;

static int by_begin(const void *a, const void *b) {
    const extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Turns offsets into pointers; reports everything that reaches beyond the file or into another tensor. */
static graft_status place_tensors(gr_gguf *file, extent *extents, size_t data_at, uint64_t alignment,
                                  graft_error *err) {
    gr_problems bad = {0};
    uint64_t data_size = data_at < file->map.size ? file->map.size - data_at : 0;
    for (size_t i = 0; i < file->ntensors; i++) {
        gr_gguf_tensor *t = &file->tensors[i];
        extent *e = &extents[i];
        e->name = t->name;
        if (e->begin % alignment)
            gr_problems_add(&bad, GRAFT_CORRUPT, "tensor %s is not aligned to %llu bytes", t->name,
                            (unsigned long long)alignment);
        if (e->begin > data_size || t->bytes > data_size - e->begin) {
            gr_problems_add(&bad, GRAFT_CORRUPT,
                            "tensor %s reaches beyond the end of the file: it is cut off", t->name);
            e->end = e->begin;
            continue;
        }
        e->end = e->begin + t->bytes;
        t->data = file->map.data + (t->bytes ? data_at + (size_t)e->begin : 0);
    }
    qsort(extents, file->ntensors, sizeof *extents, by_begin);
    for (size_t i = 1; i < file->ntensors; i++)
        if (extents[i].begin < extents[i - 1].end)
            gr_problems_add(&bad, GRAFT_CORRUPT, "tensors %s and %s overlap", extents[i - 1].name,
                            extents[i].name);
    return gr_problems_end(&bad, file->path, err);
}

static graft_status read_tensors(gr_gguf *file, gr_gguf_reader *in, uint64_t count, graft_error *err) {
    int64_t alignment = 32;
    extent *extents;
    graft_status st = GRAFT_OK;
    const gr_gguf_value *stated = gr_gguf_value_find(file, "general.alignment");
    if (stated && (stated->array || stated->type != GR_GGUF_U32)) { /* as llama.cpp */
        gr_fail(err, GRAFT_CORRUPT, "general.alignment has another type than u32");
        return gr_where(err, "%s", file->path);
    }
    gr_gguf_int(file, "general.alignment", &alignment);
    if (alignment < 1 || alignment > 1 << 20 || (alignment & (alignment - 1))) {
        gr_fail(err, GRAFT_CORRUPT, "general.alignment is not a sensible power of two");
        gr_where(err, "%s", file->path);
        return gr_found(err, "%lld", (long long)alignment);
    }
    if (count > (in->size - in->at) / MIN_TENSOR_BYTES)
        return broken(file, in, "more tensors are claimed than the file can hold", err);
    extents = gr_calloc((size_t)count, sizeof *extents);
    if (!extents) return gr_no_memory(err, (size_t)count * sizeof *extents);
    for (uint64_t i = 0; i < count; i++) GR_GOTO(read_tensor(file, in, &extents[i].begin, err));
    st = place_tensors(file, extents, gr_round_up(in->at, (size_t)alignment), (uint64_t)alignment, err);
done:
    free(extents);
    return st;
}

/* ---- the file */

static int by_key(const void *a, const void *b) {
    return strcmp((*(gr_gguf_value *const *)a)->key, (*(gr_gguf_value *const *)b)->key);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(gr_gguf_tensor *const *)a)->name, (*(gr_gguf_tensor *const *)b)->name);
}

/* Keys must be unique, and sorted before the alignment can be looked up. */
static graft_status sort_keys(gr_gguf *file, graft_error *err) {
    gr_problems bad = {0};
    file->by_key = gr_calloc(file->nvalues, sizeof *file->by_key);
    if (!file->by_key) return gr_no_memory(err, file->nvalues * sizeof *file->by_key);
    for (size_t i = 0; i < file->nvalues; i++) file->by_key[i] = &file->values[i];
    qsort(file->by_key, file->nvalues, sizeof *file->by_key, by_key);
    for (size_t i = 1; i < file->nvalues; i++)
        if (strcmp(file->by_key[i]->key, file->by_key[i - 1]->key) == 0)
            gr_problems_add(&bad, GRAFT_CORRUPT, "metadata key %s occurs twice", file->by_key[i]->key);
    return gr_problems_end(&bad, file->path, err);
}

static graft_status sort_names(gr_gguf *file, graft_error *err) {
    gr_problems bad = {0};
    file->by_name = gr_calloc(file->ntensors, sizeof *file->by_name);
    if (!file->by_name) return gr_no_memory(err, file->ntensors * sizeof *file->by_name);
    for (size_t i = 0; i < file->ntensors; i++) file->by_name[i] = &file->tensors[i];
    qsort(file->by_name, file->ntensors, sizeof *file->by_name, by_name);
    for (size_t i = 1; i < file->ntensors; i++)
        if (strcmp(file->by_name[i]->name, file->by_name[i - 1]->name) == 0)
            gr_problems_add(&bad, GRAFT_CORRUPT, "tensor %s occurs twice", file->by_name[i]->name);
    return gr_problems_end(&bad, file->path, err);
}

static graft_status read_values(gr_gguf *file, gr_gguf_reader *in, uint64_t count, graft_error *err) {
    if (count > (in->size - in->at) / MIN_VALUE_BYTES)
        return broken(file, in, "more metadata is claimed than the file can hold", err);
    for (uint64_t i = 0; i < count; i++) {
        if (!gr_grow((void **)&file->values, &file->value_cap, file->nvalues, sizeof *file->values))
            return gr_no_memory(err, sizeof *file->values);
        gr_gguf_value *value = &file->values[file->nvalues++];
        *value = (gr_gguf_value){0};
        graft_status st = gr_gguf_read_value(in, value, err);
        if (st != GRAFT_OK) {
            if (value->key) return gr_where(err, "%s: metadata key %s", file->path, value->key);
            return gr_where(err, "%s, byte %zu", file->path, in->at);
        }
    }
    return GRAFT_OK;
}

static graft_status read_file(gr_gguf *file, graft_error *err) {
    gr_gguf_reader in = {file->map.data, file->map.size, 0};
    uint32_t version;
    uint64_t tensors, values;
    if (in.size < 4 || memcmp(in.data, "GGUF", 4) != 0)
        return broken(file, &in, "not a GGUF file: its first bytes are others", err);
    in.at = 4;
    if (!gr_gguf_read_u32(&in, &version)) return broken(file, &in, "the header is cut off", err);
    if (version != 2 && version != 3) {
        bool swapped = version == 0x02000000u || version == 0x03000000u;
        gr_fail(err, GRAFT_UNSUPPORTED, swapped ? "big-endian GGUF" : "GGUF version %u", version);
        gr_where(err, "%s", file->path);
        return gr_expected(err, "version 2 or 3, little-endian");
    }
    if (!gr_gguf_read_u64(&in, &tensors) || !gr_gguf_read_u64(&in, &values))
        return broken(file, &in, "the header is cut off", err);
    GR_TRY(read_values(file, &in, values, err));
    GR_TRY(sort_keys(file, err));
    GR_TRY(read_tensors(file, &in, tensors, err));
    return sort_names(file, err);
}

graft_status gr_gguf_open_as(gr_gguf **out, const char *path, gr_reading how, graft_error *err) {
    gr_gguf *file = gr_calloc(1, sizeof *file);
    graft_status st;
    *out = NULL;
    if (!file) return gr_no_memory(err, sizeof *file);
    file->path = gr_strdup(path);
    if (!file->path) {
        st = gr_no_memory(err, strlen(path));
        goto done;
    }
    GR_GOTO(gr_map_open(&file->map, path, how, err));
    GR_GOTO(read_file(file, err));
    *out = file;
    return GRAFT_OK;
done:
    gr_gguf_close(file);
    return st;
}

const char *gr_gguf_path(const gr_gguf *file) {
    return file->path;
}

size_t gr_gguf_count(const gr_gguf *file) {
    return file->ntensors;
}

const gr_gguf_tensor *gr_gguf_at(const gr_gguf *file, size_t index) {
    return index < file->ntensors ? &file->tensors[index] : NULL;
}

const gr_gguf_tensor *gr_gguf_find(const gr_gguf *file, const char *name) {
    gr_gguf_tensor wanted = {.name = name}, *key = &wanted;
    gr_gguf_tensor **found = bsearch(&key, file->by_name, file->ntensors, sizeof *file->by_name, by_name);
    return found ? *found : NULL;
}

const char *gr_gguf_key(const gr_gguf *file, size_t index) {
    return index < file->nvalues ? file->values[index].key : NULL;
}

const gr_gguf_value *gr_gguf_value_at(const gr_gguf *file, size_t index) {
    return index < file->nvalues ? &file->values[index] : NULL;
}

const gr_gguf_value *gr_gguf_value_find(const gr_gguf *file, const char *key) {
    gr_gguf_value wanted = {.key = (char *)(uintptr_t)key}, *probe = &wanted;
    gr_gguf_value **found = bsearch(&probe, file->by_key, file->nvalues, sizeof *file->by_key, by_key);
    return found ? *found : NULL;
}
