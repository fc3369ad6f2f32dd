/* infer/generate_batch.c: an answer does not depend on what is answered beside it, in what order, or by how
 * many threads; in f32 it is the answer of the prompt alone. Samplers and stop texts work in a batch;
 * mistakes in the file are named by line. */
#include "infer/decode_batch.h"
#include "infer/session.h"
#include "tests/tiny_taught.h"

static char *prompts;
enum { PROMPTS = 7 };

static const char *const texts[PROMPTS] = {
    "one two three", "a",    "the quick brown fox jumps over it, and again and again", "zz", "hello there",
    "one two three", "say 3"};

static int begin(void **state) {
    gr_buf lines = {0};
    setup(state);
    prompts = tiny_join(root, "prompts.jsonl");
    for (int i = 0; i < PROMPTS; i++)
        gr_buf_printf(&lines, i % 2 ? "\"%s\"\n\n" : "{\"prompt\": \"%s\"}\n", texts[i]);
    tiny_write(root, "prompts.jsonl", lines.data);
    gr_buf_free(&lines);
    return 0;
}

static int end(void **state) {
    free(prompts);
    return teardown(state);
}

typedef struct heard {
    char *text[PROMPTS];
    uint64_t line[PROMPTS];
    int64_t tokens, count;
} heard;

static void on_answer(void *user, uint64_t line, const graft_generation *answer) {
    heard *h = user;
    assert_in_range(h->count, 0, PROMPTS - 1);
    h->text[h->count] = strdup(answer->text);
    h->line[h->count++] = line;
    h->tokens += answer->tokens;
}

static void forget(heard *h) {
    for (int64_t i = 0; i < h->count; i++) free(h->text[i]);
    *h = (heard){0};
}

static graft_options options_of(const char *const *more) {
    graft_options o;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"model", model, "max-tokens", "30", "seed", "7", "ignore-chat-template",
                                   "-", "adapter-path", adapter, NULL});
    tiny_set(&o, GRAFT_VERB_GENERATE, more);
    return o;
}

static heard answers(const char *batch, const char *threads, const char *const *more) {
    graft_error err = {0};
    graft_generation total;
    heard h = {0};
    graft_options o = options_of(more);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"prompts", prompts, "batch-size", batch, "threads", threads, NULL});
    if (graft_generate_batch(&o, NULL, on_answer, &h, &total, &err) != GRAFT_OK)
        fail_msg("%s %s", err.what, err.where);
    assert_int_equal(h.count, PROMPTS);
    assert_int_equal(h.tokens, total.tokens);
    for (int i = 0; i < PROMPTS; i++) assert_int_equal(h.line[i], i + 1 + i / 2); /* blank lines count */
    graft_options_free(&o);
    return h;
}

static void same_in_every_batch(void **state) {
    (void)state;
    static const char *const sizes[] = {"2", "3", "5", "64"}, *const temps[] = {"0", "0.8"};
    for (int t = 0; t < 2; t++) {
        const char *const more[] = {"temp", temps[t], "top-p", "0.9", "repetition-penalty", "1.3", NULL};
        heard want = answers("1", "1", more);
        for (int i = 0; i < 4; i++) {
            heard got = answers(sizes[i], i % 2 ? "1" : "2", more);
            for (int k = 0; k < PROMPTS; k++) assert_string_equal(got.text[k], want.text[k]);
            forget(&got);
        }
        assert_string_equal(want.text[0], want.text[5]); /* one prompt, one seed */
        forget(&want);
    }
}

/* The two paths add in different orders: in f32 that is far below what tells two tokens apart. */
static void same_as_alone(void **state) {
    (void)state;
    static const char *const stops[] = {NULL, "e"};
    for (int s = 0; s < 2; s++) {
        const char *const more[] = {"compute", "fp32", s ? "stop" : NULL, stops[s], NULL};
        heard h = answers("3", "2", more);
        for (int i = 0; i < PROMPTS; i++) {
            graft_options o = options_of(more);
            graft_error err = {0};
            graft_generation r;
            tiny_set(&o, GRAFT_VERB_GENERATE, (const char *const[]){"prompt", texts[i], NULL});
            assert_int_equal(graft_generate(&o, NULL, &r, NULL, &err), GRAFT_OK);
            assert_string_equal(h.text[i], r.text);
            if (s) assert_null(strstr(r.text, "e"));
            graft_generation_free(&r);
            graft_options_free(&o);
        }
        forget(&h);
    }
}

static void ignore(void *user, uint64_t line, const graft_generation *answer) {
    (void)user, (void)line, (void)answer;
}

static void refused(const char *text, const char *what, const char *where) {
    graft_error err = {0};
    graft_generation total;
    char *path = tiny_join(root, "bad.jsonl");
    graft_options o = options_of((const char *const[]){"prompts", path, NULL});
    tiny_write(root, "bad.jsonl", text);
    assert_int_not_equal(graft_generate_batch(&o, NULL, ignore, NULL, &total, &err), GRAFT_OK);
    if (!strstr(err.what, what) || !strstr(err.where, where)) fail_msg("%s: %s", err.where, err.what);
    graft_options_free(&o);
    free(path);
}

static void mistakes(void **state) {
    (void)state;
    graft_error err = {0};
    graft_generation total;
    refused("\"a\"\n{\"prompt\": 3}\n", "no prompt", "line 2");
    refused("\"a\"\n\n{\"prompt\": \n", "not JSON", "line 3");
    refused("\n", "no prompts", "bad.jsonl");
    refused("{\"messages\": []}\n", "chat template", "line 1");
    graft_options o = options_of((const char *const[]){"prompts", prompts, "prompt", "x", NULL});
    assert_int_equal(graft_generate_batch(&o, NULL, ignore, NULL, &total, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.what, "--prompts with --prompt"));
    graft_options_free(&o);
}

static void stop_at_once(void *user, const graft_event *e) {
    if (e->kind == GRAFT_EVENT_PROGRESS && e->done == 1) *(volatile int *)user = 1;
}

static void stops(void **state) {
    (void)state;
    volatile int stop = 0;
    graft_error err = {0};
    graft_generation total;
    graft_hooks hooks = {.user = (void *)(uintptr_t)&stop, .event = stop_at_once, .stop = &stop};
    graft_options o = options_of((const char *const[]){"prompts", prompts, "batch-size", "2", NULL});
    assert_int_equal(graft_generate_batch(&o, &hooks, ignore, NULL, &total, &err), GRAFT_INTERRUPTED);
    graft_options_free(&o);
}

static void bench_runs(void **state) {
    (void)state;
    for (int batch = 1; batch < 4; batch += 2) {
        graft_error err = {0};
        graft_bench_generate_result r;
        graft_options o;
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_BENCH,
                 (const char *const[]){"model", model, "adapter-path", adapter, "seq-length", "20",
                                       "max-tokens", "6", "steps", "2", "batch-size", batch == 1 ? "1" : "3",
                                       NULL});
        if (graft_bench_generate(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s", err.what);
        assert_int_equal(r.batch_size, batch);
        assert_int_equal(r.prompt_tokens, 20);
        assert_int_equal(r.tokens, 6);
        assert_true(r.generation_tokens_per_second > 0 && r.prompt_tokens_per_second > 0);
        assert_true(r.read_gbs > 0 && r.peak_gflops > 0 && r.step_bytes > 0 && r.peak_rss_bytes > 0);
        graft_options_free(&o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_in_every_batch), cmocka_unit_test(same_as_alone),
                                       cmocka_unit_test(mistakes), cmocka_unit_test(stops),
                                       cmocka_unit_test(bench_runs)};
    return cmocka_run_group_tests(tests, begin, end);
}
