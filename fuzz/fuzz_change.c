/* Any bytes as an adapter that a report measures: adapter_config.json, behind a NUL the tensors, as mlx-lm's
 * file or, where the config begins with a blank, as PEFT's. Norms are numbers, and the page about them is
 * whole. */
#include "report/page.h"
#include "scratch_dir.h"
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static scratch_dir dir;

static void remove_dir(void) {
    scratch_dir_free(&dir);
}

static void check(const gr_change *c) {
    if (c->modules > GR_CHANGE_MODULES || c->rows > GR_CHANGE_ROWS || c->rows < 1) abort();
    for (int64_t i = 0; i < c->rows * GR_CHANGE_MODULES; i++)
        if (!isnan(c->norm[i]) && !(c->norm[i] >= 0 && c->norm[i] <= c->most)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"adapters.safetensors", "adapter_model.safetensors"};
    graft_error err = {0};
    gr_run run = {.name = "fuzz", .metrics = {.last = -1}};
    gr_buf page = {0};
    const uint8_t *stop = size ? memchr(data, 0, size) : NULL;
    size_t config = stop ? (size_t)(stop - data) : size, rest = stop ? size - config - 1 : 0;
    int peft = config && data[0] == ' ';
    char other[300];
    if (!dir.path[0]) {
        dir = scratch_dir_new();
        atexit(remove_dir);
    }
    snprintf(other, sizeof other, "%s/%s", dir.path, names[!peft]);
    unlink(other);
    scratch_file(&dir, "adapter_config.json", data, config);
    scratch_file(&dir, names[peft], stop ? stop + 1 : data, rest);
    if (gr_change_read(&run.change, dir.path, NULL, &err) == GRAFT_OK) {
        if (!run.change.none) check(&run.change);
        if (gr_page_html(&page, &run, 1, &err) != GRAFT_OK || !strstr(page.data, "</html>")) abort();
        if (strstr(page.data, "<script")) abort();
    }
    gr_buf_free(&page);
    gr_change_free(&run.change);
    return 0;
}
