#include "base/digest.h"
#include "data/findings.h"
#include "data/row_format.h"

typedef struct row_entry {
    uint64_t line;
    size_t start; /* first token in ids and mask */
    int64_t count, targets;
    uint64_t source; /* digest of its text */
    int64_t prompt;  /* of a pair */
} row_entry;

struct gr_rows {
    char *name; /* of the file */
    row_entry *entries;
    size_t nentries, entries_cap;
    int32_t *ids;
    uint8_t *mask;
    size_t ntokens, tokens_cap;
    int64_t longest, targets, limit;
    int width; /* entries of a line */
    gr_lines truncated, dropped, endless, untargeted, unread_system;
    gr_lines no_answer, merged, equal; /* pairs: without room for an answer, with another end of the prompt,
                                          of two answers that are one */
};

/* What encodes the rows of one file. */
typedef struct row_source {
    const gr_tokenizer *tok;
    const gr_chat *chat;
    const gr_rows_config *config;
} row_source;

static bool reserve_tokens(gr_rows *rows, size_t more) {
    size_t need;
    if (!gr_add_size(rows->ntokens, more, &need)) return false;
    if (need <= rows->tokens_cap) return true;
    size_t cap = gr_max_i64((int64_t)need, (int64_t)(rows->tokens_cap + rows->tokens_cap / 2));
    int32_t *ids = gr_realloc_array(rows->ids, cap, sizeof *ids);
    if (!ids) return false;
    rows->ids = ids;
    uint8_t *mask = gr_realloc_array(rows->mask, cap, 1);
    if (!mask) return false;
    rows->mask = mask;
    rows->tokens_cap = cap;
    return true;
}

/* Stores the first `count` tokens of a row. With `pad`, mlx-lm's pad token follows them as a target. */
static graft_status store_row(gr_rows *rows, const gr_encoded *row, int64_t count, bool pad,
                              const row_entry *of, graft_error *err) {
    size_t n = (size_t)count, total = n + pad;
    if (!reserve_tokens(rows, total) ||
        !gr_grow((void **)&rows->entries, &rows->entries_cap, rows->nentries, sizeof *rows->entries))
        return gr_no_memory(err, total * 5 + sizeof *rows->entries);
    int32_t *ids = rows->ids + rows->ntokens;
    uint8_t *mask = rows->mask + rows->ntokens;
    memcpy(ids, row->ids.ids, n * sizeof *ids);
    memcpy(mask, row->mask, n);
    if (pad) {
        ids[n] = 0; /* mlx-lm pads its batches with zeros */
        mask[n] = 1;
    }
    int64_t targets = 0;
    for (size_t i = 0; i < total; i++) targets += mask[i];
    rows->entries[rows->nentries++] = (row_entry){.line = of->line,
                                                  .start = rows->ntokens,
                                                  .count = (int64_t)total,
                                                  .targets = targets,
                                                  .source = of->source,
                                                  .prompt = of->prompt};
    rows->ntokens += total;
    rows->targets += targets;
    rows->longest = gr_max_i64(rows->longest, (int64_t)total);
    if (targets == 0) gr_lines_add(&rows->untargeted, of->line);
    return GRAFT_OK;
}

static graft_status too_long(int64_t count, int64_t limit, graft_error *err) {
    gr_fail(err, GRAFT_RANGE, "longer than %lld tokens", (long long)limit);
    gr_found(err, "%lld tokens in the first", (long long)count);
    return gr_hint(err, "raise --max-seq-length, or say --overflow truncate or --overflow drop");
}

static graft_status add_single(gr_rows *rows, const row_source *source, const char *text, size_t len,
                               uint64_t line, graft_error *err) {
    const gr_rows_config *config = source->config;
    gr_encoded row = {0};
    graft_status st = gr_row_encode(&row, text, len, source->tok, source->chat, config, err);
    if (st != GRAFT_OK) goto done;
    if (row.unread_system) gr_lines_add(&rows->unread_system, line);
    int64_t count = (int64_t)row.ids.count, limit = config->max_seq_length;
    bool over = limit > 0 && count > limit;
    if (row.endless) {
        gr_lines_add(&rows->endless, line);
    } else if (over && config->overflow == GR_OVERFLOW_REFUSE) {
        st = too_long(count, limit, err);
    } else if (over && config->overflow == GR_OVERFLOW_DROP) {
        gr_lines_add(&rows->dropped, line);
    } else {
        if (over) gr_lines_add(&rows->truncated, line);
        int64_t kept = over ? limit : count;
        /* mlx-lm's mask reaches one position beyond the row unless the row fills the batch's width, which
         * exceeds every row shorter than max_seq_length */
        bool pad = config->mlx_masks && (limit <= 0 || kept < limit);
        row_entry own = {.line = line, .source = gr_digest_bytes(GR_DIGEST_START, text, len)};
        st = store_row(rows, &row, kept, pad, &own, err);
    }
done:
    gr_encoded_free(&row);
    return st;
}

/* Both halves, cut to at most `most` tokens. */
static graft_status store_pair(gr_rows *rows, const gr_encoded_pair *pair, int64_t most, const row_entry *of,
                               graft_error *err) {
    const gr_ids *a = &pair->half[0].ids, *b = &pair->half[1].ids;
    if (a->count == b->count && memcmp(a->ids, b->ids, a->count * sizeof *a->ids) == 0)
        gr_lines_add(&rows->equal, of->line);
    if (pair->merged) gr_lines_add(&rows->merged, of->line);
    GR_TRY(store_row(rows, &pair->half[0], gr_min_i64(most, (int64_t)a->count), false, of, err));
    return store_row(rows, &pair->half[1], gr_min_i64(most, (int64_t)b->count), false, of, err);
}

/* A pair is as long as its longer half; one whose prompt alone fills the limit has nothing to compare. */
static graft_status add_pair(gr_rows *rows, const row_source *source, const char *text, size_t len,
                             uint64_t line, graft_error *err) {
    const gr_rows_config *config = source->config;
    gr_encoded_pair pair = {0};
    graft_status st = gr_pair_encode(&pair, text, len, source->tok, source->chat, config, err);
    int64_t limit = config->max_seq_length > 0 ? config->max_seq_length : INT64_MAX,
            count = gr_max_i64((int64_t)pair.half[0].ids.count, (int64_t)pair.half[1].ids.count);
    row_entry own = {
        .line = line, .source = gr_digest_bytes(GR_DIGEST_START, text, len), .prompt = pair.prompt};
    if (st != GRAFT_OK) goto done;
    if (count > limit && config->overflow == GR_OVERFLOW_REFUSE) {
        st = too_long(count, limit, err);
    } else if (count > limit && config->overflow == GR_OVERFLOW_DROP) {
        gr_lines_add(&rows->dropped, line);
    } else if (pair.prompt >= limit) {
        gr_lines_add(&rows->no_answer, line);
    } else {
        if (count > limit) gr_lines_add(&rows->truncated, line);
        st = store_pair(rows, &pair, limit, &own, err);
    }
done:
    gr_encoded_pair_free(&pair);
    return st;
}

static graft_status add_row(gr_rows *rows, const row_source *source, const char *text, size_t len,
                            uint64_t line, graft_error *err) {
    return rows->width > 1 ? add_pair(rows, source, text, len, line, err)
                           : add_single(rows, source, text, len, line, err);
}

static bool fatal(graft_status st) {
    return st == GRAFT_NO_MEMORY || st == GRAFT_INTERNAL || st == GRAFT_INTERRUPTED;
}

static graft_status add_all(gr_rows *rows, gr_records *file, const row_source *source,
                            void (*progress)(void *, int64_t, int64_t), void *user, gr_findings *findings,
                            graft_error *err) {
    size_t n = gr_records_count(file);
    for (size_t i = 0; i < n; i++) {
        const char *text;
        size_t len;
        uint64_t line;
        graft_error row_error = {0};
        graft_status st = gr_records_get(file, i, &text, &len, &line, &row_error);
        if (st == GRAFT_OK) st = add_row(rows, source, text, len, line, &row_error);
        if (fatal(st)) {
            *err = row_error;
            return st;
        }
        if (st != GRAFT_OK) gr_findings_add(findings, line, &row_error);
        if (progress && ((i & 63) == 63 || i + 1 == n)) progress(user, (int64_t)i + 1, (int64_t)n);
    }
    return gr_findings_fail(findings, gr_records_path(file), (int64_t)n, err);
}

/* A file that teaches nothing is an error, not a run of zeros. */
static graft_status check_content(const gr_rows *rows, const char *path, const gr_rows_config *config,
                                  graft_error *err) {
    if (rows->nentries == 0) {
        bool longer = rows->dropped.count || rows->no_answer.count, left = longer || rows->endless.count;
        gr_fail(err, GRAFT_CORRUPT, "the file has no rows%s", left ? " left" : "");
        gr_where(err, "%s", path);
        if (!left) return GRAFT_CORRUPT;
        char *notes = gr_rows_notes(rows);
        gr_found(err, "%s", notes ? notes : "");
        free(notes);
        return gr_hint(err, longer ? "raise --max-seq-length" : "cut them into several rows");
    }
    if (rows->targets == 0 && !config->allow_untargeted) {
        gr_fail(err, GRAFT_CORRUPT, "no row has a token to train on");
        gr_where(err, "%s", path);
        return gr_hint(err, rows->truncated.count
                                ? "truncation cut every target: raise --max-seq-length"
                                : "look at the masks with graft tokenize; --train-on chooses");
    }
    return GRAFT_OK;
}

static gr_rows *new_rows(const char *path, const gr_rows_config *config) {
    gr_rows *rows = gr_calloc(1, sizeof *rows);
    const char *slash = strrchr(path, '/');
    if (rows) rows->limit = config->max_seq_length;
    if (rows) rows->width = config->pairs ? 2 : 1;
    if (rows) rows->name = gr_strdup(slash ? slash + 1 : path);
    if (rows && rows->name) return rows;
    gr_rows_free(rows);
    return NULL;
}

/* Gives back what growing reserved too much. */
static void shrink(gr_rows *rows) {
    int32_t *ids = gr_realloc_array(rows->ids, rows->ntokens, sizeof *ids);
    if (ids) rows->ids = ids;
    uint8_t *mask = gr_realloc_array(rows->mask, rows->ntokens, 1);
    if (mask) rows->mask = mask;
    if (ids && mask) rows->tokens_cap = rows->ntokens;
}

graft_status gr_rows_open(gr_rows **out, const char *path, const gr_tokenizer *tok, const gr_chat *chat,
                          const gr_rows_config *config,
                          void (*progress)(void *user, int64_t done, int64_t total), void *user,
                          graft_error *err) {
    *out = NULL;
    row_source source = {.tok = tok, .chat = chat, .config = config};
    gr_records *file = NULL;
    GR_TRY(gr_records_open(&file, path, config->reading, err));
    graft_status st = GRAFT_OK;
    gr_rows *rows = new_rows(path, config);
    gr_findings *findings = gr_calloc(1, sizeof *findings);
    if (!rows || !findings) {
        st = gr_no_memory(err, sizeof *rows + sizeof *findings);
        goto done;
    }
    GR_GOTO(add_all(rows, file, &source, progress, user, findings, err));
    GR_GOTO(check_content(rows, path, config, err));
    shrink(rows);
    *out = rows;
    rows = NULL;
done:
    free(findings);
    gr_rows_free(rows);
    gr_records_close(file);
    return st;
}

graft_status gr_rows_from_text(gr_rows **out, const char *json, size_t len, const gr_tokenizer *tok,
                               const gr_chat *chat, const gr_rows_config *config, graft_error *err) {
    *out = NULL;
    row_source source = {.tok = tok, .chat = chat, .config = config};
    gr_rows *rows = new_rows("", config);
    if (!rows) return gr_no_memory(err, sizeof *rows);
    graft_status st = add_row(rows, &source, json, len, 1, err);
    if (st != GRAFT_OK) {
        gr_rows_free(rows);
        return st;
    }
    *out = rows;
    return GRAFT_OK;
}

void gr_rows_free(gr_rows *rows) {
    if (!rows) return;
    free(rows->name);
    free(rows->entries);
    free(rows->ids);
    free(rows->mask);
    free(rows);
}

const char *gr_rows_name(const gr_rows *rows) {
    return rows->name ? rows->name : "";
}

int64_t gr_rows_count(const gr_rows *rows) {
    return (int64_t)rows->nentries;
}

int gr_rows_width(const gr_rows *rows) {
    return rows->width;
}

gr_row gr_rows_at(const gr_rows *rows, int64_t index) {
    const row_entry *e = &rows->entries[index];
    return (gr_row){.line = e->line,
                    .ids = rows->ids + e->start,
                    .mask = rows->mask + e->start,
                    .count = e->count,
                    .targets = e->targets,
                    .source = e->source,
                    .prompt = e->prompt};
}

/* Puts a row's tokens at the end of `to`, which has room for them; to == from: nearer to the front. */
static void move_row(gr_rows *to, const gr_rows *from, const row_entry *e) {
    row_entry moved = *e;
    memmove(to->ids + to->ntokens, from->ids + e->start, (size_t)e->count * sizeof *to->ids);
    memmove(to->mask + to->ntokens, from->mask + e->start, (size_t)e->count);
    moved.start = to->ntokens;
    to->entries[to->nentries++] = moved;
    to->ntokens += (size_t)moved.count;
    to->targets += moved.targets;
    to->longest = gr_max_i64(to->longest, moved.count);
}

graft_status gr_rows_take(gr_rows **out, gr_rows *rows, const bool *which, graft_error *err) {
    size_t tokens = 0, entries = 0, all = rows->nentries;
    for (size_t i = 0; i < all; i++) {
        tokens += which[i] ? (size_t)rows->entries[i].count : 0;
        entries += which[i];
    }
    gr_rows *taken = *out = gr_calloc(1, sizeof *taken);
    if (!taken) return gr_no_memory(err, sizeof *taken);
    taken->limit = rows->limit;
    taken->width = rows->width;
    taken->name = gr_strdup(gr_rows_name(rows));
    taken->entries = gr_calloc(entries, sizeof *taken->entries);
    taken->entries_cap = entries;
    if (!taken->name || !taken->entries || !reserve_tokens(taken, tokens)) {
        gr_rows_free(taken);
        *out = NULL;
        return gr_no_memory(err, tokens * 5 + entries * sizeof *taken->entries);
    }
    rows->nentries = rows->ntokens = 0;
    rows->longest = rows->targets = 0;
    for (size_t i = 0; i < all; i++) {
        row_entry e = rows->entries[i];
        move_row(which[i] ? taken : rows, rows, &e);
    }
    return GRAFT_OK;
}

int64_t gr_rows_longest(const gr_rows *rows) {
    return rows->longest;
}

int64_t gr_rows_tokens(const gr_rows *rows) {
    return (int64_t)rows->ntokens;
}

int64_t gr_rows_targets(const gr_rows *rows) {
    return rows->targets;
}

static void add_note(gr_buf *out, const gr_lines *note, const char *one, const char *many) {
    if (note->count == 0) return;
    if (out->len) gr_buf_puts(out, "; ");
    gr_buf_printf(out, "%lld %s (", (long long)note->count, note->count == 1 ? one : many);
    gr_lines_text(note, out);
    gr_buf_putc(out, ')');
}

char *gr_rows_notes(const gr_rows *rows) {
    char limit[64], one[128], many[128];
    gr_buf out = {0};
    snprintf(limit, sizeof limit, "%lld tokens", (long long)rows->limit);
    snprintf(one, sizeof one, "row was cut to %s", limit);
    snprintf(many, sizeof many, "rows were cut to %s", limit);
    add_note(&out, &rows->truncated, one, many);
    snprintf(one, sizeof one, "row with more than %s was dropped", limit);
    snprintf(many, sizeof many, "rows with more than %s were dropped", limit);
    add_note(&out, &rows->dropped, one, many);
    add_note(&out, &rows->endless, "chat was dropped: it is too long to find what the assistant says",
             "chats were dropped: they are too long to find what the assistant says");
    snprintf(one, sizeof one, "pair whose prompt alone has %s was dropped", limit);
    snprintf(many, sizeof many, "pairs whose prompts alone have %s were dropped", limit);
    add_note(&out, &rows->no_answer, one, many);
    add_note(&out, &rows->merged, "prompt ends in other tokens when an answer follows",
             "prompts end in other tokens when an answer follows");
    add_note(&out, &rows->equal, "pair has the same answer twice and says nothing about it",
             "pairs have the same answer twice and say nothing about it");
    add_note(&out, &rows->unread_system, "row has a \"system\" that is not read beside its other keys",
             "rows have a \"system\" that is not read beside their other keys");
    add_note(&out, &rows->untargeted, "row has no token to train on", "rows have no token to train on");
    if (out.len == 0) return NULL;
    return gr_buf_take(&out);
}

uint64_t gr_rows_digest(const gr_rows *rows) {
    uint64_t h = GR_DIGEST_START;
    for (size_t i = 0; i < rows->nentries; i++) {
        const row_entry *e = &rows->entries[i];
        h = gr_digest_bytes(h, &e->count, sizeof e->count);
        h = gr_digest_bytes(h, rows->ids + e->start, (size_t)e->count * sizeof *rows->ids);
        h = gr_digest_bytes(h, rows->mask + e->start, (size_t)e->count);
    }
    return h;
}
