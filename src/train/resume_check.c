#include "files/json_read.h"
#include "model/identity.h"
#include "train/checkpoint_parts.h"
#include <stdio.h>

/* What trains, how large it is, and the scales: parameters mean nothing without them. */
static uint64_t adapter_shape(const gr_tuning *tuning) {
    uint64_t h = GR_DIGEST_START, scale;
    memcpy(&scale, &tuning->scale, 8);
    h = gr_digest_step(h, scale);
    for (size_t i = 0; i < tuning->param_count; i++) {
        const gr_param *p = &tuning->params[i];
        double of = p->kind == GR_PARAM_A ? (double)gr_tuning_of(tuning, p->role, p->layer)->scale : 0;
        memcpy(&scale, &of, 8);
        uint64_t words[] = {(uint64_t)p->kind,  (uint64_t)gr_role_table[p->role].number,
                            (uint64_t)p->layer, (uint64_t)p->rows,
                            (uint64_t)p->cols,  scale};
        for (size_t k = 0; k < sizeof words / sizeof *words; k++) h = gr_digest_step(h, words[k]);
    }
    return h;
}

/* ORDER: what read_inputs reads. */
typedef struct inputs {
    uint64_t base, data, valid, adapter;
    int64_t rows, valid_rows;
    const char *isa, *settings;
} inputs;

static inputs inputs_now(const gr_trainer *t) {
    return (inputs){.base = t->rt.model->digest,
                    .data = gr_rows_digest(t->train),
                    .valid = t->valid ? gr_rows_digest(t->valid) : 0,
                    .adapter = adapter_shape(t->rt.tuning),
                    .rows = gr_rows_count(t->train) / gr_rows_width(t->train),
                    .valid_rows = t->valid ? gr_rows_count(t->valid) / gr_rows_width(t->valid) : 0,
                    .isa = t->rt.kernels.isa};
}

json_t *gr_checkpoint_inputs(const gr_trainer *t) {
    inputs in = inputs_now(t);
    char *settings = gr_options_settings(t->o, GRAFT_VERB_TRAIN);
    json_t *j = settings ? json_pack("{s:o,s:o,s:I,s:o,s:I,s:o,s:s,s:s}", "base", gr_json_hex(in.base),
                                     "data", gr_json_hex(in.data), "rows", (json_int_t)in.rows, "valid",
                                     gr_json_hex(in.valid), "valid_rows", (json_int_t)in.valid_rows,
                                     "adapter", gr_json_hex(in.adapter), "isa", in.isa, "settings", settings)
                         : NULL;
    free(settings);
    return j;
}

static graft_status read_inputs(const gr_json_scope *root, inputs *in, graft_error *err) {
    GR_TRY(gr_json_read_hex(root, "base", &in->base, err));
    GR_TRY(gr_json_read_hex(root, "data", &in->data, err));
    GR_TRY(gr_json_need(root, "rows", err));
    GR_TRY(gr_json_int(root, "rows", 0, INT64_MAX, &in->rows, err));
    GR_TRY(gr_json_read_hex(root, "valid", &in->valid, err));
    GR_TRY(gr_json_need(root, "valid_rows", err));
    GR_TRY(gr_json_int(root, "valid_rows", 0, INT64_MAX, &in->valid_rows, err));
    GR_TRY(gr_json_read_hex(root, "adapter", &in->adapter, err));
    in->isa = in->settings = "";
    GR_TRY(gr_json_string(root, "isa", &in->isa, err));
    return gr_json_string(root, "settings", &in->settings, err);
}

static void rows_text(char text[128], int64_t rows, uint64_t digest, int64_t valid_rows, uint64_t valid) {
    int n = snprintf(text, 128, "%lld rows, digest %016llx", (long long)rows, (unsigned long long)digest);
    if (valid_rows)
        snprintf(text + n, 128 - (size_t)n, ", and %lld for validation, %016llx", (long long)valid_rows,
                 (unsigned long long)valid);
}

/* Another base, and where it differs. */
static void compare_base(gr_changes *c, const gr_model *model, const json_t *tensors, uint64_t then) {
    char a[64], b[400];
    gr_base_difference d;
    gr_identity_compare(&d, model, tensors);
    snprintf(a, sizeof a, "the base with digest %016llx", (unsigned long long)then);
    int n = snprintf(b, sizeof b, "%016llx", (unsigned long long)model->digest);
    gr_identity_text(b + n, sizeof b - (size_t)n, &d);
    gr_changes_add(c, "model", a, b);
}

static void compare_inputs(gr_changes *c, const inputs *then, const inputs *now) {
    char a[128], b[128];
    if (then->data != now->data || then->valid != now->valid || then->rows != now->rows) {
        rows_text(a, then->rows, then->data, then->valid_rows, then->valid);
        rows_text(b, now->rows, now->data, now->valid_rows, now->valid);
        gr_changes_add(c, "data", a, b);
    }
    if (then->adapter != now->adapter && !c->never) {
        snprintf(a, sizeof a, "digest %016llx", (unsigned long long)then->adapter);
        snprintf(b, sizeof b, "%016llx", (unsigned long long)now->adapter);
        gr_changes_never(c, "what trains", a, b, "its tensors, ranks or scales are others");
    }
}

/* One note per line. */
static void say_lines(const gr_trainer *t, const char *before, const gr_buf *lines) {
    for (const char *at = lines->len ? lines->data : ""; *at;) {
        size_t n = strcspn(at, "\n");
        gr_trainer_note(t, "%s%.*s", before, (int)n, at);
        at += n + (at[n] == '\n');
    }
}

static graft_status refuse(const gr_trainer *t, const gr_changes *c, const char *path, graft_error *err) {
    gr_buf all = {0};
    for (const char *p = c->refused.data; *p; p++)
        if (*p != '\n')
            gr_buf_putc(&all, *p);
        else if (p[1])
            gr_buf_puts(&all, "; ");
    const bool base_alone = c->count == 1 && !c->never && strcmp(c->names.data, "model") == 0;
    if (base_alone)
        gr_fail(err, GRAFT_MISMATCH, "cannot resume: the base model differs from the checkpoint");
    else
        gr_fail(err, GRAFT_MISMATCH, "cannot resume: %d setting%s from the checkpoint", c->count,
                c->count == 1 ? " differs" : "s differ");
    gr_where(err, "%s", path);
    if (all.data && all.len < sizeof err->found) {
        gr_found(err, "%s", all.data);
    } else {
        say_lines(t, "differs from the checkpoint: ", &c->refused);
        gr_found(err, "those named above");
    }
    gr_buf_free(&all);
    if (base_alone)
        return gr_hint(err, "use the base of the first run; --allow-other-base goes on with this one");
    if (!c->never)
        return gr_hint(err, "use what the first run used, or let it change with --allow-changes %s%s%s",
                       c->allow ? c->allow : "", c->allow && c->allow[0] ? "," : "", c->names.data);
    return gr_hint(err, "use what the first run used, or train without --resume to start anew "
                        "(--resume-adapter-file starts from an adapter)");
}

/* A sum of gradients in progress is one of so many rows of those data. */
static graft_status check_pending(const gr_changes *c, const gr_train_progress *p, const char *path,
                                  graft_error *err) {
    static const char *const names[] = {"batch-size", "grad-accumulation-steps", "data"};
    for (size_t i = 0; p->pending_iterations && i < sizeof names / sizeof *names; i++) {
        if (!gr_changes_has(c, names[i])) continue;
        gr_fail(err, GRAFT_MISMATCH,
                "cannot resume: the checkpoint stands inside an update, and %s cannot change there",
                names[i]);
        gr_where(err, "%s", path);
        gr_found(err, "%lld iterations since the last update", (long long)p->pending_iterations);
        return gr_hint(err, "resume without that change, stop at a multiple of grad-accumulation-steps, and "
                            "change it then");
    }
    return GRAFT_OK;
}

graft_status gr_checkpoint_check(const gr_trainer *t, const gr_json_scope *root, const gr_train_progress *p,
                                 gr_changes *c, graft_error *err) {
    inputs then, now = inputs_now(t);
    char *settings = gr_options_settings(t->o, GRAFT_VERB_TRAIN);
    if (!settings) return gr_no_memory(err, 0);
    graft_status st = read_inputs(root, &then, err);
    if (st == GRAFT_OK) st = gr_changes_check_names(c, then.settings, settings, err);
    if (st == GRAFT_OK) {
        gr_changes_settings(c, then.settings, settings);
        if (then.base != now.base)
            compare_base(c, t->rt.model, json_object_get(root->object, "base_tensors"), then.base);
        compare_inputs(c, &then, &now);
        if (c->refused.failed || c->allowed.failed || c->names.failed) st = gr_no_memory(err, 0);
    }
    free(settings);
    if (st == GRAFT_OK && c->count) st = refuse(t, c, root->file, err);
    if (st == GRAFT_OK) st = check_pending(c, p, root->file, err);
    if (st == GRAFT_OK && c->allowed.len && p->pending_iterations && p->iteration == t->iters &&
        !t->mlx_loss) {
        gr_fail(err, GRAFT_MISMATCH, "cannot resume: the run would end inside an update");
        gr_where(err, "%s", root->file);
        st = gr_hint(err, "give more --iters");
    }
    if (st == GRAFT_OK && c->allowed.len && p->iteration > t->iters) {
        gr_fail(err, GRAFT_MISMATCH, "cannot resume: the checkpoint is beyond the end of this run");
        gr_where(err, "%s", root->file);
        gr_expected(err, "at most %lld iterations", (long long)t->iters);
        st = gr_found(err, "%lld", (long long)p->iteration);
    }
    return st;
}

void gr_checkpoint_say(const gr_trainer *t, const gr_json_scope *root, const gr_changes *c) {
    graft_error none = {0};
    const char *isa = "";
    say_lines(t, c->other_base ? "allowed: " : "allowed by --allow-changes: ", &c->allowed);
    if (gr_json_string(root, "isa", &isa, &none) == GRAFT_OK && strcmp(isa, t->rt.kernels.isa) != 0)
        gr_trainer_note(t,
                        "the checkpoint was written with %s, and this run computes with %s: what follows is "
                        "as exact, but not bit for bit what it would have been there",
                        isa, t->rt.kernels.isa);
}
