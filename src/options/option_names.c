#include "base/nearest.h"
#include "options/options.h"

int gr_option_index(const char *name) {
    for (size_t i = 0; i < graft_option_count(); i++)
        if (gr_same_name(graft_option_at(i)->name, name)) return (int)i;
    return -1;
}

const graft_option *graft_option_find(graft_verb verb, const char *name) {
    for (size_t i = 0; i < graft_option_count(); i++) {
        const graft_option *option = graft_option_at(i);
        bool named = name[0] && !name[1] ? option->letter == name[0] : gr_same_name(option->name, name);
        if (named && (option->verbs & (unsigned)verb)) return option;
    }
    return NULL;
}

const gr_option_row *gr_option_row_named(const char *name, size_t n) {
    for (size_t i = 0; i < graft_option_count(); i++) {
        const char *other = graft_option_at(i)->name;
        if (strlen(other) == n && memcmp(other, name, n) == 0) return gr_option_row_at(i);
    }
    return NULL;
}

const char *gr_verb_name(graft_verb verb) {
#define NAME(word, bit, name, files)                                                                         \
    if (verb == GRAFT_VERB_##word) return name;
    GRAFT_VERB_MAP(NAME)
#undef NAME
    return "graft";
}

int gr_option_partner(int index) {
    static const char *const pairs[][2] = {
        {"lora-alpha", "lora-scale"}, {"iters", "epochs"}, {"train-on", "mask-prompt"}};
    const char *name = graft_option_at((size_t)index)->name;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        for (int side = 0; side < 2; side++)
            if (strcmp(pairs[i][side], name) == 0) return gr_option_index(pairs[i][!side]);
    return -1;
}

const char *graft_nearest_name(const char *name, const char *const *names, size_t count) {
    return gr_nearest_name(name, names, count);
}
