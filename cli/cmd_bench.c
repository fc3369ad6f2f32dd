/* cmd_bench.c - what this machine and this model do: the verb, and what its benchmarks share. A new one is a
 * row here and a file bench_NAME_out.c; its name and options stand in the library's tables. */
#include "bench_out.h"
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

const char *bench_picture_path(cli *c, char *path, size_t size) {
    if (c->options.svg) return strcmp(c->options.svg, "none") == 0 ? NULL : c->options.svg;
    snprintf(path, size, "bench-%s.svg", c->words[0]);
    return path;
}

/* A place that cannot be written is known before minutes of measuring. */
static graft_status picture_possible(cli *c) {
    const char *path = c->options.svg, *slash = path ? strrchr(path, '/') : NULL;
    char dir[4096] = ".";
    if (!path || strcmp(path, "none") == 0) return GRAFT_OK;
    if (slash) snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (access(dir, W_OK | X_OK) == 0) return GRAFT_OK;
    cli_fail(c, GRAFT_IO, "cannot write the picture: %s", strerror(errno));
    cli_where(c, path);
    cli_hint(c, "--svg takes a file in a directory that is there, or none");
    return GRAFT_IO;
}

graft_status bench_picture_written(cli *c, graft_status status, const char **path) {
    if (status == GRAFT_OK || c->options.svg) return status;
    fprintf(stderr, "no picture: %s, %s\n", c->err.what, c->err.where);
    c->err = (graft_error){0};
    *path = NULL;
    return GRAFT_OK;
}

graft_status bench_finish(cli *c, json_t *document, const char *path, graft_status drawn) {
    graft_error why = c->err;
    if (c->json) document = doc_with(document, "svg", doc_text(drawn == GRAFT_OK ? path : NULL));
    if (c->json) {
        c->err = (graft_error){0};
        graft_status printed = doc_print(c, document, false);
        if (printed != GRAFT_OK) return printed;
    } else if (path && drawn == GRAFT_OK) {
        fputs("picture  ", stdout);
        out_text(stdout, path, strlen(path), c->stream);
        putchar('\n');
    }
    c->err = why;
    return drawn;
}

const char *cell_percent(out_buf *b, double value) {
    if (isfinite(value))
        snprintf(b->text, sizeof b->text, "%.1f %%", value);
    else
        snprintf(b->text, sizeof b->text, "-");
    return b->text;
}

const char *cell_size(out_buf *b, uint64_t bytes) {
    if (bytes) return out_size(b, bytes);
    snprintf(b->text, sizeof b->text, "-");
    return b->text;
}

const char *cell_time(out_buf *b, double seconds) {
    if (seconds > 0)
        snprintf(b->text, sizeof b->text, "%.4g s", seconds);
    else
        snprintf(b->text, sizeof b->text, "-");
    return b->text;
}

/* ----------------------------------------------------------------------------------------------- the verb */

/* Keyed by the library's names. */
static const struct benchmark {
    const char *name;
    graft_status (*run)(cli *c);
} benchmarks[] = {{"load", bench_load},
                  {"train", bench_train},
                  {"checkpoint", bench_checkpoint},
                  {"accumulate", bench_accumulate},
                  {"kernels", bench_kernels},
                  {"tokenize", bench_tokenize},
                  {"curves", bench_curves},
                  {"generate", bench_generate}};

static const struct benchmark *benchmark_of(const char *name) {
    for (size_t i = 0; name && i < sizeof benchmarks / sizeof *benchmarks; i++)
        if (strcmp(benchmarks[i].name, name) == 0) return &benchmarks[i];
    return NULL;
}

int cmd_bench(cli *c) {
    const char *name = c->words_count ? c->words[0] : NULL;
    const char *const *names = graft_benchmarks();
    const struct benchmark *b = benchmark_of(name);
    char known[128];
    if (b) {
        graft_status possible = picture_possible(c);
        return cli_report(c, possible == GRAFT_OK ? b->run(c) : possible);
    }
    size_t count = 0;
    while (names[count]) count++;
    help_benchmarks(known, sizeof known);
    cli_fail(c, GRAFT_USAGE, "no such benchmark in this version");
    cli_expected(c, known);
    cli_found(c, name ? name : "none");
    const char *near = name ? graft_nearest_name(name, names, count) : NULL;
    if (near)
        cli_hint(c, "did you mean %s?", near);
    else
        cli_hint(c, "graft bench %s", names[0]);
    return cli_report(c, GRAFT_USAGE);
}
