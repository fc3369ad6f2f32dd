/* tests/served.h - a server of a tiny model in a thread of the test, with two adapters over it: one and two.
 */
#ifndef SERVED_H
#define SERVED_H
#include "tests/tiny_dir.h"

#include "chat/talk.h"
#include "http/http.h"
#include "http_client.h"
#include <pthread.h>

static char *root, *model, *data, *adapters[2];
static double grace = 0.3; /* seconds, of servers that begin */

static inline int setup(void **state) {
    (void)state;
    root = tiny_temp();
    model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    data = tiny_data_dir(root, "data", 40, 9);
    for (int i = 0; i < 2; i++) {
        graft_options o;
        graft_error err = {0};
        adapters[i] = tiny_join(root, i ? "two" : "one");
        graft_options_init(&o);
        tiny_set(&o, GRAFT_VERB_TRAIN,
                 (const char *const[]){"model", model, "data", data, "adapter-path", adapters[i], "iters",
                                       i ? "12" : "30", "lora-rank", i ? "2" : "4", "lora-targets",
                                       i ? "standard" : "full", "learning-rate", "2e-2", "threads", "1",
                                       NULL});
        if (graft_train(&o, NULL, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
        graft_options_free(&o);
    }
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    free(data);
    for (int i = 0; i < 2; i++) tiny_remove(adapters[i]);
    tiny_remove(model);
    tiny_remove(root);
    return 0;
}

typedef struct server {
    graft_options o;
    pthread_t thread;
    volatile int stop;
    int port; /* atomic; 0: not yet */
    graft_status status;
    graft_serve_result result;
    graft_error err;
    double grace;
} server;

static inline void on_ready(void *user, int port) {
    __atomic_store_n(&((server *)user)->port, port, __ATOMIC_RELEASE);
}

static inline void *serve(void *user) {
    server *s = user;
    const graft_hooks hooks = {.stop = &s->stop};
    s->status = gr_service_run(s->o.model, &s->o, &hooks, on_ready, s, s->grace, &s->result, &s->err);
    if (!s->port) on_ready(s, -1);
    return NULL;
}

static inline bool begin(server *s, const char *const *more) {
    char one[600], two[600];
    *s = (server){.grace = grace};
    snprintf(one, sizeof one, "one=%s", adapters[0]);
    snprintf(two, sizeof two, "two=%s", adapters[1]);
    graft_options_init(&s->o);
    tiny_set(&s->o, GRAFT_VERB_SERVE,
             (const char *const[]){"model", model, "port", "0", "threads", "2", "adapter", one, "adapter",
                                   two, "max-seq-length", "400", NULL});
    if (more) tiny_set(&s->o, GRAFT_VERB_SERVE, more);
    pthread_create(&s->thread, NULL, serve, s);
    while (!__atomic_load_n(&s->port, __ATOMIC_ACQUIRE)) usleep(1000);
    if (s->port > 0) return true;
    pthread_join(s->thread, NULL);
    if (s->status != GRAFT_UNSUPPORTED) fail_msg("%s %s", s->err.what, s->err.found);
    graft_options_free(&s->o); /* built without libmicrohttpd */
    return false;
}

static inline graft_serve_result end(server *s) {
    __atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
    pthread_join(s->thread, NULL);
    assert_int_equal(s->status, GRAFT_OK);
    graft_options_free(&s->o);
    return s->result;
}

#define BEGIN(s, ...)                                                                                        \
    server s;                                                                                                \
    if (!begin(&s, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})) skip()

static inline int ask(const server *s, const char *path, const char *json, char **body) {
    return http_ask(s->port, "POST", path, "", json, body);
}

#endif
