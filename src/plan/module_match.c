#include "plan/module_match.h"
#include "base/name_match.h"
#include "base/nearest.h"
#include <ctype.h>
#include <stdio.h>

static const struct {
    const char *name;
    unsigned bit;
} set_table[] = {{"standard", GR_SET_STANDARD},
                 {"extended", GR_SET_EXTENDED},
                 {"full", GR_SET_FULL},
                 {"all-linear", GR_SET_ALL_LINEAR},
                 {0}};

struct gr_matcher {
    const char *option;
    bool sets;
    unsigned set;     /* bits, 0: none */
    const char *list; /* comma-separated, NULL: none */
    gr_regex *regex;
};

graft_status gr_matcher_new(gr_matcher **out, const char *wish, const char *option, bool sets,
                            graft_error *err) {
    gr_matcher *m = *out = gr_calloc(1, sizeof *m);
    if (!m) return gr_no_memory(err, sizeof *m);
    m->option = option;
    m->sets = sets;
    for (int i = 0; sets && set_table[i].name; i++)
        if (strcmp(wish, set_table[i].name) == 0) m->set = set_table[i].bit;
    graft_status st = GRAFT_OK;
    if (strncmp(wish, "re:", 3) == 0)
        st = gr_regex_new(&m->regex, wish + 3, strlen(wish + 3), "modules", err);
    else if (!m->set)
        m->list = wish;
    if (st == GRAFT_OK) return GRAFT_OK;
    if (st == GRAFT_USAGE) {
        gr_where(err, "%s", option);
        gr_found(err, "%s", wish + 3);
    }
    gr_matcher_free(m);
    *out = NULL;
    return st;
}

void gr_matcher_free(gr_matcher *m) {
    if (!m) return;
    gr_regex_free(m->regex);
    free(m);
}

/* Next item of a comma-separated list without surrounding blanks; false at the end. */
static bool next_item(const char **list, const char **item, size_t *len) {
    while (**list == ',' || isspace((unsigned char)**list)) (*list)++;
    if (!**list) return false;
    *item = *list;
    while (**list && **list != ',') (*list)++;
    *len = (size_t)(*list - *item);
    while (*len && isspace((unsigned char)(*item)[*len - 1])) (*len)--;
    return true;
}

bool gr_matches(const gr_matcher *m, gr_role role, const char *path) {
    if (m->set) return gr_role_table[role].lora_sets & m->set;
    if (m->regex) return gr_regex_matches(m->regex, path);
    const char *list = m->list, *item;
    size_t len;
    while (list && next_item(&list, &item, &len))
        if (gr_name_ends(path, item, len)) return true;
    return false;
}

/* A set among names says no more than the names do, or everything. */
static graft_status set_in_list(const gr_matcher *m, const char *set, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "a set of modules stands alone");
    gr_where(err, "%s", m->option);
    gr_found(err, "%s in %s", set, m->list);
    return gr_hint(err, "give %s, or the names of modules", set);
}

/* What was meant: a set's name, or a module's with the path that was written before it. */
static void hint_nearest(const char *wrong, const char *const *names, size_t count, graft_error *err) {
    const char *dot = strrchr(wrong, '.'), *last = dot ? dot + 1 : wrong;
    const char *near = gr_nearest_name(last, names, count);
    bool known = near && strcmp(near, last) == 0;
    if (!known && strcmp(last, gr_role_table[GR_LM_HEAD].type) == 0)
        gr_hint(err, "this model's head is its embedding: name %s", gr_role_table[GR_EMBED_TOKENS].type);
    else if (near && !known)
        gr_hint(err, "did you mean %.*s%s?", (int)(last - wrong), wrong, near);
    else
        gr_hint(err, "`graft plan --tensors` lists the modules");
}

static graft_status no_module(const gr_matcher *m, const gr_model_config *c, const char *wrong,
                              unsigned roles, graft_error *err) {
    gr_buf known = {0};
    const char *names[GR_ROLES + 4];
    size_t count = 0;
    for (int i = 0; m->sets && set_table[i].name; i++) {
        if (strcmp(set_table[i].name, wrong) == 0) return set_in_list(m, wrong, err);
        names[count++] = set_table[i].name;
    }
    if (m->sets) gr_buf_printf(&known, "standard, extended, full, all-linear, re:REGEX, or of ");
    for (gr_role role = 0, n = 0; role < GR_ROLES; role++) {
        if (!(roles >> role & 1) || !gr_role_exists(role, c)) continue;
        names[count++] = gr_role_table[role].type;
        gr_buf_printf(&known, "%s%s", n++ ? ", " : "", gr_role_table[role].type);
    }
    gr_fail(err, GRAFT_USAGE, "no module of this model that could be meant has that name");
    gr_where(err, "%s", m->option);
    gr_found(err, "%s", wrong);
    hint_nearest(wrong, names, count, err);
    graft_status st = gr_expected(err, "%s", known.data ? known.data : "");
    gr_buf_free(&known);
    return st;
}

static bool some_module(const gr_model_config *c, unsigned roles, const char *item, size_t len) {
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (!(roles >> role & 1) || !gr_role_exists(role, c)) continue;
        for (int64_t l = 0; l < (gr_role_table[role].in_block ? c->layers : 1); l++) {
            char path[200];
            gr_role_name(path, sizeof path, role, l);
            if (gr_name_ends(path, item, len)) return true;
        }
    }
    return false;
}

graft_status gr_matcher_check(const gr_matcher *m, const gr_model_config *c, unsigned roles,
                              graft_error *err) {
    const char *list = m->list, *item;
    size_t len;
    for (gr_role role = 0; m->regex && role < GR_ROLES; role++)
        for (int64_t l = 0; l < (gr_role_table[role].in_block ? c->layers : 1); l++) {
            char path[200];
            gr_role_name(path, sizeof path, role, l);
            (void)gr_regex_matches(m->regex, path);
        }
    if (gr_regex_starved(m->regex)) return gr_no_memory(err, 0);
    if (gr_regex_endless(m->regex)) {
        gr_fail(err, GRAFT_USAGE, "a regular expression takes too many steps");
        return gr_where(err, "%s", m->option);
    }
    while (list && next_item(&list, &item, &len)) {
        char wrong[100];
        if (some_module(c, roles, item, len)) continue;
        snprintf(wrong, sizeof wrong, "%.*s", (int)gr_min_i64((int64_t)len, 99), item);
        return no_module(m, c, wrong, roles, err);
    }
    return GRAFT_OK;
}

bool gr_in_layers(const char *text, int64_t layer, int64_t layers, bool *bad) {
    const char *item;
    size_t len;
    bool found = false;
    while (next_item(&text, &item, &len)) {
        char *end;
        long long first = strtoll(item, &end, 10), last = first;
        if (end == item) *bad = true;
        if (*end == '-') {
            const char *second = end + 1;
            last = strtoll(second, &end, 10);
            if (end == second) *bad = true;
        }
        while (end < item + len && isspace((unsigned char)*end)) end++;
        if (end != item + len || first < 0 || last < first || last >= layers) *bad = true;
        if (layer >= first && layer <= last) found = true;
    }
    return found;
}
