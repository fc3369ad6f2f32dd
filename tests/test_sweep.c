/* Sweeps: the grid, what is refused before anything is written, the best kept, going on; and early stopping.
 */
#include "tests/tiny_run.h"

#include "sweep/sweep.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include <cmocka.h>

static char *model;

static int setup_model(void **state) {
    const tiny_spec spec = {.dtype = GR_BF16, .bits = 4, .seed = 3};
    setup(state);
    model = tiny_model_dir(root, "model", &spec);
    return 0;
}

static int teardown_model(void **state) {
    free(model);
    return teardown(state);
}

/* Options of the short run of all tests, with more (pairs). */
static graft_options options_of(const char *out, const char *const *more) {
    graft_options o;
    char *place = tiny_join(root, out);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_SWEEP,
             (const char *const[]){"model", model, "data", data, "adapter-path", place, "iters", "8", NULL});
    tiny_set(&o, GRAFT_VERB_SWEEP, common + 2);
    tiny_set(&o, GRAFT_VERB_SWEEP, more);
    free(place);
    return o;
}

static graft_status sweep(const char *out, const char *const *more, watch *w, graft_sweep_result *r,
                          graft_error *err) {
    graft_options o = options_of(out, more);
    watch own = {0};
    if (!w) w = &own;
    graft_hooks hooks = {.user = w, .event = on_event, .stop = &w->stop};
    gr_error_clear(err);
    graft_status st = graft_sweep(&o, &hooks, r, err);
    graft_options_free(&o);
    return st;
}

static void grids(void **state) {
    (void)state;
    graft_error err = {0};
    gr_sweep_grid g;
    graft_options o = options_of("x", (const char *const[]){"grid", "lora-rank=2,4", "grid",
                                                            "lora_targets=standard|q_proj,v_proj", NULL}),
                  one;
    assert_int_equal(gr_sweep_grid_read(&g, &o, &err), GRAFT_OK);
    assert_true(g.count == 2 && g.trials == 4);
    static const char *const wanted[][2] = {
        {"2", "standard"}, {"2", "q_proj,v_proj"}, {"4", "standard"}, {"4", "q_proj,v_proj"}};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 2; k++) assert_string_equal(gr_sweep_value(&g, i, k), wanted[i][k]);
    char *name, *values;
    assert_int_equal(gr_sweep_names(&name, &values, &g, 3, &err), GRAFT_OK);
    assert_string_equal(name, "04_lora-rank=4_lora-targets=q_proj-v_proj");
    assert_string_equal(values, "lora-rank 4, lora-targets q_proj,v_proj");
    free(name);
    free(values);
    assert_int_equal(gr_sweep_options(&one, &g, 1, &o, &err), GRAFT_OK);
    assert_true(one.lora_rank == 2 && one.keep_best && one.model != o.model);
    assert_string_equal(one.lora_targets, "q_proj,v_proj");
    graft_options_free(&one);
    gr_sweep_grid_free(&g);
    graft_options_free(&o);
}

static void what_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *pairs[9];
        const char *words;
    } cases[] = {
        {{NULL}, "without --grid"},
        {{"grid", "lora-rank", NULL}, "setting and its values"},
        {{"grid", "lora-rank=", NULL}, "setting and its values"},
        {{"grid", "lora-rank=4,", NULL}, "empty value"},
        {{"grid", "lora-rank=4,4", NULL}, "twice"},
        {{"grid", "lora-rank=4", "grid", "lora_rank=8", NULL}, "given twice"},
        {{"grid", "lora-rnak=4", NULL}, "unknown option"},
        {{"grid", "lora-rank=0,4", NULL}, "lora-rank"},
        {{"grid", "model=a,b", NULL}, "cannot vary model"},
        {{"grid", "valid-split=0.1,0.2", NULL}, "cannot vary valid-split"},
        {{"grid", "batch-size=1,2", "val-batches", "3", NULL}, "cannot vary batch-size"},
        {{"grid", "batch-size=1,2", "val-batches", "-1", "loss", "mlx-lm", NULL}, "cannot vary batch-size"},
        {{"grid", "compute=bf16,fp32", NULL}, "cannot vary compute"},
        {{"grid", "qat=true,false", NULL}, "cannot vary qat"},
        {{"grid", "threads=1,2", "jobs", "2", NULL}, "cannot vary threads"},
        {{"grid", "budget=1GB,2GB", "jobs", "2", NULL}, "cannot vary budget"},
        {{"grid", "preset=quick,standard", NULL}, "cannot vary preset"},
        {{"grid", "beta=0.1,0.5", "loss", "dpo", NULL}, "cannot vary beta"},
        {{"grid", "loss-type=sigmoid,ipo", "loss", "dpo", NULL}, "cannot vary loss-type"},
        {{"grid", "label-smoothing=0,0.1", "loss", "dpo", NULL}, "cannot vary label-smoothing"},
        {{"grid", "resume-adapter-file=a,b", "loss", "dpo", NULL}, "cannot vary resume-adapter-file"},
        {{"grid", "watch=80", NULL}, "not an option of sweep"},
        {{"rank-timeout", "80", NULL}, "not an option of sweep"},
        {{"grid", "learning-rate=1e-4,nothing", NULL}, "learning-rate"},
        {{"grid", "lora-scale=1,2", "lora-alpha", "3", NULL}, "say the same thing twice"},
        {{"grid", "lora-rank=2,4", "budget", "1MB", NULL}, "--budget"},
        {{"grid", "lora-rank=2,4", "time", "30", NULL}, "--time takes a time"},
        {{"grid", "lora-rank=2,4", "time", "1ms", NULL}, "1ms"},
        {{"grid", "seed=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "grid",
          "lora-rank=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", NULL},
         "more than 256"},
    };
    char *dir = tiny_join(root, "refused");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err;
        graft_sweep_result r;
        graft_options o = options_of("refused", NULL);
        graft_status st = GRAFT_OK;
        gr_error_clear(&err);
        for (const char *const *p = cases[i].pairs; *p && st == GRAFT_OK; p += 2)
            st = graft_options_set(&o, GRAFT_VERB_SWEEP, p[0], p[1], &err);
        memset(&r, 0, sizeof r);
        if (st == GRAFT_OK) st = graft_sweep(&o, NULL, &r, &err);
        if (st != GRAFT_USAGE) fail_msg("case %zu: status %d, %s", i, (int)st, err.what);
        if (!strstr(err.what, cases[i].words) && !strstr(err.found, cases[i].words) &&
            !strstr(err.where, cases[i].words))
            fail_msg("case %zu: %s, found %s", i, err.what, err.found);
        graft_sweep_result_free(&r);
        graft_options_free(&o);
        assert_false(gr_path_exists(dir));
    }
    free(dir);
}

static void rows_to_validate_on(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    char *all = data, *bare = tiny_data_dir(root, "bare", 5, 0), *dir = tiny_join(root, "bare-sweep");
    data = bare;
    assert_int_equal(
        sweep("bare-sweep", (const char *const[]){"grid", "lora-rank=2,4", NULL}, NULL, &r, &err),
        GRAFT_USAGE);
    assert_non_null(strstr(err.what, "validat"));
    assert_non_null(strstr(err.where, "lora-rank 2"));
    graft_sweep_result_free(&r);
    assert_int_equal(train(model, "bare-run", (const char *const[]){"patience", "2", NULL}, NULL, NULL, &err),
                     GRAFT_USAGE);
    assert_false(gr_path_exists(dir));
    data = all;
    free(bare);
    free(dir);
}

static const char *const grid[] = {"grid", "lora-rank=2,4", "grid", "learning-rate=1e-5,5e-3", NULL};
static const char *const grid_on[] = {
    "grid", "lora-rank=2,4", "grid", "learning-rate=1e-5,5e-3", "resume", "-", NULL};

/* Every trial is the run that train makes; the best is the lowest, and best leads to its adapter. */
static void the_best_is_kept(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    if (sweep("sweep", grid, NULL, &r, &err) != GRAFT_OK)
        fail_msg("%s %s %s", err.what, err.where, err.found);
    assert_int_equal(r.ntrials, 4);
    assert_true(!r.out_of_time && r.best >= 0);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(r.trials[i].state, GRAFT_SWEEP_DONE);
        assert_true(r.trials[i].iterations == 8 && r.trials[i].forecast_bytes > 1000000);
        assert_true(r.trials[i].val_loss_best >= r.trials[r.best].val_loss_best);
    }
    assert_true(r.best == 1 || r.best == 3); /* 1e-5 moves nothing in eight iterations */
    must_train(model, "alone",
               (const char *const[]){"lora-rank", "4", "learning-rate", "5e-3", "keep-best", "-", NULL}, NULL,
               NULL);
    same_best("sweep/04_lora-rank=4_learning-rate=5e-3", "alone");
    char best[PATH_MAX + 1] = "", *place = tiny_join(root, "sweep");
    ssize_t n = readlink(r.best_path, best, PATH_MAX);
    assert_true(n > 0);
    assert_true(strncmp(best, r.trials[r.best].name, strlen(r.trials[r.best].name)) == 0);
    char *a = tiny_join(place, r.trials[r.best].name), *b = tiny_join(a, "best");
    tiny_same_file(r.best_path, b, "adapters.safetensors");
    free(a);
    free(b);
    json_t *file;
    char *text = tiny_read(place, "sweep.json", NULL);
    file = json_loads(text, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(file, "trials")), 4);
    assert_string_equal(json_string_value(json_object_get(file, "best")), r.trials[r.best].name);
    json_decref(file);
    free(text);
    free(place);
    graft_sweep_result_free(&r);
    /* it is there, and done */
    assert_int_equal(sweep("sweep", grid, NULL, &r, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.hint, "--resume"));
    graft_sweep_result_free(&r);
    watch w = {0};
    assert_int_equal(sweep("sweep", grid_on, &w, &r, &err), GRAFT_OK);
    assert_null(strstr(w.notes, "trial 1"));
    assert_true(r.best == 1 || r.best == 3);
    graft_sweep_result_free(&r);
    assert_int_equal(
        sweep("sweep", (const char *const[]){"grid", "lora-rank=2,8", "resume", "-", NULL}, NULL, &r, &err),
        GRAFT_MISMATCH);
    graft_sweep_result_free(&r);
}

/* Stopped in its third trial and gone on with: the same files as without the stop. */
static void a_sweep_goes_on(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    watch w = {.stop_after = 5}; /* of the first trial */
    assert_int_equal(sweep("part", grid, &w, &r, &err), GRAFT_INTERRUPTED);
    assert_string_equal(r.trials[0].state, GRAFT_SWEEP_WAITING);
    graft_sweep_result_free(&r);
    assert_int_equal(sweep("part", grid_on, NULL, &r, &err), GRAFT_OK);
    for (size_t i = 0; i < r.ntrials; i++) {
        char part[200], whole[200];
        snprintf(part, sizeof part, "part/%s", r.trials[i].name);
        snprintf(whole, sizeof whole, "sweep/%s", r.trials[i].name);
        same_best(part, whole);
    }
    graft_sweep_result_free(&r);
}

static const char *const short_grid[] = {"grid", "lora-rank=2,4", "iters", "2", NULL};
static const char *const short_on[] = {"grid", "lora-rank=2,4", "iters", "2", "resume", "-", NULL};

/* Losses of other rows, or of another base, are not compared with those that are there. */
static void other_rows_are_refused(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    watch w = {.stop_after = 1};
    char *all = data, *base = model;
    const tiny_spec spec = {.dtype = GR_BF16, .bits = 4, .seed = 4};
    data = tiny_data_dir(root, "changing", 5, 3);
    model = tiny_model_dir(root, "changing-model", &spec);
    assert_int_equal(sweep("rows", short_grid, &w, &r, &err), GRAFT_INTERRUPTED);
    graft_sweep_result_free(&r);
    char *text = tiny_read(data, "valid.jsonl", NULL);
    tiny_write(data, "valid.jsonl", text + strcspn(text, "\n") + 1);
    assert_int_equal(sweep("rows", short_on, NULL, &r, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.found, "validation rows"));
    assert_null(strstr(err.found, "training rows"));
    graft_sweep_result_free(&r);
    tiny_write(data, "valid.jsonl", text);
    free(text);
    free(tiny_model_dir(root, "changing-model", &(tiny_spec){.dtype = GR_BF16, .bits = 4, .seed = 5}));
    assert_int_equal(sweep("rows", short_on, NULL, &r, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.found, "base"));
    graft_sweep_result_free(&r);
    free(tiny_model_dir(root, "changing-model", &spec));
    assert_int_equal(sweep("rows", short_on, NULL, &r, &err), GRAFT_OK);
    graft_sweep_result_free(&r);
    free(data);
    free(model);
    data = all;
    model = base;
}

/* A directory where the link would go is somebody's adapter; a sweep that runs is left alone. */
static void what_is_there_already(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    watch w = {0};
    char *dir = tiny_subdir(root, "taken"), *best = tiny_subdir(dir, "best"),
         *path = tiny_join(dir, "sweep.json");
    assert_int_equal(sweep("taken", short_grid, &w, &r, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.where, "best"));
    assert_int_equal(w.events, 0);
    assert_false(gr_path_exists(path));
    graft_sweep_result_free(&r);
    gr_dir_lock lock;
    assert_int_equal(gr_dir_lock_take(&lock, dir, "", &err), GRAFT_OK);
    assert_int_equal(sweep("taken", short_grid, &w, &r, &err), GRAFT_IO);
    assert_int_equal(w.events, 0);
    graft_sweep_result_free(&r);
    gr_dir_lock_release(&lock);
    free(path);
    free(best);
    free(dir);
}

static void time_is_obeyed(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    const char *const more[] = {"grid", "lora-rank=2", "iters", "200000", "time", "1s", NULL};
    assert_int_equal(sweep("late", more, NULL, &r, &err), GRAFT_USAGE); /* it takes longer, and says so */
    assert_non_null(strstr(err.what, "--time"));
    graft_sweep_result_free(&r);
    const char *const patient[] = {"grid", "lora-rank=2", "iters",  "200000", "time",
                                   "1s",   "patience",    "100000", NULL};
    assert_int_equal(sweep("late", patient, NULL, &r, &err), GRAFT_OK);
    assert_true(r.out_of_time);
    assert_string_equal(r.trials[0].state, GRAFT_SWEEP_STOPPED);
    assert_true(r.trials[0].iterations < 200000);
    assert_true(r.best == (isfinite(r.trials[0].val_loss_best) ? 0 : -1)); /* a slow machine has none */
    graft_sweep_result_free(&r);
}

/* A rate that makes everything worse: two validations after the best one the run ends, and is whole. */
static void patience(void **state) {
    (void)state;
    graft_train_result r, part;
    watch w = {0}, stop = {.stop_after = 6};
    graft_error err = {0};
    static const char *const impatient[] = {"patience",       "4", "learning-rate", "3", "iters", "40",
                                            "steps-per-eval", "2", "grad-clip",     "0", NULL};
    static const char *const on[] = {
        "patience",  "4", "learning-rate", "3", "iters", "40", "steps-per-eval", "2",
        "grad-clip", "0", "resume",        "-", NULL};
    must_train(model, "impatient", impatient, &w, &r);
    assert_true(r.stopped_early && !r.interrupted && r.iterations < 40);
    assert_non_null(strstr(w.notes, "validation loss was lowest at iteration"));
    assert_int_equal(train(model, "stopped", impatient, &stop, &part, &err), GRAFT_INTERRUPTED);
    if (r.iterations > 6) {
        must_train(model, "stopped", on, NULL, &part);
        assert_true(part.stopped_early && part.iterations == r.iterations);
        same_results("stopped", "impatient");
    }
    must_train(model, "stopped", on, NULL, &part); /* it is over, and stays so */
    assert_true(part.stopped_early && part.iterations == r.iterations);
    must_train(model, "patient", (const char *const[]){"patience", "1000", NULL}, NULL, &r);
    assert_false(r.stopped_early);
}

/* A host that stops in the middle of a validation, or lets the time run out at some event. */
typedef struct meddler {
    volatile int stop;
    int valid, validating;
    bool in_validation; /* stop there */
    int64_t sleep_at;   /* the validation of that iteration takes `seconds` longer; 0: none does */
    int seconds;
} meddler;

static void meddle(void *user, const graft_event *e) {
    meddler *m = user;
    if (e->kind == GRAFT_EVENT_PROGRESS && strcmp(e->phase, "validate") == 0 && e->done) {
        m->validating++;
        m->stop |= m->in_validation;
    }
    if (e->kind == GRAFT_EVENT_VALID) {
        m->valid++;
        if (m->sleep_at && e->iteration == m->sleep_at) sleep((unsigned)m->seconds);
    }
}

static graft_status meddled(const char *out, const char *const *more, meddler *m, graft_sweep_result *r,
                            graft_error *err) {
    graft_options o = options_of(out, more);
    graft_hooks hooks = {.user = m, .event = meddle, .stop = &m->stop};
    gr_error_clear(err);
    graft_status st = graft_sweep(&o, &hooks, r, err);
    graft_options_free(&o);
    return st;
}

/* Ctrl-C is heard while rows are validated, with --time too. */
static void a_validation_can_be_stopped(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    meddler m = {.in_validation = true};
    static const char *const more[] = {"grid", "lora-rank=2", "time", "1h", NULL};
    assert_int_equal(meddled("cut", more, &m, &r, &err), GRAFT_INTERRUPTED);
    assert_true(m.validating > 0 && m.valid == 0); /* no mean of half the rows */
    graft_sweep_result_free(&r);
}

/* The last trial ends and the time too: nothing is left to go on with. */
static void done_in_time(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    bool stopped = true;
    for (int limit = 2; limit <= 54 && stopped; limit *= 3) { /* a slow machine needs more for the rest */
        char time[16], out[16];
        snprintf(time, sizeof time, "%ds", limit);
        snprintf(out, sizeof out, "just-%d", limit);
        meddler m = {.sleep_at = 8, .seconds = limit};
        const char *const more[] = {"grid", "lora-rank=2", "time", time, "patience", "100", NULL};
        assert_int_equal(meddled(out, more, &m, &r, &err), GRAFT_OK);
        stopped = strcmp(r.trials[0].state, GRAFT_SWEEP_STOPPED) == 0;
        if (!stopped) {
            assert_string_equal(r.trials[0].state, GRAFT_SWEEP_DONE);
            assert_false(r.out_of_time);
        }
        graft_sweep_result_free(&r);
    }
    assert_false(stopped);
}

/* What a trial measured before it diverged stays. */
static void divergence_is_a_result(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    static const char *const more[] = {
        "grid", "learning-rate=1e6,5e-3", "lora-scale", "1e6", "max-bad-steps", "1", "iters", "20", NULL};
    assert_int_equal(sweep("wild", more, NULL, &r, &err), GRAFT_OK);
    assert_string_equal(r.trials[0].state, GRAFT_SWEEP_FAILED);
    assert_non_null(r.trials[0].error);
    assert_true(isfinite(r.trials[0].val_loss_first) && r.trials[0].iterations > 0);
    assert_true(r.trials[0].peak_memory_bytes > 0 && r.trials[0].seconds > 0);
    assert_string_equal(r.trials[1].state, GRAFT_SWEEP_DONE);
    assert_true(r.best >= 0 && gr_path_is_dir(r.best_path));
    graft_sweep_result_free(&r);
}

static int link_error; /* 0: links work */
int __wrap_symlink(const char *to, const char *path);
int __real_symlink(const char *to, const char *path);
int __wrap_symlink(const char *to, const char *path) {
    if (!link_error) return __real_symlink(to, path);
    errno = link_error;
    return -1;
}

static json_t *record_of(const char *out) {
    char *dir = tiny_join(root, out), *text = tiny_read(dir, "sweep.json", NULL);
    json_t *all = json_loads(text, 0, NULL);
    assert_non_null(all);
    free(text);
    free(dir);
    return all;
}

/* A file system without links names the best all the same; a link that fails costs no result. */
static void without_links(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    link_error = EPERM;
    assert_int_equal(sweep("fat", short_grid, NULL, &r, &err), GRAFT_OK);
    assert_true(r.best >= 0 && gr_ends_with(r.best_path, "/best") && gr_path_is_dir(r.best_path));
    assert_non_null(strstr(r.best_path, r.trials[r.best].name));
    graft_sweep_result_free(&r);
    link_error = ENOSPC;
    assert_int_equal(sweep("full", short_grid, NULL, &r, &err), GRAFT_IO);
    graft_sweep_result_free(&r);
    link_error = 0;
    json_t *all = record_of("full");
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(json_object_get(all, "trials"), 0), "state")),
        GRAFT_SWEEP_DONE);
    json_decref(all);
    assert_int_equal(sweep("full", short_on, NULL, &r, &err), GRAFT_OK);
    assert_int_equal(r.trials[1].iterations, 2);
    graft_sweep_result_free(&r);
}

/* Of more trials than a page can hold the best are shown. */
static void a_report_of_a_sweep(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    graft_report_result page;
    graft_options o;
    static const char *const nine[] = {"grid", "seed=1,2,3,4,5,6,7,8,9", "iters", "2", NULL};
    assert_int_equal(sweep("nine", nine, NULL, &r, &err), GRAFT_OK);
    size_t worst = 0;
    for (size_t i = 0; i < r.ntrials; i++)
        if (r.trials[i].val_loss_best >= r.trials[worst].val_loss_best) worst = i;
    char *dir = tiny_join(root, "nine"), *html = tiny_join(dir, "report.html");
    graft_options_init(&o);
    assert_int_equal(graft_report((const char *const[]){dir}, 1, &o, NULL, &page, &err), GRAFT_OK);
    assert_string_equal(page.html, html);
    assert_non_null(strstr(page.notes, "1 more are left out"));
    for (size_t i = 0; i < r.ntrials; i++)
        assert_true((strstr(page.json, r.trials[i].name) != NULL) == (i != worst));
    graft_report_result_free(&page);
    tiny_write(dir, "sweep.json", "{\"trials\": [{\"name\": \"../nine\"}]}");
    assert_int_equal(graft_report((const char *const[]){dir}, 1, &o, NULL, &page, &err), GRAFT_CORRUPT);
    tiny_write(dir, "sweep.json", "{\"trials\": []}");
    assert_int_equal(graft_report((const char *const[]){dir}, 1, &o, NULL, &page, &err), GRAFT_NOT_FOUND);
    graft_options_free(&o);
    graft_sweep_result_free(&r);
    free(html);
    free(dir);
}

/* The program's stdout with these arguments; malloc'ed. *code: what it exits with. */
static char *printed(const char *arguments, int *code) {
    char command[2000];
    char *text = calloc(1, 1 << 16);
    snprintf(command, sizeof command,
             "cd '%s' && '%s' sweep --model '%s' --data '%s' --iters 2 --steps-per-eval 1 --threads 1 "
             "--lora-rank 2 --batch-size 2 %s 2>/dev/null",
             root, GRAFT_BINARY, model, data, arguments);
    FILE *f = popen(command, "r");
    assert_true(f && text);
    size_t n = fread(text, 1, (1 << 16) - 1, f);
    int status = pclose(f);
    text[n] = '\0';
    *code = WEXITSTATUS(status);
    return text;
}

static void the_table_and_the_document(void **state) {
    (void)state;
    int code;
    char *text = printed("--grid learning-rate=1e-3,1e-2 --adapter-path shown --json", &code);
    assert_int_equal(code, 0);
    json_t *all = json_loads(text, 0, NULL), *trials = json_object_get(all, "trials");
    assert_int_equal(json_array_size(trials), 2);
    for (size_t i = 0; i < 2; i++) {
        json_t *t = json_array_get(trials, i);
        assert_string_equal(json_string_value(json_object_get(t, "state")), "done");
        assert_true(json_is_null(json_object_get(t, "error")));
        assert_int_equal(json_integer_value(json_object_get(t, "iterations")), 2);
        static const char *const numbers[] = {"train_loss",    "val_loss_first", "val_loss_last",
                                              "val_loss_best", "seconds",        "peak_memory_bytes",
                                              "forecast_bytes"};
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            assert_true(json_number_value(json_object_get(t, numbers[k])) > 0);
    }
    assert_string_equal(json_string_value(json_object_get(all, "best")), "02_learning-rate=1e-2");
    assert_string_equal(json_string_value(json_object_get(all, "best_path")), "shown/best");
    assert_true(json_is_false(json_object_get(all, "out_of_time")));
    json_decref(all);
    free(text);
    text = printed("--grid learning-rate=1e-3,1e-2 --adapter-path shown --resume", &code);
    assert_int_equal(code, 0);
    assert_non_null(strstr(text, "  trial "));
    assert_non_null(strstr(text, "\n  learning-rate 1e-3 "));
    assert_non_null(strstr(text, "\n* learning-rate 1e-2 "));
    assert_non_null(strstr(text, "best (lowest validation loss): shown/best\n"));
    free(text);
    /* where nothing came of any trial, a script must not go on */
    text = printed(
        "--grid learning-rate=1e6,5e5 --lora-scale 1e6 --max-bad-steps 1 --iters 20 --adapter-path lost",
        &code);
    assert_int_equal(code, 1);
    assert_non_null(strstr(text, "failed"));
    free(text);
}

/* All trials together stay below the budget, whatever this process needed before. */
static void the_budget_is_obeyed(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    if (SANITIZED) return; /* which holds memory of its own */
    size_t big = (size_t)96 << 20;
    char *before = malloc(big);
    assert_non_null(before);
    memset(before, 1, big);
    free(before); /* a peak that is over: no part of the forecast */
    assert_int_equal(
        sweep("free", (const char *const[]){"grid", "lora-rank=2,8", "iters", "2", NULL}, NULL, &r, &err),
        GRAFT_OK);
    assert_true(r.trials[1].forecast_bytes < big);
    uint64_t budget = r.trials[1].forecast_bytes + (r.trials[1].forecast_bytes >> 6);
    graft_sweep_result_free(&r);
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)budget);
    const char *const fits[] = {"grid", "lora-rank=2,8", "iters", "4", "budget", text, NULL};
    bool measured = gr_peak_rss_reset();
    if (sweep("budget", fits, NULL, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.expected);
    for (size_t i = 0; i < r.ntrials; i++) {
        assert_true(r.trials[i].forecast_bytes <= budget);
        if (measured) assert_true(r.trials[i].peak_memory_bytes <= budget);
    }
    graft_sweep_result_free(&r);
}

/* ---- side by side, and halving */

typedef struct hearing {
    volatile int stop;
    pthread_t caller;
    bool elsewhere;      /* an event came in another thread */
    int64_t trials;      /* bits: which were heard of */
    int64_t stop_at;     /* iterations of all trials; 0: never */
    bool in_validations; /* the rows of validations count, not iterations */
    int stop_saved;      /* stop when so many trials saved where they are to pause; 0: never */
    int64_t pause;       /* that is there */
    int saved;
    int counted;
    char notes[4096];
} hearing;

static void hear_all(void *user, const graft_event *e) {
    hearing *h = user;
    h->elsewhere |= !pthread_equal(h->caller, pthread_self());
    if (e->kind == GRAFT_EVENT_NOTE)
        snprintf(h->notes + strlen(h->notes), sizeof h->notes - strlen(h->notes), "%s\n", e->text);
    if (e->kind == GRAFT_EVENT_SAVED && e->iteration == h->pause && ++h->saved == h->stop_saved) h->stop = 1;
    if (e->kind != GRAFT_EVENT_PROGRESS) return;
    bool trains = strcmp(e->phase, "train") == 0, validates = strcmp(e->phase, "validate") == 0;
    if (trains) h->trials |= (int64_t)1 << e->trial;
    h->counted += h->in_validations ? validates && e->done : trains;
    if (h->stop_at && h->counted >= h->stop_at) h->stop = 1;
}

static graft_status heard(const char *out, const char *const *more, hearing *h, graft_sweep_result *r,
                          graft_error *err) {
    graft_options o = options_of(out, more);
    h->caller = pthread_self();
    graft_hooks hooks = {.user = h, .event = hear_all, .stop = &h->stop};
    gr_error_clear(err);
    graft_status st = graft_sweep(&o, &hooks, r, err);
    graft_options_free(&o);
    return st;
}

/* Every trial of `out` has the adapters of that in `other`. */
static void same_trials(const char *out, const char *other, const graft_sweep_result *r) {
    for (size_t i = 0; i < r->ntrials; i++) {
        char a[200], b[200];
        snprintf(a, sizeof a, "%s/%s", out, r->trials[i].name);
        snprintf(b, sizeof b, "%s/%s", other, r->trials[i].name);
        same_best(a, b);
        if (strcmp(r->trials[i].state, GRAFT_SWEEP_DONE) == 0) same_results(a, b);
    }
}

#define FOUR "grid", "lora-rank=2,4", "grid", "learning-rate=1e-5,5e-3"

static void side_by_side(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    hearing h = {0};
    static const char *const at_once[] = {FOUR, "jobs", "3", "threads", "4", NULL};
    static const char *const on[] = {FOUR, "jobs", "2", "resume", "-", NULL};
    if (heard("beside", at_once, &h, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    assert_false(h.elsewhere);
    assert_int_equal(h.trials, 2 + 4 + 8 + 16);
    assert_true(r.best == 1 || r.best == 3);
    same_trials("beside", "sweep", &r);
    graft_sweep_result_free(&r);
    /* stopped, all are; and go on with another number */
    hearing stop = {.stop_at = 5};
    assert_int_equal(heard("beside-part", at_once, &stop, &r, &err), GRAFT_INTERRUPTED);
    for (size_t i = 0; i < r.ntrials; i++) assert_true(r.trials[i].iterations < 8);
    graft_sweep_result_free(&r);
    assert_int_equal(heard("beside-part", on, &h, &r, &err), GRAFT_OK);
    for (size_t i = 0; i < r.ntrials; i++) assert_string_equal(r.trials[i].state, GRAFT_SWEEP_DONE);
    same_trials("beside-part", "sweep", &r);
    graft_sweep_result_free(&r);
    /* an error of one is that of all */
    static const char *const late[] = {FOUR,   "jobs", "2",        "iters",  "200000",
                                       "time", "1s",   "patience", "100000", NULL};
    assert_int_equal(heard("beside-late", late, &h, &r, &err), GRAFT_OK);
    assert_true(r.out_of_time);
    assert_string_equal(r.trials[0].state, GRAFT_SWEEP_STOPPED);
    assert_string_equal(r.trials[1].state, GRAFT_SWEEP_STOPPED);
    assert_string_equal(r.trials[2].state, GRAFT_SWEEP_WAITING);
    graft_sweep_result_free(&r);
}

/* What runs at once stays below the budget, by being fewer. */
static void side_by_side_within_a_budget(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    hearing h = {0};
    if (SANITIZED) return; /* which holds memory of its own */
    static const char *const first[] = {FOUR, "iters", "2", NULL};
    if (heard("one-by-one", first, &h, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    uint64_t one = r.trials[3].forecast_bytes;
    graft_sweep_result_free(&r);
    char budget[32];
    snprintf(budget, sizeof budget, "%llu", (unsigned long long)(one + one / 2));
    const char *const few[] = {FOUR, "jobs", "4", "budget", budget, NULL};
    bool measured = gr_peak_rss_reset();
    if (heard("few", few, &h, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.expected);
    assert_non_null(strstr(h.notes, "at once fit --budget"));
    for (size_t i = 0; measured && i < r.ntrials; i++)
        assert_true(r.trials[i].peak_memory_bytes <= one + one / 2);
    same_trials("few", "sweep", &r);
    graft_sweep_result_free(&r);
    snprintf(budget, sizeof budget, "%llu", (unsigned long long)(4 * one));
    const char *const all[] = {FOUR, "jobs", "4", "budget", budget, NULL};
    h = (hearing){0};
    measured = gr_peak_rss_reset();
    assert_int_equal(heard("all", all, &h, &r, &err), GRAFT_OK);
    assert_null(strstr(h.notes, "at once fit --budget"));
    uint64_t together = 0;
    for (size_t i = 0; i < r.ntrials; i++) {
        together += r.trials[i].forecast_bytes;
        if (measured) assert_true(r.trials[i].peak_memory_bytes <= 4 * one);
    }
    assert_true(together <= 4 * one + 3 * one); /* each counts what all have in common */
    graft_sweep_result_free(&r);
}

#define EIGHT "grid", "learning-rate=1e-5,1e-3,5e-3,1e-2", "iters", "16", "steps-per-eval", "2"

/* The worse trials stop, the others end as if they had never paused. */
static void halving(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    hearing h = {0};
    static const char *const whole[] = {EIGHT, NULL};
    static const char *const halves[] = {EIGHT, "halving", "2", NULL};
    static const char *const at_once[] = {EIGHT, "halving", "2", "jobs", "2", NULL};
    static const char *const on[] = {EIGHT, "halving", "2", "resume", "-", NULL};
    static const char *const other[] = {EIGHT, "halving", "3", "resume", "-", NULL};
    assert_int_equal(heard("whole", whole, &h, &r, &err), GRAFT_OK);
    int64_t best = r.best;
    graft_sweep_result_free(&r);
    static const char *const places[] = {"halves", "halves-at-once"};
    for (int k = 0; k < 2; k++) {
        if (heard(places[k], k ? at_once : halves, &h, &r, &err) != GRAFT_OK)
            fail_msg("%s %s", err.what, err.where);
        int64_t at[17] = {0};
        for (size_t i = 0; i < r.ntrials; i++) {
            at[r.trials[i].iterations]++;
            assert_string_equal(r.trials[i].state,
                                (int64_t)i == r.best ? GRAFT_SWEEP_DONE : GRAFT_SWEEP_DROPPED);
            assert_null(r.trials[i].error);
        }
        assert_true(at[4] == 2 && at[8] == 1 && at[16] == 1 && r.best == best);
        char a[200], b[200];
        snprintf(a, sizeof a, "%s/%s", places[k], r.trials[best].name);
        snprintf(b, sizeof b, "whole/%s", r.trials[best].name);
        same_best(a, b);
        same_results(a, b);
        graft_sweep_result_free(&r);
    }
    /* stopped anywhere, it goes on with the same trials */
    for (int64_t stop = 3; stop < 100; stop += stop < 31 ? 4 : 5) {
        char place[32];
        hearing part = {.stop_at = stop, .in_validations = stop > 31}, rest = {0};
        snprintf(place, sizeof place, "halves-%d", (int)stop);
        graft_status st = heard(place, halves, &part, &r, &err);
        assert_int_equal(st, GRAFT_INTERRUPTED);
        graft_sweep_result_free(&r);
        if (stop == 3) {
            assert_int_equal(heard(place, other, &rest, &r, &err), GRAFT_MISMATCH);
            assert_non_null(strstr(err.found, "halving"));
            graft_sweep_result_free(&r);
        }
        assert_int_equal(heard(place, on, &rest, &r, &err), GRAFT_OK);
        assert_int_equal(r.best, best);
        same_trials(place, "halves", &r);
        graft_sweep_result_free(&r);
    }
    static const char *const rare[] = {EIGHT, "halving", "2", "steps-per-eval", "8", NULL};
    assert_int_equal(heard("rare", rare, &h, &r, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.hint, "--steps-per-eval"));
    graft_sweep_result_free(&r);
    static const char *const none[] = {EIGHT, "halving", "1", NULL};
    assert_int_equal(heard("rare", none, &h, &r, &err), GRAFT_USAGE);
    graft_sweep_result_free(&r);
}

/* A stop that comes when a trial has nothing left to do but to pause is not lost: no trial is dropped that
 * was not tried. */
static void stopped_at_a_pause(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    static const char *const at_once[] = {EIGHT, "halving", "2", "jobs", "2", NULL};
    static const char *const on[] = {EIGHT, "halving", "2", "jobs", "2", "resume", "-", NULL};
    for (int saved = 1; saved <= 4; saved++) {
        char place[32];
        hearing part = {.stop_saved = saved, .pause = 4}, rest = {0};
        snprintf(place, sizeof place, "pause-%d", saved);
        graft_status st = heard(place, at_once, &part, &r, &err);
        if (st != GRAFT_INTERRUPTED) fail_msg("stopped at save %d: status %d", saved, (int)st);
        assert_non_null(strstr(err.hint, "--resume"));
        for (size_t i = 0; i < r.ntrials; i++) assert_true(r.trials[i].iterations <= 4);
        graft_sweep_result_free(&r);
        assert_int_equal(heard(place, on, &rest, &r, &err), GRAFT_OK);
        same_trials(place, "halves", &r);
        graft_sweep_result_free(&r);
    }
}

/* A trial that is further than the end of its round, as who trained it by hand left it, only pauses there. */
static void further_than_its_round(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    hearing part = {.stop_at = 3}, rest = {0};
    watch hand = {.stop_after = 6};
    static const char *const halves[] = {EIGHT, "halving", "2", NULL};
    static const char *const on[] = {EIGHT, "halving", "2", "resume", "-", NULL};
    static const char *const by_hand[] = {"learning-rate",  "1e-5", "iters",     "16", "resume", "-",
                                          "steps-per-eval", "2",    "keep-best", "-",  NULL};
    assert_int_equal(heard("further", halves, &part, &r, &err), GRAFT_INTERRUPTED);
    char place[200];
    snprintf(place, sizeof place, "further/%s", r.trials[0].name);
    graft_sweep_result_free(&r);
    own_rank = true;
    graft_status st = train(model, place, by_hand, &hand, NULL, &err);
    own_rank = false;
    if (st != GRAFT_INTERRUPTED) fail_msg("%s %s", err.what, err.found);
    assert_int_equal(heard("further", on, &rest, &r, &err), GRAFT_OK);
    assert_string_equal(r.trials[0].state, GRAFT_SWEEP_DROPPED);
    assert_int_equal(r.trials[0].iterations, 6);
    assert_string_equal(r.trials[r.best].state, GRAFT_SWEEP_DONE);
    graft_sweep_result_free(&r);
}

/* A trial that cannot go on keeps what it measured so far; what a killed sweep left half written goes. */
static void keeps_what_was_measured(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    hearing part = {.stop_at = 6}, rest = {0};
    static const char *const one[] = {"grid", "lora-rank=2", NULL};
    static const char *const on[] = {"grid", "lora-rank=2", "resume", "-", NULL};
    assert_int_equal(heard("held", one, &part, &r, &err), GRAFT_INTERRUPTED);
    int64_t iterations = r.trials[0].iterations;
    double first = r.trials[0].val_loss_first, best = r.trials[0].val_loss_best;
    assert_true(iterations > 0 && isfinite(best));
    char *place = tiny_join(root, "held"), *dir = tiny_join(place, r.trials[0].name),
         *left = tiny_join(place, "sweep.json.123-4af.tmp");
    graft_sweep_result_free(&r);
    tiny_write(place, "sweep.json.123-4af.tmp", "{");
    gr_dir_lock lock;
    assert_int_equal(gr_dir_lock_take(&lock, dir, "", &err), GRAFT_OK);
    assert_int_equal(heard("held", on, &rest, &r, &err), GRAFT_IO);
    gr_dir_lock_release(&lock);
    assert_false(gr_path_exists(left));
    assert_int_equal(r.trials[0].iterations, iterations);
    assert_true(r.trials[0].val_loss_first == first && r.trials[0].val_loss_best == best && r.best == 0);
    graft_sweep_result_free(&r);
    assert_int_equal(heard("held", on, &rest, &r, &err), GRAFT_OK);
    assert_string_equal(r.trials[0].state, GRAFT_SWEEP_DONE);
    graft_sweep_result_free(&r);
    free(left);
    free(dir);
    free(place);
}

/* A process that is killed loses nothing: whenever it was, going on ends in the same adapters. */
static void killed(void **state) {
    (void)state;
    graft_error err = {0};
    graft_sweep_result r;
    hearing h = {0};
    static const char *const at_once[] = {EIGHT, "halving", "2", "jobs", "2", "save-every", "1", NULL};
    static const char *const on[] = {EIGHT,        "halving", "2",      "jobs", "2",
                                     "save-every", "1",       "resume", "-",    NULL};
    for (int round = 0; round < (SANITIZED ? 3 : 8); round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            graft_status st = heard("killed", round ? on : at_once, &h, &r, &err);
            _exit(st == GRAFT_OK ? 0 : 1);
        }
        usleep((useconds_t)(SANITIZED ? 300000 : 15000) * (useconds_t)(round + 1));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    if (heard("killed", on, &h, &r, &err) != GRAFT_OK) fail_msg("%s %s %s", err.what, err.where, err.found);
    same_trials("killed", "halves", &r);
    graft_sweep_result_free(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(grids),
                                       cmocka_unit_test(what_is_refused),
                                       cmocka_unit_test(rows_to_validate_on),
                                       cmocka_unit_test(the_best_is_kept),
                                       cmocka_unit_test(a_sweep_goes_on),
                                       cmocka_unit_test(other_rows_are_refused),
                                       cmocka_unit_test(what_is_there_already),
                                       cmocka_unit_test(patience),
                                       cmocka_unit_test(time_is_obeyed),
                                       cmocka_unit_test(a_validation_can_be_stopped),
                                       cmocka_unit_test(done_in_time),
                                       cmocka_unit_test(divergence_is_a_result),
                                       cmocka_unit_test(without_links),
                                       cmocka_unit_test(a_report_of_a_sweep),
                                       cmocka_unit_test(the_table_and_the_document),
                                       cmocka_unit_test(the_budget_is_obeyed),
                                       cmocka_unit_test(side_by_side),
                                       cmocka_unit_test(side_by_side_within_a_budget),
                                       cmocka_unit_test(halving),
                                       cmocka_unit_test(stopped_at_a_pause),
                                       cmocka_unit_test(further_than_its_round),
                                       cmocka_unit_test(keeps_what_was_measured),
                                       cmocka_unit_test(killed)};
    return cmocka_run_group_tests(tests, setup_model, teardown_model);
}
