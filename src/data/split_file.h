/* data/split_file.h - which file holds the rows of a split. May include: base. Never: opens it. */
#ifndef GR_DATA_SPLIT_FILE_H
#define GR_DATA_SPLIT_FILE_H
#include "base/os.h"

/* The file of `split` ("train", "valid", "test"): `data` itself where it is no directory, else SPLIT.jsonl in
 * it, as in mlx-lm, or where that is not there the one of SPLIT.json, SPLIT.csv and SPLIT.tsv that is;
 * SPLIT.jsonl when none is. GRAFT_USAGE when two of the three are. malloc'ed.
 */
graft_status gr_data_place(char **path, const char *data, const char *split, gr_reading how,
                           graft_error *err) GR_MUST_CHECK;

/* Files of the same split beside such a path that are not read, as a sentence for the user; malloc'ed. NULL:
 * none. */
char *gr_data_unread(const char *data, const char *path, gr_reading how);

/* What --data takes, for hints. */
extern const char gr_data_wanted[];

#endif
