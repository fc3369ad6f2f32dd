/* cli.h - what the files of the command line share.
 * What it does: turns arguments into graft_options, calls one library function per verb, prints the outcome.
 * May include: graft.h, jansson, POSIX. Never: src/ headers, arithmetic on models.
 *
 * stdout carries the outcome (or the one JSON document), stderr messages and bars. A verb returns its exit
 * code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
 */
#ifndef GRAFT_CLI_H
#define GRAFT_CLI_H
#include "graft.h"
#include <stdio.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };
enum { CLI_WORDS_MAX = 9, CLI_EXAMPLES_MAX = 7 };

/* The last values of a curve in one line. */
enum { SPARK_MOST = 16, SPARK_TEXT = 96 };
typedef struct spark {
    double values[SPARK_MOST];
    int count;
} spark;
void spark_add(spark *s, double value); /* what is no number is left out */
/* "  loss 2.31 ▇▅▃▁", or without such letters the last three numbers; "" for none. The columns that it takes.
 */
int spark_text(char text[SPARK_TEXT], const spark *s, bool utf8);
bool spark_utf8(void); /* does the locale of the environment say UTF-8? */

/* A progress bar on a terminal, sparse lines elsewhere; always on stderr. */
typedef struct progress {
    bool terminal;      /* stderr is one that understands \r */
    bool drawn;         /* a bar stands on the current line */
    char phase[24];     /* of the last update */
    int64_t first;      /* `done` when the phase began: the rate counts from there */
    double began, last; /* of the phase; when something was shown */
    double seen;        /* of the last update */
    int64_t done, total;
    int64_t trained; /* `done` of the last update of "train" */
    bool utf8;
    spark losses;   /* of the training that is shown */
    char label[24]; /* before the phase; "" for none */
} progress;

/* Several trainings at once: a bar for each, one below the other. */
enum { BARS_MOST = 64 };
typedef struct bars {
    progress each[BARS_MOST];
    int64_t trial[BARS_MOST]; /* 0: a line that nobody has had */
    int most, drawn;          /* lines; those that stand on the terminal */
    double last;              /* when they were drawn */
} bars;

typedef struct cli cli;

/* One row per verb. */
typedef struct verb {
    const char *name;
    graft_verb bit;    /* 0: takes no option of the library */
    const char *words; /* positional words in the usage line, "" if none; bench: see help_words */
    int words_max;
    const char *summary;
    const char *about; /* the paragraph of `graft VERB --help` */
    int (*run)(cli *c);
    const char *examples[CLI_EXAMPLES_MAX + 1]; /* ended by NULL */
} verb;

struct cli {
    const verb *verb; /* NULL before it is known */
    graft_options options;
    bool json, help, version;
    const char *words[CLI_WORDS_MAX]; /* positional arguments, borrowed from argv */
    int words_count;
    bool color;    /* stdout is a terminal that shows colours */
    bool stream;   /* stdout is a terminal */
    int out_errno; /* why stdout stopped taking bytes; 0 while it does */
    progress bar;
    int rank;          /* among those that mpirun started; 0: alone, or the one that prints */
    bool told;         /* the error is rank 0's to print */
    graft_hooks hooks; /* user is this cli; event prints notes and bars */
    graft_error err;
};

/* verb_table.c */
const verb *verb_at(size_t index); /* NULL past the end */
const verb *verb_find(const char *name);

/* args.c - fills c->verb, options, words from argv[1..]. Errors: GRAFT_USAGE; what the YAML loader says. */
graft_status args_parse(cli *c, int argc, char **argv);
/* Fails with the nearest verb as the hint; returns GRAFT_USAGE. */
graft_status verb_unknown(cli *c, const char *name);

/* help.c */
/* A switch of every verb that the command line itself understands, beside the library's table. */
typedef struct cli_flag {
    const char *name;
    char letter;
    const char *help;
} cli_flag;
const cli_flag *cli_flag_at(size_t index); /* NULL past the end */
void help_program(FILE *out);
enum { HELP_MEANING = 1024 };
/* An option's help with its choices, without its default; `benchmarks`: and which of them take it. */
void help_meaning(char *text, size_t size, const graft_option *o, bool benchmarks);
/* "load, train or generate": the benchmarks, where a verb's row has words of its own for everything else. */
void help_benchmarks(char *text, size_t size);
/* What stands behind the verb in its usage line; "" if nothing. */
const char *help_words(char *text, size_t size, const verb *v);
enum { HELP_WORDS = 128 };
/* The page of a verb; of one benchmark if `word` (may be NULL) names one. */
void help_verb(FILE *out, const verb *v, const char *word);

/* errors.c */
/* Fills c->err unless it already holds an error; `what` is a printf format. Returns status. */
graft_status cli_fail(cli *c, graft_status status, const char *what, ...)
    __attribute__((format(printf, 3, 4)));
/* Fill in one field of c->err each; values are copied, cut where too long. */
void cli_where(cli *c, const char *text);
void cli_expected(cli *c, const char *text);
void cli_found(cli *c, const char *text);
void cli_hint(cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints c->err for a failed status and gives the exit code. For GRAFT_OK prints nothing and gives 0. */
int cli_report(cli *c, graft_status status);

/* signals.c */
void signals_install(void);
const volatile int *signals_stop(void); /* non-zero once a signal asked to stop */
void signals_raise_stop(void);          /* as if a signal had come */
void signals_quiet(void);               /* says nothing when one comes: another rank does */
/* From now on Ctrl-C ends an answer and not the program: it raises the flag, which signals_interrupted takes
 * down again; true where it was Ctrl-C alone that raised it. More of them before that change nothing. */
void signals_answers_only(void);
bool signals_interrupted(void);

/* mpi_run.c */
/* Ranks that a launcher started together; 1: this process is alone. */
int mpi_ranks(void);
/* This one among them, as the launcher says before MPI is up; 0 where alone. */
int mpi_rank(void);
/* Do all of them have the same arguments, and so the same mistakes in them? */
bool mpi_same_command(void);
/* Initializes MPI where there are several ranks; c->rank is set. GRAFT_UNSUPPORTED without -DGRAFT_MPI=ON, or
 * where another MPI's launcher started them. */
graft_status mpi_begin(cli *c, graft_comm *comm);
void mpi_end(graft_comm *comm);

/* sigbus.c */
void bus_install(void); /* SIGBUS from a mapped file becomes an error that names it, with EXIT_FAILED */

/* progress.c */
void progress_init(progress *p);
void progress_update(progress *p, const char *phase, int64_t done, int64_t total);
/* A report of the training: its loss is shown from then on. Other events do nothing. */
void progress_report(progress *p, const graft_event *event);
void progress_clear(progress *p); /* removes the bar: call before printing anything */
/* Lines for at most `most` trainings at once, told apart by the trial of their events. */
void bars_init(bars *b, int most);
void bars_event(bars *b, const graft_event *event); /* progress and reports; others do nothing */
void bars_clear(bars *b);                           /* as progress_clear */
/* The event callback of every verb (user is the cli): notes, bars, files written. */
void cli_event(void *user, const graft_event *event);

/* out.c - formatting and stdout. Text from files or models goes through out_text: control characters cannot
 * reach a terminal. */
void out_text(FILE *out, const char *text, size_t n, bool terminal);
/* Remembers why stdout failed; returns false once it takes no more bytes. */
bool out_alive(cli *c);
/* Flushes stdout. A closed pipe is no failure; a full disk is GRAFT_IO. */
graft_status out_finish(cli *c);
typedef struct out_buf {
    char text[32];
} out_buf; /* room for one formatted value; the functions below return its text */
const char *out_size(out_buf *b, uint64_t bytes);    /* 312 MB, 1.24 GB */
const char *out_count(out_buf *b, int64_t n);        /* 134,515,008 */
const char *out_seconds(out_buf *b, double seconds); /* 12 s, 3 min 04 s, 2 h 05 min */
int out_width(FILE *stream);                         /* columns of the terminal, 80 where unknown */

/* wrap.c */
/* Both texts wrapped and printed side by side where `width` is enough, else one below the other. */
void out_compare(FILE *out, int width, const char *left_title, const char *left, const char *right_title,
                 const char *right, bool terminal);

/* plot.c - losses as a small picture of text. */
typedef struct plot_point {
    double x, y;
} plot_point;
typedef struct plot_points {
    plot_point *at;
    size_t count, room;
} plot_points;                                          /* owned: free(at) */
bool plot_add(plot_points *points, double x, double y); /* false when out of memory */
/* `lines` of '*' with `marks` as 'o' above an axis of iterations. Prints nothing below two points. */
void plot_print(FILE *out, const plot_points *lines, const plot_points *marks, int width, int height);

/* cmd_*.c */
int cmd_plan(cli *c);
int cmd_convert(cli *c);
int cmd_train(cli *c);
int cmd_eval(cli *c);
int cmd_fuse(cli *c);
int cmd_download(cli *c);
int cmd_export(cli *c);
int cmd_generate(cli *c);
int cmd_chat(cli *c);
int cmd_serve(cli *c);
int cmd_tokenize(cli *c);
int cmd_info(cli *c);
int cmd_report(cli *c);
int cmd_sweep(cli *c);
int cmd_bench(cli *c);
int cmd_help(cli *c);

#endif
