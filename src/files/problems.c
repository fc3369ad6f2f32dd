#include "files/problems.h"
#include "base/number.h"
#include <stdarg.h>
#include <stdio.h>

/* More than this would not fit the error struct; the count says how many there are. */
#define LISTED 4

void gr_problems_add(gr_problems *problems, graft_status status, const char *fmt, ...) {
    char text[sizeof problems->text];
    va_list ap;
    va_start(ap, fmt);
    gr_vformat(text, sizeof text, fmt, ap);
    va_end(ap);
    if (problems->count == 0) {
        problems->status = status;
        memcpy(problems->text, text, sizeof text);
    }
    if (problems->count < LISTED) {
        if (problems->count) gr_buf_puts(&problems->list, "; ");
        gr_buf_puts(&problems->list, text);
    }
    problems->count++;
}

graft_status gr_problems_end(gr_problems *problems, const char *where, graft_error *err) {
    graft_status st = GRAFT_OK;
    if (problems->count == 1) {
        gr_fail(err, problems->status, "%s", problems->text);
        st = gr_where(err, "%s", where);
    } else if (problems->count) {
        gr_fail(err, problems->status, "%zu problems", problems->count);
        gr_where(err, "%s", where);
        st = gr_found(err, "%s%s", problems->list.data ? problems->list.data : problems->text,
                      problems->count > LISTED ? "; and more" : "");
    }
    gr_buf_free(&problems->list);
    return st;
}
