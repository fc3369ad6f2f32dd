/* kernels/isa.c - choosing an instruction set. */
#include "kernels/isa.h"

const gr_isa gr_isa_table[] = {
#define X(name) {#name, gr_##name##_available, gr_##name##_init},
    GR_ISA_MAP(X)
#undef X
        {NULL, NULL, NULL}};

static graft_status no_such_isa(const char *isa, bool known, graft_error *err) {
    char names[128];
    size_t used = 0;
    names[0] = '\0';
    for (const gr_isa *i = gr_isa_table; i->name; i++)
        if (i->available()) {
            size_t n = strlen(i->name);
            if (used + n + 3 > sizeof names) break;
            if (used) memcpy(names + used, ", ", 2), used += 2;
            memcpy(names + used, i->name, n + 1);
            used += n;
        }
    gr_fail(err, GRAFT_USAGE, known ? "this processor lacks the instruction set" : "unknown instruction set");
    gr_expected(err, "%s", names);
    return gr_found(err, "%s", isa);
}

graft_status gr_kernels_init(gr_kernels *table, const char *isa, bool fp32, graft_error *err) {
    const gr_isa *chosen = gr_isa_table;
    while (chosen->name && (isa ? strcmp(isa, chosen->name) != 0 : !chosen->available())) chosen++;
    if (!chosen->name || !chosen->available()) {
        no_such_isa(isa ? isa : "none", chosen->name != NULL, err);
        return GRAFT_USAGE;
    }
    const gr_isa *i = chosen;
    while (i->name) i++;
    while (i-- > chosen) /* from the plainest up: each overwrites what it does better */
        if (i->available()) i->init(table, fp32);
    table->isa = chosen->name;
    return GRAFT_OK;
}
