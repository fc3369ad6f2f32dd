/* tests/fault_shim.h - calls of the system that fail on demand. fault_shim.c interposes them: preloaded into
 * a program (what to do stands in $GRAFT_FAULT), or linked into a test, which arms it itself.
 *
 * A fault is written KIND:N:EFFECT, the N-th call of that kind alone; KIND:N+:EFFECT, that call and every
 * later one; KIND%K:EFFECT, every K-th. EFFECT is the name of an error, or `short` (reads and writes: a
 * part only). Once a fault has struck, the file $GRAFT_FAULT_HIT exists; with $GRAFT_FAULT_TRACE set, the
 * calls that led there go to stderr. $GRAFT_FAULT_COUNT receives how many calls of the kind there were.
 */
#ifndef FAULT_SHIM_H
#define FAULT_SHIM_H
#include <stdbool.h>

/* ORDER: kind_names in fault_shim.c */
typedef enum fault_kind {
    FAULT_ALLOC,
    FAULT_OPEN,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_FSYNC,
    FAULT_RENAME,
    FAULT_CLOSE,
    FAULT_MKDIR,
    FAULT_TRUNCATE,
    FAULT_MMAP,
    FAULT_UNLINK,
    FAULT_THREAD,
    FAULT_LOCK,
    FAULT_STAT,
    FAULT_LINK,
    FAULT_KINDS
} fault_kind;

/* From now on the n-th call of a kind fails (later: and all after it). n 0: none. */
void fault_arm(fault_kind kind, long n, bool later, int error);
/* Has a fault struck since? */
bool fault_struck(void);
/* Blocks that malloc and its relatives have given and nobody has freed. */
long fault_live(void);

#endif
