#include "files/records.h"
#include "files/csv.h"
#include "files/json_read.h"
#include "files/jsonl.h"
#include <strings.h>

#define COLUMNS_MAX 1024

/* Pages of a map that were read are handed back in pieces this big. */
#define PIECE ((size_t)16 << 20)
/* .. which is asked at places so far apart: a page. */
#define LOOK ((uintptr_t)4096)

typedef struct entry {
    uint64_t at;   /* offset of its first byte */
    uint32_t len;  /* without what separates it from the next */
    uint32_t line; /* from 1 */
} entry;

struct gr_records {
    gr_jsonl *lines; /* or, where NULL, what follows */
    gr_map map;
    char *path;
    entry *entries;
    size_t count, cap;
    char separator; /* of a table; 0: an array */
    char **names;   /* of its columns, as JSON strings */
    size_t columns;
    gr_buf text;       /* the row of a table that was asked for last */
    const char *piece; /* where the pages begin that were not handed back */
};

/* Where the scanner is. */
typedef struct scan {
    const char *start, *p, *end;
    uint64_t line;
} scan;

static graft_status at_line(const gr_records *r, uint64_t line, graft_error *err) {
    return gr_where(err, "%s: line %llu", r->path, (unsigned long long)line);
}

static graft_status add_entry(gr_records *r, const scan *s, const char *from, const char *to, uint64_t line,
                              graft_error *err) {
    if (line > UINT32_MAX || (size_t)(to - from) > UINT32_MAX) {
        gr_fail(err, GRAFT_RANGE, "the file has more than %u lines, or a row of as many bytes", UINT32_MAX);
        return at_line(r, line, err);
    }
    if (!gr_grow((void **)&r->entries, &r->cap, r->count, sizeof *r->entries))
        return gr_no_memory(err, r->cap);
    r->entries[r->count++] = (entry){(uint64_t)(from - s->start), (uint32_t)(to - from), (uint32_t)line};
    return GRAFT_OK;
}

static void hand_back(gr_records *r, const char *upto) {
    if (upto < r->piece) r->piece = upto;
    if ((size_t)(upto - r->piece) < PIECE) return;
    gr_map_release(r->piece, (size_t)(upto - r->piece));
    r->piece = upto;
}

/* ---- arrays */

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_space(scan *s) {
    for (; s->p < s->end && is_space(*s->p); s->p++) s->line += *s->p == '\n';
}

/* To the comma or bracket behind the element at s->p, or to the end of the text. What is wrong inside the
 * element is for the one who parses it. */
static void skip_element(gr_records *r, scan *s) {
    int64_t depth = 0;
    bool string = false;
    for (; s->p < s->end; s->p++) {
        char c = *s->p;
        s->line += c == '\n';
        if (((uintptr_t)s->p & (LOOK - 1)) == 0) hand_back(r, s->p); /* one line may be all of it */
        if (string) {
            if (c == '\\' && s->p + 1 < s->end) s->p++;
            string = c != '"';
        } else if (c == '"') {
            string = true;
        } else if (depth == 0 && (c == ',' || c == ']')) {
            return;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
}

static graft_status bad_array(const gr_records *r, const char *what, uint64_t line, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "not valid JSON");
    at_line(r, line, err);
    return gr_found(err, "%s", what);
}

static graft_status index_array(gr_records *r, scan *s, graft_error *err) {
    uint64_t first = s->line;
    s->p++; /* the bracket */
    skip_space(s);
    for (bool more = s->p == s->end || *s->p != ']'; more;) {
        skip_space(s);
        const char *from = s->p;
        uint64_t line = s->line;
        skip_element(r, s);
        if (s->p == s->end) return bad_array(r, "the array does not end", r->count ? line : first, err);
        const char *to = s->p;
        while (to > from && is_space(to[-1])) to--;
        if (to == from) return bad_array(r, "an array's element is missing", line, err);
        GR_TRY(add_entry(r, s, from, to, line, err));
        more = *s->p == ',';
        s->p += more;
    }
    s->p++;
    skip_space(s);
    return s->p == s->end ? GRAFT_OK : bad_array(r, "text behind the array", s->line, err);
}

/* ---- tables */

/* The record at s->p: where it ends, and how many fields it has. */
static graft_status skip_record(gr_records *r, scan *s, const char **to, size_t *fields, bool *blank,
                                graft_error *err) {
    gr_csv_field f;
    uint64_t line = s->line;
    const char *p = s->p;
    *fields = 0;
    do {
        p = gr_csv_next(&f, p, s->end, r->separator);
        ++*fields;
    } while (!f.last && p < s->end && f.flaw != GR_CSV_OPEN);
    *fields += !f.last; /* a separator at the very end: one more, empty */
    if (f.flaw == GR_CSV_OPEN) {
        gr_fail(err, GRAFT_CORRUPT, "a quoted cell does not end");
        at_line(r, line, err);
        return gr_hint(err, "a quote inside quotes is written twice");
    }
    *blank = *fields == 1 && f.len == 0 && !f.quoted;
    *to = p;
    for (const char *q = s->p; q < p; q++)
        s->line += *q == '\n' || (*q == '\r' && (q + 1 == s->end || q[1] != '\n'));
    s->p = p;
    hand_back(r, p);
    return GRAFT_OK;
}

static graft_status bad_header(const gr_records *r, const char *what, const gr_csv_field *name,
                               graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "%s", what);
    at_line(r, 1, err);
    gr_expected(err, "a first line with the names of the columns");
    return gr_found(err, "column %zu: \"%.*s\"", r->columns + 1, (int)gr_min_size(name->len, 100), name->at);
}

static graft_status read_header(gr_records *r, const char *p, const char *to, size_t fields,
                                graft_error *err) {
    gr_csv_field f;
    if (fields > COLUMNS_MAX) {
        gr_fail(err, GRAFT_RANGE, "the table has more than %d columns", COLUMNS_MAX);
        at_line(r, 1, err);
        return gr_found(err, "%zu", fields);
    }
    r->names = gr_calloc(fields + 1, sizeof *r->names);
    if (!r->names) return gr_no_memory(err, fields * sizeof *r->names);
    for (; r->columns < fields; r->columns++) {
        gr_buf name = {0};
        p = gr_csv_next(&f, p, to, r->separator);
        if (f.flaw) return bad_header(r, "text behind the closing quote of a column's name", &f, err);
        if (!f.len) {
            bad_header(r, "a column has no name", &f, err);
            return gr_hint(err, "pandas writes one for its index: to_csv(.., index=False) leaves it out");
        }
        gr_csv_json(&name, &f);
        char *made = r->names[r->columns] = gr_buf_take(&name);
        if (!made) return gr_no_memory(err, f.len);
        for (size_t i = 0; i < r->columns; i++)
            if (strcmp(r->names[i], made) == 0)
                return bad_header(r, "two columns have the same name", &f, err);
    }
    return GRAFT_OK;
}

static graft_status index_table(gr_records *r, scan *s, graft_error *err) {
    while (s->p < s->end) {
        const char *from = s->p, *to = from;
        uint64_t line = s->line;
        size_t fields = 0;
        bool blank = false;
        GR_TRY(skip_record(r, s, &to, &fields, &blank, err));
        if (blank) continue;
        if (!r->names)
            GR_TRY(read_header(r, from, to, fields, err));
        else
            GR_TRY(add_entry(r, s, from, to, line, err));
    }
    return GRAFT_OK;
}

static graft_status wrong_cells(const gr_records *r, size_t found, graft_error *err) {
    gr_fail(err, GRAFT_CORRUPT, "a row has other cells than the header");
    gr_expected(err, "%zu cells", r->columns);
    gr_found(err, found < r->columns ? "%zu in the first" : "more than %zu in the first", found);
    return gr_hint(err, "a cell that holds a separator or a line end stands in quotes");
}

static graft_status table_row(gr_records *r, const char *p, const char *end, graft_error *err) {
    gr_csv_field f = {.last = false};
    size_t found = 0;
    gr_buf_clear(&r->text);
    if ((size_t)(end - p) > GR_ROW_LIMIT)
        return gr_fail(err, GRAFT_RANGE, "a row of more than %zu bytes", GR_ROW_LIMIT);
    for (; !f.last && found < r->columns; found++) {
        p = gr_csv_next(&f, p, end, r->separator);
        if (f.flaw) {
            gr_fail(err, GRAFT_CORRUPT, "text behind the closing quote of a cell");
            gr_found(err, "column %s", r->names[found]);
            return gr_hint(err, "a quote inside quotes is written twice");
        }
        gr_buf_printf(&r->text, "%c%s:", found ? ',' : '{', r->names[found]);
        if (f.len)
            gr_csv_json(&r->text, &f);
        else
            gr_buf_puts(&r->text, "null");
    }
    if (!f.last || found < r->columns) return wrong_cells(r, found, err);
    gr_buf_putc(&r->text, '}');
    return r->text.failed ? gr_no_memory(err, (size_t)(end - p)) : GRAFT_OK;
}

/* ---- files */

/* Files that hold rows in a way nobody here unpacks, by their first bytes. */
static graft_status refuse_packed(const gr_records *r, const scan *s, graft_error *err) {
    static const struct {
        const char *magic, *name, *hint;
    } packed[] = {
        {"PAR1", "Parquet",
         "write it as JSON lines first: in Python, datasets' or pandas' to_json(lines=True)"},
        {"ARROW1", "Arrow", "write it as JSON lines first: in Python, datasets' to_json(lines=True)"},
        {"\x1f\x8b", "gzip", "unpack it first: gunzip"},
        {"\x28\xb5\x2f\xfd", "zstd", "unpack it first: unzstd"},
        {"PK\x03\x04", "zip", "unpack it first; a spreadsheet can be saved as CSV"},
    };
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++) {
        size_t n = strlen(packed[i].magic);
        if ((size_t)(s->end - s->start) < n || memcmp(s->start, packed[i].magic, n) != 0) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "the data is packed: %s", packed[i].name);
        gr_where(err, "%s", r->path);
        return gr_hint(err, "%s", packed[i].hint);
    }
    return GRAFT_OK;
}

static char separator_of(const char *path) {
    const char *dot = strrchr(path, '.');
    if (dot && strcasecmp(dot, ".csv") == 0) return ',';
    return dot && strcasecmp(dot, ".tsv") == 0 ? '\t' : 0;
}

static graft_status index_all(gr_records *r, gr_reading how, graft_error *err) {
    scan s = {.start = (const char *)r->map.data, .line = 1};
    s.p = s.start;
    s.end = s.start ? s.start + r->map.size : NULL;
    r->piece = s.start;
    if (s.start) GR_TRY(refuse_packed(r, &s, err));
    if (r->map.size >= 3 && memcmp(s.p, "\xef\xbb\xbf", 3) == 0) s.p += 3;
    if (r->separator) return s.p ? index_table(r, &s, err) : GRAFT_OK;
    skip_space(&s);
    if (s.p < s.end && *s.p == '[') return index_array(r, &s, err);
    gr_map_close(&r->map);
    return gr_jsonl_open_as(&r->lines, r->path, how, err);
}

graft_status gr_records_open(gr_records **out, const char *path, gr_reading how, graft_error *err) {
    gr_records *r = gr_calloc(1, sizeof *r);
    graft_status st;
    *out = NULL;
    if (!r) return gr_no_memory(err, sizeof *r);
    r->path = gr_strdup(path);
    r->separator = separator_of(path);
    st = r->path ? gr_map_open(&r->map, path, how, err) : gr_no_memory(err, strlen(path));
    if (st == GRAFT_OK) st = index_all(r, how, err);
    if (st == GRAFT_OK)
        *out = r;
    else
        gr_records_close(r);
    if (*out) r->piece = (const char *)r->map.data;
    return st;
}

void gr_records_close(gr_records *r) {
    if (!r) return;
    gr_jsonl_close(r->lines);
    gr_map_close(&r->map);
    for (size_t i = 0; r->names && i <= r->columns; i++) free(r->names[i]);
    free(r->names);
    gr_buf_free(&r->text);
    free(r->entries);
    free(r->path);
    free(r);
}

size_t gr_records_count(const gr_records *r) {
    return r->lines ? gr_jsonl_count(r->lines) : r->count;
}

const char *gr_records_path(const gr_records *r) {
    return r->path;
}

graft_status gr_records_get(gr_records *r, size_t index, const char **json, size_t *len, uint64_t *line,
                            graft_error *err) {
    if (r->lines) {
        gr_jsonl_row(r->lines, index, json, len, line);
        if (!r->piece) r->piece = *json;
        hand_back(r, *json);
        return GRAFT_OK;
    }
    const entry *e = &r->entries[index];
    const char *at = (const char *)r->map.data + e->at;
    *line = e->line;
    hand_back(r, at);
    if (!r->separator) {
        *json = at;
        *len = e->len;
        return GRAFT_OK;
    }
    GR_TRY(table_row(r, at, at + e->len, err));
    *json = r->text.data;
    *len = r->text.len;
    return GRAFT_OK;
}
