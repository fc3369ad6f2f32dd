#include "base/number.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "options/options.h"
#include <ctype.h>
#include <errno.h>
#include <jansson.h>

static void *field(const graft_options *o, const gr_option_row *row) {
    return (char *)o + row->offset;
}

static bool parse_uint(const char *text, uint64_t *value) {
    if (!isdigit((unsigned char)*text)) return false;
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0;
}

graft_status gr_parse_size(uint64_t *bytes, const char *text, graft_error *err) {
    size_t digits = strspn(text, "0123456789.");
    const char *unit = text + digits;
    double number = 0, base = 1000, factor = 1;
    char *copy = gr_strndup(text, digits);
    if (!copy) return gr_no_memory(err, digits);
    bool good = gr_parse_real(copy, &number);
    free(copy);
    while (*unit == ' ') unit++;
    const char *prefixes = "kmgt", *prefix = *unit ? strchr(prefixes, tolower((unsigned char)*unit)) : NULL;
    if (prefix) {
        unit++;
        if (*unit == 'i') {
            base = 1024;
            unit++;
        }
        for (const char *p = prefixes; p <= prefix; p++) factor *= base;
    }
    if (*unit == 'b' || *unit == 'B') unit++;
    number *= factor;
    if (good && *unit == '\0' && number >= 1 && number < 0x1p63) {
        *bytes = (uint64_t)number;
        return GRAFT_OK;
    }
    gr_fail(err, GRAFT_USAGE, "not a size in bytes");
    gr_expected(err, "a number with a unit, e.g. 500MB or 2GiB");
    return gr_found(err, "%s", text);
}

#define EVERY_MANY 1e15 /* as the table's MANY */

graft_status gr_parse_every(int64_t *iterations, double *seconds, const char *text, graft_error *err) {
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"s", 1}, {"m", 60}, {"h", 3600}};
    *iterations = 0;
    *seconds = 0;
    if (gr_parse_int(text, iterations) && *iterations >= 1 && (double)*iterations <= EVERY_MANY)
        return GRAFT_OK;
    *iterations = 0;
    size_t digits = strspn(text, "0123456789.");
    char *number = gr_strndup(text, digits);
    if (!number) return gr_no_memory(err, digits);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(text + digits, units[i].unit) == 0 && gr_parse_real(number, seconds))
            *seconds *= units[i].seconds;
    free(number);
    if (*seconds > 0 && *seconds <= EVERY_MANY) return GRAFT_OK;
    *seconds = 0;
    gr_fail(err, GRAFT_USAGE, "neither a number of iterations nor a time");
    gr_expected(err, "a whole number, at least 1, or a time such as 90s, 10m or 2h");
    return gr_found(err, "%s", text);
}

/* A value that is nearly one of the list. */
static void hint_choice(const char *choices, const char *text, graft_error *err) {
    char *copy = gr_strdup(choices), *rest = NULL;
    const char *names[32];
    size_t count = 0;
    for (char *at = copy ? strtok_r(copy, ", ", &rest) : NULL; at && count < 32;
         at = strtok_r(NULL, ", ", &rest))
        names[count++] = at;
    const char *near = gr_nearest_name(text, names, count);
    if (near) gr_hint(err, "did you mean %s?", near);
    free(copy);
}

static graft_status wrong(const gr_option_row *row, const char *called, const char *text, graft_error *err) {
    const graft_option *shown = &row->shown;
    gr_fail(err, GRAFT_USAGE, "%s does not take this value", called);
    switch (row->kind) {
    case GR_OPTION_SWITCH: gr_expected(err, "true or false"); break;
    case GR_OPTION_CHOICE:
        gr_expected(err, "one of %s", shown->choices);
        hint_choice(shown->choices, text, err);
        break;
    case GR_OPTION_REAL:
        if (shown->max >= 1e6)
            gr_expected(err, "a number, at least %g", shown->min);
        else
            gr_expected(err, "a number from %g to %g", shown->min, shown->max);
        break;
    default:
        if (shown->max >= 1e15)
            gr_expected(err, "a whole number, at least %.0f", shown->min);
        else
            gr_expected(err, "a whole number from %.0f to %.0f", shown->min, shown->max);
    }
    return gr_found(err, "%s", text);
}

static bool is_choice(const char *choices, const char *text) {
    size_t n = strlen(text);
    for (const char *p = choices; n && *p;) {
        size_t len = strcspn(p, ",");
        if (len == n && memcmp(p, text, n) == 0) return true;
        p += len;
        p += strspn(p, ", ");
    }
    return false;
}

static bool parse_switch(const char *text, bool *value) {
    *value = strcmp(text, "true") == 0;
    return *value || strcmp(text, "false") == 0;
}

static bool in_range(const graft_option *shown, double value) {
    return value >= shown->min && value <= shown->max;
}

static graft_status store_text(graft_options *o, const gr_option_row *row, const char *text,
                               graft_error *err) {
    char *copy = gr_strdup(text), **at = field(o, row);
    if (!copy) return gr_no_memory(err, strlen(text) + 1);
    free(*at);
    *at = copy;
    return GRAFT_OK;
}

/* Adds one string to the array. */
static graft_status store_member(graft_options *o, const gr_option_row *row, const char *text,
                                 const char *called, graft_error *err) {
    char **at = field(o, row);
    json_error_t why;
    json_t *list = *at ? gr_json_loadb(*at, strlen(*at), JSON_REJECT_DUPLICATES, &why) : json_array();
    json_t *member = json_string(text); /* NULL for what is not UTF-8 */
    char *printed = NULL;
    graft_status st = GRAFT_OK;
    if (!text[0] || !gr_json_utf8(text)) {
        gr_fail(err, GRAFT_USAGE, "%s does not take this value", called);
        gr_expected(err, "text in UTF-8 that is not empty");
        st = gr_found(err, "%s", text);
    } else if (*at && (list ? !json_is_array(list) : !gr_json_no_memory(&why))) {
        st = gr_fail(err, GRAFT_USAGE, "%s holds no JSON array to add to", called);
    } else if (!list || !member || json_array_append(list, member) != 0 ||
               !(printed = gr_json_dump(list, JSON_COMPACT))) {
        st = gr_no_memory(err, strlen(text));
    }
    json_decref(member);
    json_decref(list);
    if (st != GRAFT_OK) return st;
    free(*at);
    *at = printed;
    return GRAFT_OK;
}

static graft_status store_object(graft_options *o, const gr_option_row *row, const char *text,
                                 const char *called, graft_error *err) {
    json_t *value = NULL;
    graft_error own = {0};
    char **at = field(o, row);
    graft_status st = gr_json_parse(&value, text, strlen(text), called, &own);
    if (st == GRAFT_NO_MEMORY) return gr_no_memory(err, strlen(text));
    if (st != GRAFT_OK || !json_is_object(value)) {
        gr_fail(err, GRAFT_USAGE, "%s does not take this value", called);
        gr_expected(err, "a JSON object such as {\"enable_thinking\": false}");
        gr_found(err, "%.200s%s%.100s", text, st != GRAFT_OK ? ": " : "", own.what);
        json_decref(value);
        return GRAFT_USAGE;
    }
    char *printed = gr_json_dump(value, JSON_COMPACT);
    json_decref(value);
    if (!printed) return gr_no_memory(err, strlen(text));
    free(*at);
    *at = printed;
    return GRAFT_OK;
}

graft_status gr_option_store(graft_options *o, const gr_option_row *row, const char *text, const char *called,
                             graft_error *err) {
    const graft_option *shown = &row->shown;
    int64_t whole;
    uint64_t natural;
    double real;
    bool on;
    graft_status st;
    switch (row->kind) {
    case GR_OPTION_CHOICE:
        if (!is_choice(shown->choices, text)) return wrong(row, called, text, err);
        return store_text(o, row, text, err);
    case GR_OPTION_SIZE:
    case GR_OPTION_EVERY:
        st = row->kind == GR_OPTION_SIZE ? gr_parse_size(&natural, text, err)
                                         : gr_parse_every(&whole, &real, text, err);
        if (st != GRAFT_OK) return gr_where(err, "%s", called);
        return store_text(o, row, text, err);
    case GR_OPTION_LIST: return store_member(o, row, text, called, err);
    case GR_OPTION_JSON: return store_object(o, row, text, called, err);
    case GR_OPTION_SWITCH:
        if (!parse_switch(text, &on)) return wrong(row, called, text, err);
        *(bool *)field(o, row) = on;
        return GRAFT_OK;
    case GR_OPTION_INT:
    case GR_OPTION_INT32:
        if (!gr_parse_int(text, &whole) || !in_range(shown, (double)whole))
            return wrong(row, called, text, err);
        if (row->kind == GR_OPTION_INT)
            *(int64_t *)field(o, row) = whole;
        else
            *(int *)field(o, row) = (int)whole;
        return GRAFT_OK;
    case GR_OPTION_UINT:
        if (!parse_uint(text, &natural)) return wrong(row, called, text, err);
        *(uint64_t *)field(o, row) = natural;
        return GRAFT_OK;
    case GR_OPTION_REAL:
        if (!gr_parse_real(text, &real) || !in_range(shown, real)) return wrong(row, called, text, err);
        *(double *)field(o, row) = real;
        return GRAFT_OK;
    case GR_OPTION_TEXT:
    case GR_OPTION_CONFIG: break;
    }
    return store_text(o, row, text, err);
}

bool gr_option_reset(graft_options *o, const gr_option_row *row) {
    const char *fallback = row->shown.fallback;
    switch (row->kind) {
    case GR_OPTION_SWITCH: *(bool *)field(o, row) = false; return true;
    case GR_OPTION_REAL: *(double *)field(o, row) = NAN; break;
    case GR_OPTION_TEXT:
    case GR_OPTION_CHOICE:
    case GR_OPTION_LIST:
    case GR_OPTION_JSON:
    case GR_OPTION_SIZE:
    case GR_OPTION_EVERY:
    case GR_OPTION_CONFIG: {
        char **at = field(o, row);
        free(*at);
        *at = NULL;
        break;
    }
    default: break;
    }
    return !fallback[0] || gr_option_store(o, row, fallback, "the default", NULL) == GRAFT_OK;
}

void gr_option_print(const graft_options *o, const gr_option_row *row, gr_buf *out) {
    const void *at = field(o, row);
    char text[32];
    switch (row->kind) {
    case GR_OPTION_SWITCH: gr_buf_puts(out, *(const bool *)at ? "true" : "false"); break;
    case GR_OPTION_INT: gr_buf_printf(out, "%lld", (long long)*(const int64_t *)at); break;
    case GR_OPTION_INT32: gr_buf_printf(out, "%d", *(const int *)at); break;
    case GR_OPTION_UINT: gr_buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)at); break;
    case GR_OPTION_REAL:
        if (isnan(*(const double *)at)) break;
        gr_real_text(text, *(const double *)at);
        gr_buf_puts(out, text);
        break;
    default:
        if (*(char *const *)at) gr_buf_puts(out, *(char *const *)at);
    }
}
