#include "base/hooks.h"
#include "base/wake.h"
#include "dist/ranks_parts.h"

#define LAST_WORDS  5.0   /* that rank 0 waits for the others to end after a failure */
#define LONG_SAVING 120.0 /* that the others wait for rank 0, which saves what there is first */

void gr_ranks_fail(gr_ranks *r, const graft_error *why, bool told, bool lost) {
    pthread_mutex_lock(&r->lock);
    r->lost |= lost;
    r->told |= told;
    if (!r->failed) {
        r->failed = true;
        r->why = *why;
    }
    pthread_cond_broadcast(&r->news);
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
}

/* --------------------------------------------------------------------------------------- the thread */

/* Begins what was queued, in its order. */
static void begin_queued(gr_ranks *r, gr_message *queued) {
    graft_comm *c = r->comm;
    for (gr_message *next; queued; queued = next) {
        gr_message *m = queued;
        next = m->next;
        int failed = m->sends ? c->send(c->context, &m->request, m->bytes, m->n, m->peer, GR_TAG_DATA)
                              : c->receive(c->context, &m->request, m->bytes, m->n, m->peer, GR_TAG_DATA);
        if (failed) {
            gr_signs_lose(r, m->peer, m->sends ? "no message reaches it" : "no message comes from it");
            continue;
        }
        m->next = r->active;
        r->active = m;
    }
}

/* Moves what is done out of the active list; a list of it. */
static gr_message *test_active(gr_ranks *r) {
    gr_message *finished = NULL;
    for (gr_message **at = &r->active; *at;) {
        gr_message *m = *at;
        int done = 0;
        if (r->comm->test(r->comm->context, &m->request, &done)) {
            *at = m->next; /* not done, and not under way any more */
            gr_signs_lose(r, m->peer, "its connection is gone");
            continue;
        }
        if (!done) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        m->next = finished;
        finished = m;
    }
    return finished;
}

/* Was any under way? */
static bool drop_active(gr_ranks *r) {
    bool any = r->active != NULL;
    for (; r->active; r->active = r->active->next) r->comm->cancel(r->comm->context, &r->active->request);
    return any;
}

static void finish(gr_ranks *r, gr_message *finished) {
    for (gr_message *next; finished; finished = next) {
        next = finished->next;
        if (finished->sends) r->bytes += finished->n;
        finished->done = true;
    }
    pthread_cond_broadcast(&r->news);
}

/* Sleeps until there is work, or as long as nothing is missed. The lock is held. */
static void rest(gr_ranks *r, int idle) {
    if (!r->active || r->dropped) {
        gr_wake_wait(&r->work, &r->lock, r->ending ? 0.001 : 0.05);
        return;
    }
    if (idle < 20) { /* what is under way may be there at once: let others run, and look again */
        pthread_mutex_unlock(&r->lock);
        sched_yield();
        pthread_mutex_lock(&r->lock);
        return;
    }
    gr_wake_wait(&r->work, &r->lock, idle < 200 ? 50e-6 : 200e-6);
}

static void *serve(void *context) {
    gr_ranks *r = context;
    int idle = 0;
    pthread_mutex_lock(&r->lock);
    while (!r->quit) {
        gr_message *queued = r->queued;
        bool failed = r->failed;
        r->queued = NULL;
        r->queued_end = &r->queued;
        pthread_mutex_unlock(&r->lock);
        gr_message *finished = NULL;
        bool cut = failed && drop_active(r);
        if (!failed) {
            begin_queued(r, queued);
            finished = test_active(r);
        }
        gr_signs_poll(r);
        pthread_mutex_lock(&r->lock);
        idle = queued || finished ? 0 : idle + 1;
        r->cut_short |= cut;
        if (finished) finish(r, finished);
        if (failed && !r->dropped) {
            r->dropped = true;
            pthread_cond_broadcast(&r->news);
        }
        if (r->ending && !r->all_ended && gr_signs_ended(r)) {
            r->all_ended = true;
            pthread_cond_broadcast(&r->news);
        }
        if (!r->queued && !r->quit && (!r->failed || r->dropped)) rest(r, idle);
    }
    pthread_mutex_unlock(&r->lock);
    gr_signs_close(r);
    return NULL;
}

/* ------------------------------------------------------------------------------------- open and close */

static void init_conditions(gr_ranks *r) {
    pthread_mutex_init(&r->lock, NULL);
    gr_wake_init(&r->work);
    gr_wake_init(&r->news);
}

static void destroy(gr_ranks *r) {
    pthread_cond_destroy(&r->news);
    pthread_cond_destroy(&r->work);
    pthread_mutex_destroy(&r->lock);
    free(r->peers);
    free(r);
}

graft_status gr_ranks_open(gr_ranks **out, graft_comm *comm, double timeout, const volatile int *stop,
                           graft_error *err) {
    *out = NULL;
    gr_ranks *r = gr_calloc(1, sizeof *r);
    if (!r) return gr_no_memory(err, sizeof *r);
    r->comm = comm;
    r->stop = stop;
    r->timeout = comm->timeout > 0 ? comm->timeout : timeout;
    r->queued_end = &r->queued;
    comm->told = comm->lost = comm->adrift = false;
    init_conditions(r);
    graft_status st = gr_signs_open(r, err);
    if (st == GRAFT_OK && pthread_create(&r->thread, NULL, serve, r) != 0)
        st = gr_fail(err, GRAFT_NO_MEMORY, "cannot start a thread for the other ranks");
    if (st != GRAFT_OK)
        destroy(r);
    else
        *out = r;
    return st;
}

static bool in_a_hurry(const gr_ranks *r) {
    return r->comm->rank == 0 && r->comm->hurry > 0 && gr_raised(r->stop);
}

/* Our last word goes out, theirs come in. The lock is held. */
static void part(gr_ranks *r) {
    double limit = r->comm->rank ? LONG_SAVING : in_a_hurry(r) ? r->comm->hurry : LAST_WORDS;
    double began = gr_clock();
    r->ending = true;
    pthread_cond_signal(&r->work);
    while (!r->all_ended) {
        if (r->failed && gr_clock() - began > limit) break; /* a good end has the timeout of signs of life */
        gr_wake_wait(&r->news, &r->lock, 0.05);
    }
    r->quit = true;
    pthread_cond_signal(&r->work);
}

graft_status gr_ranks_close(gr_ranks *r, graft_error *err) {
    if (!r) return err->status;
    pthread_mutex_lock(&r->lock);
    r->last = (gr_sign){
        .kind = err->status == GRAFT_OK ? GR_SIGN_DONE : GR_SIGN_FAILED, .lost = r->lost, .error = *err};
    bool failed = err->status != GRAFT_OK;
    pthread_mutex_unlock(&r->lock);
    if (failed) gr_ranks_fail(r, err, false, false);
    pthread_mutex_lock(&r->lock);
    part(r);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    if (!failed && r->failed) *err = r->why;
    r->comm->told = r->told;
    r->comm->lost = r->lost;
    r->comm->adrift = r->cut_short;
    destroy(r);
    return err->status;
}

/* -------------------------------------------------------------------------------------------- messages */

int gr_ranks_rank(const gr_ranks *r) {
    return r->comm->rank;
}

int gr_ranks_size(const gr_ranks *r) {
    return r->comm->size;
}

static void queue(gr_ranks *r, gr_message *m, gr_message begun) {
    *m = begun;
    m->done = m->n == 0;
    if (m->done) return;
    pthread_mutex_lock(&r->lock);
    *r->queued_end = m;
    r->queued_end = &m->next;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
}

void gr_ranks_send(gr_ranks *r, gr_message *m, const void *bytes, size_t n, int to) {
    queue(r, m, (gr_message){.bytes = (void *)(uintptr_t)bytes, .n = n, .peer = to, .sends = true});
}

void gr_ranks_receive(gr_ranks *r, gr_message *m, void *bytes, size_t n, int from) {
    queue(r, m, (gr_message){.bytes = bytes, .n = n, .peer = from});
}

/* Is the host in a hurry, and has rank 0 waited for the others as long as it may? What it knows of the run is
 * better saved than lost: who asks a run to stop often kills it a second later. The lock is held. */
static void mind_the_host(gr_ranks *r, double began) {
    if (!in_a_hurry(r) || gr_clock() - began < r->comm->hurry) return;
    graft_error why = {0};
    gr_fail(&why, GRAFT_INTERRUPTED, "stopped while other ranks were at work");
    pthread_mutex_unlock(&r->lock);
    gr_ranks_fail(r, &why, false, false);
    pthread_mutex_lock(&r->lock);
}

/* The lock is held. */
static graft_status why_failed(gr_ranks *r, graft_error *err) {
    while (!r->dropped) pthread_cond_wait(&r->news, &r->lock);
    if (err->status != GRAFT_OK) return err->status;
    r->passed_on = true;
    *err = r->why;
    return err->status;
}

graft_status gr_ranks_wait(gr_ranks *r, gr_message *m, size_t count, graft_error *err) {
    graft_status st = GRAFT_OK;
    double began = gr_clock();
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < count && !r->failed; i++)
        while (!m[i].done && !r->failed) {
            gr_wake_wait(&r->news, &r->lock, 0.05);
            if (!m[i].done) mind_the_host(r, began);
        }
    if (r->failed) st = why_failed(r, err);
    r->waited += gr_clock() - began;
    pthread_mutex_unlock(&r->lock);
    return st;
}

bool gr_ranks_broke_off(gr_ranks *r) {
    pthread_mutex_lock(&r->lock);
    bool broke = r->passed_on;
    pthread_mutex_unlock(&r->lock);
    return broke;
}

void gr_ranks_usage(gr_ranks *r, uint64_t *bytes, double *seconds) {
    pthread_mutex_lock(&r->lock);
    *bytes = r->bytes;
    *seconds = r->waited;
    pthread_mutex_unlock(&r->lock);
}
