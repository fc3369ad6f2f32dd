/* hub/hub_list.h - which files a repository has at a revision, as the hub's API lists them. */
#ifndef GR_HUB_HUB_LIST_H
#define GR_HUB_HUB_LIST_H
#include "base/memory.h"

#define GR_HUB_UNKNOWN UINT64_MAX
typedef struct gr_hub_file {
    char *name;      /* with '/' between directories; never absolute, never upwards */
    uint64_t size;   /* bytes; GR_HUB_UNKNOWN */
    char digest[65]; /* 64 digits: SHA-256 of the bytes; 40: git's name of the blob; "" unknown */
} gr_hub_file;
typedef struct gr_hub_list {
    char commit[41];
    gr_hub_file *files;
    size_t count, cap;
} gr_hub_list;
/* From the JSON of api/models/NAME/revision/REVISION?blobs=true. Names that leave their directory, digests
 * that are none and more than 20,000 files are refused. Freed with gr_hub_list_free, also after an error. */
graft_status gr_hub_list_read(gr_hub_list *list, const char *json, size_t len,
                              graft_error *err) GR_MUST_CHECK;
/* Drops all files but those that the patterns choose (file-name patterns separated by commas; NULL: what a
 * model needs, of the uppermost directory). GRAFT_NOT_FOUND, with what there is, when a pattern chooses none.
 */
graft_status gr_hub_list_choose(gr_hub_list *list, const char *patterns, graft_error *err) GR_MUST_CHECK;
void gr_hub_list_free(gr_hub_list *list);
/* Is it a digest of one of the two kinds: 40 or 64 lower-case hexadecimal digits? */
bool gr_hub_is_digest(const char *text);

#endif
