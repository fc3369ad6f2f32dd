/* What is frozen and what trains: a run proves it, a host can ask and change it; and training outside the
 * linears as whole runs: resumed, cut into slices, evaluated. */
#include "tests/tiny_run.h"

typedef struct freeze_case {
    const char *name;
    tiny_spec spec;
    const char *options[11];
    int64_t frozen, trained; /* tensors */
    const char *file;        /* of the adapter directory, that all numbers are in */
} freeze_case;

/* Of llama's tensors: 2 x (7 linears + 2 norms), embedding, final norm, and the head where it is untied. */
static const freeze_case cases[] = {
    {"adapters on 4 bits", {.bits = 4}, {"lora-targets", "standard"}, 20, 8, "adapters.safetensors"},
    {"adapters on the ends",
     {.untied = true},
     {"lora-targets", "q_proj,embed_tokens,lm_head"},
     21,
     8,
     "adapter_model.safetensors"},
    {"one adapter for tied ends",
     {.bits = 8},
     {"lora-targets", "v_proj,embed_tokens"},
     20,
     6,
     "adapter_model.safetensors"},
    {"whole ends",
     {.untied = true},
     {"lora-targets", "standard", "modules-to-save", "embed_tokens,lm_head,norm"},
     18,
     11,
     "adapter_model.safetensors"},
    {"whole tied ends",
     {.bits = 4},
     {"lora-targets", "standard", "modules-to-save", "embed_tokens"},
     19,
     9,
     "adapter_model.safetensors"},
    {"full", {.dtype = GR_BF16}, {"fine-tune-type", "full", "lora-rank", "0"}, 2, 18, "adapters.safetensors"},
    {"the last block, embedding and norm",
     {0},
     {"fine-tune-type", "full", "lora-rank", "0", "num-layers", "1", "modules-to-save", "embed_tokens,norm"},
     9,
     11,
     "adapters.safetensors"},
    {"norms of heads",
     {.type = "qwen3"},
     {"lora-targets", "o_proj", "modules-to-save", "q_norm,input_layernorm"},
     20,
     8,
     "adapter_model.safetensors"},
    {"experts that lie alone",
     {.type = "qwen3_moe"},
     {"lora-targets", "o_proj,up_proj"},
     26,
     8,
     "adapters.safetensors"},
};
enum { CASES = sizeof cases / sizeof *cases };

/* The options of a case and more; "lora-rank 0" stands for leaving rank out of those that all runs share. */
static const char *const *options_of(const freeze_case *c, const char *const *more, const char *out[40]) {
    int n = 0;
    own_rank = false;
    for (int i = 0; i < 10 && c->options[i]; i += 2)
        if (strcmp(c->options[i], "lora-rank") == 0)
            own_rank = true;
        else
            out[n++] = c->options[i], out[n++] = c->options[i + 1];
    while (more && *more) out[n++] = *more++;
    out[n] = NULL;
    return out;
}

static void proved(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        const char *buffer[40];
        graft_train_result r = {0};
        watch w = {0};
        char *model = tiny_model_dir(root, "base", &cases[i].spec);
        must_train(model, "out",
                   options_of(&cases[i], (const char *const[]){"verify-frozen", "-", NULL}, buffer), &w, &r);
        assert_true(r.verified);
        if (r.frozen_tensors != cases[i].frozen || r.trained_tensors != cases[i].trained)
            fail_msg("%s: %lld frozen, %lld trained", cases[i].name, (long long)r.frozen_tensors,
                     (long long)r.trained_tensors);
        assert_non_null(strstr(w.notes, "verified: "));
        if (!(r.val_loss_last < r.val_loss_first)) fail_msg("%s learned nothing", cases[i].name);
        forget("out");
        tiny_remove(model);
    }
}

/* Threads, recompute, stops and resumes leave every byte. */
static void same_bytes(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        const char *buffer[40];
        const freeze_case *c = &cases[i];
        char *model = tiny_model_dir(root, "base", &c->spec), *whole = tiny_join(root, "whole"),
             *part = tiny_join(root, "part");
        must_train(model, "whole", options_of(c, NULL, buffer), NULL, NULL);
        must_train(
            model, "part",
            options_of(c, (const char *const[]){"threads", "3", "grad-checkpoint", "layer", NULL}, buffer),
            NULL, NULL);
        tiny_same_file(whole, part, c->file);
        forget("part");
        for (int stop = 3; stop < 9; stop += 5) {
            graft_error err = {0};
            watch w = {.stop_at = stop};
            graft_status st = train(model, "part", options_of(c, NULL, buffer), &w, NULL, &err);
            assert_int_equal(st, GRAFT_INTERRUPTED);
            must_train(model, "part",
                       options_of(c, (const char *const[]){"resume", "-", "threads", "2", NULL}, buffer),
                       NULL, NULL);
            tiny_same_file(whole, part, c->file);
            forget("part");
        }
        free(part);
        free(whole);
        forget("whole");
        tiny_remove(model);
    }
}

/* What was saved evaluates to what the run measured. */
static void evaluated(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        const char *buffer[40];
        graft_error err = {0};
        graft_train_result r = {0};
        graft_eval_result e;
        graft_options o;
        char *model = tiny_model_dir(root, "base", &cases[i].spec), *out = tiny_join(root, "out");
        must_train(model, "out", options_of(&cases[i], NULL, buffer), NULL, &r);
        graft_options_init(&o);
        tiny_set(
            &o, GRAFT_VERB_EVAL,
            (const char *const[]){"model", model, "data", data, "adapter-path", out, "split", "valid", NULL});
        if (graft_eval(&o, NULL, &e, &err) != GRAFT_OK)
            fail_msg("%s: %s %s", cases[i].name, err.what, err.where);
        if (!(fabs(e.loss - r.val_loss_last) <= 1e-9 * e.loss))
            fail_msg("%s: %.12g, in the run %.12g", cases[i].name, e.loss, r.val_loss_last);
        graft_eval_result_free(&e);
        graft_options_free(&o);
        free(out);
        forget("out");
        tiny_remove(model);
    }
}

/* B = 0 keeps A where it is in the first update: the proof leaves it out, and says so. */
static void one_update_moves_no_a(void **state) {
    (void)state;
    graft_error err = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0});
    const char *const more[] = {"verify-frozen", "-",        "iters", "3", "optimizer", "adam",
                                "lora-targets",  "standard", NULL};
    graft_train_result r = {0};
    watch w = {0};
    must_train(model, "out", more, &w, &r);
    assert_true(r.verified);
    assert_int_equal(r.trained_tensors, 4); /* every B of q and v */
    assert_non_null(strstr(w.notes, "once its B is not zero"));
    forget("out");
    const char *const still[] = {"verify-frozen", "-",     "iters", "3", "optimizer", "adam",
                                 "learning-rate", "1e-60", NULL};
    assert_int_equal(train(model, "out", still, NULL, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.what, "did not move"));
    assert_non_null(strstr(err.where, "lora_B"));
    forget("out");
    tiny_remove(model);
}

/* mlx-lm's warm-up begins with a rate of 0: that update moves nothing, and the next is an A's first. */
static void a_rate_of_zero_moves_nothing(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *file = tiny_join(root, "warm.yaml");
    tiny_write(root, "warm.yaml",
               "lr_schedule: {name: cosine_decay, arguments: [5e-3, 100], warmup: 2}\n"
               "num_layers: -1\nlearning_rate: 5e-3\n");
    for (int updates = 1; updates <= 3; updates++) {
        char iters[8];
        snprintf(iters, sizeof iters, "%d", updates);
        const char *const more[] = {
            "config", file,           "verify-frozen", "-", "iters", iters, "grad-accumulation-steps",
            "1",      "lora-targets", "standard",      NULL};
        graft_train_result r = {0};
        watch w = {0};
        graft_error err = {0};
        if (train(model, "out", more, &w, &r, &err) != GRAFT_OK)
            fail_msg("%d updates: %s", updates, err.what);
        assert_int_equal(r.updates, updates);
        assert_int_equal(r.verified, updates > 1);
        assert_int_equal(r.trained_tensors, updates == 1 ? 0 : updates == 2 ? 4 : 8);
        if (updates == 1) assert_non_null(strstr(w.notes, "no update with a rate above 0"));
        forget("out");
    }
    free(file);
    tiny_remove(model);
}

/* Only an A whose B was zero may stand still, and only in one update. */
static void waiting_has_an_end(void **state) {
    (void)state;
    graft_error err = {0};
    gr_tensor_digests_row rows[] = {{.name = "a", .trainable = true, .kind = GR_PARAM_A, .waits = true},
                                    {.name = "b", .trainable = true, .kind = GR_PARAM_B}};
    gr_tensor_digests ledger = {rows, 2};
    gr_proof proof;
    const uint64_t before[2] = {4, 5}, after[2] = {4, 6};
    assert_int_equal(gr_tensor_digests_check(&proof, &ledger, before, after, 1, &err), GRAFT_OK);
    assert_int_equal(proof.waiting, 1);
    assert_int_equal(gr_tensor_digests_check(&proof, &ledger, before, after, 2, &err), GRAFT_MISMATCH);
    assert_string_equal(err.where, "a");
    rows[0].waits = false;
    gr_error_clear(&err);
    assert_int_equal(gr_tensor_digests_check(&proof, &ledger, before, after, 1, &err), GRAFT_MISMATCH);
}

static void a_change_is_found(void **state) {
    (void)state;
    graft_error err = {0};
    uint8_t codes[11] = {1, 2, 3};
    gr_tensor_digests_row rows[] = {{.name = "frozen", .data = {codes}, .bytes = {sizeof codes}},
                                    {.name = "trained", .trainable = true}};
    gr_tensor_digests ledger = {rows, 2};
    gr_proof proof;
    uint64_t before[2] = {gr_tensor_digests_digest(&rows[0]), 5}, after[2] = {before[0], 6};
    assert_int_equal(gr_tensor_digests_check(&proof, &ledger, before, after, 2, &err), GRAFT_OK);
    assert_int_equal(proof.frozen, 1);
    assert_int_equal(proof.trainable, 1);
    for (size_t i = 0; i < sizeof codes; i++) {
        codes[i] ^= 0x80;
        after[0] = gr_tensor_digests_digest(&rows[0]);
        gr_error_clear(&err);
        assert_int_equal(gr_tensor_digests_check(&proof, &ledger, before, after, 2, &err), GRAFT_INTERNAL);
        assert_string_equal(err.where, "frozen");
        codes[i] ^= 0x80;
    }
    const void *const places[] = {codes + 2, codes, codes + 9}; /* experts that lie alone */
    rows[0] = (gr_tensor_digests_row){
        .name = "frozen", .data = {codes + 2}, .bytes = {2}, .places = places, .place_count = 3};
    before[0] = gr_tensor_digests_digest(&rows[0]);
    for (size_t i = 0; i < sizeof codes; i++) {
        codes[i] ^= 0x80;
        assert_int_equal(gr_tensor_digests_digest(&rows[0]) != before[0], i < 4 || i >= 9);
        codes[i] ^= 0x80;
    }
}

/* ---- a host's trainer */

static graft_trainer *open_trainer(graft_options *o, const char *model, const char *const *more) {
    graft_error err = {0};
    graft_trainer *t;
    graft_options_init(o);
    tiny_set(o, GRAFT_VERB_TRAIN, (const char *const[]){"model", model, "data", data, NULL});
    tiny_set(o, GRAFT_VERB_TRAIN, common);
    tiny_set(o, GRAFT_VERB_TRAIN, more);
    o->iters = 8;
    if (graft_trainer_open(&t, o, NULL, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    return t;
}

/* Trainable tensors; every one of them must be an adapter where `adapters`. */
static int trainable(const graft_trainer *t, bool adapters) {
    int count = 0;
    for (size_t i = 0; i < graft_trainer_count(t); i++) {
        graft_parameter p;
        graft_trainer_parameter(t, i, &p);
        if (p.adapter) assert_true(p.trainable);
        if (adapters && p.trainable) assert_true(p.adapter);
        if (p.trainable) assert_int_equal(p.bits, 32);
        assert_true(p.shape[0] > 0);
        count += p.trainable;
    }
    return count;
}

static void steps_are_the_run(void **state) {
    (void)state;
    graft_options o;
    graft_error err = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *whole = tiny_join(root, "whole"),
         *stepped = tiny_join(root, "stepped");
    const char *const more[] = {"lora-targets", "standard", NULL};
    own_rank = false;
    must_train(model, "whole", more, NULL, NULL);
    graft_trainer *t = open_trainer(&o, model, more);
    assert_int_equal(graft_trainer_count(t), 28);
    assert_int_equal(trainable(t, true), 8);
    double loss = 0, first = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(graft_trainer_step(t, &loss, &err), GRAFT_OK);
        if (i == 0) first = loss;
    }
    assert_true(loss > 0 && loss < first);
    assert_int_equal(graft_trainer_step(t, &loss, &err), GRAFT_USAGE);
    assert_int_equal(graft_trainer_save(t, stepped, &err), GRAFT_OK);
    tiny_same_file(whole, stepped, "adapters.safetensors");
    graft_trainer_free(t);
    graft_options_free(&o);
    free(whole);
    free(stepped);
    forget("whole");
    forget("stepped");
    tiny_remove(model);
}

/* A host's checkpoint: its next trainer goes on from there, and so does a whole run. */
static void steps_go_on(void **state) {
    (void)state;
    graft_options o;
    graft_error err = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *whole = tiny_join(root, "whole"),
         *part = tiny_join(root, "part"), *stepped = tiny_join(root, "stepped");
    const char *const more[] = {"adapter-path", part, "lora-dropout", "0.2", NULL};
    const char *const again[] = {"adapter-path", part, "lora-dropout", "0.2", "resume", "-", NULL};
    own_rank = false;
    must_train(model, "whole", more + 2, NULL, NULL);
    for (int by_run = 0; by_run < 2; by_run++) {
        graft_trainer *t =
            open_trainer(&o, model, by_run ? again : more); /* nothing is there: from the start */
        assert_int_equal(graft_trainer_freeze(t, true, &err), GRAFT_OK); /* changes nothing */
        assert_int_equal(graft_trainer_step(t, NULL, &err), GRAFT_OK);
        if (graft_trainer_checkpoint(t, &err) != GRAFT_OK) fail_msg("%s", err.what);
        graft_trainer *other; /* in that directory at the same time */
        o.resume = true;
        assert_int_equal(graft_trainer_open(&other, &o, NULL, &err), GRAFT_IO);
        graft_trainer_free(t);
        graft_options_free(&o);
        if (by_run)
            must_train(model, "part", again + 2, NULL, NULL);
        else {
            t = open_trainer(&o, model, again);
            assert_int_equal(graft_trainer_freeze(t, false, &err), GRAFT_USAGE); /* it has begun */
            assert_int_equal(graft_trainer_freeze(t, true, &err), GRAFT_OK);
            for (int i = 0; i < 2; i++) assert_int_equal(graft_trainer_step(t, NULL, &err), GRAFT_OK);
            assert_int_equal(graft_trainer_step(t, NULL, &err), GRAFT_USAGE);
            assert_int_equal(graft_trainer_save(t, stepped, &err), GRAFT_OK);
            graft_trainer_free(t);
            graft_options_free(&o);
        }
        tiny_same_file(whole, by_run ? part : stepped, "adapters.safetensors");
        forget("part");
    }
    free(stepped);
    forget("stepped");
    free(part);
    free(whole);
    forget("whole");
    tiny_remove(model);
}

/* What belongs to the loop that the host makes itself. */
static void steps_refuse(void **state) {
    (void)state;
    static const char *const names[] = {"patience", "keep-best", "verify-frozen", "report-to"};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.untied = true}), *part = tiny_join(root, "part");
    for (size_t i = 0; i < 4; i++) {
        graft_options o;
        graft_error err = {0};
        graft_trainer *t;
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_TRAIN,
                 (const char *const[]){"model", model, "data", data, names[i],
                                       i == 0   ? "2"
                                       : i == 3 ? "tensorboard"
                                                : "-",
                                       NULL});
        assert_int_equal(graft_trainer_open(&t, &o, NULL, &err), GRAFT_USAGE);
        assert_non_null(strstr(err.what, names[i]));
        graft_options_free(&o);
    }
    graft_options o;
    graft_error err = {0};
    graft_trainer *t = open_trainer(&o, model, (const char *const[]){"adapter-path", part, NULL});
    assert_int_equal(graft_trainer_freeze(t, false, &err), GRAFT_OK);
    assert_int_equal(graft_trainer_checkpoint(t, &err), GRAFT_UNSUPPORTED);
    assert_false(gr_path_exists(part));
    graft_trainer_free(t);
    graft_options_free(&o);
    free(part);
    tiny_remove(model);
}

static void frozen_and_unfrozen(void **state) {
    (void)state;
    graft_options o;
    graft_error err = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.untied = true});
    const char *const more[] = {"lora-targets", "standard", "modules-to-save", "norm", NULL};
    graft_trainer *t = open_trainer(&o, model, more);
    assert_int_equal(trainable(t, false), 9);
    assert_int_equal(graft_trainer_freeze(t, true, &err), GRAFT_OK);
    assert_int_equal(trainable(t, true), 8);
    assert_int_equal(graft_trainer_count(t), 29);
    assert_int_equal(graft_trainer_freeze(t, false, &err), GRAFT_OK);
    assert_int_equal(trainable(t, false), 29);
    uint64_t before[29];
    for (size_t i = 0; i < 29; i++) before[i] = graft_trainer_digest(t, i);
    for (int i = 0; i < 2; i++)
        if (graft_trainer_step(t, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    for (size_t i = 0; i < 29; i++) assert_true(before[i] != graft_trainer_digest(t, i));
    assert_int_equal(graft_trainer_freeze(t, true, &err), GRAFT_USAGE);
    assert_int_equal(trainable(t, false), 29);
    graft_trainer_free(t);
    graft_options_free(&o);
    tiny_remove(model);
}

/* A mixture: every number that trains can be asked for, and neither router nor whole experts can be unfrozen.
 */
static void experts(void **state) {
    (void)state;
    graft_options o;
    graft_error err = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.type = "qwen3_moe"});
    const char *const more[] = {"lora-targets", "all-linear", NULL};
    graft_trainer *t = open_trainer(&o, model, more);
    int64_t all = 0, of_experts = 4 * TINY_EXPERTS * 3 * (TINY_HIDDEN + TINY_EXPERT_MLP),
            of_attention = 4 * 4 * TINY_HIDDEN + 4 * (2 * TINY_HIDDEN + 2 * TINY_KV * TINY_DIM);
    for (size_t i = 0; i < graft_trainer_count(t); i++) {
        graft_parameter p;
        graft_trainer_parameter(t, i, &p);
        if (!p.trainable) continue;
        assert_non_null(graft_trainer_values(t, i));
        all += p.shape[0] * p.shape[1];
        if (strcmp(p.name, "model.layers.1.mlp.switch_mlp.down_proj.lora_B") != 0) continue;
        assert_int_equal(p.shape[0], 4 * TINY_EXPERTS);
        assert_int_equal(p.shape[1], TINY_HIDDEN);
    }
    assert_int_equal(all, TINY_LAYERS * (of_experts + of_attention));
    assert_int_equal(graft_trainer_freeze(t, false, &err), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(err.what, "router"));
    assert_int_equal(graft_trainer_freeze(t, true, &err), GRAFT_OK);
    assert_int_equal(graft_trainer_step(t, NULL, &err), GRAFT_OK);
    graft_trainer_free(t);
    graft_options_free(&o);
    tiny_remove(model);
}

/* Everything that moved after an unfreeze is in what is saved: it loads, and has the loss of the run. */
static void unfrozen_is_saved_whole(void **state) {
    (void)state;
    static const struct {
        tiny_spec spec;
        const char *options[7];
    } unfrozen[] = {
        {{.untied = true}, {"lora-targets", "full", "modules-to-save", "norm", NULL}},
        {{.untied = true}, {"lora-targets", "q_proj,embed_tokens,lm_head", NULL}},
        {{.type = "qwen2"}, {"lora-targets", "v_proj,embed_tokens", "lora-bias", "all", NULL}},
        {{0}, {"lora-targets", "full", "fine-tune-type", "dora", NULL}},
    };
    for (size_t i = 0; i < sizeof unfrozen / sizeof *unfrozen; i++) {
        graft_options o, q;
        graft_error err = {0};
        graft_eval_result e;
        gr_score score;
        double loss;
        const char *more[12] = {"compute", "fp32"};
        for (int k = 0; unfrozen[i].options[k]; k++) more[k + 2] = unfrozen[i].options[k];
        char *model = tiny_model_dir(root, "base", &unfrozen[i].spec), *out = tiny_join(root, "out");
        gr_trainer t;
        graft_trainer_free(open_trainer(&o, model, more)); /* the options */
        if (gr_trainer_open(&t, model, &o, NULL, GR_TRAINER_RUN, &err) != GRAFT_OK) fail_msg("%s", err.what);
        assert_int_equal(gr_trainer_freeze(&t, false, &err), GRAFT_OK);
        for (int step = 0; step < 3; step++)
            if (gr_trainer_step(&t, &loss, &err) != GRAFT_OK) fail_msg("%s", err.what);
        if (gr_trainer_save(&t, out, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
        gr_runtime_score(&t.rt, &t.buffer, t.valid, 0, gr_rows_count(t.valid), &score, NULL, NULL, NULL);
        loss = score.loss / (double)score.tokens;
        graft_options_init(&q);
        tiny_set(&q, GRAFT_VERB_EVAL,
                 (const char *const[]){"model", model, "data", data, "adapter-path", out, "split", "valid",
                                       "compute", "fp32", NULL});
        if (graft_eval(&q, NULL, &e, &err) != GRAFT_OK)
            fail_msg("case %zu: %s %s %s", i, err.what, err.where, err.found);
        /* f32: the folded weights are rounded once more, 2^-24 each; the base alone is 1e-3 off and more */
        if (!(fabs(e.loss - loss) <= 1e-5 * loss))
            fail_msg("case %zu: %.9g, in the run %.9g", i, e.loss, loss);
        char *config = tiny_read(root, "out/adapter_config.json", NULL),
             *peft = tiny_join(out, "adapter_model.safetensors");
        assert_non_null(strstr(config, "\"fine_tune_type\": \"full\""));
        assert_false(gr_path_exists(peft));
        free(peft);
        free(config);
        graft_eval_result_free(&e);
        graft_options_free(&q);
        gr_trainer_close(&t);
        graft_options_free(&o);
        free(out);
        forget("out");
        tiny_remove(model);
    }
}

/* Freezing changes nothing of what goes on training. */
static void freezing_keeps_values(void **state) {
    (void)state;
    graft_options o, p;
    graft_error err = {0};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    const char *const plain[] = {"lora-targets", "standard", NULL}, *const more[] = {
                                                                        "lora-targets", "standard",
                                                                        "modules-to-save", "norm", NULL};
    graft_trainer *t = open_trainer(&o, model, plain), *u = open_trainer(&p, model, more);
    assert_int_equal(graft_trainer_freeze(u, false, &err), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(err.where, "q_proj.weight"));
    assert_non_null(strstr(err.hint, "--dequantize"));
    assert_int_equal(trainable(u, false), 9); /* refused: as it was */
    assert_int_equal(graft_trainer_freeze(u, true, &err), GRAFT_OK);
    assert_int_equal(graft_trainer_count(t), graft_trainer_count(u));
    for (int step = 0; step < 3; step++) {
        for (size_t i = 0; i < graft_trainer_count(t); i++)
            assert_true(graft_trainer_digest(t, i) == graft_trainer_digest(u, i));
        assert_int_equal(graft_trainer_step(t, NULL, &err), GRAFT_OK);
        assert_int_equal(graft_trainer_step(u, NULL, &err), GRAFT_OK);
    }
    graft_trainer_free(t);
    graft_trainer_free(u);
    graft_options_free(&o);
    graft_options_free(&p);
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proved),
        cmocka_unit_test(same_bytes),
        cmocka_unit_test(evaluated),
        cmocka_unit_test(one_update_moves_no_a),
        cmocka_unit_test(a_rate_of_zero_moves_nothing),
        cmocka_unit_test(waiting_has_an_end),
        cmocka_unit_test(a_change_is_found),
        cmocka_unit_test(steps_are_the_run),
        cmocka_unit_test(steps_go_on),
        cmocka_unit_test(steps_refuse),
        cmocka_unit_test(frozen_and_unfrozen),
        cmocka_unit_test(freezing_keeps_values),
        cmocka_unit_test(experts),
        cmocka_unit_test(unfrozen_is_saved_whole),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
