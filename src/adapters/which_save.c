#include "adapters/adapter_parts.h"
#include <stdio.h>

/* Both words of one file are those of the save so far; the first file says what it is. */
static bool agrees(gr_adapter_mark *m, bool *first, const char *iteration, const char *digest) {
    if (!iteration[0] || !digest || strlen(digest) != 16) return false;
    if (*first) {
        snprintf(m->digest, sizeof m->digest, "%s", digest);
        m->iteration = strtoll(iteration, NULL, 10);
    }
    *first = false;
    return m->iteration == strtoll(iteration, NULL, 10) && strcmp(m->digest, digest) == 0;
}

/* The system's fault, not the file's. */
static bool cannot_say(graft_status st) {
    return st == GRAFT_IO || st == GRAFT_NO_MEMORY;
}

static bool tensors_agree(gr_adapter_mark *m, bool *first, bool *unread, const char *path) {
    gr_adapter_words words;
    graft_error why = {0};
    graft_status st = gr_adapter_words_read(&words, path, GR_MAPPED, &why);
    *unread |= cannot_say(st);
    return st == GRAFT_OK && agrees(m, first, words.iteration, words.digest);
}

static bool config_agrees(gr_adapter_mark *m, bool *first, bool *unread, const char *path) {
    json_t *root = NULL;
    graft_error why = {0};
    char iteration[24];
    graft_status st = gr_json_load(&root, path, GR_CONFIG_LIMIT, &why);
    *unread |= cannot_say(st);
    if (st != GRAFT_OK) return false;
    const json_t *graft = json_object_get(root, "graft"), *number = json_object_get(graft, "iteration");
    snprintf(iteration, sizeof iteration, "%lld", (long long)json_integer_value(number));
    bool same = json_is_integer(number) &&
                agrees(m, first, iteration, json_string_value(json_object_get(graft, "digest")));
    json_decref(root);
    return same;
}

gr_adapter_place gr_adapter_which(gr_adapter_mark *mark, const char *dir, const gr_model_config *c,
                                  const gr_tuning *tuning, unsigned formats) {
    const char *names[GR_ADAPTER_FORMATS + 1] = {0};
    bool first = true, any = false, same = true, unread = false;
    *mark = (gr_adapter_mark){0};
    gr_adapter_files(names, c, tuning, formats);
    for (int i = 0; i == 0 || names[i - 1]; i++) {
        char *path = gr_path_join(dir, names[i] ? names[i] : "adapter_config.json");
        bool there = path && gr_path_exists(path);
        any = any || there;
        unread |= !path;
        same = same && there && (names[i] ? tensors_agree : config_agrees)(mark, &first, &unread, path);
        free(path);
    }
    if (unread) return GR_ADAPTER_UNREAD;
    return !any ? GR_ADAPTER_NONE : same ? GR_ADAPTER_WHOLE : GR_ADAPTER_TORN;
}
