/* adapters/adapter.h - adapters in files: one table of formats, one directory that mlx-lm and PEFT both load.
 * What it does: parameter vector <-> adapters.safetensors (mlx-lm), adapter_model.safetensors (PEFT) and one
 * adapter_config.json with the union of both programs' keys.
 * May include: base, files, model, plan. Never: trains, computes.
 */
#ifndef GR_ADAPTERS_ADAPTER_H
#define GR_ADAPTERS_ADAPTER_H
#include "model/model.h"
#include "plan/tuning.h"

/* What the files say beside the numbers. Strings borrowed. */
typedef struct gr_adapter_info {
    const char *base;     /* path or name of the base model */
    uint64_t base_digest; /* gr_model.digest */
    int64_t iteration;
    double dropout;
    bool use_rslora;
} gr_adapter_info;

/* How one program names and orients an adapter's matrices. graft's own: A [rank, in], B [rank, out]. */
typedef struct gr_adapter_format {
    const char *name; /* "mlx", "peft" */
    const char *file;
    const char *prefix; /* before the module's path */
    const char *a, *b;  /* suffixes of the two tensors */
    bool a_transposed;  /* stored as [in, rank] */
    bool b_transposed;  /* stored as [out, rank] */
} gr_adapter_format;

/* Ended by name == NULL. */
extern const gr_adapter_format gr_adapter_format_table[];

/* Writes both tensor files and adapter_config.json into dir (made if missing), each atomically; the config
 * last. Both tensor files carry the same iteration and digest in their metadata, the config in its "graft".
 */
graft_status gr_adapter_save(const char *dir, const gr_model_config *config, const gr_tuning *tuning,
                             const float *params, const gr_adapter_info *info,
                             graft_error *err) GR_MUST_CHECK;

/* Reads an adapter of any format from a directory, or from one file beside its adapter_config.json: selection
 * and parameters (malloc'ed, owned by caller). Every tensor must fit the base; all that do not are named at
 * once. GRAFT_MISMATCH if the file records a base digest other than base_digest (0: not checked), or if the
 * files of the directory record different digests: a save was cut short, and they do not belong together. */
graft_status gr_adapter_load(gr_tuning **tuning, float **params, const char *path,
                             const gr_model_config *config, uint64_t base_digest,
                             graft_error *err) GR_MUST_CHECK;

/* Digest of a parameter vector, as 16 hexadecimal digits. */
void gr_adapter_digest(char text[17], const float *params, int64_t count);

#endif
