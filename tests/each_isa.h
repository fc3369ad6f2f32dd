/* tests/each_isa.h - the instruction sets that a check of the whole net runs with. */
#ifndef GR_TESTS_EACH_ISA_H
#define GR_TESTS_EACH_ISA_H
#include "kernels/kernels.h"
#include "tests/sanitized.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool emulated(void) {
    return getenv("GRAFT_EMULATED") != NULL; /* set by tools/check_arm64.sh: every instruction is dear */
}

/* The first of the table that this processor has. */
static inline bool isa_is_best(const gr_isa *isa) {
    const gr_isa *best = gr_isa_table;
    while (best->name && !best->available()) best++;
    return isa == best;
}

/* Is (isa, fp32) worth a run of its own? Not where its table is the next one's under another name (the fp32
 * mode of what adds bf16 products); and an emulated processor runs its best set alone, in both modes: the
 * checks of single kernels visit every set there too. */
static inline bool isa_counts(const gr_isa *isa, bool fp32) {
    gr_kernels table, next;
    graft_error err = {0};
    if (emulated()) return isa_is_best(isa);
    if (!isa->available()) return false;
    if (!isa[1].name || !isa[1].available()) return true;
    return gr_kernels_init(&table, isa->name, fp32, &err) != GRAFT_OK ||
           gr_kernels_init(&next, isa[1].name, fp32, &err) != GRAFT_OK || table.tile != next.tile;
}

/* A whole net's layers are the same code above every set: a sanitizer, which makes the tiles several times
 * slower, watches them above the best one alone. The checks of single kernels visit every set under it. */
static inline bool net_counts(const gr_isa *isa, bool fp32) {
    return SANITIZED ? isa_is_best(isa) : isa_counts(isa, fp32);
}

static inline void each_isa(void (*check)(const char *isa, bool fp32)) {
    for (const gr_isa *isa = gr_isa_table; isa->name; isa++) {
        if (net_counts(isa, true)) check(isa->name, true);
        if (net_counts(isa, false)) check(isa->name, false);
    }
}

/* What the layers do is the same above every set: the best one tells. */
static inline void with_best(void (*check)(const char *isa, bool fp32)) {
    const gr_isa *isa = gr_isa_table;
    while (!isa_is_best(isa)) isa++;
    check(isa->name, true);
    check(isa->name, false);
}

/* For checks that the way of computing changes no bit, which is no matter of the kernels: one mode is enough
 * where each is dear. */
static inline void each_isa_bits(void (*check)(const char *isa, bool fp32)) {
    for (const gr_isa *isa = gr_isa_table; isa->name; isa++) {
        if (net_counts(isa, true) && !emulated() && !SANITIZED) check(isa->name, true);
        if (net_counts(isa, false)) check(isa->name, false);
    }
}

#endif
