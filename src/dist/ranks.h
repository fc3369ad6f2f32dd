/* dist/ranks.h - this rank among the others: messages that travel while it computes, what all take part in,
 * and how the others learn that one has failed or is gone.
 * What it does: a thread makes every call of the graft_comm, so that messages move during a backward pass and
 * signs of life go out during a long one. May include: base, dist/comm.h. Never: knows gradients.
 *
 * Everybody tells rank 0, and rank 0 tells everybody: a rank that fails says so to rank 0, which ends the run
 * and says so to all others. A rank from which nothing was heard for the timeout, though each sends a sign
 * every second, is lost. From the first error on every wait returns it.
 */
#ifndef GR_DIST_RANKS_H
#define GR_DIST_RANKS_H
#include "base/memory.h"
#include "dist/comm.h"

typedef struct gr_ranks gr_ranks;

/* A message under way. Owned by the caller, who leaves it and its bytes alone until a wait for it is over. */
typedef struct gr_message {
    void *bytes;
    size_t n;
    int peer;
    bool sends, done;
    void *request;
    struct gr_message *next;
} gr_message;

/* Starts the thread. comm is borrowed and of several ranks. timeout: seconds, where comm has none. stop: the
 * host's flag, may be NULL: when it is raised, rank 0 waits no longer for slow ranks than comm->hurry, and
 * ends the run (GRAFT_INTERRUPTED). Owned by caller until gr_ranks_close. */
graft_status gr_ranks_open(gr_ranks **ranks, graft_comm *comm, double timeout, const volatile int *stop,
                           graft_error *err) GR_MUST_CHECK;
/* Tells the others how this rank ended, err->status saying it, and waits until they have ended too: this
 * rank's end is good only where all others' are. Sets the comm's told, lost and adrift. NULL is fine. Returns
 * err->status. */
graft_status gr_ranks_close(gr_ranks *ranks, graft_error *err);

int gr_ranks_rank(const gr_ranks *ranks);
int gr_ranks_size(const gr_ranks *ranks);

/* Was it another rank, or the host's hurry, that ended the run? True once a wait has returned that, and not
 * where this rank went wrong by itself, even if others have failed since. */
bool gr_ranks_broke_off(gr_ranks *ranks);

/* Begin a message to or from a rank. Those between two ranks meet in the order of their beginning. Nothing
 * fails here: waits do. */
void gr_ranks_send(gr_ranks *ranks, gr_message *m, const void *bytes, size_t n, int to);
void gr_ranks_receive(gr_ranks *ranks, gr_message *m, void *bytes, size_t n, int from);
/* Until all of them are done. After an error none of them is under way any more. */
graft_status gr_ranks_wait(gr_ranks *ranks, gr_message *m, size_t count, graft_error *err) GR_MUST_CHECK;

/* ranks_all.c - called by all ranks alike. */
/* Rank r's part of `all` is [start[r], start[r + 1]) bytes; every rank brings its own and gets the others'.
 */
graft_status gr_ranks_share(gr_ranks *ranks, void *all, const size_t *start, graft_error *err) GR_MUST_CHECK;
/* The same with n bytes each. */
graft_status gr_ranks_share_each(gr_ranks *ranks, void *all, size_t n, graft_error *err) GR_MUST_CHECK;
/* Rank 0's bytes. */
graft_status gr_ranks_spread(gr_ranks *ranks, void *bytes, size_t n, graft_error *err) GR_MUST_CHECK;
/* Rank 0's text, of any length, malloc'ed anew on the others, and theirs also after a failure; else NULL. */
graft_status gr_ranks_spread_text(gr_ranks *ranks, char **text, graft_error *err) GR_MUST_CHECK;

/* Bytes sent to other ranks so far, signs of life left out, and seconds in waits. */
void gr_ranks_usage(gr_ranks *ranks, uint64_t *bytes, double *seconds);

#endif
