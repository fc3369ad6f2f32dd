/* convert/convert.h - any model in (Hugging Face directory, also of AWQ or GPTQ; MLX directory; GGUF file),
 * an MLX directory out.
 *
 * What it does   reads tensor by tensor, quantizes, repacks or casts, writes shards; peak memory is that of
 * the largest tensor's scales and one block of rows, whatever the model's size. The directory is written
 * beside its place and appears there whole. May include    base, files, text, weights, model (the tables).
 * Never quantizes embeddings, output heads, norms or biases unless asked; changes a value without a note.
 */
#ifndef GR_CONVERT_CONVERT_H
#define GR_CONVERT_CONVERT_H
#include "base/os.h"
#include "convert/edit.h"
#include "model/config.h"

/* Returns false to stop: GRAFT_INTERRUPTED, and nothing is left. */
typedef bool gr_convert_progress(void *context, const char *tensor, size_t done, size_t total);

typedef struct gr_convert_options {
    const char *model; /* directory or FILE.gguf */
    const char *out;   /* directory; must be new, empty, or of the same conversion made earlier */
    bool quantize;     /* linear layers to q_bits; layers that are quantized already stay as they are */
    int q_bits,
        q_group_size;   /* 0: 4 and 64; else a GGUF with other codes is quantized anew, MLX is refused */
    const char *q_mode; /* NULL or "affine"; mxfp4, mxfp8 and nvfp4 are only read: GRAFT_UNSUPPORTED */
    const char *quant_predicate; /* NULL, or a recipe or rules (convert/quant_rules.h); with quantize */
    bool q_embeddings;    /* embeddings and output head too (a GGUF's Q8_0 embedding: its own 8-bit codes);
                             of a directory only together with quantize */
    bool dequantize;      /* everything to floats; not together with quantize */
    gr_reading reading;   /* of the source */
    int threads;          /* 0: one per core. The result is the same at any number */
    uint64_t shard_bytes; /* largest shard; 0: 5 GiB, as mlx-lm */
    const char
        *dtype; /* "float16", "bfloat16", "float32"; NULL: what the config says, else what loses nothing */
    gr_convert_progress *progress; /* may be NULL; called before each tensor and once at the end */
    void *context;
    /* What changes on the way, sorted by name; every one must meet its tensor (GRAFT_MISMATCH). With edits
     * and without dtype what is not dequantized keeps its types. Borrowed; edits_key tells them from others.
     */
    const gr_edit *edits;
    size_t edit_count;
    uint64_t edits_key;
} gr_convert_options;

typedef struct gr_convert_result {
    double bits_per_weight; /* 8 * bytes / parameters */
    size_t tensors;         /* written, scales and biases counted */
    uint64_t parameters, bytes;
    char **notes; /* sentences for people: what stayed at 16 bit, what was rounded */
    size_t note_count, note_cap;
} gr_convert_result;

/* Errors: GRAFT_USAGE for options that contradict each other or an output directory that is not ours;
 * GRAFT_UNSUPPORTED for architectures, tensors and rope scalings that the result could not express;
 * everything the readers refuse. result is filled on success; on failure it is empty. Owned by caller until
 * gr_convert_result_free. */
graft_status gr_convert(const gr_convert_options *options, gr_convert_result *result,
                        graft_error *err) GR_MUST_CHECK;
/* A model's numbers from its GGUF file: metadata and the tensors' names and shapes. Free with gr_config_free.
 */
graft_status gr_convert_gguf_config(gr_model_config *config, const char *path,
                                    graft_error *err) GR_MUST_CHECK;
/* A digest of the source, GGUF file or directory: changes with its files (device, inode, time, size, samples
 * of their bytes, and in a directory the names). */
graft_status gr_convert_key(uint64_t *key, const char *path, graft_error *err) GR_MUST_CHECK;

/* A sentence for the user: what is being made and where it is kept, then the conversion's notes. */
typedef void gr_convert_say(void *context, const char *sentence);

/* *dir (malloc'ed) is the MLX directory that gr_convert makes of wish->model with these wishes (wish->out is
 * not read), kept in ${XDG_CACHE_HOME:-~/.cache}/graft/converted under the model's name and a digest of
 * source and wishes. Made when it is not there, whole or not at all, also when two processes ask at once;
 * only then `say` (may be NULL; it gets wish->context) is called. A 16-bit model for a 4-bit run:
 *
 *     gr_convert_options wish = {.model = dir, .quantize = true, .q_bits = 4, .q_group_size = 64};
 *     GR_TRY(gr_convert_kept(&kept, &wish, say, err));
 *
 * errors  those of gr_convert; GRAFT_IO when there is no home for a cache */
graft_status gr_convert_kept(char **dir, const gr_convert_options *wish, gr_convert_say *say,
                             graft_error *err) GR_MUST_CHECK;
/* The directory that gr_convert_kept made of the same wishes before, malloc'ed; *dir NULL: none. Makes
 * nothing.
 * errors  those of gr_convert_key; GRAFT_IO when there is no home for a cache */
graft_status gr_convert_find_kept(char **dir, const gr_convert_options *wish, graft_error *err) GR_MUST_CHECK;
/* .. or, where none was made, wish->model itself (malloc'ed): for what needs no weights. */
graft_status gr_convert_kept_or_own(char **dir, const gr_convert_options *wish,
                                    graft_error *err) GR_MUST_CHECK;
/* Removes a directory of gr_convert_kept that nobody needs again; what cannot be removed stays. */
void gr_convert_forget(const char *dir);
/* Are the directory's linears those of AutoAWQ or AutoGPTQ, which only a conversion makes usable? Says its
 * config.json; false where that cannot be read. */
bool gr_convert_is_awq_gptq(const char *dir, gr_reading how);
void gr_convert_result_free(gr_convert_result *result);

#endif
