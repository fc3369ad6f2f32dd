/* files/safetensors: what is read, what is refused and why, what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "files/safetensors.h"
#include "temp_dir.h"
#include <sys/stat.h>

/* A file of a header text and `data` zero bytes; the length word is `length`, or the text's when 0. */
static const char *make(temp_dir *dir, const char *name, const char *header, uint64_t length, size_t data) {
    uint8_t bytes[4096] = {0};
    size_t len = strlen(header);
    if (!length) length = len;
    assert_true(8 + len + data <= sizeof bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, len);
    for (size_t i = 0; i < data; i++) bytes[8 + len + i] = (uint8_t)i;
    return temp_file(dir, name, bytes, 8 + len + data);
}

typedef struct bad_case {
    const char *what; /* in the error's text */
    graft_status status;
    const char *header;
    uint64_t length; /* 0: right */
    size_t data;
} bad_case;

#define T(dtype, shape, from, to)                                                                            \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"
static const bad_case bad_cases[] = {
    {"longer than the file", GRAFT_CORRUPT, "{}", (uint64_t)1 << 60, 0},
    {"longer than the file", GRAFT_CORRUPT, "{}", UINT64_MAX, 0},
    {"longer than the file", GRAFT_CORRUPT, "{}", 3, 0},
    {"not valid JSON", GRAFT_CORRUPT, "{\"a\":", 0, 0},
    {"not a JSON object", GRAFT_CORRUPT, "[]", 0, 0},
    {"not valid JSON", GRAFT_CORRUPT,
     "{\"a\":" T("U8", "[1]", "0", "1") ",\"a\":" T("U8", "[1]", "0", "1") "}", 0, 1},
    {"cut off", GRAFT_CORRUPT, "{\"a\":" T("F32", "[1073741824,268435456]", "0", "1152921504606846976") "}",
     0, 8},
    {"cut off", GRAFT_CORRUPT, "{\"a\":" T("U8", "[4]", "0", "4") "}", 0, 3},
    {"overflows", GRAFT_CORRUPT, "{\"a\":" T("F32", "[4294967296,4294967296]", "0", "0") "}", 0, 0},
    {"overflows", GRAFT_CORRUPT, "{\"a\":" T("F32", "[4294967296,0,4294967296]", "0", "0") "}", 0, 0},
    {"offsets span", GRAFT_CORRUPT, "{\"a\":" T("F16", "[3]", "0", "4") "}", 0, 4},
    {"overlap", GRAFT_CORRUPT, "{\"a\":" T("U8", "[4]", "0", "4") ",\"b\":" T("U8", "[4]", "2", "6") "}", 0,
     6},
    {"belong to no tensor", GRAFT_CORRUPT,
     "{\"a\":" T("U8", "[2]", "0", "2") ",\"b\":" T("U8", "[2]", "3", "5") "}", 0, 5},
    {"belong to no tensor", GRAFT_CORRUPT, "{\"a\":" T("U8", "[2]", "0", "2") "}", 0, 5},
    {"data_offsets", GRAFT_CORRUPT, "{\"a\":" T("U8", "[2]", "2", "0") "}", 0, 2},
    {"data_offsets", GRAFT_CORRUPT, "{\"a\":" T("U8", "[2]", "-2", "0") "}", 0, 2},
    {"data_offsets", GRAFT_CORRUPT, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 0, 1},
    {"natural number", GRAFT_CORRUPT, "{\"a\":" T("U8", "[-1]", "0", "0") "}", 0, 0},
    {"natural number", GRAFT_CORRUPT, "{\"a\":" T("U8", "[1.5]", "0", "1") "}", 0, 1},
    {"shape is not an array", GRAFT_CORRUPT, "{\"a\":" T("U8", "7", "0", "7") "}", 0, 7},
    {"dimensions", GRAFT_UNSUPPORTED, "{\"a\":" T("U8", "[1,1,1,1,1,1,1,1,1]", "0", "1") "}", 0, 1},
    {"dtype F4 is not known", GRAFT_UNSUPPORTED, "{\"a\":" T("F4", "[2]", "0", "1") "}", 0, 1},
    {"no dtype", GRAFT_CORRUPT, "{\"a\":7}", 0, 0},
    {"__metadata__", GRAFT_CORRUPT, "{\"__metadata__\":7}", 0, 0},
    {"__metadata__", GRAFT_CORRUPT, "{\"__metadata__\":{\"x\":7}}", 0, 0},
};

static void bad_files_are_refused(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    for (size_t i = 0; i < sizeof bad_cases / sizeof *bad_cases; i++) {
        const bad_case *bad = &bad_cases[i];
        const char *path = make(&dir, "bad.safetensors", bad->header, bad->length, bad->data);
        graft_error err = {0};
        gr_safetensors *file = (void *)&dir;
        graft_status st = gr_safetensors_open(&file, path, &err);
        if (st != bad->status || err.status != st || !strstr(err.what, bad->what))
            fail_msg("case %zu, %s: status %d, \"%s\"", i, bad->header, (int)st, err.what);
        assert_null(file);
        assert_non_null(strstr(err.where, "bad.safetensors"));
    }
    graft_error err = {0};
    gr_safetensors *file;
    assert_int_equal(gr_safetensors_open(&file, temp_file(&dir, "short", "1234567", 7), &err), GRAFT_CORRUPT);
    gr_error_clear(&err);
    assert_int_equal(gr_safetensors_open(&file, temp_file(&dir, "empty", "", 0), &err), GRAFT_CORRUPT);
    gr_error_clear(&err);
    assert_int_equal(gr_safetensors_open(&file, temp_path(&dir, "absent"), &err), GRAFT_NOT_FOUND);
    temp_dir_free(&dir);
}

static void all_problems_are_listed(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_safetensors *file;
    const char *header =
        "{\"one\":" T("U8", "[9]", "0", "9") ",\"two\":" T("F99", "[1]", "0", "1") ",\"three\":7}";
    assert_int_equal(gr_safetensors_open(&file, make(&dir, "f", header, 0, 1), &err), GRAFT_CORRUPT);
    assert_string_equal(err.what, "3 problems");
    assert_non_null(strstr(err.found, "one"));
    assert_non_null(strstr(err.found, "two"));
    assert_non_null(strstr(err.found, "three"));
    temp_dir_free(&dir);
}

/* Data order differs from header order, a u32 tensor at an odd offset, null metadata, scalars and empty
 * tensors. */
static void unusual_files_are_read(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_safetensors *file;
    const char *header = "{\"__metadata__\":null,\"z\":" T("U32", "[2]", "3", "11") ",\"e\":" T(
        "F32", "[0,7]", "3", "3") ",\"a\":" T("U8", "[3]", "0", "3") ",\"s\":" T("BF16", "[]", "11",
                                                                                 "13") "}   ";
    assert_int_equal(gr_safetensors_open(&file, make(&dir, "f.safetensors", header, 0, 13), &err), GRAFT_OK);
    assert_int_equal(gr_safetensors_count(file), 4);
    assert_string_equal(gr_safetensors_at(file, 0)->name, "a");
    assert_string_equal(gr_safetensors_at(file, 3)->name, "z");
    assert_null(gr_safetensors_at(file, 4));
    assert_null(gr_safetensors_find(file, "b"));
    assert_null(gr_safetensors_metadata(file, "format"));
    const gr_tensor *z = gr_safetensors_find(file, "z"), *s = gr_safetensors_find(file, "s"),
                    *e = gr_safetensors_find(file, "e");
    assert_int_equal(z->data[0], 3);
    assert_int_equal(z->bytes, 8);
    assert_int_equal(z->dtype, GR_U32);
    assert_int_equal(s->ndim, 0);
    assert_int_equal(gr_tensor_count(s), 1);
    assert_int_equal(gr_tensor_count(e), 0);
    assert_int_equal(e->bytes, 0);
    gr_safetensors_close(file);
    temp_dir_free(&dir);
}

static void shards_follow_the_index(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_safetensors *file;
    make(&dir, "m-1.safetensors", "{\"b\":" T("U8", "[1]", "0", "1") ",\"__metadata__\":{\"format\":\"pt\"}}",
         0, 1);
    make(&dir, "m-2.safetensors", "{\"a\":" T("U8", "[2]", "0", "2") "}", 0, 2);
    static const struct {
        const char *index;
        graft_status status;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"m-2.safetensors\",\"b\":\"m-1.safetensors\"}}", GRAFT_OK},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}", GRAFT_CORRUPT},
        {"{\"weight_map\":{\"a\":\"m-2.safetensors\",\"c\":\"m-1.safetensors\"}}", GRAFT_NOT_FOUND},
        {"{\"weight_map\":{\"a\":\"m-3.safetensors\"}}", GRAFT_NOT_FOUND},
        {"{\"weight_map\":{\"a\":\"../m-2.safetensors\"}}", GRAFT_CORRUPT},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", GRAFT_CORRUPT},
        {"{\"weight_map\":{\"a\":\"..\"}}", GRAFT_CORRUPT},
        {"{\"weight_map\":{\"a\":\"\"}}", GRAFT_CORRUPT},
        {"{\"weight_map\":{\"a\":7}}", GRAFT_CORRUPT},
        {"{\"weight_map\":[]}", GRAFT_CORRUPT},
        {"{}", GRAFT_NOT_FOUND},
        {"{", GRAFT_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_error_clear(&err);
        temp_file(&dir, "model.safetensors.index.json", cases[i].index, strlen(cases[i].index));
        graft_status st = gr_safetensors_open(&file, dir.path, &err);
        if (st != cases[i].status) fail_msg("%s: status %d, %s", cases[i].index, (int)st, err.what);
        if (st != GRAFT_OK) continue;
        assert_non_null(strstr(gr_safetensors_path(file, gr_safetensors_find(file, "a")), "m-2"));
        assert_string_equal(gr_safetensors_metadata(file, "format"), "pt");
        gr_safetensors_close(file);
    }
    /* without an index: every file, and a name that two have is refused */
    remove(temp_path(&dir, "model.safetensors.index.json"));
    gr_error_clear(&err);
    assert_int_equal(gr_safetensors_open(&file, dir.path, &err), GRAFT_OK);
    assert_int_equal(gr_safetensors_count(file), 2);
    gr_safetensors_close(file);
    make(&dir, "m-3.safetensors", "{\"a\":" T("U8", "[2]", "0", "2") "}", 0, 2);
    assert_int_equal(gr_safetensors_open(&file, dir.path, &err), GRAFT_CORRUPT);
    assert_non_null(strstr(err.what, "two files"));
    temp_dir_free(&dir);
    dir = temp_dir_new();
    gr_error_clear(&err);
    assert_int_equal(gr_safetensors_open(&file, dir.path, &err), GRAFT_NOT_FOUND);
    temp_dir_free(&dir);
}

static void writing_round_trips(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_safetensors *file;
    const uint8_t bytes[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const gr_tensor tensors[] = {
        {.name = "second \"quoted\"",
         .dtype = GR_F16,
         .ndim = 2,
         .shape = {2, 3},
         .data = bytes,
         .bytes = 12},
        {.name = "first", .dtype = GR_U8, .ndim = 1, .shape = {3}, .data = bytes, .bytes = 3},
        {.name = "none", .dtype = GR_F32, .ndim = 1, .shape = {0}, .data = bytes, .bytes = 0}};
    const char *const metadata[] = {"format", "mlx", "digest", "abc", NULL},
                      *path = temp_path(&dir, "out.safetensors");
    assert_int_equal(gr_safetensors_save(path, tensors, 3, metadata, &err), GRAFT_OK);
    assert_int_equal(gr_safetensors_open(&file, path, &err), GRAFT_OK);
    assert_int_equal(gr_safetensors_count(file), 3);
    for (int i = 0; i < 3; i++) {
        const gr_tensor *t = gr_safetensors_find(file, tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, tensors[i].dtype);
        assert_int_equal(t->bytes, tensors[i].bytes);
        assert_memory_equal(t->shape, tensors[i].shape, sizeof t->shape);
        assert_memory_equal(t->data, tensors[i].data, t->bytes);
    }
    assert_string_equal(gr_safetensors_metadata(file, "digest"), "abc");
    /* the data section begins at a multiple of 64 of the file, which is mapped at a page */
    assert_int_equal((uintptr_t)gr_safetensors_find(file, tensors[0].name)->data % 64, 0);
    gr_safetensors_close(file);
    temp_dir_free(&dir);
}

static void the_writer_counts(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    gr_safetensors_writer *w;
    struct stat info;
    const uint8_t bytes[4] = {0};
    gr_tensor tensors[] = {{.name = "a", .dtype = GR_U8, .ndim = 1, .shape = {4}, .bytes = 4},
                           {.name = "a", .dtype = GR_U8, .ndim = 1, .shape = {4}, .bytes = 4}};
    const char *path = temp_path(&dir, "out.safetensors");
    for (size_t given = 3; given <= 5; given++) {
        gr_error_clear(&err);
        assert_int_equal(gr_safetensors_create(&w, path, tensors, 1, NULL, &err), GRAFT_OK);
        for (size_t i = 0; i < given; i++)
            assert_int_equal(gr_safetensors_write(w, bytes, 1, &err), GRAFT_OK);
        assert_int_equal(gr_safetensors_commit(w, &err), given == 4 ? GRAFT_OK : GRAFT_INTERNAL);
        assert_int_equal(stat(path, &info) == 0, given >= 4); /* nothing appears before a good commit */
    }
    gr_error_clear(&err);
    assert_int_equal(gr_safetensors_create(&w, path, tensors, 2, NULL, &err),
                     GRAFT_INTERNAL); /* declared twice */
    gr_error_clear(&err);
    tensors[0].bytes = 5;
    assert_int_equal(gr_safetensors_create(&w, path, tensors, 1, NULL, &err), GRAFT_INTERNAL);
    gr_error_clear(&err);
    tensors[0].bytes = 4;
    assert_int_equal(gr_safetensors_create(&w, temp_path(&dir, "no/such/dir/f"), tensors, 1, NULL, &err),
                     GRAFT_NOT_FOUND);
    assert_int_equal(gr_safetensors_create(&w, path, tensors, 1, NULL, NULL), GRAFT_OK);
    gr_safetensors_abort(w);
    temp_dir_free(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_files_are_refused),  cmocka_unit_test(all_problems_are_listed),
        cmocka_unit_test(unusual_files_are_read), cmocka_unit_test(shards_follow_the_index),
        cmocka_unit_test(writing_round_trips),    cmocka_unit_test(the_writer_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
