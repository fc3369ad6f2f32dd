/* --valid-split: validation rows out of those of training. */
#include "base/os.h"
#include "data/split.h"
#include "data/split_file.h"
#include "options/options.h"

bool gr_options_splits(const graft_options *o) {
    return !isnan(o->valid_split);
}

graft_status gr_options_check_split(const graft_options *o, graft_error *err) {
    char *valid;
    double share = o->valid_split;
    if (!(share > 0) || (share > 1 && share != floor(share))) {
        gr_fail(err, GRAFT_USAGE, "--valid-split does not take this value");
        gr_expected(err, "a share above 0 and below 1, or a whole number of rows");
        return gr_found(err, "%g", share);
    }
    if (!gr_path_is_dir_as(o->data, gr_options_reading(o))) return GRAFT_OK;
    GR_TRY(gr_data_place(&valid, o->data, "valid", gr_options_reading(o), err));
    if (gr_path_exists_as(valid, gr_options_reading(o))) {
        const char *slash = strrchr(valid, '/');
        gr_fail(err, GRAFT_USAGE, "%s and --valid-split are two validation sets", slash ? slash + 1 : valid);
        gr_where(err, "%s", o->data);
        gr_hint(err, "leave --valid-split away, or point --data at the file to train on");
        free(valid);
        return GRAFT_USAGE;
    }
    free(valid);
    return GRAFT_OK;
}

graft_status gr_options_split(gr_rows **valid, char **note, gr_rows *train, const graft_options *o,
                              graft_error *err) {
    gr_buf text = {0};
    long long width = gr_rows_width(train), all = (long long)gr_rows_count(train) / width;
    *note = NULL;
    GR_TRY(gr_rows_split(valid, train, o->valid_split, o->seed, err));
    gr_buf_printf(&text, "--valid-split %g takes %lld of the %lld rows of %s for validation (seed %llu)",
                  o->valid_split, (long long)gr_rows_count(*valid) / width, all, gr_rows_name(train),
                  (unsigned long long)o->seed);
    *note = gr_buf_take(&text);
    if (*note) return GRAFT_OK;
    gr_rows_free(*valid);
    *valid = NULL;
    return gr_no_memory(err, 64);
}
