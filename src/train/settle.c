/* The settings that change memory and time and never a bit: recompute, tokens of a slice, rows of a tile of
 * logits. The search binds every combination without memory and takes the fastest that fits. */
#include "train/trainer.h"
#include <stdio.h>

/* Making a panel of weights costs as much as multiplying this many rows with it; a panel serves one block of
 * rows. source: SmolLM2-135M in 4 bits, AVX-512 BF16: 558, 816, 970, 1076 tokens per second at 32, 64, 128,
 * 256 tokens at once */
#define PANEL_ROWS 28

/* Steps of the tile: parts of the usual one, of six. */
#define TILE_STEPS 6

typedef struct settings {
    gr_net_config config;
    int64_t limit; /* of a slice */
    double cost;   /* time of one iteration, in multiplications of the weights */
    graft_memory memory;
} settings;

typedef struct search {
    const gr_trainer *t;
    gr_net_config base; /* recompute, tokens and head_tile are chosen */
    const char *recompute;
    uint64_t budget; /* 0: none */
    uint64_t room;   /* without one: for activations and buffers */
    bool all;        /* every slice and tile, not only the usual ones */
    settings best, least;
    int tried;
    bool found;
} search;

/* n rows in parts of `part` rows: rows, and the panels of each block. */
static double rows_cost(double n, double part) {
    double parts = ceil(n / part), blocks = ceil(fmin(part, n) / GR_MBLK);
    return n + PANEL_ROWS * parts * blocks;
}

/* Relative, as gr_train_flops counts: forward and backward of the blocks, most of the forward once more with
 * recompute, and both passes of the head. */
static double cost_of(const search *s, const gr_net_config *x) {
    const gr_model_config *c = &s->t->rt.model->config;
    double h = (double)c->hidden, m = (double)c->mlp, q = (double)(c->heads * c->head_dim),
           kv = (double)(c->kv_heads * c->head_dim), n = (double)gr_max_i64(s->t->work.batch, x->tokens);
    double block = 2 * h * q + 2 * h * kv + 3 * h * m;
    double passes = 2 * block + (x->recompute ? block - h * m : 0);
    double tile = (double)gr_min_i64(x->head_tile ? x->head_tile : gr_head_tile(c->vocab), x->tokens);
    return passes * (double)c->layers * rows_cost(n, (double)x->tokens) +
           2 * h * (double)c->vocab * rows_cost(n, tile);
}

static bool allowed(const search *s, const settings *x) {
    return strcmp(s->recompute, "auto") == 0 || x->config.recompute == (strcmp(s->recompute, "layer") == 0);
}

static bool fits(const search *s, const settings *x) {
    if (s->budget) return x->memory.total <= s->budget;
    return x->memory.saved + x->memory.scratch <= s->room;
}

static graft_status try_one(search *s, settings *x, graft_error *err) {
    GR_TRY(gr_trainer_memory(s->t, &x->config, &x->memory, err));
    x->cost = cost_of(s, &x->config);
    if (s->tried++ == 0 || x->memory.total < s->least.memory.total) s->least = *x;
    bool better = !s->found || x->cost < s->best.cost ||
                  (!(x->cost > s->best.cost) && x->memory.total < s->best.memory.total);
    if (better && allowed(s, x) && fits(s, x)) {
        s->best = *x;
        s->found = true;
    }
    return GRAFT_OK;
}

static graft_status try_tiles(search *s, settings *x, graft_error *err) {
    int64_t usual = gr_head_tile(s->t->rt.model->config.vocab), tile = usual;
    bool fixed = gr_net_fixed_tile(&s->t->rt.model->config, s->t->rt.tuning);
    for (int i = 0; i < (s->all && !fixed ? TILE_STEPS : 1); i++, tile = tile / 2 / GR_MR * GR_MR) {
        if (i && tile < GR_HEAD_TILE_LEAST) break;
        x->config.head_tile = i ? tile : 0;
        GR_TRY(try_one(s, x, err));
    }
    return GRAFT_OK;
}

static graft_status try_all(search *s, graft_error *err) {
    const gr_work *w = &s->t->work;
    bool one_row = gr_net_one_row(&s->t->rt.model->config, s->t->rt.tuning);
    s->found = false;
    s->tried = 0;
    for (int layer = 0; layer < 2; layer++)
        for (int i = 0; i < (s->all && w->longest ? GR_SLICES : 1); i++) {
            settings x = {.config = s->base, .limit = w->slice[i].limit};
            x.config.recompute = layer != 0;
            if (w->longest) x.config.tokens = one_row ? w->longest : w->slice[i].tokens;
            GR_TRY(try_tiles(s, &x, err));
        }
    return GRAFT_OK;
}

static void size_text(char text[24], uint64_t bytes) {
    snprintf(text, 24, "%.0f MB", ceil((double)bytes / 1e6));
}

/* What would help most where nothing fits. */
static void hint(search *s, graft_error *err) {
    const gr_trainer *t = s->t;
    gr_net_config x = s->least.config;
    uint64_t least = s->least.memory.total, pinned = s->least.memory.mapped + s->least.memory.other;
    char size[24];
    graft_memory m;
    graft_error none = {0};
    size_text(size, pinned);
    if (pinned >= s->budget) {
        gr_hint(err, "weights, program and data alone take %s: a smaller model, or fewer bits", size);
        return;
    }
    for (int64_t row = x.longest - x.longest / 4; row >= s->least.config.longest / 4 && t->work.longest;
         row -= gr_max_i64(row / 4, 1)) {
        x.longest = x.tokens = row; /* a row cannot be cut, so the longest sets the floor */
        if (gr_trainer_memory(t, &x, &m, &none) != GRAFT_OK || m.total > s->budget) continue;
        gr_hint(err,
                "--max-seq-length %lld with --overflow drop or truncate would fit (the longest row has %lld "
                "tokens)",
                (long long)row, (long long)s->least.config.longest);
        return;
    }
    if (s->least.memory.state > least / 8)
        gr_hint(err,
                "the adapter's state takes %.0f MB: a lower --lora-rank, fewer --lora-targets, a smaller "
                "--batch-size",
                (double)s->least.memory.state / 1e6);
    else
        gr_hint(err, "give it more, or shorten the rows with --max-seq-length");
}

static graft_status refuse(search *s, graft_error *err) {
    char least[24];
    const gr_net_config *x = &s->least.config;
    size_text(least, s->least.memory.total + ((uint64_t)128 << 10)); /* another process is a few pages off */
    gr_fail(err, GRAFT_USAGE, "the run does not fit --budget %s", s->t->o->budget);
    gr_expected(err, "at least %s, with --grad-checkpoint %s, %lld tokens and %lld rows of logits at once",
                least, x->recompute ? "layer" : "none", (long long)x->tokens,
                (long long)(x->head_tile ? x->head_tile : gr_head_tile(s->t->rt.model->config.vocab)));
    hint(s, err);
    return GRAFT_USAGE;
}

static void say(const search *s) {
    const gr_net_config *x = &s->best.config;
    char size[24];
    size_text(size, s->best.memory.total);
    gr_trainer_note(s->t,
                    "--budget %s: the fastest of %d settings that fits takes %s: --grad-checkpoint %s, up to "
                    "%lld tokens and %lld rows of logits at once, about %.2f times the time without a budget",
                    s->t->o->budget, s->tried, size, x->recompute ? "layer" : "none", (long long)x->tokens,
                    (long long)(x->head_tile ? x->head_tile : gr_head_tile(s->t->rt.model->config.vocab)),
                    s->best.cost / cost_of(s, &s->base));
}

/* Without a budget the usual slices and tiles, and the forward pass of every layer kept where a third of the
 * free memory holds it. Where even recompute needs more than there is, whatever fits. */
static graft_status settle_free(search *s, graft_error *err) {
    uint64_t available = gr_memory_available();
    s->room = available / 3;
    GR_TRY(try_all(s, err));
    if (s->found) return GRAFT_OK;
    s->room = available;
    GR_TRY(try_all(s, err));
    if (s->found) return GRAFT_OK;
    s->all = true;
    GR_TRY(try_all(s, err));
    if (!s->found) s->best = s->least;
    return GRAFT_OK;
}

graft_status gr_trainer_settle(gr_trainer *t, gr_net_config *config, graft_error *err) {
    search s = {.t = t, .base = *config, .recompute = t->o->grad_checkpoint ? t->o->grad_checkpoint : "auto"};
    if (t->work.longest) s.base.tokens = t->work.slice[0].tokens;
    if (t->o->budget) GR_TRY(gr_parse_size(&s.budget, t->o->budget, err));
    s.all = t->o->budget != NULL;
    if (t->o->budget)
        GR_TRY(try_all(&s, err));
    else
        GR_TRY(settle_free(&s, err));
    if (t->o->budget && !s.found) return refuse(&s, err);
    if (t->o->budget) say(&s);
    *config = s.best.config;
    if (s.best.limit) t->slice_tokens = s.best.limit;
    t->forecast = s.best.memory;
    return GRAFT_OK;
}
