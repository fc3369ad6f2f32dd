/* Any bytes as a table or an array: rows lie in order, and those that are handed out are whole JSON texts
 * where the file is UTF-8. The first byte chooses the ending of the name. */
#include "files/json_read.h"
#include "files/records.h"
#include "scratch_dir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"a.csv", "a.tsv", "a.json"};
    graft_error err = {0};
    gr_records *r;
    if (size == 0) return 0;
    char path[300];
    scratch_dir dir = scratch_dir_new();
    scratch_file(&dir, names[data[0] % 3], data + 1, size - 1);
    snprintf(path, sizeof path, "%s/%s", dir.path, names[data[0] % 3]);
    graft_status opened = gr_records_open(&r, path, GR_MAPPED, &err);
    scratch_dir_free(&dir);
    if (opened != GRAFT_OK) {
        if (!err.what[0]) abort();
        return 0;
    }
    uint64_t last = 0;
    for (size_t i = 0; i < gr_records_count(r); i++) {
        const char *text = NULL;
        size_t len = 0;
        uint64_t line = 0;
        graft_error own = {0};
        graft_status st = gr_records_get(r, i, &text, &len, &line, &own);
        if (line < last) abort();
        last = line;
        if (st != GRAFT_OK) {
            if (!own.what[0]) abort();
            continue;
        }
        if (!len) abort();
        json_error_t why;
        json_decref(gr_json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &why));
    }
    gr_records_close(r);
    return 0;
}
