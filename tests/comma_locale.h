/* A host whose decimal point is a comma; `make check` meets one where such a locale is installed (or LOCPATH
 * has one), tests/test_rooms.sh looks at the sources everywhere. */
#ifndef COMMA_LOCALE_H
#define COMMA_LOCALE_H
#include <locale.h>
#include <stdbool.h>
#include <stddef.h>

/* False: there is none. setlocale(LC_ALL, "C") ends it. */
static inline bool comma_locale(void) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8", "de_DE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (setlocale(LC_ALL, names[i])) return localeconv()->decimal_point[0] == ',';
    return false;
}

#endif
