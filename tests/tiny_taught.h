/* tests/tiny_taught.h - a tiny model on 4 bits with an adapter that was taught enough for its answers to be
 * letters, not stray bytes. */
#ifndef TINY_TAUGHT_H
#define TINY_TAUGHT_H
#include "tests/tiny_dir.h"

static char *root, *model, *data, *adapter;

static inline int setup(void **state) {
    (void)state;
    graft_options o;
    graft_error err = {0};
    root = tiny_temp();
    model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    data = tiny_data_dir(root, "data", 40, 9);
    adapter = tiny_join(root, "adapter");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", adapter, "iters", "30",
                                   "lora-rank", "4", "lora-targets", "full", "learning-rate", "2e-2",
                                   "threads", "1", NULL});
    if (graft_train(&o, NULL, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    graft_options_free(&o);
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    free(data);
    tiny_remove(adapter);
    tiny_remove(model);
    tiny_remove(root);
    return 0;
}

#endif
