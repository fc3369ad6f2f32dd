#include "files/json_read.h"
#include "sweep/sweep.h"
#include <ctype.h>
#include <stdio.h>

static graft_status refuse(const char *name, const char *why, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "--grid cannot vary %s", name);
    return gr_hint(err, "%s", why);
}

static graft_status check_name(const char *name, const graft_options *o, graft_error *err) {
    const char *fixed = gr_option_row_at((size_t)gr_option_index(name))->fixed;
    if (fixed[0]) return refuse(name, fixed, err);
    if (gr_same_name("batch-size", name) && o->val_batches >= 0)
        return refuse(name, "validation losses would be of other rows: add --val-batches -1", err);
    if (gr_same_name("batch-size", name) && gr_options_rows(o, 0).mlx_masks)
        return refuse(name, "--loss mlx-lm drops the batch that is not full: losses would be of other rows",
                      err);
    if (o->jobs > 1 && (gr_same_name("threads", name) || gr_same_name("budget", name)))
        return refuse(name, "with --jobs the trials at once share it", err);
    const gr_loss_row *loss = gr_options_preference(o).loss;
    if (gr_same_name("resume-adapter-file", name) && loss && loss->needs_reference)
        return refuse(name, "with --loss dpo it is the reference: losses would be against different ones",
                      err);
    if (gr_same_name("seed", name) && gr_options_splits(o))
        return refuse(name, "with --valid-split validation losses would be of other rows", err);
    return GRAFT_OK;
}

static graft_status add_value(gr_sweep_choice *c, const char *text, size_t n, graft_error *err) {
    char **grown = gr_realloc_array(c->values, c->count + 1, sizeof *grown);
    if (!grown) return gr_no_memory(err, n);
    c->values = grown;
    c->values[c->count] = gr_strndup(text, n);
    if (!c->values[c->count]) return gr_no_memory(err, n);
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->values[i], c->values[c->count]) == 0) {
            gr_fail(err, GRAFT_USAGE, "--grid %s has %s twice", c->name, c->values[i]);
            free(c->values[c->count]);
            return err->status;
        }
    c->count++;
    return GRAFT_OK;
}

/* Values stand between commas; between | where there is one: module names have commas between them. */
static graft_status add_choice(gr_sweep_grid *g, const char *text, const graft_options *o, graft_error *err) {
    const char *equals = strchr(text, '=');
    char name[64];
    if (!equals || equals == text || !equals[1] || equals - text >= (int)sizeof name) {
        gr_fail(err, GRAFT_USAGE, "--grid takes a setting and its values");
        gr_expected(err, "NAME=VALUE,VALUE such as lora-rank=8,16");
        return gr_found(err, "%s", text);
    }
    snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
    const graft_option *row = name[1] ? graft_option_find(GRAFT_VERB_SWEEP, name) : NULL;
    if (!row) {
        graft_options probe; /* for the error, which names the nearest option */
        graft_options_init(&probe);
        graft_status st = graft_options_set(&probe, GRAFT_VERB_SWEEP, name, equals + 1, err);
        graft_options_free(&probe);
        return st == GRAFT_OK ? gr_fail(err, GRAFT_USAGE, "--grid takes the long name of a setting") : st;
    }
    GR_TRY(check_name(row->name, o, err));
    if (g->count == GR_SWEEP_CHOICES)
        return gr_fail(err, GRAFT_USAGE, "--grid is given more than %d times", GR_SWEEP_CHOICES);
    for (size_t i = 0; i < g->count; i++)
        if (strcmp(g->choices[i].name, row->name) == 0)
            return gr_fail(err, GRAFT_USAGE, "--grid %s is given twice", row->name);
    gr_sweep_choice *c = &g->choices[g->count++];
    c->name = gr_strdup(row->name);
    if (!c->name) return gr_no_memory(err, 0);
    const char *mark = strchr(equals, '|') ? "|" : ",";
    for (const char *at = equals + 1;;) {
        size_t n = strcspn(at, mark);
        if (!n) {
            gr_fail(err, GRAFT_USAGE, "--grid %s has an empty value", c->name);
            return gr_found(err, "%s", text);
        }
        GR_TRY(add_value(c, at, n, err));
        if (!at[n]) return GRAFT_OK;
        at += n + 1;
    }
}

graft_status gr_sweep_grid_read(gr_sweep_grid *g, const graft_options *o, graft_error *err) {
    json_error_t why;
    *g = (gr_sweep_grid){.trials = 1};
    json_t *list = gr_json_loadb(o->grid, strlen(o->grid), 0, &why);
    const json_t *text;
    size_t i;
    graft_status st = json_is_array(list) ? GRAFT_OK : gr_no_memory(err, strlen(o->grid));
    json_array_foreach(list, i, text) if (st == GRAFT_OK) st = add_choice(g, json_string_value(text), o, err);
    json_decref(list);
    for (i = 0; i < g->count && st == GRAFT_OK; i++)
        if (!gr_mul_size(g->trials, g->choices[i].count, &g->trials) || g->trials > GR_SWEEP_TRIALS)
            st = gr_fail(err, GRAFT_USAGE, "--grid has more than %d combinations", GR_SWEEP_TRIALS);
    return st;
}

void gr_sweep_grid_free(gr_sweep_grid *g) {
    for (size_t i = 0; i < g->count; i++) {
        for (size_t k = 0; k < g->choices[i].count; k++) free(g->choices[i].values[k]);
        free(g->choices[i].values);
        free(g->choices[i].name);
    }
    *g = (gr_sweep_grid){0};
}

const char *gr_sweep_value(const gr_sweep_grid *g, size_t trial, size_t choice) {
    for (size_t i = g->count - 1; i > choice; i--) trial /= g->choices[i].count;
    return g->choices[choice].values[trial % g->choices[choice].count];
}

/* What any file system takes; a name's beginning where it is long. */
static void put_plain(gr_buf *out, const char *text) {
    for (size_t i = 0; text[i] && i < 24; i++) {
        char c = text[i];
        gr_buf_putc(out, isalnum((unsigned char)c) || strchr("._+-=", c) ? c : '-');
    }
}

graft_status gr_sweep_names(char **name, char **values, const gr_sweep_grid *g, size_t trial,
                            graft_error *err) {
    gr_buf place = {0}, told = {0};
    gr_buf_printf(&place, "%02zu", trial + 1);
    for (size_t i = 0; i < g->count; i++) {
        const char *value = gr_sweep_value(g, trial, i);
        gr_buf_printf(&place, "_%s=", g->choices[i].name);
        put_plain(&place, value);
        gr_buf_printf(&told, "%s%s %s", i ? ", " : "", g->choices[i].name, value);
    }
    if (place.len > 200 && place.data) place.data[200] = '\0'; /* a directory's name has 255 bytes at most */
    *name = gr_buf_take(&place);
    *values = gr_buf_take(&told);
    return *name && *values ? GRAFT_OK : gr_no_memory(err, 0);
}

graft_status gr_sweep_options(graft_options *to, const gr_sweep_grid *g, size_t trial, const graft_options *o,
                              graft_error *err) {
    GR_TRY(gr_options_copy(to, o, err));
    for (size_t i = 0; i < g->count; i++)
        GR_TRY(graft_options_set(to, GRAFT_VERB_SWEEP, g->choices[i].name, gr_sweep_value(g, trial, i), err));
    to->keep_best = true;
    return gr_options_check(to, GRAFT_VERB_TRAIN, err);
}
