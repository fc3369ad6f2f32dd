/* tests/world.h - the built program, run on a tiny model on a machine that misbehaves. place/ has base (4
 * bits), plain (bf16) and data; place/world is the working directory of every run. world_reset makes it what
 * place/start is: adapter/ a finished run, part/ one that was stopped, old/ a conversion. */
#ifndef WORLD_H
#define WORLD_H
#include "adapters/adapter.h"
#include "tests/tiny_run.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { WORLD_SECONDS = 60 }; /* a run that takes longer hangs */

typedef struct outcome {
    int code; /* -1: ended by a signal */
    int signal;
    bool struck;     /* the fault did */
    char *out, *err; /* owned: outcome_free */
} outcome;

static char *place, *world, *start, *finished; /* the directories; finished: as a run left its world */

static inline void outcome_free(outcome *o) {
    free(o->out);
    free(o->err);
}

/* The text of a file of `place`, "" if there is none; malloc'ed. */
static inline char *slurp(const char *name) {
    char *path = tiny_join(place, name), *text = calloc(1, 1 << 20);
    FILE *f = fopen(path, "rb");
    assert_non_null(text);
    if (f) {
        size_t n = fread(text, 1, (1 << 20) - 1, f);
        text[n] = 0;
        fclose(f);
    }
    free(path);
    return text;
}

/* ---- running */

static inline void redirect(const char *name, int to) {
    char *path = tiny_join(place, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || dup2(fd, to) < 0) _exit(126);
    close(fd);
    free(path);
}

/* Starts the program with `arguments`, words with blanks between them, and a fault (fault_shim.h; NULL:
 * none). prepare (may be NULL) is called in the new process. Its stdout and stderr go to place/out and /err.
 */
static inline pid_t launch(const char *arguments, const char *fault, void (*prepare)(void)) {
    char *hit = tiny_join(place, "hit"), *count = tiny_join(place, "count");
    unlink(hit);
    unlink(count);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char *words[64] = {(char *)(uintptr_t)GRAFT_BINARY}, *copy = gr_strdup(arguments), *rest = NULL;
        int n = 1;
        for (char *w = strtok_r(copy, " ", &rest); w && n < 63; w = strtok_r(NULL, " ", &rest))
            words[n++] = w;
        if (chdir(world) != 0) _exit(126);
        redirect("out", STDOUT_FILENO);
        redirect("err", STDERR_FILENO);
        setenv("XDG_CACHE_HOME", place, 1);
        setenv("GRAFT_FAULT_HIT", hit, 1);
        setenv("GRAFT_FAULT_COUNT", count, 1);
        if (fault) setenv("GRAFT_FAULT", fault, 1);
        if (fault) setenv("LD_PRELOAD", FAULT_SHIM, 1);
        alarm(WORLD_SECONDS);
        if (prepare) prepare();
        execv(GRAFT_BINARY, words);
        _exit(126);
    }
    free(hit);
    free(count);
    return child;
}

static inline outcome finish(pid_t child) {
    int status;
    char *hit = tiny_join(place, "hit");
    while (waitpid(child, &status, 0) < 0) assert_int_equal(errno, EINTR);
    outcome o = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                 .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                 .struck = access(hit, F_OK) == 0,
                 .out = slurp("out"),
                 .err = slurp("err")};
    free(hit);
    return o;
}

static inline outcome run(const char *arguments, const char *fault) {
    return finish(launch(arguments, fault, NULL));
}

/* ---- directories */

static inline void copy_tree(const char *from, const char *to) {
    DIR *dir = opendir(from);
    struct dirent *entry;
    assert_non_null(dir);
    mkdir(to, 0777);
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *a = tiny_join(from, entry->d_name), *b = tiny_join(to, entry->d_name);
        if (gr_path_is_dir(a)) {
            copy_tree(a, b);
        } else {
            size_t n;
            char *bytes = tiny_read(from, entry->d_name, &n);
            FILE *f = fopen(b, "wb");
            assert_non_null(f);
            assert_int_equal(fwrite(bytes, 1, n, f), n);
            fclose(f);
            free(bytes);
        }
        free(a);
        free(b);
    }
    closedir(dir);
}

static inline void world_reset(void) {
    tiny_delete(world);
    copy_tree(start, world);
}

static inline bool same_bytes(const char *a, const char *b) {
    graft_error err = {0};
    char *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    bool same = gr_file_read(&x, &n, a, SIZE_MAX, &err) == GRAFT_OK &&
                gr_file_read(&y, &m, b, SIZE_MAX, &err) == GRAFT_OK && n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

/* ---- judging. Each returns what is wrong, or NULL. */

static char wrong[4096];

static inline const char *say(const char *a, const char *b, const char *c) {
    snprintf(wrong, sizeof wrong, "%.900s%.900s%.900s", a, b, c);
    return wrong;
}

/* A file below `path` that is named like a temporary one. */
static inline const char *temps(const char *path) {
    DIR *dir = opendir(path);
    const char *bad = NULL;
    struct dirent *entry;
    while (dir && !bad && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *x = tiny_join(path, entry->d_name);
        if (gr_ends_with(entry->d_name, ".tmp"))
            bad = say(x, " was left", "");
        else if (gr_path_is_dir(x))
            bad = temps(x);
        free(x);
    }
    if (dir) closedir(dir);
    return bad;
}

/* An adapter directory of the world, if it is there. */
static inline const char *adapter_loads(const char *name) {
    graft_error err = {0};
    gr_model_config config;
    gr_tuning *tuning = NULL;
    float *params = NULL;
    char *base = tiny_join(place, "base"), *dir = tiny_join(world, name),
         *file = tiny_join(dir, "adapter_config.json");
    bool there = access(file, F_OK) == 0;
    assert_int_equal(gr_config_open(&config, base, &err), GRAFT_OK);
    if (there && gr_adapter_load(&tuning, &params, dir, &config, 0, &err) != GRAFT_OK)
        say(err.what, ", ", err.where);
    gr_tuning_free(tuning);
    free(params);
    gr_config_free(&config);
    free(base);
    free(dir);
    free(file);
    return err.status == GRAFT_OK ? NULL : wrong;
}

/* One line that begins "graft VERB: ". */
static inline const char *one_error(const outcome *o) {
    int count = 0;
    for (const char *at = o->err; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : NULL)
        count += strncmp(at, "graft", 5) == 0 && strstr(at, ": ");
    return count == 1 ? NULL : say("not one error: ", o->err, "");
}

/* ---- the whole */

static inline int make_world(void **state) {
    (void)state;
    graft_error err = {0};
    root = place = tiny_temp();
    world = tiny_join(place, "world");
    start = tiny_subdir(place, "start");
    finished = tiny_join(place, "finished");
    data = tiny_data_dir(place, "data", 13, 5);
    char *base = tiny_model_dir(place, "base", &(tiny_spec){.bits = 4});
    free(tiny_model_dir(place, "plain", &(tiny_spec){.dtype = GR_BF16}));
    must_train(base, "start/adapter", NULL, NULL, NULL);
    if (train(base, "start/part", NULL, &(watch){.stop_at = 9}, NULL, &err) != GRAFT_INTERRUPTED) return -1;
    copy_tree(start, world);
    outcome o = run("convert --model ../plain -q --q-group-size 32 --mlx-path old --threads 1", NULL);
    if (o.code != 0) fail_msg("%s", o.err);
    outcome_free(&o);
    tiny_delete(start);
    copy_tree(world, start);
    free(base);
    return 0;
}

static inline int remove_world(void **state) {
    (void)state;
    free(world);
    free(start);
    free(finished);
    free(data);
    tiny_remove(place);
    return 0;
}

#endif
