/* data/places.h - which file holds the rows of a split. May include: base. Never: opens it. */
#ifndef GR_DATA_PLACES_H
#define GR_DATA_PLACES_H
#include "base/os.h"

/* The file of `split` ("train", "valid", "test"): `data` itself where it is no directory, else the one of
 * SPLIT.jsonl, SPLIT.json, SPLIT.csv and SPLIT.tsv in it that is there; SPLIT.jsonl when none is. GRAFT_USAGE
 * when two are. malloc'ed.
 */
graft_status gr_data_place(char **path, const char *data, const char *split, gr_reading how,
                           graft_error *err) GR_MUST_CHECK;

/* What --data takes, for hints. */
extern const char gr_data_wanted[];

#endif
