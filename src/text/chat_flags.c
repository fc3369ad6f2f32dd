/* "train" and "weight" of single messages: axolotl's and OpenAI's ways to say which of them are learned. */
#include "files/json_read.h"
#include "text/chat_parts.h"

static const char *const flag_keys[] = {"train", "weight"};

bool gr_chat_is_flag(const char *key) {
    return strcmp(key, flag_keys[0]) == 0 || strcmp(key, flag_keys[1]) == 0;
}

static graft_status read_flag(int8_t *flag, const json_t *value, const char *key, graft_error *err) {
    if (!value || json_is_null(value)) return GRAFT_OK;
    double number = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
    bool fits = json_is_boolean(value) || json_is_number(value);
    if (!fits || (number != 0 && number != 1)) {
        gr_fail(err, fits ? GRAFT_UNSUPPORTED : GRAFT_CORRUPT,
                "\"%s\" of a message has a value that is not used", key);
        gr_expected(err, "true or false, 1 or 0");
        if (fits) return gr_found(err, "%g", number);
        return gr_found(err, "%s", gr_json_type_text(value));
    }
    int8_t own = number != 0 ? GR_FLAG_ON : GR_FLAG_OFF;
    if (*flag && *flag != own)
        return gr_fail(err, GRAFT_CORRUPT, "\"train\" and \"weight\" of a message contradict");
    *flag = own;
    return GRAFT_OK;
}

graft_status gr_chat_read_flags(int8_t **flags, const json_t *messages, graft_error *err) {
    size_t n = json_array_size(messages), set = 0;
    int8_t *made = gr_calloc(n, 1);
    graft_status st = made ? GRAFT_OK : gr_no_memory(err, n);
    *flags = NULL;
    for (size_t i = 0; i < n && st == GRAFT_OK; i++) {
        const json_t *message = json_array_get(messages, i);
        for (size_t k = 0; k < 2 && st == GRAFT_OK; k++)
            st = read_flag(&made[i], json_object_get(message, flag_keys[k]), flag_keys[k], err);
        set += made[i] != GR_FLAG_NONE;
    }
    if (st == GRAFT_OK && set)
        *flags = made;
    else
        free(made);
    return st;
}
