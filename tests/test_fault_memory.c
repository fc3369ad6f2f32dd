/* The n-th allocation fails, for n = 1, 2, .. until a call of the library makes fewer: each time it says so
 * and gives every block back. FAULT_POINTS is the most points per call (a few by default; 0: all). */
#include "chat/request.h"
#include "hub/hub_list.h"
#include "model/locate.h"
#include "tests/fault_shim.h"
#include "tests/serve_once.h"
#include "tests/tiny_gguf.h"
#include "tests/tiny_run.h"
#include "text/spm_model.h"
#include "text/tokenizer.h"
#include <errno.h>

static char *base, *plain, *adapter, *gguf_file, *gguf_adapter, *place;
static char adapter_named[600];

typedef struct call {
    const char *name;
    graft_status (*make)(graft_error *err);
} call;

/* False: no memory. */
static bool options(graft_options *o, graft_verb verb, const char *const *pairs) {
    graft_options_init(o);
    for (; pairs[0]; pairs += 2)
        if (graft_options_set(o, verb, pairs[0], strcmp(pairs[1], "-") ? pairs[1] : NULL, NULL) != GRAFT_OK)
            return false;
    return true;
}

static graft_status make_plan(graft_error *err) {
    graft_options o;
    graft_plan plan = {0};
    bool set = options(&o, GRAFT_VERB_PLAN,
                       (const char *const[]){"model", base, "threads", "1", "max-seq-length", "32", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_plan_make(&o, NULL, &plan, err);
    graft_plan_free(&plan);
    graft_options_free(&o);
    return st;
}

static graft_status make_convert(graft_error *err) {
    graft_options o;
    graft_convert_result result = {0};
    char *out = gr_path_join(place, "made");
    if (!out) return gr_no_memory(err, 0);
    bool set = options(&o, GRAFT_VERB_CONVERT,
                       (const char *const[]){"model", plain, "mlx-path", out, "quantize", "-", "q-group-size",
                                             "32", "threads", "1", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_convert(&o, NULL, &result, err);
    graft_convert_result_free(&result);
    graft_options_free(&o);
    free(out);
    return st;
}

static graft_status make_train(graft_error *err) {
    graft_options o;
    char *out = gr_path_join(place, "run");
    if (!out) return gr_no_memory(err, 0);
    bool set = options(&o, GRAFT_VERB_TRAIN,
                       (const char *const[]){"model",     base, "data",       data, "adapter-path", out,
                                             "iters",     "2",  "save-every", "1",  "batch-size",   "2",
                                             "lora-rank", "2",  "threads",    "2",  "keep-best",    "-",
                                             "resume",    "-",  NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_train(&o, NULL, NULL, err);
    graft_options_free(&o);
    free(out);
    return st;
}

static graft_status make_preferences(graft_error *err) {
    graft_options o;
    char *out = gr_path_join(place, "run"), *pairs = gr_path_join(place, "pairs.jsonl");
    if (!out || !pairs) {
        free(pairs);
        free(out);
        return gr_no_memory(err, 0);
    }
    bool set = options(&o, GRAFT_VERB_TRAIN,
                       (const char *const[]){"model", base, "data", pairs, "adapter-path", out, "loss", "dpo",
                                             "iters", "2", "batch-size", "2", "threads", "1", "valid-split",
                                             "0.3", "resume-adapter-file", adapter, NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_train(&o, NULL, NULL, err);
    graft_options_free(&o);
    free(pairs);
    free(out);
    return st;
}

static graft_status make_trainer(graft_error *err) {
    graft_options o;
    graft_trainer *t = NULL;
    char *out = gr_path_join(place, "own");
    if (!out) return gr_no_memory(err, 0);
    bool set = options(&o, GRAFT_VERB_TRAIN,
                       (const char *const[]){"model", plain, "data", data, "iters", "2", "batch-size", "2",
                                             "lora-rank", "2", "threads", "1", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_trainer_open(&t, &o, NULL, err);
    if (st == GRAFT_OK) st = graft_trainer_freeze(t, false, err);
    if (st == GRAFT_OK) st = graft_trainer_step(t, NULL, err);
    if (st == GRAFT_OK) st = graft_trainer_save(t, out, err);
    graft_trainer_free(t);
    graft_options_free(&o);
    free(out);
    return st;
}

static graft_status make_eval(graft_error *err) {
    graft_options o;
    graft_eval_result result = {0};
    bool set =
        options(&o, GRAFT_VERB_EVAL,
                (const char *const[]){"model", base, "data", data, "threads", "1", "per-row", "-", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_eval(&o, NULL, &result, err);
    graft_eval_result_free(&result);
    graft_options_free(&o);
    return st;
}

static graft_status make_generate(graft_error *err) {
    graft_options o;
    graft_generation result = {0};
    bool set = options(&o, GRAFT_VERB_GENERATE,
                       (const char *const[]){"model", base, "prompt", "one two", "max-tokens", "3", "threads",
                                             "1", "stop", "seven", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_generate(&o, NULL, &result, NULL, err);
    graft_generation_free(&result);
    graft_options_free(&o);
    return st;
}

static void on_row(void *user, const graft_row *row) {
    (void)user;
    (void)row;
}

static graft_status make_tokenize(graft_error *err) {
    graft_options o;
    char *file = gr_path_join(data, "train.jsonl");
    if (!file) return gr_no_memory(err, 0);
    bool set = options(&o, GRAFT_VERB_TOKENIZE, (const char *const[]){"model", base, "data", file, NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_tokenize(&o, NULL, on_row, NULL, err);
    graft_options_free(&o);
    free(file);
    return st;
}

static graft_status make_render(graft_error *err) {
    graft_options o;
    char *file = gr_path_join(place, "messages.json");
    if (!file) return gr_no_memory(err, 0);
    bool set = options(&o, GRAFT_VERB_TOKENIZE,
                       (const char *const[]){"model", base, "messages", file, "render", "-", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_tokenize(&o, NULL, on_row, NULL, err);
    graft_options_free(&o);
    free(file);
    return st;
}

static graft_status make_yaml(graft_error *err) {
    graft_options o;
    char *file = gr_path_join(place, "lora.yaml");
    if (!file) return gr_no_memory(err, 0);
    graft_options_init(&o);
    graft_status st = graft_options_load_yaml(&o, file, NULL, err);
    char *text = st == GRAFT_OK ? graft_options_text(&o, GRAFT_VERB_TRAIN) : NULL;
    if (st == GRAFT_OK && !text) st = gr_no_memory(err, 0);
    free(text);
    graft_options_free(&o);
    free(file);
    return st;
}

static graft_status make_export(graft_error *err) {
    graft_options o;
    graft_export_result result = {0};
    char *out = gr_path_join(place, "made");
    if (!out) return gr_no_memory(err, 0);
    bool set = options(&o, GRAFT_VERB_EXPORT,
                       (const char *const[]){"model", base, "adapter-path", adapter, "to", "mlx,peft,gguf",
                                             "out", out, NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_export(&o, NULL, &result, err);
    graft_export_result_free(&result);
    graft_options_free(&o);
    free(out);
    return st;
}

static graft_status make_fuse(graft_error *err) {
    graft_options o;
    graft_fuse_result result;
    char *out = gr_path_join(place, "made");
    if (!out) return gr_no_memory(err, 0);
    bool set = options(&o, GRAFT_VERB_FUSE,
                       (const char *const[]){"model", base, "adapter-path", adapter, "save-path", out, "data",
                                             data, "split", "valid", "threads", "1", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_fuse(&o, NULL, &result, err);
    graft_options_free(&o);
    free(out);
    return st;
}

static graft_status make_fuse_gguf(graft_error *err) {
    graft_options o;
    graft_fuse_result result;
    char *out = gr_path_join(place, "made.gguf");
    if (!out) return gr_no_memory(err, 0);
    bool set = options(&o, GRAFT_VERB_FUSE,
                       (const char *const[]){"model", gguf_file, "adapter-path", gguf_adapter, "save-path",
                                             out, "threads", "1", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_fuse(&o, NULL, &result, err);
    graft_options_free(&o);
    free(out);
    return st;
}

static graft_status make_info(graft_error *err) {
    char *json = NULL;
    graft_status st = graft_info(base, &json, err);
    free(json);
    return st;
}

static graft_status make_gguf_info(graft_error *err) {
    char *json = NULL;
    graft_status st = graft_info(GRAFT_SOURCE_DIR "/tests/data/tokenizer_smol.gguf", &json, err);
    free(json);
    return st;
}

static graft_status use_tokenizer(const char *json, size_t len, graft_error *err) {
    static const char text[] = " lamp n\xcc\x83 \xef\xac\x81 <s> \xf0\x9f\x91\x8d\n";
    gr_tokenizer *tok = NULL;
    gr_ids ids = {0};
    gr_buf out = {0};
    graft_status st = gr_tokenizer_from_json(&tok, json, len, NULL, 0, "tokenizer", err);
    if (!st) st = gr_tokenizer_encode(tok, text, sizeof text - 1, 3, &ids, err);
    if (!st) st = gr_tokenizer_decode(tok, ids.ids, ids.count, true, &out, err);
    if (!st) st = gr_tokenizer_to_json(tok, &out, err);
    gr_ids_free(&ids);
    gr_buf_free(&out);
    gr_tokenizer_free(tok);
    return st;
}

static graft_status make_unigram(graft_error *err) {
    char *text;
    size_t len;
    GR_TRY(gr_file_read(&text, &len, GRAFT_SOURCE_DIR "/tests/data/tokenizer_unigram.json", 1 << 20, err));
    graft_status st = use_tokenizer(text, len, err);
    free(text);
    return st;
}

static graft_status make_spm(graft_error *err) {
    static const char config[] = "{\"tokenizer_class\":\"GemmaTokenizer\",\"add_bos_token\":true}";
    char *bytes;
    size_t len;
    gr_buf json = {0};
    GR_TRY(gr_file_read(&bytes, &len, GRAFT_SOURCE_DIR "/fuzz/corpus/spm/gemma", 1 << 20, err));
    graft_status st = gr_spm_to_json(&json, bytes + 1, len - 1, config, sizeof config - 1, err);
    if (!st) st = use_tokenizer(json.data, json.len, err);
    gr_buf_free(&json);
    free(bytes);
    return st;
}

static graft_status make_hub_list(graft_error *err) {
    char *bytes;
    size_t len;
    gr_hub_list list = {0};
    GR_TRY(gr_file_read(&bytes, &len, GRAFT_SOURCE_DIR "/fuzz/corpus/hub_list/model", 1 << 20, err));
    graft_status st = gr_hub_list_read(&list, bytes, len, err);
    if (!st) st = gr_hub_list_choose(&list, "*.json,*.safetensors", err);
    gr_hub_list_free(&list);
    free(bytes);
    return st;
}

static graft_status make_locate(graft_error *err) {
    char *path = NULL;
    bool gguf;
    graft_status st = gr_model_locate(&path, &gguf, "me/tiny", err);
    free(path);
    return st;
}

static graft_status make_chat(graft_error *err) {
    graft_options o;
    graft_chat *chat = NULL;
    graft_answer answer = {0};
    char *out = gr_path_join(place, "talk.jsonl");
    if (!out) return gr_no_memory(err, 0);
    bool set = options(&o, GRAFT_VERB_CHAT,
                       (const char *const[]){"model", base, "system-prompt", "be", "stop", "z", "max-tokens",
                                             "3", "threads", "1", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : graft_chat_open(&chat, &o, NULL, err);
    if (st == GRAFT_OK) st = graft_chat_say(chat, "one", NULL, &answer, err);
    graft_answer_free(&answer);
    if (st == GRAFT_OK) st = graft_chat_use(chat, adapter, NULL, err);
    if (st == GRAFT_OK) st = graft_chat_say(chat, "two", NULL, &answer, err);
    if (st == GRAFT_OK) st = graft_chat_save(chat, out, err);
    graft_answer_free(&answer);
    graft_chat_close(chat);
    graft_options_free(&o);
    free(out);
    return st;
}

static graft_status make_ask(graft_error *err) {
    static const char json[] =
        "{\"messages\": [{\"role\": \"system\", \"content\": \"be\"}, {\"role\": \"user\", "
        "\"content\": [{\"type\": \"text\", \"text\": \"a\"}]}], \"stop\": [\"x\", \"yy\"]}";
    graft_options defaults = {0};
    gr_refusal why = {0};
    gr_request ask;
    bool read = gr_request_read(&ask, true, json, sizeof json - 1, &defaults, &why);
    gr_request_free(&ask);
    return read ? GRAFT_OK
                : gr_fail(err, why.status == 503 ? GRAFT_NO_MEMORY : GRAFT_CORRUPT, "%s", why.message);
}

static graft_status serve(const char *fields, const char *batch, graft_error *err) {
    graft_options o;
    graft_serve_result r = {0};
    const char *answer = NULL;
    bool set = options(&o, GRAFT_VERB_SERVE,
                       (const char *const[]){"model", base, "port", "0", "threads", "1", "max-seq-length",
                                             "200", "batch-size", batch, "adapter", adapter_named,
                                             "allow-host", "me", "stop", "zz", NULL});
    graft_status st = !set ? gr_no_memory(err, 0) : serve_for_once(&o, fields, &answer, &r, err);
    graft_options_free(&o);
    if (st != GRAFT_OK) return st;
    if (r.requests != r.answers + r.refused + r.left + r.cut || r.cut || r.requests > 1)
        return gr_fail(err, GRAFT_INTERNAL, "%d requests, %d answers, %d refused, %d left, %d cut",
                       (int)r.requests, (int)r.answers, (int)r.refused, (int)r.left, (int)r.cut);
    bool streams = strstr(fields, "true") != NULL, good = strstr(answer, " 200 ") != NULL,
         whole = good && strstr(answer, streams ? "data: [DONE]" : "finish_reason"),
         ended = streams && strstr(answer, "\r\n0\r\n\r\n");
    if (whole != (r.answers == 1) || (good && !streams && !whole) ||
        (ended && !whole && !strstr(answer, "\"error\"")))
        return gr_fail(err, GRAFT_INTERNAL, "%d answers: %.150s", (int)r.answers, answer);
    /* without memory a client may see anything but half an answer that looks whole */
    return whole ? GRAFT_OK : gr_no_memory(err, 0);
}

static graft_status make_serve(graft_error *err) {
    return serve("\"max_tokens\": 3", "2", err);
}

static graft_status make_stream(graft_error *err) {
    return serve(
        "\"max_tokens\": 3, \"temperature\": 1, \"stream\": true, \"stream_options\": {\"include_usage\": "
        "true}",
        "8", err);
}

static const call calls[] = {
    {"serve", make_serve},         {"serve stream", make_stream},
    {"chat", make_chat},           {"ask", make_ask},
    {"plan", make_plan},           {"convert", make_convert},
    {"train", make_train},         {"train dpo", make_preferences},
    {"trainer", make_trainer},     {"eval", make_eval},
    {"generate", make_generate},   {"tokenize", make_tokenize},
    {"render", make_render},       {"load_yaml", make_yaml},
    {"info", make_info},           {"info gguf", make_gguf_info},
    {"unigram", make_unigram},     {"spm", make_spm},
    {"hub_list", make_hub_list},   {"locate", make_locate},
    {"export", make_export},       {"fuse", make_fuse},
    {"fuse gguf", make_fuse_gguf},
};

/* What the calls write is removed between them: each begins anew. */
static void forget_all(void) {
    static const char *const names[] = {"made", "run", "own"};
    for (size_t i = 0; i < 3; i++) {
        char *path = tiny_join(place, names[i]);
        tiny_delete(path);
        free(path);
    }
    char *file = tiny_join(place, "made.gguf");
    unlink(file);
    free(file);
}

/* One point: 0 good, 1 bad, -1: there were fewer of the kind. */
static int point(const call *c, fault_kind kind, long n, bool later) {
    graft_error err = {0};
    forget_all();
    long before = fault_live();
    fault_arm(kind, n, later, kind == FAULT_ALLOC ? ENOMEM : EAGAIN);
    graft_status st = c->make(&err);
    bool struck = fault_struck();
    fault_arm(kind, 0, false, 0);
    long leaked = fault_live() - before;
    if (leaked != 0) print_error("%s, call %ld: %ld blocks leaked\n", c->name, n, leaked);
    if (st != GRAFT_OK && (st != err.status || !err.what[0] || !struck))
        print_error("%s, call %ld: status %d, error %d: %s\n", c->name, n, st, err.status, err.what);
    bool bad = leaked != 0 || (st != GRAFT_OK && (st != err.status || !err.what[0] || !struck));
    return bad ? 1 : struck ? 0 : -1;
}

static void every_allocation(void **state) {
    (void)state;
    const char *text = getenv("FAULT_POINTS"), *only = getenv("FAULT_COMMAND"),
               *first = getenv("FAULT_FIRST");
    long most = text ? strtol(text, NULL, 10) : 40, points = 0, failed = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (only && strcmp(only, calls[i].name) != 0) continue;
        graft_error err = {0};
        forget_all();
        if (calls[i].make(&err) != GRAFT_OK) /* what libraries make once is there now */
            fail_msg("%s: %s, %s", calls[i].name, err.what, err.where);
        long total = 1, step;
        if (!first)
            while (point(&calls[i], FAULT_ALLOC, total, true) == 0) total *= 2;
        step = most && total > most ? total / most : 1;
        for (long n = first ? strtol(first, NULL, 10) : 1;; n += step) {
            int result = point(&calls[i], FAULT_ALLOC, n, n % 2 == 0);
            if (result < 0) break;
            points++;
            failed += result;
        }
    }
    printf("%ld allocations failed, %ld of them badly\n", points, failed);
    assert_int_equal(failed, 0);
}

/* A server has several, and the last that cannot be started finds the others running. */
static void every_thread(void **state) {
    (void)state;
    static const call servers[] = {{"serve", make_serve}, {"chat", make_chat}};
    for (size_t i = 0; i < 2; i++) {
        graft_error err = {0};
        if (servers[i].make(&err) != GRAFT_OK) fail_msg("%s: %s", servers[i].name, err.what);
        for (long n = 1;; n++) {
            int result = point(&servers[i], FAULT_THREAD, n, false);
            if (result < 0) break;
            assert_int_equal(result, 0);
        }
    }
}

static int make_place(void **state) {
    (void)state;
    root = place = tiny_temp();
    data = tiny_data_dir(place, "data", 13, 5);
    base = tiny_model_dir(place, "base", &(tiny_spec){.bits = 4});
    plain = tiny_model_dir(place, "plain", &(tiny_spec){.dtype = GR_BF16});
    must_train(base, "adapter", NULL, NULL, NULL);
    adapter = tiny_join(place, "adapter");
    snprintf(adapter_named, sizeof adapter_named, "it=%s", adapter);
    gguf_file = tiny_join(place, "g.gguf");
    gguf_adapter = tiny_join(place, "gguf");
    tiny_gguf_write(place, "g.gguf");
    tiny_gguf_adapter(gguf_file, gguf_adapter);
    setenv("XDG_CACHE_HOME", place, 1);
    char *hub = tiny_subdir(place, "hub"), *repository = tiny_subdir(hub, "models--me--tiny"),
         *refs = tiny_subdir(repository, "refs"), *snapshots = tiny_subdir(repository, "snapshots"),
         *snapshot = tiny_subdir(snapshots, "c0ffee");
    tiny_write(refs, "main", "c0ffee");
    tiny_write(snapshot, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"a.safetensors\"}}");
    tiny_write(snapshot, "config.json", "{}");
    setenv("HF_HUB_CACHE", hub, 1);
    free(snapshot);
    free(snapshots);
    free(refs);
    free(repository);
    free(hub);
    tiny_write(place, "messages.json", "[{\"role\": \"user\", \"content\": \"one\"}]");
    tiny_write(place, "pairs.jsonl",
               "{\"prompt\": \"one\", \"chosen\": \" two\", \"rejected\": \" no\"}\n"
               "{\"prompt\": \"two\", \"chosen\": \" three\", \"rejected\": \" seven\"}\n"
               "{\"prompt\": \"three\", \"chosen\": \" four\", \"rejected\": \" one\"}\n"
               "{\"prompt\": \"four\", \"chosen\": \" five\", \"rejected\": \" two\"}\n");
    tiny_write(place, "lora.yaml",
               "model: m\nbatch_size: 2\nlora_parameters:\n  rank: 4\n  scale: 2.0\n  dropout: 0.0\n"
               "lr_schedule:\n  name: cosine_decay\n  warmup: 3\n  arguments: [1e-4, 10]\n");
    return 0;
}

static int remove_place(void **state) {
    (void)state;
    free(data);
    free(base);
    free(plain);
    free(adapter);
    free(gguf_file);
    free(gguf_adapter);
    tiny_remove(place);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation), cmocka_unit_test(every_thread)};
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
