/* chat/service.c - OpenAI's interface: who may ask, which path is what, who answers. In the server's thread.
 */
#include "chat/service.h"
#include "base/os.h"
#include "base/wake.h"
#include "files/json_read.h"
#include <stdio.h>
#include <strings.h>
#include <time.h>

const char *gr_service_voice_name(const gr_service *s, const gr_voice *v) {
    return v->name ? v->name : s->name;
}

void gr_job_end(gr_service *s, gr_job *job, gr_ending how) {
    graft_serve_result *r = &s->result;
    int64_t *const numbers[] = {&r->answers, &r->refused, &r->left, &r->cut};
    pthread_mutex_lock(&s->lock);
    ++*numbers[how];
    if (job && how != GR_REFUSED) {
        r->prompt_tokens += (int64_t)job->prompt.count;
        r->tokens += gr_answer_tokens(&job->growth);
    }
    pthread_mutex_unlock(&s->lock);
    if (!job) return;
    if (job->x) gr_serve_drop(job->x);
    gr_answer_free(&job->growth);
    gr_ids_free(&job->prompt);
    gr_request_free(&job->ask);
    free(job);
}

void gr_job_refuse(gr_service *s, gr_job *job, const gr_refusal *why) {
    gr_response_refusal(job->x, why);
    gr_job_end(s, job, GR_REFUSED);
}

void gr_service_sweep(gr_service *s) {
    gr_job *gone = NULL, *last = NULL, *job;
    pthread_mutex_lock(&s->lock);
    for (gr_job **at = &s->first; (job = *at);) {
        if (!gr_serve_gone(job->x)) {
            last = job;
            at = &job->next;
            continue;
        }
        *at = job->next;
        job->next = gone;
        gone = job;
        s->waiting--;
    }
    s->last = last;
    pthread_mutex_unlock(&s->lock);
    while ((job = gone)) {
        gone = job->next;
        gr_job_end(s, job, GR_LEFT);
    }
}

static bool refuse_with(gr_refusal *why, int status, const char *type, const char *code) {
    why->status = status, why->type = type, why->code = code;
    return false;
}

/* In the time of the key's length, whatever is given. */
static bool is_key(const char *key, const char *given) {
    size_t n = strlen(key), m = strlen(given);
    unsigned char differ = n != m;
    for (size_t i = 0; i < n; i++) differ |= (unsigned char)(key[i] ^ given[i < m ? i : m]);
    return !differ;
}

static bool may_ask(const gr_service *s, gr_exchange *x, gr_refusal *why) {
    const char *given = gr_serve_header(x, "Authorization");
    if (!s->key || (given && !strncasecmp(given, "Bearer ", 7) && is_key(s->key, given + 7))) return true;
    gr_refuse(why, "", given ? "the API key is wrong" : "this server asks for an API key");
    gr_serve_add_header(x, "WWW-Authenticate", "Bearer");
    return refuse_with(why, 401, "authentication_error", "invalid_api_key");
}

/* ------------------------------------------------------------------ a request for an answer */

gr_voice *gr_service_voice(const gr_service *s, const char *name) {
    for (size_t i = 0; i < s->talk.count; i++)
        if (s->talk.voices[i]->name && !strcmp(s->talk.voices[i]->name, name)) return s->talk.voices[i];
    return NULL;
}

static bool choose_voice(const gr_service *s, gr_job *job, gr_refusal *why) {
    const gr_request *a = &job->ask;
    bool base = !a->model || !strcmp(a->model, s->name) || !strcmp(a->model, s->o->model);
    job->voice = a->base      ? s->talk.voices[0]
                 : a->adapter ? gr_service_voice(s, a->adapter)
                 : base       ? s->usual
                              : gr_service_voice(s, a->model);
    if (!job->voice && a->adapter) {
        gr_refuse(why, "adapter", "no such adapter: %.200s", a->adapter);
        return refuse_with(why, 404, "invalid_request_error", "model_not_found");
    }
    if (!job->voice) {
        gr_refuse(why, "model", "no such model: %.200s (GET /v1/models lists them)", a->model);
        return refuse_with(why, 404, "invalid_request_error", "model_not_found");
    }
    if (!a->messages || job->voice->chat) return true;
    return gr_refuse(why, "messages", "the model has no chat template: ask for /v1/completions");
}

/* What is far beyond the context is not even tokenized: a token has no more bytes than the longest one's
 * spelling. */
static bool may_fit(const gr_service *s, const gr_job *job, gr_refusal *why) {
    size_t bytes = gr_request_bytes(&job->ask);
    if ((int64_t)(bytes / s->longest) < s->talk.context) return true;
    gr_refuse(why, job->ask.messages ? "messages" : "prompt",
              "this server's context is %lld tokens, and %zu bytes are more, whatever they say",
              (long long)s->talk.context, bytes);
    return refuse_with(why, 400, "invalid_request_error", "context_length_exceeded");
}

/* Behind those that wait; false where too many do. */
static bool wait_in_line(gr_service *s, gr_job *job, gr_refusal *why) {
    bool stopping, full;
    gr_service_sweep(s);
    pthread_mutex_lock(&s->lock);
    stopping = s->stopping;
    full = s->waiting >= s->o->max_requests;
    if (!stopping && !full) {
        if (s->last)
            s->last->next = job;
        else
            s->first = job;
        s->last = job;
        s->waiting++;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (stopping) {
        gr_refuse(why, "", "the server is stopping");
        return refuse_with(why, 503, "server_error", NULL);
    }
    if (!full) return true;
    gr_refuse(why, "", "%lld requests wait already", (long long)s->o->max_requests);
    return refuse_with(why, 429, "rate_limit_error", "queue_full");
}

static void name_job(gr_service *s, gr_job *job) {
    pthread_mutex_lock(&s->lock);
    long long number = (long long)++s->number;
    pthread_mutex_unlock(&s->lock);
    job->service = s;
    job->created = (int64_t)time(NULL);
    snprintf(job->id, sizeof job->id, "%s-%llx-%llx", job->ask.messages ? "chatcmpl" : "cmpl",
             (long long)s->started, number);
    /* without a seed each request has its own, the same after each start */
    if (!job->ask.seeded) job->ask.o.seed = s->o->seed + (uint64_t)number - 1;
}

static void take_request(gr_service *s, const gr_serve_request *r, gr_exchange *x, bool chat) {
    gr_refusal why;
    const char *type = gr_serve_header(x, "Content-Type");
    gr_job *job = gr_calloc(1, sizeof *job);
    pthread_mutex_lock(&s->lock);
    s->result.requests++;
    pthread_mutex_unlock(&s->lock);
    bool good = job != NULL;
    if (!good) {
        gr_refuse(&why, "", "out of memory");
        refuse_with(&why, 503, "server_error", NULL);
    } else if (!type || strncasecmp(type, "application/json", 16) !=
                            0) { /* a form of another page's cannot say that */
        good = gr_refuse(&why, "", "the request's Content-Type is not application/json");
        why.status = 415;
    }
    graft_options usual = *s->o;
    usual.max_tokens = gr_talk_max_tokens(&usual, s->talk.context);
    if (good) good = gr_request_read(&job->ask, chat, r->body, r->length, &usual, &why);
    if (good) job->ask.o.max_tokens = gr_min_i64(job->ask.o.max_tokens, usual.max_tokens);
    if (good) good = choose_voice(s, job, &why) && may_fit(s, job, &why);
    if (good) {
        gr_serve_keep(x);
        job->x = x;
        name_job(s, job);
        good = wait_in_line(s, job, &why); /* from here on it is the crowd's */
    }
    if (good) return;
    if (why.status == 429) gr_serve_add_header(x, "Retry-After", "1");
    gr_response_refusal(x, &why);
    gr_job_end(s, job, GR_REFUSED);
}

/* ------------------------------------------------------------------ paths */

static void on_chat(gr_service *s, const gr_serve_request *r, gr_exchange *x) {
    take_request(s, r, x, true);
}
static void on_completion(gr_service *s, const gr_serve_request *r, gr_exchange *x) {
    take_request(s, r, x, false);
}
static void on_models(gr_service *s, const gr_serve_request *r, gr_exchange *x) {
    (void)r;
    gr_response_models(s, x, NULL);
}
static void on_model(gr_service *s, const gr_serve_request *r, gr_exchange *x) {
    gr_response_models(s, x, r->path + strlen("/v1/models/"));
}
static void on_health(gr_service *s, const gr_serve_request *r, gr_exchange *x) {
    static const char ok[] = "{\"status\":\"ok\"}", stopping[] = "{\"status\":\"stopping\"}";
    (void)r;
    pthread_mutex_lock(&s->lock);
    bool open = !s->stopping;
    pthread_mutex_unlock(&s->lock);
    if (open)
        gr_serve_reply(x, 200, "application/json", ok, sizeof ok - 1);
    else
        gr_serve_reply(x, 503, "application/json", stopping, sizeof stopping - 1);
}

/* A path that ends in / stands for all that begin with it. */
static const struct {
    const char *path, *method;
    bool open; /* to who has no key */
    void (*take)(gr_service *s, const gr_serve_request *r, gr_exchange *x);
} paths[] = {
    {"/v1/chat/completions", "POST", false, on_chat},
    {"/v1/completions", "POST", false, on_completion},
    {"/v1/models", "GET", false, on_models},
    {"/v1/models/", "GET", false, on_model},
    {"/health", "GET", true, on_health},
};

enum { PATHS = sizeof paths / sizeof *paths };

/* PATHS: none. */
static size_t path_of(const gr_serve_request *r) {
    size_t i = 0;
    for (; i < PATHS; i++) {
        size_t n = strlen(paths[i].path);
        bool all = paths[i].path[n - 1] == '/';
        if (all ? !strncmp(r->path, paths[i].path, n) : !strcmp(r->path, paths[i].path)) break;
    }
    return i;
}

void gr_service_door(void *user, const gr_serve_request *r, gr_exchange *x) {
    gr_service *s = user;
    gr_refusal why;
    size_t i = path_of(r);
    if ((i == PATHS || !paths[i].open) && !may_ask(s, x, &why)) {
        gr_response_refusal(x, &why);
        return;
    }
    if (i == PATHS) {
        gr_refuse(&why, "", "no such path: %.200s", r->path);
        refuse_with(&why, 404, "invalid_request_error", "not_found");
        gr_response_refusal(x, &why);
        return;
    }
    bool head = !strcmp(r->method, "HEAD") && !strcmp(paths[i].method, "GET");
    if (head || !strcmp(r->method, paths[i].method)) return;
    gr_refuse(&why, "", "%s takes %s", paths[i].path, paths[i].method);
    refuse_with(&why, 405, "invalid_request_error", "method_not_allowed");
    gr_serve_add_header(x, "Allow", paths[i].method);
    gr_response_refusal(x, &why);
}

void gr_service_request(void *user, const gr_serve_request *r, gr_exchange *x) {
    paths[path_of(r)].take(user, r, x); /* the door let no other in */
}

void gr_service_refusal(void *user, gr_exchange *x, int status, const char *what) {
    gr_refusal why;
    bool host = status == 403;
    gr_refuse(&why, "", "%.*s%s", (int)strcspn(what, "\n"), what,
              host ? " (--allow-host NAME lets it have more)" : "");
    refuse_with(&why, status, status < 500 ? "invalid_request_error" : "server_error",
                host            ? "host_not_allowed"
                : status == 413 ? "request_too_large"
                                : NULL);
    (void)user;
    gr_response_refusal(x, &why);
}
