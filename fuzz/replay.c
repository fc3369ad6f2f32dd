/* Replays a corpus without libFuzzer: every file of the given directories as it is, cut short, and with bytes
 * changed by a fixed generator. Fails when there is nothing to replay; crashes where the target does. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CUTS = 32, CHANGES = 64 };

/* Gives the target its own exact allocation, so that a read past the end is seen by the sanitizer. */
static void feed(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) {
        fprintf(stderr, "replay: out of memory\n");
        exit(1);
    }
    if (size) memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

/* xorshift64*: the same changes on every machine. */
static uint64_t next(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1DULL;
}

static void feed_variants(uint8_t *data, size_t size) {
    uint64_t state = 0x9E3779B97F4A7C15ULL ^ size;
    feed(data, size);
    for (size_t i = 0; i < CUTS; i++) feed(data, size * i / CUTS);
    for (int i = 0; size && i < CHANGES; i++) {
        size_t at = (size_t)(next(&state) % size);
        uint8_t kept = data[at];
        data[at] = (uint8_t)(next(&state) >> 40);
        feed(data, size);
        data[at] = kept;
    }
}

static uint8_t *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    uint8_t *data = NULL;
    long end = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
    if (end >= 0 && !fseek(file, 0, SEEK_SET)) data = malloc((size_t)end + 1);
    if (data && fread(data, 1, (size_t)end, file) != (size_t)end) {
        free(data);
        data = NULL;
    }
    fclose(file);
    *size = (size_t)end;
    return data;
}

static int replay(const char *directory) {
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort), fed = 0;
    if (count < 0) return 0;
    for (int i = 0; i < count; i++) {
        char path[4096];
        size_t size;
        int length = snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && length > 0 && length < (int)sizeof path) {
            uint8_t *data = read_file(path, &size);
            if (data) {
                feed_variants(data, size);
                fed++;
            }
            free(data);
        }
        free(entries[i]);
    }
    free(entries);
    return fed;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        int fed = replay(argv[i]);
        printf("replay: %d file(s) of %s\n", fed, argv[i]);
        if (!fed) {
            fprintf(stderr, "replay: nothing to read in %s\n", argv[i]);
            return 1;
        }
    }
    return argc < 2;
}
