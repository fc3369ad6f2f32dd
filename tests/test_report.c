/* Reports: metrics that are cut, repeated or hostile; what a page holds; what an adapter changes; numbers. */
#include "tests/tiny_run.h"

#include "report/chart.h"
#include "report/page.h"

#include <cmocka.h>

static graft_error err;

static void parse(gr_metrics *m, const char *text) {
    gr_error_clear(&err);
    if (gr_metrics_parse(m, text, strlen(text), "metrics.jsonl", &err) != GRAFT_OK)
        fail_msg("%s: %s", err.what, err.where);
}

static void metrics_become_curves(void **state) {
    (void)state;
    gr_metrics m;
    double at = -1;
    parse(&m, "{\"iteration\": 0, \"val_loss\": 4.5, \"val_time\": 1}\n"
              "\n"
              "{\"iteration\": 10, \"train_loss\": 3, \"rewards/margins\": 0.5}\r\n"
              "{\"iteration\": 20, \"train_loss\": null}\n"
              "{\"iteration\": 25, \"update\": 25, \"skipped_updates\": 2, \"not_a_number\": \"loss\"}\n"
              "{\"iteration\": 26, \"update\": 26, \"spike\": \"loss\", \"value\": 9, \"usual\": 1}\n"
              "{\"iteration\": 30, \"train_loss\": 2, \"note\": \"text\", \"val_loss\": 4}");
    const gr_metric *loss = gr_metrics_find(&m, "train_loss");
    assert_int_equal(loss->count, 3);
    assert_true(loss->x[2] == 30 && loss->y[2] == 2 && isnan(loss->y[1]));
    assert_true(gr_metric_last(gr_metrics_find(&m, "rewards/margins")) == 0.5);
    assert_true(gr_metric_least(gr_metrics_find(&m, "val_loss"), &at) == 4 && at == 30);
    assert_true(gr_metric_most(gr_metrics_find(&m, "val_loss")) == 4.5);
    assert_null(gr_metrics_find(&m, "update"));
    assert_null(gr_metrics_find(&m, "note"));
    assert_true(m.skipped == 2 && m.spikes == 1 && m.last == 30 && !m.cut && !m.repeated && m.lines == 6);
    assert_true(isnan(gr_metric_last(NULL)) && isnan(gr_metric_least(NULL, NULL)) &&
                isnan(gr_metric_most(NULL)));
    gr_metrics_free(&m);
    parse(&m, "");
    assert_true(m.count == 0 && m.last == -1);
    gr_metrics_free(&m);
}

static void cut_and_repeated(void **state) {
    (void)state;
    gr_metrics m;
    parse(&m, "{\"iteration\": 10, \"train_loss\": 3}\n{\"iteration\": 20, \"train_lo");
    assert_int_equal(m.cut, 2);
    assert_int_equal(gr_metrics_find(&m, "train_loss")->count, 1);
    gr_metrics_free(&m);
    /* a run that went back to 10: the later lines count */
    parse(&m, "{\"iteration\": 10, \"train_loss\": 3}\n{\"iteration\": 20, \"train_loss\": 2}\n"
              "{\"iteration\": 20, \"train_loss\": 2.5}\n{\"iteration\": 15, \"train_loss\": 2.75}\n"
              "{\"train_loss\": 7}\n");
    const gr_metric *loss = gr_metrics_find(&m, "train_loss");
    assert_int_equal(loss->count, 2);
    assert_true(loss->x[1] == 15 && loss->y[1] == 2.75);
    assert_true(m.repeated == 2 && m.without == 1);
    gr_metrics_free(&m);
}

static void broken_lines_are_named(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"iteration\": 1}\n{broken\n", "{\"iteration\": 1}\n[1]\n",
                                        "{}\n{\"a\":1,\"a\":\n{}\n", "{}\n\xff\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        gr_metrics m;
        gr_error_clear(&err);
        graft_status st = gr_metrics_parse(&m, texts[i], strlen(texts[i]), "metrics.jsonl", &err);
        assert_int_equal(st, GRAFT_CORRUPT);
        assert_non_null(strstr(err.where, "metrics.jsonl, line 2"));
        gr_metrics_free(&m);
    }
}

static void too_many_names(void **state) {
    (void)state;
    gr_metrics m;
    gr_buf text = {0};
    gr_buf_puts(&text, "{\"iteration\": 1");
    for (int i = 0; i < 100; i++) gr_buf_printf(&text, ", \"name%d\": %d", i, i);
    gr_buf_printf(&text, ", \"%0200d\": 1}\n", 0);
    parse(&m, text.data);
    assert_int_equal(m.count, GR_METRICS_NAMES);
    assert_int_equal(m.more, 101 - GR_METRICS_NAMES);
    gr_metrics_free(&m);
    gr_buf_free(&text);
}

static void axes_are_finite(void **state) {
    (void)state;
    static const double ends[][2] = {{0, 5e-324},         {5e-324, 5e-324}, {1e-320, 2e-320},
                                     {-1.7e308, 1.7e308}, {1e308, 1e308},   {1e16, 1e16 + 2}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        gr_axis a = gr_axis_round(ends[i][0], ends[i][1], false);
        assert_true(isfinite(a.step) && a.step > 0 && isfinite(a.low) && isfinite(a.high) && a.high > a.low);
        assert_true((a.high - a.low) / a.step < 50);
    }
}

static void smoothing(void **state) {
    (void)state;
    const double from[] = {4, 4, NAN, 2}, w = GR_SMOOTHING;
    double to[4], sum = ((4 * w + 4) * w + 2) * (1 - w);
    gr_smooth(to, from, 4);
    assert_true(to[0] == 4 && fabs(to[1] - 4) < 1e-12 && isnan(to[2]));
    assert_true(fabs(to[3] - sum / (1 - w * w * w)) < 1e-12);
}

/* ---- what an adapter changes: against the sum over all elements of scale * A B */

enum { IN = 6, RANK = 3, OUT = 5 };

static double product_norm(const float a[IN][RANK], const float b[RANK][OUT], double scale) {
    double sum = 0;
    for (int i = 0; i < IN; i++)
        for (int o = 0; o < OUT; o++) {
            double x = 0;
            for (int r = 0; r < RANK; r++) x += (double)a[i][r] * b[r][o];
            sum += x * x;
        }
    return scale * sqrt(sum);
}

static gr_tensor tensor_of(const char *name, const float *values, int64_t rows, int64_t cols) {
    return (gr_tensor){.name = name,
                       .dtype = GR_F32,
                       .ndim = 2,
                       .shape = {rows, cols},
                       .data = (const uint8_t *)values,
                       .bytes = (size_t)(rows * cols) * sizeof *values};
}

static void save(const char *dir, const char *name, gr_tensor a, gr_tensor b) {
    gr_tensor tensors[] = {a, b};
    char *path = tiny_join(dir, name);
    gr_error_clear(&err);
    if (gr_safetensors_save(path, tensors, 2, NULL, &err) != GRAFT_OK) fail_msg("%s", err.what);
    free(path);
}

static void change_of_adapters(void **state) {
    (void)state;
    float a[IN][RANK], b[RANK][OUT], at[RANK][IN], bt[OUT][RANK];
    for (int i = 0; i < IN; i++)
        for (int r = 0; r < RANK; r++) at[r][i] = a[i][r] = sinf((float)(i * RANK + r));
    for (int r = 0; r < RANK; r++)
        for (int o = 0; o < OUT; o++) bt[o][r] = b[r][o] = cosf((float)(r * OUT + o));
    char *dir = tiny_subdir(root, "change");
    gr_change c;
    assert_int_equal(gr_change_read(&c, dir, NULL, &err), GRAFT_OK);
    assert_non_null(strstr(c.none, "no adapter"));
    gr_change_free(&c);
    tiny_write(
        dir, "adapter_config.json",
        "{\"lora_parameters\": {\"scale\": 2.5}, \"lora_alpha\": 6, \"alpha_pattern\": {\"lm_head\": 12}}");
    save(dir, "adapter_model.safetensors",
         tensor_of("base_model.model.lm_head.lora_A.weight", &at[0][0], RANK, IN),
         tensor_of("base_model.model.lm_head.lora_B.weight", &bt[0][0], OUT, RANK));
    assert_int_equal(gr_change_read(&c, dir, NULL, &err), GRAFT_OK);
    assert_null(c.none);
    assert_true(c.outside && c.rows == 1 && c.modules == 1);
    assert_string_equal(c.module[0], "lm_head");
    assert_true(fabs(c.norm[0] - product_norm(a, b, 12.0 / RANK)) < 1e-9);
    gr_change_free(&c);
    /* mlx-lm's file is read before PEFT's */
    save(dir, "adapters.safetensors", tensor_of("model.layers.1.self_attn.q_proj.lora_a", &a[0][0], IN, RANK),
         tensor_of("model.layers.1.self_attn.q_proj.lora_b", &b[0][0], RANK, OUT));
    assert_int_equal(gr_change_read(&c, dir, NULL, &err), GRAFT_OK);
    assert_null(c.none);
    assert_true(!c.outside && c.rows == 2 && c.modules == 1 && isnan(c.norm[0]));
    assert_string_equal(c.module[0], "self_attn.q_proj");
    assert_true(fabs(c.norm[GR_CHANGE_MODULES] - product_norm(a, b, 2.5)) < 1e-9);
    assert_true(c.most == c.norm[GR_CHANGE_MODULES]);
    gr_change_free(&c);
    /* what an earlier run left is not shown as this one's */
    char stamp[GR_CHANGE_STAMP];
    gr_change_stamp(stamp, dir);
    assert_true(strlen(stamp) > 10);
    assert_int_equal(gr_change_read(&c, dir, stamp, &err), GRAFT_OK);
    assert_string_equal(c.none, "no adapter was saved yet");
    gr_change_free(&c);
    gr_change_stamp(stamp, root);
    assert_string_equal(stamp, "");
    /* experts: over all of a block's */
    float as[2][RANK][IN], bs[2][OUT][RANK];
    for (int e = 0; e < 2; e++) {
        memcpy(as[e], at, sizeof at);
        for (int i = 0; i < OUT * RANK; i++) (&bs[e][0][0])[i] = (e ? 3.0f : 1.0f) * (&bt[0][0])[i];
    }
    const gr_tensor stack_a = {.name = "model.layers.0.mlp.switch_mlp.up_proj.lora_a",
                               .dtype = GR_F32,
                               .ndim = 3,
                               .shape = {2, RANK, IN},
                               .data = (const uint8_t *)as,
                               .bytes = sizeof as},
                    stack_b = {.name = "model.layers.0.mlp.switch_mlp.up_proj.lora_b",
                               .dtype = GR_F32,
                               .ndim = 3,
                               .shape = {2, OUT, RANK},
                               .data = (const uint8_t *)bs,
                               .bytes = sizeof bs};
    save(dir, "adapters.safetensors", stack_a, stack_b);
    assert_int_equal(gr_change_read(&c, dir, NULL, &err), GRAFT_OK);
    assert_null(c.none);
    assert_string_equal(c.module[0], "mlp.switch_mlp.up_proj");
    assert_true(fabs(c.norm[0] - sqrt(10) * product_norm(a, b, 2.5)) < 1e-6 * c.norm[0]);
    gr_change_free(&c);
    /* what cannot be read is said, not failed on */
    tiny_write(dir, "adapters.safetensors", "no");
    assert_int_equal(gr_change_read(&c, dir, NULL, &err), GRAFT_OK);
    assert_non_null(strstr(c.none, "cannot be read"));
    gr_change_free(&c);
    tiny_write(dir, "adapter_config.json", "{\"fine_tune_type\": \"full\"}");
    assert_int_equal(gr_change_read(&c, dir, NULL, &err), GRAFT_OK);
    assert_non_null(strstr(c.none, "whole tensors"));
    gr_change_free(&c);
    free(dir);
}

/* ---- pages */

static size_t count(const char *text, const char *word) {
    size_t n = 0;
    for (; (text = strstr(text, word)); text++) n++;
    return n;
}

/* Every tag that opens closes; nothing is fetched from anywhere. */
static void assert_whole(const char *html) {
    static const char *const tags[] = {"table",   "thead",  "tbody", "tr",    "td",    "th",
                                       "section", "figure", "svg",   "h2",    "h3",    "details",
                                       "style",   "body",   "html",  "main",  "pre",   "p",
                                       "div",     "span",   "text",  "title", "script"};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        char open[16], bare[16], close[16];
        snprintf(open, sizeof open, "<%s ", tags[i]);
        snprintf(bare, sizeof bare, "<%s>", tags[i]);
        snprintf(close, sizeof close, "</%s>", tags[i]);
        if (count(html, open) + count(html, bare) != count(html, close))
            fail_msg("%s is not balanced", tags[i]);
    }
    assert_null(strstr(html, "http://"));
    assert_null(strstr(html, "https://"));
    assert_null(strstr(html, "src=\""));
    assert_null(strstr(html, "nan"));
}

/* The page of directories below root, written to root/page.html; malloc'ed. */
static char *page_of(const char *const *names, size_t n, char **json) {
    graft_options o;
    graft_report_result result;
    char *dirs[GR_RUNS_MOST], *out = tiny_join(root, "page.html");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_REPORT, (const char *const[]){"html", out, NULL});
    for (size_t i = 0; i < n; i++) dirs[i] = tiny_join(root, names[i]);
    gr_error_clear(&err);
    if (graft_report((const char *const *)dirs, n, &o, NULL, &result, &err) != GRAFT_OK)
        fail_msg("%s: %s", err.what, err.where);
    assert_string_equal(result.html, out);
    char *html = tiny_read(root, "page.html", NULL);
    assert_whole(html);
    if (json) *json = strdup(result.json);
    graft_report_result_free(&result);
    graft_options_free(&o);
    for (size_t i = 0; i < n; i++) free(dirs[i]);
    free(out);
    return html;
}

static void hostile_texts_are_escaped(void **state) {
    (void)state;
    static const char bad[] = "<script>alert(1)</script>";
    char *dir = tiny_subdir(root, "x<img src=x onerror=alert(1)>\"'&");
    gr_buf text = {0};
    gr_buf_printf(&text,
                  "{\"iteration\": 1, \"train_loss\": 2, \"%s\": 3}\n{\"iteration\": 2, \"train_loss\": 1}\n",
                  bad);
    tiny_write(dir, "metrics.jsonl", text.data);
    gr_buf_clear(&text);
    gr_buf_printf(
        &text,
        "{\"model\": \"%s\", \"trains\": \"%s\", \"settings\": {\"%s\": \"%s\"}, \"started\": 1e300,"
        "\"data\": {\"train\": {\"file\": \"%s\", \"rows\": \"%s\", \"bin\": 1e308, \"lengths\": [1, 2]}}}",
        bad, bad, bad, bad, bad, bad);
    tiny_write(dir, "run.json", text.data);
    gr_buf_clear(&text);
    gr_buf_printf(&text,
                  "{\"iteration\": 2, \"samples\": [{\"prompt\": \"%s\", \"base\": \"%s\", \"adapter\": "
                  "\"a\\nb\"}, 3]}",
                  bad, bad);
    tiny_write(dir, "samples.json", text.data);
    tiny_write(dir, "adapter_config.json", "[]");
    const char *name = strrchr(dir, '/') + 1, *twice[] = {name, name};
    for (size_t n = 1; n <= 2; n++) {
        char *html = page_of(twice, n, NULL);
        assert_null(strstr(html, "<script"));
        assert_null(strstr(html, "<img"));
        assert_non_null(strstr(html, "&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert_non_null(strstr(html, "x&lt;img src=x onerror=alert(1)&gt;&quot;"));
        assert_non_null(strstr(html, "a\nb"));
        free(html);
    }
    gr_buf_free(&text);
    free(dir);
}

static char *model;

static void a_run_on_a_page(void **state) {
    (void)state;
    char *json;
    if (!model) {
        const tiny_spec spec = {.dtype = GR_BF16, .bits = 4, .seed = 3};
        model = tiny_model_dir(root, "model", &spec);
    }
    must_train(model, "one", NULL, NULL, NULL);
    must_train(model, "two", (const char *const[]){"lora-rank", "8", "learning-rate", "1e-3", NULL}, NULL,
               NULL);
    char *html = page_of((const char *const[]){"one"}, 1, &json);
    assert_non_null(strstr(html, "8 of 8"));
    assert_non_null(strstr(html, "training, smoothed"));
    assert_non_null(strstr(html, "validation loss, best: iteration 8"));
    assert_non_null(strstr(html, ">forecast</span>"));
    assert_non_null(strstr(html, "Norm of the gradient"));
    assert_non_null(strstr(html, "self_attn.q_proj"));
    assert_non_null(strstr(html, "tokens with loss"));
    assert_non_null(strstr(html, "<th scope=\"row\">lora-rank</th><td>4</td>"));
    assert_null(strstr(html, "class=\"note\""));
    assert_null(strstr(html, "<script"));
    json_t *numbers = json_loads(json, 0, NULL), *run = json_array_get(json_object_get(numbers, "runs"), 0);
    assert_string_equal(json_string_value(json_object_get(run, "name")), "one");
    assert_int_equal(json_array_size(json_object_get(
                         json_object_get(json_object_get(run, "curves"), "train_loss"), "values")),
                     3);
    assert_true(json_real_value(json_object_get(run, "forecast_bytes")) > 1e6);
    assert_int_equal(json_array_size(json_object_get(json_object_get(run, "change"), "norms")), TINY_LAYERS);
    json_t *rows = json_object_get(
        json_object_get(json_object_get(json_object_get(run, "run"), "data"), "train"), "rows");
    assert_int_equal(json_integer_value(rows), 13);
    json_decref(numbers);
    free(json);
    free(html);
    /* the same last part, and the same directory: names that tell them apart */
    char *group = tiny_subdir(root, "group"), *copy = tiny_subdir(group, "one");
    tiny_write(copy, "metrics.jsonl", "{\"iteration\": 1, \"train_loss\": 2}\n");
    free(page_of((const char *const[]){"one", "group/one", "one"}, 3, &json));
    numbers = json_loads(json, 0, NULL);
    const char *name[3];
    for (size_t i = 0; i < 3; i++) {
        run = json_array_get(json_object_get(numbers, "runs"), i);
        name[i] = json_string_value(json_object_get(run, "name"));
        assert_true(gr_ends_with(json_string_value(json_object_get(run, "dir")), "one"));
    }
    assert_string_equal(name[1], "group/one");
    assert_true(gr_ends_with(name[0], "/one") && gr_ends_with(name[2], " (3)"));
    json_decref(numbers);
    free(json);
    free(copy);
    free(group);
    html = page_of((const char *const[]){"one", "two"}, 2, NULL);
    assert_non_null(strstr(html, "2 runs compared"));
    char *differ = strstr(html, "Settings that differ"), *all = strstr(html, "All settings");
    assert_true(differ && all && differ < all);
    char *rank = strstr(differ, "<th scope=\"row\">lora-rank</th><td>4</td><td>8</td>");
    assert_true(rank && rank < all);
    char *batch = strstr(differ, "<th scope=\"row\">batch-size</th>");
    assert_true(batch && batch > all);
    free(html);
}

/* Answers of base and adapter come from the model; a run that starts anew forgets them. */
static void samples_are_answered(void **state) {
    (void)state;
    graft_options o;
    graft_report_result result;
    char *dir = tiny_join(root, "one"), *prompts = tiny_join(root, "prompts.jsonl");
    tiny_write(root, "prompts.jsonl",
               "\"one two\"\n{\"messages\": [{\"role\": \"user\", \"content\": \"three <b>\"}]}\n");
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_REPORT,
             (const char *const[]){"prompts", prompts, "max-tokens", "8", "threads", "1", NULL});
    gr_error_clear(&err);
    if (graft_report((const char *const *)&dir, 1, &o, NULL, &result, &err) != GRAFT_OK)
        fail_msg("%s: %s %s", err.what, err.where, err.found);
    graft_report_result_free(&result);
    graft_options_free(&o);
    json_t *all = NULL;
    char *text = tiny_read(dir, "samples.json", NULL), *html = tiny_read(dir, "report.html", NULL);
    all = json_loads(text, 0, NULL);
    const json_t *samples = json_object_get(all, "samples");
    assert_int_equal(json_array_size(samples), 2);
    assert_int_equal(json_integer_value(json_object_get(all, "iteration")), 8);
    assert_string_equal(json_string_value(json_object_get(json_array_get(samples, 1), "prompt")),
                        "user: three <b>");
    for (size_t i = 0; i < 2; i++)
        assert_true(json_is_string(json_object_get(json_array_get(samples, i), "base")) &&
                    json_is_string(json_object_get(json_array_get(samples, i), "adapter")));
    assert_non_null(strstr(html, "user: three &lt;b&gt;"));
    assert_non_null(strstr(html, "the adapter of iteration 8"));
    json_decref(all);
    free(text);
    free(html);
    must_train(model, "one", NULL, NULL, NULL);
    char *path = tiny_join(dir, "samples.json");
    assert_false(gr_path_exists(path));
    /* an earlier run's adapter was there, and this run has replaced it */
    text = tiny_read(dir, "run.json", NULL);
    assert_non_null(strstr(text, "\"earlier_adapter\""));
    free(text);
    html = page_of((const char *const[]){"one"}, 1, NULL);
    assert_non_null(strstr(html, "<table class=\"heat\">"));
    free(html);
    free(path);
    free(prompts);
    free(dir);
}

static void take_text(void *user, uint64_t line, const graft_generation *answer) {
    (void)line;
    *(char **)user = strdup(gr_json_utf8(answer->text) ? answer->text : "(not UTF-8)");
}

/* What generate answers to the prompts, with more options (pairs). */
static char *answer_of(const char *base, const char *prompts, const char *const *more) {
    graft_options o;
    graft_generation total;
    char *text = NULL;
    graft_options_init(&o);
    tiny_set(
        &o, GRAFT_VERB_GENERATE,
        (const char *const[]){"model", base, "prompts", prompts, "max-tokens", "8", "threads", "1", NULL});
    tiny_set(&o, GRAFT_VERB_GENERATE, more);
    if (graft_generate_batch(&o, NULL, take_text, &text, &total, &err) != GRAFT_OK) fail_msg("%s", err.what);
    graft_options_free(&o);
    return text;
}

/* Both are asked as the adapter was taught, as generate asks with the same variables. */
static void samples_are_of_base_and_adapter(void **state) {
    (void)state;
    static const char mood[] = "{\"mood\":\"+++\"}";
    const tiny_spec spec = {.dtype = GR_BF16, .bits = 4, .seed = 3};
    char *moody = tiny_model_dir(root, "moody", &spec), *dir = tiny_join(root, "taught");
    char *prompts = tiny_join(root, "one-prompt.jsonl");
    graft_report_result result;
    graft_options o;
    tiny_write(moody, "chat_template.jinja",
               "{% for m in messages %}{{ m.role ~ (mood | default('')) ~ ':' ~ m.content }}{% endfor %}");
    tiny_write(root, "one-prompt.jsonl", "\"one two\"\n");
    must_train(moody, "taught",
               (const char *const[]){"iters", "30", "learning-rate", "2e-2", "template-kwargs", mood, NULL},
               NULL, NULL);
    char *plain = answer_of(moody, prompts, NULL),
         *base = answer_of(moody, prompts, (const char *const[]){"template-kwargs", mood, NULL}),
         *adapter = answer_of(moody, prompts, (const char *const[]){"adapter-path", dir, NULL});
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_REPORT,
             (const char *const[]){"prompts", prompts, "max-tokens", "8", "threads", "1", NULL});
    assert_int_equal(graft_report((const char *const *)&dir, 1, &o, NULL, &result, &err), GRAFT_OK);
    char *text = tiny_read(dir, "samples.json", NULL);
    json_t *all = json_loads(text, 0, NULL), *one = json_array_get(json_object_get(all, "samples"), 0);
    assert_string_equal(json_string_value(json_object_get(one, "base")), base);
    assert_string_equal(json_string_value(json_object_get(one, "adapter")), adapter);
    assert_string_not_equal(base, adapter);
    assert_string_not_equal(base, plain);
    json_decref(all);
    free(text);
    graft_report_result_free(&result);
    graft_options_free(&o);
    free(plain);
    free(base);
    free(adapter);
    free(prompts);
    free(dir);
    free(moody);
}

static void refusals(void **state) {
    (void)state;
    graft_options o;
    graft_report_result result;
    char *none = tiny_subdir(root, "none"), *many[GR_RUNS_MOST + 1], *page = tiny_join(none, "report.html");
    graft_options_init(&o);
    for (size_t i = 0; i <= GR_RUNS_MOST; i++) many[i] = none;
    gr_error_clear(&err);
    assert_int_equal(graft_report((const char *const *)many, 0, &o, NULL, &result, &err), GRAFT_USAGE);
    assert_int_equal(graft_report((const char *const *)many, GR_RUNS_MOST + 1, &o, NULL, &result, &err),
                     GRAFT_USAGE);
    assert_int_equal(graft_report((const char *const *)many, 1, &o, NULL, &result, &err), GRAFT_NOT_FOUND);
    assert_non_null(strstr(err.hint, "graft train"));
    tiny_set(&o, GRAFT_VERB_REPORT, (const char *const[]){"max-tokens", "3", NULL});
    assert_int_equal(graft_report((const char *const *)many, 1, &o, NULL, &result, &err), GRAFT_USAGE);
    assert_non_null(strstr(err.what, "--max-tokens without --prompts"));
    graft_options_free(&o);
    graft_options_init(&o);
    tiny_write(none, "metrics.jsonl", "{\"iteration\": 1}\n");
    tiny_write(none, "run.json", "[1]");
    assert_int_equal(graft_report((const char *const *)many, 1, &o, NULL, &result, &err), GRAFT_CORRUPT);
    assert_non_null(strstr(err.where, "run.json"));
    assert_false(gr_path_exists(page));
    tiny_write(none, "run.json", "{}");
    assert_int_equal(graft_report((const char *const *)many, 1, &o, NULL, &result, NULL), GRAFT_OK);
    assert_true(gr_path_exists(page));
    graft_report_result_free(&result);
    graft_report_result_free(NULL);
    graft_options_free(&o);
    free(page);
    free(none);
    free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_become_curves),
        cmocka_unit_test(cut_and_repeated),
        cmocka_unit_test(broken_lines_are_named),
        cmocka_unit_test(too_many_names),
        cmocka_unit_test(smoothing),
        cmocka_unit_test(axes_are_finite),
        cmocka_unit_test(change_of_adapters),
        cmocka_unit_test(hostile_texts_are_escaped),
        cmocka_unit_test(a_run_on_a_page),
        cmocka_unit_test(samples_are_answered),
        cmocka_unit_test(samples_are_of_base_and_adapter),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
