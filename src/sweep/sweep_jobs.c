/* The trials of a round, in turn in the caller's thread, or side by side in threads of their own, whose
 * events the caller's thread passes on: hosts hear all of them in the thread that called. */
#include "sweep/sweep_run.h"
#include <pthread.h>

/* ---- in turn */

static void hear_own(void *user, const graft_event *e) {
    gr_sweep_line *line = user;
    gr_sweep_hear(line->run, (int64_t)line->trial + 1, e);
    if (line->run->over || gr_sweep_stopped(line->run)) line->stop = 1;
}

static graft_status in_turn(gr_sweep_run *s, const size_t *list, size_t n, int round, graft_error *err) {
    for (size_t k = 0; k < n; k++) {
        gr_sweep_outcome outcome = {0};
        gr_sweep_line line = {.run = s, .trial = list[k]};
        /* the host's flag is seen also where there is no event */
        line.hooks = (graft_hooks){.user = &line,
                                   .event = hear_own,
                                   .stop = s->limit > 0 ? &line.stop
                                           : s->hooks   ? s->hooks->stop
                                                        : NULL};
        if (s->limit > 0 && gr_clock() >= s->end) s->over = true;
        if (s->over) break;
        gr_sweep_try(s, list[k], round, 0, &line, &outcome);
        GR_TRY(gr_sweep_settle(s, list[k], round, &outcome, err));
    }
    return GRAFT_OK;
}

/* ---- side by side */

/* What a worker tells the caller's thread, and waits until that has dealt with it. */
typedef struct post {
    size_t trial;
    const graft_event *event; /* NULL: the trial has ended */
    gr_sweep_outcome *outcome;
} post;

typedef struct crew {
    gr_sweep_run *s;
    const size_t *list;
    size_t n, next; /* of list; the first that nobody took */
    int round, working;
    bool stop; /* no trial shall go on */
    pthread_mutex_t lock;
    pthread_cond_t said, heard;
    const post *post; /* NULL: nothing is said */
} crew;

typedef struct worker {
    crew *crew;
    gr_sweep_line *line; /* of its trial */
    pthread_t id;
    int threads;
} worker;

/* Returns whether to stop. */
static bool tell(crew *c, const post *p) {
    pthread_mutex_lock(&c->lock);
    while (c->post) pthread_cond_wait(&c->heard, &c->lock);
    c->post = p;
    pthread_cond_signal(&c->said);
    while (c->post == p) pthread_cond_wait(&c->heard, &c->lock);
    bool stop = c->stop;
    pthread_mutex_unlock(&c->lock);
    return stop;
}

static void tell_event(void *user, const graft_event *e) {
    worker *w = user;
    post p = {.trial = w->line->trial, .event = e};
    if (tell(w->crew, &p)) w->line->stop = 1; /* its own flag: nobody else's thread touches it */
}

static bool take(crew *c, size_t *trial) {
    pthread_mutex_lock(&c->lock);
    bool any = !c->stop && c->next < c->n;
    if (any) *trial = c->list[c->next++];
    pthread_mutex_unlock(&c->lock);
    return any;
}

static void *work(void *arg) {
    worker *w = arg;
    crew *c = w->crew;
    size_t trial;
    while (take(c, &trial)) {
        gr_sweep_outcome outcome = {0};
        gr_sweep_line line = {.run = c->s, .trial = trial};
        line.hooks = (graft_hooks){.user = w, .event = tell_event, .stop = &line.stop};
        w->line = &line;
        gr_sweep_try(c->s, trial, c->round, w->threads, &line, &outcome);
        post p = {.trial = trial, .outcome = &outcome};
        tell(c, &p);
    }
    pthread_mutex_lock(&c->lock);
    c->working--;
    pthread_cond_signal(&c->said);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Deals with what workers say until none is left. The first error that is not of one trial alone is *err. */
static void hear_crew(crew *c, graft_error *err) {
    gr_sweep_run *s = c->s;
    graft_error own;
    pthread_mutex_lock(&c->lock);
    while (c->working) {
        const post *p = c->post;
        if (!p) {
            pthread_cond_wait(&c->said, &c->lock);
            continue;
        }
        pthread_mutex_unlock(&c->lock);
        gr_error_clear(&own);
        if (p->event) gr_sweep_hear(s, (int64_t)p->trial + 1, p->event);
        if (!p->event && gr_sweep_settle(s, p->trial, c->round, p->outcome, &own) != GRAFT_OK &&
            (err->status == GRAFT_OK || err->status == GRAFT_INTERRUPTED))
            *err = own;
        if (s->limit > 0 && gr_clock() >= s->end) s->over = true;
        pthread_mutex_lock(&c->lock);
        c->stop = s->over || gr_sweep_stopped(s) || err->status != GRAFT_OK;
        c->post = NULL;
        pthread_cond_broadcast(&c->heard);
    }
    pthread_mutex_unlock(&c->lock);
}

static graft_status side_by_side(gr_sweep_run *s, const size_t *list, size_t n, int round, graft_error *err) {
    crew c = {.s = s, .list = list, .n = n, .round = round, .stop = gr_sweep_stopped(s)};
    int jobs = (size_t)s->jobs < n ? s->jobs : (int)n;
    worker *workers = gr_calloc((size_t)jobs, sizeof *workers);
    if (!workers) return gr_no_memory(err, (size_t)jobs * sizeof *workers);
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.said, NULL);
    pthread_cond_init(&c.heard, NULL);
    gr_sweep_start_afresh();
    int started = 0;
    pthread_mutex_lock(&c.lock); /* nobody leaves before all are counted */
    for (; started < jobs; started++) {
        worker *w = &workers[started];
        int threads = s->threads / jobs + (started < s->threads % jobs);
        *w = (worker){.crew = &c, .threads = threads ? threads : 1};
        if (pthread_create(&w->id, NULL, work, w) != 0) break;
        c.working++;
    }
    pthread_mutex_unlock(&c.lock);
    if (!started) gr_fail(err, GRAFT_NO_MEMORY, "cannot start a thread for a trial");
    hear_crew(&c, err);
    for (int i = 0; i < started; i++) pthread_join(workers[i].id, NULL);
    pthread_cond_destroy(&c.heard);
    pthread_cond_destroy(&c.said);
    pthread_mutex_destroy(&c.lock);
    free(workers);
    /* those that ran may all have ended their part as if nobody had asked them to stop */
    if (err->status == GRAFT_OK && !s->over && c.next < n) {
        gr_fail(err, GRAFT_INTERRUPTED, "stopped before all trials were done");
        gr_hint(err, "the same command with --resume continues");
    }
    return err->status;
}

graft_status gr_sweep_round(gr_sweep_run *s, const size_t *list, size_t n, int round, graft_error *err) {
    return s->jobs > 1 && n ? side_by_side(s, list, n, round, err) : in_turn(s, list, n, round, err);
}
