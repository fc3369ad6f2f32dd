/* Model Unigram: of all ways to cut a piece of text into tokens, the one whose scores add up to the most
 * (Viterbi, arXiv 1804.10959). As in the tokenizers package, except that special tokens which a text spells
 * are not found where they are meant as text: there we do as sentencepiece does. */
#include "text/token_parts.h"

/* What one unknown character costs beyond the worst token. */
#define UNKNOWN_PENALTY 10.0
/* Every byte of a text looks at most so many ahead. Trainers stop at 16 characters; 93 bytes are the most
 * known. */
#define MAX_PIECE_BYTES 512

/* The tokens as a tree of bytes: children of a node stand side by side, sorted. */
typedef struct tree_node {
    uint32_t child; /* the first */
    int32_t id;     /* of the token that ends here; -1 none */
    uint16_t children;
    uint8_t byte;
} tree_node;
struct gr_unigram {
    double *scores; /* by id */
    double unknown; /* score of an unknown character */
    tree_node *nodes;
    size_t count, cap;
};

typedef struct token_text {
    const char *text;
    uint32_t len;
} token_text;
typedef struct token_range { /* of the sorted tokens: those that pass through a node */
    uint32_t low, high;
} token_range;
typedef struct builder {
    const gr_vocab *vocab;
    token_text *sorted;
    token_range *ranges;
    size_t ranges_cap, count;
} builder;

static int by_bytes(const void *pa, const void *pb) {
    const token_text *a = pa, *b = pb;
    int order = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

static bool add_node(gr_unigram *u, builder *b, uint8_t byte, uint32_t low, uint32_t high) {
    if (!gr_grow((void **)&u->nodes, &u->cap, u->count, sizeof *u->nodes) ||
        !gr_grow((void **)&b->ranges, &b->ranges_cap, u->count, sizeof *b->ranges))
        return false;
    b->ranges[u->count] = (token_range){low, high};
    u->nodes[u->count++] = (tree_node){0, -1, 0, byte};
    return true;
}

/* Level by level: the tokens of a node that go on are cut where their next byte changes. */
static bool grow_tree(gr_unigram *u, builder *b) {
    size_t depth = 0, level_end = 1;
    if (!add_node(u, b, 0, 0, (uint32_t)b->count)) return false;
    for (size_t i = 0; i < u->count; i++) {
        if (i == level_end) level_end = u->count, depth++;
        token_range r = b->ranges[i];
        u->nodes[i].child = (uint32_t)u->count;
        for (; r.low < r.high && b->sorted[r.low].len == depth; r.low++)
            u->nodes[i].id = gr_vocab_id(b->vocab, b->sorted[r.low].text, depth);
        for (uint32_t next; r.low < r.high; r.low = next) {
            char byte = b->sorted[r.low].text[depth];
            for (next = r.low + 1; next < r.high && b->sorted[next].text[depth] == byte;) next++;
            if (!add_node(u, b, (uint8_t)byte, r.low, next)) return false;
            u->nodes[i].children++;
        }
    }
    return true;
}

static graft_status check_length(const gr_vocab *vocab, const gr_vocab_entry *e, graft_error *err) {
    if (e->len <= MAX_PIECE_BYTES) return GRAFT_OK;
    gr_fail(err, GRAFT_RANGE, "a token of the tokenizer's Unigram model is too long");
    gr_expected(err, "at most %d bytes", MAX_PIECE_BYTES);
    return gr_found(err, "%u bytes, %.40s...", e->len, vocab->bytes.data + e->offset);
}

graft_status gr_unigram_grow(gr_unigram *u, const gr_vocab *vocab, const gr_added *added, graft_error *err) {
    builder b = {.vocab = vocab, .sorted = gr_calloc(vocab->count, sizeof *b.sorted)};
    graft_status st = b.sorted ? GRAFT_OK : gr_no_memory(err, vocab->count * sizeof *b.sorted);
    for (size_t i = 0; i < vocab->count && !st; i++) {
        const gr_vocab_entry *e = &vocab->entries[i];
        const char *text = vocab->bytes.data + e->offset;
        const gr_added_token *known = gr_added_by_content(added, text, e->len);
        st = check_length(vocab, e, err);
        if (e->len && !(known && known->special)) b.sorted[b.count++] = (token_text){text, e->len};
    }
    if (!st && b.count) qsort(b.sorted, b.count, sizeof *b.sorted, by_bytes);
    if (!st && !grow_tree(u, &b)) st = gr_no_memory(err, u->cap * 2 * sizeof *u->nodes);
    free(b.sorted);
    free(b.ranges);
    return st;
}

graft_status gr_unigram_make(gr_unigram **unigram, const gr_vocab *vocab, double *scores, graft_error *err) {
    gr_unigram *u = gr_calloc(1, sizeof *u);
    *unigram = u;
    if (!u) {
        free(scores);
        return gr_no_memory(err, sizeof *u);
    }
    u->scores = scores;
    u->unknown = vocab->count ? scores[0] : 0;
    for (size_t i = 1; i < vocab->count; i++)
        if (scores[i] < u->unknown) u->unknown = scores[i];
    u->unknown -= UNKNOWN_PENALTY;
    return GRAFT_OK;
}

double gr_unigram_score(const gr_unigram *unigram, int32_t id) {
    return unigram->scores[id];
}

void gr_unigram_free(gr_unigram *unigram) {
    if (!unigram) return;
    free(unigram->scores);
    free(unigram->nodes);
    free(unigram);
}

static const tree_node *child_of(const gr_unigram *u, const tree_node *node, uint8_t byte) {
    size_t low = node->child, high = low + node->children;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (u->nodes[middle].byte < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low < (size_t)node->child + node->children && u->nodes[low].byte == byte ? &u->nodes[low] : NULL;
}

static void offer(gr_unigram_step *to, double score, size_t start, int32_t id) {
    if (to->id >= 0 && score <= to->score) return;
    *to = (gr_unigram_step){score, (uint32_t)start, id};
}

/* The best way to every place; unknown tokens have the id `unk` of the caller, which may be none. */
static void forward(const gr_unigram *u, const char *s, size_t n, int32_t unk, gr_unigram_step *best) {
    for (size_t i = 0; i <= n; i++) best[i] = (gr_unigram_step){0, 0, -1};
    for (size_t at = 0, len; at < n; at += len) {
        int32_t code;
        bool alone = false; /* is there a token of just this character? */
        double here = best[at].score;
        len = (size_t)gr_utf8_get(s + at, n - at, &code);
        const tree_node *node = u->nodes;
        for (size_t end = at; end < n && (node = child_of(u, node, (uint8_t)s[end]));) {
            end++;
            if (node->id < 0) continue;
            offer(&best[end], here + u->scores[node->id], at, node->id);
            alone = alone || end - at == len;
        }
        if (!alone) offer(&best[at + len], here + u->unknown, at, unk);
    }
}

static bool push(gr_encode_work *work, int32_t id, uint32_t origin) {
    return gr_ids_push(&work->ids, id) && gr_ids_push(&work->starts, (int32_t)origin);
}

/* Characters without a token: bytes, when all of them have one. */
static bool push_unknown(const gr_subwords *words, const gr_ntext *text, size_t start, size_t end,
                         gr_encode_work *work) {
    int32_t whole = gr_vocab_id(&words->vocab, text->data + start, end - start);
    if (whole >= 0) return push(work, whole, text->origin[start]);
    bool known = words->byte_fallback, ok = true;
    for (size_t i = start; i < end && known; i++) known = words->byte_id[(uint8_t)text->data[i]] >= 0;
    if (!known) return push(work, words->unk, text->origin[start]);
    for (size_t i = start; i < end && ok; i++)
        ok = push(work, words->byte_id[(uint8_t)text->data[i]], text->origin[i]);
    return ok;
}

graft_status gr_unigram_encode(const gr_subwords *words, const gr_ntext *text, size_t start, size_t end,
                               gr_encode_work *work, graft_error *err) {
    size_t n = end - start, first = 0, from = 0;
    /* Without an unknown token its place is taken by an id that no table has, and the text is refused. */
    int32_t unk = words->unk >= 0 ? words->unk : GR_MAX_TOKEN_ID;
    if (work->best_cap <= n) {
        gr_unigram_step *grown = gr_realloc_array(work->best, n + n / 2 + 64, sizeof *grown);
        if (!grown) return gr_no_memory(err, (n + n / 2 + 64) * sizeof *grown);
        work->best = grown;
        work->best_cap = n + n / 2 + 64;
    }
    gr_unigram_step *best = work->best;
    forward(words->unigram, text->data + start, n, unk, best);
    /* Back along the best way; each step then points ahead instead. */
    for (size_t at = n; at;) {
        size_t before = best[at].start;
        best[at].start = (uint32_t)first;
        first = at;
        at = before;
    }
    for (size_t at = first; at; at = best[at].start) {
        int32_t id = best[at].id;
        if (id == GR_MAX_TOKEN_ID)
            return gr_fail(err, GRAFT_RANGE,
                           "a character has no token, and the tokenizer's model has no unknown token");
        while (id == unk && words->fuse_unk && best[at].start && best[best[at].start].id == unk)
            at = best[at].start;
        bool ok = id == unk ? push_unknown(words, text, start + from, start + at, work)
                            : push(work, id, text->origin[start + from]);
        if (!ok) return gr_no_memory(err, sizeof id);
        from = at;
    }
    return GRAFT_OK;
}
