/* options/preset_table.c, train/base_model.c: what a preset sets, what beats it, and on which bits it trains.
 */
#include "tests/tiny_run.h"
#include "train/base_model.h"
#include <dirent.h>

static const struct {
    const char *name, *targets;
    int64_t rank;
    gr_base_wish base;
} presets[] = {{"quick", "standard", 8, GR_BASE_4_BIT},
               {"standard", "extended", 16, GR_BASE_4_BIT},
               {"high-quality", "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj", 32, GR_BASE_4_BIT},
               {"full", "all-linear", 64, GR_BASE_16_BIT}};
enum { PRESETS = sizeof presets / sizeof *presets };

static void set(graft_options *o, const char *name, const char *value) {
    graft_error err = {0};
    if (graft_options_set(o, GRAFT_VERB_TRAIN, name, value, &err) != GRAFT_OK)
        fail_msg("%s: %s %s", name, err.what, err.found);
}

static void the_guides_four(void **state) {
    (void)state;
    const graft_option *option = graft_option_find(GRAFT_VERB_TRAIN, "preset");
    for (int i = 0; i < PRESETS; i++) {
        graft_options o;
        graft_error err = {0};
        graft_options_init(&o);
        assert_int_equal(gr_options_base(&o), GR_BASE_ANY);
        set(&o, "preset", presets[i].name);
        assert_string_equal(o.lora_targets, presets[i].targets);
        assert_int_equal(o.lora_rank, presets[i].rank);
        assert_true(gr_options_alpha(&o) == 2 * (double)o.lora_rank && gr_options_scale(&o) == 2);
        assert_string_equal(o.grad_checkpoint, "layer");
        assert_int_equal(gr_options_base(&o), presets[i].base);
        assert_int_equal(gr_options_check(&o, GRAFT_VERB_TRAIN, &err), GRAFT_OK);
        /* help tells them all */
        char word[40];
        snprintf(word, sizeof word, "%s (%s%lld,", presets[i].name, i ? "" : "rank ",
                 (long long)presets[i].rank);
        if (!strstr(option->help, word)) fail_msg("help does not say %s", word);
        set(&o, "fine-tune-type", "full"); /* another thing than the preset full */
        assert_int_equal(gr_options_check(&o, GRAFT_VERB_TRAIN, &err), GRAFT_USAGE);
        assert_non_null(strstr(err.hint, "LoRA"));
        graft_options_free(&o);
    }
}

static void flags_beat_presets(void **state) {
    (void)state;
    static const char *const flags[][2] = {{"lora-rank", "5"},
                                           {"lora-targets", "o_proj"},
                                           {"grad-checkpoint", "none"},
                                           {"lora-alpha", "3"},
                                           {"lora-scale", "7"}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        for (int order = 0; order < 2; order++) {
            graft_options o;
            graft_options_init(&o);
            if (order) set(&o, "preset", "high-quality");
            set(&o, flags[i][0], flags[i][1]);
            if (!order) set(&o, "preset", "high-quality");
            assert_int_equal(o.lora_rank, i == 0 ? 5 : 32);
            assert_string_equal(o.lora_targets, i == 1 ? "o_proj" : presets[2].targets);
            assert_string_equal(o.grad_checkpoint, i == 2 ? "none" : "layer");
            assert_true(gr_options_scale(&o) == (i == 3 ? 3.0 / 32 : i == 4 ? 7 : 2));
            graft_options_free(&o);
        }
}

/* Flags, then the preset on the command line, then a file's keys, then a preset in the file. */
static void presets_and_files(void **state) {
    (void)state;
    tiny_write(root, "c.yaml", "lora_parameters: {rank: 4, scale: 9, keys: [self_attn.o_proj]}\niters: 7\n");
    tiny_write(root, "d.yaml", "lora_parameters: {rank: 4}\npreset: standard\n");
    char *c = tiny_join(root, "c.yaml"), *d = tiny_join(root, "d.yaml");
    for (int order = 0; order < 2; order++) {
        graft_options o;
        graft_options_init(&o);
        if (order) set(&o, "preset", "quick");
        set(&o, "config", c);
        if (!order) set(&o, "preset", "quick");
        assert_int_equal(o.lora_rank, 8);
        assert_string_equal(o.lora_targets, "standard");
        assert_true(gr_options_scale(&o) == 2);
        assert_int_equal(o.iters, 7);
        set(&o, "lora-rank", "3");
        set(&o, "optimizer", "sgd"); /* reads the file again */
        assert_int_equal(o.lora_rank, 3);
        assert_string_equal(o.lora_targets, "standard");
        graft_options_free(&o);
    }
    graft_options o;
    graft_options_init(&o);
    set(&o, "config", d);
    assert_int_equal(o.lora_rank, 4);
    assert_string_equal(o.lora_targets, "extended");
    assert_true(gr_options_scale(&o) == 2);
    assert_int_equal(gr_options_base(&o), GR_BASE_4_BIT);
    graft_options_free(&o);
    free(c);
    free(d);
}

static void kept_on_four_bits(void **state) {
    (void)state;
    char *cache = tiny_subdir(root, "cache"),
         *model = tiny_model_dir(root, "base", &(tiny_spec){.dtype = GR_BF16});
    setenv("XDG_CACHE_HOME", cache, 1);
    own_rank = true;
    static const char *const more[] = {"preset", "quick", NULL};
    watch first = {0}, second = {0};
    must_train(model, "once", more, &first, NULL);
    assert_non_null(strstr(first.notes, "kept in"));
    assert_non_null(strstr(first.notes, "4-bit"));
    const char *kept = strstr(first.notes, "--model ");
    assert_non_null(kept);
    char dir[600];
    snprintf(dir, sizeof dir, "%.*s", (int)strcspn(kept + 8, "\n"), kept + 8);
    must_train(model, "twice", more, &second, NULL);
    assert_int_equal(strlen(second.notes) < strlen(first.notes), 1); /* made once */
    same_results("once", "twice");
    forget("twice");
    /* resumed with the options one by one: what the preset set is what counts */
    graft_error err = {0};
    assert_int_equal(train(model, "twice", more, &(watch){.stop_at = 12}, NULL, &err), GRAFT_INTERRUPTED);
    must_train(dir, "twice",
               (const char *const[]){"lora-rank", "8", "lora-targets", "standard", "resume", "-", NULL}, NULL,
               NULL);
    char *first_dir = tiny_join(root, "once"), *second_dir = tiny_join(root, "twice");
    tiny_same_file(first_dir, second_dir, "adapters.safetensors");
    free(first_dir);
    free(second_dir);
    forget("twice");
    /* the adapter names the base it belongs to */
    char *once = tiny_join(root, "once"), *config = tiny_read(once, "adapter_config.json", NULL);
    char named[700];
    snprintf(named, sizeof named, "\"base_model_name_or_path\": \"%s\"", dir);
    assert_non_null(strstr(config, named));
    free(config);
    free(once);
    /* the same model by its own name, with the preset's options one by one */
    must_train(
        dir, "twice",
        (const char *const[]){"lora-rank", "8", "lora-targets", "standard", "grad-checkpoint", "layer", NULL},
        NULL, NULL);
    char *a = tiny_join(root, "once"), *b = tiny_join(root, "twice");
    tiny_same_file(a, b, "adapters.safetensors");
    free(a);
    free(b);
    forget("once");
    forget("twice");
    own_rank = false;
    tiny_remove(model);
    tiny_remove(cache);
    unsetenv("XDG_CACHE_HOME");
}

static size_t entries(const char *dir) {
    size_t n = 0;
    DIR *list = opendir(dir);
    for (struct dirent *e; list && (e = readdir(list));) n += e->d_name[0] != '.';
    if (list) closedir(list);
    return n;
}

/* What costs nothing to refuse is refused before a conversion, and a plan makes none. */
static void nothing_is_converted_in_vain(void **state) {
    (void)state;
    char *cache = tiny_subdir(root, "cache"), *bare = tiny_subdir(root, "bare"),
         *model = tiny_model_dir(root, "base", &(tiny_spec){.dtype = GR_BF16});
    setenv("XDG_CACHE_HOME", cache, 1);
    own_rank = true;
    tiny_write(bare, "train.jsonl", "{\"text\": \"a b c\"}\n");
    const struct {
        const char *pairs[7];
        graft_status status;
    } cases[] = {{{"preset", "quick", "data", root}, GRAFT_NOT_FOUND},
                 {{"preset", "quick", "data", "/nowhere/at-all"}, GRAFT_NOT_FOUND},
                 {{"preset", "quick", "data", bare, "keep-best", "true"}, GRAFT_USAGE},
                 {{"preset", "quick", "budget", "1MB"}, GRAFT_USAGE},
                 {{"preset", "quick", "resume-adapter-file", "/nowhere/at-all"}, GRAFT_NOT_FOUND}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        assert_int_equal(train(model, "out", cases[i].pairs, NULL, NULL, &err), cases[i].status);
        if (entries(cache)) fail_msg("case %zu converts first: %s", i, err.what);
    }
    uint64_t total[2];
    for (int kept = 0; kept < 2; kept++) {
        graft_options o;
        graft_plan plan;
        graft_error err = {0};
        watch w = {0};
        graft_hooks hooks = {.user = &w, .event = on_event};
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_PLAN,
                 (const char *const[]){"model", model, "preset", "quick", "data", data, NULL});
        if (graft_plan_make(&o, &hooks, &plan, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
        assert_true(plan.types[0].quantize && !plan.types[gr_guide_type(GR_EMBED_TOKENS)].quantize);
        assert_int_equal(strstr(w.notes, "will quantize") != NULL, !kept);
        assert_true(plan.tokens_per_second > 0);
        assert_int_equal(entries(cache) != 0, kept);
        total[kept] = plan.types[0].bytes;
        graft_plan_free(&plan);
        graft_options_free(&o);
        if (!kept) must_train(model, "out", (const char *const[]){"preset", "quick", NULL}, NULL, NULL);
    }
    assert_int_equal(total[0], total[1]);
    forget("out");
    own_rank = false;
    tiny_remove(bare);
    tiny_remove(model);
    tiny_remove(cache);
    unsetenv("XDG_CACHE_HOME");
}

/* Refused before data is read: there is none here. */
static void full_needs_sixteen(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *own = data,
         *config = tiny_subdir(root, "config");
    graft_error err = {0};
    data = root;
    assert_int_equal(train(model, "out", (const char *const[]){"preset", "full", NULL}, NULL, NULL, &err),
                     GRAFT_USAGE);
    char command[700];
    snprintf(command, sizeof command, "graft convert --model %s -d --mlx-path base-16bit", model);
    assert_string_equal(err.hint, command);
    /* a name that is none is told before a conversion or the data; so is a layer that is none */
    assert_int_equal(train(model, "out",
                           (const char *const[]){"preset", "quick", "lora-targets", "q_porj", NULL}, NULL,
                           NULL, &(graft_error){0}),
                     GRAFT_USAGE);
    err = (graft_error){0};
    assert_int_equal(
        train(model, "out", (const char *const[]){"exclude-modules", "v_prj", NULL}, NULL, NULL, &err),
        GRAFT_USAGE);
    assert_string_equal(err.hint, "did you mean v_proj?");
    err = (graft_error){0};
    assert_int_equal(
        train(model, "out", (const char *const[]){"layers-to-transform", "7", NULL}, NULL, NULL, &err),
        GRAFT_USAGE);
    data = own;
    /* a plan from config.json alone takes it as 16-bit; linears are two bytes a weight then */
    size_t n;
    char *plain = tiny_model_dir(root, "plain", &(tiny_spec){.dtype = GR_BF16}),
         *text = tiny_read(plain, "config.json", &n);
    tiny_write(config, "config.json", text);
    free(text);
    for (int full = 0; full < 2; full++) {
        graft_options o;
        graft_plan plan;
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_PLAN,
                 (const char *const[]){"model", config, "preset", full ? "full" : "quick", NULL});
        err = (graft_error){0};
        if (graft_plan_make(&o, NULL, &plan, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
        assert_int_equal(plan.types[0].quantize, !full);
        assert_string_equal(plan.grad_checkpoint, "layer");
        if (full) assert_int_equal(plan.types[0].bytes, 2 * plan.types[0].parameters);
        graft_plan_free(&plan);
        graft_options_free(&o);
    }
    tiny_remove(plain);
    tiny_remove(config);
    tiny_remove(model);
}

/* A rank above its matrix is told, not refused. */
static void large_ranks_are_told(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    watch w = {0};
    own_rank = true;
    must_train(model, "out", (const char *const[]){"lora-rank", "40", NULL}, &w, NULL);
    assert_non_null(strstr(w.notes, "rank 40 is above its matrix: k_proj has 32 x 64, v_proj has 32 x 64;"));
    forget("out");
    w = (watch){0};
    must_train(model, "out", (const char *const[]){"lora-rank", "32", NULL}, &w, NULL);
    assert_null(strstr(w.notes, "above its matrix"));
    forget("out");
    own_rank = false;
    tiny_remove(model);
}

/* What is asked for and comes to nothing is told, and no file claims it. */
static void without_effect_is_told(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.dtype = GR_BF16}), *text;
    size_t len;
    graft_error err = {0};
    watch w = {0};
    must_train(model, "out", (const char *const[]){"lora-bias", "all", NULL}, &w, NULL);
    assert_non_null(strstr(w.notes, "--lora-bias all has no effect: no module of this model has a bias"));
    char *out = tiny_join(root, "out"), *config = tiny_join(out, "adapter_config.json");
    assert_int_equal(gr_file_read(&text, &len, config, 1 << 20, &err), GRAFT_OK);
    assert_non_null(strstr(text, "\"bias\": \"none\""));
    free(text);
    free(config);
    free(out);
    forget("out");
    w = (watch){0};
    must_train(model, "out",
               (const char *const[]){"lora-targets", "q_proj", "modules-to-save", "q_proj", NULL}, &w, NULL);
    assert_non_null(strstr(w.notes, "no adapter remains"));
    forget("out");
    w = (watch){0};
    must_train(model, "out", (const char *const[]){"learning-rate", "0", NULL}, &w, NULL);
    assert_non_null(strstr(w.notes, "--learning-rate 0: no tensor can move"));
    forget("out");
    w = (watch){0};
    must_train(model, "out", (const char *const[]){"modules-to-save", "q_proj", NULL}, &w, NULL);
    assert_null(strstr(w.notes, "no adapter remains"));
    assert_null(strstr(w.notes, "no tensor can move"));
    assert_null(strstr(w.notes, "no effect"));
    forget("out");
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guides_four),      cmocka_unit_test(flags_beat_presets),
        cmocka_unit_test(presets_and_files),    cmocka_unit_test(kept_on_four_bits),
        cmocka_unit_test(full_needs_sixteen),   cmocka_unit_test(nothing_is_converted_in_vain),
        cmocka_unit_test(large_ranks_are_told), cmocka_unit_test(without_effect_is_told),
    };
    return cmocka_run_group_tests_name("preset", tests, setup, teardown);
}
