/* plot.c - losses as a small picture of text. */
#include "cli.h"
#include <math.h>
#include <stdlib.h>

enum { LABEL = 9 }; /* columns left of the axis: a number and a space */

bool plot_add(plot_points *points, double x, double y) {
    if (points->count == points->room) {
        size_t room = points->room ? points->room * 2 : 64;
        plot_point *grown = realloc(points->at, room * sizeof *grown);
        if (!grown) return false;
        points->at = grown;
        points->room = room;
    }
    points->at[points->count++] = (plot_point){x, y};
    return true;
}

typedef struct frame {
    double x0, x1, y0, y1;
    int columns, rows;
} frame;

static void widen(frame *f, const plot_points *points) {
    for (size_t i = 0; i < points->count; i++) {
        plot_point p = points->at[i];
        if (!isfinite(p.x) || !isfinite(p.y)) continue;
        f->x0 = fmin(f->x0, p.x);
        f->x1 = fmax(f->x1, p.x);
        f->y0 = fmin(f->y0, p.y);
        f->y1 = fmax(f->y1, p.y);
    }
}

static int column_of(const frame *f, double x) {
    return (int)lround((x - f->x0) / (f->x1 - f->x0) * (f->columns - 1));
}

static int row_of(const frame *f, double y) { /* row 0 is the top */
    return (int)lround((f->y1 - y) / (f->y1 - f->y0) * (f->rows - 1));
}

/* Many reports may share a column: their mean is drawn. */
static void draw(const frame *f, char *cells, const plot_points *points, char mark) {
    for (size_t i = 0; i < points->count;) {
        if (!isfinite(points->at[i].x) || !isfinite(points->at[i].y)) {
            i++;
            continue;
        }
        int column = column_of(f, points->at[i].x);
        double sum = 0;
        size_t n = 0;
        for (; i < points->count && isfinite(points->at[i].y) && column_of(f, points->at[i].x) == column;
             i++, n++)
            sum += points->at[i].y;
        cells[row_of(f, sum / (double)n) * f->columns + column] = mark;
    }
}

static void print_rows(FILE *out, const frame *f, const char *cells) {
    for (int r = 0; r < f->rows; r++) {
        double y = f->y1 - (f->y1 - f->y0) * r / (f->rows - 1);
        bool labelled = r == 0 || r == f->rows - 1 || r == f->rows / 2;
        if (labelled)
            fprintf(out, "%*.4g |", LABEL - 2, y);
        else
            fprintf(out, "%*s|", LABEL - 1, "");
        const char *row = cells + (ptrdiff_t)r * f->columns;
        int last = f->columns;
        while (last > 0 && row[last - 1] == ' ') last--;
        fwrite(row, 1, (size_t)last, out);
        fputc('\n', out);
    }
    fprintf(out, "%*s+", LABEL - 1, "");
    for (int i = 0; i < f->columns; i++) fputc('-', out);
    char end[32];
    int n = snprintf(end, sizeof end, "%.0f", f->x1);
    fprintf(out, "\n%*s%-*.0f%s\n", LABEL, "", f->columns > n ? f->columns - n : 1, f->x0, end);
}

void plot_print(FILE *out, const plot_points *lines, const plot_points *marks, int width, int height) {
    frame f = {INFINITY, -INFINITY, INFINITY, -INFINITY, width - LABEL - 1, height};
    widen(&f, lines);
    widen(&f, marks);
    if (!(f.x1 > f.x0) || f.columns < 8 || f.rows < 3) return;
    if (f.columns > 100) f.columns = 100;
    if (!(f.y1 > f.y0)) { /* a flat line runs through the middle */
        f.y0 -= 0.5;
        f.y1 += 0.5;
    }
    size_t size = (size_t)f.columns * (size_t)f.rows;
    char *cells = malloc(size);
    if (!cells) return; /* a picture is not worth a failure */
    for (size_t i = 0; i < size; i++) cells[i] = ' ';
    draw(&f, cells, lines, '*');
    draw(&f, cells, marks, 'o');
    fprintf(out, "%*s loss over iterations: * train%s\n", LABEL - 1, "",
            marks->count ? ", o validation" : "");
    print_rows(out, &f, cells);
    free(cells);
}
