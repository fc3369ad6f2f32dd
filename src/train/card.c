#include "train/trainer.h"
#include <math.h>

static void sizes(gr_buf *b, const char *what, uint64_t bytes) {
    gr_buf_printf(b, "| %s | %.1f MB |\n", what, (double)bytes / 1e6);
}

graft_status gr_card_save(const gr_trainer *t, const graft_train_result *r, graft_error *err) {
    gr_buf b = {0};
    char digest[17];
    const gr_train_progress *p = &t->p;
    gr_adapter_digest(digest, t->params, t->rt.tuning->parameters);
    gr_adapter_card_head(&b, "Trained", gr_trainer_base(t), &t->rt.model->config, t->rt.tuning, t->formats);
    gr_buf_puts(&b, "| | |\n|---|---|\n");
    gr_buf_printf(&b, "| base digest | %016llx |\n| adapter digest | %s |\n",
                  (unsigned long long)t->rt.model->digest, digest);
    gr_buf_printf(&b, "| data | %s: %lld rows, %lld tokens, %lld with loss |\n", t->o->data,
                  (long long)(gr_rows_count(t->train) / gr_rows_width(t->train)),
                  (long long)gr_rows_tokens(t->train), (long long)gr_rows_targets(t->train));
    graft_packing packing = gr_trainer_packing(t);
    if (packing.packs)
        gr_buf_printf(&b, "| packs | %lld of up to %lld tokens, %.1f %% full |\n", (long long)packing.packs,
                      (long long)packing.capacity, packing.percent_full);
    gr_buf_printf(&b, "| trainable | %lld of %lld parameters (%.3f %%) |\n",
                  (long long)t->rt.tuning->parameters, (long long)gr_model_parameters(t->rt.model),
                  100.0 * (double)t->rt.tuning->parameters / (double)gr_model_parameters(t->rt.model));
    if (t->o->resume_adapter_file) {
        gr_buf_printf(&b, "| started from | %s: ", t->o->resume_adapter_file);
        gr_trainer_kind(t, &b);
        gr_buf_puts(&b, " |\n");
    }
    gr_buf_printf(&b, "| iterations | %lld (%lld updates, %lld trained tokens) |\n", (long long)p->iteration,
                  (long long)p->health.applied, (long long)p->trained_tokens);
    if (p->health.skipped)
        gr_buf_printf(&b, "| skipped updates | %lld: loss or gradient was not a number |\n",
                      (long long)p->health.skipped);
    if (p->health.loss_spikes || p->health.norm_spikes)
        gr_buf_printf(&b, "| spikes | %lld of the loss, %lld of the gradient's norm |\n",
                      (long long)p->health.loss_spikes, (long long)p->health.norm_spikes);
    if (!isnan(r->train_loss)) gr_buf_printf(&b, "| last training loss | %.4f |\n", r->train_loss);
    if (!isnan(p->last_val)) {
        gr_buf_printf(&b, "| validation loss | %.4f before, %.4f after", p->first_val, p->last_val);
        gr_buf_printf(&b, ", best %.4f at iteration %lld |\n", p->best_val, (long long)p->best_iteration);
    }
    sizes(&b, "peak memory", r->peak_memory_bytes);
    sizes(&b, "forecast", t->forecast.total);
    gr_buf_puts(&b, "\n![loss](loss.svg)\n\n## Settings\n\n```\n");
    char *settings = graft_options_text(t->o, GRAFT_VERB_TRAIN), *path = gr_path_join(t->dir, "README.md");
    gr_buf_printf(&b, "%s\n```\n", settings ? settings : "");
    graft_status st =
        path && settings && !b.failed ? gr_file_replace(path, b.data, b.len, err) : gr_no_memory(err, b.len);
    free(settings);
    free(path);
    gr_buf_free(&b);
    return st;
}
