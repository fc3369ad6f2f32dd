#include "train/settings_changed.h"

/* Calls for each name of a list "a,b_c". */
static bool next_name(char name[64], const char **list) {
    while (*list && **list) {
        size_t n = strcspn(*list, ",");
        snprintf(name, 64, "%.*s", n < 63 ? (int)n : 63, *list);
        *list += n + ((*list)[n] == ',');
        if (name[0]) return true;
    }
    return false;
}

static bool allowed(const gr_changes *c, const char *name) {
    char each[64];
    for (const char *list = c->allow; next_name(each, &list);)
        if (gr_same_name(each, name)) return true;
    return c->other_base && strcmp(name, "model") == 0;
}

static void add_line(gr_buf *to, const char *name, const char *then, const char *now) {
    static const char none[] = "(none)";
    gr_buf_printf(to, "%s: %s -> %s", name, then[0] ? then : none, now[0] ? now : none);
}

void gr_changes_never(gr_changes *c, const char *name, const char *then, const char *now, const char *why) {
    add_line(&c->refused, name, then, now);
    gr_buf_printf(&c->refused, " (%s)\n", why);
    c->count++;
    c->never++;
}

void gr_changes_add(gr_changes *c, const char *name, const char *then, const char *now) {
    gr_buf *to = allowed(c, name) ? &c->allowed : &c->refused;
    add_line(to, name, then, now);
    gr_buf_puts(to, "\n");
    if (to == &c->allowed) return;
    gr_buf_printf(&c->names, "%s%s", c->names.len ? "," : "", name);
    c->count++;
}

/* A line of settings: its name and value; where the next one begins. */
typedef struct line {
    const char *name, *value;
    size_t name_bytes, value_bytes;
} line;

static const char *read_line(line *l, const char *text) {
    size_t n = strcspn(text, "\n");
    const char *colon = memchr(text, ':', n);
    l->name = text;
    l->name_bytes = colon ? (size_t)(colon - text) : n;
    l->value = colon && colon[1] == ' ' ? colon + 2 : text + n;
    l->value_bytes = (size_t)(text + n - l->value);
    return text + n + (text[n] == '\n');
}

static bool find_line(line *found, const char *text, const char *name, size_t n) {
    while (*text) {
        text = read_line(found, text);
        if (found->name_bytes == n && memcmp(found->name, name, n) == 0) return true;
    }
    *found = (line){.value = ""};
    return false;
}

static void add_difference(gr_changes *c, const line *then, const line *now) {
    const line *any = then->name_bytes ? then : now;
    const gr_option_row *row = gr_option_row_named(any->name, any->name_bytes);
    if (row && (row->change == GR_CHANGE_OWN || row->change == GR_CHANGE_FREELY)) return;
    char *name = gr_strndup(any->name, any->name_bytes), *a = gr_strndup(then->value, then->value_bytes),
         *b = gr_strndup(now->value, now->value_bytes);
    if (!name || !a || !b)
        c->refused.failed = true;
    else if (row && row->never)
        gr_changes_never(c, name, a, b, row->never);
    else
        gr_changes_add(c, name, a, b);
    free(name);
    free(a);
    free(b);
}

void gr_changes_settings(gr_changes *c, const char *then, const char *now) {
    line a, b;
    for (const char *at = then; *at;) {
        at = read_line(&a, at);
        if (!find_line(&b, now, a.name, a.name_bytes) || a.value_bytes != b.value_bytes ||
            memcmp(a.value, b.value, a.value_bytes) != 0)
            add_difference(c, &a, &b);
    }
    for (const char *at = now; *at;) {
        at = read_line(&b, at);
        if (!find_line(&a, then, b.name, b.name_bytes)) add_difference(c, &a, &b);
    }
}

bool gr_changes_has(const gr_changes *c, const char *name) {
    line found;
    return c->allowed.len && find_line(&found, c->allowed.data, name, strlen(name));
}

graft_status gr_changes_check_names(const gr_changes *c, const char *then, const char *now,
                                    graft_error *err) {
    char name[64];
    line found;
    for (const char *list = c->allow; next_name(name, &list);) {
        for (char *p = name; *p; p++)
            if (*p == '_') *p = '-';
        if (graft_option_find(GRAFT_VERB_TRAIN, name) || find_line(&found, then, name, strlen(name)) ||
            find_line(&found, now, name, strlen(name)))
            continue;
        const char *names[GR_OPTION_ROWS] = {0};
        for (size_t i = 0; i < graft_option_count(); i++)
            if (graft_option_at(i)->verbs & GRAFT_VERB_TRAIN) names[i] = graft_option_at(i)->name;
        const char *near = gr_nearest_name(name, names, (int64_t)graft_option_count());
        gr_fail(err, GRAFT_USAGE, "--allow-changes names no setting");
        gr_found(err, "%s", name);
        return near ? gr_hint(err, "did you mean %s?", near) : err->status;
    }
    return GRAFT_OK;
}

void gr_changes_free(gr_changes *c) {
    gr_buf_free(&c->allowed);
    gr_buf_free(&c->refused);
    gr_buf_free(&c->names);
}
