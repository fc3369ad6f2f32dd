/* mpi_run.c - one of the ranks that mpirun started: MPI from its beginning to its end, which is the program's
 * affair and not the library's. A program that runs alone never loads it. */
#include "cli.h"
#include <limits.h>
#include <stdlib.h>
#ifdef GRAFT_MPI
#include <dlfcn.h>
#include <mpi.h>
#include <string.h>
#endif

/* A number that a launcher put into the environment; -1: it did not. */
static int launched(const char *name) {
    const char *text = getenv(name);
    char *end;
    long n = text ? strtol(text, &end, 10) : -1;
    return text && *text && !*end && n >= 0 && n < INT_MAX ? (int)n : -1;
}

int mpi_ranks(void) {
    int size = launched("OMPI_COMM_WORLD_SIZE"); /* Open MPI's mpirun */
    if (size < 0) size = launched("PMI_SIZE");   /* other launchers */
    if (size < 0 && launched("PMIX_RANK") >= 0) size = launched("SLURM_NTASKS");
    return size > 1 ? size : 1;
}

int mpi_rank(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"};
    int rank = -1;
    for (size_t i = 0; rank < 0 && i < sizeof names / sizeof *names; i++) rank = launched(names[i]);
    return mpi_ranks() > 1 && rank > 0 ? rank : 0;
}

bool mpi_same_command(void) {
    return launched("OMPI_NUM_APP_CTX") <= 1; /* 2 and more: mpirun's words had a colon */
}

#ifndef GRAFT_MPI
graft_status mpi_begin(cli *c, graft_comm *comm) {
    *comm = (graft_comm){.size = 1};
    if (mpi_ranks() == 1) return GRAFT_OK;
    cli_fail(c, GRAFT_UNSUPPORTED, "started as one of %d ranks, but this graft was built without MPI",
             mpi_ranks());
    cli_hint(c, "build it with -DGRAFT_MPI=ON (preset mpi), or start it without mpirun");
    return GRAFT_UNSUPPORTED;
}

void mpi_end(graft_comm *comm) {
    graft_comm_close(comm);
}

#else

/* A function or object of Open MPI; NULL, and what is missing in c->err. */
static void *mpi_symbol(cli *c, const char *name) {
    void *library = dlopen("libmpi.so.40", RTLD_NOW | RTLD_GLOBAL); /* its plug-ins want its names */
    void *symbol = library ? dlsym(library, name) : NULL;
    if (symbol) return symbol;
    cli_fail(c, GRAFT_NOT_FOUND, "Open MPI cannot be loaded");
    cli_found(c, dlerror());
    return NULL;
}

#define HURRY 0.2 /* seconds: mpirun kills what it stopped one second later */

/* Its processes do not know each other: each would train all by itself into the same directory. */
static graft_status another_launcher(cli *c, int found) {
    cli_fail(c, GRAFT_UNSUPPORTED, "the launcher started %d processes, and Open MPI knows of %d", mpi_ranks(),
             found);
    cli_hint(c, "start it with Open MPI's mpirun: that of another MPI, such as MPICH, does not fit");
    return GRAFT_UNSUPPORTED;
}

static graft_status begin(cli *c, graft_comm *comm) {
    __typeof__(MPI_Init_thread) *init;
    int level;
    void *symbol = mpi_symbol(c, "MPI_Init_thread"), *world = mpi_symbol(c, "ompi_mpi_comm_world");
    if (!symbol || !world) return c->err.status;
    memcpy(&init, &symbol, sizeof init);
    if (init(NULL, NULL, MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
        return cli_fail(c, GRAFT_IO, "MPI_Init_thread failed");
    bus_install(); /* Open MPI has put handlers of its own there */
    MPI_Comm all = world;
    if (graft_comm_open(comm, "mpi", &all, &c->err) != GRAFT_OK) return c->err.status;
    comm->hurry = HURRY;
    return comm->size == mpi_ranks() ? GRAFT_OK : another_launcher(c, comm->size);
}

graft_status mpi_begin(cli *c, graft_comm *comm) {
    *comm = (graft_comm){.size = 1};
    if (mpi_ranks() == 1) return GRAFT_OK;
    graft_status status = begin(c, comm);
    if (status == GRAFT_OK) c->rank = comm->rank;
    return status;
}

/* Where a rank is gone, the end that all ranks take part in would never come. */
void mpi_end(graft_comm *comm) {
    cli unused = {0};
    bool many = comm->size > 1, adrift = comm->lost || comm->adrift;
    graft_comm_close(comm);
    void *symbol = many && !adrift ? mpi_symbol(&unused, "MPI_Finalize") : NULL;
    __typeof__(MPI_Finalize) *finalize;
    memcpy(&finalize, &symbol, sizeof finalize);
    if (symbol) finalize();
}
#endif
