/* The two tables of a BPE model: token <-> id, and pair of ids -> rank and the id it makes. */
#include "base/digest.h"
#include "base/os.h"
#include "text/token_parts.h"

/* Where the system put the table, and when: nobody who writes a file knows either. */
uint64_t gr_hash_seed(const void *table) {
    uint64_t seed = gr_digest_number(GR_DIGEST_START, (uintptr_t)table);
    return gr_digest_number(seed, (uint64_t)(gr_clock() * 1e9));
}

uint64_t gr_hash_bytes(uint64_t seed, const char *bytes, size_t n) {
    uint64_t h = gr_digest_bytes(seed ^ n, bytes, n); /* then mixed: low bits pick the slot */
    h ^= h >> 29;
    return h * 0x9e3779b97f4a7c15u >> 16;
}

graft_status gr_vocab_add(gr_vocab *vocab, const char *token, size_t len, int64_t id, graft_error *err) {
    if (id < 0 || id >= GR_MAX_TOKEN_ID) {
        gr_fail(err, GRAFT_RANGE, "a token has an impossible id");
        gr_found(err, "%.60s: %lld", token, (long long)id);
        return gr_expected(err, "0 to %d", GR_MAX_TOKEN_ID - 1);
    }
    if (vocab->bytes.len + len + 1 > UINT32_MAX)
        return gr_fail(err, GRAFT_RANGE, "the vocabulary is larger than 4 GiB");
    if (!gr_grow((void **)&vocab->entries, &vocab->cap, vocab->count, sizeof *vocab->entries))
        return gr_no_memory(err, vocab->cap * 2 * sizeof *vocab->entries);
    vocab->entries[vocab->count++] = (gr_vocab_entry){(uint32_t)vocab->bytes.len, (uint32_t)len, (int32_t)id};
    gr_buf_add(&vocab->bytes, token, len);
    gr_buf_putc(&vocab->bytes, 0);
    if (vocab->bytes.failed) return gr_no_memory(err, len);
    if (id >= vocab->limit) vocab->limit = (int32_t)id + 1;
    return GRAFT_OK;
}

/* The slot of the token, or the free one where it belongs. */
static size_t vocab_slot(const gr_vocab *vocab, const char *token, size_t len) {
    size_t mask = vocab->nslots - 1, slot = (size_t)gr_hash_bytes(vocab->seed, token, len) & mask;
    while (vocab->slots[slot]) {
        const gr_vocab_entry *e = &vocab->entries[vocab->slots[slot] - 1];
        if (e->len == len && !memcmp(vocab->bytes.data + e->offset, token, len)) break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

graft_status gr_vocab_finish(gr_vocab *vocab, graft_error *err) {
    vocab->nslots = 16;
    vocab->seed = gr_hash_seed(vocab);
    while (vocab->nslots < vocab->count * 2) vocab->nslots *= 2;
    vocab->slots = gr_calloc(vocab->nslots, sizeof *vocab->slots);
    vocab->by_id = gr_calloc((size_t)vocab->limit, sizeof *vocab->by_id);
    if (!vocab->slots || !vocab->by_id) return gr_no_memory(err, vocab->nslots * sizeof *vocab->slots);
    for (int32_t i = 0; i < vocab->limit; i++) vocab->by_id[i] = -1;
    for (size_t i = 0; i < vocab->count; i++) {
        const gr_vocab_entry *e = &vocab->entries[i];
        vocab->slots[vocab_slot(vocab, vocab->bytes.data + e->offset, e->len)] = (uint32_t)i + 1;
        if (vocab->by_id[e->id] >= 0) {
            gr_fail(err, GRAFT_CORRUPT, "the vocabulary gives two tokens the same id");
            return gr_found(err, "%.60s and %.60s: %d", gr_vocab_token(vocab, e->id, NULL),
                            vocab->bytes.data + e->offset, (int)e->id);
        }
        vocab->by_id[e->id] = (int32_t)i;
    }
    return GRAFT_OK;
}

int32_t gr_vocab_id(const gr_vocab *vocab, const char *token, size_t len) {
    if (!vocab->nslots) return -1;
    uint32_t entry = vocab->slots[vocab_slot(vocab, token, len)];
    return entry ? vocab->entries[entry - 1].id : -1;
}

const char *gr_vocab_token(const gr_vocab *vocab, int32_t id, size_t *len) {
    if (id < 0 || id >= vocab->limit || vocab->by_id[id] < 0) return NULL;
    const gr_vocab_entry *e = &vocab->entries[vocab->by_id[id]];
    if (len) *len = e->len;
    return vocab->bytes.data + e->offset;
}

void gr_vocab_free(gr_vocab *vocab) {
    gr_buf_free(&vocab->bytes);
    free(vocab->entries);
    free(vocab->slots);
    free(vocab->by_id);
    memset(vocab, 0, sizeof *vocab);
}

graft_status gr_merges_reserve(gr_merges *merges, size_t count, graft_error *err) {
    merges->nslots = 16;
    merges->seed = gr_hash_seed(merges) | 1;
    while (merges->nslots < count * 2) merges->nslots *= 2;
    merges->slots = gr_calloc(merges->nslots, sizeof *merges->slots);
    if (!merges->slots) return gr_no_memory(err, merges->nslots * sizeof *merges->slots);
    for (size_t i = 0; i < merges->nslots; i++) merges->slots[i].left = -1;
    return GRAFT_OK;
}

static size_t merge_slot(const gr_merges *merges, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * merges->seed;
    size_t mask = merges->nslots - 1, slot = (size_t)((h ^ h >> 32) * 0x9e3779b97f4a7c15u >> 20) & mask;
    while (merges->slots[slot].left >= 0 &&
           (merges->slots[slot].left != left || merges->slots[slot].right != right))
        slot = (slot + 1) & mask;
    return slot;
}

void gr_merges_put(gr_merges *merges, gr_merge merge) {
    gr_merge *slot = &merges->slots[merge_slot(merges, merge.left, merge.right)];
    if (slot->left < 0) merges->count++;
    *slot = merge;
}

const gr_merge *gr_merges_get(const gr_merges *merges, int32_t left, int32_t right) {
    if (!merges->count) return NULL;
    const gr_merge *slot = &merges->slots[merge_slot(merges, left, right)];
    return slot->left < 0 ? NULL : slot;
}

void gr_merges_free(gr_merges *merges) {
    free(merges->slots);
    memset(merges, 0, sizeof *merges);
}
