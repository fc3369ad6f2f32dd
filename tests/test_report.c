/* Reports: what a page holds, and its numbers. */
#include "tests/tiny_run.h"

#include "report/page.h"

#include <cmocka.h>

static graft_error err;

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

/* The document's runs[i]. */
static const json_t *run_at(const json_t *document, size_t i) {
    return json_array_get(json_object_get(document, "runs"), i);
}

/* Where there is no room for a whole path, a name starts or ends between two characters. */
static void names_are_cut_between_characters(void **state) {
    (void)state;
    for (size_t x = 0; x < 2; x++) {
        char name[200];
        snprintf(name, sizeof name, "%s", x ? "x" : "");
        for (size_t k = 0; k < 90; k++) strcat(name, "\xc3\xa4");
        char *dir = tiny_subdir(root, name), *json;
        tiny_write(dir, "metrics.jsonl", "{\"iteration\": 1, \"train_loss\": 2}\n");
        free(page_of((const char *const[]){name, name}, 2, &json));
        json_t *document = json_loads(json, 0, NULL);
        for (size_t i = 0; i < 2; i++) {
            const char *shown = json_string_value(json_object_get(run_at(document, i), "name"));
            assert_non_null(shown);
            assert_null(strchr(shown, '?'));
            assert_memory_equal(shown, "\xc3\xa4", 2);
            assert_int_equal(gr_ends_with(shown, " (2)"), i);
        }
        json_decref(document);
        free(json);
        free(dir);
    }
}

/* The document has run.json inside, and stays one that every reader takes. */
static void deep_files_are_refused(void **state) {
    (void)state;
    char *dir = tiny_subdir(root, "deep");
    graft_options o;
    graft_report_result result;
    graft_options_init(&o);
    tiny_write(dir, "metrics.jsonl", "{\"iteration\": 1}\n");
    for (size_t depth = 90; depth <= 2047; depth += 1957) {
        gr_buf text = {0};
        for (size_t i = 1; i < depth; i++) gr_buf_puts(&text, "{\"a\":");
        gr_buf_puts(&text, "{}");
        for (size_t i = 1; i < depth; i++) gr_buf_putc(&text, '}');
        tiny_write(dir, "run.json", text.data);
        gr_error_clear(&err);
        graft_status st = graft_report((const char *const *)&dir, 1, &o, NULL, &result, &err);
        assert_int_equal(st, depth > 100 ? GRAFT_RANGE : GRAFT_OK);
        if (depth > 100) assert_non_null(strstr(err.where, "run.json"));
        graft_report_result_free(&result);
        gr_buf_free(&text);
    }
    graft_options_free(&o);
    free(dir);
}

/* A long curve is drawn by means of neighbours, but begins and ends where the run did. */
static void long_curves_keep_their_ends(void **state) {
    (void)state;
    char *dir = tiny_subdir(root, "long");
    gr_buf text = {0};
    for (int i = 1; i <= 2000; i++)
        gr_buf_printf(&text, "{\"iteration\": %d, \"val_loss\": %s}\n", i,
                      i == 1      ? "7.125"
                      : i == 2000 ? "0.375"
                                  : "2");
    tiny_write(dir, "metrics.jsonl", text.data);
    char *html = page_of((const char *const[]){"long"}, 1, NULL);
    assert_non_null(strstr(html, "validation from 7.125 to 0.375"));
    free(html);
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
        cmocka_unit_test(hostile_texts_are_escaped),
        cmocka_unit_test(names_are_cut_between_characters),
        cmocka_unit_test(deep_files_are_refused),
        cmocka_unit_test(long_curves_keep_their_ends),
        cmocka_unit_test(a_run_on_a_page),
        cmocka_unit_test(samples_are_answered),
        cmocka_unit_test(samples_are_of_base_and_adapter),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
