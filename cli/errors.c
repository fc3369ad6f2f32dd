/* errors.c - the one form in which graft says that something went wrong. */
#include "cli.h"
#include <stdarg.h>
#include <string.h>

graft_status cli_fail(cli *c, graft_status status, const char *what, ...) {
    if (c->err.status != GRAFT_OK) return c->err.status;
    va_list args;
    va_start(args, what);
    vsnprintf(c->err.what, sizeof c->err.what, what, args);
    va_end(args);
    c->err.status = status;
    return status;
}

void cli_where(cli *c, const char *text) {
    snprintf(c->err.where, sizeof c->err.where, "%s", text);
}
void cli_expected(cli *c, const char *text) {
    snprintf(c->err.expected, sizeof c->err.expected, "%s", text);
}
void cli_found(cli *c, const char *text) {
    snprintf(c->err.found, sizeof c->err.found, "%s", text);
}

void cli_hint(cli *c, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(c->err.hint, sizeof c->err.hint, format, args);
    va_end(args);
}

static void part(const char *before, const char *text) {
    if (!text[0]) return;
    fputs(before, stderr);
    out_text(stderr, text, strlen(text), true);
}

static int exit_code(graft_status status) {
    switch (status) {
    case GRAFT_OK: return EXIT_DONE;
    case GRAFT_USAGE: return EXIT_USAGE;
    case GRAFT_INTERRUPTED: return EXIT_INTERRUPTED;
    default: return EXIT_FAILED;
    }
}

int cli_report(cli *c, graft_status status) {
    progress_clear(&c->bar);
    if (status == GRAFT_OK) return EXIT_DONE;
    bool twin = c->rank && mpi_same_command() && (status == GRAFT_USAGE || status == GRAFT_UNSUPPORTED);
    if (c->told || twin) return exit_code(status); /* rank 0 says it */
    fflush(stdout);                                /* keeps the order on a terminal */
    const graft_error *e = &c->err;
    if (c->rank) fprintf(stderr, "rank %d: ", c->rank);
    fprintf(stderr, "graft%s%s", c->verb ? " " : "", c->verb ? c->verb->name : "");
    part(": ", e->what[0] ? e->what : graft_status_text(status));
    part(", ", e->where);
    part(", expected ", e->expected);
    part(", found ", e->found);
    part("\nhint: ", e->hint);
    fputc('\n', stderr);
    return exit_code(status);
}
