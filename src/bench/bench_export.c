/* What another program needs to do the steps of gr_bench_train: a directory with run.json,
 * batches.safetensors and adapter/. */
#include "bench/bench.h"
#include "bench/bench_run.h"
#include "files/json_write.h"
#include "optim/schedule_table.h"
#include <limits.h>
#include <math.h>

typedef struct exported {
    int32_t *ids, *targets; /* [batches, batch_size, seq_length] */
    int64_t batches;
} exported;

/* Peers know the plain case only. */
static graft_status check(const graft_options *o, graft_error *err) {
    const struct {
        const char *option, *value, *known;
    } rows[] = {{"optimizer", o->optimizer, "adamw"},
                {"fine-tune-type", o->fine_tune_type, "lora"},
                {"lora-bias", o->lora_bias, "none"},
                {"lora-dropout", o->lora_dropout > 0 ? "above 0" : "0", "0"},
                {"modules-to-save", o->modules_to_save ? o->modules_to_save : "", ""},
                {"loraplus-lr-ratio", isnan(o->loraplus_lr_ratio) ? "" : "given", ""},
                {"group-pooled", o->group_pooled ? "given" : "", ""},
                {"qat", o->qat ? "given" : "", ""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].value || strcmp(rows[i].value, rows[i].known) == 0) continue;
        gr_fail(err, GRAFT_UNSUPPORTED, "the other programs do not run --%s here", rows[i].option);
        gr_expected(err, "%s", rows[i].known[0] ? rows[i].known : "nothing");
        return gr_found(err, "%s", rows[i].value);
    }
    return GRAFT_OK;
}

static graft_status save_batches(gr_bench_run *run, const exported *e, const char *out, graft_error *err) {
    const graft_options *o = run->t.o;
    int64_t shape[] = {e->batches, o->batch_size, o->seq_length};
    char *path = gr_path_join(out, "batches.safetensors");
    if (!path) return gr_no_memory(err, 0);
    gr_tensor tensors[2] = {{.name = "ids", .data = (const uint8_t *)e->ids},
                            {.name = "targets", .data = (const uint8_t *)e->targets}};
    for (int i = 0; i < 2; i++) {
        tensors[i].dtype = GR_I32;
        tensors[i].ndim = 3;
        memcpy(tensors[i].shape, shape, sizeof shape);
        tensors[i].bytes = (size_t)(shape[0] * shape[1] * shape[2]) * sizeof(int32_t);
    }
    graft_status st = gr_safetensors_save(path, tensors, 2, NULL, err);
    free(path);
    return st;
}

static graft_status write_batches(gr_bench_run *run, int64_t steps, const char *out, graft_error *err) {
    const graft_options *o = run->t.o;
    int64_t each = o->batch_size * o->seq_length, most;
    exported e = {.batches = steps * o->grad_accumulation_steps};
    if (!gr_mul_i64(e.batches, each, &most) || most > INT_MAX)
        return gr_fail(err, GRAFT_RANGE, "too many tokens for another program: fewer --peer-steps");
    e.ids = gr_calloc((size_t)most, sizeof *e.ids);
    e.targets = gr_calloc((size_t)most, sizeof *e.targets);
    graft_status st = e.ids && e.targets ? GRAFT_OK : gr_no_memory(err, (size_t)most * 8);
    for (int64_t i = 0; st == GRAFT_OK && i < e.batches; i++) {
        gr_bench_run_fill(run, 0);
        memcpy(e.ids + i * each, run->t.buffer.ids, (size_t)each * sizeof *e.ids);
        memcpy(e.targets + i * each, run->t.buffer.target, (size_t)each * sizeof *e.targets);
    }
    if (st == GRAFT_OK) st = save_batches(run, &e, out, err);
    free(e.ids);
    free(e.targets);
    return st;
}

static graft_status write_adapter(const gr_bench_run *run, const char *out, graft_error *err) {
    const gr_trainer *t = &run->t;
    char *dir = gr_path_join(out, "adapter");
    gr_adapter_info info = {.base = t->o->model ? t->o->model : "", .model = t->rt.model};
    if (!dir) return gr_no_memory(err, 0);
    graft_status st = gr_adapter_save(dir, &t->rt.model->config, t->rt.tuning, t->params, &info, err);
    free(dir);
    return st;
}

/* The published config.json of a shape. */
static json_t *shape_config(const char *name) {
    for (const gr_shape *s = gr_shape_table; s->name; s++)
        if (gr_same_name(s->name, name)) return json_loads(s->config, JSON_REJECT_DUPLICATES, NULL);
    return json_null();
}

static json_t *describe(const gr_bench_run *run, const char *dir, int64_t steps) {
    const gr_trainer *t = &run->t;
    const graft_options *o = t->o;
    char *absolute = dir ? realpath(dir, NULL) : NULL;
    json_t *rates = json_array();
    bool good = !dir || absolute;
    for (int64_t k = 1; good && k <= steps; k++)
        gr_json_append(&good, rates, json_real(gr_schedule_rate(o, k, t->updates)));
    json_t *run_json =
        json_pack("{s:s?, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:f, s:f, s:f, s:f, s:f, s:b, s:i, s:s}",
                  "model", absolute, "config", dir ? json_null() : shape_config(o->shape), "steps",
                  (json_int_t)steps, "batch_size", (json_int_t)o->batch_size, "seq_length",
                  (json_int_t)o->seq_length, "grad_accumulation_steps",
                  (json_int_t)o->grad_accumulation_steps, "seed", (json_int_t)(o->seed & INT64_MAX),
                  "learning_rates", rates, "beta1", t->optim.config.beta1, "beta2", t->optim.config.beta2,
                  "epsilon", t->optim.config.epsilon, "weight_decay", t->optim.config.weight_decay,
                  "grad_clip", o->grad_clip, "recompute", t->recompute != GR_RECOMPUTE_NONE, "threads",
                  gr_pool_threads(t->rt.pool), "compute", o->compute ? o->compute : "bf16");
    free(absolute);
    if (good) return run_json;
    json_decref(run_json);
    return NULL;
}

static graft_status write_all(gr_bench_run *run, const char *dir, const char *out, graft_error *err) {
    int64_t steps = gr_min_i64(run->t.o->peer_steps, run->t.o->steps);
    GR_TRY(gr_make_dirs(out, err));
    GR_TRY(write_batches(run, steps, out, err));
    GR_TRY(write_adapter(run, out, err));
    json_t *text = describe(run, dir, steps);
    char *path = gr_path_join(out, "run.json");
    graft_status st = text && path ? gr_json_save(path, text, err) : gr_no_memory(err, 0);
    json_decref(text);
    free(path);
    return st;
}

graft_status gr_bench_export(const char *dir, const graft_options *o, const graft_hooks *hooks,
                             const char *out, graft_error *err) {
    gr_bench_run run;
    GR_TRY(check(o, err));
    if (!out) return GRAFT_OK;
    GR_TRY(gr_bench_run_open(&run, dir, o, hooks, GR_TRAINER_RUN, err));
    graft_status st = write_all(&run, dir, out, err);
    gr_bench_run_close(&run);
    return st;
}
