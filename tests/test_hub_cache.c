/* hub/hub_cache: names of models, and what lies in the cache under them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/os.h"
#include "hub/hub_cache.h"
#include "hub_find.h"
#include "model/locate.h"
#include "temp_dir.h"
#include <unistd.h>

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static const char *in_repository(temp_dir *dir, const char *rest) {
    char name[160];
    snprintf(name, sizeof name, "hub/models--me--tiny/%.130s", rest);
    return temp_path(dir, name);
}

static void names(void **state) {
    (void)state;
    static const char *const bad[] = {"",      "a",    "/a",   "a/",       "a/b/c",   "../b",
                                      "a/..",  "./b",  "a/b@", "a/b@../c", "a/b@/c",  "a b/c",
                                      "a/b?c", "a/.b", "a//b", "@a/b",     "a/b@c d", "a/b..c"};
    gr_hub_name name;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (gr_hub_name_read(&name, bad[i])) fail_msg("%s is no name", bad[i]);
    assert_true(gr_hub_name_read(&name, "Me-1/some_model.v2"));
    assert_string_equal(name.revision, "main");
    assert_true(gr_hub_name_read(&name, "a/b@refs/pr/3") && name.given);
    assert_string_equal(name.name, "a/b");
    assert_string_equal(name.revision, "refs/pr/3");
}

static void incomplete_snapshots(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    setenv("HF_HUB_CACHE", temp_path(&dir, "hub"), 1);
    graft_error err = {0};
    char *path;
    bool gguf;
    assert_int_equal(gr_model_locate(&path, &gguf, "me/tiny@dev", &err), GRAFT_NOT_FOUND);
    assert_string_equal(err.hint, "download it with: graft download me/tiny@dev");
    const char *snapshot = in_repository(&dir, "snapshots/" COMMIT);
    assert_int_equal(gr_make_dirs(snapshot, NULL), GRAFT_OK);
    assert_int_equal(gr_make_dirs(in_repository(&dir, "refs"), NULL), GRAFT_OK);
    assert_int_equal(gr_file_replace(in_repository(&dir, "refs/main"), COMMIT "\n", 41, NULL), GRAFT_OK);
    char file[300];
    snprintf(file, sizeof file, "%s/model.safetensors.index.json", snapshot);
    static const char index[] =
        "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"model-2.safetensors\"}}";
    assert_int_equal(gr_file_replace(file, index, sizeof index - 1, NULL), GRAFT_OK);
    assert_int_equal(find("me/tiny"), GRAFT_OK); /* the configuration alone is enough for a plan */
    snprintf(file, sizeof file, "%s/model-2.safetensors", snapshot);
    assert_int_equal(gr_file_replace(file, "x", 1, NULL), GRAFT_OK);
    memset(&err, 0, sizeof err);
    assert_int_equal(gr_model_locate(&path, &gguf, "me/tiny", &err), GRAFT_CORRUPT);
    assert_true(gr_ends_with(err.where, "/model-1.safetensors"));
    assert_non_null(strstr(err.hint, "graft download me/tiny"));
    snprintf(file, sizeof file, "%s/model-1.safetensors", snapshot);
    assert_int_equal(symlink("../../blobs/aa", file), 0);
    memset(&err, 0, sizeof err);
    assert_int_equal(gr_model_locate(&path, &gguf, "me/tiny", &err), GRAFT_CORRUPT);
    assert_true(gr_ends_with(err.where, "/model-1.safetensors"));
    assert_non_null(strstr(err.found, "blob"));
    assert_int_equal(gr_make_dirs(in_repository(&dir, "blobs"), NULL), GRAFT_OK);
    assert_int_equal(gr_file_replace(in_repository(&dir, "blobs/aa"), "x", 1, NULL), GRAFT_OK);
    assert_int_equal(find("me/tiny"), GRAFT_OK);
    temp_dir_free(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(incomplete_snapshots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
