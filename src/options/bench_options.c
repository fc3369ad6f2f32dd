/* Which benchmark takes which options: what would be without effect is refused. */
#include "options/options.h"

#define NAME(word, name) name,
static const char *const benchmarks[] = {GR_BENCH_MAP(NAME) NULL};

static unsigned takers(const char *option) {
    int index = gr_option_index(option);
    return index < 0 ? 0 : gr_option_row_at((size_t)index)->benchmarks;
}

static unsigned bit_of(const char *benchmark) {
    for (int i = 0; benchmark && i < GR_BENCHMARKS; i++)
        if (strcmp(benchmarks[i], benchmark) == 0) return 1u << i;
    return 0;
}

const char *const *graft_benchmarks(void) {
    return benchmarks;
}

bool graft_bench_takes(const char *benchmark, const char *option) {
    return takers(option) & bit_of(benchmark);
}

/* Another program does the work of one benchmark. */
static unsigned takers_of_peer(const char *peer) {
    if (strcmp(peer, "tokenizers") == 0) return GR_BENCH_TOKENIZE;
    return strcmp(peer, "llama") == 0 ? GR_BENCH_GENERATE : GR_BENCH_TRAIN;
}

graft_status gr_options_check_bench(const graft_options *o, const char *benchmark, graft_error *err) {
    for (size_t i = 0; i < graft_option_count(); i++) {
        const char *name = graft_option_at(i)->name;
        if (!gr_options_given(o, name) || graft_bench_takes(benchmark, name)) continue;
        gr_buf who = {0};
        for (int k = 0; k < GR_BENCHMARKS; k++)
            if (takers(name) >> k & 1) gr_buf_printf(&who, "%s%s", who.len ? ", " : "", benchmarks[k]);
        gr_fail(err, GRAFT_USAGE, "bench %s takes no --%s", benchmark, name);
        gr_hint(err, "it belongs to %s", who.data ? who.data : "other verbs");
        gr_buf_free(&who);
        return GRAFT_USAGE;
    }
    if (o->peer && !(takers_of_peer(o->peer) & bit_of(benchmark))) {
        gr_fail(err, GRAFT_USAGE, "%s does not do the work of bench %s", o->peer, benchmark);
        for (int k = 0; k < GR_BENCHMARKS; k++)
            if (takers_of_peer(o->peer) >> k & 1)
                gr_hint(err, "graft bench %s --peer %s", benchmarks[k], o->peer);
        return err->status;
    }
    if (o->pack && o->peer) {
        gr_fail(err, GRAFT_USAGE, "--pack with --peer: the other program is given whole rows");
        return gr_hint(err, "leave one of them away");
    }
    return GRAFT_OK;
}
