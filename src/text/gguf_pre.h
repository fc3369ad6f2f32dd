/* text/gguf_pre.h - how GGUF's tokenizer.ggml.pre names cut text. Private to the tokenizer. */
#ifndef GR_TEXT_GGUF_PRE_H
#define GR_TEXT_GGUF_PRE_H
#include <stdbool.h>

typedef struct gr_gguf_pre {
    const char *names;    /* separated by spaces, with one before the first and one after the last */
    const char *split[5]; /* regular expressions, applied one after the other; each match stands alone */
    bool gpt2;            /* GPT-2's own expression follows */
    bool nfc;             /* the model's tokenizer.json normalizes */
    bool ignore_merges;
    bool add_bos; /* unless tokenizer.ggml.add_bos_token says otherwise */
} gr_gguf_pre;

/* The row that has this name; NULL if none. */
const gr_gguf_pre *gr_gguf_pre_find(const char *name);

#endif
