/* infer/generate.c with stop texts and a penalty: what is sent and what is returned end before the stop text,
 * with --compare too; the penalty is that of a loop written out here; idle settings are said. */
#include "infer/session.h"
#include "tests/tiny_taught.h"

typedef struct heard {
    gr_buf text, notes;
} heard;

static void on_event(void *user, const graft_event *e) {
    heard *h = user;
    if (e->kind == GRAFT_EVENT_TEXT) gr_buf_add(&h->text, e->text, (size_t)e->done);
    if (e->kind == GRAFT_EVENT_NOTE) gr_buf_printf(&h->notes, "%s\n", e->text);
}

static const char *prompt = "one two three";

/* The answer with seed 3; h receives what was sent. */
static graft_generation answer(const char *const *more, heard *h, graft_generation *base) {
    graft_options o;
    graft_error err = {0};
    graft_generation r = {0};
    heard own = {0};
    graft_hooks hooks = {.user = h ? h : &own, .event = on_event};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             (const char *const[]){"model", model, "prompt", prompt, "max-tokens", "60", "seed", "3",
                                   "ignore-chat-template", "-", "threads", "1", NULL});
    tiny_set(&o, GRAFT_VERB_GENERATE, more);
    if (graft_generate(&o, &hooks, &r, base, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    graft_options_free(&o);
    gr_buf_free(&own.text);
    gr_buf_free(&own.notes);
    return r;
}

/* Three letters next to each other that are not the beginning. */
static char *three(const char *text) {
    for (const char *p = text + 2; strlen(text) > 5 && p[2]; p++)
        if (p[0] > ' ' && p[1] > ' ' && p[2] > ' ' && p[0] != p[1]) return strndup(p, 3);
    return NULL;
}

/* Rounding decides when a model this small ends its answer: takes the first prompt with a long enough one. */
static void choose_prompt(const char *temp) {
    static const char *const prompts[] = {"one two three", "two three", "five six", "seven", "four five one"};
    bool found = false;
    for (size_t i = 0; !found && i < sizeof prompts / sizeof *prompts; i++) {
        prompt = prompts[i];
        graft_generation r =
            answer((const char *const[]){"temp", temp, "adapter-path", adapter, NULL}, NULL, NULL);
        char *stop = three(r.text);
        found = stop != NULL;
        free(stop);
        graft_generation_free(&r);
    }
    assert_true(found);
}

/* The text is `plain` up to the first `stop`. */
static void ends_before(const char *text, const char *plain, const char *stop) {
    const char *at = strstr(plain, stop);
    size_t want = at ? (size_t)(at - plain) : strlen(plain);
    assert_int_equal(strlen(text), want);
    assert_memory_equal(text, plain, want);
}

static void stop_text(void **state) {
    (void)state;
    static const char *const temps[] = {"0", "0.3", "0.6"};
    for (size_t i = 0; i < sizeof temps / sizeof *temps; i++) {
        heard h = {0};
        graft_generation plain_base, cut_base;
        choose_prompt(temps[i]);
        graft_generation plain =
            answer((const char *const[]){"temp", temps[i], "adapter-path", adapter, "compare", "-", NULL}, &h,
                   &plain_base);
        assert_string_equal(h.text.data, plain.text); /* to the last byte */
        char *stop = three(plain.text);
        gr_buf_clear(&h.text);
        graft_generation cut = answer((const char *const[]){"temp", temps[i], "adapter-path", adapter, "stop",
                                                            "never seen", "stop", stop, "compare", "-", NULL},
                                      &h, &cut_base);
        ends_before(cut.text, plain.text, stop);
        ends_before(cut_base.text, plain_base.text, stop);
        assert_int_equal(h.text.len, strlen(cut.text)); /* nothing of the stop text was sent */
        assert_memory_equal(h.text.data, cut.text, h.text.len);
        assert_true(cut.tokens > 0 && cut.tokens < plain.tokens);
        /* the beginning of a stop text at the very end comes out after all */
        char *longer = malloc(64);
        snprintf(longer, 64, "%s and more of it", plain.text + strlen(plain.text) - 1);
        gr_buf_clear(&h.text);
        graft_generation whole = answer(
            (const char *const[]){"temp", temps[i], "adapter-path", adapter, "stop", longer, NULL}, &h, NULL);
        assert_string_equal(whole.text, plain.text);
        assert_string_equal(h.text.data, plain.text);
        graft_generation *const all[] = {&plain, &plain_base, &cut, &cut_base, &whole};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) graft_generation_free(all[j]);
        gr_buf_free(&h.text);
        gr_buf_free(&h.notes);
        free(longer);
        free(stop);
    }
}

/* Greedy tokens with the penalty, by mlx-lm's formula in another form. */
static char *penalized(float penalty, size_t window) {
    graft_options o;
    graft_error err = {0};
    gr_session s;
    gr_decode d;
    gr_ids ids = {0};
    gr_buf text = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE, (const char *const[]){"threads", "1", NULL});
    assert_int_equal(gr_session_open(&s, model, &o, NULL, &err), GRAFT_OK);
    gr_net_config config = {.tokens = 13, .longest = 13};
    assert_int_equal(gr_runtime_bind(&s.rt, &config, &err), GRAFT_OK);
    assert_int_equal(gr_decode_init(&d, &s.rt, 80, false, &err), GRAFT_OK);
    assert_int_equal(gr_tokenizer_encode(s.tok, "one two three", 13, GR_ENCODE_ADD_SPECIAL, &ids, &err),
                     GRAFT_OK);
    assert_int_equal(ids.count, 13);
    gr_decode_prompt(&d, ids.ids, 13);
    while (ids.count < 13 + 60) {
        int32_t best = -1;
        float most = 0;
        for (int32_t i = 0; i < TINY_VOCAB; i++) {
            bool seen = false;
            for (size_t j = window && window < ids.count ? ids.count - window : 0; j < ids.count; j++)
                seen = seen || ids.ids[j] == i;
            float x = d.logits[i];
            if (seen) x = x < 0 ? x * penalty : x / penalty;
            if (best < 0 || x > most) {
                best = i;
                most = x;
            }
        }
        if (gr_tokenizer_is_stop(s.tok, best)) break;
        assert_true(gr_ids_push(&ids, best));
        gr_decode_token(&d, best);
    }
    assert_int_equal(gr_tokenizer_decode(s.tok, ids.ids + 13, ids.count - 13, true, &text, &err), GRAFT_OK);
    gr_decode_free(&d);
    gr_ids_free(&ids);
    gr_session_close(&s);
    graft_options_free(&o);
    return gr_buf_take(&text);
}

static void penalty(void **state) {
    (void)state;
    prompt = "one two three"; /* what penalized() continues */
    graft_generation plain = answer(NULL, NULL, NULL);
    static const struct {
        const char *penalty, *window;
    } cases[] = {{"1.3", "20"}, {"2", "3"}, {"1.5", "0"}, {"1", "20"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_generation r = answer((const char *const[]){"repetition-penalty", cases[i].penalty,
                                                          "repetition-context-size", cases[i].window, NULL},
                                    NULL, NULL);
        char *want = penalized(strtof(cases[i].penalty, NULL), (size_t)atoi(cases[i].window));
        assert_string_equal(r.text, want);
        if (i < 3)
            assert_string_not_equal(r.text, plain.text);
        else
            assert_string_equal(r.text, plain.text);
        free(want);
        graft_generation_free(&r);
    }
    graft_generation_free(&plain);
}

static void idle_settings(void **state) {
    (void)state;
    heard h = {0};
    graft_generation r =
        answer((const char *const[]){"top-p", "0.5", "repetition-context-size", "9", NULL}, &h, NULL);
    assert_non_null(strstr(h.notes.data, "at temp 0"));
    assert_non_null(strstr(h.notes.data, "without a repetition-penalty"));
    graft_generation_free(&r);
    gr_buf_clear(&h.notes);
    r = answer((const char *const[]){"top-p", "0.5", "temp", "1", "repetition-context-size", "9",
                                     "repetition-penalty", "1.2", NULL},
               &h, NULL);
    assert_int_equal(h.notes.len, 0);
    graft_generation_free(&r);
    gr_buf_free(&h.text);
    gr_buf_free(&h.notes);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(stop_text), cmocka_unit_test(penalty),
                                       cmocka_unit_test(idle_settings)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
