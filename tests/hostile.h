/* tests/hostile.h - texts that an attacker would choose, and how long they may take. */
#ifndef HOSTILE_H
#define HOSTILE_H
#include "base/os.h"
#include "tests/sanitized.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Seconds of the processor: a busy machine makes nothing slower. */
static inline double hostile_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* What is quadratic takes minutes for these sizes, what is linear a tenth of a second; sanitizers make it ten
 * times that, and try a part of it. */
#define HOSTILE_SECONDS (SANITIZED ? 20.0 : 5.0)
#define HOSTILE_STEP    (SANITIZED ? 3 : 1)

/* `unit` until there are n bytes (or a little more); malloc'ed, *len is how many. */
static inline char *hostile_text(const char *unit, size_t n, size_t *len) {
    size_t step = strlen(unit);
    char *text = malloc(n + step + 1);
    if (!text) abort();
    for (*len = 0; *len < n; *len += step) memcpy(text + *len, unit, step);
    text[*len] = 0;
    return text;
}

/* Bytes without any sense, the same on every machine. */
static inline char *hostile_bytes(size_t n) {
    uint64_t state = 0x9E3779B97F4A7C15ULL;
    char *text = malloc(n + 1);
    if (!text) abort();
    for (size_t i = 0; i < n; i++) {
        state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
        text[i] = (char)(state >> 33);
    }
    text[n] = 0;
    return text;
}

#endif
