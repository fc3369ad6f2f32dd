/* Which tokens of a chat carry loss. */
#include "text/chat_parts.h"

/* Each assistant message is rendered with all that stand before it, and each span is looked for among all
 * tokens, so the work grows with the square of a chat's length: this many steps (some seconds) are the end. A
 * chat of 200 turns and a megabyte takes 12 million. */
#define MASK_STEPS ((uint64_t)100000000)

/* What one row needs on its way: the whole rendering, its tokens and where they begin. */
typedef struct row {
    const gr_chat *chat;
    const gr_chat_row *of;
    json_t *clean;
    gr_jinja_result text;
    gr_ids starts;
    size_t first;  /* of this row's ids in the caller's list */
    uint8_t *mask; /* of this row */
    size_t count;
    uint64_t steps; /* of all renderings so far */
    int8_t *flags;  /* of the messages; NULL: none has any */
    bool endless;
} row;

/* Bytes of the whole rendering. */
typedef struct span {
    size_t start, end;
} span;

static size_t common_prefix(const char *a, size_t na, const char *b, size_t nb) {
    size_t n = 0;
    while (n < na && n < nb && a[n] == b[n]) n++;
    return n;
}

/* Gives every token that covers a byte of [start, end) that mark: transformers' char_to_token of both ends.
 */
static void mark_bytes(row *r, size_t start, size_t end, uint8_t mark) {
    if (start >= end) return;
    size_t stop = r->text.text.len; /* where the token behind begins */
    for (size_t i = r->count; i-- > 0;) {
        size_t begin = r->starts.ids[i] < 0 ? 0 : (size_t)r->starts.ids[i];
        size_t after = stop;
        if (i + 1 < r->count && (size_t)r->starts.ids[i + 1] > begin)
            after = stop = (size_t)r->starts.ids[i + 1];
        if (begin < end && after > start) r->mask[i] = mark;
    }
}

/* Behind the last byte that came from message k, or `from` if none did. */
static size_t last_byte_of(const gr_jinja_result *text, size_t k, size_t from) {
    uint8_t tag = (uint8_t)(1 + k % GR_JINJA_TAGS);
    for (size_t i = text->text.len; text->from_data && i > from; i--)
        if (text->from_data[i - 1] == tag) return i;
    return from;
}

/* End of message k in the whole rendering. Usually the rendering up to k is a prefix of it; a template that
 * renders earlier turns otherwise (Qwen3 drops their thinking) still puts the same text behind the message.
 */
static size_t message_end(const row *r, size_t k, size_t start, const gr_jinja_result *upto) {
    const gr_buf *full = &r->text.text, *part = &upto->text;
    size_t common = common_prefix(part->data, part->len, full->data, full->len);
    if (common == part->len) return part->len;
    size_t in_full = last_byte_of(&r->text, k, start);
    size_t in_part = last_byte_of(upto, k, start < part->len ? start : part->len);
    return in_full + common_prefix(part->data + in_part, part->len - in_part, full->data + in_full,
                                   full->len - in_full);
}

/* Before the first byte that came from message k. */
static size_t first_byte_of(const gr_jinja_result *text, size_t k) {
    const uint8_t *hit =
        text->from_data ? memchr(text->from_data, (int)(1 + k % GR_JINJA_TAGS), text->text.len) : NULL;
    return hit ? (size_t)(hit - text->from_data) : text->text.len;
}

/* Behind the last byte before `limit` that came from message k; SIZE_MAX: none did. */
static size_t behind_message(const gr_jinja_result *text, size_t k, size_t limit) {
    uint8_t tag = (uint8_t)(1 + k % GR_JINJA_TAGS);
    for (size_t i = gr_min_size(limit, text->text.len); text->from_data && i > 0; i--)
        if (text->from_data[i - 1] == tag) return i;
    return SIZE_MAX;
}

/* The first byte at or after `start` that came from message k, behind some of message k - 1 if any is:
 * *before receives where that ends, or SIZE_MAX. The length of the text: there is none. */
static size_t first_after(const gr_jinja_result *text, size_t k, size_t start, size_t *before) {
    uint8_t tag = (uint8_t)(1 + k % GR_JINJA_TAGS), last = (uint8_t)(1 + (k - 1) % GR_JINJA_TAGS);
    size_t any = text->text.len;
    *before = SIZE_MAX;
    for (size_t i = 0; i < text->text.len; i++) {
        if (text->from_data[i] == last) *before = i + 1;
        if (text->from_data[i] != tag || i < start) continue;
        if (*before != SIZE_MAX) return i;
        if (any == text->text.len) any = i;
    }
    *before = SIZE_MAX;
    return any;
}

/* Where message k begins in the whole rendering: behind its prompt, which usually is a prefix. A template
 * that renders earlier turns otherwise (Mistral's put the system's text before the last user's) still puts
 * the same between the message before and this one; and what another message says is never part of this one.
 */
static size_t message_start(const row *r, size_t k, const gr_jinja_result *prompt) {
    const gr_buf *full = &r->text.text, *part = &prompt->text;
    size_t start = common_prefix(part->data, part->len, full->data, full->len), in_full;
    if (start == part->len || k == 0 || !r->text.from_data) return start;
    size_t first = first_after(&r->text, k, start, &in_full),
           in_part = behind_message(prompt, k - 1, part->len);
    if (first == full->len) return start;
    if (in_full != SIZE_MAX && in_part != SIZE_MAX)
        start = in_full + common_prefix(part->data + in_part, part->len - in_part, full->data + in_full,
                                        full->len - in_full);
    for (size_t i = first; i > start; i--)
        if (r->text.from_data[i - 1]) return i;
    return start;
}

/* Counts the work for one span, and what it took to find it. */
static graft_status spend(row *r, uint64_t steps, graft_error *err) {
    r->steps += steps + r->count / 8;
    if (r->steps <= MASK_STEPS) return GRAFT_OK;
    r->endless = true;
    gr_fail(err, GRAFT_RANGE, "the chat is too long to find what the assistant says");
    gr_found(err, "%zu messages, %zu bytes", json_array_size(r->clean), r->text.text.len);
    return gr_hint(err, "cut it into several rows, or train on all tokens");
}

static bool is_assistant(const json_t *message) {
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && strcmp(role, "assistant") == 0;
}

/* Where message k stands, an assistant's without what prompts for it. */
static graft_status find_message(span *found, row *r, size_t k, graft_error *err) {
    gr_jinja_result prompt = {0}, upto = {0};
    const gr_buf *full = &r->text.text;
    bool asked = is_assistant(json_array_get(r->clean, k));
    graft_error ignored = {0}; /* many templates cannot render a chat without messages */
    graft_status st = gr_chat_render_part(r->chat, r->of, r->clean, k, asked, &prompt, k ? err : &ignored);
    bool empty_fails = k == 0 && st == GRAFT_CORRUPT;
    if (empty_fails) st = GRAFT_OK;
    if (st != GRAFT_OK && k == 0) gr_fail(err, st, "%s", ignored.what);
    if (st == GRAFT_OK) st = gr_chat_render_part(r->chat, r->of, r->clean, k + 1, false, &upto, err);
    if (st == GRAFT_OK) {
        found->start = empty_fails ? first_byte_of(&r->text, 0) : message_start(r, k, &prompt);
        found->end = message_end(r, k, found->start, &upto);
    }
    uint64_t steps = prompt.steps + upto.steps + full->len / 8;
    gr_jinja_result_free(&prompt);
    gr_jinja_result_free(&upto);
    return st == GRAFT_OK ? spend(r, steps, err) : st;
}

static graft_status mask_assistant(row *r, graft_error *err) {
    if (gr_chat_marks_generation(r->chat, r->of->tools)) {
        for (size_t i = 0; i < r->text.ngeneration; i++) {
            mark_bytes(r, r->text.generation[i].start, r->text.generation[i].end, 1);
            GR_TRY(spend(r, 0, err));
        }
        return GRAFT_OK;
    }
    for (size_t k = 0; k < json_array_size(r->clean); k++) {
        span found;
        if (!is_assistant(json_array_get(r->clean, k))) continue;
        GR_TRY(find_message(&found, r, k, err));
        mark_bytes(r, found.start, found.end, 1);
    }
    return GRAFT_OK;
}

/* The ids of the first `count` messages alone. */
static graft_status encode_part(gr_ids *ids, const row *r, size_t count, bool prompt, graft_error *err) {
    gr_jinja_result text;
    GR_TRY(gr_chat_render_part(r->chat, r->of, r->clean, count, prompt, &text, err));
    graft_status st = gr_chat_tokens(r->chat, &text, ids, NULL, err);
    gr_jinja_result_free(&text);
    return st;
}

/* mlx-lm's offset: the number of tokens of all but the last message. */
static graft_status mask_last(row *r, graft_error *err) {
    size_t n = json_array_size(r->clean);
    if (!n) return gr_fail(err, GRAFT_CORRUPT, "the chat has no messages");
    gr_ids ids = {0};
    graft_status st = encode_part(&ids, r, n - 1, is_assistant(json_array_get(r->clean, n - 1)), err);
    for (size_t i = ids.count; st == GRAFT_OK && i < r->count; i++) r->mask[i] = 1;
    gr_ids_free(&ids);
    return st;
}

/* TRL's completion: from where the tokens differ from those of what is asked. */
static graft_status mask_completion(row *r, const int32_t *own, graft_error *err) {
    gr_ids ids = {0};
    graft_status st = encode_part(&ids, r, r->of->asked, true, err);
    size_t from = 0;
    while (from < ids.count && from < r->count && ids.ids[from] == own[from]) from++;
    if (st == GRAFT_OK && r->count) memset(r->mask + from, 1, r->count - from);
    gr_ids_free(&ids);
    return st;
}

/* What the template marks as generated inside a message, or all of it where it marks nothing. */
static void mark_generated(row *r, const span *message) {
    bool any = false;
    for (size_t i = 0; i < r->text.ngeneration; i++) {
        const gr_span *own = &r->text.generation[i];
        size_t start = own->start > message->start ? own->start : message->start;
        size_t end = gr_min_size(message->end, own->end);
        mark_bytes(r, start, end, 1);
        any |= start < end;
    }
    if (!any) mark_bytes(r, message->start, message->end, 1);
}

/* Messages with a flag of this kind, whatever train_on says of them. */
static graft_status apply_flags(row *r, int8_t kind, graft_error *err) {
    for (size_t k = 0; r->flags && k < json_array_size(r->clean); k++) {
        span found;
        if (r->flags[k] != kind) continue;
        GR_TRY(find_message(&found, r, k, err));
        if (found.start >= found.end) {
            gr_fail(err, GRAFT_UNSUPPORTED,
                    "a message that says whether to train on it leaves no trace in the rendering");
            gr_found(err, "message %zu", k + 1);
            return gr_hint(err,
                           "the chat template drops it: take \"train\" or \"weight\" out of the message");
        }
        if (kind == GR_FLAG_OFF)
            mark_bytes(r, found.start, found.end, 0);
        else
            mark_generated(r, &found);
    }
    return GRAFT_OK;
}

static graft_status fill_mask(row *r, gr_train_on train_on, const int32_t *ids, graft_error *err) {
    graft_status st = GRAFT_OK;
    if (train_on == GR_TRAIN_ALL)
        memset(r->mask, 1, r->count);
    else if (train_on == GR_TRAIN_ASSISTANT)
        st = mask_assistant(r, err);
    else if (train_on == GR_TRAIN_COMPLETION && r->of->asked)
        st = mask_completion(r, ids, err);
    else
        st = mask_last(r, err);
    if (st == GRAFT_OK) st = apply_flags(r, GR_FLAG_OFF, err);
    if (st == GRAFT_OK) st = apply_flags(r, GR_FLAG_ON, err);
    if (r->count) r->mask[0] = 0;
    return st;
}

graft_status gr_chat_encode(const gr_chat *chat, const gr_chat_row *of, gr_train_on train_on,
                            gr_mask_bounds *bounds, gr_ids *ids, uint8_t **mask, graft_error *err) {
    row r = {.chat = chat, .of = of, .first = ids->count};
    graft_status st;
    GR_GOTO(gr_chat_clean(of->messages, &r.clean, err));
    GR_GOTO(gr_chat_read_flags(&r.flags, of->messages, err));
    GR_GOTO(gr_chat_render_part(chat, of, r.clean, json_array_size(r.clean), false, &r.text, err));
    GR_GOTO(gr_chat_tokens(chat, &r.text, ids, &r.starts, err));
    r.count = ids->count - r.first;
    uint8_t *grown = gr_realloc_array(*mask, ids->count, 1);
    if (!grown) {
        st = gr_no_memory(err, ids->count);
        goto done;
    }
    *mask = grown;
    r.mask = grown + r.first;
    memset(r.mask, 0, r.count);
    if (bounds && bounds->most > 0 && r.count > (size_t)bounds->most) goto done;
    st = fill_mask(&r, train_on, ids->ids + r.first, err);
    if (r.endless && bounds && bounds->forgive) {
        gr_error_clear(err);
        bounds->endless = true;
        st = GRAFT_OK;
    }
done:
    free(r.flags);
    json_decref(r.clean);
    gr_jinja_result_free(&r.text);
    gr_ids_free(&r.starts);
    return st;
}
