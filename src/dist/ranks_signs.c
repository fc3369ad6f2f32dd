#include "dist/ranks_parts.h"
#include <math.h>

#define INTERVAL 1.0   /* seconds between two signs of life, or an eighth of the timeout */
#define START    20    /* timeouts that a rank has for its first sign: its host may not be there yet */
#define LOOK     0.02  /* between two looks for others' */
#define LOOK_END 0.001 /* the same while everybody waits for the last words */

void gr_signs_lose(gr_ranks *r, int rank, const char *how) {
    graft_error why = {0};
    for (int i = 0; i < r->npeers; i++)
        if (r->peers[i].rank == rank) r->peers[i].gone = true;
    gr_fail(&why, GRAFT_IO, "rank %d of %d is lost", rank, r->comm->size);
    gr_found(&why, "%s", how);
    gr_ranks_fail(r, &why, false, true);
}

static void listen_to(gr_ranks *r, gr_peer *p) {
    p->listening =
        !r->comm->receive(r->comm->context, &p->in_request, &p->in, sizeof p->in, p->rank, GR_TAG_SIGN);
    if (!p->listening) gr_signs_lose(r, p->rank, "no message comes from it");
}

static void say(gr_ranks *r, gr_peer *p, const gr_sign *sign) {
    p->out = *sign;
    p->sent = gr_clock();
    p->sending =
        !r->comm->send(r->comm->context, &p->out_request, &p->out, sizeof p->out, p->rank, GR_TAG_SIGN);
    if (!p->sending) gr_signs_lose(r, p->rank, "no message reaches it");
}

graft_status gr_signs_open(gr_ranks *r, graft_error *err) {
    int rank = r->comm->rank;
    r->npeers = rank ? 1 : r->comm->size - 1;
    r->peers = gr_calloc((size_t)r->npeers, sizeof *r->peers);
    if (!r->peers) return gr_no_memory(err, (size_t)r->npeers * sizeof *r->peers);
    for (int i = 0; i < r->npeers; i++) {
        r->peers[i].rank = rank ? 0 : i + 1;
        r->peers[i].heard = gr_clock() + (START - 1) * r->timeout;
    }
    return GRAFT_OK;
}

/* A rank's last word: rank 0 repeats a failure to all with the name of the rank in front. */
static void take_end(gr_ranks *r, gr_peer *p) {
    graft_error why = p->in.error;
    p->ended = true;
    if (p->in.kind != GR_SIGN_FAILED) return;
    why.what[sizeof why.what - 1] = why.where[sizeof why.where - 1] = 0; /* another process made them */
    why.expected[sizeof why.expected - 1] = why.found[sizeof why.found - 1] = why.hint[sizeof why.hint - 1] =
        0;
    if (why.status <= GRAFT_OK || why.status > GRAFT_INTERNAL) why.status = GRAFT_INTERNAL;
    if (p->rank) {
        char where[sizeof why.where];
        snprintf(where, sizeof where, "rank %d%s%.480s", p->rank, why.where[0] ? ": " : "", why.where);
        memcpy(why.where, where, sizeof where);
    }
    gr_ranks_fail(r, &why, p->rank == 0, p->in.lost != 0);
}

static void hear(gr_ranks *r, gr_peer *p) {
    int done = 0;
    if (!p->listening) return;
    if (r->comm->test(r->comm->context, &p->in_request, &done)) {
        p->listening = false;
        if (!p->ended) gr_signs_lose(r, p->rank, "its connection is gone");
        return;
    }
    if (!done) return;
    p->heard = gr_clock();
    p->listening = false;
    if (p->in.kind == GR_SIGN_ALIVE)
        listen_to(r, p);
    else
        take_end(r, p);
}

static void speak(gr_ranks *r, gr_peer *p, bool ending, const gr_sign *last) {
    int done = 0;
    if (p->sending && r->comm->test(r->comm->context, &p->out_request, &done)) {
        p->sending = false;
        if (!p->ended) gr_signs_lose(r, p->rank, "its connection is gone");
    }
    if (done) p->sending = false;
    if (p->sending || p->said || p->gone) return;
    if (ending) {
        p->said = true;
        say(r, p, last);
    } else if (gr_clock() - p->sent >= fmin(INTERVAL, r->timeout / 8))
        say(r, p, &(gr_sign){.kind = GR_SIGN_ALIVE});
}

/* Is it time for our last word? Rank 0 does not say that all is well before all others have said so. */
static bool may_end(const gr_ranks *r, const gr_sign *last) {
    for (int i = 0; r->comm->rank == 0 && last->kind == GR_SIGN_DONE && i < r->npeers; i++)
        if (!r->peers[i].ended && !r->peers[i].gone) return false;
    return true;
}

void gr_signs_poll(gr_ranks *r) {
    double now = gr_clock();
    pthread_mutex_lock(&r->lock);
    bool ending = r->ending;
    if (ending && r->failed) /* meanwhile, perhaps */
        r->last = (gr_sign){.kind = GR_SIGN_FAILED, .lost = r->lost, .error = r->why};
    gr_sign last = r->last;
    pthread_mutex_unlock(&r->lock);
    if (now - r->looked < (ending ? LOOK_END : LOOK)) return;
    ending = ending && may_end(r, &last);
    r->looked = now;
    for (int i = 0; i < r->npeers; i++) {
        gr_peer *p = &r->peers[i];
        if (!p->listening && !p->ended && !p->gone) listen_to(r, p);
        hear(r, p);
        speak(r, p, ending, &last);
        if (!p->ended && !p->gone && now - p->heard > r->timeout) {
            char how[64];
            snprintf(how, sizeof how, "no sign of life for %.0f s", r->timeout);
            gr_signs_lose(r, p->rank, how);
        }
    }
}

bool gr_signs_ended(const gr_ranks *r) {
    for (int i = 0; i < r->npeers; i++) {
        const gr_peer *p = &r->peers[i];
        if (!p->gone && (p->sending || !p->said || !p->ended)) return false;
    }
    return true;
}

void gr_signs_close(gr_ranks *r) {
    for (int i = 0; i < r->npeers; i++) {
        gr_peer *p = &r->peers[i];
        if (p->listening) r->comm->cancel(r->comm->context, &p->in_request);
        if (p->sending) r->comm->cancel(r->comm->context, &p->out_request);
        r->cut_short |= p->listening || p->sending; /* whoever reads it has joined the thread */
    }
}
