/* The report and the live page in a real browser (Chromium's family, without a window), where one is there:
 * tools/deps.sh browser installs it. GRAFT_BROWSER names another, GRAFT_PICTURES a directory that keeps what
 * it saw. */
#include "tests/free_port.h"
#include "tests/tiny_run.h"

#include "report/watch.h"
#include <pthread.h>

#include <cmocka.h>

static const char *browser;
static char *model;

/* The program that `sh` finds; NULL: none. */
static const char *find_browser(void) {
    static const char *const names[] = {"chromium", "chromium-browser", "google-chrome",
                                        "google-chrome-stable"};
    const char *own = getenv("GRAFT_BROWSER");
    char command[200];
    if (own && own[0]) return own;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", names[i]);
        if (system(command) == 0) return names[i];
    }
    return NULL;
}

/* What the browser makes of a page after `wait` milliseconds of its own clock, as text; and a picture of it,
 * a phone's or a desk's. malloc'ed. */
static char *look_at(const char *url, const char *picture, bool phone, int wait) {
    char command[2000];
    snprintf(command, sizeof command,
             "cd '%s' && timeout 60 '%s' --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
             "--user-data-dir='%s/profile' --window-size=%s --hide-scrollbars --virtual-time-budget=%d "
             "--screenshot='%s/%s' --dump-dom '%s' >dom.html 2>browser.txt </dev/null",
             root, browser, root, phone ? "500,1200" : "1100,1500", wait, root, picture, url);
    if (system(command) != 0) fail_msg("%s: %s", browser, tiny_read(root, "browser.txt", NULL));
    return tiny_read(root, "dom.html", NULL);
}

/* A picture that is not all of one colour: a PNG of nothing is small. */
static void keep_picture(const char *name) {
    size_t size;
    char *png = tiny_read(root, name, &size);
    const char *place = getenv("GRAFT_PICTURES");
    assert_memory_equal(png, "\x89PNG", 4);
    assert_true(size > 20000);
    if (place && place[0]) {
        graft_error err = {0};
        char *path = tiny_join(place, name);
        assert_int_equal(gr_file_replace(path, png, size, &err), GRAFT_OK);
        free(path);
    }
    free(png);
}

static size_t count(const char *text, const char *word) {
    size_t n = 0;
    for (; (text = strstr(text, word)); text++) n++;
    return n;
}

static void a_report(void **state) {
    (void)state;
    graft_error err = {0};
    graft_options o;
    graft_report_result result;
    if (!browser) skip();
    must_train(model, "run", NULL, NULL, NULL);
    char url[400], *dir = tiny_join(root, "run");
    graft_options_init(&o);
    assert_int_equal(graft_report((const char *const *)&dir, 1, &o, NULL, &result, &err), GRAFT_OK);
    snprintf(url, sizeof url, "file://%s", result.html);
    char *dom = look_at(url, "report.png", true, 500);
    assert_true(count(dom, "<svg") >= 6 && count(dom, "<polyline") >= 6);
    assert_non_null(strstr(dom, "8 of 8"));
    assert_non_null(strstr(dom, "Settings in force"));
    assert_int_equal(count(dom, "<main"), 1);
    keep_picture("report.png");
    free(dom);
    graft_report_result_free(&result);
    graft_options_free(&o);
    free(dir);
}

/* A training that goes on until the browser has seen it. */
typedef struct live {
    volatile int stop;
    int port;
    volatile int64_t done;
    volatile bool over;
    graft_error err;
    graft_status status;
} live;

static void on_live(void *user, const graft_event *e) {
    live *l = user;
    if (e->kind == GRAFT_EVENT_TRAIN) __atomic_store_n(&l->done, e->iteration, __ATOMIC_SEQ_CST);
}

static void *train_live(void *user) {
    live *l = user;
    graft_options o;
    char port[16], *out = tiny_join(root, "live");
    graft_hooks hooks = {.user = l, .event = on_live, .stop = &l->stop};
    snprintf(port, sizeof port, "%d", l->port);
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data, "adapter-path", out, "watch", port, NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, common);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"iters", "1000000", "save-every", "1000", "steps-per-report", "20",
                                   "steps-per-eval", "200", NULL});
    l->status = graft_train(&o, &hooks, NULL, &l->err);
    __atomic_store_n(&l->over, true, __ATOMIC_SEQ_CST);
    graft_options_free(&o);
    free(out);
    return NULL;
}

/* Starts one that gets somewhere; false: it has ended. */
static bool start_live(live *l, pthread_t *thread) {
    *l = (live){.port = free_port()};
    assert_true(l->port > 0);
    assert_int_equal(pthread_create(thread, NULL, train_live, l), 0);
    for (int i = 0; i < 2000 && __atomic_load_n(&l->done, __ATOMIC_SEQ_CST) < 60; i++) {
        if (__atomic_load_n(&l->over, __ATOMIC_SEQ_CST)) {
            pthread_join(*thread, NULL);
            return false;
        }
        usleep(10000);
    }
    return true;
}

static void a_live_page(void **state) {
    (void)state;
    live l;
    pthread_t thread;
    char url[64];
    if (!browser) skip();
    bool lives = false;
    for (int tries = 0; tries < FREE_PORT_TRIES && !lives; tries++) {
        lives = start_live(&l, &thread);
        if (!lives && l.status == GRAFT_UNSUPPORTED) skip(); /* this library serves nothing */
    }
    if (!lives) fail_msg("%s %s", l.err.what, l.err.where);
    int64_t done = __atomic_load_n(&l.done, __ATOMIC_SEQ_CST);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", l.port);
    char *dom = look_at(url, "live.png", true, 5000);
    __atomic_store_n(&l.stop, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    assert_true(done >= 60);
    assert_int_equal(l.status, GRAFT_INTERRUPTED);
    assert_non_null(strstr(dom, "data-version=\"")); /* the script fetched the parts, and put them there */
    assert_non_null(strstr(dom, "role=\"status\">live: "));
    assert_non_null(strstr(dom, " of 1000000"));
    assert_non_null(strstr(dom, "training, smoothed"));
    keep_picture("live.png");
    free(dom);
}

static int setup_browser(void **state) {
    const tiny_spec spec = {.dtype = GR_BF16, .bits = 4, .seed = 3};
    setup(state);
    model = tiny_model_dir(root, "model", &spec);
    if (!SANITIZED) browser = find_browser(); /* the pages have tests of their own; this is of the browser */
    if (!browser)
        print_message("no browser is looked into: %s\n",
                      SANITIZED ? "a sanitizer's build" : "none found; tools/deps.sh browser installs one");
    return 0;
}

static int teardown_browser(void **state) {
    free(model);
    return teardown(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_report), cmocka_unit_test(a_live_page)};
    return cmocka_run_group_tests(tests, setup_browser, teardown_browser);
}
