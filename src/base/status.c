#include "base/status.h"
#include "base/number.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *graft_status_text(graft_status status) {
    switch (status) {
#define X(name, number, text)                                                                                \
    case GRAFT_##name: return text;
        GRAFT_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

graft_status gr_fail(graft_error *err, graft_status status, const char *what, ...) {
    if (err && err->status == GRAFT_OK) {
        va_list ap;
        gr_error_clear(err);
        err->status = status;
        va_start(ap, what);
        gr_vformat(err->what, sizeof err->what, what, ap);
        va_end(ap);
    }
    return status;
}

/* Fills one detail once. */
#define DETAIL(name, field)                                                                                  \
    graft_status name(graft_error *err, const char *fmt, ...) {                                              \
        if (!err) return GRAFT_INTERNAL;                                                                     \
        if (!err->field[0]) {                                                                                \
            va_list ap;                                                                                      \
            va_start(ap, fmt);                                                                               \
            gr_vformat(err->field, sizeof err->field, fmt, ap);                                              \
            va_end(ap);                                                                                      \
        }                                                                                                    \
        return err->status;                                                                                  \
    }
DETAIL(gr_where, where)
DETAIL(gr_expected, expected)
DETAIL(gr_found, found)
DETAIL(gr_hint, hint)

graft_status gr_no_memory(graft_error *err, size_t bytes) {
    return gr_fail(err, GRAFT_NO_MEMORY, "could not allocate %zu bytes", bytes);
}

graft_status gr_fail_errno(graft_error *err, int os_errno, const char *what, const char *path) {
    graft_status status = os_errno == ENOENT ? GRAFT_NOT_FOUND : GRAFT_IO;
    if (os_errno == ENOMEM) status = GRAFT_NO_MEMORY;
    gr_fail(err, status, "%s: %s", what, strerror(os_errno));
    if (path) gr_where(err, "%s", path);
    return status;
}

void gr_error_clear(graft_error *err) {
    if (err) memset(err, 0, sizeof *err);
}
