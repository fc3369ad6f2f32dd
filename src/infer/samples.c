/* infer/samples.c - what base and adapter say to the same prompts, kept beside the adapter as samples.json.
 */
#include "files/json_read.h"
#include "files/json_write.h"
#include "files/jsonl.h"
#include "infer/session.h"

typedef struct answers {
    json_t *list; /* of objects, in the order of the lines */
    const char *key;
    size_t at;
    bool good;
} answers;

static void on_answer(void *user, uint64_t line, const graft_generation *answer) {
    answers *a = user;
    json_t *sample = json_array_get(a->list, a->at++);
    (void)line;
    /* an answer may end in the middle of a character */
    json_t *text = gr_json_utf8(answer->text) ? json_string(answer->text) : json_string("(not UTF-8)");
    gr_json_put(&a->good, sample, a->key, text);
}

/* What was asked, for people: a prompt, or the messages one below the other. */
static json_t *prompt_of(const json_t *line) {
    const json_t *text = json_is_string(line) ? line : json_object_get(line, "prompt"), *message;
    const json_t *messages = json_object_get(line, "messages");
    gr_buf all = {0};
    size_t i;
    if (json_is_string(text)) return json_string(json_string_value(text));
    json_array_foreach((json_t *)(uintptr_t)messages, i, message) {
        const char *role = json_string_value(json_object_get(message, "role"));
        const char *content = json_string_value(json_object_get(message, "content"));
        gr_buf_printf(&all, "%s%s: %s", i ? "\n" : "", role ? role : "?", content ? content : "");
    }
    json_t *joined = all.failed ? NULL : json_string(all.data ? all.data : "");
    gr_buf_free(&all);
    return joined;
}

static graft_status read_prompts(answers *a, const char *path, graft_error *err) {
    gr_jsonl *file;
    graft_status st = GRAFT_OK;
    GR_TRY(gr_jsonl_open_as(&file, path, GR_IN_MEMORY, err));
    for (size_t i = 0; i < gr_jsonl_count(file) && st == GRAFT_OK; i++) {
        const char *text;
        size_t len;
        uint64_t number;
        json_error_t why;
        gr_jsonl_row(file, i, &text, &len, &number);
        st = gr_json_fits(text, len, GR_ROW_LIMIT, err);
        json_t *line = st == GRAFT_OK ? gr_json_loadb(text, len, JSON_DECODE_ANY, &why) : NULL;
        json_t *sample = json_object();
        gr_json_put(&a->good, sample, "prompt", line ? prompt_of(line) : json_string(""));
        gr_json_append(&a->good, a->list, sample);
        json_decref(line);
    }
    gr_jsonl_close(file);
    return st;
}

/* taught: whose template variables the prompts have. */
static graft_status answer_all(answers *a, const char *key, const char *model_dir, const graft_options *o,
                               const char *taught, const graft_hooks *hooks, graft_error *err) {
    graft_generation total;
    a->key = key;
    a->at = 0;
    GR_TRY(gr_generate_batch(model_dir, o, taught, hooks, on_answer, a, &total, err));
    return a->good ? GRAFT_OK : gr_no_memory(err, 0);
}

graft_status gr_samples_save(const char *model_dir, const graft_options *o, const graft_hooks *hooks,
                             graft_error *err) {
    answers a = {.list = json_array(), .good = true};
    gr_adapter_record record = {0};
    graft_options plain = *o; /* borrows everything */
    plain.adapter_path = NULL;
    json_t *all = json_object();
    char *path = gr_path_join(o->adapter_path, "samples.json");
    graft_status st;
    GR_GOTO(a.list && all && path ? GRAFT_OK : gr_no_memory(err, 0));
    GR_GOTO(gr_adapter_record_read(&record, o->adapter_path, err));
    GR_GOTO(read_prompts(&a, o->prompts, err));
    GR_GOTO(answer_all(&a, "base", model_dir, &plain, o->adapter_path, hooks, err));
    GR_GOTO(answer_all(&a, "adapter", model_dir, o, o->adapter_path, hooks, err));
    gr_json_put(&a.good, all, "iteration", json_integer(record.iteration));
    gr_json_put(&a.good, all, "samples", json_incref(a.list));
    st = a.good ? gr_json_save(path, all, err) : gr_no_memory(err, 0);
done:
    gr_adapter_record_free(&record);
    json_decref(all);
    json_decref(a.list);
    free(path);
    return st;
}
