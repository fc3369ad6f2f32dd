/* spark.c - the last losses in a few columns: blocks of eight heights, or numbers where there are no such
 * letters.
 */
#include "cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void spark_add(spark *s, double value) {
    if (!isfinite(value)) return;
    if (s->count == SPARK_MOST) {
        memmove(s->values, s->values + 1, (SPARK_MOST - 1) * sizeof *s->values);
        s->count--;
    }
    s->values[s->count++] = value;
}

bool spark_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]), *dot = value ? strchr(value, '.') : NULL;
        if (value && value[0])
            return dot && (strncasecmp(dot, ".utf-8", 6) == 0 || strncasecmp(dot, ".utf8", 5) == 0);
    }
    return false;
}

/* U+2581 to U+2588, lower one eighth block to full block. */
static int blocks(char *text, const spark *s) {
    double low = s->values[0], high = low;
    for (int i = 1; i < s->count; i++) {
        low = fmin(low, s->values[i]);
        high = fmax(high, s->values[i]);
    }
    for (int i = 0; i < s->count; i++) {
        int level = high > low ? (int)lround(7 * (s->values[i] - low) / (high - low)) : 3;
        char letter[] = {(char)0xe2, (char)0x96, (char)(0x81 + level)};
        memcpy(text + 3 * i, letter, 3);
    }
    text[3 * s->count] = '\0';
    return s->count;
}

int spark_text(char text[SPARK_TEXT], const spark *s, bool utf8) {
    int at, n;
    text[0] = '\0';
    if (!s->count) return 0;
    at = snprintf(text, SPARK_TEXT, "  loss");
    for (int i = utf8 || s->count < 3 ? s->count - 1 : s->count - 3; i < s->count; i++) {
        n = snprintf(text + at, (size_t)(SPARK_TEXT - at), " %.4g", s->values[i]);
        if (n > 0 && n < SPARK_TEXT - at) at += n;
    }
    if (!utf8 || s->count < 2 || at > SPARK_TEXT - 3 * SPARK_MOST - 2) return at;
    text[at] = ' ';
    return at + 1 + blocks(text + at + 1, s);
}
