/* chat/service.c over loopback, with a client of plain sockets: what is served is what `graft generate` says,
 * streamed or whole, alone or beside others, with one adapter or another; who leaves makes room, and stopping
 * cuts answers and says so. */
#include "tests/sanitized.h"
#include "tests/served.h"

/* ------------------------------------------------------------------ answers */

/* A field of an answer's first choice: the text, or another; free. */
static char *field_of(const char *body, const char *field) {
    json_t *root_value = json_loads(body, 0, NULL),
           *choice = json_array_get(json_object_get(root_value, "choices"), 0);
    const json_t *message = json_object_get(choice, "message"),
                 *value = json_object_get(message ? message : choice, field);
    if (!value) value = json_object_get(choice, field);
    char *text = json_is_string(value) ? strdup(json_string_value(value)) : NULL;
    json_decref(root_value);
    return text;
}

/* The pieces of a stream put together; *finish is its reason, or "" (static). Free. */
static char *pieces_of(const char *body, const char **finish) {
    gr_buf text = {0};
    bool done = false;
    gr_buf_puts(&text, "");
    *finish = "";
    for (const char *at = body; (at = strstr(at, "data: ")); at += 6) {
        json_t *event = json_loads(at + 6, JSON_DISABLE_EOF_CHECK, NULL);
        const json_t *choice = json_array_get(json_object_get(event, "choices"), 0),
                     *delta = json_object_get(choice, "delta");
        const char *piece =
            json_string_value(json_object_get(delta ? delta : choice, delta ? "content" : "text"));
        const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
        if (piece) gr_buf_puts(&text, piece);
        if (reason) *finish = !strcmp(reason, "stop") ? "stop" : "length";
        if (!strncmp(at, "data: [DONE]", 12)) done = true;
        json_decref(event);
    }
    assert_true(done);
    return gr_buf_take(&text);
}

static void keep_text(void *user, uint64_t line, const graft_generation *answer) {
    (void)line;
    *(char **)user = strdup(answer->text);
}

/* What generate says to it: several at once (alone: of one alone). Free. */
static char *generated(const char *prompt, const char *path, bool chat, bool alone, const char *const *more) {
    graft_options o;
    graft_error err = {0};
    graft_generation r = {0};
    char *text = NULL, *file = tiny_join(root, "prompts.jsonl"), line[200];
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_GENERATE, (const char *const[]){"model", model, "threads", "1", NULL});
    if (path) tiny_set(&o, GRAFT_VERB_GENERATE, (const char *const[]){"adapter-path", path, NULL});
    if (!chat) tiny_set(&o, GRAFT_VERB_GENERATE, (const char *const[]){"ignore-chat-template", "-", NULL});
    tiny_set(&o, GRAFT_VERB_GENERATE, more);
    snprintf(line, sizeof line, "\"%s\"\n", prompt);
    tiny_write(root, "prompts.jsonl", line);
    tiny_set(&o, GRAFT_VERB_GENERATE,
             alone ? (const char *const[]){"prompt", prompt, NULL}
                   : (const char *const[]){"prompts", file, NULL});
    graft_status st = alone ? graft_generate(&o, NULL, &r, NULL, &err)
                            : graft_generate_batch(&o, NULL, keep_text, &text, &r, &err);
    if (st != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    if (alone) text = strdup(r.text);
    graft_generation_free(&r);
    graft_options_free(&o);
    free(file);
    return text;
}

static void served_is_generated(void **state) {
    (void)state;
    static const char *const names[] = {"base", "one", "two"};
    size_t letters = 0;
    for (int alone = 0; alone < 2; alone++) { /* answers take turns, or go through the model together */
        BEGIN(s, "batch-size", alone ? "3" : "8");
        for (int i = 0; i < 6; i++) {
            const char *path = i % 3 ? adapters[i % 3 - 1] : NULL, *finish;
            char json[300], *whole, *streamed;
            bool chat = i < 3;
            const char *const more[] = {"temp",       "0.7", "top-p", "0.9", "seed", "5",
                                        "max-tokens", "20",  "stop",  "z",   NULL};
            char *want = generated("one two three", path, chat, alone, more);
            for (int stream = 0; stream < 2; stream++) {
                snprintf(json, sizeof json,
                         "{\"model\": \"%s\", %s, \"temperature\": 0.7, \"top_p\": 0.9, \"seed\": 5, "
                         "\"max_tokens\": 20, \"stop\": \"z\", \"stream\": %s}",
                         names[i % 3],
                         chat ? "\"messages\": [{\"role\": \"user\", \"content\": \"one two three\"}]"
                              : "\"prompt\": \"one two three\"",
                         stream ? "true" : "false");
                int status = ask(&s, chat ? "/v1/chat/completions" : "/v1/completions", json,
                                 stream ? &streamed : &whole);
                if (status != 200) fail_msg("%d %s", status, stream ? streamed : whole);
            }
            char *text = field_of(whole, chat ? "content" : "text"),
                 *reason = field_of(whole, "finish_reason"), *pieces = pieces_of(streamed, &finish);
            size_t n = strlen(want); /* up to a NUL, which the server makes U+FFFD */
            assert_memory_equal(text, want, n);
            assert_true(!text[n] || !strncmp(text + n, "\xef\xbf\xbd", 3));
            letters += n;
            assert_string_equal(text, pieces);
            assert_string_equal(reason, finish);
            char *all[] = {whole, streamed, text, reason, pieces, want};
            for (int k = 0; k < 6; k++) free(all[k]);
        }
        graft_serve_result r = end(&s);
        assert_int_equal(r.answers, 12);
    }
    assert_true(letters > 50);
}

/* What is said to it, without a stream; free. */
static char *answer_to(const server *s, const char *fields) {
    char json[300], *body;
    snprintf(json, sizeof json, "{\"prompt\": \"one two three\", \"max_tokens\": 20, %s}", fields);
    int status = ask(s, "/v1/completions", json, &body);
    if (status != 200) fail_msg("%d %s", status, body);
    char *text = field_of(body, "text");
    free(body);
    return text;
}

static void the_usual_adapter_answers_for_the_base(void **state) {
    (void)state;
    static const char *const fields[] = {"\"n\": 1", "\"model\": \"base\"", "\"adapter\": null",
                                         "\"adapter\": \"none\"", "\"model\": \"one\""};
    BEGIN(s, "adapter-path", adapters[0]);
    char *text[5], *body;
    for (int i = 0; i < 5; i++) text[i] = answer_to(&s, fields[i]);
    assert_string_equal(text[0], text[1]);
    assert_string_equal(text[2], text[3]);
    assert_string_equal(text[0], text[4]); /* the same adapter by its name */
    assert_string_not_equal(text[0], text[2]);
    for (int i = 0; i < 5; i++) free(text[i]);
    assert_int_equal(http_ask(s.port, "GET", "/v1/models", "", NULL, &body), 200);
    char *base = strstr(body, "\"base\"");
    assert_true(base && !strstr(base + 1, "\"base\""));
    free(body);
    assert_int_equal(end(&s).answers, 5);
}

/* At a high temperature the tiny model says any bytes: a stream's pieces are characters all the same. */
static void pieces_hold_whole_characters(void **state) {
    (void)state;
    BEGIN(s, NULL);
    const char *finish;
    size_t wide = 0;
    for (int seed = 1; seed <= 3; seed++) {
        char json[300], *whole, *streamed;
        for (int stream = 0; stream < 2; stream++) {
            snprintf(
                json, sizeof json,
                "{\"prompt\": \"a\", \"max_tokens\": 300, \"temperature\": 9, \"seed\": %d, \"stream\": %s}",
                seed, stream ? "true" : "false");
            assert_int_equal(ask(&s, "/v1/completions", json, stream ? &streamed : &whole), 200);
        }
        char *pieces = pieces_of(streamed, &finish);
        char *text = field_of(whole, "text");
        assert_string_equal(text, pieces);
        for (const char *c = text; *c; c++) wide += (*c & 0xe0) == 0xc0; /* of two bytes: no U+FFFD */
        char *all[] = {whole, streamed, text, pieces};
        for (int k = 0; k < 4; k++) free(all[k]);
    }
    assert_true(wide > 3);
    (void)end(&s);
}

/* As OpenAI has it, and not as --top-p 0, which is mlx-lm's word for no limit. */
static void a_top_p_of_nothing_leaves_the_likeliest(void **state) {
    (void)state;
    BEGIN(s, NULL);
    char *text[] = {answer_to(&s, "\"temperature\": 0"), answer_to(&s, "\"temperature\": 2, \"top_p\": 0"),
                    answer_to(&s, "\"temperature\": 2, \"top_p\": 0.0, \"top_k\": 7"),
                    answer_to(&s, "\"temperature\": 2")};
    assert_string_equal(text[0], text[1]);
    assert_string_equal(text[0], text[2]);
    assert_string_not_equal(text[0], text[3]);
    for (int i = 0; i < 4; i++) free(text[i]);
    (void)end(&s);
}

/* With include_usage every piece has the field, null but in the last one. */
static void usage_is_in_every_piece(void **state) {
    (void)state;
    BEGIN(s, NULL);
    for (int asked = 0; asked < 2; asked++) {
        char json[300], *body;
        int pieces = 0, nulls = 0, numbers = 0;
        snprintf(json, sizeof json, "{\"prompt\": \"a\", \"max_tokens\": 3, \"stream\": true%s}",
                 asked ? ", \"stream_options\": {\"include_usage\": true}" : "");
        assert_int_equal(ask(&s, "/v1/completions", json, &body), 200);
        for (const char *at = body; (at = strstr(at, "data: {")); at++, pieces++) {
            json_t *event = json_loads(at + 6, JSON_DISABLE_EOF_CHECK, NULL);
            const json_t *usage = json_object_get(event, "usage");
            nulls += json_is_null(usage);
            numbers += json_integer_value(json_object_get(usage, "completion_tokens")) == 3;
            json_decref(event);
        }
        assert_int_equal(numbers, asked);
        assert_int_equal(nulls, asked ? pieces - 1 : 0);
        assert_true(pieces > 1);
        free(body);
    }
    (void)end(&s);
}

static void no_token_is_no_token(void **state) {
    (void)state;
    BEGIN(s, "max-tokens", "0", "batch-size", *state);
    for (int stream = 0; stream < 2; stream++) {
        char json[200], *body;
        const char *finish;
        snprintf(json, sizeof json, "{\"prompt\": \"a\", \"max_tokens\": 5, \"stream\": %s}",
                 stream ? "true" : "false");
        assert_int_equal(ask(&s, "/v1/completions", json, &body), 200);
        char *text = stream ? pieces_of(body, &finish) : field_of(body, "text"),
             *why = stream ? strdup(finish) : field_of(body, "finish_reason");
        assert_string_equal(text, "");
        assert_string_equal(why, "length");
        assert_true(stream || strstr(body, "\"completion_tokens\":0"));
        free(text);
        free(why);
        free(body);
    }
    graft_serve_result r = end(&s);
    assert_int_equal(r.answers, 2);
    assert_int_equal(r.tokens, 0);
}

static void any_name_is_text(void **state) {
    (void)state;
    char *odd = tiny_join(root, "b\xff"), *body;
    assert_int_equal(symlink(model, odd), 0);
    BEGIN(s, "model", odd);
    assert_int_equal(http_ask(s.port, "GET", "/v1/models", "", NULL, &body), 200);
    assert_non_null(strstr(body, "\"b\xef\xbf\xbd\""));
    free(body);
    (void)end(&s);
    unlink(odd);
    free(odd);
}

/* ------------------------------------------------------------------ many at once */

typedef struct client {
    const server *s;
    pthread_t thread;
    int number;
    char *text[3];
} client;

static void *talk(void *user) {
    client *c = user;
    static const char *const fields[] = {"\"model\": \"one\"", "\"adapter\": \"two\"", "\"adapter\": null"};
    for (int i = 0; i < 3; i++) {
        char json[300], *body = NULL;
        snprintf(json, sizeof json,
                 "{%s, \"messages\": [{\"role\": \"user\", \"content\": \"say %d\"}], \"max_tokens\": 25, "
                 "\"temperature\": 1, \"seed\": 9}",
                 fields[i], c->number / 2);
        int status = ask(c->s, "/v1/chat/completions", json, &body);
        c->text[i] = field_of(body, "content");
        if (!c->text[i]) print_error("%d %s\n", status, body);
        free(body);
    }
    return NULL;
}

static void many_are_as_one(void **state) {
    enum { CLIENTS = 8 };
    BEGIN(s, "batch-size", *state);
    client alone[CLIENTS / 2], many[CLIENTS];
    for (int i = 0; i < CLIENTS / 2; i++) {
        alone[i] = (client){.s = &s, .number = 2 * i};
        talk(&alone[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        many[i] = (client){.s = &s, .number = i};
        pthread_create(&many[i].thread, NULL, talk, &many[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(many[i].thread, NULL);
        for (int k = 0; k < 3; k++) {
            assert_non_null(many[i].text[k]);
            assert_string_equal(many[i].text[k], alone[i / 2].text[k]);
            free(many[i].text[k]);
            if (i % 2) free(alone[i / 2].text[k]);
        }
    }
    graft_serve_result r = end(&s);
    assert_int_equal(r.answers, 3 * (CLIENTS + CLIENTS / 2));
    assert_int_equal(r.refused + r.left, 0);
}

/* ------------------------------------------------------------------ long answers */

/* The base, at temperature 0, goes on until its context is full. */
#define LONG "{\"prompt\": \"a\", \"stream\": true}"

/* Its connection. */
static int send_ask(const server *s, const char *json) {
    gr_buf out = {0};
    int fd = http_connect(s->port);
    gr_buf_printf(&out,
                  "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  "Content-Length: %zu\r\n\r\n%s",
                  strlen(json), json);
    http_write(fd, out.data, out.len);
    gr_buf_free(&out);
    return fd;
}

static int begin_long(const server *s, gr_buf *in) {
    int fd = send_ask(s, LONG);
    while (!in->data || !strstr(in->data, "data: ")) assert_true(http_more(fd, in, 10));
    return fd;
}

static void who_leaves_makes_room(void **state) {
    (void)state;
    BEGIN(s, "batch-size", "1", "max-requests", "1", "max-seq-length", "30000");
    gr_buf in = {0};
    int first = begin_long(&s, &in), second = send_ask(&s, "{\"prompt\": \"a\", \"max_tokens\": 3}");
    usleep(100000); /* it waits */
    char *body;
    assert_int_equal(ask(&s, "/v1/completions", "{\"prompt\": \"a\"}", &body), 429);
    assert_non_null(strstr(body, "queue_full"));
    free(body);
    close(first);
    gr_buf_clear(&in);
    http_read(second, &in); /* .. until the first has left */
    assert_int_equal(http_status_of(&in), 200);
    close(second);
    gr_buf_free(&in);
    graft_serve_result r = end(&s);
    assert_int_equal(r.left, 1);
    assert_int_equal(r.refused, 1);
    assert_int_equal(r.answers, 1);
    assert_true(r.tokens < 29000);
}

static void who_leaves_the_line_makes_room(void **state) {
    (void)state;
    BEGIN(s, "batch-size", "1", "max-requests", "2", "max-seq-length", "30000");
    gr_buf in = {0};
    int first = begin_long(&s, &in), waits[3];
    for (int i = 0; i < 2; i++) waits[i] = send_ask(&s, "{\"prompt\": \"a\"}");
    usleep(100000);
    assert_int_equal(ask(&s, "/v1/completions", "{\"prompt\": \"a\"}", NULL), 429);
    for (int i = 0; i < 2; i++) close(waits[i]);
    usleep(500000); /* the first goes on */
    waits[2] = send_ask(&s, "{\"prompt\": \"a\", \"max_tokens\": 3}");
    usleep(100000);
    close(first);
    gr_buf_clear(&in);
    http_read(waits[2], &in);
    assert_int_equal(http_status_of(&in), 200);
    close(waits[2]);
    gr_buf_free(&in);
    graft_serve_result r = end(&s);
    assert_int_equal(r.left, 3);
    assert_int_equal(r.refused, 1);
    assert_int_equal(r.answers, 1);
    assert_int_equal(r.requests, 5);
}

/* A request whose prompt takes the tiny model half a second, or some under a sanitizer; free. */
static char *long_prompt(void) {
    enum { N = SANITIZED ? 7000 : 29000 };
    char *json = malloc(N + 50);
    int at = sprintf(json, "{\"prompt\": \"");
    memset(json + at, 'x', N); /* a byte is a token */
    strcpy(json + at + N, "\"}");
    return json;
}

static void a_prompt_is_given_up(void **state) {
    bool stops = *state != NULL, streams = stops && !strcmp(*state, "streams"); /* else its client leaves */
    if (stops) grace = 0;
    BEGIN(s, "batch-size", "1", "max-seq-length", "30000");
    char *json = long_prompt();
    if (streams) strcpy(strrchr(json, '}'), ", \"stream\": true}");
    int fd = send_ask(&s, json);
    gr_buf in = {0};
    while (streams && (!in.data || !strstr(in.data, "\r\n\r\n"))) assert_true(http_more(fd, &in, 20));
    for (int i = 0; i < 10; i++) /* by then the server's thread has read what came before, too */
        assert_int_equal(http_ask(s.port, "GET", "/health", "", NULL, NULL), 200);
    grace = 0.3;
    if (!stops) close(fd);
    if (!stops)
        assert_int_equal(ask(&s, "/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 1}", NULL), 200);
    graft_serve_result r = end(&s);
    assert_int_equal(r.left, !stops);
    assert_int_equal(r.refused, stops && !streams);
    assert_int_equal(r.cut, streams);
    assert_int_equal(r.answers, !stops);
    assert_int_equal(r.tokens, !stops);
    if (stops) http_read(fd, &in);
    if (stops) assert_int_equal(http_status_of(&in), streams ? 200 : 503); /* its head was out */
    if (streams) {
        const char *finish;
        char *body = http_body_of(&in), *text = pieces_of(body, &finish);
        assert_string_equal(finish, "length");
        assert_string_equal(text, "");
        free(body);
        free(text);
    }
    if (stops) close(fd);
    gr_buf_free(&in);
    free(json);
}

static void stopping_cuts_answers_and_says_so(void **state) {
    (void)state;
    BEGIN(s, "batch-size", "1", "max-seq-length", "30000");
    gr_buf in = {0};
    const char *finish;
    int fd = begin_long(&s, &in), waits = send_ask(&s, "{\"prompt\": \"a\"}");
    usleep(50000);
    assert_int_equal(http_ask(s.port, "GET", "/health", "", NULL, NULL), 200);
    __atomic_store_n(&s.stop, 1, __ATOMIC_RELAXED);
    usleep(100000);
    assert_int_equal(http_ask(s.port, "GET", "/health", "", NULL, NULL), 503);
    http_read(fd, &in);
    char *body = http_body_of(&in), *text = pieces_of(body, &finish); /* [DONE] is there */
    assert_string_equal(finish, "length");
    assert_true(strlen(text) > 0);
    gr_buf_clear(&in);
    http_read(waits, &in);
    assert_int_equal(http_status_of(&in), 503);
    free(body);
    free(text);
    gr_buf_free(&in);
    close(fd);
    close(waits);
    graft_serve_result r = end(&s);
    assert_int_equal(r.refused, 1);
    assert_int_equal(r.cut, 1);
    assert_int_equal(r.requests, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(served_is_generated),
        cmocka_unit_test(the_usual_adapter_answers_for_the_base),
        cmocka_unit_test(pieces_hold_whole_characters),
        cmocka_unit_test(a_top_p_of_nothing_leaves_the_likeliest),
        cmocka_unit_test(usage_is_in_every_piece),
        cmocka_unit_test_prestate(no_token_is_no_token, "3"),
        cmocka_unit_test_prestate(no_token_is_no_token, "8"),
        cmocka_unit_test(any_name_is_text),
        cmocka_unit_test_prestate(many_are_as_one, "3"),
        cmocka_unit_test_prestate(many_are_as_one, "8"),
        cmocka_unit_test(who_leaves_makes_room),
        cmocka_unit_test(who_leaves_the_line_makes_room),
        cmocka_unit_test_prestate(a_prompt_is_given_up, NULL),
        cmocka_unit_test_prestate(a_prompt_is_given_up, "stops"),
        cmocka_unit_test_prestate(a_prompt_is_given_up, "streams"),
        cmocka_unit_test(stopping_cuts_answers_and_says_so),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
