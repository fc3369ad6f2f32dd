/* The settings that change memory and time and never a bit: recompute, tokens of a slice, rows of a tile of
 * logits. The search binds every combination without memory and takes the fastest that fits. */
#include "train/trainer.h"
#include <stdio.h>

/* Making a panel of weights costs as much as multiplying this many rows with it; a panel serves one block of
 * rows. source: SmolLM2-135M in 4 bits, AVX-512 BF16: 558, 816, 970, 1076 tokens per second at 32, 64, 128,
 * 256 tokens at once */
#define PANEL_ROWS 28
/* Rows that every thread could have computed while a part of a batch starts and ends: many cores want long
 * slices. */
#define THREAD_ROWS 2

/* Times this close are the same: the smaller memory decides. */
#define SAME_TIME 1.01

/* A product of attention takes as long as this many of a linear: its blocks are small, and half of those on
 * the diagonal are masked. */
#define ATTENTION_COST 1.4

/* Rows of a tile of logits: the usual ones, then what the search may take instead. The largest is one block
 * of rows, above which a panel serves no more of them. */
static const int64_t tiles[] = {0,          GR_MBLK,   43 * GR_MR, 28 * GR_MR, 20 * GR_MR,        14 * GR_MR,
                                10 * GR_MR, 7 * GR_MR, 5 * GR_MR,  3 * GR_MR,  GR_HEAD_TILE_LEAST};
#define TILES      (int)(sizeof tiles / sizeof *tiles)
#define CANDIDATES (GR_RECOMPUTES * GR_SLICES * TILES)

typedef struct settings {
    gr_net_config config;
    int64_t limit; /* of a slice */
    double cost;   /* time of one iteration, in multiplications of the weights */
    graft_memory memory;
} settings;

typedef struct search {
    const gr_trainer *t;
    gr_net_config base;    /* recompute, tokens and head_tile are chosen */
    const char *recompute; /* a name, or auto */
    uint64_t budget;       /* 0: none */
    uint64_t room;         /* without one: for activations and buffers */
    bool tight;            /* other tiles on every rung; else larger ones, where all activations are kept */
    int count;
    settings candidate[CANDIDATES];
    const settings *best, *least; /* best NULL: nothing fits */
    double fastest;               /* without any bound */
} search;

/* n rows in parts of `part` rows: rows, the panels of each block, and starting each part. */
static double rows_cost(const search *s, double n, double part) {
    double parts = ceil(n / part), blocks = ceil(fmin(part, n) / GR_MBLK);
    return n + parts * (PANEL_ROWS * blocks + THREAD_ROWS * gr_pool_threads(s->t->rt.pool));
}

static bool is_auto(const search *s) {
    return strcmp(s->recompute, "auto") == 0;
}

/* Rows of logits at once. */
static int64_t tile_rows(const search *s, const gr_net_config *x) {
    return gr_net_tile(x, &s->t->rt.model->config, s->t->rt.tuning);
}

/* Relative, as gr_train_flops counts: forward and backward of the blocks, what of the forward is computed
 * again, and both passes of the head. */
static double cost_of(const search *s, const gr_net_config *x) {
    const gr_model_config *c = &s->t->rt.model->config;
    double h = (double)c->hidden, m = (double)gr_mlp_width(c), q = (double)(c->heads * c->head_dim),
           n = (double)gr_max_i64(s->t->work.batch, x->tokens), block = gr_block_weights(c);
    const double again[GR_RECOMPUTES] = {0, (gr_mlp_matrices(c) - 1) * h * m, block - h * m};
    double passes = 2 * block + again[x->recompute];
    double attention =
        ATTENTION_COST * (x->recompute == GR_RECOMPUTE_LAYER ? 4.5 : 3.5) * q * (double)x->longest;
    return (double)c->layers * (passes * rows_cost(s, n, (double)x->tokens) + attention * n) +
           2 * h * (double)c->vocab * rows_cost(s, n, (double)tile_rows(s, x));
}

static bool allowed(const search *s, const settings *x) {
    return is_auto(s) || strcmp(s->recompute, gr_recompute_name[x->config.recompute]) == 0;
}

static bool fits(const search *s, const settings *x) {
    if (s->budget) return x->memory.total <= s->budget;
    return x->memory.saved + x->memory.scratch <= s->room;
}

static graft_status add_tiles(search *s, settings x, graft_error *err) {
    const gr_model_config *c = &s->t->rt.model->config;
    int64_t usual = gr_head_tile(c->vocab);
    int steps = gr_net_fixed_tile(c, s->t->rt.tuning) ? 1 : TILES;
    for (int i = 0; i < steps; i++) {
        bool larger = tiles[i] > usual && x.config.recompute == GR_RECOMPUTE_NONE && is_auto(s);
        if (i && (tiles[i] == usual || !(s->tight || larger))) continue;
        x.config.head_tile = tiles[i];
        GR_TRY(gr_trainer_memory(s->t, &x.config, &x.memory, err));
        x.cost = cost_of(s, &x.config);
        s->candidate[s->count++] = x;
    }
    return GRAFT_OK;
}

/* Measures every combination of what may be chosen. */
static graft_status measure_all(search *s, graft_error *err) {
    const gr_work *w = &s->t->work;
    s->count = 0;
    for (gr_recompute r = 0; r < GR_RECOMPUTES; r++)
        for (int i = 0; i < (w->longest ? GR_SLICES : 1); i++) {
            settings x = {.config = s->base, .limit = w->slice[i].limit};
            x.config.recompute = r;
            if (w->longest) {
                x.config.tokens = w->slice[i].tokens; /* where rows run alone: of the largest */
                x.config.targets = w->slice[i].targets;
            }
            GR_TRY(add_tiles(s, x, err));
        }
    return GRAFT_OK;
}

/* The fastest that fits, or what takes as long and less memory. */
static void pick(search *s) {
    double fastest = INFINITY;
    s->best = NULL;
    s->least = &s->candidate[0];
    s->fastest = INFINITY;
    for (int i = 0; i < s->count; i++) {
        const settings *x = &s->candidate[i];
        if (x->memory.total < s->least->memory.total) s->least = x;
        s->fastest = fmin(s->fastest, x->cost);
        if (allowed(s, x) && fits(s, x)) fastest = fmin(fastest, x->cost);
    }
    for (int i = 0; i < s->count; i++) {
        const settings *x = &s->candidate[i];
        bool good = allowed(s, x) && fits(s, x) && x->cost <= SAME_TIME * fastest;
        if (good && (!s->best || x->memory.total < s->best->memory.total)) s->best = x;
    }
}

static void size_text(char text[24], uint64_t bytes) {
    snprintf(text, 24, "%.0f MB", ceil((double)bytes / 1e6));
}

/* What would help most where nothing fits. */
static void hint(search *s, graft_error *err) {
    const gr_trainer *t = s->t;
    gr_net_config x = s->least->config;
    int64_t longest = x.longest, unit = gr_max_i64(longest, t->work.unit);
    uint64_t least = s->least->memory.total, pinned = s->least->memory.mapped + s->least->memory.other;
    char size[24];
    graft_memory m;
    graft_error none = {0};
    size_text(size, pinned);
    if (pinned >= s->budget) {
        gr_hint(err, "weights, program and data alone take %s: a smaller model, or fewer bits", size);
        return;
    }
    for (int64_t row = unit - unit / 4; row >= unit / 4 && t->work.longest; row -= gr_max_i64(row / 4, 1)) {
        x.targets = 0;
        x.tokens = row; /* a row or a pack cannot be cut, so the largest sets the floor */
        x.longest = gr_min_i64(row, longest);
        if (gr_trainer_memory(t, &x, &m, &none) != GRAFT_OK || m.total > s->budget) continue;
        int64_t width = t->preference.loss ? 2 : 1; /* rows of a unit */
        if (row / width < longest)
            gr_hint(err,
                    "--max-seq-length %lld with --overflow drop or truncate would fit (the longest row has "
                    "%lld tokens)",
                    (long long)(row / width), (long long)longest);
        else
            gr_hint(err, "--max-seq-length %lld would fit: packs would be no larger", (long long)row);
        return;
    }
    if (s->least->memory.state > least / 8)
        gr_hint(err,
                "the adapter's state takes %.0f MB: a lower --lora-rank, fewer --lora-targets, a smaller "
                "--batch-size",
                (double)s->least->memory.state / 1e6);
    else
        gr_hint(err, "give it more, or shorten the rows with --max-seq-length");
}

static graft_status refuse(search *s, graft_error *err) {
    char least[24];
    const gr_net_config *x = &s->least->config;
    size_text(least, s->least->memory.total + ((uint64_t)128 << 10)); /* another process is a few pages off */
    gr_fail(err, GRAFT_USAGE, "the run does not fit --budget %s", s->t->o->budget);
    gr_expected(err, "at least %s, with --grad-checkpoint %s, %lld tokens and %lld rows of logits at once",
                least, gr_recompute_name[x->recompute], (long long)x->tokens, (long long)tile_rows(s, x));
    hint(s, err);
    return GRAFT_USAGE;
}

static void say(const search *s) {
    const gr_net_config *x = &s->best->config;
    char size[24];
    size_text(size, s->best->memory.total);
    gr_trainer_note(s->t,
                    "--budget %s: the fastest of %d settings that fits takes %s: --grad-checkpoint %s, up to "
                    "%lld tokens and %lld rows of logits at once, about %.2f times the time of the fastest",
                    s->t->o->budget, s->count, size, gr_recompute_name[x->recompute], (long long)x->tokens,
                    (long long)tile_rows(s, x), s->best->cost / s->fastest);
}

/* A wish for one way of recompute holds even where nothing fits. */
static const settings *smallest(const search *s) {
    const settings *found = NULL;
    for (int i = 0; i < s->count; i++) {
        const settings *x = &s->candidate[i];
        if (allowed(s, x) && (!found || x->memory.total < found->memory.total)) found = x;
    }
    return found;
}

/* Without a budget the forward pass of every layer kept, with a larger tile if that is faster, where a third
 * of the free memory holds it. A rung that is asked for has the usual tile. Where even recompute needs more
 * than there is, whatever takes least. */
static graft_status settle_free(search *s, graft_error *err) {
    uint64_t available = gr_memory_available() / (s->t->beside ? (uint64_t)s->t->beside->runs : 1);
    GR_TRY(measure_all(s, err));
    s->room = available / 3;
    pick(s);
    if (s->best) return GRAFT_OK;
    s->room = available ? available : UINT64_MAX;
    pick(s);
    if (s->best) return GRAFT_OK;
    s->tight = true;
    GR_TRY(measure_all(s, err));
    pick(s);
    if (!s->best) s->best = smallest(s);
    return GRAFT_OK;
}

static graft_status settle_budget(search *s, graft_error *err) {
    GR_TRY(gr_parse_size(&s->budget, s->t->o->budget, err));
    s->tight = true;
    GR_TRY(measure_all(s, err));
    pick(s);
    if (!s->best) return refuse(s, err);
    say(s);
    return GRAFT_OK;
}

graft_status gr_trainer_least(const gr_trainer *t, uint64_t *bytes, graft_error *err) {
    search s = {.t = t,
                .base = {.longest = t->work.longest, .training = true},
                .recompute = t->o->grad_checkpoint ? t->o->grad_checkpoint : "auto",
                .tight = true};
    GR_TRY(measure_all(&s, err));
    *bytes = smallest(&s)->memory.total;
    return GRAFT_OK;
}

graft_status gr_trainer_fit_budget(gr_trainer *t, gr_net_config *config, graft_error *err) {
    search s = {.t = t, .base = *config, .recompute = t->o->grad_checkpoint ? t->o->grad_checkpoint : "auto"};
    GR_TRY(t->o->budget ? settle_budget(&s, err) : settle_free(&s, err));
    *config = s.best->config;
    if (s.best->limit) t->slice_tokens = s.best->limit;
    t->forecast = s.best->memory;
    return GRAFT_OK;
}
