#include "files/json_write.h"
#include "base/number.h"
#include <math.h>

char *gr_json_dump(const json_t *value, size_t flags) {
    size_t n = value ? json_dumpb(value, NULL, 0, flags) : 0; /* into a given buffer it cannot run out */
    char *text = n ? malloc(n + 1) : NULL;
    if (text && json_dumpb(value, text, n, flags) != n) {
        free(text);
        return NULL;
    }
    if (text) text[n] = 0;
    return text;
}

static void indent(gr_buf *out, int depth) {
    gr_buf_putc(out, '\n');
    for (int i = 0; i < depth; i++) gr_buf_puts(out, "    ");
}

/* The fewest digits that give the number back; always recognizable as a real. */
static void real_text(gr_buf *out, double x) {
    char text[32];
    gr_real_text(text, x);
    /* as Python writes them: 100000.0, not 1e+05 */
    if (strchr(text, 'e') && x > -1e16 && x < 1e16 && (x >= 1 || x <= -1))
        gr_format(text, sizeof text, "%.1f", x);
    gr_buf_puts(out, text);
    if (!strpbrk(text, ".en")) gr_buf_puts(out, ".0");
}

static void scalar_text(gr_buf *out, const json_t *value) {
    char *text = gr_json_dump(value, JSON_ENCODE_ANY);
    if (text)
        gr_buf_puts(out, text);
    else
        out->failed = true;
    free(text);
}

static int by_string(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void value_text(gr_buf *out, const json_t *value, int depth);

static void object_text(gr_buf *out, const json_t *object, int depth) {
    size_t n = 0, count = json_object_size(object);
    const char **keys = gr_calloc(count, sizeof *keys), *key;
    json_t *item;
    if (!keys) {
        out->failed = true;
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)object, key, item) keys[n++] = key;
    qsort(keys, n, sizeof *keys, by_string);
    gr_buf_putc(out, '{');
    for (size_t i = 0; i < n; i++) {
        json_t *name = json_string(keys[i]);
        if (i) gr_buf_putc(out, ',');
        indent(out, depth + 1);
        scalar_text(out, name);
        json_decref(name);
        gr_buf_puts(out, ": ");
        value_text(out, json_object_get(object, keys[i]), depth + 1);
    }
    if (n) indent(out, depth);
    gr_buf_putc(out, '}');
    free(keys);
}

static void value_text(gr_buf *out, const json_t *value, int depth) {
    if (json_is_object(value)) {
        object_text(out, value, depth);
    } else if (json_is_array(value)) {
        gr_buf_putc(out, '[');
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i) gr_buf_putc(out, ',');
            indent(out, depth + 1);
            value_text(out, json_array_get(value, i), depth + 1);
        }
        if (json_array_size(value)) indent(out, depth);
        gr_buf_putc(out, ']');
    } else if (json_is_real(value)) {
        real_text(out, json_real_value(value));
    } else {
        scalar_text(out, value);
    }
}

void gr_json_text(gr_buf *out, const json_t *value) {
    value_text(out, value, 0);
}

graft_status gr_json_seal(gr_writer *w, const char *path, const json_t *value, graft_error *err) {
    gr_buf text = {0};
    gr_json_text(&text, value);
    gr_buf_putc(&text, '\n');
    graft_status st = text.failed ? gr_no_memory(err, text.len) : gr_writer_begin(w, path, err);
    if (st == GRAFT_OK) {
        st = gr_writer_write(w, text.data, text.len, err);
        if (st == GRAFT_OK)
            st = gr_writer_seal(w, err);
        else
            gr_writer_abort(w);
    }
    gr_buf_free(&text);
    return st;
}

graft_status gr_json_save(const char *path, const json_t *value, graft_error *err) {
    gr_writer w;
    GR_TRY(gr_json_seal(&w, path, value, err));
    return gr_writer_commit(&w, err);
}

void gr_json_put(bool *good, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value) != 0) *good = false;
}

void gr_json_append(bool *good, json_t *array, json_t *value) {
    if (json_array_append_new(array, value) != 0) *good = false;
}

json_t *gr_json_number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}
