/* files/safetensors.h - reading (mapped, checked, one file or shards with an index) and writing safetensors.
 * What it does: bytes to checked tensors and back. May include: base. Never: interprets names.
 */
#ifndef GR_FILES_SAFETENSORS_H
#define GR_FILES_SAFETENSORS_H
#include "base/os.h"
#include "files/tensor.h"
#include <jansson.h>

typedef struct gr_safetensors gr_safetensors;

/* Opens FILE.safetensors, or a directory: its model.safetensors.index.json with every shard it names, else
 * its model.safetensors, else every *.safetensors in it. Checks the whole header (lengths, types, shapes,
 * offsets, overlaps, duplicates) before anything is used and reports all problems of a file at once. Owned by
 * caller until gr_safetensors_close. */
graft_status gr_safetensors_open_as(gr_safetensors **file, const char *path, gr_reading how,
                                    graft_error *err) GR_MUST_CHECK;
/* Mapped. */
GR_MUST_CHECK static inline graft_status gr_safetensors_open(gr_safetensors **file, const char *path,
                                                             graft_error *err) {
    return gr_safetensors_open_as(file, path, GR_MAPPED, err);
}
void gr_safetensors_close(gr_safetensors *file);
/* Bytes of all shards. */
uint64_t gr_safetensors_bytes(const gr_safetensors *file);
/* Takes the mapped bytes out of the resident set; reading brings them back. */
void gr_safetensors_release(const gr_safetensors *file);
size_t gr_safetensors_count(const gr_safetensors *file);
const gr_tensor *gr_safetensors_at(const gr_safetensors *file, size_t index);       /* sorted by name */
const gr_tensor *gr_safetensors_find(const gr_safetensors *file, const char *name); /* NULL if absent */
const char *gr_safetensors_metadata(const gr_safetensors *file, const char *key);   /* NULL if absent */
/* Adds every key to `object`, with the value that gr_safetensors_metadata has; false: out of memory. */
bool gr_safetensors_metadata_all(json_t *object, const gr_safetensors *file) GR_MUST_CHECK;
const char *gr_safetensors_path(const gr_safetensors *file, const gr_tensor *tensor); /* the shard it is in */

/* Writing: declare all tensors, then give their bytes in the declared order, in pieces if wished; memory use
 * does not depend on the tensors' sizes. The header is padded with spaces so that data starts at a multiple
 * of 64. The file appears atomically at commit. metadata: key, value, key, value, ..., NULL (or NULL). */
typedef struct gr_safetensors_writer gr_safetensors_writer;
graft_status gr_safetensors_create(gr_safetensors_writer **writer, const char *path, const gr_tensor *tensors,
                                   size_t count, const char *const *metadata, graft_error *err) GR_MUST_CHECK;
graft_status gr_safetensors_write(gr_safetensors_writer *writer, const void *bytes, size_t n,
                                  graft_error *err) GR_MUST_CHECK;
/* As gr_writer_seal: the bytes are on the disk, under a temporary name; commit or abort follows.
 * GRAFT_INTERNAL when fewer or more bytes were given than declared. Frees the writer when it fails. */
graft_status gr_safetensors_seal(gr_safetensors_writer *writer, graft_error *err) GR_MUST_CHECK;
/* As gr_writer_replace, without the directory's fsync. Frees the writer in every case. */
graft_status gr_safetensors_replace(gr_safetensors_writer *writer, graft_error *err) GR_MUST_CHECK;
/* Seals, and the file appears for good. Frees the writer in every case. */
graft_status gr_safetensors_commit(gr_safetensors_writer *writer, graft_error *err) GR_MUST_CHECK;
void gr_safetensors_abort(gr_safetensors_writer *writer);
/* The three in one, for tensors whose `data` is in memory. */
graft_status gr_safetensors_save(const char *path, const gr_tensor *tensors, size_t count,
                                 const char *const *metadata, graft_error *err) GR_MUST_CHECK;

#endif
