/* graft_options.h - what a run is asked to do: one struct for all verbs, and the table of options behind it.
 */
#ifndef GRAFT_OPTIONS_H
#define GRAFT_OPTIONS_H
#include "graft_file.h"
#include "graft_status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The verbs: word, number of the bit, name, whether it looks at graft_options.files. */
#define GRAFT_VERB_MAP(X)                                                                                    \
    X(PLAN, 0, "plan", 1)                                                                                    \
    X(CONVERT, 1, "convert", 1)                                                                              \
    X(TRAIN, 2, "train", 1)                                                                                  \
    X(EVAL, 3, "eval", 1)                                                                                    \
    X(GENERATE, 4, "generate", 1)                                                                            \
    X(TOKENIZE, 5, "tokenize", 1)                                                                            \
    X(INFO, 6, "info", 0)                                                                                    \
    X(BENCH, 7, "bench", 0)                                                                                  \
    X(EXPORT, 8, "export", 0)                                                                                \
    X(FUSE, 9, "fuse", 0)                                                                                    \
    X(DOWNLOAD, 10, "download", 0)                                                                           \
    X(CHAT, 11, "chat", 1)                                                                                   \
    X(SERVE, 12, "serve", 1)                                                                                 \
    X(REPORT, 13, "report", 0)                                                                               \
    X(SWEEP, 14, "sweep", 0)

/* A verb's row as a constant. */
#define GRAFT_VERB_BIT(word, bit, name, files) GRAFT_VERB_##word = 1 << bit,
/* What to do: one bit each, so that an option can name all that take it. GRAFT_VERB_PLAN is 1 << 0, and so
 * on. */
typedef enum graft_verb {
    GRAFT_VERB_MAP(GRAFT_VERB_BIT)
#undef GRAFT_VERB_BIT
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
    /* Files that the host holds in memory: models, adapters, data and configuration. Borrowed until the call
     * returns, or the trainer is freed, or the chat is closed. Plan, convert, train, eval, generate,
     * tokenize, chat and serve look at them; other calls refuse them. Only by these fields: no flag sets
     * them. */
    const graft_file *files;
    size_t file_count;
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
    char *loss;      /* NULL, mlx-lm, dpo, orpo */
    char *loss_type; /* dpo: sigmoid, hinge, ipo, robust, sigmoid_norm */
    double beta, label_smoothing;
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
    int64_t patience;                 /* validations in a row without a better one; 0: any number */
    int64_t watch;                    /* train: a port of this machine with the page of the run; 0: none */
    char *report_to;                  /* NULL, or "tensorboard" */
    double rank_timeout; /* seconds without a sign of life of another rank; counts where graft_comm.timeout is
                            0 */
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
    /* sweep; all of train's too */
    char *grid;       /* a JSON array of "NAME=VALUE,VALUE"; graft_options_set adds one */
    char *time_limit; /* for all trials, such as 30m; NULL: none */
    int64_t jobs;     /* trials at once */
    int64_t halving;  /* after each part of the run the better 1/halving go on; 0: all run to their end */
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
    /* generate, chat, serve */
    char *prompt, *prompts, *system_prompt, *logits;
    bool ignore_chat_template, compare;
    int64_t max_tokens, top_k;
    double temp, top_p, min_p;
    double repetition_penalty;       /* 0 and 1: none */
    int64_t repetition_context_size; /* tokens; 0: all */
    char *stop;                      /* NULL, or a JSON array of strings; graft_options_set adds one */
    /* serve */
    char *host, *adapter; /* adapter: NULL, or a JSON array of "NAME=PATH"; graft_options_set adds one */
    char *allow_host;     /* NULL, or a JSON array of names that it answers to; likewise */
    char *api_key;        /* NULL: that of GRAFT_API_KEY, or none */
    int64_t port, max_requests, max_body;
    /* download */
    char *include;
    /* tokenize */
    char *text, *messages;
    bool render;
    char *html; /* tokenize, report: the page to write; NULL: none, or the usual place */
    /* plan, bench */
    char *shape;
    bool tensors;
    int64_t steps, seq_length;
    int64_t bits;        /* bench load, kernels */
    char *isa, *only;    /* bench kernels */
    char *over, *values; /* bench curves: a setting, and a list such as "1,2,4"; NULL: the usual */
    char *seq_lengths;   /* bench checkpoint: "512,1024"; NULL: 512,1024,2048,4096 */
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
    int heading;     /* under which help shows it: its place in graft_option_headings */
} graft_option;

/* Sets every default; before anything else. */
void graft_options_init(graft_options *options);
/* Frees the strings; the struct is the caller's. */
void graft_options_free(graft_options *options);
/* The two with memory of the library, for languages that do not know the struct. NULL when out of memory. */
graft_options *graft_options_new(void);
void graft_options_delete(graft_options *options); /* NULL is fine */
/* Rows of the option table. */
size_t graft_option_count(void);
const graft_option *graft_option_at(size_t index); /* NULL past the end */
/* The headings of help in their order, ended by NULL. */
const char *const *graft_option_headings(void);
/* The row named `name` (or "x" for a letter) if `verb` accepts it, else NULL. */
const graft_option *graft_option_find(graft_verb verb, const char *name);
/* What somebody who mistyped a name may have meant: the nearest of `names` (count of them, NULLs skipped),
 * NULL if none is near. */
const char *graft_nearest_name(const char *name, const char *const *names, size_t count);
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

#ifdef __cplusplus
}
#endif
#endif
