/* chat/service.h - what the files behind `graft serve` share: requests that wait or are answered.
 *
 * Two threads: the server's reads requests, refuses what is wrong with them and lets the rest wait; the
 * caller's answers them, several at once. The lock guards what both touch: the waiting and the numbers.
 */
#ifndef GR_CHAT_SERVICE_H
#define GR_CHAT_SERVICE_H
#include "chat/request.h"
#include "chat/talk.h"
#include "http/http.h"
#include "infer/answer.h"
#include <pthread.h>

/* A request that is owed an answer. */
typedef struct gr_job {
    struct gr_job *next; /* that waits behind it */
    gr_exchange *x;      /* kept */
    gr_request ask;
    struct gr_service *service;
    gr_voice *voice;
    char id[48];
    int64_t created; /* seconds since the epoch */
    /* while it is answered */
    gr_session s; /* a view */
    graft_hooks hooks;
    gr_ids prompt;
    gr_answer growth;
    gr_kv_cache *cache; /* one of the crowd's */
    int32_t id_next;    /* the token that the model has to see next */
    bool streams;       /* the head of its stream is out */
    bool left;          /* its client went away */
    bool cut;           /* stopping ended it while its prompt was read */
} gr_job;

/* How a request for an answer ends; each is one of them. */
typedef enum gr_ending {
    GR_ANSWERED, /* whole */
    GR_REFUSED,
    GR_LEFT, /* by its client */
    GR_CUT   /* by stopping */
} gr_ending;

/* So many answers at once are worth going through the model together: a token of fewer is faster one answer
 * after the other. Measured, see docs/serve.md. */
#define GR_TOGETHER_FROM 8

typedef struct gr_service {
    const graft_options *o;
    const graft_hooks *hooks;
    gr_talk talk;
    char *name;         /* of the base, for clients */
    char *key;          /* NULL: none is asked for */
    json_t *hosts;      /* NULL, or a list of texts; */
    const char **names; /* theirs, ended by NULL */
    size_t longest;     /* bytes of a token */
    int64_t started;
    gr_voice *usual; /* who answers where a request names the base or nothing */
    /* guarded by the lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    gr_job *first, *last;
    int64_t waiting, number; /* number: of requests */
    bool stopping;
    graft_serve_result result;
    /* the crowd's: the caller's thread alone */
    gr_arena arena;
    gr_kv_cache *caches; /* [rows] */
    gr_job **jobs;       /* [count], of at most `rows` */
    int64_t rows, count;
    bool closed;  /* the stop flag was seen */
    double grace; /* seconds from then on; until: the clock's */
    double until;
} gr_service;

/* scheduler.c: several answers at once. */
graft_status gr_scheduler_open(gr_service *s, graft_error *err) GR_MUST_CHECK;
/* Answers until the stop flag is raised; those that wait are then refused, those that have begun are given up
 * to s->grace seconds more, and cut. */
void gr_scheduler_run(gr_service *s);
void gr_scheduler_close(gr_service *s);

/* response.c: what is sent back. An answer's text is UTF-8, but a cut one may not be: such bytes become
 * U+FFFD. */
/* A copy (malloc'ed) that is UTF-8 without NUL: other bytes become U+FFFD; NULL when out of memory. */
char *gr_response_utf8(const char *text, size_t n);
void gr_response_refusal(gr_exchange *x, const gr_refusal *why);
/* The head of a stream; a piece of its text; false when nobody reads on. */
bool gr_response_begin(const gr_service *s, gr_job *job);
bool gr_response_piece(const gr_service *s, gr_job *job, const char *text, size_t n);
/* The end of a stream, or the whole answer, whose text has grown. finish: "stop" or "length". False where it
 * did not get through: nobody reads on, or memory ran out, and then a stream has no end. */
bool gr_response_end(const gr_service *s, gr_job *job, const char *finish);
void gr_response_models(const gr_service *s, gr_exchange *x, const char *only);
/* An error in the middle: nothing but the stream's end can be said. */
void gr_response_broken(gr_job *job);

/* service.c */
gr_voice *gr_service_voice(const gr_service *s, const char *name); /* NULL: none has it */
/* As http.h's gr_serve_wish has them; user is the service. The door refuses what needs no body for that. */
void gr_service_door(void *user, const gr_serve_request *r, gr_exchange *x);
void gr_service_request(void *user, const gr_serve_request *r, gr_exchange *x);
void gr_service_refusal(void *user, gr_exchange *x, int status, const char *what);
const char *gr_service_voice_name(const gr_service *s, const gr_voice *v);
/* Counts the end of a request and frees its job (NULL: there was no memory for one), which drops its
 * exchange. */
void gr_job_end(gr_service *s, gr_job *job, gr_ending how);
void gr_job_refuse(gr_service *s, gr_job *job, const gr_refusal *why);
/* Ends those that wait and whose clients went away. */
void gr_service_sweep(gr_service *s);

#endif
