/* tools/analyze.h - what the analyzers, which see one file at a time, have to know of the others. Forced in
 * front of every file by tools/analyze.sh; no build uses it. */
#ifndef GR_TOOLS_ANALYZE_H
#define GR_TOOLS_ANALYZE_H
#include "../src/base/status.h"

/* Whoever reports an error returns one. */
static inline graft_status gr_analyze_error(graft_status status) {
    return status == GRAFT_OK ? GRAFT_INTERNAL : status;
}
#define gr_fail(...)             gr_analyze_error(gr_fail(__VA_ARGS__))
#define gr_fail_errno(...)       gr_analyze_error(gr_fail_errno(__VA_ARGS__))
#define gr_no_memory(err, bytes) gr_analyze_error(gr_no_memory(err, bytes))
#define gr_where(...)            gr_analyze_error(gr_where(__VA_ARGS__))
#define gr_expected(...)         gr_analyze_error(gr_expected(__VA_ARGS__))
#define gr_found(...)            gr_analyze_error(gr_found(__VA_ARGS__))
#define gr_hint(...)             gr_analyze_error(gr_hint(__VA_ARGS__))

#endif
