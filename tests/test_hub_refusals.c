/* hub: what is altered, cut, listed wrongly or locked is refused by name, and nothing of it stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/hub_list.h"
#include "hub_find.h"
#include "hub_world.h"

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
    char digest[65], name[120];
    hub_digest(hub_find_file(&w->hub, "model.safetensors"), digest);
    snprintf(name, sizeof name, "hub/.locks/models--me--tiny/%s.lock", digest); /* as huggingface_hub's */
    assert_int_equal(gr_file_lock_take(&lock, temp_path(&w->dir, name), "", NULL), GRAFT_OK);
    expect(w, 1, GRAFT_IO, "another program downloads");
    gr_dir_lock_release(&lock);
    expect(w, 1, GRAFT_OK, NULL);
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

/* Without --include: weights, and what a tokenizer is made of, named chat templates too. */
static void what_is_chosen(void **state) {
    static const char rows[] =
        LIST("{\"rfilename\":\"model.safetensors\",\"size\":1,\"blobId\":\"" ZEROS
             "\"},{\"rfilename\":\"notes/x.jinja\",\"size\":1,\"blobId\":\"" ZEROS
             "\"},{\"rfilename\":\"additional_chat_templates/tool_use.jinja\",\"size\":1,"
             "\"blobId\":\"" ZEROS "\"}");
    graft_error err = {0};
    gr_hub_list list;
    (void)state;
    assert_int_equal(gr_hub_list_read(&list, rows, sizeof rows - 1, &err), GRAFT_OK);
    assert_int_equal(gr_hub_list_choose(&list, NULL, &err), GRAFT_OK);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.files[1].name, "additional_chat_templates/tool_use.jinja");
    gr_hub_list_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        HUB_TEST(altered_bytes),
        HUB_TEST(altered_part),
        HUB_TEST(wrong_lengths),
        HUB_TEST(refusals),
        HUB_TEST(bad_lists),
        HUB_TEST(no_way),
        cmocka_unit_test(local_addresses),
        cmocka_unit_test(what_is_chosen),
    };
    HUB_RUN(tests);
}
