/* The program against every line of bad_inputs.txt: refused with one clear message and exit code 1 or 2,
 * within two seconds of processor time and 300 MB. With GRAFT_BAD_INPUTS=FILE the results are written there
 * as a table. */
#include "tests/tiny_gguf.h"
#include "tests/tiny_run.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* What would be a bug on any machine; docs/bad-inputs.md has what it was on one. */
#define SECONDS 10.0
#define BYTES   ((long)512 << 20)

typedef struct bad_input {
    char *what, *make, *arguments, *words;
} bad_input;

typedef struct outcome {
    int status; /* of waitpid */
    double seconds;
    long bytes;
    char message[4000];
} outcome;

/* Runs `sh -c command` in dir; what it says on stderr goes into dir/../said, its error into
 * message. */
static outcome run_in(const char *dir, const char *command) {
    outcome out = {0};
    struct rusage usage;
    char *said = tiny_join(root, "said");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int file = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0600), null = open("/dev/null", O_RDWR);
        alarm(60); /* ends what never ends, as a signal */
        if (chdir(dir) == 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(file, 2) >= 0)
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    while (wait4(child, &out.status, 0, &usage) < 0) assert_int_equal(errno, EINTR);
    out.seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                  1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    out.bytes = usage.ru_maxrss * 1024;
    FILE *f = fopen(said, "r");
    assert_non_null(f);
    out.message[fread(out.message, 1, sizeof out.message - 1, f)] = 0;
    char *error = strstr(out.message, "\ngraft "); /* behind what was noted about the rows */
    if (error) memmove(out.message, error + 1, strlen(error));
    fclose(f);
    free(said);
    return out;
}

/* ---- what the lines of the file start from */

static void write_many_messages(const char *dir) {
    gr_buf text = {0};
    for (int i = 0; i < 5000; i++)
        gr_buf_puts(&text,
                    "{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"y\"},");
    tiny_write(dir, "many", text.data);
    gr_buf_free(&text);
}

static char *make_base(void) {
    char *dir = tiny_subdir(root, "base");
    free(tiny_model_dir(dir, "m", &(tiny_spec){.dtype = GR_F32}));
    free(tiny_data_dir(dir, "d", 13, 5));
    tiny_write(dir, "c.json",
               "[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"yo\"}]");
    write_many_messages(dir);
    tiny_gguf_write(dir, "g.gguf");
    outcome trained = run_in(dir, "exec " GRAFT_BINARY " train --model m --data d --adapter-path a --iters 1 "
                                  "--batch-size 1 --lora-rank 2 --rank-pattern q_proj=4 --threads 1");
    if (trained.status) fail_msg("%s", trained.message);
    return dir;
}

/* ---- the lines */

/* Up to the next " | ", which is overwritten; NULL at the end. */
static char *field(char **rest) {
    char *start = *rest, *end = start ? strstr(start, " | ") : NULL;
    if (end) *end = 0;
    *rest = end ? end + 3 : NULL;
    return start;
}

/* Does the message hold all of the words, separated by " ;; "? */
static bool holds(const char *message, const char *words) {
    for (const char *end; *words; words = *end ? end + 4 : end) {
        char word[200];
        end = strstr(words, " ;; ");
        if (!end) end = words + strlen(words);
        snprintf(word, sizeof word, "%.*s", (int)(end - words), words);
        if (!strstr(message, word)) return false;
    }
    return true;
}

static const char *complaint(const outcome *o, const bad_input *b) {
    int code = WIFEXITED(o->status) ? WEXITSTATUS(o->status) : -1;
    if (WIFSIGNALED(o->status)) return "ended by a signal";
    if (code != 1 && code != 2) return "the exit code is neither 1 nor 2";
    if (strncmp(o->message, "graft", 5) != 0 || !strstr(o->message, ": ")) return "no message of graft";
    if (!holds(o->message, b->words)) return "the message lacks a word";
    if (!SANITIZED && o->seconds > SECONDS) return "it takes too long";
    if (!SANITIZED && o->bytes > BYTES) return "it takes too much memory";
    return NULL;
}

/* The message's first line, short enough for a table. */
static void put_cell(FILE *table, const char *text, size_t most) {
    for (size_t i = 0; text[i] && text[i] != '\n'; i++) {
        if (i == most) {
            fputs(" ..", table);
            break;
        }
        if (text[i] == '|' || text[i] == '\\' || text[i] == '<' || text[i] == '*' || text[i] == '_' ||
            text[i] == '`')
            fputc('\\', table);
        fputc(text[i], table);
    }
}

static void put_row(FILE *table, const bad_input *b, const outcome *o) {
    fputs("| ", table);
    put_cell(table, b->what, 80);
    fputs(" | ", table);
    put_cell(table, b->arguments, 60);
    fputs(" | ", table);
    put_cell(table, o->message, 170);
    fprintf(table, " | %d | %.2f | %ld |\n", WEXITSTATUS(o->status), o->seconds, o->bytes >> 20);
}

static bool try_one(const bad_input *b, FILE *table) {
    gr_buf command = {0};
    char *dir = tiny_subdir(root, "case");
    gr_buf_printf(&command, "cp -r ../base/. . && { %s; }", b->make);
    outcome made = run_in(dir, command.data);
    gr_buf_clear(&command);
    gr_buf_printf(&command, "HOME=$PWD XDG_CACHE_HOME=$PWD exec %s %s", GRAFT_BINARY, b->arguments);
    outcome o = run_in(dir, command.data);
    const char *wrong = made.status ? made.message : complaint(&o, b);
    if (wrong)
        print_error("%s: %s (status %d, %.2f s, %ld MB): %s\n", b->what, wrong, o.status, o.seconds,
                    o.bytes >> 20, o.message);
    if (table) put_row(table, b, &o);
    gr_buf_free(&command);
    tiny_remove(dir);
    return !wrong;
}

static void refused(void **state) {
    (void)state;
    const char *path = getenv("GRAFT_BAD_INPUTS");
    FILE *table = path ? fopen(path, "w") : NULL;
    char *base = make_base(), *text = tiny_read(GRAFT_SOURCE_DIR "/tests", "bad_inputs.txt", NULL), *rest;
    int count = 0, bad = 0;
    if (table)
        fputs("# Bad inputs\n\nWhat the program says to them, made by `make bad-inputs` from "
              "tests/bad_inputs.txt, which has "
              "how each is made. The files are those\nof a model of two layers; seconds are of the "
              "processor, MB the "
              "peak resident set.\n",
              table);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (table && strncmp(line, "## ", 3) == 0)
            fprintf(table,
                    "\n%s\n\n| input | graft .. | message | exit | s | MB |\n|---|---|---|---:|---:|---:|\n",
                    line);
        if (line[0] == '#') continue;
        bad_input b = {
            .what = field(&line), .make = field(&line), .arguments = field(&line), .words = field(&line)};
        if (!b.words || line) fail_msg("not four fields: %s", b.what);
        bad += !try_one(&b, table);
        count++;
    }
    if (table) assert_int_equal(fclose(table), 0);
    assert_true(count >= 60);
    if (bad) fail_msg("%d of %d inputs", bad, count);
    free(base);
    free(text);
}

int main(void) {
    setenv("TMPDIR", "/var/tmp", 0); /* a hole in a file in memory takes memory where it is read */
    const struct CMUnitTest tests[] = {cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
