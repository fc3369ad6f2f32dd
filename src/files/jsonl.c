#include "files/jsonl.h"

typedef struct row {
    uint64_t at;   /* offset of its first byte */
    uint32_t len;  /* of the line without its newline; UINT32_MAX: that or more */
    uint32_t line; /* from 1 */
} row;

struct gr_jsonl {
    gr_map map;
    char *path;
    row *rows;
    size_t count, cap;
};

/* Scanning a file larger than memory must not count as memory in use: pages are handed back in pieces this
 * big. */
#define SCAN_PIECE ((size_t)16 << 20)

/* A line longer than a piece is none: looking at it again would bring all of its pages back. */
static bool is_blank(const uint8_t *p, const uint8_t *end) {
    if ((size_t)(end - p) > SCAN_PIECE) return false;
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r')) p++;
    return p == end;
}

/* The newline that ends the line at p, or `end`; pages that were looked at are handed back. */
static const uint8_t *line_end(const uint8_t *p, const uint8_t *end, const uint8_t **piece) {
    while (p < end) {
        size_t n = gr_min_size((size_t)(end - p), SCAN_PIECE);
        const uint8_t *stop = memchr(p, '\n', n);
        p = stop ? stop : p + n;
        if ((size_t)(p - *piece) >= SCAN_PIECE) {
            gr_map_release(*piece, (size_t)(p - *piece));
            *piece = p;
        }
        if (stop) return stop;
    }
    return end;
}

static graft_status index_rows(gr_jsonl *file, graft_error *err) {
    if (!file->map.size) return GRAFT_OK;
    const uint8_t *start = file->map.data, *end = start + file->map.size, *p = start, *piece = start;
    if (file->map.size >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) p += 3;
    for (uint64_t line = 1; p < end; line++) {
        const uint8_t *stop = line_end(p, end, &piece);
        if (line > UINT32_MAX) {
            gr_fail(err, GRAFT_RANGE, "the file has more than %u lines", UINT32_MAX);
            return gr_where(err, "%s", file->path);
        }
        if (!is_blank(p, stop)) {
            if (!gr_grow((void **)&file->rows, &file->cap, file->count, sizeof *file->rows))
                return gr_no_memory(err, file->cap * sizeof *file->rows);
            size_t len = gr_min_size((size_t)(stop - p), UINT32_MAX);
            file->rows[file->count++] = (row){(uint64_t)(p - start), (uint32_t)len, (uint32_t)line};
        }
        p = stop < end ? stop + 1 : end;
    }
    return GRAFT_OK;
}

graft_status gr_jsonl_open_as(gr_jsonl **out, const char *path, gr_reading how, graft_error *err) {
    gr_jsonl *file = gr_calloc(1, sizeof *file);
    graft_status st;
    *out = NULL;
    if (!file) return gr_no_memory(err, sizeof *file);
    file->path = gr_strdup(path);
    if (!file->path) {
        st = gr_no_memory(err, strlen(path));
        goto done;
    }
    GR_GOTO(gr_map_open(&file->map, path, how, err));
    GR_GOTO(index_rows(file, err));
    *out = file;
    return GRAFT_OK;
done:
    gr_jsonl_close(file);
    return st;
}

void gr_jsonl_close(gr_jsonl *file) {
    if (!file) return;
    gr_map_close(&file->map);
    free(file->path);
    free(file->rows);
    free(file);
}

size_t gr_jsonl_count(const gr_jsonl *file) {
    return file->count;
}

void gr_jsonl_row(const gr_jsonl *file, size_t index, const char **text, size_t *len, uint64_t *line) {
    const row *r = &file->rows[index];
    const uint8_t *start = file->map.data + r->at;
    size_t n = r->len;
    if (n && start[n - 1] == '\r') n--;
    *text = (const char *)start;
    *len = n;
    *line = r->line;
}
