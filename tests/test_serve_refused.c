/* chat/service.c over loopback: what is wrong with a request is named, a key is asked for, what cannot be
 * opened is an error; whatever a client says, the server answers the next one. */
#include "tests/served.h"

#include "chat/service.h"

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
        {"{" USER ", \"max_tokens\": 3, \"max_completion_tokens\": 3}", 400, "say one of them"},
        {"{" USER ", \"logprobs\": -1}", 400, "logprobs is not supported"},
        {"{" USER ", \"logit_bias\": \"auto\"}", 400, "logit_bias is not supported"},
        {"{" USER ", \"response_format\": {}}", 400, "response_format is not supported"},
        {"{" USER ", \"tools\": 0}", 400, "tools is not supported"},
        {"{" USER ", \"max_tokens\": 2000000000}", 400, "expected 1 to"},
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
        {"{" USER ", \"stream\": true, \"stream_options\": {\"include_obfuscation\": true}}", 400,
         "\"param\":\"stream_options\""},
        {"{" USER ", \"stream\": true, \"stream_options\": {\"include_usage\": 1}}", 400, "true or false"},
        {"{" USER ", \"stream\": true, \"stream_options\": 1}", 400, "expected an object"},
        {"{" USER ", \"temprature\": 1}", 400, "\"param\":\"temprature\""},
        {"{" USER ", \"reasoning_effort\": \"high\"}", 400, "\"param\":\"reasoning_effort\""},
        {"{" USER ", \"verbosity\": \"low\"}", 400, "\"param\":\"verbosity\""},
        {"{" USER ", \"modalities\": [\"text\", \"audio\"]}", 400, "\"param\":\"modalities\""},
        {"{" USER ", \"audio\": {}}", 400, "\"param\":\"audio\""},
        {"{" USER ", \"prediction\": {}}", 400, "\"param\":\"prediction\""},
        {"{" USER ", \"web_search_options\": {}}", 400, "\"param\":\"web_search_options\""},
        {"{" USER ", \"prompt\": \"a\"}", 400, "prompt is no field of this path"},
        {"{" USER ", \"model\": \"three\"}", 404, "no such model: three"},
        {"{" USER ", \"adapter\": \"three\"}", 404, "no such adapter: three"},
        {"{" USER ", \"adapter\": 3}", 400, "adapter"},
        {"{" USER ", \"user\": \"u\", \"n\": 1, \"logprobs\": false, \"tools\": [], \"logit_bias\": {}, "
         "\"response_format\": {\"type\": \"text\"}, \"frequency_penalty\": 0.0, \"tool_choice\": \"auto\", "
         "\"service_tier\": \"default\", \"store\": null, \"max_completion_tokens\": 1}",
         200, "content"},
        {"{" USER ", \"reasoning_effort\": \"none\", \"verbosity\": \"medium\", \"modalities\": [\"text\"], "
         "\"audio\": null, \"prediction\": null, \"web_search_options\": null, \"prompt\": null, "
         "\"echo\": null, \"stream_options\": {\"include_obfuscation\": false, \"include_usage\": null}, "
         "\"stream\": true, \"max_tokens\": 1}",
         200, "[DONE]"},
        {"{" USER ", \"reasoning_effort\": null, \"verbosity\": null, \"modalities\": null, "
         "\"stream_options\": null, \"max_tokens\": 1}",
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
    memset(prompt, 's', sizeof prompt);
    strcpy(prompt + 990, "");
    snprintf(longer, sizeof longer, "{\"prompt\": \"a\", \"stop\": \"%s%s\"}", prompt,
             "0123456789012345678901234567890123456789");
    assert_int_equal(ask(&s, "/v1/completions", longer, &body), 400);
    assert_non_null(strstr(body, "longer than 1024 bytes"));
    free(body);
    assert_int_equal(ask(&s, "/v1/completions", "{\"prompt\": \"a\", \"suffix\": \"text\"}", NULL), 400);
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
    assert_int_equal(r.refused, refused + 8);
    assert_int_equal(r.answers, 5);
}

static void far_too_long_is_not_even_read(void **state) {
    (void)state;
    BEGIN(s, "max-seq-length", "20");
    char *body, json[20000], *at = json + sprintf(json, "{\"prompt\": \"");
    memset(at, 'x', 19000);
    strcpy(at + 19000, "\"}");
    assert_int_equal(ask(&s, "/v1/completions", json, &body), 400);
    assert_non_null(strstr(body, "19000 bytes are more, whatever they say"));
    assert_non_null(strstr(body, "context_length_exceeded"));
    free(body);
    char *many = malloc(2000020); /* a tree of 192 MB */
    memset(many, ',', 2000020);
    for (int i = 0; i < 2000000; i += 2) many[i] = '1';
    memcpy(many, "{\"prompt\":[", 11);
    strcpy(many + 2000001, "1]}");
    assert_int_equal(ask(&s, "/v1/completions", many, &body), 400);
    assert_non_null(strstr(body, "too many values"));
    free(body);
    free(many);
    assert_int_equal(end(&s).refused, 2);
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
    static const char large[] =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    assert_int_equal(http_say(s.port, large, sizeof large - 1, NULL), 401); /* its body never comes */
    static const char twice[] =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd"
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    gr_buf in = {0};
    int fd = http_connect(s.port);
    http_write(fd, twice, sizeof twice - 1);
    while (http_more(fd, &in, 5)) continue;
    assert_int_equal(http_status_of(&in), 401);
    assert_non_null(strstr(in.data, "{\"status\":\"ok\"}")); /* a little is let in: the connection goes on */
    gr_buf_free(&in);
    close(fd);
    assert_int_equal(http_ask(s.port, "GET", "/health", "", NULL, NULL), 200);
    assert_int_equal(
        http_ask(s.port, "POST", "/v1/completions", "Authorization: Bearer secret\r\n", json, NULL), 200);
    char *text = graft_options_text(&s.o, GRAFT_VERB_SERVE);
    assert_null(strstr(text, "secret"));
    free(text);
    assert_int_equal(end(&s).answers, 1);
}

/* What the HTTP server itself refuses is OpenAI's document, too; a proxy's name is let in where it is given.
 */
static void names_and_lengths_are_documents(void **state) {
    (void)state;
    BEGIN(s, "allow-host", "models.example.org", "allow-host", "[2001:db8::1]", "max-body", "2000");
    static const struct {
        const char *host;
        int status;
    } hosts[] = {{"models.example.org", 200}, {"MODELS.example.org:443", 200},
                 {"[2001:db8::1]:80", 200},   {"models.example.org.", 403},
                 {"example.org", 403},        {"localhost:1", 200}};
    char text[300], *body;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        int n = snprintf(text, sizeof text, "GET /health HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i].host);
        assert_int_equal(http_say(s.port, text, (size_t)n, &body), hosts[i].status);
        if (hosts[i].status == 403) {
            json_t *root_value = json_loads(body, 0, NULL);
            const json_t *error = json_object_get(root_value, "error");
            assert_string_equal(json_string_value(json_object_get(error, "code")), "host_not_allowed");
            assert_non_null(strstr(json_string_value(json_object_get(error, "message")), "--allow-host"));
            json_decref(root_value);
        }
        free(body);
    }
    char *huge = malloc(100001);
    for (int i = 0; i < 2; i++) {
        size_t n = i ? 100000 : 3000;
        memset(huge, ' ', n);
        huge[n] = 0;
        assert_int_equal(ask(&s, "/v1/completions", huge, &body), 413);
        assert_non_null(strstr(body, "\"code\":\"request_too_large\""));
        free(body);
    }
    free(huge);
    (void)end(&s);
}

/* Who is in the middle of sending a body in chunks gets to read why it is refused. */
static void chunks_are_let_in_at_the_door(void **state) {
    (void)state;
    BEGIN(s, "api-key", "secret", "max-body", "100000");
    gr_buf out = {0}, in = {0};
    gr_buf_puts(&out,
                "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 20; i++) gr_buf_printf(&out, "3e8\r\n%01000d\r\n", 1);
    size_t open = out.len;
    gr_buf_puts(&out, "0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    int fd = http_connect(s.port);
    http_write(fd, out.data, out.len);
    while (http_more(fd, &in, 5)) continue;
    assert_int_equal(http_status_of(&in), 401);
    assert_non_null(strstr(in.data, "{\"status\":\"ok\"}"));
    close(fd);
    gr_buf_clear(&in);
    out.len = open; /* nor do many of them hide it */
    for (int i = 0; i < 200; i++) gr_buf_printf(&out, "3e8\r\n%01000d\r\n", 1);
    open = out.len;
    gr_buf_puts(&out, "0\r\n\r\n");
    assert_int_equal(http_say(s.port, out.data, out.len, NULL), 401);
    out.len = open; /* but not without an end */
    for (int i = 0; i < 200; i++) gr_buf_printf(&out, "3e8\r\n%01000d\r\n", 1);
    fd = http_connect(s.port);
    http_write(fd, out.data, out.len);
    double start = gr_clock();
    while (http_more(fd, &in, 20)) continue;
    assert_true(gr_clock() - start < 10);
    close(fd);
    gr_buf_free(&in);
    gr_buf_free(&out);
    assert_int_equal(http_ask(s.port, "GET", "/health", "", NULL, NULL), 200);
    (void)end(&s);
}

static void keep_it(void *user, const gr_serve_request *r, gr_exchange *x) {
    gr_job *job = gr_calloc(1, sizeof *job);
    (void)r;
    gr_serve_keep(x);
    job->x = x;
    __atomic_store_n((gr_job **)user, job, __ATOMIC_RELEASE);
}

/* A request that came while the server failed to open: nobody will answer it any more. */
static void who_waits_is_refused_at_the_end(void **state) {
    (void)state;
    gr_job *job = NULL;
    gr_serve *door;
    graft_error err = {0};
    gr_service s = {0};
    gr_serve_wish wish = {.handler = keep_it, .user = &job};
    if (gr_serve_open(&door, &wish, &err) == GRAFT_UNSUPPORTED) skip();
    static const char get[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd = http_connect(gr_serve_port(door));
    http_write(fd, get, sizeof get - 1);
    while (!__atomic_load_n(&job, __ATOMIC_ACQUIRE)) usleep(1000);
    pthread_mutex_init(&s.lock, NULL);
    s.first = s.last = job;
    s.waiting = 1;
    gr_scheduler_close(&s);
    assert_int_equal(s.result.refused, 1);
    gr_buf in = {0};
    http_read(fd, &in);
    assert_int_equal(http_status_of(&in), 503);
    gr_buf_free(&in);
    close(fd);
    gr_serve_close(door, 1);
    pthread_mutex_destroy(&s.lock);
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
        {"allow-host", "two words", "--allow-host is no name of a host", GRAFT_USAGE},
        {"allow-host", "me:80", "--allow-host is no name of a host", GRAFT_USAGE},
        {"allow-host", "[::1", "--allow-host is no name of a host", GRAFT_USAGE},
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
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(far_too_long_is_not_even_read),
        cmocka_unit_test(a_key_is_asked_for),
        cmocka_unit_test(names_and_lengths_are_documents),
        cmocka_unit_test(chunks_are_let_in_at_the_door),
        cmocka_unit_test(who_waits_is_refused_at_the_end),
        cmocka_unit_test(what_cannot_be_opened_is_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
