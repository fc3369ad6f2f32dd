#include "bench/bench.h"
#include "convert/convert.h"
#include "convert/convert_events.h"
#include <math.h>

/* Reads every page of the model's file; the sum keeps the reads alive. */
static uint64_t touch(const gr_safetensors *file) {
    uint64_t sum = 0;
    for (size_t i = 0; i < gr_safetensors_count(file); i++) {
        const gr_tensor *t = gr_safetensors_at(file, i);
        const uint8_t *bytes = t->data;
        for (size_t at = 0; at < t->bytes; at += 4096) sum += bytes[at];
        if (t->bytes) sum += bytes[t->bytes - 1];
    }
    return sum;
}

static uint64_t bytes_of(const gr_safetensors *file) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < gr_safetensors_count(file); i++) bytes += gr_safetensors_at(file, i)->bytes;
    return bytes;
}

/* Bits of the blocks' linears; 0: they differ. What conversion leaves in 16 bits, a mixture's router, does
 * not count. */
static int bits_of(const gr_model *m) {
    int bits = -1;
    for (int64_t l = 0; l < m->config.layers; l++)
        for (gr_role role = 0; role < GR_LINEARS; role++) {
            const gr_mat *mat = &m->layer[l].linear[role];
            if (!gr_role_exists(role, &m->config) || !gr_role_table[role].quantize) continue;
            int own = mat->layout == GR_DENSE ? 8 * (int)gr_dtype_bytes(mat->dtype) : mat->bits;
            if (bits < 0) bits = own;
            if (own != bits) return 0;
        }
    return bits;
}

/* The model's files out of the system's cache. They are not mapped here any more. */
static bool uncache(const char *dir, graft_error *err) {
    gr_safetensors *file = NULL;
    char *paths[64];
    size_t count = 0;
    bool done = true;
    if (gr_safetensors_open(&file, dir, err) != GRAFT_OK) return false;
    for (size_t i = 0; i < gr_safetensors_count(file); i++) {
        const char *path = gr_safetensors_path(file, gr_safetensors_at(file, i));
        bool known = count == 64;
        for (size_t k = 0; k < count; k++) known |= paths[k] && strcmp(paths[k], path) == 0;
        if (!known) paths[count++] = gr_strdup(path);
    }
    gr_safetensors_close(file);
    for (size_t k = 0; k < count; k++) {
        done &= paths[k] && gr_file_uncache(paths[k]);
        free(paths[k]);
    }
    return done && count < 64;
}

/* Opens the model, reads all of its weights, until it could compute. *seconds: how long that took. */
static graft_status load_once(const char *dir, graft_bench_half *x, double *seconds, graft_error *err) {
    gr_model *model = NULL;
    double start = gr_clock();
    GR_TRY(gr_model_open(&model, dir, err));
    volatile uint64_t sum = touch(model->file);
    (void)sum;
    *seconds = gr_clock() - start;
    x->parameters = gr_model_parameters(model);
    x->weight_bytes = bytes_of(model->file);
    x->bits = bits_of(model);
    x->bits_per_weight = 8 * (double)x->weight_bytes / (double)x->parameters;
    gr_model_free(model);
    return GRAFT_OK;
}

#define LOADS 3 /* the fastest counts */

static graft_status measure(const char *dir, graft_bench_half *x, graft_error *err) {
    bool cold = uncache(dir, err);
    gr_error_clear(err);
    bool fresh = gr_peak_rss_reset();
    uint64_t before = gr_peak_rss();
    x->loss = x->perplexity = NAN;
    x->path = gr_strdup(dir);
    if (!x->path) return gr_no_memory(err, strlen(dir));
    GR_TRY(load_once(dir, x, &x->cold_seconds, err));
    if (!cold) x->cold_seconds = NAN;
    x->load_seconds = INFINITY;
    for (int i = 0; i < LOADS; i++) {
        double took;
        GR_TRY(load_once(dir, x, &took, err));
        x->load_seconds = fmin(x->load_seconds, took);
    }
    x->peak_rss_bytes = gr_peak_rss();
    if (!fresh && x->peak_rss_bytes == before) x->peak_rss_bytes = 0; /* somebody else's peak */
    return GRAFT_OK;
}

/* The model as it is when it has what is asked for, else a kept conversion of it. */
static graft_status variants(char **wide, char **narrow, const char *dir, const graft_options *o,
                             const graft_hooks *hooks, graft_error *err) {
    gr_model *model = NULL;
    GR_TRY(gr_model_open(&model, dir, err));
    int bits = bits_of(model);
    const gr_mat *first = &model->layer[0].linear[GR_O_PROJ];
    bool same_group = first->layout == GR_DENSE || !gr_options_given(o, "q-group-size") ||
                      first->group == (int)o->q_group_size;
    gr_model_free(model);
    bool plain = bits >= 16;
    gr_convert_options wish = {
        .model = dir, .dequantize = true, .progress = gr_convert_event, .context = (void *)(uintptr_t)hooks};
    if (plain && !(*wide = gr_strdup(dir))) return gr_no_memory(err, strlen(dir));
    if (!plain) {
        GR_TRY(gr_convert_kept(wide, &wish, gr_convert_note, err));
        if (o->data)
            gr_convert_note(wish.context,
                            "the model is quantized already: its 16-bit half is what the codes mean, so the "
                            "two losses show rounding, not what quantizing has cost");
    }
    if (bits == (int)o->bits && same_group) {
        *narrow = gr_strdup(dir);
        return *narrow ? GRAFT_OK : gr_no_memory(err, strlen(dir));
    }
    wish.model = *wide;
    wish.dequantize = false;
    wish.quantize = true;
    wish.q_bits = (int)o->bits;
    wish.q_group_size = (int)o->q_group_size;
    return gr_convert_kept(narrow, &wish, gr_convert_note, err);
}

graft_status gr_bench_load(const char *dir, const graft_options *o, const graft_hooks *hooks,
                           graft_bench_load_result *r, graft_error *err) {
    char *wide = NULL, *narrow = NULL;
    memset(r, 0, sizeof *r);
    graft_status st = variants(&wide, &narrow, dir, o, hooks, err);
    /* the smaller first: where a peak cannot be reset, the larger still shows */
    if (st == GRAFT_OK) st = measure(narrow, &r->quantized, err);
    if (st == GRAFT_OK) st = measure(wide, &r->plain, err);
    free(wide);
    free(narrow);
    if (st == GRAFT_OK)
        gr_bench_load_compare(r);
    else
        graft_bench_load_result_free(r);
    return st;
}

void gr_bench_load_compare(graft_bench_load_result *r) {
    const graft_bench_half *a = &r->plain, *b = &r->quantized;
    bool known = a->peak_rss_bytes && b->peak_rss_bytes;
    r->memory_saved_percent = known ? 100 * (1 - (double)b->peak_rss_bytes / (double)a->peak_rss_bytes) : NAN;
    r->weights_saved_percent = 100 * (1 - (double)b->weight_bytes / (double)a->weight_bytes);
    r->load_speedup = a->load_seconds / b->load_seconds;
    r->loss_difference = b->loss - a->loss;
}

void graft_bench_load_result_free(graft_bench_load_result *result) {
    if (!result) return;
    free(result->plain.path);
    free(result->quantized.path);
    memset(result, 0, sizeof *result);
}
