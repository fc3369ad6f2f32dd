/* hub: names, the cache's layout, and fetching from a server of this machine that behaves and misbehaves as
 * told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/os.h"
#include "hub/hub_cache.h"
#include "hub/hub_fetch.h"
#include "hub/hub_http.h"
#include "hub_find.h"
#include "hub_server.h"
#include "model/locate.h"
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

static int begin(void **state) {
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

static int end(void **state) {
    world *w = *state;
    hub_stop(&w->hub);
    temp_dir_free(&w->dir);
    free(w);
    return 0;
}

static void on_progress(void *context, uint64_t done, uint64_t total) {
    world *w = context;
    assert_true(done <= total);
    if (w->stop_at && done >= w->stop_at) w->stop = 1;
}

static void on_note(void *context, const char *text) {
    world *w = context;
    assert_true(strlen(text) > 5);
    w->notes++;
}

static graft_status fetch_as(world *w, const char *name, const char *include, int tries, gr_hub_got *got,
                             graft_error *err) {
    gr_hub_wish wish = {name, include, {tries, 0.01, 1, &w->stop, on_note, w}, on_progress, w};
    memset(err, 0, sizeof *err);
    w->hub.nlog = 0;
    w->hub.sent = 0;
    graft_status st = gr_hub_fetch(&wish, got, err);
    if (st != GRAFT_OK && !err->what[0]) fail_msg("no word of why");
    return st;
}

/* One try of me/tiny, whose outcome must be `expected` and say `word` somewhere. */
static void expect(world *w, int tries, graft_status expected, const char *word) {
    gr_hub_got got;
    graft_error err;
    graft_status st = fetch_as(w, "me/tiny", NULL, tries, &got, &err);
    if (st != expected) fail_msg("status %d: %s %s", (int)st, err.what, err.where);
    if (word && !strstr(err.what, word) && !strstr(err.found, word) && !strstr(err.hint, word) &&
        !strstr(err.where, word))
        fail_msg("no \"%s\": %s, %s, %s, %s", word, err.what, err.where, err.found, err.hint);
    gr_hub_got_free(&got);
}

static const char *in_repository(world *w, const char *rest) {
    char name[160];
    snprintf(name, sizeof name, "hub/models--me--tiny/%.130s", rest);
    return temp_path(&w->dir, name);
}

static const char *blob_of(world *w, const char *file, const char *suffix) {
    char name[120], digest[65];
    hub_digest(hub_find_file(&w->hub, file), digest);
    snprintf(name, sizeof name, "blobs/%s%.20s", digest, suffix);
    return in_repository(w, name);
}

static size_t size_of(const char *path) {
    struct stat info;
    return stat(path, &info) ? SIZE_MAX : (size_t)info.st_size;
}

static void cut(world *w, size_t bytes, int times) {
    w->hub.cut_bytes = bytes;
    w->hub.cut_times = times;
}

static void fail_next(world *w, int status, int times) {
    w->hub.fail_status = status;
    w->hub.fail_times = times;
}

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

static void altered_bytes(void **state) {
    world *w = *state;
    w->hub.files[3].announced = "00000000000000000000000000000000000000000000000000000000000000aa";
    expect(w, 3, GRAFT_CORRUPT, "not what the hub announced");
    assert_int_equal(size_of(blob_of(w, "model.safetensors", ".incomplete")), SIZE_MAX);
    assert_int_equal(size_of(blob_of(w, "model.safetensors", "")), SIZE_MAX);
    assert_int_equal(find("me/tiny"), GRAFT_NOT_FOUND);
    w->hub.files[3].announced = NULL;
    w->hub.files[1].announced = "00000000000000000000000000000000000000aa";
    expect(w, 1, GRAFT_CORRUPT, "config.json");
}

/* What an earlier call left is wrong: everything anew, once. A part longer than the file likewise. */
static void altered_part(void **state) {
    world *w = *state;
    cut(w, 100000, 1);
    expect(w, 1, GRAFT_IO, NULL);
    const char *part = blob_of(w, "model.safetensors", ".incomplete");
    FILE *f = fopen(part, "r+b");
    assert_non_null(f);
    fputc('?', f);
    fclose(f);
    expect(w, 1, GRAFT_OK, NULL);
    assert_int_equal(w->hub.sent, BIG + BIG - 100000 + 7);
    unlink(blob_of(w, "model.safetensors", ""));
    char *much = calloc(1, BIG + 5);
    assert_int_equal(gr_file_replace(part, much, BIG + 5, NULL), GRAFT_OK);
    free(much);
    expect(w, 1, GRAFT_OK, NULL);
    assert_int_equal(w->hub.sent, BIG);
}

static void wrong_lengths(void **state) {
    world *w = *state;
    w->hub.longer = 1;
    expect(w, 3, GRAFT_CORRUPT, "more than it announced");
    w->hub.longer = 0;
    w->hub.list = "{\"sha\":\"" HUB_COMMIT
                  "\",\"siblings\":[{\"rfilename\":\"model.safetensors\",\"lfs\":{\"size\":300001,"
                  "\"sha256\":\"00000000000000000000000000000000000000000000000000000000000000aa\"}}]}";
    expect(w, 1, GRAFT_CORRUPT, "ended early");
    expect(w, 1, GRAFT_IO, "no such part"); /* the next call asks beyond the end */
}

static void refusals(void **state) {
    static const struct {
        int status;
        graft_status result;
        const char *word;
    } rows[] = {{401, GRAFT_NOT_FOUND, "HF_TOKEN"},   {403, GRAFT_NOT_FOUND, "consent"},
                {404, GRAFT_NOT_FOUND, "owner/name"}, {429, GRAFT_IO, "fewer requests"},
                {500, GRAFT_IO, "status 500"},        {418, GRAFT_IO, "status 418"}};
    world *w = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fail_next(w, rows[i].status, 3);
        expect(w, 3, rows[i].result, rows[i].word);
        bool passes = rows[i].status == 429 || rows[i].status == 500;
        assert_int_equal(w->hub.nlog, passes ? 3 : 1);
        w->hub.fail_times = 1;
        expect(w, 1, rows[i].result, "as the test wished");
    }
    assert_int_equal(size_of(temp_path(&w->dir, "hub")), SIZE_MAX); /* nothing was made */
    gr_hub_got got;
    graft_error err;
    assert_int_equal(fetch_as(w, "me/other", NULL, 1, &got, &err), GRAFT_NOT_FOUND);
    assert_int_equal(fetch_as(w, "other", NULL, 1, &got, &err), GRAFT_USAGE);
    assert_int_equal(w->hub.nlog, 0);
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

#define LIST(rest) "{\"sha\":\"" HUB_COMMIT "\",\"siblings\":[" rest "]}"
#define ZEROS      "0000000000000000000000000000000000000000"

static void bad_lists(void **state) {
    static const struct {
        const char *list, *word;
    } rows[] = {
        {"nothing", "not valid JSON"},
        {"{}", "names no commit"},
        {"{\"sha\":\"../../0123456789abcdef0123456789abcdef0123\",\"siblings\":[]}", "names no commit"},
        {"{\"sha\":\"" HUB_COMMIT "\"}", "has no files"},
        {LIST("{}"), "without a name"},
        {LIST("{\"rfilename\":\"../x\"}"), "no file's"},
        {LIST("{\"rfilename\":\"/etc/x\"}"), "no file's"},
        {LIST("{\"rfilename\":\"a/../../x\"}"), "no file's"},
        {LIST("{\"rfilename\":\"a//x\"}"), "no file's"},
        {LIST("{\"rfilename\":\"a\\nb\"}"), "no file's"},
        {LIST("{\"rfilename\":\"a\",\"size\":-1}"), "impossible size"},
        {LIST("{\"rfilename\":\"a\",\"size\":9007199254740992}"), "impossible size"},
        {LIST("{\"rfilename\":\"a\",\"size\":1,\"blobId\":\"xyz\"}"), "digest that is none"},
        {LIST("{\"rfilename\":\"a\",\"lfs\":{\"size\":1,\"sha256\":\"" ZEROS "\"}}"), "digest that is none"},
        {LIST("{\"rfilename\":\"m.safetensors\",\"blobId\":\"" ZEROS "\",\"size\":200000000000000}"),
         "not enough room"},
    };
    world *w = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        gr_hub_got got;
        graft_error err;
        w->hub.list = rows[i].list;
        graft_status st = fetch_as(w, "me/tiny", NULL, 3, &got, &err);
        if (!st || !strstr(err.what, rows[i].word)) fail_msg("case %zu: %d %s", i, (int)st, err.what);
    }
    assert_int_equal(find("me/tiny"), GRAFT_NOT_FOUND);
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

static void no_way(void **state) {
    world *w = *state;
    w->hub.loop = 1;
    expect(w, 1, GRAFT_IO, "redirect");
    char keep[64];
    snprintf(keep, sizeof keep, "%s", getenv("HF_ENDPOINT"));
    setenv("HF_ENDPOINT", "ftp://example.com", 1);
    expect(w, 1, GRAFT_USAGE, "ftp://");
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    expect(w, 2, GRAFT_IO, "network failed");
    setenv("HF_HUB_OFFLINE", "1", 1);
    expect(w, 1, GRAFT_USAGE, "HF_HUB_OFFLINE");
    setenv("HF_HUB_OFFLINE", "0", 1);
    setenv("HF_ENDPOINT", keep, 1);
    w->hub.loop = 0;
    gr_dir_lock lock = {0}; /* somebody else is at it */
    const char *locks = temp_path(&w->dir, "hub/.locks/models--me--tiny");
    assert_int_equal(gr_make_dirs(locks, NULL), GRAFT_OK);
    assert_int_equal(gr_dir_lock_take(&lock, locks, "", NULL), GRAFT_OK);
    expect(w, 1, GRAFT_IO, NULL);
    gr_dir_lock_release(&lock);
    expect(w, 1, GRAFT_OK, NULL);
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

static void without_libcurl(void **state) {
    world *w = *state;
    expect(w, 1, GRAFT_UNSUPPORTED, "libcurl");
}

/* The token goes over plain http to nobody else. */
static void local_addresses(void **state) {
    (void)state;
    static const char *const own[] = {"http://localhost", "http://localhost:80/x", "http://127.0.0.1:1",
                                      "http://[::1]:9/x"},
                             *const others[] = {"http://localhost.evil.example",
                                                "http://127.evil.example:80",
                                                "http://localhost@evil.example",
                                                "http://localhost:1@evil.example",
                                                "https://localhost",
                                                "http://[::1].evil.example",
                                                "http://",
                                                "http://[::1",
                                                "http://127.0.0.1?@evil.example"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) assert_true(gr_http_is_local(own[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) assert_false(gr_http_is_local(others[i]));
}

#define HUB_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
    const struct CMUnitTest net[] = {
        cmocka_unit_test(local_addresses),
        HUB_TEST(fetches_a_model),
        HUB_TEST(chooses),
        HUB_TEST(goes_on),
        HUB_TEST(tries_again),
        HUB_TEST(servers_without_ranges),
        HUB_TEST(servers_with_wrong_ranges),
        HUB_TEST(altered_bytes),
        HUB_TEST(altered_part),
        HUB_TEST(wrong_lengths),
        HUB_TEST(refusals),
        HUB_TEST(tokens),
        HUB_TEST(slow_answers),
        HUB_TEST(stops),
        HUB_TEST(bad_lists),
        HUB_TEST(headers_alone),
        HUB_TEST(no_way),
        HUB_TEST(snapshots_of_gguf),
    };
    const struct CMUnitTest left_out[] = {HUB_TEST(without_libcurl)};
    return gr_http_built() ? cmocka_run_group_tests(net, NULL, NULL)
                           : cmocka_run_group_tests(left_out, NULL, NULL);
}
