#include "files/json_write.h"
#include "model/identity.h"
#include "train/checkpoint_files.h"
#include "train/checkpoint_parts.h"
#include <math.h>
#include <stdio.h>

#define VECTORS      (2 + GR_OPTIM_STATES + GR_TREE_LEVELS)
#define REFERENCE    "reference"
#define COUNTER_MOST ((int64_t)1 << 53) /* sums of counters are far from overflow */

/* Doubles travel as the bits they are: a resumed sum is the same sum. */
static json_t *bits(double value) {
    return gr_json_bits(&value, 1);
}

/* What other files have a word for. */
static bool add_parts(json_t *progress, const gr_trainer *t) {
    bool known = t->rt.model->part_digests != NULL; /* else a model without files */
    return json_object_set_new(progress, "health", gr_health_json(&t->p.health)) == 0 &&
           json_object_set_new(progress, "stale", json_integer(t->p.stale)) == 0 &&
           (!t->preference.loss ||
            json_object_set_new(progress, "preference", gr_preference_json(&t->p.preference)) == 0) &&
           (!known || json_object_set_new(progress, "base_tensors", gr_identity_json(t->rt.model)) == 0);
}

static char *progress_text(const gr_trainer *t) {
    const gr_train_progress *p = &t->p;
    json_t *j = json_pack(
        "{s:I,s:I,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:I,s:I}", "now",
        t->now, "report_iterations", p->report_iterations, "train_loss", bits(p->train_loss), "iteration",
        p->iteration, "update", p->update, "validated", p->validated, "pending_iterations",
        p->pending_iterations, "pending_rows", (json_int_t)p->pending_rows, "pending_targets",
        p->pending_targets, "epoch", (json_int_t)p->epoch, "position", p->position, "report_loss",
        bits(p->report_loss), "report_tokens", p->report_tokens, "trained_tokens", p->trained_tokens,
        "grad_norm", bits(p->grad_norm), "rate", bits(p->rate), "first_val", bits(p->first_val), "last_val",
        bits(p->last_val), "best_val", bits(p->best_val), "best_iteration", p->best_iteration,
        "metrics_bytes", (json_int_t)p->metrics_bytes);
    json_t *made_from = gr_checkpoint_inputs(t);
    bool whole = j && made_from && json_object_update(j, made_from) == 0 && add_parts(j, t);
    char *text = whole ? gr_json_dump(j, JSON_COMPACT) : NULL;
    json_decref(made_from);
    json_decref(j);
    return text;
}

/* The vectors of a checkpoint: parameters, optimizer, and the tree's slots that hold something. */
static size_t list_vectors(const gr_trainer *t, gr_tensor tensors[VECTORS], char names[VECTORS][16]) {
    size_t count = 0;
    int64_t n = t->rt.tuning->parameters;
#define ADD(vector, n, ...)                                                                                  \
    do {                                                                                                     \
        snprintf(names[count], sizeof names[count], __VA_ARGS__);                                            \
        tensors[count] = (gr_tensor){.name = names[count],                                                   \
                                     .dtype = GR_F32,                                                        \
                                     .ndim = 1,                                                              \
                                     .shape = {n},                                                           \
                                     .data = (const uint8_t *)(vector),                                      \
                                     .bytes = (size_t)n * sizeof(float)};                                    \
        count++;                                                                                             \
    } while (0)
    ADD(t->params, n, "params");
    if (t->reference) ADD(t->reference, n, REFERENCE);
    for (int i = 0; i < GR_OPTIM_STATES; i++)
        if (t->optim.state_floats[i]) ADD(t->optim.state[i], t->optim.state_floats[i], "optim%d", i);
    float *level[GR_TREE_LEVELS];
    gr_gradients_levels(&t->gradients, t->p.pending_rows, level);
    for (int i = 0; i < GR_TREE_LEVELS; i++)
        if (level[i] && t->p.pending_rows >> i & 1) ADD(level[i], n, "slot%d", i);
#undef ADD
    return count;
}

/* Sum over the progress and the names and bytes of the vectors, each by itself so that their order in the
 * file does not matter: a damaged checkpoint is recognized. */
static void checksum(char text[24], const char *progress, const gr_tensor *tensors, size_t count) {
    uint64_t sum = gr_digest_bytes(GR_DIGEST_START, progress, strlen(progress));
    for (size_t i = 0; i < count; i++) {
        uint64_t h = gr_digest_bytes(GR_DIGEST_START, tensors[i].name, strlen(tensors[i].name));
        sum += gr_digest_blocks(h, tensors[i].data, tensors[i].bytes);
    }
    snprintf(text, 24, "%016llx", (unsigned long long)sum);
}

graft_status gr_checkpoint_save(gr_trainer *t, graft_error *err) {
    gr_tensor tensors[VECTORS];
    char names[VECTORS][16], sum[24];
    size_t count = list_vectors(t, tensors, names);
    char *text = progress_text(t), *path = gr_checkpoint_path(t, t->p.iteration), *dir = gr_checkpoint_dir(t);
    graft_status st = text && path && dir ? gr_make_dirs(dir, err) : gr_no_memory(err, 0);
    if (st == GRAFT_OK) {
        checksum(sum, text, tensors, count);
        const char *metadata[] = {"progress", text, "checksum", sum, NULL};
        st = gr_safetensors_save(path, tensors, count, metadata, err);
    }
    free(text);
    free(path);
    free(dir);
    if (st != GRAFT_OK) return st;
    gr_checkpoint_rotate(t, t->p.iteration, t->o->keep_last);
    return GRAFT_OK;
}

static graft_status read_bits(const gr_json_scope *root, const char *key, double *value, graft_error *err) {
    GR_TRY(gr_json_need(root, key, err));
    return gr_json_read_bits(root, key, value, 1, err);
}

static graft_status read_int(const gr_json_scope *root, const char *key, int64_t *value, graft_error *err) {
    GR_TRY(gr_json_need(root, key, err));
    return gr_json_int(root, key, 0, COUNTER_MOST, value, err);
}

static graft_status read_progress(const gr_json_scope *root, gr_train_progress *p, graft_error *err) {
    int64_t rows, epoch, bytes;
    GR_TRY(read_int(root, "report_iterations", &p->report_iterations, err));
    GR_TRY(read_bits(root, "train_loss", &p->train_loss, err));
    GR_TRY(read_int(root, "iteration", &p->iteration, err));
    GR_TRY(read_int(root, "update", &p->update, err));
    GR_TRY(gr_json_need(root, "validated", err));
    GR_TRY(gr_json_int(root, "validated", -1, COUNTER_MOST, &p->validated, err));
    GR_TRY(read_int(root, "pending_iterations", &p->pending_iterations, err));
    GR_TRY(read_int(root, "pending_rows", &rows, err));
    GR_TRY(read_int(root, "pending_targets", &p->pending_targets, err));
    GR_TRY(read_int(root, "epoch", &epoch, err));
    GR_TRY(read_int(root, "position", &p->position, err));
    GR_TRY(read_bits(root, "report_loss", &p->report_loss, err));
    GR_TRY(read_int(root, "report_tokens", &p->report_tokens, err));
    GR_TRY(read_int(root, "trained_tokens", &p->trained_tokens, err));
    GR_TRY(read_bits(root, "grad_norm", &p->grad_norm, err));
    GR_TRY(read_bits(root, "rate", &p->rate, err));
    GR_TRY(read_bits(root, "first_val", &p->first_val, err));
    GR_TRY(read_bits(root, "last_val", &p->last_val, err));
    GR_TRY(read_bits(root, "best_val", &p->best_val, err));
    GR_TRY(read_int(root, "best_iteration", &p->best_iteration, err));
    p->stale = 0; /* of checkpoints that do not have it */
    GR_TRY(gr_json_int(root, "stale", 0, COUNTER_MOST, &p->stale, err));
    GR_TRY(read_int(root, "metrics_bytes", &bytes, err));
    GR_TRY(gr_health_read(&p->health, root, err));
    GR_TRY(gr_preference_read(&p->preference, root, err));
    p->pending_rows = (uint64_t)rows;
    p->epoch = (uint64_t)epoch;
    p->metrics_bytes = (uint64_t)bytes;
    return GRAFT_OK;
}

/* Opens a checkpoint whose bytes are those that were written. Any damage is GRAFT_CORRUPT, whatever it made
 * of the file. *progress is borrowed from it. Caller closes *file in every case. */
static graft_status open_checked(gr_safetensors **file, const char **progress, const char *path,
                                 gr_reading how, graft_error *err) {
    char sum[24];
    graft_status st = gr_safetensors_open_as(file, path, how, err);
    if (st == GRAFT_IO || st == GRAFT_NO_MEMORY || st == GRAFT_NOT_FOUND) return st;
    if (st != GRAFT_OK) return err->status = GRAFT_CORRUPT;
    *progress = gr_safetensors_metadata(*file, "progress");
    const char *recorded = gr_safetensors_metadata(*file, "checksum");
    if (!*progress || !recorded) {
        gr_fail(err, GRAFT_CORRUPT, "not a checkpoint");
        return gr_where(err, "%s", path);
    }
    size_t count = gr_safetensors_count(*file);
    checksum(sum, *progress, count ? gr_safetensors_at(*file, 0) : NULL, count);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    return GRAFT_OK; /* a fuzzer never guesses a checksum, and would not see what is behind it */
#endif
    if (strcmp(recorded, sum) == 0) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "checkpoint is damaged");
    gr_where(err, "%s", path);
    return gr_found(err, "checksum %s", sum);
}

/* What dpo compares with is part of the run. Only a file that another program wrote comes here: a run looks
 * into its checkpoint before it lays out its vectors. */
static graft_status check_reference(const gr_trainer *t, const gr_safetensors *file, const char *path,
                                    graft_error *err) {
    if (t->reference || !gr_safetensors_find(file, REFERENCE)) return GRAFT_OK;
    gr_fail(err, GRAFT_MISMATCH,
            "cannot resume: the checkpoint's reference is an adapter, this run's the base");
    gr_where(err, "%s", path);
    return gr_hint(err, "give --resume-adapter-file as the first run did");
}

/* Copies the vectors after checking that all are there. */
static graft_status read_vectors(gr_trainer *t, const gr_safetensors *file, const char *path,
                                 graft_error *err) {
    gr_tensor wanted[VECTORS], found[VECTORS];
    char names[VECTORS][16];
    size_t count = list_vectors(t, wanted, names);
    GR_TRY(check_reference(t, file, path, err));
    for (size_t i = 0; i < count; i++) {
        const gr_tensor *x = gr_safetensors_find(file, wanted[i].name);
        if (!x || x->dtype != GR_F32 || x->bytes != wanted[i].bytes) {
            gr_fail(err, GRAFT_MISMATCH, "cannot resume: the checkpoint lacks %s, or its size differs",
                    wanted[i].name);
            gr_where(err, "%s", path);
            return gr_hint(err, "the settings of the first run fit it");
        }
        found[i] = *x;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy((void *)(uintptr_t)wanted[i].data, found[i].data, found[i].bytes);
        gr_map_release(found[i].data, found[i].bytes); /* the forecast has room for one copy of the state */
    }
    return GRAFT_OK;
}

/* Will validations not compare with those so far? --val-batches counts batches, and mlx-lm's loss drops the
 * one that is not full. */
static bool other_validation(const gr_trainer *t, const gr_changes *c) {
    static const char *const names[] = {"data", "model",     "val-batches",     "compute",
                                        "beta", "loss-type", "label-smoothing", "qat"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (gr_changes_has(c, names[i])) return true;
    return gr_changes_has(c, "batch-size") && (t->o->val_batches >= 0 || t->mlx_loss);
}

/* Counters that no run comes to would lead beyond the tree's slots and the data's end. most: rows of an
 * update. */
static graft_status check_counters(const gr_trainer *t, int64_t most, const char *path, graft_error *err) {
    const gr_train_progress *p = &t->p;
    int64_t parts = t->o->grad_accumulation_steps,
            pending = gr_min_i64(p->pending_iterations, parts); /* a file's number overflows nothing */
    uint64_t rows = (uint64_t)gr_min_i64(most, pending * t->o->batch_size);
    bool whole = p->pending_iterations < parts && p->pending_iterations <= p->iteration &&
                 p->pending_rows <= rows && p->update <= p->iteration && p->epoch <= (uint64_t)p->iteration;
    if (whole) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "the checkpoint's counters contradict each other");
    gr_where(err, "%s", path);
    return gr_found(err, "iteration %lld, update %lld, epoch %llu; %lld iterations and %llu rows pending",
                    (long long)p->iteration, (long long)p->update, (unsigned long long)p->epoch,
                    (long long)p->pending_iterations, (unsigned long long)p->pending_rows);
}

static void forget_validation(gr_trainer *t) {
    gr_train_progress *p = &t->p;
    if (t->o->keep_best && !isnan(p->best_val)) {
        gr_trainer_note(t, "validation is another one from here on: the best adapter is sought anew");
        gr_best_forget(t); /* without --keep-best nothing would take its place */
    }
    p->first_val = p->last_val = p->best_val = NAN;
    p->best_iteration = p->stale = 0;
    p->validated = -1;
}

/* What stands in an intact checkpoint. */
static graft_status take(gr_trainer *t, const gr_safetensors *file, const gr_json_scope *root,
                         gr_changes *changes, graft_error *err) {
    int64_t most = gr_trainer_update_rows(t); /* that t is bound for */
    GR_TRY(read_progress(root, &t->p, err));
    gr_trainer_go_on(t);
    GR_TRY(gr_checkpoint_check(t, root, &t->p, changes, err));
    GR_TRY(check_counters(t, most, root->file, err));
    GR_TRY(read_vectors(t, file, root->file, err));
    if (changes->allowed.len) /* other rows, or other packs: what is left of a shorter epoch */
        t->p.position = gr_min_i64(t->p.position, gr_order_units(&t->order));
    if (gr_changes_has(changes, "data")) t->p.health.good_row = 0; /* it is another row now */
    if (other_validation(t, changes)) forget_validation(t);
    return gr_order_seek(&t->order, t->p.epoch, t->p.position, err);
}

static graft_status read_checkpoint(gr_trainer *t, const char *path, graft_error *err) {
    gr_safetensors *file = NULL;
    json_t *object = NULL;
    gr_train_progress before = t->p;
    int64_t iters = t->iters, updates = t->updates;
    gr_changes changes = {.allow = t->o->allow_changes, .other_base = t->o->allow_other_base};
    const char *text = NULL;
    graft_status st = open_checked(&file, &text, path, gr_options_reading(t->o), err);
    if (st == GRAFT_OK) st = gr_json_parse(&object, text, strlen(text), path, err);
    gr_json_scope root = {object, path, ""};
    if (st == GRAFT_OK) st = take(t, file, &root, &changes, err);
    if (st == GRAFT_OK)
        gr_checkpoint_say(t, &root, &changes);
    else
        t->p = before, t->iters = iters, t->updates = updates;
    gr_changes_free(&changes);
    json_decref(object);
    gr_safetensors_close(file);
    return st;
}

/* One number of an intact checkpoint's progress; *reference: it has dpo's. */
static graft_status peek(int64_t *value, bool *reference, const char *path, const char *key, gr_reading how,
                         graft_error *err) {
    gr_safetensors *file = NULL;
    json_t *object = NULL;
    const char *text = NULL;
    graft_status st = open_checked(&file, &text, path, how, err);
    if (st == GRAFT_OK) st = gr_json_parse(&object, text, strlen(text), path, err);
    const gr_json_scope root = {object, path, ""};
    if (st == GRAFT_OK) st = read_int(&root, key, value, err);
    if (st == GRAFT_OK) *reference = gr_safetensors_find(file, REFERENCE) != NULL;
    json_decref(object);
    gr_safetensors_close(file);
    return st;
}

graft_status gr_checkpoint_verify(const char *path, int64_t *iteration, graft_error *err) {
    bool reference;
    return peek(iteration, &reference, path, "iteration", GR_MAPPED, err);
}

bool gr_checkpoint_peek(const gr_trainer *t, int64_t *now, bool *reference) {
    bool found = false;
    for (int64_t i = gr_checkpoint_newest(t, INT64_MAX); i >= 0 && !found; i = gr_checkpoint_newest(t, i)) {
        graft_error none = {0};
        char *path = gr_checkpoint_path(t, i);
        found = path && peek(now, reference, path, "now", gr_options_reading(t->o), &none) == GRAFT_OK;
        free(path);
    }
    return found;
}

graft_status gr_checkpoint_resume(gr_trainer *t, bool *found, graft_error *err) {
    int64_t limit, older;
    *found = false;
    GR_TRY(gr_checkpoint_find(&limit, t, INT64_MAX, err));
    for (; limit >= 0; limit = older) {
        char *path = gr_checkpoint_path(t, limit);
        graft_error why = {0};
        graft_status st = path ? read_checkpoint(t, path, &why) : gr_no_memory(&why, 0);
        if (gr_checkpoint_find(&older, t, limit, err) != GRAFT_OK) {
            free(path);
            return err->status;
        }
        *found = st == GRAFT_OK;
        if (st == GRAFT_OK) gr_checkpoint_set_aside(t, limit);
        if (st == GRAFT_CORRUPT && older >= 0)
            gr_trainer_note(t, "%s: %s; trying the one before", path, why.what);
        if (st == GRAFT_CORRUPT && older < 0)
            gr_hint(&why, "no older checkpoint is left: train without --resume to start anew "
                          "(--resume-adapter-file starts from an adapter)");
        free(path);
        if (st == GRAFT_CORRUPT && older >= 0) continue;
        if (st != GRAFT_OK && err->status == GRAFT_OK) *err = why;
        return st;
    }
    return GRAFT_OK;
}
