/* talk/service.c over loopback, with a client of plain sockets: what is served is what `graft generate` says,
 * streamed or whole, alone or beside others, with one adapter or another; whatever a client does, the server
 * answers the next one. */
#include "tests/tiny_dir.h"

#include "http_client.h"
#include "serve/http.h"
#include "talk/talk.h"
#include <pthread.h>

static char *root, *model, *data, *adapters[2];

static int setup(void **state) {
    (void)state;
    root = tiny_temp();
    model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    data = tiny_data_dir(root, "data", 40, 9);
    for (int i = 0; i < 2; i++) {
        graft_options o;
        graft_error err = {0};
        adapters[i] = tiny_join(root, i ? "two" : "one");
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_TRAIN,
                 (const char *const[]){"model", model, "data", data, "adapter-path", adapters[i], "iters",
                                       i ? "12" : "30", "lora-rank", i ? "2" : "4", "lora-targets",
                                       i ? "standard" : "full", "learning-rate", "2e-2", "threads", "1",
                                       NULL});
        if (graft_train(&o, NULL, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
        graft_options_free(&o);
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(data);
    for (int i = 0; i < 2; i++) tiny_remove(adapters[i]);
    tiny_remove(model);
    tiny_remove(root);
    return 0;
}

/* ------------------------------------------------------------------ a server in a thread */

typedef struct server {
    graft_options o;
    pthread_t thread;
    volatile int stop;
    int port; /* atomic; 0: not yet */
    graft_status status;
    graft_serve_result result;
    graft_error err;
    double grace;
} server;

static void on_ready(void *user, int port) {
    __atomic_store_n(&((server *)user)->port, port, __ATOMIC_RELEASE);
}

static void *serve(void *user) {
    server *s = user;
    const graft_hooks hooks = {.stop = &s->stop};
    s->status = gr_service_run(model, &s->o, &hooks, on_ready, s, s->grace, &s->result, &s->err);
    if (!s->port) on_ready(s, -1);
    return NULL;
}

static bool begin(server *s, const char *const *more) {
    char one[600], two[600];
    *s = (server){.grace = 0.3};
    snprintf(one, sizeof one, "one=%s", adapters[0]);
    snprintf(two, sizeof two, "two=%s", adapters[1]);
    graft_options_init(&s->o);
    tiny_set(&s->o, GRAFT_VERB_SERVE,
             (const char *const[]){"model", model, "port", "0", "threads", "2", "adapter", one, "adapter",
                                   two, "max-seq-length", "400", NULL});
    if (more) tiny_set(&s->o, GRAFT_VERB_SERVE, more);
    pthread_create(&s->thread, NULL, serve, s);
    while (!__atomic_load_n(&s->port, __ATOMIC_ACQUIRE)) usleep(1000);
    if (s->port > 0) return true;
    pthread_join(s->thread, NULL);
    if (s->status != GRAFT_UNSUPPORTED) fail_msg("%s %s", s->err.what, s->err.found);
    graft_options_free(&s->o); /* built without libmicrohttpd */
    return false;
}

static graft_serve_result end(server *s) {
    __atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
    pthread_join(s->thread, NULL);
    assert_int_equal(s->status, GRAFT_OK);
    graft_options_free(&s->o);
    return s->result;
}

#define BEGIN(s, ...)                                                                                        \
    server s;                                                                                                \
    if (!begin(&s, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})) skip()

static int ask(const server *s, const char *path, const char *json, char **body) {
    return http_ask(s->port, "POST", path, "", json, body);
}

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

/* ------------------------------------------------------------------ what is refused */

static void what_is_wrong_is_named(void **state) {
    (void)state;
#define USER "\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]"
    static const struct {
        const char *json;
        int status;
        const char *words;
    } bad[] = {
        {"", 400, "not JSON"},
        {"{\"messages\"", 400, "not JSON"},
        {"[]", 400, "no JSON object"},
        {"{}", 400, "messages is missing"},
        {"{\"messages\": []}", 400, "messages is missing"},
        {"{\"messages\": [1]}", 400, "the role of message 0 is missing"},
        {"{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}", 400, "the role of message 0 is tool"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": 7}]}", 400, "the content of message 0"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}", 400,
         "image_url"},
        {"{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [1]}]}", 400, "tool_calls"},
        {"{" USER ", \"messages\": []}", 400, "duplicate"},
        {"{" USER ", \"temprature\": 1}", 400, "unknown request field: temprature"},
        {"{" USER ", \"temperature\": \"hot\"}", 400, "temperature is a string"},
        {"{" USER ", \"temperature\": -1}", 400, "temperature is -1, expected 0 to"},
        {"{" USER ", \"top_p\": 1.5}", 400, "top_p"},
        {"{" USER ", \"max_tokens\": 0}", 400, "max_tokens"},
        {"{" USER ", \"max_tokens\": 1.5}", 400, "an integer"},
        {"{" USER ", \"max_tokens\": 99999999999999999999}", 400, "not JSON"},
        {"{" USER ", \"n\": 2}", 400, "n is not supported"},
        {"{" USER ", \"logprobs\": true}", 400, "logprobs is not supported"},
        {"{" USER ", \"tools\": [{}]}", 400, "tools is not supported"},
        {"{" USER ", \"response_format\": {\"type\": \"json_object\"}}", 400, "response_format"},
        {"{" USER ", \"presence_penalty\": 0.5}", 400, "presence_penalty"},
        {"{" USER ", \"stop\": [\"\"]}", 400, "stop"},
        {"{" USER ", \"stop\": 3}", 400, "stop"},
        {"{" USER ", \"seed\": \"x\"}", 400, "seed"},
        {"{" USER ", \"stream\": 1}", 400, "stream"},
        {"{" USER ", \"stream_options\": {\"include_usage\": true}}", 400, "without stream"},
        {"{" USER ", \"stream\": true, \"stream_options\": {\"x\": true}}", 400, "stream_options"},
        {"{" USER ", \"model\": \"three\"}", 404, "no such model: three"},
        {"{" USER ", \"adapter\": \"three\"}", 404, "no such adapter: three"},
        {"{" USER ", \"adapter\": 3}", 400, "adapter"},
        {"{" USER ", \"user\": \"u\", \"n\": 1, \"logprobs\": false, \"tools\": [], \"logit_bias\": {}, "
         "\"response_format\": {\"type\": \"text\"}, \"frequency_penalty\": 0, \"max_completion_tokens\": 1}",
         200, "content"},
        {"{\"messages\": [{\"role\": \"developer\", \"content\": \"a\", \"name\": \"x\"}, {\"role\": "
         "\"user\", "
         "\"content\": [{\"type\": \"text\", \"text\": \"b\"}]}], \"max_tokens\": 1}",
         200, "content"},
    };
    BEGIN(s, "max-body", "2000");
    char *body, longer[1200] = "", prompt[1000] = "";
    int64_t refused = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int status = ask(&s, "/v1/chat/completions", bad[i].json, &body);
        if (status != bad[i].status || !strstr(body, bad[i].words))
            fail_msg("%s gave %d %s", bad[i].json, status, body);
        refused += status != 200;
        free(body);
    }
    memset(prompt, 'x', 900); /* a byte is a token */
    snprintf(longer, sizeof longer, "{\"prompt\": \"%s\"}", prompt);
    assert_int_equal(ask(&s, "/v1/completions", longer, &body), 400);
    assert_non_null(strstr(body, "context_length_exceeded"));
    free(body);
    assert_int_equal(ask(&s, "/v1/completions", "{\"prompt\": [1, 2]}", NULL), 400);
    assert_int_equal(ask(&s, "/v1/completions", "{\"prompt\": [\"a\", \"b\"]}", NULL), 400);
    assert_int_equal(ask(&s, "/v1/completions", "{\"prompt\": \"a\", \"logprobs\": 0}", NULL), 400);
    assert_int_equal(ask(&s, "/v1/completions", "{\"prompt\": \"\"}", &body), 400);
    assert_non_null(strstr(body, "no tokens"));
    free(body);
    char *huge = malloc(3001);
    memset(huge, ' ', 3000);
    huge[3000] = 0;
    assert_int_equal(ask(&s, "/v1/completions", huge, NULL), 413);
    free(huge);
    assert_int_equal(http_ask(s.port, "GET", "/v1/chat/completions", "", NULL, NULL), 405);
    assert_int_equal(http_ask(s.port, "GET", "/", "", NULL, NULL), 404);
    assert_int_equal(http_ask(s.port, "GET", "/v1/models/two", "", NULL, NULL), 200);
    assert_int_equal(http_ask(s.port, "GET", "/v1/models/three", "", NULL, NULL), 404);
    assert_int_equal(http_ask(s.port, "GET", "/v1/models", "", NULL, &body), 200);
    assert_true(strstr(body, "\"base\"") && strstr(body, "\"one\"") && strstr(body, "\"two\""));
    free(body);
    static const char form[] = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n"
                               "Content-Type: text/plain\r\n\r\n{\"prompt\": \"a\"}  ";
    assert_int_equal(http_say(s.port, form, sizeof form - 1, NULL), 415);
    assert_int_equal(ask(&s, "/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 2}", NULL), 200);
    graft_serve_result r = end(&s);
    assert_int_equal(r.refused, refused + 6);
    assert_int_equal(r.answers, 3);
}

static void a_key_is_asked_for(void **state) {
    (void)state;
    static const char *const wrong[] = {"",
                                        "Authorization: Bearer wrong\r\n",
                                        "Authorization: Bearer secre\r\n",
                                        "Authorization: Bearer secrets\r\n",
                                        "Authorization: Bearer \r\n",
                                        "Authorization: Basic secret\r\n"};
    static const char json[] = "{\"prompt\": \"a\", \"max_tokens\": 2}";
    BEGIN(s, "api-key", "secret");
    char *body;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(http_ask(s.port, "POST", "/v1/completions", wrong[i], json, &body), 401);
        assert_null(strstr(body, "secret"));
        assert_non_null(strstr(body, "invalid_api_key"));
        free(body);
        assert_int_equal(http_ask(s.port, "GET", "/v1/models", wrong[i], NULL, NULL), 401);
    }
    assert_int_equal(http_ask(s.port, "GET", "/health", "", NULL, NULL), 200);
    assert_int_equal(
        http_ask(s.port, "POST", "/v1/completions", "Authorization: Bearer secret\r\n", json, NULL), 200);
    char *text = graft_options_text(&s.o, GRAFT_VERB_SERVE);
    assert_null(strstr(text, "secret"));
    free(text);
    assert_int_equal(end(&s).answers, 1);
}

/* ------------------------------------------------------------------ long answers */

/* The base, at temperature 0, goes on until its context is full. */
#define LONG "{\"prompt\": \"a\", \"stream\": true}"

static int begin_long(const server *s, gr_buf *in) {
    gr_buf out = {0};
    int fd = http_connect(s->port);
    gr_buf_printf(&out,
                  "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  "Content-Length: %zu\r\n\r\n" LONG,
                  sizeof LONG - 1);
    http_write(fd, out.data, out.len);
    gr_buf_free(&out);
    while (!in->data || !strstr(in->data, "data: ")) assert_true(http_more(fd, in, 10));
    return fd;
}

static void who_leaves_makes_room(void **state) {
    (void)state;
    BEGIN(s, "batch-size", "1", "max-requests", "1", "max-seq-length", "30000");
    gr_buf in = {0};
    int first = begin_long(&s, &in), second = http_connect(s.port);
    static const char whole[] =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 32\r\n\r\n{\"prompt\": \"a\", \"max_tokens\": 3} ";
    http_write(second, whole, sizeof whole - 1);
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

static void stopping_cuts_answers_and_says_so(void **state) {
    (void)state;
    BEGIN(s, "batch-size", "1", "max-seq-length", "30000");
    gr_buf in = {0};
    const char *finish;
    int fd = begin_long(&s, &in), waits = http_connect(s.port);
    static const char whole[] =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 15\r\n\r\n{\"prompt\": \"a\"}";
    http_write(waits, whole, sizeof whole - 1);
    usleep(50000);
    __atomic_store_n(&s.stop, 1, __ATOMIC_RELAXED);
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
    assert_int_equal(end(&s).refused, 1);
}

static void what_cannot_be_opened_is_named(void **state) {
    (void)state;
    static const struct {
        const char *option, *value, *words;
        graft_status status;
    } bad[] = {
        {"adapter", "nowhere", "--adapter has no name, or no path", GRAFT_USAGE},
        {"adapter", "=x", "--adapter has no name, or no path", GRAFT_USAGE},
        {"adapter", "one=x", "an adapter's name is taken", GRAFT_USAGE},
        {"adapter", "base=x", "an adapter's name is taken", GRAFT_USAGE},
        {"adapter", "three=nowhere", "no such adapter", GRAFT_NOT_FOUND},
        {"api-key", "two words", "the API key is not one word of ASCII", GRAFT_USAGE},
        {"api-key", "", "the API key is not one word of ASCII", GRAFT_USAGE},
        {"batch-size", "1000", "too many answers at once", GRAFT_USAGE},
        {"host", "192.0.2.1", "cannot listen", GRAFT_IO},
        {"port", NULL, "the port is in use", GRAFT_IO},
    };
    BEGIN(s, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char one[600], port[20];
        server other = {0};
        snprintf(one, sizeof one, "one=%s", adapters[0]);
        snprintf(port, sizeof port, "%d", s.port);
        graft_options_init(&other.o);
        tiny_set(&other.o, GRAFT_VERB_SERVE,
                 (const char *const[]){"model", model, "port", "0", "adapter", one, bad[i].option,
                                       bad[i].value ? bad[i].value : port, NULL});
        graft_status st = graft_serve(&other.o, NULL, NULL, NULL, NULL, &other.err);
        if (st != bad[i].status || strcmp(other.err.what, bad[i].words) != 0)
            fail_msg("%s %s: %d %s", bad[i].option, bad[i].value, st, other.err.what);
        graft_options_free(&other.o);
    }
    (void)end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(served_is_generated),
        cmocka_unit_test_prestate(many_are_as_one, "3"),
        cmocka_unit_test_prestate(many_are_as_one, "8"),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(a_key_is_asked_for),
        cmocka_unit_test(who_leaves_makes_room),
        cmocka_unit_test(stopping_cuts_answers_and_says_so),
        cmocka_unit_test(what_cannot_be_opened_is_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
