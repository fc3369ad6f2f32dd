#include "report/watch.h"
#include "base/os.h"
#include "files/json_write.h"
#include "report/page.h"
#include "serve/http.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

enum { PHASES = 4 };
static const char *const phases[PHASES] = {"preparing", "train", "validate", "ended"};
enum { PREPARING, TRAINING, VALIDATING, ENDED };

struct gr_watch {
    gr_serve *server;
    char *dir;
    /* written by what trains, read by the server's thread */
    atomic_int phase;
    atomic_llong done, total, first; /* of the training; first: where it began */
    _Atomic double began, asked;     /* gr_clock of the first iteration; of the last request */
    atomic_bool paged;               /* somebody has the page, whose script asks for the rest */
    atomic_bool seen;                /* somebody has the parts of the ended run */
    /* the server's thread alone */
    char version[200]; /* of what is below */
    char adapter[64];  /* of change */
    gr_buf parts, page;
    json_t *numbers;
    gr_change change;
};

/* What a file is now: another text when it is another file, or grew. */
static void put_state(gr_buf *out, const char *dir, const char *name) {
    struct stat s;
    char *path = gr_path_join(dir, name);
    if (path && stat(path, &s) == 0)
        gr_buf_printf(out, "%lld.%lld.%ld-", (long long)s.st_size, (long long)s.st_mtim.tv_sec,
                      (long)(s.st_mtim.tv_nsec / 1000));
    else
        gr_buf_puts(out, "0-");
    free(path);
}

static void state_of(char *text, size_t room, const char *dir, const char *const *names, size_t count) {
    gr_buf all = {0};
    for (size_t i = 0; i < count; i++) put_state(&all, dir, names[i]);
    snprintf(text, room, "%s", all.data ? all.data : "");
    gr_buf_free(&all);
}

/* The adapter is measured once for each save. */
static graft_status refresh_change(gr_watch *w, graft_error *err) {
    static const char *const names[] = {"adapters.safetensors", "adapter_model.safetensors"};
    char now[sizeof w->adapter];
    state_of(now, sizeof now, w->dir, names, 2);
    if (strcmp(now, w->adapter) == 0) return GRAFT_OK;
    gr_change_free(&w->change);
    GR_TRY(gr_change_read(&w->change, w->dir, err));
    memcpy(w->adapter, now, sizeof now);
    return GRAFT_OK;
}

static graft_status render(gr_watch *w, gr_run *run, graft_error *err) {
    gr_buf_clear(&w->parts);
    gr_buf_clear(&w->page);
    json_decref(w->numbers);
    w->numbers = NULL;
    GR_TRY(gr_page_parts(&w->parts, run, err));
    GR_TRY(gr_page_live(&w->page, run, w->parts.data, err));
    return gr_page_numbers(&w->numbers, run, 1, err);
}

/* Page, parts and numbers as the directory is now. */
static graft_status refresh(gr_watch *w, graft_error *err) {
    static const char *const names[] = {"metrics.jsonl", "run.json", "samples.json", "adapters.safetensors",
                                        "adapter_model.safetensors"};
    bool runs = atomic_load(&w->phase) != PREPARING;
    char now[sizeof w->version] = "preparing";
    size_t room = sizeof now - 8;
    if (runs) state_of(now, room, w->dir, names, sizeof names / sizeof *names);
    if (atomic_load(&w->phase) == ENDED) memcpy(now + strlen(now), "ended", 6);
    if (strcmp(now, w->version) == 0) return GRAFT_OK;
    gr_run run;
    graft_status st = runs ? gr_run_read_texts(&run, w->dir, err) : gr_run_none(&run, w->dir, err);
    if (st == GRAFT_OK && runs) st = refresh_change(w, err);
    if (st == GRAFT_OK) {
        run.change = w->change; /* lent */
        if (!runs) run.change.none = "no adapter was saved yet";
        st = render(w, &run, err);
        run.change = (gr_change){0};
    }
    gr_run_free(&run);
    snprintf(w->version, sizeof w->version, "%s", st == GRAFT_OK ? now : "");
    return st;
}

static void tell(gr_watch *w, gr_buf *out) {
    int phase = atomic_load(&w->phase);
    double done = (double)atomic_load(&w->done), total = (double)atomic_load(&w->total);
    double made = done - (double)atomic_load(&w->first), seconds = gr_clock() - atomic_load(&w->began);
    if (phase == PREPARING || phase == ENDED) {
        gr_buf_puts(out, phase == ENDED ? "the training has ended" : "the training is being prepared");
        return;
    }
    gr_buf_printf(out, "live: %s", phase == VALIDATING ? "validating" : "training");
    if (total > 0) gr_buf_printf(out, ", iteration %.0f of %.0f", done, total);
    if (made >= 1 && seconds > 0 && total > done) {
        double left = (total - done) * seconds / made;
        if (left < 60)
            gr_buf_printf(out, ", %.0f s left", left);
        else if (left < 3600)
            gr_buf_printf(out, ", %.0f min left", left / 60);
        else if (left < 1e9)
            gr_buf_printf(out, ", %.0f h %02.0f min left", floor(left / 3600), floor(fmod(left, 3600) / 60));
    }
}

static void reply_numbers(gr_watch *w, gr_exchange *x) {
    bool good = true;
    gr_buf state = {0};
    json_t *all = json_object();
    tell(w, &state);
    gr_json_put(&good, all, "version", json_string(w->version));
    gr_json_put(&good, all, "state", json_string(state.data ? state.data : ""));
    gr_json_put(&good, all, "phase", json_string(phases[atomic_load(&w->phase)]));
    gr_json_put(&good, all, "iteration", json_integer(atomic_load(&w->done)));
    gr_json_put(&good, all, "iterations", json_integer(atomic_load(&w->total)));
    gr_json_put(&good, all, "runs", json_incref(json_object_get(w->numbers, "runs")));
    char *text = good ? gr_json_dump(all, JSON_COMPACT) : NULL;
    if (text)
        gr_serve_reply(x, 200, "application/json", text, strlen(text));
    else
        gr_serve_reply(x, 500, "text/plain", "out of memory\n", 14);
    free(text);
    json_decref(all);
    gr_buf_free(&state);
}

static void handle(void *user, const gr_serve_request *r, gr_exchange *x) {
    gr_watch *w = user;
    graft_error err = {0};
    static const char plain[] = "text/plain; charset=utf-8", html[] = "text/html; charset=utf-8";
    bool page = strcmp(r->path, "/") == 0, parts = strcmp(r->path, "/parts") == 0;
    atomic_store(&w->asked, gr_clock());
    gr_serve_add_header(x, "Cache-Control", "no-store");
    gr_serve_add_header(x, "X-Content-Type-Options", "nosniff");
    if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0) {
        gr_serve_reply(x, 405, plain, "only GET\n", 9);
    } else if (!page && !parts && strcmp(r->path, "/metrics") != 0) {
        gr_serve_reply(x, 404, plain, "no such page\n", 13);
    } else if (refresh(w, &err) != GRAFT_OK) {
        gr_buf text = {0};
        gr_buf_printf(&text, "%s, %s\n", err.what, err.where);
        gr_serve_reply(x, 500, plain, text.data ? text.data : "", text.len);
        gr_buf_free(&text);
    } else if (page || parts) {
        bool last = atomic_load(&w->phase) == ENDED;
        gr_serve_reply(x, 200, html, page ? w->page.data : w->parts.data, page ? w->page.len : w->parts.len);
        if (page) atomic_store(&w->paged, true);
        if (last) atomic_store(&w->seen, true);
    } else {
        reply_numbers(w, x);
    }
}

graft_status gr_watch_open(gr_watch **watch, const char *dir, int port, graft_error *err) {
    gr_watch *w = gr_calloc(1, sizeof *w);
    *watch = NULL;
    if (!w || !(w->dir = gr_strdup(dir))) {
        free(w);
        return gr_no_memory(err, sizeof *w);
    }
    gr_serve_wish wish = {.port = port, .handler = handle, .user = w, .connections = 16, .body_bytes = 1024};
    graft_status st = gr_serve_open(&w->server, &wish, err);
    if (st == GRAFT_OK)
        *watch = w;
    else
        gr_watch_close(w);
    return st;
}

void gr_watch_progress(gr_watch *w, const char *phase, int64_t done, int64_t total) {
    if (phase && strcmp(phase, "validate") == 0) atomic_store(&w->phase, VALIDATING);
    if (!phase || strcmp(phase, "train") != 0) return;
    if (!atomic_load(&w->total)) { /* the first one */
        atomic_store(&w->first, done);
        atomic_store(&w->began, gr_clock());
    }
    atomic_store(&w->done, done);
    atomic_store(&w->total, total);
    atomic_store(&w->phase, TRAINING);
}

void gr_watch_close(gr_watch *w) {
    if (!w) return;
    double end = gr_clock() + 3;
    bool looked = atomic_load(&w->paged) && gr_clock() - atomic_load(&w->asked) < 5;
    atomic_store(&w->phase, atomic_load(&w->phase) == PREPARING ? PREPARING : ENDED);
    while (looked && !atomic_load(&w->seen) && gr_clock() < end)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    gr_serve_close(w->server, 1);
    gr_change_free(&w->change);
    gr_buf_free(&w->parts);
    gr_buf_free(&w->page);
    json_decref(w->numbers);
    free(w->dir);
    free(w);
}
