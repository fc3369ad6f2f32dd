#include "base/os.h"
#include "infer/sample.h"
#include "infer/session.h"
#include <jansson.h>
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

/* Sends what is new and complete: a character cut in two waits for its rest. */
static void stream(const gr_session *s, const char *text, size_t len, size_t *sent) {
    const graft_hooks *hooks = s->hooks;
    size_t end = len;
    while (end > *sent && end + 4 > len && ((unsigned char)text[end - 1] & 0xc0) == 0x80) end--;
    if (end > *sent && ((unsigned char)text[end - 1] & 0x80))
        end--; /* a lead byte: decide when the rest is there */
    if (len >= 3 && memcmp(text + len - 3, "\xef\xbf\xbd", 3) != 0)
        end = len; /* nothing was cut */
    else if (len < 3)
        end = len;
    if (end <= *sent || !hooks || !hooks->event) return;
    hooks->event(
        hooks->user,
        &(graft_event){.kind = GRAFT_EVENT_TEXT, .text = text + *sent, .done = (int64_t)(end - *sent)});
    *sent = end;
}

static graft_status answer(gr_session *s, gr_decode *d, const gr_ids *prompt, bool send, graft_generation *r,
                           graft_error *err) {
    const graft_options *o = s->o;
    int64_t vocab = s->rt.model->config.vocab, most = most_tokens(o);
    gr_sampler sampler;
    gr_ids out = {0};
    gr_buf text = {0};
    size_t sent = 0;
    GR_TRY(gr_sampler_init(&sampler, o->temp, o->top_p, o->min_p, o->top_k, o->seed, vocab, err));
    double start = gr_clock();
    gr_decode_prompt(d, prompt->ids, (int64_t)prompt->count);
    double middle = gr_clock();
    graft_status st = GRAFT_OK;
    if (stopped(s)) st = gr_fail(err, GRAFT_INTERRUPTED, "generation stopped");
    while (st == GRAFT_OK && (int64_t)out.count < most) {
        int32_t id = gr_sample(&sampler, d->logits, vocab);
        if (gr_tokenizer_is_stop(s->tok, id)) break;
        if (!gr_ids_push(&out, id)) st = gr_no_memory(err, out.count * sizeof id);
        gr_buf_clear(&text);
        if (st == GRAFT_OK) st = gr_tokenizer_decode(s->tok, out.ids, out.count, true, &text, err);
        if (st == GRAFT_OK && send && text.data) stream(s, text.data, text.len, &sent);
        if (st == GRAFT_OK && (int64_t)out.count < most) gr_decode_token(d, id);
        if (st == GRAFT_OK && stopped(s)) st = gr_fail(err, GRAFT_INTERRUPTED, "generation stopped");
    }
    double end = gr_clock();
    r->tokens = (int64_t)out.count;
    r->prompt_tokens = (int64_t)prompt->count;
    r->prompt_tokens_per_second = (double)prompt->count / (middle - start + 1e-9);
    r->generation_tokens_per_second = (double)out.count / (end - middle + 1e-9);
    r->text = gr_buf_take(&text);
    if (st == GRAFT_OK && !r->text) st = gr_no_memory(err, text.len);
    gr_ids_free(&out);
    gr_sampler_free(&sampler);
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
    GR_TRY(gr_writer_begin(&w, s->o->logits, err));
    graft_status st = gr_writer_write(&w, header, sizeof header, err);
    for (int64_t t = 0; st == GRAFT_OK && t < count; t += net->head.tile) {
        int64_t rows = gr_min_i64(net->head.tile, count - t);
        gr_head_logits(&net->compute, &net->head, net->saved[net->model->config.layers].x, t, rows);
        st = gr_writer_write(&w, net->head.logits, (size_t)(rows * vocab) * sizeof(float), err);
    }
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
