/* cmd_chat.c - a conversation: lines in, answers out as they grow. */
#include "json_out.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_LIMIT = 1 << 20 }; /* bytes; no context is that long */

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
    bool people; /* somebody types */
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

/* The next line without its end, NULL at the end of the input; borrowed until the next call. *status is
 * GRAFT_INTERRUPTED when a signal came instead. */
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
            if (!memchr(from, '\0', (size_t)(end - from))) return from;
            *status = cli_fail(t->c, GRAFT_CORRUPT, "a line of standard input holds a NUL byte");
            return NULL;
        }
        if (in->over) return NULL;
        if (n > LINE_LIMIT) {
            *status = cli_fail(t->c, GRAFT_RANGE, "a line of standard input is too long");
            return NULL;
        }
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&p, 1, 500); /* a signal between look and wait is seen then */
        if (*signals_stop()) {
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

static graft_status run_set(talk *t, const char *rest) {
    static const char *const allowed[] = {"max-tokens",
                                          "temp",
                                          "top-p",
                                          "top-k",
                                          "min-p",
                                          "seed",
                                          "stop",
                                          "repetition-penalty",
                                          "repetition-context-size"};
    char name[40], all[200] = "";
    size_t n = strcspn(rest, " "), count = sizeof allowed / sizeof *allowed;
    snprintf(name, sizeof name, "%.*s", n < sizeof name ? (int)n : 0, rest);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(allowed[i], name) && rest[n])
            return graft_options_set(&t->c->options, GRAFT_VERB_CHAT, name, rest + n + 1, &t->c->err);
    cli_fail(t->c, GRAFT_USAGE, "/set needs an OPTION that shapes answers, and a VALUE");
    for (size_t i = 0, at = 0; i < count && at < sizeof all; i++)
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%s",
                               i == 0          ? ""
                               : i + 1 < count ? ", "
                                               : " or ",
                               allowed[i]);
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
    fprintf(stderr, "//text    says /text\n");
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
    const char *near = nearest_name(name, names, COMMANDS);
    if (near)
        cli_hint(t->c, "did you mean %s?", near);
    else
        cli_hint(t->c, "/help lists the commands; //text says /text");
    return GRAFT_USAGE;
}

/* ------------------------------------------------------------------ turns */

static graft_status turn(talk *t, const char *line) {
    if (line[0] == '/' && line[1] != '/') return complain(t, command(t, line));
    return line[0] ? say(t, line + (line[0] == '/')) : GRAFT_OK;
}

static graft_status talk_on(talk *t) {
    graft_status status = GRAFT_OK;
    for (int asked = 0; status == GRAFT_OK && !t->over;) {
        if (t->people) fputs("> ", stderr);
        char *line = next_line(t, &status);
        if (status == GRAFT_INTERRUPTED && signals_interrupted() && !asked++) {
            fputs("\n(once more, or /quit, to end)\n", stderr);
            status = GRAFT_OK;
            continue;
        }
        if (!line) break;
        asked = 0;
        status = turn(t, line);
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
    return cli_report(c, status);
}
