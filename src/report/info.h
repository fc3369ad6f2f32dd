/* report/info.h - what is in a file or directory, as JSON. May include: base, files. */
#ifndef GR_REPORT_INFO_H
#define GR_REPORT_INFO_H
#include "base/memory.h"

/* *json: one document (malloc'ed). Knows .gguf, .safetensors, and directories that hold them. */
graft_status gr_info_json(char **json, const char *path, graft_error *err) GR_MUST_CHECK;

#endif
