/* Ten training steps of every kind of adapter, and of full training, against PEFT and PyTorch in float64
 * (tests/golden/adapter_kinds.json): losses, and what became of every trained tensor, from the adapter that
 * graft saves. The same file says which modules PEFT chose for each configuration, and with which ranks.
 *
 * Tolerances: the golden file tells how far PyTorch's own float32 is from float64 in each run: 1e-6 for most,
 * 3e-5 where Adam turns the sign of a gradient near zero. Sums in another order and a fused softmax may be as
 * far on the other side, and several times that: 20 times the distance, but at least 2e-5 of the loss and
 * 1e-4 of what training changed. A wrong rule shows at 1e-2. */
#include "plan/tuning.h"
#include "tests/golden_dir.h"

#define BF16 3e-2 /* of a loss */

static json_t *golden;

/* ------------------------------------------------------------------------------------------- whole runs */

typedef struct kind_run {
    const json_t *entry;
    const char *name;
    char *root, *model, *data, *start_dir, *out;
    tensor_list base, start;
    bool full, tied;
} kind_run;

static void open_run(kind_run *r, const json_t *entry) {
    const json_t *config = golden_member(golden_member(golden, "models"), golden_text(entry, "model"));
    r->entry = entry;
    r->name = golden_text(entry, "name");
    r->root = tiny_temp();
    r->tied = json_is_true(golden_member(config, "tie_word_embeddings"));
    r->full = json_is_null(golden_member(entry, "adapter_config"));
    r->model = golden_model_dir(&r->base, r->root, config, (int)golden_int(entry, "bits"));
    r->data = golden_data_dir(r->root, golden_member(golden, "texts"));
    start_list(&r->start, entry, &r->base);
    r->start_dir = golden_start_dir(r->root, entry, &r->start, r->tied);
    r->out = tiny_join(r->root, "out");
}

static void close_run(kind_run *r) {
    list_free(&r->base);
    list_free(&r->start);
    free(r->model);
    free(r->data);
    free(r->start_dir);
    free(r->out);
    tiny_remove(r->root);
    free(r);
}

/* Ends a run after its fifth report. */
typedef struct breaker {
    volatile int stop;
    int reports;
} breaker;

static void count_reports(void *user, const graft_event *e) {
    breaker *b = user;
    if (e->kind == GRAFT_EVENT_TRAIN && ++b->reports == 5) b->stop = 1;
}

/* One run into `out`, cut short if there is a breaker. */
static graft_train_result train_until(const kind_run *r, const char *out, const char *const *more,
                                      breaker *b) {
    graft_options o;
    graft_error err = {0};
    graft_train_result result = {0};
    char steps[24], batch[24];
    const char *key;
    json_t *value;
    graft_options_init(&o);
    snprintf(steps, sizeof steps, "%lld", (long long)golden_int(golden, "steps"));
    snprintf(batch, sizeof batch, "%lld", (long long)golden_int(golden, "batch"));
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model",
                                   r->model,
                                   "data",
                                   r->data,
                                   "adapter-path",
                                   out,
                                   "iters",
                                   steps,
                                   "batch-size",
                                   batch,
                                   "compute",
                                   "fp32",
                                   "no-shuffle",
                                   "-",
                                   "steps-per-report",
                                   "1",
                                   "optimizer",
                                   "adamw",
                                   "weight-decay",
                                   "0.01",
                                   "grad-clip",
                                   "1",
                                   "threads",
                                   "2",
                                   NULL});
    if (r->start_dir)
        tiny_set(&o, GRAFT_VERB_TRAIN, (const char *const[]){"resume-adapter-file", r->start_dir, NULL});
    json_object_foreach((json_t *)(uintptr_t)golden_member(r->entry, "options"), key, value)
        tiny_set(&o, GRAFT_VERB_TRAIN, (const char *const[]){key, json_string_value(value), NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    graft_hooks hooks = {.user = b, .event = count_reports, .stop = b ? &b->stop : NULL};
    graft_status st = graft_train(&o, b ? &hooks : NULL, &result, &err);
    if (st != (b ? GRAFT_INTERRUPTED : GRAFT_OK))
        fail_msg("%s: %s %s %s %s", r->name, err.what, err.where, err.found, err.hint);
    graft_options_free(&o);
    return result;
}

static void train(const kind_run *r, const char *out, const char *const *more) {
    train_until(r, out, more, NULL);
}

/* The run's own proof counts what PEFT trains, and every other tensor of the base. */
static void train_and_prove(const kind_run *r) {
    graft_train_result result =
        train_until(r, r->out, (const char *const[]){"verify-frozen", "-", NULL}, NULL);
    const json_t *tensors = golden_member(r->entry, "tensors");
    int64_t own = 0; /* of the base */
    size_t i;
    json_t *t;
    json_array_foreach(tensors, i, t) {
        const char *name = golden_text(t, "name");
        own += ends(name, ".bias") || (ends(name, ".weight") && !strstr(name, ".lora_"));
    }
    assert_true(result.verified);
    assert_int_equal(result.trained_tensors, json_array_size(tensors));
    assert_int_equal(result.frozen_tensors, (int64_t)r->base.count - own);
}

static void compare_losses(const kind_run *r, const char *out, double absolute, double relative) {
    const json_t *expected = golden_member(r->entry, "losses");
    char *text = tiny_read(out, "metrics.jsonl", NULL), *rest = NULL;
    size_t i = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        const json_t *loss = json_object_get(j, "train_loss");
        if (loss) {
            double truth = json_number_value(json_array_get(expected, i++));
            if (!(fabs(json_number_value(loss) - truth) <= fmax(absolute, relative * truth)))
                fail_msg("%s: loss %zu is %.9g, PyTorch's %.9g", r->name, i, json_number_value(loss), truth);
        }
        json_decref(j);
    }
    assert_int_equal(i, json_array_size(expected));
    free(text);
}

enum { KIND_A, KIND_B, KIND_M, KIND_BIAS, KIND_WEIGHT, KINDS };
static const char *const kind_names[KINDS] = {"A", "B", "m", "bias", "weight"};

static int kind_of(const char *name) {
    if (strstr(name, "lora_A") || strstr(name, "embedding_A")) return KIND_A;
    if (strstr(name, "lora_B") || strstr(name, "embedding_B")) return KIND_B;
    return strstr(name, "magnitude") ? KIND_M : strstr(name, "bias") ? KIND_BIAS : KIND_WEIGHT;
}

/* The samples of one tensor: sums of squares of (found - golden) and of (golden - start). */
static void compare_tensor(const kind_run *r, const gr_tensor *found, const json_t *t, double *off,
                           double *moved) {
    const gr_tensor *start = list_find(&r->start, golden_text(t, "name"));
    const json_t *values = golden_member(t, "values");
    int64_t n = list_size(start), stride = gr_max_i64(1, n / 8);
    double sum = 0, change = 0, whole = golden_number(t, "moved");
    if (found->ndim != start->ndim || list_size(found) != n || found->shape[0] != start->shape[0])
        fail_msg("%s: %s has another shape", r->name, found->name);
    for (int64_t i = 0; i < n; i++) {
        double x = (double)gr_float_at(found->data, i, found->dtype);
        sum += x * x;
        change += pow(x - (double)list_floats(start)[i], 2);
        if (i % stride) continue;
        double truth = json_number_value(json_array_get(values, (size_t)(i / stride)));
        *off += (x - truth) * (x - truth);
        *moved += pow(truth - (double)list_floats(start)[i], 2);
    }
    if (!(fabs(sqrt(change) - whole) <= 2e-2 * whole))
        fail_msg("%s: %s moved by %.6g, PyTorch's by %.6g", r->name, found->name, sqrt(change), whole);
    if (!(fabs(sqrt(sum) - golden_number(t, "norm")) <= 2e-2 * whole))
        fail_msg("%s: %s has norm %.9g, PyTorch's %.9g", r->name, found->name, sqrt(sum),
                 golden_number(t, "norm"));
}

/* A file that serves tied models holds the head's copies too: they are the embedding's. */
static bool is_copy(const kind_run *r, const gr_safetensors *file, const gr_tensor *t) {
    static const struct {
        const char *copy, *of;
        bool transposed;
    } rows[] = {{"lm_head.weight", "model.embed_tokens.weight", false},
                {"lm_head.lora_A.weight", "model.embed_tokens.lora_embedding_B", true},
                {"lm_head.lora_B.weight", "model.embed_tokens.lora_embedding_A", true}};
    char name[160];
    for (int i = 0; r->tied && i < 3; i++) {
        if (!ends(t->name, rows[i].copy)) continue;
        snprintf(name, sizeof name, "%s%s", r->full ? "" : PEFT_PREFIX, rows[i].of);
        const gr_tensor *of = gr_safetensors_find(file, name);
        if (!of) return false;
        int64_t n = of->shape[0], m = of->shape[1];
        for (int64_t a = 0; a < n; a++)
            for (int64_t b = 0; b < m; b++)
                if (gr_float_at(of->data, a * m + b, of->dtype) !=
                    gr_float_at(t->data, rows[i].transposed ? b * n + a : a * m + b, t->dtype))
                    fail_msg("%s: %s is not %s", r->name, t->name, of->name);
        return true;
    }
    return false;
}

static const char *tensors_file(const kind_run *r) {
    return r->full ? "adapters.safetensors" : "adapter_model.safetensors";
}

static void compare_tensors(const kind_run *r) {
    graft_error err = {0};
    gr_safetensors *file;
    char *path = tiny_join(r->out, tensors_file(r)), name[160];
    double off[KINDS] = {0}, moved[KINDS] = {0};
    size_t i, found = 0;
    json_t *t;
    if (gr_safetensors_open(&file, path, &err) != GRAFT_OK)
        fail_msg("%s: %s %s", r->name, err.what, err.where);
    json_array_foreach(golden_member(r->entry, "tensors"), i, t) {
        snprintf(name, sizeof name, "%s%s", r->full ? "" : PEFT_PREFIX, golden_text(t, "name"));
        const gr_tensor *x = gr_safetensors_find(file, name);
        if (!x) fail_msg("%s: %s is missing", r->name, name);
        compare_tensor(r, x, t, &off[kind_of(name)], &moved[kind_of(name)]);
        found++;
    }
    for (i = 0; i < gr_safetensors_count(file); i++)
        found -= 1 - (size_t)is_copy(r, file, gr_safetensors_at(file, i));
    if (found) fail_msg("%s: the file holds %zu tensors that PEFT does not train", r->name, -found);
    for (int k = 0; k < KINDS; k++) {
        if (moved[k] == 0) continue;
        double limit = fmax(20 * golden_number(golden_member(r->entry, "f32"), kind_names[k]), 1e-4);
        if (!(sqrt(off[k] / moved[k]) <= limit))
            fail_msg("%s: all %s together are off by %.3g of their change, allowed %.3g", r->name,
                     kind_names[k], sqrt(off[k] / moved[k]), limit);
    }
    gr_safetensors_close(file);
    free(path);
}

/* Recompute, the number of threads and a stop in the middle change no bit; bf16 stays near the truth. */
static void other_ways(const kind_run *r) {
    char *again = tiny_join(r->root, "again"), *half = tiny_join(r->root, "half"),
         *half_again = tiny_join(r->root, "half-again"), *cut = tiny_join(r->root, "cut");
    train(r, again, (const char *const[]){"threads", "1", "grad-checkpoint", "layer", NULL});
    tiny_same_file(r->out, again, tensors_file(r));
    train(r, again, (const char *const[]){"grad-checkpoint", "mlp", NULL});
    tiny_same_file(r->out, again, tensors_file(r));
    train_until(r, cut, NULL, &(breaker){0});
    train(r, cut, (const char *const[]){"resume", "-", NULL});
    tiny_same_file(r->out, cut, tensors_file(r));
    train(r, half, (const char *const[]){"compute", "bf16", NULL});
    compare_losses(r, half, 0, BF16);
    train(r, half_again,
          (const char *const[]){"compute", "bf16", "threads", "1", "grad-checkpoint", "layer", NULL});
    tiny_same_file(half, half_again, tensors_file(r));
    free(again);
    free(half);
    free(half_again);
    free(cut);
}

/* What is frozen keeps every byte. */
static void ten_steps(void **state) {
    kind_run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    open_run(r, *state);
    size_t before, after;
    char *weights = tiny_read(r->model, "model.safetensors", &before);
    train_and_prove(r);
    char *now = tiny_read(r->model, "model.safetensors", &after);
    assert_int_equal(before, after);
    assert_memory_equal(weights, now, before);
    free(weights);
    free(now);
    compare_losses(r, r->out, 20 * golden_number(golden_member(r->entry, "f32"), "loss"), 2e-5);
    compare_tensors(r);
    other_ways(r);
    close_run(r);
}

/* ------------------------------------------------------------------------------------------- selections */

/* "a,b,c" of a JSON list, NULL where the configuration has none (malloc'ed). */
static char *joined(const json_t *config, const char *key) {
    const json_t *list = json_object_get(config, key);
    gr_buf b = {0};
    size_t i;
    json_t *item;
    if (!list) return NULL;
    json_array_foreach(list, i, item) {
        if (json_is_integer(item))
            gr_buf_printf(&b, "%s%lld", i ? "," : "", (long long)json_integer_value(item));
        else
            gr_buf_printf(&b, "%s%s", i ? "," : "", json_string_value(item));
    }
    return gr_buf_take(&b);
}

static char *dumped(const json_t *config, const char *key) {
    const json_t *value = json_object_get(config, key);
    return value ? json_dumps(value, 0) : NULL;
}

/* What PEFT calls a trained tensor, and its shape there. */
static void peft_name(char *name, size_t size, int64_t shape[2], const gr_param *p, bool adapted) {
    char own[128];
    gr_param_name(own, sizeof own, p);
    int stem = (int)(strrchr(own, '.') - own);
    bool embedding = strstr(own, "embed_tokens") != NULL, b = p->kind == GR_PARAM_B;
    const char *suffix = p->kind == GR_PARAM_A           ? embedding ? "lora_embedding_B" : "lora_A.weight"
                         : b                             ? embedding ? "lora_embedding_A" : "lora_B.weight"
                         : p->kind == GR_PARAM_MAGNITUDE ? "lora_magnitude_vector"
                         : p->kind == GR_PARAM_BIAS      ? adapted ? "base_layer.bias" : "bias"
                                                         : "weight";
    snprintf(name, size, "%.*s.%s", stem, own, suffix);
    bool turned = p->kind == GR_PARAM_A ? embedding : b && !embedding;
    shape[0] = turned ? p->cols : p->rows;
    shape[1] = turned ? p->rows : p->cols;
}

static const json_t *find_named(const json_t *list, const char *name) {
    size_t i;
    json_t *t;
    json_array_foreach(list, i, t) if (strcmp(golden_text(t, "name"), name) == 0) return t;
    return NULL;
}

/* Every trained tensor is one of PEFT's, with its shape and its module's scale. */
static void compare_selection(const json_t *entry, gr_tuning *tuning) {
    const json_t *tensors = golden_member(entry, "tensors");
    for (size_t i = 0; i < tuning->param_count; i++) {
        const gr_param *p = &tuning->params[i];
        const gr_tuned *x = gr_tuning_of(tuning, p->role, p->layer);
        char name[160];
        int64_t shape[2];
        peft_name(name, sizeof name, shape, p, x->rank > 0);
        const json_t *t = find_named(tensors, name);
        if (!t) fail_msg("%s: PEFT does not train %s", golden_text(entry, "name"), name);
        const json_t *expected = golden_member(t, "shape");
        for (size_t k = 0; k < json_array_size(expected); k++)
            if (json_integer_value(json_array_get(expected, k)) != shape[k])
                fail_msg("%s: %s has %lld rows and %lld columns", golden_text(entry, "name"), name,
                         (long long)shape[0], (long long)shape[1]);
        if (p->kind != GR_PARAM_A) continue;
        gr_role_name(name, sizeof name, p->role, p->layer);
        const json_t *scale = json_object_get(golden_member(entry, "scales"), name);
        if (!(fabs((double)x->scale - (scale ? json_number_value(scale) : 2)) <= 1e-6))
            fail_msg("%s: scale of %s is %g", golden_text(entry, "name"), name, (double)x->scale);
    }
    assert_int_equal(tuning->param_count, json_array_size(tensors));
}

static void selection(void **state) {
    const json_t *entry = *state;
    const json_t *given = golden_member(entry, "adapter_config");
    const char *bias = json_string_value(json_object_get(given, "bias"));
    char *targets = joined(given, "target_modules"), *exclude = joined(given, "exclude_modules"),
         *layers = joined(given, "layers_to_transform"), *saved = joined(given, "modules_to_save"),
         *ranks = dumped(given, "rank_pattern"), *alphas = dumped(given, "alpha_pattern"),
         *root = tiny_temp();
    bool dora = json_is_true(json_object_get(given, "use_dora"));
    tensor_list base = {0};
    char *dir = golden_model_dir(
        &base, root, golden_member(golden_member(golden, "models"), golden_text(entry, "model")), 0);
    gr_tuning_request request = {.kind = dora ? GR_TUNE_DORA : GR_TUNE_LORA,
                                 .targets = targets,
                                 .exclude = exclude,
                                 .layers = layers,
                                 .num_layers = -1,
                                 .rank = golden_int(given, "r"),
                                 .alpha = golden_number(given, "lora_alpha"),
                                 .scale = NAN,
                                 .use_rslora = json_is_true(json_object_get(given, "use_rslora")),
                                 .rank_pattern = ranks,
                                 .alpha_pattern = alphas,
                                 .modules_to_save = saved,
                                 .bias = strcmp(bias, "all") == 0         ? GR_BIAS_ALL
                                         : strcmp(bias, "lora_only") == 0 ? GR_BIAS_LORA_ONLY
                                                                          : GR_BIAS_NONE};
    gr_model_config config;
    gr_tuning *tuning;
    graft_error err = {0};
    assert_int_equal(gr_config_open(&config, dir, &err), GRAFT_OK);
    if (gr_tuning_select(&tuning, &config, &request, &err) != GRAFT_OK)
        fail_msg("%s: %s %s", golden_text(entry, "name"), err.what, err.found);
    compare_selection(entry, tuning);
    gr_tuning_free(tuning);
    gr_config_free(&config);
    char *owned[] = {targets, exclude, layers, saved, ranks, alphas, dir};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    list_free(&base);
    tiny_remove(root);
}

int main(void) {
    struct CMUnitTest tests[2 * 40];
    char names[2 * 40][120];
    size_t count = 0, i;
    json_t *entry;
    golden =
        json_load_file(GRAFT_SOURCE_DIR "/tests/golden/adapter_kinds.json", JSON_REJECT_DUPLICATES, NULL);
    if (!golden) return 1;
    json_array_foreach(json_object_get(golden, "cases"), i, entry) {
        bool full = json_is_null(json_object_get(entry, "adapter_config"));
        for (int choosing = full ? 0 : 1; choosing >= 0 && count < 80; choosing--) {
            snprintf(names[count], sizeof names[0], "%s: %s", choosing ? "selection" : "ten steps",
                     json_string_value(json_object_get(entry, "name")));
            tests[count] = (struct CMUnitTest){
                .name = names[count], .test_func = choosing ? selection : ten_steps, .initial_state = entry};
            count++;
        }
    }
    int failed = count < 40 ? -1 : _cmocka_run_group_tests("adapter kinds", tests, count, NULL, NULL);
    json_decref(golden);
    return failed;
}
