/* Post-processors: templates of special tokens around the ids of the text. */
#include "text/token_parts.h"

#define SEQUENCE  (-1)
#define MAX_ITEMS 64 /* of a template: each row gets them; two or three are usual */
typedef struct template {
    int32_t *items; /* ids; SEQUENCE stands for the text */
    size_t count, cap;
}
template;
struct gr_postprocessor {
    template *templates;
    size_t count, cap;
};

static graft_status add_template(gr_postprocessor *post, graft_error *err) {
    GR_TRY(gr_steps_check(post->count, "post-processor", err));
    if (!gr_grow((void **)&post->templates, &post->cap, post->count, sizeof *post->templates))
        return gr_no_memory(err, sizeof(template));
    post->templates[post->count++] = (template){0};
    return GRAFT_OK;
}

static graft_status add_item(gr_postprocessor *post, int64_t id, graft_error *err) {
    template *t = &post->templates[post->count - 1];
    if (id < SEQUENCE || id >= GR_MAX_TOKEN_ID)
        return gr_fail(err, GRAFT_RANGE, "the tokenizer's post-processor has an impossible id %lld",
                       (long long)id);
    if (t->count == MAX_ITEMS)
        return gr_fail(err, GRAFT_RANGE, "a template of the tokenizer has more than %d parts", MAX_ITEMS);
    for (size_t i = 0; id == SEQUENCE && i < t->count; i++)
        if (t->items[i] == SEQUENCE)
            return gr_fail(err, GRAFT_UNSUPPORTED, "a template of the tokenizer repeats the text");
    if (!gr_grow((void **)&t->items, &t->cap, t->count, sizeof *t->items))
        return gr_no_memory(err, sizeof *t->items);
    t->items[t->count++] = (int32_t)id;
    return GRAFT_OK;
}

/* {"SpecialToken": {"id": name}}: the ids that the template's table gives for the name. */
static graft_status add_special(gr_postprocessor *post, const json_t *node, const json_t *table,
                                graft_error *err) {
    const json_t *name = json_object_get(json_object_get(node, "SpecialToken"), "id"), *id;
    if (!json_is_string(name))
        return gr_fail(err, GRAFT_CORRUPT,
                       "a part of the tokenizer's template is neither Sequence nor SpecialToken");
    const json_t *ids = json_object_get(json_object_get(table, json_string_value(name)), "ids");
    if (!json_is_array(ids))
        return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's template uses %.60s without giving its ids",
                       json_string_value(name));
    size_t i;
    json_array_foreach(ids, i, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return gr_fail(err, GRAFT_CORRUPT, "an id in the tokenizer's template is not a number");
        GR_TRY(add_item(post, json_integer_value(id), err));
    }
    return GRAFT_OK;
}

static graft_status read_template(gr_postprocessor *post, const json_t *node, graft_error *err) {
    const json_t *single = json_object_get(node, "single"), *item;
    size_t i;
    if (!json_is_array(single))
        return gr_fail(err, GRAFT_UNSUPPORTED, "the tokenizer's template is not a list");
    GR_TRY(add_template(post, err));
    json_array_foreach(single, i, item) {
        const json_t *sequence = json_object_get(item, "Sequence");
        if (!sequence) {
            GR_TRY(add_special(post, item, json_object_get(node, "special_tokens"), err));
            continue;
        }
        const json_t *which = json_object_get(sequence, "id");
        if (!json_is_string(which) || strcmp(json_string_value(which), "A"))
            return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's template for one text uses another text");
        GR_TRY(add_item(post, SEQUENCE, err));
    }
    return GRAFT_OK;
}

/* RobertaProcessing and BertProcessing: "cls" and "sep" are [token, id]. */
static graft_status read_cls_sep(gr_postprocessor *post, const json_t *node, graft_error *err) {
    const json_t *cls = json_array_get(json_object_get(node, "cls"), 1),
                 *sep = json_array_get(json_object_get(node, "sep"), 1);
    if (!json_is_integer(cls) || !json_is_integer(sep) || json_integer_value(cls) < 0 ||
        json_integer_value(sep) < 0)
        return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's post-processor lacks cls or sep");
    GR_TRY(add_template(post, err));
    GR_TRY(add_item(post, json_integer_value(cls), err));
    GR_TRY(add_item(post, SEQUENCE, err));
    return add_item(post, json_integer_value(sep), err);
}

static graft_status read_steps(gr_postprocessor *post, const json_t *node, graft_error *err) {
    const char *type;
    GR_TRY(gr_member_string(node, "type", &type, NULL, err));
    if (!type) return gr_fail(err, GRAFT_CORRUPT, "a post-processor of the tokenizer has no type");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(node, "processors"), *item;
        size_t i;
        if (!json_is_array(list))
            return gr_fail(err, GRAFT_CORRUPT, "the tokenizer's processors are not a list");
        json_array_foreach(list, i, item) GR_TRY(read_steps(post, item, err));
        return GRAFT_OK;
    }
    if (!strcmp(type, "ByteLevel")) return GRAFT_OK; /* trims offsets only */
    if (!strcmp(type, "TemplateProcessing")) return read_template(post, node, err);
    if (!strcmp(type, "RobertaProcessing") || !strcmp(type, "BertProcessing"))
        return read_cls_sep(post, node, err);
    gr_fail(err, GRAFT_UNSUPPORTED, "the tokenizer's post-processor \"%.60s\" is not supported", type);
    return gr_expected(err, "TemplateProcessing, ByteLevel, RobertaProcessing, BertProcessing, Sequence");
}

graft_status gr_postprocessor_from_json(gr_postprocessor **post, const json_t *node, graft_error *err) {
    *post = NULL;
    if (!node || json_is_null(node)) return GRAFT_OK;
    gr_postprocessor *p = gr_calloc(1, sizeof *p);
    if (!p) return gr_no_memory(err, sizeof *p);
    graft_status st = read_steps(p, node, err);
    if (st)
        gr_postprocessor_free(p);
    else
        *post = p;
    return st;
}

void gr_postprocessor_free(gr_postprocessor *post) {
    if (!post) return;
    for (size_t i = 0; i < post->count; i++) free(post->templates[i].items);
    free(post->templates);
    free(post);
}

int32_t gr_postprocessor_max_id(const gr_postprocessor *post) {
    int32_t most = -1;
    for (size_t i = 0; post && i < post->count; i++)
        for (size_t k = 0; k < post->templates[i].count; k++)
            if (post->templates[i].items[k] > most) most = post->templates[i].items[k];
    return most;
}

static bool append(gr_ids *to, const gr_ids *from) {
    for (size_t i = 0; i < from->count; i++)
        if (!gr_ids_push(to, from->ids[i])) return false;
    return true;
}

static void swap(gr_ids *a, gr_ids *b) {
    gr_ids t = *a;
    *a = *b;
    *b = t;
}

bool gr_postprocessor_run(const gr_postprocessor *post, gr_encode_work *work) {
    for (size_t i = 0; post && i < post->count; i++) {
        const template *t = &post->templates[i];
        work->swap_ids.count = work->swap_starts.count = 0;
        for (size_t k = 0; k < t->count; k++) {
            bool ok = t->items[k] == SEQUENCE
                          ? append(&work->swap_ids, &work->ids) && append(&work->swap_starts, &work->starts)
                          : gr_ids_push(&work->swap_ids, t->items[k]) && gr_ids_push(&work->swap_starts, -1);
            if (!ok) return false;
        }
        swap(&work->ids, &work->swap_ids);
        swap(&work->starts, &work->swap_starts);
    }
    return true;
}
