/* tests/tiny_bases.h - the two bases that tests of adapters' formats put adapters on. */
#ifndef TESTS_TINY_BASES_H
#define TESTS_TINY_BASES_H
#include "tests/tiny_adapter.h"

static gr_model_config tied, biased; /* llama with one embedding; qwen2 with biases and a head of its own */

static int open_config(gr_model_config *config, const tiny_spec *spec) {
    graft_error err = {0};
    tiny_config_write(root, spec);
    return gr_config_open(config, root, &err) == GRAFT_OK ? 0 : -1;
}

static int setup(void **state) {
    (void)state;
    root = tiny_temp();
    return open_config(&tied, &(tiny_spec){0}) |
           open_config(&biased, &(tiny_spec){.type = "qwen2", .untied = true});
}

static int teardown(void **state) {
    (void)state;
    gr_config_free(&tied);
    gr_config_free(&biased);
    tiny_remove(root);
    return 0;
}

#endif
