#include "base/name_match.h"
#include "base/nearest.h"
#include "base/number.h"
#include "files/json_read.h"
#include "plan/module_match.h"
#include <jansson.h>
#include <math.h>

typedef struct pattern {
    char *key;
    gr_regex *regex;
    double value;
    bool used;
    const char *shadow; /* the key before it that took a module which it names too; NULL: none did */
} pattern;

/* Matches of more than a thousand steps that all keys may have together: about a second. A file brings as
 * many keys as it likes. */
#define DEAR 5000

struct gr_patterns {
    const char *option;
    int64_t dear; /* of those, still to come */
    pattern *items;
    size_t count, cap;
};

void gr_patterns_free(gr_patterns *p) {
    if (!p) return;
    for (size_t i = 0; i < p->count; i++) {
        free(p->items[i].key);
        gr_regex_free(p->items[i].regex);
    }
    free(p->items);
    free(p);
}

static graft_status malformed(const gr_patterns *p, const char *text, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "a value per module is malformed");
    gr_where(err, "%s", p->option);
    gr_expected(err, "MODULE=NUMBER,.. or a JSON object, numbers above 0, such as q_proj=8,mlp.down_proj=4");
    return gr_found(err, "%s", text);
}

/* source: PEFT 0.21 get_pattern_key: (.*\.)?(KEY)$ */
static graft_status add(gr_patterns *p, const char *key, size_t len, double value, graft_error *err) {
    gr_buf text = {0};
    graft_error unused = {0}; /* of a text that the user has not written so */
    if (!gr_grow((void **)&p->items, &p->cap, p->count, sizeof *p->items)) return gr_no_memory(err, 64);
    pattern *x = &p->items[p->count++];
    *x = (pattern){.key = gr_strndup(key, len), .value = value};
    gr_buf_printf(&text, "(.*\\.)?(%s)", x->key ? x->key : "");
    if (!x->key || text.failed) {
        gr_buf_free(&text);
        return gr_no_memory(err, len);
    }
    graft_status st = gr_regex_new(&x->regex, text.data, text.len, "modules", &unused);
    gr_buf_free(&text);
    if (st == GRAFT_NO_MEMORY) return gr_no_memory(err, len);
    return st == GRAFT_OK ? st : malformed(p, x->key, err);
}

static graft_status parse_list(gr_patterns *p, const char *text, graft_error *err) {
    for (const char *at = text; *at;) {
        const char *equals = strchr(at, '=');
        double value;
        if (!equals || equals == at) return malformed(p, text, err);
        size_t n = strcspn(equals + 1, ",");
        char *number = gr_strndup(equals + 1, n);
        if (!number) return gr_no_memory(err, n);
        bool good = gr_parse_real(number, &value);
        free(number);
        if (!good) return malformed(p, text, err);
        GR_TRY(add(p, at, (size_t)(equals - at), value, err));
        at = equals + 1 + n;
        at += *at == ',';
    }
    return GRAFT_OK;
}

static graft_status parse_object(gr_patterns *p, const char *text, graft_error *err) {
    json_error_t bad;
    json_t *object = gr_json_loadb(text, strlen(text), JSON_REJECT_DUPLICATES, &bad), *value;
    const char *key;
    if (!object && gr_json_no_memory(&bad)) return gr_no_memory(err, strlen(text));
    graft_status st = json_is_object(object) ? GRAFT_OK : malformed(p, text, err);
    if (st == GRAFT_OK) {
        json_object_foreach(object, key, value) {
            st = json_is_number(value) ? add(p, key, strlen(key), json_number_value(value), err)
                                       : malformed(p, key, err);
            if (st != GRAFT_OK) break;
        }
    }
    json_decref(object);
    return st;
}

graft_status gr_patterns_new(gr_patterns **out, const char *text, const char *option, graft_error *err) {
    gr_patterns *p = *out = gr_calloc(1, sizeof *p);
    if (!p) return gr_no_memory(err, sizeof *p);
    p->option = option;
    p->dear = DEAR;
    graft_status st = text[0] == '{' ? parse_object(p, text, err) : parse_list(p, text, err);
    for (size_t i = 0; st == GRAFT_OK && i < p->count; i++)
        if (!isfinite(p->items[i].value) || p->items[i].value <= 0) st = malformed(p, text, err);
    if (st == GRAFT_OK) return GRAFT_OK;
    gr_patterns_free(p);
    *out = NULL;
    return st;
}

double gr_patterns_value(gr_patterns *p, const char *path, double otherwise) {
    const pattern *first = NULL;
    for (size_t i = 0; p && i < p->count; i++) {
        pattern *x = &p->items[i];
        /* the first that matches counts; the others are asked only for the sake of gr_patterns_check */
        if ((first && (x->used || x->shadow)) || !gr_regex_matches_within(x->regex, path, &p->dear)) continue;
        if (first)
            x->shadow = first->key;
        else
            x->used = true, first = x;
    }
    return first ? first->value : otherwise;
}

static graft_status shadowed(const gr_patterns *p, const pattern *x, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "an earlier key takes every module that this one names");
    gr_where(err, "%s", p->option);
    gr_found(err, "%s after %s", x->key, x->shadow);
    return gr_hint(err, "the first key that matches counts: put the narrower one first");
}

graft_status gr_patterns_ended(const gr_patterns *p, graft_error *err) {
    for (size_t i = 0; p && i < p->count; i++) {
        if (gr_regex_starved(p->items[i].regex)) return gr_no_memory(err, 0);
        if (!gr_regex_endless(p->items[i].regex)) continue;
        gr_fail(err, GRAFT_RANGE, "a pattern takes too many steps");
        gr_where(err, "%s", p->option);
        return gr_found(err, "%.100s", p->items[i].key);
    }
    return GRAFT_OK;
}

graft_status gr_patterns_check(const gr_patterns *p, graft_error *err) {
    GR_TRY(gr_patterns_ended(p, err));
    for (size_t i = 0; p && i < p->count; i++) {
        if (p->items[i].used) continue;
        if (p->items[i].shadow) return shadowed(p, &p->items[i], err);
        gr_fail(err, GRAFT_USAGE, "no adapted module has that name");
        gr_where(err, "%s", p->option);
        gr_found(err, "%s", p->items[i].key);
        const char *types[GR_ROLES];
        for (gr_role role = 0; role < GR_ROLES; role++) types[role] = gr_role_table[role].type;
        const char *near = gr_nearest_name(p->items[i].key, types, GR_ROLES);
        if (near && strcmp(near, p->items[i].key) != 0) return gr_hint(err, "did you mean %s?", near);
        return gr_hint(err, "`graft plan --tensors` lists what is adapted");
    }
    return GRAFT_OK;
}
