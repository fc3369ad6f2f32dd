/* base/status.h - filling a graft_error.
 *
 *     return gr_fail(err, GRAFT_CORRUPT, "tensor reaches beyond the file"),   // or, with details:
 *     gr_fail(err, GRAFT_CORRUPT, "tensor %s reaches beyond the file", name);
 *     gr_where(err, "%s", path); gr_expected(err, "at most %zu bytes", size); gr_found(err, "%zu", end);
 *     return gr_hint(err, "download the file again");
 *
 * The first error wins: once err->status is set, gr_fail leaves it alone, and a detail is only filled where
 * it is still empty.
 */
#ifndef GR_BASE_STATUS_H
#define GR_BASE_STATUS_H
#include "graft_status.h"
#include <stddef.h>

#define GR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define GR_MUST_CHECK        __attribute__((warn_unused_result))

/* Records status and text unless an error is recorded already. err may be NULL. Returns status. */
graft_status gr_fail(graft_error *err, graft_status status, const char *what, ...) GR_PRINTF(3, 4);

/* Details of the error recorded last; a detail that is set already stays. All return err->status
 * (GRAFT_INTERNAL for NULL, so that `return gr_hint(...)` is never a success). */
graft_status gr_where(graft_error *err, const char *fmt, ...) GR_PRINTF(2, 3);
graft_status gr_expected(graft_error *err, const char *fmt, ...) GR_PRINTF(2, 3);
graft_status gr_found(graft_error *err, const char *fmt, ...) GR_PRINTF(2, 3);
graft_status gr_hint(graft_error *err, const char *fmt, ...) GR_PRINTF(2, 3);

/* Allocation failed: GRAFT_NO_MEMORY with the size in the text. */
graft_status gr_no_memory(graft_error *err, size_t bytes);

/* An errno of the operating system: GRAFT_NOT_FOUND for ENOENT, GRAFT_IO otherwise. */
graft_status gr_fail_errno(graft_error *err, int os_errno, const char *what, const char *path);

/* Clears err so that it can be used again. */
void gr_error_clear(graft_error *err);

/* Runs a call that returns graft_status and leaves the function when it fails. */
#define GR_TRY(call)                                                                                         \
    do {                                                                                                     \
        graft_status gr_try_ = (call);                                                                       \
        if (gr_try_ != GRAFT_OK) return gr_try_;                                                             \
    } while (0)

/* The same, for functions that clean up at label `done` and return `st`. */
#define GR_GOTO(call)                                                                                        \
    do {                                                                                                     \
        if ((st = (call)) != GRAFT_OK) goto done;                                                            \
    } while (0)

#endif
