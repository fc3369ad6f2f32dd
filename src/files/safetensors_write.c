#include "base/os.h"
#include "files/json_write.h"
#include "files/safetensors.h"
#include <jansson.h>

struct gr_safetensors_writer {
    gr_writer out;
    uint64_t declared, given; /* data bytes */
};

/* {"__metadata__": .., "name": {"dtype", "shape", "data_offsets"}, ..}; NULL on failure, *duplicate says why.
 */
static json_t *make_header(const gr_tensor *tensors, size_t count, const char *const *metadata,
                           uint64_t *data_bytes, const char **duplicate) {
    json_t *root = json_object(), *meta;
    uint64_t at = 0;
    bool good = root != NULL;
    *duplicate = NULL;
    if (metadata && metadata[0] && good) {
        meta = json_object();
        for (size_t i = 0; metadata[i]; i += 2)
            good = good && json_object_set_new(meta, metadata[i], json_string(metadata[i + 1])) == 0;
        good = json_object_set_new(root, "__metadata__", meta) == 0 && good;
    }
    for (size_t i = 0; i < count && good; i++) {
        const gr_tensor *t = &tensors[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->ndim; d++)
            good = good && json_array_append_new(shape, json_integer(t->shape[d])) == 0;
        if (json_object_get(root, t->name)) {
            *duplicate = t->name;
            good = false;
        }
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", gr_dtype_name(t->dtype), "shape", shape,
                                  "data_offsets", (json_int_t)at, (json_int_t)(at + t->bytes));
        good = json_object_set_new(root, t->name, entry) == 0 && good;
        at += t->bytes;
    }
    *data_bytes = at;
    if (good) return root;
    json_decref(root);
    return NULL;
}

/* The length word and the header, padded so that the data starts at a multiple of 64. */
static graft_status write_header(gr_writer *out, const char *text, graft_error *err) {
    static const char spaces[64] = "                                                                ";
    size_t len = strlen(text), padded = gr_round_up(len + 8, 64) - 8;
    uint64_t word = padded;
    GR_TRY(gr_writer_write(out, &word, 8, err));
    GR_TRY(gr_writer_write(out, text, len, err));
    return gr_writer_write(out, spaces, padded - len, err);
}

graft_status gr_safetensors_create(gr_safetensors_writer **writer, const char *path, const gr_tensor *tensors,
                                   size_t count, const char *const *metadata, graft_error *err) {
    const char *duplicate;
    uint64_t data_bytes;
    graft_status st;
    *writer = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t need;
        if (gr_mul_size((size_t)gr_tensor_count(&tensors[i]), gr_dtype_bytes(tensors[i].dtype), &need) &&
            need == tensors[i].bytes)
            continue;
        gr_fail(err, GRAFT_INTERNAL, "tensor %s is declared with %zu bytes, its shape has others",
                tensors[i].name, tensors[i].bytes);
        return gr_where(err, "%s", path);
    }
    json_t *header = make_header(tensors, count, metadata, &data_bytes, &duplicate);
    if (!header && duplicate) {
        gr_fail(err, GRAFT_INTERNAL, "tensor %s is declared twice", duplicate);
        return gr_where(err, "%s", path);
    }
    char *text = header ? gr_json_dump(header, JSON_COMPACT) : NULL;
    json_decref(header);
    gr_safetensors_writer *w = gr_calloc(1, sizeof *w);
    if (!text || !w) {
        free(text);
        free(w);
        return gr_no_memory(err, count * sizeof *tensors);
    }
    w->declared = data_bytes;
    GR_GOTO(gr_writer_begin(&w->out, path, err));
    st = write_header(&w->out, text, err);
    if (st != GRAFT_OK) gr_writer_abort(&w->out);
done:
    free(text);
    if (st == GRAFT_OK)
        *writer = w;
    else
        free(w);
    return st;
}

graft_status gr_safetensors_write(gr_safetensors_writer *writer, const void *bytes, size_t n,
                                  graft_error *err) {
    writer->given += n;
    return gr_writer_write(&writer->out, bytes, n, err);
}

graft_status gr_safetensors_seal(gr_safetensors_writer *writer, graft_error *err) {
    graft_status st;
    if (writer->given != writer->declared) {
        gr_fail(err, GRAFT_INTERNAL, "the tensors' bytes do not match their declaration");
        gr_where(err, "%s", writer->out.path);
        gr_expected(err, "%llu bytes", (unsigned long long)writer->declared);
        st = gr_found(err, "%llu bytes", (unsigned long long)writer->given);
        gr_writer_abort(&writer->out);
    } else {
        st = gr_writer_seal(&writer->out, err);
    }
    if (st != GRAFT_OK) free(writer);
    return st;
}

graft_status gr_safetensors_replace(gr_safetensors_writer *writer, graft_error *err) {
    GR_TRY(gr_safetensors_seal(writer, err));
    graft_status st = gr_writer_replace(&writer->out, err);
    gr_safetensors_abort(writer);
    return st;
}

graft_status gr_safetensors_commit(gr_safetensors_writer *writer, graft_error *err) {
    GR_TRY(gr_safetensors_seal(writer, err));
    graft_status st = gr_writer_commit(&writer->out, err);
    free(writer);
    return st;
}

void gr_safetensors_abort(gr_safetensors_writer *writer) {
    if (!writer) return;
    gr_writer_abort(&writer->out);
    free(writer);
}

graft_status gr_safetensors_save(const char *path, const gr_tensor *tensors, size_t count,
                                 const char *const *metadata, graft_error *err) {
    gr_safetensors_writer *writer;
    GR_TRY(gr_safetensors_create(&writer, path, tensors, count, metadata, err));
    for (size_t i = 0; i < count; i++) {
        graft_status st = gr_safetensors_write(writer, tensors[i].data, tensors[i].bytes, err);
        if (st != GRAFT_OK) {
            gr_safetensors_abort(writer);
            return st;
        }
    }
    return gr_safetensors_commit(writer, err);
}
