/* Which benchmark takes which options: what would be without effect is refused. */
#include "options/options.h"

enum {
    LOAD = 1,
    TRAIN = 2,
    CHECKPOINT = 4,
    ACCUMULATE = 8,
    KERNELS = 16,
    TOKENIZE = 32,
    CURVES = 64,
    GENERATE = 128,
    STEPS = TRAIN | CHECKPOINT | CURVES,
    MODELS = LOAD | STEPS | ACCUMULATE
};

/* ORDER: the bits. */
static const char *const benchmarks[] = {"load",     "train",  "checkpoint", "accumulate", "kernels",
                                         "tokenize", "curves", "generate",   NULL};
enum { BENCHMARKS = sizeof benchmarks / sizeof *benchmarks - 1 };

static const struct {
    unsigned by;
    const char *options;
} table[] = {
    {MODELS | KERNELS | TOKENIZE | GENERATE, "threads"},
    {MODELS | KERNELS | GENERATE, "seed,compute"},
    {MODELS | TOKENIZE | GENERATE, "model"},
    {MODELS | TOKENIZE, "data"},
    {MODELS, "svg"},
    {STEPS | ACCUMULATE, "fine-tune-type,num-layers,lora-targets,exclude-modules,layers-to-transform,"
                         "lora-rank,lora-alpha,lora-scale,lora-dropout,lora-bias,use-rslora,rank-pattern,"
                         "alpha-pattern,modules-to-save,group-pooled,qat,grad-accumulation-steps"},
    {STEPS, "loraplus-lr-ratio,optimizer,learning-rate,lr-schedule,warmup,weight-decay,grad-clip,budget"},
    {STEPS | ACCUMULATE | GENERATE, "shape,batch-size"},
    {STEPS | GENERATE, "steps"},
    {GENERATE, "max-tokens,adapter-path,allow-other-base"},
    {TRAIN | ACCUMULATE, "grad-checkpoint"},
    {TRAIN | ACCUMULATE | CURVES | GENERATE, "seq-length"},
    {CURVES, "over,values"},
    {TRAIN | TOKENIZE | GENERATE, "peer"},
    {TRAIN, "peer-steps,profile,pack"},
    {CHECKPOINT, "seq-lengths"},
    {LOAD | KERNELS, "bits,q-group-size"},
    {KERNELS, "isa,only"},
};

static bool holds(const char *list, const char *name) {
    size_t len = strlen(name);
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ",");
        if (n == len && memcmp(at, name, n) == 0) return true;
        at += n + (at[n] == ',');
    }
    return false;
}

static unsigned takers(const char *option) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (holds(table[i].options, option)) return table[i].by;
    return 0;
}

static unsigned bit_of(const char *benchmark) {
    for (int i = 0; benchmark && i < BENCHMARKS; i++)
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
    if (strcmp(peer, "tokenizers") == 0) return TOKENIZE;
    return strcmp(peer, "llama") == 0 ? GENERATE : TRAIN;
}

graft_status gr_options_check_bench(const graft_options *o, const char *benchmark, graft_error *err) {
    for (size_t i = 0; i < graft_option_count(); i++) {
        const char *name = graft_option_at(i)->name;
        if (!gr_options_given(o, name) || graft_bench_takes(benchmark, name)) continue;
        gr_buf who = {0};
        for (int k = 0; k < BENCHMARKS; k++)
            if (takers(name) >> k & 1) gr_buf_printf(&who, "%s%s", who.len ? ", " : "", benchmarks[k]);
        gr_fail(err, GRAFT_USAGE, "bench %s takes no --%s", benchmark, name);
        gr_hint(err, "it belongs to %s", who.data ? who.data : "other verbs");
        gr_buf_free(&who);
        return GRAFT_USAGE;
    }
    if (o->peer && !(takers_of_peer(o->peer) & bit_of(benchmark)))
        return gr_fail(err, GRAFT_USAGE, "%s does not do the work of bench %s", o->peer, benchmark);
    if (o->pack && o->peer) {
        gr_fail(err, GRAFT_USAGE, "--pack with --peer: the other program is given whole rows");
        return gr_hint(err, "leave one of them away");
    }
    return GRAFT_OK;
}
