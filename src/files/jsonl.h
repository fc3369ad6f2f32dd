/* files/jsonl.h - lines of a JSONL file by offset; the file may be larger than memory (it is mapped). */
#ifndef GR_FILES_JSONL_H
#define GR_FILES_JSONL_H
#include "base/os.h"

typedef struct gr_jsonl gr_jsonl;
/* Finds the offset of every line that is not blank; does not parse. Owned by caller until gr_jsonl_close. */
graft_status gr_jsonl_open_as(gr_jsonl **file, const char *path, gr_reading how,
                              graft_error *err) GR_MUST_CHECK;
/* Mapped. */
GR_MUST_CHECK static inline graft_status gr_jsonl_open(gr_jsonl **file, const char *path, graft_error *err) {
    return gr_jsonl_open_as(file, path, GR_MAPPED, err);
}
void gr_jsonl_close(gr_jsonl *file);
size_t gr_jsonl_count(const gr_jsonl *file);
/* Row `index` (from 0): its bytes (borrowed, no newline, a UTF-8 BOM skipped; of a row beyond 4 GiB the first
 * UINT32_MAX) and its line number in the file, from 1. */
void gr_jsonl_row(const gr_jsonl *file, size_t index, const char **text, size_t *len, uint64_t *line);

#endif
