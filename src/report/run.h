/* report/run.h - a training run as its adapter directory tells it: metrics.jsonl, run.json, samples.json and
 * the adapter itself.
 * What it does: reads what is there; what is missing, cut or of no use becomes a note. May include: base,
 * files, adapters. Never: needs the base model, trusts a number or a text of these files.
 */
#ifndef GR_REPORT_RUN_H
#define GR_REPORT_RUN_H
#include "report/metrics.h"
#include <jansson.h>

/* Most runs that are compared. */
#define GR_RUNS_MOST      8
#define GR_CHANGE_MODULES 32
#define GR_CHANGE_ROWS    1024
#define GR_CHANGE_STAMP   48

/* How far the adapter moves every module: the Frobenius norm of scale * B A. */
typedef struct gr_change {
    char module[GR_CHANGE_MODULES][256]; /* "self_attn.q_proj"; outside of blocks the whole path */
    size_t modules;
    int64_t rows; /* blocks, from 0 on; the last is what stands outside of them, where `outside` */
    bool outside;
    double *norm;     /* [rows, GR_CHANGE_MODULES]; NaN: no adapter there */
    double most;      /* the largest */
    size_t left_out;  /* pairs that are not measured: ranks above 256, more names than columns, no sense */
    bool dora;        /* lengths are trained, too, which only the base can tell */
    const char *none; /* why there is nothing to show; NULL: there is. Static */
} gr_change;
/* dir: with adapter_config.json and a safetensors file of an adapter format. A file that makes no
 * sense is change->none, as is a save with the stamp `earlier` (NULL: none), which was there before the run;
 * only GRAFT_NO_MEMORY and GRAFT_IO are errors. Owned by caller until gr_change_free. */
graft_status gr_change_read(gr_change *change, const char *dir, const char *earlier,
                            graft_error *err) GR_MUST_CHECK;
/* Tells the save in dir from every other that was or will be there: when its last file was written. "": there
 * is none. */
void gr_change_stamp(char stamp[GR_CHANGE_STAMP], const char *dir);
void gr_change_free(gr_change *change);

typedef struct gr_run {
    char *dir;
    char name[128]; /* its last part, as UTF-8; more of it where that tells runs apart */
    gr_metrics metrics;
    json_t *record;  /* run.json; NULL: none */
    json_t *samples; /* samples.json; NULL: none */
    gr_change change;
    gr_buf notes; /* lines */
} gr_run;
/* GRAFT_NOT_FOUND where dir has no metrics.jsonl, GRAFT_CORRUPT as gr_metrics_read and for files that are no
 * JSON. Owned by caller until gr_run_free (also after failure). */
graft_status gr_run_read(gr_run *run, const char *dir, graft_error *err) GR_MUST_CHECK;
/* The same without run->change, which stays empty. */
graft_status gr_run_read_texts(gr_run *run, const char *dir, graft_error *err) GR_MUST_CHECK;
/* A run of which nothing is known but its directory. */
graft_status gr_run_none(gr_run *run, const char *dir, graft_error *err) GR_MUST_CHECK;
/* Lengthens names of runs that have the same one. */
void gr_runs_tell_apart(gr_run *runs, size_t count);
void gr_run_free(gr_run *run);

/* A number of run.json: key, or inner of the object under key (inner may be NULL). NaN: absent, or no number.
 */
double gr_run_number(const gr_run *run, const char *key, const char *inner);
/* A text; NULL: absent, or none. Borrowed. */
const char *gr_run_text(const gr_run *run, const char *key, const char *inner);
/* The object under key; NULL: absent, or none. */
const json_t *gr_run_object(const gr_run *run, const char *key);

/* An exponential mean, weight 0.9 on what was, without the pull of its start. source: Kingma, Ba, "Adam",
 * arXiv 1412.6980, section 3 (bias correction). NaN stays NaN and counts for nothing. to[n] */
#define GR_SMOOTHING 0.9
void gr_smooth(double *to, const double *from, size_t n);

#endif
