/* chat/service_open.c - `graft serve` from its options to its end.
 */
#include "base/os.h"
#include "base/wake.h"
#include "chat/service.h"
#include "files/json_read.h"
#include <time.h>

/* As clients call the base: its name on the hub, else the last part of its path. */
static char *name_of(const char *model) {
    size_t n = strlen(model);
    while (n > 1 && model[n - 1] == '/') n--;
    size_t from = n;
    while (from && model[from - 1] != '/') from--;
    bool path = model[0] == '/' || model[0] == '.' || gr_path_exists(model);
    return path ? gr_response_utf8(model + from, n - from) : gr_response_utf8(model, strlen(model));
}

static size_t longest_token(const gr_tokenizer *tok) {
    size_t most = 1;
    for (int32_t id = 0; id < gr_tokenizer_vocab_size(tok); id++) {
        const char *text = gr_tokenizer_token(tok, id);
        if (text && strlen(text) > most) most = strlen(text);
    }
    return most;
}

static graft_status take_key(gr_service *s, graft_error *err) {
    const char *key = s->o->api_key ? s->o->api_key : getenv("GRAFT_API_KEY");
    if (!key || (!key[0] && !s->o->api_key)) return GRAFT_OK;
    bool good = key[0];
    for (const char *c = key; *c; c++) good &= *c > ' ' && *c <= '~';
    if (!good) return gr_fail(err, GRAFT_USAGE, "the API key is not one word of ASCII");
    s->key = gr_strdup(key);
    return s->key ? GRAFT_OK : gr_no_memory(err, 0);
}

/* The hosts of a list, as requests name them. */
static graft_status take_names(gr_service *s, graft_error *err) {
    json_error_t wrong;
    json_t *list =
        s->o->allow_host ? gr_json_loadb(s->o->allow_host, strlen(s->o->allow_host), 0, &wrong) : NULL;
    const json_t *text;
    size_t i;
    s->hosts = list;
    if (!s->o->allow_host) return GRAFT_OK;
    if (!json_is_array(list)) return gr_fail(err, GRAFT_USAGE, "allow-host is no list of names");
    s->names = gr_calloc(json_array_size(list) + 1, sizeof *s->names);
    if (!s->names) return gr_no_memory(err, 0);
    json_array_foreach(list, i, text) {
        const char *name = json_string_value(text) ? json_string_value(text) : "";
        size_t n = *name == '[' ? strcspn(name, "]") + 1 : strcspn(name, ":/ ");
        s->names[i] = name;
        if (*name && strlen(name) == n) continue;
        gr_fail(err, GRAFT_USAGE, "--allow-host is no name of a host");
        gr_expected(err, "what stands before a port, such as models.example.org");
        return gr_found(err, "%s", name);
    }
    return GRAFT_OK;
}

static graft_status open_adapter(gr_service *s, const char *text, graft_error *err) {
    const char *equals = strchr(text, '=');
    gr_voice *voice;
    char *name = equals ? gr_strndup(text, (size_t)(equals - text)) : NULL;
    graft_status st;
    if (!equals || equals == text || !equals[1]) {
        gr_fail(err, GRAFT_USAGE, "--adapter has no name, or no path");
        gr_expected(err, "NAME=PATH");
        st = gr_found(err, "%s", text);
    } else if (!name) {
        st = gr_no_memory(err, 0);
    } else if (!strcmp(name, "none") || !strcmp(name, s->name) || gr_service_voice(s, name)) {
        gr_fail(err, GRAFT_USAGE, "an adapter's name is taken");
        gr_found(err, "%s", name);
        st = gr_hint(err, "the base is %s, or none; every adapter has a name of its own", s->name);
    } else {
        st = gr_talk_voice(&voice, &s->talk, name, equals + 1, s->hooks, err);
    }
    free(name);
    return st;
}

static graft_status open_voices(gr_service *s, graft_error *err) {
    json_error_t wrong;
    const json_t *text;
    size_t i;
    GR_TRY(gr_talk_voice(&s->usual, &s->talk, NULL, NULL, s->hooks, err));
    if (s->o->adapter_path)
        GR_TRY(gr_talk_voice(&s->usual, &s->talk, NULL, s->o->adapter_path, s->hooks, err));
    if (!s->o->adapter) return GRAFT_OK;
    json_t *list = gr_json_loadb(s->o->adapter, strlen(s->o->adapter), 0, &wrong);
    graft_status st = list ? GRAFT_OK : gr_fail(err, GRAFT_USAGE, "adapter is no list of NAME=PATH");
    json_array_foreach(list, i, text) {
        if (st == GRAFT_OK) st = open_adapter(s, json_string_value(text) ? json_string_value(text) : "", err);
    }
    json_decref(list);
    return st;
}

static graft_status open_service(gr_service *s, const char *dir, graft_error *err) {
    gr_stops stops;
    GR_TRY(gr_stops_init(&stops, s->o->stop, err));
    gr_stops_free(&stops);
    GR_TRY(take_key(s, err));
    GR_TRY(take_names(s, err));
    if (s->rows > GR_DECODE_BATCH_MOST) {
        gr_fail(err, GRAFT_USAGE, "too many answers at once");
        return gr_expected(err, "--batch-size up to %d", GR_DECODE_BATCH_MOST);
    }
    s->name = name_of(s->o->model);
    if (!s->name) return gr_no_memory(err, 0);
    gr_talk_way way = s->rows < GR_TOGETHER_FROM ? GR_TALK_IN_TURN : GR_TALK_TOGETHER;
    GR_TRY(gr_talk_open(&s->talk, dir, s->o, s->rows, way, s->hooks, err));
    s->longest = longest_token(s->talk.s.tok);
    GR_TRY(open_voices(s, err));
    return gr_scheduler_open(s, err);
}

static void note_open_door(const gr_service *s, const gr_serve *server) {
    if (gr_serve_local(server) || s->key || !s->hooks || !s->hooks->event) return;
    s->hooks->event(s->hooks->user,
                    &(graft_event){.kind = GRAFT_EVENT_NOTE,
                                   .text = "other machines may ask too, and no key is asked for: --api-key"});
}

graft_status gr_service_run(const char *dir, const graft_options *o, const graft_hooks *hooks,
                            void (*ready)(void *user, int port), void *user, double grace,
                            graft_serve_result *result, graft_error *err) {
    gr_service s = {
        .o = o, .hooks = hooks, .rows = o->batch_size, .grace = grace, .started = (int64_t)time(NULL)};
    gr_serve *server = NULL;
    gr_serve_wish wish = {.host = o->host, .port = (int)o->port, .handler = gr_service_request, .user = &s};
    wish.body_bytes = (size_t)o->max_body;
    wish.door = gr_service_door;
    wish.refuse = gr_service_refusal;
    wish.connections = (unsigned)(o->max_requests + o->batch_size + 32); /* below 1000 by their ranges */
    pthread_mutex_init(&s.lock, NULL);
    gr_wake_init(&s.wake);
    graft_status st = open_service(&s, dir, err);
    wish.names = s.names;
    if (st == GRAFT_OK) st = gr_serve_open(&server, &wish, err);
    if (st == GRAFT_OK) {
        note_open_door(&s, server);
        if (ready) ready(user, gr_serve_port(server));
        gr_scheduler_run(&s);
        gr_serve_close(server, 1);
        *result = s.result;
    }
    gr_scheduler_close(&s);
    gr_talk_close(&s.talk);
    pthread_mutex_destroy(&s.lock);
    pthread_cond_destroy(&s.wake);
    free(s.name);
    free(s.key);
    free(s.names);
    json_decref(s.hosts);
    return st;
}
