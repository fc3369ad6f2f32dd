/* Several adapters as one: their sum, exactly, with the ranks of all. */
#include "adapters/adapter_parts.h"
#include "base/number.h"
#include <math.h>
#include <stdio.h>

/* ---- "a=0.7,b=0.3" */

void gr_adapter_shares_free(gr_adapter_share *shares, size_t count) {
    for (size_t i = 0; i < count; i++) free(shares[i].path);
    free(shares);
}

static graft_status bad_weight(const char *item, size_t n, graft_error *err) {
    gr_fail(err, GRAFT_USAGE, "a weight of an adapter is a number");
    gr_expected(err, "PATH=NUMBER, as in a=0.7,b=0.3");
    return gr_found(err, "%.*s", (int)n, item);
}

/* One item: a path, or a path and its weight. An existing path is one, whatever is in its name. */
static graft_status read_share(gr_adapter_share *share, const char *item, size_t n, gr_reading how,
                               graft_error *err) {
    char *text = gr_strndup(item, n);
    *share = (gr_adapter_share){.path = text, .weight = 1};
    if (!text) return gr_no_memory(err, n);
    char *sign = strrchr(text, '=');
    if (gr_path_exists_as(text, how) || !sign) return GRAFT_OK;
    if (!gr_parse_real(sign + 1, &share->weight) || fabs(share->weight) > 1e6)
        return bad_weight(item, n, err);
    *sign = 0;
    return GRAFT_OK;
}

graft_status gr_adapter_shares_read(gr_adapter_share **shares, size_t *count, const char *text,
                                    gr_reading how, graft_error *err) {
    size_t room = 1;
    bool whole = gr_path_exists_as(text, how);
    *count = 0;
    for (const char *p = text; *p && !whole; p++) room += *p == ',';
    *shares = gr_calloc(room, sizeof **shares);
    if (!*shares) return gr_no_memory(err, room * sizeof **shares);
    for (const char *at = text; *count < room;) {
        size_t n = whole ? strlen(at) : strcspn(at, ",");
        graft_status st = read_share(&(*shares)[*count], at, n, how, err);
        (*count)++;
        if (st == GRAFT_OK && !n) st = bad_weight(text, strlen(text), err);
        if (st != GRAFT_OK) {
            gr_adapter_shares_free(*shares, *count);
            *shares = NULL;
            *count = 0;
            return st;
        }
        at += n + (at[n] == ',');
    }
    return GRAFT_OK;
}

graft_status gr_adapter_is_single(bool *single, const char *path, gr_reading how, graft_error *err) {
    gr_adapter_share *shares;
    size_t count;
    GR_TRY(gr_adapter_shares_read(&shares, &count, path, how, err));
    *single = count == 1 && shares[0].weight == 1;
    gr_adapter_shares_free(shares, count);
    return GRAFT_OK;
}

/* ---- sums */

/* What is not A or B is no difference to the base, and cannot be added up. */
static graft_status only_pairs(const gr_adapter_part *part, graft_error *err) {
    for (size_t i = 0; i < part->tuning->param_count; i++) {
        const gr_param *p = &part->tuning->params[i];
        char name[256];
        if (p->kind == GR_PARAM_A || p->kind == GR_PARAM_B) continue;
        gr_param_name(name, sizeof name, p);
        gr_fail(err, GRAFT_UNSUPPORTED, "adapters with more than A and B cannot be added up");
        gr_where(err, "%s", part->path);
        gr_expected(err, "LoRA without DoRA, biases and whole tensors");
        return gr_found(err, "%s", name);
    }
    return GRAFT_OK;
}

static graft_status same_pool(const gr_adapter_part *parts, size_t count, graft_error *err) {
    for (size_t i = 1; i < count; i++)
        if (parts[i].tuning->pool != parts[0].tuning->pool) {
            gr_fail(err, GRAFT_UNSUPPORTED,
                    "adapters with other groups of --group-pooled cannot be added up");
            gr_where(err, "%s", parts[i].path);
            gr_expected(err, "groups of %lld as in %s", (long long)parts[0].tuning->pool, parts[0].path);
            return gr_found(err, "%lld", (long long)parts[i].tuning->pool);
        }
    return GRAFT_OK;
}

/* Ranks of one module in all parts, and the scale that the sum has there: the first part's. */
static graft_status size_module(gr_tuned *to, const gr_adapter_part *parts, size_t count, gr_role role,
                                int64_t layer, bool equal_ranks, graft_error *err) {
    char path[200];
    gr_role_name(path, sizeof path, role, layer);
    for (size_t i = 0; i < count; i++) {
        const gr_tuned *x = gr_tuning_of(parts[i].tuning, role, layer);
        if (!x->rank) continue;
        if (!to->rank) to->scale = x->scale != 0 ? x->scale : 1, to->pool = x->pool;
        if (equal_ranks && to->rank && to->rank != x->rank) {
            gr_fail(err, GRAFT_MISMATCH, "--merge linear adds matrices of one rank");
            gr_where(err, "%s: %s", parts[i].path, path);
            gr_expected(err, "rank %lld", (long long)to->rank);
            gr_found(err, "%lld", (long long)x->rank);
            return gr_hint(err, "--merge cat is exact with any ranks, --merge svd keeps the largest");
        }
        to->rank = equal_ranks ? x->rank : to->rank + x->rank;
    }
    if (equal_ranks) to->scale = 1;
    if (to->rank <= GR_RANK_MOST) return GRAFT_OK;
    gr_fail(err, GRAFT_RANGE, "the ranks of the adapters add up to more than a rank can be");
    gr_where(err, "%s", path);
    return gr_found(err, "%lld, at most %d", (long long)to->rank, GR_RANK_MOST);
}

static graft_status size_all(gr_tuning *t, const gr_adapter_part *parts, size_t count,
                             const gr_model_config *c, bool equal_ranks, graft_error *err) {
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (!gr_role_exists(role, c)) continue;
        for (int64_t l = 0; l < (gr_role_table[role].in_block ? t->layers : 1); l++)
            GR_TRY(size_module(gr_tuning_at(t, role, l), parts, count, role, l, equal_ranks, err));
    }
    t->kind = GR_TUNE_LORA;
    t->pool = parts[0].tuning->pool;
    GR_TRY(gr_tuning_place(t, c, err));
    t->scale = equal_ranks ? 1 : parts[0].tuning->scale;
    t->alpha = t->scale * (double)t->rank;
    return GRAFT_OK;
}

/* What a matrix of a part is multiplied with. cat: all of it is in B. linear, as PEFT's: the root of weight
 * and scale in both, the sign in A. source: PEFT 0.21 _generalized_task_arithmetic_weighted_adapter */
static double factor_of(const gr_param *p, const gr_adapter_part *part, const gr_tuned *from,
                        const gr_tuned *to, bool linear) {
    double strength = part->weight * (double)from->scale;
    if (!linear) return p->kind == GR_PARAM_B ? strength / (double)to->scale : 1;
    return (p->kind == GR_PARAM_A && strength < 0 ? -1 : 1) * sqrt(fabs(strength));
}

/* One matrix of a sum; of a stack number e. */
static void add_matrix(float *at, const gr_param *p, int64_t e, const gr_tuned *to,
                       const gr_adapter_part *parts, size_t count, bool linear) {
    for (size_t i = 0; i < count; i++) {
        const gr_tuned *from = gr_tuning_of(parts[i].tuning, p->role, p->layer);
        if (!from->rank) continue;
        const int64_t n = from->rank * p->cols;
        const float *x = parts[i].params + (p->kind == GR_PARAM_A ? from->a : from->b) + e * n;
        double factor = factor_of(p, &parts[i], from, to, linear);
        for (int64_t j = 0; j < n; j++) at[j] = (float)((linear ? (double)at[j] : 0) + factor * (double)x[j]);
        if (!linear) at += n;
    }
}

static void add_up(float *params, const gr_tuning *t, const gr_adapter_part *parts, size_t count,
                   bool linear) {
    for (size_t k = 0; k < t->param_count; k++) {
        const gr_param *p = &t->params[k];
        const gr_tuned *to = gr_tuning_of(t, p->role, p->layer);
        for (int64_t e = 0; e < p->stack; e++)
            add_matrix(params + p->at + e * to->rank * p->cols, p, e, to, parts, count, linear);
    }
}

graft_status gr_adapter_sum(gr_tuning **tuning, float **params, const gr_adapter_part *parts, size_t count,
                            const gr_model_config *c, bool linear, graft_error *err) {
    for (size_t i = 0; i < count; i++) GR_TRY(only_pairs(&parts[i], err));
    GR_TRY(same_pool(parts, count, err));
    GR_TRY(gr_tuning_new(tuning, c, err));
    GR_TRY(size_all(*tuning, parts, count, c, linear, err));
    *params = gr_calloc((size_t)(*tuning)->parameters, sizeof **params);
    if (!*params) return gr_no_memory(err, (size_t)(*tuning)->parameters * sizeof **params);
    add_up(*params, *tuning, parts, count, linear);
    return GRAFT_OK;
}

/* ---- loading */

/* What is known of one adapter, behind what is known of those before it; the same is not said twice. */
static void join_note(char *note, size_t size, const char *more) {
    const size_t have = strlen(note);
    if (!more[0] || strstr(note, more) || have + strlen(more) + 3 > size) return;
    snprintf(note + have, size - have, "%s%s", have ? "; " : "", more);
}

static graft_status load_parts(gr_adapter_part *parts, const gr_adapter_share *shares, size_t count,
                               const gr_model_config *c, gr_adapter_base *base, graft_error *err) {
    char note[sizeof base->note] = "";
    for (size_t i = 0; i < count; i++) {
        parts[i].path = shares[i].path;
        parts[i].weight = shares[i].weight;
        if (base) base->note[0] = 0;
        GR_TRY(gr_adapter_load_one(&parts[i].tuning, &parts[i].params, shares[i].path, c, base, err));
        if (base) join_note(note, sizeof note, base->note);
    }
    if (base) memcpy(base->note, note, sizeof note);
    return GRAFT_OK;
}

graft_status gr_adapter_load_merged(gr_tuning **tuning, float **params, const char *path,
                                    gr_adapter_merging how, int64_t rank, const gr_model_config *c,
                                    gr_adapter_base *base, graft_error *err) {
    gr_adapter_share *shares;
    size_t count;
    *tuning = NULL;
    *params = NULL;
    GR_TRY(gr_adapter_shares_read(&shares, &count, path, base ? base->reading : GR_MAPPED, err));
    gr_adapter_part *parts = gr_calloc(count, sizeof *parts);
    graft_status st = parts ? GRAFT_OK : gr_no_memory(err, count * sizeof *parts);
    if (st == GRAFT_OK) st = load_parts(parts, shares, count, c, base, err);
    if (st == GRAFT_OK && count == 1 && shares[0].weight == 1 && how != GR_MERGE_SVD) {
        *tuning = parts[0].tuning;
        *params = parts[0].params;
        parts[0] = (gr_adapter_part){0};
    } else if (st == GRAFT_OK) {
        st = gr_adapter_sum(tuning, params, parts, count, c, how == GR_MERGE_LINEAR, err);
        if (st == GRAFT_OK && how == GR_MERGE_SVD)
            st = gr_adapter_cut(tuning, params, parts, count, rank, c, err);
    }
    for (size_t i = 0; parts && i < count; i++) {
        gr_tuning_free(parts[i].tuning);
        free(parts[i].params);
    }
    if (st != GRAFT_OK) {
        gr_tuning_free(*tuning);
        free(*params);
        *tuning = NULL;
        *params = NULL;
    }
    free(parts);
    gr_adapter_shares_free(shares, count);
    return st;
}

graft_status gr_adapter_load(gr_tuning **tuning, float **params, const char *path, const gr_model_config *c,
                             gr_adapter_base *base, graft_error *err) {
    return gr_adapter_load_merged(tuning, params, path, GR_MERGE_CAT, 0, c, base, err);
}
