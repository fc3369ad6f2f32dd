#include "base/pool.h"
#include "optim/optim_table.h"
#include "optim/schedule_table.h"
#include "options/options.h"

/* Verbs by their first letter; K tokenizes, H chats, W sweeps. */
enum {
    P = GRAFT_VERB_PLAN,
    C = GRAFT_VERB_CONVERT,
    W = GRAFT_VERB_SWEEP,
    T = GRAFT_VERB_TRAIN | W, /* a sweep trains */
    E = GRAFT_VERB_EVAL,
    G = GRAFT_VERB_GENERATE,
    K = GRAFT_VERB_TOKENIZE,
    I = GRAFT_VERB_INFO,
    B = GRAFT_VERB_BENCH,
    X = GRAFT_VERB_EXPORT,
    F = GRAFT_VERB_FUSE,
    D = GRAFT_VERB_DOWNLOAD,
    H = GRAFT_VERB_CHAT,
    S = GRAFT_VERB_SERVE,
    R = GRAFT_VERB_REPORT,
    ALL = P | C | T | E | G | K | I | B | F | X | H | S | R,
    ANSWER = G | H | S,      /* what shapes an answer */
    RUN = P | T | B,         /* what shapes a training step */
    ROWS = P | T | E | K | F /* what reads rows */
};

/* ORDER: headings */
enum { FILES, ADAPTER, OPTIMIZER, LENGTH, LOSS, REPORTS, CODES, SAMPLING, GENERAL };
static const char *const headings[] = {
    "Input and output",   "Adapter",      "Optimizer", "Length and memory", "Data and loss",
    "Reports and saving", "Quantization", "Sampling",  "General",           NULL};

#define BIT(word, name) word = GR_BENCH_##word,
enum { GR_BENCH_MAP(BIT) STEPS = TRAIN | CHECKPOINT | CURVES, MODELS = LOAD | STEPS | ACCUMULATE };

/* A row ends with its heading in help and with what the option is to others; what concerns its verbs has to
 * be there (test_options looks). */
/* train: may it change when a run is resumed, and may ranks differ in it */
#define OWN           .change = GR_CHANGE_OWN
#define FREELY        .change = GR_CHANGE_FREELY
#define ASKED         .change = GR_CHANGE_ASKED
#define NEVER(reason) .change = GR_CHANGE_NEVER, .never = (reason)
/* sweep: a trial may have its own, or why not */
#define VARIES        .fixed = ""
#define FIXED(reason) .fixed = (reason)
/* adapters: --resume-adapter-file brings it along; it says nothing with fine-tune-type full */
#define SHAPES   .shapes_adapter = true
#define ADAPTERS .of_adapters = true
/* bench: those that take it */
#define BY(names) .benchmarks = (names)

static const char vectors[] = "its vectors would not fit";
static const char meaning[] = "the numbers trained so far would mean something else";
static const char rows[] = "every trial has the same rows";
static const char whole[] = "a sweep goes on as a whole";
static const char tokens[] = "validation losses would be of other tokens";
static const char other_rows[] = "validation losses would be of other rows";
static const char other_loss[] = "validation losses would mean something else";
static const char arithmetic[] = "validation losses would be of other arithmetic";
static const char units[] = "validation losses would be in other units";

#define ROW(type, name_, letter_, verbs_, value_, fallback_, choices_, min_, max_, field, help_, heading_,   \
            ...)                                                                                             \
    {                                                                                                        \
        .shown = {.name = (name_),                                                                           \
                  .letter = (letter_),                                                                       \
                  .verbs = (verbs_),                                                                         \
                  .value = (value_),                                                                         \
                  .fallback = (fallback_),                                                                   \
                  .choices = (choices_),                                                                     \
                  .help = (help_),                                                                           \
                  .min = (min_),                                                                             \
                  .max = (max_),                                                                             \
                  .heading = (heading_)},                                                                    \
        .kind = GR_OPTION_##type, .offset = offsetof(graft_options, field), __VA_ARGS__                      \
    }
#define TEXT(name, letter, verbs, value, fallback, field, ...)                                               \
    ROW(TEXT, name, letter, verbs, value, fallback, NULL, 0, 0, field, __VA_ARGS__)
#define CHOICE(name, verbs, fallback, choices, field, ...)                                                   \
    ROW(CHOICE, name, 0, verbs, "NAME", fallback, choices, 0, 0, field, __VA_ARGS__)
#define SWITCH(name, letter, verbs, field, ...)                                                              \
    ROW(SWITCH, name, letter, verbs, NULL, "", NULL, 0, 0, field, __VA_ARGS__)
#define INT(name, letter, verbs, fallback, min, max, field, ...)                                             \
    ROW(INT, name, letter, verbs, "N", fallback, NULL, min, max, field, __VA_ARGS__)
#define REAL(name, verbs, fallback, min, max, field, ...)                                                    \
    ROW(REAL, name, 0, verbs, "X", fallback, NULL, min, max, field, __VA_ARGS__)
#define MANY 1e15 /* more of anything than a run can do; exact in a double */

/* One row per option, in the order of help. ORDER: graft_options.given counts rows. */
static const gr_option_row table[] = {
    TEXT("model", 0, ALL | D, "DIR, FILE.gguf or owner/name", "", model,
         "the base model; a name, or owner/name@revision, is looked up in the local Hugging Face cache",
         FILES, OWN, FIXED("every trial has the same base"), BY(MODELS | TOKENIZE | GENERATE)),
    ROW(INT32, "threads", 0, ALL, "N", "0", NULL, 0, GR_THREADS_MAX, threads, "threads; 0 is one per core",
        GENERAL, OWN, VARIES, BY(MODELS | KERNELS | TOKENIZE | GENERATE)),
    ROW(UINT, "seed", 0, ALL, "N", "0", NULL, 0, 0x1p64, seed, "the same seed gives the same bits", GENERAL,
        ASKED, VARIES, BY(MODELS | KERNELS | GENERATE)),
    CHOICE("compute", ALL, "bf16", "bf16, fp32", compute,
           "arithmetic; fp32 is for checks against other programs", GENERAL, ASKED, FIXED(arithmetic),
           BY(MODELS | KERNELS | GENERATE)),
    SWITCH("no-mmap", 0, P | C | T | E | K | F | ANSWER | R, no_mmap,
           "read files into memory, which they take whole, instead of mapping them: for disks that may fail "
           "and files that may shrink meanwhile",
           GENERAL, OWN, VARIES),
    ROW(CONFIG, "config", 'c', P | T, "FILE.yaml", "", NULL, 0, 0, config_file,
        "an mlx-lm LoRA configuration; flags beat it", FILES, OWN, FIXED("it is read once, for all trials")),

    TEXT("data", 0, ROWS | B, "DIR or FILE", "", data,
         "train, valid and test as .jsonl, .json, .csv or .tsv, or one file", FILES, OWN, FIXED(rows),
         BY(MODELS | TOKENIZE)),
    CHOICE("train-on", ROWS, "all", "all, completion, assistant, last", train_on, "which tokens carry loss",
           LOSS, ASKED, FIXED(tokens)),
    SWITCH("mask-prompt", 0, ROWS, mask_prompt, "mlx-lm's name for --train-on completion", LOSS, ASKED,
           FIXED(tokens)),
    TEXT("text-feature", 0, ROWS, "KEY", "text", text_feature, "key of text rows", LOSS, ASKED, FIXED(rows)),
    TEXT("prompt-feature", 0, ROWS, "KEY", "prompt", prompt_feature, "key of prompts", LOSS, ASKED,
         FIXED(rows)),
    TEXT("completion-feature", 0, ROWS, "KEY", "completion", completion_feature, "key of completions", LOSS,
         ASKED, FIXED(rows)),
    TEXT("chat-feature", 0, ROWS, "KEY", "messages", chat_feature, "key of message lists", LOSS, ASKED,
         FIXED(rows)),
    TEXT("tools-feature", 0, ROWS, "KEY", "tools", tools_feature, "key of tool lists", LOSS, ASKED,
         FIXED(rows)),
    REAL("valid-split", P | T | E | F, "", 0, MANY, valid_split,
         "validate on rows taken out of those of training: a share such as 0.05, or a number of rows; the "
         "same seed and rows give the same choice, also to eval",
         LOSS, ASKED, FIXED(other_rows)),
    ROW(JSON, "template-kwargs", 0, ROWS | ANSWER, "JSON", "", NULL, 0, 0, template_kwargs,
        "variables for the chat template, such as {\"enable_thinking\": false}; an adapter remembers those "
        "it was trained with",
        LOSS, ASKED, FIXED("validation losses would be of other texts")),
    INT("max-seq-length", 0, ROWS | H | S, "2048", 2, 0x1p30, max_seq_length,
        "most tokens of a row; chat, serve: of a prompt and its answer, 4096 by default or what the model "
        "was made for",
        LENGTH, ASKED, FIXED(tokens)),
    CHOICE("overflow", ROWS, "refuse", "refuse, truncate, drop", overflow, "what happens to longer rows",
           LENGTH, ASKED, FIXED(other_rows)),
    SWITCH("pack", 0, RUN, pack,
           "several short rows in one sequence of up to max-seq-length, which do not see each other; "
           "batch-size counts these",
           LENGTH, NEVER("the place in the data would mean something else"), VARIES, BY(TRAIN)),
    SWITCH("no-shuffle", 0, P | T, no_shuffle, "rows in the order of the file", LOSS, ASKED, VARIES),
    CHOICE("loss", P | T | E | K, "", GR_NAME_LIST(GR_LOSS_MAP), loss,
           "mlx-lm: its mask, padding, mean of means, dropped partial batch; dpo, orpo: rows are preferences "
           "(prompt, chosen, rejected), a batch is of pairs",
           LOSS, NEVER("the sums of the loss would mean something else"), FIXED(other_loss)),
    CHOICE("loss-type", P | T | E, "sigmoid", GR_NAME_LIST(GR_DPO_MAP), loss_type,
           "of --loss dpo, names as TRL's", LOSS, ASKED, FIXED(other_loss)),
    REAL("beta", P | T | E, "0.1", 0, 1e6, beta,
         "of --loss dpo: how close to stay to the model without the adapter; of orpo: weight of the odds",
         LOSS, ASKED, FIXED(units)),
    REAL("label-smoothing", P | T | E, "0", 0, 0.5, label_smoothing,
         "of --loss-type robust: share of the pairs that are the wrong way round", LOSS, ASKED, FIXED(units)),

    TEXT("adapter-path", 0, P | T | E | ANSWER | B | F | X, "DIR", "", adapter_path,
         "the adapter; train writes to adapters by default, sweep to directories in sweep, fuse and export "
         "read it there; where it is read, several with weights: a=0.7,b=0.3",
         FILES, OWN, FIXED("every trial has a directory of its own in it"), BY(GENERATE)),
    CHOICE("preset", P | T, "", "quick, standard, high-quality, full", preset,
           "on 4 bits: quick (rank 8, q v), standard (16, q k v o), high-quality (32, q k v o gate up); on "
           "16 bits: full (64, all linears; LoRA, not --fine-tune-type full). All recompute, alpha is 2 x "
           "rank; a 16-bit model is quantized once. Single flags beat a preset, a preset beats --config",
           ADAPTER, OWN, FIXED("it may ask for another base: name rank and targets")),
    CHOICE("fine-tune-type", RUN, "lora", "lora, dora, full", fine_tune_type,
           "adapters, or with full the tensors of the blocks themselves, on a 16-bit base", ADAPTER,
           NEVER(vectors), VARIES, SHAPES, BY(STEPS | ACCUMULATE)),
    INT("num-layers", 0, RUN, "-1", -1, MANY, num_layers, "train in the last N blocks; -1 and 0 are all",
        ADAPTER, NEVER(vectors), VARIES, SHAPES, BY(STEPS | ACCUMULATE)),
    TEXT("lora-targets", 0, RUN, "SET, LIST or re:REGEX", "extended", lora_targets,
         "extended, standard, full, all-linear, or module names as in PEFT", ADAPTER, NEVER(vectors), VARIES,
         SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    TEXT("exclude-modules", 0, RUN, "A,B", "", exclude_modules, "modules that stay unadapted", ADAPTER,
         NEVER(vectors), VARIES, SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    TEXT("layers-to-transform", 0, RUN, "0,1,5-7", "", layers_to_transform, "blocks that are adapted",
         ADAPTER, NEVER(vectors), VARIES, SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    INT("lora-rank", 0, RUN, "16", 1, 65536, lora_rank, "rank of the adapters", ADAPTER, NEVER(vectors),
        VARIES, SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    REAL("lora-alpha", RUN, "", 0, MANY, lora_alpha, "scale times rank; 2 x rank by default", ADAPTER,
         NEVER(meaning), VARIES, SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    REAL("lora-scale", RUN, "", 0, MANY, lora_scale, "mlx-lm's number; alpha / rank by default", ADAPTER,
         NEVER(meaning), VARIES, SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    REAL("lora-dropout", RUN, "0", 0, 1, lora_dropout,
         "dropout before A; linears that read one input share its mask", ADAPTER, ASKED, VARIES, ADAPTERS,
         BY(STEPS | ACCUMULATE)),
    CHOICE("lora-bias", RUN, "none", "none, all, lora_only", lora_bias, "biases that are trained", ADAPTER,
           NEVER(vectors), VARIES, SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    SWITCH("use-rslora", 0, RUN, use_rslora, "scale is alpha / sqrt(rank)", ADAPTER, NEVER(meaning), VARIES,
           SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    SWITCH("group-pooled", 0, RUN, group_pooled,
           "A is shared inside each quantization group of the base, as in QA-LoRA: the adapter fuses into "
           "the groups' biases, exactly",
           ADAPTER, NEVER(vectors), VARIES, SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    SWITCH("qat", 0, RUN, qat,
           "train with the sum of base and adapter quantized as fusing will: costs a quantization of every "
           "adapted matrix per update",
           ADAPTER, ASKED, FIXED(arithmetic), ADAPTERS, BY(STEPS | ACCUMULATE)),
    TEXT("rank-pattern", 0, RUN, "A=8,B=4 or JSON", "", rank_pattern, "ranks by module, matched as PEFT does",
         ADAPTER, NEVER(vectors), VARIES, SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    TEXT("alpha-pattern", 0, RUN, "A=16,B=8 or JSON", "", alpha_pattern, "alphas by module", ADAPTER,
         NEVER(meaning), VARIES, SHAPES, ADAPTERS, BY(STEPS | ACCUMULATE)),
    TEXT("modules-to-save", 0, RUN, "A,B", "", modules_to_save, "modules that are trained whole", ADAPTER,
         NEVER(vectors), VARIES, SHAPES, BY(STEPS | ACCUMULATE)),
    REAL("loraplus-lr-ratio", RUN, "", 0, MANY, loraplus_lr_ratio,
         "LoRA+: rate of B over rate of A, as in PEFT", ADAPTER, ASKED, VARIES, ADAPTERS, BY(STEPS)),

    INT("batch-size", 0, RUN | G | S, "4", 1, 0x1p20, batch_size,
        "rows (with --pack: packs) of an iteration; generate, serve: of one answer each, at once", LENGTH,
        ASKED, VARIES, BY(STEPS | ACCUMULATE | GENERATE)),
    INT("grad-accumulation-steps", 0, RUN, "1", 1, 0x1p30, grad_accumulation_steps, "iterations of an update",
        LENGTH, ASKED, VARIES, BY(STEPS | ACCUMULATE)),
    INT("iters", 0, P | T, "1000", 1, MANY, iters, "iterations of the run", LENGTH, ASKED, VARIES),
    REAL("epochs", P | T, "", 0x1p-30, 1e9, epochs, "passes over the data, in place of --iters", LENGTH,
         ASKED, VARIES),
    CHOICE("optimizer", RUN, "adamw", GR_NAME_LIST(GR_OPTIM_MAP), optimizer,
           "adamw and adam are bias-corrected; adafactor sets its own rate unless a YAML says relative_step: "
           "false",
           OPTIMIZER, NEVER("its state is another's"), VARIES, BY(STEPS)),
    REAL("learning-rate", RUN, "2e-4", 0, 1e6, learning_rate, "the peak of the schedule", OPTIMIZER, ASKED,
         VARIES, BY(STEPS)),
    CHOICE("lr-schedule", RUN, "constant", GR_NAME_LIST(GR_SCHEDULE_MAP), lr_schedule, "after the warm-up",
           OPTIMIZER, ASKED, VARIES, BY(STEPS)),
    INT("warmup", 0, RUN, "0", 0, MANY, warmup, "updates of the linear warm-up", OPTIMIZER, ASKED, VARIES,
        BY(STEPS)),
    REAL("weight-decay", RUN, "0.01", 0, 1e6, weight_decay, "adamw's and muon's; 0 by default for the others",
         OPTIMIZER, ASKED, VARIES, BY(STEPS)),
    REAL("grad-clip", RUN, "1.0", 0, 1e30, grad_clip, "largest norm of a gradient; 0 is off", OPTIMIZER,
         ASKED, VARIES, BY(STEPS)),
    CHOICE("grad-checkpoint", RUN, "auto", "auto, none, mlp, layer", grad_checkpoint,
           "recompute of each block's MLP or of the whole block; the numbers stay the same", LENGTH, OWN,
           VARIES, BY(TRAIN | ACCUMULATE)),
    ROW(SIZE, "budget", 0, RUN, "SIZE", "", NULL, 0, 0, budget,
        "memory that the run may take, e.g. 2GiB: the fastest settings that fit, and never more", LENGTH, OWN,
        VARIES, BY(STEPS)),
    INT("steps-per-report", 0, P | T, "10", 1, MANY, steps_per_report, "iterations between reports", REPORTS,
        OWN, VARIES),
    INT("steps-per-eval", 0, P | T, "200", 1, MANY, steps_per_eval, "iterations between validations", REPORTS,
        ASKED, VARIES),
    INT("val-batches", 0, P | T, "25", -1, MANY, val_batches, "batches of a validation; -1 is all", REPORTS,
        ASKED, FIXED(other_rows)),
    ROW(EVERY, "save-every", 0, P | T, "N or TIME", "100", NULL, 0, 0, save_every,
        "iterations between checkpoints, or a time such as 90s, 10m or 2h", REPORTS, OWN, VARIES),
    INT("keep-last", 0, P | T, "2", 1, MANY, keep_last,
        "checkpoints to keep; 2 leave one for a run whose newest is damaged", REPORTS, OWN, VARIES),
    REAL("rank-timeout", GRAFT_VERB_TRAIN, "60", 1, MANY, rank_timeout,
         "several ranks (mpirun): seconds without a sign of life after which one counts as lost", GENERAL,
         OWN),
    INT("max-bad-steps", 0, P | T, "3", 1, MANY, max_bad_steps,
        "stop after so many updates in a row whose loss or gradient is not a number; each is skipped",
        REPORTS, FREELY, VARIES),
    INT("patience", 0, P | T, "0", 0, MANY, patience,
        "stop when so many validations in a row were no better than the best before; 0 is never", REPORTS,
        FREELY, VARIES),
    CHOICE("report-to", P | T, "", "tensorboard", report_to,
           "tensorboard: event files in logs of the adapter directory, too", REPORTS, OWN, VARIES),
    INT("watch", 0, GRAFT_VERB_TRAIN, "0", 0, 65535, watch,
        "a port of this machine where a browser sees the run as it goes on; 0 is none", REPORTS, OWN),
    SWITCH("keep-best", 0, P | GRAFT_VERB_TRAIN, keep_best,
           "keep the adapter with the lowest validation loss in best, whatever happens to checkpoints",
           REPORTS, FREELY),
    SWITCH("verify-frozen", 0, P | T, verify_frozen,
           "prove it: frozen tensors have the same digests after the run, trainable ones all moved", GENERAL,
           OWN, VARIES),
    SWITCH("resume", 0, P | T, resume, "continue exactly where the last checkpoint stands", FILES, OWN,
           FIXED(whole)),
    TEXT("allow-changes", 0, P | GRAFT_VERB_TRAIN, "NAME,NAME", "", allow_changes,
         "with --resume: settings that may differ from the checkpoint's; data for other rows, model as "
         "--allow-other-base",
         FILES, OWN),
    TEXT("resume-adapter-file", 0, P | T, "FILE or DIR", "", resume_adapter_file, "start from this adapter",
         FILES, OWN, VARIES),
    SWITCH("allow-other-base", 0, P | T | E | ANSWER | B | F | X | R, allow_other_base,
           "use the adapter, or resume, although it was trained on other weights: they are named", FILES, OWN,
           VARIES, BY(GENERATE)),
    SWITCH("gguf", 0, P | T, gguf, "write adapter.gguf too", FILES, OWN, VARIES),

    ROW(LIST, "grid", 0, W, "NAME=A,B", "", NULL, 0, 0, grid,
        "a setting and the values to try, e.g. lora-rank=8,16; give it again for all combinations; | between "
        "values that have commas",
        REPORTS, FIXED("it is the grid")),
    INT("jobs", 0, W, "1", 1, 64, jobs, "trials at once, which share threads, base and --budget", REPORTS,
        FIXED("it is that of the sweep")),
    INT("halving", 0, W, "0", 0, 64, halving,
        "after each part of the iterations only the better 1/N of the trials go on, such as 2; 0 is all",
        REPORTS, FIXED("it is that of the sweep")),
    TEXT("time", 0, W, "TIME", "", time_limit,
         "for all trials, such as 30m: what would take longer is refused, and what takes longer is stopped",
         REPORTS, FIXED("it is that of the sweep")),

    TEXT("mlx-path", 0, C, "DIR", "mlx_model", mlx_path, "where the converted model goes", FILES),
    SWITCH("quantize", 'q', C, quantize, "quantize the linear layers", CODES),
    INT("q-bits", 0, C, "4", 2, 8, q_bits, "bits of a quantized weight: 2, 3, 4, 5, 6 or 8", CODES),
    INT("q-group-size", 0, C | B, "64", 32, 128, q_group_size, "weights of a group: 32, 64 or 128", CODES,
        BY(LOAD | KERNELS)),
    CHOICE("q-mode", C, "affine", "affine, mxfp4, nvfp4, mxfp8", q_mode,
           "how groups are quantized; all are read, affine is written", CODES),
    TEXT("quant-predicate", 0, C, "RECIPE", "", quant_predicate,
         "bits per module: mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6, and NAME=BITS[:GROUP], "
         "re:REGEX=BITS[:GROUP], =false, with commas between",
         CODES),
    SWITCH("q-embeddings", 0, C, q_embeddings, "quantize embeddings and the output head too", CODES),
    SWITCH("dequantize", 'd', C | F, dequantize, "back to 16 or 32 bits", CODES),
    CHOICE("dtype", C | F, "", "float16, bfloat16, float32", dtype, "of tensors that are not quantized",
           CODES),
    TEXT("save-path", 0, F, "DIR or FILE.gguf", "", save_path,
         "where the fused model goes; fused_model by default. A GGUF file of a GGUF base alone", GENERAL),

    TEXT("to", 0, X, "mlx,peft,gguf", "", to,
         "formats to write; every one that can hold the adapter by default", GENERAL),
    TEXT("out", 0, X, "DIR", "", out, "where they go", GENERAL),
    CHOICE("merge", X, "cat", "cat, linear, svd", merge,
           "how several adapters become one: exactly, their ranks added up; A and B added as PEFT's linear "
           "does; cut to a rank",
           GENERAL),
    INT("merge-rank", 0, X, "0", 0, 65536, merge_rank, "of --merge svd; 0 is the largest of the adapters",
        GENERAL),
    TEXT("include", 0, D, "PATTERNS", "", include,
         "files to fetch, e.g. '*.gguf,*.json'; configuration, tokenizer and safetensors by default",
         GENERAL),

    CHOICE("split", E | F, "test", "test, valid, train", split, "which file of the data directory", FILES),
    SWITCH("per-row", 0, E, per_row, "the loss of every row", REPORTS),

    TEXT("prompt", 'p', G, "TEXT", "", prompt, "what to answer", FILES),
    TEXT("prompts", 0, G | R, "FILE.jsonl", "", prompts,
         "many prompts, --batch-size at once: lines with a string, a prompt or messages; report: answered "
         "before and after",
         FILES),
    TEXT("system-prompt", 0, G | H, "TEXT", "", system_prompt, "a system message before it", FILES),
    SWITCH("ignore-chat-template", 0, G, ignore_chat_template, "continue the prompt as plain text", SAMPLING),
    INT("max-tokens", 'm', ANSWER | B | R, "100", 0, 0x1p30, max_tokens,
        "most tokens of the answer; chat: 512 by default; serve: of any answer, all that fit by default",
        SAMPLING, BY(GENERATE)),
    REAL("temp", ANSWER | R, "0", 0, 1e6, temp, "temperature; 0 takes the likeliest token", SAMPLING),
    REAL("top-p", ANSWER, "1", 0, 1, top_p, "nucleus; 1 is off", SAMPLING),
    INT("top-k", 0, ANSWER, "0", 0, 0x1p30, top_k, "the k likeliest; 0 is off", SAMPLING),
    REAL("min-p", ANSWER, "0", 0, 1, min_p, "least share of the likeliest; 0 is off", SAMPLING),
    REAL("repetition-penalty", ANSWER, "1", 0, 1e6, repetition_penalty,
         "above 1 makes the last tokens less likely, as in mlx-lm; 0 and 1 are off", SAMPLING),
    INT("repetition-context-size", 0, ANSWER, "20", 0, 0x1p30, repetition_context_size,
        "last tokens that it looks at, the prompt's too; 0 is all", SAMPLING),
    ROW(LIST, "stop", 0, ANSWER, "TEXT", "", NULL, 0, 0, stop,
        "ends the answer, which leaves it out; give it again for more", SAMPLING),
    SWITCH("compare", 0, G, compare, "answer with and without the adapter", FILES),
    TEXT("logits", 0, G, "FILE.npy", "", logits, "write the prompt's logits", FILES),

    TEXT("host", 0, S, "ADDRESS", "127.0.0.1", host,
         "where it listens: this machine alone by default, 0.0.0.0 on all its networks", FILES),
    INT("port", 0, S, "8080", 0, 65535, port, "its port; 0 is any that is free, which is said", FILES),
    ROW(LIST, "adapter", 0, S, "NAME=PATH", "", NULL, 0, 0, adapter,
        "an adapter that requests may name as their model, or in `adapter`; give it again for more", FILES),
    ROW(LIST, "allow-host", 0, S, "NAME", "", NULL, 0, 0, allow_host,
        "a name by which a proxy on this machine asks, beside this machine's own; give it again for more",
        FILES),
    TEXT("api-key", 0, S, "KEY", "", api_key,
         "asked of every client; GRAFT_API_KEY by default, which other users of the machine do not see",
         FILES),
    INT("max-requests", 0, S, "64", 1, 700, max_requests,
        "requests that may wait for those that are answered; one more is 429", FILES),
    INT("max-body", 0, S, "4194304", 1, 0x1p24, max_body, "bytes of a request; a longer one is 413", FILES),

    TEXT("text", 0, K, "TEXT", "", text, "a text row instead of data", FILES),
    TEXT("messages", 0, K, "FILE", "", messages,
         "a JSON array of messages, or an object with messages and tools", FILES),
    SWITCH("render", 0, K, render, "only the rendered chat template", REPORTS),
    TEXT("html", 0, K | R, "FILE.html", "", html,
         "write the page there: tokenize's rows, trained tokens coloured; or the report, DIR/report.html by "
         "default",
         FILES),

    TEXT("shape", 0, P | B, "NAME", "", shape, "a published shape instead of a model", FILES,
         BY(STEPS | ACCUMULATE | GENERATE)),
    SWITCH("tensors", 0, P, tensors, "every tensor in the table", REPORTS),
    INT("steps", 0, B, "10", 1, MANY, steps, "training steps to time; generate: answers, 3 by default",
        LENGTH, BY(STEPS | GENERATE)),
    INT("seq-length", 0, B, "512", 2, 0x1p30, seq_length, "tokens of a row, or of a prompt", LENGTH,
        BY(TRAIN | ACCUMULATE | CURVES | GENERATE)),
    INT("bits", 0, B, "4", 2, 8, bits, "bits of quantized weights: 2, 3, 4, 5, 6 or 8", CODES,
        BY(LOAD | KERNELS)),
    TEXT("isa", 0, B, "NAME", "", isa, "an instruction set; all that this processor has by default", GENERAL,
         BY(KERNELS)),
    TEXT("only", 0, B, "WORD,WORD", "", only, "only lines that have each of these words", GENERAL,
         BY(KERNELS)),
    CHOICE("over", B, "seq-length", "seq-length, batch-size, lora-rank, threads", over, "what grows", GENERAL,
           BY(CURVES)),
    TEXT("values", 0, B, "N,N,..", "", values, "its values; the usual ones by default", GENERAL, BY(CURVES)),
    TEXT("seq-lengths", 0, B, "N,N,..", "", seq_lengths, "lengths; 512,1024,2048,4096 by default", LENGTH,
         BY(CHECKPOINT)),
    CHOICE(
        "peer", B, "", "torch, torch-compile, torch-recompute, torch-fp32, mlx, bnb, tokenizers, llama", peer,
        "the same work by PyTorch + PEFT, by mlx-lm, by PyTorch with bitsandbytes NF4; llama: by llama.cpp",
        GENERAL, BY(TRAIN | TOKENIZE | GENERATE)),
    INT("peer-steps", 0, B, "5", 1, MANY, peer_steps, "steps that the other program does", GENERAL,
        BY(TRAIN)),
    SWITCH("profile", 0, B, profile, "where a step's time goes, by part, each against its own limit", GENERAL,
           BY(TRAIN)),
    TEXT("svg", 0, B, "FILE", "", svg, "the picture; bench-NAME.svg here by default, none for none", FILES,
         BY(MODELS)),
};

_Static_assert(sizeof table / sizeof *table <= GR_OPTION_ROWS, "graft_options.given has a bit for every row");

size_t graft_option_count(void) {
    return sizeof table / sizeof *table;
}

const gr_option_row *gr_option_row_at(size_t index) {
    return index < graft_option_count() ? &table[index] : NULL;
}

const graft_option *graft_option_at(size_t index) {
    const gr_option_row *row = gr_option_row_at(index);
    return row ? &row->shown : NULL;
}

const char *const *graft_option_headings(void) {
    return headings;
}
