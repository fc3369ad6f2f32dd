/* infer/answer.c on tokens of every kind of decoder: what is sent while an answer grows is whole characters
 * and never taken back, is the answer in the end, and takes no longer for being long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/os.h"
#include "files/json_read.h"
#include "infer/answer.h"
#include "tests/hostile.h"
#include <cmocka.h>

static const char *const names[] = {"bytes",  "fallback", "metaspace",     "words",
                                    "splits", "unigram",  "unigram_bytes", "gemma"};
enum { NAMES = sizeof names / sizeof *names };

/* tests/data's tokenizer of that name; decoder (JSON, may be NULL) stands in place of its own; it has that
 * token (may be NULL), too. */
static gr_tokenizer *tokenizer_with(const char *name, const char *decoder, const char *token) {
    gr_tokenizer *tok;
    graft_error err = {0};
    char path[300];
    snprintf(path, sizeof path, GRAFT_SOURCE_DIR "/tests/data/tokenizer_%s.json", name);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    if (decoder) json_object_set_new(root, "decoder", json_loads(decoder, 0, NULL));
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    if (token) json_object_set_new(vocab, token, json_integer((json_int_t)json_object_size(vocab)));
    char *text = json_dumps(root, 0);
    if (gr_tokenizer_from_json(&tok, text, strlen(text), NULL, 0, name, &err)) fail_msg("%s", err.what);
    json_decref(root);
    free(text);
    return tok;
}

static gr_tokenizer *tokenizer(const char *name, const char *decoder) {
    return tokenizer_with(name, decoder, NULL);
}

/* An answer whose tokens the test says. */
typedef struct told {
    gr_model model; /* its vocabulary alone */
    graft_options o;
    graft_hooks hooks;
    gr_session s;
    gr_answer answer;
    float *logits;
    gr_buf sent;
} told;

static void on_event(void *user, const graft_event *e) {
    told *t = user;
    if (e->kind == GRAFT_EVENT_TEXT) gr_buf_add(&t->sent, e->text, (size_t)e->done);
}

static void begin(told *t, gr_tokenizer *tok, int64_t most, const char *stop) {
    static int32_t first = 1;
    graft_error err = {0};
    *t = (told){0};
    t->model.config.vocab = gr_tokenizer_vocab_size(tok);
    t->o.max_tokens = most;
    t->o.stop = (char *)(uintptr_t)stop;
    t->hooks = (graft_hooks){.user = t, .event = on_event};
    t->s = (gr_session){.o = &t->o, .hooks = &t->hooks, .tok = tok, .rt = {.model = &t->model}};
    t->logits = gr_calloc((size_t)t->model.config.vocab, sizeof *t->logits);
    assert_int_equal(gr_answer_init(&t->answer, &t->s, &(gr_ids){.ids = &first, .count = 1}, true, &err),
                     GRAFT_OK);
}

/* True when the answer is over. */
static bool add(told *t, int32_t id) {
    graft_error err = {0};
    bool over;
    int32_t got;
    t->logits[id] = 1;
    if (gr_answer_next(&t->answer, &t->s, t->logits, &got, &over, &err) != GRAFT_OK) fail_msg("%s", err.what);
    t->logits[id] = 0;
    assert_int_equal(got, id);
    return over;
}

static char *end(told *t) {
    graft_error err = {0};
    char *text;
    assert_int_equal(gr_answer_text(&t->answer, &text, &err), GRAFT_OK);
    gr_answer_free(&t->answer);
    gr_buf_free(&t->sent);
    free(t->logits);
    return text;
}

static uint32_t random_next(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* Any id, or the next of a character's byte tokens, where there are such. */
static int32_t some_id(const gr_tokenizer *tok, uint32_t *state, size_t *byte) {
    static const char text[] = "\xe7\x81\xaf \xf0\x9f\x90\x8d\xc3\xa4"
                               "ab\xe3\x81\x82";
    char name[8];
    uint32_t r = random_next(state);
    snprintf(name, sizeof name, "<0x%02X>", (unsigned char)text[*byte % (sizeof text - 1)]);
    int32_t id = gr_tokenizer_id(tok, name);
    if (id >= 0 && r % 8) {
        *byte += r % 50 ? 1 : 2; /* not all of them come */
        return id;
    }
    return (int32_t)(random_next(state) % (uint32_t)gr_tokenizer_vocab_size(tok));
}

static void what_is_sent_is_the_answer(void **state) {
    (void)state;
    size_t early = 0;
    for (int n = 0; n < NAMES; n++) {
        gr_tokenizer *tok = tokenizer(names[n], NULL);
        for (uint32_t seed = 1; seed <= 12; seed++) {
            told t;
            uint32_t random = seed;
            size_t byte = seed;
            gr_ids ids = {0};
            gr_buf want = {0};
            graft_error err = {0};
            begin(&t, tok, 150, seed % 3 ? NULL : "[\"\xe3\x81\x82\"]");
            for (bool over = false; !over;) {
                int32_t id = some_id(tok, &random, &byte);
                if (gr_tokenizer_is_stop(tok, id)) continue;
                assert_true(gr_ids_push(&ids, id));
                over = add(&t, id);
                if (!over) early += t.sent.len;
                if (!t.sent.len || gr_json_utf8(t.sent.data)) continue;
                fail_msg("%s, seed %u: half a character was sent after %zu tokens", names[n], seed,
                         ids.count);
            }
            gr_buf sent = t.sent;
            t.sent = (gr_buf){0};
            char *text = end(&t);
            assert_int_equal(gr_tokenizer_decode(tok, ids.ids, ids.count, true, &want, &err), GRAFT_OK);
            gr_buf_puts(&want, "");
            if (strcmp(text, sent.data ? sent.data : "") != 0)
                fail_msg("%s: %s\n%s", names[n], text, sent.data);
            if (seed % 3 ? strcmp(text, want.data) != 0 : strncmp(text, want.data, strlen(text)) != 0)
                fail_msg("%s, seed %u: %s\n%s", names[n], seed, text, want.data);
            gr_buf_free(&sent);
            gr_buf_free(&want);
            gr_ids_free(&ids);
            free(text);
        }
        gr_tokenizer_free(tok);
    }
    assert_true(early > 0);
}

/* A byte that follows makes text that was whole into U+FFFD for each of its bytes: it is not sent before. */
static void bytes_wait_for_the_end_of_their_run(void **state) {
    (void)state;
    static const char *const spelled[] = {"<0xC3>", "<0xA4>", "<0xE2>", "a"};
    static const char lost[] = "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\x61"; /* and an a */
    const char *const sent[] = {"", "", "", lost};
    gr_tokenizer *tok = tokenizer("fallback", NULL);
    told t;
    begin(&t, tok, 9, NULL);
    for (int i = 0; i < 4; i++) {
        assert_false(add(&t, gr_tokenizer_id(tok, spelled[i])));
        assert_string_equal(t.sent.data ? t.sent.data : "", sent[i]);
    }
    char *text = end(&t);
    assert_string_equal(text, sent[3]);
    free(text);
    gr_tokenizer_free(tok);
}

/* A byte may get its name only behind the vocabulary. */
static void bytes_wait_under_another_name(void **state) {
    (void)state;
    static const char decoder[] =
        "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Strip\", \"content\": "
        "\"a\", \"start\": 1, \"stop\": 0}, {\"type\": \"ByteFallback\"}]}";
    static const char *const spelled[] = {"b", "a<0xC3>", "<0xA4>", "b"};
    const char *const sent[] = {"b", "b", "b", "b\xc3\xa4\x62"};
    gr_tokenizer *tok = tokenizer_with("fallback", decoder, spelled[1]);
    told t;
    begin(&t, tok, 9, NULL);
    for (int i = 0; i < 4; i++) {
        assert_false(add(&t, gr_tokenizer_id(tok, spelled[i])));
        assert_string_equal(t.sent.data ? t.sent.data : "", sent[i]);
    }
    free(end(&t));
    gr_tokenizer_free(tok);
}

/* A stop text ends the answer when it is there, were it of bytes that a next one could have changed; in those
 * it is looked for anew when they did. */
static void bytes_may_end_it(void **state) {
    (void)state;
    static const struct {
        const char *tokens[5], *stop, *text;
        int ends; /* at which token */
    } cases[] = {{{"a", "<0x0A>", NULL}, "[\"\\n\"]", "a", 1},
                 {{"a", "<0x0A>", "<0xC3>", "b", NULL}, "[\"\\n\"]", "a", 1},
                 {{"<0x0A>", "<0xC3>", "a", NULL},
                  "[\"\xef\xbf\xbd"
                  "a\"]",
                  "\xef\xbf\xbd",
                  2},
                 {{"<0xC3>", "<0xA4>", "<0xC3>", "a", NULL},
                  "[\"\xef\xbf\xbd"
                  "a\"]",
                  "\xef\xbf\xbd\xef\xbf\xbd",
                  3}};
    gr_tokenizer *tok = tokenizer("fallback", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        told t;
        int at = 0;
        begin(&t, tok, 9, cases[i].stop);
        while (!add(&t, gr_tokenizer_id(tok, cases[i].tokens[at]))) assert_non_null(cases[i].tokens[++at]);
        assert_int_equal(at, cases[i].ends);
        assert_string_equal(t.sent.data ? t.sent.data : "", cases[i].text);
        char *text = end(&t);
        assert_string_equal(text, cases[i].text);
        free(text);
    }
    gr_tokenizer_free(tok);
}

/* Decoders that only look at tokens one by one, or at the text's beginning, go on where they were; of the
 * rest all is decoded again. */
static void long_answers_take_their_time(void **state) {
    (void)state;
    static const char *const decoders[] = {
        NULL,
        "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": "
        "\"b\","
        " \"start\": 2, \"stop\": 0}]}",
        "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": "
        "\"b\","
        " \"start\": 0, \"stop\": 1}]}",
        "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": \"Replace\", \"pattern\": "
        "{\"String\": \"ab\"}, \"content\": \"a\"}]}",
    };
    double most = SANITIZED || getenv("GRAFT_EMULATED") ? 40 : 10;
    for (int n = 0; n < 2 * NAMES + 6; n++) {
        const char *decoder = n < 2 * NAMES ? NULL : decoders[1 + (n - 2 * NAMES) / 2];
        const char *name = decoder ? "splits" : names[n / 2];
        bool slow = decoder && n >= 2 * NAMES + 2;
        size_t count = slow ? 300 : 20000;
        gr_tokenizer *tok = tokenizer(name, decoder);
        int32_t id[2] = {gr_tokenizer_id(tok, n % 2 ? "b" : "a"), gr_tokenizer_id(tok, n % 2 ? "a" : "b")};
        gr_ids ids = {0};
        gr_buf want = {0};
        graft_error err = {0};
        told t;
        for (int i = 0; i < 2; i++)
            if (id[i] < 0) id[i] = 5 + i;
        begin(&t, tok, (int64_t)count, NULL);
        double start = hostile_clock();
        for (size_t i = 0; i < count; i++) {
            assert_true(gr_ids_push(&ids, id[i % 2]));
            assert_int_equal(add(&t, id[i % 2]), i + 1 == count);
        }
        double seconds = hostile_clock() - start; /* of all again at each token: a minute */
        if (seconds > most) fail_msg("%s: %.1f s", name, seconds);
        char *text = end(&t);
        assert_int_equal(gr_tokenizer_decode(tok, ids.ids, ids.count, true, &want, &err), GRAFT_OK);
        gr_buf_puts(&want, "");
        if (strcmp(text, want.data) != 0) fail_msg("%s %s: %.300s\n%.300s", name, decoder, text, want.data);
        free(text);
        gr_buf_free(&want);
        gr_ids_free(&ids);
        gr_tokenizer_free(tok);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_wait_for_the_end_of_their_run),
        cmocka_unit_test(bytes_wait_under_another_name),
        cmocka_unit_test(bytes_may_end_it),
        cmocka_unit_test(what_is_sent_is_the_answer),
        cmocka_unit_test(long_answers_take_their_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
