/* tests/tiny_llama_gguf.h - the 16-bit Llama of tiny_dir.h (no spec: seed 0, tied) as a GGUF file that a
 * converter would have made: F16 matrices, rows of q and k in pairs, tokenizer and chat template inside. */
#ifndef TINY_LLAMA_GGUF_H
#define TINY_LLAMA_GGUF_H
#include "tests/gguf_bytes.h"
#include "tests/tiny_dir.h"

typedef struct tiny_gguf_row {
    char name[64], source[96]; /* in GGUF; in tiny_dir.h's model, whose name seeds the values */
    int64_t rows, cols;        /* rows 0: a vector */
    int64_t heads;             /* of q and k */
} tiny_gguf_row;

enum { TINY_GGUF_ROWS = 2 + 9 * TINY_LAYERS };

static inline size_t tiny_gguf_bytes(const tiny_gguf_row *t) {
    return (size_t)(t->rows ? t->rows * t->cols * 2 : t->cols * 4);
}

static inline void tiny_gguf_table(tiny_gguf_row *t) {
    static const struct {
        const char *gguf, *source;
        int64_t rows, cols, heads;
    } parts[] = {{"attn_q", "self_attn.q_proj", TINY_HEADS * TINY_DIM, TINY_HIDDEN, TINY_HEADS},
                 {"attn_k", "self_attn.k_proj", TINY_KV * TINY_DIM, TINY_HIDDEN, TINY_KV},
                 {"attn_v", "self_attn.v_proj", TINY_KV * TINY_DIM, TINY_HIDDEN, 0},
                 {"attn_output", "self_attn.o_proj", TINY_HIDDEN, TINY_HEADS * TINY_DIM, 0},
                 {"ffn_gate", "mlp.gate_proj", TINY_MLP, TINY_HIDDEN, 0},
                 {"ffn_up", "mlp.up_proj", TINY_MLP, TINY_HIDDEN, 0},
                 {"ffn_down", "mlp.down_proj", TINY_HIDDEN, TINY_MLP, 0},
                 {"attn_norm", "input_layernorm", 0, TINY_HIDDEN, 0},
                 {"ffn_norm", "post_attention_layernorm", 0, TINY_HIDDEN, 0}};
    *t++ = (tiny_gguf_row){"token_embd.weight", "model.embed_tokens.weight", TINY_VOCAB, TINY_HIDDEN, 0};
    *t++ = (tiny_gguf_row){"output_norm.weight", "model.norm.weight", 0, TINY_HIDDEN, 0};
    for (int l = 0; l < TINY_LAYERS; l++)
        for (int i = 0; i < 9; i++, t++) {
            *t = (tiny_gguf_row){.rows = parts[i].rows, .cols = parts[i].cols, .heads = parts[i].heads};
            snprintf(t->name, sizeof t->name, "blk.%d.%s.weight", l, parts[i].gguf);
            snprintf(t->source, sizeof t->source, "model.layers.%d.%s.weight", l, parts[i].source);
        }
}

/* The values of tiny_dir.h. Stored row (head, i, half) is its row (head, half, i). */
static inline void tiny_gguf_values(gr_buf *b, const tiny_gguf_row *t) {
    const tiny_weights of = {.spec = &(tiny_spec){0}};
    const int64_t rows = gr_max_i64(t->rows, 1), d = t->heads ? t->rows / t->heads : 2;
    const bool embedding = strstr(t->source, "embed") != NULL;
    float *x = tiny_values(&of, t->source, rows * t->cols, t->rows ? 0 : 1,
                           !t->rows    ? 0.2f
                           : embedding ? 0.5f
                                       : 1.7f / sqrtf((float)t->cols));
    for (int64_t r = 0; r < rows; r++) {
        const int64_t from = t->heads ? r / d * d + r % 2 * (d / 2) + r % d / 2 : r;
        for (int64_t c = 0; c < t->cols; c++) {
            const float value = gr_bf16_to_f32(gr_f32_to_bf16(x[from * t->cols + c]));
            const uint16_t half = gr_f32_to_f16(value);
            gr_buf_add(b, t->rows ? (const void *)&half : &value, t->rows ? 2 : 4);
        }
    }
    free(x);
    put_padding(b, 32);
}

static inline void tiny_gguf_tokens(gr_buf *b) {
    static const char *const more[] = {"he",         "an",       "<|endoftext|>", "<|im_start|>",
                                       "<|im_end|>", "[PAD261]", "[PAD262]",      "[PAD263]"};
    enum { NORMAL = 1, CONTROL = 3, UNUSED = 5 };
    put_key_string(b, "tokenizer.ggml.model", "gpt2");
    put_key_string(b, "tokenizer.ggml.pre", "gpt-2");
    put_key_array(b, "tokenizer.ggml.tokens", GR_GGUF_STRING, TINY_VOCAB);
    for (int i = 0; i < TINY_VOCAB; i++) {
        char name[4];
        if (i < 256) tiny_byte_name(name, i);
        put_string(b, i < 256 ? name : more[i - 256]);
    }
    put_key_array(b, "tokenizer.ggml.token_type", GR_GGUF_I32, TINY_VOCAB);
    for (int i = 0; i < TINY_VOCAB; i++) put_u32(b, i < 258 ? NORMAL : i < 261 ? CONTROL : UNUSED);
    put_key_array(b, "tokenizer.ggml.merges", GR_GGUF_STRING, 2);
    put_string(b, "h e");
    put_string(b, "a n");
    put_key_u32(b, "tokenizer.ggml.eos_token_id", 260);
    put_key_string(b, "tokenizer.chat_template", TINY_CHATML);
}

/* root/name: the file. */
static inline void tiny_llama_gguf_write(const char *root, const char *name) {
    tiny_gguf_row table[TINY_GGUF_ROWS];
    tiny_gguf_table(table);
    gr_buf b = {0};
    graft_error err = {0};
    size_t at = 0;
    put_header(&b, 3, TINY_GGUF_ROWS, 17);
    put_key_string(&b, "general.architecture", "llama");
    put_key_string(&b, "general.name", "tiny");
    put_key_u32(&b, "llama.block_count", TINY_LAYERS);
    put_key_u32(&b, "llama.embedding_length", TINY_HIDDEN);
    put_key_u32(&b, "llama.feed_forward_length", TINY_MLP);
    put_key_u32(&b, "llama.attention.head_count", TINY_HEADS);
    put_key_u32(&b, "llama.attention.head_count_kv", TINY_KV);
    put_key_u32(&b, "llama.context_length", 512);
    put_key_float(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_key_float(&b, "llama.rope.freq_base", 5000);
    tiny_gguf_tokens(&b);
    for (int i = 0; i < TINY_GGUF_ROWS; i++) {
        put_tensor(&b, table[i].name, (uint64_t)table[i].rows, (uint64_t)table[i].cols,
                   table[i].rows ? GR_GGUF_F16 : GR_GGUF_F32, at);
        at = gr_round_up(at + tiny_gguf_bytes(&table[i]), 32);
    }
    put_padding(&b, 32);
    for (int i = 0; i < TINY_GGUF_ROWS; i++) tiny_gguf_values(&b, &table[i]);
    char *path = tiny_join(root, name);
    if (gr_file_replace(path, b.data, b.len, &err) != GRAFT_OK) fail_msg("%s: %s", err.what, err.where);
    free(path);
    gr_buf_free(&b);
}

#endif
