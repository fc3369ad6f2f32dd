/* json_out.c - the documents of --json, field by field. */
#include "json_out.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

json_t *doc_number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *doc_size(uint64_t bytes) {
    return json_integer(bytes > INT64_MAX ? INT64_MAX : (json_int_t)bytes);
}

/* Length of the well-formed UTF-8 sequence at p[0..n), 0 if there is none. */
static size_t sequence(const unsigned char *p, size_t n) {
    if (p[0] < 0x80) return 1;
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < len) return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    /* overlong forms, surrogates, beyond U+10FFFF */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0)) return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90)) return 0;
    return len;
}

json_t *doc_text(const char *text) {
    if (!text) return json_null();
    json_t *plain = json_string(text); /* refuses what is not UTF-8 */
    if (plain) return plain;
    size_t n = strlen(text), at = 0;
    char *fixed = malloc(3 * n + 1);
    if (!fixed) return NULL;
    for (size_t i = 0; i < n;) {
        size_t len = sequence((const unsigned char *)text + i, n - i);
        memcpy(fixed + at, len ? text + i : "\xef\xbf\xbd", len ? len : 3);
        at += len ? len : 3;
        i += len ? len : 1;
    }
    json_t *string = json_stringn(fixed, at);
    free(fixed);
    return string;
}

json_t *doc_with(json_t *document, const char *key, json_t *value) {
    if (document && json_object_set_new(document, key, value) == 0) return document;
    if (!document) json_decref(value); /* else it is gone already */
    json_decref(document);
    return NULL;
}

json_t *doc_parse(const char *text) {
    /* jansson drops characters of a token where memory runs out. A first token as long as all the rest makes
     * room for every other, and shows whether it could. */
    json_error_t error;
    size_t n = strlen(text);
    char *padded = malloc(2 * n + 8);
    if (!padded) return NULL;
    memcpy(padded, "[\"", 2);
    memset(padded + 2, 'x', n);
    snprintf(padded + 2 + n, n + 6, "\",%s]", text);
    json_t *pair = json_loads(padded, 0, &error);
    free(padded);
    bool whole = json_array_size(pair) == 2 && json_string_length(json_array_get(pair, 0)) == n;
    json_t *value = whole ? json_incref(json_array_get(pair, 1)) : NULL;
    json_decref(pair);
    return value;
}

json_t *doc_memory(const graft_memory *m) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "mapped", doc_size(m->mapped), "state",
                     doc_size(m->state), "saved", doc_size(m->saved), "scratch", doc_size(m->scratch),
                     "other", doc_size(m->other), "total", doc_size(m->total));
}

static json_t *doc_frozen(const char *frozen) {
    if (frozen && strcmp(frozen, "partial") == 0) return json_string("partial");
    return json_boolean(frozen && strcmp(frozen, "true") == 0);
}

static json_t *doc_type(const graft_plan_type *t) {
    return json_pack("{s:o, s:b, s:b, s:o, s:o, s:I, s:I, s:o}", "type", doc_text(t->type), "quantize",
                     (int)t->quantize, "lora", (int)t->lora, "frozen", doc_frozen(t->frozen), "notes",
                     doc_text(t->notes ? t->notes : ""), "tensors", (json_int_t)t->tensors, "parameters",
                     (json_int_t)t->parameters, "bytes", doc_size(t->bytes));
}

static json_t *doc_tensor(const graft_plan_tensor *t) {
    json_t *shape = t->shape[1] ? json_pack("[I, I]", (json_int_t)t->shape[0], (json_int_t)t->shape[1])
                                : json_pack("[I]", (json_int_t)t->shape[0]);
    return json_pack("{s:o, s:o, s:o, s:b, s:i, s:i, s:b, s:I, s:o, s:o}", "name", doc_text(t->name), "shape",
                     shape, "role", doc_text(t->role), "quantize", (int)t->quantize, "bits", t->bits,
                     "group_size", t->group_size, "adapter", (int)t->adapter, "rank", (json_int_t)t->rank,
                     "frozen", doc_frozen(t->frozen), "bytes", doc_size(t->bytes));
}

/* Appends and drops the whole array where memory ran out. */
static json_t *append(json_t *array, json_t *item) {
    if (array && json_array_append_new(array, item) == 0) return array;
    json_decref(array);
    return NULL;
}

/* Bytes here, bytes of training every weight in 16 bits, and how much less that is. */
static json_t *doc_saving(uint64_t bytes, uint64_t full) {
    return json_pack("{s:o, s:o, s:o}", "bytes", doc_size(bytes), "full_bytes", doc_size(full),
                     "saved_percent", doc_number(full > 0 ? 100 * (1 - (double)bytes / (double)full) : NAN));
}

/* null without --pack */
static json_t *doc_packing(const graft_packing *p) {
    if (!p->packs) return json_null();
    return json_pack("{s:I, s:I, s:I, s:I, s:o}", "rows", (json_int_t)p->rows, "packs", (json_int_t)p->packs,
                     "tokens", (json_int_t)p->tokens, "capacity", (json_int_t)p->capacity, "percent_full",
                     doc_number(p->percent_full));
}

json_t *doc_plan(const graft_plan *p) {
    json_t *types = json_array(), *tensors = json_array();
    for (size_t i = 0; types && i < GRAFT_PLAN_TYPES; i++) types = append(types, doc_type(&p->types[i]));
    for (size_t i = 0; tensors && i < p->tensors_count; i++)
        tensors = append(tensors, doc_tensor(&p->tensors_list[i]));
    double percent =
        p->parameters_total > 0 ? 100.0 * (double)p->parameters_trainable / (double)p->parameters_total : NAN;
    json_t *parameters = json_pack("{s:I, s:I, s:o}", "total", (json_int_t)p->parameters_total, "trainable",
                                   (json_int_t)p->parameters_trainable, "percent", doc_number(percent));
    json_t *impact =
        json_pack("{s:o, s:o, s:o}", "trainable_percent", doc_number(percent), "gradients_and_optimizer",
                  doc_saving(p->gradients_optimizer, p->full_gradients_optimizer), "process",
                  doc_saving(p->memory.total, p->full.total));
    bool timed = p->time_seconds > 0; /* 0: no data, nothing to forecast */
    json_t *time = json_pack("{s:I, s:o, s:o}", "tokens", (json_int_t)p->time_tokens, "seconds",
                             doc_number(timed ? p->time_seconds : NAN), "tokens_per_second",
                             doc_number(p->tokens_per_second > 0 ? p->tokens_per_second : NAN));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "model",
                     doc_text(p->model), "model_type", doc_text(p->model_type), "types", types, "tensors",
                     tensors, "parameters", parameters, "memory", doc_memory(&p->memory), "impact", impact,
                     "time", time, "grad_checkpoint", doc_text(p->grad_checkpoint), "sequence_length",
                     (json_int_t)p->sequence_length, "batch_size", (json_int_t)p->batch_size, "iterations",
                     (json_int_t)p->iterations, "slice_tokens", (json_int_t)p->slice_tokens, "head_tile",
                     (json_int_t)p->head_tile, "packing", doc_packing(&p->packing));
}

/* What --verify-frozen found; null without it. */
static json_t *doc_verified(const graft_train_result *r) {
    char digest[24];
    if (!r->verified) return json_null();
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)r->frozen_digest);
    return json_pack("{s:I, s:I, s:s}", "frozen_tensors", (json_int_t)r->frozen_tensors, "trained_tensors",
                     (json_int_t)r->trained_tensors, "frozen_digest", digest);
}

json_t *doc_train(const graft_train_result *r) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:o, s:o}",
                     "iterations", (json_int_t)r->iterations, "updates", (json_int_t)r->updates,
                     "skipped_updates", (json_int_t)r->skipped_updates, "loss_spikes",
                     (json_int_t)r->loss_spikes, "gradient_spikes", (json_int_t)r->gradient_spikes,
                     "trained_tokens", (json_int_t)r->trained_tokens, "train_loss", doc_number(r->train_loss),
                     "val_loss_first", doc_number(r->val_loss_first), "val_loss_last",
                     doc_number(r->val_loss_last), "val_loss_best", doc_number(r->val_loss_best), "seconds",
                     doc_number(r->seconds), "forecast", doc_memory(&r->forecast), "peak_memory_bytes",
                     doc_size(r->peak_memory_bytes), "interrupted", (int)r->interrupted, "stopped_early",
                     (int)r->stopped_early, "verified", doc_verified(r), "packing", doc_packing(&r->packing));
}

/* Keys as TRL's metrics have them. */
static json_t *doc_pairs(const graft_eval_result *r) {
    const graft_preference *p = &r->preference;
    json_t *doc = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "loss", doc_number(r->loss), "accuracy",
        doc_number(r->accuracy), "rewards/chosen", doc_number(p->reward_chosen), "rewards/rejected",
        doc_number(p->reward_rejected), "rewards/accuracies", doc_number(p->accuracy), "rewards/margins",
        doc_number(p->margin), "logps/chosen", doc_number(p->logp_chosen), "logps/rejected",
        doc_number(p->logp_rejected), "tokens", (json_int_t)r->tokens, "rows", (json_int_t)r->rows);
    if (doc && !isnan(p->nll_loss)) {
        doc = doc_with(doc, "nll_loss", doc_number(p->nll_loss));
        doc = doc_with(doc, "log_odds_ratio", doc_number(p->log_odds_ratio));
        doc = doc_with(doc, "log_odds_chosen", doc_number(p->log_odds_chosen));
    }
    if (!doc || !r->row_losses) return doc;
    json_t *rows = json_array();
    for (int64_t i = 0; rows && i < r->rows; i++) {
        const graft_row_loss *x = &r->row_losses[i];
        rows = append(rows, json_pack("{s:o, s:o, s:I, s:o, s:o}", "line", doc_size(x->line), "loss",
                                      doc_number(x->loss), "tokens", (json_int_t)x->tokens, "rewards/chosen",
                                      doc_number(x->reward_chosen), "rewards/rejected",
                                      doc_number(x->reward_rejected)));
    }
    return doc_with(doc, "row_losses", rows);
}

json_t *doc_eval(const graft_eval_result *r) {
    if (r->preference.pairs) return doc_pairs(r);
    json_t *doc = json_pack("{s:o, s:o, s:o, s:o, s:I, s:I}", "loss", doc_number(r->loss), "perplexity",
                            doc_number(r->perplexity), "perplexity_stderr", doc_number(r->perplexity_stderr),
                            "accuracy", doc_number(r->accuracy), "tokens", (json_int_t)r->tokens, "rows",
                            (json_int_t)r->rows);
    if (!doc || !r->row_losses) return doc;
    json_t *rows = json_array();
    for (int64_t i = 0; rows && i < r->rows; i++)
        rows = append(rows, json_pack("{s:o, s:o, s:I}", "line", doc_size(r->row_losses[i].line), "loss",
                                      doc_number(r->row_losses[i].loss), "tokens",
                                      (json_int_t)r->row_losses[i].tokens));
    return doc_with(doc, "row_losses", rows);
}

json_t *doc_generation(const graft_generation *g) {
    return json_pack("{s:o, s:I, s:I, s:o, s:o}", "text", doc_text(g->text ? g->text : ""), "tokens",
                     (json_int_t)g->tokens, "prompt_tokens", (json_int_t)g->prompt_tokens,
                     "prompt_tokens_per_second", doc_number(g->prompt_tokens_per_second),
                     "generation_tokens_per_second", doc_number(g->generation_tokens_per_second));
}

json_t *doc_answer(const graft_answer *a) {
    return json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "text", doc_text(a->text), "finish_reason",
                     a->finish, "tokens", (json_int_t)a->tokens, "prompt_tokens",
                     (json_int_t)a->prompt_tokens, "cached_tokens", (json_int_t)a->cached_tokens, "dropped",
                     (json_int_t)a->dropped, "prompt_tokens_per_second",
                     doc_number(a->prompt_tokens_per_second), "generation_tokens_per_second",
                     doc_number(a->generation_tokens_per_second));
}

json_t *doc_row(const graft_row *row, bool rendered) {
    if (rendered) return json_pack("{s:o, s:o}", "line", doc_size(row->line), "text", doc_text(row->text));
    json_t *ids = json_array(), *mask = json_array();
    for (size_t i = 0; ids && mask && i < row->count; i++) {
        ids = append(ids, json_integer(row->ids[i]));
        mask = append(mask, json_integer(row->mask[i] != 0));
    }
    json_t *doc = json_pack("{s:o, s:o, s:o, s:o}", "line", doc_size(row->line), "ids", ids, "mask", mask,
                            "text", doc_text(row->text));
    return doc && row->half ? doc_with(doc, "half", json_string(row->half)) : doc;
}

json_t *doc_convert(const graft_convert_result *r) {
    return json_pack("{s:o, s:I, s:o, s:o}", "bits_per_weight", doc_number(r->bits_per_weight), "tensors",
                     (json_int_t)r->tensors, "bytes", doc_size(r->bytes), "notes",
                     doc_text(r->notes ? r->notes : ""));
}

/* losses are null without --data */
json_t *doc_fuse(const graft_fuse_result *r) {
    return json_pack(
        "{s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:I, s:I}", "tensors", (json_int_t)r->tensors,
        "changed", (json_int_t)r->changed, "bytes", doc_size(r->bytes), "bits_per_weight",
        doc_number(r->bits_per_weight), "loss_base", doc_number(r->measured ? r->loss_base : NAN),
        "loss_adapter", doc_number(r->measured ? r->loss_adapter : NAN), "loss_fused",
        doc_number(r->measured ? r->loss_fused : NAN), "kept", doc_number(r->measured ? r->kept : NAN),
        "lossy", (int)r->lossy, "tokens", (json_int_t)r->tokens, "rows", (json_int_t)r->rows);
}

json_t *doc_export(const graft_export_result *r, const char *out) {
    json_t *files = json_array();
    bool good = files != NULL;
    for (int i = 0; r->files[i]; i++)
        good = good && json_array_append_new(files, json_string(r->files[i])) == 0;
    if (!good) {
        json_decref(files);
        return NULL;
    }
    return json_pack("{s:o, s:o, s:o, s:s, s:I, s:I, s:I, s:o}", "out", doc_text(out), "files", files, "base",
                     doc_text(r->base), "digest", r->digest, "modules", (json_int_t)r->modules, "rank",
                     (json_int_t)r->rank, "parameters", (json_int_t)r->parameters, "notes",
                     doc_text(r->notes));
}

graft_status doc_print(cli *c, json_t *document, bool line) {
    progress_clear(&c->bar);
    if (!document) return cli_fail(c, GRAFT_NO_MEMORY, "cannot build the JSON document");
    size_t flags = (line ? JSON_COMPACT : JSON_INDENT(2)) | JSON_ENCODE_ANY;
    /* json_dumps forgets keys where memory runs out; into a given buffer it cannot */
    size_t n = json_dumpb(document, NULL, 0, flags);
    char *text = n ? malloc(n + 1) : NULL;
    bool whole = text && json_dumpb(document, text, n, flags) == n;
    json_decref(document);
    errno = 0;
    if (whole) {
        text[n] = '\n';
        fwrite(text, 1, n + 1, stdout);
    }
    free(text);
    if (!whole) return cli_fail(c, GRAFT_NO_MEMORY, "cannot build the JSON document");
    out_alive(c);
    return GRAFT_OK;
}
