/* cmd_info.c - what is in a file or directory: the library's document, or the same for people. */
#include "json_out.h"
#include <stdlib.h>
#include <string.h>

static bool is_scalar(const json_t *value) {
    return !json_is_object(value) && !json_is_array(value);
}

/* Bytes of a text that are shown: a long chat template. --json has all. */
enum { SHOWN = 32768 };

static void print_string(const cli *c, const char *text, size_t n) {
    size_t shown = n < SHOWN ? n : SHOWN;
    out_buf count;
    while (shown < n && shown && ((unsigned char)text[shown] & 0xc0) == 0x80) shown--; /* a whole character */
    out_text(stdout, text, shown, c->stream);
    if (shown < n) printf(" ... (%s bytes in all)", out_count(&count, (int64_t)n));
}

/* Takes no memory, so that nothing can be missing in the middle of a text. */
static void print_scalar(const cli *c, const json_t *value) {
    if (json_is_string(value)) {
        print_string(c, json_string_value(value), json_string_length(value));
    } else if (json_is_integer(value)) {
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        char text[32];
        snprintf(text, sizeof text, "%.6g", json_real_value(value));
        printf("%s%s", text, strpbrk(text, ".e") ? "" : ".0");
    } else {
        fputs(json_is_null(value) ? "null" : json_is_true(value) ? "true" : "false", stdout);
    }
}

/* Objects and arrays of scalars fit on one line: [576, 1536]; name bf16 [..] */
static void print_inline(const cli *c, const json_t *value) {
    const char *key;
    const json_t *item;
    size_t i;
    if (json_is_array(value)) {
        putchar('[');
        json_array_foreach(value, i, item) {
            if (i) fputs(", ", stdout);
            print_inline(c, item);
        }
        putchar(']');
    } else if (json_is_object(value)) {
        bool first = true;
        json_object_foreach((json_t *)(uintptr_t)value, key, item) {
            if (!first) fputs("  ", stdout);
            if (strcmp(key, "name") != 0) {
                out_text(stdout, key, strlen(key), c->stream);
                putchar(' ');
            }
            print_inline(c, item);
            first = false;
        }
    } else {
        print_scalar(c, value);
    }
}

static bool all_scalar(const json_t *array) {
    size_t i;
    const json_t *item;
    json_array_foreach(array, i, item) if (!is_scalar(item)) return false;
    return true;
}

static void print_object(const cli *c, json_t *object, int indent) {
    const char *key;
    json_t *value, *item;
    size_t i;
    json_object_foreach(object, key, value) {
        printf("%*s", indent, "");
        out_text(stdout, key, strlen(key), c->stream);
        if (json_is_object(value)) {
            puts(":");
            print_object(c, value, indent + 2);
        } else if (json_is_array(value) && !all_scalar(value)) {
            printf(": %zu\n", json_array_size(value));
            json_array_foreach(value, i, item) {
                printf("%*s", indent + 2, "");
                print_inline(c, item);
                putchar('\n');
            }
        } else {
            fputs(": ", stdout);
            print_inline(c, value);
            putchar('\n');
        }
    }
}

int cmd_info(cli *c) {
    const char *path = c->words_count ? c->words[0] : c->options.model;
    if (!path) {
        cli_fail(c, GRAFT_USAGE, "nothing to describe");
        cli_expected(c, "graft info PATH");
        return cli_report(c, GRAFT_USAGE);
    }
    char *text = NULL;
    graft_status status = graft_info(path, &text, &c->err);
    if (status != GRAFT_OK) return cli_report(c, status);
    json_t *document = doc_parse(text);
    free(text);
    if (!json_is_object(document)) {
        status = cli_fail(c, GRAFT_NO_MEMORY, "no memory for the description");
    } else if (c->json) {
        status = doc_print(c, json_incref(document), false);
    } else {
        print_object(c, document, 0);
    }
    json_decref(document);
    return cli_report(c, status);
}
