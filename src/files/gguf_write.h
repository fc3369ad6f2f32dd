/* files/gguf_write.h - writing GGUF v3: metadata, then tensors streamed in declared order; the file appears
 * atomically. What it does: keys and tensors to bytes. May include: base, files/gguf.h. Never: interprets
 * names.
 *
 *     gr_gguf_keys keys = {0};
 *     gr_gguf_put_string(&keys, "general.architecture", "llama");
 *     gr_gguf_put_value(&keys, gr_gguf_value_find(base, "llama.block_count"));    // as another file has it
 *     GR_TRY(gr_gguf_create(&w, path, &keys, tensors, count, err));               // frees the keys
 *     for (size_t i = 0; i < count; i++) gr_gguf_write(w, data[i], tensors[i].bytes, err);
 *     GR_TRY(gr_gguf_commit(w, err));
 */
#ifndef GR_FILES_GGUF_WRITE_H
#define GR_FILES_GGUF_WRITE_H
#include "files/gguf.h"
#include "files/gguf_value.h"

/* Metadata to be, in the order of the calls. Zeroed before the first; a failed allocation is sticky and told
 * by gr_gguf_create. Strings are UTF-8; each key once. */
typedef struct gr_gguf_keys {
    gr_buf bytes;
    uint64_t count;
    uint64_t alignment; /* of tensors: 32 while 0; a copied general.alignment sets it */
} gr_gguf_keys;
void gr_gguf_put_string(gr_gguf_keys *keys, const char *key, const char *value);
void gr_gguf_put_u32(gr_gguf_keys *keys, const char *key, uint32_t value);
void gr_gguf_put_float(gr_gguf_keys *keys, const char *key, float value);
void gr_gguf_put_bool(gr_gguf_keys *keys, const char *key, bool value);
/* Key, type and value of another file, byte for byte; gr_gguf_value_at walks all of one. */
void gr_gguf_put_value(gr_gguf_keys *keys, const gr_gguf_value *value);
void gr_gguf_keys_free(gr_gguf_keys *keys);

typedef struct gr_gguf_writer gr_gguf_writer;
/* Declares everything and writes the header: of each tensor name, type, shape and bytes count, `data` does
 * not. Frees *keys in every case. Memory use does not depend on the tensors' sizes. errors  GRAFT_INTERNAL
 * when bytes are not those of type and shape, or a name is declared twice */
graft_status gr_gguf_create(gr_gguf_writer **writer, const char *path, gr_gguf_keys *keys,
                            const gr_gguf_tensor *tensors, size_t count, graft_error *err) GR_MUST_CHECK;
/* Bytes of the tensors in the declared order, in pieces if wished: a piece must not reach into the next
 * tensor. The padding between tensors is put in by itself. */
graft_status gr_gguf_write(gr_gguf_writer *writer, const void *bytes, size_t n,
                           graft_error *err) GR_MUST_CHECK;
/* As gr_writer_seal: the bytes are on the disk, under a temporary name; replace, commit or abort follows.
 * GRAFT_INTERNAL when fewer bytes were given than declared. Frees the writer when it fails. */
graft_status gr_gguf_seal(gr_gguf_writer *writer, graft_error *err) GR_MUST_CHECK;
/* As gr_writer_replace, without the directory's fsync. Frees the writer in every case. */
graft_status gr_gguf_replace(gr_gguf_writer *writer, graft_error *err) GR_MUST_CHECK;
/* Seals, and the file appears for good. Frees the writer in every case. */
graft_status gr_gguf_commit(gr_gguf_writer *writer, graft_error *err) GR_MUST_CHECK;
void gr_gguf_abort(gr_gguf_writer *writer); /* NULL is fine */

#endif
