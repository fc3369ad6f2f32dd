#include "api/api.h"
#include "bench/bench.h"
#include "bench/bench_generate.h"
#include "infer/session.h"

static graft_status begin_bench(const graft_options *o, const char *benchmark, graft_error *err) {
    GR_TRY(gr_api_begin(o, GRAFT_VERB_BENCH, err));
    return gr_options_check_bench(o, benchmark, err);
}

graft_status graft_bench_train(const graft_options *o, const graft_hooks *hooks, graft_bench_result *result,
                               graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "train", err));
    if (gr_options_given(o, "peer-steps") && !o->peer) {
        gr_fail(err, GRAFT_USAGE, "--peer-steps without --peer");
        return gr_hint(err, "add --peer torch, mlx or bnb");
    }
    GR_TRY(gr_api_dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_train(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_export(const graft_options *o, const graft_hooks *hooks, const char *out,
                                graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    GR_TRY(begin_bench(o, "train", err));
    GR_TRY(gr_api_dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_export(dir, o, hooks, out, err);
    free(dir);
    return st;
}

graft_status graft_bench_curves(const graft_options *o, const graft_hooks *hooks,
                                graft_bench_curves_result *result, graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "curves", err));
    GR_TRY(gr_api_dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_curves(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_tokenize(const graft_options *o, const graft_hooks *hooks,
                                  graft_bench_tokenize_result *result, graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "tokenize", err));
    GR_TRY(gr_api_model_dir(&dir, o, true, hooks, err));
    graft_status st = gr_bench_tokenize(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_tokenize_export(const graft_options *o, const graft_hooks *hooks, const char *out,
                                         graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    GR_TRY(begin_bench(o, "tokenize", err));
    GR_TRY(gr_api_model_dir(&dir, o, true, hooks, err));
    graft_status st = gr_bench_tokenize_export(dir, o, out, err);
    free(dir);
    return st;
}

/* The loss of one half on options.data. */
static graft_status evaluate_half(graft_bench_half *half, const graft_options *o, const graft_hooks *hooks,
                                  graft_error *err) {
    graft_eval_result result = {0};
    GR_TRY(gr_evaluate(half->path, o, o->adapter_path, hooks, &result, err));
    half->loss = result.loss;
    half->perplexity = result.perplexity;
    graft_eval_result_free(&result);
    return GRAFT_OK;
}

graft_status graft_bench_load(const graft_options *o, const graft_hooks *hooks,
                              graft_bench_load_result *result, graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "load", err));
    GR_TRY(gr_api_model_dir(&dir, o, true, hooks, err));
    graft_status st = gr_bench_load(dir, o, hooks, result, err);
    free(dir);
    if (st == GRAFT_OK && o->data) {
        st = evaluate_half(&result->quantized, o, hooks, err);
        if (st == GRAFT_OK) st = evaluate_half(&result->plain, o, hooks, err);
        if (st == GRAFT_OK)
            gr_bench_load_compare(result);
        else
            graft_bench_load_result_free(result);
    }
    return st;
}

graft_status graft_bench_checkpoint(const graft_options *o, const graft_hooks *hooks,
                                    graft_bench_checkpoint_result *result, graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "checkpoint", err));
    GR_TRY(gr_api_dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_checkpoint(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_kernels(const graft_options *o, const graft_hooks *hooks,
                                 graft_bench_kernels_result *result, graft_error *err) {
    GR_API_OWN_ERROR(err);
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "kernels", err));
    return gr_bench_kernels(o, hooks, result, err);
}

graft_status graft_bench_generate(const graft_options *o, const graft_hooks *hooks,
                                  graft_bench_generate_result *result, graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "generate", err));
    GR_TRY(gr_api_dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_generate(dir, o, hooks, result, err);
    free(dir);
    return st;
}

graft_status graft_bench_generate_export(const graft_options *o, const graft_hooks *hooks, const char *dir,
                                         graft_error *err) {
    GR_API_OWN_ERROR(err);
    (void)hooks;
    GR_TRY(begin_bench(o, "generate", err));
    return gr_bench_generate_export(o, dir, err);
}

graft_status graft_bench_accumulate(const graft_options *o, const graft_hooks *hooks,
                                    graft_bench_accumulate_result *result, graft_error *err) {
    GR_API_OWN_ERROR(err);
    char *dir;
    memset(result, 0, sizeof *result);
    GR_TRY(begin_bench(o, "accumulate", err));
    GR_TRY(gr_api_dir_or_shape(&dir, o, GRAFT_VERB_BENCH, hooks, err));
    graft_status st = gr_bench_accumulate(dir, o, hooks, result, err);
    free(dir);
    return st;
}
