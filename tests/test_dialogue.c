/* chat/dialogue.c: what is kept of a conversation changes no bit of its answers; adapters are switched while
 * talking; an answer can be stopped; a history that is too long loses its oldest turns; it is saved as a row
 * that training reads. */
#include "files/json_read.h"
#include "tests/hostile.h"
#include "tests/tiny_taught.h"

typedef struct talk {
    graft_options o;
    graft_chat *chat;
    graft_hooks hooks;
    gr_buf text, notes; /* what was sent */
    volatile int stop;
    int64_t stop_after; /* pieces; 0: never */
} talk;

static void on_event(void *user, const graft_event *e) {
    talk *t = user;
    if (e->kind == GRAFT_EVENT_NOTE) gr_buf_printf(&t->notes, "%s\n", e->text);
    if (e->kind != GRAFT_EVENT_TEXT) return;
    gr_buf_add(&t->text, e->text, (size_t)e->done);
    if (t->stop_after && !--t->stop_after) t->stop = 1;
}

static void begin(talk *t, const char *const *more) {
    graft_error err = {0};
    *t = (talk){.hooks = {.user = t, .event = on_event}};
    t->hooks.stop = &t->stop;
    graft_options_init(&t->o);
    tiny_set(&t->o, GRAFT_VERB_CHAT,
             (const char *const[]){"model", model, "max-tokens", "12", "threads", "2", NULL});
    if (more) tiny_set(&t->o, GRAFT_VERB_CHAT, more);
    if (graft_chat_open(&t->chat, &t->o, &t->hooks, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.found);
}

static void end(talk *t) {
    graft_chat_close(t->chat);
    graft_options_free(&t->o);
    gr_buf_free(&t->text);
    gr_buf_free(&t->notes);
}

static graft_answer say(talk *t, const char *text) {
    graft_error err = {0};
    graft_answer a;
    gr_buf_clear(&t->text);
    if (graft_chat_say(t->chat, text, &t->hooks, &a, &err) != GRAFT_OK)
        fail_msg("%s %s", err.what, err.found);
    return a;
}

static const char *const said[] = {"one two three", "and then?", "the quick brown fox jumps over it", "a",
                                   "so"};
enum { SAID = sizeof said / sizeof *said };

static void the_cache_changes_no_bit(void **state) {
    (void)state;
    const char *const more[] = {"temp",  "0.9",           "seed", "3", "adapter-path",
                                adapter, "system-prompt", "be",   NULL};
    talk kept, fresh;
    graft_error err = {0};
    begin(&kept, more);
    begin(&fresh, more);
    int64_t all = 0, cached = 0;
    for (int i = 0; i < SAID; i++) {
        graft_answer a = say(&kept, said[i]);
        assert_int_equal(graft_chat_use(fresh.chat, NULL, NULL, &err), GRAFT_OK); /* forgets the cache */
        assert_int_equal(graft_chat_use(fresh.chat, adapter, NULL, &err), GRAFT_OK);
        graft_answer b = say(&fresh, said[i]);
        assert_string_equal(a.text, b.text);
        assert_int_equal(a.tokens, b.tokens);
        assert_int_equal(a.prompt_tokens, b.prompt_tokens);
        assert_int_equal(b.cached_tokens, 0);
        assert_string_equal(kept.text.data ? kept.text.data : "", a.text); /* the pieces are the text */
        all += a.prompt_tokens, cached += a.cached_tokens;
        graft_answer_free(&a);
        graft_answer_free(&b);
    }
    assert_true(cached * 2 > all);
    end(&kept);
    end(&fresh);
}

static void adapters_are_switched(void **state) {
    (void)state;
    char both[1000];
    talk t;
    graft_error err = {0};
    snprintf(both, sizeof both, "%s=0.7,%s=0.3", adapter, adapter);
    begin(&t, NULL);
    graft_answer base = say(&t, said[0]);
    graft_chat_reset(t.chat);
    assert_int_equal(graft_chat_use(t.chat, adapter, NULL, &err), GRAFT_OK);
    graft_answer with = say(&t, said[0]);
    assert_string_not_equal(base.text, with.text);
    graft_chat_reset(t.chat);
    assert_int_equal(graft_chat_use(t.chat, both, NULL, &err), GRAFT_OK);
    graft_answer sum = say(&t, said[0]); /* 0.7 + 0.3 of one adapter is that adapter, but for rounding */
    assert_int_equal(sum.cached_tokens, 0);
    assert_int_equal(graft_chat_use(t.chat, "nowhere", NULL, &err), GRAFT_NOT_FOUND);
    graft_chat_reset(t.chat);
    assert_int_equal(graft_chat_use(t.chat, NULL, NULL, &err), GRAFT_OK);
    graft_answer again = say(&t, said[0]);
    assert_string_equal(base.text, again.text);
    graft_answer *all[] = {&base, &with, &sum, &again};
    for (int i = 0; i < 4; i++) graft_answer_free(all[i]);
    end(&t);
}

static void an_answer_is_stopped(void **state) {
    (void)state;
    talk t, other;
    graft_error err = {0};
    begin(&t, (const char *const[]){"max-tokens", "100", "adapter-path", adapter, NULL});
    t.stop_after = 3;
    graft_answer a = say(&t, said[0]);
    assert_string_equal(a.finish, "interrupted");
    assert_true(a.tokens >= 3 && a.tokens < 100);
    assert_string_equal(a.text, t.text.data);
    graft_answer none;
    assert_int_equal(graft_chat_say(t.chat, "x", &t.hooks, &none, &err),
                     GRAFT_INTERRUPTED); /* the flag is up */
    assert_null(none.text);
    t.stop = 0;
    tiny_set(&t.o, GRAFT_VERB_CHAT, (const char *const[]){"max-tokens", "5", NULL}); /* holds from now on */
    graft_answer b = say(&t, said[1]);
    assert_true(b.tokens <= 5);
    begin(&other, (const char *const[]){"max-tokens", "5", "adapter-path", adapter, NULL});
    graft_answer c = say(&other, said[0]); /* the same beginning, and what was not said is not there */
    assert_memory_equal(c.text, a.text, strlen(c.text) < strlen(a.text) ? strlen(c.text) : strlen(a.text));
    assert_true(b.cached_tokens > 0);
    graft_answer_free(&a);
    graft_answer_free(&b);
    graft_answer_free(&c);
    end(&t);
    end(&other);
}

static void a_long_history_loses_its_oldest_turns(void **state) {
    (void)state;
    talk t;
    graft_error err = {0};
    begin(&t, (const char *const[]){"max-seq-length", "150", "system-prompt", "be", NULL});
    int64_t dropped = 0;
    for (int i = 0; i < 8; i++) {
        graft_answer a = say(&t, said[i % SAID]);
        assert_true(a.prompt_tokens + a.tokens <= 150);
        assert_true(a.dropped >= dropped && a.dropped % 2 == 0);
        dropped = a.dropped;
        graft_answer_free(&a);
    }
    assert_true(dropped > 0);
    char longer[400];
    memset(longer, 'x', sizeof longer);
    longer[399] = 0;
    graft_answer a;
    assert_int_equal(graft_chat_say(t.chat, longer, NULL, &a, &err), GRAFT_RANGE);
    assert_string_equal(err.what, "the message leaves no room for an answer");
    assert_int_equal(graft_chat_say(t.chat, "\xff", NULL, &a, NULL), GRAFT_USAGE);
    a = say(&t, "still here");
    graft_answer_free(&a);
    end(&t);
}

static void a_drop_lasts_for_some_turns(void **state) {
    (void)state;
    enum { TURNS = 30 };
    talk t;
    begin(&t, (const char *const[]){"max-seq-length", "400", "max-tokens", "10", NULL});
    int64_t dropped = 0;
    int drops = 0, cached = 0;
    for (int i = 0; i < TURNS; i++) {
        graft_answer a = say(&t, said[i % SAID]);
        drops += a.dropped > dropped;
        if (i && a.dropped == dropped) cached += a.cached_tokens * 4 > a.prompt_tokens;
        dropped = a.dropped;
        graft_answer_free(&a);
    }
    assert_true(drops >= 2 && drops <= TURNS / 3);
    assert_int_equal(cached, TURNS - 1 - drops);
    end(&t);
}

/* What cannot fit is refused before the turns before it are dropped, one after the other, each with all that
 * is left tokenized once more. */
static void a_far_too_long_message_is_refused_at_once(void **state) {
    (void)state;
    enum { TURNS = 60, LONG = 200000 };
    talk t, fresh;
    graft_error err = {0};
    graft_answer a;
    const char *const more[] = {"max-seq-length", "4000", "max-tokens", "1", NULL};
    double took[2];
    char *text = malloc(LONG + 1);
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    begin(&t, more);
    begin(&fresh, more);
    for (int i = 0; i < TURNS; i++) {
        a = say(&t, "a");
        graft_answer_free(&a);
    }
    for (int i = 0; i < 2; i++) {
        double start = hostile_clock();
        assert_int_equal(graft_chat_say(i ? t.chat : fresh.chat, text, &t.hooks, &a, &err), GRAFT_RANGE);
        took[i] = hostile_clock() - start;
    }
    if (took[1] > 8 * took[0] + 0.05) fail_msg("%.3f s, and %.3f s in a long chat", took[0], took[1]);
    t.stop = 1; /* what fits alone has turns dropped, and stopping is seen */
    text[3900] = '\0';
    assert_int_equal(graft_chat_say(t.chat, text, &t.hooks, &a, &err), GRAFT_INTERRUPTED);
    assert_int_equal(a.prompt_tokens, 0);
    t.stop = 0;
    a = say(&t, "b");
    assert_int_equal(a.dropped, 0);
    graft_answer_free(&a);
    free(text);
    end(&t);
    end(&fresh);
}

/* A host need not go by the options' names. */
static void fields_count_as_options(void **state) {
    (void)state;
    graft_options o;
    graft_chat *chat;
    graft_answer a;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_CHAT, (const char *const[]){"model", model, "threads", "2", NULL});
    o.max_tokens = 3;
    o.max_seq_length = 90;
    assert_int_equal(graft_chat_open(&chat, &o, NULL, &err), GRAFT_OK);
    assert_int_equal(graft_chat_say(chat, "a", NULL, &a, &err), GRAFT_OK);
    assert_true(a.tokens <= 3);
    graft_answer_free(&a);
    char longer[100];
    memset(longer, 'x', 99);
    longer[99] = 0;
    assert_int_equal(graft_chat_say(chat, longer, NULL, &a, &err), GRAFT_RANGE);
    graft_chat_close(chat);
    graft_options_free(&o);
}

static void it_is_saved_as_a_row(void **state) {
    (void)state;
    talk t;
    graft_error err = {0};
    char *path = tiny_join(root, "talk.jsonl");
    json_t *row;
    begin(&t, (const char *const[]){"system-prompt", "be", NULL});
    graft_answer a = say(&t, said[0]);
    assert_int_equal(graft_chat_save(t.chat, path, &err), GRAFT_OK);
    assert_int_equal(gr_json_load(&row, path, 1 << 20, &err), GRAFT_OK);
    const json_t *list = json_object_get(row, "messages");
    assert_int_equal(json_array_size(list), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 2), "content")), a.text);
    json_decref(row);
    assert_int_equal(graft_chat_save(t.chat, "/nowhere/x", &err), GRAFT_NOT_FOUND);
    assert_int_equal(graft_chat_use(t.chat, "nowhere", NULL, NULL), GRAFT_NOT_FOUND); /* no error struct */
    graft_answer_free(&a);
    free(path);
    end(&t);
}

static void no_template_no_talk(void **state) {
    (void)state;
    char *plain = tiny_model_dir(root, "plain", &(tiny_spec){.bits = 4});
    tiny_tokenizer_write(plain, false);
    graft_options o;
    graft_chat *chat;
    graft_error err = {0};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_CHAT, (const char *const[]){"model", plain, NULL});
    assert_int_equal(graft_chat_open(&chat, &o, NULL, &err), GRAFT_USAGE);
    assert_null(chat);
    assert_string_equal(err.what, "the model has no chat template to talk by");
    graft_options_free(&o);
    tiny_remove(plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cache_changes_no_bit),
        cmocka_unit_test(adapters_are_switched),
        cmocka_unit_test(an_answer_is_stopped),
        cmocka_unit_test(a_long_history_loses_its_oldest_turns),
        cmocka_unit_test(a_drop_lasts_for_some_turns),
        cmocka_unit_test(a_far_too_long_message_is_refused_at_once),
        cmocka_unit_test(fields_count_as_options),
        cmocka_unit_test(it_is_saved_as_a_row),
        cmocka_unit_test(no_template_no_talk),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
