/* files/json_write.h - JSON values to files as people like to read them: sorted keys, four spaces, short
 * numbers. */
#ifndef GR_FILES_JSON_WRITE_H
#define GR_FILES_JSON_WRITE_H
#include "base/os.h"
#include <jansson.h>

/* json_dumps(3), which forgets a key, and says nothing, where memory runs out in the middle. malloc'ed; NULL
 * when there is none. */
char *gr_json_dump(const json_t *value, size_t flags);

/* Appends the text of a value: keys sorted, indented by four spaces, every real with the fewest digits that
 * read back as the same double (1e-05, not 1.0000000000000001e-05). */
void gr_json_text(gr_buf *out, const json_t *value);
/* The text and a newline into a file, replaced atomically. */
graft_status gr_json_save(const char *path, const json_t *value, graft_error *err) GR_MUST_CHECK;
/* The same up to gr_writer_seal: the caller commits or aborts `w`. */
graft_status gr_json_seal(gr_writer *w, const char *path, const json_t *value,
                          graft_error *err) GR_MUST_CHECK;

/* object[key] = value, and one more element of an array. The value is taken over; *good becomes false when
 * it is NULL or there is no memory for it: tested once, when all is built. */
void gr_json_put(bool *good, json_t *object, const char *key, json_t *value);
void gr_json_append(bool *good, json_t *array, json_t *value);
/* A number; null for what JSON has none for. New reference; NULL: no memory. */
json_t *gr_json_number(double v);

#endif
