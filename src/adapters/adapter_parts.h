/* adapters/adapter_parts.h - what the files of this room share: the table of formats, a tuning as a list of a
 * format's tensors, and the two halves of reading. May include: adapters/adapter.h.
 */
#ifndef GR_ADAPTERS_ADAPTER_PARTS_H
#define GR_ADAPTERS_ADAPTER_PARTS_H
#include "adapters/adapter.h"
#include "files/gguf_write.h"
#include "files/json_read.h"
#include "plan/module_match.h"

#define GR_PARAM_KINDS (GR_PARAM_WEIGHT + 1)

/* Tensors of the base that a slot speaks of. */
typedef enum gr_slot_on {
    GR_ON_ANY,
    GR_ON_LINEAR,  /* linears of blocks and the head */
    GR_ON_EXPERTS, /* those of a mixture: all experts' matrices in one tensor of three dimensions */
    GR_ON_EMBEDDING,
    GR_ON_TIED_HEAD, /* an embedding that is the head too: named as the head */
    GR_ON_ADAPTED,   /* linears with A and B */
    GR_ON_PLAIN      /* linears without */
} gr_slot_on;

/* How a format spells one kind of trained tensor. */
typedef struct gr_adapter_slot {
    gr_param_kind kind;
    gr_slot_on on;
    const char *suffix; /* after the module's path */
    bool transposed;    /* against gr_param's rows and cols */
    bool folds;         /* takes the factor of a module whose scale is not the common one */
} gr_adapter_slot;

#define GR_SLOTS 13
typedef struct gr_adapter_format {
    const char *name; /* "mlx", "peft", "gguf" */
    const char *program, *file;
    const char *prefix; /* before the module's path */
    bool one_rank;      /* one rank and one scale for all modules */
    bool gguf;          /* the file is GGUF: llama.cpp's names and order of rows, one alpha */
    int slot_count;
    gr_adapter_slot slots[GR_SLOTS]; /* A and B before what depends on them */
} gr_adapter_format;

/* Ended by name == NULL. ORDER: GR_ADAPTER_MLX .. */
extern const gr_adapter_format gr_adapter_format_table[GR_ADAPTER_FORMATS + 1];

/* Can the format hold all that trains? Of the usual two one always can
 * (gr_tuning_select refuses the exception: experts beside biases or whole tensors). *why (may be NULL): what
 * it cannot hold, for people, with the first tensor that is so. */
bool gr_adapter_holds(const gr_adapter_format *format, const gr_model_config *config, const gr_tuning *tuning,
                      gr_buf *why);
/* Does the slot speak of that tensor of the base? `adapted`: it has A and B. */
bool gr_adapter_slot_on(const gr_adapter_slot *slot, gr_role role, bool adapted,
                        const gr_model_config *config);
/* "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"; false: llama.cpp has no such module. */
bool gr_adapter_slot_name(char *name, size_t size, const gr_adapter_format *format,
                          const gr_adapter_slot *slot, gr_role role, int64_t layer);

/* Rank and scale that most modules have, for programs that know one of each. */
typedef struct gr_adapter_common {
    int64_t rank, padded_rank; /* padded_rank: the largest */
    double scale;
    bool uneven; /* some module has another rank or scale */
} gr_adapter_common;
gr_adapter_common gr_adapter_common_of(const gr_tuning *tuning);
/* The alpha that gives this scale at this rank, a whole number if one does. */
double gr_adapter_alpha(const gr_tuning *tuning, float scale, int64_t rank);
/* llama.cpp's: for all tensors of a file, its scale is alpha / rank. Never 0, which would mean scale 1.
 * *folded (may be NULL): some module's scale is another one and goes into its lora_b. */
float gr_adapter_gguf_alpha(const gr_tuning *tuning, bool *folded);
static inline float gr_adapter_gguf_scale(float alpha, int64_t rank) {
    return alpha != 0 ? (float)((double)alpha / (double)rank) : 1;
}

/* One tensor of a file. */
typedef struct gr_adapter_item {
    char name[256];
    const gr_param *param; /* borrowed from the tuning */
    int64_t rows;          /* of a matrix: as the param has them, or the padded rank */
    int64_t repeat;        /* of every column: a pooled A is written as a full one */
    float factor;
    bool transposed;
    int64_t stack;    /* matrices of `rows` rows each, one after another; 1: no experts */
    int64_t head_dim; /* of a tensor whose columns llama.cpp orders by pairs; else 0 */
} gr_adapter_item;
/* That head width. */
int64_t gr_adapter_pairs(const gr_adapter_format *format, const gr_model_config *config, gr_role role,
                         gr_param_kind kind);
/* Every tensor of a format's file. malloc'ed, owned by caller. */
graft_status gr_adapter_list(gr_adapter_item **items, size_t *count, const gr_adapter_format *format,
                             const gr_tuning *tuning, const gr_model_config *config,
                             graft_error *err) GR_MUST_CHECK;

/* A format's tensor file while it is written: one of the two. */
typedef struct gr_adapter_out {
    gr_safetensors_writer *tensors;
    gr_gguf_writer *gguf;
} gr_adapter_out;
/* What all files of a save say of it. */
typedef struct gr_adapter_words {
    char iteration[24], digest[24], base_digest[24]; /* "": not recorded */
    bool exact; /* the numbers are those of the digest; false: padded or folded */
} gr_adapter_words;
/* One format's file up to its commit: replace or abort follows. */
graft_status gr_adapter_file_seal(gr_adapter_out *out, const char *path, const gr_adapter_format *format,
                                  const gr_model_config *config, const gr_tuning *tuning, const float *params,
                                  const gr_adapter_words *words, const char *base,
                                  graft_error *err) GR_MUST_CHECK;
graft_status gr_adapter_file_replace(gr_adapter_out *out, graft_error *err) GR_MUST_CHECK;
void gr_adapter_file_abort(gr_adapter_out *out); /* harmless when nothing is open */

/* adapter_config.json up to gr_writer_seal: the caller commits or aborts `w`. */
graft_status gr_adapter_save_config(gr_writer *w, const char *dir, const gr_model_config *config,
                                    const gr_tuning *tuning, const gr_adapter_info *info, const char *digest,
                                    graft_error *err) GR_MUST_CHECK;

/* How a model of images and text calls its text part: what stands there for "model.", and before "lm_head".
 */
typedef struct gr_adapter_whole {
    const char *model, *head;
} gr_adapter_whole;
/* The one whose names these tensors have behind `prefix`; NULL: they are a text model's. */
const gr_adapter_whole *gr_adapter_whole_of(const gr_tensor *tensors, size_t count, const char *prefix);
/* What `own`, a module or tensor of a text model, is called there. Its first `prefix` characters stay. */
void gr_adapter_whole_name(char *name, size_t size, const gr_adapter_whole *whole, const char *own,
                           size_t prefix);

/* adapter_config.json as read. */
typedef struct gr_adapter_config {
    json_t *root;
    char *path;
    const char *digest;                /* graft's own, or NULL; borrowed from root, as all strings */
    const char *type;                  /* mlx-lm's fine_tune_type, "lora" if absent */
    bool padded;                       /* graft's own mlx file is not exact */
    int64_t pool;                      /* graft's own --group-pooled; 0: none */
    bool dora, tying, rslora, by_rank; /* by_rank: GGUF, alpha / rank of each tensor */
    gr_bias_mode bias;
    double scale; /* one for all modules; NaN: alpha by rank */
    double alpha;
    int64_t rank;       /* PEFT's r */
    int64_t num_layers; /* of "full"; 0: all */
    gr_patterns *ranks, *alphas;
    bool gate_up, down;            /* PEFT's target_parameters: a mixture's stacked matrices */
    const gr_adapter_whole *whole; /* whose names the tensors and patterns have; NULL: the text model's */
} gr_adapter_config;
/* Opens dir's file and reads what does not depend on the format; without one, an empty config if it is
 * `optional`. Zeroed before; gr_adapter_config_free after failure too. */
graft_status gr_adapter_config_open(gr_adapter_config *config, const char *dir, bool optional, gr_reading how,
                                    graft_error *err) GR_MUST_CHECK;
/* Reads the settings of a format that keeps them there (not GGUF); kinds that graft does not compute are
 * GRAFT_UNSUPPORTED. modules: that there can be; patterns of more are GRAFT_CORRUPT. */
graft_status gr_adapter_config_read(gr_adapter_config *config, bool peft, size_t modules,
                                    graft_error *err) GR_MUST_CHECK;
/* Scale of the module with that path, whose tensors have that rank. */
graft_status gr_adapter_config_scale(float *scale, const gr_adapter_config *config, const char *path,
                                     int64_t rank, graft_error *err) GR_MUST_CHECK;
/* Does modules_to_save name that path? */
bool gr_adapter_config_saves(const gr_adapter_config *config, const char *path);
void gr_adapter_config_free(gr_adapter_config *config);
/* Is *base the one that the tensor file, or its config, records? base NULL: not asked. */
graft_status gr_adapter_check_base(gr_adapter_base *base, const gr_adapter_words *words,
                                   const gr_adapter_config *config, const char *path,
                                   graft_error *err) GR_MUST_CHECK;

/* One adapter, without what gr_adapter_load does with lists. */
graft_status gr_adapter_load_one(gr_tuning **tuning, float **params, const char *path,
                                 const gr_model_config *config, gr_adapter_base *base,
                                 graft_error *err) GR_MUST_CHECK;
/* A list's items. An existing path is one item of weight 1. Owned by caller. */
typedef struct gr_adapter_share {
    char *path;
    double weight;
} gr_adapter_share;
graft_status gr_adapter_shares_read(gr_adapter_share **shares, size_t *count, const char *text,
                                    gr_reading how, graft_error *err) GR_MUST_CHECK;
void gr_adapter_shares_free(gr_adapter_share *shares, size_t count);

/* An adapter that was loaded, and its weight in a sum. */
typedef struct gr_adapter_part {
    const char *path; /* borrowed */
    gr_tuning *tuning;
    float *params;
    double weight;
} gr_adapter_part;
/* The parts as one adapter. Exact: their ranks add up, weights and scales are in B. linear: A and B
 * themselves are added, as PEFT's "linear" does; ranks must be equal. errors  GRAFT_UNSUPPORTED names what
 * cannot be added up: DoRA, biases, whole tensors */
graft_status gr_adapter_sum(gr_tuning **tuning, float **params, const gr_adapter_part *parts, size_t count,
                            const gr_model_config *config, bool linear, graft_error *err) GR_MUST_CHECK;
/* Replaces an exact sum by the nearest matrices of that rank; 0: of the largest that a part has in the
 * module. */
graft_status gr_adapter_cut(gr_tuning **tuning, float **params, const gr_adapter_part *parts, size_t count,
                            int64_t rank, const gr_model_config *config, graft_error *err) GR_MUST_CHECK;

/* export's base: of wish->model, or of the one that the adapter names. gr_config_free after success. */
graft_status gr_adapter_base_config(gr_model_config *config, const gr_adapter_export *wish,
                                    const gr_adapter_record *record, graft_error *err) GR_MUST_CHECK;
/* What the exported files record as their base (malloc'ed): the recorded one, unless there is none or the
 * digest of wish->model is the recorded one: then it is the same base, where it is now. Where wish->model is
 * given and not taken a sentence in `notes` says why. */
graft_status gr_adapter_base_name(char **name, gr_buf *notes, const gr_adapter_export *wish,
                                  const gr_adapter_record *record, graft_error *err) GR_MUST_CHECK;

/* The two places of an adapter: its tensor file, and the directory of its config. Both malloc'ed. */
typedef struct gr_adapter_spot {
    char *file, *dir;
    gr_reading how; /* set before: zeroed, on the disk */
} gr_adapter_spot;
/* Of a directory the first format's file that it has, or the only .gguf or .safetensors; else the path
 * itself. Zeroed before; gr_adapter_spot_free after failure too. */
graft_status gr_adapter_spot_find(gr_adapter_spot *spot, const char *path, graft_error *err) GR_MUST_CHECK;
/* Of graft's own files in a directory an exact one, where the one that was found is not. */
graft_status gr_adapter_spot_exact(gr_adapter_spot *spot, const gr_adapter_config *config, bool whole_dir,
                                   graft_error *err) GR_MUST_CHECK;
void gr_adapter_spot_free(gr_adapter_spot *spot);

/* A tensor file as read: floats in any format. */
typedef struct gr_adapter_in {
    gr_safetensors *safetensors; /* one of the two */
    gr_gguf *gguf;
    const gr_tensor *tensors; /* sorted by name */
    size_t count;
    gr_tensor *own; /* [count] of a GGUF */
    float *decoded; /* what its blocks hold */
    gr_adapter_words words;
} gr_adapter_in;
/* Is that file GGUF, by its first bytes? */
bool gr_adapter_is_gguf(const char *path, gr_reading how);
/* Zeroed before; gr_adapter_in_close after failure too. */
graft_status gr_adapter_in_open(gr_adapter_in *in, const char *path, gr_reading how,
                                graft_error *err) GR_MUST_CHECK;
void gr_adapter_in_close(gr_adapter_in *in);
/* The words alone: the file's head is read, the whole of it only where that is not enough. */
graft_status gr_adapter_words_read(gr_adapter_words *words, const char *path, gr_reading how,
                                   graft_error *err) GR_MUST_CHECK;
const gr_tensor *gr_adapter_in_find(const gr_adapter_in *in, const char *name);
/* A GGUF's own settings: it is a LoRA of this model's architecture, and its alpha goes into *settings. */
graft_status gr_adapter_gguf_read(gr_adapter_config *settings, const gr_adapter_in *in,
                                  const gr_model_config *config, graft_error *err) GR_MUST_CHECK;

/* A tensor of the file with its meaning. */
typedef struct gr_adapter_find {
    const gr_tensor *tensor;
    const gr_adapter_slot *slot;
    int64_t head_dim, stack; /* as gr_adapter_item's */
    bool woven; /* PEFT's stack in two dimensions: row and column of B are output, rank * experts */
    int64_t outputs, output; /* then: of the tensor, of which this matrix has its own from `output` on */
} gr_adapter_find;
typedef struct gr_adapter_reader {
    const gr_model_config *config;
    const gr_adapter_config *settings;
    gr_adapter_in file;
    const gr_adapter_format *format;
    gr_adapter_find *found;               /* [layers][GR_ROLES][GR_PARAM_KINDS]; outside blocks: layer 0 */
    gr_adapter_find tied[GR_PARAM_KINDS]; /* a tied head's copies */
    bool *used;                           /* [tensors of the file] */
    gr_buf problems;
    int problem_count;
    bool more_problems; /* than problems has room for */
    bool router;        /* a mixture's router is adapted: one of the problems */
} gr_adapter_reader;
/* Finds every tensor, and names all that do not fit (GRAFT_MISMATCH). file, config, settings and format are
 * set. gr_adapter_reader_free frees what it made. */
graft_status gr_adapter_find_all(gr_adapter_reader *reader, const char *path, graft_error *err) GR_MUST_CHECK;
gr_adapter_find *gr_adapter_found(const gr_adapter_reader *reader, gr_role role, int64_t layer,
                                  gr_param_kind kind);
/* The numbers of one trained tensor, of which `pool` columns (0: none) of the file's are one. False if they
 * differ. */
bool gr_adapter_copy(float *to, const gr_param *param, int64_t pool, const gr_adapter_find *from);
void gr_adapter_reader_free(gr_adapter_reader *reader);

#endif
