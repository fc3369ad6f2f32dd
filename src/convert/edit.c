/* Which tensors of a conversion are edited, and how their jobs change. */
#include "convert/edit.h"
#include "convert/conversion.h"

static int by_name(const void *a, const void *b) {
    return strcmp(((const gr_edit *)a)->name, ((const gr_edit *)b)->name);
}

void gr_edits_sort(gr_edit *edits, size_t count) {
    if (count) qsort(edits, count, sizeof *edits, by_name);
}

const gr_edit *gr_edits_find(const gr_edit *edits, size_t count, const char *name) {
    const gr_edit key = {.name = name};
    return count ? bsearch(&key, edits, count, sizeof *edits, by_name) : NULL;
}

static graft_status edit_job(const gr_conversion *c, gr_job *job, const gr_edit *edit, graft_error *err) {
    if (job->rows != edit->rows || job->cols != edit->cols || !gr_dtype_is_float(job->dtype)) {
        gr_fail(err, GRAFT_MISMATCH, "tensor %s does not have the shape of what is fused into it", job->name);
        gr_where(err, "%s", c->options->model);
        gr_expected(err, "[%lld, %lld]", (long long)edit->rows, (long long)edit->cols);
        return gr_found(err, "[%lld, %lld]", (long long)job->rows, (long long)job->cols);
    }
    if (gr_job_mx(job)) {
        gr_fail(err, GRAFT_UNSUPPORTED, "%s is quantized in a mode that is read, but not written", job->name);
        gr_where(err, "%s", c->options->model);
        gr_expected(err, "MLX's affine groups, or 16 bits");
        return gr_hint(err, "--dequantize writes 16 bits");
    }
    if (job->op == GR_JOB_REPACK && job->from.kind == GR_FROM_AWQ_GPTQ) {
        gr_fail(err, GRAFT_UNSUPPORTED, "%s is an AWQ or GPTQ linear, which nothing is fused into",
                job->name);
        gr_where(err, "%s", c->options->model);
        return gr_hint(err, "convert the model first (graft convert), and fuse into that");
    }
    job->edit = edit;
    if (job->op == GR_JOB_RAW) job->op = GR_JOB_FLOAT;
    if (job->op == GR_JOB_REPACK && job->from.kind == GR_FROM_AFFINE) job->op = GR_JOB_MERGE;
    return GRAFT_OK;
}

graft_status gr_conversion_edit(gr_conversion *c, graft_error *err) {
    const gr_convert_options *o = c->options;
    size_t used = 0;
    for (size_t i = 0; o->edit_count && i < c->jobs.count; i++) {
        const gr_edit *edit = gr_edits_find(o->edits, o->edit_count, c->jobs.items[i].name);
        if (!edit) continue;
        GR_TRY(edit_job(c, &c->jobs.items[i], edit, err));
        used++;
    }
    for (size_t i = 0; used < o->edit_count && i < o->edit_count; i++) {
        size_t j = 0;
        while (j < c->jobs.count && c->jobs.items[j].edit != &o->edits[i]) j++;
        if (j < c->jobs.count) continue;
        gr_fail(err, GRAFT_MISMATCH, "the model has no tensor %s to fuse into", o->edits[i].name);
        return gr_where(err, "%s", o->model);
    }
    return GRAFT_OK;
}
