#include "train/trainer.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

static char *metrics_path(const gr_trainer *t) {
    return gr_path_join(t->dir, "metrics.jsonl");
}

/* Bytes up to the last newline in the first `size`. */
static uint64_t whole_lines(int fd, uint64_t size) {
    char last;
    while (size && pread(fd, &last, 1, (off_t)size - 1) == 1 && last != '\n') size--;
    return size;
}

graft_status gr_metrics_start(gr_trainer *t, graft_error *err) {
    char *path = metrics_path(t);
    if (!path) return gr_no_memory(err, 0);
    graft_status st = GRAFT_OK;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size >= 0 && (uint64_t)size < t->p.metrics_bytes) /* cut by someone: never filled up with zeros */
        t->p.metrics_bytes = whole_lines(fd, (uint64_t)size);
    if (size < 0 || ftruncate(fd, (off_t)t->p.metrics_bytes) != 0)
        st = gr_fail_errno(err, errno, "cannot start", path);
    if (fd >= 0) close(fd);
    free(path);
    return st == GRAFT_OK ? gr_dir_sync(t->dir, err) : st; /* a checkpoint counts on its lines */
}

graft_status gr_metrics_sync(const gr_trainer *t, graft_error *err) {
    char *path = metrics_path(t);
    if (!path) return gr_no_memory(err, 0);
    graft_status st = GRAFT_OK;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) st = gr_fail_errno(err, errno, "cannot sync", path);
    if (fd >= 0) close(fd);
    free(path);
    return st;
}

/* Appends one line in one write, so that a reader never sees a part of it. */
static graft_status append(gr_trainer *t, gr_buf *line, graft_error *err) {
    char *path = metrics_path(t);
    graft_status st = GRAFT_OK;
    if (!path || line->failed) {
        free(path);
        return gr_no_memory(err, 0);
    }
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    ssize_t done = fd < 0 ? -1 : write(fd, line->data, line->len);
    if (done != (ssize_t)line->len)
        st = gr_fail_errno(err, done < 0 ? errno : ENOSPC, "cannot append to", path);
    if (fd >= 0) close(fd);
    t->p.metrics_bytes += line->len;
    free(path);
    return st;
}

/* JSON has no NaN. */
static void number(gr_buf *line, const char *key, double value) {
    char text[40];
    snprintf(text, sizeof text, "%.9g", value);
    for (char *p = text; *p; p++)
        if (*p == ',') *p = '.'; /* the host's locale may write a comma */
    gr_buf_printf(line, ", \"%s\": %s", key, isfinite(value) ? text : "null");
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
    gr_buf_puts(&line, "}\n");
    graft_status st = append(t, &line, err);
    gr_buf_free(&line);
    return st;
}
