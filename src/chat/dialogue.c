/* chat/dialogue.c - one conversation: its messages, and a cache of what the model has seen of them.
 *
 * The cache keeps prompts alone. An answer's tokens grow in it one at a time, by the way that is fastest for
 * one, and are read again as part of the next prompt, many at once: what the cache holds, and so every
 * answer, then follows from the text of the conversation, whenever and however it came in.
 */
#include "base/hooks.h"
#include "base/os.h"
#include "chat/talk.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "infer/answer.h"

#define PIECE        128 /* tokens of a prompt that go through the model at once */
#define ANSWER_USUAL 512 /* tokens, without --max-tokens */

struct graft_chat {
    gr_talk talk;
    gr_voice *voice;
    gr_arena arena; /* of the cache */
    gr_kv_cache cache;
    gr_ids seen;      /* what the cache holds */
    char *system;     /* NULL: none */
    json_t *messages; /* of user and assistant in turns */
    size_t first;     /* the first that the model sees */
};

static bool stopped(const graft_hooks *hooks) {
    return gr_stopped(hooks);
}

static graft_status take_cache(graft_chat *c, graft_error *err) {
    gr_arena counting = {0};
    (void)gr_decode_batch_cache(&counting, &c->talk.s.rt, c->talk.context);
    GR_TRY(gr_talk_take(&c->talk, counting.overflow ? UINT64_MAX : counting.used, err));
    GR_TRY(gr_arena_reserve(&c->arena, counting.used, err));
    c->cache = gr_decode_batch_cache(&c->arena, &c->talk.s.rt, c->talk.context);
    return GRAFT_OK;
}

static graft_status begin(graft_chat *c, const char *dir, const graft_options *o, const graft_hooks *hooks,
                          graft_error *err) {
    gr_stops stops;
    GR_TRY(gr_stops_init(&stops, o->stop, err));
    gr_stops_free(&stops);
    GR_TRY(gr_talk_open(&c->talk, dir, o, PIECE, GR_TALK_GROWING, hooks, err));
    if (!c->talk.s.chat) {
        gr_fail(err, GRAFT_USAGE, "the model has no chat template to talk by");
        return gr_hint(err, "put the model family's chat_template.jinja into the model directory, or let it "
                            "continue plain text: graft generate");
    }
    c->messages = json_array();
    if (!c->messages) return gr_no_memory(err, 0);
    GR_TRY(take_cache(c, err));
    if (o->system_prompt) GR_TRY(graft_chat_system(c, o->system_prompt, err));
    return gr_talk_voice(&c->voice, &c->talk, NULL, o->adapter_path, hooks, err);
}

graft_status gr_dialogue_open(graft_chat **chat, const char *dir, const graft_options *o,
                              const graft_hooks *hooks, graft_error *err) {
    graft_chat *c = gr_calloc(1, sizeof *c);
    *chat = NULL;
    if (!c) return gr_no_memory(err, sizeof *c);
    graft_status st = begin(c, dir, o, hooks, err);
    if (st == GRAFT_OK)
        *chat = c;
    else
        graft_chat_close(c);
    return st;
}

void graft_chat_close(graft_chat *c) {
    if (!c) return;
    gr_talk_close(&c->talk);
    gr_arena_free(&c->arena);
    gr_ids_free(&c->seen);
    json_decref(c->messages);
    free(c->system);
    free(c);
}

static void forget_cache(graft_chat *c) {
    c->seen.count = 0;
    c->cache.length = 0;
}

graft_status graft_chat_use(graft_chat *c, const char *path, const graft_hooks *hooks, graft_error *err) {
    gr_voice *voice;
    graft_error own;
    if (!err) err = &own;
    gr_error_clear(err);
    GR_TRY(gr_talk_voice(&voice, &c->talk, NULL, path, hooks, err));
    if (voice != c->voice) forget_cache(c);
    c->voice = voice;
    return GRAFT_OK;
}

graft_status graft_chat_system(graft_chat *c, const char *prompt, graft_error *err) {
    graft_error own;
    if (!err) err = &own;
    gr_error_clear(err);
    if (prompt && !gr_json_utf8(prompt))
        return gr_fail(err, GRAFT_USAGE, "the system prompt is not valid UTF-8");
    char *copy = prompt ? gr_strdup(prompt) : NULL;
    if (prompt && !copy) return gr_no_memory(err, strlen(prompt));
    free(c->system);
    c->system = copy;
    return GRAFT_OK;
}

void graft_chat_reset(graft_chat *c) {
    json_array_clear(c->messages);
    c->first = 0;
}

/* ------------------------------------------------------------------ what the model is to see */

/* The messages from number `first` on, with the system's; NULL when out of memory. */
static json_t *messages_from(const graft_chat *c, size_t first) {
    json_t *list = json_array();
    bool good = list && (!c->system || gr_message_add(list, "system", c->system));
    for (size_t i = first; good && i < json_array_size(c->messages); i++)
        good = json_array_append(list, json_array_get(c->messages, i)) == 0;
    if (good) return list;
    json_decref(list);
    return NULL;
}

static graft_status encode(const graft_chat *c, const gr_session *s, gr_ids *ids, graft_error *err) {
    json_t *list = messages_from(c, c->first);
    ids->count = 0;
    graft_status st = list ? gr_messages_encode(s, list, NULL, ids, err) : gr_no_memory(err, 0);
    json_decref(list);
    return st;
}

static graft_status no_room(const graft_chat *c, size_t count, graft_error *err) {
    gr_fail(err, GRAFT_RANGE, "the message leaves no room for an answer");
    gr_expected(err, "below %lld tokens with the system prompt and the template", (long long)c->talk.context);
    gr_found(err, "%zu", count);
    return gr_hint(err, "a larger --max-seq-length, or a shorter message");
}

/* Does the last message fit where all before it are dropped? Else they need not be, one turn after the other:
 * each time all that is left has to be tokenized. */
static graft_status fits_alone(graft_chat *c, const gr_session *s, gr_ids *ids, graft_error *err) {
    size_t first = c->first;
    c->first = json_array_size(c->messages) - 1;
    graft_status st = encode(c, s, ids, err);
    c->first = first;
    if (st != GRAFT_OK || (int64_t)ids->count < c->talk.context) return st;
    return no_room(c, ids->count, err);
}

/* The prompt, which leaves room for an answer. Where the oldest turns have to go, half of what fits goes at
 * once: what the model then sees begins anew, and reading all of it at every turn would be slow. */
static graft_status fit(graft_chat *c, const gr_session *s, int64_t most, gr_ids *ids, graft_error *err) {
    int64_t context = c->talk.context, room = gr_min_i64(most, context / 2), goal = context - room;
    size_t last = json_array_size(c->messages) - 1;
    GR_TRY(encode(c, s, ids, err));
    if ((int64_t)ids->count <= goal) return GRAFT_OK;
    GR_TRY(fits_alone(c, s, ids, err));
    while (c->first < last) {
        if (stopped(s->hooks)) return gr_fail(err, GRAFT_INTERRUPTED, "answer stopped");
        c->first += 2;
        GR_TRY(encode(c, s, ids, err));
        if ((int64_t)ids->count <= (context - room) / 2) break;
    }
    return GRAFT_OK;
}

/* ------------------------------------------------------------------ the answer */

/* Asked before each block of the model: a piece of a prompt may take it seconds. */
static bool go_on(void *user) {
    return !stopped(user);
}

static graft_status append(graft_chat *c, const int32_t *ids, int64_t count, const graft_hooks *hooks,
                           graft_error *err) {
    gr_net *net = &c->voice->rt.net;
    net->go_on = go_on, net->go_on_context = (void *)(uintptr_t)hooks;
    bool whole = gr_decode_batch_extend(&c->voice->d, &c->cache, ids, count);
    net->go_on = NULL;
    if (!whole) return gr_fail(err, GRAFT_INTERRUPTED, "answer stopped");
    for (int64_t i = 0; i < count; i++)
        if (!gr_ids_push(&c->seen, ids[i])) {
            forget_cache(c);
            return gr_no_memory(err, sizeof *ids);
        }
    return GRAFT_OK;
}

/* Brings the cache to where the prompt ends: what it holds of it already stays. */
static graft_status read_prompt(graft_chat *c, const gr_ids *prompt, const graft_hooks *hooks,
                                graft_answer *answer, graft_error *err) {
    size_t same = 0,
           most = gr_min_size(c->seen.count, prompt->count - 1); /* the last one's logits are wanted */
    while (same < most && c->seen.ids[same] == prompt->ids[same]) same++;
    c->seen.count = same;
    c->cache.length = (int64_t)same;
    answer->prompt_tokens = (int64_t)prompt->count;
    answer->cached_tokens = (int64_t)same;
    for (int64_t at = (int64_t)same, n; at < answer->prompt_tokens; at += n) {
        n = gr_min_i64(PIECE, answer->prompt_tokens - at);
        GR_TRY(append(c, prompt->ids + at, n, hooks, err));
    }
    return GRAFT_OK;
}

static graft_status grow(graft_chat *c, gr_answer *g, const gr_session *s, graft_answer *answer,
                         graft_error *err) {
    bool over = gr_answer_most(s->o) == 0;
    int32_t id;
    float *logits = c->voice->d.logits; /* the prompt's */
    c->voice->one.cache = c->cache;     /* with the length that the prompt has */
    gr_decode_legs(&c->voice->one);
    answer->finish = over ? "length" : "stop";
    while (!over) {
        if (stopped(s->hooks)) {
            if (!gr_answer_tokens(g)) return gr_fail(err, GRAFT_INTERRUPTED, "answer stopped");
            answer->finish = "interrupted";
            return GRAFT_OK;
        }
        GR_TRY(gr_answer_next(g, s, logits, &id, &over, err));
        if (over && g->full) answer->finish = "length";
        if (over) break;
        gr_decode_token(&c->voice->one, id);
        logits = c->voice->one.logits;
    }
    return GRAFT_OK;
}

static graft_status say(graft_chat *c, const gr_session *s, const gr_ids *prompt, graft_answer *answer,
                        graft_error *err) {
    gr_answer g;
    double start = gr_clock();
    graft_status st = gr_answer_init(&g, s, prompt, true, err);
    if (st == GRAFT_OK) st = read_prompt(c, prompt, s->hooks, answer, err);
    double middle = gr_clock();
    if (st == GRAFT_OK) st = grow(c, &g, s, answer, err);
    answer->tokens = gr_answer_tokens(&g);
    answer->prompt_tokens_per_second =
        (double)(answer->prompt_tokens - answer->cached_tokens) / (middle - start + 1e-9);
    answer->generation_tokens_per_second = (double)answer->tokens / (gr_clock() - middle + 1e-9);
    if (st == GRAFT_OK) gr_buf_puts(&g.grown.text, "");
    if (st == GRAFT_OK && !strcmp(answer->finish, "interrupted") && s->hooks->event && g.grown.text.data)
        g.grown.text.data[g.grown.text.len = g.sent] = '\0'; /* what was seen of it */
    if (st == GRAFT_OK) st = gr_answer_text(&g, &answer->text, err);
    gr_answer_free(&g);
    if (st == GRAFT_OK && !gr_message_add(c->messages, "assistant", answer->text)) st = gr_no_memory(err, 0);
    return st;
}

graft_status graft_chat_say(graft_chat *c, const char *text, const graft_hooks *hooks, graft_answer *answer,
                            graft_error *err) {
    graft_error own;
    if (!err) err = &own;
    gr_error_clear(err);
    memset(answer, 0, sizeof *answer);
    if (!gr_json_utf8(text)) return gr_fail(err, GRAFT_USAGE, "the message is not valid UTF-8");
    if (!gr_message_add(c->messages, "user", text)) return gr_no_memory(err, strlen(text));
    graft_options o = *c->talk.o; /* a view: for its own max_tokens */
    o.max_tokens = gr_talk_max_tokens(&o, ANSWER_USUAL);
    o.ignore_chat_template = false;
    gr_session s = gr_talk_session(&c->talk, c->voice, &o, hooks);
    gr_ids prompt = {0};
    size_t first = c->first;
    graft_status st = fit(c, &s, gr_answer_most(&o), &prompt, err);
    o.max_tokens = gr_min_i64(o.max_tokens, c->talk.context - (int64_t)prompt.count);
    if (st == GRAFT_OK) st = say(c, &s, &prompt, answer, err);
    gr_ids_free(&prompt);
    answer->dropped = (int64_t)c->first;
    if (st == GRAFT_OK) return st;
    graft_answer_free(answer);
    c->first = first;
    json_array_remove(c->messages, json_array_size(c->messages) - 1);
    return st;
}

void graft_answer_free(graft_answer *answer) {
    if (!answer) return;
    free(answer->text);
    memset(answer, 0, sizeof *answer);
}

graft_status graft_chat_save(const graft_chat *c, const char *path, graft_error *err) {
    graft_error own;
    if (!err) err = &own;
    gr_error_clear(err);
    json_t *list = messages_from(c, 0), *row = list ? json_pack("{s:o}", "messages", list) : NULL;
    char *text = row ? gr_json_dump(row, JSON_COMPACT) : NULL;
    json_decref(row);
    gr_buf line = {0};
    if (text) gr_buf_printf(&line, "%s\n", text);
    graft_status st =
        text && !line.failed ? gr_file_replace(path, line.data, line.len, err) : gr_no_memory(err, 0);
    gr_buf_free(&line);
    free(text);
    return st;
}
