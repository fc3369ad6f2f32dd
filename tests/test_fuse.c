/* fuse/: what is written computes what base and adapter compute, for every kind of adapter; what the adapter
 * leaves keeps its bytes; losses are told. */
#include "tests/tiny_llama_gguf.h"
#include "tests/tiny_run.h"

/* ------------------------------------------------------------------------------------------- runs */

static graft_status fuse(const char *model, const char *adapter, const char *out, const char *const *more,
                         watch *w, graft_fuse_result *r, graft_error *err) {
    graft_options o;
    graft_fuse_result unused;
    watch own = {0};
    if (!w) w = &own;
    graft_hooks hooks = {.user = w, .event = on_event, .stop = &w->stop};
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_FUSE,
             (const char *const[]){"model", model, "adapter-path", adapter, "save-path", out, "threads", "2",
                                   NULL});
    tiny_set(&o, GRAFT_VERB_FUSE, more);
    graft_status st = graft_fuse(&o, &hooks, r ? r : &unused, err);
    graft_options_free(&o);
    return st;
}

static void must_fuse(const char *model, const char *adapter, const char *out, const char *const *more,
                      watch *w, graft_fuse_result *r) {
    graft_error err = {0};
    if (fuse(model, adapter, out, more, w, r, &err) != GRAFT_OK)
        fail_msg("%s %s %s %s", err.what, err.where, err.expected, err.found);
}

/* An adapter as it is before the first step: B is zero. */
static void save_unmoved(const char *model, const char *adapter, const char *const *more) {
    graft_options o;
    graft_error err = {0};
    graft_trainer *t = NULL;
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN, (const char *const[]){"model", model, "data", data, "threads", "1", NULL});
    tiny_set(&o, GRAFT_VERB_TRAIN, more);
    if (graft_trainer_open(&t, &o, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    if (graft_trainer_save(t, adapter, &err) != GRAFT_OK) fail_msg("%s", err.what);
    graft_trainer_free(t);
    graft_options_free(&o);
}

/* ------------------------------------------------------------------------------------------- files */

static gr_safetensors *open_weights(const char *dir) {
    graft_error err = {0};
    gr_safetensors *file;
    if (gr_safetensors_open(&file, dir, &err) != GRAFT_OK) fail_msg("%s: %s", err.where, err.what);
    return file;
}

/* Tensors of `fused` with other bytes than the base's. */
static int changed(const char *base, const char *fused) {
    gr_safetensors *a = open_weights(base), *b = open_weights(fused);
    int n = 0;
    assert_int_equal(gr_safetensors_count(a), gr_safetensors_count(b));
    for (size_t i = 0; i < gr_safetensors_count(a); i++) {
        const gr_tensor *x = gr_safetensors_at(a, i), *y = gr_safetensors_at(b, i);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->bytes, y->bytes);
        n += memcmp(x->data, y->data, x->bytes) != 0;
    }
    gr_safetensors_close(a);
    gr_safetensors_close(b);
    return n;
}

/* ------------------------------------------------------------------------------------------- tests */

typedef struct kind {
    const char *name, *model;
    const char *const *options;
} kind;

static const kind kinds[] = {
    {"lora", NULL, (const char *const[]){"lora-targets", "full", NULL}},
    {"dora", NULL, (const char *const[]){"fine-tune-type", "dora", NULL}},
    {"rslora, ranks and alphas of their own", NULL,
     (const char *const[]){"use-rslora", "-", "rank-pattern", "q_proj=8", "alpha-pattern", "v_proj=4", NULL}},
    {"biases", "qwen2", (const char *const[]){"lora-bias", "all", NULL}},
    {"saved modules", NULL, (const char *const[]){"modules-to-save", "lm_head,norm", NULL}},
    {"embedding and head", NULL, (const char *const[]){"lora-targets", "q_proj,embed_tokens,lm_head", NULL}},
    {"experts", "qwen3_moe", (const char *const[]){"lora-targets", "all-linear", NULL}},
};

/* In 32 bits the fused model's losses are those of base and adapter: both sum the same numbers, rounded to 24
 * bits, and the loss is of the size of 5. */
static void every_kind(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int bits = 0; bits <= 4; bits += 4) {
            char name[64];
            graft_fuse_result r;
            if (bits && kinds[i].model && tiny_mixture(kinds[i].model)) continue; /* no file has such codes */
            snprintf(name, sizeof name, "base%zu-%d", i, bits);
            char *model = tiny_model_dir(
                root, name, &(tiny_spec){.type = kinds[i].model, .bits = bits, .untied = true, .seed = i});
            must_train(model, "adapter", kinds[i].options, NULL, NULL);
            char *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused");
            must_fuse(model, adapter, out,
                      (const char *const[]){"dequantize", "-", "dtype", "float32", "compute", "fp32", "data",
                                            data, "split", "train", NULL},
                      NULL, &r);
            assert_true(r.measured && r.loss_base - r.loss_adapter > 0.05);
            if (!(fabs(r.loss_fused - r.loss_adapter) < 1e-5 * r.loss_adapter))
                fail_msg("%s on %d bits: %.7f, fused %.7f", kinds[i].name, bits, r.loss_adapter,
                         r.loss_fused);
            assert_true(fabs(r.kept - 1) < 1e-3 && !r.lossy);
            forget("fused");
            forget("adapter");
            free(out);
            free(adapter);
            free(model);
        }
}

static void tied_embedding(void **state) {
    (void)state;
    graft_fuse_result r;
    char *model = tiny_model_dir(root, "tied", &(tiny_spec){.dtype = GR_F32});
    must_train(model, "adapter", (const char *const[]){"lora-targets", "v_proj,embed_tokens", NULL}, NULL,
               NULL);
    char *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused");
    must_fuse(model, adapter, out,
              (const char *const[]){"compute", "fp32", "data", data, "split", "train", NULL}, NULL, &r);
    assert_true(fabs(r.loss_fused - r.loss_adapter) < 1e-5 * r.loss_adapter);
    assert_int_equal(changed(model, out), 3);
    assert_int_equal(r.changed, 3);
    forget("fused");
    forget("adapter");
    free(out);
    free(adapter);
    free(model);
}

static void full_training(void **state) {
    (void)state;
    graft_fuse_result r;
    own_rank = true;
    char *model = tiny_model_dir(root, "whole", &(tiny_spec){.dtype = GR_F32});
    must_train(model, "adapter", (const char *const[]){"fine-tune-type", "full", "num-layers", "1", NULL},
               NULL, NULL);
    own_rank = false;
    char *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused");
    must_fuse(model, adapter, out, (const char *const[]){"data", data, "split", "train", NULL}, NULL, &r);
    assert_true(r.loss_fused == r.loss_adapter); /* the same numbers */
    assert_int_equal(changed(model, out), 9);    /* one block */
    assert_int_equal(r.changed, 9);
    forget("fused");
    forget("adapter");
    free(out);
    free(adapter);
    free(model);
}

/* An adapter that adds nothing leaves every byte, at every width and in every type. */
static void zero_delta(void **state) {
    (void)state;
    static const char *const types[] = {"lora", "dora"};
    for (int d = 0; d < 2; d++)
        for (int bits = 0; bits <= 8; bits++)
            for (int t = 0; t < 2; t++) {
                char name[32];
                if (bits == 1 || bits == 7 || (t && bits && bits != 4)) continue;
                snprintf(name, sizeof name, "zero%d-%d", d, bits);
                char *model = tiny_model_dir(
                    root, name, &(tiny_spec){.bits = bits, .dtype = d ? GR_BF16 : GR_F32, .untied = true});
                char *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused");
                save_unmoved(model, adapter,
                             (const char *const[]){"fine-tune-type", types[t], "lora-targets", "full", NULL});
                graft_fuse_result r;
                must_fuse(model, adapter, out, NULL, NULL, &r);
                assert_int_equal(changed(model, out), 0);
                assert_int_equal(r.changed, 0);
                forget("fused");
                forget("adapter");
                free(out);
                free(adapter);
                free(model);
            }
}

/* Into its own codes: groups that move are mx.quantize of the sum, all others keep their bytes. */
static void own_quantization(void **state) {
    (void)state;
    enum { OUT = 64, IN = 64, GROUP = 32 };
    static float w[OUT * IN], sum[OUT * IN];
    static uint8_t codes[OUT * IN], scales[OUT * IN], biases[OUT * IN];
    graft_error err = {0};
    gr_tuning *tuning;
    float *params;
    gr_model *opened;
    char *model = tiny_model_dir(root, "codes", &(tiny_spec){.bits = 4, .dtype = GR_BF16});
    must_train(model, "adapter",
               (const char *const[]){"lora-targets", "q_proj", "layers-to-transform", "1", NULL}, NULL, NULL);
    char *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused");
    graft_fuse_result result;
    must_fuse(model, adapter, out, NULL, NULL, &result);
    int differ = changed(model, out);
    assert_in_range(differ, 1, 3); /* weight, scales, biases of one module */
    assert_int_equal(result.changed, 1);
    assert_int_equal(gr_model_open(&opened, model, &err), GRAFT_OK);
    assert_int_equal(gr_adapter_load(&tuning, &params, adapter, &opened->config, NULL, &err), GRAFT_OK);
    const gr_mat *base = &opened->layer[1].linear[GR_Q_PROJ];
    const gr_tuned *x = &tuning->block[1][GR_Q_PROJ];
    gr_affine_dequantize(w, base->data, base->scales, base->biases, OUT, IN, 4, GROUP, GR_BF16);
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++) {
            float delta = 0;
            for (int64_t r = 0; r < x->rank; r++)
                delta += x->scale * params[x->b + r * OUT + o] * params[x->a + r * IN + i];
            sum[o * IN + i] = w[o * IN + i] + delta;
        }
    gr_affine_quantize(codes, scales, biases, sum, OUT, IN, 4, GROUP, GR_BF16);
    gr_safetensors *file = open_weights(out);
    /* The sum's last bit may round a code, a scale or a bias the other way: of 8 bits of mantissa the last.
     */
    const uint8_t *const parts[] = {codes, scales, biases};
    static const char *const suffixes[] = {"weight", "scales", "biases"};
    for (int p = 0; p < 3; p++) {
        char name[64];
        int other = 0;
        snprintf(name, sizeof name, "model.layers.1.self_attn.q_proj.%s", suffixes[p]);
        const gr_tensor *t = gr_safetensors_find(file, name);
        for (size_t i = 0; i < t->bytes; i++) other += t->data[i] != parts[p][i];
        assert_in_range(other, 0, (int)t->bytes / 100);
        for (size_t i = 0; p && i < t->bytes / 2; i++) {
            double is = (double)gr_float_at(t->data, (int64_t)i, GR_BF16),
                   expected = (double)gr_float_at(parts[p], (int64_t)i, GR_BF16);
            if (fabs(is - expected) > fabs(expected) / 128)
                fail_msg("%s[%zu]: %g, not %g", name, i, is, expected);
        }
    }
    gr_safetensors_close(file);
    gr_tuning_free(tuning);
    free(params);
    gr_model_free(opened);
    forget("fused");
    forget("adapter");
    free(out);
    free(adapter);
    free(model);
}

/* A weak adapter disappears in 4 bits: the note has the way out, which works. */
static void lost_gain(void **state) {
    (void)state;
    watch w = {0};
    graft_fuse_result r;
    char *model = tiny_model_dir(root, "weak", &(tiny_spec){.bits = 2});
    must_train(model, "adapter", (const char *const[]){"learning-rate", "1e-3", NULL}, NULL, NULL);
    char *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused");
    must_fuse(model, adapter, out, (const char *const[]){"data", data, "split", "train", NULL}, &w, &r);
    assert_true(r.lossy && r.kept < GRAFT_FUSE_KEPT);
    assert_non_null(strstr(w.notes, "--dequantize"));
    forget("fused");
    memset(&w, 0, sizeof w);
    must_fuse(model, adapter, out,
              (const char *const[]){"data", data, "split", "train", "dequantize", "-", NULL}, &w, &r);
    assert_false(r.lossy);
    assert_true(fabs(r.kept - 1) < 0.2);
    assert_null(strstr(w.notes, "keeps"));
    forget("fused");
    forget("adapter");
    free(out);
    free(adapter);
    free(model);
}

/* Shared inside the base's groups, the adapter goes into the biases alone: codes and scales keep every byte,
 * and the fused 4-bit model is base and adapter. */
static void group_pooled(void **state) {
    (void)state;
    static const char *const types[] = {"lora", "rslora"};
    for (int t = 0; t < 2; t++) {
        graft_fuse_result r;
        char *model = tiny_model_dir(root, types[t], &(tiny_spec){.bits = 4, .dtype = GR_F32, .seed = 3});
        must_train(model, "adapter",
                   (const char *const[]){"group-pooled", "-", "lora-targets", "full",
                                         t ? "use-rslora" : "lora-dropout", t ? "-" : "0.1", NULL},
                   NULL, NULL);
        char *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused");
        must_fuse(model, adapter, out,
                  (const char *const[]){"compute", "fp32", "data", data, "split", "train", NULL}, NULL, &r);
        assert_true(r.loss_base - r.loss_adapter > 0.05);
        assert_true(fabs(r.loss_fused - r.loss_adapter) < 1e-5 * r.loss_adapter);
        gr_safetensors *a = open_weights(model), *b = open_weights(out);
        int moved = 0;
        for (size_t i = 0; i < gr_safetensors_count(a); i++) {
            const gr_tensor *x = gr_safetensors_at(a, i), *y = gr_safetensors_at(b, i);
            bool same = x->bytes == y->bytes && memcmp(x->data, y->data, x->bytes) == 0;
            assert_true(same == !gr_ends_with(x->name, ".biases"));
            moved += !same;
        }
        assert_int_equal(moved, 14); /* seven linears of two blocks */
        assert_int_equal(r.changed, 14);
        gr_safetensors_close(a);
        gr_safetensors_close(b);
        forget("fused");
        must_fuse(model, adapter, out,
                  (const char *const[]){"dequantize", "-", "dtype", "float32", "compute", "fp32", "data",
                                        data, "split", "train", NULL},
                  NULL, &r);
        assert_true(fabs(r.loss_fused - r.loss_adapter) < 1e-5 * r.loss_adapter);
        forget("fused");
        forget("adapter");
        free(out);
        free(adapter);
        free(model);
    }
}

/* Trained with the quantized sum, the adapter fuses into the loss that training saw: the same codes, scales
 * and biases, in each type and width. The sums of a validation differ in their order alone. */
static void qat(void **state) {
    (void)state;
    static const tiny_spec specs[] = {{.bits = 4, .seed = 8}, {.bits = 3, .dtype = GR_BF16, .seed = 9}};
    for (int i = 0; i < 2; i++)
        for (int fp32 = 0; fp32 < 2; fp32++) {
            graft_train_result trained;
            graft_fuse_result r;
            const char *compute = fp32 ? "fp32" : "bf16";
            char *model = tiny_model_dir(root, i ? "three" : "four", &specs[i]);
            must_train(model, "adapter",
                       (const char *const[]){"qat", "-", "lora-targets", "full", "compute", compute, NULL},
                       NULL, &trained);
            char *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused");
            must_fuse(model, adapter, out,
                      (const char *const[]){"compute", compute, "data", data, "split", "valid", NULL}, NULL,
                      &r);
            if (!(fabs(r.loss_fused - trained.val_loss_last) <= 1e-12 * r.loss_fused))
                fail_msg("%d %s: trained to %.12f, fused %.12f", i, compute, trained.val_loss_last,
                         r.loss_fused);
            assert_true(r.loss_fused < trained.val_loss_first);
            forget("fused");
            forget("adapter");
            free(out);
            free(adapter);
            free(model);
        }
}

static void qat_refusals(void **state) {
    (void)state;
    static const struct {
        const char *model;
        const char *const more[6];
        const char *said;
    } rows[] = {{"plain", {"qat", "-"}, "nothing that is adapted is quantized"},
                {"micro", {"qat", "-"}, "block floats"},
                {"four", {"qat", "-", "fine-tune-type", "dora"}, "dora"},
                {"four", {"qat", "-", "group-pooled", "-"}, "group-pooled"},
                {"four", {"qat", "-", "lora-dropout", "0.1"}, "dropout"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        graft_error e = {0};
        char all[2048];
        const bool micro = rows[i].model[0] == 'm';
        char *model = tiny_model_dir(
            root, rows[i].model,
            &(tiny_spec){.bits = rows[i].model[0] == 'f' ? 4 : 0, .mode = micro ? "mxfp4" : NULL});
        graft_status st = train(model, "refused", rows[i].more, NULL, NULL, &e);
        snprintf(all, sizeof all, "%s|%s|%s|%s|%s", e.what, e.where, e.expected, e.found, e.hint);
        if (st == GRAFT_OK || !strstr(all, rows[i].said)) fail_msg("%zu: status %d: %s", i, st, all);
        free(model);
    }
}

static void must_refuse(const char *model, const char *adapter, const char *out, const char *const *more,
                        graft_status status, const char *said) {
    graft_error e = {0};
    char all[2048];
    graft_status st = fuse(model, adapter, out, more, NULL, NULL, &e);
    snprintf(all, sizeof all, "%s|%s|%s|%s|%s", e.what, e.where, e.expected, e.found, e.hint);
    if (st != status || !strstr(all, said)) fail_msg("status %d: %s", st, all);
}

static void refusals(void **state) {
    (void)state;
    char *model = tiny_model_dir(root, "one", &(tiny_spec){.bits = 4, .seed = 1}),
         *other = tiny_model_dir(root, "two", &(tiny_spec){.bits = 4, .seed = 2}),
         *micro = tiny_model_dir(root, "micro", &(tiny_spec){.mode = "mxfp4"}),
         *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused"),
         *none = tiny_join(root, "none");
    save_unmoved(model, adapter, NULL);
    must_refuse(model, none, out, NULL, GRAFT_NOT_FOUND, "no such adapter");
    must_refuse(other, adapter, out, NULL, GRAFT_MISMATCH, "another base");
    must_refuse(model, adapter, model, NULL, GRAFT_USAGE, "is the source");
    must_refuse(model, adapter, data, NULL, GRAFT_USAGE, "");
    must_refuse(model, adapter, out, (const char *const[]){"data", none, NULL}, GRAFT_NOT_FOUND, "none");
    must_refuse(micro, adapter, out, (const char *const[]){"allow-other-base", "-", NULL}, GRAFT_UNSUPPORTED,
                "--dequantize");
    assert_false(gr_path_exists(out));
    must_fuse(other, adapter, out, (const char *const[]){"allow-other-base", "-", NULL}, NULL, NULL);
    must_fuse(other, adapter, out, (const char *const[]){"allow-other-base", "-", NULL}, NULL,
              NULL);                                              /* again */
    must_refuse(model, adapter, out, NULL, GRAFT_USAGE, "fused"); /* another model is there */
    forget("fused");
    forget("adapter");
    free(none);
    free(out);
    free(adapter);
    free(micro);
    free(other);
    free(model);
}

static int entries(const char *dir) {
    int n = 0;
    struct dirent *e;
    DIR *list = gr_list_open(dir);
    if (!list) fail_msg("cannot list %s", dir);
    while ((e = readdir(list))) n += e->d_name[0] != '.';
    closedir(list);
    return n;
}

/* Measuring a fused GGUF file leaves nothing behind: the base's conversion is all that is kept. */
static void gguf_leaves_nothing(void **state) {
    (void)state;
    graft_fuse_result r;
    tiny_llama_gguf_write(root, "base.gguf");
    char *model = tiny_join(root, "base.gguf"), *adapter = tiny_join(root, "adapter"),
         *out = tiny_join(root, "fused.gguf"), *cache = tiny_join(root, "cache"),
         *kept = tiny_join(root, "cache/graft/converted");
    setenv("XDG_CACHE_HOME", cache, 1);
    must_train(model, "adapter", NULL, NULL, NULL);
    assert_int_equal(entries(kept), 1);
    must_fuse(model, adapter, out, (const char *const[]){"data", data, "split", "train", NULL}, NULL, &r);
    assert_true(r.measured && r.loss_fused > 0);
    assert_int_equal(entries(kept), 1);
    unsetenv("XDG_CACHE_HOME");
    forget("adapter");
    free(kept);
    free(cache);
    free(out);
    free(adapter);
    free(model);
}

/* What an adapter gains on a row says nothing of what is kept of it on others. */
static void gain_within_noise(void **state) {
    (void)state;
    watch w = {0};
    graft_fuse_result r;
    char *model = tiny_model_dir(root, "few", &(tiny_spec){.bits = 2, .untied = true}),
         *adapter = tiny_join(root, "adapter"), *out = tiny_join(root, "fused");
    must_train(model, "adapter", (const char *const[]){"learning-rate", "1e-3", NULL}, NULL, NULL);
    char *rows = tiny_read(data, "train.jsonl", NULL), *one = tiny_join(root, "one.jsonl");
    rows[strcspn(rows, "\n") + 1] = 0;
    tiny_write(root, "one.jsonl", rows);
    must_fuse(model, adapter, out, (const char *const[]){"data", one, NULL}, &w, &r);
    assert_int_equal(r.rows, 1);
    assert_false(r.lossy);
    assert_true(r.loss_base > r.loss_adapter);
    assert_non_null(strstr(w.notes, "too few to tell"));
    free(rows);
    free(one);
    forget("fused");
    forget("adapter");
    free(out);
    free(adapter);
    free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind),          cmocka_unit_test(tied_embedding),
        cmocka_unit_test(full_training),       cmocka_unit_test(zero_delta),
        cmocka_unit_test(own_quantization),    cmocka_unit_test(lost_gain),
        cmocka_unit_test(group_pooled),        cmocka_unit_test(qat),
        cmocka_unit_test(qat_refusals),        cmocka_unit_test(refusals),
        cmocka_unit_test(gguf_leaves_nothing), cmocka_unit_test(gain_within_noise),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
