/* tests/hub_world.h - a hub on this machine with one model, and fetching from it into an empty cache. */
#ifndef HUB_WORLD_H
#define HUB_WORLD_H
#include "base/os.h"
#include "hub/hub_cache.h"
#include "hub/hub_fetch.h"
#include "hub/hub_http.h"
#include "hub_server.h"
#include "temp_dir.h"
#include <cmocka.h>
#include <sys/stat.h>

enum { BIG = 300000 };
typedef struct world {
    temp_dir dir;
    hub_server hub;
    char big[BIG];
    volatile int stop;
    uint64_t stop_at; /* raises the flag when so many bytes are there; 0 never */
    int notes;
} world;

static inline int begin(void **state) {
    static const char *const unset[] = {"HF_TOKEN",   "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "http_proxy",
                                        "HTTP_PROXY", "all_proxy",     "ALL_PROXY"};
    world *w = calloc(1, sizeof *w);
    for (size_t i = 0; i < sizeof unset / sizeof *unset; i++) unsetenv(unset[i]);
    w->dir = temp_dir_new();
    setenv("HF_HUB_CACHE", temp_path(&w->dir, "hub"), 1);
    setenv("HF_HOME", temp_path(&w->dir, "home"), 1);
    if (!hub_start(&w->hub)) abort();
    for (size_t i = 0; i < BIG; i++) w->big[i] = (char)(i * 7 + i / 251);
    hub_add(&w->hub, "README.md", "read me", 7, false);
    hub_add(&w->hub, "config.json", "{\"a\":1}", 7, false);
    hub_add(&w->hub, "empty.txt", "", 0, false);
    hub_add(&w->hub, "model.safetensors", w->big, BIG, true);
    hub_add(&w->hub, "onnx/deep/model.json", "{}", 2, false);
    *state = w;
    return 0;
}

static inline int end(void **state) {
    world *w = *state;
    hub_stop(&w->hub);
    temp_dir_free(&w->dir);
    free(w);
    return 0;
}

static inline void on_progress(void *context, uint64_t done, uint64_t total) {
    world *w = context;
    assert_true(done <= total);
    if (w->stop_at && done >= w->stop_at) w->stop = 1;
}

static inline void on_note(void *context, const char *text) {
    world *w = context;
    assert_true(strlen(text) > 5);
    w->notes++;
}

static inline graft_status fetch_as(world *w, const char *name, const char *include, int tries,
                                    gr_hub_got *got, graft_error *err) {
    gr_hub_wish wish = {name, include, {tries, 0.01, 1, &w->stop, on_note, w}, on_progress, w};
    memset(err, 0, sizeof *err);
    w->hub.nlog = 0;
    w->hub.sent = 0;
    graft_status st = gr_hub_fetch(&wish, got, err);
    if (st != GRAFT_OK && !err->what[0]) fail_msg("no word of why");
    return st;
}

/* One try of me/tiny, whose outcome must be `expected` and say `word` somewhere. */
static inline void expect(world *w, int tries, graft_status expected, const char *word) {
    gr_hub_got got;
    graft_error err;
    graft_status st = fetch_as(w, "me/tiny", NULL, tries, &got, &err);
    if (st != expected) fail_msg("status %d: %s %s", (int)st, err.what, err.where);
    if (word && !strstr(err.what, word) && !strstr(err.found, word) && !strstr(err.hint, word) &&
        !strstr(err.where, word))
        fail_msg("no \"%s\": %s, %s, %s, %s", word, err.what, err.where, err.found, err.hint);
    gr_hub_got_free(&got);
}

static inline const char *in_repository(world *w, const char *rest) {
    char name[160];
    snprintf(name, sizeof name, "hub/models--me--tiny/%.130s", rest);
    return temp_path(&w->dir, name);
}

static inline const char *blob_of(world *w, const char *file, const char *suffix) {
    char name[120], digest[65];
    hub_digest(hub_find_file(&w->hub, file), digest);
    snprintf(name, sizeof name, "blobs/%s%.20s", digest, suffix);
    return in_repository(w, name);
}

static inline size_t size_of(const char *path) {
    struct stat info;
    return stat(path, &info) ? SIZE_MAX : (size_t)info.st_size;
}

static inline void cut(world *w, size_t bytes, int times) {
    w->hub.cut_bytes = bytes;
    w->hub.cut_times = times;
}

static inline void fail_next(world *w, int status, int times) {
    w->hub.fail_status = status;
    w->hub.fail_times = times;
}

static inline void without_libcurl(void **state) {
    world *w = *state;
    expect(w, 1, GRAFT_UNSUPPORTED, "libcurl");
}

#define HUB_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

/* A program's tests, or what is left where there is no libcurl. */
#define HUB_RUN(tests)                                                                                       \
    const struct CMUnitTest left_out[] = {HUB_TEST(without_libcurl)};                                        \
    return gr_http_built() ? cmocka_run_group_tests(tests, NULL, NULL)                                       \
                           : cmocka_run_group_tests(left_out, NULL, NULL)

#endif
