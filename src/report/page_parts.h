/* report/page_parts.h - what the files behind page.h share. */
#ifndef GR_REPORT_PAGE_PARTS_H
#define GR_REPORT_PAGE_PARTS_H
#include "report/page.h"

/* 4 significant digits, a point in every locale; a dash for what is no number. */
void gr_page_number(gr_buf *out, double v);
void gr_page_count(gr_buf *out, double v); /* 134,515,008 */
void gr_page_size(gr_buf *out, double bytes);
/* Text of an element or attribute; line ends stay. */
void gr_page_text(gr_buf *out, const char *text);
/* <section ..><h2>title</h2>; the caller ends it. id: of the page's own. Static. */
void gr_page_section(gr_buf *out, const char *id, const char *title);

/* Loss, rate, speed, memory, gradient and whatever else the metrics have, of all runs. */
graft_status gr_page_charts(gr_buf *out, const gr_run *runs, size_t count, graft_error *err) GR_MUST_CHECK;
/* How long the rows are. */
graft_status gr_page_lengths(gr_buf *out, const gr_run *run, const char *split,
                             graft_error *err) GR_MUST_CHECK;
/* Settings in force; of several runs those that differ first. */
void gr_page_settings(gr_buf *out, const gr_run *runs, size_t count);
graft_status gr_page_data(gr_buf *out, const gr_run *run, graft_error *err) GR_MUST_CHECK;
void gr_page_samples(gr_buf *out, const gr_run *run);
void gr_page_change(gr_buf *out, const gr_run *run);

#endif
