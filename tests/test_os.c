/* base/os.c: what is written appears whole or not at all, what is read instead of mapped stays. */
#include "base/os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above
#include <cmocka.h>
// and this cmocka
#include "tests/temp_dir.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <utime.h>

static void must_hold(const char *path, const char *text) {
    char *data;
    size_t size;
    assert_int_equal(gr_file_read(&data, &size, path, 1 << 20, NULL), GRAFT_OK);
    assert_string_equal(data, text);
    free(data);
}

static void sealed_files_appear_when_they_are_committed(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_writer a, b;
    const char *x = temp_path(&dir, "x"), *y = temp_path(&dir, "y");
    assert_int_equal(gr_file_replace(x, "old", 3, &err), GRAFT_OK);
    assert_int_equal(gr_writer_begin(&a, x, &err), GRAFT_OK);
    assert_int_equal(gr_writer_begin(&b, y, &err), GRAFT_OK);
    assert_int_equal(gr_writer_write(&a, "new", 3, &err), GRAFT_OK);
    assert_int_equal(gr_writer_write(&b, "too", 3, &err), GRAFT_OK);
    assert_int_equal(gr_writer_seal(&a, &err), GRAFT_OK);
    assert_int_equal(gr_writer_seal(&a, &err), GRAFT_OK); /* twice is once */
    must_hold(x, "old");
    gr_writer_abort(&b);
    assert_int_equal(gr_writer_commit(&a, &err), GRAFT_OK);
    must_hold(x, "new");
    assert_false(gr_path_exists(y));
    gr_writer_abort(&a);
    assert_int_equal(rmdir(dir.path), -1); /* x alone is in it */
    unlink(x);
    assert_int_equal(rmdir(dir.path), 0);
}

/* Of the files that writers of one target left, those that are old and that nobody holds. */
static void left_files_are_removed_and_living_ones_stay(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_writer w;
    const char *path = temp_path(&dir, "logits.npy"), *old = temp_path(&dir, "logits.npy.123-ab.tmp"),
               *young = temp_path(&dir, "logits.npy.124-ab.tmp"),
               *other = temp_path(&dir, "other.npy.123-ab.tmp"),
               *foreign = temp_path(&dir, "logits.npy.mine.tmp");
    const char *const all[] = {old, young, other, foreign};
    for (int i = 0; i < 4; i++) assert_int_equal(gr_file_replace(all[i], "", 0, &err), GRAFT_OK);
    assert_int_equal(gr_writer_begin(&w, path, &err), GRAFT_OK);
    struct utimbuf long_ago = {1, 1};
    assert_int_equal(utime(old, &long_ago), 0);
    assert_int_equal(utime(other, &long_ago), 0);
    assert_int_equal(utime(foreign, &long_ago), 0);
    assert_int_equal(utime(w.temp, &long_ago), 0);
    gr_remove_temps_of(path);
    assert_false(gr_path_exists(old));
    assert_true(gr_path_exists(young));
    assert_true(gr_path_exists(other));
    assert_true(gr_path_exists(foreign));
    assert_true(gr_path_exists(w.temp));
    gr_writer_abort(&w);
    temp_dir_free(&dir);
}

/* Pages that are dropped from the resident set come back as they were, though no file is behind them. */
static void read_files_survive_release(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    size_t n = (size_t)1 << 20;
    char *bytes = malloc(n);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(i * 7 + i / 4096);
    const char *path = temp_file(&dir, "x", bytes, n);
    for (gr_reading how = GR_MAPPED; how.kind <= GR_READ_IN_MEMORY; how.kind++) {
        gr_map map;
        assert_int_equal(gr_map_open(&map, path, how, &err), GRAFT_OK);
        assert_int_equal(map.size, n);
        gr_map_release(map.data, map.size);
        assert_memory_equal(map.data, bytes, n);
        if (how.kind == GR_READ_IN_MEMORY) { /* and the file may be cut */
            assert_int_equal(truncate(path, 0), 0);
            assert_memory_equal(map.data, bytes, n);
        }
        gr_map_close(&map);
    }
    gr_map empty;
    assert_int_equal(gr_map_open(&empty, path, GR_IN_MEMORY, &err), GRAFT_OK);
    assert_null(empty.data);
    free(bytes);
    temp_dir_free(&dir);
}

static void trouble_says_what_to_do(void **state) {
    (void)state;
    graft_error err = {0};
    gr_fail_written(&err, ENOSPC, "cannot write", "x");
    assert_int_equal(err.status, GRAFT_IO);
    assert_non_null(strstr(err.hint, "make room"));
    gr_error_clear(&err);
    gr_fail_written(&err, EIO, "cannot write", "x");
    assert_string_equal(err.hint, "");
    gr_error_clear(&err);
    assert_int_equal(gr_make_dirs("/dev/null/x", &err), GRAFT_IO);
}

static void no_directory(void **state) {
    (void)state;
    graft_error err = {0};
    assert_int_equal(gr_make_dirs("", &err), GRAFT_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_directory),
        cmocka_unit_test(sealed_files_appear_when_they_are_committed),
        cmocka_unit_test(left_files_are_removed_and_living_ones_stay),
        cmocka_unit_test(read_files_survive_release),
        cmocka_unit_test(trouble_says_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
