#include "dist/share.h"

uint64_t gr_share_block(uint64_t at, uint64_t end) {
    uint64_t node = at & -at; /* leaves of the largest node that begins here; 0: any */
    return node && node <= end - at ? at + node : end;
}

int gr_share_nodes(int level[GR_SHARE_NODES], uint64_t begin, uint64_t end) {
    int count = 0;
    for (uint64_t at = begin; at < end;) {
        uint64_t next = gr_share_block(at, end), leaves = next - at;
        for (int i = GR_TREE_LEVELS - 1; i >= 0; i--)
            if (leaves >> i & 1) level[count++] = i;
        at = next;
    }
    return count;
}

static int bits_of(uint64_t n) {
    int bits = 0;
    while (n >> bits) bits++;
    return bits;
}

/* Rising nodes are of different sizes, and so are falling ones; both kinds together have n leaves. */
int gr_share_most(uint64_t n) {
    int both = 2 * bits_of((n + 1) / 2);
    return n < (uint64_t)both ? (int)n : both;
}

/* All rising nodes lie below a counter, which has room for one more leaf where it needs that. */
int gr_share_slots(uint64_t n, bool as_leaves) {
    return gr_share_most(n) + 1 + as_leaves;
}
