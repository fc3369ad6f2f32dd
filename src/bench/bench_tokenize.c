/* How fast texts become tokens: every line of a file that is not blank is a text. */
#include "base/digest.h"
#include "base/hooks.h"
#include "bench/bench.h"
#include "bench/bench_run.h"
#include "files/json_write.h"
#include "files/jsonl.h"
#include "text/tokenizer.h"
#include <jansson.h>
#include <math.h>

#define PASSES_MIN  3
#define PASSES_MAX  200
#define SECONDS_MIN 1.0

static graft_status file_of(char **path, const graft_options *o, graft_error *err) {
    if (!o->data) {
        gr_fail(err, GRAFT_USAGE, "bench tokenize needs a text");
        return gr_hint(err, "--data FILE, whose lines are the texts");
    }
    *path = gr_path_is_dir(o->data) ? gr_path_join(o->data, "train.jsonl") : gr_strdup(o->data);
    return *path ? GRAFT_OK : gr_no_memory(err, strlen(o->data));
}

/* Every text once; its ids follow one another in `ids`. */
static graft_status pass(const gr_tokenizer *tok, const gr_jsonl *lines, gr_ids *ids,
                         graft_bench_tokenize_result *r, graft_error *err) {
    ids->count = 0;
    r->bytes = 0;
    for (size_t i = 0; i < gr_jsonl_count(lines); i++) {
        const char *text;
        size_t len;
        uint64_t line;
        gr_jsonl_row(lines, i, &text, &len, &line);
        r->bytes += len;
        GR_TRY(gr_tokenizer_encode(tok, text, len, GR_ENCODE_PARSE_SPECIAL, ids, err));
    }
    return GRAFT_OK;
}

static graft_status measure(const gr_tokenizer *tok, const gr_jsonl *lines, const graft_hooks *hooks,
                            graft_bench_tokenize_result *r, graft_error *err) {
    double seconds[PASSES_MAX], start = gr_clock();
    int passes = 0;
    gr_ids ids = {0};
    graft_status st = GRAFT_OK;
    while (st == GRAFT_OK && passes < PASSES_MAX &&
           (passes < PASSES_MIN || gr_clock() - start < SECONDS_MIN)) {
        double from = gr_clock();
        st = gr_stopped(hooks) ? gr_fail(err, GRAFT_INTERRUPTED, "benchmark stopped")
                               : pass(tok, lines, &ids, r, err);
        seconds[passes++] = gr_clock() - from;
    }
    if (st == GRAFT_OK) {
        gr_bench_sort(seconds, passes);
        double median = seconds[passes / 2];
        r->texts = gr_jsonl_count(lines);
        r->tokens = ids.count;
        r->tokens_per_second = median > 0 ? (double)ids.count / median : 0;
        r->megabytes_per_second = median > 0 ? (double)r->bytes / 1e6 / median : 0;
        r->digest = GR_DIGEST_START;
        for (size_t i = 0; i < ids.count; i++) r->digest = gr_digest_step(r->digest, (uint32_t)ids.ids[i]);
    }
    gr_ids_free(&ids);
    return st;
}

graft_status gr_bench_tokenize(const char *dir, const graft_options *o, const graft_hooks *hooks,
                               graft_bench_tokenize_result *r, graft_error *err) {
    gr_tokenizer *tok = NULL;
    gr_jsonl *lines = NULL;
    char *path = NULL;
    memset(r, 0, sizeof *r);
    GR_TRY(file_of(&path, o, err));
    double start = gr_clock();
    graft_status st = gr_tokenizer_open_as(&tok, dir, gr_options_reading(o), err);
    r->open_seconds = gr_clock() - start;
    if (st == GRAFT_OK) st = gr_jsonl_open(&lines, path, err);
    if (st == GRAFT_OK) st = measure(tok, lines, hooks, r, err);
    gr_jsonl_close(lines);
    gr_tokenizer_free(tok);
    free(path);
    return st;
}

graft_status gr_bench_tokenize_export(const char *dir, const graft_options *o, const char *out,
                                      graft_error *err) {
    char *path = NULL, *run = NULL;
    GR_TRY(file_of(&path, o, err));
    if (!out) {
        free(path);
        return GRAFT_OK;
    }
    graft_status st = gr_make_dirs(out, err);
    char *model = realpath(dir, NULL), *data = realpath(path, NULL);
    run = gr_path_join(out, "run.json");
    json_t *text = json_pack("{s:s?, s:s?, s:i}", "model", model, "data", data, "threads",
                             o->threads > 0 ? (int)o->threads : gr_processors());
    if (st == GRAFT_OK)
        st = text && run && model && data ? gr_json_save(run, text, err) : gr_no_memory(err, 0);
    json_decref(text);
    free(model);
    free(data);
    free(run);
    free(path);
    return st;
}
