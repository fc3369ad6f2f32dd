/* The page of a training that goes on: alive, the same numbers as without, nothing written where it cannot
 * be. */
#include "tests/http_client.h"
#include "tests/tiny_run.h"

#include "http/http.h"
#include "report/watch.h"

#include <cmocka.h>

static char *model;
static int port;
static bool served; /* the library can */

static void nobody(void *user, const gr_serve_request *r, gr_exchange *x) {
    (void)user;
    (void)r;
    gr_serve_reply(x, 404, "text/plain", "", 0);
}

/* A port that was free a moment ago. */
static int setup_port(void **state) {
    graft_error err = {0};
    gr_serve *server;
    gr_serve_wish wish = {.handler = nobody};
    const tiny_spec spec = {.dtype = GR_BF16, .bits = 4, .seed = 3};
    setup(state);
    model = tiny_model_dir(root, "model", &spec);
    served = gr_serve_open(&server, &wish, &err) == GRAFT_OK;
    if (served) {
        port = gr_serve_port(server);
        gr_serve_close(server, 0);
    }
    return 0;
}

static int get(const char *path, char **body) {
    return http_ask(port, "GET", path, "Connection: close\r\n", NULL, body);
}

/* What is asked in the middle of the run, in its own thread: the server has others. */
typedef struct looker {
    int looks;
    char *page, *parts, *numbers, *version;
} looker;

static void look(void *user, const graft_event *e) {
    looker *l = user;
    if (e->kind != GRAFT_EVENT_VALID || e->iteration != 4) return;
    l->looks++;
    assert_int_equal(get("/", &l->page), 200);
    assert_int_equal(get("/parts", &l->parts), 200);
    assert_int_equal(get("/metrics", &l->numbers), 200);
    assert_int_equal(get("/nothing", NULL), 404);
}

static graft_status run(const char *out, looker *l, graft_error *err) {
    graft_options o;
    graft_hooks hooks = {.user = l, .event = look};
    char text[16], *adapter = tiny_join(root, out);
    snprintf(text, sizeof text, "%d", port);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", adapter, "watch", text,
                                   "iters", "8", NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common);
    graft_status st = graft_train(&o, &hooks, NULL, err);
    graft_options_free(&o);
    free(adapter);
    return st;
}

static void the_page_is_alive(void **state) {
    (void)state;
    graft_error err = {0};
    looker l = {0};
    if (!served) skip();
    if (run("watched", &l, &err) != GRAFT_OK) fail_msg("%s %s", err.what, err.where);
    assert_int_equal(l.looks, 1);
    assert_non_null(strstr(l.page, "<script>"));
    assert_non_null(strstr(l.page, "training, smoothed"));
    assert_non_null(strstr(l.page, l.parts));
    assert_null(strstr(l.parts, "<script"));
    json_t *numbers = json_loads(l.numbers, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(numbers, "iteration")), 4);
    assert_int_equal(json_integer_value(json_object_get(numbers, "iterations")), 8);
    assert_non_null(strstr(json_string_value(json_object_get(numbers, "state")), "iteration 4 of 8"));
    assert_true(json_string_length(json_object_get(numbers, "version")) > 10);
    assert_int_equal(json_array_size(json_object_get(numbers, "runs")), 1);
    json_decref(numbers);
    free(l.page);
    free(l.parts);
    free(l.numbers);
    /* the same bits as without */
    must_train(model, "plain", NULL, NULL, NULL);
    same_results("watched", "plain");
}

static void a_port_in_use(void **state) {
    (void)state;
    graft_error err = {0};
    looker l = {0};
    gr_serve *server;
    gr_serve_wish wish = {.handler = nobody, .port = port};
    if (!served) skip();
    assert_int_equal(gr_serve_open(&server, &wish, &err), GRAFT_OK);
    assert_int_equal(run("nowhere", &l, &err), GRAFT_IO);
    assert_true(err.what[0] && (strstr(err.what, "in use") || strstr(err.found, "in use")));
    char *dir = tiny_join(root, "nowhere");
    assert_false(gr_path_exists(dir));
    free(dir);
    gr_serve_close(server, 0);
}

/* Before the run begins the directory is an earlier one's; after its end the page has the last word. */
static void before_and_after(void **state) {
    (void)state;
    graft_error err = {0};
    gr_watch *w;
    char *dir = tiny_join(root, "plain"), *body;
    if (!served) {
        free(dir);
        skip();
    }
    assert_int_equal(gr_watch_open(&w, dir, port, &err), GRAFT_OK);
    assert_int_equal(get("/metrics", &body), 200);
    assert_non_null(strstr(body, "\"phase\":\"preparing\""));
    assert_non_null(strstr(body, "\"curves\":{}"));
    free(body);
    gr_watch_progress(w, "tokenize", 1, 2);
    gr_watch_progress(w, "train", 8, 8);
    assert_int_equal(get("/metrics", &body), 200);
    assert_non_null(strstr(body, "\"phase\":\"train\""));
    assert_non_null(strstr(body, "\"train_loss\":{"));
    free(body);
    assert_int_equal(get("/state", &body), 200);
    assert_non_null(strstr(body, "\"iteration\":8"));
    assert_null(strstr(body, "train_loss"));
    free(body);
    tiny_write(dir, "run.json", "[]"); /* trouble with a file is an answer, not the run's end */
    assert_int_equal(get("/parts", &body), 500);
    assert_non_null(strstr(body, "run.json"));
    free(body);
    assert_int_equal(http_ask(port, "POST", "/metrics", "Connection: close\r\n", "{}", NULL), 405);
    double from = gr_clock();
    gr_watch_close(w); /* nobody has the page: nobody is waited for */
    assert_true(gr_clock() - from < 2.5);
    gr_watch_close(NULL);
    free(dir);
    free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_page_is_alive), cmocka_unit_test(a_port_in_use),
                                       cmocka_unit_test(before_and_after)};
    return cmocka_run_group_tests(tests, setup_port, teardown);
}
