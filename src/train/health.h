/* train/health.h - numbers that go wrong: which updates are skipped, and which are spikes.
 * What it does: keeps account of the rows of an update and judges it before the optimizer sees it. The
 * verdict follows from losses and gradient alone, whose bits depend on nothing that only saves time or
 * memory. May include: base, data, files. Never: moves a parameter.
 */
#ifndef GR_TRAIN_HEALTH_H
#define GR_TRAIN_HEALTH_H
#include "data/findings.h"
#include "files/json_bits.h"

#define GR_HEALTH_WINDOW GR_WORDS_MOST /* updates that say what is usual */
#define GR_HEALTH_LEAST  8             /* updates before anything is unusual */

/* The account of a run; a part of its progress. */
typedef struct gr_health {
    /* of the update in progress */
    gr_lines rows; /* all of them */
    gr_lines bad;  /* those whose loss or gradient is not a number */
    bool bad_loss; /* some of these by their loss */
    double loss;   /* sum over the targets of the others */
    /* of the run */
    int64_t applied; /* updates that the optimizer made: its own count */
    int64_t skipped, in_a_row, loss_spikes, norm_spikes;
    int64_t good_row; /* 1 + index of the last row whose loss was a number; 0: none yet */
    int64_t seen;     /* updates that went into the windows */
    double losses[GR_HEALTH_WINDOW], norms[GR_HEALTH_WINDOW];
} gr_health;

/* What came of one update. */
typedef struct gr_verdict {
    bool skipped, bad_loss, loss_spike, norm_spike;
    gr_lines rows; /* skipped: the guilty rows; all of the update where the guilty ones are not known */
    bool guilty;   /* they are known */
    double loss, norm, usual_loss, usual_norm;
} gr_verdict;

/* One row of data was run: the sum of its losses, and whether the gradient that came back through it is all
 * numbers. */
void gr_health_add_row(gr_health *health, int64_t index, uint64_t line, double loss, bool gradient);
/* Judges the update in progress and ends it. norm: of the whole gradient. Skipped: some loss or an element of
 * the gradient is not a number; nothing of it may be used. A spike is a mean loss above twice, or a norm
 * above five times the median of the last updates, above it by 15 times their median distance from it, and
 * above all of them. */
void gr_health_judge(gr_health *health, gr_verdict *verdict, double norm, int64_t targets);
/* Begins an update. */
void gr_health_next(gr_health *health);

/* For a checkpoint: every bit of it. New reference; NULL when out of memory. */
json_t *gr_health_json(const gr_health *health);
/* Reads what gr_health_json made, at "health" of a checkpoint's progress. */
graft_status gr_health_read(gr_health *health, const gr_json_scope *progress, graft_error *err) GR_MUST_CHECK;

#endif
