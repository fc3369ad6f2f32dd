#include "adapters/adapter_parts.h"
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static graft_status remove_older(const char *dir, const gr_adapter_format *f, graft_error *err) {
    char *path = gr_path_join(dir, f->file);
    if (!path) return gr_no_memory(err, strlen(dir));
    graft_status st = GRAFT_OK;
    if (unlink(path) != 0 && errno != ENOENT)
        st = gr_fail_errno(err, errno, "cannot remove the file of an earlier save", path);
    free(path);
    return st;
}

/* All that belongs to a save, sealed before the first file takes its place: a full disk leaves the adapter
 * that was there before whole. */
typedef struct saving {
    gr_adapter_out tensors[GR_ADAPTER_FORMATS];
    gr_writer config;
} saving;

static bool is_open(const gr_adapter_out *out) {
    return out->gguf || out->tensors;
}

static graft_status commit(saving *s, const char *dir, graft_error *err) {
    for (int i = 0; i < GR_ADAPTER_FORMATS; i++)
        if (!is_open(&s->tensors[i])) GR_TRY(remove_older(dir, &gr_adapter_format_table[i], err));
    for (int i = 0; i < GR_ADAPTER_FORMATS; i++)
        if (is_open(&s->tensors[i])) GR_TRY(gr_adapter_file_replace(&s->tensors[i], err));
    GR_TRY(gr_writer_replace(&s->config, err));
    return gr_dir_sync(dir, err);
}

/* Some file takes all that trains; without one a save would lose it. */
static graft_status check_held(const gr_model_config *c, const gr_tuning *tuning, unsigned formats,
                               graft_error *err) {
    const char *names[GR_ADAPTER_FORMATS + 1];
    gr_buf why = {0};
    gr_adapter_files(names, c, tuning, formats);
    if (names[0]) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "no file that is to be written holds all that was trained");
    for (int i = 0; i < GR_ADAPTER_FORMATS; i++) {
        if (!(formats >> i & 1)) continue;
        gr_buf_puts(&why, why.len ? "; " : "");
        gr_adapter_holds(&gr_adapter_format_table[i], c, tuning, &why);
    }
    gr_found(err, "%s", why.data && !why.failed ? why.data : "");
    gr_buf_free(&why);
    return GRAFT_UNSUPPORTED;
}

graft_status gr_adapter_save(const char *dir, const gr_model_config *c, const gr_tuning *tuning,
                             const float *params, const gr_adapter_info *info, graft_error *err) {
    unsigned formats = info->formats ? info->formats : GR_ADAPTER_USUAL;
    gr_adapter_words words = {0};
    saving s = {.config = {.fd = -1}};
    gr_adapter_digest(words.digest, params, tuning->parameters);
    snprintf(words.iteration, sizeof words.iteration, "%lld", (long long)info->iteration);
    if (info->model && info->model->digest)
        snprintf(words.base_digest, sizeof words.base_digest, "%016llx",
                 (unsigned long long)info->model->digest);
    else if (info->record)
        memcpy(words.base_digest, info->record->base_digest, sizeof words.base_digest);
    graft_status st = check_held(c, tuning, formats, err);
    if (st == GRAFT_OK) st = gr_make_dirs(dir, err);
    for (int i = 0; st == GRAFT_OK && i < GR_ADAPTER_FORMATS; i++) {
        const gr_adapter_format *f = &gr_adapter_format_table[i];
        if (!(formats >> i & 1) || !gr_adapter_holds(f, c, tuning, NULL)) continue;
        char *path = gr_path_join(dir, f->file);
        st = path ? gr_adapter_file_seal(&s.tensors[i], path, f, c, tuning, params, &words, info->base, err)
                  : gr_no_memory(err, strlen(dir));
        free(path);
    }
    if (st == GRAFT_OK) st = gr_adapter_save_config(&s.config, dir, c, tuning, info, words.digest, err);
    if (st == GRAFT_OK) st = commit(&s, dir, err);
    for (int i = 0; i < GR_ADAPTER_FORMATS; i++) gr_adapter_file_abort(&s.tensors[i]);
    gr_writer_abort(&s.config);
    return st;
}
