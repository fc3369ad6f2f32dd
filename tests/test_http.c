/* serve: a server of this machine, and clients that behave and misbehave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "http/http.h"
#include "http_client.h"
#include <cmocka.h>
#include <pthread.h>

enum { PIECES = 5 };
typedef struct world {
    gr_serve *server;
    int port;
    gr_exchange *kept; /* of /later and /events */
    int handled;       /* atomic */
} world;

static gr_exchange *take_kept(world *w) {
    gr_exchange *x;
    while (!(x = __atomic_load_n(&w->kept, __ATOMIC_ACQUIRE))) usleep(1000);
    w->kept = NULL;
    return x;
}

static void handler(void *user, const gr_serve_request *r, gr_exchange *x) {
    world *w = user;
    __atomic_add_fetch(&w->handled, 1, __ATOMIC_RELAXED);
    if (!strcmp(r->path, "/echo")) {
        gr_serve_add_header(x, "X-Was", r->method);
        gr_serve_add_header(x, "X-Bad", "no\r\nInjected: 1");
        gr_serve_reply(x, 200, "text/plain", r->body, r->length);
    } else if (!strcmp(r->path, "/later") || !strcmp(r->path, "/events")) {
        gr_serve_keep(x);
        if (!strcmp(r->path, "/events")) gr_serve_begin(x, 200, "text/event-stream");
        __atomic_store_n(&w->kept, x, __ATOMIC_RELEASE);
    } else if (strcmp(r->path, "/nothing") != 0) {
        gr_serve_reply(x, 404, "text/plain", "none\n", 5);
    }
}

static int begin(void **state) {
    world *w = calloc(1, sizeof *w);
    graft_error err = {0};
    gr_serve_wish wish = {
        .handler = handler, .user = w, .body_bytes = 1000, .unsent_bytes = 20000, .connections = 8};
    wish.request_seconds = 0.5;
    if (gr_serve_open(&w->server, &wish, &err) == GRAFT_UNSUPPORTED) {
        free(w);
        *state = NULL;
        return 0;
    }
    assert_non_null(w->server);
    w->port = gr_serve_port(w->server);
    *state = w;
    return 0;
}

static int end(void **state) {
    world *w = *state;
    if (w) gr_serve_close(w->server, 1);
    free(w);
    return 0;
}

#define WORLD(w)                                                                                             \
    world *w = *state;                                                                                       \
    if (!w) skip()

static void assert_serves(const world *w) {
    char *body;
    assert_int_equal(http_ask(w->port, "POST", "/echo", "", "still here", &body), 200);
    assert_string_equal(body, "still here");
    free(body);
}

static void requests_are_answered(void **state) {
    WORLD(w);
    assert_serves(w);
    assert_int_equal(http_ask(w->port, "GET", "/none", "", NULL, NULL), 404);
    assert_int_equal(http_ask(w->port, "GET", "/nothing", "", NULL, NULL), 500);
    gr_buf in = {0};
    int fd = http_connect(w->port); /* two requests on one connection */
    for (int i = 0; i < 2; i++) {
        static const char get[] = "GET /echo HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n";
        http_write(fd, get, sizeof get - 1);
        gr_buf_clear(&in);
        http_read(fd, &in);
        assert_int_equal(http_status_of(&in), 200);
        assert_non_null(strstr(in.data, "X-Was: GET"));
        assert_null(strstr(in.data, "Injected"));
    }
    gr_buf_free(&in);
    close(fd);
}

static void an_answer_may_come_later_from_another_thread(void **state) {
    WORLD(w);
    int fd = http_connect(w->port);
    static const char get[] = "GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n";
    http_write(fd, get, sizeof get - 1);
    gr_exchange *x = take_kept(w);
    usleep(800000); /* longer than a request may take: it is the answer that takes long */
    assert_false(gr_serve_gone(x));
    gr_serve_reply(x, 201, "text/plain", "late", 4);
    gr_serve_drop(x);
    gr_buf in = {0};
    http_read(fd, &in);
    assert_int_equal(http_status_of(&in), 201);
    gr_buf_free(&in);
    close(fd);
    fd = http_connect(w->port); /* nobody answers */
    http_write(fd, get, sizeof get - 1);
    gr_serve_drop(take_kept(w));
    http_read(fd, &in);
    assert_int_equal(http_status_of(&in), 500);
    gr_buf_free(&in);
    close(fd);
}

static void a_stream_comes_in_pieces(void **state) {
    WORLD(w);
    int fd = http_connect(w->port);
    static const char get[] = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    http_write(fd, get, sizeof get - 1);
    gr_exchange *x = take_kept(w);
    gr_buf in = {0};
    for (int i = 0; i < PIECES; i++) {
        char piece[20];
        int n = snprintf(piece, sizeof piece, "data: %d\n\n", i);
        assert_true(gr_serve_send(x, piece, (size_t)n));
        while (!in.data || !strstr(in.data, piece)) assert_true(http_more(fd, &in, 5)); /* each at once */
    }
    gr_serve_end(x);
    assert_false(gr_serve_send(x, "more", 4));
    gr_serve_drop(x);
    http_read(fd, &in);
    char *body = http_body_of(&in);
    assert_string_equal(body, "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n");
    assert_non_null(strstr(in.data, "text/event-stream"));
    free(body);
    gr_buf_free(&in);
    close(fd);
}

/* Pieces are added while others are on their way, and what is there moves: nothing is lost or twice. */
static void pieces_keep_their_order(void **state) {
    WORLD(w);
    /* The client counts heads and chunk lengths as if they were pieces, and so asks for the next burst up to
     * 8 KB early: with that a burst stays below unsent_bytes. */
    enum { BURSTS = 100, OF = 9, BYTES = 1000 };
    int fd = http_connect(w->port), number = 0;
    static const char get[] = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    http_write(fd, get, sizeof get - 1);
    gr_exchange *x = take_kept(w);
    gr_buf in = {0}, want = {0};
    for (int i = 0; i < BURSTS; i++) {
        for (int k = 0; k < OF; k++, number++) {
            char piece[BYTES + 1];
            snprintf(piece, sizeof piece, "%0*d", BYTES, number);
            gr_buf_puts(&want, piece);
            assert_true(gr_serve_send(x, piece, BYTES));
        }
        while (in.len < want.len) assert_true(http_more(fd, &in, 5));
    }
    gr_serve_end(x);
    gr_serve_drop(x);
    http_read(fd, &in);
    char *body = http_body_of(&in);
    assert_string_equal(body, want.data);
    free(body);
    gr_buf_free(&in);
    gr_buf_free(&want);
    close(fd);
}

static void who_leaves_is_seen(void **state) {
    WORLD(w);
    static const char *const paths[] = {"/events", "/later"};
    for (int i = 0; i < 2; i++) {
        char get[80];
        int fd = http_connect(w->port),
            n = snprintf(get, sizeof get, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", paths[i]);
        http_write(fd, get, (size_t)n);
        gr_exchange *x = take_kept(w);
        usleep(50000);
        assert_false(gr_serve_gone(x));
        close(fd);
        double start = gr_clock();
        while (!gr_serve_gone(x) && gr_clock() - start < 5) usleep(10000);
        assert_true(gr_serve_gone(x));
        assert_false(gr_serve_send(x, "x", 1));
        gr_serve_drop(x);
    }
    assert_serves(w);
}

static void who_does_not_read_is_cut(void **state) {
    WORLD(w);
    int fd = http_connect(w->port);
    static const char get[] = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static char much[10000];
    memset(much, 'x', sizeof much);
    http_write(fd, get, sizeof get - 1);
    gr_exchange *x = take_kept(w);
    int sent = 0;
    while (sent < 10000 && gr_serve_send(x, much, sizeof much)) sent++;
    assert_in_range(sent, 1, 9999);
    assert_true(gr_serve_gone(x));
    gr_serve_drop(x);
    close(fd);
    assert_serves(w);
}

static void what_is_no_request_is_refused(void **state) {
    WORLD(w);
    static const struct {
        const char *text;
        int status, or ;
    } bad[] = {
        {"GARBAGE\r\n\r\n", 400, 0},
        {"GET /echo HTTP/9.9\r\nHost: localhost\r\n\r\n", 505, 400},
        {"GET /echo HTTP/1.1\r\n\r\n", 400, 0}, /* no Host */
        {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 413, 400},
        {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400, 0},
        {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413,
         400},
        {"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
         "chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
         400, 0},
        {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100001\r\n\r\n", 413, 0},
        {"GET /echo HTTP/1.1\r\nHost: evil.example.org\r\n\r\n", 403, 0},
        {"GET /echo HTTP/1.1\r\nHost: localhost.example.org:80\r\n\r\n", 403, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int status = http_say(w->port, bad[i].text, strlen(bad[i].text), NULL);
        if (status != bad[i].status && status != bad[i].or)
            fail_msg("%s gave %d, expected %d", bad[i].text, status, bad[i].status);
        assert_serves(w);
    }
}

static void what_is_too_long_is_refused(void **state) {
    WORLD(w);
    gr_buf out = {0};
    gr_buf_puts(&out, "GET /echo HTTP/1.1\r\nHost: localhost\r\nX-Long: "); /* headers */
    for (int i = 0; i < 100000; i++) gr_buf_putc(&out, 'x');
    gr_buf_puts(&out, "\r\n\r\n");
    int status = http_say(w->port, out.data, out.len, NULL);
    assert_true(status == 431 || status == 413 || status == 400);
    gr_buf_clear(&out); /* a body without a length */
    gr_buf_puts(&out, "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 15; i++) gr_buf_printf(&out, "64\r\n%0100d\r\n", 1);
    gr_buf_puts(&out, "0\r\n\r\n");
    assert_int_equal(http_say(w->port, out.data, out.len, NULL), 413);
    out.len -= 5; /* .. that goes on and on is cut */
    for (int i = 0; i < 100; i++) gr_buf_printf(&out, "64\r\n%0100d\r\n", 1);
    int fd = http_connect(w->port);
    gr_buf in = {0};
    http_write(fd, out.data, out.len);
    double start = gr_clock();
    http_read(fd, &in);
    assert_true(gr_clock() - start < 10);
    assert_int_not_equal(http_status_of(&in), 200);
    close(fd);
    gr_buf_free(&in);
    gr_buf_free(&out);
    assert_serves(w);
}

static void who_is_slow_is_cut(void **state) {
    WORLD(w);
    static const char *const begun[] = {
        "", "GET /echo HTTP/1.1\r\nHost: local",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"};
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = http_connect(w->port);
        http_write(fds[i], begun[i], strlen(begun[i]));
    }
    double start = gr_clock();
    for (int k = 0; k < 8; k++) { /* a byte now and then does not help */
        usleep(150000);
        for (int i = 1; i < 3; i++) http_write(fds[i], "x", 1);
        assert_serves(w); /* nobody else waits for them */
    }
    for (int i = 0; i < 3; i++) {
        gr_buf in = {0};
        http_read(fds[i], &in);
        assert_int_equal(http_status_of(&in), 408);
        gr_buf_free(&in);
        close(fds[i]);
    }
    assert_true(gr_clock() - start < 10);
}

static void more_connections_wait_for_their_turn(void **state) {
    WORLD(w);
    int fds[12];
    for (int i = 0; i < 12; i++) fds[i] = http_connect(w->port); /* 8 are taken, which say nothing */
    assert_serves(w);                                            /* when those were cut */
    for (int i = 0; i < 12; i++) close(fds[i]);
}

static void a_port_in_use_is_named(void **state) {
    WORLD(w);
    gr_serve *second;
    graft_error err = {0};
    gr_serve_wish wish = {.handler = handler, .user = w, .port = w->port};
    assert_int_equal(gr_serve_open(&second, &wish, &err), GRAFT_IO);
    assert_null(second);
    assert_string_equal(err.what, "the port is in use");
    char where[40];
    snprintf(where, sizeof where, "127.0.0.1 port %d", w->port);
    assert_string_equal(err.where, where);
    err = (graft_error){0};
    wish = (gr_serve_wish){.handler = handler, .host = "192.0.2.1"}; /* of documentation: nobody's */
    assert_int_equal(gr_serve_open(&second, &wish, &err), GRAFT_IO);
    err = (graft_error){0};
    wish.host = "no such host";
    assert_int_equal(gr_serve_open(&second, &wish, &err), GRAFT_IO);
}

typedef struct closing {
    gr_serve *server;
    double seconds;
} closing;
static void *close_it(void *user) {
    closing *c = user;
    gr_serve_close(c->server, c->seconds);
    return NULL;
}

static void closing_waits_for_answers_and_cuts_the_rest(void **state) {
    WORLD(w);
    for (int cut = 0; cut < 2; cut++) {
        graft_error err = {0};
        world own = {0};
        gr_serve_wish wish = {.handler = handler, .user = &own};
        assert_int_equal(gr_serve_open(&own.server, &wish, &err), GRAFT_OK);
        int fd = http_connect(gr_serve_port(own.server));
        static const char get[] = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        http_write(fd, get, sizeof get - 1);
        gr_exchange *x = take_kept(&own);
        assert_true(gr_serve_send(x, "data: 1\n\n", 9));
        closing c = {own.server, cut ? 0.3 : 20};
        pthread_t thread;
        pthread_create(&thread, NULL, close_it, &c);
        usleep(100000);
        if (!cut) {
            assert_true(gr_serve_send(x, "data: 2\n\n", 9));
            gr_serve_end(x);
        }
        pthread_join(thread, NULL);
        gr_buf in = {0};
        http_read(fd, &in);
        assert_int_equal(in.len >= 5 && !memcmp(in.data + in.len - 5, "0\r\n\r\n", 5), !cut);
        assert_true(gr_serve_gone(x)); /* kept beyond its server */
        assert_false(gr_serve_send(x, "x", 1));
        gr_serve_drop(x);
        gr_buf_free(&in);
        close(fd);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered),
        cmocka_unit_test(an_answer_may_come_later_from_another_thread),
        cmocka_unit_test(a_stream_comes_in_pieces),
        cmocka_unit_test(pieces_keep_their_order),
        cmocka_unit_test(who_leaves_is_seen),
        cmocka_unit_test(who_does_not_read_is_cut),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(who_is_slow_is_cut),
        cmocka_unit_test(more_connections_wait_for_their_turn),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(closing_waits_for_answers_and_cuts_the_rest),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
