/* graft_status.h - result codes and the error struct, shared by the library and its callers.
 *
 * Every call that can fail returns a graft_status and fills a graft_error that the caller owns (it may be
 * NULL). The first error wins: a later one never overwrites it.
 */
#ifndef GRAFT_STATUS_H
#define GRAFT_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* One list makes the enum, the names and the texts: X(NAME, number, text) */
#define GRAFT_STATUS_MAP(X)                                                                                  \
    X(OK, 0, "done")                                                                                         \
    X(USAGE, 1, "wrong usage")         /* an option, a combination, a config key */                          \
    X(IO, 2, "input or output failed") /* the operating system said no */                                    \
    X(NOT_FOUND, 3, "not found")       /* a file, tensor, key or token is missing */                         \
    X(CORRUPT, 4, "corrupt input")     /* bytes that contradict their format */                              \
    X(UNSUPPORTED, 5, "not supported") /* valid, but nothing here can do it */                               \
    X(MISMATCH, 6, "does not fit")     /* two inputs that are valid but not for each other */                \
    X(RANGE, 7, "out of range")        /* a number outside what its place allows */                          \
    X(NO_MEMORY, 8, "out of memory")                                                                         \
    X(INTERRUPTED, 9, "interrupted")  /* the stop flag was raised; training saved its state */               \
    X(INTERNAL, 10, "internal error") /* a bug in graft */

/* What a call came to. */
typedef enum graft_status {
#define X(name, number, text) GRAFT_##name = number,
    GRAFT_STATUS_MAP(X)
#undef X
} graft_status;

/* What went wrong, for people. Empty strings where there is nothing to say. Owned by the caller. */
typedef struct graft_error {
    graft_status status;
    char what[256];  /* what was tried or is wrong, without a trailing full stop */
    char where[512]; /* file, tensor, line or byte */
    char expected[256];
    char found[256];
    char hint[512]; /* what to do next */
} graft_error;

/* The constant text of a status; never NULL, also for unknown numbers. */
const char *graft_status_text(graft_status status);

#ifdef __cplusplus
}
#endif
#endif
