#include "optim/optim_table.h"
#include "options/options.h"
#include <utf8proc.h>

static graft_status contradiction(graft_error *err, const char *what, const char *hint) {
    gr_fail(err, GRAFT_USAGE, "%s", what);
    return gr_hint(err, "%s", hint);
}

static bool is_utf8(const char *text) {
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    size_t left = strlen(text);
    while (left) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n = utf8proc_iterate(p, (utf8proc_ssize_t)(left < 4 ? left : 4), &code);
        if (n < 1) return false;
        p += n;
        left -= (size_t)n;
    }
    return true;
}

/* Texts stand in the JSON of checkpoints and configurations, which holds nothing but UTF-8: known before a
 * run, not at its first save. */
static graft_status check_texts(const graft_options *o, graft_verb verb, graft_error *err) {
    for (size_t i = 0; i < graft_option_count(); i++) {
        const gr_option_row *row = gr_option_row_at(i);
        if (!(row->shown.verbs & (unsigned)verb) ||
            (row->kind != GR_OPTION_TEXT && row->kind != GR_OPTION_CONFIG))
            continue;
        const char *text = *(char *const *)((const char *)o + row->offset);
        if (!text || is_utf8(text)) continue;
        gr_fail(err, GRAFT_USAGE, "--%s is not UTF-8", row->shown.name);
        return gr_hint(err, "rename the file or directory, or go there by a link with a plain name");
    }
    return GRAFT_OK;
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
            st = gr_fail(err, GRAFT_NO_MEMORY, "%s has no value: there was no memory for its default",
                         row->shown.name);
    }
    graft_options_free(&scratch);
    gr_buf_free(&value);
    return st;
}

/* --resume-adapter-file brings the adapter's shape along. Its kind may be named: gr_trainer_select compares.
 */
static graft_status check_start(const graft_options *o, graft_error *err) {
    for (size_t i = 0; o->resume_adapter_file && i < graft_option_count(); i++) {
        const char *name = graft_option_at(i)->name;
        if (!gr_option_row_at(i)->shapes_adapter || !gr_options_given(o, name)) continue;
        if (strcmp(name, "fine-tune-type") == 0 || (strcmp(name, "use-rslora") == 0 && !o->use_rslora))
            continue;
        gr_fail(err, GRAFT_USAGE, "--%s cannot change the adapter of --resume-adapter-file", name);
        return gr_hint(err, "leave it away: rank, scale and modules come with the adapter");
    }
    return GRAFT_OK;
}

/* Options that say how an adapter looks say nothing where none is trained. What a file says besides, mlx-lm
 * ignores too. */
static graft_status check_full(const graft_options *o, graft_error *err) {
    const char *name = o->preset ? "preset" : NULL;
    if (!gr_options_full(o)) return GRAFT_OK;
    for (size_t i = 0; !name && i < graft_option_count(); i++) {
        const char *option = graft_option_at(i)->name;
        if (gr_option_row_at(i)->of_adapters && gr_options_given(o, option)) name = option;
    }
    if (!name) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "--%s is for adapters, and --fine-tune-type full trains none", name);
    return gr_hint(err, "%s",
                   o->preset ? "the preset full is LoRA of rank 64; leave one of them out"
                             : "leave it out; --num-layers and --modules-to-save choose what trains");
}

/* What B A x is multiplied by. */
static graft_status check_scale(const graft_options *o, graft_error *err) {
    if (!gr_options_full(o) && (o->lora_scale == 0 || o->lora_alpha == 0))
        return contradiction(err,
                             o->lora_scale == 0 ? "with lora-scale 0 the adapter does nothing, for ever"
                                                : "with lora-alpha 0 the adapter does nothing, for ever",
                             "twice the rank is the usual alpha, and a scale of 2");
    if (o->alpha_pattern && o->alpha_pattern[0] && !isnan(o->lora_scale) && !gr_options_default_scale(o))
        return contradiction(err, "lora-scale and alpha-pattern say the same thing twice",
                             "leave out the scale, or give --lora-alpha with --alpha-pattern");
    if (!isnan(o->lora_scale) && !isnan(o->lora_alpha))
        return contradiction(err, "lora-scale and lora-alpha say the same thing twice", "give one of them");
    if (!isnan(o->lora_scale) && o->use_rslora)
        return contradiction(err, "lora-scale leaves nothing for use-rslora to scale",
                             "give --lora-alpha with --use-rslora");
    return GRAFT_OK;
}

static graft_status check_adapter(const graft_options *o, graft_error *err) {
    GR_TRY(check_scale(o, err));
    if (o->loraplus_lr_ratio <= 0)
        return contradiction(err, "with loraplus-lr-ratio 0 B would stay zero for ever",
                             "LoRA+ takes a ratio above 1, e.g. 16");
    if (o->lora_dropout >= 1)
        return contradiction(err, "lora-dropout 1 drops everything", "a share below 1, e.g. 0.05");
    GR_TRY(check_full(o, err));
    if (o->group_pooled && o->fine_tune_type && strcmp(o->fine_tune_type, "dora") == 0)
        return contradiction(err, "group-pooled and fine-tune-type dora contradict each other",
                             "DoRA scales whole rows, which no group's bias can hold: leave one of them out");
    if (o->qat && o->group_pooled)
        return contradiction(err, "qat and group-pooled contradict each other",
                             "group-pooled adapters fuse exactly: leave --qat out");
    if (o->qat && o->fine_tune_type && strcmp(o->fine_tune_type, "dora") == 0)
        return contradiction(err, "qat and fine-tune-type dora contradict each other",
                             "use --fine-tune-type lora");
    if (o->qat && o->lora_dropout > 0)
        return contradiction(err, "qat and lora-dropout contradict each other",
                             "what is quantized is one weight for all tokens: leave one of them out");
    GR_TRY(check_start(o, err));
    if (o->lora_targets && !o->lora_targets[0])
        return contradiction(err, "lora-targets is empty",
                             "extended, standard, full, all-linear or module names");
    return GRAFT_OK;
}

static graft_status check_optimizer(const graft_options *o, graft_error *err) {
    const gr_optim_row *row = gr_optim_find(o->optimizer);
    if (!gr_optim_takes(row, "weight_decay") && o->weight_decay > 0) {
        gr_fail(err, GRAFT_USAGE, "%s has no weight decay", o->optimizer);
        return gr_hint(err, "use adamw, or --weight-decay 0");
    }
    if (o->nesterov && gr_optim_takes(row, "dampening") && (!(o->momentum > 0) || o->dampening > 0))
        return contradiction(err, "nesterov needs a momentum and no dampening",
                             "set momentum in optimizer_config");
    int64_t rows;
    if (!gr_mul_i64(o->batch_size, o->grad_accumulation_steps, &rows) || rows >= GR_UPDATE_ROWS_END)
        return contradiction(err, "batch-size times grad-accumulation-steps is 2147483648 or more",
                             "an update has fewer rows than that");
    return GRAFT_OK;
}

static graft_status check_run(const graft_options *o, graft_error *err) {
    if (gr_options_given(o, "iters") && gr_options_given(o, "epochs"))
        return contradiction(err, "iters and epochs say the same thing twice", "give one of them");
    if (o->allow_changes && o->allow_changes[0] && !o->resume)
        return contradiction(err, "allow-changes without resume", "add --resume");
    if (o->val_batches == 0)
        return contradiction(err, "val-batches is 0",
                             "-1 is all; without valid.jsonl there is no validation");
    return GRAFT_OK;
}

static graft_status check_rows(const graft_options *o, graft_error *err) {
    if (o->render && o->html)
        return contradiction(err, "render shows no tokens, and html shows nothing else", "give one of them");
    bool other = gr_options_given(o, "train-on") && o->train_on && strcmp(o->train_on, "completion") != 0;
    if (o->mask_prompt && other)
        return contradiction(err, "mask-prompt contradicts train-on",
                             "--mask-prompt is --train-on completion");
    return GRAFT_OK;
}

/* What says something about rows one by one says nothing about pairs, and the other way round. */
static graft_status check_preference(const graft_options *o, graft_verb verb, graft_error *err) {
    static const char *const of_rows[] = {"train-on", "mask-prompt", "text-feature", "completion-feature",
                                          "chat-feature"};
    static const char *const of_pairs[] = {"loss-type", "beta", "label-smoothing"};
    gr_preference p = gr_options_preference(o);
    if (!p.loss) {
        for (size_t i = 0; i < sizeof of_pairs / sizeof *of_pairs; i++) {
            if (!gr_options_given(o, of_pairs[i])) continue;
            gr_fail(err, GRAFT_USAGE, "--%s without a loss of preferences", of_pairs[i]);
            return gr_hint(err, "add --loss dpo or --loss orpo");
        }
        if (verb != GRAFT_VERB_EVAL || !o->loss) return GRAFT_OK;
        gr_fail(err, GRAFT_USAGE, "eval has no --loss %s", o->loss);
        return gr_hint(err, "its losses are of preferences: dpo, orpo");
    }
    for (size_t i = 0; i < sizeof of_rows / sizeof *of_rows; i++) {
        if (!gr_options_given(o, of_rows[i])) continue;
        gr_fail(err, GRAFT_USAGE, "--%s means nothing with --loss %s", of_rows[i], o->loss);
        return gr_hint(err, "pairs are read from prompt, chosen and rejected, and their answers train");
    }
    if (o->text || o->messages || o->render)
        return contradiction(err, "a pair is neither text nor messages nor a rendering",
                             "give --data, or leave --loss out");
    if (o->pack)
        return contradiction(err, "pack and a loss of preferences contradict each other",
                             "each pair is a sequence of two already: leave --pack out");
    if (p.loss->types && !p.dpo) return contradiction(err, "loss-type is unknown", GR_NAME_LIST(GR_DPO_MAP));
    if (!(p.beta > 0)) return contradiction(err, "with beta 0 no preference is learned", "0.1 is usual");
    if (gr_options_given(o, "loss-type") && !p.loss->types)
        return contradiction(err, "loss-type belongs to --loss dpo", "leave it out: orpo has one loss");
    if (p.smoothing > 0 && !(p.dpo && p.dpo->smoothed))
        return contradiction(err, "label-smoothing belongs to --loss-type robust",
                             "add --loss-type robust, or leave it out: TRL ignores it with the others");
    if (p.smoothing >= 0.5)
        return contradiction(err, "label-smoothing 0.5 says that pairs mean nothing", "0.1 is usual");
    return GRAFT_OK;
}

static graft_status check_codes(const char *name, int64_t bits, int64_t group, graft_error *err) {
    if (bits == 7) {
        gr_fail(err, GRAFT_USAGE, "%s is 7", name);
        return gr_hint(err, "2, 3, 4, 5, 6 or 8");
    }
    if (group == 32 || group == 64 || group == 128) return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "--q-group-size does not take this value");
    gr_expected(err, "32, 64 or 128");
    return gr_found(err, "%lld", (long long)group);
}

static graft_status check_convert(const graft_options *o, graft_error *err) {
    if (o->quantize && o->dequantize)
        return contradiction(err, "quantize and dequantize contradict each other", "give one of them");
    GR_TRY(check_codes("q-bits", o->q_bits, o->q_group_size, err));
    const char *hint = o->dequantize ? "leave it out: -d quantizes nothing" : "add -q";
    if (!o->quantize && gr_options_given(o, "q-bits"))
        return contradiction(err, "q-bits without quantize", hint);
    if (!o->quantize && gr_options_given(o, "q-group-size"))
        return contradiction(err, "q-group-size without quantize", hint);
    return GRAFT_OK;
}

/* What shapes answers says nothing where none are asked for. */
static graft_status check_report(const graft_options *o, graft_error *err) {
    static const char *const of_answers[] = {"model",   "seed", "compute",          "no-mmap",
                                             "threads", "temp", "allow-other-base", "max-tokens"};
    for (size_t i = 0; !o->prompts && i < sizeof of_answers / sizeof *of_answers; i++) {
        if (!gr_options_given(o, of_answers[i])) continue;
        gr_fail(err, GRAFT_USAGE, "--%s without --prompts changes nothing", of_answers[i]);
        return gr_hint(err, "--prompts FILE.jsonl has its lines answered before and after");
    }
    return GRAFT_OK;
}

/* What says how rows are read says nothing where none are. */
static graft_status check_fuse(const graft_options *o, graft_error *err) {
    static const char *const of_rows[] = {"split",          "train-on",       "mask-prompt",
                                          "text-feature",   "prompt-feature", "completion-feature",
                                          "chat-feature",   "tools-feature",  "template-kwargs",
                                          "max-seq-length", "overflow",       "valid-split"};
    for (size_t i = 0; !o->data && i < sizeof of_rows / sizeof *of_rows; i++) {
        if (!gr_options_given(o, of_rows[i])) continue;
        gr_fail(err, GRAFT_USAGE, "--%s without --data changes nothing", of_rows[i]);
        return gr_hint(err, "--data has the losses measured before and after");
    }
    return GRAFT_OK;
}

/* A file is all that is measured, unless --valid-split parts it. */
static graft_status check_part(const graft_options *o, graft_error *err) {
    const gr_reading how = gr_options_reading(o);
    if (!o->data || !gr_options_given(o, "split") || !isnan(o->valid_split) ||
        !gr_path_exists_as(o->data, how) || gr_path_is_dir_as(o->data, how))
        return GRAFT_OK;
    gr_fail(err, GRAFT_USAGE, "--split chooses a file of a directory, and --data is a file");
    gr_where(err, "%s", o->data);
    return gr_hint(err, "leave --split out, or give --data the directory");
}

static graft_status check_export(const graft_options *o, graft_error *err) {
    if (!o->out) return contradiction(err, "--out is missing", "--out takes the directory to write");
    if (gr_options_given(o, "merge-rank") && (!o->merge || strcmp(o->merge, "svd") != 0))
        return contradiction(err, "merge-rank without merge svd",
                             "add --merge svd: the others choose no rank");
    return GRAFT_OK;
}

/* A sweep's options are those of its trials, each of which is checked as a training. */
static bool takes(graft_verb verb, const char *name) {
    return verb != GRAFT_VERB_SWEEP && graft_option_find(verb, name);
}

/* What goes with options is checked of every verb that takes them. */
static graft_status check_together(const graft_options *o, graft_verb verb, graft_error *err) {
    if (takes(verb, "iters")) GR_TRY(check_texts(o, verb, err));
    if (takes(verb, "lora-rank")) GR_TRY(check_adapter(o, err));
    if (takes(verb, "optimizer")) GR_TRY(check_optimizer(o, err));
    if (takes(verb, "iters")) GR_TRY(check_run(o, err));
    if (takes(verb, "train-on")) GR_TRY(check_rows(o, err));
    if (takes(verb, "loss")) GR_TRY(check_preference(o, verb, err));
    if (takes(verb, "shape") && o->shape && o->model)
        return contradiction(err, "shape and model contradict each other", "give one of them");
    return GRAFT_OK;
}

graft_status gr_options_check(const graft_options *o, graft_verb verb, graft_error *err) {
    GR_TRY(check_fields(o, verb, err));
    GR_TRY(check_together(o, verb, err));
    if (verb == GRAFT_VERB_BENCH && o->shape && gr_options_base(o) == GR_BASE_16_BIT)
        return contradiction(err, "a shape's random weights are of 4 bits, and fine-tune-type full needs 16",
                             "give --model a 16-bit model");
    if (verb == GRAFT_VERB_BENCH) GR_TRY(check_codes("bits", o->bits, o->q_group_size, err));
    if (verb == GRAFT_VERB_CONVERT) GR_TRY(check_convert(o, err));
    if (verb == GRAFT_VERB_SWEEP && !o->grid)
        return contradiction(err, "a sweep without --grid is a training",
                             "--grid NAME=VALUE,VALUE such as lora-rank=8,16");
    if (verb == GRAFT_VERB_REPORT) GR_TRY(check_report(o, err));
    if (verb == GRAFT_VERB_FUSE) GR_TRY(check_fuse(o, err));
    if (verb & (GRAFT_VERB_FUSE | GRAFT_VERB_EVAL)) GR_TRY(check_part(o, err));
    if (verb == GRAFT_VERB_EXPORT) GR_TRY(check_export(o, err));
    if (verb == GRAFT_VERB_TOKENIZE && !o->data + !o->text + !o->messages != 2)
        return contradiction(err, "tokenize reads one thing", "give one of --data, --text and --messages");
    return GRAFT_OK;
}
