/* options/yaml.h - YAML text to JSON values, as far as configuration files need it.
 * Plain scalars are typed as PyYAML's SafeLoader does with mlx-lm's rule for numbers such as 1e-5; octal,
 * hexadecimal and sexagesimal numbers stay strings. Refused: duplicate keys, anchors, aliases, tags, several
 * documents, deep nesting, keys that are not plain text.
 */
#ifndef GR_OPTIONS_YAML_H
#define GR_OPTIONS_YAML_H
#include "base/memory.h"
#include <jansson.h>

#define GR_YAML_LIMIT ((size_t)1 << 20) /* bytes of a file */
#define GR_YAML_DEPTH 16

/* The document's value; NULL JSON (json_null) when the text has none. `name` appears in errors with the line
 * (GRAFT_CORRUPT, GRAFT_RANGE, GRAFT_UNSUPPORTED). Owned by caller until json_decref. */
graft_status gr_yaml_parse(json_t **value, const char *text, size_t len, const char *name,
                           graft_error *err) GR_MUST_CHECK;

#endif
