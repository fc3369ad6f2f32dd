/* Any bytes as sweep.json, or where they begin with a bracket as its list of trials: refused, or every trial
 * has a state that there is. */
#include "scratch_dir.h"
#include "sweep/sweep.h"
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static scratch_dir dir;

static void remove_dir(void) {
    scratch_dir_free(&dir);
}

/* The list in a file of these options. */
static void write_list(const graft_options *o, const uint8_t *data, size_t size) {
    char *settings = gr_options_settings(o, GRAFT_VERB_TRAIN);
    json_t *head = json_pack("{s:s, s:s, s:s, s:s, s:s}", "grid", o->grid, "settings", settings, "base", "1",
                             "train", "2", "valid", "f");
    char *text = json_dumps(head, JSON_COMPACT);
    gr_buf all = {0};
    if (!text) abort();
    gr_buf_add(&all, text, strlen(text) - 1);
    gr_buf_puts(&all, ",\"trials\":");
    gr_buf_add(&all, data, size);
    gr_buf_puts(&all, "}");
    scratch_file(&dir, "sweep.json", all.data, all.len);
    gr_buf_free(&all);
    free(text);
    json_decref(head);
    free(settings);
}

static bool known(const char *state) {
    return strcmp(state, GRAFT_SWEEP_WAITING) == 0 || strcmp(state, GRAFT_SWEEP_DONE) == 0 ||
           strcmp(state, GRAFT_SWEEP_STOPPED) == 0 || strcmp(state, GRAFT_SWEEP_FAILED) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    graft_error err = {0};
    graft_options o;
    char one[] = "01_lora-rank=1", two[] = "02_lora-rank=2";
    graft_sweep_trial trials[2] = {{.name = one, .state = GRAFT_SWEEP_WAITING},
                                   {.name = two, .state = GRAFT_SWEEP_WAITING}};
    graft_sweep_result r = {.trials = trials, .ntrials = 2, .best = -1};
    gr_sweep_inputs inputs;
    bool found;
    if (!dir.path[0]) {
        dir = scratch_dir_new();
        atexit(remove_dir);
    }
    graft_options_init(&o);
    if (graft_options_set(&o, GRAFT_VERB_SWEEP, "grid", "lora-rank=1,2", &err) != GRAFT_OK) abort();
    if (size && data[0] == '[')
        write_list(&o, data, size);
    else
        scratch_file(&dir, "sweep.json", data, size);
    graft_status st = gr_sweep_load(&r, &inputs, &found, dir.path, &o, &err);
    if (!found || (st != GRAFT_OK && !err.what[0])) abort();
    for (int i = 0; i < 2; i++) {
        if (!known(trials[i].state) || (st == GRAFT_OK && trials[i].iterations < 0)) abort();
        free(trials[i].error);
    }
    graft_options_free(&o);
    return 0;
}
