/* model/config_awq_gptq.c - what config.json says of linears that AutoAWQ or AutoGPTQ quantized. */
#include "model/config.h"
#include "model/roles.h"
#include "weights/affine.h"
#include <stdio.h>

bool gr_is_awq_gptq(const char *method) {
    return method && (strcmp(method, "awq") == 0 || strcmp(method, "gptq") == 0);
}

static graft_status refuse(const gr_json_scope *q, const char *what, const char *expected, const char *found,
                           graft_error *err) {
    gr_fail(err, GRAFT_UNSUPPORTED, "%s", what);
    gr_where(err, "%s: quantization_config", q->file);
    gr_expected(err, "%s", expected);
    gr_found(err, "%s", found);
    return gr_hint(err, "start from the model's unquantized release");
}

graft_status gr_config_awq_gptq(gr_awq_gptq *columns, const gr_json_scope *q, const char *method,
                                graft_error *err) {
    const char *version = "gemm", *format = "gptq";
    int64_t bits = 4, group = 128;
    char text[32];
    bool awq = strcmp(method, "awq") == 0;
    GR_TRY(gr_json_string(q, "version", &version, err));
    GR_TRY(gr_json_string(q, "checkpoint_format", &format, err));
    GR_TRY(gr_json_int(q, "bits", 1, 16, &bits, err));
    GR_TRY(gr_json_int(q, "group_size", -1, 1 << 20, &group, err));
    if (awq && strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
        return refuse(q, "AWQ weights in another order of codes", "version gemm", version, err);
    if (!awq && strcmp(format, "gptq") != 0 && strcmp(format, "gptq_v2") != 0)
        return refuse(q, "GPTQ weights in another order of codes", "checkpoint_format gptq or gptq_v2",
                      format, err);
    snprintf(text, sizeof text, "bits %lld, group_size %lld", (long long)bits, (long long)group);
    if ((bits != 4 && (awq || bits != 8)) || !gr_affine_valid((int)bits, (int)group))
        return refuse(q, "AWQ or GPTQ weights with these bits and group_size",
                      "bits 4 (GPTQ: or 8), group_size 32, 64 or 128", text, err);
    *columns =
        (gr_awq_gptq){.awq = awq,
                      .bits = (int)bits,
                      .group = (int)group,
                      .zero_add = awq || strcmp(format, "gptq") != 0 ? 0 : gr_awq_gptq_ones((int)bits)};
    return GRAFT_OK;
}

/* Is the module one of those that AutoAWQ left as they were, as it compares? */
static bool left_out(const json_t *list, const char *module) {
    size_t i;
    const json_t *part;
    json_array_foreach(list, i, part) {
        const char *text = json_string_value(part);
        if (text && *text && strstr(module, text)) return true;
    }
    return false;
}

static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

graft_status gr_config_awq_gptq_kept(json_t **kept, const gr_model_config *c, const gr_awq_gptq *columns,
                                     const gr_json_scope *q, graft_error *err) {
    const json_t *list = NULL;
    bool head = false;
    char name[200];
    *kept = NULL;
    GR_TRY(gr_json_array(q, "modules_to_not_convert", &list, err));
    GR_TRY(gr_json_bool(q, "lm_head", &head, err));
    json_t *entries = json_pack("{s:i,s:i}", "bits", columns->bits, "group_size", columns->group);
    bool good = entries && (!head || put(entries, "lm_head", json_true()));
    for (gr_role role = 0; good && json_array_size(list) && role < GR_LINEARS; role++)
        for (int64_t l = 0; good && l < c->layers; l++) {
            gr_role_name(name, sizeof name, role, l);
            if (left_out(list, name)) good = put(entries, name, json_false());
        }
    if (good) {
        *kept = entries;
        return GRAFT_OK;
    }
    json_decref(entries);
    return gr_no_memory(err, 64);
}
