/* model/locate.h - where a model is: a directory, a GGUF file, or a name in the local Hugging Face cache. */
#ifndef GR_MODEL_LOCATE_H
#define GR_MODEL_LOCATE_H
#include "base/os.h"

/* *path (malloc'ed) is a directory with config.json, or a FILE.gguf (*gguf true). Names owner/name and
 * owner/name@revision are looked up in the cache of hub/hub_cache.h; when absent the hint is the line that
 * downloads it. A snapshot with a file missing is GRAFT_CORRUPT and names the file. */
graft_status gr_model_locate_as(char **path, bool *gguf, const char *wish, gr_reading how,
                                graft_error *err) GR_MUST_CHECK;
static inline GR_MUST_CHECK graft_status gr_model_locate(char **path, bool *gguf, const char *wish,
                                                         graft_error *err) {
    return gr_model_locate_as(path, gguf, wish, GR_MAPPED, err);
}

/* ${XDG_CACHE_HOME:-~/.cache}/graft/NAME (malloc'ed); not created. */
char *gr_cache_path(const char *name);

#endif
