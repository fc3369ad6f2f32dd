/* TensorBoard's event files: framing and checksums against the values of their specifications, the fields of
 * an event read back, and what a run that goes on leaves. tools/peers/check_tensorboard.py has the real
 * reader. */
#include "tests/tiny_run.h"

#include "report/events.h"

#include <cmocka.h>

static graft_error err;

/* RFC 3720, B.4: 32 bytes of zeros, of ones, and counting up; and the check value of the polynomial. */
static void checksums(void **state) {
    (void)state;
    uint8_t bytes[32] = {0};
    assert_int_equal(gr_crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(gr_crc32c(bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, 32);
    assert_int_equal(gr_crc32c(bytes, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    assert_int_equal(gr_crc32c(bytes, 32), 0x46dd794eu);
    assert_int_equal(gr_crc32c("", 0), 0);
}

static uint64_t fixed(const char *at, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)(uint8_t)at[i] << 8 * i;
    return v;
}

/* What a reader expects of a record; moves *at behind it. */
static const char *record_of(const char **at, const char *end, size_t *n) {
    assert_true(end - *at >= 16);
    *n = fixed(*at, 8);
    assert_true(*n <= (size_t)(end - *at) - 16);
    uint32_t head = gr_crc32c(*at, 8), body = gr_crc32c(*at + 12, *n);
    assert_int_equal(fixed(*at + 8, 4), (uint32_t)((head >> 15 | head << 17) + 0xa282ead8u));
    assert_int_equal(fixed(*at + 12 + *n, 4), (uint32_t)((body >> 15 | body << 17) + 0xa282ead8u));
    const char *bytes = *at + 12;
    *at += *n + 16;
    return bytes;
}

/* The first event file of root/name/logs from number `skip` on, by name; malloc'ed. */
static char *events_of(const char *name, int skip, size_t *size, int *count) {
    char *dir = tiny_join(root, name), *logs = tiny_join(dir, "logs"), *names[8] = {0}, *text;
    struct dirent **list;
    int n = scandir(logs, &list, NULL, alphasort), found = 0;
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.' && found < 8) names[found++] = strdup(list[i]->d_name);
        free(list[i]);
    }
    free(list);
    assert_true(found > skip);
    if (count) *count = found;
    assert_true(strncmp(names[skip], "events.out.tfevents.", 20) == 0);
    text = tiny_read(logs, names[skip], size);
    for (int i = 0; i < found; i++) free(names[i]);
    free(logs);
    free(dir);
    return text;
}

static const char *const wanted[] = {"report-to", "tensorboard", NULL};

static char *model;

static void a_run_writes_events(void **state) {
    (void)state;
    const tiny_spec spec = {.dtype = GR_BF16, .bits = 4, .seed = 3};
    size_t size, n, records = 0;
    bool loss = false;
    model = tiny_model_dir(root, "model", &spec);
    must_train(model, "tb", wanted, NULL, NULL);
    char *text = events_of("tb", 0, &size, NULL);
    for (const char *at = text; at < text + size; records++) {
        const char *event = record_of(&at, text + size, &n);
        assert_true(n > 9 && event[0] == 9); /* wall_time, fixed64 */
        double time;
        memcpy(&time, event + 1, 8);
        assert_true(time > 1.6e9 && time < 1e11);
        if (records == 0)
            assert_true(n == 24 && memcmp(event + 9,
                                          "\x1a\x0d"
                                          "brain.Event:2",
                                          15) == 0);
        for (size_t i = 0; i + 14 < n; i++) loss |= memcmp(event + i, "\x0a\x0atrain/loss\x15", 13) == 0;
    }
    assert_true(loss);
    char *metrics = tiny_join(root, "tb"), *lines = tiny_read(metrics, "metrics.jsonl", NULL);
    size_t all = 0;
    for (const char *p = lines; *p; p++) all += *p == '\n';
    assert_int_equal(records, 1 + all);
    free(lines);
    free(metrics);
    free(text);
}

/* Of lines about an update that went wrong, what is a curve has a name that says so. */
static void what_went_wrong(void **state) {
    (void)state;
    static const char *const lines[] = {
        "{\"iteration\": 7, \"update\": 4, \"skipped_updates\": 1, \"not_a_number\": \"loss\", \"rows\": 1}",
        "{\"iteration\": 8, \"update\": 5, \"spike\": \"grad_norm\", \"value\": 9, \"usual\": 1}"};
    char *dir = tiny_subdir(root, "wrong");
    gr_events *e;
    size_t size;
    assert_int_equal(gr_events_open(&e, dir, 0, &err), GRAFT_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(gr_events_line(e, lines[i], strlen(lines[i]), &err), GRAFT_OK);
    gr_events_close(e);
    char *text = events_of("wrong", 0, &size, NULL);
    assert_non_null(memmem(text, size, "train/skipped_updates\x15", 22));
    assert_non_null(memmem(text, size, "spike/grad_norm\x15", 16));
    static const char *const others[] = {"\x05"
                                         "value",
                                         "\x05"
                                         "usual",
                                         "\x06"
                                         "update",
                                         "\x04"
                                         "rows"};
    for (int i = 0; i < 4; i++) assert_null(memmem(text, size, others[i], strlen(others[i])));
    free(text);
    gr_events_forget(dir);
    char *logs = tiny_join(dir, "logs");
    assert_int_equal(rmdir(logs), 0); /* nothing is left */
    free(logs);
    free(dir);
}

/* One file a process; the second begins with the step from which on it counts. A new run removes both. */
static void a_run_that_goes_on(void **state) {
    (void)state;
    watch w = {.stop_after = 5};
    graft_error stopped = {0};
    int count;
    size_t size, n;
    assert_int_equal(train(model, "part", wanted, &w, NULL, &stopped), GRAFT_INTERRUPTED);
    must_train(model, "part", (const char *const[]){"report-to", "tensorboard", "resume", "-", NULL}, NULL,
               NULL);
    char *text = events_of("part", 1, &size, &count);
    assert_int_equal(count, 2);
    const char *at = text;
    record_of(&at, text + size, &n);
    const char *event = record_of(&at, text + size, &n);
    assert_true(n == 15 && memcmp(event + 9, "\x10\x06\x3a\x02\x08\x01", 6) == 0); /* step 6, session start */
    free(text);
    must_train(model, "part", wanted, NULL, NULL);
    free(events_of("part", 0, &size, &count));
    assert_int_equal(count, 1);
    same_results("part", "tb");
    must_train(model, "part", NULL, NULL, NULL); /* without: nothing of an earlier run stays */
    char *dir = tiny_join(root, "part"), *logs = tiny_join(dir, "logs");
    DIR *open = opendir(logs);
    struct dirent *entry;
    while (open && (entry = readdir(open))) assert_true(entry->d_name[0] == '.');
    if (open) closedir(open);
    free(logs);
    free(dir);
}

static void lines_and_files(void **state) {
    (void)state;
    gr_events *e;
    size_t size, n, records = 0;
    char *dir = tiny_subdir(root, "own");
    gr_error_clear(&err);
    assert_int_equal(gr_events_open(&e, dir, 0, &err), GRAFT_OK);
    static const char *const lines[] = {"{\"iteration\": 300, \"rewards/margins\": -0.5, \"x\": null}\n",
                                        "{\"iteration\": 301, \"x\": null}\n"};
    for (int i = 0; i < 2; i++)
        assert_int_equal(gr_events_line(e, lines[i], strlen(lines[i]), &err), GRAFT_OK);
    gr_events_close(e);
    gr_events_close(NULL);
    char *text = events_of("own", 0, &size, NULL);
    for (const char *at = text; at < text + size; records++) {
        const char *event = record_of(&at, text + size, &n);
        if (records == 1) /* step 300; summary of one value: its tag, -0.5f */
            assert_memory_equal(event + 9,
                                "\x10\xac\x02\x2a\x18\x0a\x16\x0a\x0f"
                                "rewards/margins\x15\x00\x00\x00\xbf",
                                29);
    }
    assert_int_equal(records, 2);
    free(text);
    char *file = tiny_join(dir, "file");
    tiny_write(dir, "file", "x");
    assert_int_equal(gr_events_open(&e, file, 0, &err), GRAFT_IO);
    free(file);
    free(dir);
    free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums), cmocka_unit_test(a_run_writes_events), cmocka_unit_test(what_went_wrong),
        cmocka_unit_test(a_run_that_goes_on), cmocka_unit_test(lines_and_files)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
