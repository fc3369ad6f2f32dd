/* graft.h - fine-tunes language models on the machine you have.
 *
 *     graft_options o;
 *     graft_error err = {0};
 *     graft_options_init(&o);
 *     graft_options_set(&o, GRAFT_VERB_TRAIN, "model", "model-4bit", &err);    // what the command line's
 * flags do graft_options_set(&o, GRAFT_VERB_TRAIN, "data", "data", &err); if (graft_train(&o, NULL, NULL,
 * &err) != GRAFT_OK) puts(err.what); graft_options_free(&o);
 *
 * The library never prints, exits, installs signal handlers or keeps global state: two trainings in two
 * threads of one process are independent. Every call returns a graft_status and fills the caller's
 * graft_error (may be NULL). Strings are UTF-8. Sizes are bytes where the name says so. Objects are owned by
 * the caller until their free call.
 */
#ifndef GRAFT_H
#define GRAFT_H
#include "graft_status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRAFT_VERSION "0.1.0"
const char *graft_version(void);

/* ------------------------------------------------------------------------------------------- options */

typedef enum graft_verb {
    GRAFT_VERB_PLAN = 1 << 0,
    GRAFT_VERB_CONVERT = 1 << 1,
    GRAFT_VERB_TRAIN = 1 << 2,
    GRAFT_VERB_EVAL = 1 << 3,
    GRAFT_VERB_GENERATE = 1 << 4,
    GRAFT_VERB_TOKENIZE = 1 << 5,
    GRAFT_VERB_INFO = 1 << 6,
    GRAFT_VERB_BENCH = 1 << 7,
    GRAFT_VERB_EXPORT = 1 << 8,
    GRAFT_VERB_FUSE = 1 << 9,
    GRAFT_VERB_DOWNLOAD = 1 << 10
} graft_verb;

/* What a run is asked to do. Filled by graft_options_init, graft_options_load_yaml and graft_options_set;
 * fields may also be set directly (strings are malloc'ed: use graft_options_set for them). Names, defaults,
 * ranges and help stand in one table: graft_option_at. */
typedef struct graft_options {
    /* all verbs */
    char *model; /* directory, FILE.gguf, or owner/name[@revision] in the local Hugging Face cache */
    int threads; /* 0: all cores */
    uint64_t seed;
    char *compute; /* bf16, fp32 */
    /* Base, data and checkpoints are read into memory, which they take whole, instead of mapped. A mapped
     * file that another process cuts, or whose disk fails, raises SIGBUS in the thread that looks at it, and
     * the library installs no handler. Without maps it is an error when the file is opened. (Adapters are
     * always read; graft_info maps.) */
    bool no_mmap;
    /* data */
    char *data;       /* directory with train, valid, test as .jsonl, .json, .csv or .tsv; or one such file */
    char *train_on;   /* all, completion, assistant, last; NULL: all */
    bool mask_prompt; /* mlx-lm's: completion */
    char *text_feature, *prompt_feature, *completion_feature, *chat_feature, *tools_feature;
    double valid_split;    /* NaN: none; below 1 a share of the rows, else so many */
    char *template_kwargs; /* a JSON object: variables of the chat template; NULL: the adapter's */
    int64_t max_seq_length;
    char *overflow; /* refuse, truncate, drop */
    bool pack;      /* several rows in one sequence; batch_size counts these */
    bool no_shuffle;
    char *loss; /* NULL, or "mlx-lm" */
    /* adapter */
    char *adapter_path;
    char *preset, *fine_tune_type;
    int64_t num_layers; /* -1 and 0: all */
    char *lora_targets, *exclude_modules, *layers_to_transform;
    int64_t lora_rank;
    double lora_alpha; /* NaN: 2 x rank */
    double lora_scale; /* NaN: alpha / rank */
    double lora_dropout;
    char *lora_bias;
    bool use_rslora, group_pooled, qat;
    char *rank_pattern, *alpha_pattern, *modules_to_save;
    double loraplus_lr_ratio; /* NaN: none */
    /* training */
    int64_t batch_size, grad_accumulation_steps, iters;
    double epochs; /* NaN: use iters */
    char *optimizer;
    double learning_rate;
    char *lr_schedule; /* constant, linear, cosine */
    int64_t warmup;
    double weight_decay,
        grad_clip;         /* setting optimizer also sets weight_decay's default: adamw 0.01, else 0 */
    char *grad_checkpoint; /* auto, none, mlp, layer */
    char *budget;          /* e.g. 500MB, 2GiB; NULL: none */
    int64_t steps_per_report, steps_per_eval, val_batches;
    char *save_every;                 /* iterations, or a time such as 90s, 10m, 2h */
    int64_t keep_last, max_bad_steps; /* checkpoints; skipped updates in a row */
    bool keep_best, verify_frozen, resume, gguf;
    char *allow_changes; /* with resume: settings that may differ from the checkpoint's, "iters,data" */
    char *resume_adapter_file;
    bool allow_other_base; /* an adapter, or a checkpoint, on another base than it records */
    /* what only a YAML sets: mlx-lm's optimizer_config and lr_schedule */
    double beta1, beta2, epsilon, momentum, dampening; /* NaN: the optimizer's default */
    bool nesterov, bias_correction; /* bias_correction is on unless a YAML was loaded; setting optimizer also
                                       sets nesterov: muon's is on */
    double scale_epsilon, clip_threshold, decay_rate; /* adafactor; NaN: its default */
    bool scale_parameter, relative_step, warmup_init; /* adafactor; the first two are on */
    int64_t ns_steps;                                 /* muon */
    char *mlx_schedule; /* NULL, or mlx-lm's schedule name with `mlx_schedule_args` */
    double mlx_schedule_args[4];
    int64_t mlx_warmup;
    double mlx_warmup_init;
    /* convert */
    char *mlx_path;
    bool quantize, dequantize, q_embeddings;
    int64_t q_bits, q_group_size;
    char *q_mode, *quant_predicate, *dtype;
    /* fuse; dequantize, dtype and split too */
    char *save_path;
    /* export */
    char *to;           /* "mlx,peft,gguf"; NULL: every format that can hold the adapter */
    char *out;          /* directory */
    char *merge;        /* cat, linear, svd */
    int64_t merge_rank; /* of svd; 0: the largest */
    /* eval */
    char *split; /* test, valid, train */
    bool per_row;
    /* generate */
    char *prompt, *prompts, *system_prompt, *logits;
    bool ignore_chat_template, compare;
    int64_t max_tokens, top_k;
    double temp, top_p, min_p;
    double repetition_penalty;       /* 0 and 1: none */
    int64_t repetition_context_size; /* tokens; 0: all */
    char *stop;                      /* NULL, or a JSON array of strings; graft_options_set adds one */
    /* download */
    char *include;
    /* tokenize */
    char *text, *messages;
    bool render;
    char *html; /* NULL, or the page to write */
    /* plan, bench */
    char *shape;
    bool tensors;
    int64_t steps, seq_length;
    int64_t bits;        /* bench load, kernels */
    char *isa, *only;    /* bench kernels */
    char *over, *values; /* bench curves: a setting, and a list such as "1,2,4"; NULL: the usual */
    char *seq_lengths;   /* bench checkpoint: "512,1024"; NULL: the guide's */
    char *peer;          /* bench train: torch, mlx, bnb ..; run by the command line, not by the library */
    int64_t peer_steps;
    bool profile; /* bench train */
    char *svg;    /* where the command line puts the picture; NULL: bench-NAME.svg */
    /* which options were given explicitly, by row number of the table (graft_option_at) */
    uint64_t given[4];
    uint64_t in_file[4]; /* which have a key in the configuration file, likewise */
    char *config_file;   /* the YAML that was loaded, if any */
} graft_options;

/* One row of the option table, for help and documentation. */
typedef struct graft_option {
    const char *name;     /* long flag without dashes, also the key in files */
    char letter;          /* short flag, or 0 */
    unsigned verbs;       /* graft_verb bits that accept it */
    const char *value;    /* placeholder of its value in help; NULL: a switch */
    const char *fallback; /* default as text; "" for none */
    const char *choices;  /* "a, b, c" or NULL */
    const char *help;
    double min, max; /* range of a number */
} graft_option;

void graft_options_init(graft_options *options);
void graft_options_free(graft_options *options);
size_t graft_option_count(void);
const graft_option *graft_option_at(size_t index); /* NULL past the end */
/* False where this version refuses the option, or this value of it (NULL: any but the default). */
bool graft_option_built(const graft_option *option, const char *value);
/* The row named `name` (or "x" for a letter) if `verb` accepts it, else NULL. */
const graft_option *graft_option_find(graft_verb verb, const char *name);
/* Sets one option from text (stop: adds one); value NULL for a switch. GRAFT_USAGE names the nearest known
 * option, the choices or the range. */
graft_status graft_options_set(graft_options *options, graft_verb verb, const char *name, const char *value,
                               graft_error *err);
/* Reads an mlx-lm LoRA YAML with mlx-lm's meaning and defaults. Options already given (flags) win, whatever
 * the order of the calls. *note (may be NULL) receives a malloc'ed line naming keys without meaning here, or
 * NULL. */
graft_status graft_options_load_yaml(graft_options *options, const char *path, char **note, graft_error *err);
/* All values in force for `verb`, one "name: value" per line; malloc'ed. NULL when out of memory. */
char *graft_options_text(const graft_options *options, graft_verb verb);

/* ------------------------------------------------------------------------------------------- hooks */

typedef enum graft_event_kind {
    GRAFT_EVENT_NOTE,     /* text: something the user should know */
    GRAFT_EVENT_PROGRESS, /* phase, done, total */
    GRAFT_EVENT_TRAIN,    /* a report: train */
    GRAFT_EVENT_VALID,    /* a validation: valid */
    GRAFT_EVENT_SAVED,    /* text: what was written */
    GRAFT_EVENT_TEXT      /* text: a piece of generated text, length `done` */
} graft_event_kind;

typedef struct graft_event {
    graft_event_kind kind;
    const char *text;
    const char *phase; /* "train", "validate", "convert", "tokenize", "evaluate" */
    int64_t done, total;
    int64_t iteration;
    double train_loss, val_loss, val_time, learning_rate;
    double iterations_per_second, tokens_per_second, grad_norm;
    int64_t trained_tokens;
    uint64_t peak_memory_bytes;
} graft_event;

typedef struct graft_hooks {
    void *user;
    void (*event)(void *user, const graft_event *event); /* may be NULL; called in the calling thread */
    const volatile int *stop; /* may be NULL; non-zero asks to stop soon (training saves first) */
} graft_hooks;

/* ------------------------------------------------------------------------------------------- plan */

/* One of the guide's 13 layer types. */
typedef struct graft_plan_type {
    const char *type;
    bool quantize;      /* some tensor of this type is quantized */
    bool lora;          /* some tensor of this type is adapted */
    const char *frozen; /* "true", "false", "partial" (base frozen, adapter trains) */
    const char *notes;  /* "" if none */
    int64_t tensors, parameters;
    uint64_t bytes;
} graft_plan_type;

typedef struct graft_plan_tensor {
    const char *name; /* as in the model's files, without .weight for linears */
    int64_t shape[2]; /* [out, in]; norms and biases [n, 0] */
    const char *role; /* one of the types */
    bool quantize;
    int bits, group_size; /* 16 or 32 and 0 when not quantized */
    bool adapter;
    int64_t rank;
    const char *frozen;
    uint64_t bytes;
} graft_plan_tensor;

typedef struct graft_memory {
    uint64_t mapped;  /* base weights touched; with no_mmap whole files */
    uint64_t state;   /* adapter, gradients, optimizer */
    uint64_t saved;   /* activations kept for the backward pass */
    uint64_t scratch; /* buffers reused by every layer */
    uint64_t other;   /* program, tokenizer, row index, stacks */
    uint64_t total;
} graft_memory;

#define GRAFT_PLAN_TYPES 13
/* options.pack; all 0 without it. Every epoch has as many packs, as full. */
typedef struct graft_packing {
    int64_t rows, packs; /* rows of the data in packs (rows without a target are in none) */
    int64_t tokens;      /* in all packs */
    int64_t capacity;    /* tokens that one may hold: max-seq-length */
    double percent_full;
} graft_packing;

typedef struct graft_plan {
    char *model, *model_type;
    graft_plan_type types[GRAFT_PLAN_TYPES];
    graft_plan_tensor *tensors_list;
    size_t tensors_count;
    int64_t parameters_total, parameters_trainable;
    graft_memory memory;
    graft_memory full;            /* of training every weight in 16 bits with the same settings */
    uint64_t gradients_optimizer; /* gradients and optimizer state, part of memory.state */
    uint64_t full_gradients_optimizer;
    char *grad_checkpoint;                           /* what auto or the budget chose: none, mlp or layer */
    int64_t slice_tokens;                            /* most tokens of one forward and backward */
    int64_t head_tile;                               /* most rows of logits at once */
    int64_t sequence_length, batch_size, iterations; /* batch_size counts packs where there are some */
    graft_packing packing;
    double time_seconds;      /* forecast of the run; 0 when no data was given */
    int64_t time_tokens;      /* tokens that the run will process */
    double tokens_per_second; /* from the calibration */
    char *storage;            /* internal: what the strings above point into */
} graft_plan;

graft_status graft_plan_make(const graft_options *options, const graft_hooks *hooks, graft_plan *plan,
                             graft_error *err);
void graft_plan_free(graft_plan *plan);

/* ------------------------------------------------------------------------------------------- train */

typedef struct graft_train_result {
    int64_t iterations, updates, trained_tokens;
    int64_t skipped_updates;              /* not among updates: loss or gradient was not a number */
    int64_t loss_spikes, gradient_spikes; /* updates far above the level of those before */
    graft_packing packing;
    double train_loss;                                   /* last report */
    double val_loss_first, val_loss_last, val_loss_best; /* NaN when there was no validation */
    double seconds;
    graft_memory forecast;
    uint64_t peak_memory_bytes;
    bool interrupted;
    /* options.verify_frozen: every frozen tensor's bytes are what they were, every trainable tensor moved
     * (one update cannot move an A whose B was zero: not among trained_tensors then); not verified when the
     * run made no update */
    bool verified;
    int64_t frozen_tensors, trained_tensors;
    uint64_t frozen_digest; /* of all frozen tensors */
} graft_train_result;

/* Trains and writes the adapter directory. GRAFT_INTERRUPTED when the stop flag was raised: a resumable
 * checkpoint was written. result may be NULL. */
graft_status graft_train(const graft_options *options, const graft_hooks *hooks, graft_train_result *result,
                         graft_error *err);

/* ------------------------------------------------------------------------------------------- trainer
 *
 * A training that the host steps through, and whose tensors it can ask about:
 *
 *     graft_trainer *t;
 *     if (graft_trainer_open(&t, &o, NULL, &err) != GRAFT_OK) ..;      // o stays the host's until free
 *     graft_trainer_freeze(t, true, &err);                             // adapters alone train
 *     for (size_t i = 0; i < graft_trainer_count(t); i++) graft_trainer_parameter(t, i, &p);
 *     for (int i = 0; i < 100; i++) graft_trainer_step(t, &loss, &err);
 *     graft_trainer_save(t, "adapters", &err);
 *     graft_trainer_free(t);
 */

typedef struct graft_trainer graft_trainer;

typedef struct graft_parameter {
    const char *name; /* "model.layers.0.self_attn.q_proj.weight", ".bias"; adapters ".lora_A", ".lora_B",
                         ".magnitude"; borrowed until freeze or free */
    int64_t shape[2]; /* [out, in]; A [rank, in], B [rank, out]; norms, biases and magnitudes [n, 0] */
    bool trainable;   /* else frozen */
    bool adapter;     /* beside a tensor of the base, not one of it */
    int bits;         /* of an element as it is held: trainable tensors are f32 */
} graft_parameter;

/* Opens what graft_train would run, up to the first step. options are borrowed until graft_trainer_free,
 * hooks too. Nothing is written. Owned by caller until graft_trainer_free. */
graft_status graft_trainer_open(graft_trainer **trainer, const graft_options *options,
                                const graft_hooks *hooks, graft_error *err);
/* Every tensor of base and adapter, in a fixed order; index < graft_trainer_count. */
size_t graft_trainer_count(const graft_trainer *trainer);
void graft_trainer_parameter(const graft_trainer *trainer, size_t index, graft_parameter *parameter);
/* Digest of the tensor's bytes as they are now: two that differ are two values. */
uint64_t graft_trainer_digest(const graft_trainer *trainer, size_t index);
/* lora_only: adapters alone stay trainable. false: everything trains, the base's tensors too, as f32. Before
 * the first step; the numbering of parameters begins anew. GRAFT_UNSUPPORTED names a quantized tensor: codes
 * of a few bits cannot follow a gradient, and the hint has the command that dequantizes. */
graft_status graft_trainer_freeze(graft_trainer *trainer, bool lora_only, graft_error *err);
/* One update, with all iterations that make it up; *loss (may be NULL) is its mean loss, NaN where there is
 * none. An update whose loss or gradient is not a number changes nothing; GRAFT_RANGE after
 * options.max_bad_steps of them in a row. GRAFT_USAGE when options.iters are done. */
graft_status graft_trainer_step(graft_trainer *trainer, double *loss, graft_error *err);
/* What trains as it is now, as graft_train writes it, into dir (made if missing). After freeze(false)
 * adapters are folded into the tensors that they adapt, and dir holds those whole, as --fine-tune-type full
 * writes them; for the time of the save that takes 4 bytes more for every element. */
graft_status graft_trainer_save(graft_trainer *trainer, const char *dir, graft_error *err);
void graft_trainer_free(graft_trainer *trainer); /* NULL is fine */

/* ------------------------------------------------------------------------------------------- eval */

typedef struct graft_row_loss {
    uint64_t line; /* in the file, from 1 */
    double loss;   /* mean over the row's targets; NaN without any */
    int64_t tokens;
} graft_row_loss;

typedef struct graft_eval_result {
    double loss, perplexity, perplexity_stderr, accuracy;
    int64_t tokens, rows;
    graft_row_loss *row_losses; /* `rows` of them when options.per_row, else NULL */
} graft_eval_result;

graft_status graft_eval(const graft_options *options, const graft_hooks *hooks, graft_eval_result *result,
                        graft_error *err);
void graft_eval_result_free(graft_eval_result *result);

/* ------------------------------------------------------------------------------------------- generate */

typedef struct graft_generation {
    char *text;
    int64_t tokens, prompt_tokens;
    double prompt_tokens_per_second, generation_tokens_per_second;
} graft_generation;

/* Answers options.prompt; with options.compare, `base` (not NULL) receives the answer without the adapter.
 * Pieces are sent as GRAFT_EVENT_TEXT events (of the adapter's answer). GRAFT_INTERRUPTED when the stop flag
 * was raised; both are empty then, as after every failure. */
graft_status graft_generate(const graft_options *options, const graft_hooks *hooks, graft_generation *result,
                            graft_generation *base, graft_error *err);
void graft_generation_free(graft_generation *generation);

/* Answers every line of options.prompts (a JSON string, {"prompt": ..} or {"messages": ..}),
 * options.batch_size at once. answer(user, ..) is called in the order of the lines, with a text that is
 * borrowed and rates that are 0; `total` receives the sums and the rates of all. A line's answer has the same
 * bits at every batch size. */
graft_status graft_generate_batch(const graft_options *options, const graft_hooks *hooks,
                                  void (*answer)(void *user, uint64_t line, const graft_generation *answer),
                                  void *user, graft_generation *total, graft_error *err);

/* ------------------------------------------------------------------------------------------- tokenize */

typedef struct graft_row {
    uint64_t line;
    const int32_t *ids;
    const uint8_t *mask; /* 1: this token is a target */
    size_t count;
    const char *text;          /* decoded, or the rendering */
    const char *const *pieces; /* one string per token, for display; tokens that share a character
                                  have it at the first */
} graft_row;

/* Calls row(user, ..) for every row of options.data, or for options.text or options.messages. With
 * options.render, only `text` (the rendered template) is set. With options.html the rows are written there as
 * a page too. */
graft_status graft_tokenize(const graft_options *options, const graft_hooks *hooks,
                            void (*row)(void *user, const graft_row *row), void *user, graft_error *err);

/* ------------------------------------------------------------------------------------------- convert, info,
 * bench */

typedef struct graft_convert_result {
    double bits_per_weight;
    int64_t tensors;
    uint64_t bytes;
    char *notes; /* lines; "" if none; malloc'ed */
} graft_convert_result;
graft_status graft_convert(const graft_options *options, const graft_hooks *hooks,
                           graft_convert_result *result, graft_error *err);
void graft_convert_result_free(graft_convert_result *result);

/* Least share of the adapter's gain that a fused model keeps without a warning. */
#define GRAFT_FUSE_KEPT 0.8

typedef struct graft_fuse_result {
    int64_t tensors, changed; /* written; of the base's, those that the adapter changes */
    uint64_t bytes;
    double bits_per_weight;
    /* with options.data: losses on its rows, of the base, of base and adapter, and of what was written */
    bool measured;
    double loss_base, loss_adapter, loss_fused;
    int64_t tokens, rows;
    double kept; /* share of the gain that the fused model has; NaN where the adapter gains nothing */
    bool lossy;  /* below GRAFT_FUSE_KEPT; a note says so, and what to do */
} graft_fuse_result;
/* Writes the model in which options.adapter_path ("adapters") is part of the weights to options.save_path
 * ("fused_model"): an MLX directory in the base's own quantization, or with options.dequantize in floats; or,
 * of a GGUF base, FILE.gguf with the base's types. */
graft_status graft_fuse(const graft_options *options, const graft_hooks *hooks, graft_fuse_result *result,
                        graft_error *err);

typedef struct graft_export_result {
    char *base;            /* as recorded, or options.model; malloc'ed, as notes */
    const char *files[4];  /* names of the tensor files; ended by NULL, static */
    char *notes;           /* what a format changes, or why it has no file; "" if all is exact */
    char digest[17];       /* of everything trained */
    int64_t modules, rank; /* adapted modules; the largest rank */
    int64_t parameters;
} graft_export_result;
/* Writes the adapter at options.adapter_path ("adapters"), of any format, or a weighted sum of several, to
 * options.out in the formats of options.to. Of the base (options.model, or the one that the adapter records)
 * only config.json is read, or the metadata of its GGUF file. A format that is named and cannot hold the
 * adapter is GRAFT_UNSUPPORTED. */
graft_status graft_export(const graft_options *options, const graft_hooks *hooks, graft_export_result *result,
                          graft_error *err);
void graft_export_result_free(graft_export_result *result);
/* The program that loads such a file: "mlx-lm", "PEFT" or "llama.cpp". */
const char *graft_adapter_program(const char *file_name);

/* What is in a file or directory, as one JSON document (malloc'ed). */
graft_status graft_info(const char *path, char **json, graft_error *err);

/* Names of the benchmarks, ended by NULL, and whether one of them takes an option of GRAFT_VERB_BENCH. What
 * was set with graft_options_set and the benchmark does not take is refused with GRAFT_USAGE. */
const char *const *graft_benchmarks(void);
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
    double forecast_slower_percent, slower_percent; /* by operations; measured */
    double stated_saved_percent,
        stated_slower_percent; /* what the guide's authors state for this length; NaN for others */
    bool same_losses;          /* all ways gave the same bits in every step */
    uint64_t forecast_mlp, peak_mlp, activations_mlp;
    double step_mlp;
    double mlp_forecast_saved_percent, mlp_saved_percent, mlp_activations_saved_percent;
    double mlp_forecast_slower_percent, mlp_slower_percent;
} graft_bench_length;

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

#define GRAFT_BENCH_SPLITS 4
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
typedef struct graft_bench_point {
    int64_t value;
    graft_bench_cost none, layer; /* everything kept; blocks computed again */
} graft_bench_point;
#define GRAFT_BENCH_POINTS 16
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
graft_status graft_bench_generate(const graft_options *options, const graft_hooks *hooks,
                                  graft_bench_generate_result *result, graft_error *err);
/* Writes dir/run.json for another program, which reads options.model itself: a GGUF file. dir NULL: only
 * whether it could. */
graft_status graft_bench_generate_export(const graft_options *options, const graft_hooks *hooks,
                                         const char *dir, graft_error *err);

/* Pictures of the results, as SVG. peer may be NULL. */
graft_status graft_bench_train_svg(const graft_bench_result *result, const graft_bench_peer *peer,
                                   const char *path, graft_error *err);
graft_status graft_bench_load_svg(const graft_bench_load_result *result, const char *path, graft_error *err);
graft_status graft_bench_checkpoint_svg(const graft_bench_checkpoint_result *result, const char *path,
                                        graft_error *err);
graft_status graft_bench_curves_svg(const graft_bench_curves_result *result, const char *path,
                                    graft_error *err);
graft_status graft_bench_accumulate_svg(const graft_bench_accumulate_result *result, const char *path,
                                        graft_error *err);

/* ---------------------------------------------------------------------------------------- download */

typedef struct graft_download_result {
    char *path;       /* of the snapshot: what --model takes, though owner/name will do */
    char commit[41];  /* that the revision stands for now */
    size_t files;     /* chosen */
    uint64_t bytes;   /* of these */
    uint64_t fetched; /* bytes that came over the network now; the rest was there */
} graft_download_result;
/* Fetches options.model, owner/name or owner/name@revision, from HF_ENDPOINT (https://huggingface.co) into
 * the local Hugging Face cache: options.include, or configuration, tokenizer and safetensors. Every file is
 * compared with the digest that the hub announces. What was cut off goes on where it ended; GRAFT_INTERRUPTED
 * when the stop flag was raised. GRAFT_UNSUPPORTED where the library was built without libcurl. */
graft_status graft_download(const graft_options *options, const graft_hooks *hooks,
                            graft_download_result *result, graft_error *err);
void graft_download_result_free(graft_download_result *result);

/* Names of the published shapes, ended by NULL. */
const char *const *graft_shapes(void);

#ifdef __cplusplus
}
#endif
#endif
