#include "fuse/fuse.h"
#include "base/hooks.h"
#include "convert/convert.h"
#include "convert/convert_events.h"
#include "infer/session.h"
#include <errno.h>
#include <math.h>
#include <sys/stat.h>

/* A verb at work. */
typedef struct fusion {
    graft_options o; /* the caller's strings; adapter_path and split are set */
    const graft_hooks *hooks;
    const char *base, *out; /* base is a directory, out may be a GGUF file */
    const char *gguf;       /* the base's own file; NULL: it is a directory */
    bool to_gguf;
    gr_tuning *tuning;
    float *params;
    graft_fuse_result *result;
    graft_row_loss *base_rows; /* [result->rows] */
    double noise;              /* standard error of what the adapter gains */
} fusion;

static void say(const fusion *f, const char *text) {
    gr_note(f->hooks, text);
}

/* Takes the adapter out of a runtime that has checked that it belongs to the base. */
static graft_status read_adapter(fusion *f, graft_error *err) {
    gr_runtime rt = {0};
    gr_model *model = NULL;
    GR_TRY(gr_model_open_as(&model, f->base, gr_options_reading(&f->o), err));
    graft_status st = gr_runtime_init(&rt, model, f->o.threads, false, err);
    if (st == GRAFT_OK) st = gr_session_adapter(&rt, &f->o, f->hooks, err);
    if (st == GRAFT_OK) {
        f->tuning = rt.tuning;
        f->params = rt.owned_params;
        rt.tuning = NULL;
        rt.owned_params = NULL;
    }
    gr_runtime_free(&rt);
    return st;
}

/* All but notes. */
static void pass_on(void *user, const graft_event *event) {
    const graft_hooks *hooks = user;
    if (event->kind != GRAFT_EVENT_NOTE) hooks->event(hooks->user, event);
}

/* The adapter's gain is a mean over rows, some of which gain more than others: the standard error of a ratio
 * of sums, over the same rows with and without it. One row says nothing of others. */
static double error_of_gain(const graft_row_loss *base, const graft_row_loss *adapter, int64_t rows) {
    double gained = 0, tokens = 0, spread = 0;
    for (int64_t i = 0; i < rows; i++) {
        if (!adapter[i].tokens) continue;
        gained += (base[i].loss - adapter[i].loss) * (double)adapter[i].tokens;
        tokens += (double)adapter[i].tokens;
    }
    for (int64_t i = 0; i < rows && tokens > 0; i++) {
        if (!adapter[i].tokens) continue;
        const double off = (base[i].loss - adapter[i].loss - gained / tokens) * (double)adapter[i].tokens;
        spread += off * off;
    }
    return rows > 1 && tokens > 0 ? sqrt(spread * (double)rows / (double)(rows - 1)) / tokens : INFINITY;
}

/* Every one of them sees the rows as the adapter was taught. What there is to say of rows and adapter is said
 * once: of the first. */
static graft_status loss_of(double *loss, fusion *f, const char *dir, bool adapter, graft_error *err) {
    graft_options o = f->o;
    graft_hooks quiet = {.user = (void *)(uintptr_t)f->hooks,
                         .event = f->hooks && f->hooks->event ? pass_on : NULL,
                         .stop = gr_stop_of(f->hooks)};
    graft_eval_result r;
    if (!adapter) o.adapter_path = NULL;
    o.per_row = true;
    GR_TRY(gr_evaluate(dir, &o, f->o.adapter_path, f->result->rows ? &quiet : f->hooks, &r, err));
    *loss = r.loss;
    f->result->tokens = r.tokens;
    f->result->rows = r.rows;
    if (adapter) f->noise = error_of_gain(f->base_rows, r.row_losses, r.rows);
    if (!f->base_rows) f->base_rows = r.row_losses, r.row_losses = NULL;
    graft_eval_result_free(&r);
    return GRAFT_OK;
}

static graft_status write_mlx(const fusion *f, const gr_fuse_edits *edits, graft_error *err) {
    gr_convert_result r;
    gr_convert_options wish = {.model = f->base,
                               .out = f->out,
                               .dequantize = f->o.dequantize,
                               .dtype = f->o.dtype,
                               .reading = gr_options_reading(&f->o),
                               .threads = f->o.threads,
                               .progress = gr_convert_event,
                               .context = (void *)(uintptr_t)f->hooks,
                               .edits = edits->edits,
                               .edit_count = edits->count,
                               .edits_key = edits->key};
    GR_TRY(gr_convert(&wish, &r, err));
    for (size_t i = 0; i < r.note_count; i++) say(f, r.notes[i]);
    f->result->tensors = (int64_t)r.tensors;
    f->result->changed = gr_fuse_edits_moved(edits);
    f->result->bytes = r.bytes;
    f->result->bits_per_weight = r.bits_per_weight;
    gr_convert_result_free(&r);
    return GRAFT_OK;
}

static graft_status write_gguf(const fusion *f, const gr_fuse_edits *edits, graft_error *err) {
    gr_model_config config;
    GR_TRY(gr_config_open(&config, f->base, err));
    graft_status st = gr_fuse_gguf(f->gguf, f->out, gr_options_reading(&f->o), f->o.threads, edits, &config,
                                   f->hooks, f->result, err);
    gr_config_free(&config);
    return st;
}

static graft_status write_fused(const fusion *f, graft_error *err) {
    gr_fuse_edits edits;
    GR_TRY(gr_fuse_edits_new(&edits, f->tuning, f->params, err));
    graft_status st = f->to_gguf ? write_gguf(f, &edits, err) : write_mlx(f, &edits, err);
    gr_fuse_edits_free(&edits);
    return st;
}

/* A GGUF file is converted to be measured; what nobody has asked for does not stay. */
static graft_status measure_fused(fusion *f, graft_error *err) {
    char *dir = NULL;
    gr_convert_options wish = {.model = f->out,
                               .reading = gr_options_reading(&f->o),
                               .threads = f->o.threads,
                               .progress = gr_convert_event,
                               .context = (void *)(uintptr_t)f->hooks};
    if (!f->to_gguf) return loss_of(&f->result->loss_fused, f, f->out, false, err);
    GR_TRY(gr_convert_kept(&dir, &wish, gr_convert_note, err));
    graft_status st = loss_of(&f->result->loss_fused, f, dir, false, err);
    gr_convert_forget(dir);
    free(dir);
    return st;
}

static graft_status check_out(const fusion *f, graft_error *err) {
    if (!f->to_gguf) return GRAFT_OK;
    if (!f->gguf) {
        DIR *list = gr_list_open(f->base); /* a file that the system cannot look at is none either */
        if (!list) return gr_fail_errno(err, errno, "cannot list", f->base);
        closedir(list);
        gr_fail(err, GRAFT_USAGE, "a GGUF file is fused out of a GGUF file, and the base is a directory");
        gr_where(err, "%s", f->base);
        return gr_hint(err, "give --save-path a directory");
    }
    if (f->o.dequantize || f->o.dtype) {
        gr_fail(err, GRAFT_USAGE, "a fused GGUF file keeps the types of its tensors");
        return gr_hint(err, "leave out --%s, or give --save-path a directory",
                       f->o.dequantize ? "dequantize" : "dtype");
    }
    struct stat info;
    if (stat(f->out, &info) != 0)
        return errno == ENOENT || errno == ENOTDIR ? GRAFT_OK
                                                   : gr_fail_errno(err, errno, "cannot look at", f->out);
    gr_fail(err, GRAFT_USAGE, "the output is there already");
    gr_where(err, "%s", f->out);
    return gr_hint(err, "remove it, or choose another --save-path");
}

/* What the losses say, and what else there is where too much was lost. */
static void judge(const fusion *f) {
    graft_fuse_result *r = f->result;
    const double gain = r->loss_base - r->loss_adapter;
    gr_buf text = {0};
    r->kept = gain > 0 ? (r->loss_base - r->loss_fused) / gain : NAN;
    const bool certain = gain > 2 * f->noise;
    r->lossy = gain > 0 && certain && r->kept < GRAFT_FUSE_KEPT;
    if (gain > 0 && !certain) {
        gr_buf_printf(&text, "the adapter gains %.3g on ", gain);
        if (isfinite(f->noise))
            gr_buf_printf(&text, "these rows, give or take %.3g: too little", f->noise);
        else
            gr_buf_puts(&text, "one row: too few");
        gr_buf_puts(&text, " to tell what of it the fused model keeps");
        if (text.data) say(f, text.data);
        gr_buf_free(&text);
    }
    if (!r->lossy) return;
    gr_buf_printf(&text, "the fused model keeps %.0f %% of what the adapter gains on these rows",
                  100 * fmax(r->kept, -9.99));
    const bool wide = f->o.dequantize || r->bits_per_weight > 15.5;
    const char *way =
        f->to_gguf        ? ": quantizing the sum anew rounds the rest away. An adapter trained with "
                            "--group-pooled fuses into Q4_1 exactly; llama.cpp applies any adapter itself: "
                            "graft export --to gguf"
        : wide            ? ": its rounding is too coarse; --dtype float32 keeps it"
        : f->tuning->pool ? ": the biases' type is too coarse for it; --dtype float32 keeps it"
                          : ": quantizing the sum anew rounds the rest away. --dequantize writes 16 "
                            "bits, which keep it; an adapter trained with --group-pooled fuses into "
                            "the same bits exactly, and one trained with --qat knows of the rounding";
    gr_buf_puts(&text, way);
    if (text.data) say(f, text.data);
    gr_buf_free(&text);
}

/* What the adapter records and no model has a place for. */
static graft_status say_variables(const fusion *f, graft_error *err) {
    char *kwargs;
    gr_buf text = {0};
    GR_TRY(gr_adapter_template_kwargs(&kwargs, NULL, f->o.adapter_path, gr_options_reading(&f->o), err));
    if (!kwargs) return GRAFT_OK;
    gr_buf_printf(&text,
                  "the adapter was trained with --template-kwargs %.300s, which a model's files cannot hold: "
                  "whoever runs the fused model gives them to its chat template",
                  kwargs);
    if (text.data) say(f, text.data);
    gr_buf_free(&text);
    free(kwargs);
    return GRAFT_OK;
}

static graft_status fuse(fusion *f, graft_error *err) {
    graft_fuse_result *r = f->result;
    const bool measured = f->o.data != NULL;
    GR_TRY(check_out(f, err));
    GR_TRY(read_adapter(f, err));
    if (measured) {
        GR_TRY(loss_of(&r->loss_base, f, f->base, false, err));
        GR_TRY(loss_of(&r->loss_adapter, f, f->base, true, err));
    }
    GR_TRY(write_fused(f, err));
    GR_TRY(say_variables(f, err));
    if (!measured) return GRAFT_OK;
    GR_TRY(measure_fused(f, err));
    r->measured = true;
    judge(f);
    return GRAFT_OK;
}

graft_status gr_fuse(const char *dir, const char *gguf, const graft_options *o, const graft_hooks *hooks,
                     graft_fuse_result *result, graft_error *err) {
    fusion f = {.o = *o,
                .hooks = hooks,
                .base = dir,
                .gguf = gguf,
                .out = o->save_path ? o->save_path : "fused_model", /* mlx-lm's name */
                .result = result};
    f.to_gguf = gr_ends_with(f.out, ".gguf");
    f.o.adapter_path = (char *)(uintptr_t)gr_options_adapter_path(o);
    graft_status st = fuse(&f, err);
    gr_tuning_free(f.tuning);
    free(f.params);
    free(f.base_rows);
    if (st != GRAFT_OK) *result = (graft_fuse_result){0};
    return st;
}
