/* dist/comm_mpi.c - the calls of graft_comm in Open MPI's words. The library is loaded when somebody asks for
 * it, so that a program that runs alone holds nothing of it; a host that initialized MPI holds it already. */
#include "base/memory.h"
#include "dist/comm.h"
#ifndef GRAFT_MPI

graft_status gr_comm_mpi(graft_comm *comm, void *handle, graft_error *err) {
    (void)comm, (void)handle;
    gr_fail(err, GRAFT_UNSUPPORTED, "this graft was built without MPI");
    return gr_hint(err, "build it with -DGRAFT_MPI=ON (preset mpi), which needs libopenmpi-dev");
}

#else
#include <dlfcn.h>
#include <limits.h>
#include <mpi.h>
#ifndef OPEN_MPI
#error "GRAFT_MPI needs Open MPI's mpi.h: its predefined objects are symbols of the library"
#endif

#define CALLS(X)                                                                                             \
    X(Initialized)                                                                                           \
    X(Finalized)                                                                                             \
    X(Query_thread)                                                                                          \
    X(Comm_dup)                                                                                              \
    X(Comm_free)                                                                                             \
    X(Comm_set_errhandler)                                                                                   \
    X(Comm_rank)                                                                                             \
    X(Comm_size)                                                                                             \
    X(Isend)                                                                                                 \
    X(Irecv)                                                                                                 \
    X(Test)                                                                                                  \
    X(Cancel)                                                                                                \
    X(Request_free)

typedef struct mpi {
    void *library;
#define X(name) __typeof__(MPI_##name) *name;
    CALLS(X)
#undef X
    MPI_Datatype byte;
    MPI_Request no_request;
    MPI_Errhandler errors_return;
} mpi;

typedef struct world {
    mpi mpi;
    MPI_Comm comm; /* a duplicate of the host's: no message of it meets one of ours */
    bool broken;   /* a call failed: calls of all ranks together would not come back */
} world;

/* A request lies in the caller's void * itself. */
_Static_assert(sizeof(MPI_Request) <= sizeof(void *), "a request fits a pointer");

static void keep(void **request, MPI_Request r) {
    *request = NULL;
    memcpy(request, &r, sizeof r);
}

static int note(world *w, int failed) {
    if (failed != MPI_SUCCESS) w->broken = true;
    return failed == MPI_SUCCESS ? 0 : 1;
}

static int begin_send(void *context, void **request, const void *bytes, size_t n, int to, int tag) {
    world *w = context;
    MPI_Request r = w->mpi.no_request;
    if (n > INT_MAX) return 1; /* no message of ours is that long */
    int failed = w->mpi.Isend(bytes, (int)n, w->mpi.byte, to, tag, w->comm, &r);
    keep(request, r);
    return note(w, failed);
}

static int begin_receive(void *context, void **request, void *bytes, size_t n, int from, int tag) {
    world *w = context;
    MPI_Request r = w->mpi.no_request;
    if (n > INT_MAX) return 1;
    int failed = w->mpi.Irecv(bytes, (int)n, w->mpi.byte, from, tag, w->comm, &r);
    keep(request, r);
    return note(w, failed);
}

static int test(void *context, void **request, int *done) {
    world *w = context;
    MPI_Request r;
    memcpy(&r, request, sizeof r);
    int failed = w->mpi.Test(&r, done, MPI_STATUS_IGNORE);
    keep(request, r);
    return note(w, failed);
}

static void cancel(void *context, void **request) {
    world *w = context;
    MPI_Request r;
    memcpy(&r, request, sizeof r);
    if (r == w->mpi.no_request) return;
    w->broken = true;
    w->mpi.Cancel(&r);
    w->mpi.Request_free(&r);
    keep(request, r);
}

/* The library stays loaded: its own threads and handlers may. */
static void close_world(void *context) {
    world *w = context;
    if (!w->broken) w->mpi.Comm_free(&w->comm);
    free(w);
}

static graft_status find(void **to, void *library, const char *name, graft_error *err) {
    *to = dlsym(library, name);
    if (*to) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "the MPI that is installed is not Open MPI as this graft knows it");
    return gr_found(err, "no %s", name);
}

static graft_status load(mpi *m, graft_error *err) {
    void *symbol;
    m->library = dlopen("libmpi.so.40", RTLD_NOW | RTLD_GLOBAL); /* its plug-ins want its names */
    if (!m->library) {
        gr_fail(err, GRAFT_NOT_FOUND, "Open MPI is not installed");
        gr_found(err, "%s", dlerror());
        return gr_hint(err, "Debian: apt-get install openmpi-bin");
    }
#define X(name)                                                                                              \
    GR_TRY(find(&symbol, m->library, "MPI_" #name, err));                                                    \
    memcpy(&m->name, &symbol, sizeof symbol);
    CALLS(X)
#undef X
    /* what the macros MPI_BYTE and so on stand for */
    GR_TRY(find(&symbol, m->library, "ompi_mpi_byte", err));
    m->byte = symbol;
    GR_TRY(find(&symbol, m->library, "ompi_request_null", err));
    m->no_request = symbol;
    GR_TRY(find(&symbol, m->library, "ompi_mpi_errors_return", err));
    m->errors_return = symbol;
    return GRAFT_OK;
}

/* The host's MPI as it stands. */
static graft_status check(const mpi *m, graft_error *err) {
    int ready = 0, over = 0, level = MPI_THREAD_SINGLE;
    m->Initialized(&ready);
    m->Finalized(&over);
    if (!ready || over)
        return gr_fail(err, GRAFT_USAGE, "MPI is not initialized: the host program does that");
    m->Query_thread(&level);
    if (level >= MPI_THREAD_SERIALIZED) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "MPI was initialized for one thread");
    return gr_hint(err, "MPI_Init_thread with MPI_THREAD_SERIALIZED");
}

static graft_status open_world(world *w, const MPI_Comm *host, graft_error *err) {
    GR_TRY(load(&w->mpi, err));
    GR_TRY(check(&w->mpi, err));
    if (w->mpi.Comm_dup(*host, &w->comm) != MPI_SUCCESS) return gr_fail(err, GRAFT_IO, "MPI_Comm_dup failed");
    w->mpi.Comm_set_errhandler(w->comm, w->mpi.errors_return);
    return GRAFT_OK;
}

graft_status gr_comm_mpi(graft_comm *comm, void *handle, graft_error *err) {
    world *w = gr_calloc(1, sizeof *w);
    if (!w) return gr_no_memory(err, sizeof *w);
    graft_status st = open_world(w, handle, err);
    if (st != GRAFT_OK) {
        free(w);
        return st;
    }
    *comm = (graft_comm){.context = w,
                         .send = begin_send,
                         .receive = begin_receive,
                         .test = test,
                         .cancel = cancel,
                         .close = close_world};
    w->mpi.Comm_rank(w->comm, &comm->rank);
    w->mpi.Comm_size(w->comm, &comm->size);
    return GRAFT_OK;
}
#endif
