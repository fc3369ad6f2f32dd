/* dist/comm.h - how ranks reach each other: one row for each way.
 * What it does: fills in a graft_comm, the five calls that everything else in this room is made of. May
 * include: base, graft.h. Never: knows what the messages mean.
 *
 * Files: comm_table.c (the rows, self), comm_mpi.c (MPI, with -DGRAFT_MPI=ON); ranks.c (a rank's thread and
 * its messages), ranks_signs.c (signs of life, and how a run ends), ranks_all.c (what all take part in);
 * share.c (who has which leaves of the tree); reduce.c (gradients become the sum over all ranks).
 */
#ifndef GR_DIST_COMM_H
#define GR_DIST_COMM_H
#include "base/status.h"
#include "graft_ranks.h"

typedef struct gr_comm_row {
    const char *name;
    /* *comm is zeroed, with rank 0 of 1. handle as graft_comm_open has it. */
    graft_status (*open)(graft_comm *comm, void *handle, graft_error *err);
} gr_comm_row;

/* Ended by name == NULL. */
extern const gr_comm_row gr_comm_table[];

/* comm_mpi.c */
graft_status gr_comm_mpi(graft_comm *comm, void *handle, graft_error *err) GR_MUST_CHECK;

#endif
