/* Any bytes as a config.json: refused with a reason, or numbers that the rest may rely on. */
#include "model/roles.h"
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const gr_model_config *c) {
    static double inv_freq[GR_MAX_HEAD_DIM / 2];
    int64_t out, in, elements;
    if (!c->arch || c->layers < 1 || c->layers > GR_MAX_LAYERS || c->heads < 1 || c->heads > GR_MAX_HEADS ||
        c->kv_heads < 1 || c->heads % c->kv_heads || c->head_dim < 2 || c->head_dim > GR_MAX_HEAD_DIM ||
        c->head_dim % 2)
        abort();
    if (c->experts < 0 || c->experts > GR_MAX_EXPERTS || c->experts_used > c->experts ||
        !c->experts != !c->experts_used)
        abort();
    if (!(c->norm_eps >= 0) || !isfinite(c->norm_eps)) abort();
    for (gr_role role = 0; role < GR_ROLES; role++) {
        if (!gr_role_exists(role, c)) continue;
        gr_role_shape(role, c, &out, &in);
        if (out < 1 || in < 0 || !gr_mul_i64(out, in ? in : 1, &elements)) abort();
    }
    for (int64_t l = 0; l < c->layers; l++)
        if (c->window[l] < 0) abort();
    for (int r = 0; r < GR_ROPES; r++) {
        gr_rope_frequencies(inv_freq, c, &c->rope[r]);
        for (int64_t i = 0; i < c->head_dim / 2; i++)
            if (!isfinite(inv_freq[i])) abort();
    }
    const double scales[] = {c->embedding_scale,   c->residual_scale,    c->logit_scale,  c->attention_scale,
                             c->rope[0].magnitude, 1 + c->attention_cap, 1 + c->logit_cap};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        if (!isfinite(scales[i]) || !(scales[i] > 0)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    graft_error err = {0};
    gr_model_config config;
    if (gr_config_parse(&config, (const char *)data, size, "fuzz", &err) == GRAFT_OK) {
        check(&config);
        gr_config_free(&config);
    } else if (err.status == GRAFT_OK || !err.what[0]) {
        abort(); /* every refusal says why */
    }
    return 0;
}
