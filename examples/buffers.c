/* buffers MODEL - trains with nothing from a disk and nothing on it: weights, configuration, tokenizer and
 * rows are buffers of this program, which steps through the training itself and takes the adapter's numbers
 * out of memory.
 *
 * An application would have the buffers from its own archive or from the network. Here MODEL, a directory
 * with config.json, tokenizer.json, tokenizer_config.json and model.safetensors, is read into memory first.
 *
 *     cc buffers.c $(pkg-config --cflags --libs graft) -o buffers
 */
#include <graft.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char rows[] =
    "{\"prompt\": \"What is a scion?\", \"completion\": \"A shoot that is grafted.\"}\n"
    "{\"prompt\": \"What is a rootstock?\", \"completion\": \"What it is grafted onto.\"}\n"
    "{\"text\": \"A scion grafted onto a frozen rootstock.\"}\n";

/* The whole file, as if it had come from elsewhere. */
static graft_file take(const char *path, const char *dir, const char *name) {
    char from[1024];
    graft_file file = {.path = path};
    snprintf(from, sizeof from, "%s/%s", dir, name);
    FILE *f = fopen(from, "rb");
    long bytes = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    void *data = bytes > 0 ? malloc((size_t)bytes) : NULL;
    if (data) rewind(f);
    if (!data || fread(data, 1, (size_t)bytes, f) != (size_t)bytes) {
        fprintf(stderr, "cannot read %s\n", from);
        exit(1);
    }
    fclose(f);
    file.data = data;
    file.bytes = (size_t)bytes;
    return file;
}

/* The adapter as the host would store or send it: tensors by name. */
static void keep(const graft_trainer *t) {
    size_t tensors = 0, numbers = 0;
    double squares = 0;
    for (size_t i = 0; i < graft_trainer_count(t); i++) {
        const float *values = graft_trainer_values(t, i);
        graft_parameter p;
        if (!values) continue; /* frozen */
        graft_trainer_parameter(t, i, &p);
        size_t n = (size_t)p.shape[0] * (size_t)(p.shape[1] ? p.shape[1] : 1);
        for (size_t k = 0; k < n; k++) squares += (double)values[k] * values[k];
        tensors++, numbers += n;
    }
    printf("%zu tensors, %zu numbers, sum of squares %.6f\n", tensors, numbers, squares);
}

static graft_status train(const graft_options *options, graft_error *err) {
    graft_trainer *t;
    graft_status st = graft_trainer_open(&t, options, NULL, err);
    if (st != GRAFT_OK) return st;
    for (int i = 1; st == GRAFT_OK && i <= 8; i++) {
        double loss;
        st = graft_trainer_step(t, &loss, err);
        if (st == GRAFT_OK) printf("update %d: loss %.4f\n", i, loss);
    }
    if (st == GRAFT_OK) keep(t);
    graft_trainer_free(t);
    return st;
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: buffers MODEL\n"), 2;
    /* the paths are names only: no such directory is on any disk */
    graft_file files[] = {take("app/base/config.json", argv[1], "config.json"),
                          take("app/base/tokenizer.json", argv[1], "tokenizer.json"),
                          take("app/base/tokenizer_config.json", argv[1], "tokenizer_config.json"),
                          take("app/base/model.safetensors", argv[1], "model.safetensors"),
                          {.path = "app/rows.jsonl", .data = rows, .bytes = sizeof rows - 1}};
    graft_options options;
    graft_error err = {0};
    graft_options_init(&options);
    options.files = files;
    options.file_count = sizeof files / sizeof *files;
    options.batch_size = 3;
    graft_status st = graft_options_set(&options, GRAFT_VERB_TRAIN, "model", "app/base", &err);
    if (st == GRAFT_OK) st = graft_options_set(&options, GRAFT_VERB_TRAIN, "data", "app/rows.jsonl", &err);
    if (st == GRAFT_OK) st = train(&options, &err);
    graft_options_free(&options);
    for (int i = 0; i < 4; i++) free((void *)files[i].data);
    if (st != GRAFT_OK) fprintf(stderr, "%s: %s\n", err.what, err.where);
    return st == GRAFT_OK ? 0 : 1;
}
