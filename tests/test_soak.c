/* Hours in miniature: one run of many steps with reports, validations and saves, and the whole library opened
 * and closed many times in one process. Memory, descriptors, threads and files must stay what they were early
 * on. Short by default; tools/soak.sh asks for 20,000 steps and 300 cycles through GRAFT_SOAK_STEPS and
 * GRAFT_SOAK_CYCLES. */
#include "tests/process_state.h"
#include "tests/serve_once.h"
#include "tests/tiny_run.h"
#include <errno.h>
#include <malloc.h>
#include <sys/prctl.h>

/* What pages may come after the first samples, whatever the number of steps: a stack that was deeper once,
 * free chunks between others' that later allocations split differently. Bytes in use have no such room. */
#define PAGES_SLACK_KIB 64

/* glibc keeps freed chunks by thread (up to 7 of each of 64 sizes, 236 KB) and counts them as used, and opens
 * a heap for a thread that meets another one: both by chance of time. Without them what is in use is a number
 * that can be compared to the byte. The loader alone reads this, so the program starts itself again. */
#define PLAIN_HEAP "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1"
#if defined(__GLIBC__) && !SANITIZED
#define PLAIN_HEAP_HERE
#endif

typedef struct sample {
    int64_t at;
    long resident, anonymous, used; /* KiB, KiB, bytes of malloc; 0 where it does not tell */
    int descriptors, threads, files;
} sample;

static int64_t wanted(const char *variable, int64_t fallback) {
    const char *text = getenv(variable);
    return text ? strtoll(text, NULL, 10) : fallback;
}

/* Files in the adapter directory and its checkpoints: a save must not leave any behind. */
static int files_of(const char *dir) {
    static const char *const inner[] = {"checkpoints", "best"};
    int n = process_entries(dir);
    for (int i = 0; i < 2; i++) {
        char *path = tiny_join(dir, inner[i]);
        int more = process_entries(path);
        n += more > 0 ? more : 0;
        free(path);
    }
    return n;
}

static sample take(int64_t at, const char *dir) {
    sample s = {.at = at, .descriptors = process_descriptors(), .threads = process_threads()};
    s.files = files_of(dir);
#ifdef PLAIN_HEAP_HERE
    malloc_trim(0); /* what is free is not held */
    s.used = (long)mallinfo2().uordblks;
#endif
    s.resident = process_kib("Rss");
    s.anonymous = process_kib("Anonymous");
    print_message("%8lld  resident %6ld KiB  anonymous %6ld KiB  used %8ld bytes  descriptors %d  threads %d "
                  " files %d\n",
                  (long long)at, s.resident, s.anonymous, s.used, s.descriptors, s.threads, s.files);
    return s;
}

static void same(const sample *early, const sample *late) {
    assert_int_equal(early->descriptors, late->descriptors);
    assert_int_equal(early->threads, late->threads);
    assert_int_equal(early->files, late->files);
    if (SANITIZED) return;
    if (late->used > early->used)
        fail_msg("memory in use grew from %ld to %ld bytes between %lld and %lld", early->used, late->used,
                 (long long)early->at, (long long)late->at);
    if (late->anonymous > early->anonymous + PAGES_SLACK_KIB)
        fail_msg("anonymous memory grew from %ld to %ld KiB between %lld and %lld", early->anonymous,
                 late->anonymous, (long long)early->at, (long long)late->at);
}

/* ------------------------------------------------------------------------------------------- one long run
 */

typedef struct soak {
    const char *dir;
    sample early, late;
    int64_t reports, validations, saves;
} soak;

static void on_step(void *user, const graft_event *e) {
    soak *s = user;
    s->reports += e->kind == GRAFT_EVENT_TRAIN;
    s->validations += e->kind == GRAFT_EVENT_VALID;
    s->saves += e->kind == GRAFT_EVENT_SAVED;
    if (e->kind != GRAFT_EVENT_PROGRESS || strcmp(e->phase, "train") != 0) return;
    if (e->done == 100)
        s->early = take(e->done, s->dir);
    else if (e->done == e->total)
        s->late = take(e->done, s->dir);
    else if (e->done == 1000 || e->done % 5000 == 0)
        take(e->done, s->dir);
}

static void many_steps(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *dir = tiny_join(root, "out"),
         iters[24];
    soak s = {.dir = dir};
    graft_hooks hooks = {.user = &s, .event = on_step};
    graft_options o;
    graft_error err = {0};
    int64_t steps = wanted("GRAFT_SOAK_STEPS", SANITIZED ? 150 : 600);
    snprintf(iters, sizeof iters, "%lld", (long long)steps);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model",
                                   model,
                                   "data",
                                   data,
                                   "adapter-path",
                                   dir,
                                   "iters",
                                   iters,
                                   "batch-size",
                                   "2",
                                   "steps-per-report",
                                   "5",
                                   "steps-per-eval",
                                   "25",
                                   "save-every",
                                   "40",
                                   "lora-dropout",
                                   "0.1",
                                   "threads",
                                   "2",
                                   "keep-best",
                                   "-",
                                   NULL});
    if (graft_train(&o, &hooks, NULL, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    print_message("%lld steps: %lld reports, %lld validations, %lld saves\n", (long long)steps,
                  (long long)s.reports, (long long)s.validations, (long long)s.saves);
    assert_int_equal(s.late.at, steps);
    same(&s.early, &s.late);
    graft_options_free(&o);
    tiny_remove(dir);
    tiny_remove(model);
}

/* ------------------------------------------------------------------------------------------ open and close
 */

static void on_row(void *user, const graft_row *row) {
    *(size_t *)user += row->count;
}

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        graft_error err = {0};                                                                               \
        if ((call) != GRAFT_OK) fail_msg("%s: %s %s %s", #call, err.what, err.where, err.found);             \
    } while (0)

/* A conversation of two turns with an adapter switched, and a server of one answer. */
static void talk(const char *model, const char *dir) {
    const char *const common_options[] = {"model", model, "threads", "2", "max-seq-length", "200", NULL};
    graft_options o;
    graft_chat *chat;
    graft_answer answer;
    const char *served = NULL;
    graft_error why = {0};

    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_CHAT, common_options);
    tiny_set(&o, GRAFT_VERB_CHAT, (const char *const[]){"max-tokens", "4", "adapter-path", dir, NULL});
    MUST(graft_chat_open(&chat, &o, NULL, &err));
    for (int i = 0; i < 2; i++) {
        MUST(graft_chat_say(chat, "one two", NULL, &answer, &err));
        graft_answer_free(&answer);
        MUST(graft_chat_use(chat, NULL, NULL, &err));
    }
    graft_chat_close(chat);
    graft_options_free(&o);

    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_SERVE, common_options);
    tiny_set(&o, GRAFT_VERB_SERVE,
             (const char *const[]){"port", "0", "adapter-path", dir, "batch-size", "2", NULL});
    graft_status st = serve_for_once(&o, "\"max_tokens\": 4, \"stream\": true", &served, NULL, &why);
    if (st != GRAFT_UNSUPPORTED && (st != GRAFT_OK || !strstr(served, "data: [DONE]")))
        fail_msg("%s %s", why.what, served ? served : "");
    graft_options_free(&o);
}

/* Every verb once, each with options of its own. */
static void cycle(const char *model, const char *dir, const char *converted) {
    const char *const common_options[] = {"model", model, "threads", "2", NULL};
    graft_options o;
    graft_train_result trained;
    graft_eval_result scored;
    graft_generation answer;
    graft_convert_result made;
    graft_plan plan;
    graft_trainer *trainer;
    size_t tokens = 0;
    char *text = NULL;

    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN, common_options);
    MUST(graft_plan_make(&o, NULL, &plan, &err)); /* without data: nothing is timed */
    graft_plan_free(&plan);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"data", data, "adapter-path", dir, "iters", "1", NULL});
    MUST(graft_train(&o, NULL, &trained, &err));
    MUST(graft_trainer_open(&trainer, &o, NULL, &err));
    MUST(graft_trainer_step(trainer, NULL, &err));
    graft_trainer_free(trainer);
    graft_options_free(&o);

    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EVAL, common_options);
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"data", data, "adapter-path", dir, "per-row", "-", NULL});
    MUST(graft_eval(&o, NULL, &scored, &err));
    graft_eval_result_free(&scored);
    MUST(graft_tokenize(&o, NULL, on_row, &tokens, &err));
    graft_options_free(&o);

    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE, common_options);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"adapter-path", dir, "prompt", "one two", "max-tokens", "8", NULL});
    MUST(graft_generate(&o, NULL, &answer, NULL, &err));
    graft_generation_free(&answer);
    graft_options_free(&o);

    talk(model, dir);

    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_CONVERT,
             (const char *const[]){"model", model, "mlx-path", converted, "q-bits", "4", "quantize", "-",
                                   "q-group-size", "32", NULL});
    MUST(graft_convert(&o, NULL, &made, &err));
    graft_convert_result_free(&made);
    graft_options_free(&o);
    MUST(graft_info(converted, &text, &err));
    free(text);
    tiny_delete(converted);
}

/* What is refused must not stay either. */
static void refusals(const char *model, const char *dir) {
    graft_options o;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", dir, "adapter-path", dir, "iters", "1", NULL});
    assert_int_not_equal(graft_train(&o, NULL, NULL, &err), GRAFT_OK); /* no train.jsonl */
    tiny_set(&o, GRAFT_VERB_TRAIN, (const char *const[]){"model", data, "data", data, NULL});
    assert_int_not_equal(graft_train(&o, NULL, NULL, &err), GRAFT_OK); /* no config.json */
    graft_options_free(&o);
}

static void many_cycles(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.dtype = GR_BF16}), *dir = tiny_join(root, "out"),
         *converted = tiny_join(root, "converted");
    int64_t cycles = wanted("GRAFT_SOAK_CYCLES", SANITIZED ? 6 : 30), warm = cycles < 60 ? cycles / 3 : 20;
    sample early = {0}, late = {0};
    for (int64_t i = 1; i <= cycles; i++) {
        cycle(model, dir, converted);
        refusals(model, dir);
        if (i == warm) early = take(i, dir);
        if (i == cycles || i % 100 == 0) late = take(i, dir);
    }
    same(&early, &late);
    tiny_remove(dir);
    free(converted);
    tiny_remove(model);
}

int main(int argc, char **argv) {
    (void)argc;
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_steps), cmocka_unit_test(many_cycles)};
#ifdef PLAIN_HEAP_HERE
    if (!getenv("GLIBC_TUNABLES")) {
        setenv("GLIBC_TUNABLES", PLAIN_HEAP, 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
#else
    (void)argv;
#endif
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);      /* huge pages come when the kernel finds time */
    if (process_kib("Anonymous") < 0) return 0; /* not Linux: nothing to read */
    return cmocka_run_group_tests(tests, setup, teardown);
}
