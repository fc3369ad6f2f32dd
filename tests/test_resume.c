/* train/ continued: what may change between two halves of a run and what may not, when checkpoints are
 * written and how many stay, and that adapter and best/ agree with the checkpoint that a run goes on from. */
#include "tests/tiny_run.h"

static const char *const resume[] = {"resume", "-", NULL};

static bool there(const char *name) {
    char *path = tiny_join(root, name);
    bool found = gr_path_exists(path);
    free(path);
    return found;
}

#define POINT(n) "part/checkpoints/checkpoint-0000000" #n ".safetensors"

/* Stops after iteration 6, which ends an update; options as in `more`. */
static void stopped(const char *model, const char *const *more) {
    graft_error err = {0};
    watch w = {.stop_after = 6};
    if (train(model, "part", more, &w, NULL, &err) != GRAFT_INTERRUPTED) fail_msg("%s", err.what);
    assert_true(there(POINT(6)));
}

/* ------------------------------------------------------------------------------------- when and how many */

static void saves(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    static const struct {
        const char *every, *keep;
        int saved;
        bool at6, at7;
    } cases[] = {{"3", "1", 3, false, false},       {"3", "2", 3, true, false},
                 {"0.000001s", "3", 8, true, true}, {"0.000001s", "1", 8, false, false},
                 {"1h", "2", 1, false, false},      {"100", "2", 1, false, false}};
    must_train(model, "whole", NULL, NULL, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        watch w = {0};
        must_train(model, "part",
                   (const char *const[]){"save-every", cases[i].every, "keep-last", cases[i].keep, NULL}, &w,
                   NULL);
        assert_int_equal(w.saved, cases[i].saved);
        assert_true(there(POINT(8)));
        assert_int_equal(there(POINT(6)), cases[i].at6);
        assert_int_equal(there(POINT(7)), cases[i].at7);
        assert_false(there(POINT(3)));
        same_results("whole", "part"); /* when it was saved leaves no trace */
        forget("part");
    }
    forget("whole");
    tiny_remove(model);
}

/* -------------------------------------------------------------------------------- settings that changed */

static void names_all_changes(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    stopped(model, NULL);
    graft_error err = {0};
    const char *const more[] = {"resume", "-", "learning-rate", "1e-3", "seed", "8", "steps-per-report",
                                "1",      NULL};
    assert_int_equal(train(model, "part", more, NULL, NULL, &err), GRAFT_MISMATCH);
    assert_string_equal(err.what, "cannot resume: 2 settings differ from the checkpoint");
    assert_string_equal(err.found, "seed: 7 -> 8; learning-rate: 0.005 -> 0.001");
    assert_non_null(strstr(err.hint, "--allow-changes seed,learning-rate"));
    /* of what no flag allows the reason stands there */
    err = (graft_error){0};
    const char *const rank[] = {"resume", "-", "lora-rank", "8", "allow-changes", "lora-rank", NULL};
    assert_int_equal(train(model, "part", rank, NULL, NULL, &err), GRAFT_MISMATCH);
    if (!strstr(err.found, "lora-rank: 4 -> 8 (its vectors would not fit)")) fail_msg("%s", err.found);
    assert_null(strstr(err.hint, "allow-changes"));
    /* too many for a line */
    watch w = {0};
    err = (graft_error){0};
    const char *const many[] = {"resume",
                                "-",
                                "learning-rate",
                                "1e-3",
                                "seed",
                                "8",
                                "warmup",
                                "3",
                                "weight-decay",
                                "0.5",
                                "grad-clip",
                                "3",
                                "val-batches",
                                "1",
                                "lora-dropout",
                                "0.5",
                                "lr-schedule",
                                "cosine",
                                "completion-feature",
                                "a_name_that_is_long",
                                "tools-feature",
                                "another_name_that_is_long",
                                "exclude-modules",
                                "v_proj",
                                NULL};
    assert_int_equal(train(model, "part", many, &w, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(w.notes, "differs from the checkpoint: warmup: 0 -> 3\n"));
    assert_non_null(strstr(w.notes, "exclude-modules: (none) -> v_proj (its vectors would not fit)\n"));
    assert_string_equal(err.found, "those named above");
    err = (graft_error){0};
    const char *const wrong[] = {"resume", "-", "allow-changes", "learning_rat", NULL};
    assert_int_equal(train(model, "part", wrong, NULL, NULL, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.hint, "learning-rate"));
    must_train(model, "part", resume, NULL, NULL); /* no refusal left a trace */
    must_train(model, "whole", NULL, NULL, NULL);
    same_results("whole", "part");
    forget("whole");
    forget("part");
    tiny_remove(model);
}

static void allowed_changes(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    static const char *const cases[][9] = {
        {"resume", "-", "learning-rate", "1e-3", "seed", "9", "allow-changes", "seed,learning_rate"},
        {"resume", "-", "lr-schedule", "cosine", "warmup", "2", "allow-changes", "warmup,lr-schedule"},
        {"resume", "-", "batch-size", "3", "grad-accumulation-steps", "1", "allow-changes",
         "batch-size,grad-accumulation-steps"},
        {"resume", "-", "compute", "fp32", "lora-dropout", "0.1", "allow-changes", "compute,lora-dropout"},
        {"resume", "-", "iters", "12", "weight-decay", "0", "allow-changes", "iters,weight-decay"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        watch w = {0};
        graft_train_result r = {0};
        stopped(model, NULL);
        must_train(model, "part", cases[i], &w, &r);
        char line[128];
        snprintf(line, sizeof line, "allowed by --allow-changes: %s: ", cases[i][2]);
        if (!strstr(w.notes, line)) fail_msg("%s: %s", line, w.notes);
        assert_int_equal(r.iterations, i == 4 ? 12 : 8);
        forget("part");
    }
    /* the checkpoints from there on are of the new settings; and no run ends before it began */
    stopped(model, NULL);
    graft_error err = {0};
    const char *const more[] = {"resume", "-", "iters", "10", "allow-changes", "iters", NULL};
    must_train(model, "part", more, NULL, NULL);
    must_train(model, "part", (const char *const[]){"resume", "-", "iters", "10", NULL}, NULL, NULL);
    const char *const fewer[] = {"resume", "-", "iters", "9", "allow-changes", "iters", NULL};
    assert_int_equal(train(model, "part", fewer, NULL, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.what, "beyond the end"));
    forget("part");
    /* a state vector that the checkpoint does not have is missed, whatever was allowed */
    char *one = tiny_join(root, "one.yaml"), *two = tiny_join(root, "two.yaml");
    tiny_write(root, "one.yaml", "num_layers: 2\noptimizer: adafactor\n");
    tiny_write(root, "two.yaml",
               "num_layers: 2\noptimizer: adafactor\noptimizer_config: {adafactor: {beta_1: 0.9}}\n");
    stopped(model, (const char *const[]){"config", one, "iters", "8", NULL});
    const char *const moment[] = {"config", two, "iters", "8", "resume", "-", "allow-changes", "beta1", NULL};
    err = (graft_error){0};
    assert_int_equal(train(model, "part", moment, NULL, NULL, &err), GRAFT_MISMATCH);
    if (!strstr(err.what, "lacks optim")) fail_msg("%s %s", err.what, err.found);
    free(two);
    free(one);
    forget("part");
    tiny_remove(model);
}

/* In the middle of an accumulation its rows and their number are part of a sum. */
static void inside_an_update(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    graft_error err = {0};
    watch w = {.stop_after = 2}; /* of 3 */
    assert_int_equal(train(model, "part", NULL, &w, NULL, &err), GRAFT_INTERRUPTED);
    const char *const more[] = {"resume", "-", "batch-size", "1", "allow-changes", "batch-size", NULL};
    err = (graft_error){0};
    assert_int_equal(train(model, "part", more, NULL, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.what, "inside an update"));
    forget("part");
    tiny_remove(model);
}

static void other_rows(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *own = data;
    char *other = tiny_data_dir(root, "other", 4, 5), *valid = tiny_data_dir(root, "valid", 13, 4);
    graft_error err = {0};
    stopped(model, NULL);
    data = valid; /* the same rows to train on */
    assert_int_equal(train(model, "part", resume, NULL, NULL, &err), GRAFT_MISMATCH);
    if (!strstr(err.found, "5 for validation") || !strstr(err.found, "4 for validation"))
        fail_msg("%s", err.found);
    data = other; /* fewer than were taken from the epoch: the next begins */
    err = (graft_error){0};
    assert_int_equal(train(model, "part", resume, NULL, NULL, &err), GRAFT_MISMATCH);
    if (!strstr(err.found, "data: 13 rows, digest ") || !strstr(err.found, "-> 4 rows, digest "))
        fail_msg("%s", err.found);
    assert_non_null(strstr(err.hint, "--allow-changes data"));
    watch w = {0};
    const char *const more[] = {"resume", "-", "allow-changes", "data", NULL};
    must_train(model, "part", more, &w, NULL);
    assert_non_null(strstr(w.notes, "allowed by --allow-changes: data: 13 rows"));
    data = own;
    forget("part");
    /* another base, of the same shape */
    char *base = tiny_model_dir(root, "base2", &(tiny_spec){.seed = 3});
    stopped(model, NULL);
    err = (graft_error){0};
    assert_int_equal(train(base, "part", resume, NULL, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.hint, "--allow-other-base"));
    must_train(base, "part", (const char *const[]){"resume", "-", "allow-changes", "model", NULL}, NULL,
               NULL);
    forget("part");
    tiny_remove(base);
    tiny_remove(valid);
    tiny_remove(other);
    tiny_remove(model);
}

/* ------------------------------------------------------------------------- what costs only time or memory */

/* The second half in slices of at most `slice` tokens. */
static void resume_sliced(const char *model, int64_t slice, const char *const *more) {
    graft_options o;
    graft_error err = {0};
    gr_trainer t;
    graft_train_result r;
    char *adapter = tiny_join(root, "part");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", adapter, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common);
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    tiny_set(&o, GRAFT_VERB_TRAIN, resume);
    o.iters = 8;
    if (gr_trainer_open(&t, model, &o, NULL, GR_TRAINER_RUN, &err) != GRAFT_OK) fail_msg("%s", err.what);
    if (slice) t.slice_tokens = slice;
    if (gr_trainer_run(&t, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    gr_trainer_close(&t);
    graft_options_free(&o);
    free(adapter);
}

/* Other threads, another rung, another slicing between the halves: not a bit changes, for adapters as for
 * whole tensors. */
static void other_costs(void **state) {
    (void)state;
    static const struct {
        tiny_spec spec;
        const char *more[9];
    } kinds[] = {
        {{.bits = 4}, {NULL}},
        {{.type = "qwen3", .dtype = GR_BF16}, {"fine-tune-type", "dora", "lora-dropout", "0.2", NULL}},
        {{.dtype = GR_BF16}, {"batch-size", "3", "pack", "-", "max-seq-length", "64", NULL}}};
    static const struct {
        const char *more[5];
        int64_t slice;
    } costs[] = {{{"threads", "2", NULL}, 1},
                 {{"threads", "3", "grad-checkpoint", "layer", NULL}, 0},
                 {{"grad-checkpoint", "mlp", NULL}, 20},
                 {{"budget", "4GiB", NULL}, 0},
                 {{"grad-checkpoint", "none", "threads", "2", NULL}, 40}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char *model = tiny_model_dir(root, "base", &kinds[k].spec);
        must_train(model, "whole", kinds[k].more, NULL, NULL);
        for (size_t c = 0; c < sizeof costs / sizeof *costs; c++)
            for (int stop = 5; stop <= 11; stop += 3) {
                const char *all[16] = {0};
                size_t n = 0;
                graft_error err = {0};
                for (int i = 0; kinds[k].more[i]; i++) all[n++] = kinds[k].more[i];
                for (int i = 0; costs[c].more[i]; i++) all[n++] = costs[c].more[i];
                assert_int_equal(train(model, "part", kinds[k].more, &(watch){.stop_at = stop}, NULL, &err),
                                 GRAFT_INTERRUPTED);
                resume_sliced(model, costs[c].slice, all);
                same_results("whole", "part");
                forget("part");
            }
        forget("whole");
        tiny_remove(model);
    }
}

/* -------------------------------------------------------------------------------- adapter and best agree */

static void copy_file(const char *from, const char *to, const char *name) {
    size_t size;
    graft_error err = {0};
    char *a = tiny_join(root, from), *b = tiny_join(root, to), *path = tiny_join(b, name);
    char *bytes = tiny_read(a, name, &size);
    assert_int_equal(gr_file_replace(path, bytes, size, &err), GRAFT_OK);
    free(bytes);
    free(path);
    free(b);
    free(a);
}

static gr_adapter_place which(const char *name, int64_t *iteration) {
    gr_adapter_mark mark;
    gr_tuning *tuning = NULL;
    gr_model *m = NULL;
    float *params = NULL;
    graft_error err = {0};
    char *dir = tiny_join(root, name), *model = tiny_join(root, "base"), *whole = tiny_join(root, "whole");
    if (gr_model_open(&m, model, &err) != GRAFT_OK ||
        gr_adapter_load(&tuning, &params, whole, &m->config, 0, &err) != GRAFT_OK)
        fail_msg("%s", err.what);
    gr_adapter_place place = gr_adapter_which(&mark, dir, &m->config, tuning, 0);
    *iteration = mark.iteration;
    free(params);
    gr_tuning_free(tuning);
    gr_model_free(m);
    free(whole);
    free(model);
    free(dir);
    return place;
}

/* Killed between the two tensor files, or before the config: the pair is recognized, and right again before
 * the first iteration. */
static void torn_pair(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    static const char *const names[] = {"adapters.safetensors", "adapter_model.safetensors",
                                        "adapter_config.json"};
    int64_t iteration;
    must_train(model, "whole", NULL, NULL, NULL);
    for (int kind = 0; kind < 7; kind++) {
        graft_error err = {0};
        watch w = {.stop_at = 2};
        stopped(model, NULL);
        assert_int_equal(which("part", &iteration), GR_ADAPTER_WHOLE);
        assert_int_equal(iteration, 6);
        char *part = tiny_join(root, "part"), *file = tiny_join(part, names[kind % 3]);
        if (kind < 3) copy_file("whole", "part", names[kind]); /* of iteration 8 */
        if (kind >= 3 && kind < 6) assert_int_equal(truncate(file, 99), 0);
        if (kind == 6) unlink(file);
        assert_int_equal(which("part", &iteration), GR_ADAPTER_TORN);
        assert_int_equal(train(model, "part", resume, &w, NULL, &err), GRAFT_INTERRUPTED);
        assert_non_null(strstr(w.notes, "are not of one save: written anew"));
        assert_int_equal(which("part", &iteration), GR_ADAPTER_WHOLE);
        must_train(model, "part", resume, NULL, NULL);
        same_results("whole", "part");
        free(file);
        free(part);
        forget("part");
    }
    forget("whole");
    tiny_remove(model);
}

/* One flipped bit of the numbers: the file is not taken for an adapter, and --resume writes it anew. */
static void altered_adapter(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    static const char *const names[] = {"adapters.safetensors", "adapter_model.safetensors"};
    must_train(model, "whole", NULL, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        graft_error err = {0};
        gr_model *m;
        gr_tuning *tuning = NULL;
        float *params;
        size_t size;
        must_train(model, "part", NULL, NULL, NULL);
        char *part = tiny_join(root, "part"), *path = tiny_join(part, names[i]);
        char *bytes = tiny_read(part, names[i], &size);
        bytes[size - 7] ^= 4;
        assert_int_equal(gr_file_replace(path, bytes, size, &err), GRAFT_OK);
        assert_int_equal(gr_model_open(&m, model, &err), GRAFT_OK);
        assert_int_equal(gr_adapter_load(&tuning, &params, path, &m->config, 0, &err), GRAFT_CORRUPT);
        assert_non_null(strstr(err.what, "not those that were saved"));
        must_train(model, "part", resume, NULL, NULL);
        same_results("whole", "part");
        gr_model_free(m);
        free(bytes);
        free(path);
        free(part);
        forget("part");
    }
    forget("whole");
    tiny_remove(model);
}

/* best/ holds the best so far whatever happened to it: torn, of a validation that the checkpoint does not
 * know, or missing. */
static void best_agrees(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    const char *const keep[] = {"keep-best", "-", "steps-per-eval", "2", NULL};
    const char *const again[] = {"keep-best", "-", "steps-per-eval", "2", "resume", "-", NULL};
    graft_train_result whole = {0}, part = {0};
    int64_t iteration;
    must_train(model, "whole", keep, NULL, &whole);
    for (int stop = 1; stop < 30; stop++) { /* wherever it was stopped */
        graft_error err = {0};
        graft_status st = train(model, "part", keep, &(watch){.stop_at = stop}, NULL, &err);
        if (st == GRAFT_INTERRUPTED) must_train(model, "part", again, NULL, &part);
        same_best("whole", "part");
        forget("part");
        if (st == GRAFT_OK) break;
    }
    assert_near(part.val_loss_best, whole.val_loss_best, 0);
    for (int kind = 0; kind < 3; kind++) {
        graft_error err = {0};
        watch w = {.stop_at = 2};
        stopped(model, keep);
        char *file = tiny_join(root, "part/best/adapters.safetensors");
        if (kind == 0) copy_file("whole/best", "part/best", "adapters.safetensors"); /* torn by a later one */
        if (kind == 1) assert_int_equal(truncate(file, 50), 0);
        if (kind == 2) { /* a later one, whole: the checkpoint after it was lost */
            copy_file("whole/best", "part/best", "adapters.safetensors");
            copy_file("whole/best", "part/best", "adapter_model.safetensors");
            copy_file("whole/best", "part/best", "adapter_config.json");
        }
        (void)train(model, "part", again, &w, NULL, &err);
        assert_int_not_equal(which("part/best", &iteration), GR_ADAPTER_TORN);
        must_train(model, "part", again, NULL, &part);
        same_best("whole", "part");
        assert_near(part.val_loss_best, whole.val_loss_best, 0);
        free(file);
        forget("part");
    }
    forget("whole");
    tiny_remove(model);
}

/* --gguf writes the third file with every save, best's too; a run that had none so far goes on with it, and
 * the best adapter stays the best. */
static void with_gguf(void **state) {
    (void)state;
    static const char *const before[] = {"keep-best", "-", "iters", "6", NULL};
    static const char *const after[] = {"keep-best",     "-",     "gguf", "-", "resume", "-",
                                        "allow-changes", "iters", NULL};
    static const char *const files[] = {"adapter.gguf", "best/adapter.gguf"};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *out = tiny_join(root, "with");
    watch w = {0};
    must_train(model, "with", after, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        graft_error err = {0};
        gr_model *m;
        gr_tuning *t;
        float *params;
        char *path = tiny_join(out, files[i]);
        assert_int_equal(gr_model_open(&m, model, &err), GRAFT_OK);
        if (gr_adapter_load(&t, &params, path, &m->config, 0, &err) != GRAFT_OK)
            fail_msg("%s: %s", path, err.what);
        free(params);
        gr_tuning_free(t);
        gr_model_free(m);
        free(path);
    }
    char *card = tiny_read(out, "README.md", NULL), *part = tiny_join(root, "part");
    assert_non_null(strstr(card, "`adapter.gguf` is for llama.cpp"));
    must_train(model, "part", before, NULL, NULL);
    must_train(model, "part", after, &w, NULL);
    assert_null(strstr(w.notes, "not of one save"));
    tiny_same_file(out, part, "adapters.safetensors");
    tiny_same_file(out, part, "adapter.gguf");
    free(card);
    free(part);
    free(out);
    forget("with");
    forget("part");
    tiny_remove(model);
}

/* Checkpoints that cannot be looked at are not taken for none: the run would begin anew and remove them. */
static void unreadable(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    graft_error err = {0};
    stopped(model, NULL);
    char *part = tiny_join(root, "part"), *dir = tiny_join(part, "checkpoints"),
         *away = tiny_join(part, "away");
    assert_int_equal(rename(dir, away), 0);
    tiny_write(part, "checkpoints", "not a directory");
    assert_int_equal(train(model, "part", resume, NULL, NULL, &err), GRAFT_IO);
    assert_string_equal(err.what, "cannot look for checkpoints: Not a directory");
    unlink(dir);
    assert_int_equal(rename(away, dir), 0);
    must_train(model, "part", resume, NULL, NULL);
    free(part), free(dir), free(away);
    forget("part");
    tiny_remove(model);
}

/* A run that began from the adapter in its own directory, which a kill left torn: its numbers come from the
 * checkpoint. */
static void own_adapter(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *part = tiny_join(root, "part");
    const char *const from[] = {"resume-adapter-file", part, NULL};
    const char *const again[] = {"resume-adapter-file", part, "resume", "-", NULL};
    graft_error err = {0};
    watch w = {.stop_after = 6};
    must_train(model, "whole", NULL, NULL, NULL);
    must_train(model, "part", NULL, NULL, NULL);
    own_rank = true; /* the file's */
    assert_int_equal(train(model, "part", from, &w, NULL, &err), GRAFT_INTERRUPTED);
    copy_file("whole", "part", "adapters.safetensors");
    must_train(model, "part", again, NULL, NULL);
    own_rank = false;
    free(part);
    forget("part");
    forget("whole");
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saves),           cmocka_unit_test(names_all_changes),
        cmocka_unit_test(allowed_changes), cmocka_unit_test(inside_an_update),
        cmocka_unit_test(other_rows),      cmocka_unit_test(other_costs),
        cmocka_unit_test(torn_pair),       cmocka_unit_test(altered_adapter),
        cmocka_unit_test(best_agrees),     cmocka_unit_test(with_gguf),
        cmocka_unit_test(unreadable),      cmocka_unit_test(own_adapter),
    };
    return cmocka_run_group_tests_name("resume", tests, setup, teardown);
}
