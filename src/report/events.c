#include "report/events.h"
#include "base/os.h"
#include "files/json_read.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char prefix[] = "events.out.tfevents.";

struct gr_events {
    int fd;
    char *path;
};

/* Reflected polynomial 0x1edc6f41, a bit at a time: some hundred bytes a report. */
uint32_t gr_crc32c(const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    uint32_t crc = ~(uint32_t)0;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & -(crc & 1));
    }
    return ~crc;
}

static void put_fixed(gr_buf *out, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) gr_buf_putc(out, (char)(v >> 8 * i & 0xff));
}

/* source: tensorflow/core/lib/hash/crc32c.h, Mask */
static void put_checksum(gr_buf *out, const void *bytes, size_t n) {
    uint32_t crc = gr_crc32c(bytes, n);
    put_fixed(out, (crc >> 15 | crc << 17) + 0xa282ead8u, 4);
}

void gr_events_record(gr_buf *out, const void *bytes, size_t n) {
    size_t start = out->len;
    put_fixed(out, n, 8);
    if (!out->failed) put_checksum(out, out->data + start, 8);
    gr_buf_add(out, bytes, n);
    put_checksum(out, bytes, n);
}

/* ---- protocol buffers: a key is number << 3 | kind. source: tensorboard/compat/proto/event.proto,
 * summary.proto */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_varint(gr_buf *out, uint64_t v) {
    for (; v >= 0x80; v >>= 7) gr_buf_putc(out, (char)((v & 0x7f) | 0x80));
    gr_buf_putc(out, (char)v);
}

static void put_key(gr_buf *out, int number, int kind) {
    put_varint(out, (uint64_t)(number << 3 | kind));
}

static void put_bytes(gr_buf *out, int number, const void *bytes, size_t n) {
    put_key(out, number, BYTES);
    put_varint(out, n);
    gr_buf_add(out, bytes, n);
}

/* Event { wall_time = 1, step = 2, .. }: its beginning. */
static void start_event(gr_buf *event, int64_t step) {
    struct timespec t;
    uint64_t bits;
    clock_gettime(CLOCK_REALTIME, &t);
    double seconds = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    memcpy(&bits, &seconds, 8);
    put_key(event, 1, FIXED64);
    put_fixed(event, bits, 8);
    if (!step) return;
    put_key(event, 2, VARINT);
    put_varint(event, (uint64_t)step);
}

/* Summary { value = 1 { tag = 1, simple_value = 2 } } */
static void put_scalar(gr_buf *summary, const char *tag, double value) {
    gr_buf one = {0};
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    put_bytes(&one, 1, tag, strlen(tag));
    put_key(&one, 2, FIXED32);
    put_fixed(&one, bits, 4);
    put_bytes(summary, 1, one.data, one.len);
    summary->failed |= one.failed;
    gr_buf_free(&one);
}

static const char *tag_of(const char *name) {
    static const char *const tags[][2] = {{"train_loss", "train/loss"},
                                          {"learning_rate", "train/learning_rate"},
                                          {"grad_norm", "train/grad_norm"},
                                          {"iterations_per_second", "speed/iterations_per_second"},
                                          {"tokens_per_second", "speed/tokens_per_second"},
                                          {"trained_tokens", "train/trained_tokens"},
                                          {"peak_memory_bytes", "memory/peak_bytes"},
                                          {"val_loss", "valid/loss"},
                                          {"val_time", "valid/seconds"}};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (strcmp(tags[i][0], name) == 0) return tags[i][1];
    return name;
}

/* ---- the file */

/* One record, in one write: a process that dies leaves a whole file, or one that ends in its middle, which
 * readers take for one that is being written. */
static graft_status append(gr_events *e, const gr_buf *event, graft_error *err) {
    gr_buf record = {0};
    gr_events_record(&record, event->data, event->len);
    graft_status st = record.failed || event->failed ? gr_no_memory(err, event->len) : GRAFT_OK;
    for (size_t at = 0; st == GRAFT_OK && at < record.len;) {
        ssize_t n = write(e->fd, record.data + at, record.len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            st = gr_fail_written(err, n < 0 ? errno : ENOSPC, "cannot append to", e->path);
        else
            at += (size_t)n;
    }
    gr_buf_free(&record);
    return st;
}

/* The second in an event file's name; -1: it is none. */
static long long second_in(const char *name) {
    if (strncmp(name, prefix, strlen(prefix)) != 0) return -1;
    return strtoll(name + strlen(prefix), NULL, 10);
}

/* Names in the order of their making: this second is later than that in the name of every other. */
static long long next_second(const char *logs) {
    long long latest = (long long)time(NULL);
    DIR *dir = gr_list_open(logs);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        long long second = second_in(entry->d_name);
        if (second >= latest && second < latest + (1LL << 40)) latest = second + 1;
    }
    if (dir) closedir(dir);
    return latest;
}

static graft_status create(gr_events *e, const char *logs, graft_error *err) {
    char host[64] = "host", name[160];
    if (gethostname(host, sizeof host - 1) != 0 || !gr_plain_file_name(host))
        snprintf(host, sizeof host, "host");
    snprintf(name, sizeof name, "%s%010lld.%s.%ld.0", prefix, next_second(logs), host, (long)getpid());
    e->path = gr_path_join(logs, name);
    if (!e->path) return gr_no_memory(err, 0);
    e->fd = gr_open(e->path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL, 0666);
    return e->fd < 0 ? gr_fail_written(err, errno, "cannot start", e->path) : GRAFT_OK;
}

/* What every file begins with; where a run goes on also SessionLog { status = START }, which makes readers
 * drop events from that step on. */
static graft_status begin(gr_events *e, int64_t iteration, graft_error *err) {
    gr_buf event = {0};
    start_event(&event, 0);
    put_bytes(&event, 3, "brain.Event:2", 13);
    graft_status st = append(e, &event, err);
    if (st == GRAFT_OK && iteration) {
        static const char start[] = {1 << 3 | VARINT, 1};
        gr_buf_clear(&event);
        start_event(&event, iteration + 1);
        put_bytes(&event, 7, start, sizeof start);
        st = append(e, &event, err);
    }
    gr_buf_free(&event);
    return st;
}

graft_status gr_events_open(gr_events **events, const char *dir, int64_t iteration, graft_error *err) {
    char *logs = gr_path_join(dir, "logs");
    gr_events *e = gr_calloc(1, sizeof *e);
    *events = NULL;
    graft_status st = logs && e ? gr_make_dirs(logs, err) : gr_no_memory(err, 0);
    if (e) e->fd = -1;
    if (st == GRAFT_OK) st = create(e, logs, err);
    if (st == GRAFT_OK) st = begin(e, iteration, err);
    free(logs);
    if (st == GRAFT_OK)
        *events = e;
    else
        gr_events_close(e);
    return st;
}

void gr_events_forget(const char *dir) {
    char *logs = gr_path_join(dir, "logs");
    DIR *list = logs ? gr_list_open(logs) : NULL;
    struct dirent *entry;
    while (list && (entry = readdir(list))) {
        char *path = second_in(entry->d_name) >= 0 ? gr_path_join(logs, entry->d_name) : NULL;
        if (path) unlink(path);
        free(path);
    }
    if (list) closedir(list);
    free(logs);
}

graft_status gr_events_line(gr_events *e, const char *line, size_t len, graft_error *err) {
    json_error_t why;
    const char *name;
    json_t *value, *object = gr_json_loadb(line, len, 0, &why);
    gr_buf event = {0}, summary = {0};
    if (!object) return gr_no_memory(err, len); /* it is our own line */
    const char *spike = json_string_value(json_object_get(object, "spike"));
    const json_t *skipped = json_object_get(object, "skipped_updates");
    bool plain = !spike && !skipped; /* else what is a curve stands under a name that says so */
    if (skipped) put_scalar(&summary, "train/skipped_updates", json_number_value(skipped));
    if (spike) {
        char tag[80];
        snprintf(tag, sizeof tag, "spike/%s", spike);
        put_scalar(&summary, tag, json_number_value(json_object_get(object, "value")));
    }
    if (plain) json_object_foreach(object, name, value) {
            if (strcmp(name, "iteration") != 0 && json_is_number(value))
                put_scalar(&summary, tag_of(name), json_number_value(value));
        }
    start_event(&event, json_integer_value(json_object_get(object, "iteration")));
    put_bytes(&event, 5, summary.data, summary.len);
    event.failed |= summary.failed;
    graft_status st = summary.len ? append(e, &event, err) : GRAFT_OK;
    gr_buf_free(&event);
    gr_buf_free(&summary);
    json_decref(object);
    return st;
}

void gr_events_close(gr_events *e) {
    if (!e) return;
    if (e->fd >= 0) close(e->fd);
    free(e->path);
    free(e);
}
