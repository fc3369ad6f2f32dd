/* base/dir_names.h - which files a directory has, on the disk or among those that the host holds. */
#ifndef GR_BASE_DIR_NAMES_H
#define GR_BASE_DIR_NAMES_H
#include "base/os.h"

/* Zeroed before; gr_names_free after failure too. */
typedef struct gr_names {
    char **name;
    size_t count, room;
} gr_names;

/* The names in `dir` that end in `suffix`, sorted, each once. GRAFT_IO or GRAFT_NOT_FOUND where the disk
 * cannot say and the host holds none there. */
graft_status gr_names_list(gr_names *names, const char *dir, const char *suffix, gr_reading how,
                           graft_error *err) GR_MUST_CHECK;
void gr_names_free(gr_names *names);

#endif
