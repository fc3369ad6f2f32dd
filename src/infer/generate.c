#include "base/os.h"
#include "infer/sample.h"
#include "infer/session.h"
#include "infer/stops.h"
#include <stdio.h>

static bool stopped(const gr_session *s) {
    return s->hooks && s->hooks->stop && *s->hooks->stop;
}

static graft_status check_utf8(const char *option, const char *text, graft_error *err) {
    json_t *probe = text ? json_string(text) : json_null();
    bool valid = probe != NULL;
    json_decref(probe);
    return valid ? GRAFT_OK : gr_fail(err, GRAFT_USAGE, "%s is not valid UTF-8", option);
}

/* What the command line asks for must be there before a model is opened, and mean something. */
static graft_status check_prompt(const graft_options *o, graft_error *err) {
    if (!o->prompt) {
        gr_fail(err, GRAFT_USAGE, "--prompt is missing");
        return gr_hint(err, "--prompt \"Define HOPE.\"");
    }
    if (o->system_prompt && o->ignore_chat_template)
        return gr_fail(err, GRAFT_USAGE, "--system-prompt needs the chat template that is to be ignored");
    gr_stops stops;
    GR_TRY(gr_stops_init(&stops, o->stop, err));
    gr_stops_free(&stops);
    GR_TRY(check_utf8("--prompt", o->prompt, err));
    return check_utf8("--system-prompt", o->system_prompt, err);
}

/* Appends one message; false when out of memory. */
static bool add_message(json_t *messages, const char *role, const char *content) {
    return json_array_append_new(messages, json_pack("{s:s, s:s}", "role", role, "content", content)) == 0;
}

static graft_status encode_chat(const gr_session *s, gr_ids *ids, graft_error *err) {
    const graft_options *o = s->o;
    json_t *messages = json_array();
    bool good = messages && (!o->system_prompt || add_message(messages, "system", o->system_prompt)) &&
                add_message(messages, "user", o->prompt);
    graft_status st = good ? gr_chat_prompt(s->chat, messages, NULL, ids, err) : gr_no_memory(err, 0);
    json_decref(messages);
    return st;
}

/* The prompt's ids: a chat with the template, or the text as it is. */
static graft_status encode_prompt(gr_session *s, gr_ids *ids, graft_error *err) {
    const graft_options *o = s->o;
    if (o->system_prompt && !s->chat)
        return gr_fail(err, GRAFT_USAGE, "--system-prompt needs a chat template, and the model has none");
    if (!s->chat || o->ignore_chat_template) {
        GR_TRY(gr_tokenizer_encode(s->tok, o->prompt, strlen(o->prompt),
                                   GR_ENCODE_ADD_SPECIAL | GR_ENCODE_PARSE_SPECIAL, ids, err));
    } else {
        GR_TRY(encode_chat(s, ids, err));
    }
    for (size_t i = 0; i < ids->count; i++) {
        if (ids->ids[i] >= 0 && ids->ids[i] < s->rt.model->config.vocab) continue;
        gr_fail(err, GRAFT_RANGE, "the tokenizer gave a token beyond the model's vocabulary");
        gr_expected(err, "below %lld", (long long)s->rt.model->config.vocab);
        return gr_found(err, "%d", ids->ids[i]);
    }
    if (ids->count) return GRAFT_OK;
    return gr_fail(err, GRAFT_USAGE, "the prompt has no tokens");
}

/* An answer's tokens: no more than ANSWER_MOST, since the cache is reserved for all of them. */
#define ANSWER_MOST ((int64_t)1 << 20)
static int64_t most_tokens(const graft_options *o) {
    return gr_min_i64(o->max_tokens, ANSWER_MOST);
}

/* An answer while it grows. */
typedef struct growth {
    gr_ids ids;     /* the prompt's and the answer's */
    size_t prompt;  /* how many of them are the prompt's */
    gr_buf text;    /* the answer's */
    gr_stops stops; /* --stop */
    gr_sampler sampler;
    bool send;   /* to the hooks */
    size_t sent; /* bytes */
} growth;

static void growth_free(growth *g) {
    gr_ids_free(&g->ids);
    gr_buf_free(&g->text);
    gr_stops_free(&g->stops);
    gr_sampler_free(&g->sampler);
}

static graft_status growth_init(growth *g, const gr_session *s, const gr_ids *prompt, bool send,
                                graft_error *err) {
    const graft_options *o = s->o;
    const gr_sampler_config config = {.temp = o->temp,
                                      .top_p = o->top_p,
                                      .min_p = o->min_p,
                                      .top_k = o->top_k,
                                      .penalty = o->repetition_penalty,
                                      .penalty_ids = o->repetition_context_size,
                                      .seed = o->seed};
    *g = (growth){.prompt = prompt->count, .send = send};
    for (size_t i = 0; i < prompt->count; i++)
        if (!gr_ids_push(&g->ids, prompt->ids[i])) return gr_no_memory(err, prompt->count * sizeof(int32_t));
    GR_TRY(gr_stops_init(&g->stops, o->stop, err));
    return gr_sampler_init(&g->sampler, &config, s->rt.model->config.vocab, err);
}

/* Sends what is new of the text's first `end` bytes. */
static void stream(const gr_session *s, growth *g, size_t end) {
    const graft_hooks *hooks = s->hooks;
    if (!g->send || end <= g->sent || !hooks || !hooks->event) return;
    hooks->event(hooks->user, &(graft_event){.kind = GRAFT_EVENT_TEXT,
                                             .text = g->text.data + g->sent,
                                             .done = (int64_t)(end - g->sent)});
    g->sent = end;
}

/* The text without its last characters that are cut in two, which decode as U+FFFD until their rest is there.
 */
static size_t settled(const gr_buf *text) {
    size_t len = text->len;
    while (len >= 3 && memcmp(text->data + len - 3, "\xef\xbf\xbd", 3) == 0) len -= 3;
    return len;
}

/* Looks for a stop text within the first `len` bytes; *over when the answer ends there. */
static void look(const gr_session *s, growth *g, size_t len, bool *over) {
    size_t end;
    if (!g->text.data) return;
    if (gr_stops_find(&g->stops, g->text.data, len, &end)) {
        g->text.len = end;
        g->text.data[end] = '\0';
        *over = true;
        len = end;
    } else if (!*over) {
        len -= gr_stops_held(&g->stops, g->text.data, len);
    }
    stream(s, g, len);
}

/* The next token, into the text; *over after the last one. */
static graft_status grow(gr_session *s, gr_decode *d, growth *g, bool *over, graft_error *err) {
    size_t first = g->prompt;
    int64_t vocab = s->rt.model->config.vocab;
    gr_sampler_penalize(&g->sampler, d->logits, g->ids.ids, (int64_t)g->ids.count);
    int32_t id = gr_sample(&g->sampler, d->logits, vocab);
    *over = gr_tokenizer_is_stop(s->tok, id);
    if (*over) {
        look(s, g, g->text.len, over);
        return GRAFT_OK;
    }
    if (!gr_ids_push(&g->ids, id)) return gr_no_memory(err, g->ids.count * sizeof id);
    gr_buf_clear(&g->text);
    GR_TRY(gr_tokenizer_decode(s->tok, g->ids.ids + first, g->ids.count - first, true, &g->text, err));
    *over = (int64_t)(g->ids.count - first) >= most_tokens(s->o);
    look(s, g, *over ? g->text.len : settled(&g->text), over);
    if (!*over) gr_decode_token(d, id);
    return stopped(s) ? gr_fail(err, GRAFT_INTERRUPTED, "generation stopped") : GRAFT_OK;
}

static graft_status answer(gr_session *s, gr_decode *d, const gr_ids *prompt, bool send, graft_generation *r,
                           graft_error *err) {
    growth g;
    bool over = most_tokens(s->o) == 0;
    graft_status st = growth_init(&g, s, prompt, send, err);
    double start = gr_clock();
    if (st == GRAFT_OK) gr_decode_prompt(d, prompt->ids, (int64_t)prompt->count);
    double middle = gr_clock();
    if (st == GRAFT_OK && stopped(s)) st = gr_fail(err, GRAFT_INTERRUPTED, "generation stopped");
    while (st == GRAFT_OK && !over) st = grow(s, d, &g, &over, err);
    double end = gr_clock();
    r->tokens = (int64_t)(g.ids.count - g.prompt);
    r->prompt_tokens = (int64_t)prompt->count;
    r->prompt_tokens_per_second = (double)prompt->count / (middle - start + 1e-9);
    r->generation_tokens_per_second = (double)r->tokens / (end - middle + 1e-9);
    if (st == GRAFT_OK) r->text = gr_buf_take(&g.text);
    if (st == GRAFT_OK && !r->text) st = gr_no_memory(err, g.text.len);
    growth_free(&g);
    return st;
}

/* The prompt's logits as a NumPy file: f32 [tokens, vocab], little endian. source: NEP 1 (format version 1.0)
 */
static graft_status write_logits(gr_session *s, const gr_ids *prompt, graft_error *err) {
    gr_writer w;
    gr_net *net = &s->rt.net;
    int64_t vocab = s->rt.model->config.vocab, count = (int64_t)prompt->count;
    char header[128];
    memset(header, ' ', sizeof header);
    int n = snprintf(header + 10, sizeof header - 10,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }", (long long)count,
                     (long long)vocab);
    header[10 + n] = ' ';
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10); /* 0x76 = 118 bytes follow the first 10 */
    header[sizeof header - 1] = '\n';
    int64_t tile = gr_min_i64(net->head.tile, 64);
    float *logits = gr_calloc((size_t)tile, (size_t)vocab * sizeof *logits);
    if (!logits) return gr_no_memory(err, (size_t)(tile * vocab) * sizeof *logits);
    graft_status st = gr_writer_begin(&w, s->o->logits, err);
    if (st != GRAFT_OK) {
        free(logits);
        return st;
    }
    st = gr_writer_write(&w, header, sizeof header, err);
    for (int64_t t = 0; st == GRAFT_OK && t < count; t += tile) {
        int64_t rows = gr_min_i64(tile, count - t);
        gr_head_logits(&net->compute, &net->head, logits, net->saved[net->model->config.layers].x, t, rows);
        st = gr_writer_write(&w, logits, (size_t)(rows * vocab) * sizeof(float), err);
    }
    free(logits);
    if (st == GRAFT_OK) return gr_writer_commit(&w, err);
    gr_writer_abort(&w);
    return st;
}

/* Buffers for a prompt of `count` tokens, and a cache for the answer too. */
static graft_status reserve(gr_session *s, gr_decode *d, int64_t count, graft_error *err) {
    gr_net_config config = {.tokens = count, .longest = count};
    uint64_t saved, scratch, available = gr_memory_available();
    GR_TRY(gr_runtime_measure(&s->rt, &config, &saved, &scratch, err));
    if (available && saved + scratch > available) {
        gr_fail(err, GRAFT_RANGE, "a prompt of %lld tokens takes more memory than there is",
                (long long)count);
        gr_expected(err, "at most %llu MB", (unsigned long long)(available >> 20));
        return gr_found(err, "%llu MB", (unsigned long long)((saved + scratch) >> 20));
    }
    GR_TRY(gr_runtime_bind(&s->rt, &config, err));
    return gr_decode_init(d, &s->rt, count + most_tokens(s->o), err);
}

static graft_status run(gr_session *s, graft_generation *result, graft_generation *base, graft_error *err) {
    gr_ids prompt = {0};
    gr_decode d = {0};
    graft_status st = encode_prompt(s, &prompt, err);
    if (st == GRAFT_OK) st = reserve(s, &d, (int64_t)prompt.count, err);
    if (st == GRAFT_OK) st = answer(s, &d, &prompt, true, result, err);
    if (st == GRAFT_OK && s->o->logits)
        st = write_logits(s, &prompt, err); /* the prompt's last layer is still there */
    if (st == GRAFT_OK && base) {
        gr_net_use(&s->rt.net, NULL); /* the adapter switched off: no second model in memory */
        st = answer(s, &d, &prompt, false, base, err);
    }
    gr_decode_free(&d);
    gr_ids_free(&prompt);
    return st;
}

static void note(const graft_hooks *hooks, const char *text) {
    if (hooks && hooks->event)
        hooks->event(hooks->user, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = text});
}

/* Settings that change nothing are said, and no mistake: mlx-lm takes them as well. */
static void note_idle(const graft_options *o, const graft_hooks *hooks) {
    bool filters = (o->top_p > 0 && o->top_p < 1) || o->top_k > 0 || o->min_p > 0;
    if (o->temp <= 0 && filters)
        note(hooks, "top-p, top-k and min-p change nothing at temp 0, which takes the likeliest token");
    bool penalizes = o->repetition_penalty > 0 && o->repetition_penalty != 1;
    if (gr_options_given(o, "repetition-context-size") && !penalizes)
        note(hooks, "repetition-context-size changes nothing without a repetition-penalty");
}

graft_status gr_generate(const char *dir, const graft_options *o, const graft_hooks *hooks,
                         graft_generation *result, graft_generation *base, graft_error *err) {
    gr_session s;
    memset(result, 0, sizeof *result);
    if (base) memset(base, 0, sizeof *base);
    if (o->compare && !o->adapter_path) {
        gr_fail(err, GRAFT_USAGE, "--compare needs an adapter");
        return gr_hint(err, "add --adapter-path DIR");
    }
    GR_TRY(check_prompt(o, err));
    note_idle(o, hooks);
    GR_TRY(gr_session_open(&s, dir, o, hooks, err));
    graft_status st = run(&s, result, o->compare ? base : NULL, err);
    gr_session_close(&s);
    if (st != GRAFT_OK) {
        graft_generation_free(result);
        graft_generation_free(base);
    }
    return st;
}

void graft_generation_free(graft_generation *generation) {
    if (!generation) return;
    free(generation->text);
    memset(generation, 0, sizeof *generation);
}
