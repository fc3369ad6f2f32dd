#include "base/nearest.h"
#include <ctype.h>
#include <string.h>

static int letter(char c) {
    return c == '_' ? '-' : tolower((unsigned char)c);
}

bool gr_same_name(const char *a, const char *b) {
    while (*a && letter(*a) == letter(*b)) a++, b++;
    return *a == '\0' && *b == '\0';
}

static int least(int a, int b, int c) {
    int two = a < b ? a : b;
    return two < c ? two : c;
}

#define LONGEST_NAME 48

int gr_edit_distance(const char *a, const char *b, int limit) {
    size_t n = strlen(a), m = strlen(b);
    if (n >= LONGEST_NAME || m >= LONGEST_NAME) return limit + 1;
    int rows[3][LONGEST_NAME]; /* the last three rows of the usual table */
    for (size_t j = 0; j <= m; j++) rows[0][j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int replace = above[j - 1] + (letter(a[i - 1]) != letter(b[j - 1]));
            row[j] = least(row[j - 1] + 1, above[j] + 1, replace);
            bool swapped = i > 1 && j > 1 && letter(a[i - 1]) == letter(b[j - 2]) &&
                           letter(a[i - 2]) == letter(b[j - 1]);
            if (swapped && before[j - 2] + 1 < row[j]) row[j] = before[j - 2] + 1;
        }
    }
    int distance = rows[n % 3][m];
    return distance > limit ? limit + 1 : distance;
}

const char *gr_nearest_name(const char *name, const char *const *names, size_t count) {
    const char *best = NULL;
    /* about a third of the letters wrong is still a typing error; more is another word */
    int letters = (int)strlen(name), limit = letters < 5 ? 1 : letters < 9 ? 2 : letters / 3;
    for (size_t i = 0; i < count; i++) {
        if (!names[i]) continue;
        int distance = gr_edit_distance(name, names[i], limit);
        if (distance > limit) continue;
        best = names[i];
        limit = distance - 1;
    }
    /* "rank" for "lora-rank", "learning" for "learning-rate" */
    for (size_t i = 0; !best && strlen(name) >= 3 && i < count; i++) {
        if (!names[i]) continue;
        size_t n = strlen(name), m = strlen(names[i]);
        if (m > n && (gr_same_name(names[i] + m - n, name) || strncmp(names[i], name, n) == 0))
            best = names[i];
    }
    return best;
}
