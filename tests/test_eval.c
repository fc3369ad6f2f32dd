/* infer/: evaluation adds up, whatever is batched together; one token at a time gives what the whole prompt
 * gives, on every instruction set and in both modes; greedy text and the logits file. */
#include "infer/session.h"
#include "kernels/isa.h"
#include "tests/each_isa.h"
#include "tests/tiny_dir.h"

static char *root, *data;

static int setup(void **state) {
    (void)state;
    root = tiny_temp();
    data = tiny_data_dir(root, "data", 40, 9);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(data);
    tiny_remove(root);
    return 0;
}

/* A short training, so that there is an adapter that changes answers. */
static char *trained_as(const char *model, const char *const *more) {
    char *out = tiny_join(root, "adapter");
    graft_options o;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", out, "iters", "20",
                                   "lora-rank", "4", "lora-targets", "full", "learning-rate", "2e-2",
                                   "threads", "1", NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    if (graft_train(&o, NULL, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    graft_options_free(&o);
    return out;
}

static char *trained(const char *model) {
    return trained_as(model, NULL);
}

static graft_eval_result evaluate(const char *model, const char *const *more) {
    graft_options o;
    graft_error err = {0};
    graft_eval_result r = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EVAL,
             (const char *const[]){"model", model, "data", data, "per-row", "-", "threads", "1", NULL});
    tiny_set(&o, GRAFT_VERB_EVAL, more);
    if (graft_eval(&o, NULL, &r, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    graft_options_free(&o);
    return r;
}

static void sums(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    graft_eval_result r = evaluate(model, (const char *const[]){"split", "train", NULL});
    double loss = 0;
    int64_t tokens = 0;
    assert_int_equal(r.rows, 40);
    for (int64_t i = 0; i < r.rows; i++) {
        assert_int_equal(r.row_losses[i].line, i + 1);
        loss += r.row_losses[i].loss * (double)r.row_losses[i].tokens;
        tokens += r.row_losses[i].tokens;
    }
    assert_int_equal(tokens, r.tokens);
    assert_near(r.loss, loss / (double)tokens,
                1e-13 * r.loss); /* the same sum, divided and multiplied by row */
    assert_near(r.perplexity, exp(r.loss), 1e-12 * r.perplexity);
    assert_true(r.perplexity_stderr > 0 && r.perplexity_stderr < r.perplexity);
    assert_true(r.accuracy >= 0 && r.accuracy <= 1);
    graft_eval_result_free(&r);
    tiny_remove(model);
}

/* A row's loss has the same bits alone in its file, beside others, and on two threads. */
static void rows_are_independent(void **state) {
    (void)state;
    static const char *const computes[] = {"bf16", "fp32"};
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.type = "mistral", .window = 7, .bits = 4});
    for (int c = 0; c < 2; c++) {
        graft_eval_result all =
            evaluate(model, (const char *const[]){"split", "train", "compute", computes[c], NULL});
        graft_eval_result two = evaluate(
            model, (const char *const[]){"split", "train", "compute", computes[c], "threads", "2", NULL});
        for (int row = 0; row < 40; row += 3) {
            tiny_rows_write(root, "one.jsonl", 1, row);
            char *file = tiny_join(root, "one.jsonl");
            graft_eval_result one =
                evaluate(model, (const char *const[]){"data", file, "compute", computes[c], NULL});
            assert_memory_equal(&one.row_losses[0].loss, &all.row_losses[row].loss, sizeof(double));
            assert_memory_equal(&two.row_losses[row].loss, &all.row_losses[row].loss, sizeof(double));
            graft_eval_result_free(&one);
            free(file);
        }
        graft_eval_result_free(&all);
        graft_eval_result_free(&two);
    }
    tiny_remove(model);
}

/* ------------------------------------------------------------------------------------------ token by token
 */

/* Squared distance and squared norm, to be summed over positions. */
typedef struct apart {
    double off, norm;
} apart;

static apart distance(const float *a, const float *b, int64_t n) {
    apart d = {0};
    for (int64_t i = 0; i < n; i++) {
        d.off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        d.norm += (double)b[i] * (double)b[i];
    }
    return d;
}

/* Logits of every position, from the whole sequence at once and token by token after a prompt of three. fp32:
 * about 60 roundings deep, products of length 96: sqrt(96) * 2^-24 * 60 = 3.5e-5 of the logits' norm. bf16:
 * each of the 12 activations of a block is rounded by 2^-9 in both ways, two blocks: sqrt(2 * 24) * 2^-9
 * = 1.4e-2 of the norm over all positions (at a single one the logits may nearly cancel); 3e-2 leaves room
 * for a rounding that is passed on. A wrong formula shows at 1e-1 or more. */
static void compare_paths(const char *model, const char *adapter, const char *isa, bool fp32) {
    enum { T = 40 };
    graft_options o;
    graft_error err = {0};
    gr_session s;
    gr_decode d;
    int32_t ids[T];
    for (int i = 0; i < T; i++) ids[i] = (int32_t)(i * i * 7 + 11 * i) % 257;
    setenv("GRAFT_ISA", isa, 1);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"adapter-path", adapter, "compute", fp32 ? "fp32" : "bf16", "threads", "2",
                                   NULL});
    graft_status st = gr_session_open(&s, model, &o, NULL, &err);
    if (st != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
    gr_net_config config = {.tokens = T, .longest = T};
    assert_int_equal(gr_runtime_bind(&s.rt, &config, &err), GRAFT_OK);
    assert_int_equal(gr_decode_init(&d, &s.rt, T, false, &err), GRAFT_OK);
    int64_t start[2] = {0, T};
    float *whole = calloc((size_t)T * TINY_VOCAB, sizeof *whole);
    gr_net *net = &s.rt.net;
    gr_batch batch = {.ids = ids, .start = start, .nrows = 1, .tokens = T};
    gr_net_forward(net, &batch);
    for (int t = 0; t < T; t++) {
        gr_head_logits(&net->compute, &net->head, whole + t * TINY_VOCAB, net->saved[TINY_LAYERS].x, t, 1);
    }
    apart all = {0};
    gr_decode_prompt(&d, ids, 3);
    for (int t = 2; t < T; t++) {
        if (t > 2) gr_decode_token(&d, ids[t]);
        apart here = distance(d.logits, whole + t * TINY_VOCAB, TINY_VOCAB);
        if (fp32 && !(here.off <= 1e-8 * here.norm))
            fail_msg("%s %s fp32: position %d is off by %g", model, isa, t, sqrt(here.off / here.norm));
        all.off += here.off;
        all.norm += here.norm;
    }
    double off = sqrt(all.off / all.norm);
    if (!(off <= (fp32 ? 1e-4 : 3e-2)))
        fail_msg("%s %s %s: off by %g", model, isa, fp32 ? "fp32" : "bf16", off);
    assert_int_equal(d.cache.length, T);
    free(whole);
    gr_decode_free(&d);
    gr_session_close(&s);
    graft_options_free(&o);
    unsetenv("GRAFT_ISA");
}

static void token_by_token(void **state) {
    (void)state;
    static const tiny_spec specs[] = {{.bits = 4},
                                      {.dtype = GR_BF16, .untied = true},
                                      {.type = "mistral", .window = 6},
                                      {.type = "qwen2", .bits = 8, .dtype = GR_BF16},
                                      {.type = "qwen3", .bits = 4}};
    const char *const pooled[] = {"group-pooled", "-", NULL};
    for (size_t i = 0; i < 1 + sizeof specs / sizeof *specs; i++) { /* the first also with a pooled A */
        const tiny_spec *spec = &specs[i ? i - 1 : 0];
        char *model = tiny_model_dir(root, "base", spec), *adapter = trained_as(model, i ? NULL : pooled);
        for (const gr_isa *isa = gr_isa_table; isa->name; isa++)
            for (int fp32 = 0; fp32 < 2; fp32++)
                if (isa_counts(isa, fp32)) compare_paths(model, adapter, isa->name, fp32);
        tiny_remove(adapter);
        tiny_remove(model);
    }
}

/* ------------------------------------------------------------------------------------------------- answers
 */

typedef struct stream {
    gr_buf text;
} stream;

static void on_event(void *user, const graft_event *e) {
    stream *s = user;
    if (e->kind == GRAFT_EVENT_TEXT) gr_buf_add(&s->text, e->text, (size_t)e->done);
}

static graft_generation answer(const char *model, const char *const *more, stream *s,
                               graft_generation *base) {
    graft_options o;
    graft_error err = {0};
    graft_generation r = {0};
    stream own = {0};
    if (!s) s = &own;
    graft_hooks hooks = {.user = s, .event = on_event};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"model", model, "prompt", "one two three", "max-tokens", "24",
                                   "ignore-chat-template", "-", "threads", "1", NULL});
    tiny_set(&o, GRAFT_VERB_GENERATE, more);
    if (graft_generate(&o, &hooks, &r, base, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    graft_options_free(&o);
    gr_buf_free(&own.text);
    return r;
}

static void answers(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4}), *adapter = trained(model);
    stream s = {0};
    graft_generation base = {0}, plain = answer(model, NULL, NULL, NULL);
    graft_generation a = answer(model, (const char *const[]){"adapter-path", adapter, NULL}, &s, NULL);
    graft_generation b =
        answer(model, (const char *const[]){"adapter-path", adapter, "compare", "-", "threads", "2", NULL},
               NULL, &base);
    assert_string_equal(a.text, b.text); /* greedy: the same again, on other threads */
    assert_string_equal(base.text, plain.text);
    assert_string_not_equal(a.text, base.text);
    if (a.text[0]) assert_string_equal(s.text.data, a.text); /* the pieces are the text */
    assert_int_equal(a.prompt_tokens, 13);                   /* bytes: nothing in it merges */
    assert_true(a.tokens <= 24);
    static const char *const warm[] = {"temp", "1", "seed", "5", NULL}, *const other[] = {"temp", "1", "seed",
                                                                                          "6", NULL};
    graft_generation c = answer(model, warm, NULL, NULL), d = answer(model, warm, NULL, NULL),
                     e = answer(model, other, NULL, NULL);
    assert_string_equal(c.text, d.text);
    assert_string_not_equal(c.text, e.text);
    graft_generation *const all[] = {&base, &plain, &a, &b, &c, &d, &e};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) graft_generation_free(all[i]);
    gr_buf_free(&s.text);
    tiny_remove(adapter);
    tiny_remove(model);
}

/* The logits file: NumPy's header, f32 [tokens, vocab]; its last row's largest value is the greedy first
 * token. */
static void logits_file(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *file = tiny_join(root, "l.npy"), shape[64];
    graft_generation g = answer(
        model, (const char *const[]){"logits", file, "max-tokens", "1", "compute", "fp32", NULL}, NULL, NULL);
    size_t size = 0;
    char *bytes = tiny_read(root, "l.npy", &size);
    assert_memory_equal(bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
    assert_int_equal(size, 128 + (size_t)g.prompt_tokens * TINY_VOCAB * 4);
    snprintf(shape, sizeof shape, "'shape': (%d, %d)", (int)g.prompt_tokens, TINY_VOCAB);
    assert_non_null(memmem(bytes, 128, shape, strlen(shape)));
    assert_non_null(memmem(bytes, 128, "'<f4'", 5));
    assert_int_equal(bytes[127], '\n');
    /* the mean of -log softmax over the prompt's targets is what eval measures */
    tiny_write(root, "one.jsonl", "{\"text\": \"one two three\"}\n");
    char *row = tiny_join(root, "one.jsonl");
    graft_eval_result r = evaluate(model, (const char *const[]){"data", row, "compute", "fp32", NULL});
    assert_int_equal(r.tokens, g.prompt_tokens); /* the prompt but its first, and EOS */
    gr_tokenizer *tok = NULL;
    graft_error err = {0};
    gr_ids ids = {0};
    assert_int_equal(gr_tokenizer_open_as(&tok, model, GR_MAPPED, &err), GRAFT_OK);
    assert_int_equal(gr_tokenizer_encode(tok, "one two three", 13, 0, &ids, &err), GRAFT_OK);
    assert_true(gr_ids_push(&ids, gr_tokenizer_eos(tok)));
    assert_int_equal(ids.count, (size_t)g.prompt_tokens + 1);
    double loss = 0;
    for (size_t t = 0; t + 1 < ids.count; t++) {
        float x[TINY_VOCAB];
        double sum = 0;
        memcpy(x, bytes + 128 + t * sizeof x, sizeof x);
        for (int i = 0; i < TINY_VOCAB; i++) sum += exp((double)x[i]);
        loss += log(sum) - (double)x[ids.ids[t + 1]];
    }
    assert_near(r.loss, loss / (double)r.tokens,
                1e-5); /* eval's softmax is in f32: 264 * 2^-24 relative of the sum */
    gr_ids_free(&ids);
    gr_tokenizer_free(tok);
    graft_eval_result_free(&r);
    graft_generation_free(&g);
    free(row);
    free(bytes);
    free(file);
    tiny_remove(model);
}

static void stop_at_once(void *user, const graft_event *e) {
    if (e->kind == GRAFT_EVENT_TEXT) *(volatile int *)user = 1;
}

/* The flag ends an answer at its next token, and the base is not asked any more. */
static void stops(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *adapter = trained(model);
    volatile int stop = 0;
    graft_hooks hooks = {.user = (void *)(uintptr_t)&stop, .event = stop_at_once, .stop = &stop};
    graft_options o;
    graft_error err = {0};
    graft_generation g, base;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"model", model, "adapter-path", adapter, "compare", "-", "prompt", "one",
                                   "ignore-chat-template", "-", "max-tokens", "500", "temp", "1", NULL});
    assert_int_equal(graft_generate(&o, &hooks, &g, &base, &err), GRAFT_INTERRUPTED);
    assert_int_equal(stop, 1);
    assert_null(g.text);
    assert_null(base.text);
    graft_options_free(&o);
    tiny_remove(adapter);
    tiny_remove(model);
}

/* Templates find messages under the name that the options give. */
static void keep_text(void *user, const graft_row *row) {
    gr_buf_puts(user, row->text);
}

static void renders_by_feature(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}), *file = tiny_join(root, "turns.jsonl");
    graft_options o;
    graft_error err = {0};
    gr_buf text = {0};
    tiny_write(root, "turns.jsonl",
               "{\"turns\": [{\"role\": \"user\", \"content\": \"hello\"}, "
               "{\"role\": \"assistant\", \"content\": \"good day\"}]}\n");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TOKENIZE,
             (const char *const[]){"model", model, "data", file, "render", "-", NULL});
    assert_int_equal(graft_tokenize(&o, NULL, keep_text, &text, &err), GRAFT_CORRUPT);
    tiny_set(&o, GRAFT_VERB_TOKENIZE, (const char *const[]){"chat-feature", "turns", NULL});
    assert_int_equal(graft_tokenize(&o, NULL, keep_text, &text, &err), GRAFT_OK);
    assert_non_null(text.data);
    assert_non_null(strstr(text.data, "good day"));
    gr_buf_free(&text);
    graft_options_free(&o);
    free(file);
    tiny_remove(model);
}

static void refusals(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "base", &(tiny_spec){0}),
         *other = tiny_model_dir(root, "other", &(tiny_spec){.seed = 3});
    char *adapter = trained(other);
    graft_options o;
    graft_error err = {0};
    graft_generation g = {0};
    graft_eval_result r = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"model", model, "adapter-path", adapter, "prompt", "x", NULL});
    assert_int_equal(graft_generate(&o, NULL, &g, NULL, &err), GRAFT_MISMATCH);
    assert_non_null(strstr(err.what, "another base"));
    graft_options_free(&o);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE, (const char *const[]){"model", model, NULL});
    assert_int_equal(graft_generate(&o, NULL, &g, NULL, &err), GRAFT_USAGE); /* no prompt */
    tiny_set(&o, GRAFT_VERB_GENERATE, (const char *const[]){"prompt", "x", "compare", "-", NULL});
    assert_int_equal(graft_generate(&o, NULL, &g, NULL, &err), GRAFT_USAGE); /* nothing to compare with */
    graft_options_free(&o);
    static const char *const wrong[][4] = {
        {"prompt", "caf\xc3", NULL},
        {"system-prompt", "\xff", NULL},
        {"system-prompt", "Be brief.", "ignore-chat-template", "-"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *const pairs[] = {wrong[i][0], wrong[i][1], wrong[i][2], wrong[i][3], NULL};
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_GENERATE, (const char *const[]){"model", model, "prompt", "x", NULL});
        tiny_set(&o, GRAFT_VERB_GENERATE, pairs);
        memset(&g, 0x55, sizeof g); /* what an error leaves is empty, whatever was there */
        assert_int_equal(graft_generate(&o, NULL, &g, NULL, &err), GRAFT_USAGE);
        assert_null(g.text);
        graft_options_free(&o);
    }
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE, (const char *const[]){"model", "/nonexistent", "prompt", "x", NULL});
    memset(&g, 0x55, sizeof g);
    assert_int_equal(graft_generate(&o, NULL, &g, NULL, &err), GRAFT_NOT_FOUND);
    assert_null(g.text);
    graft_options_free(&o);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_EVAL, (const char *const[]){"model", model, NULL});
    assert_int_equal(graft_eval(&o, NULL, &r, &err), GRAFT_USAGE); /* no data */
    tiny_set(&o, GRAFT_VERB_EVAL, (const char *const[]){"data", root, NULL});
    assert_int_equal(graft_eval(&o, NULL, &r, &err), GRAFT_NOT_FOUND);
    assert_null(r.row_losses);
    graft_options_free(&o);
    tiny_remove(adapter);
    tiny_remove(other);
    tiny_remove(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums),    cmocka_unit_test(rows_are_independent), cmocka_unit_test(token_by_token),
        cmocka_unit_test(answers), cmocka_unit_test(logits_file),          cmocka_unit_test(refusals),
        cmocka_unit_test(stops),   cmocka_unit_test(renders_by_feature),
    };
    return cmocka_run_group_tests_name("eval", tests, setup, teardown);
}
