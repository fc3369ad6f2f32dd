/* A checkpoint that was changed: a run of a tiny model is saved once; the input is what happened to the file
 * since. Resuming refuses it with a reason, or goes on from a state that makes sense, with which an iteration
 * is made. Input: a byte of flags (1: the rest is the file itself), else pieces of four bytes: place, place,
 * bytes XORed; 0xffff as place cuts the file. Fuzzing builds do not compare the checksum, so that the reader
 * behind it is reached. */
#include "scratch_dir.h"
#include "tests/tiny_dir.h"
#include "train/trainer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static scratch_dir dir; /* of this process */
static gr_trainer run;
static char place[400];
static char *saved;
static size_t saved_size;

static void remove_dir(void) {
    gr_trainer_close(&run);
    free(saved);
    scratch_dir_free(&dir);
}

/* A run of which nothing was done, and its checkpoint. */
static void start(void) {
    static graft_options o;
    static char model[64], data_dir[64], adapter[64];
    graft_error err = {0};
    char checkpoints[100];
    dir = scratch_dir_new();
    snprintf(model, sizeof model, "%s/base", dir.path);
    snprintf(data_dir, sizeof data_dir, "%s/data", dir.path);
    snprintf(adapter, sizeof adapter, "%s/out", dir.path);
    free(tiny_model_dir(dir.path, "base", &(tiny_spec){.bits = 4}));
    free(tiny_data_dir(dir.path, "data", 5, 0));
    graft_options_init(&o);
    tiny_set(&o, GRAFT_VERB_TRAIN,
             (const char *const[]){"model", model, "data", data_dir, "adapter-path", adapter, "lora-rank",
                                   "1", "lora-targets", "q_proj", "threads", "1", "iters", "4",
                                   "grad-accumulation-steps", "3", NULL});
    if (gr_make_dirs(adapter, &err) != GRAFT_OK) abort();
    if (gr_trainer_open(&run, model, &o, NULL, GR_TRAINER_RUN, &err) != GRAFT_OK) {
        fprintf(stderr, "%s, %s\n", err.what, err.where);
        abort();
    }
    if (gr_checkpoint_save(&run, &err) != GRAFT_OK) abort();
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", adapter);
    DIR *list = opendir(checkpoints);
    for (struct dirent *entry; list && (entry = readdir(list));)
        if (gr_ends_with(entry->d_name, ".safetensors"))
            snprintf(place, sizeof place, "%s/%s", checkpoints, entry->d_name);
    if (list) closedir(list);
    if (!place[0] || gr_file_read(&saved, &saved_size, place, 1 << 24, &err) != GRAFT_OK) abort();
    atexit(remove_dir);
}

static void write_changed(const uint8_t *data, size_t size) {
    char *bytes = malloc(saved_size);
    size_t count = saved_size;
    FILE *file = fopen(place, "wb");
    if (!bytes || !file) abort();
    memcpy(bytes, saved, saved_size);
    for (size_t i = 0; i + 4 <= size; i += 4) {
        size_t at = (size_t)(data[i] | data[i + 1] << 8);
        if (at == 0xffff)
            count = (size_t)(data[i + 2] | data[i + 3] << 8) % (saved_size + 1);
        else
            for (size_t k = 0; k < 2 && at + k < saved_size; k++) bytes[at + k] ^= (char)data[i + 2 + k];
    }
    if (fwrite(bytes, 1, count, file) != count || fclose(file) != 0) abort();
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    graft_error err = {0};
    bool found = false;
    if (!saved) start();
    if (size < 1) return 0;
    if (data[0] & 1) {
        FILE *file = fopen(place, "wb");
        if (!file || fwrite(data + 1, 1, size - 1, file) != size - 1 || fclose(file) != 0) abort();
    } else {
        write_changed(data + 1, size - 1);
    }
    graft_status st = gr_checkpoint_resume(&run, &found, &err);
    if (st != GRAFT_OK && (st == GRAFT_INTERNAL || !err.what[0])) abort();
    const gr_train_progress *p = &run.p;
    if (st != GRAFT_OK || !found) return 0;
    if (p->iteration < 0 || p->update < 0 || p->position < 0) abort();
    if (p->iteration >= run.iters) return 0;
    int64_t update = p->update, pending = p->pending_iterations;
    gr_trainer_iteration(&run);
    if (p->update == update ? p->pending_iterations != pending + 1 : p->pending_iterations != 0) abort();
    return 0;
}
