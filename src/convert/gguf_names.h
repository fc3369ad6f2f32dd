/* convert/gguf_names.h - llama.cpp's names of tensors <-> Hugging Face's. */
#ifndef GR_GGUF_NAMES_H
#define GR_GGUF_NAMES_H
#include "base/memory.h"

/* Appends the Hugging Face name of a GGUF tensor (blk.3.attn_q.weight ->
 * model.layers.3.self_attn.q_proj.weight); false when the table does not know it. */
bool gr_gguf_name_to_hf(gr_buf *hf, const char *name);

#endif
