#include "base/number.h"
#include "train/trainer.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

static char *metrics_path(const gr_trainer *t) {
    return gr_path_join(t->dir, "metrics.jsonl");
}

/* Bytes up to the last newline in the first `size`; -1: cannot be read. */
static off_t whole_lines(int fd, off_t size) {
    char last = 0;
    while (size) {
        ssize_t n = pread(fd, &last, 1, size - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n != 1) return -1;
        if (last == '\n') break;
        size--;
    }
    return size;
}

static int cut(int fd, off_t size) {
    int failed;
    do failed = ftruncate(fd, size);
    while (failed && errno == EINTR);
    return failed;
}

graft_status gr_metrics_start(gr_trainer *t, graft_error *err) {
    char *path = metrics_path(t);
    if (!path) return gr_no_memory(err, 0);
    graft_status st = GRAFT_OK;
    int fd = gr_open(path, O_RDWR | O_CREAT, 0666);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size >= 0 && (uint64_t)size < t->p.metrics_bytes) /* cut by someone: never filled up with zeros */
        size = whole_lines(fd, size);
    else if (size >= 0)
        size = (off_t)t->p.metrics_bytes;
    if (size < 0 || cut(fd, size) != 0)
        st = gr_fail_written(err, errno, "cannot start", path);
    else
        t->p.metrics_bytes = (uint64_t)size;
    if (fd >= 0) close(fd);
    free(path);
    return st == GRAFT_OK ? gr_dir_sync(t->dir, err) : st; /* a checkpoint counts on its lines */
}

graft_status gr_metrics_sync(const gr_trainer *t, graft_error *err) {
    char *path = metrics_path(t);
    if (!path) return gr_no_memory(err, 0);
    graft_status st = GRAFT_OK;
    int fd = gr_open(path, O_WRONLY | O_CREAT, 0666);
    int failed = fd < 0;
    while (!failed && (failed = fsync(fd)) && errno == EINTR) failed = 0;
    if (failed && (fd < 0 || errno != EINVAL)) st = gr_fail_written(err, errno, "cannot sync", path);
    if (fd >= 0) close(fd);
    free(path);
    return st;
}

/* All bytes, or none and the reason in errno: a part of a line is cut off again. */
static bool write_whole(int fd, const char *bytes, size_t n, off_t end) {
    for (size_t at = 0; at < n;) {
        ssize_t done = write(fd, bytes + at, n - at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            int os_errno = done < 0 ? errno : ENOSPC;
            if (at) cut(fd, end);
            errno = os_errno;
            return false;
        }
        at += (size_t)done;
    }
    return true;
}

/* Appends one line, usually in one write, so that a reader never sees a part of it. */
static graft_status append(gr_trainer *t, gr_buf *line, graft_error *err) {
    if (!gr_trainer_writes(t)) return GRAFT_OK;
    char *path = metrics_path(t);
    graft_status st = GRAFT_OK;
    if (!path || line->failed) {
        free(path);
        return gr_no_memory(err, 0);
    }
    int fd = gr_open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);
    bool good = fd >= 0 && write_whole(fd, line->data, line->len, (off_t)t->p.metrics_bytes);
    if (!good) st = gr_fail_written(err, errno, "cannot append to", path);
    if (fd >= 0 && close(fd) != 0 && good && errno != EINTR) /* where a network's disk is full */
        st = gr_fail_written(err, errno, "cannot append to", path);
    if (good) t->p.metrics_bytes += line->len;
    if (st == GRAFT_OK && t->events) st = gr_events_line(t->events, line->data, line->len, err);
    free(path);
    return st;
}

/* JSON has no NaN. */
static void number(gr_buf *line, const char *key, double value) {
    gr_buf_printf(line, ", \"%s\": ", key);
    if (isfinite(value))
        gr_buf_real(line, value, 9);
    else
        gr_buf_puts(line, "null");
}

/* Keys as TRL's metrics have them, behind a prefix. */
static void preference(gr_buf *line, const char *prefix, const graft_preference *p) {
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"rewards/chosen", p->reward_chosen},
                   {"rewards/rejected", p->reward_rejected},
                   {"rewards/accuracies", p->accuracy},
                   {"rewards/margins", p->margin},
                   {"logps/chosen", p->logp_chosen},
                   {"logps/rejected", p->logp_rejected},
                   {"nll_loss", p->nll_loss},
                   {"log_odds_ratio", p->log_odds_ratio},
                   {"log_odds_chosen", p->log_odds_chosen}};
    for (size_t i = 0; p->pairs && i < sizeof numbers / sizeof *numbers; i++) {
        char key[40];
        snprintf(key, sizeof key, "%s%s", prefix, numbers[i].key);
        if (!isnan(numbers[i].value)) number(line, key, numbers[i].value);
    }
}

graft_status gr_metrics_train(gr_trainer *t, const graft_event *e, graft_error *err) {
    gr_buf line = {0};
    gr_buf_printf(&line, "{\"iteration\": %lld", (long long)e->iteration);
    number(&line, "train_loss", e->train_loss);
    number(&line, "learning_rate", e->learning_rate);
    number(&line, "iterations_per_second", e->iterations_per_second);
    number(&line, "tokens_per_second", e->tokens_per_second);
    gr_buf_printf(&line, ", \"trained_tokens\": %lld", (long long)e->trained_tokens);
    number(&line, "grad_norm", e->grad_norm);
    preference(&line, "", &e->preference);
    gr_buf_printf(&line, ", \"peak_memory_bytes\": %llu}\n", (unsigned long long)e->peak_memory_bytes);
    graft_status st = append(t, &line, err);
    gr_buf_free(&line);
    return st;
}

/* The lines of an update that was skipped: of the guilty rows, or of all. */
graft_status gr_metrics_skipped(gr_trainer *t, const gr_verdict *v, graft_error *err) {
    gr_buf line = {0};
    int64_t named = gr_min_i64(v->rows.count, GR_FINDING_LINES);
    gr_buf_printf(&line, "{\"iteration\": %lld, \"update\": %lld, \"skipped_updates\": %lld",
                  (long long)t->p.iteration, (long long)t->p.update, (long long)t->p.health.skipped);
    gr_buf_printf(&line, ", \"not_a_number\": \"%s\", \"guilty\": %s, \"rows\": %lld, \"lines\": [",
                  v->bad_loss ? "loss" : "gradient", v->guilty ? "true" : "false", (long long)v->rows.count);
    for (int64_t i = 0; i < named; i++)
        gr_buf_printf(&line, "%s%llu", i ? ", " : "", (unsigned long long)v->rows.lines[i]);
    gr_buf_puts(&line, "]}\n");
    graft_status st = append(t, &line, err);
    gr_buf_free(&line);
    return st;
}

graft_status gr_metrics_spike(gr_trainer *t, const char *what, double value, double usual, graft_error *err) {
    gr_buf line = {0};
    gr_buf_printf(&line, "{\"iteration\": %lld, \"update\": %lld, \"spike\": \"%s\"",
                  (long long)t->p.iteration, (long long)t->p.update, what);
    number(&line, "value", value);
    number(&line, "usual", usual);
    gr_buf_puts(&line, "}\n");
    graft_status st = append(t, &line, err);
    gr_buf_free(&line);
    return st;
}

graft_status gr_metrics_valid(gr_trainer *t, const graft_event *e, graft_error *err) {
    gr_buf line = {0};
    gr_buf_printf(&line, "{\"iteration\": %lld", (long long)e->iteration);
    number(&line, "val_loss", e->val_loss);
    number(&line, "val_time", e->val_time);
    preference(&line, "val_", &e->preference);
    gr_buf_puts(&line, "}\n");
    graft_status st = append(t, &line, err);
    gr_buf_free(&line);
    return st;
}
