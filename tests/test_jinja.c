/* text/jinja against what jinja2 renders in transformers (tests/golden, made by tools/make_jinja_golden.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "comma_locale.h"
#include "text/jinja.h"
#include <cmocka.h>
#include <stdio.h>
#include <time.h>

static json_t *golden(const char *name) {
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, GRAFT_SOURCE_DIR "/tests/golden/%s", name);
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!json) fail_msg("%s: %s", path, error.text);
    return json;
}

static graft_status render(const char *source, size_t len, const json_t *vars, int64_t now,
                           gr_jinja_result *out, graft_error *err) {
    gr_jinja *tmpl = NULL;
    graft_status st = gr_jinja_parse(&tmpl, source, len, err);
    *out = (gr_jinja_result){0};
    if (st == GRAFT_OK) st = gr_jinja_render(tmpl, vars, now, out, err);
    gr_jinja_free(tmpl);
    return st;
}

static bool same_spans(const gr_jinja_result *got, const json_t *want) {
    if (got->ngeneration != json_array_size(want)) return false;
    for (size_t i = 0; i < got->ngeneration; i++) {
        const json_t *span = json_array_get(want, i);
        if (json_integer_value(json_array_get(span, 0)) != (json_int_t)got->generation[i].start) return false;
        if (json_integer_value(json_array_get(span, 1)) != (json_int_t)got->generation[i].end) return false;
    }
    return true;
}

/* 1 when the rendering is the golden one; else says how it differs. */
static int check(const char *label, const char *source, size_t len, const json_t *vars, int64_t now,
                 const json_t *want) {
    gr_jinja_result got;
    graft_error err = {0};
    graft_status st = render(source, len, vars, now, &got, &err);
    const json_t *text = json_object_get(want, "text");
    bool same = !text ? st != GRAFT_OK && st != GRAFT_INTERNAL
                      : st == GRAFT_OK && got.text.len == json_string_length(text) &&
                            memcmp(got.text.data, json_string_value(text), got.text.len) == 0 &&
                            same_spans(&got, json_object_get(want, "generation"));
    if (!same)
        print_error("%s\n  want %s\n  got  %s%s\n", label,
                    text ? json_string_value(text) : json_string_value(json_object_get(want, "error")),
                    st == GRAFT_OK ? got.text.data : "error: ", st == GRAFT_OK ? "" : err.what);
    if (st != GRAFT_OK && st != GRAFT_NO_MEMORY) assert_true(err.what[0] != 0);
    gr_jinja_result_free(&got);
    return same;
}

static void snippets_render_as_in_jinja2(void **state) {
    (void)state;
    json_t *file = golden("jinja_snippets.json"), *cases = json_object_get(file, "cases"), *item;
    int64_t now = json_integer_value(json_object_get(file, "now"));
    size_t i, equal = 0;
    json_array_foreach(cases, i, item) {
        const json_t *source = json_object_get(item, "source");
        equal += (size_t)check(json_string_value(source), json_string_value(source),
                               json_string_length(source), json_object_get(file, "variables"), now, item);
    }
    print_message("%zu of %zu snippets equal\n", equal, json_array_size(cases));
    assert_true(json_array_size(cases) > 200);
    assert_int_equal(equal, json_array_size(cases));
    json_decref(file);
}

static void snippets_render_so_in_any_locale(void **state) {
    if (!comma_locale()) skip();
    snippets_render_as_in_jinja2(state);
    setlocale(LC_ALL, "C");
}

static char *template_text(const char *name, size_t *len) {
    char path[512];
    snprintf(path, sizeof path, GRAFT_SOURCE_DIR "/tests/golden/templates/%s", name);
    FILE *f = fopen(path, "rb");
    char *text = malloc(1 << 16);
    if (!f || !text) fail_msg("cannot read %s", path);
    *len = fread(text, 1, 1 << 16, f);
    fclose(f);
    return text;
}

/* Variables of a chat as the chat room sets them: message keys that are null are gone, reasoning has its
 * names. */
static json_t *chat_variables(const json_t *file, const json_t *item) {
    json_t *vars = json_copy(json_object_get(file, "special")), *list = json_array(), *message, *value;
    const char *key;
    size_t i;
    const json_t *chat =
        json_object_get(json_object_get(file, "chats"), json_string_value(json_object_get(item, "chat")));
    json_array_foreach(chat, i, message) {
        json_t *clean = json_object(), *reasoning = json_object_get(message, "reasoning");
        if (reasoning) json_object_set(clean, "thinking", reasoning); /* in front */
        json_object_foreach(message, key, value) if (!json_is_null(value)) json_object_set(clean, key, value);
        if (reasoning) json_object_set(clean, "reasoning_content", reasoning);
        json_array_append_new(list, clean);
    }
    bool tools = json_is_true(json_object_get(item, "tools"));
    json_object_set_new(vars, "messages", list);
    json_object_set(vars, "tools", tools ? json_object_get(file, "tools") : json_null());
    json_object_set_new(vars, "documents", json_null());
    json_object_set(vars, "add_generation_prompt", json_object_get(item, "prompt"));
    return vars;
}

static void templates_render_as_in_transformers(void **state) {
    (void)state;
    json_t *file = golden("chat_templates.json"), *cases = json_object_get(file, "cases"), *item;
    int64_t now = json_integer_value(json_object_get(file, "now"));
    size_t i, equal = 0, len;
    json_array_foreach(cases, i, item) {
        const char *name = json_string_value(json_object_get(item, "template"));
        char label[200], *source = template_text(name, &len);
        snprintf(label, sizeof label, "%s, %s, tools %d, prompt %d", name,
                 json_string_value(json_object_get(item, "chat")),
                 json_is_true(json_object_get(item, "tools")), json_is_true(json_object_get(item, "prompt")));
        json_t *vars = chat_variables(file, item);
        equal += (size_t)check(label, source, len, vars, now, item);
        json_decref(vars);
        free(source);
    }
    print_message("%zu of %zu chats equal\n", equal, json_array_size(cases));
    assert_true(json_array_size(cases) > 500);
    assert_int_equal(equal, json_array_size(cases));
    json_decref(file);
}

/* Source, and the status that stops it. */
static void templates_are_bounded(void **state) {
    static const struct {
        const char *source;
        graft_status status;
    } cases[] = {
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", GRAFT_RANGE},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", GRAFT_RANGE},
        {"{{ 'x' * 100000000000 }}", GRAFT_RANGE},
        {"{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
         GRAFT_RANGE},
        {"{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
         GRAFT_RANGE},
        {"{{ 9223372036854775807 + 1 }}", GRAFT_RANGE},
        {"{{ '%999999999d' % 1 }}", GRAFT_RANGE},
        {"{% include 'a' %}", GRAFT_UNSUPPORTED},
        {"{{ raise_exception('no') }}", GRAFT_CORRUPT},
        {"\xff", GRAFT_CORRUPT},
    };
    (void)state;
    json_t *vars = json_object();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_jinja_result got;
        graft_error err = {0};
        assert_int_equal(render(cases[i].source, strlen(cases[i].source), vars, 0, &got, &err),
                         cases[i].status);
        assert_int_equal(err.status, cases[i].status);
    }
    json_decref(vars);
}

static void deep_nesting_is_refused(void **state) {
    (void)state;
    json_t *vars = json_object();
    const char *const units[] = {"(", "[", "{{", "not ", "-", "{% if 1 %}", "a.", "{% elif 1 %}"};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        gr_buf b = {0};
        gr_jinja_result got;
        gr_buf_puts(&b, units[u][0] == '{' ? (units[u][1] == '{' || u == 5 ? "" : "{% if 1 %}") : "{{ ");
        for (int i = 0; i < 20000; i++) gr_buf_puts(&b, units[u]);
        assert_int_not_equal(render(b.data, b.len, vars, 0, &got, NULL), GRAFT_OK);
        gr_buf_free(&b);
    }
    json_decref(vars);
}

/* Errors name the line. */
static void errors_name_the_line(void **state) {
    (void)state;
    json_t *vars = json_object();
    graft_error err = {0};
    gr_jinja_result got;
    const char *source = "one\ntwo\n{{ missing.field }}\n";
    assert_int_equal(render(source, strlen(source), vars, 0, &got, &err), GRAFT_CORRUPT);
    assert_string_equal(err.where, "line 3 of the chat template");
    assert_string_equal(err.what, "'missing' is undefined");
    json_decref(vars);
}

/* Rendered text, and "1" below each byte that came from messages. */
static void bytes_of_messages_are_traced(void **state) {
    static const struct {
        const char *source, *text, *data;
    } cases[] = {
        {"<{{ messages[0].content }}>", "< abc >", "0111110"},
        {"<{{ messages[0]['content'] | trim }}>", "<abc>", "01110"},
        {"{{ '<' + messages[0].content.strip() ~ '>' }}", "<abc>", "01110"},
        {"{{ messages[0].content.replace('b', 'bos') }}", " abosc ", "1100011"},
        {"{{ messages[0].content[2:4] }}", "bc", "11"},
        {"{{ messages[0].content.split('b')[0] | upper }}", " A", "11"},
        {"{% set x %}[{{ messages[0].content }}]{% endset %}{{ x | trim }}", "[ abc ]", "0111110"},
        {"{% macro f(c) %}-{{ c }}{% endmacro %}{{ f(messages[0].content) }}", "- abc ", "011111"},
        {"{{ messages[0] | tojson }}", "{\"content\": \" abc \"}", "00111111100001111100"},
        {"{{ bos_token }}{{ messages[0].content | join('.') }}", "bos .a.b.c. ", "000101010101"},
        {"{{ messages | map(attribute='content') | join('+') }}", " abc ", "11111"},
    };
    (void)state;
    json_t *vars = json_pack("{s:s, s:[{s:s}]}", "bos_token", "bos", "messages", "content", " abc ");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gr_jinja_result got;
        graft_error err = {0};
        assert_int_equal(render(cases[i].source, strlen(cases[i].source), vars, 0, &got, &err), GRAFT_OK);
        assert_string_equal(got.text.data, cases[i].text);
        for (size_t k = 0; k < got.text.len; k++)
            if (got.from_data[k] != cases[i].data[k] - '0') fail_msg("%s: byte %zu", cases[i].source, k);
        gr_jinja_result_free(&got);
    }
    json_decref(vars);
}

int main(void) {
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snippets_render_as_in_jinja2),
        cmocka_unit_test(snippets_render_so_in_any_locale),
        cmocka_unit_test(templates_render_as_in_transformers),
        cmocka_unit_test(templates_are_bounded),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(bytes_of_messages_are_traced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
