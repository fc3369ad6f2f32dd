/* help.c - help pages, made from the verb table and the library's option table. */
#include "cli.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

static const cli_flag flags[] = {
    {"json", 0,
     "one JSON document on standard output (tokenize, chat, serve: JSON lines), nothing else there"},
    {"help", 'h', "this page"},
    {"version", 0, "the version"},
};

const cli_flag *cli_flag_at(size_t index) {
    return index < sizeof flags / sizeof *flags ? &flags[index] : NULL;
}

enum { HELP_COLUMN = 34, HELP_WIDTH = 110, HELP_WIDTH_MIN = 60 };

/* Pages in files are the same everywhere; on a terminal they fit it. */
static int page_width(FILE *out) {
    int before = errno; /* why a write failed is not to be forgotten: isatty sets it too */
    int width = isatty(fileno(out)) ? out_width(out) : HELP_WIDTH;
    errno = before;
    return width > HELP_WIDTH ? HELP_WIDTH : width < HELP_WIDTH_MIN ? HELP_WIDTH_MIN : width;
}

/* Words of `text` from column `column` on, broken before the page ends and indented. */
static void print_wrapped(FILE *out, const char *text, int column) {
    int at = column, width = page_width(out);
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > column && at + 1 + n > width) {
            fprintf(out, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", n, text);
        at += n;
        text += n;
        while (*text == ' ') text++;
    }
    fputc('\n', out);
}

static void print_option(FILE *out, char letter, const char *name, const char *value, const char *help) {
    char head[96], dash[8] = "    ";
    if (letter) snprintf(dash, sizeof dash, "-%c, ", letter);
    int n = snprintf(head, sizeof head, "  %s--%s%s%s", dash, name, value ? " " : "", value ? value : "");
    fputs(head, out);
    if (n > HELP_COLUMN - 2) {
        fputc('\n', out);
        n = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - n, "");
    print_wrapped(out, help, HELP_COLUMN);
}

/* "checkpoint: " or "not load: " before what only some of the benchmarks take. */
static void name_benchmarks(char *text, size_t size, const graft_option *o) {
    const char *const *names = graft_benchmarks(), *mark = "";
    size_t n = 0, count = 0, takers = 0;
    for (; names[count]; count++) takers += graft_bench_takes(names[count], o->name);
    bool few = takers + 1 < count; /* else those that do not take it are named */
    text[0] = '\0';
    if (takers == count) return;
    if (!few) n = (size_t)snprintf(text, size, "not ");
    for (size_t i = 0; i < count; i++) {
        if (graft_bench_takes(names[i], o->name) != few) continue;
        n += (size_t)snprintf(text + n, size - n, "%s%s", mark, names[i]);
        mark = ", ";
    }
    snprintf(text + n, size - n, ": ");
}

void help_meaning(char *text, size_t size, const graft_option *o, bool benchmarks) {
    char by[64] = "";
    if (benchmarks) name_benchmarks(by, sizeof by, o);
    snprintf(text, size, "%s%s", by, o->help ? o->help : "");
    size_t n = strlen(text);
    if (o->choices) snprintf(text + n, size - n, "%s[%s]", n ? " " : "", o->choices);
}

static void print_row(FILE *out, const graft_option *o, bool benchmarks) {
    char text[HELP_MEANING];
    help_meaning(text, sizeof text, o, benchmarks);
    size_t n = strlen(text);
    if (o->value && o->fallback && o->fallback[0])
        snprintf(text + n, sizeof text - n, " (default %s)", o->fallback);
    print_option(out, o->letter, o->name, o->value, text);
}

static void print_group(FILE *out, const verb *v, const char *benchmark, int group) {
    const char *const *headings = graft_option_headings();
    bool titled = false;
    const graft_option *o;
    for (size_t i = 0; (o = graft_option_at(i)); i++) {
        if (!(o->verbs & v->bit) || o->heading != group) continue;
        if (benchmark && !graft_bench_takes(benchmark, o->name)) continue;
        if (!titled) fprintf(out, "\n%s\n", headings[group]);
        titled = true;
        print_row(out, o, v->bit == GRAFT_VERB_BENCH && !benchmark);
    }
    if (headings[group + 1]) return; /* the command line's own stand under the last */
    if (!titled) fprintf(out, "\n%s\n", headings[group]);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        print_option(out, flags[i].letter, flags[i].name, NULL, flags[i].help);
}

static void print_shapes(FILE *out) {
    const char *const *shapes = graft_shapes();
    fputs("\nShapes\n  ", out);
    for (size_t i = 0; shapes[i]; i++) fprintf(out, "%s%s", i ? ", " : "", shapes[i]);
    fputc('\n', out);
}

void help_benchmarks(char *text, size_t size) {
    const char *const *names = graft_benchmarks();
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; names[i] && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", !i ? "" : names[i + 1] ? ", " : " or ", names[i]);
}

const char *help_words(char *text, size_t size, const verb *v) {
    if (v->bit != GRAFT_VERB_BENCH) return v->words;
    help_benchmarks(text, size);
    return text;
}

/* The benchmark of that name, NULL for any other word. */
static const char *benchmark_of(const verb *v, const char *word) {
    const char *const *names = graft_benchmarks();
    for (size_t i = 0; word && v->bit == GRAFT_VERB_BENCH && names[i]; i++)
        if (strcmp(names[i], word) == 0) return names[i];
    return NULL;
}

void help_verb(FILE *out, const verb *v, const char *word) {
    const char *benchmark = benchmark_of(v, word);
    char text[HELP_WORDS];
    const char *words = help_words(text, sizeof text, v);
    fprintf(out, "graft %s - %s\n\nUsage: graft %s%s%s%s\n", v->name, v->summary, v->name,
            words[0] ? " " : "", benchmark ? benchmark : words, v->bit ? " [options]" : "");
    if (v->about[0]) fputc('\n', out);
    if (v->about[0]) print_wrapped(out, v->about, 0);
    if (v->bit)
        for (int g = 0; graft_option_headings()[g]; g++) print_group(out, v, benchmark, g);
    if (v->bit && graft_option_find(v->bit, "shape") && (!benchmark || graft_bench_takes(benchmark, "shape")))
        print_shapes(out);
    fputs("\nExamples\n", out);
    for (size_t i = 0; v->examples[i]; i++)
        if (!benchmark || strstr(v->examples[i], benchmark)) fprintf(out, "  %s\n", v->examples[i]);
}

void help_program(FILE *out) {
    fputs("graft - fine-tunes language models on the machine you have\n\nUsage: graft VERB "
          "[options]\n\nVerbs\n",
          out);
    const verb *v;
    for (size_t i = 0; (v = verb_at(i)); i++) fprintf(out, "  %-10s %s\n", v->name, v->summary);
    fputs("\nA first fine-tuning\n"
          "  graft convert --model model.gguf --mlx-path model-4bit -q\n"
          "  graft plan --model model-4bit --data data\n"
          "  graft train --model model-4bit --data data --adapter-path adapters\n"
          "  graft generate --model model-4bit --adapter-path adapters --prompt 'Hello' --compare\n"
          "\ngraft VERB --help shows the options of a verb. Exit codes: 0 done, 1 failed, 2 wrong usage,\n"
          "130 interrupted.\n",
          out);
}

int cmd_help(cli *c) {
    if (c->words_count == 0) {
        help_program(stdout);
        return EXIT_DONE;
    }
    const verb *v = verb_find(c->words[0]);
    if (v) {
        help_verb(stdout, v, NULL);
        return EXIT_DONE;
    }
    return cli_report(c, verb_unknown(c, c->words[0]));
}
