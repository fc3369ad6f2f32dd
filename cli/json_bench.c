/* json_bench.c - the documents of `graft bench --json`, field by field. */
#include "json_out.h"
#include <math.h>

static json_t *size_or_null(uint64_t bytes) {
    return bytes ? json_integer((json_int_t)bytes) : json_null();
}

static json_t *time_or_null(double seconds) {
    return seconds > 0 ? doc_number(seconds) : json_null();
}

/* Appends and drops the whole array where memory ran out. */
static json_t *append(json_t *array, json_t *item) {
    if (array && json_array_append_new(array, item) == 0) return array;
    json_decref(array);
    return NULL;
}

static json_t *doc_part(const graft_bench_part *p) {
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:o}", "name", p->name, "seconds", doc_number(p->seconds),
                     "percent", doc_number(p->percent), "limit", p->bandwidth ? "bandwidth" : "arithmetic",
                     "percent_of_limit", doc_number(p->percent_of_limit), "idle_percent",
                     doc_number(p->idle_percent));
}

/* What --profile adds. */
static json_t *with_profile(json_t *document, const graft_bench_result *r) {
    json_t *parts = json_array();
    for (size_t i = 0; parts && i < r->nparts; i++) parts = append(parts, doc_part(&r->parts[i]));
    document = doc_with(document, "read_gbs", doc_number(r->read_gbs));
    return doc_with(document, "parts", parts);
}

json_t *doc_bench(const graft_bench_result *r) {
    json_t *losses = json_array();
    for (size_t i = 0; losses && i < r->nlosses; i++) losses = append(losses, doc_number(r->losses[i]));
    json_t *document = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o}", "tokens_per_second",
        doc_number(r->tokens_per_second), "step_seconds", doc_number(r->step_seconds), "fastest_step_seconds",
        doc_number(r->fastest_step_seconds), "gflops", doc_number(r->gflops), "peak_gflops",
        doc_number(r->peak_gflops), "percent_of_peak", doc_number(r->percent_of_peak),
        "percent_of_peak_without_recompute", doc_number(r->percent_of_peak_without_recompute),
        "peak_rss_bytes", size_or_null(r->peak_rss_bytes), "forecast_bytes", size_or_null(r->forecast_bytes),
        "floor_bytes", size_or_null(r->floor_bytes), "grad_checkpoint", doc_text(r->grad_checkpoint),
        "slice_tokens", (json_int_t)r->slice_tokens, "head_tile", (json_int_t)r->head_tile, "losses", losses);
    return document && r->nparts ? with_profile(document, r) : document;
}

static json_t *doc_half(const graft_bench_half *x) {
    return json_pack("{s:o, s:i, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o}", "path", doc_text(x->path), "bits",
                     x->bits, "load_seconds", doc_number(x->load_seconds), "cold_seconds",
                     doc_number(x->cold_seconds), "peak_rss_bytes", size_or_null(x->peak_rss_bytes),
                     "weight_bytes", size_or_null(x->weight_bytes), "parameters", (json_int_t)x->parameters,
                     "bits_per_weight", doc_number(x->bits_per_weight), "loss", doc_number(x->loss),
                     "perplexity", doc_number(x->perplexity));
}

json_t *doc_bench_load(const graft_bench_load_result *r) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "plain", doc_half(&r->plain), "quantized",
                     doc_half(&r->quantized), "memory_saved_percent", doc_number(r->memory_saved_percent),
                     "weights_saved_percent", doc_number(r->weights_saved_percent), "load_speedup",
                     doc_number(r->load_speedup), "loss_difference", doc_number(r->loss_difference));
}

static json_t *doc_way(uint64_t forecast, uint64_t peak, uint64_t activations, double step) {
    return json_pack("{s:o, s:o, s:o, s:o}", "forecast_bytes", size_or_null(forecast), "peak_rss_bytes",
                     size_or_null(peak), "activation_bytes", size_or_null(activations), "step_seconds",
                     time_or_null(step));
}

static json_t *doc_length(const graft_bench_length *x) {
    bool both = x->step_none > 0 && x->step_layer > 0;
    json_t *mlp = doc_way(x->forecast_mlp, x->peak_mlp, x->activations_mlp, x->step_mlp);
    json_t *percents = json_pack(
        "{s:o, s:o, s:o, s:o, s:o}", "saved_percent", doc_number(x->mlp_saved_percent),
        "forecast_saved_percent", doc_number(x->mlp_forecast_saved_percent), "activations_saved_percent",
        doc_number(x->mlp_activations_saved_percent), "slower_percent", doc_number(x->mlp_slower_percent),
        "forecast_slower_percent", doc_number(x->mlp_forecast_slower_percent));
    if (!percents || json_object_update(mlp, percents) != 0) {
        json_decref(mlp);
        mlp = NULL; /* and so is the whole */
    }
    json_decref(percents);
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "seq_length",
                     (json_int_t)x->seq_length, "none",
                     doc_way(x->forecast_none, x->peak_none, x->activations_none, x->step_none), "mlp", mlp,
                     "layer", doc_way(x->forecast_layer, x->peak_layer, x->activations_layer, x->step_layer),
                     "saved_percent", doc_number(x->saved_percent), "forecast_saved_percent",
                     doc_number(x->forecast_saved_percent), "activations_saved_percent",
                     doc_number(x->activations_saved_percent), "stated_saved_percent",
                     doc_number(x->stated_saved_percent), "slower_percent", doc_number(x->slower_percent),
                     "forecast_slower_percent", doc_number(x->forecast_slower_percent),
                     "stated_slower_percent", doc_number(x->stated_slower_percent), "same_losses",
                     both ? json_boolean(x->same_losses) : json_null());
}

json_t *doc_bench_checkpoint(const graft_bench_checkpoint_result *r) {
    json_t *lengths = json_array();
    for (size_t i = 0; lengths && i < r->nlengths; i++) lengths = append(lengths, doc_length(&r->lengths[i]));
    return json_pack("{s:I, s:I, s:o}", "batch_size", (json_int_t)r->batch_size, "steps",
                     (json_int_t)r->steps, "lengths", lengths);
}

static json_t *doc_cost(const graft_bench_cost *x) {
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens_per_second", doc_number(x->tokens_per_second),
                     "percent_of_peak", doc_number(x->percent_of_peak), "peak_rss_bytes",
                     size_or_null(x->peak_rss_bytes), "forecast_bytes", size_or_null(x->forecast_bytes));
}

json_t *doc_bench_curves(const graft_bench_curves_result *r) {
    json_t *points = json_array();
    for (size_t i = 0; points && i < r->npoints; i++)
        points =
            append(points, json_pack("{s:I, s:o, s:o}", "value", (json_int_t)r->points[i].value, "none",
                                     doc_cost(&r->points[i].none), "layer", doc_cost(&r->points[i].layer)));
    return json_pack("{s:s, s:o}", "over", r->over, "points", points);
}

json_t *doc_bench_tokenize(const graft_bench_tokenize_result *r) {
    char digest[24];
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)r->digest);
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o, s:s}", "texts", (json_int_t)r->texts, "bytes",
                     (json_int_t)r->bytes, "tokens", (json_int_t)r->tokens, "tokens_per_second",
                     doc_number(r->tokens_per_second), "megabytes_per_second",
                     doc_number(r->megabytes_per_second), "open_seconds", doc_number(r->open_seconds),
                     "digest", digest);
}

json_t *doc_bench_generate(const graft_bench_generate_result *r) {
    return json_pack(
        "{s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "batch_size",
        (json_int_t)r->batch_size, "prompt_tokens", (json_int_t)r->prompt_tokens, "tokens",
        (json_int_t)r->tokens, "prompt_tokens_per_second", doc_number(r->prompt_tokens_per_second),
        "prompt_gflops", doc_number(r->prompt_gflops), "peak_gflops", doc_number(r->peak_gflops),
        "prompt_percent_of_peak", doc_number(r->prompt_percent_of_peak), "generation_tokens_per_second",
        doc_number(r->generation_tokens_per_second), "generation_gbs", doc_number(r->generation_gbs),
        "read_gbs", doc_number(r->read_gbs), "generation_percent_of_bandwidth",
        doc_number(r->generation_percent_of_bandwidth), "step_bytes", (json_int_t)r->step_bytes,
        "peak_rss_bytes", (json_int_t)r->peak_rss_bytes);
}

static json_t *doc_split(const graft_bench_split *x) {
    return json_pack("{s:I, s:I, s:b, s:o, s:o, s:o, s:o}", "micro_batches", (json_int_t)x->micro_batches,
                     "rows", (json_int_t)x->rows, "identical", (int)x->identical, "largest_difference",
                     doc_number(x->largest_difference), "relative_difference",
                     doc_number(x->relative_difference), "means_largest_difference",
                     doc_number(x->means_largest_difference), "means_relative_difference",
                     doc_number(x->means_relative_difference));
}

json_t *doc_bench_accumulate(const graft_bench_accumulate_result *r) {
    json_t *splits = json_array();
    for (size_t i = 0; splits && i < r->nsplits; i++) splits = append(splits, doc_split(&r->splits[i]));
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "rows", (json_int_t)r->rows, "tokens",
                     (json_int_t)r->tokens, "targets", (json_int_t)r->targets, "parameters",
                     (json_int_t)r->parameters, "shortest", (json_int_t)r->shortest, "longest",
                     (json_int_t)r->longest, "gradient_norm", doc_number(r->gradient_norm), "splits", splits);
}
