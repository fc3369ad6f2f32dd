/* tests/tiny_root.h - a directory that a test program works in, from before its first test to after its last.
 */
#ifndef TINY_ROOT_H
#define TINY_ROOT_H
#include "tests/tiny_dir.h"

static char *root; /* of this test program */

static inline int setup(void **state) {
    (void)state;
    root = tiny_temp();
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    tiny_remove(root);
    return 0;
}

#endif
