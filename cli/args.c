/* args.c - arguments to options: --name value, --name=value, -x value, switches, words, `--`. */
#include "cli.h"
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_LEN = 40 };

static const cli_flag *flag_find(const char *name, char letter) {
    const cli_flag *f;
    for (size_t i = 0; (f = cli_flag_at(i)); i++)
        if (name ? strcmp(f->name, name) == 0 : f->letter == letter) return f;
    return NULL;
}

static const graft_option *option_find(const cli *c, const char *name, char letter) {
    if (!c->verb || !c->verb->bit) return NULL;
    char text[2] = {letter, '\0'};
    const graft_option *o = graft_option_find(c->verb->bit, name ? name : text);
    /* find answers letters and names alike; `--q` is no name */
    return o && (name ? strlen(name) > 1 : o->letter == letter) ? o : NULL;
}

/* "plan, train" for an option that exists but not for this verb; false if it exists nowhere. A
 * letter in *name becomes the full name. */
static bool owners(const char **name, char *text, size_t room) {
    const graft_option *o = NULL;
    for (size_t i = 0; (o = graft_option_at(i)); i++)
        if ((*name)[1] ? strcmp(o->name, *name) == 0 : o->letter == (*name)[0]) break;
    if (!o) return false;
    *name = o->name;
    size_t at = 0;
    text[0] = '\0';
    const verb *v;
    for (size_t i = 0; (v = verb_at(i)) && at < room; i++)
        if (v->bit & o->verbs) at += (size_t)snprintf(text + at, room - at, "%s%s", at ? ", " : "", v->name);
    return true;
}

static graft_status unknown_option(cli *c, const char *shown, const char *name) {
    size_t count = graft_option_count(), n = 0;
    cli_fail(c, GRAFT_USAGE, "unknown option %s", shown);
    char verbs[128];
    if (c->verb && owners(&name, verbs, sizeof verbs)) {
        snprintf(c->err.what, sizeof c->err.what, "%s takes no %s", c->verb->name, shown);
        cli_hint(c, "--%s belongs to: %s", name, verbs);
        return GRAFT_USAGE;
    }
    const char **names = calloc(count + 16, sizeof *names);
    if (names) {
        for (size_t i = 0; i < count; i++) {
            const graft_option *o = graft_option_at(i);
            if (o && c->verb && (o->verbs & c->verb->bit)) names[n++] = o->name;
        }
        const cli_flag *f;
        for (size_t i = 0; (f = cli_flag_at(i)) && n < count + 16; i++) names[n++] = f->name;
        const char *near = graft_nearest_name(name, names, n);
        free(names);
        if (near) {
            cli_hint(c, "did you mean --%s?", near);
            return GRAFT_USAGE;
        }
    }
    if (c->verb)
        cli_hint(c, "graft %s --help lists its options", c->verb->name);
    else
        cli_hint(c, "options come after the verb; graft --help lists the verbs");
    return GRAFT_USAGE;
}

static graft_status load_yaml(cli *c, const char *path) {
    if (c->options.config_file) {
        cli_fail(c, GRAFT_USAGE, "a second configuration file");
        cli_where(c, path);
        cli_hint(c, "put all keys into one file; flags may override them");
        return GRAFT_USAGE;
    }
    char *note = NULL;
    graft_status status = graft_options_load_yaml(&c->options, path, &note, &c->err);
    if (status == GRAFT_OK && note) fprintf(stderr, "%s\n", note);
    free(note);
    return status;
}

static graft_status apply_flag(cli *c, const cli_flag *f) {
    if (strcmp(f->name, "json") == 0) c->json = true;
    if (strcmp(f->name, "help") == 0) c->help = true;
    if (strcmp(f->name, "version") == 0) c->version = true;
    return GRAFT_OK;
}

/* An option where a value should stand is a forgotten value, not a value. */
static bool is_option(const cli *c, const char *arg) {
    if (strncmp(arg, "--", 2) != 0 || strcspn(arg + 2, "=") > NAME_MAX_LEN) return false;
    char name[NAME_MAX_LEN + 1];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
    return flag_find(name, 0) || option_find(c, name, 0);
}

/* One option; *at is its place in argv and moves over a value that stands apart. */
static graft_status take_option(cli *c, int argc, char **argv, int *at) {
    const char *arg = argv[*at];
    bool is_long = arg[1] == '-';
    char name[NAME_MAX_LEN + 1] = "", shown[NAME_MAX_LEN + 8];
    const char *value = NULL;
    if (is_long) {
        size_t len = strcspn(arg + 2, "=");
        if (arg[2 + len] == '=') value = arg + 2 + len + 1;
        snprintf(name, sizeof name, "%.*s", len > NAME_MAX_LEN ? NAME_MAX_LEN : (int)len, arg + 2);
    } else {
        name[0] = arg[1];
        if (arg[2]) value = arg[2] == '=' ? arg + 3 : arg + 2;
    }
    snprintf(shown, sizeof shown, "%s%s", is_long ? "--" : "-", name);
    const cli_flag *f = flag_find(is_long ? name : NULL, arg[1]);
    const graft_option *o = f ? NULL : option_find(c, is_long ? name : NULL, arg[1]);
    if (!f && !o) return unknown_option(c, shown, is_long ? name : arg + 1);
    const char *placeholder = f ? NULL : o->value;
    if (placeholder && !value) {
        bool missing = *at + 1 >= argc;
        if (missing || is_option(c, argv[*at + 1])) {
            cli_fail(c, GRAFT_USAGE, "%s needs a value", shown);
            cli_expected(c, placeholder);
            cli_found(c, missing ? "nothing" : argv[*at + 1]);
            cli_hint(c, "write --%s=%s to give a value that looks like an option", o->name, placeholder);
            return GRAFT_USAGE;
        }
        value = argv[++*at];
    }
    if (!placeholder && value && (f || !is_long)) {
        cli_fail(c, GRAFT_USAGE, "%s is a switch and takes no value", shown);
        cli_found(c, value);
        return GRAFT_USAGE;
    }
    if (f) return apply_flag(c, f);
    if (strcmp(o->name, "config") == 0) return load_yaml(c, value); /* for its note */
    return graft_options_set(&c->options, c->verb->bit, o->name, value, &c->err);
}

graft_status verb_unknown(cli *c, const char *name) {
    const char *names[32];
    size_t n = 0;
    const verb *v;
    while (n < 32 && (v = verb_at(n))) names[n++] = v->name;
    cli_fail(c, GRAFT_USAGE, "unknown verb %s", name);
    const char *near = graft_nearest_name(name, names, n);
    if (near)
        cli_hint(c, "did you mean %s?", near);
    else
        cli_hint(c, "graft --help lists the verbs");
    return GRAFT_USAGE;
}

static graft_status take_verb(cli *c, const char *name) {
    c->verb = verb_find(name);
    return c->verb ? GRAFT_OK : verb_unknown(c, name);
}

static graft_status take_word(cli *c, const char *word) {
    if (!c->verb) return take_verb(c, word);
    if (c->words_count < c->verb->words_max) {
        c->words[c->words_count++] = word;
        return GRAFT_OK;
    }
    cli_fail(c, GRAFT_USAGE, "a word too many");
    if (c->verb->words_max > 1) {
        char most[64];
        snprintf(most, sizeof most, "at most %d", c->verb->words_max);
        cli_expected(c, most);
    }
    cli_found(c, word);
    cli_hint(c, "options start with --; graft %s --help lists them", c->verb->name);
    return GRAFT_USAGE;
}

graft_status args_parse(cli *c, int argc, char **argv) {
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        graft_status status;
        if (!only_words && strcmp(arg, "--") == 0) {
            only_words = true;
            continue;
        }
        if (only_words || arg[0] != '-' || !arg[1])
            status = take_word(c, arg);
        else
            status = take_option(c, argc, argv, &i);
        if (status != GRAFT_OK) return status;
        if (c->help || c->version) return GRAFT_OK;
    }
    if (c->verb) return GRAFT_OK;
    cli_fail(c, GRAFT_USAGE, "no verb given");
    cli_hint(c, "graft --help lists the verbs");
    return GRAFT_USAGE;
}
