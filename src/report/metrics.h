/* report/metrics.h - metrics.jsonl as curves: every number of its lines by name, over iterations.
 * May include: base, files. Never: knows who wrote it; a name it has not heard of is a curve too.
 */
#ifndef GR_REPORT_METRICS_H
#define GR_REPORT_METRICS_H
#include "base/memory.h"

/* Most names that are kept. */
#define GR_METRICS_NAMES 64

typedef struct gr_metric {
    char name[64];
    double *x, *y; /* iterations, rising; values, NaN where the file says null */
    size_t count, x_cap, y_cap;
} gr_metric;

typedef struct gr_metrics {
    gr_metric *list; /* in the order in which names appeared */
    size_t count, cap;
    size_t lines;    /* that hold something */
    uint64_t cut;    /* the last line, where it ends in its middle; 0: it does not */
    size_t repeated; /* lines that go back to the iteration of an earlier one, or before: they count */
    size_t without;  /* lines without an iteration, left out */
    size_t more;     /* values under names beyond GR_METRICS_NAMES, or that are too long */
    int64_t skipped; /* updates skipped, by the last line that counts them */
    int64_t spikes;  /* lines about one */
    double last;     /* iteration of the last line; -1: none */
} gr_metrics;

/* Reads a file that may be growing. A run that went back writes its lines again: what all curves have
 * beyond the iteration of a line is dropped, and of values of one iteration the later counts. A last line
 * that is cut in its middle is left out. GRAFT_CORRUPT names a line before it that is no JSON object. Owned
 * by caller until gr_metrics_free (also after failure). */
graft_status gr_metrics_read(gr_metrics *metrics, const char *path, graft_error *err) GR_MUST_CHECK;
/* The same from bytes; `path` names them in errors. */
graft_status gr_metrics_parse(gr_metrics *metrics, const char *text, size_t size, const char *path,
                              graft_error *err) GR_MUST_CHECK;
void gr_metrics_free(gr_metrics *metrics);
/* NULL: no line had it. */
const gr_metric *gr_metrics_find(const gr_metrics *metrics, const char *name);
/* The last value that is a number; NaN: none. m may be NULL. */
double gr_metric_last(const gr_metric *m);
/* The least value; *x (may be NULL): where. NaN: none. m may be NULL. */
double gr_metric_least(const gr_metric *m, double *x);
/* The largest value. */
double gr_metric_most(const gr_metric *m);

#endif
