/* adapters/adapter.h - what was trained, in files: one table of formats, one directory that mlx-lm, PEFT and
 * llama.cpp load.
 * What it does: parameter vector <-> adapters.safetensors (mlx-lm), adapter_model.safetensors (PEFT),
 * adapter.gguf (llama.cpp) and one adapter_config.json with the union of the first two programs' keys.
 * May include: base, files, weights, model, convert (names), plan. Never: trains, computes.
 *
 * Files: format_table.c (names and orientations), listing.c (a tuning as a format's tensors, and what it
 * cannot hold), save.c, save_file.c, save_config.c, card_head.c, which_save.c (do the files of a directory
 * belong together?), find_file.c, load.c, load_file.c, load_tensors.c, load_config.c, whole_model.c (names of
 * a model of images and text), check_base.c, record.c, module_pairs.c (without a base), template_kwargs.c,
 * several.c, merge_svd.c, export.c,
 * export_base.c; adapter_parts.h is what they share.
 */
#ifndef GR_ADAPTERS_ADAPTER_H
#define GR_ADAPTERS_ADAPTER_H
#include "files/safetensors.h"
#include "model/model.h"
#include "plan/tuning.h"

/* Formats of tensor files. ORDER: gr_adapter_format_table */
enum { GR_ADAPTER_MLX = 1 << 0, GR_ADAPTER_PEFT = 1 << 1, GR_ADAPTER_GGUF = 1 << 2 };
#define GR_ADAPTER_FORMATS 3
#define GR_ADAPTER_USUAL   (GR_ADAPTER_MLX | GR_ADAPTER_PEFT) /* what training writes unasked */

/* What an adapter's files record of it beside its numbers and settings. */
typedef struct gr_adapter_record {
    char *base;           /* path or name of the base model; NULL: not recorded */
    char base_digest[24]; /* "": not recorded */
    json_t *base_tensors; /* digests by tensor; NULL: not recorded */
    int64_t iteration;
    double dropout;        /* that it was trained with */
    char *template_kwargs; /* a JSON object; NULL: none */
} gr_adapter_record;
/* Of a directory or file, as gr_adapter_load takes them. gr_adapter_record_free after failure too. */
graft_status gr_adapter_record_read(gr_adapter_record *record, const char *path,
                                    graft_error *err) GR_MUST_CHECK;
void gr_adapter_record_free(gr_adapter_record *record);

/* What the files say beside the numbers. Strings borrowed. */
typedef struct gr_adapter_info {
    const char *base;      /* path or name of the base model */
    const gr_model *model; /* itself, for its digests; NULL: none are recorded, or those of `record` */
    const gr_adapter_record *record; /* of an adapter that is saved again; NULL: a new one */
    int64_t iteration;
    unsigned formats;            /* to write, as bits; 0: the usual */
    const char *template_kwargs; /* a JSON object; NULL: none */
} gr_adapter_info;

/* The base that an adapter is put on. */
typedef struct gr_adapter_base {
    const gr_model *model; /* gr_model_identify has been called */
    bool allow_other;
    bool shape_only;    /* the numbers will be others, and need not be those of one save */
    gr_reading reading; /* zeroed: from the disk */
    char note[640];     /* filled: what the user should know of how the two fit; "": nothing */
} gr_adapter_base;

/* Writes the tensor files of info->formats that can hold this tuning and adapter_config.json into dir (made
 * if missing), each atomically, the config last; files of other formats are removed, so that none of an
 * earlier save stays beside the new ones. All carry the same iteration and digest: the tensor files in their
 * metadata, the config in its "graft". Numbers are f32; needs no memory that grows with them.
 *
 *   mlx-lm  knows one rank and one scale: lower ranks are padded with zeros, other scales folded into lora_b;
 *           beside adapters it takes neither biases nor whole tensors: not written then. Without any adapter
 *           (--fine-tune-type full) it is mlx-lm's "full": the tensors by their names in the model.
 *
 *   PEFT    holds everything exactly; not written without any adapter.
 *
 *   GGUF    has one alpha and any ranks: other scales are folded into lora_b. It holds A and B of modules
 *           that llama.cpp has, nothing else: no DoRA, biases, whole tensors, tied embeddings. */
graft_status gr_adapter_save(const char *dir, const gr_model_config *config, const gr_tuning *tuning,
                             const float *params, const gr_adapter_info *info,
                             graft_error *err) GR_MUST_CHECK;

/* Appends what saves of this tuning in these formats (0: the usual) leave out or change, for people; nothing
 * if they are all exact. */
void gr_adapter_notes(gr_buf *notes, const gr_model_config *config, const gr_tuning *tuning,
                      unsigned formats);

/* The tensor files that gr_adapter_save writes for this tuning, by name; ended by NULL. */
void gr_adapter_files(const char *names[GR_ADAPTER_FORMATS + 1], const gr_model_config *config,
                      const gr_tuning *tuning, unsigned formats);
/* Name of a format's file, and the program that it is for: "mlx-lm", "PEFT", "llama.cpp". NULL past the last.
 */
const char *gr_adapter_file_name(int format);
const char *gr_adapter_program(const char *file_name);

/* The save that an adapter's files are of, as they say themselves. */
typedef struct gr_adapter_mark {
    int64_t iteration;
    char digest[17];
} gr_adapter_mark;
typedef enum gr_adapter_place {
    GR_ADAPTER_NONE,   /* dir has none of the files */
    GR_ADAPTER_TORN,   /* some are missing, damaged, or of another save than the rest */
    GR_ADAPTER_UNREAD, /* the system could not say: input failed, or memory ran out */
    GR_ADAPTER_WHOLE   /* all that gr_adapter_save writes for this tuning, of the one save in *mark */
} gr_adapter_place;
/* What a save in these formats (0: the usual) left in dir. Reads headers, not numbers. */
gr_adapter_place gr_adapter_which(gr_adapter_mark *mark, const char *dir, const gr_model_config *config,
                                  const gr_tuning *tuning, unsigned formats);

/* Reads an adapter of any format and kind from a directory, or from one file beside its adapter_config.json,
 * which a GGUF file does not need: tuning and parameters (malloc'ed, owned by caller). Every tensor must fit
 * the base; all that do not are named at once. Of graft's own pair mlx-lm's file is read, or PEFT's where the
 * former is padded or folded. dropout is left 0. GRAFT_MISMATCH names what differs if the file records
 * another base than *base (NULL: not checked) and that is not allowed, or if the files of the directory
 * record different digests: a save was cut short, and they do not belong together; GRAFT_CORRUPT if the
 * numbers are not those of the recorded digest. GRAFT_UNSUPPORTED names the setting of a kind that graft does
 * not compute.
 * path may be a list, "a=0.7,b=0.3" (weight 1 where none is said): the weighted sum of all, exactly, as one
 * adapter whose ranks add up; GRAFT_UNSUPPORTED names what cannot be added up. An existing path is no list.
 */
graft_status gr_adapter_load(gr_tuning **tuning, float **params, const char *path,
                             const gr_model_config *config, gr_adapter_base *base,
                             graft_error *err) GR_MUST_CHECK;

/* A module's A and B as a file has them, whatever base they are of. */
typedef struct gr_adapter_module {
    char path[256];         /* "model.layers.0.self_attn.q_proj", without the format's prefix */
    const gr_tensor *a, *b; /* floats: two matrices, or two stacks of as many. Borrowed from the file */
    bool a_last, b_last;    /* of a matrix: the rank is its last side, not its first */
    int64_t rank;
    float scale;
} gr_adapter_module;
typedef struct gr_adapter_modules {
    gr_adapter_module *list; /* by name */
    size_t count;
    size_t left_out; /* an A without a B that fits it, with too long a name, or of another rank than is
                        configured */
    bool there;      /* dir has a config and a tensor file; false: nothing was saved, and all else is empty */
    bool full, dora; /* full: whole tensors were trained, and there are no modules */
    gr_safetensors *file;
} gr_adapter_modules;
/* Those of dir's first safetensors file in the order of the formats, with the scales of adapter_config.json.
 * errors  GRAFT_NOT_FOUND without that config, or without a key that it needs, or as gr_adapter_load's, for
 * files that contradict themselves. Owned by caller until gr_adapter_modules_free (also after failure). */
graft_status gr_adapter_modules_read(gr_adapter_modules *modules, const char *dir,
                                     graft_error *err) GR_MUST_CHECK;
void gr_adapter_modules_free(gr_adapter_modules *modules);

/* Is that path one adapter as it is, and no list, nor one with a weight? */
graft_status gr_adapter_is_single(bool *single, const char *path, gr_reading how,
                                  graft_error *err) GR_MUST_CHECK;

/* How adapters of a list become one. */
typedef enum gr_adapter_merging {
    GR_MERGE_CAT,    /* exactly: ranks add up */
    GR_MERGE_LINEAR, /* A and B are added, each with the root of its weight, as PEFT does; of equal ranks */
    GR_MERGE_SVD     /* the nearest matrices of a rank */
} gr_adapter_merging;
/* The same with a choice; rank: of GR_MERGE_SVD, 0 is the largest that an adapter has in the module. */
graft_status gr_adapter_load_merged(gr_tuning **tuning, float **params, const char *path,
                                    gr_adapter_merging how, int64_t rank, const gr_model_config *config,
                                    gr_adapter_base *base, graft_error *err) GR_MUST_CHECK;

/* The template_kwargs that an adapter's config records, as compact JSON (malloc'ed). *kwargs is NULL where it
 * records none, or where no config is found: gr_adapter_load says what is wrong with the path. Of a list the
 * first one's; *differ (may be NULL): another of it records others. */
graft_status gr_adapter_template_kwargs(char **kwargs, bool *differ, const char *path, gr_reading how,
                                        graft_error *err) GR_MUST_CHECK;
/* The same variables, in whatever order? NULL: none. */
bool gr_adapter_same_kwargs(const char *a, const char *b);

/* An adapter in other formats: options of `graft export`. Strings borrowed. */
typedef struct gr_adapter_export {
    const char *path, *to, *out; /* to: "mlx,gguf", or NULL for every format that can hold it */
    const char *model;           /* base; NULL: the recorded one */
    gr_adapter_merging merging;  /* of a list */
    int64_t merge_rank;
    bool allow_other_base; /* adapters of a list may be of different bases */
    int threads;           /* of the digest of a base; 0: one per core */
} gr_adapter_export;
/* What was written. Free notes and base. */
typedef struct gr_adapter_exported {
    const char *files[GR_ADAPTER_FORMATS + 1]; /* ended by NULL */
    char *base, *notes;                        /* notes: what a format changes or lacks; "" */
    char digest[17];
    int64_t modules, rank, parameters; /* rank: the largest */
} gr_adapter_exported;
/* Reads an adapter and writes it to out, with a card. Of the base only its config.json or the metadata of its
 * GGUF file is read; its weights where `model` is not the recorded base by name and may be it by digest. If
 * `out` holds files of the same adapter already, they stay, written anew. errors  GRAFT_UNSUPPORTED where a
 * format of `to` cannot hold the adapter: what is in its way; GRAFT_USAGE where `out` holds another adapter
 * or the base is not known */
graft_status gr_adapter_export_run(gr_adapter_exported *done, const gr_adapter_export *wish,
                                   graft_error *err) GR_MUST_CHECK;

/* The head of a README.md: what model hubs read, the title, which program loads which file. made: "Trained".
 */
void gr_adapter_card_head(gr_buf *card, const char *made, const char *base, const gr_model_config *config,
                          const gr_tuning *tuning, unsigned formats);

/* Digest of a parameter vector, as 16 hexadecimal digits. */
void gr_adapter_digest(char text[17], const float *params, int64_t count);

#endif
