#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/name_match.h"
#include "base/memory.h"
#include <pcre2.h>

/* What a pattern may cost at one name, of some 60 letters; `.*` on both sides takes hundreds. A file brings
 * as many patterns as it likes, so one that takes more is not tried again. */
#define REGEX_STEPS  20000
#define REGEX_FEW    1000
#define REGEX_LENGTH 4096

struct gr_regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    bool endless, starved;
};

bool gr_name_ends(const char *name, const char *suffix, size_t len) {
    size_t n = strlen(name);
    return len && n >= len && strncmp(name + n - len, suffix, len) == 0 &&
           (n == len || name[n - len - 1] == '.');
}

graft_status gr_regex_new(gr_regex **out, const char *pattern, size_t len, const char *of, graft_error *err) {
    gr_regex *r = *out = gr_calloc(1, sizeof *r);
    char text[120] = "";
    int code;
    PCRE2_SIZE at;
    if (!r) return gr_no_memory(err, sizeof *r);
    if (len > REGEX_LENGTH) {
        gr_regex_free(r);
        *out = NULL;
        return gr_fail(err, GRAFT_USAGE, "regular expression of %s: longer than %d bytes", of, REGEX_LENGTH);
    }
    r->code = pcre2_compile((PCRE2_SPTR)pattern, len, PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED, &code,
                            &at, NULL);
    if (r->code) {
        r->match = pcre2_match_data_create_from_pattern(r->code, NULL);
        r->limits = pcre2_match_context_create(NULL);
    } else if (code != PCRE2_ERROR_HEAP_FAILED) {
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    }
    if (r->match && r->limits) return GRAFT_OK;
    gr_regex_free(r);
    *out = NULL;
    if (!text[0]) return gr_no_memory(err, len);
    return gr_fail(err, GRAFT_USAGE, "regular expression of %s: %s", of, text);
}

static int match(gr_regex *r, const char *name, uint32_t steps) {
    pcre2_set_match_limit(r->limits, steps);
    return pcre2_match(r->code, (PCRE2_SPTR)name, PCRE2_ZERO_TERMINATED, 0, 0, r->match, r->limits);
}

bool gr_regex_matches(gr_regex *r, const char *name) {
    int64_t dear = 1;
    return gr_regex_matches_within(r, name, &dear);
}

bool gr_regex_matches_within(gr_regex *r, const char *name, int64_t *dear) {
    if (r->endless || r->starved) return false;
    int rc = match(r, name, REGEX_FEW);
    if (rc == PCRE2_ERROR_MATCHLIMIT && *dear > 0) {
        --*dear;
        rc = match(r, name, REGEX_STEPS);
    }
    r->starved = rc == PCRE2_ERROR_NOMEMORY;
    r->endless = rc < 0 && rc != PCRE2_ERROR_NOMATCH && !r->starved;
    return rc >= 0;
}

bool gr_regex_endless(const gr_regex *r) {
    return r && r->endless;
}

bool gr_regex_starved(const gr_regex *r) {
    return r && r->starved;
}

void gr_regex_free(gr_regex *r) {
    if (!r) return;
    pcre2_match_data_free(r->match);
    pcre2_match_context_free(r->limits);
    pcre2_code_free(r->code);
    free(r);
}
