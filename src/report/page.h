/* report/page.h - one training run, or several compared, as a page and as numbers.
 * What it does: HTML that needs no network, no script and no other file; the same page live while a training
 * goes on (a script of a few lines fetches its body anew); JSON. May include: base, files, jansson. Never:
 * puts a text from a file onto the page without escaping it.
 *
 * Files: page.c (frame and order), page_charts.c (curves), page_tables.c (settings, data, samples),
 * page_heat.c (what the adapter changes), page_json.c (numbers).
 */
#ifndef GR_REPORT_PAGE_H
#define GR_REPORT_PAGE_H
#include "report/run.h"

/* runs[count], count from 1 to GR_RUNS_MOST. */
graft_status gr_page_html(gr_buf *out, const gr_run *runs, size_t count, graft_error *err) GR_MUST_CHECK;
/* The page of a training that goes on, and its part that changes: the script asks "state" for a version
 * every two seconds, and for "parts" where it is another one. */
graft_status gr_page_parts(gr_buf *out, const gr_run *run, graft_error *err) GR_MUST_CHECK;
graft_status gr_page_live(gr_buf *out, const gr_run *run, const char *parts, graft_error *err) GR_MUST_CHECK;
/* The numbers of the page: {"runs": [{"name", "record", "curves", "change", ..}]}. New reference. */
graft_status gr_page_numbers(json_t **document, const gr_run *runs, size_t count,
                             graft_error *err) GR_MUST_CHECK;

#endif
