/* files/records.h - the rows of a data file as JSON texts, whatever the file is: lines of JSON, one JSON
 * array, or a table with a header (.csv, .tsv). The file may be larger than memory. May include: base, files.
 * Never: knows what a row means.
 */
#ifndef GR_FILES_RECORDS_H
#define GR_FILES_RECORDS_H
#include "base/os.h"

typedef struct gr_records gr_records;
/* Finds where every row begins. A path that ends in .csv or .tsv is a table: its first record names the
 * columns, all different. Any other file that begins with [ is an array, else lines, of which blank ones are
 * skipped. GRAFT_CORRUPT, with the line, for a table or an array that does not end, and for names that are
 * missing or there twice; GRAFT_UNSUPPORTED for packed files (Parquet, gzip and so on). Owned by caller until
 * gr_records_close. */
graft_status gr_records_open(gr_records **records, const char *path, gr_reading how,
                             graft_error *err) GR_MUST_CHECK;
void gr_records_close(gr_records *records);
size_t gr_records_count(const gr_records *records);
const char *gr_records_path(const gr_records *records);
/* Row `index` as JSON (borrowed until the next call; not parsed yet) and the line where it begins, from 1. A
 * row of a table is an object of strings, with null for an empty cell; GRAFT_CORRUPT when it has more or
 * fewer cells than the header, or text behind a closing quote. Rows read in order give back the memory of
 * those before them. */
graft_status gr_records_get(gr_records *records, size_t index, const char **json, size_t *len, uint64_t *line,
                            graft_error *err) GR_MUST_CHECK;

#endif
