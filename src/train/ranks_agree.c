/* train/ranks_agree.c - ranks that would train something else than rank 0 does are found before the first
 * step. */
#include "files/json_read.h"
#include "train/checkpoint_files.h"
#include "train/checkpoint_parts.h"

static bool own_affair(const char *line, size_t name) {
    const gr_option_row *row = gr_option_row_named(line, name);
    return row && row->change == GR_CHANGE_OWN;
}

/* The line of `text` that begins with the n bytes "name: "; NULL: none. */
static const char *find_line(const char *text, const char *name, size_t n) {
    for (; text && *text; text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL)
        if (strncmp(text, name, n) == 0) return text;
    return NULL;
}

static void add(gr_buf *out, int *count, int rank, const char *name, int name_length, const char *mine,
                const char *theirs) {
    int a = mine ? (int)strcspn(mine, "\n") : 0, b = theirs ? (int)strcspn(theirs, "\n") : 0;
    gr_buf_printf(out, "%s%.*s: %.*s on rank 0, %.*s on rank %d", (*count)++ ? "; " : "", name_length, name,
                  theirs ? b : 6, theirs ? theirs : "(none)", mine ? a : 6, mine ? mine : "(none)", rank);
}

/* Lines "name: value" of one text that the other has not, or has otherwise. */
static void compare(gr_buf *out, int *count, int rank, const char *mine, const char *theirs) {
    for (int pass = 0; pass < 2; pass++)
        for (const char *line = pass ? mine : theirs; line && *line;) {
            size_t name = strcspn(line, ":"), all = strcspn(line, "\n");
            const char *other = find_line(pass ? theirs : mine, line, name + 2);
            const char *a = line + name + 2, *b = other ? other + name + 2 : NULL;
            bool same = other && strcspn(other, "\n") == all && memcmp(other, line, all) == 0;
            if (!own_affair(line, name) && (pass ? !other : !same))
                add(out, count, rank, line, (int)name, pass ? a : b, pass ? b : a);
            line += all + (line[all] == '\n');
        }
}

/* Everything that the bits depend on, as lines. fresh: no checkpoint will replace the first parameters.
 * malloc'ed; NULL when out of memory. */
static char *lines_of(const gr_trainer *t, bool fresh) {
    gr_buf out = {0};
    json_t *inputs = gr_checkpoint_inputs(t), *value;
    const char *key;
    uint64_t start =
        gr_digest_blocks(GR_DIGEST_START, t->params, (size_t)t->rt.tuning->parameters * sizeof *t->params);
    gr_buf_printf(&out, "graft: %s, state of %zu bytes\n", GRAFT_VERSION, sizeof t->p);
    json_object_foreach(inputs, key, value) {
        bool word = strcmp(key, "isa") == 0;
        if (json_is_string(value) && strcmp(key, "settings") != 0)
            gr_buf_printf(&out, "%s%s: %s\n", key, word ? "" : " digest", json_string_value(value));
        if (json_is_integer(value))
            gr_buf_printf(&out, "%s: %lld\n", key, (long long)json_integer_value(value));
    }
    gr_buf_printf(&out, "iterations: %lld\nreference: %s\n", (long long)t->iters,
                  t->reference ? "an adapter" : "the base");
    if (fresh) gr_buf_printf(&out, "first parameters: %016llx\n", (unsigned long long)start);
    const char *settings = json_string_value(json_object_get(inputs, "settings"));
    gr_buf_puts(&out, settings ? settings : "");
    json_decref(inputs);
    if (!settings) gr_buf_free(&out);
    return settings ? gr_buf_take(&out) : NULL;
}

static graft_status refuse(int rank, int count, const gr_buf *differences, graft_error *err) {
    gr_fail(err, GRAFT_MISMATCH, "ranks disagree about %d %s", count, count == 1 ? "thing" : "things");
    gr_found(err, "%s", differences->data ? differences->data : "");
    return gr_hint(err, "every rank needs the same settings, rows and base as rank 0 (this is rank %d)",
                   rank);
}

graft_status gr_trainer_agree(gr_trainer *t, graft_error *err) {
    gr_ranks *ranks = t->together.ranks;
    if (!ranks) return GRAFT_OK;
    int rank = gr_ranks_rank(ranks), count = 0;
    bool fresh = !t->o->resume || gr_checkpoint_newest(t, INT64_MAX) < 0;
    GR_TRY(gr_ranks_spread(ranks, &fresh, sizeof fresh, err)); /* rank 0's checkpoint holds for all */
    char *mine = lines_of(t, fresh), *theirs = mine;
    if (!mine) return gr_no_memory(err, 0);
    graft_status st = gr_ranks_spread_text(ranks, &theirs, err);
    t->together.texts[0] = mine;
    t->together.texts[1] = theirs != mine ? theirs : NULL;
    gr_buf differences = {0};
    if (st == GRAFT_OK && rank) compare(&differences, &count, rank, mine, theirs);
    if (count) st = refuse(rank, count, &differences, err);
    gr_buf_free(&differences);
    if (st != GRAFT_OK) return st;
    char *good = gr_calloc((size_t)gr_ranks_size(ranks), 1); /* until here nobody goes on */
    if (!good) return gr_no_memory(err, 0);
    good[rank] = 1;
    st = gr_ranks_share_each(ranks, good, 1, err);
    free(good);
    return st;
}
