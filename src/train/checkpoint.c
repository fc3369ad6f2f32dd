#include "base/digest.h"
#include "files/json_read.h"
#include "files/json_write.h"
#include "train/trainer.h"
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#define VECTORS (1 + GR_OPTIM_STATES + GR_TREE_LEVELS)
#define KEPT    2 /* the newest, and one before it in case the newest is damaged later */

static char *checkpoint_dir(const gr_trainer *t) {
    return gr_path_join(t->dir, "checkpoints");
}

static void name_of(char *name, size_t size, int64_t iteration) {
    snprintf(name, size, "checkpoint-%08lld.safetensors", (long long)iteration);
}

/* Number in "checkpoint-00000100.safetensors", -1 for other names. */
static int64_t number_of(const char *name) {
    static const char prefix[] = "checkpoint-";
    char again[64];
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    long long n = strtoll(name + sizeof prefix - 1, NULL, 10);
    name_of(again, sizeof again, n); /* more than eight digits are fine, any other spelling is not ours */
    return n >= 0 && strcmp(name, again) == 0 ? n : -1;
}

static char *checkpoint_path(const gr_trainer *t, int64_t iteration) {
    char name[64];
    char *dir = checkpoint_dir(t), *path = NULL;
    name_of(name, sizeof name, iteration);
    if (dir) path = gr_path_join(dir, name);
    free(dir);
    return path;
}

/* Calls visit for the iteration number of every checkpoint. */
static void each_checkpoint(const gr_trainer *t, void (*visit)(void *user, int64_t iteration), void *user) {
    char *path = checkpoint_dir(t);
    DIR *dir = path ? opendir(path) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        int64_t n = number_of(entry->d_name);
        if (n >= 0) visit(user, n);
    }
    if (dir) closedir(dir);
    free(path);
}

typedef struct newest_below {
    int64_t limit, best;
} newest_below;

static void keep_newest(void *user, int64_t iteration) {
    newest_below *n = user;
    if (iteration < n->limit && iteration > n->best) n->best = iteration;
}

/* The newest checkpoint below `limit`; -1: none. */
static int64_t newest(const gr_trainer *t, int64_t limit) {
    newest_below n = {limit, -1};
    each_checkpoint(t, keep_newest, &n);
    return n.best;
}

static void remove_checkpoint(const gr_trainer *t, int64_t iteration) {
    char *path = checkpoint_path(t, iteration);
    if (path) unlink(path);
    free(path);
}

graft_status gr_checkpoint_clear(const gr_trainer *t, graft_error *err) {
    int64_t iteration;
    (void)err;
    while ((iteration = newest(t, INT64_MAX)) >= 0) {
        remove_checkpoint(t, iteration);
        if (newest(t, INT64_MAX) == iteration) { /* it would not go away */
            gr_fail(err, GRAFT_IO, "cannot remove an old checkpoint");
            return gr_where(err, "%s/checkpoints", t->dir);
        }
    }
    return GRAFT_OK;
}

static json_t *hex(uint64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
    return json_string(text);
}

/* Doubles travel as the bits they are: a resumed sum is the same sum. */
static json_t *bits(double value) {
    uint64_t word;
    memcpy(&word, &value, 8);
    return hex(word);
}

/* What trains, how large it is, and the scales: parameters mean nothing without them. */
static uint64_t adapter_shape(const gr_tuning *tuning) {
    uint64_t h = GR_DIGEST_START, scale;
    memcpy(&scale, &tuning->scale, 8);
    h = gr_digest_step(h, scale);
    for (size_t i = 0; i < tuning->param_count; i++) {
        const gr_param *p = &tuning->params[i];
        double of = p->kind == GR_PARAM_A ? (double)gr_tuning_of(tuning, p->role, p->layer)->scale : 0;
        memcpy(&scale, &of, 8);
        uint64_t words[] = {(uint64_t)p->kind, (uint64_t)p->role, (uint64_t)p->layer,
                            (uint64_t)p->rows, (uint64_t)p->cols, scale};
        for (size_t k = 0; k < sizeof words / sizeof *words; k++) h = gr_digest_step(h, words[k]);
    }
    return h;
}

static char *progress_text(const gr_trainer *t) {
    const gr_train_progress *p = &t->p;
    char *settings = gr_options_settings(t->o, GRAFT_VERB_TRAIN);
    json_t *j = json_pack("{s:I,s:I,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:I,"
                          "s:I,s:o,s:o,s:o,s:s}",
                          "now", t->now, "report_iterations", p->report_iterations, "train_loss",
                          bits(p->train_loss), "iteration", p->iteration, "update", p->update, "validated",
                          p->validated, "pending_iterations", p->pending_iterations, "pending_rows",
                          (json_int_t)p->pending_rows, "pending_targets", p->pending_targets, "epoch",
                          (json_int_t)p->epoch, "position", p->position, "report_loss", bits(p->report_loss),
                          "report_tokens", p->report_tokens, "trained_tokens", p->trained_tokens, "grad_norm",
                          bits(p->grad_norm), "rate", bits(p->rate), "first_val", bits(p->first_val),
                          "last_val", bits(p->last_val), "best_val", bits(p->best_val), "best_iteration",
                          p->best_iteration, "metrics_bytes", (json_int_t)p->metrics_bytes, "adapter",
                          hex(adapter_shape(t->rt.tuning)), "base", hex(t->rt.model->digest), "data",
                          hex(gr_rows_digest(t->train)), "settings", settings ? settings : "");
    char *text = j ? gr_json_dump(j, JSON_COMPACT) : NULL;
    json_decref(j);
    free(settings);
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
 * file does not matter: a damaged checkpoint is recognized. Their bytes are whole f32. */
static void checksum(char text[24], const char *progress, const gr_tensor *tensors, size_t count) {
    uint64_t sum = gr_digest_bytes(GR_DIGEST_START, progress, strlen(progress));
    for (size_t i = 0; i < count; i++) {
        uint64_t h = gr_digest_bytes(GR_DIGEST_START, tensors[i].name, strlen(tensors[i].name));
        for (size_t k = 0; k + 4 <= tensors[i].bytes; k += 4) {
            uint32_t word;
            memcpy(&word, tensors[i].data + k, 4);
            h = gr_digest_step(h, word);
        }
        sum += h;
    }
    snprintf(text, 24, "%016llx", (unsigned long long)sum);
}

graft_status gr_checkpoint_save(gr_trainer *t, graft_error *err) {
    gr_tensor tensors[VECTORS];
    char names[VECTORS][16], sum[24];
    size_t count = list_vectors(t, tensors, names);
    char *text = progress_text(t), *path = checkpoint_path(t, t->p.iteration), *dir = checkpoint_dir(t);
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
    int64_t old = t->p.iteration;
    for (int i = 1; i < KEPT && old >= 0; i++) old = newest(t, old);
    while (old >= 0 && (old = newest(t, old)) >= 0) remove_checkpoint(t, old);
    return GRAFT_OK;
}

/* One hexadecimal word of the progress object. */
static graft_status read_hex(const gr_json_scope *root, const char *key, uint64_t *value, graft_error *err) {
    const char *text = NULL;
    char *end;
    GR_TRY(gr_json_need(root, key, err));
    GR_TRY(gr_json_string(root, key, &text, err));
    *value = strtoull(text, &end, 16);
    if (*end == 0 && end != text) return GRAFT_OK;
    return gr_json_wrong(root, key, "a hexadecimal word", gr_json_field(root, key), err);
}

static graft_status read_bits(const gr_json_scope *root, const char *key, double *value, graft_error *err) {
    uint64_t word;
    GR_TRY(read_hex(root, key, &word, err));
    memcpy(value, &word, 8);
    return GRAFT_OK;
}

static graft_status read_int(const gr_json_scope *root, const char *key, int64_t *value, graft_error *err) {
    GR_TRY(gr_json_need(root, key, err));
    return gr_json_int(root, key, 0, INT64_MAX, value, err);
}

static graft_status read_progress(const gr_json_scope *root, gr_train_progress *p, graft_error *err) {
    int64_t rows, epoch, bytes;
    GR_TRY(read_int(root, "report_iterations", &p->report_iterations, err));
    GR_TRY(read_bits(root, "train_loss", &p->train_loss, err));
    GR_TRY(read_int(root, "iteration", &p->iteration, err));
    GR_TRY(read_int(root, "update", &p->update, err));
    GR_TRY(gr_json_need(root, "validated", err));
    GR_TRY(gr_json_int(root, "validated", -1, INT64_MAX, &p->validated, err));
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
    GR_TRY(read_int(root, "metrics_bytes", &bytes, err));
    p->pending_rows = (uint64_t)rows;
    p->epoch = (uint64_t)epoch;
    p->metrics_bytes = (uint64_t)bytes;
    return GRAFT_OK;
}

/* Base, data and settings must be those of the checkpoint. */
static graft_status check_same(const gr_trainer *t, const gr_json_scope *root, graft_error *err) {
    uint64_t base, data, adapter;
    const char *then = "";
    GR_TRY(read_hex(root, "base", &base, err));
    GR_TRY(read_hex(root, "data", &data, err));
    GR_TRY(read_hex(root, "adapter", &adapter, err));
    GR_TRY(gr_json_string(root, "settings", &then, err));
    const char *what = base != t->rt.model->digest        ? "the base model"
                       : data != gr_rows_digest(t->train) ? "the training data"
                                                          : NULL;
    char *now = gr_options_settings(t->o, GRAFT_VERB_TRAIN),
         *changed = now && !what ? gr_settings_changed(then, now) : NULL;
    free(now);
    if (!what && !changed && adapter != adapter_shape(t->rt.tuning))
        what = "the adapter (what trains, its ranks or scales)";
    if (!what && !changed) return GRAFT_OK;
    gr_fail(err, GRAFT_MISMATCH, "cannot resume: %s differs from the checkpoint", what ? what : "a setting");
    gr_where(err, "%s", root->file);
    if (changed) gr_found(err, "%s", changed);
    free(changed);
    return gr_hint(err, "use the settings of the first run, or train without --resume to start anew");
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
    if (strcmp(recorded, sum) == 0) return GRAFT_OK;
    gr_fail(err, GRAFT_CORRUPT, "checkpoint is damaged");
    gr_where(err, "%s", path);
    return gr_found(err, "checksum %s", sum);
}

/* Copies the vectors after checking that all are there. */
static graft_status read_vectors(gr_trainer *t, const gr_safetensors *file, const char *path,
                                 graft_error *err) {
    gr_tensor wanted[VECTORS], found[VECTORS];
    char names[VECTORS][16];
    size_t count = list_vectors(t, wanted, names);
    for (size_t i = 0; i < count; i++) {
        const gr_tensor *x = gr_safetensors_find(file, wanted[i].name);
        if (!x || x->dtype != GR_F32 || x->bytes != wanted[i].bytes) {
            gr_fail(err, GRAFT_CORRUPT, "checkpoint lacks %s, or its size differs", wanted[i].name);
            return gr_where(err, "%s", path);
        }
        found[i] = *x;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy((void *)(uintptr_t)wanted[i].data, found[i].data, found[i].bytes);
        gr_map_release(found[i].data, found[i].bytes); /* the forecast has room for one copy of the state */
    }
    return GRAFT_OK;
}

static graft_status read_checkpoint(gr_trainer *t, const char *path, graft_error *err) {
    gr_safetensors *file = NULL;
    json_t *object = NULL;
    gr_train_progress before = t->p;
    const char *text = NULL;
    graft_status st = open_checked(&file, &text, path, gr_options_reading(t->o), err);
    if (st == GRAFT_OK) st = gr_json_parse(&object, text, strlen(text), path, err);
    gr_json_scope root = {object, path, ""};
    if (st == GRAFT_OK) st = check_same(t, &root, err);
    if (st == GRAFT_OK) st = read_progress(&root, &t->p, err);
    if (st == GRAFT_OK && t->p.pending_rows > (uint64_t)gr_trainer_update_rows(t))
        st = gr_fail(err, GRAFT_CORRUPT, "checkpoint has too many rows");
    if (st == GRAFT_OK) st = read_vectors(t, file, path, err);
    if (st == GRAFT_OK) st = gr_order_seek(&t->order, t->p.epoch, t->p.position, err);
    if (st != GRAFT_OK) t->p = before;
    json_decref(object);
    gr_safetensors_close(file);
    return st;
}

bool gr_checkpoint_peek_time(const gr_trainer *t, int64_t *now) {
    bool found = false;
    for (int64_t i = newest(t, INT64_MAX); i >= 0 && !found; i = newest(t, i)) {
        gr_safetensors *file = NULL;
        json_t *object = NULL;
        const char *text = NULL;
        graft_error none = {0};
        char *path = checkpoint_path(t, i);
        if (path && open_checked(&file, &text, path, gr_options_reading(t->o), &none) == GRAFT_OK &&
            gr_json_parse(&object, text, strlen(text), path, &none) == GRAFT_OK) {
            gr_json_scope root = {object, path, ""};
            found = read_int(&root, "now", now, &none) == GRAFT_OK;
        }
        json_decref(object);
        gr_safetensors_close(file);
        free(path);
    }
    return found;
}

graft_status gr_checkpoint_resume(gr_trainer *t, bool *found, graft_error *err) {
    int64_t limit = INT64_MAX;
    *found = false;
    for (;;) {
        int64_t iteration = newest(t, limit);
        if (iteration < 0) return GRAFT_OK;
        char *path = checkpoint_path(t, iteration);
        graft_error why = {0};
        graft_status st = path ? read_checkpoint(t, path, &why) : gr_no_memory(&why, 0);
        if (st == GRAFT_OK)
            *found = true;
        else if (st == GRAFT_CORRUPT && newest(t, iteration) >= 0)
            gr_trainer_note(t, "%s: %s; trying the one before", path, why.what);
        else if (err->status == GRAFT_OK)
            *err = why;
        free(path);
        if (st != GRAFT_CORRUPT) return st;
        if (newest(t, iteration) < 0) return st;
        limit = iteration;
    }
}
