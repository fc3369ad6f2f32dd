/* The hub's list of files from anywhere: what is taken stays below its directory and has a digest that is
 * one, or none. */
#include "hub/hub_list.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gr_hub_list list;
    if (size > 1 << 16) return 0;
    if (!gr_hub_list_read(&list, (const char *)data, size, NULL)) {
        for (size_t i = 0; i < list.count; i++) {
            const gr_hub_file *f = &list.files[i];
            if (f->name[0] == '/' || strstr(f->name, "/../") || !strncmp(f->name, "../", 3)) abort();
            if (f->digest[0] && !gr_hub_is_digest(f->digest)) abort();
        }
        size_t all = list.count;
        graft_status st = gr_hub_list_choose(&list, size % 2 ? NULL : "*.safetensors,a*", NULL);
        if (list.count > all || (!st && !list.count)) abort();
    }
    gr_hub_list_free(&list);
    return 0;
}
