/* Which conversion a kept directory holds. */
#include "base/digest.h"
#include "base/os.h"
#include "convert/convert.h"
#include <errno.h>
#include <sys/stat.h>

/* Raised whenever gr_convert writes something else for the same file. */
#define CONVERTER_VERSION 1

#define HEAD_BYTES ((size_t)1 << 20) /* metadata, the tokenizer's among it */
#define TAIL_BYTES ((size_t)1 << 16) /* weights */

#ifdef __APPLE__
#define MTIME st_mtimespec
#else
#define MTIME st_mtim
#endif

graft_status gr_convert_key(uint64_t *key, const char *path, graft_error *err) {
    struct stat info;
    gr_map map;
    if (stat(path, &info) != 0) return gr_fail_errno(err, errno, "cannot open", path);
    GR_TRY(gr_map_open(&map, path, err));
    const uint64_t numbers[] = {
        CONVERTER_VERSION,           (uint64_t)info.st_dev,        (uint64_t)info.st_ino,
        (uint64_t)info.MTIME.tv_sec, (uint64_t)info.MTIME.tv_nsec, map.size};
    size_t head = map.size < HEAD_BYTES ? map.size : HEAD_BYTES,
           tail = map.size < TAIL_BYTES ? map.size : TAIL_BYTES;
    uint64_t h = GR_DIGEST_START;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) h = gr_digest_number(h, numbers[i]);
    if (map.size) {
        h = gr_digest_bytes(h, map.data, head);
        h = gr_digest_bytes(h, map.data + map.size - tail, tail);
    }
    gr_map_close(&map);
    *key = h;
    return GRAFT_OK;
}
