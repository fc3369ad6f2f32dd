/* train/run_record.c - run.json: what a run was given and expects, for whoever looks at the directory.
 * metrics.jsonl has what came of it. */
#include "files/json_write.h"
#include "report/run.h"
#include "train/trainer.h"

#define LENGTH_BINS 16

static int by_length(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* "lengths": how many rows, of preferences how many of their halves, have up to "bin" tokens, up to twice as
 * many, and so on. */
static json_t *rows_json(bool *good, const gr_rows *rows) {
    int64_t n = gr_rows_count(rows), longest = gr_rows_longest(rows), counts[LENGTH_BINS] = {0};
    int64_t bin = gr_max_i64(1, (longest + LENGTH_BINS - 1) / LENGTH_BINS);
    int64_t *lengths = gr_calloc((size_t)n, sizeof *lengths);
    if (!lengths || !n) {
        *good = *good && lengths;
        free(lengths);
        return NULL;
    }
    for (int64_t i = 0; i < n; i++) {
        lengths[i] = gr_rows_at(rows, i).count;
        counts[gr_min_i64(gr_max_i64(lengths[i] - 1, 0) / bin, LENGTH_BINS - 1)]++;
    }
    qsort(lengths, (size_t)n, sizeof *lengths, by_length);
    json_t *bins = json_array(), *all = json_object();
    for (int i = 0; i < LENGTH_BINS; i++) gr_json_append(good, bins, json_integer(counts[i]));
    const char *name = gr_rows_name(rows);
    gr_json_put(good, all, "file", json_string(gr_json_utf8(name) ? name : ""));
    gr_json_put(good, all, "rows", json_integer(n / gr_rows_width(rows))); /* or pairs */
    gr_json_put(good, all, "tokens", json_integer(gr_rows_tokens(rows)));
    gr_json_put(good, all, "targets", json_integer(gr_rows_targets(rows)));
    gr_json_put(good, all, "shortest", json_integer(lengths[0]));
    gr_json_put(good, all, "median", json_integer(lengths[n / 2]));
    gr_json_put(good, all, "longest", json_integer(longest));
    gr_json_put(good, all, "bin", json_integer(bin));
    gr_json_put(good, all, "lengths", bins);
    free(lengths);
    return all;
}

static json_t *data_json(bool *good, const gr_trainer *t) {
    json_t *data = json_object();
    graft_packing p = gr_trainer_packing(t);
    if (t->train) gr_json_put(good, data, "train", rows_json(good, t->train));
    if (t->valid && gr_rows_count(t->valid)) gr_json_put(good, data, "valid", rows_json(good, t->valid));
    if (p.packs)
        gr_json_put(good, data, "packs",
                    json_pack("{s:I, s:I, s:f}", "packs", p.packs, "capacity", p.capacity, "percent_full",
                              p.percent_full));
    return data;
}

static json_t *memory_json(const graft_memory *m) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "mapped", (json_int_t)m->mapped, "state",
                     (json_int_t)m->state, "saved", (json_int_t)m->saved, "scratch", (json_int_t)m->scratch,
                     "other", (json_int_t)m->other, "total", (json_int_t)m->total);
}

/* graft_options_text as an object of strings. */
static json_t *settings_json(bool *good, const graft_options *o) {
    char *text = graft_options_text(o, GRAFT_VERB_TRAIN), *rest = NULL;
    json_t *all = json_object();
    *good = *good && text;
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        char *value = strstr(line, ": ");
        if (!value) continue;
        *value = '\0';
        value += 2;
        if (gr_json_utf8(value)) gr_json_put(good, all, line, json_string(value));
    }
    free(text);
    return all;
}

graft_status gr_record_save(const gr_trainer *t, bool anew, graft_error *err) {
    bool good = true;
    char digest[24], earlier[GR_CHANGE_STAMP];
    gr_buf kind = {0};
    json_t *all = json_object();
    char *path = gr_path_join(t->dir, "run.json");
    const char *base = gr_trainer_base(t);
    gr_trainer_kind(t, &kind);
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)t->rt.model->digest);
    gr_json_put(&good, all, "program", json_string("graft " GRAFT_VERSION));
    gr_json_put(&good, all, "started", json_integer(t->now));
    gr_json_put(&good, all, "model", json_string(gr_json_utf8(base) ? base : ""));
    gr_json_put(&good, all, "base_digest", json_string(digest));
    gr_json_put(&good, all, "trains", json_string(kind.data ? kind.data : ""));
    gr_json_put(&good, all, "parameters", json_integer(gr_model_parameters(t->rt.model)));
    gr_json_put(&good, all, "trainable", json_integer(t->rt.tuning->parameters));
    gr_json_put(&good, all, "iterations", json_integer(t->iters));
    gr_json_put(&good, all, "updates", json_integer(t->updates));
    gr_json_put(&good, all, "tokens", json_integer((json_int_t)t->total_tokens));
    gr_json_put(&good, all, "memory", memory_json(&t->forecast));
    gr_json_put(&good, all, "recompute", json_string(gr_recompute_name[t->recompute]));
    gr_json_put(&good, all, "slice_tokens", json_integer(t->slice_tokens));
    gr_json_put(&good, all, "data", data_json(&good, t));
    gr_change_stamp(earlier, t->dir);
    if (anew && earlier[0]) gr_json_put(&good, all, "earlier_adapter", json_string(earlier));
    gr_json_put(&good, all, "settings", settings_json(&good, t->o));
    graft_status st = path && good && !kind.failed ? gr_json_save(path, all, err) : gr_no_memory(err, 0);
    gr_buf_free(&kind);
    json_decref(all);
    free(path);
    return st;
}
