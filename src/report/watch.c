#include "report/watch.h"
#include "adapters/adapter.h"
#include "base/os.h"
#include "files/json_write.h"
#include "http/http.h"
#include "report/page.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

enum { PHASES = 4 };
static const char *const phases[PHASES] = {"preparing", "train", "validate", "ended"};
enum { PREPARING, TRAINING, VALIDATING, ENDED };

/* What was made of the directory, and when. */
typedef struct look {
    char version[400];   /* of the directory; "": none was made */
    double looked, cost; /* gr_clock of the last look, and the seconds that it took */
    gr_buf text;
} look;

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
    look parts, numbers; /* the page's; runs[] as JSON */
    char adapter[256];   /* of change */
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

/* The adapter's files, of which the config is the last to be written. */
static void put_adapter(gr_buf *out, const char *dir) {
    const char *name;
    for (int i = 0; (name = gr_adapter_file_name(i)); i++) put_state(out, dir, name);
    put_state(out, dir, "adapter_config.json");
}

static void take_state(char *text, size_t room, gr_buf *all) {
    snprintf(text, room, "%s", all->data ? all->data : "");
    gr_buf_free(all);
}

/* The adapter is measured once for each save. */
static graft_status refresh_change(gr_watch *w, const char *earlier, graft_error *err) {
    char now[sizeof w->adapter];
    gr_buf files = {0};
    put_adapter(&files, w->dir);
    take_state(now, sizeof now, &files);
    if (strcmp(now, w->adapter) == 0) return GRAFT_OK;
    gr_change_free(&w->change);
    GR_TRY(gr_change_read(&w->change, w->dir, earlier, err));
    memcpy(w->adapter, now, sizeof now);
    return GRAFT_OK;
}

/* What the page would be about now. A look that took long is not taken again soon: it is the training's time.
 */
static void version_now(const gr_watch *w, const look *l, char now[sizeof l->version]) {
    static const char *const names[] = {"metrics.jsonl", "run.json", "samples.json"};
    static const double share = 40; /* each of the two */
    const size_t room = sizeof l->version;
    int phase = atomic_load(&w->phase);
    bool runs = l->version[0] && strcmp(l->version, phases[PREPARING]) != 0;
    if (phase != ENDED && runs && gr_clock() < l->looked + share * l->cost) {
        snprintf(now, room, "%s", l->version);
        return;
    }
    snprintf(now, room, "%s", phases[PREPARING]);
    if (phase != PREPARING) {
        gr_buf files = {0};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) put_state(&files, w->dir, names[i]);
        put_adapter(&files, w->dir);
        take_state(now, room - 8, &files);
    }
    if (phase == ENDED) memcpy(now + strlen(now), "ended", 6);
}

/* The directory as it is; before the run begins nothing is known of it. run->change is lent. */
static graft_status read_run(gr_watch *w, gr_run *run, graft_error *err) {
    bool runs = atomic_load(&w->phase) != PREPARING;
    graft_status st = runs ? gr_run_read_texts(run, w->dir, err) : gr_run_none(run, w->dir, err);
    if (st == GRAFT_OK && runs) st = refresh_change(w, gr_run_text(run, "earlier_adapter", NULL), err);
    run->change = w->change;
    if (!runs) run->change.none = "no adapter was saved yet";
    return st;
}

static void free_run(gr_run *run) {
    run->change = (gr_change){0};
    gr_run_free(run);
}

static graft_status put_numbers(gr_buf *out, const gr_run *run, graft_error *err) {
    json_t *numbers = NULL;
    GR_TRY(gr_page_numbers(&numbers, run, 1, err));
    char *text = gr_json_dump(json_object_get(numbers, "runs"), JSON_COMPACT);
    json_decref(numbers);
    if (!text) return gr_no_memory(err, 0);
    gr_buf_puts(out, text);
    free(text);
    return out->failed ? gr_no_memory(err, out->cap) : GRAFT_OK;
}

/* The parts of the page, or its numbers, as the directory is now. */
static graft_status refresh(gr_watch *w, look *l, graft_error *err) {
    char now[sizeof l->version];
    gr_run run;
    version_now(w, l, now);
    if (strcmp(now, l->version) == 0) return GRAFT_OK;
    l->looked = gr_clock();
    graft_status st = read_run(w, &run, err);
    gr_buf_clear(&l->text);
    if (st == GRAFT_OK)
        st = l == &w->parts ? gr_page_parts(&l->text, &run, err) : put_numbers(&l->text, &run, err);
    free_run(&run);
    l->cost = gr_clock() - l->looked;
    snprintf(l->version, sizeof l->version, "%s", st == GRAFT_OK ? now : "");
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

static const char plain[] = "text/plain; charset=utf-8", html[] = "text/html; charset=utf-8";

static void reply_error(gr_exchange *x, const graft_error *err) {
    gr_buf text = {0};
    gr_buf_printf(&text, "%s, %s\n", err->what, err->where);
    gr_serve_reply(x, 500, plain, text.data ? text.data : "", text.len);
    gr_buf_free(&text);
}

/* How far it is, and with `numbers` those of the last look. */
static void reply_state(gr_watch *w, gr_exchange *x, bool numbers) {
    bool good = true;
    char version[sizeof w->parts.version];
    gr_buf state = {0};
    json_t *all = json_object();
    if (numbers)
        memcpy(version, w->numbers.version, sizeof version);
    else
        version_now(w, &w->parts, version);
    tell(w, &state);
    gr_json_put(&good, all, "version", json_string(version));
    gr_json_put(&good, all, "state", json_string(state.data ? state.data : ""));
    gr_json_put(&good, all, "phase", json_string(phases[atomic_load(&w->phase)]));
    gr_json_put(&good, all, "iteration", json_integer(atomic_load(&w->done)));
    gr_json_put(&good, all, "iterations", json_integer(atomic_load(&w->total)));
    char *text = good ? gr_json_dump(all, JSON_COMPACT) : NULL;
    gr_buf_clear(&state);
    if (text) gr_buf_add(&state, text, strlen(text) - numbers);
    if (text && numbers) { /* one object of both */
        gr_buf_puts(&state, ",\"runs\":");
        gr_buf_add(&state, w->numbers.text.data, w->numbers.text.len);
        gr_buf_putc(&state, '}');
    }
    if (text && !state.failed)
        gr_serve_reply(x, 200, "application/json", state.data, state.len);
    else
        gr_serve_reply(x, 500, plain, "out of memory\n", 14);
    free(text);
    json_decref(all);
    gr_buf_free(&state);
}

static void reply_numbers(gr_watch *w, gr_exchange *x) {
    graft_error err = {0};
    if (refresh(w, &w->numbers, &err) == GRAFT_OK)
        reply_state(w, x, true);
    else
        reply_error(x, &err);
}

static void reply_page(gr_watch *w, gr_exchange *x, bool whole) {
    graft_error err = {0};
    gr_buf page = {0};
    gr_run run;
    bool last = atomic_load(&w->phase) == ENDED;
    graft_status st = refresh(w, &w->parts, &err);
    if (st == GRAFT_OK && whole) {
        st = gr_run_none(&run, w->dir, &err);
        if (st == GRAFT_OK) st = gr_page_live(&page, &run, w->parts.text.data, &err);
        gr_run_free(&run);
    }
    const gr_buf *text = whole ? &page : &w->parts.text;
    if (st == GRAFT_OK)
        gr_serve_reply(x, 200, html, text->data, text->len);
    else
        reply_error(x, &err);
    if (whole) atomic_store(&w->paged, true);
    if (last) atomic_store(&w->seen, true);
    gr_buf_free(&page);
}

static void handle(void *user, const gr_serve_request *r, gr_exchange *x) {
    gr_watch *w = user;
    atomic_store(&w->asked, gr_clock());
    gr_serve_add_header(x, "Cache-Control", "no-store");
    gr_serve_add_header(x, "X-Content-Type-Options", "nosniff");
    if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0)
        gr_serve_reply(x, 405, plain, "only GET\n", 9);
    else if (strcmp(r->path, "/") == 0 || strcmp(r->path, "/parts") == 0)
        reply_page(w, x, !r->path[1]);
    else if (strcmp(r->path, "/state") == 0)
        reply_state(w, x, false);
    else if (strcmp(r->path, "/metrics") == 0)
        reply_numbers(w, x);
    else
        gr_serve_reply(x, 404, plain, "no such page\n", 13);
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
    gr_buf_free(&w->parts.text);
    gr_buf_free(&w->numbers.text);
    free(w->dir);
    free(w);
}
