/* files/csv.h - fields of comma- or tab-separated text (RFC 4180). May include: base. Never: allocates, knows
 * columns.
 *
 * A field may be quoted, "" in it is one quote, and separators and line ends in it are text. Elsewhere a
 * quote is a letter, as in Python's csv. A record ends with LF, CR LF or CR, or with the text.
 */
#ifndef GR_FILES_CSV_H
#define GR_FILES_CSV_H
#include "base/memory.h"

typedef enum gr_csv_flaw {
    GR_CSV_FINE,
    GR_CSV_OPEN,  /* the text ends inside quotes */
    GR_CSV_BEHIND /* text behind the closing quote */
} gr_csv_flaw;

typedef struct gr_csv_field {
    const char *at; /* borrowed: what stands between the quotes, or all of it */
    size_t len;
    bool quoted; /* "" stands for " then */
    bool last;   /* of its record */
    gr_csv_flaw flaw;
} gr_csv_field;

/* The field at p <= end; returns where the next field or record begins. */
const char *gr_csv_next(gr_csv_field *field, const char *p, const char *end, char separator);
/* Appends the field's text as a JSON string. Bytes that are no UTF-8 stay: a parser refuses them. */
void gr_csv_json(gr_buf *out, const gr_csv_field *field);

#endif
