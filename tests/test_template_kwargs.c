/* Variables of the chat template: where they come from, who remembers them, and what contradicts them. */
#include "adapters/adapter.h"
#include "tests/tiny_run.h"

static char *model, *file;

static int setup_model(void **state) {
    setup(state);
    tiny_spec spec = {.dtype = GR_F32, .seed = 5};
    model = tiny_model_dir(root, "model", &spec);
    tiny_write(model, "chat_template.jinja",
               "{% for m in messages %}{{ m.role ~ (mood | default('')) ~ ':' ~ m.content }}{% endfor %}");
    file = tiny_join(data, "train.jsonl");
    gr_buf rows = {0};
    for (int i = 0; i < 8; i++)
        gr_buf_printf(&rows,
                      "{\"messages\": [{\"role\": \"user\", \"content\": \"q%d\"}, {\"role\": \"assistant\", "
                      "\"content\": \"a%d\"}]}\n",
                      i, i);
    tiny_write(data, "train.jsonl", rows.data);
    tiny_write(data, "valid.jsonl", rows.data);
    gr_buf_free(&rows);
    return 0;
}

static int teardown_model(void **state) {
    free(model);
    free(file);
    return teardown(state);
}

/* Tokens of an evaluation of the first run's adapter, with more options. */
static int64_t eval_tokens(const char *adapter, const char *const *more, watch *w) {
    graft_options o;
    graft_error err = {0};
    graft_eval_result r;
    graft_hooks hooks = {.user = w, .event = on_event};
    char *path = tiny_join(root, adapter);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"model", model, "data", file, "adapter-path", path, NULL});
    tiny_set(&o, GRAFT_VERB_EVAL, more);
    if (graft_eval(&o, &hooks, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    int64_t tokens = r.tokens;
    graft_eval_result_free(&r);
    graft_options_free(&o);
    free(path);
    return tokens;
}

static void an_adapter_remembers(void **state) {
    (void)state;
    char *kwargs, *out = tiny_join(root, "happy"), *one = tiny_join(out, "adapters.safetensors");
    graft_error err = {0};
    must_train(model, "plain", (const char *const[]){"iters", "2", NULL}, NULL, NULL);
    must_train(model, "happy",
               (const char *const[]){"iters", "2", "template-kwargs", "{ \"mood\" :\"+++\" }", NULL}, NULL,
               NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gr_adapter_template_kwargs(&kwargs, NULL, i ? one : out, GR_MAPPED, &err), GRAFT_OK);
        assert_string_equal(kwargs, "{\"mood\":\"+++\"}");
        free(kwargs);
    }
    char *card = tiny_read(out, "README.md", NULL);
    assert_non_null(strstr(card, "template-kwargs: {\"mood\":\"+++\"}"));
    free(card);

    watch w = {0};
    int64_t none = eval_tokens("plain", NULL, &w), own = eval_tokens("happy", NULL, &w);
    assert_int_equal(own, none + 8 * 2 * 3); /* each of 8 rows has two messages */
    assert_int_equal(
        eval_tokens("happy", (const char *const[]){"template-kwargs", "{\"mood\":\"+++\"}", NULL}, &w), own);
    assert_null(strstr(w.notes, "template-kwargs"));
    assert_int_equal(eval_tokens("happy", (const char *const[]){"template-kwargs", "{}", NULL}, &w), none);
    assert_non_null(strstr(w.notes, "--template-kwargs {}: the adapter was trained with {\"mood\":\"+++\"}"));
    free(one);
    free(out);
}

static void a_run_that_goes_on_keeps_them(void **state) {
    (void)state;
    graft_error err = {0};
    watch w = {0};
    char *happy = tiny_join(root, "happy");
    const char *const other[] = {"iters", "2", "resume", "-", "template-kwargs", "{\"mood\":\"-\"}", NULL};
    assert_int_equal(train(model, "happy", other, NULL, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.found, "template-kwargs: {\"mood\":\"+++\"} -> {\"mood\":\"-\"}"));
    const char *const from[] = {"iters", "1", "resume-adapter-file", happy, NULL};
    own_rank = true;
    must_train(model, "on", from, &w, NULL);
    own_rank = false;
    assert_non_null(
        strstr(w.notes, "was trained with --template-kwargs '{\"mood\":\"+++\"}', and this run has none"));
    memset(&w, 0, sizeof w);
    const char *const sad[] = {"iters",        "1", "resume-adapter-file", happy, "template-kwargs",
                               "{\"mood\":0}", NULL};
    own_rank = true;
    must_train(model, "sad", sad, &w, NULL);
    memset(&err, 0, sizeof err);
    char *list = malloc(2 * strlen(happy) + 20); /* of a sum there is no one kind, scale and record */
    sprintf(list, "%s=0.5,%s=0.5", happy, happy);
    assert_int_equal(
        train(model, "two", (const char *const[]){"resume-adapter-file", list, NULL}, NULL, NULL, &err),
        GRAFT_USAGE);
    own_rank = false;
    assert_non_null(strstr(err.what, "takes one adapter"));
    assert_non_null(strstr(err.hint, "--merge cat"));
    assert_non_null(strstr(w.notes, "'{\"mood\":\"+++\"}', and this run has {\"mood\":0}"));
    free(list);
    free(happy);
}

/* The first one's hold, and that there are others is said. */
static void a_list_has_the_first_ones(void **state) {
    (void)state;
    watch w = {0};
    const int64_t none = eval_tokens("plain", NULL, &w), own = eval_tokens("happy", NULL, &w);
    char *plain = tiny_join(root, "plain"), *happy = tiny_join(root, "happy"), *names[] = {plain, happy};
    for (int first = 0; first < 2; first++) {
        char list[600];
        memset(&w, 0, sizeof w);
        snprintf(list, sizeof list, "%s,%s=0", names[first], names[!first]);
        assert_int_equal(eval_tokens("plain", (const char *const[]){"adapter-path", list, NULL}, &w),
                         first ? own : none);
        assert_non_null(strstr(w.notes, first ? "those of the first hold, {\"mood\":\"+++\"}"
                                              : "those of the first hold, none"));
    }
    memset(&w, 0, sizeof w);
    char same[600];
    snprintf(same, sizeof same, "%s=0.5,%s=0.5", happy, happy);
    assert_int_equal(eval_tokens("plain", (const char *const[]){"adapter-path", same, NULL}, &w), own);
    assert_null(strstr(w.notes, "template-kwargs"));
    free(plain);
    free(happy);
}

static graft_fuse_result fuse(const char *base, const char *const *more, watch *w) {
    graft_options o;
    graft_error err = {0};
    graft_fuse_result r;
    graft_hooks hooks = {.user = w, .event = on_event};
    char *path = tiny_join(root, "happy"), *out = tiny_join(root, "fused");
    memset(w, 0, sizeof *w);
    graft_options_init(&o);
    tiny_set(
        &o, GRAFT_VERB_FUSE,
        (const char *const[]){"model", base, "data", file, "adapter-path", path, "save-path", out, NULL});
    tiny_set(&o, GRAFT_VERB_FUSE, more);
    if (graft_fuse(&o, &hooks, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    graft_options_free(&o);
    tiny_remove(out);
    free(path);
    return r;
}

static int times(const char *text, const char *what) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++) n++;
    return n;
}

/* All three losses are over the rows as the adapter was taught, and that the fused model has no place for its
 * variables is said, once. */
static void fusing_says_what_a_model_cannot_hold(void **state) {
    (void)state;
    watch w = {0};
    const int64_t none = eval_tokens("plain", NULL, &w), own = eval_tokens("happy", NULL, &w);
    graft_fuse_result r = fuse(model, NULL, &w);
    assert_int_equal(r.tokens, own);
    assert_int_equal(times(w.notes, "template-kwargs"), 1);
    assert_non_null(strstr(w.notes, "{\"mood\":\"+++\"}, which a model's files cannot hold"));
    r = fuse(model, (const char *const[]){"template-kwargs", "{}", NULL}, &w);
    assert_int_equal(r.tokens, none);
    assert_int_equal(times(w.notes, "--template-kwargs {}: the adapter was trained with"), 1);
    /* they are the adapter's, not the user's: a base without a template is no error */
    char *plain = tiny_model_dir(root, "no template", &(tiny_spec){.dtype = GR_F32, .seed = 5});
    tiny_tokenizer_write(plain, false);
    char *texts = tiny_join(root, "texts.jsonl");
    tiny_write(root, "texts.jsonl", "{\"text\": \"abc\"}\n");
    fuse(plain, (const char *const[]){"data", texts, NULL}, &w);
    free(texts);
    free(plain);
}

static graft_status set(const char *value, graft_error *err) {
    graft_options o;
    graft_options_init(&o);
    gr_error_clear(err);
    graft_status st = graft_options_set(&o, GRAFT_VERB_TRAIN, "template-kwargs", value, err);
    graft_options_free(&o);
    return st;
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    graft_error err;
    static const char *const bad[] = {
        "", "1", "[]", "{", "{\"a\":1,\"a\":2}", "enable_thinking=false", "{\"a\":\"\xff\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(set(bad[i], &err), GRAFT_USAGE);
        assert_string_equal(err.what, "--template-kwargs does not take this value");
    }
    static const char *const ours[] = {"{\"messages\":[]}", "{\"tools\":[]}", "{\"documents\":\"x\"}"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        gr_error_clear(&err);
        assert_int_equal(
            train(model, "bad", (const char *const[]){"template-kwargs", ours[i], NULL}, NULL, NULL, &err),
            GRAFT_USAGE);
        assert_non_null(strstr(err.what, "template variable"));
    }
    tiny_spec base = {.dtype = GR_F32, .seed = 5};
    char *plain = tiny_model_dir(root, "base", &base);
    tiny_tokenizer_write(plain, false);
    gr_error_clear(&err);
    assert_int_equal(
        train(plain, "bad", (const char *const[]){"template-kwargs", "{\"a\":1}", NULL}, NULL, NULL, &err),
        GRAFT_USAGE);
    assert_non_null(strstr(err.what, "the model has none"));
    free(plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_remembers),      cmocka_unit_test(a_run_that_goes_on_keeps_them),
        cmocka_unit_test(a_list_has_the_first_ones), cmocka_unit_test(fusing_says_what_a_model_cannot_hold),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, setup_model, teardown_model);
}
