/* The program killed at any instant, by a signal that nobody can catch, and resumed each time with other
 * threads, another rung and other saves: it ends in the bytes of the run that nothing stopped, and every
 * checkpoint on the way is whole. tools/kill_test.sh runs this thousands of times and on a real model:
 *
 *     GRAFT          the program, the built one
 *     GRAFT_KILLS    how many, 30
 *     GRAFT_SEED     of the instants, 1
 *     GRAFT_DELAY    seconds that a process lives at most, 0.06
 *     GRAFT_MODEL, GRAFT_DATA, GRAFT_OPTIONS    the run; a tiny one
 *     GRAFT_SAVES    values of --save-every to choose from, "1 2 3 0.005s"
 */
#include "tests/tiny_run.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static const char *setting(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

typedef struct campaign {
    gr_rng rng;
    char *model, *whole, *part, *points, *best, *log;
    const char *options, *saves;
    double delay;
    int kills, in_save, at_file, torn, starts, rounds;
    int64_t checkpoints;
    gr_model *base;
    gr_tuning *tuning; /* what trains, for looking at adapters */
} campaign;

/* One of the words of `list`. */
static void choose(campaign *c, char word[32], const char *list) {
    char copy[256], *words[16], *rest = NULL;
    uint64_t n = 0;
    snprintf(copy, sizeof copy, "%s", list);
    for (char *at = strtok_r(copy, " ", &rest); at && n < 16; at = strtok_r(NULL, " ", &rest))
        words[n++] = at;
    assert_true(n > 0);
    snprintf(word, 32, "%s", words[gr_rng_below(&c->rng, n)]);
}

/* Starts `graft train` into dir; pid. */
static pid_t start(campaign *c, const char *dir, bool resume) {
    char options[2048], *argv[80], *rest = NULL, word[3][32];
    int n = 0;
    snprintf(options, sizeof options, "%s", c->options);
    argv[n++] = (char *)(uintptr_t)setting("GRAFT", GRAFT_BINARY);
    argv[n++] = (char *)(uintptr_t) "train";
    argv[n++] = (char *)(uintptr_t) "--model";
    argv[n++] = c->model;
    argv[n++] = (char *)(uintptr_t) "--data";
    argv[n++] = data;
    argv[n++] = (char *)(uintptr_t) "--adapter-path";
    argv[n++] = (char *)(uintptr_t)dir;
    argv[n++] = (char *)(uintptr_t) "--gguf";
    for (char *at = strtok_r(options, " ", &rest); at && n < 60; at = strtok_r(NULL, " ", &rest))
        argv[n++] = at;
    if (resume) {
        choose(c, word[0], "1 2 3");
        choose(c, word[1], "none mlp layer auto");
        choose(c, word[2], c->saves);
        static const char *const names[] = {"--threads", "--grad-checkpoint", "--save-every"};
        for (int i = 0; i < 3; i++) {
            argv[n++] = (char *)(uintptr_t)names[i];
            argv[n++] = word[i];
        }
        argv[n++] = (char *)(uintptr_t) "--keep-last";
        argv[n++] = (char *)(uintptr_t)(gr_rng_below(&c->rng, 2) ? "2" : "3");
        argv[n++] = (char *)(uintptr_t) "--resume";
    }
    argv[n] = NULL;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, c->log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    pid_t pid;
    assert_int_equal(posix_spawn(&pid, argv[0], &files, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&files);
    return pid;
}

static void say_log(const campaign *c) {
    char *log = tiny_read(root, "log", NULL);
    print_error("%s\n", log);
    free(log);
    print_error("%s\n", c->part);
}

static void must_exit_0(const campaign *c, int status) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    say_log(c);
    fail_msg("status %x after %d kills", (unsigned)status, c->kills);
}

/* True when the process ended by itself within that time. */
static bool ended(pid_t pid, double seconds, int *status) {
    for (double end = gr_clock() + seconds;;) {
        if (waitpid(pid, status, WNOHANG) == pid) return true;
        double left = end - gr_clock();
        if (left <= 0) return false;
        double nap = left < 0.001 ? left : 0.001;
        nanosleep(&(struct timespec){0, (long)(nap * 1e9)}, NULL);
    }
}

/* Waits until the n-th file is begun in one of the directories, which is inside a save, or for that long. */
static bool ended_at_file(const campaign *c, pid_t pid, uint64_t n, double seconds, int *status) {
    char events[4096];
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0) return ended(pid, seconds, status); /* none left on this machine */
    (void)inotify_add_watch(fd, c->part, IN_CREATE);
    (void)inotify_add_watch(fd, c->points, IN_CREATE);
    (void)inotify_add_watch(fd, c->best, IN_CREATE);
    uint64_t count = 0;
    bool done = false;
    for (double end = gr_clock() + seconds; !done && count < n && gr_clock() < end;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 1) == 1) {
            ssize_t len = read(fd, events, sizeof events);
            for (ssize_t at = 0; at < len; count++)
                at += (ssize_t)sizeof(struct inotify_event) +
                      ((struct inotify_event *)(void *)(events + at))->len;
        }
        done = waitpid(pid, status, WNOHANG) == pid;
    }
    close(fd);
    return done;
}

/* What a killed run left: every checkpoint whole, an adapter that is whole or known to be torn. */
static void look(campaign *c) {
    DIR *dir = opendir(c->points);
    struct dirent *entry;
    bool temp = false;
    int64_t newest = -1;
    while (dir && (entry = readdir(dir))) {
        int64_t iteration;
        graft_error err = {0};
        temp = temp || gr_ends_with(entry->d_name, ".tmp");
        if (gr_ends_with(entry->d_name, ".damaged")) fail_msg("%s after %d kills", entry->d_name, c->kills);
        if (!gr_ends_with(entry->d_name, ".safetensors")) continue;
        char *path = tiny_join(c->points, entry->d_name);
        if (gr_checkpoint_verify(path, &iteration, &err) != GRAFT_OK)
            fail_msg("%s: %s, after %d kills", path, err.what, c->kills);
        newest = gr_max_i64(newest, iteration);
        c->checkpoints++;
        free(path);
    }
    if (dir) closedir(dir);
    const char *const places[] = {c->part, c->best};
    for (int i = 0; i < 2; i++) {
        gr_adapter_mark mark;
        gr_adapter_place place = gr_adapter_which(&mark, places[i], &c->base->config, c->tuning,
                                                  GR_ADAPTER_USUAL | GR_ADAPTER_GGUF);
        c->torn += place == GR_ADAPTER_TORN;
        temp = temp || place == GR_ADAPTER_TORN;
        if (place == GR_ADAPTER_WHOLE && mark.iteration > newest)
            fail_msg("%s: an adapter of iteration %lld, and the newest checkpoint is %lld", places[i],
                     (long long)mark.iteration, (long long)newest);
        dir = opendir(places[i]);
        while (dir && (entry = readdir(dir))) temp = temp || gr_ends_with(entry->d_name, ".tmp");
        if (dir) closedir(dir);
    }
    c->in_save += temp;
}

/* One process: killed, or at its end. */
static void live(campaign *c, bool to_the_end) {
    int status;
    double delay = c->delay * gr_rng_uniform(&c->rng);
    pid_t pid = start(c, c->part, true);
    c->starts++;
    bool at_file = gr_rng_below(&c->rng, 3) == 0, done;
    if (to_the_end)
        done = waitpid(pid, &status, 0) == pid;
    else if (at_file) {
        uint64_t n = 1 + gr_rng_below(&c->rng, 12);
        done = ended_at_file(c, pid, n, 3 * c->delay, &status) ||
               ended(pid, 0.002 * gr_rng_uniform(&c->rng), &status);
    } else
        done = ended(pid, delay, &status);
    if (!done) {
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        c->kills++;
        c->at_file += at_file;
        look(c);
        return;
    }
    must_exit_0(c, status);
    look(c);
    same_best("whole", "part");
    tiny_delete(c->part);
    c->rounds++;
}

static void killed_anywhere(void **state) {
    (void)state;
    int kills = atoi(setting("GRAFT_KILLS", "30"));
    campaign c = {.options =
                      setting("GRAFT_OPTIONS", "--lora-rank 4 --batch-size 2 --grad-accumulation-steps 3 "
                                               "--learning-rate 5e-3 --steps-per-report 3 --val-batches -1 "
                                               "--steps-per-eval 4 --seed 7 --iters 40 --keep-best"),
                  .saves = setting("GRAFT_SAVES", "1 2 3 0.005s"),
                  .delay = atof(setting("GRAFT_DELAY", "0.06"))};
    const char *real = getenv("GRAFT_MODEL");
    gr_rng_seed(&c.rng, (uint64_t)atoll(setting("GRAFT_SEED", "1")), 0);
    c.model = real ? strdup(real) : tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    c.whole = tiny_join(root, "whole");
    c.part = tiny_join(root, "part");
    c.points = tiny_join(c.part, "checkpoints");
    c.best = tiny_join(c.part, "best");
    c.log = tiny_join(root, "log");
    char *own = data;
    if (getenv("GRAFT_DATA")) data = getenv("GRAFT_DATA");
    double began = gr_clock();
    int status;
    pid_t pid = start(&c, c.whole, false);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    must_exit_0(&c, status);
    print_message("not stopped: %.1f s\n", gr_clock() - began);
    float *params = NULL;
    graft_error err = {0};
    if (gr_model_open(&c.base, c.model, &err) != GRAFT_OK ||
        gr_adapter_load(&c.tuning, &params, c.whole, &c.base->config, 0, &err) != GRAFT_OK)
        fail_msg("%s", err.what);
    free(params);
    double said = gr_clock();
    while (c.kills < kills || gr_path_exists(c.part)) {
        live(&c, c.kills >= kills);
        if (gr_clock() - said < 10) continue;
        said = gr_clock();
        print_message("%d kills, %lld checkpoints, %d runs finished\n", c.kills, (long long)c.checkpoints,
                      c.rounds);
    }
    print_message(
        "%d kills (%d inside a save, %d aimed there), %d processes, %d runs finished, each with the bytes "
        "of the run that nothing stopped; %lld checkpoints loaded, 0 damaged; %d adapters torn, seen as "
        "such and mended; %.0f s\n",
        c.kills, c.in_save, c.at_file, c.starts, c.rounds, (long long)c.checkpoints, c.torn,
        gr_clock() - began);
    assert_true(c.rounds > 0);
    data = own;
    gr_tuning_free(c.tuning);
    gr_model_free(c.base);
    if (real)
        free(c.model);
    else
        tiny_remove(c.model);
    forget("whole");
    unlink(c.log);
    free(c.log);
    free(c.best);
    free(c.points);
    free(c.part);
    free(c.whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(killed_anywhere)};
    return cmocka_run_group_tests_name("kill", tests, setup, teardown);
}
