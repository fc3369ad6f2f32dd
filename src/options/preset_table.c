/* The presets of --preset, one row each. All recompute, and alpha is twice the rank.
 * Help of --preset tells the same in words. */
#include "options/options.h"

static const gr_preset table[] = {
    {"quick", 4, "8", "standard"},
    {"standard", 4, "16", "extended"},
    /* gate and up, but not down: docs/weights.md says why */
    {"high-quality", 4, "32", "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj"},
    {"full", 16, "64", "all-linear"},
    {0},
};

const gr_preset *gr_preset_find(const char *name) {
    for (const gr_preset *p = table; name && p->name; p++)
        if (strcmp(p->name, name) == 0) return p;
    return NULL;
}

static graft_status store(graft_options *o, const char *name, const char *text, graft_error *err) {
    if (gr_options_given(o, name)) return GRAFT_OK;
    const gr_option_row *row = gr_option_row_at((size_t)gr_option_index(name));
    return gr_option_store(o, row, text, name, err);
}

graft_status gr_preset_apply(graft_options *o, graft_error *err) {
    const gr_preset *p = gr_preset_find(o->preset);
    if (!p) return GRAFT_OK;
    GR_TRY(store(o, "lora-rank", p->rank, err));
    GR_TRY(store(o, "lora-targets", p->targets, err));
    GR_TRY(store(o, "grad-checkpoint", "layer", err));
    /* twice the rank is what both mean when they are unset */
    if (!gr_options_given(o, "lora-alpha")) o->lora_alpha = NAN;
    if (!gr_options_given(o, "lora-scale")) o->lora_scale = NAN;
    return GRAFT_OK;
}

gr_base_wish gr_options_base(const graft_options *o) {
    const gr_preset *p = gr_preset_find(o->preset);
    if (gr_options_full(o)) return GR_BASE_16_BIT;
    return !p ? GR_BASE_ANY : p->bits == 4 ? GR_BASE_4_BIT : GR_BASE_16_BIT;
}
