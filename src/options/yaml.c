#include "options/yaml.h"
#include "options/options.h"
#include <yaml.h>

typedef struct level {
    json_t *container; /* borrowed: owned by the root */
    char *key;         /* of a mapping, once it is read */
} level;

typedef struct builder {
    json_t *root; /* NULL until the first value */
    level levels[GR_YAML_DEPTH];
    size_t depth;
    const char *name;
} builder;

static graft_status at_line(const builder *b, const yaml_mark_t *mark, graft_error *err) {
    return gr_where(err, "%s, line %zu", b->name, mark->line + 1);
}

static bool is_one_of(const char *text, const char *const *words) {
    for (; *words; words++)
        if (strcmp(text, *words) == 0) return true;
    return false;
}

/* Digits with underscores between them, as YAML 1.1 allows; the number without them in `clean`. */
static bool clean_number(const char *text, char clean[64]) {
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        if (*p == '_' && p > text) continue;
        if (n == 63 || !strchr("0123456789.eE+-", *p)) return false;
        clean[n++] = *p;
    }
    clean[n] = '\0';
    return n > 0;
}

static json_t *plain(const char *text, size_t len) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL};
    char clean[64];
    int64_t whole;
    double real;
    if (is_one_of(text, nulls)) return json_null();
    if (is_one_of(text, yes)) return json_true();
    if (is_one_of(text, no)) return json_false();
    if (!clean_number(text, clean)) return json_stringn(text, len);
    const char *digits = clean + (*clean == '-' || *clean == '+');
    bool octal = digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' && !strpbrk(clean, ".eE");
    if (octal) return json_stringn(text, len);
    if (gr_parse_int(clean, &whole)) return json_integer(whole);
    if (gr_parse_real(clean, &real)) return json_real(real);
    return json_stringn(text, len);
}

/* Puts a value where the document stands; takes over `value` also on failure. */
static graft_status put(builder *b, json_t *value, const yaml_mark_t *mark, graft_error *err) {
    if (!value) {
        gr_fail(err, GRAFT_CORRUPT, "a value is not valid text");
        return at_line(b, mark, err);
    }
    if (b->depth == 0) {
        b->root = value;
        return GRAFT_OK;
    }
    level *top = &b->levels[b->depth - 1];
    int failed = top->key ? json_object_set_new(top->container, top->key, value)
                          : json_array_append_new(top->container, value);
    free(top->key);
    top->key = NULL;
    return failed ? gr_no_memory(err, 64) : GRAFT_OK;
}

static bool wants_key(const builder *b) {
    const level *top = b->depth ? &b->levels[b->depth - 1] : NULL;
    return top && json_is_object(top->container) && !top->key;
}

static graft_status take_key(builder *b, const char *text, size_t len, const yaml_mark_t *mark,
                             graft_error *err) {
    level *top = &b->levels[b->depth - 1];
    if (json_object_get(top->container, text)) {
        gr_fail(err, GRAFT_CORRUPT, "key \"%.100s\" is there twice", text);
        return at_line(b, mark, err);
    }
    top->key = gr_strndup(text, len);
    return top->key ? GRAFT_OK : gr_no_memory(err, len);
}

static graft_status scalar(builder *b, const yaml_event_t *event, graft_error *err) {
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    if (memchr(text, 0, len)) {
        gr_fail(err, GRAFT_CORRUPT, "a NUL character in a value");
        return at_line(b, &event->start_mark, err);
    }
    if (wants_key(b)) return take_key(b, text, len, &event->start_mark, err);
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return put(b, is_plain ? plain(text, len) : json_stringn(text, len), &event->start_mark, err);
}

static graft_status open_level(builder *b, json_t *container, const yaml_mark_t *mark, graft_error *err) {
    graft_status st = GRAFT_OK;
    if (!container) return gr_no_memory(err, 64);
    if (b->depth == GR_YAML_DEPTH) {
        gr_fail(err, GRAFT_RANGE, "nested deeper than %d levels", GR_YAML_DEPTH);
        st = at_line(b, mark, err);
    } else if (wants_key(b)) {
        gr_fail(err, GRAFT_UNSUPPORTED, "a key is not plain text");
        st = at_line(b, mark, err);
    }
    if (st != GRAFT_OK) {
        json_decref(container);
        return st;
    }
    GR_TRY(put(b, container, mark, err));
    b->levels[b->depth++] = (level){.container = container};
    return GRAFT_OK;
}

/* Nothing in a configuration needs these, and they are how small files become large. */
static graft_status refuse_extras(const builder *b, const yaml_event_t *event, graft_error *err) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (!anchor && !tag && event->type != YAML_ALIAS_EVENT) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "%s in a configuration", tag ? "a tag" : "an anchor or alias");
    at_line(b, &event->start_mark, err);
    return gr_hint(err, "write the value itself");
}

static graft_status handle(builder *b, const yaml_event_t *event, graft_error *err) {
    GR_TRY(refuse_extras(b, event, err));
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (!b->root) return GRAFT_OK;
        gr_fail(err, GRAFT_UNSUPPORTED, "more than one document in a configuration");
        return at_line(b, &event->start_mark, err);
    case YAML_SCALAR_EVENT: return scalar(b, event, err);
    case YAML_SEQUENCE_START_EVENT: return open_level(b, json_array(), &event->start_mark, err);
    case YAML_MAPPING_START_EVENT: return open_level(b, json_object(), &event->start_mark, err);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: b->depth--; return GRAFT_OK;
    default: return GRAFT_OK;
    }
}

static graft_status parse_all(builder *b, yaml_parser_t *parser, graft_error *err) {
    for (bool done = false; !done;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            if (parser->error == YAML_MEMORY_ERROR) return gr_no_memory(err, 64);
            gr_fail(err, GRAFT_CORRUPT, "not valid YAML: %s",
                    parser->problem ? parser->problem : "unreadable");
            return at_line(b, &parser->problem_mark, err);
        }
        done = event.type == YAML_STREAM_END_EVENT;
        graft_status st = handle(b, &event, err);
        yaml_event_delete(&event);
        if (st != GRAFT_OK) return st;
    }
    return GRAFT_OK;
}

graft_status gr_yaml_parse(json_t **value, const char *text, size_t len, const char *name, graft_error *err) {
    *value = NULL;
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return gr_no_memory(err, sizeof parser);
    builder b = {.name = name};
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    graft_status st = parse_all(&b, &parser, err);
    yaml_parser_delete(&parser);
    while (b.depth) free(b.levels[--b.depth].key);
    if (st != GRAFT_OK) {
        json_decref(b.root);
        return st;
    }
    *value = b.root ? b.root : json_null();
    return GRAFT_OK;
}
