/* dist/ and train/ranks_step.c: ranks as threads of this process train to the bits of one, whatever the
 * number of ranks, and end together when one of them disagrees, fails, stops or is gone. */
#include "dist/share.h"
#include "tests/thread_comm.h"
#include "tests/tiny_run.h"
#include "train/checkpoint_files.h"

/* ------------------------------------------------------------------------------------- nodes of the tree */

/* Nodes of neighbouring runs follow each other as a counter's carries need them. */
static void nodes_fit_the_tree(void **state) {
    (void)state;
    for (uint64_t begin = 0; begin < 70; begin++)
        for (uint64_t end = begin; end < 140; end++) {
            int level[GR_SHARE_NODES], count = gr_share_nodes(level, begin, end);
            uint64_t at = begin;
            assert_true(count <= gr_share_most(end - begin));
            for (int i = 0; i < count; i++) {
                assert_int_equal(at & (((uint64_t)1 << level[i]) - 1), 0);
                at += (uint64_t)1 << level[i];
            }
            assert_int_equal(at, end);
        }
}

static void shares_are_even(void **state) {
    (void)state;
    for (int64_t n = 0; n < 50; n++)
        for (int size = 1; size < 9; size++) {
            assert_int_equal(gr_share_begin(n, 0, size), 0);
            assert_int_equal(gr_share_begin(n, size, size), n);
            for (int r = 0; r < size; r++) {
                int64_t mine = gr_share_begin(n, r + 1, size) - gr_share_begin(n, r, size);
                assert_true(mine == n / size || mine == n / size + 1);
            }
        }
}

/* ------------------------------------------------------------------------------------------------- ends */

typedef struct ending {
    pthread_t thread;
    graft_comm comm;
    thread_rank place;
    double after; /* seconds */
    graft_error err;
    graft_status st;
} ending;

static void *end_rank(void *context) {
    ending *e = context;
    gr_ranks *ranks;
    graft_error none = {0};
    struct timespec rest = {.tv_nsec = (long)(e->after * 1e9)};
    assert_int_equal(gr_ranks_open(&ranks, &e->comm, 30, NULL, &none), GRAFT_OK);
    nanosleep(&rest, NULL);
    e->st = gr_ranks_close(ranks, &e->err);
    return NULL;
}

/* Rank 0 is done first, and rank 2 fails after it: no rank takes its own good end for that of all. */
static void ends_as_all_end(void **state) {
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        ending e[3] = {[1].after = 0.1, [2].after = 0.3};
        thread_world world;
        thread_world_init(&world, 3);
        if (fails) gr_fail(&e[2].err, GRAFT_IO, "the disk is full");
        for (int i = 0; i < 3; i++) thread_comm(&e[i].comm, &e[i].place, &world, i);
        for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&e[i].thread, NULL, end_rank, &e[i]), 0);
        for (int i = 0; i < 3; i++) pthread_join(e[i].thread, NULL);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(e[i].st, fails ? GRAFT_IO : GRAFT_OK);
            assert_string_equal(e[i].err.what, fails ? "the disk is full" : "");
            assert_false(e[i].comm.lost || e[i].comm.adrift);
        }
        thread_world_free(&world);
    }
}

/* ------------------------------------------------------------------------------------------------- runs */

typedef struct rank_run {
    pthread_t thread;
    graft_comm comm;
    thread_rank place;
    const char *model, *out;
    const char *const *more;
    const char *const *own; /* of this rank alone; may be NULL */
    watch w;
    graft_status st;
    graft_error err;
    graft_train_result result;
    thread_world *world;
    int64_t mute_after, spoil_after; /* iterations; 0: never */
} rank_run;

static void on_rank_event(void *user, const graft_event *e) {
    rank_run *r = user;
    on_event(&r->w, e);
    if (e->kind != GRAFT_EVENT_PROGRESS || strcmp(e->phase, "train") != 0) return;
    if (r->mute_after && e->done == r->mute_after) thread_mute(r->world, r->comm.rank);
    if (r->spoil_after && e->done == r->spoil_after) thread_spoil(r->world);
}

static void *run_rank(void *context) {
    rank_run *r = context;
    graft_options o;
    char *adapter = tiny_join(root, r->out);
    graft_hooks hooks = {.user = r, .event = on_rank_event, .stop = &r->w.stop, .ranks = &r->comm};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", r->model, "data", data, "adapter-path", adapter, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common + (own_rank ? 2 : 0));
    tiny_set(&o, GRAFT_VERB_TRAIN, r->more);
    tiny_set(&o, GRAFT_VERB_TRAIN, r->own);
    if (isnan(o.epochs) && !gr_options_given(&o, "iters")) o.iters = 8;
    r->st = graft_train(&o, &hooks, &r->result, &r->err);
    graft_options_free(&o);
    free(adapter);
    return NULL;
}

/* runs [n], of which own, w and mute_after may be set. */
static void train_ranks(rank_run *runs, int n, const char *model, const char *out, const char *const *more) {
    thread_world world;
    thread_world_init(&world, n);
    for (int i = 0; i < n; i++) {
        thread_comm(&runs[i].comm, &runs[i].place, &world, i);
        runs[i].comm.timeout = 60;
        for (int k = 0; k < n; k++)
            if (runs[k].mute_after) runs[i].comm.timeout = i ? 2.5 : 1.5; /* rank 0 notices first */
        runs[i].model = model;
        runs[i].out = out;
        runs[i].more = more;
        runs[i].world = &world;
    }
    for (int i = 0; i < n; i++)
        assert_int_equal(pthread_create(&runs[i].thread, NULL, run_rank, &runs[i]), 0);
    for (int i = 0; i < n; i++) pthread_join(runs[i].thread, NULL);
    thread_world_free(&world);
}

static void must_train_ranks(int n, const char *model, const char *out, const char *const *more) {
    rank_run runs[RANKS_MOST] = {0};
    train_ranks(runs, n, model, out, more);
    for (int i = 0; i < n; i++)
        if (runs[i].st != GRAFT_OK)
            fail_msg("rank %d of %d: %s, %s, %s", i, n, runs[i].err.what, runs[i].err.where,
                     runs[i].err.found);
    assert_false(runs[0].comm.lost);
    assert_true(runs[0].result.trained_tokens == runs[n - 1].result.trained_tokens);
}

/* Of the formats each kind of training has some. */
static void same_files(const char *a, const char *b) {
    static const char *const names[] = {"adapters.safetensors", "adapter_model.safetensors",
                                        "adapter_config.json"};
    char *x = tiny_join(root, a), *y = tiny_join(root, b), *m = timeless(x), *n = timeless(y);
    assert_string_equal(m, n);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = tiny_join(x, names[i]);
        if (gr_path_exists(path)) tiny_same_file(x, y, names[i]);
        free(path);
    }
    free(n);
    free(m);
    free(y);
    free(x);
}

#define BATCH(n) "batch-size", #n

static void same_bits(void **state) {
    (void)state;
    static const struct {
        tiny_spec base;
        const char *more[12];
        int ranks[4];
    } cases[] = {
        {{.bits = 4}, {BATCH(4), "weight-decay", "0.1"}, {2, 4}},
        {{.bits = 4}, {BATCH(6), "grad-accumulation-steps", "1", "lora-dropout", "0.3"}, {2, 3, 6}},
        {{.bits = 4}, {BATCH(8), "pack", "-", "max-seq-length", "90", "keep-best", "-"}, {2, 4}},
        {{0}, {BATCH(6), "fine-tune-type", "full", "optimizer", "muon", "learning-rate", "1e-3"}, {3}},
        {{.untied = true}, {BATCH(6), "fine-tune-type", "dora", "modules-to-save", "lm_head,norm"}, {2, 3}},
        {{.bits = 4}, {BATCH(6), "qat", "-", "optimizer", "adafactor"}, {2}},
        {{.bits = 4}, {BATCH(6), "loss", "mlx-lm", "lora-bias", "none"}, {2, 3}},
        {{.type = "qwen3_moe"}, {BATCH(6), "lora-targets", "extended"}, {2, 3}},
        {{.bits = 4}, {BATCH(4), "group-pooled", "-", "epochs", "2"}, {4}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *model = tiny_model_dir(root, "base", &cases[i].base);
        own_rank = strcmp(cases[i].more[2], "fine-tune-type") == 0 && strcmp(cases[i].more[3], "full") == 0;
        must_train(model, "one", cases[i].more, NULL, NULL);
        for (int k = 0; k < 4 && cases[i].ranks[k]; k++) {
            must_train_ranks(cases[i].ranks[k], model, "many", cases[i].more);
            same_files("one", "many");
            forget("many");
        }
        forget("one");
        tiny_remove(model);
    }
    own_rank = false;
}

static void write_pairs(const char *dir, const char *name, int rows) {
    gr_buf text = {0};
    for (int i = 0; i < rows; i++)
        gr_buf_printf(&text, "{\"prompt\": \"say %d\", \"chosen\": \"%.*s%d\", \"rejected\": \"no%.*s\"}\n",
                      i, 1 + i % 5, "yes yes", i * 7, 1 + i % 3, " no no");
    tiny_write(dir, name, text.data);
    gr_buf_free(&text);
}

static void same_preferences(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *pairs = tiny_subdir(root, "pairs");
    write_pairs(pairs, "train.jsonl", 13);
    write_pairs(pairs, "valid.jsonl", 5);
    static const char *const losses[] = {"dpo", "orpo"};
    for (size_t i = 0; i < 2; i++) {
        const char *const more[] = {"data", pairs, "loss", losses[i], BATCH(6), "lora-dropout", "0.2", NULL};
        must_train(model, "one", more, NULL, NULL);
        must_train_ranks(2, model, "many", more);
        same_files("one", "many");
        must_train_ranks(3, model, "many", more);
        same_files("one", "many");
        forget("many");
        forget("one");
    }
    tiny_remove(pairs);
    tiny_remove(model);
}

/* ----------------------------------------------------------------------------------------------- resuming */

/* 2 ranks, then 4, then one; the first two stop inside an update. */
static void goes_on_with_other_ranks(void **state) {
    (void)state;
    static const char *const more[] = {BATCH(4), NULL};
    static const char *const resume[] = {BATCH(4), "resume", "-", NULL};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    must_train(model, "one", more, NULL, NULL);
    rank_run two[RANKS_MOST] = {{.w.stop_after = 1}}, four[RANKS_MOST] = {[3] = {.w.stop_after = 4}};
    train_ranks(two, 2, model, "many", more);
    for (int i = 0; i < 2; i++) assert_int_equal(two[i].st, GRAFT_INTERRUPTED);
    train_ranks(four, 4, model, "many", resume);
    for (int i = 0; i < 4; i++) assert_int_equal(four[i].st, GRAFT_INTERRUPTED);
    assert_true(four[0].result.iterations >= 4 && four[0].result.iterations < 8);
    assert_int_equal(four[0].result.iterations, four[3].result.iterations);
    must_train(model, "many", resume, NULL, NULL);
    same_results("one", "many");
    forget("many");
    forget("one");
    tiny_remove(model);
}

/* mlx-lm's loss can end inside an update: its checkpoint has a tree that no rank alone had room for. */
static void ends_inside_an_update(void **state) {
    (void)state;
    static const char *const more[] = {BATCH(7), "loss", "mlx-lm", "iters", "1", "grad-accumulation-steps",
                                       "2",      NULL};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    must_train(model, "one", more, NULL, NULL);
    must_train_ranks(7, model, "many", more);
    same_files("one", "many");
    forget("many");
    forget("one");
    tiny_remove(model);
}

/* Every rank counts the updates that are left as rank 0 does, and knows how many iterations there are. */
static void goes_on_otherwise(void **state) {
    (void)state;
#define FALLING BATCH(4), "lr-schedule", "linear", "epochs", "3"
    static const char *const more[] = {FALLING, "grad-accumulation-steps", "1", NULL};
    static const char *const other[] = {BATCH(8),
                                        "lr-schedule",
                                        "linear",
                                        "epochs",
                                        "3",
                                        "grad-accumulation-steps",
                                        "2",
                                        "resume",
                                        "-",
                                        "allow-changes",
                                        "grad-accumulation-steps,batch-size",
                                        NULL};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    graft_error err = {0};
    assert_int_equal(train(model, "one", more, &(watch){.stop_after = 6}, NULL, &err), GRAFT_INTERRUPTED);
    must_train(model, "one", other, NULL, NULL);
    rank_run first[RANKS_MOST] = {{.w.stop_after = 5}, {.w.stop_after = 5}}; /* heard of one later */
    train_ranks(first, 2, model, "many", more);
    assert_int_equal(first[0].st, GRAFT_INTERRUPTED);
    assert_int_equal(first[0].result.iterations, 6);
    must_train_ranks(2, model, "many", other);
    same_files("one", "many");
    forget("many");
    forget("one");
    tiny_remove(model);
}

/* The reference of a run that goes on is its checkpoint's on every rank, whatever the adapter's file holds
 * now. */
static void goes_on_with_its_reference(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *pairs = tiny_subdir(root, "pairs");
    char *sft = tiny_join(root, "sft"), *other = tiny_join(root, "other");
    write_pairs(pairs, "train.jsonl", 13);
    own_rank = true; /* the adapter brings it along, and it is that of a run without */
    must_train(model, "sft", (const char *const[]){"iters", "4", NULL}, NULL, NULL);
    must_train(model, "other", (const char *const[]){"iters", "4", "seed", "8", NULL}, NULL, NULL);
#define OF_PAIRS "data", pairs, "loss", "dpo", BATCH(4), "resume-adapter-file", sft
    const char *const more[] = {OF_PAIRS, NULL}, *const resume[] = {OF_PAIRS, "resume", "-", NULL};
    const char *const elsewhere[] = {"resume-adapter-file", other, NULL};
    must_train(model, "one", more, NULL, NULL);
    rank_run first[RANKS_MOST] = {{.w.stop_after = 3}}, then[RANKS_MOST] = {{.w.stop_after = 6}};
    train_ranks(first, 2, model, "many", more);
    assert_int_equal(first[0].st, GRAFT_INTERRUPTED);
    then[1].own = elsewhere;
    train_ranks(then, 2, model, "many", resume);
    if (then[0].st != GRAFT_INTERRUPTED) fail_msg("%s, %s", then[0].err.what, then[0].err.found);
    must_train(model, "many", resume, NULL, NULL);
    same_results("one", "many");
    forget("many");
    rank_run apart[RANKS_MOST] = {[1].own = elsewhere}; /* at the beginning it is a disagreement */
    train_ranks(apart, 2, model, "many", more);
    assert_int_equal(apart[0].st, GRAFT_MISMATCH);
    assert_non_null(strstr(apart[0].err.found, "first parameters: "));
    /* going on, the checkpoint has it: a rank need not name the file any more, rank 0 neither */
    const char *const named[] = {"resume-adapter-file", sft, NULL};
    const char *const bare[] = {"data", pairs, "loss", "dpo", BATCH(4), "resume", "-", NULL};
    for (int names = 0; names < 3; names++) {
        rank_run again[RANKS_MOST] = {{.w.stop_after = 3}}, rest[RANKS_MOST] = {0};
        train_ranks(again, 2, model, "many", more);
        assert_int_equal(again[0].st, GRAFT_INTERRUPTED);
        if (names < 2) rest[names].own = named;
        train_ranks(rest, 2, model, "many", bare);
        if (rest[0].st != GRAFT_OK) fail_msg("%d: %s, %s", names, rest[0].err.what, rest[0].err.found);
        same_results("one", "many");
        forget("many");
    }
    own_rank = false;
    forget("one");
    tiny_remove(other);
    tiny_remove(sft);
    tiny_remove(pairs);
    tiny_remove(model);
}

/* ----------------------------------------------------------------------------------------------- overlap */

typedef struct in_turn {
    const gr_trainer *t;
    int64_t layer; /* that was left last */
    int calls;
} in_turn;

/* Every number of the gradient of block `layer` is there, or none is. */
static void gradient_is(const gr_trainer *t, int64_t layer, bool there) {
    for (size_t i = 0; i < t->rt.tuning->param_count; i++) {
        const gr_param *p = &t->rt.tuning->params[i];
        const float *grad = t->gradients.slots[0] + p->at;
        for (int64_t k = 0; p->layer == layer && k < gr_param_count(p); k++)
            assert_int_equal(isnan(grad[k]), !there);
    }
}

static void on_block(void *context, int64_t layer) {
    in_turn *x = context;
    assert_int_equal(layer, x->layer - 1);
    gradient_is(x->t, layer, true);
    for (int64_t below = 0; below < layer; below++) gradient_is(x->t, below, false);
    x->layer = layer;
    x->calls++;
}

/* A block is left as soon as its gradients are complete, and before the next is entered: what goes out then
 * travels while the backward pass goes on. */
static void blocks_are_left_in_turn(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    graft_options o;
    graft_error err = {0};
    gr_trainer t;
    int64_t unit = 0;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN, (const char *const[]){"model", model, "data", data, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common);
    if (gr_trainer_open(&t, model, &o, NULL, GR_TRAINER_RUN, &err) != GRAFT_OK) fail_msg("%s", err.what);
    in_turn x = {.t = &t, .layer = t.rt.model->config.layers};
    for (int64_t i = 0; i < t.rt.tuning->parameters; i++) t.gradients.slots[0][i] = NAN;
    t.rt.net.left = on_block;
    t.rt.net.left_context = &x;
    assert_int_equal(gr_trainer_run_units(&t, &unit, 1, &t.gradients, 0, 0, false, t.results), 1);
    assert_int_equal(x.calls, t.rt.model->config.layers);
    gr_trainer_close(&t);
    graft_options_free(&o);
    tiny_remove(model);
}

/* And it does go out: of two blocks the upper one's gradients. */
static void sends_while_it_computes(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    const char *const more[] = {BATCH(4), "lora-rank", "32", "grad-accumulation-steps", "4", NULL};
    rank_run runs[RANKS_MOST] = {0};
    train_ranks(runs, 2, model, "many", more);
    double sent, early;
    for (int i = 0; i < 2; i++) {
        if (runs[i].st != GRAFT_OK) fail_msg("%s", runs[i].err.what);
        const char *note = strstr(runs[i].w.notes, " sent ");
        assert_non_null(note);
        assert_int_equal(sscanf(note, " sent %lf MB, %lf of them while", &sent, &early), 2);
        if (!(early > sent / 4 && early < sent)) fail_msg("rank %d: %s", i, note);
    }
    forget("many");
    tiny_remove(model);
}

/* ------------------------------------------------------------------------------------------ disagreement */

static void all_must_say(const rank_run *runs, int n, graft_status st, const char *where, const char *part) {
    for (int i = 0; i < n; i++) {
        if (runs[i].st != st) fail_msg("rank %d: %d %s", i, runs[i].st, runs[i].err.what);
        char all[2048];
        snprintf(all, sizeof all, "%s|%s|%s", runs[i].err.what, runs[i].err.where, runs[i].err.found);
        bool own = strstr(all, "nowhere") && !strstr(all, "rank "); /* the rank that failed needs no name */
        if (!strstr(all, part) || (!own && !strstr(all, where))) fail_msg("rank %d: %s", i, all);
    }
}

static void names_what_differs(void **state) {
    (void)state;
    static const char *const more[] = {BATCH(6), NULL};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    char *fewer = tiny_data_dir(root, "fewer", 12, 5);
    rank_run a[RANKS_MOST] = {[2] = {.own = (const char *const[]){"learning-rate", "1e-3", NULL}}};
    train_ranks(a, 3, model, "many", more);
    all_must_say(a, 3, GRAFT_MISMATCH, "rank 2", "learning-rate: 0.005 on rank 0, 0.001 on rank 2");
    assert_true(a[1].comm.told && a[2].comm.told && !a[0].comm.told);
    rank_run b[RANKS_MOST] = {[1] = {.own = (const char *const[]){"data", fewer, NULL}}};
    train_ranks(b, 2, model, "many", more);
    all_must_say(b, 2, GRAFT_MISMATCH, "rows: 13 on rank 0, 12 on rank 1", "data digest: ");
    char *other = tiny_model_dir(root, "other", &(tiny_spec){.bits = 4, .seed = 9});
    rank_run c[RANKS_MOST] = {[1] = {.own = (const char *const[]){"model", other, NULL}}};
    train_ranks(c, 2, model, "many", more);
    all_must_say(c, 2, GRAFT_MISMATCH, "rank 1", "base digest: ");
    /* threads and such are a rank's own affair */
    rank_run d[RANKS_MOST] = {[1] = {.own = (const char *const[]){"threads", "2", "keep-last", "1", NULL}}};
    train_ranks(d, 2, model, "many", more);
    assert_int_equal(d[0].st, GRAFT_OK);
    forget("many");
    rank_run e[RANKS_MOST] = {0};
    train_ranks(e, 4, model, "many", more);
    all_must_say(e, 4, GRAFT_USAGE, "4 ranks", "cannot share a batch of 6");
    rank_run f[RANKS_MOST] = {[1] = {.own = (const char *const[]){"data", "/nowhere", NULL}}};
    train_ranks(f, 3, model, "many", more);
    all_must_say(f, 3, GRAFT_NOT_FOUND, "rank 1", "");
    rank_run g[RANKS_MOST] = {[2] = {.own = (const char *const[]){"model", "/nowhere", NULL}}};
    train_ranks(g, 3, model, "many", more);
    all_must_say(g, 3, GRAFT_NOT_FOUND, "rank 2", "");
    tiny_remove(other);
    tiny_remove(fewer);
    tiny_remove(model);
}

/* -------------------------------------------------------------------------------------------------- losses
 */

/* Ranks that are gone: what was trained until then is saved by rank 0, and going on gives the bits of one. */
static void a_rank_is_lost(void **state) {
    (void)state;
    static const char *const more[] = {BATCH(4), "save-every", "100", NULL};
    static const char *const resume[] = {BATCH(4), "save-every", "100", "resume", "-", NULL};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    must_train(model, "one", more, NULL, NULL);
    rank_run runs[RANKS_MOST] = {[1] = {.mute_after = 4}}; /* one iteration after an update */
    train_ranks(runs, 2, model, "many", more);
    assert_int_equal(runs[0].st, GRAFT_IO);
    assert_string_equal(runs[0].err.what, "rank 1 of 2 is lost");
    assert_non_null(strstr(runs[0].err.hint, "everything up to iteration 3 is saved"));
    assert_true(runs[0].comm.lost && runs[0].comm.adrift && runs[1].comm.lost);
    assert_int_equal(runs[1].st, GRAFT_IO);
    must_train(model, "many", resume, NULL, NULL);
    same_results("one", "many");
    forget("many");
    /* rank 0 itself: nobody saves, and the others say so */
    rank_run zero[RANKS_MOST] = {{.mute_after = 4}};
    train_ranks(zero, 3, model, "many", (const char *const[]){BATCH(6), "save-every", "3", NULL});
    assert_int_equal(zero[2].st, GRAFT_IO);
    assert_string_equal(zero[2].err.what, "rank 0 of 3 is lost");
    assert_false(zero[2].comm.told);
    forget("many");
    forget("one");
    tiny_remove(model);
}

/* Ranks that no longer have the same parameters: what a check refused is not saved another way. */
static void a_rank_drifts(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *out = tiny_join(root, "many");
    rank_run runs[RANKS_MOST] = {{.spoil_after = 4}}; /* saves after 3 and 6 */
    train_ranks(runs, 2, model, "many", (const char *const[]){BATCH(4), NULL});
    for (int i = 0; i < 2; i++) {
        assert_int_equal(runs[i].st, GRAFT_MISMATCH);
        assert_string_equal(runs[i].err.what, "the parameters of rank 1 are no longer those of rank 0");
    }
    gr_trainer seen = {.dir = out};
    assert_int_equal(gr_checkpoint_newest(&seen, INT64_MAX), 3);
    tiny_remove(out);
    tiny_remove(model);
}

/* --------------------------------------------------------------------------------------- the table of ways
 */

static void opens_by_name(void **state) {
    (void)state;
    graft_comm comm;
    graft_error err = {0};
    assert_int_equal(graft_comm_open(&comm, "self", NULL, &err), GRAFT_OK);
    assert_int_equal(comm.size, 1);
    graft_comm_close(&comm);
    assert_int_equal(graft_comm_open(&comm, "carrier pigeons", NULL, &err), GRAFT_USAGE);
    assert_string_equal(err.expected, "self, mpi");
    assert_int_not_equal(graft_comm_open(&comm, "mpi", NULL, &err),
                         GRAFT_OK); /* not built, or not initialized */
    assert_non_null(strstr(err.what, "MPI"));
    assert_int_equal(comm.size, 1);
    graft_comm_close(&comm);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_fit_the_tree),
        cmocka_unit_test(shares_are_even),
        cmocka_unit_test(ends_as_all_end),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(same_preferences),
        cmocka_unit_test(goes_on_with_other_ranks),
        cmocka_unit_test(goes_on_with_its_reference),
        cmocka_unit_test(ends_inside_an_update),
        cmocka_unit_test(goes_on_otherwise),
        cmocka_unit_test(blocks_are_left_in_turn),
        cmocka_unit_test(sends_while_it_computes),
        cmocka_unit_test(names_what_differs),
        cmocka_unit_test(a_rank_is_lost),
        cmocka_unit_test(a_rank_drifts),
        cmocka_unit_test(opens_by_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
