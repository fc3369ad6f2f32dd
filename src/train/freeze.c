/* train/freeze.c - what is frozen, changed before a run begins and proved when it ends. */
#include "train/trainer.h"

graft_status gr_trainer_watch(gr_trainer *t, graft_error *err) {
    gr_trainer_unwatch(t);
    GR_TRY(gr_tensor_digests_new(&t->ledger, t->rt.model, t->rt.tuning, t->params, err));
    t->before = gr_calloc(t->ledger.count, sizeof *t->before);
    if (!t->before) return gr_no_memory(err, t->ledger.count * sizeof *t->before);
    gr_tensor_digests_digests(&t->ledger, t->rt.pool, t->before);
    t->moving = 0;
    return GRAFT_OK;
}

void gr_trainer_unwatch(gr_trainer *t) {
    gr_tensor_digests_free(&t->ledger);
    free(t->before);
    t->before = NULL;
}

graft_status gr_trainer_prove(gr_trainer *t, graft_train_result *result, graft_error *err) {
    gr_proof proof;
    if (t->moving == 0) {
        gr_trainer_note(t, "--verify-frozen: this run made no update%s, so there is nothing to prove",
                        t->p.health.applied ? " with a rate above 0" : "");
        return GRAFT_OK;
    }
    uint64_t *after = gr_calloc(t->ledger.count, sizeof *after);
    if (!after) return gr_no_memory(err, t->ledger.count * sizeof *after);
    gr_tensor_digests_digests(&t->ledger, t->rt.pool, after);
    graft_status st = gr_tensor_digests_check(&proof, &t->ledger, t->before, after, t->moving, err);
    free(after);
    GR_TRY(st);
    result->verified = true;
    result->frozen_tensors = proof.frozen;
    result->trained_tensors = proof.trainable - proof.waiting;
    result->frozen_digest = proof.digest;
    gr_trainer_note(
        t,
        "verified: %lld frozen tensors have the bytes that they had before (digest %016llx), and all %lld "
        "trainable tensors moved%s",
        (long long)proof.frozen, (unsigned long long)proof.digest, (long long)result->trained_tensors,
        proof.waiting ? " that one update can move (an A moves once its B is not zero)" : "");
    return GRAFT_OK;
}

/* Codes of a few bits cannot follow a gradient. */
static graft_status check_dense(const gr_trainer *t, graft_error *err) {
    graft_status st = GRAFT_OK;
    gr_tensor_digests all;
    GR_TRY(gr_tensor_digests_new(&all, t->rt.model, t->rt.tuning, t->params, err));
    for (size_t i = 0; st == GRAFT_OK && i < all.count; i++) {
        const gr_tensor_digests_row *row = &all.rows[i];
        if (row->trainable || row->bits >= 16) continue;
        st = gr_fail(err, GRAFT_UNSUPPORTED,
                     "cannot unfreeze a tensor of %d bits: no gradient moves its codes", row->bits);
        gr_where(err, "%s", row->name);
        gr_hint(err, "graft convert --model %s --dequantize --mlx-path DIR gives a base of 16 bits",
                t->o->model);
    }
    gr_tensor_digests_free(&all);
    return st;
}

/* Does a tensor of the base train itself? */
static bool trains_own(const gr_tuning *tuning) {
    bool own = false;
    for (size_t i = 0; i < tuning->param_count; i++)
        own |= tuning->params[i].kind == GR_PARAM_WEIGHT || tuning->params[i].kind == GR_PARAM_BIAS;
    return own;
}

static graft_status check_freeze(const gr_trainer *t, bool lora_only, graft_error *err) {
    const gr_tuning *tuning = t->rt.tuning;
    if (t->p.iteration) return gr_fail(err, GRAFT_USAGE, "freezing comes before the first step");
    if (!lora_only && t->rt.model->config.experts)
        return gr_fail(err, GRAFT_UNSUPPORTED,
                       "cannot unfreeze a mixture: its router and whole experts do not train");
    if (!lora_only) return check_dense(t, err);
    if (!tuning->adapted) {
        gr_fail(err, GRAFT_USAGE, "nothing would train: the run has no adapters");
        return gr_hint(err, "open it with fine_tune_type lora or dora");
    }
    if (!trains_own(tuning) || !t->o->resume_adapter_file) return GRAFT_OK;
    gr_fail(err, GRAFT_UNSUPPORTED, "cannot freeze the whole tensors that an adapter file brings");
    return gr_where(err, "%s", t->o->resume_adapter_file);
}

/* The same adapters; beside them nothing of the base trains, or everything. */
static graft_status retune(gr_tuning **out, const gr_tuning *from, const gr_model_config *c, bool lora_only,
                           graft_error *err) {
    gr_tuning *t;
    GR_TRY(gr_tuning_like(&t, from, c, err));
    t->bias = lora_only ? GR_BIAS_NONE : GR_BIAS_ALL;
    for (gr_role role = 0; role < GR_ROLES; role++)
        for (int64_t l = 0; l < (gr_role_table[role].in_block ? c->layers : 1); l++) {
            const gr_tuned *x = gr_tuning_of(from, role, l);
            bool own = !lora_only && gr_role_exists(role, c);
            gr_tuned *now = gr_tuning_at(t, role, l);
            *now = *x; /* the adapter as it is; gr_tuning_place finds new places */
            now->train_weight = now->saved = own;
            now->train_bias = own && gr_role_has_bias(role, c);
        }
    graft_status st = gr_tuning_place(t, c, err);
    if (st != GRAFT_OK) {
        gr_tuning_free(t);
        return st;
    }
    *out = t;
    return GRAFT_OK;
}

void gr_trainer_carry(float *to, const gr_tuning *now, const float *from, const gr_tuning *then) {
    for (size_t i = 0; i < now->param_count; i++)
        for (size_t k = 0; k < then->param_count; k++) {
            const gr_param *a = &now->params[i], *b = &then->params[k];
            if (a->kind == b->kind && a->role == b->role && a->layer == b->layer)
                memcpy(to + a->at, from + b->at, (size_t)gr_param_count(a) * sizeof *to);
        }
}

graft_status gr_trainer_freeze(gr_trainer *t, bool lora_only, graft_error *err) {
    const gr_model_config *c = &t->rt.model->config;
    gr_tuning *now, *then = t->rt.tuning;
    gr_arena state = t->state;
    const float *params = t->params;
    gr_net_config net = {.longest = t->work.longest, .tokens = t->net_config.tokens};
    if (lora_only && then->adapted && !trains_own(then)) return GRAFT_OK; /* it is so already */
    GR_TRY(check_freeze(t, lora_only, err));
    GR_TRY(retune(&now, then, c, lora_only, err));
    gr_trainer_unwatch(t);
    t->refrozen = true;
    gr_batch_free(&t->buffer);
    t->rt.tuning = now;
    t->state = (gr_arena){0};
    graft_status st = gr_trainer_reserve(t, &net, GR_TRAINER_RUN, err);
    if (st == GRAFT_OK) {
        gr_trainer_init_params(t);
        gr_trainer_carry(t->params, now, params, then);
        if (t->reference) memcpy(t->reference, t->params, (size_t)now->parameters * sizeof *t->params);
    } else {
        t->params = NULL;
    }
    gr_arena_free(&state);
    gr_tuning_free(then);
    return st;
}
