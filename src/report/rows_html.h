/* report/rows_html.h - rows as the model sees them, on one page: which tokens are trained, by colour. The
 * page needs no script and no other file. May include: base, graft.h. Never: decides what is trained.
 */
#ifndef GR_REPORT_ROWS_HTML_H
#define GR_REPORT_ROWS_HTML_H
#include "base/os.h"
#include "graft.h"

/* What the page says above the rows. Strings borrowed; NULL: not said. */
typedef struct gr_page_head {
    const char *data, *model, *train_on, *notes;
    int64_t rows, tokens, targets;
} gr_page_head;

typedef struct gr_rows_page {
    gr_writer w;
    gr_buf text;
} gr_rows_page;

/* The page appears at `path` as a whole, with gr_rows_page_end; after an error, or in its place,
 * gr_rows_page_abort. */
graft_status gr_rows_page_begin(gr_rows_page *page, const char *path, const gr_page_head *head,
                                graft_error *err) GR_MUST_CHECK;
graft_status gr_rows_page_add(gr_rows_page *page, const graft_row *row, graft_error *err) GR_MUST_CHECK;
graft_status gr_rows_page_end(gr_rows_page *page, graft_error *err) GR_MUST_CHECK;
void gr_rows_page_abort(gr_rows_page *page);

#endif
