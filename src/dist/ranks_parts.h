/* dist/ranks_parts.h - what ranks.c and ranks_signs.c share. May include: dist/ranks.h. */
#ifndef GR_DIST_RANKS_PARTS_H
#define GR_DIST_RANKS_PARTS_H
#include "base/os.h"
#include "dist/ranks.h"
#include <pthread.h>
#include <stdio.h>

enum { GR_TAG_DATA = 1, GR_TAG_SIGN = 2 };

typedef enum gr_sign_kind { GR_SIGN_ALIVE, GR_SIGN_DONE, GR_SIGN_FAILED } gr_sign_kind;

/* One sign of life, or the last word of a rank. */
typedef struct gr_sign {
    int32_t kind;
    int32_t lost; /* a rank is gone */
    graft_error error;
} gr_sign;

/* Another rank whose signs this one minds: rank 0 minds all, the others rank 0. */
typedef struct gr_peer {
    int rank;
    gr_sign in, out;
    void *in_request, *out_request;
    bool listening, sending; /* the requests are under way */
    bool ended;              /* its last word has come */
    bool said;               /* ours has gone out, or is going */
    bool gone;
    double heard, sent;
} gr_peer;

struct gr_ranks {
    graft_comm *comm;
    const volatile int *stop;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, news;
    double timeout;
    /* under the lock */
    gr_message *queued, **queued_end;
    bool failed;     /* `why` holds */
    graft_error why; /* what ends the run */
    bool told, lost;
    bool passed_on; /* a wait has returned `why` */
    bool dropped;   /* after a failure: no message is under way any more */
    bool cut_short; /* some were, and were not done */
    bool ending;    /* `last` is to go to every peer */
    bool all_ended; /* it has, and all others' last words are here */
    gr_sign last;
    bool quit;
    uint64_t bytes;
    double waited;
    /* the thread's */
    gr_message *active;
    gr_peer *peers;
    int npeers;
    double looked; /* when signs were last looked at */
};

/* ranks_signs.c, all for the thread alone. */
graft_status gr_signs_open(gr_ranks *r, graft_error *err) GR_MUST_CHECK;
/* Looks for signs, sends them, and notes who is lost. */
void gr_signs_poll(gr_ranks *r);
/* Every peer has got our last word, and given its own or is gone. */
bool gr_signs_ended(const gr_ranks *r);
/* No sign is under way afterwards. */
void gr_signs_close(gr_ranks *r);
/* Notes that a call of the comm failed which another rank took part in. */
void gr_signs_lose(gr_ranks *r, int rank, const char *how);

/* ranks.c; takes the lock. The first failure is kept. */
void gr_ranks_fail(gr_ranks *r, const graft_error *why, bool told, bool lost);

#endif
