/* The program among signals, closed streams, limits and other processes. What it owes each time: an exit
 * code, one error where there is one, and a directory that loads and that --resume continues. */
#include "tests/world.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <time.h>

/* Longer than any test waits; its files are those of `adapter`'s settings. */
#define LONG                                                                                                 \
    "train --model ../base --data ../data --adapter-path run --iters 1000000 --save-every 5 --lora-rank 2 "  \
    "--batch-size 2 --threads 2 --steps-per-report 1 --steps-per-eval 100000 --val-batches 1"
#define SHORT                                                                                                \
    "train --model ../base --data ../data --adapter-path run --iters 6 --save-every 3 --lora-rank 2 "        \
    "--batch-size 2 --threads 2 --steps-per-report 1 --steps-per-eval 3 --val-batches 1"

static void pause_ms(int ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

/* Waits until a file of the world is there. */
static void await(const char *name) {
    char *path = tiny_join(world, name);
    for (int i = 0; access(path, F_OK) != 0; i++) {
        if (i == 2000) fail_msg("%s never came", name);
        pause_ms(5);
    }
    free(path);
}

/* A long training that has saved at least once. */
static pid_t train_long(const char *fault, void (*prepare)(void)) {
    world_reset();
    pid_t child = launch(LONG, fault, prepare);
    await("run/adapter_config.json");
    return child;
}

static void good(const char *bad) {
    if (bad) fail_msg("%s", bad);
}

/* The run's adapter loads, nothing temporary is there, and --resume goes on where it stopped. */
static void goes_on(void) {
    good(adapter_loads("run"));
    pid_t child = launch(LONG " --resume", NULL, NULL);
    char *err = slurp("err");
    for (int i = 0; !strstr(err, "resuming at iteration"); i++) {
        if (i == 2000) fail_msg("it does not resume: %s", err);
        pause_ms(5);
        free(err);
        err = slurp("err");
    }
    free(err);
    kill(child, SIGTERM);
    outcome o = finish(child);
    assert_int_equal(o.code, 130);
    outcome_free(&o);
    good(temps(world)); /* what a killed one left is gone, too */
    good(adapter_loads("run"));
}

static void asked_to_stop(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (int i = 0; i < 3; i++) {
        pid_t child = train_long(NULL, NULL);
        kill(child, signals[i]);
        outcome o = finish(child);
        assert_int_equal(o.code, 130);
        assert_non_null(strstr(o.err, "--resume"));
        outcome_free(&o);
        good(temps(world));
        if (i == 0) goes_on();
    }
}

/* Both arrive while it is stopped, so that it cannot get to the end of a save in between. */
static void a_second_signal_ends_it_at_once(void **state) {
    (void)state;
    pid_t child = train_long(NULL, NULL);
    kill(child, SIGSTOP);
    assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
    kill(child, SIGINT);
    kill(child, SIGTERM);
    kill(child, SIGCONT);
    outcome o = finish(child);
    assert_int_equal(o.code, 130);
    assert_null(strstr(o.err, "saved"));
    outcome_free(&o);
    goes_on();
}

static void ignore_hangup(void) {
    signal(SIGHUP, SIG_IGN);
}

static void nohup_is_heard(void **state) {
    (void)state;
    pid_t child = train_long(NULL, ignore_hangup);
    kill(child, SIGHUP);
    pause_ms(100);
    assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
    kill(child, SIGINT);
    outcome o = finish(child);
    assert_int_equal(o.code, 130);
    outcome_free(&o);
}

/* A holder that was killed holds nothing; one that lives does. */
static void two_on_one_directory(void **state) {
    (void)state;
    pid_t first = train_long(NULL, NULL);
    kill(first, SIGSTOP);
    outcome o = run(SHORT, NULL);
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.err, "another run is using this directory"));
    outcome_free(&o);
    kill(first, SIGKILL);
    o = finish(first);
    assert_int_equal(o.signal, SIGKILL);
    outcome_free(&o);
    char *left = tiny_join(world, "run");
    tiny_write(left, "adapters.safetensors.1-2f.tmp", "half");
    free(left);
    goes_on();
}

/* ---- streams */

static void close_stdin(void) {
    close(STDIN_FILENO);
}
static void close_stdout(void) {
    close(STDOUT_FILENO);
}
static void close_stderr(void) {
    close(STDERR_FILENO);
}
static void close_all(void) {
    close_stdin();
    close_stdout();
    close_stderr();
}
/* A pipe that nobody reads. */
static void break_stdout(void) {
    int ends[2];
    if (pipe(ends) != 0 || dup2(ends[1], STDOUT_FILENO) < 0) _exit(126);
    close(ends[0]);
    close(ends[1]);
}
static void fill_stdout(void) {
    int fd = open("/dev/full", O_WRONLY);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0) _exit(126);
}

/* Whatever becomes of the reports, the training's files are the same. */
static void streams_that_are_gone(void **state) {
    (void)state;
    static const struct {
        void (*prepare)(void);
        int code;
    } cases[] = {{NULL, 0},      {close_stdin, 0},  {close_stdout, 1}, {close_stderr, 0},
                 {close_all, 1}, {break_stdout, 0}, {fill_stdout, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world_reset();
        outcome o = finish(launch(SHORT, NULL, cases[i].prepare));
        if (o.code != cases[i].code) fail_msg("case %zu: exit %d: %s", i, o.code, o.err);
        if (o.code && cases[i].prepare != close_all) assert_non_null(strstr(o.err, "standard output"));
        outcome_free(&o);
        if (i == 0) {
            tiny_delete(finished);
            copy_tree(world, finished);
        }
        char *a = tiny_join(world, "run"), *b = tiny_join(finished, "run");
        tiny_same_file(a, b, "adapters.safetensors");
        tiny_same_file(a, b, "adapter_config.json");
        assert_null(temps(world));
        free(a);
        free(b);
    }
}

/* ---- a machine that sleeps */

/* Rates stay numbers that can be, and the adapter is that of a run without a pause. */
static void stopped_and_continued(void **state) {
    (void)state;
    pid_t child = train_long(NULL, NULL);
    for (int i = 0; i < 3; i++) {
        kill(child, SIGSTOP);
        pause_ms(150);
        kill(child, SIGCONT);
        pause_ms(30);
    }
    kill(child, SIGINT);
    outcome o = finish(child);
    assert_int_equal(o.code, 130);
    outcome_free(&o);
    char *dir = tiny_join(world, "run"), *text = tiny_read(dir, "metrics.jsonl", NULL), *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = json_loads(line, 0, NULL), *rate = json_object_get(j, "iterations_per_second");
        if (rate && !(json_number_value(rate) > 0 && json_number_value(rate) < 1e7)) fail_msg("%s", line);
        json_decref(j);
    }
    free(text);
    free(dir);
}

/* ---- limits */

static void small_files(void) {
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096});
}

static void few_files(void) {
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){5, 5});
}

static void a_file_that_may_not_grow(void **state) {
    (void)state;
    world_reset();
    outcome o = finish(launch("convert --model ../plain -q --q-group-size 32 --mlx-path new --threads 1",
                              NULL, small_files));
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.err, "File too large"));
    good(one_error(&o));
    good(temps(world));
    outcome_free(&o);
    o = finish(launch(SHORT, NULL, small_files));
    assert_int_equal(o.code, 1);
    good(one_error(&o));
    assert_non_null(strstr(o.err, "no checkpoint of this run was saved yet"));
    good(temps(world));
    outcome_free(&o);
}

static void few_descriptors(void **state) {
    (void)state;
    world_reset();
    outcome o = finish(launch(SHORT, NULL, few_files));
    if (o.code) good(one_error(&o));
    assert_in_range(o.code, 0, 1);
    outcome_free(&o);
}

/* ---- disks, where this process may mount one */

/* world/run on a small disk of its own; false: not allowed here. */
static bool mount_run(const char *size) {
    /* in a world of its own: it goes with this process, whatever happens */
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) return false;
    char *dir = tiny_join(world, "run"), option[32];
    snprintf(option, sizeof option, "size=%s", size);
    mkdir(dir, 0777);
    bool done = mount("tmpfs", dir, "tmpfs", 0, option) == 0;
    free(dir);
    return done;
}

/* The losses alone fill it in the end. With more room the run goes on. */
static void a_disk_that_fills_up(void **state) {
    (void)state;
    world_reset();
    if (!mount_run("224k")) skip();
    outcome o = run(LONG, NULL);
    assert_int_equal(o.code, 1);
    good(one_error(&o));
    assert_non_null(strstr(o.err, "No space left on device"));
    assert_non_null(strstr(o.err, "--resume continues from there"));
    outcome_free(&o);
    good(temps(world));
    good(adapter_loads("run"));
    char *dir = tiny_join(world, "run");
    assert_int_equal(mount("tmpfs", dir, "tmpfs", MS_REMOUNT, "size=64m"), 0);
    goes_on();
    assert_int_equal(umount(dir), 0);
    free(dir);
}

/* ---- maps */

static void cut_file(const char *dir, const char *name, off_t size) {
    char *path = tiny_join(dir, name);
    assert_int_equal(truncate(path, size), 0);
    free(path);
}

/* The base is cut while a training computes with it: an error that names it, and nothing saved is lost. */
static void a_base_that_is_cut(void **state) {
    (void)state;
    size_t size;
    char *base = tiny_join(place, "base"), *bytes = tiny_read(base, "model.safetensors", &size),
         *path = tiny_join(base, "model.safetensors");
    pid_t child = train_long(NULL, NULL);
    cut_file(base, "model.safetensors", 4096);
    outcome o = finish(child);
    assert_int_equal(o.code, 1);
    good(one_error(&o));
    assert_non_null(strstr(o.err, "/base/model.safetensors"));
    assert_non_null(strstr(o.err, "--no-mmap"));
    outcome_free(&o);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
    free(bytes);
    free(base);
    free(path);
    goes_on();
}

/* Read instead of mapped, it may be cut: the run never looks at the file again. */
static void no_maps_no_signal(void **state) {
    (void)state;
    size_t size;
    char *base = tiny_join(place, "base"), *bytes = tiny_read(base, "model.safetensors", &size),
         *path = tiny_join(base, "model.safetensors");
    world_reset();
    pid_t child = launch(LONG " --no-mmap", NULL, NULL);
    await("run/adapter_config.json");
    cut_file(base, "model.safetensors", 4096);
    pause_ms(50);
    kill(child, SIGINT);
    outcome o = finish(child);
    assert_int_equal(o.code, 130);
    outcome_free(&o);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
    free(bytes);
    free(base);
    free(path);
}

/* The same bits either way, and a forecast that holds. */
static void no_maps_no_difference(void **state) {
    (void)state;
    world_reset();
    outcome o = run(SHORT, NULL);
    assert_int_equal(o.code, 0);
    outcome_free(&o);
    tiny_delete(finished);
    copy_tree(world, finished);
    static const char *const others[] = {
        "eval --model ../base --data ../data --adapter-path adapter --threads 1",
        "generate --model ../base --adapter-path adapter --prompt one -m 4 --threads 1",
        "tokenize --model ../base --data ../data/train.jsonl",
        "convert --model ../plain -q --q-group-size 32 --mlx-path new --threads 1",
        "plan --model ../base --lora-rank 4 --max-seq-length 32"};
    world_reset();
    o = run(SHORT " --no-mmap", NULL);
    assert_int_equal(o.code, 0);
    outcome_free(&o);
    char *a = tiny_join(world, "run"), *b = tiny_join(finished, "run");
    tiny_same_file(a, b, "adapters.safetensors");
    free(a);
    free(b);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char arguments[256];
        world_reset();
        o = run(others[i], NULL);
        snprintf(arguments, sizeof arguments, "%s --no-mmap", others[i]);
        world_reset();
        outcome p = run(arguments, NULL);
        if (p.code) fail_msg("%s: %s", arguments, p.err);
        if (i < 4) assert_string_equal(o.out, p.out);
        outcome_free(&o);
        outcome_free(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asked_to_stop),         cmocka_unit_test(a_second_signal_ends_it_at_once),
        cmocka_unit_test(nohup_is_heard),        cmocka_unit_test(two_on_one_directory),
        cmocka_unit_test(streams_that_are_gone), cmocka_unit_test(stopped_and_continued),
        cmocka_unit_test(few_descriptors),       cmocka_unit_test(a_file_that_may_not_grow),
        cmocka_unit_test(a_disk_that_fills_up),  cmocka_unit_test(a_base_that_is_cut),
        cmocka_unit_test(no_maps_no_signal),     cmocka_unit_test(no_maps_no_difference),
    };
    return cmocka_run_group_tests(tests, make_world, remove_world);
}
