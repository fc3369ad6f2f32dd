/* graft_report.h - training runs to look at: a page and its numbers.
 */
#ifndef GRAFT_REPORT_H
#define GRAFT_REPORT_H
#include "graft_hooks.h"
#include "graft_options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Most directories of one report. */
#define GRAFT_REPORT_DIRS 8

/* What a report holds, and where it is. Free it. */
typedef struct graft_report_result {
    char *html;  /* where the page is; malloc'ed */
    char *json;  /* the numbers of the page, one document: {"runs": [..]}; malloc'ed */
    char *notes; /* lines: what the directories lack, or hold twice; "" if none; malloc'ed */
} graft_report_result;

/* One page about the training in dirs[0], or several compared: from metrics.jsonl, run.json, samples.json and
 * the adapter in each. It needs no network, no script and no other file, and is written to options.html
 * (report.html: of one run in its directory, else here). A single directory of a sweep stands for its trials
 * that have begun; of more than GRAFT_REPORT_DIRS for those with the lowest validation losses, which notes
 * says. With options.prompts every line of that file is
 * answered by the base (options.model, or the one that the adapter records) and by the adapter first, and the
 * answers stay in samples.json. GRAFT_NOT_FOUND where a directory has no metrics.jsonl, GRAFT_CORRUPT where
 * one of its lines is not JSON; a last line that is cut becomes a note. Nothing is written then. */
graft_status graft_report(const char *const *dirs, size_t count, const graft_options *options,
                          const graft_hooks *hooks, graft_report_result *result, graft_error *err);
void graft_report_result_free(graft_report_result *result);

#ifdef __cplusplus
}
#endif
#endif
