/* graft_bench.h - the benchmarks behind `graft bench`.
 */
#ifndef GRAFT_BENCH_H
#define GRAFT_BENCH_H
#include "graft_hooks.h"
#include "graft_options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Names of the benchmarks, ended by NULL, and whether one of them takes an option of GRAFT_VERB_BENCH. What
 * was set with graft_options_set and the benchmark does not take is refused with GRAFT_USAGE. */
const char *const *graft_benchmarks(void);
/* Whether the benchmark takes the option. */
bool graft_bench_takes(const char *benchmark, const char *option);

/* One part of a training step, for options.profile: means over the steps after the first. */
typedef struct graft_bench_part {
    const char *name;
    double seconds;          /* of a step */
    double percent;          /* of the step */
    double percent_of_limit; /* useful operations against the peak of arithmetic, or bytes that must move
                                against the bandwidth of reading; NAN: not counted */
    bool bandwidth;          /* which of the two */
    double idle_percent;     /* of the threads' time in the part: waiting and handing out */
} graft_bench_part;

/* What a step of training takes. Free it. */
typedef struct graft_bench_result {
    double tokens_per_second, step_seconds, fastest_step_seconds;
    double gflops, peak_gflops, percent_of_peak, percent_of_peak_without_recompute;
    uint64_t peak_rss_bytes, forecast_bytes;
    uint64_t floor_bytes;        /* the least that such training could take, one row at a time */
    const char *grad_checkpoint; /* what auto or the budget chose: none, mlp or layer */
    int64_t slice_tokens;        /* most tokens of one forward and backward */
    int64_t head_tile;           /* most rows of logits at once */
    double *losses;
    size_t nlosses;
    double read_gbs; /* bandwidth of reading memory; 0 without options.profile */
    graft_bench_part *parts;
    size_t nparts; /* 0 without options.profile */
} graft_bench_result;
/* options.steps training steps of options.batch_size rows of options.seq_length tokens on options.model, or
 * on random weights of options.shape; rows come from options.data if given. */
graft_status graft_bench_train(const graft_options *options, const graft_hooks *hooks,
                               graft_bench_result *result, graft_error *err);
void graft_bench_result_free(graft_bench_result *result);

/* Writes into `dir` (made if missing) what another program needs to do the first options.peer_steps of the
 * same steps: run.json (settings, the model's directory or the shape's config, the rate of every update),
 * batches.safetensors (ids and targets, [batches, rows, tokens]) and adapter/ (the initial A and B, for
 * mlx-lm and PEFT). GRAFT_UNSUPPORTED for what the other programs are not told to do: optimizers but adamw,
 * dora and full, biases, dropout, LoRA+, saved modules. dir NULL: only that question. */
graft_status graft_bench_export(const graft_options *options, const graft_hooks *hooks, const char *dir,
                                graft_error *err);

/* What another program measured on the same steps. */
typedef struct graft_bench_peer {
    const char *program; /* name and version */
    double tokens_per_second, step_seconds;
    uint64_t peak_rss_bytes;
    const double *losses;
    size_t nlosses;
} graft_bench_peer;

/* One half of `bench load`. */
typedef struct graft_bench_half {
    char *path;              /* the directory that was measured */
    int bits;                /* of the linears; 0: not all the same */
    double load_seconds;     /* open, check and read every weight; files in the system's cache */
    double cold_seconds;     /* the first time, after the system was asked to drop them; NaN: it cannot */
    uint64_t peak_rss_bytes; /* of the whole process while it loads; 0: this system cannot tell */
    uint64_t weight_bytes;
    int64_t parameters;
    double bits_per_weight;
    double loss, perplexity; /* on options.data; NaN without */
} graft_bench_half;

/* The two halves beside each other. Free it. */
typedef struct graft_bench_load_result {
    graft_bench_half plain, quantized; /* 16-bit (or the source's 32), options.bits */
    double memory_saved_percent;       /* of the peak; NaN: unknown */
    double weights_saved_percent;
    double load_speedup;    /* plain seconds / quantized seconds */
    double loss_difference; /* quantized - plain; NaN without data */
} graft_bench_load_result;
/* Loads options.model in 16 bits and in options.bits. The half that the model is not is a conversion, made
 * once and kept in the cache; a model of other bits is dequantized first. */
graft_status graft_bench_load(const graft_options *options, const graft_hooks *hooks,
                              graft_bench_load_result *result, graft_error *err);
void graft_bench_load_result_free(graft_bench_load_result *result);

/* One sequence length of `bench checkpoint`: everything kept (none) against recompute of the whole block
 * (layer) and of its MLP alone (mlp). Percents are layer's unless they name mlp. */
typedef struct graft_bench_length {
    int64_t seq_length;
    uint64_t forecast_none, forecast_layer;       /* process peaks as `graft plan` forecasts them */
    uint64_t peak_none, peak_layer;               /* measured; 0: did not fit, or this system cannot tell */
    uint64_t activations_none, activations_layer; /* of these, kept activations and work buffers */
    double step_none, step_layer;                 /* seconds of the fastest step; 0: did not fit */
    double forecast_saved_percent, saved_percent; /* of the process peak; NaN: not known */
    double activations_saved_percent;
    double forecast_slower_percent, slower_percent;     /* by operations; measured */
    double stated_saved_percent, stated_slower_percent; /* what docs/weights.md says that its guide states for
                                                           this length; NaN for others */
    bool same_losses;                                   /* all ways gave the same bits in every step */
    uint64_t forecast_mlp, peak_mlp, activations_mlp;
    double step_mlp;
    double mlp_forecast_saved_percent, mlp_saved_percent, mlp_activations_saved_percent;
    double mlp_forecast_slower_percent, mlp_slower_percent;
} graft_bench_length;

/* One row for each sequence length. Free it. */
typedef struct graft_bench_checkpoint_result {
    int64_t batch_size, steps;
    graft_bench_length *lengths;
    size_t nlengths;
} graft_bench_checkpoint_result;
/* options.steps (3 unless given) steps of options.batch_size (1 unless given) rows for each of
 * options.seq_lengths, without recompute and with both kinds. What does not fit into memory is forecast only.
 */
graft_status graft_bench_checkpoint(const graft_options *options, const graft_hooks *hooks,
                                    graft_bench_checkpoint_result *result, graft_error *err);
void graft_bench_checkpoint_result_free(graft_bench_checkpoint_result *result);

/* One way to cut the rows of `bench accumulate`. Differences are to the gradient of one batch of all rows:
 * the largest of any element, and the norm of the difference over the gradient's norm. */
typedef struct graft_bench_split {
    int64_t micro_batches, rows; /* rows of each; the last may have fewer */
    bool identical;              /* every bit */
    double largest_difference, relative_difference;
    double means_largest_difference, means_relative_difference; /* were it the mean of the means */
} graft_bench_split;

/* Most ways to cut a batch. */
#define GRAFT_BENCH_SPLITS 4
/* One gradient, and how near the ways to cut it come. */
typedef struct graft_bench_accumulate_result {
    int64_t rows, tokens, targets, parameters;
    int64_t shortest, longest; /* targets of a row */
    double gradient_norm;
    graft_bench_split splits[GRAFT_BENCH_SPLITS];
    size_t nsplits;
} graft_bench_accumulate_result;
/* The gradient of options.batch_size (2 unless given) x options.grad_accumulation_steps (4 unless given) rows
 * of options.data (random uneven rows without), in one batch and cut into micro-batches. */
graft_status graft_bench_accumulate(const graft_options *options, const graft_hooks *hooks,
                                    graft_bench_accumulate_result *result, graft_error *err);

/* One line of `bench kernels`. */
typedef struct graft_bench_kernel {
    char name[64];      /* what, weights, out x in, T */
    const char *isa;    /* of the kernels that ran; static */
    double seconds;     /* of one call, the median */
    double rate, limit; /* GFLOP/s against bare multiply-adds, or GB/s against reading memory, both seen right
                           before and after; NaN: the machine was never free */
    bool bandwidth;     /* it is GB/s */
    double percent;     /* of the limit */
    double scaling;     /* rate on all threads over rate on one; NaN: not measured */
} graft_bench_kernel;

/* One line for each kernel. Free it. */
typedef struct graft_bench_kernels_result {
    bool fp32;
    int threads;
    graft_bench_kernel *kernels;
    size_t nkernels;
} graft_bench_kernels_result;
/* The kernels alone, each in percent of what limits it: products with stored weights of options.bits and
 * options.q_group_size, attention, elementwise work; options.compute, options.isa, options.only. */
graft_status graft_bench_kernels(const graft_options *options, const graft_hooks *hooks,
                                 graft_bench_kernels_result *result, graft_error *err);
void graft_bench_kernels_result_free(graft_bench_kernels_result *result);

/* What a step costs with one setting of a training. */
typedef struct graft_bench_cost {
    double tokens_per_second, percent_of_peak;
    uint64_t peak_rss_bytes, forecast_bytes;
} graft_bench_cost;
/* One value of the setting that is varied. */
typedef struct graft_bench_point {
    int64_t value;
    graft_bench_cost none, layer; /* everything kept; blocks computed again */
} graft_bench_point;
/* Most values of a curve. */
#define GRAFT_BENCH_POINTS 16
/* How cost grows with a setting. */
typedef struct graft_bench_curves_result {
    const char *over; /* seq-length, batch-size, lora-rank or threads; static */
    size_t npoints;
    graft_bench_point points[GRAFT_BENCH_POINTS];
} graft_bench_curves_result;
/* graft_bench_train with options.over set to each of options.values, everything kept and with recompute. */
graft_status graft_bench_curves(const graft_options *options, const graft_hooks *hooks,
                                graft_bench_curves_result *result, graft_error *err);

/* Every line of options.data (a file, or a directory with train.jsonl) that is not blank is a text;
 * options.model has the tokenizer. One thread; the median of several passes over all texts. */
typedef struct graft_bench_tokenize_result {
    size_t texts, tokens;
    uint64_t bytes, digest; /* of all ids in order: FNV-1a, a step an id */
    double open_seconds;    /* reading the tokenizer */
    double tokens_per_second, megabytes_per_second;
} graft_bench_tokenize_result;
/* Measures how fast texts become tokens. */
graft_status graft_bench_tokenize(const graft_options *options, const graft_hooks *hooks,
                                  graft_bench_tokenize_result *result, graft_error *err);
/* Writes dir/run.json for another program: model (the directory), data (the file), threads. dir NULL: only
 * whether it could. */
graft_status graft_bench_tokenize_export(const graft_options *options, const graft_hooks *hooks,
                                         const char *dir, graft_error *err);

/* A prompt of options.seq_length tokens, then options.max_tokens more, by options.batch_size rows at once
 * (1 unless given), options.steps times (3 unless given): medians. On options.model, with
 * options.adapter_path if set, or on random weights of options.shape. */
typedef struct graft_bench_generate_result {
    int64_t batch_size, prompt_tokens, tokens; /* the latter two of each row */
    double prompt_tokens_per_second, prompt_gflops, peak_gflops, prompt_percent_of_peak;
    double generation_tokens_per_second, generation_gbs, read_gbs, generation_percent_of_bandwidth;
    uint64_t step_bytes;     /* read for one token of every row: weights, adapter, cache */
    uint64_t peak_rss_bytes; /* without what measures the bandwidth */
} graft_bench_generate_result;
/* Measures how fast prompts are read and answers written. */
graft_status graft_bench_generate(const graft_options *options, const graft_hooks *hooks,
                                  graft_bench_generate_result *result, graft_error *err);
/* Writes dir/run.json for another program, which reads options.model itself: a GGUF file. dir NULL: only
 * whether it could. */
graft_status graft_bench_generate_export(const graft_options *options, const graft_hooks *hooks,
                                         const char *dir, graft_error *err);

/* Pictures of the results, as SVG. peer may be NULL. */
graft_status graft_bench_train_svg(const graft_bench_result *result, const graft_bench_peer *peer,
                                   const char *path, graft_error *err);
/* Likewise. */
graft_status graft_bench_load_svg(const graft_bench_load_result *result, const char *path, graft_error *err);
/* Likewise. */
graft_status graft_bench_checkpoint_svg(const graft_bench_checkpoint_result *result, const char *path,
                                        graft_error *err);
/* Likewise. */
graft_status graft_bench_curves_svg(const graft_bench_curves_result *result, const char *path,
                                    graft_error *err);
/* Likewise. */
graft_status graft_bench_accumulate_svg(const graft_bench_accumulate_result *result, const char *path,
                                        graft_error *err);

#ifdef __cplusplus
}
#endif
#endif
