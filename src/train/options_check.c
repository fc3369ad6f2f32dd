#include "train/options.h"

static graft_status contradiction(graft_error *err, const char *what, const char *hint) {
    gr_fail(err, GRAFT_USAGE, "%s", what);
    return gr_hint(err, "%s", hint);
}

/* Fields that a host set directly pass the same checks as text. */
static graft_status check_fields(const graft_options *o, graft_verb verb, graft_error *err) {
    gr_buf value = {0};
    graft_options scratch;
    memset(&scratch, 0, sizeof scratch);
    graft_status st = GRAFT_OK;
    for (size_t i = 0; st == GRAFT_OK && i < graft_option_count(); i++) {
        const gr_option_row *row = gr_option_row_at(i);
        if (!(row->shown.verbs & (unsigned)verb) || row->kind == GR_OPTION_TEXT ||
            row->kind == GR_OPTION_CONFIG)
            continue;
        gr_buf_clear(&value);
        gr_option_print(o, row, &value);
        if (value.failed)
            st = gr_no_memory(err, 64);
        else if (value.len)
            st = gr_option_store(&scratch, row, value.data, row->shown.name, err);
        else if (row->shown.fallback[0])
            st = gr_fail(err, GRAFT_USAGE, "%s has no value", row->shown.name);
    }
    graft_options_free(&scratch);
    gr_buf_free(&value);
    return st;
}

static graft_status check_adapter(const graft_options *o, graft_error *err) {
    if (!isnan(o->lora_scale) && !isnan(o->lora_alpha))
        return contradiction(err, "lora-scale and lora-alpha say the same thing twice", "give one of them");
    if (!isnan(o->lora_scale) && o->use_rslora)
        return contradiction(err, "lora-scale leaves nothing for use-rslora to scale",
                             "give --lora-alpha with --use-rslora");
    if (o->lora_targets && !o->lora_targets[0])
        return contradiction(err, "lora-targets is empty",
                             "extended, standard, full, all-linear or module names");
    return GRAFT_OK;
}

static graft_status check_optimizer(const graft_options *o, graft_error *err) {
    if (strcmp(o->optimizer, "adam") == 0 && o->weight_decay > 0)
        return contradiction(err, "adam has no weight decay", "use adamw, or --weight-decay 0");
    if (o->nesterov && (!(o->momentum > 0) || o->dampening > 0))
        return contradiction(err, "nesterov needs a momentum and no dampening",
                             "set momentum in optimizer_config");
    return GRAFT_OK;
}

static graft_status check_run(const graft_options *o, graft_error *err) {
    if (gr_options_given(o, "iters") && gr_options_given(o, "epochs"))
        return contradiction(err, "iters and epochs say the same thing twice", "give one of them");
    if (o->val_batches == 0)
        return contradiction(err, "val-batches is 0",
                             "-1 is all; without valid.jsonl there is no validation");
    return GRAFT_OK;
}

static graft_status check_rows(const graft_options *o, graft_error *err) {
    bool other = gr_options_given(o, "train-on") && o->train_on && strcmp(o->train_on, "completion") != 0;
    if (o->mask_prompt && other)
        return contradiction(err, "mask-prompt contradicts train-on",
                             "--mask-prompt is --train-on completion");
    return GRAFT_OK;
}

static graft_status check_convert(const graft_options *o, graft_error *err) {
    if (o->quantize && o->dequantize)
        return contradiction(err, "quantize and dequantize contradict each other", "give one of them");
    if (o->q_bits == 7) return contradiction(err, "q-bits is 7", "2, 3, 4, 5, 6 or 8");
    if (o->q_group_size != 32 && o->q_group_size != 64 && o->q_group_size != 128)
        return contradiction(err, "q-group-size does not fit", "32, 64 or 128");
    return GRAFT_OK;
}

graft_status gr_options_check(const graft_options *o, graft_verb verb, graft_error *err) {
    GR_TRY(check_fields(o, verb, err));
    if (verb & (GRAFT_VERB_PLAN | GRAFT_VERB_TRAIN | GRAFT_VERB_BENCH)) {
        GR_TRY(check_adapter(o, err));
        GR_TRY(check_optimizer(o, err));
    }
    if (verb & (GRAFT_VERB_PLAN | GRAFT_VERB_TRAIN)) GR_TRY(check_run(o, err));
    if (verb & (GRAFT_VERB_PLAN | GRAFT_VERB_TRAIN | GRAFT_VERB_EVAL | GRAFT_VERB_TOKENIZE))
        GR_TRY(check_rows(o, err));
    if (verb & (GRAFT_VERB_PLAN | GRAFT_VERB_BENCH) && o->shape && o->model)
        return contradiction(err, "shape and model contradict each other", "give one of them");
    if (verb == GRAFT_VERB_CONVERT) GR_TRY(check_convert(o, err));
    if (verb == GRAFT_VERB_TOKENIZE && !o->data + !o->text + !o->messages != 2)
        return contradiction(err, "tokenize reads one thing", "give one of --data, --text and --messages");
    return GRAFT_OK;
}
