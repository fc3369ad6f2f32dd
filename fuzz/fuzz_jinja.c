/* Any template over a fixed chat: parsed and rendered, or refused with a reason, within bounds. */
#include "text/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char variables[] = "{\"bos_token\":\"<s>\",\"add_generation_prompt\":true,\"n\":7,\"f\":2.5,"
                                "\"s\":\"Gr\\u00f6\\u00dfe \\ud83c\\udf0d\","
                                "\"messages\":[{\"role\":\"system\",\"content\":\"Be "
                                "brief\"},{\"role\":\"user\",\"content\":\" a<b> \\u4e16\\n\"},"
                                "{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{\"id\":\"1\","
                                "\"function\":{\"name\":\"f\",\"arguments\":"
                                "{\"a\":[1,null,true,0.5]}}}]}],\"tools\":null}";

static void check_result(const gr_jinja_result *out) {
    size_t end = 0;
    for (size_t i = 0; i < out->ngeneration; i++) {
        if (out->generation[i].start < end || out->generation[i].end <= out->generation[i].start) abort();
        end = out->generation[i].end;
    }
    if (end > out->text.len) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gr_jinja *tmpl;
    graft_error err = {0};
    if (size > 1 << 14) return 0;
    if (gr_jinja_parse(&tmpl, (const char *)data, size, &err) != GRAFT_OK) {
        if (!err.what[0] || err.status == GRAFT_INTERNAL) abort(); /* every refusal says why */
        return 0;
    }
    json_t *vars = json_loads(variables, 0, NULL);
    gr_jinja_result out;
    graft_status st = gr_jinja_render(tmpl, vars, 1700000000, &out, &err);
    if (st == GRAFT_INTERNAL) abort();
    if (st == GRAFT_OK) check_result(&out);
    gr_jinja_result_free(&out);
    json_decref(vars);
    gr_jinja_free(tmpl);
    return 0;
}
