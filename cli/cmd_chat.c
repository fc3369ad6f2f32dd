/* cmd_chat.c - a conversation: lines in, answers out as they grow. */
#include "json_out.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_LIMIT = 1 << 20, /* bytes, of a message too; no context is that long */
    TERMINAL_LIMIT = 4095 /* bytes of a line that Linux's terminals pass on; they drop the rest */
};
static const char quotes[] = "\"\"\"";

/* Lines of standard input. Not by stdio: a signal has to end the waiting. */
typedef struct lines {
    char *text;
    size_t used, room, next; /* bytes there; of them, where the next line begins */
    bool over;
} lines;

typedef struct talk {
    cli *c;
    graft_chat *chat;
    lines in;
    char *message; /* of several lines; owned */
    bool people;   /* somebody types */
    bool over;
} talk;

static bool more(lines *in) {
    if (in->next) {
        memmove(in->text, in->text + in->next, in->used - in->next);
        in->used -= in->next;
        in->next = 0;
    }
    if (in->room - in->used < 4096) {
        char *grown = realloc(in->text, in->room + 65536);
        if (!grown) return false;
        in->text = grown;
        in->room += 65536;
    }
    ssize_t n = read(STDIN_FILENO, in->text + in->used, in->room - in->used - 1);
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    in->over = n == 0;
    in->used += (size_t)n;
    return true;
}

static char *cut_line(talk *t, graft_status *status) {
    *status = cli_fail(t->c, GRAFT_RANGE, "the terminal cut a line, which is not said");
    cli_expected(t->c, "fewer than 4095 bytes");
    cli_hint(t->c, "several lines between \"\"\" are one message; a pipe's lines may be longer");
    return NULL;
}

/* The next line without its end (CR LF is one, too), NULL at the end of the input; borrowed until the next
 * call. *status is GRAFT_INTERRUPTED when a signal came instead. */
static char *next_line(talk *t, graft_status *status) {
    lines *in = &t->in;
    *status = GRAFT_OK;
    for (;;) {
        char *from = in->text ? in->text + in->next : NULL;
        size_t n = in->used - in->next;
        char *end = n ? memchr(from, '\n', n) : NULL;
        if (!end && in->over && n)
            end = from + n; /* the last line may lack its end: there is a byte for it */
        if (end) {
            *end = '\0';
            in->next = (size_t)(end - in->text) + (end < in->text + in->used);
            bool cut = t->people && end - from >= TERMINAL_LIMIT;
            if (end > from && end[-1] == '\r') *--end = '\0';
            if (cut) return cut_line(t, status);
            if (!memchr(from, '\0', (size_t)(end - from))) return from;
            *status = cli_fail(t->c, GRAFT_CORRUPT, "a line of standard input holds a NUL byte");
            return NULL;
        }
        if (in->over) return NULL;
        if (n > LINE_LIMIT) {
            in->next = in->used;
            *status = cli_fail(t->c, GRAFT_RANGE, "a line of standard input is too long");
            return NULL;
        }
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&p, 1, 500); /* a signal between look and wait is seen then */
        if (__atomic_load_n(signals_stop(), __ATOMIC_SEQ_CST)) {
            *status = GRAFT_INTERRUPTED;
            return NULL;
        }
        if (ready > 0 && !more(in)) {
            *status = cli_fail(t->c, GRAFT_IO, "cannot read standard input");
            cli_found(t->c, strerror(errno));
            return NULL;
        }
    }
}

static bool ends_quoted(const char *line) {
    size_t n = strlen(line);
    return n >= 3 && !strcmp(line + n - 3, quotes);
}

/* Reads on to the end of a message that cannot be said: what people pasted is not to be taken for turns and
 * commands. */
static char *skip_quoted(talk *t, graft_status *status) {
    const char *line;
    graft_error why = t->c->err;
    do {
        t->c->err = (graft_error){0};
        fputs(". ", stderr);
        line = next_line(t, status);
    } while (line ? !ends_quoted(line) : *status == GRAFT_RANGE || *status == GRAFT_CORRUPT);
    if (*status != GRAFT_OK) return NULL; /* by what ends more than the message */
    t->c->err = why;
    *status = why.status;
    return NULL;
}

/* What stands between three quotes at the beginning of a line and three at the end of one, in t->message.
 * line: the first, behind its quotes. */
static char *quoted(talk *t, const char *line, graft_status *status) {
    bool first = true;
    for (size_t used = 0;;) {
        size_t n = strlen(line);
        bool last = ends_quoted(line);
        if (last) n -= 3;
        if (last && !n && used) used--; /* the line end before quotes alone on theirs is not said */
        if (used + n + 2 > LINE_LIMIT) {
            *status = cli_fail(t->c, GRAFT_RANGE, "a message of standard input is too long");
            return t->people && !last ? skip_quoted(t, status) : NULL;
        }
        char *grown = realloc(t->message, used + n + 2);
        if (!grown) {
            *status = cli_fail(t->c, GRAFT_NO_MEMORY, "no memory for the message");
            return NULL;
        }
        t->message = grown;
        memcpy(grown + used, line, n);
        used += n;
        grown[used] = '\0';
        if (last) return grown;
        if (used || !first) grown[used++] = '\n'; /* nor is that behind such ones */
        first = false;
        if (t->people) fputs(". ", stderr);
        line = next_line(t, status);
        if (line) continue;
        if (*status == GRAFT_OK)
            *status = cli_fail(t->c, GRAFT_CORRUPT, "the message that three quotes begin has no end");
        else if (t->people && (*status == GRAFT_RANGE || *status == GRAFT_CORRUPT))
            return skip_quoted(t, status);
        return NULL;
    }
}

/* The next line, or a message of several: that is said whatever it begins with. Borrowed until the next call;
 * NULL as next_line has it. */
static char *next_message(talk *t, bool *said, graft_status *status) {
    char *line = next_line(t, status);
    *said = line && !strncmp(line, quotes, 3);
    return *said ? quoted(t, line + 3, status) : line;
}

/* ------------------------------------------------------------------ what is said */

static void on_event(void *user, const graft_event *e) {
    cli *c = user;
    if (e->kind != GRAFT_EVENT_TEXT) {
        cli_event(c, e);
        return;
    }
    if (c->json || e->done <= 0) return;
    progress_clear(&c->bar);
    out_text(stdout, e->text, (size_t)e->done, c->stream);
    fflush(stdout);
}

/* A turn or a command that failed ends neither the conversation nor, where people type, the program. */
static graft_status complain(talk *t, graft_status status) {
    if (status == GRAFT_OK || !t->people) return status;
    cli_report(t->c, status);
    t->c->err = (graft_error){0};
    return GRAFT_OK;
}

static graft_status say(talk *t, const char *text) {
    cli *c = t->c;
    graft_hooks hooks = {.user = c, .event = on_event, .stop = c->hooks.stop};
    graft_answer answer = {0};
    int64_t before = 0;
    graft_status status = graft_chat_say(t->chat, text, &hooks, &answer, &c->err);
    bool stopped = signals_interrupted();
    if (status == GRAFT_INTERRUPTED && stopped) { /* before the first token */
        c->err = (graft_error){0};
        fprintf(stderr, "(no answer)\n");
        return GRAFT_OK;
    }
    if (status != GRAFT_OK) return status == GRAFT_INTERRUPTED ? status : complain(t, status);
    before = answer.dropped;
    if (c->json) {
        status = doc_print(c, doc_answer(&answer), true);
    } else {
        putchar('\n');
        if (t->people) putchar('\n');
    }
    fflush(stdout);
    if (before > 0 && !c->json)
        fprintf(stderr, "(the model does not see the first %lld messages any more: --max-seq-length)\n",
                (long long)before);
    if (!strcmp(answer.finish, "length") && t->people)
        fprintf(stderr, "(cut at %lld tokens: --max-tokens, or /set max-tokens N)\n",
                (long long)answer.tokens);
    graft_answer_free(&answer);
    return status;
}

/* ------------------------------------------------------------------ commands; `rest` may be empty */

static graft_status run_adapter(talk *t, const char *rest) {
    const char *path = strcmp(rest, "none") ? rest : NULL;
    if (!rest[0]) return cli_fail(t->c, GRAFT_USAGE, "/adapter needs a PATH, or none");
    return graft_chat_use(t->chat, path, &t->c->hooks, &t->c->err);
}

static graft_status run_system(talk *t, const char *rest) {
    return graft_chat_system(t->chat, rest[0] ? rest : NULL, &t->c->err);
}

/* Does an option shape answers? */
static bool may_set(const graft_option *o) {
    int sampling = graft_option_find(GRAFT_VERB_CHAT, "temp")->heading;
    return o->verbs & GRAFT_VERB_CHAT && (o->heading == sampling || !strcmp(o->name, "seed"));
}

/* Stop texts come in place of those that were there; without one there are none. */
static graft_status set_stop(talk *t, const char *value) {
    graft_options *o = &t->c->options;
    char *before = o->stop;
    o->stop = NULL;
    graft_status status =
        value[0] ? graft_options_set(o, GRAFT_VERB_CHAT, "stop", value, &t->c->err) : GRAFT_OK;
    if (status == GRAFT_OK)
        free(before);
    else
        o->stop = before;
    return status;
}

static graft_status run_set(talk *t, const char *rest) {
    char all[300] = "";
    size_t n = strcspn(rest, " "), at = 0;
    const char *value = rest + n + (rest[n] == ' ');
    const graft_option *o;
    for (size_t i = 0; (o = graft_option_at(i)); i++) {
        if (!may_set(o)) continue;
        bool named = strlen(o->name) == n && !strncmp(o->name, rest, n), stop = !strcmp(o->name, "stop");
        if (named && stop) return set_stop(t, value);
        if (named && value[0])
            return graft_options_set(&t->c->options, GRAFT_VERB_CHAT, o->name, value, &t->c->err);
        if (at < sizeof all)
            at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", at ? ", " : "", o->name);
    }
    cli_fail(t->c, GRAFT_USAGE, "/set needs an OPTION that shapes answers, and a VALUE");
    cli_expected(t->c, all);
    return GRAFT_USAGE;
}

static graft_status run_reset(talk *t, const char *rest) {
    (void)rest;
    graft_chat_reset(t->chat);
    return GRAFT_OK;
}

static graft_status run_save(talk *t, const char *rest) {
    if (!rest[0]) return cli_fail(t->c, GRAFT_USAGE, "/save needs a FILE");
    return graft_chat_save(t->chat, rest, &t->c->err);
}

static graft_status run_quit(talk *t, const char *rest) {
    (void)rest;
    t->over = true;
    return GRAFT_OK;
}

static graft_status run_help(talk *t, const char *rest);

static const struct {
    const char *name, *help;
    graft_status (*run)(talk *t, const char *rest);
} commands[] = {
    {"/adapter", "PATH or none: go on with that adapter (a=0.7,b=0.3 too), or with the base", run_adapter},
    {"/system", "TEXT: another system message; without TEXT none", run_system},
    {"/set", "OPTION VALUE: temp, top-p, max-tokens, seed and so on, as on the command line", run_set},
    {"/reset", "forget what was said", run_reset},
    {"/save", "FILE: the conversation, as a line that training reads", run_save},
    {"/help", "this list", run_help},
    {"/quit", "end; so does Ctrl-D, or Ctrl-C twice", run_quit},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static graft_status run_help(talk *t, const char *rest) {
    (void)t, (void)rest;
    for (int i = 0; i < COMMANDS; i++) fprintf(stderr, "%-9s %s\n", commands[i].name, commands[i].help);
    fprintf(stderr, "//text    says /text\n\"\"\"       begins a message of several lines, which \"\"\" at a "
                    "line's end ends\n");
    return GRAFT_OK;
}

static graft_status command(talk *t, const char *line) {
    const char *names[COMMANDS];
    size_t n = strcspn(line, " ");
    const char *rest = line + n + strspn(line + n, " ");
    for (int i = 0; i < COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strlen(names[i]) == n && !strncmp(names[i], line, n)) return commands[i].run(t, rest);
    }
    char name[40];
    snprintf(name, sizeof name, "%.*s", (int)(n < 39 ? n : 39), line);
    cli_fail(t->c, GRAFT_USAGE, "unknown command %s", name);
    const char *near = graft_nearest_name(name, names, COMMANDS);
    if (near)
        cli_hint(t->c, "did you mean %s?", near);
    else
        cli_hint(t->c, "/help lists the commands; //text says /text");
    return GRAFT_USAGE;
}

/* ------------------------------------------------------------------ turns */

/* said: it is no command, whatever it begins with. */
static graft_status turn(talk *t, const char *line, bool said) {
    if (said) return line[0] ? say(t, line) : GRAFT_OK;
    if (line[0] == '/' && line[1] != '/') return complain(t, command(t, line));
    return line[0] ? say(t, line + (line[0] == '/')) : GRAFT_OK;
}

static graft_status talk_on(talk *t) {
    graft_status status = GRAFT_OK;
    for (int asked = 0; status == GRAFT_OK && !t->over;) {
        bool said;
        if (t->people) fputs("> ", stderr);
        const char *line = next_message(t, &said, &status);
        if (status == GRAFT_INTERRUPTED && signals_interrupted() && !asked++) {
            fputs("\n(once more, or /quit, to end)\n", stderr);
            status = GRAFT_OK;
            continue;
        }
        if (t->people && (status == GRAFT_RANGE || status == GRAFT_CORRUPT)) {
            status = complain(t, status); /* a line that cannot be used */
            continue;
        }
        if (!line) break;
        asked = 0;
        status = turn(t, line, said);
        if (!out_alive(t->c)) break;
    }
    if (t->people) fputc('\n', stderr);
    return status == GRAFT_INTERRUPTED ? GRAFT_OK : status; /* to end is what was asked for */
}

int cmd_chat(cli *c) {
    talk t = {.c = c, .people = isatty(STDIN_FILENO)};
    graft_status status = graft_chat_open(&t.chat, &c->options, &c->hooks, &c->err);
    progress_clear(&c->bar);
    if (status != GRAFT_OK) return cli_report(c, status);
    signals_answers_only();
    if (t.people) fputs("/help lists the commands, Ctrl-C ends an answer, Ctrl-D the conversation\n", stderr);
    status = talk_on(&t);
    graft_chat_close(t.chat);
    free(t.in.text);
    free(t.message);
    return cli_report(c, status);
}
