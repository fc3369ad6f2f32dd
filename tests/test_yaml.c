/* YAML text, and mlx-lm's configurations as options. */
#include "base/os.h"
#include "optim/optim_table.h"
#include "optim/schedule_table.h"
#include "options/options.h"
#include "options/yaml.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static graft_error err;

static json_t *parse(const char *text) {
    json_t *value;
    gr_error_clear(&err);
    return gr_yaml_parse(&value, text, strlen(text), "test.yaml", &err) == GRAFT_OK ? value : NULL;
}

static void assert_yaml(const char *text, const char *json) {
    json_t *value = parse(text), *expected = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(expected);
    if (!json_equal(value, expected))
        fail_msg("%s gave %s %s", text, json_dumps(value, JSON_ENCODE_ANY), err.what);
    json_decref(value);
    json_decref(expected);
}

/* What PyYAML's SafeLoader with mlx-lm's float rule makes of the same text. */
static void values(void **state) {
    (void)state;
    assert_yaml("a: 1e-5", "{\"a\": 1e-5}");
    assert_yaml("a: 1_000", "{\"a\": 1000}");
    assert_yaml("a: -3\nb: +4\nc: 0", "{\"a\": -3, \"b\": 4, \"c\": 0}");
    assert_yaml("a: 2.5e+3\nb: .5\nc: 1.", "{\"a\": 2500.0, \"b\": 0.5, \"c\": 1.0}");
    assert_yaml("a: '1e-5'", "{\"a\": \"1e-5\"}");
    assert_yaml("a: true\nb: No\nc: ~\nd:\ne: null",
                "{\"a\": true, \"b\": false, \"c\": null, \"d\": null, \"e\": null}");
    assert_yaml("a: 010\nb: 1-2\nc: e5\nd: 1.2.3",
                "{\"a\": \"010\", \"b\": \"1-2\", \"c\": \"e5\", \"d\": \"1.2.3\"}");
    assert_yaml("a: [x, 1, [2]]\nb: {c: {d: 1}}", "{\"a\": [\"x\", 1, [2]], \"b\": {\"c\": {\"d\": 1}}}");
    assert_yaml("# c\na:\n  - x # comment\n  - \"y # z\"\n", "{\"a\": [\"x\", \"y # z\"]}");
    assert_yaml("", "null");
    assert_yaml("- 1", "[1]");
    assert_yaml("a: 99999999999999999999", "{\"a\": 1e20}");
}

static void refused(void **state) {
    (void)state;
    static const struct {
        const char *text;
        graft_status status;
        const char *where;
    } cases[] = {
        {"a: 1\nb: 2\na: 3", GRAFT_CORRUPT, "test.yaml, line 3"},
        {"a: &x 1\nb: *x", GRAFT_UNSUPPORTED, "test.yaml, line 1"},
        {"b: *x", GRAFT_UNSUPPORTED, "test.yaml, line 1"},
        {"a: !!str 1", GRAFT_UNSUPPORTED, "test.yaml, line 1"},
        {"a: 1\n---\nb: 2", GRAFT_UNSUPPORTED, "test.yaml, line 2"},
        {"? [a, b]\n: 1", GRAFT_UNSUPPORTED, "test.yaml, line 1"},
        {"a: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", GRAFT_RANGE, "test.yaml, line 1"},
        {"a: [1, 2", GRAFT_CORRUPT, ""},
        {"a: b: c", GRAFT_CORRUPT, ""},
        {"a: \"x\\0y\"", GRAFT_CORRUPT, "test.yaml, line 1"},
        {"a: \xff", GRAFT_CORRUPT, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = parse(cases[i].text);
        if (value || err.status != cases[i].status) fail_msg("%s: %s", cases[i].text, err.what);
        if (cases[i].where[0])
            assert_string_equal(err.where, cases[i].where);
        else
            assert_true(err.where[0]);
    }
}

/* ---- configurations */

#define PATH_SIZE 64
static char path[PATH_SIZE];

static graft_status load(graft_options *o, const char *text, char **note) {
    gr_error_clear(&err);
    assert_int_equal(gr_file_replace(path, text, strlen(text), &err), GRAFT_OK);
    return graft_options_load_yaml(o, path, note, &err);
}

static void must_load(graft_options *o, const char *text) {
    if (load(o, text, NULL) != GRAFT_OK) fail_msg("%s %s %s", err.what, err.found, err.hint);
}

static void flag(graft_options *o, const char *name, const char *value) {
    gr_error_clear(&err);
    if (graft_options_set(o, GRAFT_VERB_TRAIN, name, value, &err) != GRAFT_OK)
        fail_msg("%s: %s", name, err.what);
}

static void assert_valid(const graft_options *o) {
    gr_error_clear(&err);
    if (gr_options_check(o, GRAFT_VERB_TRAIN, &err) != GRAFT_OK) fail_msg("%s", err.what);
}

static void defaults_are_mlx(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{}", "model: m\n", "lora_parameters: null\niters: ~\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        graft_options o;
        graft_options_init(&o);
        must_load(&o, texts[i]);
        assert_int_equal(o.lora_rank, 8);
        assert_true(gr_options_scale(&o) == 20);
        assert_int_equal(o.num_layers, 16);
        assert_true(o.learning_rate == 1e-5 && o.weight_decay == 0 && o.grad_clip == 0);
        assert_string_equal(o.optimizer, "adam");
        assert_false(o.bias_correction);
        assert_string_equal(o.lora_targets, "all-linear");
        assert_string_equal(o.adapter_path, "adapters");
        assert_int_equal(o.iters, 1000);
        assert_string_equal(o.save_every, "100");
        assert_int_equal(o.keep_last, 2);
        assert_string_equal(o.config_file, path);
        assert_valid(&o);
        graft_options_free(&o);
    }
}

/* Shaped like the example that mlx-lm ships. */
static const char example[] = "# The path to the local model directory or Hugging Face repo.\n"
                              "model: \"mlx-community/some-model\"\n"
                              "train: true\n"
                              "fine_tune_type: lora\n"
                              "optimizer: adamw\n"
                              "optimizer_config:\n"
                              "  adamw:\n"
                              "    betas: [0.9, 0.98]\n"
                              "    eps: 1e-6\n"
                              "    weight_decay: 0.05\n"
                              "    bias_correction: true\n"
                              "data: \"/data\"\n"
                              "seed: 3\n"
                              "num_layers: 4\n"
                              "batch_size: 2\n"
                              "iters: 60\n"
                              "val_batches: -1\n"
                              "learning_rate: 1e-4\n"
                              "steps_per_report: 5\n"
                              "steps_per_eval: 20\n"
                              "resume_adapter_file: null\n"
                              "adapter_path: \"out\"\n"
                              "save_every: 30\n"
                              "test: false\n"
                              "test_batches: 10\n"
                              "max_seq_length: 512\n"
                              "grad_checkpoint: true\n"
                              "report_to: tensorboard\n"
                              "lora_parameters:\n"
                              "  keys: [\"self_attn.q_proj\", \"self_attn.v_proj\"]\n"
                              "  rank: 12\n"
                              "  scale: 10.0\n"
                              "  dropout: 0.0\n"
                              "lr_schedule:\n"
                              "  name: cosine_decay\n"
                              "  warmup: 10\n"
                              "  warmup_init: 1e-7\n"
                              "  arguments: [1e-3, 100, 1e-6]\n";

static void whole_example(void **state) {
    (void)state;
    graft_options o;
    char *note;
    graft_options_init(&o);
    assert_int_equal(load(&o, example, &note), GRAFT_OK);
    assert_non_null(strstr(note, ": train, test, test_batches"));
    free(note);
    assert_string_equal(o.model, "mlx-community/some-model");
    assert_string_equal(o.optimizer, "adamw");
    assert_true(o.beta1 == 0.9 && o.beta2 == 0.98 && o.epsilon == 1e-6 && o.weight_decay == 0.05);
    assert_true(o.bias_correction);
    assert_int_equal(o.seed, 3);
    assert_int_equal(o.num_layers, 4);
    assert_int_equal(o.val_batches, -1);
    assert_null(o.resume_adapter_file);
    assert_string_equal(o.report_to, "tensorboard");
    assert_string_equal(o.grad_checkpoint, "layer");
    assert_string_equal(o.lora_targets, "self_attn.q_proj,self_attn.v_proj");
    assert_int_equal(o.lora_rank, 12);
    assert_true(gr_options_scale(&o) == 10);
    assert_string_equal(o.mlx_schedule, "cosine_decay");
    assert_int_equal(o.mlx_warmup, 10);
    assert_true(o.mlx_warmup_init == 1e-7 && o.learning_rate == 1e-3);
    assert_true(gr_schedule_rate(&o, 1, 60) == 1e-7);
    assert_valid(&o);
    char *text = graft_options_text(&o, GRAFT_VERB_TRAIN);
    assert_non_null(strstr(text, "schedule: cosine_decay(0.001, 100, 1e-06), warm-up 10 from 1e-07"));
    free(text);
    graft_options_free(&o);
}

/* Where no adapter trains, what a file says of adapters is told and stands among no values. */
static void full_has_no_adapters(void **state) {
    (void)state;
    graft_options o;
    char *note, *text;
    for (int full = 0; full < 2; full++) {
        graft_options_init(&o);
        assert_int_equal(load(&o,
                              full ? "fine_tune_type: full\nlora_parameters:\n  rank: 4\nlora_bias: all\n"
                                   : "fine_tune_type: lora\nlora_parameters:\n  rank: 4\nlora_bias: all\n",
                              &note),
                         GRAFT_OK);
        assert_int_equal(note && strstr(note, "lora_parameters (fine_tune_type full"), full);
        assert_int_equal(note && strstr(note, "lora_bias (fine_tune_type full"), full);
        text = graft_options_text(&o, GRAFT_VERB_TRAIN);
        assert_non_null(text);
        assert_int_equal(strstr(text, "lora") == NULL || strstr(text, "fine-tune-type: lora"), 1);
        assert_int_equal(strstr(text, "lora-rank") == NULL, full);
        assert_int_equal(strstr(text, "lora-scale") == NULL, full);
        assert_int_equal(strstr(text, "lora-bias") == NULL, full);
        assert_non_null(strstr(text, "num-layers"));
        free(text);
        free(note);
        graft_options_free(&o);
    }
}

/* The same values whichever comes first. */
static void flags_win(void **state) {
    (void)state;
    for (int file_first = 0; file_first < 2; file_first++) {
        graft_options o;
        graft_options_init(&o);
        if (file_first) must_load(&o, example);
        flag(&o, "iters", "7");
        flag(&o, "learning-rate", "5e-4");
        flag(&o, "lora-alpha", "48");
        flag(&o, "optimizer", "sgd");
        flag(&o, "train-on", "last");
        flag(&o, "warmup", "3");
        if (!file_first) must_load(&o, example);
        assert_int_equal(o.iters, 7);
        assert_true(gr_options_scale(&o) == 4);
        assert_string_equal(o.optimizer, "sgd");
        assert_true(isnan(o.beta1) && o.weight_decay == 0 && !o.bias_correction);
        assert_int_equal(gr_options_train_on(&o), GR_TRAIN_LAST);
        assert_int_equal(o.mlx_warmup, 3);
        assert_true(gr_schedule_rate(&o, 4, 7) == 5e-4); /* the flag is the schedule's peak */
        assert_valid(&o);
        graft_options_free(&o);

        graft_options_init(&o);
        if (file_first) must_load(&o, example);
        flag(&o, "lr-schedule", "linear");
        flag(&o, "epochs", "2");
        if (!file_first) must_load(&o, example);
        assert_null(o.mlx_schedule);
        assert_true(o.epochs == 2 && o.learning_rate == 1e-4);
        assert_int_equal(o.warmup, 0);
        assert_valid(&o);
        graft_options_free(&o);
    }
}

static void own_keys(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    must_load(&o,
              "lora_alpha: 32\nlora_targets: extended\noverflow: truncate\nlr_schedule: cosine\nwarmup: 5\n"
              "epochs: 1.5\nno_shuffle: true\ngrad_clip: 1\noptimizer: AdamW\nmask_prompt: yes\n"
              "grad_checkpoint: none\n");
    assert_true(gr_options_scale(&o) == 4 && o.epochs == 1.5 && o.no_shuffle && o.grad_clip == 1);
    assert_string_equal(o.optimizer, "adamw");
    assert_true(o.weight_decay == 0.01);
    assert_string_equal(o.lr_schedule, "cosine");
    assert_int_equal(gr_options_train_on(&o), GR_TRAIN_COMPLETION);
    assert_valid(&o);
    graft_options_free(&o);
    graft_options_init(&o);
    must_load(&o, "rank_pattern: {q_proj: 8, v_proj: 4}\nalpha_pattern: \"q_proj=3\"\n"
                  "modules_to_save: [embed_tokens, lm_head]\nlayers_to_transform: [0, 2]\n"
                  "exclude-modules: [k_proj]\nlora_targets: [q_proj, v_proj]\nfine_tune_type: dora\n");
    assert_string_equal(o.modules_to_save, "embed_tokens,lm_head");
    assert_string_equal(o.layers_to_transform, "0,2");
    assert_string_equal(o.exclude_modules, "k_proj");
    assert_string_equal(o.lora_targets, "q_proj,v_proj");
    assert_string_equal(o.alpha_pattern, "q_proj=3");
    assert_string_equal(o.fine_tune_type, "dora");
    json_t *ranks = json_loads(o.rank_pattern, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(ranks, "q_proj")), 8);
    json_decref(ranks);
    graft_options_free(&o);
    graft_options_init(&o);
    must_load(&o, "template_kwargs: {enable_thinking: false, n: [1, 2.5]}\n");
    assert_string_equal(o.template_kwargs, "{\"enable_thinking\":false,\"n\":[1,2.5]}");
    graft_options_free(&o);
    graft_options_init(&o);
    must_load(&o, "lora_parameters: {rank: 4, alpha: 8}");
    assert_true(gr_options_scale(&o) == 2);
    graft_options_free(&o);
}

/* A module's alpha beats mlx-lm's default scale, and contradicts one that somebody wrote. */
static void alphas_and_scales(void **state) {
    (void)state;
    static const struct {
        const char *text, *flag, *value;
        graft_status status;
    } cases[] = {
        {"alpha_pattern: {q_proj: 8}", NULL, NULL, GRAFT_OK},
        {"alpha_pattern: {q_proj: 8}\nlora_parameters: {rank: 4}", NULL, NULL, GRAFT_OK},
        {"alpha_pattern: {q_proj: 8}\nlora_parameters: {alpha: 4}", NULL, NULL, GRAFT_OK},
        {"iters: 3", "alpha-pattern", "q_proj=8", GRAFT_OK},
        {"alpha_pattern: {q_proj: 8}\nlora_parameters: {scale: 20}", NULL, NULL, GRAFT_USAGE},
        {"alpha_pattern: {q_proj: 8}\nlora_scale: 20", NULL, NULL, GRAFT_USAGE},
        {"lora_parameters: {scale: 20}", "alpha-pattern", "q_proj=8", GRAFT_USAGE},
        {"alpha_pattern: {q_proj: 8}", "lora-scale", "20", GRAFT_USAGE},
        {"alpha_pattern: {q_proj: 8}\nlora_scale: 20", "lora-alpha", "4", GRAFT_OK},
        {"lora_parameters: {scale: 0}", NULL, NULL, GRAFT_USAGE},
        {"lora_parameters: {alpha: 0}", NULL, NULL, GRAFT_USAGE},
        {"lora_scale: 0", NULL, NULL, GRAFT_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_options o;
        graft_options_init(&o);
        err = (graft_error){0};
        must_load(&o, cases[i].text);
        if (cases[i].flag)
            assert_int_equal(graft_options_set(&o, GRAFT_VERB_TRAIN, cases[i].flag, cases[i].value, &err),
                             GRAFT_OK);
        if (gr_options_check(&o, GRAFT_VERB_TRAIN, &err) != cases[i].status)
            fail_msg("case %zu: %s", i, err.what);
        graft_options_free(&o);
    }
}

static void wrong_configs(void **state) {
    (void)state;
    static const struct {
        const char *text;
        graft_status status;
        const char *hint;
    } cases[] = {
        {"itres: 5", GRAFT_USAGE, "did you mean \"iters\"?"},
        {"lora_paramters: {}", GRAFT_USAGE, "did you mean \"lora_parameters\"?"},
        {"lora_parameters: {rnak: 5}", GRAFT_USAGE, "did you mean \"rank\"?"},
        {"optimizer_config: {adam: {beta: [0.9, 0.99]}}", GRAFT_USAGE, "did you mean \"betas\"?"},
        {"optimizer_config: {lion: {}}", GRAFT_USAGE, ""},
        {"optimizer: muon\noptimizer_config: {muon: {ns_step: 3}}", GRAFT_USAGE,
         "did you mean \"ns_steps\"?"},
        {"optimizer: muon\noptimizer_config: {muon: {ns_steps: 2.5}}", GRAFT_USAGE, ""},
        {"optimizer: muon\noptimizer_config: {muon: {momentum: 1.5}}", GRAFT_USAGE, ""},
        {"optimizer: adafactor\noptimizer_config: {adafactor: {eps: 1e-6}}", GRAFT_USAGE, ""},
        {"optimizer: adafactor\noptimizer_config: {adafactor: {beta_1: 1}}", GRAFT_USAGE, ""},
        {"optimizer: adafactor\noptimizer_config: {adafactor: {clip_threshold: 0}}", GRAFT_USAGE, ""},
        {"optimizer: adafactor\noptimizer_config: {adafactor: {decay_rate: 0.8}}", GRAFT_USAGE, ""},
        {"optimizer: adafactor\noptimizer_config: {adafactor: {momentum: 0.8}}", GRAFT_USAGE, ""},
        {"lora_parameters: {scale: 2, alpha: 4}", GRAFT_USAGE, "keep one"},
        {"iters: 5\nepochs: 1", GRAFT_USAGE, "keep one"},
        {"report_to: [tensorboard]", GRAFT_UNSUPPORTED, "tensorboard"},
        {"wandb: my-project", GRAFT_UNSUPPORTED, "metrics.jsonl"},
        {"report_to: wandb", GRAFT_UNSUPPORTED, "metrics.jsonl"},
        {"hf_dataset: {path: x}", GRAFT_UNSUPPORTED, "download"},
        {"iters: 1.5", GRAFT_USAGE, ""},
        {"iters: [1]", GRAFT_USAGE, ""},
        {"modules_to_save: {a: 1}", GRAFT_USAGE, ""},
        {"modules_to_save: [[a]]", GRAFT_USAGE, ""},
        {"rank_pattern: [1]", GRAFT_USAGE, ""},
        {"learning_rate: fast", GRAFT_USAGE, ""},
        {"mask_prompt: 3", GRAFT_USAGE, ""},
        {"lora_parameters: 8", GRAFT_USAGE, ""},
        {"lora_parameters: {keys: q_proj}", GRAFT_USAGE, ""},
        {"lora_parameters: {keys: []}", GRAFT_USAGE, ""},
        {"lr_schedule: {name: cosine, arguments: [1, 2]}", GRAFT_USAGE, ""},
        {"lr_schedule: {name: cosine_decay, arguments: [1]}", GRAFT_USAGE, ""},
        {"lr_schedule: {name: cosine_decay}", GRAFT_USAGE, ""},
        {"lr_schedule: {name: cosine_decay, arguments: [1, 2], warmpu: 3}", GRAFT_USAGE,
         "did you mean \"warmup\"?"},
        {"optimizer_config: {adam: {betas: [0.9, 1.5]}}", GRAFT_USAGE, ""},
        {"optimizer_config: {adam: {betas: [0.9]}}", GRAFT_USAGE, ""},
        {"optimizer_config: {adam: {betas: [0.9, x]}}", GRAFT_USAGE, ""},
        {"optimizer: sgd\noptimizer_config: {sgd: {momentum: -1}}", GRAFT_USAGE, ""},
        {"optimizer: muon\noptimizer_config: {muon: {ns_steps: 1001}}", GRAFT_USAGE, ""},
        {"lora_parameters: {keys: [[q_proj]]}", GRAFT_USAGE, ""},
        {"optimizer: 3", GRAFT_USAGE, ""},
        {"q_bits: 4", GRAFT_USAGE, ""},
        {"train: false", GRAFT_UNSUPPORTED, "graft eval"},
        {"test: true", GRAFT_UNSUPPORTED, "graft eval"},
        {"lora_layers: 8", GRAFT_USAGE, "did you mean \"num_layers\"?"},
        {"- 1", GRAFT_USAGE, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_options o;
        graft_options_init(&o);
        graft_status st = load(&o, cases[i].text, NULL);
        if (st != cases[i].status) fail_msg("%s: %d", cases[i].text, st);
        if (!strstr(err.hint, cases[i].hint)) fail_msg("%s: hint \"%s\"", cases[i].text, err.hint);
        assert_non_null(strstr(err.where, path));
        graft_options_free(&o);
    }
    graft_options o;
    graft_options_init(&o);
    gr_error_clear(&err);
    assert_int_equal(graft_options_load_yaml(&o, "no/such.yaml", NULL, &err), GRAFT_NOT_FOUND);
    graft_options_free(&o);
}

static void adafactor_and_muon(void **state) {
    (void)state;
    graft_options o;
    graft_options_init(&o);
    assert_int_equal(
        load(&o,
             "optimizer: Adafactor\n"
             "optimizer_config:\n"
             "  adafactor: {eps: [1e-20, 0.5], clip_threshold: 2, decay_rate: -0.5, beta_1: 0.8,\n"
             "    weight_decay: 0.1, relative_step: false, warmup_init: true}\n"
             "  muon: {momentum: 0.7, ns_steps: 3, nesterov: false}\n",
             NULL),
        GRAFT_OK);
    gr_optim_config c = gr_optim_config_of(&o);
    assert_true(c.epsilon == 1e-20 && c.scale_epsilon == 0.5 && c.clip_threshold == 2);
    assert_true(c.decay_rate == -0.5 && c.beta1 == 0.8 && c.weight_decay == 0.1);
    assert_true(c.scale_parameter && !c.relative_step && c.warmup_init);
    /* a flag for another optimizer reads the file again */
    assert_int_equal(graft_options_set(&o, GRAFT_VERB_TRAIN, "optimizer", "muon", &err), GRAFT_OK);
    c = gr_optim_config_of(&o);
    assert_true(c.momentum == 0.7 && c.ns_steps == 3 && !c.nesterov && c.weight_decay == 0.01);
    assert_true(!c.relative_step);
    graft_options_free(&o);
    /* mlx.optimizers' own defaults */
    graft_options_init(&o);
    assert_int_equal(graft_options_set(&o, GRAFT_VERB_TRAIN, "optimizer", "muon", &err), GRAFT_OK);
    c = gr_optim_config_of(&o);
    assert_true(c.momentum == 0.95 && c.ns_steps == 5 && c.nesterov && c.weight_decay == 0.01);
    assert_int_equal(graft_options_set(&o, GRAFT_VERB_TRAIN, "optimizer", "adafactor", &err), GRAFT_OK);
    c = gr_optim_config_of(&o);
    assert_true(c.epsilon == 1e-30 && c.scale_epsilon == 1e-3 && c.clip_threshold == 1 && c.beta1 == 0);
    assert_true(c.decay_rate == -0.8 && c.weight_decay == 0 && c.scale_parameter && c.relative_step);
    assert_true(gr_optim_rate(&c, 5, 1) == 0.01 && gr_optim_rate(&c, 5, 40000) == 0.005);
    graft_options_free(&o);
}

static int make_path(void **state) {
    (void)state;
    snprintf(path, sizeof path, "test_yaml_%d.yaml", (int)getpid());
    return 0;
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adafactor_and_muon),
        cmocka_unit_test(values),
        cmocka_unit_test(refused),
        cmocka_unit_test(defaults_are_mlx),
        cmocka_unit_test(full_has_no_adapters),
        cmocka_unit_test(whole_example),
        cmocka_unit_test(flags_win),
        cmocka_unit_test(own_keys),
        cmocka_unit_test(alphas_and_scales),
        cmocka_unit_test(wrong_configs),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
