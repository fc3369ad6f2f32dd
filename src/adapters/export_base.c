/* The base of an adapter that is exported: its numbers, and the name that is recorded. */
#include "adapters/adapter_parts.h"
#include "convert/convert.h"
#include "model/identity.h"
#include "model/locate.h"

graft_status gr_adapter_base_config(gr_model_config *config, const gr_adapter_export *wish,
                                    const gr_adapter_record *r, graft_error *err) {
    const char *model = wish->model ? wish->model : r->base;
    graft_error own = {0};
    char *path = NULL;
    bool gguf;
    if (!model) {
        gr_fail(err, GRAFT_USAGE, "--model is missing, and the adapter does not record its base");
        gr_where(err, "%s", wish->path);
        return gr_hint(err, "--model takes the base's directory (its config.json is enough) or GGUF file");
    }
    graft_status st = gr_model_locate(&path, &gguf, model, wish->model ? err : &own);
    if (st == GRAFT_NOT_FOUND && !wish->model) {
        gr_fail(err, GRAFT_NOT_FOUND, "the base model that the adapter records is not there");
        gr_where(err, "%s: %s", wish->path, model);
        return gr_hint(err, "--model takes the base's directory (its config.json is enough) or GGUF file");
    }
    if (st != GRAFT_OK && !wish->model) {
        gr_fail(err, st, "%s", own.what);
        gr_where(err, "%s", own.where);
    }
    if (st == GRAFT_OK)
        st = gguf ? gr_convert_gguf_config(config, path, err) : gr_config_open(config, path, err);
    free(path);
    return st;
}

/* ---- the name */

static bool has_weights(const char *dir) {
    bool found = false;
    DIR *list = gr_list_open(dir);
    for (struct dirent *entry; list && !found && (entry = readdir(list));)
        found = gr_ends_with(entry->d_name, ".safetensors");
    if (list) closedir(list);
    return found;
}

/* Weights that are not there, or not readable as a model, say nothing. What the system keeps from us, and a
 * part that is missing, are errors. */
static graft_status forgive(graft_status st, const char *dir, graft_error *err) {
    if (st == GRAFT_IO || st == GRAFT_NO_MEMORY || (st == GRAFT_NOT_FOUND && has_weights(dir))) return st;
    gr_error_clear(err);
    return GRAFT_OK;
}

static graft_status digest_of(uint64_t *digest, const char *dir, int threads, graft_error *err) {
    gr_model *model = NULL;
    gr_pool *pool = NULL;
    graft_status st = gr_model_open(&model, dir, err);
    if (st != GRAFT_OK) return forgive(st, dir, err);
    if (threads < 1) threads = gr_processors();
    st = gr_pool_new(&pool, (int)gr_min_i64(threads, GR_THREADS_MAX), err);
    if (st == GRAFT_OK) st = gr_model_identify(model, pool, err);
    if (st == GRAFT_OK) *digest = model->digest;
    gr_pool_free(pool);
    gr_model_free(model);
    return st;
}

/* *digest 0: there are no weights to tell by. Those of a GGUF file, or of AWQ and GPTQ, are the weights of
 * their conversion, if there is one. */
static graft_status find_digest(uint64_t *digest, const char *model, int threads, graft_error *err) {
    char *path = NULL, *kept = NULL;
    bool gguf = false;
    *digest = 0;
    GR_TRY(gr_model_locate(&path, &gguf, model, err));
    const gr_convert_options wish = {.model = path};
    const bool converted = gguf || gr_convert_is_awq_gptq(path, GR_MAPPED);
    graft_status st = converted ? gr_convert_find_kept(&kept, &wish, err) : GRAFT_OK;
    if (st != GRAFT_OK)
        st = forgive(st, path, err);
    else if (kept || !converted)
        st = digest_of(digest, converted ? kept : path, threads, err);
    free(kept);
    free(path);
    return st;
}

graft_status gr_adapter_base_name(char **name, gr_buf *notes, const gr_adapter_export *wish,
                                  const gr_adapter_record *r, graft_error *err) {
    const char *own = r->base, *given = wish->model;
    uint64_t digest = 0;
    bool same = false;
    if (own && given && strcmp(own, given) != 0) {
        if (r->base_digest[0]) GR_TRY(find_digest(&digest, given, wish->threads, err));
        same = digest && strtoull(r->base_digest, NULL, 16) == digest;
        if (!same)
            gr_buf_printf(notes, "%s%s stays recorded as the base: --model %s %s", notes->len ? "; " : "",
                          own, given,
                          digest ? "is another one by its digest"
                                 : "gave its sizes, and nothing says that it is the same one");
    }
    *name = gr_strdup(own && !same ? own : given ? given : own);
    return *name ? GRAFT_OK : gr_no_memory(err, 64);
}
