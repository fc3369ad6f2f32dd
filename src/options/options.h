/* options/options.h - the option table and what follows from the options of a run.
 * What it does: one row per option; flags, configuration keys, help, ranges and printed values read the row.
 * May include: base, files, data, plan (the request). Never: models, weights; looks at no file but the YAML.
 *
 * A new option is a field in graft_options and a row in option_table.c, which also says what the option is to
 * others: to --resume, ranks, sweeps, benchmarks, help.
 */
#ifndef GR_OPTIONS_OPTIONS_H
#define GR_OPTIONS_OPTIONS_H
#include "base/nearest.h"
#include "base/number.h"
#include "data/rows.h"
#include "graft.h"
#include "layers/preference_loss.h"
#include "plan/tuning.h"
#include <math.h>

typedef enum gr_option_kind {
    GR_OPTION_TEXT,   /* char * */
    GR_OPTION_CHOICE, /* char *, one of the row's choices */
    GR_OPTION_LIST,   /* char *, a JSON array of strings; each time the option is set adds one */
    GR_OPTION_JSON,   /* char *, a JSON object, written compactly */
    GR_OPTION_SIZE,   /* char *, bytes such as 500MB */
    GR_OPTION_EVERY,  /* char *, iterations such as 100 or a time such as 10m */
    GR_OPTION_SWITCH, /* bool */
    GR_OPTION_INT,    /* int64_t */
    GR_OPTION_INT32,  /* int */
    GR_OPTION_UINT,   /* uint64_t */
    GR_OPTION_REAL,   /* double; NaN where the default is empty */
    GR_OPTION_CONFIG  /* char *config_file; setting it loads the file */
} gr_option_kind;

/* May an option of train change when a run is resumed, and may ranks differ in it? */
typedef enum gr_option_change {
    GR_CHANGE_UNDECIDED, /* no option of train */
    GR_CHANGE_OWN,       /* both: it costs time or memory, says where things are, or is rank 0's alone */
    GR_CHANGE_FREELY,    /* it may change; ranks agree */
    GR_CHANGE_ASKED,     /* when --allow-changes names it; ranks agree */
    GR_CHANGE_NEVER      /* neither */
} gr_option_change;

/* The benchmarks: a bit and a name each. */
#define GR_BENCH_MAP(X)                                                                                      \
    X(LOAD, "load")                                                                                          \
    X(TRAIN, "train")                                                                                        \
    X(CHECKPOINT, "checkpoint")                                                                              \
    X(ACCUMULATE, "accumulate")                                                                              \
    X(KERNELS, "kernels")                                                                                    \
    X(TOKENIZE, "tokenize")                                                                                  \
    X(CURVES, "curves")                                                                                      \
    X(GENERATE, "generate")
#define GR_BENCH_NUMBER(word, name) GR_BENCH_NUMBER_##word,
#define GR_BENCH_BIT(word, name)    GR_BENCH_##word = 1 << GR_BENCH_NUMBER_##word,
enum { GR_BENCH_MAP(GR_BENCH_NUMBER) GR_BENCHMARKS };
enum { GR_BENCH_MAP(GR_BENCH_BIT) GR_BENCH_NONE = 0 };

typedef struct gr_option_row {
    graft_option shown;
    gr_option_kind kind;
    size_t offset; /* of the field in graft_options */
    gr_option_change change;
    const char *never; /* GR_CHANGE_NEVER: why */
    const char *fixed; /* why no trial of a sweep has its own; "" where each may; NULL: no option of sweep */
    bool shapes_adapter; /* it says how an adapter looks: --resume-adapter-file brings all of that along */
    bool of_adapters;    /* it says something only where adapters train: not with fine-tune-type full */
    unsigned benchmarks; /* GR_BENCH_.. that take it */
} gr_option_row;

/* Most rows that the table may have: a bit each in graft_options.given. */
#define GR_OPTION_ROWS (8 * sizeof((graft_options *)0)->given)

/* Row `index` of the table, NULL past the end. */
const gr_option_row *gr_option_row_at(size_t index);
/* The row of that name; '-' and '_' are the same. -1 if there is none. */
int gr_option_index(const char *name);
/* The row of the option whose name is the first n bytes of `name`, as a settings line begins; NULL: none. */
const gr_option_row *gr_option_row_named(const char *name, size_t n);
/* The name of one verb: "train". */
const char *gr_verb_name(graft_verb verb);

/* Parses `text` into the row's field: type, choices and range are checked, nothing else happens. The errors
 * (GRAFT_USAGE) call the option `called`. */
graft_status gr_option_store(graft_options *o, const gr_option_row *row, const char *text, const char *called,
                             graft_error *err) GR_MUST_CHECK;
/* Gives the field its default. False when out of memory. */
bool gr_option_reset(graft_options *o, const gr_option_row *row);
/* The option that says the same thing in other words (alpha and scale, iters and epochs, train-on and
 * mask-prompt): setting one takes back the other's value from a file. -1 if there is none. */
int gr_option_partner(int index);
/* compute fp32: everything in f32. */
bool gr_options_fp32(const graft_options *o);
/* fine-tune-type full is in force. */
bool gr_options_full(const graft_options *o);
/* The field as text, as it would be typed; appends nothing for an unset one. */
void gr_option_print(const graft_options *o, const gr_option_row *row, gr_buf *out);

/* "500MB", "2GiB", "1.5g", "4096": bytes. K, M, G, T are powers of 1000, Ki and so on of 1024. */
graft_status gr_parse_size(uint64_t *bytes, const char *text, graft_error *err) GR_MUST_CHECK;
/* "100": iterations, *seconds is 0 then; "90s", "1.5m", "2h": seconds, *iterations is 0 then. */
graft_status gr_parse_every(int64_t *iterations, double *seconds, const char *text,
                            graft_error *err) GR_MUST_CHECK;

/* A copy with strings of its own. Owned by caller until graft_options_free (also after failure). */
graft_status gr_options_copy(graft_options *to, const graft_options *from, graft_error *err) GR_MUST_CHECK;
/* True when `name` was set by graft_options_set (not by a file, not by default). */
bool gr_options_given(const graft_options *o, const char *name);

/* graft_options_text, and what --resume-adapter-file takes the place of too: what a checkpoint compares. */
char *gr_options_settings(const graft_options *o, graft_verb verb);

/* True when a flag set `name` or the configuration file has a key for it, and neither defaults nor a preset.
 */
bool gr_options_asked(const graft_options *o, const char *name);
/* True when the scale in force is mlx-lm's default, which nobody asked for. */
bool gr_options_default_scale(const graft_options *o);

/* An update has fewer rows than this, so that the tree of its gradients has at most 31 levels. */
#define GR_UPDATE_ROWS_END ((int64_t)1 << 31)

/* What must hold between options of `verb`: GRAFT_USAGE for contradictions and for fields out of range that a
 * host set directly. Looks at no file. */
graft_status gr_options_check(const graft_options *o, graft_verb verb, graft_error *err) GR_MUST_CHECK;
/* What was given and `benchmark` does not take is GRAFT_USAGE. */
graft_status gr_options_check_bench(const graft_options *o, const char *benchmark,
                                    graft_error *err) GR_MUST_CHECK;

/* A preset: what it sets where no flag does. */
typedef struct gr_preset {
    const char *name;
    int bits; /* of the base: 4 (groups of 64) or 16 */
    const char *rank, *targets;
} gr_preset;
const gr_preset *gr_preset_find(const char *name); /* NULL if unknown or NULL */
/* Rank, targets, alpha and recompute of the options' preset, except for what flags gave. */
graft_status gr_preset_apply(graft_options *o, graft_error *err) GR_MUST_CHECK;
/* How the base has to be stored. */
typedef enum gr_base_wish { GR_BASE_ANY, GR_BASE_4_BIT, GR_BASE_16_BIT } gr_base_wish;
gr_base_wish gr_options_base(const graft_options *o);

/* What follows from the name of the optimizer until a file says otherwise: its weight decay (unless a flag
 * set it), Nesterov's momentum, and open settings. */
void gr_options_optimizer_defaults(graft_options *o);
/* The factor before B*A*x: lora_scale if set, else alpha / rank (rsLoRA: alpha / sqrt(rank)). */
double gr_options_scale(const graft_options *o);
/* alpha, or 2 x rank; with lora_scale the alpha that gives it. */
double gr_options_alpha(const graft_options *o);
/* What the options ask to train; strings are borrowed from `o`. */
gr_tuning_request gr_options_tuning(const graft_options *o);
/* Which tokens carry loss; --mask-prompt means completion. */
gr_train_on gr_options_train_on(const graft_options *o);
/* As --train-on calls it. */
const char *gr_train_on_name(gr_train_on which);
/* True with --valid-split: valid and train are parts of one file. */
bool gr_options_splits(const graft_options *o);
/* Takes the rows of validation out of `train`, as --valid-split says. *note (malloc'ed) tells of it. */
graft_status gr_options_split(gr_rows **valid, char **note, gr_rows *train, const graft_options *o,
                              graft_error *err) GR_MUST_CHECK;
/* GRAFT_USAGE where --valid-split meets a file of validation rows in --data. */
graft_status gr_options_check_split(const graft_options *o, graft_error *err) GR_MUST_CHECK;
/* The loss of pairs that is asked for; its loss NULL: none. */
gr_preference gr_options_preference(const graft_options *o);
/* How rows are read. vocab_size as in gr_rows_config; strings are borrowed from `o`. */
gr_rows_config gr_options_rows(const graft_options *o, int32_t vocab_size);
/* Gives a chat its template variables: options.template_kwargs, else what the adapter at the path `adapter`
 * (NULL: none) records. *note (malloc'ed) says where the two differ, or the adapters of a list, NULL
 * otherwise. chat may be NULL:
 * GRAFT_USAGE if the options have variables for it. */
graft_status gr_options_template(char **note, gr_chat *chat, const graft_options *o, const char *adapter,
                                 graft_error *err) GR_MUST_CHECK;
/* Mapped, or with no_mmap in memory. */
gr_reading gr_options_reading(const graft_options *o);
/* Where train writes: adapter_path, or "adapters" as in mlx-lm. */
const char *gr_options_adapter_path(const graft_options *o);

#endif
