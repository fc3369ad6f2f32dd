/* YAML text to JSON values. */
#include "options/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *value;
    graft_error err = {0};
    if (gr_yaml_parse(&value, (const char *)data, size, "fuzz", &err) == GRAFT_OK) {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        if (!text) abort(); /* whatever is accepted is a JSON value */
        free(text);
        json_decref(value);
    } else if (!err.what[0]) {
        abort(); /* every refusal says why */
    }
    return 0;
}
