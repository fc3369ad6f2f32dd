/* hub: fetching a model into the cache from a server of this machine, which goes on, waits and stops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "hub_find.h"
#include "hub_world.h"
#include "model/locate.h"

static void fetches_a_model(void **state) {
    world *w = *state;
    gr_hub_got got;
    graft_error err;
    char target[300], expected[100];
    assert_int_equal(find("me/tiny"), GRAFT_NOT_FOUND);
    if (fetch_as(w, "me/tiny", NULL, 1, &got, &err)) fail_msg("%s %s", err.what, err.where);
    assert_int_equal(got.files, 3); /* neither README.md nor a directory's */
    assert_int_equal(got.bytes, BIG + 7);
    assert_int_equal(got.fetched, BIG + 7);
    assert_string_equal(got.commit, HUB_COMMIT);
    assert_true(gr_ends_with(got.path, "models--me--tiny/snapshots/" HUB_COMMIT));
    assert_int_equal(size_of(blob_of(w, "model.safetensors", "")), BIG);
    assert_int_equal(size_of(blob_of(w, "empty.txt", "")), 0);
    char link[300];
    snprintf(link, sizeof link, "%s/model.safetensors", got.path);
    ssize_t n = readlink(link, target, sizeof target - 1);
    assert_true(n > 0);
    target[n] = 0;
    char digest[65];
    hub_digest(hub_find_file(&w->hub, "model.safetensors"), digest);
    snprintf(expected, sizeof expected, "../../blobs/%s", digest);
    assert_string_equal(target, expected);
    assert_int_equal(size_of(link), BIG);
    char *text;
    size_t len;
    assert_int_equal(gr_file_read(&text, &len, in_repository(w, "refs/main"), 100, &err), GRAFT_OK);
    assert_string_equal(text, HUB_COMMIT);
    free(text);
    assert_int_equal(find("me/tiny"), GRAFT_OK);
    assert_int_equal(find("me/tiny@" HUB_COMMIT), GRAFT_OK);
    assert_int_equal(find("me/tiny@dev"), GRAFT_NOT_FOUND);
    gr_hub_got_free(&got);
    /* Once more: the list alone. Another revision, the same commit: a name more. */
    assert_int_equal(fetch_as(w, "me/tiny@dev", NULL, 1, &got, &err), GRAFT_OK);
    assert_int_equal(got.fetched, 0);
    assert_int_equal(w->hub.nlog, 1);
    assert_int_equal(find("me/tiny@dev"), GRAFT_OK);
    gr_hub_got_free(&got);
}

static void chooses(void **state) {
    world *w = *state;
    gr_hub_got got;
    graft_error err;
    hub_add(&w->hub, "part/a b+c.gguf", "gguf", 4, true);
    assert_int_equal(fetch_as(w, "me/tiny", "*.gguf,config.json", 1, &got, &err), GRAFT_OK);
    assert_int_equal(got.files, 2);
    char path[400];
    snprintf(path, sizeof path, "%s/part/a b+c.gguf", got.path);
    assert_int_equal(size_of(path), 4);
    assert_int_equal(hub_asked(&w->hub, "part/a%20b"), 2);
    gr_hub_got_free(&got);
    assert_int_equal(fetch_as(w, "me/tiny", "*.bin", 1, &got, &err), GRAFT_NOT_FOUND);
    assert_string_equal(err.expected, "*.bin");
    assert_non_null(strstr(err.found, "config.json"));
    w->hub.files[3].name = "weights.gguf"; /* nothing of what a model needs */
    assert_int_equal(fetch_as(w, "me/tiny", NULL, 1, &got, &err), GRAFT_NOT_FOUND);
    assert_non_null(strstr(err.hint, "--include"));
    w->hub.files[3].name = "other.safetensors"; /* weights of another name, where no other are */
    assert_int_equal(fetch_as(w, "me/tiny", NULL, 1, &got, &err), GRAFT_OK);
    assert_int_equal(got.files, 3);
    gr_hub_got_free(&got);
}

static void goes_on(void **state) {
    world *w = *state;
    cut(w, 100000, 1);
    expect(w, 1, GRAFT_IO, "network failed");
    assert_int_equal(size_of(blob_of(w, "model.safetensors", ".incomplete")), 100000);
    assert_int_equal(size_of(blob_of(w, "model.safetensors", "")), SIZE_MAX);
    assert_int_equal(find("me/tiny"), GRAFT_NOT_FOUND);
    expect(w, 1, GRAFT_OK, NULL);
    assert_int_equal(hub_asked(&w->hub, "GET /cdn/model.safetensors 100000-"), 1);
    assert_int_equal(w->hub.sent, BIG - 100000 + 7);
    assert_int_equal(size_of(blob_of(w, "model.safetensors", ".incomplete")), SIZE_MAX);
    assert_int_equal(find("me/tiny"), GRAFT_OK);
}

static void tries_again(void **state) {
    world *w = *state;
    cut(w, 70000, 3);
    fail_next(w, 503, 1);
    expect(w, 2, GRAFT_OK, NULL); /* two tries, but each cut brought something */
    assert_int_equal(w->hub.sent, BIG + 7);
    assert_int_equal(w->notes, 4);
    assert_false(w->hub.token_leaked);
}

static void servers_without_ranges(void **state) {
    world *w = *state;
    cut(w, 100000, 1);
    w->hub.no_ranges = 1;
    expect(w, 3, GRAFT_OK, NULL);
    assert_int_equal(w->hub.sent, BIG + 100000 + 7);
}

static void servers_with_wrong_ranges(void **state) {
    world *w = *state;
    cut(w, 100000, 1);
    w->hub.no_ranges = 2;
    expect(w, 3, GRAFT_CORRUPT, "another part");
    assert_int_equal(find("me/tiny"), GRAFT_NOT_FOUND);
}

static void tokens(void **state) {
    world *w = *state;
    w->hub.token = "hf_secret";
    expect(w, 1, GRAFT_NOT_FOUND, "Invalid credentials");
    setenv("HF_TOKEN", "wrong", 1);
    expect(w, 1, GRAFT_NOT_FOUND, "HF_TOKEN");
    setenv("HF_TOKEN", "hf_secret", 1);
    expect(w, 1, GRAFT_OK, NULL);
    assert_int_equal(hub_asked(&w->hub, "1 GET /cdn/"), 1);
    assert_false(w->hub.token_leaked); /* it stays with the hub */
    unsetenv("HF_TOKEN");
    assert_int_equal(gr_make_dirs(getenv("HF_HOME"), NULL), GRAFT_OK);
    temp_file(&w->dir, "home/token", "hf_secret\n", 10);
    expect(w, 1, GRAFT_OK, NULL);
    w->notes = 0; /* nor to an address that is not plainly this machine, without https */
    char keep[64];
    snprintf(keep, sizeof keep, "%s", getenv("HF_ENDPOINT"));
    setenv("HF_ENDPOINT", "http://0.0.0.0:1", 1);
    expect(w, 1, GRAFT_IO, "network failed");
    assert_int_equal(w->notes, 1);
    setenv("HF_ENDPOINT", keep, 1);
    temp_file(&w->dir, "home/other", "bad\x01token", 9);
    setenv("HF_TOKEN_PATH", temp_path(&w->dir, "home/other"), 1);
    expect(w, 1, GRAFT_NOT_FOUND, "Invalid credentials"); /* it is none */
}

static void slow_answers(void **state) {
    world *w = *state;
    cut(w, 100000, 1);
    w->hub.stall = 1;
    double start = gr_clock();
    expect(w, 1, GRAFT_IO, "network failed");
    assert_true(gr_clock() - start < 8);
    w->hub.stall = 0;
    assert_int_equal(size_of(blob_of(w, "model.safetensors", ".incomplete")), 100000);
}

static void stops(void **state) {
    world *w = *state;
    cut(w, 100000, 1);
    w->hub.stall = 1;
    w->stop_at = 50000; /* and while nothing comes, it is heard too */
    expect(w, 3, GRAFT_INTERRUPTED, "goes on from here");
    w->hub.stall = 0;
    size_t had = size_of(blob_of(w, "model.safetensors", ".incomplete"));
    assert_true(had >= 50000 && had < BIG);
    assert_int_equal(find("me/tiny"), GRAFT_NOT_FOUND);
    w->stop = 0, w->stop_at = 0;
    expect(w, 1, GRAFT_OK, NULL);
    assert_true(w->hub.sent < BIG);
}

/* A mirror whose list has only names: size and digest are in the headers. */
static void headers_alone(void **state) {
    world *w = *state;
    for (size_t i = 0; i < w->hub.nfiles; i++) w->hub.files[i].silent = true;
    expect(w, 1, GRAFT_OK, NULL);
    assert_int_equal(hub_asked(&w->hub, "HEAD "), 4); /* one of them twice: redirected */
    assert_int_equal(size_of(blob_of(w, "model.safetensors", "")), BIG);
    w->hub.files[1].announced = "not-a-digest";
    expect(w, 1, GRAFT_UNSUPPORTED, "config.json");
}

static void snapshots_of_gguf(void **state) {
    world *w = *state;
    graft_error err = {0};
    char *path = NULL;
    bool gguf;
    hub_add(&w->hub, "a.gguf", "GGUF", 4, true);
    gr_hub_got got;
    assert_int_equal(fetch_as(w, "me/tiny", "*.gguf", 1, &got, &err), GRAFT_OK);
    assert_int_equal(gr_model_locate(&path, &gguf, "me/tiny", &err), GRAFT_OK);
    assert_true(gguf && gr_ends_with(path, "/a.gguf"));
    free(path);
    char file[400];
    snprintf(file, sizeof file, "%s/b.gguf", got.path);
    assert_int_equal(gr_file_replace(file, "GGUF", 4, NULL), GRAFT_OK);
    assert_int_equal(gr_model_locate(&path, &gguf, "me/tiny", &err), GRAFT_USAGE);
    assert_non_null(strstr(err.what, "several GGUF"));
    gr_hub_got_free(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        HUB_TEST(fetches_a_model),
        HUB_TEST(chooses),
        HUB_TEST(goes_on),
        HUB_TEST(tries_again),
        HUB_TEST(servers_without_ranges),
        HUB_TEST(servers_with_wrong_ranges),
        HUB_TEST(tokens),
        HUB_TEST(slow_answers),
        HUB_TEST(stops),
        HUB_TEST(headers_alone),
        HUB_TEST(snapshots_of_gguf),
    };
    HUB_RUN(tests);
}
