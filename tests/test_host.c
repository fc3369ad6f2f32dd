/* The library as a guest in somebody's process: trainings and other verbs in several threads at once give the
 * bytes that they give alone; nothing of the host is touched, and no page is ever writable and executable. */
#include "tests/free_port.h"
#include "tests/process_state.h"
#include "tests/serve_once.h"
#include "tests/tiny_run.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

/* A job never asserts: cmocka's failures must come from the main thread. */
typedef struct job {
    const char *model, *dir; /* borrowed */
    graft_verb verb;
    const char *const *more;
    bool watched; /* look at the process's mappings while it runs */
    /* what came of it */
    graft_status status;
    graft_error err;
    char *text;
    double loss;
    size_t tokens;
    int bad_pages;
} job;

#define JOB(model_, dir_, verb_, more_)                                                                      \
    { .model = model_, .dir = dir_, .verb = verb_, .more = more_ }

/* Mappings that are both writable and executable; -1 where the system does not tell. */
static int writable_code(void) {
    char line[512], from[32], flags[8];
    int n = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) return -1;
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%31s %7s", from, flags) == 2 && flags[1] == 'w' && flags[2] == 'x') n++;
    fclose(maps);
    return n;
}

static void on_any(void *user, const graft_event *e) {
    job *j = user;
    (void)e;
    if (j->watched && writable_code() > 0) j->bad_pages++;
}

static void on_row(void *user, const graft_row *row) {
    for (size_t i = 0; i < row->count; i++) ((job *)user)->tokens = ((job *)user)->tokens * 31 + row->ids[i];
}

static graft_status set_all(graft_options *o, graft_verb verb, const char *const *pairs, graft_error *err) {
    for (; pairs && pairs[0]; pairs += 2) GR_TRY(graft_options_set(o, verb, pairs[0], pairs[1], err));
    return GRAFT_OK;
}

/* Two turns. */
static graft_status talk(job *j, const graft_options *o, const graft_hooks *hooks) {
    graft_chat *chat;
    graft_answer one = {0}, two = {0};
    GR_TRY(graft_chat_open(&chat, o, hooks, &j->err));
    graft_status st = graft_chat_say(chat, "one two", hooks, &one, &j->err);
    if (st == GRAFT_OK) st = graft_chat_say(chat, "three", hooks, &two, &j->err);
    if (st == GRAFT_OK) {
        j->tokens = (size_t)(one.tokens * 1000 + two.tokens);
        j->text = two.text;
        two.text = NULL;
    }
    graft_answer_free(&one);
    graft_answer_free(&two);
    graft_chat_close(chat);
    return st;
}

/* Of an answer of the server's, head and body; NULL: none. */
static char *content_of(const char *answer) {
    const char *body = strstr(answer, "\r\n\r\n");
    json_t *whole = body ? json_loads(body + 4, 0, NULL) : NULL;
    const json_t *message = json_object_get(json_array_get(json_object_get(whole, "choices"), 0), "message");
    const char *text = json_string_value(json_object_get(message, "content"));
    char *copy = text ? strdup(text) : NULL;
    json_decref(whole);
    return copy;
}

static graft_status call(job *j, const graft_options *o, const graft_hooks *hooks) {
    graft_train_result trained = {0};
    graft_eval_result scored = {0};
    graft_generation answer = {0};
    graft_convert_result made = {0};
    const char *served;
    graft_status st;
    switch (j->verb) {
    case GRAFT_VERB_TRAIN:
        st = graft_train(o, hooks, &trained, &j->err);
        j->loss = trained.train_loss;
        return st;
    case GRAFT_VERB_EVAL:
        st = graft_eval(o, hooks, &scored, &j->err);
        j->loss = scored.loss;
        graft_eval_result_free(&scored);
        return st;
    case GRAFT_VERB_GENERATE:
        st = graft_generate(o, hooks, &answer, NULL, &j->err);
        j->text = answer.text;
        answer.text = NULL;
        graft_generation_free(&answer);
        return st;
    case GRAFT_VERB_TOKENIZE: return graft_tokenize(o, hooks, on_row, j, &j->err);
    case GRAFT_VERB_CHAT: return talk(j, o, hooks);
    case GRAFT_VERB_SERVE:
        st =
            serve_for_once(o, "\"max_tokens\": 8, \"temperature\": 0.8, \"seed\": 4", &served, NULL, &j->err);
        if (st == GRAFT_OK) j->text = content_of(served);
        if (st == GRAFT_OK && !j->text) st = gr_fail(&j->err, GRAFT_INTERNAL, "no answer");
        return st == GRAFT_UNSUPPORTED ? GRAFT_OK : st; /* built without libmicrohttpd */
    default:
        st = graft_convert(o, hooks, &made, &j->err);
        j->loss = made.bits_per_weight;
        graft_convert_result_free(&made);
        return st;
    }
}

static void *work(void *user) {
    job *j = user;
    graft_options o;
    graft_hooks hooks = {.user = j, .event = on_any};
    graft_options_init(&o);
    const char *const model[] = {"model", j->model, NULL};
    const char *const place[] = {j->verb == GRAFT_VERB_CONVERT ? "mlx-path" : "adapter-path", j->dir, NULL};
    j->status = set_all(&o, j->verb, model, &j->err);
    if (j->status == GRAFT_OK && j->dir) j->status = set_all(&o, j->verb, place, &j->err);
    if (j->status == GRAFT_OK && j->verb & (GRAFT_VERB_TRAIN | GRAFT_VERB_EVAL | GRAFT_VERB_TOKENIZE))
        j->status = set_all(&o, j->verb, (const char *const[]){"data", data, NULL}, &j->err);
    if (j->status == GRAFT_OK) j->status = set_all(&o, j->verb, j->more, &j->err);
    if (j->status == GRAFT_OK) j->status = call(j, &o, &hooks);
    graft_options_free(&o);
    return NULL;
}

static void must(const job *jobs, int n) {
    for (int i = 0; i < n; i++)
        if (jobs[i].status != GRAFT_OK)
            fail_msg("job %d: %s %s %s", i, jobs[i].err.what, jobs[i].err.where, jobs[i].err.found);
}

static void one_by_one(job *jobs, int n) {
    for (int i = 0; i < n; i++) work(&jobs[i]);
    must(jobs, n);
}

static void at_once(job *jobs, int n) {
    pthread_t thread[8];
    assert_in_range(n, 1, 8);
    for (int i = 0; i < n; i++) assert_int_equal(pthread_create(&thread[i], NULL, work, &jobs[i]), 0);
    for (int i = 0; i < n; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    must(jobs, n);
}

static const char *const first[] = {"iters",
                                    "9",
                                    "batch-size",
                                    "2",
                                    "threads",
                                    "2",
                                    "seed",
                                    "3",
                                    "lora-dropout",
                                    "0.2",
                                    "steps-per-report",
                                    "2",
                                    "steps-per-eval",
                                    "3",
                                    "save-every",
                                    "4",
                                    "learning-rate",
                                    "5e-3",
                                    NULL};
static const char *const second[] = {"iters",
                                     "7",
                                     "batch-size",
                                     "3",
                                     "threads",
                                     "2",
                                     "seed",
                                     "11",
                                     "optimizer",
                                     "adafactor",
                                     "steps-per-report",
                                     "1",
                                     "fine-tune-type",
                                     "dora",
                                     "compute",
                                     "fp32",
                                     "grad-checkpoint",
                                     "layer",
                                     NULL};

/* Different models, settings, arithmetic and lengths. */
static void two_trainings(void **state) {
    (void)state;
    char *a = tiny_model_dir(root, "a", &(tiny_spec){.bits = 4}),
         *b = tiny_model_dir(root, "b", &(tiny_spec){.type = "qwen3", .dtype = GR_BF16, .seed = 5});
    char *out[] = {tiny_join(root, "a1"), tiny_join(root, "b1"), tiny_join(root, "a2"),
                   tiny_join(root, "b2")};
    job alone[] = {JOB(a, out[0], GRAFT_VERB_TRAIN, first), JOB(b, out[1], GRAFT_VERB_TRAIN, second)};
    one_by_one(alone, 2);
    for (int round = 0; round < (SANITIZED ? 1 : 3); round++) {
        job together[] = {JOB(a, out[2], GRAFT_VERB_TRAIN, first), JOB(b, out[3], GRAFT_VERB_TRAIN, second)};
        at_once(together, 2);
        same_results("a1", "a2");
        same_results("b1", "b2");
        tiny_delete(out[2]);
        tiny_delete(out[3]);
    }
    for (int i = 0; i < 4; i++) tiny_remove(out[i]);
    tiny_remove(a);
    tiny_remove(b);
}

/* One model directory and one data set, read by all of them while two train on it. */
static void every_verb(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.dtype = GR_BF16});
    char *adapter = tiny_join(root, "given"), *other = tiny_join(root, "other"),
         *made = tiny_join(root, "made"), *trained = tiny_join(root, "trained");
    static const char *const answer[] = {"prompt", "one two", "max-tokens", "12", "threads", "2",
                                         "temp",   "0.8",     "seed",       "4",  NULL},
                             *const talks[] = {"max-tokens", "8",    "threads", "2", "temp",
                                               "0.8",        "seed", "4",       NULL},
                             *const serves[] = {"port", "0", "threads", "2", "batch-size", "2", NULL},
                             *const score[] = {"threads", "2", "split", "test", NULL},
                             *const bits[] = {"quantize", NULL, "q-group-size", "32", NULL};
    job given = JOB(model, adapter, GRAFT_VERB_TRAIN, first), alone[8], together[8];
    one_by_one(&given, 1);
    const job jobs[8] = {
        JOB(model, trained, GRAFT_VERB_TRAIN, second), JOB(model, other, GRAFT_VERB_TRAIN, first),
        JOB(model, adapter, GRAFT_VERB_EVAL, score),   JOB(model, adapter, GRAFT_VERB_GENERATE, answer),
        JOB(model, NULL, GRAFT_VERB_TOKENIZE, NULL),   JOB(model, made, GRAFT_VERB_CONVERT, bits),
        JOB(model, adapter, GRAFT_VERB_CHAT, talks),   JOB(model, adapter, GRAFT_VERB_SERVE, serves)};
    memcpy(alone, jobs, sizeof jobs);
    one_by_one(alone, 8);
    tiny_delete(made);
    memcpy(together, jobs, sizeof jobs);
    at_once(together, 8);
    for (int i = 0; i < 8; i++) {
        if (memcmp(&alone[i].loss, &together[i].loss, sizeof alone[i].loss) != 0)
            fail_msg("job %d: %.17g alone, %.17g beside others", i, alone[i].loss, together[i].loss);
        assert_int_equal(alone[i].tokens, together[i].tokens);
        assert_int_equal(alone[i].text != NULL, together[i].text != NULL);
        if (alone[i].text) assert_string_equal(alone[i].text, together[i].text);
        free(alone[i].text);
        free(together[i].text);
    }
    same_results("given", "other");
    tiny_remove(adapter);
    tiny_remove(other);
    tiny_remove(made);
    tiny_remove(trained);
    tiny_remove(model);
}

/* What belongs to the process and not to its guest. */
typedef struct host {
    void (*handlers[32])(int);
    int blocked; /* how many signals */
    char directory[4096];
    mode_t mask;
    int descriptors, threads;
    rlim_t files, stack;
} host;

static void look(host *h) {
    sigset_t blocked;
    struct rlimit limit;
    memset(h, 0, sizeof *h);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    for (int i = 1; i < 32; i++) {
        struct sigaction action;
        assert_int_equal(sigaction(i, NULL, &action), 0);
        h->handlers[i] = action.sa_handler;
        h->blocked += sigismember(&blocked, i);
    }
    char *directory = getcwd(NULL, 0);
    assert_non_null(directory);
    snprintf(h->directory, sizeof h->directory, "%s", directory);
    free(directory);
    umask(h->mask = umask(0));
    h->descriptors = process_descriptors();
    h->threads = process_threads();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    h->files = limit.rlim_cur;
    assert_int_equal(getrlimit(RLIMIT_STACK, &limit), 0);
    h->stack = limit.rlim_cur;
}

/* Bytes that went to stdout and stderr while `j` ran. */
static off_t printed_by(job *j) {
    FILE *file = tmpfile();
    int out = dup(1), err = dup(2);
    assert_non_null(file);
    fflush(stdout);
    fflush(stderr);
    dup2(fileno(file), 1);
    dup2(fileno(file), 2);
    work(j);
    fflush(stdout);
    fflush(stderr);
    off_t size = lseek(fileno(file), 0, SEEK_END);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    fclose(file);
    return size;
}

/* A training that is watched; another process may take the port before it does. */
static off_t printed_watched(job *j, char *port, size_t size) {
    off_t printed = 0;
    for (int tries = 0; tries < FREE_PORT_TRIES; tries++) {
        int free_one = free_port();
        assert_true(free_one > 0);
        snprintf(port, size, "%d", free_one);
        gr_error_clear(&j->err);
        printed = printed_by(j);
        if (j->status != GRAFT_IO) break;
    }
    return printed;
}

/* A regex or a template compiled to machine code would need such pages, and they would serve an attacker. */
static void leaves_the_host_alone(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *dir = tiny_join(root, "out");
    char port[20] = "0", *watched_dir = tiny_join(root, "watched");
    const char *const watched[] = {"iters", "3", "batch-size", "2", "threads", "2", "watch", port, NULL};
    static const char *const answer[] = {"prompt", "one two", "max-tokens", "4", NULL},
                             *const talks[] = {"max-tokens", "4", NULL},
                             *const serves[] = {"port", "0", NULL};
    job jobs[] = {
        JOB(model, dir, GRAFT_VERB_TRAIN, first),          JOB(model, dir, GRAFT_VERB_EVAL, NULL),
        JOB(model, dir, GRAFT_VERB_GENERATE, answer),      JOB(model, NULL, GRAFT_VERB_TOKENIZE, NULL),
        JOB(model, dir, GRAFT_VERB_CHAT, talks),           JOB(model, dir, GRAFT_VERB_SERVE, serves),
        JOB(model, watched_dir, GRAFT_VERB_TRAIN, watched)};
    for (size_t i = 4; i < 7; i++) { /* libmicrohttpd is loaded once, and stays */
        if (jobs[i].more == watched)
            printed_watched(&jobs[i], port, sizeof port);
        else
            work(&jobs[i]);
        if (jobs[i].status == GRAFT_UNSUPPORTED && i == 6) jobs[i].more = first; /* built without it */
        free(jobs[i].text);
        jobs[i].text = NULL;
    }
    tiny_delete(watched_dir);
    bool clean = writable_code() == 0; /* not under valgrind, which translates code itself */
    host before, after;
    look(&before);
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        jobs[i].watched = true;
        bool listens = jobs[i].more == watched;
        assert_int_equal(listens ? printed_watched(&jobs[i], port, sizeof port) : printed_by(&jobs[i]), 0);
        must(&jobs[i], 1);
        if (clean) assert_int_equal(jobs[i].bad_pages, 0);
        free(jobs[i].text);
    }
    look(&after);
    assert_memory_equal(&before, &after, sizeof before);
    tiny_remove(watched_dir);
    tiny_remove(dir);
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_trainings), cmocka_unit_test(every_verb),
                                       cmocka_unit_test(leaves_the_host_alone)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
