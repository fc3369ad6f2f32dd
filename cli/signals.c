/* signals.c - Ctrl-C asks to stop and save; a second one exits at once. */
#include "cli.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* The one place with process-wide state: a handler has no other way to reach the run. */
static volatile int stop_flag, quiet;
/* Why the flag is up: Ctrl-C, where it ends an answer alone; a signal that ends the program. */
static volatile int interrupted, ended;

/* Handlers may run in any thread, and the pool's threads look, too. */
static void put(volatile int *flag, int value) {
    __atomic_store_n(flag, value, __ATOMIC_SEQ_CST);
}
static int is(const volatile int *flag) {
    return __atomic_load_n(flag, __ATOMIC_SEQ_CST);
}

static void say(const char *text) {
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

static void on_signal(int number) {
    int before = errno; /* somebody may be about to look at it */
    (void)number;
    bool twice = __atomic_exchange_n(&ended, 1, __ATOMIC_SEQ_CST); /* two may come in two threads at once */
    if (twice || (is(&stop_flag) && !is(&interrupted))) {
        say("\n");
        _exit(EXIT_INTERRUPTED);
    }
    put(&stop_flag, 1);
    if (!is(&quiet)) say("\nstopping; once more to exit at once\n");
    errno = before;
}

/* Any number of them until the answer has ended: the conversation is worth more than haste. */
static void on_interrupt(int number) {
    (void)number;
    put(&interrupted, 1);
    put(&stop_flag, 1);
}

void signals_answers_only(void) {
    struct sigaction before, action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(SIGINT, &action, NULL);
}

bool signals_interrupted(void) {
    if (!is(&interrupted)) return false;
    put(&stop_flag, 0);
    put(&interrupted, 0);
    put(&stop_flag, 0); /* one may have come between: up without a reason it would end the conversation */
    if (!is(&ended)) return true; /* looked at last: whenever a signal to end comes, the flag stays up */
    put(&stop_flag, 1);
    return false;
}

void signals_install(void) {
    static const int asked[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        struct sigaction before;
        /* what nohup or a shell's & told us to ignore stays ignored */
        if (sigaction(asked[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(asked[i], &action, NULL);
    }
    /* a reader that went away shows as EPIPE, so that a training behind a pipe is not killed half-way */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file as large as ulimit -f allows: EFBIG, an error like a full disk */
}

const volatile int *signals_stop(void) {
    return &stop_flag;
}
void signals_raise_stop(void) {
    put(&stop_flag, 1);
}
void signals_quiet(void) {
    put(&quiet, 1);
}
