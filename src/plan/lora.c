#define PCRE2_CODE_UNIT_WIDTH 8
#include "plan/lora.h"
#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>

const gr_group_row gr_group_table[GR_GROUPS] = {
    {3, {GR_Q_PROJ, GR_K_PROJ, GR_V_PROJ}},
    {1, {GR_O_PROJ}},
    {2, {GR_GATE_PROJ, GR_UP_PROJ}},
    {1, {GR_DOWN_PROJ}},
};

static const struct {
    const char *name;
    unsigned bit;
} set_table[] = {{"standard", GR_SET_STANDARD},
                 {"extended", GR_SET_EXTENDED},
                 {"full", GR_SET_FULL},
                 {"all-linear", GR_SET_ALL_LINEAR},
                 {0}};

/* A wish for modules: a set, a list of names, or a regular expression. */
typedef struct matcher {
    unsigned set;
    const char *list; /* comma-separated */
    pcre2_code *regex;
    pcre2_match_data *match;
} matcher;

static void matcher_free(matcher *m) {
    pcre2_match_data_free(m->match);
    pcre2_code_free(m->regex);
}

static graft_status matcher_init(matcher *m, const char *wish, graft_error *err) {
    memset(m, 0, sizeof *m);
    for (int i = 0; set_table[i].name; i++)
        if (strcmp(wish, set_table[i].name) == 0) m->set = set_table[i].bit;
    if (m->set) return GRAFT_OK;
    if (strncmp(wish, "re:", 3) != 0) {
        m->list = wish;
        return GRAFT_OK;
    }
    int code;
    PCRE2_SIZE at;
    m->regex = pcre2_compile((PCRE2_SPTR)wish + 3, PCRE2_ZERO_TERMINATED,
                             PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED, &code, &at, NULL);
    if (m->regex) m->match = pcre2_match_data_create_from_pattern(m->regex, NULL);
    if (m->match) return GRAFT_OK;
    char text[120] = "out of memory";
    if (!m->regex) pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    gr_fail(err, GRAFT_USAGE, "regular expression of modules: %s", text);
    return gr_found(err, "%s", wish + 3);
}

/* PEFT: a name matches when the module's path is it, or ends in "." and it. */
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

static bool matches(const matcher *m, gr_role role, const char *path) {
    if (m->set) return gr_role_table[role].lora_sets & m->set;
    if (m->regex)
        return pcre2_match(m->regex, (PCRE2_SPTR)path, PCRE2_ZERO_TERMINATED, 0, 0, m->match, NULL) >= 0;
    const char *list = m->list, *item;
    size_t len;
    while (list && next_item(&list, &item, &len))
        if (name_matches(path, item, len)) return true;
    return false;
}

static graft_status no_module(const char *option, const char *item, size_t len, graft_error *err) {
    gr_buf known = {0};
    for (gr_role role = 0; role < GR_LINEARS; role++)
        gr_buf_printf(&known, "%s%s", role ? ", " : "", gr_role_table[role].type);
    gr_fail(err, GRAFT_USAGE, "no linear of this model has that name");
    gr_where(err, "%s", option);
    gr_found(err, "%.*s", (int)gr_min_i64((int64_t)len, 100), item);
    graft_status st = gr_expected(err, "standard, extended, full, all-linear, re:REGEX, or of %s",
                                  known.data ? known.data : "");
    gr_buf_free(&known);
    return st;
}

/* Every name of a list must match some linear of the model. */
static graft_status check_names(const matcher *m, const char *option, const gr_model_config *c,
                                graft_error *err) {
    bool excluded = strcmp(option, "--exclude-modules") == 0;
    const char *list = m->list, *item;
    size_t len;
    while (list && next_item(&list, &item, &len)) {
        /* leaving out what is never adapted is no mistake: PEFT users write it */
        bool found =
            excluded && (name_matches("model.embed_tokens", item, len) || name_matches("lm_head", item, len));
        for (int64_t l = 0; l < c->layers && !found; l++)
            for (gr_role role = 0; role < GR_LINEARS && !found; role++) {
                char path[200];
                gr_role_name(path, sizeof path, role, l);
                found = name_matches(path, item, len);
            }
        if (!found) return no_module(option, item, len, err);
    }
    return GRAFT_OK;
}

/* "0,1,5-7" contains `layer`? *bad is set when the text is malformed or beyond the model. */
static bool in_layers(const char *text, int64_t layer, int64_t layers, bool *bad) {
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

/* Marks the adapted linears with their rank. */
static graft_status decide(gr_lora *lora, const gr_model_config *c, const gr_lora_request *r,
                           const matcher *want, const matcher *without, graft_error *err) {
    bool bad = false;
    for (int64_t l = 0; l < c->layers; l++) {
        bool layer = r->num_layers <= 0 || l >= c->layers - r->num_layers;
        if (r->layers && !in_layers(r->layers, l, c->layers, &bad)) layer = false;
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            char path[200];
            gr_role_name(path, sizeof path, role, l);
            if (!layer || !matches(want, role, path) || (without && matches(without, role, path))) continue;
            lora->linear[l][role].rank = r->rank;
            lora->adapted++;
            if (lora->adapted == 1) lora->lowest = l;
        }
    }
    if (bad) {
        gr_fail(err, GRAFT_USAGE, "--layers-to-transform is not a list of this model's layers");
        gr_expected(err, "numbers and ranges from 0 to %lld, such as 0,1,5-7", (long long)c->layers - 1);
        return gr_found(err, "%s", r->layers);
    }
    if (lora->adapted) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "the selection adapts nothing");
    gr_where(err, "--lora-targets %s%s%s", r->targets, r->exclude ? " --exclude-modules " : "",
             r->exclude ? r->exclude : "");
    return gr_hint(err, "try --lora-targets extended, and `graft plan` to see what is adapted");
}

/* Per layer and group: the A matrices one after another, then the B matrices. */
static void lay_out(gr_lora *lora, const gr_model_config *c) {
    for (int64_t l = 0; l < c->layers; l++)
        for (int g = 0; g < GR_GROUPS; g++) {
            const gr_group_row *group = &gr_group_table[g];
            int64_t out, in;
            for (int pass = 0; pass < 2; pass++)
                for (int i = 0; i < group->count; i++) {
                    gr_lora_linear *x = &lora->linear[l][group->role[i]];
                    gr_role_shape(group->role[i], c, &out, &in);
                    *(pass ? &x->b : &x->a) = lora->parameters;
                    lora->parameters += x->rank * (pass ? out : in);
                }
        }
}

graft_status gr_lora_select(gr_lora **out, const gr_model_config *c, const gr_lora_request *r,
                            graft_error *err) {
    matcher want = {0}, without = {0};
    gr_lora *lora = gr_calloc(1, sizeof *lora);
    *out = NULL;
    if (!lora || !(lora->linear = gr_calloc((size_t)c->layers, sizeof *lora->linear))) {
        gr_lora_free(lora);
        return gr_no_memory(err, sizeof *lora);
    }
    lora->layers = c->layers;
    lora->rank = r->rank;
    lora->scale = r->scale;
    lora->alpha = r->alpha;
    graft_status st = GRAFT_OK;
    if (r->num_layers > c->layers) {
        gr_fail(err, GRAFT_USAGE, "--num-layers is more than the model has");
        gr_expected(err, "at most %lld, or -1 for all", (long long)c->layers);
        st = gr_found(err, "%lld", (long long)r->num_layers);
    }
    if (st == GRAFT_OK) st = matcher_init(&want, r->targets, err);
    if (st == GRAFT_OK && r->exclude) st = matcher_init(&without, r->exclude, err);
    if (st == GRAFT_OK) st = check_names(&want, "--lora-targets", c, err);
    if (st == GRAFT_OK && r->exclude) st = check_names(&without, "--exclude-modules", c, err);
    if (st == GRAFT_OK) st = decide(lora, c, r, &want, r->exclude ? &without : NULL, err);
    matcher_free(&want);
    matcher_free(&without);
    if (st != GRAFT_OK) {
        gr_lora_free(lora);
        return st;
    }
    lay_out(lora, c);
    *out = lora;
    return GRAFT_OK;
}

graft_status gr_lora_from_ranks(gr_lora **out, const gr_model_config *c, const int64_t *ranks, double scale,
                                graft_error *err) {
    gr_lora *lora = gr_calloc(1, sizeof *lora);
    *out = NULL;
    if (!lora || !(lora->linear = gr_calloc((size_t)c->layers, sizeof *lora->linear))) {
        gr_lora_free(lora);
        return gr_no_memory(err, sizeof *lora);
    }
    lora->layers = c->layers;
    lora->scale = scale;
    for (int64_t l = 0; l < c->layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            int64_t rank = ranks[l * GR_LINEARS + role];
            lora->linear[l][role].rank = rank;
            if (!rank) continue;
            if (lora->adapted++ == 0) lora->lowest = l;
            lora->rank = gr_max_i64(lora->rank, rank);
        }
    lora->alpha = scale * (double)lora->rank;
    lay_out(lora, c);
    *out = lora;
    return GRAFT_OK;
}

void gr_lora_free(gr_lora *lora) {
    if (!lora) return;
    free(lora->linear);
    free(lora);
}

int64_t gr_lora_group(const gr_lora *lora, int64_t layer, int group, int64_t *a) {
    const gr_group_row *row = &gr_group_table[group];
    int64_t sum = 0;
    *a = lora->linear[layer][row->role[0]].a;
    for (int i = 0; i < row->count; i++) sum += lora->linear[layer][row->role[i]].rank;
    return sum;
}
