/* tests/golden_lines.h - text files of golden values: lines of words, '#' starts a comment line, bytes are in
 * hex. */
#ifndef GOLDEN_LINES_H
#define GOLDEN_LINES_H
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN_WORDS 8

typedef struct golden_line {
    FILE *file;
    char *text;
    size_t cap;
    int count;
    char *words[GOLDEN_WORDS];
} golden_line;

/* Opens tests/golden/NAME of the source tree; the test ends when it is not there. */
static inline golden_line golden_open(const char *name) {
    char path[512];
    snprintf(path, sizeof path, GRAFT_SOURCE_DIR "/tests/golden/%s", name);
    golden_line line = {.file = fopen(path, "r")};
    if (!line.file) {
        perror(path);
        abort();
    }
    return line;
}

/* The next line, split at spaces; 0 at the end (then everything is freed). */
static inline int golden_next(golden_line *line) {
    while (getline(&line->text, &line->cap, line->file) > 0) {
        char *save = NULL;
        line->count = 0;
        if (line->text[0] == '#') continue;
        for (char *w = strtok_r(line->text, " \n", &save); w && line->count < GOLDEN_WORDS;
             w = strtok_r(NULL, " \n", &save))
            line->words[line->count++] = w;
        if (line->count) return line->count;
    }
    free(line->text);
    fclose(line->file);
    return 0;
}

/* The bytes that a word of hex digits stands for; the caller frees them. */
static inline uint8_t *golden_bytes(const char *hex, size_t *n) {
    *n = strlen(hex) / 2;
    uint8_t *bytes = malloc(*n + 1);
    for (size_t i = 0; bytes && i < *n; i++) {
        unsigned value = 0;
        if (sscanf(hex + 2 * i, "%2x", &value) != 1) abort();
        bytes[i] = (uint8_t)value;
    }
    return bytes;
}

#endif
