/* text/jinja and text/chat against templates and chats from an attacker: bounded steps, depth and memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "data/rows.h"
#include "hostile.h"
#include "text/chat.h"
#include <cmocka.h>

#define BIG "{% set s = 'a' * 1000000 %}{% set r = range(100000) %}"
#define DEEP(open, close)                                                                                    \
    "{% set ns = namespace(t=0) %}{% for i in range(90000) %}{% set ns.t = " open "ns.t" close               \
    " %}{% endfor %}"

/* Each would run for minutes, or out of memory or stack, if only nodes were counted. */
static const char *const templates[] = {
    "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}",
    "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{{ 'x' * 100000000000 }}",
    "{{ [1] * 100000000000 }}",
    "{{ '%99999999999d' % 1 }}",
    "{{ '{:>99999999999}'.format(1) }}",
    "{{ 7 ** 999999999999 }}",
    BIG "{% for i in r %}{{ s[0] }}{% endfor %}",
    BIG "{% for i in r %}{{ s|length }}{% endfor %}",
    BIG "{% set t = s ~ 'b' %}{% set u = s ~ 'c' %}{% for i in r %}{{ t == u }}{% endfor %}",
    BIG "{% set t = s ~ 'b' %}{% set u = s ~ 'c' %}{% for i in r %}{{ t < u }}{% endfor %}",
    BIG "{% for i in r %}{{ 'b' in s }}{% endfor %}",
    BIG "{% set t = 'a' * 1000 ~ 'b' %}{% for i in r %}{{ s.rsplit(t)|length }}{% endfor %}",
    BIG "{% for i in r %}{{ s.startswith('b') }}{{ s.find('b') }}{{ s.count('b') }}{% endfor %}",
    BIG "{% for i in r %}{{ s.isalpha() }}{{ s is lower }}{{ s.istitle() }}{% endfor %}",
    BIG "{% for i in r %}{{ s.ljust(3)|length }}{{ s.zfill(3)|length }}{{ s|wordcount }}{% endfor %}",
    "{% set s = ' ' * 1000000 %}{% for i in range(100000) %}{{ s.strip() }}{{ s|trim }}{% endfor %}",
    BIG "{% set t = 'b' * 1000 ~ 'a' %}{% for i in r %}{{ s.strip(t) }}{% endfor %}",
    BIG "{% for i in r %}{{ s|center(1)|length }}{{ s|truncate(2000000)|length }}{% endfor %}",
    BIG "{% set d = dict(r|batch(2)) %}{% for i in r %}{{ d.x }}{{ d['x'] }}{{ d.get('x') }}{% endfor %}",
    BIG "{% for i in r %}{{ r|unique|list|length }}{% endfor %}",
    BIG "{% for i in r %}{{ r|sort(reverse=true)|first }}{% endfor %}",
    BIG "{% for i in r %}{{ -1 in r }}{% endfor %}",
    "{% set p = 'a' * 1000000 %}{% set d = {p ~ 'b': 1, p ~ 'c': 2} %}{% set k = p ~ 'd' %}"
    "{% for i in range(100000) %}{{ d[k] }}{{ d.get(k) }}{{ k in d }}{% endfor %}",
    BIG
    "{% macro f() %}{{ kwargs|length }}{% endmacro %}{% set d = dict(range(30000)|map('string')|batch(2)) %}"
    "{% for i in r %}{{ f(**d) }}{% endfor %}",
    BIG "{% set t = 'a' * 500000 %}{% for i in r %}{{ s.rfind(t) }}{% endfor %}",
    BIG "{% for i in range(3) %}{{ s.replace('a', 'bb')|length }}{% endfor %}",
    DEEP("[", "]") "{% for i in r %}{{ ns.t|tojson(indent='') }}{% endfor %}",
    "{% set ns = namespace(t=range(100)|list) %}{% for i in range(500) %}{% set ns.t = [ns.t] %}{% endfor %}"
    "{% for i in range(100000) %}{{ ns.t|tojson(indent='')|length }}{% endfor %}",
    "{{ [1]|tojson(indent=9000000000000000000) }}",
    DEEP("(", ",)") "{{ {}.get(ns.t) }}",
    DEEP("[", "]") "{{ ns.t }}",
    DEEP("[", "]") "{{ ns.t|tojson }}",
    DEEP("[", "]") "{{ ns.t == [ns.t] }}{{ ns.t|string|length }}",
    DEEP("{'a': ", "}") "{{ ns.t|tojson }}{{ ns.t == {'a': ns.t} }}",
};

static void endless_templates(void **state) {
    (void)state;
    json_t *variables = json_pack("{s:[]}", "messages");
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i += HOSTILE_STEP) {
        gr_jinja *t;
        gr_jinja_result out;
        graft_error err = {0};
        double start = hostile_clock();
        assert_int_equal(gr_jinja_parse(&t, templates[i], strlen(templates[i]), &err), GRAFT_OK);
        graft_status st = gr_jinja_render(t, variables, 0, &out, &err);
        double seconds = hostile_clock() - start;
        if (seconds > HOSTILE_SECONDS) fail_msg("%s: %.1f s", templates[i], seconds);
        if (st != GRAFT_OK && (st == GRAFT_INTERNAL || st == GRAFT_NO_MEMORY || !err.what[0]))
            fail_msg("%s: %d %s", templates[i], (int)st, err.what);
        gr_jinja_result_free(&out);
        gr_jinja_free(t);
    }
    json_decref(variables);
}

/* A megabyte of lines is no attack: what a search looks at counts, not what lies behind its hit. */
static void honest_text(void **state) {
    static const char source[] =
        "{% set s = 'a line of a usual length, or somewhat longer\\n' * 20000 %}"
        "{{ s.split('\\n')|length }} {{ s.replace('\\n', ' ')|length }} {{ s.count('line') }}";
    gr_jinja *t;
    gr_jinja_result out;
    graft_error err = {0};
    (void)state;
    json_t *none = json_object();
    assert_int_equal(gr_jinja_parse(&t, source, strlen(source), &err), GRAFT_OK);
    if (gr_jinja_render(t, none, 0, &out, &err)) fail_msg("%s", err.what);
    assert_string_equal(out.text.data, "20001 900000 20000");
    gr_jinja_result_free(&out);
    gr_jinja_free(t);
    json_decref(none);
}

/* A template of a megabyte, made of one piece again and again. */
static void long_templates(void **state) {
    (void)state;
    static const char *const units[] = {"{{",   "{%",    "{#",  "{{ x }}", "{{ (((", "{% if x %}", "\n",
                                        "{{ '", "{{ 1+", "a\n", "{{ x|f",  "{{ [[[", "{% raw %}",  "{%- "};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t len;
        gr_jinja *t;
        graft_error err = {0};
        char *text = hostile_text(units[i], (size_t)1 << 20, &len);
        double start = hostile_clock();
        graft_status st = gr_jinja_parse(&t, text, len, &err);
        if (hostile_clock() - start > HOSTILE_SECONDS)
            fail_msg("%s: %.1f s", units[i], hostile_clock() - start);
        if (st != GRAFT_OK && !err.what[0]) fail_msg("%s", units[i]);
        gr_jinja_free(t);
        free(text);
    }
}

static gr_tokenizer *byte_tokenizer(const char *template) {
    graft_error err = {0};
    gr_tokenizer *tok;
    char *json, *config;
    size_t len;
    assert_int_equal(
        gr_file_read(&json, &len, GRAFT_SOURCE_DIR "/tests/data/tokenizer_bytes.json", 1 << 24, &err),
        GRAFT_OK);
    json_t *settings = json_pack("{s:s,s:s}", "eos_token", "</s>", "chat_template", template);
    config = json_dumps(settings, 0);
    if (gr_tokenizer_from_json(&tok, json, len, config, strlen(config), "bytes", &err))
        fail_msg("%s", err.what);
    json_decref(settings);
    free(config);
    free(json);
    return tok;
}

static json_t *chat_of(size_t messages) {
    json_t *list = json_array();
    for (size_t i = 0; i < messages; i++)
        json_array_append_new(list,
                              json_pack("{s:s,s:s}", "role", i % 2 ? "assistant" : "user", "content", "x"));
    return list;
}

/* Where rows that are too long are dropped such a chat is, and counted apart. */
static void dropped_where_asked(const gr_chat *chat, const gr_tokenizer *tok, const json_t *messages) {
    graft_error err = {0};
    gr_rows *rows;
    gr_rows_config config = {
        .train_on = GR_TRAIN_ASSISTANT, .overflow = GR_OVERFLOW_DROP, .max_seq_length = 1 << 24};
    json_t *row = json_pack("{s:O}", "messages", messages);
    char *text = json_dumps(row, 0);
    if (gr_rows_from_text(&rows, text, strlen(text), tok, chat, &config, &err)) fail_msg("%s", err.what);
    assert_int_equal(gr_rows_count(rows), 0);
    char *notes = gr_rows_notes(rows);
    assert_string_equal(notes, "1 chat was dropped: it is too long to find what the assistant says (line 1)");
    free(notes);
    gr_rows_free(rows);
    free(text);
    json_decref(row);
}

/* Finding what the assistant says renders the chat again for each of its messages, or looks through all
 * tokens for each of its blocks: 200,000 messages are refused, 200 are not. */
static void long_chats(void **state) {
    (void)state;
    static const char *const chats[] = {"{% for m in messages %}{{ m.role }}:{{ m.content }}</s>{% endfor %}",
                                        "{% for m in messages %}{{ m.role }}:{% generation %}{{ m.content "
                                        "}}{% endgeneration %}</s>{% endfor %}"};
    for (int i = 0; i < 4; i++) {
        bool big = i % 2;
        gr_tokenizer *tok = byte_tokenizer(chats[i / 2]);
        gr_chat *chat;
        graft_error err = {0};
        gr_ids ids = {0};
        uint8_t *mask = NULL;
        size_t count = !big ? 200 : i == 1 ? 200000 : 30000;
        json_t *messages = chat_of(count);
        assert_int_equal(gr_chat_new(&chat, tok, 0, &err), GRAFT_OK);
        double start = hostile_clock();
        graft_status st = gr_chat_encode(chat, &(gr_chat_row){.messages = messages}, GR_TRAIN_ASSISTANT, NULL,
                                         &ids, &mask, &err);
        if (hostile_clock() - start > 6 * HOSTILE_SECONDS) fail_msg("%.1f s", hostile_clock() - start);
        assert_int_equal(st, big ? GRAFT_RANGE : GRAFT_OK);
        if (big && !strstr(err.found, "000 messages")) fail_msg("%s %s", err.what, err.found);
        if (i == 3) dropped_where_asked(chat, tok, messages);
        json_decref(messages);
        gr_ids_free(&ids);
        free(mask);
        gr_chat_free(chat);
        gr_tokenizer_free(tok);
    }
}

/* Special tokens that a message spells out are looked for at each of its bytes. */
static void many_specials(void **state) {
    (void)state;
    gr_buf config = {0};
    graft_error err = {0};
    gr_tokenizer *tok;
    gr_chat *chat;
    char *json;
    size_t len;
    assert_int_equal(
        gr_file_read(&json, &len, GRAFT_SOURCE_DIR "/tests/data/tokenizer_bytes.json", 1 << 24, &err),
        GRAFT_OK);
    gr_buf_puts(&config, "{\"eos_token\":\"</s>\",\"chat_template\":\"{{ messages[0].content }}\","
                         "\"additional_special_tokens\":[");
    for (int i = 0; i < 30000; i++) gr_buf_printf(&config, "%s\"<<<<%d>\"", i ? "," : "", i);
    gr_buf_puts(&config, "]}");
    if (gr_tokenizer_from_json(&tok, json, len, config.data, config.len, "bytes", &err))
        fail_msg("%s", err.what);
    assert_int_equal(gr_tokenizer_special_at(tok, "<<<<77> and", 11), 7);
    assert_int_equal(gr_tokenizer_special_at(tok, "<<<<77> and", 6), 0);
    assert_int_equal(gr_chat_new(&chat, tok, 0, &err), GRAFT_OK);
    char *text = hostile_text("<", (size_t)256 << 10, &len);
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", text);
    gr_ids ids = {0};
    double start = hostile_clock();
    assert_int_equal(gr_chat_prompt(chat, &(gr_chat_row){.messages = messages}, &ids, &err), GRAFT_OK);
    if (hostile_clock() - start > HOSTILE_SECONDS) fail_msg("%.1f s", hostile_clock() - start);
    json_decref(messages);
    gr_ids_free(&ids);
    gr_chat_free(chat);
    gr_tokenizer_free(tok);
    gr_buf_free(&config);
    free(text);
    free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_templates), cmocka_unit_test(honest_text),
        cmocka_unit_test(long_templates),    cmocka_unit_test(long_chats),
        cmocka_unit_test(many_specials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
