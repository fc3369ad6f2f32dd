/* progress.c - how far a run is: a bar on a terminal, a line now and then elsewhere. */
#include "cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PROGRESS_TEXT = 384 };                         /* bytes of a line */
static const double redraw_seconds = 0.1;             /* faster only flickers */
static const double gap_seconds = 10, gap_means = 20; /* longer than these is no step */
static const double line_seconds = 30;                /* where nobody watches, a sign of life is enough */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_init(progress *p) {
    const char *term = getenv("TERM");
    bool terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    *p = (progress){.terminal = terminal, .utf8 = terminal && spark_utf8()};
}

void progress_clear(progress *p) {
    if (!p->drawn) return;
    fflush(stdout);
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn = false;
}

/* "40/100  3.2/s  18 s left", as far as it is known. */
static void describe(const progress *p, char *text, size_t n, int64_t done, int64_t total, double t) {
    double elapsed = t - p->began, steps = (double)(done - p->first);
    int at = snprintf(text, n, total > 0 ? "%lld/%lld" : "%lld", (long long)done, (long long)total);
    if (elapsed <= 0 || steps <= 0 || at < 0 || (size_t)at >= n) return;
    double rate = steps / elapsed;
    at += snprintf(text + at, n - (size_t)at, rate >= 99.5 ? "  %.0f/s" : "  %.2g/s", rate);
    out_buf left;
    if (total > done && (size_t)at < n)
        snprintf(text + at, n - (size_t)at, "  %s left", out_seconds(&left, (double)(total - done) / rate));
}

/* The bar, with what stands before and behind it. */
static void bar_text(progress *p, char *line, size_t size, int64_t done, int64_t total, const char *text) {
    char losses[SPARK_TEXT] = "";
    int room = out_width(stderr) - 1 - (int)strlen(p->label) - (int)strlen(p->phase) - (int)strlen(text) - 6;
    if (strcmp(p->phase, "train") == 0) {
        int columns = spark_text(losses, &p->losses, p->utf8);
        if (columns + 8 > room) losses[0] = '\0'; /* the bar matters more */
        room -= losses[0] ? columns : 0;
    }
    char bar[64] = "";
    if (total > 0 && room >= 8) {
        int columns = room < 40 ? room : 40;
        double part = fmin(fmax((double)done / (double)total, 0), 1);
        int full = (int)(part * columns);
        int at = 0;
        bar[at++] = '[';
        for (int i = 0; i < columns; i++) bar[at++] = i < full ? '#' : '.';
        memcpy(bar + at, "]  ", 4);
    }
    snprintf(line, size, "%s%s  %s%s%s", p->label, p->phase, bar, text, losses);
}

static void draw_bar(progress *p, int64_t done, int64_t total, const char *text) {
    char line[PROGRESS_TEXT];
    bar_text(p, line, sizeof line, done, total, text);
    if (!p->drawn) fflush(stdout); /* the bar comes below what was printed */
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    p->drawn = true;
}

/* Was the process stopped, or its machine asleep, since the last update? */
static bool slept(const progress *p, double t) {
    double steps = (double)(p->done - p->first), gap = t - p->seen;
    return steps >= 5 && gap > gap_seconds && gap > gap_means * (p->seen - p->began) / steps;
}

/* Remembers how far it is at t. */
static void follow(progress *p, const char *phase, int64_t done, int64_t total, double t) {
    bool fresh = strncmp(p->phase, phase, sizeof p->phase - 1) != 0 || done < p->first;
    if (fresh) {
        snprintf(p->phase, sizeof p->phase, "%s", phase);
        p->first = done;
        p->began = t;
        p->last = p->terminal ? 0 : t;
    }
    if (strcmp(p->phase, "train") == 0) {
        if (done < p->trained) p->losses.count = 0; /* another training: the next trial of a sweep */
        p->trained = done;
    }
    if (!fresh && slept(p, t)) p->began += t - p->seen; /* no part of the rate */
    p->seen = t;
    p->done = done;
    p->total = total;
}

/* A sign of life where nobody watches. */
static void print_line(progress *p, const char *text) {
    char losses[SPARK_TEXT] = "";
    if (strcmp(p->phase, "train") == 0) spark_text(losses, &p->losses, false);
    fprintf(stderr, "%s%s %s%s\n", p->label, p->phase, text, losses);
}

void progress_update(progress *p, const char *phase, int64_t done, int64_t total) {
    double t = now();
    char text[96];
    follow(p, phase ? phase : "", done, total, t);
    if (t - p->last < (p->terminal ? redraw_seconds : line_seconds)) return;
    p->last = t;
    describe(p, text, sizeof text, done, total, t);
    if (p->terminal)
        draw_bar(p, done, total, text);
    else
        print_line(p, text);
}

/* ---- several */

void bars_init(bars *l, int most) {
    *l = (bars){.most = most < BARS_MOST ? most : BARS_MOST};
    for (int i = 0; i < l->most; i++) progress_init(&l->each[i]);
}

void bars_clear(bars *l) {
    if (!l->drawn) return;
    fflush(stdout);
    fprintf(stderr, "\033[%dA\r\033[J", l->drawn);
    fflush(stderr);
    l->drawn = 0;
}

/* The line of a trial, or that of one which has said nothing for the longest time: it is over. */
static progress *line_of(bars *l, int64_t trial) {
    int oldest = 0;
    for (int i = 0; i < l->most; i++) {
        if (l->trial[i] == trial) return &l->each[i];
        if (l->each[i].seen < l->each[oldest].seen) oldest = i;
    }
    progress *p = &l->each[oldest];
    progress_init(p);
    l->trial[oldest] = trial;
    snprintf(p->label, sizeof p->label, "trial %lld: ", (long long)trial);
    return p;
}

static void draw_bars(bars *l, double t) {
    char text[96], line[PROGRESS_TEXT];
    bars_clear(l);
    fflush(stdout);
    for (int i = 0; i < l->most; i++) {
        progress *p = &l->each[i];
        if (!l->trial[i] || !p->phase[0]) continue;
        describe(p, text, sizeof text, p->done, p->total, t);
        bar_text(p, line, sizeof line, p->done, p->total, text);
        fprintf(stderr, "%s\n", line);
        l->drawn++;
    }
    fflush(stderr);
    l->last = t;
}

void bars_event(bars *l, const graft_event *e) {
    double t = now();
    char text[96];
    progress *p = line_of(l, e->trial);
    progress_report(p, e);
    if (e->kind != GRAFT_EVENT_PROGRESS) return;
    follow(p, e->phase ? e->phase : "", e->done, e->total, t);
    if (p->terminal && t - l->last >= redraw_seconds) draw_bars(l, t);
    if (p->terminal || t - p->last < line_seconds) return;
    p->last = t;
    describe(p, text, sizeof text, e->done, e->total, t);
    print_line(p, text);
}

void progress_report(progress *p, const graft_event *event) {
    if (event->kind == GRAFT_EVENT_TRAIN) spark_add(&p->losses, event->train_loss);
}

void cli_event(void *user, const graft_event *event) {
    cli *c = user;
    switch (event->kind) {
    case GRAFT_EVENT_PROGRESS: progress_update(&c->bar, event->phase, event->done, event->total); break;
    case GRAFT_EVENT_NOTE:
        if (!event->text) break;
        progress_clear(&c->bar);
        out_text(stderr, event->text, strlen(event->text), true);
        fputc('\n', stderr);
        break;
    case GRAFT_EVENT_SAVED:
    case GRAFT_EVENT_TRAIN:
    case GRAFT_EVENT_VALID:
    case GRAFT_EVENT_TEXT: break; /* verbs that have these handle them before they come here */
    }
}
