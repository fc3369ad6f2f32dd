/* data/pack.h - several short rows as one: which rows of an epoch share a sequence.
 * What it does: best fit, decreasing, over a whole epoch. Rows are taken by falling length (equals in the
 * epoch's order), each joins the pack with the least room that holds it, else it opens one; the packs follow
 * each other as the rows that opened them do in the epoch's order. May include: base. Never: tokens, losses.
 *
 * How many packs there are, and how full, depends on the lengths alone: every epoch has the same number, so
 * that a position in one is a number of packs. Which rows of equal length meet, and in which order the packs
 * come, depends on the epoch's order, and so on (seed, epoch) only: a resumed run packs as the first did.
 */
#ifndef GR_DATA_PACK_H
#define GR_DATA_PACK_H
#include "base/memory.h"

typedef struct gr_packs {
    int64_t capacity; /* tokens of a pack at most */
    int64_t count;    /* packs */
    int64_t rows;     /* in them: those that cost something */
    int64_t tokens;   /* in all of them */
    int64_t largest;  /* tokens of the fullest */
    int32_t *cost;    /* [rows of the data] tokens of each; 0: left out */
    int32_t *row;     /* [rows] of the epoch, pack after pack */
    int32_t *start;   /* [count + 1]; pack p is row[start[p]] .. row[start[p + 1] - 1] */
    int64_t most;     /* room of an empty pack: capacity, but no more than all tokens need */
    int32_t *sorted, *pack_of, *room, *below, *top; /* scratch of gr_packs_fill */
    uint64_t *some, *somewhere;
} gr_packs;

/* Reserves what every epoch needs. cost [rows] is taken over, also after a failure. GRAFT_RANGE: a row costs
 * more than capacity, or none costs anything. Owned by caller until gr_packs_free. */
graft_status gr_packs_new(gr_packs **packs, int32_t *cost, int64_t rows, int64_t capacity,
                          graft_error *err) GR_MUST_CHECK;
void gr_packs_free(gr_packs *packs);
/* Packs an epoch: order [rows] lists the rows of the data, NULL: as they are in the file. */
void gr_packs_fill(gr_packs *packs, const int32_t *order, int64_t rows);

#endif
