#include "adapters/adapter_parts.h"
#include "model/identity.h"
#include <stdio.h>

graft_status gr_adapter_check_base(gr_adapter_base *base, const gr_adapter_words *words,
                                   const gr_adapter_config *c, const char *path, graft_error *err) {
    const json_t *own = json_object_get(c->root, "graft");
    const char *recorded = words->base_digest[0] ? words->base_digest : NULL;
    gr_base_difference d;
    char mine[24], text[300];
    if (!base || !base->model->digest) return GRAFT_OK;
    base->note[0] = 0;
    if (!recorded) recorded = json_string_value(json_object_get(own, "base_digest"));
    snprintf(mine, sizeof mine, "%016llx", (unsigned long long)base->model->digest);
    if (recorded && strcmp(recorded, mine) == 0) return GRAFT_OK;
    if (!recorded) {
        snprintf(
            base->note, sizeof base->note,
            "%.300s: no digest of its base is recorded (only graft writes one): that the adapter belongs to "
            "this model is taken on trust",
            path);
        return GRAFT_OK;
    }
    gr_identity_compare(&d, base->model, json_object_get(own, "base_tensors"));
    gr_identity_text(text, sizeof text, &d);
    if (base->allow_other) {
        snprintf(base->note, sizeof base->note, "the adapter was trained on another base model%s", text);
        return GRAFT_OK;
    }
    gr_fail(err, GRAFT_MISMATCH, "the adapter was trained on another base model");
    gr_where(err, "%s", path);
    gr_expected(err, "base digest %s", recorded);
    gr_found(err, "%s%s", mine, text);
    return gr_hint(err,
                   d.linears_only
                       ? "embeddings and norms are the same, so this may be the same model quantized "
                         "otherwise; --allow-other-base takes it"
                       : "give --model the base that adapter_config.json names; --allow-other-base takes "
                         "this one");
}
