/* tests/hub_find.h - a name looked up in the cache. */
#ifndef TESTS_HUB_FIND_H
#define TESTS_HUB_FIND_H
#include "hub/hub_cache.h"
#include <cmocka.h>
#include <stdlib.h>

static graft_status find(const char *wish) {
    gr_hub_name name;
    char *path = NULL;
    graft_error err = {0};
    assert_true(gr_hub_name_read(&name, wish));
    graft_status st = gr_hub_find(&path, &name, &err);
    free(path);
    return st;
}

#endif
