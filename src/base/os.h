/* base/os.h - what the operating system offers: mapped files, atomic writes, clock, memory, processors.
 * POSIX only (Linux, macOS). Never prints.
 */
#ifndef GR_BASE_OS_H
#define GR_BASE_OS_H
#include "base/memory.h"
#include "graft_file.h"
#include <dirent.h>

/* How a file's bytes get into memory. A mapped file that shrinks, or whose disk fails, ends the process by
 * SIGBUS at the next look at it, and only the process may handle that. One that was read cannot: it takes
 * memory for all of it, and its trouble is an error of the call that opens it. */
typedef enum gr_reading_kind {
    GR_READ_MAPPED,
    GR_READ_IN_MEMORY,
    GR_READ_HEAD /* in memory, but only its first megabyte: what lies behind reads as zeros. For what stands
               at a file's beginning; a reader that needs more sees no sense there, and the whole file is read
               then
             */
} gr_reading_kind;

/* That, and the files that the caller holds itself: at their paths these stand before, or instead of, what
 * the disk has. Copied where the path is opened; the list is borrowed. */
typedef struct gr_reading {
    gr_reading_kind kind;
    const graft_file *files;
    size_t count;
} gr_reading;
#define GR_MAPPED    ((gr_reading){.kind = GR_READ_MAPPED})
#define GR_IN_MEMORY ((gr_reading){.kind = GR_READ_IN_MEMORY})
#define GR_HEAD      ((gr_reading){.kind = GR_READ_HEAD})

/* A file's bytes, read-only. data is NULL for an empty file. Borrowed pointers live until gr_map_close. */
typedef struct gr_map {
    const uint8_t *data;
    size_t size;
} gr_map;
graft_status gr_map_open(gr_map *map, const char *path, gr_reading how, graft_error *err) GR_MUST_CHECK;
void gr_map_close(gr_map *map);
/* Takes the whole pages inside [start, start + bytes) of a map out of the resident set; reading brings them
 * back (of a file that was read they go on taking memory). For code that walks a file larger than memory
 * once. */
void gr_map_release(const void *start, size_t bytes);

/* Asks the system to forget what it holds of a file that nobody maps, so that reading it takes as long as
 * from the disk. A request only. False where it cannot be made. */
bool gr_file_uncache(const char *path);

/* The whole file in memory, NUL-terminated beyond *size. Refuses files above `limit` bytes (GRAFT_RANGE).
 * Owned by caller until free(). */
graft_status gr_file_read_as(char **data, size_t *size, const char *path, size_t limit, gr_reading how,
                             graft_error *err) GR_MUST_CHECK;
static inline GR_MUST_CHECK graft_status gr_file_read(char **data, size_t *size, const char *path,
                                                      size_t limit, graft_error *err) {
    return gr_file_read_as(data, size, path, limit, GR_MAPPED, err);
}

/* open(2) with O_CLOEXEC, again while it is interrupted. */
int gr_open(const char *path, int flags, int mode);

/* Replaces a file: writes path.PID-TIME.tmp beside it, fsync, rename, fsync of the directory. A reader sees
 * the old bytes or the new, never a part. Begin, any number of writes, then commit or abort. Files that
 * belong together are all sealed before the first is committed: what can fail for want of room has happened
 * then. */
typedef struct gr_writer {
    int fd;
    uint64_t bytes; /* written so far */
    char *path, *temp;
} gr_writer;
graft_status gr_writer_begin(gr_writer *w, const char *path, graft_error *err) GR_MUST_CHECK;
graft_status gr_writer_write(gr_writer *w, const void *data, size_t n, graft_error *err) GR_MUST_CHECK;
/* Its bytes are on the disk, under the temporary name. Aborts itself when it fails. Harmless after seal. */
graft_status gr_writer_seal(gr_writer *w, graft_error *err) GR_MUST_CHECK;
/* Seals, and the file is in its place, which gr_dir_sync makes lasting; gr_writer_abort frees the rest. */
graft_status gr_writer_replace(gr_writer *w, graft_error *err) GR_MUST_CHECK;
/* Replaces and syncs the directory. Aborts itself when it fails. */
graft_status gr_writer_commit(gr_writer *w, graft_error *err) GR_MUST_CHECK;
void gr_writer_abort(gr_writer *w); /* harmless after commit */
/* The three in one. */
graft_status gr_file_replace(const char *path, const void *data, size_t n, graft_error *err) GR_MUST_CHECK;

/* gr_fail_errno for a file that is written: a full disk or quota has a hint. */
graft_status gr_fail_written(graft_error *err, int os_errno, const char *what, const char *path);
/* fsync of a directory: names that came, went or changed in it are on the disk. One that is missing, or may
 * not be opened, is left. */
graft_status gr_dir_sync(const char *dir, graft_error *err) GR_MUST_CHECK;
/* The same of the directory that `path` is in: a new name is only on the disk once its directory is. */
graft_status gr_dir_sync_of(const char *path, graft_error *err) GR_MUST_CHECK;

/* Removes what writers that were killed left in `dir`: files named as gr_writer_begin names them. Only for a
 * directory that this process alone writes to. A missing directory is fine. */
void gr_remove_temps(const char *dir);

/* The same for one file, in a directory that others write to: only what no living writer holds, and is older
 * than a minute. */
void gr_remove_temps_of(const char *path);

/* The right to write to a directory, for one holder at a time in all processes: a lock on `dir`/.lock, which
 * stays behind. Zeroed: not held. */
typedef struct gr_dir_lock {
    int fd;
    bool held;
    bool absent; /* this file system has no locks: whoever asked goes on without, and should say so */
} gr_dir_lock;
/* GRAFT_IO when somebody holds it, with that hint. */
graft_status gr_dir_lock_take(gr_dir_lock *lock, const char *dir, const char *hint,
                              graft_error *err) GR_MUST_CHECK;
/* The same for what `file`, a lock file of a name that other programs lock too, stands for. */
graft_status gr_file_lock_take(gr_dir_lock *lock, const char *file, const char *hint,
                               graft_error *err) GR_MUST_CHECK;
void gr_dir_lock_release(gr_dir_lock *lock); /* harmless when not held */

/* mkdir -p; the new names are on the disk afterwards. */
graft_status gr_make_dirs(const char *path, graft_error *err) GR_MUST_CHECK;
/* Both are true where the system cannot say: whoever opens the path then learns why. */
bool gr_path_exists_as(const char *path, gr_reading how);
bool gr_path_is_dir_as(const char *path, gr_reading how); /* also one that only files held in memory name */
static inline bool gr_path_exists(const char *path) {
    return gr_path_exists_as(path, GR_MAPPED);
}
static inline bool gr_path_is_dir(const char *path) {
    return gr_path_is_dir_as(path, GR_MAPPED);
}
DIR *gr_list_open(const char *dir); /* opendir(3), again while it is interrupted */
/* dir + "/" + name; NULL on failure. Owned by caller until free(). */
char *gr_path_join(const char *dir, const char *name);

/* The first of the environment's variables that is set and not empty, rows {variable, suffix}, joined with
 * its suffix unless that is "". NULL: none, or no memory. Owned by caller until free(). */
char *gr_env_path(const char *const (*rows)[2], size_t count);

double gr_clock(void);         /* seconds, monotonic */
uint64_t gr_peak_rss(void);    /* bytes, the process's peak resident set (VmHWM) */
uint64_t gr_current_rss(void); /* bytes, resident now */
/* Gives unused heap back and makes the peak start anew from what is resident now. False where the system
 * cannot: gr_peak_rss goes on from its old value then. */
bool gr_peak_rss_reset(void);
uint64_t gr_memory_available(void); /* bytes the system could give without swapping; 0 if unknown */
/* GRAFT_RANGE where so many bytes are more than there are available (0: unknown). what: who takes them, and
 * the verb ("a prompt of 9 tokens takes"). */
graft_status gr_memory_fits(uint64_t bytes, uint64_t available, graft_error *err, const char *what, ...)
    GR_PRINTF(4, 5) GR_MUST_CHECK;
int gr_processors(void); /* cores this process may run on, >= 1 */

#endif
