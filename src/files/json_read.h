/* files/json_read.h - JSON files to checked values.
 * What it does: loads JSON (duplicate keys refused, nesting bounded) and reads typed fields, so that every
 * error names the file and the key's path. May include: base. Never: knows what a key means.
 *
 *     gr_json_scope root = {json, "config.json", ""};
 *     int64_t layers = 0;
 *     GR_TRY(gr_json_need(&root, "num_hidden_layers", err));
 *     GR_TRY(gr_json_int(&root, "num_hidden_layers", 1, 4096, &layers, err));
 */
#ifndef GR_FILES_JSON_READ_H
#define GR_FILES_JSON_READ_H
#include "base/os.h"
#include <jansson.h>

/* json_loadb(3) that never takes a text for another where memory runs out: NULL, and gr_json_no_memory. */
json_t *gr_json_loadb(const char *text, size_t len, size_t flags, json_error_t *why);
/* Can a JSON string hold the text? */
bool gr_json_utf8(const char *text);
bool gr_json_utf8n(const char *text, size_t len);
static inline bool gr_json_no_memory(const json_error_t *why) {
    return json_error_code(why) == json_error_out_of_memory;
}

/* Parses a JSON text. `name` appears in errors (GRAFT_CORRUPT with line and column). Integers beyond 64 bits,
 * which Python writes without a thought (model_max_length 1000000000000000019884624838656), become reals.
 * Owned by caller until json_decref. */
graft_status gr_json_parse(json_t **root, const char *text, size_t len, const char *name,
                           graft_error *err) GR_MUST_CHECK;
/* Is the text at most `limit` bytes, and would its values fit `memory` bytes? GRAFT_RANGE otherwise, before
 * anything is parsed: three bytes of text can become two hundred of memory. gr_json_parse asks it by itself.
 */
graft_status gr_json_fits_in(const char *text, size_t len, size_t limit, size_t memory,
                             graft_error *err) GR_MUST_CHECK;
/* Twice what the largest tokenizer.json known (Gemma 3: 262,144 tokens, 514,906 merges) needs. */
#define GR_JSON_MEMORY ((size_t)512 << 20)
static inline GR_MUST_CHECK graft_status gr_json_fits(const char *text, size_t len, size_t limit,
                                                      graft_error *err) {
    return gr_json_fits_in(text, len, limit, GR_JSON_MEMORY, err);
}
/* Bytes of one row of a data set: no text of so many tokens fits a context, and parsing, encoding and masking
 * take tens of bytes for each byte. */
#define GR_ROW_LIMIT ((size_t)64 << 20)

/* The same from a file of at most `limit` bytes. A missing file is GRAFT_NOT_FOUND. */
graft_status gr_json_load_as(json_t **root, const char *path, size_t limit, gr_reading how,
                             graft_error *err) GR_MUST_CHECK;
static inline GR_MUST_CHECK graft_status gr_json_load(json_t **root, const char *path, size_t limit,
                                                      graft_error *err) {
    return gr_json_load_as(root, path, limit, GR_MAPPED, err);
}
#define GR_JSON_LIMIT                                                                                        \
    ((size_t)256 << 20) /* no JSON file of a model comes near it: 33 MB are the most known */
#define GR_CONFIG_LIMIT ((size_t)16 << 20) /* config.json and its like: some kilobytes */

/* GRAFT_RANGE where values nest deeper than GR_JSON_DEPTH, as they must not where they become part of another
 * document: no reader follows any depth. value may be NULL; `name` appears in the error. */
#define GR_JSON_DEPTH 100
graft_status gr_json_shallow(const json_t *value, const char *name, graft_error *err) GR_MUST_CHECK;

/* An object and how to name it in errors. */
typedef struct gr_json_scope {
    const json_t *object;
    const char *file;
    const char *path; /* "" for the root, else "rope_scaling" and so on */
} gr_json_scope;

/* The field's value; NULL when it is absent or null (config files use the two alike). */
const json_t *gr_json_field(const gr_json_scope *scope, const char *key);
/* GRAFT_NOT_FOUND when the field is absent or null. */
graft_status gr_json_need(const gr_json_scope *scope, const char *key, graft_error *err) GR_MUST_CHECK;

/* Typed getters: an absent or null field leaves *value alone (put the default there first). Another type is
 * GRAFT_CORRUPT, a number outside [lo, hi] is GRAFT_RANGE. Strings are borrowed from the JSON. */
graft_status gr_json_int(const gr_json_scope *scope, const char *key, int64_t lo, int64_t hi, int64_t *value,
                         graft_error *err) GR_MUST_CHECK; /* also a real without fraction */
graft_status gr_json_real(const gr_json_scope *scope, const char *key, double lo, double hi, double *value,
                          graft_error *err) GR_MUST_CHECK;
graft_status gr_json_bool(const gr_json_scope *scope, const char *key, bool *value,
                          graft_error *err) GR_MUST_CHECK;
graft_status gr_json_string(const gr_json_scope *scope, const char *key, const char **value,
                            graft_error *err) GR_MUST_CHECK;
/* *inner is the object under `key`, with inner->object NULL when absent. `path` is storage for inner->path.
 */
graft_status gr_json_object(const gr_json_scope *scope, const char *key, gr_json_scope *inner, char path[128],
                            graft_error *err) GR_MUST_CHECK;
/* *value is the array under `key`, NULL when absent. */
graft_status gr_json_array(const gr_json_scope *scope, const char *key, const json_t **value,
                           graft_error *err) GR_MUST_CHECK;

/* "an integer", "a string" ...: what a value is, for messages. */
const char *gr_json_type_text(const json_t *value);
/* Records GRAFT_CORRUPT: `key` of `scope` should be `expected` but is `value`. */
graft_status gr_json_wrong(const gr_json_scope *scope, const char *key, const char *expected,
                           const json_t *value, graft_error *err);

/* A plain file name: not empty, no slash, not "." or ".."; names from a file must not leave its directory. */
bool gr_plain_file_name(const char *name);

#endif
