/* What the contract names and this version does not build. Whoever builds it deletes its row. */
#include "train/options.h"

typedef struct unbuilt {
    const char *option;
    const char *value; /* refused; NULL: every value but the default */
    const char *hint;
} unbuilt;

static const unbuilt rows[] = {
    {NULL, NULL, NULL},
};

static bool refused(const unbuilt *entry, const gr_option_row *row, const char *value) {
    if (entry->value) return strcmp(value, entry->value) == 0;
    return value[0] && strcmp(value, row->kind == GR_OPTION_SWITCH ? "false" : row->shown.fallback) != 0;
}

bool graft_option_built(const graft_option *option, const char *value) {
    for (size_t i = 0; rows[i].option; i++) {
        if (strcmp(rows[i].option, option->name) != 0) continue;
        if (!rows[i].value) return value && strcmp(value, option->fallback) == 0;
        if (value && strcmp(value, rows[i].value) == 0) return false;
    }
    return true;
}

graft_status gr_options_refuse_unbuilt(const graft_options *o, graft_error *err) {
    gr_buf value = {0};
    graft_status st = GRAFT_OK;
    for (size_t i = 0; st == GRAFT_OK && rows[i].option; i++) {
        const gr_option_row *row = gr_option_row_at((size_t)gr_option_index(rows[i].option));
        gr_buf_clear(&value);
        gr_option_print(o, row, &value);
        if (value.failed) {
            st = gr_no_memory(err, 64);
        } else if (value.len && refused(&rows[i], row, value.data)) {
            gr_fail(err, GRAFT_UNSUPPORTED, "this version cannot do %s %s", row->shown.name, value.data);
            st = gr_hint(err, "%s", rows[i].hint ? rows[i].hint : "");
        }
    }
    gr_buf_free(&value);
    return st;
}
