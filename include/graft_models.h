/* graft_models.h - models and adapters as files: convert, fuse, export, info, download.
 */
#ifndef GRAFT_MODELS_H
#define GRAFT_MODELS_H
#include "graft_hooks.h"
#include "graft_options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What converting wrote. Free it. */
typedef struct graft_convert_result {
    double bits_per_weight;
    int64_t tensors;
    uint64_t bytes;
    char *notes; /* lines; "" if none; malloc'ed */
} graft_convert_result;
/* Writes options.model, of any format that can be read, as an MLX directory to options.mlx_path. */
graft_status graft_convert(const graft_options *options, const graft_hooks *hooks,
                           graft_convert_result *result, graft_error *err);
void graft_convert_result_free(graft_convert_result *result);

/* Least share of the adapter's gain that a fused model keeps without a warning. */
#define GRAFT_FUSE_KEPT 0.8

/* What fusing wrote, and what it did to the loss. */
typedef struct graft_fuse_result {
    int64_t tensors, changed; /* written; of the base's, those that are other bytes now */
    uint64_t bytes;
    double bits_per_weight;
    /* with options.data: losses on its rows, of the base, of base and adapter, and of what was written */
    bool measured;
    double loss_base, loss_adapter, loss_fused;
    int64_t tokens, rows;
    double kept; /* share of the gain that the fused model has; NaN where the adapter gains nothing */
    /* less than GRAFT_FUSE_KEPT kept, of a gain that is more than twice its standard error over the rows; a
     * note says so, and what to do */
    bool lossy;
} graft_fuse_result;
/* Writes the model in which options.adapter_path ("adapters") is part of the weights to options.save_path
 * ("fused_model"): an MLX directory in the base's own quantization, or with options.dequantize in floats; or,
 * of a GGUF base, FILE.gguf with the base's types. */
graft_status graft_fuse(const graft_options *options, const graft_hooks *hooks, graft_fuse_result *result,
                        graft_error *err);

/* What exporting wrote. Free it. */
typedef struct graft_export_result {
    char *base;            /* as the files record it; malloc'ed, as notes */
    const char *files[4];  /* names of the tensor files; ended by NULL, static */
    char *notes;           /* what a format changes, or why it has no file; "" if all is exact */
    char digest[17];       /* of everything trained */
    int64_t modules, rank; /* adapted modules; the largest rank */
    int64_t parameters;
} graft_export_result;
/* Writes the adapter at options.adapter_path ("adapters"), of any format, or a weighted sum of several, to
 * options.out in the formats of options.to. Of the base (options.model, or the one that the adapter records)
 * only config.json is read, or the metadata of its GGUF file. The files go on recording the base that the
 * adapter recorded, unless options.model has its digest: then that. A format that is named and cannot hold
 * the adapter is GRAFT_UNSUPPORTED. */
graft_status graft_export(const graft_options *options, const graft_hooks *hooks, graft_export_result *result,
                          graft_error *err);
void graft_export_result_free(graft_export_result *result);
/* The program that loads such a file: "mlx-lm", "PEFT" or "llama.cpp". */
const char *graft_adapter_program(const char *file_name);

/* What is in a file or directory, as one JSON document (malloc'ed). */
graft_status graft_info(const char *path, char **json, graft_error *err);

/* Where the model is, and what had to be fetched. Free it. */
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

#ifdef __cplusplus
}
#endif
#endif
