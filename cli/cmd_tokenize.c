/* cmd_tokenize.c - rows as the model sees them; trained tokens stand out. */
#include "json_out.h"
#include <errno.h>
#include <string.h>

typedef struct row_view {
    cli *c;
    graft_status status; /* the first row that could not be printed */
    size_t rows;
} row_view;

static void print_pieces(const cli *c, const graft_row *row) {
    const char *begin = c->color ? "\033[32m" : "[[", *end = c->color ? "\033[0m" : "]]";
    bool inside = false;
    for (size_t i = 0; i < row->count; i++) {
        bool trained = row->mask[i] != 0;
        if (trained != inside) fputs(trained ? begin : end, stdout);
        inside = trained;
        out_text(stdout, row->pieces[i], strlen(row->pieces[i]), c->stream);
    }
    if (inside) fputs(end, stdout);
    putchar('\n');
}

static void print_row(const cli *c, const graft_row *row) {
    size_t trained = 0;
    for (size_t i = 0; i < row->count; i++) trained += row->mask[i] != 0;
    printf("line %llu%s%s: %zu tokens, %zu trained\n", (unsigned long long)row->line, row->half ? ", " : "",
           row->half ? row->half : "", row->count, trained);
    if (row->pieces) print_pieces(c, row);
}

/* The rendering byte for byte; a line end only where something follows, or for a terminal. */
static void print_rendering(const row_view *v, const graft_row *row) {
    const char *text = row->text ? row->text : "";
    if (v->rows > 0) putchar('\n');
    out_text(stdout, text, strlen(text), v->c->stream);
    if (v->c->stream) putchar('\n');
}

static void on_row(void *user, const graft_row *row) {
    row_view *v = user;
    if (v->status != GRAFT_OK || v->c->out_errno) return;
    progress_clear(&v->c->bar);
    errno = 0;
    if (v->c->json)
        v->status = doc_print(v->c, doc_row(row, v->c->options.render), true);
    else if (v->c->options.render)
        print_rendering(v, row);
    else if (!v->c->options.html)
        print_row(v->c, row);
    v->rows++;
    if (!out_alive(v->c)) signals_raise_stop(); /* nobody reads: no need to go on */
}

int cmd_tokenize(cli *c) {
    row_view v = {.c = c};
    graft_status status = graft_tokenize(&c->options, &c->hooks, on_row, &v, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && v.status == GRAFT_OK && c->options.html && !c->json)
        printf("%zu %s in %s\n", v.rows, v.rows == 1 ? "row" : "rows", c->options.html);
    if (c->out_errno) return EXIT_DONE; /* main tells a closed pipe from a full disk */
    return cli_report(c, status != GRAFT_OK ? status : v.status);
}
