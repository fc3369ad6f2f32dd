#include "chat/talk.h"
#include "base/hooks.h"
#include "base/os.h"
#include "model/identity.h"
#include <time.h>

/* Without --max-seq-length: what fits most models and takes little of most machines. */
#define CONTEXT 4096

/* Is the option's number anybody's wish? Some verbs have another default than its row. */
static bool said(const graft_options *o, const char *name) {
    graft_options usual = {0};
    const gr_option_row *row = gr_option_row_at((size_t)gr_option_index(name));
    (void)gr_option_reset(&usual, row); /* a number: needs no memory */
    return gr_options_given(o, name) ||
           memcmp((const char *)o + row->offset, (const char *)&usual + row->offset, sizeof(int64_t)) != 0;
}

int64_t gr_talk_max_tokens(const graft_options *o, int64_t usual) {
    return said(o, "max-tokens") ? o->max_tokens : usual;
}

static int64_t context_of(const graft_options *o, const gr_model_config *c) {
    if (said(o, "max-seq-length")) return o->max_seq_length;
    int64_t most = c->row_limit ? gr_min_i64(CONTEXT, c->row_limit) : CONTEXT;
    return c->max_position > 1 ? gr_min_i64(most, c->max_position) : most;
}

static void note(const graft_hooks *hooks, const char *text) {
    if (text && text[0]) gr_note(hooks, text);
}

graft_status gr_talk_open(gr_talk *t, const char *dir, const graft_options *o, int64_t most, gr_talk_way way,
                          const graft_hooks *hooks, graft_error *err) {
    *t = (gr_talk){.o = o, .plain = *o, .way = way, .most = most};
    t->plain.adapter_path = NULL;
    GR_TRY(gr_session_open(&t->s, dir, &t->plain, hooks, err));
    t->context = context_of(o, &t->s.rt.model->config);
    t->config.longest = way == GR_TALK_GROWING ? 1 : t->context;
    t->config.tokens = gr_max_i64(t->config.longest, most);
    graft_status st = gr_runtime_row_fits(t->s.rt.model, t->context, err);
    t->available = gr_memory_available();
    if (st != GRAFT_OK) gr_talk_close(t);
    return st;
}

graft_status gr_talk_take(gr_talk *t, uint64_t bytes, graft_error *err) {
    uint64_t all, shared = t->saved.cap + t->scratch.cap;
    if (__builtin_add_overflow(t->taken + shared, bytes, &all)) all = UINT64_MAX;
    uint64_t available = t->available ? t->available : UINT64_MAX - 1; /* no more than can be counted */
    graft_status st =
        gr_memory_fits(all, available, err, "answers within %lld tokens take", (long long)t->context);
    if (st != GRAFT_OK)
        return gr_hint(err, "a smaller --max-seq-length or --batch-size, or fewer adapters, take less");
    t->taken = all - shared;
    return GRAFT_OK;
}

static void free_voice(gr_voice *v) {
    if (!v) return;
    gr_decode_batch_free(&v->d);
    gr_decode_free(&v->one);
    gr_arena_free(&v->rt.scratch);
    gr_tuning_free(v->rt.tuning);
    free(v->rt.owned_params);
    gr_chat_free(v->chat);
    free(v->name);
    free(v->path);
    free(v);
}

void gr_talk_close(gr_talk *t) {
    for (size_t i = 0; i < t->count; i++) free_voice(t->voices[i]);
    free(t->voices);
    gr_arena_free(&t->saved);
    gr_arena_free(&t->scratch);
    gr_session_close(&t->s);
    *t = (gr_talk){0};
}

/* The template, with the variables of the options or of the adapter. */
static graft_status open_template(gr_voice *v, const gr_talk *t, const graft_hooks *hooks, graft_error *err) {
    char *text = NULL;
    if (t->s.chat) GR_TRY(gr_chat_new(&v->chat, t->s.tok, (int64_t)time(NULL), err));
    GR_TRY(gr_options_template(&text, v->chat, t->o, v->path, err));
    note(hooks, text);
    free(text);
    return GRAFT_OK;
}

static graft_status load(gr_voice *v, gr_talk *t, const graft_hooks *hooks, graft_error *err) {
    gr_adapter_base base = {
        .model = t->s.rt.model, .allow_other = t->o->allow_other_base, .reading = gr_options_reading(t->o)};
    if (!t->identified) GR_TRY(gr_model_identify(t->s.rt.model, t->s.rt.pool, err));
    t->identified = true;
    GR_TRY(gr_adapter_load(&v->rt.tuning, &v->rt.owned_params, v->path, &t->s.rt.model->config, &base, err));
    v->rt.params = v->rt.owned_params;
    note(hooks, base.note);
    return GRAFT_OK;
}

/* Larger buffers for all; the voices that are bound move along. After a failure all is as before. */
static graft_status grow(gr_talk *t, uint64_t saved, uint64_t scratch, graft_error *err) {
    gr_arena one = {0}, two = {0};
    graft_status st = gr_arena_reserve(&one, saved, err);
    if (st == GRAFT_OK) st = gr_arena_reserve(&two, scratch, err);
    if (st != GRAFT_OK) {
        gr_arena_free(&one);
        return st;
    }
    gr_arena_free(&t->saved);
    gr_arena_free(&t->scratch);
    t->saved = one, t->scratch = two;
    for (size_t i = 0; i < t->count; i++) {
        GR_TRY(gr_runtime_bind_lent(&t->voices[i]->rt, &t->config, &t->saved, &t->scratch, err));
        gr_net_refresh(&t->voices[i]->rt.net);
    }
    return GRAFT_OK;
}

static uint64_t beyond(uint64_t wanted, uint64_t have) {
    return wanted > have ? wanted - have : 0;
}

/* Binds v to the buffers of all, which grow where it needs more. */
static graft_status bind(gr_voice *v, gr_talk *t, graft_error *err) {
    uint64_t kept, saved, scratch;
    GR_TRY(gr_runtime_measure_kept(&v->rt, &t->config, &kept, &saved, &scratch, err));
    uint64_t more[] = {beyond(saved, t->saved.cap), beyond(scratch, t->scratch.cap)};
    for (int i = 0; i < 2; i++) GR_TRY(gr_talk_take(t, more[i], err));
    GR_TRY(gr_talk_take(t, kept, err));
    if (more[0] || more[1]) GR_TRY(grow(t, t->saved.cap + more[0], t->scratch.cap + more[1], err));
    t->taken -= more[0] + more[1]; /* the arenas say it now */
    GR_TRY(gr_runtime_bind_lent(&v->rt, &t->config, &t->saved, &t->scratch, err));
    gr_net_refresh(&v->rt.net);
    return GRAFT_OK;
}

static graft_status open_voice(gr_voice *v, gr_talk *t, const graft_hooks *hooks, graft_error *err) {
    v->rt = (gr_runtime){.model = t->s.rt.model, .kernels = t->s.rt.kernels, .pool = t->s.rt.pool};
    GR_TRY(open_template(v, t, hooks, err));
    if (v->path) GR_TRY(load(v, t, hooks, err));
    GR_TRY(bind(v, t, err));
    if (t->way != GR_TALK_IN_TURN) GR_TRY(gr_decode_batch_init(&v->d, &v->rt, t->most, 0, t->context, err));
    if (t->way != GR_TALK_TOGETHER) GR_TRY(gr_decode_init(&v->one, &v->rt, t->context, true, err));
    return gr_talk_take(t, v->d.arena.cap + v->one.arena.cap, err);
}

graft_status gr_talk_voice(gr_voice **voice, gr_talk *t, const char *name, const char *path,
                           const graft_hooks *hooks, graft_error *err) {
    for (size_t i = 0; i < t->count; i++) {
        const char *have = t->voices[i]->path;
        *voice = t->voices[i];
        if (!name && (have == path || (have && path && !strcmp(have, path)))) return GRAFT_OK;
    }
    uint64_t before = t->taken;
    *voice = NULL;
    if (!gr_grow((void **)&t->voices, &t->room, t->count, sizeof *t->voices)) return gr_no_memory(err, 0);
    gr_voice *v = gr_calloc(1, sizeof *v);
    if (!v) return gr_no_memory(err, sizeof *v);
    if (path) v->path = gr_strdup(path);
    if (name) v->name = gr_strdup(name);
    graft_status st =
        (path && !v->path) || (name && !v->name) ? gr_no_memory(err, 0) : open_voice(v, t, hooks, err);
    if (st != GRAFT_OK) {
        free_voice(v);
        t->taken = before;
        return st;
    }
    t->voices[t->count++] = v;
    *voice = v;
    return GRAFT_OK;
}

gr_session gr_talk_session(const gr_talk *t, const gr_voice *v, const graft_options *o,
                           const graft_hooks *hooks) {
    return (gr_session){
        .o = o, .hooks = hooks, .tok = t->s.tok, .chat = v->chat, .rt = {.model = t->s.rt.model}};
}
