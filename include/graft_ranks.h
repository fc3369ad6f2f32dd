/* graft_ranks.h - several processes train together: each of them, a rank, runs a part of every batch.
 *
 *     MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &level);      // the host's, never the library's
 *     graft_comm comm;
 *     MPI_Comm world = MPI_COMM_WORLD;
 *     if (graft_comm_open(&comm, "mpi", &world, &err) != GRAFT_OK) ..;
 *     graft_hooks hooks = {.ranks = &comm};
 *     graft_train(&options, &hooks, &result, &err);                      // on every rank
 *     bool adrift = comm.lost || comm.adrift;
 *     graft_comm_close(&comm);
 *     if (!adrift) MPI_Finalize();
 *
 * While graft_train runs, MPI is its thread's: with MPI_THREAD_SERIALIZED the host makes no call of it then,
 * not in the event hook either, and runs no second training. With MPI_THREAD_MULTIPLE it may do both, each
 * training with a graft_comm of its own.
 *
 * n ranks give the bits of one. Instead of MPI a host may fill in graft_comm itself: these five calls are all
 * that the library knows of a network.
 */
#ifndef GRAFT_RANKS_H
#define GRAFT_RANKS_H
#include "graft_status.h"
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a rank reaches the others. The calls are made by one thread at a time, which during a training is one
 * of the library's own, and do not block. They return 0, or anything else where the other rank is gone.
 * Messages between two ranks with one tag arrive in the order in which they were sent, and meet receives of
 * the same size in the order in which these began. */
typedef struct graft_comm {
    void *context; /* the first argument of every call */
    int rank, size;
    double timeout; /* seconds without a sign of life after which a rank counts as lost; 0:
                       options.rank_timeout */
    /* seconds that rank 0 waits for the others once its host asks to stop; then it saves the last whole
     * update and ends the run. 0: it waits until all have stopped together. For hosts that are killed soon
     * after. */
    double hurry;
    /* Begin; the bytes are left alone until test says that it is done, or cancel. *request is the call's. */
    int (*send)(void *context, void **request, const void *bytes, size_t n, int to, int tag);
    int (*receive)(void *context, void **request, void *bytes, size_t n, int from, int tag);
    int (*test)(void *context, void **request, int *done); /* one that is done, or failed, is gone */
    /* Gives a request up: no more is heard of it. A network that cannot take it back may still read or write
     * the bytes, but only inside further calls. */
    void (*cancel)(void *context, void **request);
    void (*close)(void *context); /* by graft_comm_close; may be NULL */
    /* set by graft_train where it fails */
    bool told;   /* rank 0 knows of the error, and returns it too: one of them need print it */
    bool lost;   /* a rank is gone */
    bool adrift; /* messages were given up that the other side may still wait for. After either of the two
                    what waits for all (MPI_Finalize) may wait for ever, and no call of this network may
                    follow: graft_comm_close makes none, and the process is to end */
} graft_comm;

/* Fills in *comm. name "self": this process alone, handle is ignored. "mpi": handle points to an MPI_Comm,
 * which is duplicated; MPI is initialized, with MPI_THREAD_SERIALIZED at least. GRAFT_UNSUPPORTED where the
 * library was built without it. Called by all ranks. Owned by caller until graft_comm_close. */
graft_status graft_comm_open(graft_comm *comm, const char *name, void *handle, graft_error *err);
void graft_comm_close(graft_comm *comm);

#ifdef __cplusplus
}
#endif
#endif
