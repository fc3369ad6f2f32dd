#include "train/trainer.h"

/* Settings that a resumed run may change: they cost time or memory, or say where things are. */
static bool may_change(const char *line) {
    static const char *const free_keys[] = {
        "threads",   "grad-checkpoint",     "budget",           "preset", /* what it sets is compared */
        "resume",    "save-every",          "adapter-path",     "model",  "data",
        "keep-best", "verify-frozen",       "config",           "shape",  "tensors",
        "gguf",      "resume-adapter-file", "steps-per-report", "no-mmap"};
    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++) {
        size_t n = strlen(free_keys[i]);
        if (strncmp(line, free_keys[i], n) == 0 && line[n] == ':') return true;
    }
    return false;
}

static bool has_line(const char *text, const char *line, size_t n) {
    while (*text) {
        size_t len = strcspn(text, "\n");
        if (len == n && memcmp(text, line, n) == 0) return true;
        text += len + (text[len] == '\n');
    }
    return false;
}

/* The first line of `a` that `b` lacks and must not; malloc'ed, NULL: none. */
static char *missing_line(const char *a, const char *b) {
    while (*a) {
        size_t n = strcspn(a, "\n");
        if (n && !may_change(a) && !has_line(b, a, n)) return gr_strndup(a, n);
        a += n + (a[n] == '\n');
    }
    return NULL;
}

char *gr_settings_changed(const char *then, const char *now) {
    char *line = missing_line(now, then);
    return line ? line : missing_line(then, now);
}
