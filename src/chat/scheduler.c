/* chat/scheduler.c - several answers at once. Where many may be, those of one voice go through the model
 * together, a token each, and voices take turns; else answers take turns. A prompt is read whole between two
 * tokens of the others, one at a time, in the order in which they came.
 */
#include "base/hooks.h"
#include "base/os.h"
#include "base/wake.h"
#include "chat/service.h"
#include <stdio.h>

graft_status gr_scheduler_open(gr_service *s, graft_error *err) {
    gr_arena counting = {0};
    s->caches = gr_calloc((size_t)s->rows, sizeof *s->caches);
    s->jobs = gr_calloc((size_t)s->rows, sizeof(gr_job *));
    if (!s->caches || !s->jobs) return gr_no_memory(err, (size_t)s->rows * sizeof *s->caches);
    for (int64_t i = 0; i < s->rows; i++)
        (void)gr_decode_batch_cache(&counting, &s->talk.s.rt, s->talk.context);
    GR_TRY(gr_talk_take(&s->talk, counting.overflow ? UINT64_MAX : counting.used, err));
    GR_TRY(gr_arena_reserve(&s->arena, counting.used, err));
    for (int64_t i = 0; i < s->rows; i++)
        s->caches[i] = gr_decode_batch_cache(&s->arena, &s->talk.s.rt, s->talk.context);
    return GRAFT_OK;
}

/* ------------------------------------------------------------------ ends */

static const gr_refusal stopping = {
    .status = 503, .type = "server_error", .message = "the server is stopping"};

/* Job number i leaves; the last one takes its place. */
static void leave(gr_service *s, int64_t i, gr_ending how) {
    gr_job *job = s->jobs[i];
    s->jobs[i] = s->jobs[--s->count];
    gr_job_end(s, job, how);
}

/* Its answer does not get through: its client went away, or there is no memory for what is to be sent. */
static void lose(gr_service *s, int64_t i) {
    leave(s, i, gr_serve_gone(s->jobs[i]->x) ? GR_LEFT : GR_REFUSED);
}

/* An error in its middle. */
static void fail(gr_service *s, int64_t i, const char *what) {
    gr_refusal why = {.status = 503, .type = "server_error"};
    snprintf(why.message, sizeof why.message, "%s", what);
    gr_response_refusal(s->jobs[i]->x, &why); /* not after a stream's begin */
    gr_response_broken(s->jobs[i]);
    leave(s, i, GR_REFUSED);
}

static void finish(gr_service *s, int64_t i, const char *why, gr_ending how) {
    gr_job *job = s->jobs[i];
    gr_buf *text = &job->growth.grown.text;
    gr_buf_puts(text, "");
    if (text->failed) {
        fail(s, i, "out of memory");
        return;
    }
    /* of an answer that is cut, what could have become a stop text */
    size_t sent = job->growth.sent;
    bool whole =
        !job->streams || text->len <= sent || gr_response_piece(s, job, text->data + sent, text->len - sent);
    if (whole && gr_response_end(s, job, why))
        leave(s, i, how);
    else
        lose(s, i);
}

/* Its time is over. */
static void cut(gr_service *s, int64_t i) {
    gr_job *job = s->jobs[i];
    if (job->streams || gr_answer_tokens(&job->growth)) {
        finish(s, i, "length", GR_CUT);
        return;
    }
    gr_response_refusal(job->x, &stopping);
    leave(s, i, GR_REFUSED);
}

/* Nobody is let in any more. */
static void close_door(gr_service *s) {
    pthread_mutex_lock(&s->lock);
    gr_job *job = s->first, *next;
    s->stopping = true;
    s->first = s->last = NULL;
    s->waiting = 0;
    pthread_mutex_unlock(&s->lock);
    for (; job; job = next) {
        next = job->next;
        gr_job_refuse(s, job, &stopping);
    }
}

void gr_scheduler_close(gr_service *s) {
    close_door(s); /* who came while the server failed to open */
    for (int64_t i = 0; i < s->count; i++) gr_job_end(s, s->jobs[i], GR_CUT); /* none after a run */
    gr_arena_free(&s->arena);
    free(s->caches);
    free(s->jobs);
}

/* May answers still grow? */
static bool open_still(gr_service *s) {
    const volatile int *stop = gr_stop_of(s->hooks);
    if (!s->closed && gr_raised(stop)) {
        s->closed = true;
        s->until = gr_clock() + s->grace;
        close_door(s);
    }
    return !s->closed || gr_clock() < s->until;
}

static void on_piece(void *user, const graft_event *e) {
    gr_job *job = user;
    if (e->kind != GRAFT_EVENT_TEXT) return;
    if (!gr_response_piece(job->service, job, e->text, (size_t)e->done)) job->left = true;
}

/* ------------------------------------------------------------------ tokens */

/* The next token from logits. False: the job has left. */
static bool take_token(gr_service *s, int64_t i, float *logits) {
    gr_job *job = s->jobs[i];
    bool over;
    graft_error err = {0};
    if (gr_answer_next(&job->growth, &job->s, logits, &job->id_next, &over, &err) != GRAFT_OK) {
        fail(s, i, err.what);
        return false;
    }
    if (job->left || gr_serve_gone(job->x)) {
        lose(s, i);
        return false;
    }
    if (over) finish(s, i, job->growth.full ? "length" : "stop", GR_ANSWERED);
    return !over;
}

/* Its cache, where the voice's next token looks for it. */
static gr_decode *lend(gr_job *job) {
    job->voice->one.cache = *job->cache;
    gr_decode_legs(&job->voice->one);
    return &job->voice->one;
}

/* A token of every answer, one after the other. */
static void step_in_turn(gr_service *s) {
    for (int64_t i = 0; i < s->count;) {
        gr_job *job = s->jobs[i];
        gr_decode *d = lend(job);
        gr_decode_token(d, job->id_next);
        job->cache->length = d->cache.length;
        i += take_token(s, i, d->logits); /* else the last one stands there now */
    }
}

/* A token of every answer of one voice. */
static void step_together(gr_service *s, gr_voice *v) {
    int32_t ids[GR_DECODE_BATCH_MOST];
    gr_job *taken[GR_DECODE_BATCH_MOST];
    gr_decode_batch *d = &v->d;
    int64_t vocab = v->rt.model->config.vocab;
    d->rows = 0;
    for (int64_t i = 0; i < s->count; i++) {
        if (s->jobs[i]->voice != v) continue;
        taken[d->rows] = s->jobs[i];
        d->cache[d->rows] = *s->jobs[i]->cache;
        ids[d->rows++] = s->jobs[i]->id_next;
    }
    if (!d->rows) return;
    gr_decode_batch_step(d, ids);
    for (int64_t r = 0; r < d->rows; r++) {
        int64_t i = 0;
        taken[r]->cache->length = d->cache[r].length;
        while (s->jobs[i] != taken[r]) i++;
        (void)take_token(s, i, d->logits + r * vocab);
    }
}

static void step(gr_service *s) {
    if (s->talk.way == GR_TALK_IN_TURN) step_in_turn(s);
    for (size_t v = 0; s->talk.way == GR_TALK_TOGETHER && v < s->talk.count; v++)
        step_together(s, s->talk.voices[v]);
}

/* ------------------------------------------------------------------ beginnings */

static bool encode(const gr_service *s, gr_job *job, gr_refusal *why) {
    graft_error err = {0};
    int64_t context = s->talk.context;
    graft_status st = job->ask.messages
                          ? gr_messages_encode(&job->s, job->ask.messages, NULL, &job->prompt, &err)
                          : gr_prompt_encode(&job->s, job->ask.prompt, &job->prompt, &err);
    if (st != GRAFT_OK) {
        gr_refuse(why, job->ask.messages ? "messages" : "prompt", "%s%s%s", err.what,
                  err.found[0] ? ": " : "", err.found);
        if (st == GRAFT_NO_MEMORY) why->status = 503, why->type = "server_error";
        return false;
    }
    if ((int64_t)job->prompt.count < context) {
        job->ask.o.max_tokens = gr_min_i64(job->ask.o.max_tokens, context - (int64_t)job->prompt.count);
        return true;
    }
    gr_refuse(why, job->ask.messages ? "messages" : "prompt",
              "this server's context is %lld tokens, of which the prompt takes %zu", (long long)context,
              job->prompt.count);
    why->code = "context_length_exceeded";
    return false;
}

static gr_kv_cache *free_cache(gr_service *s) {
    for (int64_t c = 0; c < s->rows; c++) {
        bool taken = false;
        for (int64_t i = 0; i < s->count; i++) taken |= s->jobs[i]->cache == &s->caches[c];
        if (!taken) return &s->caches[c];
    }
    return NULL; /* not with fewer jobs than rows */
}

/* Asked before each block of the model: a long prompt takes minutes, and neither a client that leaves nor
 * stopping waits for its end. */
static bool go_on(void *user) {
    gr_job *job = user;
    job->cut |= !open_still(job->service);
    job->left |= gr_serve_gone(job->x);
    return !job->cut && !job->left;
}

/* Whole, as generate does it, for the same bits; its logits. */
static float *read_prompt(gr_service *s, gr_job *job) {
    int64_t start[2] = {0, (int64_t)job->prompt.count};
    gr_batch batch = {.ids = job->prompt.ids, .start = start, .nrows = 1, .tokens = start[1]};
    gr_net *net = &job->voice->rt.net;
    float *logits;
    net->go_on = go_on, net->go_on_context = job;
    if (s->talk.way == GR_TALK_IN_TURN) {
        gr_decode *d = lend(job);
        gr_decode_prompt(d, job->prompt.ids, start[1]);
        logits = d->logits;
    } else {
        gr_decode_batch *d = &job->voice->d;
        d->rows = 0;
        d->cache[0] = *job->cache;
        gr_decode_batch_prompts(d, &batch);
        logits = d->logits;
    }
    net->go_on = NULL;
    job->cache->length = start[1];
    return logits;
}

/* Takes the job over. */
static void begin(gr_service *s, gr_job *job) {
    gr_refusal why = {.status = 503, .type = "server_error", .message = "out of memory"};
    graft_error err = {0};
    job->hooks = (graft_hooks){.user = job, .event = on_piece};
    job->s = gr_talk_session(&s->talk, job->voice, &job->ask.o, &job->hooks);
    bool good = encode(s, job, &why) &&
                gr_answer_init(&job->growth, &job->s, &job->prompt, job->ask.stream, &err) == GRAFT_OK;
    if (!good) {
        gr_job_refuse(s, job, &why);
        return;
    }
    if (job->ask.stream) job->left = !gr_response_begin(s, job);
    job->cache = free_cache(s);
    s->jobs[s->count++] = job;
    bool none = gr_answer_most(&job->ask.o) == 0; /* the server's wish: no token at all */
    float *logits = job->left || none ? NULL : read_prompt(s, job);
    if (job->left)
        lose(s, s->count - 1);
    else if (none)
        finish(s, s->count - 1, "length", GR_ANSWERED);
    else if (job->cut)
        cut(s, s->count - 1);
    else
        (void)take_token(s, s->count - 1, logits);
}

/* The one that came first; NULL: none waits. With nothing else to do waits for one, for a moment. */
static gr_job *next_job(gr_service *s) {
    gr_service_sweep(s);
    pthread_mutex_lock(&s->lock);
    if (!s->first && !s->count) gr_wake_wait(&s->wake, &s->lock, 0.1); /* the stop flag wakes nobody */
    gr_job *job = s->count < s->rows ? s->first : NULL;
    if (job) {
        s->first = job->next;
        if (!s->first) s->last = NULL;
        s->waiting--;
    }
    pthread_mutex_unlock(&s->lock);
    return job;
}

void gr_scheduler_run(gr_service *s) {
    while (open_still(s) && (!s->closed || s->count)) {
        gr_job *job = s->closed ? NULL : next_job(s);
        if (job) begin(s, job);
        step(s);
    }
    while (s->count) cut(s, s->count - 1);
}
