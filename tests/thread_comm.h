/* tests/thread_comm.h - ranks as threads of one process: a graft_comm over queues in memory, as a host
 * program would fill one in. Ranks can be made mute, as if they were gone. */
#ifndef THREAD_COMM_H
#define THREAD_COMM_H
#include "base/memory.h"
#include "graft_ranks.h"
#include <pthread.h>

enum { RANKS_MOST = 8, TAGS_MOST = 3, SPOILED = 512 };

typedef struct parcel {
    struct parcel *next;
    size_t n;
    uint64_t number;
    char bytes[];
} parcel;

typedef struct thread_request thread_request;

typedef struct thread_world {
    pthread_mutex_t lock;
    thread_request *given_up[RANKS_MOST]; /* long receives; a call of their rank still writes into them */
    int size;
    parcel *first[RANKS_MOST][RANKS_MOST][TAGS_MOST]; /* from, to */
    uint64_t sent[RANKS_MOST][RANKS_MOST][TAGS_MOST], awaited[RANKS_MOST][RANKS_MOST][TAGS_MOST];
    bool mute[RANKS_MOST];
    bool spoils; /* a bit of every long message from rank 0 to rank 1 */
} thread_world;

typedef struct thread_rank {
    thread_world *world;
    int rank;
} thread_rank;

struct thread_request {
    bool receives;
    thread_request *next;
    void *bytes;
    size_t n;
    int peer, tag;
    uint64_t number; /* of the parcel that it waits for */
};

static inline int thread_send(void *context, void **request, const void *bytes, size_t n, int to, int tag) {
    thread_rank *me = context;
    thread_world *w = me->world;
    parcel *p = malloc(sizeof *p + n);
    thread_request *r = gr_calloc(1, sizeof *r);
    p->next = NULL;
    p->n = n;
    memcpy(p->bytes, bytes, n);
    pthread_mutex_lock(&w->lock);
    if (w->spoils && me->rank == 0 && to == 1 && n >= SPOILED) p->bytes[2] ^= 0x40;
    parcel **end = &w->first[me->rank][to][tag];
    while (*end) end = &(*end)->next;
    p->number = w->sent[me->rank][to][tag]++;
    if (w->mute[me->rank])
        free(p);
    else
        *end = p;
    pthread_mutex_unlock(&w->lock);
    *request = r;
    return 0;
}

static inline int thread_receive(void *context, void **request, void *bytes, size_t n, int from, int tag) {
    thread_rank *me = context;
    thread_request *r = gr_calloc(1, sizeof *r);
    pthread_mutex_lock(&me->world->lock);
    *r = (thread_request){true, NULL, bytes, n, from, tag, me->world->awaited[from][me->rank][tag]++};
    pthread_mutex_unlock(&me->world->lock);
    *request = r;
    return 0;
}

static inline int thread_test(void *context, void **request, int *done) {
    thread_rank *me = context;
    thread_world *w = me->world;
    thread_request *r = *request;
    for (thread_request *late = w->given_up[me->rank]; late; late = late->next)
        memset(late->bytes, 0xa5, late->n);
    *done = !r->receives;
    if (r->receives) {
        pthread_mutex_lock(&w->lock);
        parcel **at = &w->first[r->peer][me->rank][r->tag];
        while (*at && (*at)->number != r->number) at = &(*at)->next;
        parcel *p = w->mute[me->rank] ? NULL : *at;
        if (p) *at = p->next;
        pthread_mutex_unlock(&w->lock);
        if (p && p->n != r->n) abort(); /* a receive meets a send of its size */
        if (p) memcpy(r->bytes, p->bytes, p->n);
        *done = p != NULL;
        free(p);
    }
    if (*done) free(r);
    return 0;
}

static inline void thread_cancel(void *context, void **request) {
    thread_rank *me = context;
    thread_request *r = *request;
    if (!r->receives || r->n < SPOILED) {
        free(r);
        return;
    }
    r->next = me->world->given_up[me->rank];
    me->world->given_up[me->rank] = r;
}

static inline void thread_mute(thread_world *w, int rank) {
    pthread_mutex_lock(&w->lock);
    w->mute[rank] = true;
    pthread_mutex_unlock(&w->lock);
}

static inline void thread_spoil(thread_world *w) {
    pthread_mutex_lock(&w->lock);
    w->spoils = true;
    pthread_mutex_unlock(&w->lock);
}

static inline void thread_world_init(thread_world *w, int size) {
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    w->size = size;
}

static inline void thread_world_free(thread_world *w) {
    for (int rank = 0; rank < RANKS_MOST; rank++)
        for (thread_request *r = w->given_up[rank], *next; r; r = next) {
            next = r->next;
            free(r);
        }
    for (int from = 0; from < RANKS_MOST; from++)
        for (int to = 0; to < RANKS_MOST; to++)
            for (int tag = 0; tag < TAGS_MOST; tag++)
                for (parcel *p = w->first[from][to][tag], *next; p; p = next) {
                    next = p->next;
                    free(p);
                }
    pthread_mutex_destroy(&w->lock);
}

/* rank [size] lives as long as the comms. */
static inline void thread_comm(graft_comm *comm, thread_rank *rank, thread_world *w, int number) {
    *rank = (thread_rank){w, number};
    *comm = (graft_comm){.context = rank,
                         .rank = number,
                         .size = w->size,
                         .send = thread_send,
                         .receive = thread_receive,
                         .test = thread_test,
                         .cancel = thread_cancel};
}

#endif
