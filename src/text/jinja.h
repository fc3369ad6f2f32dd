/* text/jinja.h - a small Jinja interpreter that renders chat templates as transformers does
 * (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls, the generation tag).
 * What it does: template source + JSON values -> text. May include: base, jansson. Never: tokens, files.
 */
#ifndef GR_TEXT_JINJA_H
#define GR_TEXT_JINJA_H
#include "base/memory.h"
#include <jansson.h>

typedef struct gr_jinja gr_jinja;
/* Parses; an error names the line of the template. Owned by caller until gr_jinja_free. */
graft_status gr_jinja_parse(gr_jinja **tmpl, const char *source, size_t len, graft_error *err) GR_MUST_CHECK;
void gr_jinja_free(gr_jinja *tmpl);
bool gr_jinja_has_generation(const gr_jinja *tmpl); /* contains {% generation %} */

typedef struct gr_span {
    size_t start, end; /* bytes of the rendered text */
} gr_span;

#define GR_JINJA_TAGS 126
typedef struct gr_jinja_result {
    gr_buf text;
    gr_span *generation; /* what {% generation %} blocks produced, in order */
    size_t ngeneration, cap;
    uint8_t *from_data; /* text.len bytes: 1 where the byte came from a string nested in a variable; NULL:
                           none did */
    uint64_t steps;     /* what it took */
} gr_jinja_result;
void gr_jinja_result_free(gr_jinja_result *result);

/* Text, generation spans (of neighbouring blocks one span) and from_data are owned by caller until
 * gr_jinja_result_free. Strings that stand inside a variable's lists and objects are data, messages and tools
 * for example; plain string variables (bos_token) belong to the template. Where a byte came from is kept
 * through concatenation, slices, strip, replace, case, join and tojson; other functions count as the
 * template's. Renders with the members of the JSON object `variables` as globals. `now` (seconds since the
 * epoch, local time) is what strftime_now formats. raise_exception ends in GRAFT_CORRUPT with the template's
 * message. Steps, depth and output size are bounded: a template cannot loop for ever (GRAFT_RANGE). */
graft_status gr_jinja_render(const gr_jinja *tmpl, const json_t *variables, int64_t now, gr_jinja_result *out,
                             graft_error *err) GR_MUST_CHECK;

#endif
