/* A run and the power: after every call that changes a file, every state that the disk may be in is made, and
 * a resumed run finds a checkpoint that was saved and ends in the bytes of the run that nothing stopped. */
#include "tests/disk_states.h"
/* whose arguments the globals of this one would hide */
#include "tests/tiny_run.h"

static const char *const resume[] = {"resume", "-", NULL};

typedef struct cut {
    const char *model;
    const char *const *more; /* of the resumed run */
    bool best, old;          /* compares best/; the directory holds an earlier run of other settings */
    size_t runs;
} cut;

static void recorded_event(void *user, const graft_event *e) {
    on_event(user, e);
    if (e->kind == GRAFT_EVENT_SAVED) disk_mark(e->iteration);
    if (e->kind == GRAFT_EVENT_PROGRESS && strcmp(e->phase, "validate") == 0 && e->done == 0) disk_begun();
}

/* The run whose calls are recorded. */
static void record(const char *model, const char *const *more) {
    graft_options o;
    graft_error err = {0};
    watch w = {0};
    graft_hooks hooks = {.user = &w, .event = recorded_event, .stop = &w.stop};
    char *adapter = tiny_join(root, "part");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", adapter, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common);
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    o.iters = 8;
    disk_start(root, "part");
    graft_status st = graft_train(&o, &hooks, NULL, &err);
    disk_stop();
    if (st != GRAFT_OK) fail_msg("%s", err.what);
    graft_options_free(&o);
    free(adapter);
}

/* Resumes in a state: the iteration that was found, 0 for none, -2 for an earlier run's. */
static int64_t resume_there(void *user, const disk_state *s) {
    cut *c = user;
    watch w = {0};
    graft_error err = {0};
    char *crash = tiny_join(root, "crash");
    state_write(s, crash);
    c->runs++;
    graft_status st = train(c->model, "crash/part", c->more, &w, NULL, &err);
    bool earlier = c->old && st == GRAFT_MISMATCH;
    if (st != GRAFT_OK && !earlier) fail_msg("%s %s %s", err.what, err.where, err.found);
    if (!earlier) (c->best ? same_best : same_results)("whole", "crash/part");
    const char *at = strstr(w.notes, "resuming at iteration ");
    /* no save tears a checkpoint, or loses the best that a checkpoint knows */
    if (strstr(w.notes, "damaged") || strstr(w.notes, "does not hold the best")) fail_msg("%s", w.notes);
    tiny_remove(crash);
    if (earlier) return -2;
    return at ? strtoll(at + strlen("resuming at iteration "), NULL, 10) : 0;
}

/* What was said to be saved is there. */
static void found_enough(void *user, int64_t found, int64_t mark, int point) {
    (void)user;
    if (mark >= 0 && found < mark)
        fail_msg("after call %d: iteration %lld was saved, %lld found", point, (long long)mark,
                 (long long)found);
}

static void try_all(cut *c, const char *what) {
    disk_walk w = {.visit = resume_there, .check = found_enough, .user = c};
    disk_each(&w);
    print_message("%s: %d calls, %zu states, %zu of them different and resumed\n", what, w.points - 1,
                  w.states, c->runs);
    free(w.known);
    free(w.results);
    disk_free();
}

/* `first`: the run before the one that is recorded, NULL: none; then its options, and those of the resumed.
 */
static void scenario(const char *what, cut *c, const char *const *first, int64_t stop_after,
                     const char *const *then) {
    graft_error err = {0};
    watch w = {.stop_after = stop_after};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    c->model = model;
    must_train(model, "whole", c->more, NULL,
               NULL); /* --resume finds nothing and starts from the beginning */
    if (first) (void)train(model, "part", first, &w, NULL, &err);
    if (c->old) {
        char *metrics = tiny_join(root, "part/metrics.jsonl");
        unlink(metrics);
        free(metrics);
    }
    record(model, then);
    try_all(c, what);
    forget("part");
    forget("whole");
    tiny_remove(model);
}

static void a_run(void **state) {
    (void)state;
    scenario("a run", &(cut){.more = resume}, NULL, 0, NULL);
}

/* metrics.jsonl is cut back, the adapter written anew. */
static void a_resumed_run(void **state) {
    (void)state;
    scenario("a resumed run", &(cut){.more = resume}, (const char *const[]){NULL}, 4, resume);
}

/* The checkpoints of an earlier run are not met again once this one has begun. Its metrics were taken away.
 */
static void a_run_over_another(void **state) {
    (void)state;
    static const char *const then[] = {"seed", "9", NULL};
    static const char *const more[] = {"seed", "9", "resume", "-", NULL};
    scenario("a run over another", &(cut){.more = more, .old = true}, (const char *const[]){NULL}, 0, then);
}

static void a_run_with_best(void **state) {
    (void)state;
    static const char *const then[] = {"keep-best", "-", "steps-per-eval", "2", "save-every", "5", NULL};
    static const char *const more[] = {"keep-best", "-", "steps-per-eval", "2", "resume", "-", NULL};
    scenario("a run with best", &(cut){.more = more, .best = true}, NULL, 0, then);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_run), cmocka_unit_test(a_resumed_run),
                                       cmocka_unit_test(a_run_over_another),
                                       cmocka_unit_test(a_run_with_best)};
    return cmocka_run_group_tests_name("power_cut", tests, setup, teardown);
}
