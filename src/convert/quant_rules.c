#include "convert/quant_rules.h"
#include "base/name_match.h"
#include "base/nearest.h"
#include "model/roles.h"
#include "weights/affine.h"
#include <stdio.h>

typedef struct rule {
    char *text; /* as the user wrote it */
    char *name; /* NULL: regex */
    gr_regex *regex;
    bool quantize, used;
    int bits, group;
} rule;

struct gr_quant_rules {
    rule *rules;
    size_t count, cap;
    int bits, group;
    int low, high; /* the recipe's bits, 0: none */
    bool down;     /* it has met a module that it is made for */
};

/* mlx-lm's. source: mlx_lm.convert.mixed_quant_predicate_builder of mlx-lm 0.32 */
static const struct {
    const char *name;
    int low, high;
} recipes[] = {{"mixed_2_6", 2, 6}, {"mixed_3_4", 3, 4}, {"mixed_3_6", 3, 6}, {"mixed_4_6", 4, 6}};
#define RECIPES (sizeof recipes / sizeof *recipes)

/* ---- reading */

static graft_status not_understood(const char *item, size_t len, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "this part of quant-predicate is not understood");
    gr_expected(err,
                "mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6; NAME=BITS[:GROUP], re:REGEX=BITS[:GROUP], or "
                "false instead of numbers");
    return gr_found(err, "%.*s", (int)(len < 200 ? len : 200), item);
}

/* Reads digits at *at, at most three; -1 when there are none. */
static int digits(const char **at) {
    int n = 0, count = 0;
    for (; **at >= '0' && **at <= '9' && count < 3; ++*at, count++) n = n * 10 + (**at - '0');
    return count ? n : -1;
}

/* Reads =BITS, =BITS:GROUP or =false at `at`; NULL unless the item ends behind it. group is untouched where
 * none is given. */
static const char *read_value(const char *at, bool *quantize, int *bits, int *group) {
    if (*at++ != '=') return NULL;
    *quantize = strncmp(at, "false", 5) != 0;
    if (!*quantize) {
        at += 5;
    } else {
        if ((*bits = digits(&at)) < 0) return NULL;
        if (*at == ':' && (at++, *group = digits(&at)) < 0) return NULL;
    }
    return !*at || *at == ',' || *at == ';' ? at : NULL;
}

/* The item from `item` whose value starts at `value` and ends at `end`. */
static graft_status add_rule(gr_quant_rules *r, const char *item, const char *value, const char *end,
                             rule found, graft_error *err) {
    if (!gr_grow((void **)&r->rules, &r->cap, r->count, sizeof *r->rules))
        return gr_no_memory(err, sizeof found);
    rule *x = &r->rules[r->count++];
    *x = found;
    if (!(x->text = gr_strndup(item, (size_t)(end - item)))) return gr_no_memory(err, 64);
    if (x->quantize && !gr_affine_valid(x->bits, x->group)) {
        gr_fail(err, GRAFT_USAGE, "bits and group size of a rule of quant-predicate");
        gr_expected(err, "bits 2, 3, 4, 5, 6 or 8; group size 32, 64 or 128");
        return gr_found(err, "%s", x->text);
    }
    if (strncmp(item, "re:", 3) == 0) {
        graft_status st =
            gr_regex_new(&x->regex, item + 3, (size_t)(value - item) - 3, "quant-predicate", err);
        return st == GRAFT_USAGE ? gr_found(err, "%s", x->text) : st;
    }
    if (strcspn(item, " =,;") < (size_t)(value - item)) return not_understood(item, strlen(item), err);
    x->name = gr_strndup(item, (size_t)(value - item));
    return x->name ? GRAFT_OK : gr_no_memory(err, 64);
}

/* An item ends at the first value that a separator or the end follows: a regex may hold commas and =. */
static graft_status read_item(gr_quant_rules *r, const char **at, graft_error *err) {
    const char *item = *at;
    rule found = {.group = r->group};
    for (const char *p = item; *p; p++) {
        const char *end = read_value(p, &found.quantize, &found.bits, &found.group);
        if (!end || p == item) continue;
        *at = end;
        return add_rule(r, item, p, end, found, err);
    }
    return not_understood(item, strlen(item), err);
}

static bool read_recipe(gr_quant_rules *r, const char **at) {
    for (size_t i = 0; i < RECIPES; i++) {
        size_t len = strlen(recipes[i].name);
        char next = strncmp(*at, recipes[i].name, len) == 0 ? (*at)[len] : 'x';
        if (next && next != ',' && next != ';') continue;
        r->low = recipes[i].low;
        r->high = recipes[i].high;
        *at += len;
        return true;
    }
    return false;
}

static graft_status read_all(gr_quant_rules *r, const char *text, graft_error *err) {
    const char *at = text;
    if (!read_recipe(r, &at)) GR_TRY(read_item(r, &at, err));
    while (*at) {
        for (at++; *at == ' ' || *at == '\n';) at++;
        GR_TRY(read_item(r, &at, err));
    }
    return GRAFT_OK;
}

graft_status gr_quant_rules_new(gr_quant_rules **out, const char *predicate, int bits, int group,
                                graft_error *err) {
    gr_quant_rules *r = *out = gr_calloc(1, sizeof *r);
    if (!r) return gr_no_memory(err, sizeof *r);
    r->bits = bits;
    r->group = group;
    graft_status st = predicate ? read_all(r, predicate, err) : GRAFT_OK;
    if (st == GRAFT_OK) return st;
    gr_quant_rules_free(r);
    *out = NULL;
    return st;
}

void gr_quant_rules_free(gr_quant_rules *r) {
    if (!r) return;
    for (size_t i = 0; i < r->count; i++) {
        free(r->rules[i].text);
        free(r->rules[i].name);
        gr_regex_free(r->rules[i].regex);
    }
    free(r->rules);
    free(r);
}

/* ---- choosing */

static bool matches(const rule *x, const char *path) {
    return x->regex ? gr_regex_matches(x->regex, path) : gr_name_ends(path, x->name, strlen(x->name));
}

/* The number behind "model.layers."; 0 for modules outside blocks, as mlx-lm takes them. */
static int64_t block_of(const char *path) {
    static const char prefix[] = "model.layers.";
    int64_t n = 0;
    if (strncmp(path, prefix, sizeof prefix - 1) != 0) return 0;
    for (path += sizeof prefix - 1; *path >= '0' && *path <= '9' && n < 1 << 20; path++)
        n = n * 10 + (*path - '0');
    return n;
}

/* The first and last eighth of the blocks, and every third between them, keep more bits where it helps most.
 */
static int recipe_bits(gr_quant_rules *r, const char *path, int64_t layers) {
    int64_t block = block_of(path), eighth = layers / 8;
    bool more = block < eighth || block >= 7 * layers / 8 || (block - eighth) % 3 == 2;
    bool down = strstr(path, "down_proj");
    bool high = (more && (strstr(path, "v_proj") || down)) || strstr(path, "lm_head");
    r->down |= down;
    return high ? r->high : r->low;
}

gr_quant_choice gr_quant_rules_choose(gr_quant_rules *r, const char *path, bool policy, int64_t layers) {
    for (size_t i = 0; i < r->count; i++) {
        rule *x = &r->rules[i];
        if (!matches(x, path)) continue;
        x->used = true;
        return (gr_quant_choice){x->quantize, true, x->bits, x->group};
    }
    int bits = r->low ? recipe_bits(r, path, layers) : r->bits;
    return (gr_quant_choice){policy, policy && r->low, bits, r->group};
}

const char *gr_quant_rules_refusal(const gr_quant_rules *r) {
    for (size_t i = 0; i < r->count; i++)
        if (r->rules[i].used && !r->rules[i].quantize) return r->rules[i].text;
    return NULL;
}

bool gr_quant_rules_mixed(const gr_quant_rules *r) {
    return r->low != 0;
}

/* "names are q_proj, .. lm_head" of the table of roles: all that are matrices. Experts' are among the
 * others'. */
static graft_status hint_names(graft_error *err) {
    gr_buf names = {0};
    for (gr_role role = 0; role <= GR_LM_HEAD; role++)
        if (!gr_role_expert(role)) gr_buf_printf(&names, "%s%s", role ? ", " : "", gr_role_table[role].type);
    graft_status st = gr_hint(err, "names are %s; re: needs the whole path", names.data ? names.data : "");
    gr_buf_free(&names);
    return st;
}

/* mlx-lm refuses it as well. */
static graft_status no_recipe(graft_error *err) {
    gr_fail(err, GRAFT_UNSUPPORTED,
            "a mixed recipe is made for models with down_proj, and this one has none");
    return gr_hint(err, "give rules, as in --quant-predicate c_proj=6");
}

graft_status gr_quant_rules_used(const gr_quant_rules *r, graft_error *err) {
    size_t i = 0;
    for (size_t k = 0; k < r->count; k++) {
        if (gr_regex_starved(r->rules[k].regex)) return gr_no_memory(err, 0);
        if (!gr_regex_endless(r->rules[k].regex)) continue;
        gr_fail(err, GRAFT_USAGE, "a rule of quant-predicate takes too many steps");
        return gr_found(err, "%s", r->rules[k].text);
    }
    if (r->low && !r->down) return no_recipe(err);
    while (i < r->count && r->rules[i].used) i++;
    if (i == r->count) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE,
            "a rule of quant-predicate matches no matrix that an earlier rule has not taken");
    gr_found(err, "%s", r->rules[i].text);
    const char *names[GR_ROLES], *name = r->rules[i].name, *dot = name ? strrchr(name, '.') : NULL;
    for (int role = 0; role < GR_ROLES; role++)
        names[role] = role <= GR_LM_HEAD ? gr_role_table[role].type : NULL;
    const char *near = name ? gr_nearest_name(dot ? dot + 1 : name, names, GR_ROLES) : NULL;
    if (near && strcmp(near, dot ? dot + 1 : name) != 0) return gr_hint(err, "did you mean %s?", near);
    return hint_names(err);
}
