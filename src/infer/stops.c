#include "infer/stops.h"
#include "files/json_read.h"

graft_status gr_stops_init(gr_stops *s, const char *list, graft_error *err) {
    *s = (gr_stops){0};
    if (!list) return GRAFT_OK;
    json_error_t why;
    s->texts = gr_json_loadb(list, strlen(list), JSON_REJECT_DUPLICATES, &why);
    if (!s->texts && gr_json_no_memory(&why)) return gr_no_memory(err, strlen(list));
    bool good = json_is_array(s->texts);
    for (size_t i = 0; good && i < json_array_size(s->texts); i++)
        good = json_string_length(json_array_get(s->texts, i)) > 0; /* 0 for what is no string, too */
    if (good) return GRAFT_OK;
    gr_stops_free(s);
    gr_fail(err, GRAFT_USAGE, "stop holds no stop texts");
    gr_expected(err, "a JSON array of strings that are not empty");
    return gr_found(err, "%s", list);
}

void gr_stops_free(gr_stops *s) {
    json_decref(s->texts);
    *s = (gr_stops){0};
}

bool gr_stops_find(gr_stops *s, const char *text, size_t len, size_t *end) {
    for (; s->texts && s->checked < len; s->checked++) {
        size_t have = s->checked + 1, longest = 0;
        for (size_t i = 0; i < json_array_size(s->texts); i++) {
            const json_t *stop = json_array_get(s->texts, i);
            size_t n = json_string_length(stop);
            if (n > longest && n <= have && memcmp(text + have - n, json_string_value(stop), n) == 0)
                longest = n;
        }
        if (!longest) continue;
        *end = have - longest;
        return true;
    }
    return false;
}

void gr_stops_again(gr_stops *s, size_t len) {
    s->checked = gr_min_size(s->checked, len);
}

size_t gr_stops_held(const gr_stops *s, const char *text, size_t len) {
    size_t held = 0;
    for (size_t i = 0; i < json_array_size(s->texts); i++) {
        const json_t *stop = json_array_get(s->texts, i);
        size_t n = json_string_length(stop) - 1;
        if (n > len) n = len;
        while (n > held && memcmp(text + len - n, json_string_value(stop), n) != 0) n--;
        if (n > held) held = n;
    }
    return held;
}
