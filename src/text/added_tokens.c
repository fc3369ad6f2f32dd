/* Added tokens: found in the text before anything else cuts it, leftmost first and longest at one place. */
#include "text/token_parts.h"

/* The slot of the content, or the free one where it belongs; nslots > 0. */
static size_t slot_of(const gr_added *added, const char *content, size_t len) {
    size_t mask = added->nslots - 1, slot = (size_t)gr_hash_bytes(added->seed, content, len) & mask;
    while (added->slots[slot]) {
        const gr_added_token *t = &added->tokens[added->slots[slot] - 1];
        if (t->len == len && !memcmp(t->content, content, len)) break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

static gr_added_token *find(const gr_added *added, const char *content, size_t len) {
    uint32_t entry = added->nslots ? added->slots[slot_of(added, content, len)] : 0;
    return entry ? &added->tokens[entry - 1] : NULL;
}

const gr_added_token *gr_added_by_content(const gr_added *added, const char *content, size_t len) {
    return find(added, content, len);
}

/* Slots for one more token: at most half of them are taken. */
static bool grow_slots(gr_added *added) {
    if ((added->count + 1) * 2 <= added->nslots) return true;
    size_t more = added->nslots ? added->nslots * 2 : 64;
    uint32_t *slots = gr_calloc(more, sizeof *slots);
    if (!slots) return false;
    free(added->slots);
    added->slots = slots;
    added->nslots = more;
    added->seed = gr_hash_seed(slots);
    for (size_t i = 0; i < added->count; i++)
        slots[slot_of(added, added->tokens[i].content, added->tokens[i].len)] = (uint32_t)i + 1;
    return true;
}

/* The id that the tokenizers package gives: the known one, else the next beyond everything. */
static int32_t new_id(const gr_added *added, int32_t vocab_count) {
    return added->next_id > vocab_count ? added->next_id : vocab_count;
}

static graft_status check_limits(const gr_added *added, const gr_added_token *token, graft_error *err) {
    if (token->len > GR_MAX_ADDED_BYTES) {
        gr_fail(err, GRAFT_RANGE, "an added token of the tokenizer is too long");
        gr_expected(err, "at most %d bytes", GR_MAX_ADDED_BYTES);
        return gr_found(err, "%zu bytes, %.40s...", token->len, token->content);
    }
    if (added->count < GR_MAX_ADDED) return GRAFT_OK;
    return gr_fail(err, GRAFT_RANGE, "the tokenizer has more than %d added tokens", GR_MAX_ADDED);
}

graft_status gr_added_put(gr_added *added, const gr_added_token *token, int32_t model_id, int32_t vocab_count,
                          graft_error *err) {
    if (!token->len) return GRAFT_OK;
    gr_added_token *old = find(added, token->content, token->len);
    if (old) {
        char *content = old->content;
        int32_t id = old->id;
        bool special = old->special || token->special;
        *old = *token;
        old->content = content, old->id = id, old->special = special;
        return GRAFT_OK;
    }
    GR_TRY(check_limits(added, token, err));
    if (!gr_grow((void **)&added->tokens, &added->cap, added->count, sizeof *added->tokens) ||
        !grow_slots(added))
        return gr_no_memory(err, added->cap * 2 * sizeof *added->tokens);
    gr_added_token copy = *token;
    copy.id = model_id >= 0 ? model_id : new_id(added, vocab_count);
    if (copy.id >= GR_MAX_TOKEN_ID) return gr_fail(err, GRAFT_RANGE, "too many added tokens");
    copy.content = gr_strndup(token->content, token->len);
    if (!copy.content) return gr_no_memory(err, token->len + 1);
    if (copy.id >= added->next_id) added->next_id = copy.id + 1;
    added->tokens[added->count] = copy;
    added->slots[slot_of(added, copy.content, copy.len)] = (uint32_t)++added->count;
    return GRAFT_OK;
}

static int match_compare(const void *pa, const void *pb) {
    const gr_added_match *a = pa, *b = pb;
    size_t n = a->len < b->len ? a->len : b->len;
    int order = n ? memcmp(a->text, b->text, n) : 0;
    if (order) return order;
    if (a->len != b->len) return a->len < b->len ? -1 : 1;
    return a->token < b->token ? -1
                               : a->token > b->token; /* the token added first stands for equal spellings */
}

/* `spans` are those of all tokens: what a normalizer may take grows with their text alone. */
static graft_status spelling(const gr_added_token *token, const gr_normalizer *normalizer,
                             gr_match_spans *spans, gr_added_match *match, graft_error *err) {
    graft_status st;
    gr_ntext text = {0}, scratch = {0};
    gr_ntext_add(&text, token->content, token->len, 0);
    if (text.failed) GR_GOTO(gr_no_memory(err, token->len));
    if (token->normalized) GR_GOTO(gr_normalizer_run(normalizer, &text, &scratch, spans, err));
    match->len = text.len;
    match->text = gr_strndup(text.len ? text.data : "", text.len);
    st = match->text ? GRAFT_OK : gr_no_memory(err, text.len);
done:
    gr_ntext_free(&text);
    gr_ntext_free(&scratch);
    return st;
}

/* Sorted for `longest`. */
static void set_finish(gr_added_set *set) {
    if (set->count) qsort(set->items, set->count, sizeof *set->items, match_compare);
    for (size_t i = 0; i < set->count; i++) set->begins[(uint8_t)set->items[i].text[0]] = true;
}

static graft_status list_specials(gr_added *added, graft_error *err) {
    gr_added_set *set = &added->specials;
    for (size_t i = 0; i < added->count; i++) {
        const gr_added_token *t = &added->tokens[i];
        if (!t->special) continue;
        char *text = gr_strndup(t->content, t->len);
        if (!text) return gr_no_memory(err, t->len);
        set->items[set->count++] = (gr_added_match){text, t->len, (uint32_t)i};
    }
    set_finish(set);
    return GRAFT_OK;
}

graft_status gr_added_finish(gr_added *added, const gr_normalizer *normalizer, graft_error *err) {
    added->raw.items = gr_calloc(added->count, sizeof *added->raw.items);
    added->normalized.items = gr_calloc(added->count, sizeof *added->normalized.items);
    added->specials.items = gr_calloc(added->count, sizeof *added->specials.items);
    added->limit = added->next_id;
    added->by_id = gr_calloc((size_t)added->limit, sizeof *added->by_id);
    if (!added->raw.items || !added->normalized.items || !added->specials.items || !added->by_id)
        return gr_no_memory(err, added->count);
    for (int32_t i = 0; i < added->limit; i++) added->by_id[i] = -1;
    gr_match_spans spans = {0};
    graft_status st = GRAFT_OK;
    for (size_t i = 0; i < added->count && st == GRAFT_OK; i++) {
        added->by_id[added->tokens[i].id] = (int32_t)i;
        gr_added_set *set = added->tokens[i].normalized ? &added->normalized : &added->raw;
        gr_added_token *token = &added->tokens[i];
        gr_added_match match = {.token = (uint32_t)i};
        st = spelling(token, normalizer, &spans, &match, err);
        if (st != GRAFT_OK) break;
        token->shown = match.len ? match.text : token->content;
        token->shown_len = match.len ? match.len : token->len;
        if (match.len)
            set->items[set->count++] = match;
        else
            free(match.text);
    }
    gr_match_spans_free(&spans);
    if (st != GRAFT_OK) return st;
    for (size_t i = 0; i < added->count;
         i++) { /* special is what a decoded spelling is, not what the token is */
        gr_added_token *token = &added->tokens[i];
        bool same = token->shown_len == token->len && !memcmp(token->shown, token->content, token->len);
        const gr_added_token *seen =
            same ? token : gr_added_by_content(added, token->shown, token->shown_len);
        token->skipped = seen && seen->special;
    }
    set_finish(&added->raw);
    set_finish(&added->normalized);
    return list_specials(added, err);
}

const gr_added_token *gr_added_by_id(const gr_added *added, int32_t id) {
    if (id < 0 || id >= added->limit || added->by_id[id] < 0) return NULL;
    return &added->tokens[added->by_id[id]];
}

static void set_free(gr_added_set *set) {
    for (size_t i = 0; i < set->count; i++) free(set->items[i].text);
    free(set->items);
}

void gr_added_free(gr_added *added) {
    for (size_t i = 0; i < added->count; i++) free(added->tokens[i].content);
    free(added->tokens);
    free(added->by_id);
    free(added->slots);
    set_free(&added->raw);
    set_free(&added->normalized);
    set_free(&added->specials);
    memset(added, 0, sizeof *added);
}

/* First item of low..high whose byte at `depth` is at least c; all of them are longer than depth and agree
 * before it. */
static size_t lower_bound(const gr_added_match *items, size_t low, size_t high, size_t depth, int c) {
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uint8_t)items[middle].text[depth] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The sorted list serves as a trie: each byte narrows a range of it. */
const gr_added_match *gr_added_longest(const gr_added_set *set, const char *s, size_t n) {
    const gr_added_match *best = NULL;
    if (!n || !set->begins[(uint8_t)s[0]]) return NULL;
    size_t low = 0, high = set->count;
    for (size_t depth = 0; low < high; depth++) {
        if (set->items[low].len == depth) best = &set->items[low];
        while (low < high && set->items[low].len == depth) low++;
        if (depth == n) break;
        int c = (uint8_t)s[depth];
        low = lower_bound(set->items, low, high, depth, c);
        high = lower_bound(set->items, low, high, depth, c + 1);
    }
    return best;
}

static bool word_before(const char *s, size_t at) {
    size_t i = at;
    int32_t code;
    while (i && ((uint8_t)s[i - 1] & 0xc0) == 0x80) i--;
    if (!i) return false;
    gr_utf8_get(s + i - 1, at - i + 1, &code);
    return gr_char_is_word(code);
}

static bool word_after(const char *s, size_t at, size_t n) {
    int32_t code;
    if (at >= n) return false;
    gr_utf8_get(s + at, n - at, &code);
    return gr_char_is_word(code);
}

static size_t spaces_after(const char *s, size_t at, size_t n) {
    int32_t code;
    while (at < n) {
        size_t len = (size_t)gr_utf8_get(s + at, n - at, &code);
        if (!gr_char_is_space(code)) break;
        at += len;
    }
    return at;
}

/* Where the spaces before `at` begin, not before `least`, which begins a character. */
static size_t spaces_before(const char *s, size_t least, size_t at) {
    while (at > least) {
        size_t i = at - 1;
        int32_t code;
        while (i && ((uint8_t)s[i] & 0xc0) == 0x80) i--;
        gr_utf8_get(s + i, at - i, &code);
        if (!gr_char_is_space(code)) break;
        at = i;
    }
    return at;
}

/* The literal range that bytes first..last of the caller's text touch; NULL if none. */
static const gr_text_range *literal_at(const gr_added_rule *rule, size_t first, size_t last) {
    size_t low = 0, high = rule->nliteral;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rule->literal[middle].end <= first)
            low = middle + 1;
        else
            high = middle;
    }
    return low < rule->nliteral && rule->literal[low].start <= last && rule->literal[low].end > first
               ? &rule->literal[low]
               : NULL;
}

void gr_added_split(const gr_added *added, const gr_added_set *set, const gr_added_rule *rule,
                    const gr_ntext *text, size_t start, size_t end, gr_pieces *out) {
    if (start >= end) return;
    const char *s = text->data + start;
    size_t n = end - start, done = 0; /* done: end of what has been cut, relative to s */
    size_t run = 0, run_end = 0;      /* spaces that were seen already, for tokens that are spaces */
    const gr_added_match *m;
    for (size_t i = 0, next; i < n && set->count; i = next) {
        next = i + 1;
        if (!(m = gr_added_longest(set, s + i, n - i))) continue;
        const gr_added_token *token = &added->tokens[m->token];
        size_t first = i, last = i + m->len;
        next = last;
        if (token->special && !rule->parse_special) continue;
        if (token->special && literal_at(rule, text->origin[start + first], text->origin[start + last - 1])) {
            next = i + 1; /* a special token of the template may begin inside the rejected spelling */
            continue;
        }
        if (token->single_word && (word_before(s, first) || word_after(s, last, n))) continue;
        if (token->lstrip) first = first < done ? done : spaces_before(s, done, first);
        if (token->rstrip) {
            if (last < run || last > run_end) run_end = spaces_after(s, last, n), run = last;
            last = run_end;
        }
        if (first > last) first = last; /* inside the spaces that the token before took */
        if (first > done) gr_pieces_add(out, start + done, start + first, -1);
        gr_pieces_add(out, start + first, start + last, token->id);
        done = last;
    }
    if (done < n) gr_pieces_add(out, start + done, end, -1);
}
