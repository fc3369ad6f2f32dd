/* convert: where the output appears, when, and what is left when it does not; kept conversions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tiny_source.h"
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

/* A conversion that fails half-way leaves what was there as it was, and nothing of its own. */
static void half_done_leaves_no_trace(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    tensors t = {0};
    graft_error err = {0};
    make_llama(&src, LLAMA);
    assert_int_equal(run(src.path, out.path, (gr_convert_options){0}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_true(gr_path_exists(temp_path(&out, "config.json")));
    unfinish(&out);
    int before = entries(out.path);
    /* one value that float16 cannot hold, in an extra tensor */
    add_tensor(&t, "zzz.weight", 0, 4);
    uint16_t *data = (uint16_t *)(uintptr_t)t.items[0].data;
    data[3] = gr_f32_to_bf16(1e30f);
    assert_int_equal(gr_safetensors_save(temp_path(&src, "model-extra.safetensors"), t.items, 1, NULL, &err),
                     GRAFT_OK);
    assert_int_equal(rename(temp_path(&src, "model.safetensors"), temp_path(&src, "model-a.safetensors")), 0);
    assert_int_equal(run(src.path, out.path, (gr_convert_options){.dtype = "float16"}, &result), GRAFT_RANGE);
    assert_int_equal(entries(out.path), before);
    gr_safetensors_close(load(out.path));
    const char *fresh = temp_path(&src, "fresh");
    assert_int_equal(run(src.path, fresh, (gr_convert_options){.dtype = "float16"}, &result), GRAFT_RANGE);
    assert_false(gr_path_exists(fresh));
    assert_int_equal(entries(src.path), 4); /* config, tokenizer, two files of weights */
    free(data);
    temp_dir_free(&src);
    temp_dir_free(&out);
}

/* One infinity among the weights of a linear: its group cannot be quantized, the others could. */
static void infinite_weights(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    make_llama(&src, LLAMA);
    gr_safetensors *file = load(src.path);
    const gr_tensor *t = gr_safetensors_find(file, "model.layers.1.mlp.up_proj.weight");
    const char *path = temp_path(&src, "model.safetensors");
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    char header[9] = {0};
    assert_int_equal(fread(header, 1, 8, f), 8);
    uint64_t length;
    memcpy(&length, header, 8);
    /* where the tensor lies: its first bytes, found in the file */
    fseek(f, 0, SEEK_END);
    long size = ftell(f), at = -1;
    char *bytes = malloc((size_t)size);
    fseek(f, 0, SEEK_SET);
    assert_int_equal(fread(bytes, 1, (size_t)size, f), size);
    for (long i = (long)length; i + 64 < size && at < 0; i++)
        if (memcmp(bytes + i, t->data, 64) == 0) at = i;
    assert_true(at > 0);
    fseek(f, at + 2 * 777, SEEK_SET);
    const uint16_t infinity = 0x7f80;
    assert_int_equal(fwrite(&infinity, 2, 1, f), 1);
    assert_int_equal(fclose(f), 0);
    free(bytes);
    gr_safetensors_close(file);
    gr_convert_options q = {.quantize = true, .threads = 2};
    assert_int_equal(run(src.path, out.path, q, &result), GRAFT_CORRUPT);
    q.quant_predicate = "model.layers.1.mlp.up_proj=false";
    assert_int_equal(run(src.path, out.path, q, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    unfinish(&out);
    assert_int_equal(run(src.path, out.path, (gr_convert_options){.dtype = "float32"}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    temp_dir_free(&src);
    temp_dir_free(&out);
}

/* The second call of progress either stops, or does the same conversion to its end meanwhile. */
typedef struct meddler {
    const char *model, *out;
    bool stops;
} meddler;

static bool meddle(void *context, const char *tensor, size_t done, size_t total) {
    const meddler *m = context;
    gr_convert_result result;
    (void)tensor;
    (void)total;
    if (done != 1) return true;
    if (m->stops) return false;
    assert_int_equal(run(m->model, m->out, (gr_convert_options){.dtype = "float32"}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    return true;
}

static void stops_and_races(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), place = temp_dir_new();
    char out[256];
    gr_convert_result result;
    make_llama(&src, LLAMA);
    snprintf(out, sizeof out, "%s/deep/out", place.path);
    meddler m = {src.path, out, true};
    gr_convert_options options = {.progress = meddle, .context = &m};
    assert_int_equal(run(src.path, out, options, &result), GRAFT_INTERRUPTED);
    assert_int_equal(entries(temp_path(&place, "deep")), 0);
    m.stops = false; /* the other is done first: its conversion stays */
    assert_int_equal(run(src.path, out, options, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_int_equal(entries(temp_path(&place, "deep")), 1);
    gr_safetensors *file = load(out);
    assert_int_equal(gr_safetensors_find(file, "model.norm.weight")->dtype, GR_F32);
    gr_safetensors_close(file);
    m.stops = true; /* an earlier one survives a stop .. */
    options.dtype = "float32";
    int before = entries(out);
    assert_int_equal(run(src.path, out, options, &result), GRAFT_INTERRUPTED);
    assert_int_equal(entries(out), before);
    /* .. and is replaced by one that ends; what is not ours stays */
    temp_file(&place, "deep/out/notes.txt", "x", 1);
    assert_int_equal(run(src.path, out, (gr_convert_options){.dtype = "float32"}, &result), GRAFT_OK);
    assert_non_null(strstr(result.notes[0], "held this conversion already"));
    gr_convert_result_free(&result);
    assert_int_equal(entries(out), before + 1);
    temp_dir_free(&src);
    temp_dir_free(&place);
}

/* Nobody's model is replaced by another one: not of other options, not of another source. */
static void another_is_not_replaced(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), out = temp_dir_new();
    gr_convert_result result;
    graft_error err = {0};
    make_llama(&src, LLAMA);
    assert_int_equal(run(src.path, out.path, (gr_convert_options){0}, &result), GRAFT_OK);
    assert_int_equal(result.note_count, 0);
    gr_convert_result_free(&result);
    int before = entries(out.path);
    gr_convert_options other = {.model = src.path, .out = out.path, .dtype = "float32"};
    assert_int_equal(gr_convert(&other, &result, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.what, "another model or with other options"));
    assert_non_null(strstr(err.hint, "--mlx-path"));
    temp_file(&src, "tokenizer.json", "{ }", 3);
    assert_int_equal(run(src.path, out.path, (gr_convert_options){0}, &result), GRAFT_USAGE);
    assert_int_equal(entries(out.path), before);
    gr_safetensors *file = load(out.path);
    assert_int_equal(gr_safetensors_find(file, "model.norm.weight")->dtype, GR_BF16);
    gr_safetensors_close(file);
    unfinish(&out); /* without its config it is no model */
    assert_int_equal(run(src.path, out.path, (gr_convert_options){0}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_int_equal(entries(out.path), before);
    temp_dir_free(&src);
    temp_dir_free(&out);
}

/* A directory as a conversion that was killed leaves it, `age` seconds ago. */
static const char *left(temp_dir *place, const char *name, time_t age) {
    char path[100];
    snprintf(path, sizeof path, "%s/%s", place->path, name);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", name);
    temp_file(place, path, "x", 1);
    snprintf(path, sizeof path, "%s/.graft-convert", name);
    struct timespec times[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
    assert_int_equal(utimensat(AT_FDCWD, temp_file(place, path, "x", 1), times, 0), 0);
    return temp_path(place, name);
}

static bool is_there(temp_dir *place, const char *name) {
    return gr_path_exists(temp_path(place, name));
}

/* What killed conversions to the same place left goes; what somebody fills, or is of another place, stays. */
static void sweeps_what_was_left(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), place = temp_dir_new();
    gr_convert_result result;
    char out[256];
    make_llama(&src, LLAMA);
    snprintf(out, sizeof out, "%s/out/", place.path);
    left(&place, "out.123-4ab.tmp", 1000);
    left(&place, "out.124-4ab.tmp", 0);
    left(&place, "out.125-4ab.tmp", 1000);
    left(&place, "other.1-4ab.tmp", 1000);
    int fd = open(temp_path(&place, "out.125-4ab.tmp/.graft-convert"), O_RDWR);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    assert_int_equal(run(src.path, out, (gr_convert_options){0}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_false(is_there(&place, "out.123-4ab.tmp"));
    assert_true(is_there(&place, "out.124-4ab.tmp") && is_there(&place, "out.125-4ab.tmp"));
    assert_true(is_there(&place, "other.1-4ab.tmp"));
    assert_int_equal(entries(place.path), 4);
    int before = entries(out);
    left(&place, "out/.graft-convert.77-1.tmp", 1000); /* inside an output that was there before */
    assert_int_equal(run(src.path, out, (gr_convert_options){0}, &result), GRAFT_OK);
    gr_convert_result_free(&result);
    assert_int_equal(entries(out), before);
    close(fd);
    temp_dir_free(&src);
    temp_dir_free(&place);
}

static uint64_t key_of(const char *path) {
    graft_error err = {0};
    uint64_t key;
    assert_int_equal(gr_convert_key(&key, path, &err), GRAFT_OK);
    return key;
}

/* The same size and second is not the same file. */
static void keys_tell_files_apart(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    graft_error err = {0};
    uint64_t key;
    char a[256], b[256];
    snprintf(a, sizeof a, "%s", temp_file(&dir, "a.gguf", "one", 3));
    snprintf(b, sizeof b, "%s", temp_file(&dir, "b.gguf", "one", 3));
    struct timespec times[2] = {{.tv_sec = 1000000000, .tv_nsec = 5}, {.tv_sec = 1000000000, .tv_nsec = 5}};
    assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, b, times, 0), 0);
    uint64_t first = key_of(a);
    assert_true(first == key_of(a));
    assert_true(first != key_of(b)); /* another inode */
    FILE *f = fopen(a, "r+b");
    assert_non_null(f);
    assert_int_equal(fwrite("two", 1, 3, f), 3);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    assert_true(first != key_of(a)); /* other bytes */
    uint64_t second = key_of(a);
    times[1].tv_nsec = 6;
    assert_int_equal(utimensat(AT_FDCWD, a, times, 0), 0);
    assert_true(second != key_of(a));
    assert_int_equal(gr_convert_key(&key, temp_path(&dir, "none"), &err), GRAFT_NOT_FOUND);
    temp_dir_free(&dir);
}

/* A folder of named chat templates counts as what stands beside it. */
static void keys_of_directories(void **state) {
    (void)state;
    temp_dir dir = temp_dir_new();
    temp_file(&dir, "config.json", "{}", 2);
    uint64_t none = key_of(dir.path);
    mkdir(temp_path(&dir, "additional_chat_templates"), 0700);
    assert_true(none == key_of(dir.path));
    temp_file(&dir, "additional_chat_templates/tool_use.jinja", "T", 1);
    uint64_t first = key_of(dir.path);
    assert_true(none != first && first == key_of(dir.path));
    temp_file(&dir, "additional_chat_templates/tool_use.jinja", "Tool", 4);
    assert_true(first != key_of(dir.path));
    temp_dir_free(&dir);
}

static int said; /* by a kept conversion */

static void count_say(void *context, const char *sentence) {
    assert_true(context == &said);
    assert_true(sentence[0] != 0);
    said++;
}

static char *kept(gr_convert_options wish) {
    graft_error err = {0};
    char *dir;
    wish.context = &said;
    if (gr_convert_kept(&dir, &wish, count_say, &err) != GRAFT_OK) fail_msg("%s", err.what);
    return dir;
}

/* Made once per source and wish, found afterwards. */
static void kept_once(void **state) {
    (void)state;
    temp_dir src = temp_dir_new(), cache = temp_dir_new();
    make_llama(&src, LLAMA);
    assert_int_equal(setenv("XDG_CACHE_HOME", cache.path, 1), 0);
    gr_convert_options q4 = {.model = src.path, .quantize = true, .q_bits = 4, .q_group_size = 32};
    char *first = kept(q4);
    assert_int_equal(said, 1); /* every matrix has whole groups of 32: no notes */
    gr_safetensors *file = load(first);
    check_module(file, "model.layers.0.mlp.down_proj", HIDDEN, MLP, 4, 32);
    gr_safetensors_close(file);
    char *again = kept(q4);
    assert_string_equal(first, again);
    assert_int_equal(said, 1);
    gr_convert_options q8 = q4;
    q8.q_bits = 8;
    char *other = kept(q8);
    assert_string_not_equal(first, other);
    assert_int_equal(said, 2);
    free(again);
    temp_file(&src, "tokenizer.json", "{ }", 3); /* another source */
    again = kept(q4);
    assert_string_not_equal(first, again);
    assert_int_equal(said, 3);
    assert_int_equal(entries(temp_path(&cache, "graft/converted")), 3);
    graft_error err = {0};
    char *none;
    q4.q_group_size = 128;
    assert_int_equal(gr_convert_kept(&none, &q4, NULL, &err), GRAFT_USAGE);
    assert_null(none);
    assert_int_equal(unsetenv("XDG_CACHE_HOME"), 0);
    free(first);
    free(again);
    free(other);
    temp_dir_free(&src);
    temp_dir_free(&cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_done_leaves_no_trace), cmocka_unit_test(infinite_weights),
        cmocka_unit_test(stops_and_races),           cmocka_unit_test(another_is_not_replaced),
        cmocka_unit_test(sweeps_what_was_left),      cmocka_unit_test(keys_tell_files_apart),
        cmocka_unit_test(keys_of_directories),       cmocka_unit_test(kept_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
