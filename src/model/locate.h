/* model/locate.h - where a model is: a directory, a GGUF file, or a name in the local Hugging Face cache. */
#ifndef GR_MODEL_LOCATE_H
#define GR_MODEL_LOCATE_H
#include "base/os.h"

/* *path (malloc'ed) is a directory with config.json, or a FILE.gguf (*gguf true). Names owner/name are looked
 * up in HF_HUB_CACHE, HF_HOME/hub or ~/.cache/huggingface/hub; when absent the hint is the line that
 * downloads it. */
graft_status gr_model_locate(char **path, bool *gguf, const char *wish, graft_error *err) GR_MUST_CHECK;

/* ${XDG_CACHE_HOME:-~/.cache}/graft/NAME (malloc'ed); not created. */
char *gr_cache_path(const char *name);

#endif
