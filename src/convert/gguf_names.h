/* convert/gguf_names.h - llama.cpp's names of architectures and tensors <-> Hugging Face's. */
#ifndef GR_CONVERT_GGUF_NAMES_H
#define GR_CONVERT_GGUF_NAMES_H
#include "base/memory.h"

/* How llama.cpp's files have an architecture. source: llama.cpp conversion/, as of llama-cpp-python 0.3.36 */
typedef struct gr_gguf_arch {
    const char *model_type; /* config.json's */
    const char *gguf;       /* general.architecture */
    bool pairs;             /* rows of q and k are stored for rotation of neighbouring pairs */
    bool one_plus;          /* norms are stored as 1 + weight (Gemma) */
    bool only_adapters;     /* such a file's metadata does not tell a whole config: it is not converted */
} gr_gguf_arch;
/* The row for a file's general.architecture (len bytes of name); NULL if unknown. */
const gr_gguf_arch *gr_gguf_arch_by_name(const char *name, size_t len);
const gr_gguf_arch *gr_gguf_arch_of(const char *model_type); /* NULL if unknown */
/* Appends "llama, qwen2, .." as messages list them: those whose files are converted. */
void gr_gguf_arch_list(gr_buf *names);

/* Where row `row` of q or k (head_dim rows a head) stands in a file with `pairs`: (head, half, i) is at
 * (head, i, half). And back. */
static inline int64_t gr_gguf_paired_row(int64_t row, int64_t head_dim) {
    int64_t at = row % head_dim, half = head_dim / 2;
    return row - at + 2 * (at % half) + at / half;
}
static inline int64_t gr_gguf_unpaired_row(int64_t row, int64_t head_dim) {
    int64_t at = row % head_dim;
    return row - at + at % 2 * (head_dim / 2) + at / 2;
}

/* Appends the Hugging Face name of a GGUF tensor of that architecture (blk.3.attn_q.weight ->
 * model.layers.3.self_attn.q_proj.weight); false when the table does not know it. */
bool gr_gguf_name_to_hf(gr_buf *hf, const gr_gguf_arch *arch, const char *name);
/* The other way, of a module: model.layers.3.self_attn.q_proj -> blk.3.attn_q; false when the table does not
 * know it. */
bool gr_gguf_name_of_hf(char *name, size_t size, const char *hf);

#endif
