/* wrap.c - two texts side by side on a terminal. */
#include "cli.h"
#include <string.h>

enum { COLUMN_MIN = 36, GAP = 3, COLUMN_MAX = 90 };

static bool wide(uint32_t c) { /* East Asian wide blocks and emoji: two columns */
    return (c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) || (c >= 0xac00 && c <= 0xd7a3) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
           (c >= 0xffe0 && c <= 0xffe6) || (c >= 0x1f300 && c <= 0x1faff) || (c >= 0x20000 && c <= 0x3fffd);
}

static bool joins(uint32_t c) { /* marks that stand on the letter before */
    return (c >= 0x300 && c <= 0x36f) || c == 0x200d || (c >= 0xfe00 && c <= 0xfe0f);
}

/* Columns that the code point at text[0..n) takes; *bytes receives its length. */
static int glyph(const char *text, size_t n, size_t *bytes) {
    unsigned char b = (unsigned char)text[0];
    size_t len = b < 0x80 ? 1 : b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : b >= 0xc0 ? 2 : 1;
    if (len > n) len = n;
    uint32_t c = len == 1 ? b : b & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if (((unsigned char)text[i] & 0xc0) != 0x80) {
            len = 1;
            c = 0xfffd;
            break;
        }
        c = c << 6 | ((unsigned char)text[i] & 0x3f);
    }
    *bytes = len;
    if (len == 1 && (b < 32 || b == 127)) return 4; /* out_text shows \xNN */
    return joins(c) ? 0 : wide(c) ? 2 : 1;
}

/* The next line of at most `columns`: its length; *skip receives the bytes to drop after it. */
static size_t next_line(const char *text, size_t n, int columns, size_t *skip, int *used) {
    size_t i = 0, space = 0;
    int width = 0, width_at_space = 0;
    bool has_space = false;
    while (i < n && text[i] != '\n') {
        size_t bytes;
        int w = glyph(text + i, n - i, &bytes);
        if (width + w > columns) {
            if (text[i] == ' ') break;
            if (has_space) {
                *skip = 1;
                *used = width_at_space;
                return space;
            }
            break;
        }
        if (text[i] == ' ') {
            has_space = true;
            space = i;
            width_at_space = width;
        }
        width += w;
        i += bytes;
    }
    *skip = i < n && (text[i] == '\n' || text[i] == ' ') ? 1 : 0;
    *used = width;
    return i;
}

static void cell(FILE *out, const char **text, int columns, bool pad, bool terminal) {
    size_t n = strlen(*text), skip = 0;
    int used = 0;
    size_t len = next_line(*text, n, columns, &skip, &used);
    out_text(out, *text, len, terminal);
    *text += len + skip;
    if (pad) fprintf(out, "%*s", columns - used, "");
}

static void below(FILE *out, const char *title, const char *text, bool terminal) {
    fprintf(out, "--- %s\n", title);
    out_text(out, text, strlen(text), terminal);
    fputc('\n', out);
}

void out_compare(FILE *out, int width, const char *left_title, const char *left, const char *right_title,
                 const char *right, bool terminal) {
    int columns = (width - GAP) / 2;
    if (columns < COLUMN_MIN) {
        below(out, left_title, left, terminal);
        below(out, right_title, right, terminal);
        return;
    }
    if (columns > COLUMN_MAX) columns = COLUMN_MAX;
    fprintf(out, "%-*s | %s\n", columns, left_title, right_title);
    for (int i = 0; i < 2 * columns + GAP; i++) fputc(i == columns + 1 ? '+' : '-', out);
    fputc('\n', out);
    while (*left || *right) {
        cell(out, &left, columns, true, terminal);
        fputs(" | ", out);
        cell(out, &right, columns, false, terminal);
        fputc('\n', out);
    }
}
