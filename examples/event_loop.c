/* event_loop MODEL DATA ADAPTERS - an application that goes on answering its user while it trains: training
 * runs in a thread of its own, tells the loop what it does through a pipe, and looks at a stop flag.
 *
 * The loop is poll(2), as it is at the bottom of GLib, libuv or Qt. Lines typed meanwhile are commands:
 * "stop" saves a checkpoint that --resume continues, anything else asks how far the training is.
 *
 *     cc event_loop.c $(pkg-config --cflags --libs graft) -pthread -o event_loop
 */
#include <graft.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What crosses the pipe: small enough that a write of it is never torn. */
typedef struct message {
    enum { PROGRESS, LOSS, FINISHED } kind;
    long long done, total;
    double loss;
} message;

typedef struct training {
    const graft_options *options;
    int to_loop;       /* the pipe's end that the training writes to */
    volatile int stop; /* the loop sets it; the training looks at it between iterations */
    /* for the loop, once FINISHED has come */
    graft_status status;
    graft_error err;
    graft_train_result result;
} training;

static void tell(const training *t, message m) {
    if (write(t->to_loop, &m, sizeof m) != (ssize_t)sizeof m) return; /* the loop is gone: nobody to tell */
}

/* Runs in the training's thread. */
static void on_event(void *user, const graft_event *e) {
    const training *t = user;
    if (e->kind == GRAFT_EVENT_PROGRESS && strcmp(e->phase, "train") == 0)
        tell(t, (message){.kind = PROGRESS, .done = e->done, .total = e->total});
    if (e->kind == GRAFT_EVENT_TRAIN)
        tell(t, (message){.kind = LOSS, .done = e->iteration, .loss = e->train_loss});
}

static void *train(void *user) {
    training *t = user;
    const graft_hooks hooks = {.user = t, .event = on_event, .stop = &t->stop};
    t->status = graft_train(t->options, &hooks, &t->result, &t->err);
    tell(t, (message){.kind = FINISHED});
    return NULL;
}

/* Lines that the user typed; 0 at the end of the input. read(2), since a stream would keep lines from
 * poll(2). */
static int on_commands(training *t, message last) {
    char typed[256];
    ssize_t n = read(0, typed, sizeof typed - 1);
    if (n <= 0) return 0;
    typed[n] = '\0';
    for (char *line = strtok(typed, "\n"); line; line = strtok(NULL, "\n")) {
        if (strcmp(line, "stop") == 0) {
            t->stop = 1;
            puts("stopping after this iteration");
        } else {
            printf("at iteration %lld of %lld\n", last.done, last.total);
        }
    }
    return 1;
}

static void loop(training *t, int from_training) {
    struct pollfd watched[2] = {{.fd = from_training, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    message m, last = {0};
    while (poll(watched, 2, -1) > 0) {
        if (watched[0].revents & POLLIN) {
            if (read(from_training, &m, sizeof m) != (ssize_t)sizeof m || m.kind == FINISHED) return;
            if (m.kind == PROGRESS) last = m;
            if (m.kind == LOSS) printf("iteration %lld: loss %.4f\n", m.done, m.loss);
        }
        if (watched[1].revents && !on_commands(t, last)) watched[1].fd = -1; /* nobody types any more */
    }
}

static graft_status set_paths(graft_options *o, char **argv, graft_error *err) {
    static const char *const names[] = {"model", "data", "adapter-path"};
    graft_status st = graft_options_set(o, GRAFT_VERB_TRAIN, "batch-size", "2", err);
    for (int i = 0; st == GRAFT_OK && i < 3; i++)
        st = graft_options_set(o, GRAFT_VERB_TRAIN, names[i], argv[i + 1], err);
    return st;
}

int main(int argc, char **argv) {
    int ends[2];
    pthread_t thread;
    graft_options options;
    training t = {
        .options = &options, .status = GRAFT_INTERNAL, .err = {.what = "no thread could be started"}};
    if (argc != 4) return fprintf(stderr, "usage: event_loop MODEL DATA ADAPTERS\n"), 2;
    graft_options_init(&options);
    options.iters = 200;
    options.steps_per_report = 20;
    graft_error err = {0};
    if (set_paths(&options, argv, &err) != GRAFT_OK || pipe(ends) != 0) {
        graft_options_free(&options);
        return fprintf(stderr, "%s\n", err.what[0] ? err.what : "no pipe"), 1;
    }
    t.to_loop = ends[1];
    if (pthread_create(&thread, NULL, train, &t) == 0) {
        loop(&t, ends[0]);
        pthread_join(thread, NULL);
    }
    graft_options_free(&options);
    if (t.status == GRAFT_INTERRUPTED) puts("stopped; the checkpoint is in the adapter's directory");
    if (t.status == GRAFT_OK) printf("done: loss %.4f\n", t.result.train_loss);
    if (t.status != GRAFT_OK && t.status != GRAFT_INTERRUPTED)
        fprintf(stderr, "%s: %s\n", t.err.what, t.err.where);
    return t.status == GRAFT_OK || t.status == GRAFT_INTERRUPTED ? 0 : 1;
}
