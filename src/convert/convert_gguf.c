/* GGUF files as sources. */
#include "convert/conversion.h"
#include "convert/gguf_names.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "files/problems.h"
#include "text/chat_templates.h"
#include "text/tokenizer.h"
#include "weights/gguf_blocks.h"

/* What went through 16 bits, or stayed in 32: said once per kind, not once per tensor. */
typedef struct tally {
    size_t through_16, anew, decoded, embeddings, kept_32, wide_scales;
} tally;

static bool is_dense(gr_gguf_type type) {
    return type == GR_GGUF_F32 || type == GR_GGUF_F16 || type == GR_GGUF_BF16;
}

/* The float type of everything that is not quantized, unless asked otherwise: that of the file's own
 * matrices. */
static gr_dtype native_dtype(const gr_gguf *file) {
    bool f16 = false, bf16 = false, f32 = false, blocks = false;
    for (size_t i = 0; i < gr_gguf_count(file); i++) {
        const gr_gguf_tensor *t = gr_gguf_at(file, i);
        if (t->ndim < 2) continue;
        f16 = f16 || t->type == GR_GGUF_F16;
        bf16 = bf16 || t->type == GR_GGUF_BF16;
        f32 = f32 || t->type == GR_GGUF_F32;
        blocks = blocks || !is_dense(t->type);
    }
    if (bf16 && !f16) return GR_BF16;
    return f32 && !f16 && !blocks ? GR_F32 : GR_F16;
}

/* The file's architecture, which the config has been made of. */
static const gr_gguf_arch *gguf_arch(const gr_conversion *c) {
    return gr_gguf_arch_of(json_string_value(json_object_get(c->config, "model_type")));
}

/* Rows of q and k may be stored for rotation of neighbouring pairs. */
static graft_status set_permutation(const gr_conversion *c, gr_job *job, int64_t head_dim, graft_error *err) {
    if (!gguf_arch(c)->pairs ||
        !(strstr(job->path, "self_attn.q_proj") || strstr(job->path, "self_attn.k_proj")))
        return GRAFT_OK;
    if (job->ndim == 1) { /* a bias: one value is one row */
        job->rows = job->cols;
        job->from.row_bytes /= job->cols ? (size_t)job->cols : 1;
        job->cols = 1;
    }
    if (head_dim % 2 || job->rows % head_dim) {
        gr_fail(err, GRAFT_CORRUPT, "rows of %s are not whole heads of %lld", job->path, (long long)head_dim);
        return gr_where(err, "%s", c->options->model);
    }
    job->from.head_dim = head_dim;
    return GRAFT_OK;
}

/* Were other numbers asked for than the blocks have? */
static bool other_codes(const gr_convert_options *o, gr_quant_choice choice, int bits) {
    return o->quantize && (((o->q_bits || choice.asked) && choice.bits != bits) ||
                           ((o->q_group_size || choice.asked) && choice.group != GR_GGUF_GROUP));
}

/* A matrix of blocks: codes as they are where they are affine groups of 32 and wanted, else floats, else new
 * codes. */
static void plan_blocks(gr_conversion *c, gr_job *job, gr_dtype dtype, tally *said) {
    const gr_source *from = &job->from;
    int bits = gr_gguf_affine_bits(from->type);
    gr_quant_choice choice = gr_conversion_choose(c, job);
    bool wanted = !c->options->dequantize && choice.quantize;
    if (wanted && bits && !other_codes(c->options, choice, bits)) {
        job->op = GR_JOB_REPACK;
        job->bits = bits;
        job->group = GR_GGUF_GROUP;
        job->dtype = c->dtype >= 0 ? (gr_dtype)c->dtype
                                   : gr_gguf_affine_dtype(from->data, from->type, job->rows * job->cols);
        gr_map_release(from->data, (size_t)job->rows * from->row_bytes);
        if (job->dtype == GR_F32 && c->dtype < 0) said->wide_scales++;
        return;
    }
    job->op = GR_JOB_FLOAT;
    job->dtype = dtype;
    if (wanted && c->options->quantize) {
        if (bits)
            said->anew++;
        else if (dtype != GR_F32)
            said->through_16++;
        gr_conversion_quantize(c, job, choice);
        return;
    }
    if (dtype == GR_F32) return;
    if (c->options->dequantize)
        said->decoded++;
    else if (job->role == GR_EMBED_TOKENS || job->role == GR_LM_HEAD)
        said->embeddings++;
    else
        said->through_16++;
}

static graft_status plan_tensor(gr_conversion *c, const gr_gguf_tensor *t, const char *name, gr_dtype dtype,
                                int64_t head_dim, tally *said, graft_error *err) {
    gr_job *job;
    GR_TRY(gr_jobs_add(&job, &c->jobs, name, t->ndim, t->shape, c->options->model, err));
    job->from = (gr_source){.kind = GR_FROM_BLOCKS, .type = t->type, .data = t->data};
    job->from.row_bytes = job->rows ? t->bytes / (size_t)job->rows : 0;
    GR_TRY(set_permutation(c, job, head_dim, err));
    if (gguf_arch(c)->one_plus && t->ndim == 1 && strstr(name, "norm.weight")) job->from.plus = -1;
    if (!is_dense(t->type)) {
        plan_blocks(c, job, dtype, said);
        return GRAFT_OK;
    }
    job->op = GR_JOB_FLOAT;
    job->dtype = dtype;
    /* norms, biases and routers come as f32: 16 bits hold those of nearly every model exactly, and a note
     * says where not */
    if (c->dtype < 0 && dtype != GR_F32 && (job->role == GR_ROLES || job->role == GR_ROUTER) &&
        !gr_job_exact_in(job, dtype)) {
        job->dtype = GR_F32;
        said->kept_32++;
    }
    gr_quant_choice choice = gr_conversion_choose(c, job);
    if (c->options->quantize && choice.quantize) gr_conversion_quantize(c, job, choice);
    return GRAFT_OK;
}

static graft_status say(gr_conversion *c, const tally *said, gr_dtype dtype, graft_error *err) {
    const char *name = dtype == GR_BF16 ? "bfloat16" : "float16";
    if (said->through_16)
        GR_TRY(gr_note(c->result, err,
                       "%zu matrices in blocks that MLX has no equal of (Q6_K, Q3_K, Q2_K) went through %s%s",
                       said->through_16, name,
                       c->options->quantize ? " and were quantized anew" : ": -q quantizes them"));
    if (said->anew)
        GR_TRY(gr_note(
            c->result, err,
            "%zu matrices were quantized anew to the bits and group size asked for: without these the file's "
            "own codes are kept and nothing is lost",
            said->anew));
    if (said->decoded)
        GR_TRY(gr_note(c->result, err, "%zu matrices decoded from the file's blocks, rounded to %s",
                       said->decoded, name));
    if (said->embeddings)
        GR_TRY(gr_note(
            c->result, err,
            "embedding%s stored as %s, rounded from the file's blocks: --q-embeddings keeps Q8_0 codes",
            said->embeddings > 1 ? "s and output head are" : " is", name));
    if (said->kept_32)
        GR_TRY(gr_note(c->result, err,
                       "%zu norms, biases or routers stay float32: %s cannot hold their values",
                       said->kept_32, name));
    if (said->wide_scales)
        GR_TRY(gr_note(c->result, err,
                       "%zu quantized matrices keep float32 scales, which lose nothing: --dtype float16 "
                       "makes them smaller",
                       said->wide_scales));
    return GRAFT_OK;
}

graft_status gr_conversion_plan_gguf(gr_conversion *c, graft_error *err) {
    gr_problems bad = {0};
    tally said = {0};
    GR_TRY(gr_gguf_open_as(&c->gguf, c->options->model, c->options->reading, err));
    GR_TRY(gr_conversion_gguf_config(c, err));
    c->experts = json_integer_value(json_object_get(c->config, "num_experts"));
    gr_dtype dtype = c->dtype >= 0 ? (gr_dtype)c->dtype : native_dtype(c->gguf);
    int64_t head_dim = json_integer_value(json_object_get(c->config, "head_dim"));
    for (size_t i = 0; i < gr_gguf_count(c->gguf); i++) {
        const gr_gguf_tensor *t = gr_gguf_at(c->gguf, i);
        gr_buf name = {0};
        graft_status st = GRAFT_OK;
        if (strcmp(t->name, "rope_freqs.weight") == 0) continue;  /* in the config by now */
        if (strncmp(t->name, "rope_factors_", 13) == 0) continue; /* likewise */
        if (!gr_gguf_name_to_hf(&name, gguf_arch(c), t->name))
            gr_problems_add(&bad, GRAFT_UNSUPPORTED, "tensor %s has no place in this architecture", t->name);
        else if (name.failed)
            st = gr_no_memory(err, strlen(t->name));
        else
            st = plan_tensor(c, t, name.data, dtype, head_dim, &said, err);
        gr_buf_free(&name);
        if (st != GRAFT_OK) {
            gr_buf_free(&bad.list);
            return st;
        }
    }
    GR_TRY(gr_problems_end(&bad, c->options->model, err));
    const char *text = dtype == GR_F32 ? "float32" : dtype == GR_BF16 ? "bfloat16" : "float16";
    if (!gr_put(c->config, "torch_dtype", json_string(text))) return gr_no_memory(err, 16);
    return say(c, &said, dtype, err);
}

/* ---- tokenizer and generation defaults */

static graft_status save(const gr_conversion *c, const char *name, const json_t *value, graft_error *err) {
    char *path = gr_path_join(c->out, name);
    graft_status st = path ? gr_json_save(path, value, err) : gr_no_memory(err, strlen(name));
    free(path);
    return st;
}

static graft_status save_tokenizer_config(const gr_conversion *c, const gr_tokenizer *tok, graft_error *err) {
    static const char *const tokens[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    static const char *const flags[][2] = {{"add_bos_token", "tokenizer.ggml.add_bos_token"},
                                           {"add_eos_token", "tokenizer.ggml.add_eos_token"}};
    json_t *config = json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                               "clean_up_tokenization_spaces", 0);
    bool good = config && gr_put(config, "model_max_length",
                                 json_incref(json_object_get(c->config, "max_position_embeddings")));
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        const char *text = gr_tokenizer_special(tok, tokens[i]);
        if (text && gr_json_utf8(text)) good = good && gr_put(config, tokens[i], json_string(text));
    }
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        int64_t value;
        if (gr_gguf_int(c->gguf, flags[i][1], &value))
            good = good && gr_put(config, flags[i][0], json_boolean(value));
    }
    json_t *templates = NULL;
    graft_status st = gr_chat_templates_of_gguf(&templates, c->gguf, err);
    if (templates) good = good && gr_put(config, "chat_template", templates);
    if (st == GRAFT_OK) st = good ? save(c, "tokenizer_config.json", config, err) : gr_no_memory(err, 256);
    json_decref(config);
    return st;
}

/* Every token that ends a turn: the programs that read the directory know them by this list alone. */
static json_t *list_stops(const gr_tokenizer *tok) {
    size_t count;
    const int32_t *ids = gr_tokenizer_stops(tok, &count);
    if (count == 1) return json_integer(ids[0]);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(list, json_integer(ids[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static graft_status save_generation_config(const gr_conversion *c, const gr_tokenizer *tok,
                                           graft_error *err) {
    json_t *config = json_object();
    const int32_t bos = gr_tokenizer_bos(tok);
    size_t stops;
    gr_tokenizer_stops(tok, &stops);
    bool good = config && (bos < 0 || gr_put(config, "bos_token_id", json_integer(bos))) &&
                (!stops || gr_put(config, "eos_token_id", list_stops(tok)));
    graft_status st = good ? save(c, "generation_config.json", config, err) : gr_no_memory(err, 64);
    json_decref(config);
    return st;
}

static graft_status save_tokenizer(const gr_conversion *c, const gr_tokenizer *tok, graft_error *err) {
    gr_buf json = {0};
    char *path = gr_path_join(c->out, "tokenizer.json");
    graft_status st = path ? gr_tokenizer_to_json(tok, &json, err) : gr_no_memory(err, strlen(c->out));
    if (st == GRAFT_OK)
        st = json.failed ? gr_no_memory(err, json.len) : gr_file_replace(path, json.data, json.len, err);
    free(path);
    gr_buf_free(&json);
    return st;
}

graft_status gr_conversion_gguf_files(const gr_conversion *c, graft_error *err) {
    gr_tokenizer *tok;
    GR_TRY(gr_tokenizer_from_gguf(&tok, c->gguf, err));
    graft_status st = save_tokenizer(c, tok, err);
    if (st == GRAFT_OK) st = save_tokenizer_config(c, tok, err);
    if (st == GRAFT_OK) st = save_generation_config(c, tok, err);
    gr_tokenizer_free(tok);
    return st;
}
