/* text/chat: ids and masks against transformers and mlx-lm (tests/golden/chat_masks.json, made by
 * tools/make_chat_golden.py), and what only graft promises: typed special tokens stay text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "text/chat.h"
#include <cmocka.h>
#include <stdio.h>

static char *file_text(const char *folder, const char *name, size_t *len) {
    char path[512];
    snprintf(path, sizeof path, GRAFT_SOURCE_DIR "/tests/%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);
    if (!f || !text) fail_msg("cannot read %s", path);
    *len = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    return text;
}

/* The small byte-level tokenizer with this template (and a second one for tools, if given). */
static gr_tokenizer *tokenizer_with(const char *template, const char *tools) {
    size_t len;
    graft_error err = {0};
    char *json = file_text("data", "tokenizer_bytes.json", &len);
    json_t *config = json_pack("{s:s, s:s}", "bos_token", "<s>", "eos_token", "</s>");
    if (template && tools)
        json_object_set_new(config, "chat_template",
                            json_pack("[{s:s, s:s}, {s:s, s:s}]", "name", "default", "template", template,
                                      "name", "tool_use", "template", tools));
    else if (template)
        json_object_set_new(config, "chat_template", json_string(template));
    char *text = json_dumps(config, 0);
    gr_tokenizer *tok;
    if (gr_tokenizer_from_json(&tok, json, len, text, strlen(text), "test", &err)) fail_msg("%s", err.what);
    json_decref(config);
    free(text);
    free(json);
    return tok;
}

typedef struct bench {
    gr_tokenizer *tok;
    gr_chat *chat;
} bench;

static bench open_chat(const char *template) {
    bench b = {.tok = tokenizer_with(template, NULL)};
    graft_error err = {0};
    if (gr_chat_new(&b.chat, b.tok, 0, &err)) fail_msg("%s", err.what);
    return b;
}

static void close_chat(bench *b) {
    gr_chat_free(b->chat);
    gr_tokenizer_free(b->tok);
}

static bool same_ints(const json_t *want, const int32_t *ids, const uint8_t *mask, size_t count) {
    if (json_array_size(want) != count) return false;
    for (size_t i = 0; i < count; i++)
        if (json_integer_value(json_array_get(want, i)) != (ids ? ids[i] : mask[i])) return false;
    return true;
}

static bool same_offset(const json_t *item, const uint8_t *mask, size_t count) {
    json_int_t offset = json_integer_value(json_object_get(item, "offset"));
    if (offset < 1) offset = 1;
    for (size_t i = 0; i < count; i++)
        if (mask[i] != ((json_int_t)i >= offset)) return false;
    return true;
}

/* 1 when graft's ids and the mask of this rule are the golden ones. */
static int check(const bench *b, const json_t *file, const json_t *item, gr_train_on rule) {
    const json_t *messages =
        json_object_get(json_object_get(file, "chats"), json_string_value(json_object_get(item, "chat")));
    const json_t *tools =
        json_is_true(json_object_get(item, "tools")) ? json_object_get(file, "tools") : NULL;
    const json_t *assistant = json_object_get(item, "assistant");
    graft_error err = {0};
    gr_ids ids = {0};
    uint8_t *mask = NULL;
    graft_status st = gr_chat_encode(b->chat, &(gr_chat_row){.messages = messages, .tools = tools}, rule,
                                     NULL, &ids, &mask, &err);
    bool ok;
    bool by_offset = rule == GR_TRAIN_LAST || rule == GR_TRAIN_COMPLETION;
    if (by_offset && json_is_null(json_object_get(item, "offset")))
        ok = st == GRAFT_CORRUPT || same_ints(json_object_get(item, "ids"), ids.ids, NULL, ids.count);
    else {
        ok = st == GRAFT_OK && same_ints(json_object_get(item, "ids"), ids.ids, NULL, ids.count);
        if (ok && rule == GR_TRAIN_ASSISTANT && json_is_array(assistant))
            ok = same_ints(assistant, NULL, mask, ids.count);
        if (ok && by_offset) ok = same_offset(item, mask, ids.count);
        for (size_t i = 0; ok && rule == GR_TRAIN_ALL && i < ids.count; i++) ok = mask[i] == (i > 0);
    }
    if (!ok)
        print_error("%s, %s, tools %d, rule %d: %s\n", json_string_value(json_object_get(item, "template")),
                    json_string_value(json_object_get(item, "chat")), tools != NULL, (int)rule, err.what);
    free(mask);
    gr_ids_free(&ids);
    return ok;
}

static void ids_and_masks_are_those_of_the_others(void **state) {
    (void)state;
    size_t len, i, equal = 0, total = 0, masks = 0;
    char *text = file_text("golden", "chat_masks.json", &len);
    json_t *file = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL), *item;
    assert_non_null(file);
    json_array_foreach(json_object_get(file, "cases"), i, item) {
        char *template =
            file_text("golden/templates", json_string_value(json_object_get(item, "template")), &len);
        bench b = open_chat(template);
        for (int rule = GR_TRAIN_ALL; rule <= GR_TRAIN_LAST; rule++) {
            equal += (size_t)check(&b, file, item, (gr_train_on)rule);
            total++;
        }
        masks += json_is_array(json_object_get(item, "assistant"));
        close_chat(&b);
        free(template);
    }
    print_message("%zu of %zu encodings equal, %zu assistant masks\n", equal, total, masks);
    assert_true(masks > 60);
    assert_int_equal(equal, total);
    json_decref(file);
    free(text);
}

/* Text of the tokens that carry loss. */
static char *trained_text(const bench *b, const json_t *messages, gr_train_on rule) {
    gr_ids ids = {0}, kept = {0};
    uint8_t *mask = NULL;
    gr_buf out = {0};
    graft_error err = {0};
    if (gr_chat_encode(b->chat, &(gr_chat_row){.messages = messages}, rule, NULL, &ids, &mask, &err))
        fail_msg("%s", err.what);
    for (size_t i = 0; i < ids.count; i++)
        if (mask[i]) assert_true(gr_ids_push(&kept, ids.ids[i]));
    assert_int_equal(gr_tokenizer_decode(b->tok, kept.ids, kept.count, false, &out, &err), GRAFT_OK);
    gr_buf_puts(&out, "");
    gr_ids_free(&ids);
    gr_ids_free(&kept);
    free(mask);
    return gr_buf_take(&out);
}

/* Qwen3 renders earlier turns without their thinking: no rendering is a prefix of the next. */
static void dropped_thinking_does_not_shift_the_mask(void **state) {
    (void)state;
    size_t len;
    char *template = file_text("golden/templates", "qwen3_think.jinja", &len);
    bench b = open_chat(template);
    json_t *messages =
        json_loads("[{\"role\":\"user\",\"content\":\"a\"},"
                   "{\"role\":\"assistant\",\"content\":\"<think>\\nhm\\n</think>\\n\\nfirst answer\"},"
                   "{\"role\":\"user\",\"content\":\"c\"},"
                   "{\"role\":\"assistant\",\"content\":\"<think>\\nwell\\n</think>\\n\\nlast\"}]",
                   0, NULL);
    char *text = trained_text(&b, messages, GR_TRAIN_ASSISTANT);
    assert_string_equal(text, "first answer<|im_end|>\n<think>\nwell\n</think>\n\nlast<|im_end|>\n");
    free(text);
    text = trained_text(&b, messages, GR_TRAIN_LAST);
    assert_string_equal(text, "<think>\nwell\n</think>\n\nlast<|im_end|>\n");
    free(text);
    json_decref(messages);
    close_chat(&b);
    free(template);
}

/* The assistant speaks first under a template that cannot render nothing. */
static void a_first_assistant_message_is_masked(void **state) {
    (void)state;
    bench b = open_chat(
        "{% if messages[0].role == 'x' %}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content }}<|im_end|>{% endfor %}");
    json_t *messages =
        json_loads("[{\"role\":\"assistant\",\"content\":\"lamp\"},{\"role\":\"user\",\"content\":\"hill\"},"
                   "{\"role\":\"assistant\",\"content\":\"boat\"}]",
                   0, NULL);
    char *text = trained_text(&b, messages, GR_TRAIN_ASSISTANT);
    assert_string_equal(text, "assistant\nlamp<|im_end|><|im_start|>assistant\nboat<|im_end|>");
    free(text);
    json_decref(messages);
    close_chat(&b);
}

static size_t count_of(const gr_ids *ids, int32_t id) {
    size_t n = 0;
    for (size_t i = 0; i < ids->count; i++) n += ids->ids[i] == id;
    return n;
}

/* Each template writes `ends` times <|im_end|> around one user message. */
static void typed_special_tokens_stay_text(void **state) {
    static const struct {
        const char *template, *content;
        size_t starts, ends;
    } cases[] = {
        {"<|im_start|>{{ messages[0].content }}<|im_end|>", "a<|im_end|><|im_start|>b", 1, 1},
        {"<|im_start|>{{ messages[0].content | trim }}<|im_end|>", "  <|im_end|> <|im_end|>\n", 1, 1},
        {"{{ '<|im_start|>' + messages[0].content.replace('x', 'y') + '<|im_end|>' }}", "x<|im_end|>x", 1, 1},
        {"{{ messages[0].content.split('|sep|')[1] }}<|im_end|>", "a|sep|<|im_end|>", 0, 1},
        {"{{ messages[0] | tojson }}<|im_end|>", "<|im_end|>", 0, 1},
        {"<|im_{{ messages[0].content }}|>", "end", 0, 1}, /* the template completes it */
        {"<|{{ messages[0].role }}|>{{ messages[0].content }}", "<|im_end|>", 0, 0},
        {"{% set t %}{{ messages[0].content }}{% endset %}{{ t }}<|im_end|>", "<|im_end|>", 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench b = open_chat(cases[i].template);
        json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", cases[i].content);
        gr_ids ids = {0};
        gr_jinja_result text;
        gr_buf back = {0};
        graft_error err = {0};
        assert_int_equal(gr_chat_prompt(b.chat, &(gr_chat_row){.messages = messages}, &ids, &err), GRAFT_OK);
        assert_int_equal(count_of(&ids, gr_tokenizer_id(b.tok, "<|im_end|>")), cases[i].ends);
        assert_int_equal(count_of(&ids, gr_tokenizer_id(b.tok, "<|im_start|>")), cases[i].starts);
        assert_int_equal(gr_chat_render(b.chat, &(gr_chat_row){.messages = messages}, true, &text, &err),
                         GRAFT_OK);
        assert_int_equal(gr_tokenizer_decode(b.tok, ids.ids, ids.count, false, &back, &err), GRAFT_OK);
        assert_string_equal(back.data, text.text.data); /* nothing else changed */
        gr_buf_free(&back);
        gr_jinja_result_free(&text);
        gr_ids_free(&ids);
        json_decref(messages);
        close_chat(&b);
    }
}

static void tools_take_their_own_template(void **state) {
    (void)state;
    gr_tokenizer *tok = tokenizer_with("plain", "tools {{ tools | length }}{{ bos_token }}");
    gr_chat *chat;
    gr_jinja_result text;
    graft_error err = {0};
    json_t *messages = json_loads("[{\"role\":\"user\",\"content\":null}]", 0, NULL),
           *tools = json_loads("[1]", 0, NULL);
    assert_int_equal(gr_chat_new(&chat, tok, 0, &err), GRAFT_OK);
    assert_int_equal(
        gr_chat_render(chat, &(gr_chat_row){.messages = messages, .tools = tools}, false, &text, &err),
        GRAFT_OK);
    assert_string_equal(text.text.data, "tools 1<s>");
    gr_jinja_result_free(&text);
    assert_int_equal(gr_chat_render(chat, &(gr_chat_row){.messages = messages}, false, &text, &err),
                     GRAFT_OK);
    assert_string_equal(text.text.data, "plain");
    gr_jinja_result_free(&text);
    json_decref(messages);
    json_decref(tools);
    gr_chat_free(chat);
    gr_tokenizer_free(tok);
}

static void keys_that_are_null_are_dropped(void **state) {
    (void)state;
    bench b = open_chat(
        "{{ 'content' in messages[0] }}{{ messages[0].a is defined }}{{ tools is none }}{{ eos_token }}");
    json_t *messages = json_loads("[{\"role\":\"user\",\"content\":null,\"a\":0}]", 0, NULL);
    gr_jinja_result text;
    graft_error err = {0};
    assert_int_equal(gr_chat_render(b.chat, &(gr_chat_row){.messages = messages}, false, &text, &err),
                     GRAFT_OK);
    assert_string_equal(text.text.data, "FalseTrueTrue</s>");
    gr_jinja_result_free(&text);
    json_decref(messages);
    close_chat(&b);
}

/* One rendering as text, malloc'ed; NULL where it is refused. */
static char *rendering(const bench *b, const char *messages) {
    json_t *list = json_loads(messages, 0, NULL);
    gr_jinja_result text;
    graft_error err = {0};
    graft_status st = gr_chat_render(b->chat, &(gr_chat_row){.messages = list}, false, &text, &err);
    char *copy = st == GRAFT_OK ? strdup(text.text.data ? text.text.data : "") : NULL;
    gr_jinja_result_free(&text);
    json_decref(list);
    return copy;
}

static void expect_rendering(const bench *b, const char *messages, const char *want) {
    char *got = rendering(b, messages);
    assert_non_null(got);
    assert_string_equal(got, want);
    free(got);
}

/* transformers 5.23: {"thinking": reasoning, **message, "reasoning_content": reasoning} */
static void reasoning_has_all_its_names_in_order(void **state) {
    (void)state;
    bench b = open_chat("{{ messages[0] | list | join(' ') }}");
    expect_rendering(&b, "[{\"role\":\"a\",\"reasoning\":\"r\"}]",
                     "thinking role reasoning reasoning_content");
    expect_rendering(&b, "[{\"role\":\"a\",\"reasoning_content\":\"r\",\"x\":1}]",
                     "thinking role reasoning_content x");
    expect_rendering(&b, "[{\"role\":\"a\",\"reasoning_content\":null,\"thinking\":\"r\"}]",
                     "thinking role reasoning_content");
    expect_rendering(&b, "[{\"role\":\"a\",\"thinking\":null}]", "role");
    close_chat(&b);
}

static void set_variables(const bench *b, const char *json, graft_status want) {
    json_t *variables = json ? json_loads(json, 0, NULL) : NULL;
    graft_error err = {0};
    assert_int_equal(gr_chat_set_variables(b->chat, variables, &err), want);
    if (want != GRAFT_OK) assert_true(err.what[0] != 0);
    json_decref(variables);
}

static void variables_reach_the_template(void **state) {
    (void)state;
    const char *row = "[{\"role\":\"user\",\"content\":\"c\"}]";
    bench b = open_chat("{{ bos_token }}{{ think is defined and not think }}{{ documents }}");
    expect_rendering(&b, row, "<s>FalseNone");
    set_variables(&b, "{\"think\":false,\"bos_token\":\"[B]\",\"documents\":[{\"title\":\"T\"}]}", GRAFT_OK);
    expect_rendering(&b, row, "[B]True[{'title': 'T'}]");
    set_variables(&b, "{\"documents\":\"text\"}", GRAFT_USAGE);
    set_variables(&b, "{\"messages\":[]}", GRAFT_USAGE);
    set_variables(&b, "{\"add_generation_prompt\":true}", GRAFT_USAGE);
    expect_rendering(&b, row, "[B]True[{'title': 'T'}]");
    set_variables(&b, NULL, GRAFT_OK);
    expect_rendering(&b, row, "<s>FalseNone");
    close_chat(&b);
}

/* The trained bytes of a row, pieces separated by bars; "error" where it is refused. malloc'ed. */
static char *trained(const bench *b, const char *messages, gr_train_on rule) {
    json_t *list = json_loads(messages, 0, NULL);
    gr_ids ids = {0};
    uint8_t *mask = NULL;
    gr_buf out = {0};
    graft_error err = {0};
    assert_non_null(list);
    if (gr_chat_encode(b->chat, &(gr_chat_row){.messages = list}, rule, NULL, &ids, &mask, &err) !=
        GRAFT_OK) {
        gr_buf_printf(&out, "error: %s", err.what);
        ids.count = 0;
    }
    for (size_t i = 0; i < ids.count; i++) {
        if (mask[i] && (i == 0 || !mask[i - 1]) && out.len) gr_buf_putc(&out, '|');
        if (mask[i] && gr_tokenizer_decode(b->tok, &ids.ids[i], 1, false, &out, &err))
            fail_msg("%s", err.what);
    }
    json_decref(list);
    gr_ids_free(&ids);
    free(mask);
    if (!out.data) gr_buf_puts(&out, "");
    return gr_buf_take(&out);
}

static void expect_trained(const bench *b, const char *messages, gr_train_on rule, const char *want) {
    char *got = trained(b, messages, rule);
    assert_string_equal(got, want);
    free(got);
}

/* axolotl's "train" and OpenAI's "weight" are exceptions to the rule, and nothing that a template sees. */
static void messages_say_whether_they_train(void **state) {
    (void)state;
#define TURN(role, text, more) "{\"role\":\"" role "\",\"content\":\"" text "\"" more "}"
    static const char off[] = "[" TURN("user", "q1", "") "," TURN(
        "assistant", "a1", ",\"weight\":0") "," TURN("user", "q2", "") "," TURN("assistant", "a2", "") "]";
    static const char on[] =
        "[" TURN("user", "q1", ",\"train\":true") "," TURN("assistant", "a1", ",\"weight\":1.0") "," TURN(
            "user", "q2", "") "," TURN("assistant", "a2", ",\"train\":false,\"weight\":null") "]";
    static const char *const templates[] = {
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}.{% if m.train is defined or m.weight is "
        "defined %}LEAK{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content "
        "}}.{% endgeneration %}"
        "{% else %}{{ m.content }}.{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif "
        "%}"};
    for (size_t i = 0; i < 2; i++) {
        bench b = open_chat(templates[i]);
        expect_trained(&b, off, GR_TRAIN_ASSISTANT, "a2.");
        expect_trained(&b, off, GR_TRAIN_LAST, "a2.");
        expect_trained(&b, off, GR_TRAIN_ALL, "user>q1.<assistant>|<user>q2.<assistant>a2.");
        expect_trained(&b, on, GR_TRAIN_ASSISTANT, "user>q1.|a1.");
        expect_trained(&b, on, GR_TRAIN_LAST, "user>q1.|a1.");
        expect_rendering(&b, on, "<user>q1.<assistant>a1.<user>q2.<assistant>a2.");
        expect_trained(&b, "[" TURN("user", "q", ",\"weight\":0.5") "]", GR_TRAIN_ALL,
                       "error: \"weight\" of a message has a value that is not used");
        expect_trained(&b, "[" TURN("user", "q", ",\"train\":\"yes\"") "]", GR_TRAIN_ALL,
                       "error: \"train\" of a message has a value that is not used");
        expect_trained(&b, "[" TURN("user", "q", ",\"train\":true,\"weight\":0") "]", GR_TRAIN_ALL,
                       "error: \"train\" and \"weight\" of a message contradict");
        close_chat(&b);
    }
    bench b = open_chat("{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% "
                        "endif %}{% endfor %}");
    expect_trained(
        &b,
        "[" TURN("user", "q", "") "," TURN("system", "s", ",\"train\":true") "," TURN("user", "r", "") "]",
        GR_TRAIN_ASSISTANT,
        "error: a message that says whether to train on it leaves no trace in the rendering");
    close_chat(&b);
#undef TURN
}

/* Mistral's newer templates: the system's text stands before the last user's, so that no rendering of a part
 * is a prefix of the whole. What the user says must not be trained for it. */
static void a_system_text_that_moves_does_not_shift_the_mask(void **state) {
    (void)state;
    bench b = open_chat("{% set last = messages | selectattr('role', 'equalto', 'user') | list | last %}"
                        "{% for m in messages %}{% if m.role == 'user' %}[I]{% if m == last and "
                        "messages[0].role == 'system' %}"
                        "{{ messages[0].content }};{% endif %}{{ m.content }}[/I]{% elif m.role == "
                        "'assistant' %}{{ m.content }}."
                        "{% endif %}{% endfor %}");
    static const char turns[] =
        "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"one\"},"
        "{\"role\":\"assistant\",\"content\":\"an\"},{\"role\":\"user\",\"content\":\"two\"},"
        "{\"role\":\"assistant\",\"content\":\"bn\"}]";
    expect_rendering(&b, turns, "[I]one[/I]an.[I]s;two[/I]bn.");
    expect_trained(&b, turns, GR_TRAIN_ASSISTANT, "an.|bn.");
    close_chat(&b);
    b = open_chat(
        "{% for role, own in messages | groupby('role') %}#{{ role }}{{ own | length }}{% endfor %}"
        "{% for m in messages %}<{{ m.role | upper }}>{{ m.content }}.{% endfor %}"
        "{% if add_generation_prompt %}<ASSISTANT>{% endif %}"); /* names of later turns at the start */
    expect_trained(&b, turns, GR_TRAIN_ASSISTANT, "an.|bn.");
    close_chat(&b);
}

static void what_cannot_be_done_is_refused(void **state) {
    (void)state;
    gr_tokenizer *tok = tokenizer_with(NULL, NULL);
    gr_chat *chat;
    graft_error err = {0};
    assert_int_equal(gr_chat_new(&chat, tok, 0, &err), GRAFT_NOT_FOUND);
    assert_true(err.hint[0] != 0);
    gr_tokenizer_free(tok);

    bench b = open_chat("{{ messages[0].role }}");
    const char *const bad[] = {"{}", "[1]", "[[]]", "\"x\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *messages = json_loads(bad[i], JSON_DECODE_ANY, NULL);
        gr_ids ids = {0};
        gr_error_clear(&err);
        assert_int_equal(gr_chat_prompt(b.chat, &(gr_chat_row){.messages = messages}, &ids, &err),
                         GRAFT_CORRUPT);
        gr_ids_free(&ids);
        json_decref(messages);
    }
    json_t *none = json_array();
    gr_ids ids = {0};
    uint8_t *mask = NULL;
    gr_error_clear(&err);
    assert_int_equal(
        gr_chat_encode(b.chat, &(gr_chat_row){.messages = none}, GR_TRAIN_LAST, NULL, &ids, &mask, &err),
        GRAFT_CORRUPT);
    free(mask);
    gr_ids_free(&ids);
    json_decref(none);
    close_chat(&b);
}

/* Two rows into one list: the mask grows with the ids. */
static void rows_are_appended(void **state) {
    (void)state;
    bench b = open_chat("{{ messages[0].content }}");
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "The lamp on the hill");
    gr_ids ids = {0};
    uint8_t *mask = NULL;
    graft_error err = {0};
    assert_int_equal(
        gr_chat_encode(b.chat, &(gr_chat_row){.messages = messages}, GR_TRAIN_ALL, NULL, &ids, &mask, &err),
        GRAFT_OK);
    size_t n = ids.count;
    assert_int_equal(
        gr_chat_encode(b.chat, &(gr_chat_row){.messages = messages}, GR_TRAIN_ALL, NULL, &ids, &mask, &err),
        GRAFT_OK);
    assert_int_equal(ids.count, 2 * n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(ids.ids[i], ids.ids[n + i]);
        assert_int_equal(mask[i], i > 0);
        assert_int_equal(mask[n + i], i > 0);
    }
    free(mask);
    gr_ids_free(&ids);
    json_decref(messages);
    close_chat(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_and_masks_are_those_of_the_others),
        cmocka_unit_test(dropped_thinking_does_not_shift_the_mask),
        cmocka_unit_test(a_first_assistant_message_is_masked),
        cmocka_unit_test(typed_special_tokens_stay_text),
        cmocka_unit_test(tools_take_their_own_template),
        cmocka_unit_test(keys_that_are_null_are_dropped),
        cmocka_unit_test(reasoning_has_all_its_names_in_order),
        cmocka_unit_test(variables_reach_the_template),
        cmocka_unit_test(messages_say_whether_they_train),
        cmocka_unit_test(a_system_text_that_moves_does_not_shift_the_mask),
        cmocka_unit_test(what_cannot_be_done_is_refused),
        cmocka_unit_test(rows_are_appended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
