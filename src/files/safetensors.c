#include "files/safetensors.h"
#include "base/dir_names.h"
#include "files/json_read.h"
#include "files/problems.h"
#include <dirent.h>
#include <errno.h>

/* The limit of the safetensors package; a longer header is an attack or a mistake. */
#define HEADER_LIMIT 100000000u

typedef struct shard {
    char *path;
    gr_map map;
    json_t *metadata; /* object of strings or NULL */
} shard;

struct gr_safetensors {
    gr_reading how;
    shard *shards;
    size_t nshards, shard_cap;
    gr_tensor *tensors;
    uint32_t *shard_of; /* parallel to tensors */
    size_t count, tensor_cap, shard_of_cap;
};

/* One shard's tensor while it is checked: where its bytes are in the data section. */
typedef struct extent {
    uint64_t begin, end;
    const char *name;
} extent;

void gr_safetensors_close(gr_safetensors *file) {
    if (!file) return;
    for (size_t i = 0; i < file->nshards; i++) {
        gr_map_close(&file->shards[i].map);
        json_decref(file->shards[i].metadata);
        free(file->shards[i].path);
    }
    for (size_t i = 0; i < file->count; i++) free((void *)(uintptr_t)file->tensors[i].name);
    free(file->shards);
    free(file->tensors);
    free(file->shard_of);
    free(file);
}

/* ---- one header */

/* Shape and byte count of an entry; false after adding a problem. */
static bool read_shape(gr_tensor *t, const json_t *shape, gr_problems *bad) {
    if (!json_is_array(shape)) {
        gr_problems_add(bad, GRAFT_CORRUPT, "tensor %s: shape is not an array", t->name);
        return false;
    }
    if (json_array_size(shape) > GR_MAX_DIMS) {
        gr_problems_add(bad, GRAFT_UNSUPPORTED, "tensor %s: %zu dimensions, at most %d can be read", t->name,
                        json_array_size(shape), GR_MAX_DIMS);
        return false;
    }
    int64_t count = 1;
    bool zero = false, fits = true;
    t->ndim = (int)json_array_size(shape);
    for (int i = 0; i < t->ndim; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0) {
            gr_problems_add(bad, GRAFT_CORRUPT, "tensor %s: dimension %d is not a natural number", t->name,
                            i);
            return false;
        }
        t->shape[i] = json_integer_value(dim);
        if (t->shape[i] == 0)
            zero = true;
        else
            fits = fits && gr_mul_i64(count, t->shape[i], &count);
    }
    if (!fits || !gr_mul_size((size_t)count, gr_dtype_bytes(t->dtype), &t->bytes)) {
        gr_problems_add(bad, GRAFT_CORRUPT, "tensor %s: the shape's size overflows", t->name);
        return false;
    }
    if (zero) t->bytes = 0;
    return true;
}

/* One "name": {dtype, shape, data_offsets} entry; false after adding a problem. t->name is set. */
static bool read_entry(gr_tensor *t, extent *e, const json_t *entry, uint64_t data_size, gr_problems *bad) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!json_is_object(entry) || !dtype) {
        gr_problems_add(bad, GRAFT_CORRUPT, "tensor %s: no dtype", t->name);
        return false;
    }
    int known = gr_dtype_from_name(dtype);
    if (known < 0) {
        gr_problems_add(bad, GRAFT_UNSUPPORTED, "tensor %s: dtype %.32s is not known here", t->name, dtype);
        return false;
    }
    t->dtype = (gr_dtype)known;
    if (!read_shape(t, json_object_get(entry, "shape"), bad)) return false;
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin)) {
        gr_problems_add(bad, GRAFT_CORRUPT, "tensor %s: data_offsets is not [begin, end]", t->name);
        return false;
    }
    *e = (extent){(uint64_t)json_integer_value(begin), (uint64_t)json_integer_value(end), t->name};
    if (e->end > data_size) {
        gr_problems_add(bad, GRAFT_CORRUPT, "tensor %s ends at byte %llu of %llu: the file is cut off",
                        t->name, (unsigned long long)e->end, (unsigned long long)data_size);
        return false;
    }
    if (e->end - e->begin != t->bytes) {
        gr_problems_add(bad, GRAFT_CORRUPT,
                        "tensor %s: shape and dtype need %zu bytes, its offsets span %llu", t->name, t->bytes,
                        (unsigned long long)(e->end - e->begin));
        return false;
    }
    return true;
}

static int by_begin(const void *a, const void *b) {
    const extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The format wants every byte of the data section to belong to exactly one tensor. */
static void check_extents(extent *extents, size_t n, uint64_t data_size, gr_problems *bad) {
    uint64_t at = 0;
    const char *before = NULL;
    qsort(extents, n, sizeof *extents, by_begin);
    for (size_t i = 0; i < n; i++) {
        if (extents[i].begin < at) {
            gr_problems_add(bad, GRAFT_CORRUPT, "tensors %s and %s overlap", before, extents[i].name);
        } else if (extents[i].begin > at) {
            gr_problems_add(bad, GRAFT_CORRUPT, "%llu bytes before tensor %s belong to no tensor",
                            (unsigned long long)(extents[i].begin - at), extents[i].name);
        }
        if (extents[i].end >= at) {
            at = extents[i].end;
            before = extents[i].name;
        }
    }
    if (at < data_size)
        gr_problems_add(bad, GRAFT_CORRUPT, "the last %llu bytes belong to no tensor",
                        (unsigned long long)(data_size - at));
}

/* Keeps the metadata object of a shard, or notes why it is not one. */
static void read_metadata(shard *s, json_t *metadata, gr_problems *bad) {
    const char *key;
    json_t *value;
    if (!metadata || json_is_null(metadata)) return;
    if (!json_is_object(metadata)) {
        gr_problems_add(bad, GRAFT_CORRUPT, "__metadata__ is not an object");
        return;
    }
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            gr_problems_add(bad, GRAFT_CORRUPT, "__metadata__ key %s is not a string", key);
    }
    s->metadata = json_incref(metadata);
}

/* Room for one more tensor in both parallel arrays. */
static bool grow_tensors(gr_safetensors *file) {
    return gr_grow((void **)&file->tensors, &file->tensor_cap, file->count, sizeof *file->tensors) &&
           gr_grow((void **)&file->shard_of, &file->shard_of_cap, file->count, sizeof *file->shard_of);
}

/* Adds the tensors of shard number `index` whose header is `root`. */
static graft_status add_tensors(gr_safetensors *file, size_t index, json_t *root, size_t data_at,
                                graft_error *err) {
    shard *s = &file->shards[index];
    uint64_t data_size = s->map.size - data_at;
    extent *extents = gr_calloc(json_object_size(root), sizeof *extents);
    gr_problems bad = {0};
    const char *name;
    json_t *entry;
    size_t n = 0;
    if (!extents) return gr_no_memory(err, json_object_size(root) * sizeof *extents);
    json_object_foreach(root, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            read_metadata(s, entry, &bad);
            continue;
        }
        gr_tensor t = {.name = name};
        if (!read_entry(&t, &extents[n], entry, data_size, &bad)) continue;
        t.data = s->map.data + data_at + extents[n++].begin;
        t.name = gr_strdup(name);
        if (!t.name || !grow_tensors(file)) {
            free((void *)(uintptr_t)t.name);
            free(extents);
            gr_buf_free(&bad.list);
            return gr_no_memory(err, strlen(name));
        }
        file->tensors[file->count] = t;
        file->shard_of[file->count++] = (uint32_t)index;
    }
    /* with a broken entry the gaps would only repeat what is wrong already */
    if (!bad.count) check_extents(extents, n, data_size, &bad);
    free(extents);
    return gr_problems_end(&bad, s->path, err);
}

static graft_status bad_header(graft_error *err, const char *what, const char *path, uint64_t header,
                               size_t size) {
    gr_fail(err, GRAFT_CORRUPT, "%s", what);
    gr_where(err, "%s", path);
    gr_found(err, "a header of %llu bytes in a file of %zu", (unsigned long long)header, size);
    return gr_hint(err, "download or convert the file again");
}

/* Maps and checks one file, appending its tensors. */
static graft_status add_shard(gr_safetensors *file, const char *path, graft_error *err) {
    uint64_t header = 0;
    json_t *root;
    if (!gr_grow((void **)&file->shards, &file->shard_cap, file->nshards, sizeof *file->shards))
        return gr_no_memory(err, sizeof *file->shards);
    shard *s = &file->shards[file->nshards];
    *s = (shard){.path = gr_strdup(path)};
    if (!s->path) return gr_no_memory(err, strlen(path));
    file->nshards++;
    GR_TRY(gr_map_open(&s->map, path, file->how, err));
    if (s->map.size < 8) return bad_header(err, "not a safetensors file: too short", path, 0, s->map.size);
    memcpy(&header, s->map.data, 8);
    if (header > s->map.size - 8)
        return bad_header(err, "not a safetensors file, or cut off: the header is longer than the file", path,
                          header, s->map.size);
    if (header > HEADER_LIMIT)
        return bad_header(err, "the header is longer than the format allows", path, header, s->map.size);
    GR_TRY(gr_json_parse(&root, (const char *)s->map.data + 8, (size_t)header, path, err));
    graft_status st;
    if (json_is_object(root)) {
        st = add_tensors(file, file->nshards - 1, root, 8 + (size_t)header, err);
    } else {
        gr_fail(err, GRAFT_CORRUPT, "the header is not a JSON object");
        st = gr_where(err, "%s", path);
    }
    json_decref(root);
    return st;
}

/* ---- several files */

/* Joins and adds. */
static graft_status add_named(gr_safetensors *file, const char *dir, const char *name, graft_error *err) {
    char *path = gr_path_join(dir, name);
    if (!path) return gr_no_memory(err, strlen(name));
    graft_status st = add_shard(file, path, err);
    free(path);
    return st;
}

static int by_string(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Opens each distinct shard that weight_map names, in the order of their names. */
static graft_status add_indexed(gr_safetensors *file, const char *dir, const char *index_path,
                                const json_t *map, graft_error *err) {
    size_t n = 0;
    const char *tensor;
    json_t *value;
    const char **names = gr_calloc(json_object_size(map), sizeof *names);
    graft_status st = GRAFT_OK;
    if (!names) return gr_no_memory(err, json_object_size(map));
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
        const char *name = json_string_value(value);
        if (!name || !gr_plain_file_name(name)) {
            gr_fail(err, GRAFT_CORRUPT, "the index names a shard that is not a plain file name");
            gr_where(err, "%s: weight_map.%s", index_path, tensor);
            st = gr_found(err, "%s", name ? name : gr_json_type_text(value));
            goto done;
        }
        names[n++] = name;
    }
    qsort(names, n, sizeof *names, by_string);
    for (size_t i = 0; i < n; i++) {
        if (i && strcmp(names[i], names[i - 1]) == 0) continue;
        GR_GOTO(add_named(file, dir, names[i], err));
    }
done:
    free(names);
    return st;
}

static graft_status sort_tensors(gr_safetensors *file, graft_error *err);

/* Every tensor of the index must be in the shard that the index names. */
static graft_status check_index(const gr_safetensors *file, const char *index_path, const json_t *map,
                                graft_error *err) {
    gr_problems bad = {0};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, name, value) {
        const gr_tensor *t = gr_safetensors_find(file, name);
        const char *path = t ? gr_safetensors_path(file, t) : "", *slash = strrchr(path, '/');
        if (!t)
            gr_problems_add(&bad, GRAFT_NOT_FOUND, "tensor %s is in no shard", name);
        else if (strcmp(slash ? slash + 1 : path, json_string_value(value)) != 0)
            gr_problems_add(&bad, GRAFT_CORRUPT, "tensor %s is not in the shard that the index names", name);
    }
    return gr_problems_end(&bad, index_path, err);
}

static graft_status open_index(gr_safetensors *file, const char *dir, const char *index_path,
                               graft_error *err) {
    json_t *root;
    const json_t *map = NULL;
    GR_TRY(gr_json_load_as(&root, index_path, GR_JSON_LIMIT, file->how, err));
    gr_json_scope scope = {root, index_path, ""};
    gr_json_scope inner;
    char path[128];
    graft_status st;
    GR_GOTO(gr_json_need(&scope, "weight_map", err));
    GR_GOTO(gr_json_object(&scope, "weight_map", &inner, path, err));
    map = inner.object;
    GR_GOTO(add_indexed(file, dir, index_path, map, err));
    GR_GOTO(sort_tensors(file, err));
    GR_GOTO(check_index(file, index_path, map, err));
done:
    json_decref(root);
    return st;
}

/* Without index and model.safetensors: every *.safetensors of the directory. */
static graft_status open_all(gr_safetensors *file, const char *dir, graft_error *err) {
    gr_names names = {0};
    graft_status st = gr_names_list(&names, dir, ".safetensors", file->how, err);
    if (st == GRAFT_OK && !names.count) {
        gr_fail(err, GRAFT_NOT_FOUND, "no .safetensors file in the directory");
        st = gr_where(err, "%s", dir);
    }
    for (size_t i = 0; st == GRAFT_OK && i < names.count; i++) st = add_named(file, dir, names.name[i], err);
    gr_names_free(&names);
    return st;
}

static graft_status open_dir(gr_safetensors *file, const char *dir, graft_error *err) {
    graft_status st;
    char *index = gr_path_join(dir, "model.safetensors.index.json"),
         *single = gr_path_join(dir, "model.safetensors");
    if (!index || !single)
        st = gr_no_memory(err, strlen(dir));
    else if (gr_path_exists_as(index, file->how))
        st = open_index(file, dir, index, err);
    else if (gr_path_exists_as(single, file->how))
        st = add_shard(file, single, err);
    else
        st = open_all(file, dir, err);
    free(index);
    free(single);
    return st;
}

/* ---- lookup */

typedef struct sort_item {
    gr_tensor tensor;
    uint32_t shard;
} sort_item;

static int by_name(const void *a, const void *b) {
    return strcmp(((const sort_item *)a)->tensor.name, ((const sort_item *)b)->tensor.name);
}

/* Sorts by name and refuses a name that two shards have. Harmless when sorted already. */
static graft_status sort_tensors(gr_safetensors *file, graft_error *err) {
    gr_problems bad = {0};
    sort_item *items = gr_calloc(file->count, sizeof *items);
    if (!items) return gr_no_memory(err, file->count * sizeof *items);
    for (size_t i = 0; i < file->count; i++) items[i] = (sort_item){file->tensors[i], file->shard_of[i]};
    qsort(items, file->count, sizeof *items, by_name);
    for (size_t i = 0; i < file->count; i++) {
        file->tensors[i] = items[i].tensor;
        file->shard_of[i] = items[i].shard;
        if (i && strcmp(items[i].tensor.name, items[i - 1].tensor.name) == 0)
            gr_problems_add(&bad, GRAFT_CORRUPT, "tensor %s is in two files", items[i].tensor.name);
    }
    free(items);
    return gr_problems_end(&bad, file->nshards ? file->shards[0].path : "", err);
}

graft_status gr_safetensors_open_as(gr_safetensors **out, const char *path, gr_reading how,
                                    graft_error *err) {
    gr_safetensors *file = gr_calloc(1, sizeof *file);
    graft_status st;
    *out = NULL;
    if (!file) return gr_no_memory(err, sizeof *file);
    file->how = how;
    GR_GOTO(gr_path_is_dir_as(path, how) ? open_dir(file, path, err) : add_shard(file, path, err));
    GR_GOTO(sort_tensors(file, err));
    *out = file;
    return GRAFT_OK;
done:
    gr_safetensors_close(file);
    return st;
}

uint64_t gr_safetensors_bytes(const gr_safetensors *file) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < file->nshards; i++) bytes += file->shards[i].map.size;
    return bytes;
}

void gr_safetensors_release(const gr_safetensors *file) {
    for (size_t i = 0; i < file->nshards; i++)
        gr_map_release(file->shards[i].map.data, file->shards[i].map.size);
}

size_t gr_safetensors_count(const gr_safetensors *file) {
    return file->count;
}

const gr_tensor *gr_safetensors_at(const gr_safetensors *file, size_t index) {
    return index < file->count ? &file->tensors[index] : NULL;
}

const gr_tensor *gr_safetensors_find(const gr_safetensors *file, const char *name) {
    size_t lo = 0, hi = file->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, file->tensors[mid].name);
        if (order == 0) return &file->tensors[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

const char *gr_safetensors_metadata(const gr_safetensors *file, const char *key) {
    for (size_t i = 0; i < file->nshards; i++) {
        const char *value = json_string_value(json_object_get(file->shards[i].metadata, key));
        if (value) return value;
    }
    return NULL;
}

bool gr_safetensors_metadata_all(json_t *object, const gr_safetensors *file) {
    for (size_t i = 0; object && i < file->nshards; i++)
        if (file->shards[i].metadata && json_object_update_missing(object, file->shards[i].metadata) != 0)
            return false;
    return object != NULL;
}

const char *gr_safetensors_path(const gr_safetensors *file, const gr_tensor *tensor) {
    return file->shards[file->shard_of[tensor - file->tensors]].path;
}
