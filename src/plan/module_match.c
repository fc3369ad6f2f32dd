#define PCRE2_CODE_UNIT_WIDTH 8
#include "plan/module_match.h"
#include "base/nearest.h"
#include <ctype.h>
#include <pcre2.h>
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
    pcre2_code *regex;
    pcre2_match_data *match;
};

/* What a pattern of the user may cost; a path has some 60 letters. */
#define REGEX_STEPS 1000000

static bool regex_matches(const pcre2_code *regex, pcre2_match_data *match, const char *path) {
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    if (limits) pcre2_set_match_limit(limits, REGEX_STEPS);
    int n = pcre2_match(regex, (PCRE2_SPTR)path, PCRE2_ZERO_TERMINATED, 0, 0, match, limits);
    pcre2_match_context_free(limits);
    return n >= 0;
}

static graft_status compile(pcre2_code **regex, pcre2_match_data **match, const char *pattern,
                            const char *option, graft_error *err) {
    int code;
    PCRE2_SIZE at;
    *regex = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                           PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED, &code, &at, NULL);
    if (*regex) *match = pcre2_match_data_create_from_pattern(*regex, NULL);
    if (*regex && *match) return GRAFT_OK;
    char text[120] = "out of memory";
    if (!*regex) pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    gr_fail(err, GRAFT_USAGE, "regular expression of modules: %s", text);
    gr_where(err, "%s", option);
    return gr_found(err, "%s", pattern);
}

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
        st = compile(&m->regex, &m->match, wish + 3, option, err);
    else if (!m->set)
        m->list = wish;
    if (st == GRAFT_OK) return GRAFT_OK;
    gr_matcher_free(m);
    *out = NULL;
    return st;
}

void gr_matcher_free(gr_matcher *m) {
    if (!m) return;
    pcre2_match_data_free(m->match);
    pcre2_code_free(m->regex);
    free(m);
}

static bool name_matches(const char *path, const char *name, size_t len) {
    size_t n = strlen(path);
    return len && n >= len && strncmp(path + n - len, name, len) == 0 &&
           (n == len || path[n - len - 1] == '.');
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
    if (m->regex) return regex_matches(m->regex, m->match, path);
    const char *list = m->list, *item;
    size_t len;
    while (list && next_item(&list, &item, &len))
        if (name_matches(path, item, len)) return true;
    return false;
}

static graft_status no_module(const gr_matcher *m, const char *item, size_t len, unsigned roles,
                              graft_error *err) {
    gr_buf known = {0};
    const char *names[GR_ROLES + 4];
    char wrong[100];
    size_t count = 0;
    snprintf(wrong, sizeof wrong, "%.*s", (int)gr_min_i64((int64_t)len, 99), item);
    for (int i = 0; m->sets && set_table[i].name; i++) names[count++] = set_table[i].name;
    if (m->sets) gr_buf_printf(&known, "standard, extended, full, all-linear, re:REGEX, or of ");
    for (gr_role role = 0, n = 0; role < GR_ROLES; role++) {
        if (!(roles >> role & 1)) continue;
        names[count++] = gr_role_table[role].type;
        gr_buf_printf(&known, "%s%s", n++ ? ", " : "", gr_role_table[role].type);
    }
    gr_fail(err, GRAFT_USAGE, "no module of this model that could be meant has that name");
    gr_where(err, "%s", m->option);
    gr_found(err, "%s", wrong);
    const char *near = gr_nearest_name(wrong, names, count);
    if (near && strcmp(near, wrong) == 0 && strcmp(wrong, gr_role_table[GR_LM_HEAD].type) == 0)
        gr_hint(err, "this model's head is its embedding: name %s", gr_role_table[GR_EMBED_TOKENS].type);
    else if (near && strcmp(near, wrong) != 0)
        gr_hint(err, "did you mean %s?", near);
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
            if (name_matches(path, item, len)) return true;
        }
    }
    return false;
}

graft_status gr_matcher_check(const gr_matcher *m, const gr_model_config *c, unsigned roles,
                              graft_error *err) {
    const char *list = m->list, *item;
    size_t len;
    while (list && next_item(&list, &item, &len))
        if (!some_module(c, roles, item, len)) return no_module(m, item, len, roles, err);
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
