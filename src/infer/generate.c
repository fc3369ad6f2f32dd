#include "base/hooks.h"
#include "base/os.h"
#include "files/json_read.h"
#include "infer/answer.h"
#include <stdio.h>

static bool stopped(const gr_session *s) {
    return gr_stopped(s->hooks);
}

static graft_status check_utf8(const char *option, const char *text, graft_error *err) {
    return !text || gr_json_utf8(text) ? GRAFT_OK
                                       : gr_fail(err, GRAFT_USAGE, "%s is not valid UTF-8", option);
}

/* What the command line asks for must be there before a model is opened, and mean something. */
static graft_status check_prompt(const graft_options *o, graft_error *err) {
    if (!o->prompt) {
        gr_fail(err, GRAFT_USAGE, "--prompt is missing");
        return gr_hint(err, "--prompt \"Define HOPE.\"");
    }
    if (o->system_prompt && o->ignore_chat_template) {
        gr_fail(err, GRAFT_USAGE, "--system-prompt needs the chat template that is to be ignored");
        return gr_hint(err, "leave one of them out");
    }
    gr_stops stops;
    GR_TRY(gr_stops_init(&stops, o->stop, err));
    gr_stops_free(&stops);
    GR_TRY(check_utf8("--prompt", o->prompt, err));
    return check_utf8("--system-prompt", o->system_prompt, err);
}

static graft_status answer(gr_session *s, gr_decode *d, const gr_ids *prompt, bool send, graft_generation *r,
                           graft_error *err) {
    gr_answer g;
    int32_t id;
    bool over = gr_answer_most(s->o) == 0;
    graft_status st = gr_answer_init(&g, s, prompt, send, err);
    double start = gr_clock();
    if (st == GRAFT_OK) gr_decode_prompt(d, prompt->ids, (int64_t)prompt->count);
    double middle = gr_clock();
    if (st == GRAFT_OK && stopped(s)) st = gr_fail(err, GRAFT_INTERRUPTED, "generation stopped");
    while (st == GRAFT_OK && !over) {
        st = gr_answer_next(&g, s, d->logits, &id, &over, err);
        if (st == GRAFT_OK && !over) gr_decode_token(d, id);
        if (st == GRAFT_OK && stopped(s)) st = gr_fail(err, GRAFT_INTERRUPTED, "generation stopped");
    }
    double end = gr_clock();
    r->tokens = gr_answer_tokens(&g);
    r->prompt_tokens = (int64_t)prompt->count;
    r->prompt_tokens_per_second = (double)prompt->count / (middle - start + 1e-9);
    r->generation_tokens_per_second = (double)r->tokens / (end - middle + 1e-9);
    if (st == GRAFT_OK) st = gr_answer_text(&g, &r->text, err);
    gr_answer_free(&g);
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
    gr_remove_temps_of(s->o->logits);
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
    uint64_t saved, scratch;
    GR_TRY(gr_runtime_measure(&s->rt, &config, &saved, &scratch, err));
    GR_TRY(gr_memory_fits(saved + scratch, gr_memory_available(), err, "a prompt of %lld tokens takes",
                          (long long)count));
    GR_TRY(gr_runtime_bind(&s->rt, &config, err));
    return gr_decode_init(d, &s->rt, count + gr_answer_most(s->o), false, err);
}

static graft_status run(gr_session *s, graft_generation *result, graft_generation *base, graft_error *err) {
    gr_ids prompt = {0};
    gr_decode d = {0};
    graft_status st = gr_prompt_encode(s, s->o->prompt, &prompt, err);
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
    gr_note(hooks, text);
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
