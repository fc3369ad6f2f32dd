/* The command line as a user meets it: help, refusals, exit codes, pure stdout. Runs the built program. */
#include "graft.h"
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
// cmocka needs the four above
#include <cmocka.h>
// and this cmocka
#include "files/json_read.h"
#include "tests/tiny_dir.h"

typedef struct outcome {
    int code;
    char *out, *err; /* owned */
} outcome;

static char directory[] = "/tmp/graft_cli_XXXXXX";

static char *slurp(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

/* Runs the program in a directory of its own; `arguments` go through sh. `redirect` may replace where stdout
 * goes. */
static outcome run_to(const char *arguments, const char *redirect) {
    char command[4096];
    int n = snprintf(command, sizeof command, "cd '%s/cwd' && '%s' %s %s 2>../err </dev/null", directory,
                     GRAFT_BINARY, arguments, redirect);
    assert_in_range(n, 1, sizeof command - 1);
    int status = system(command);
    assert_true(WIFEXITED(status));
    return (outcome){WEXITSTATUS(status), slurp("out"), slurp("err")};
}

static outcome run(const char *arguments) {
    return run_to(arguments, ">../out");
}

static void drop(outcome *o) {
    free(o->out);
    free(o->err);
}

static char *trim(char *text) {
    while (*text == ' ') text++;
    size_t n = strlen(text);
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\n')) text[--n] = '\0';
    return text;
}

/* One row of cli_cases.txt; returns false after saying what differs. */
static bool case_holds(char *arguments, int code, char *texts) {
    outcome o = run(arguments);
    bool good = true;
    if (o.code != code) {
        print_error("graft %s: exit %d, expected %d\n%s", arguments, o.code, code, o.err);
        good = false;
    }
    if (o.out[0]) {
        print_error("graft %s: stdout holds %s\n", arguments, o.out);
        good = false;
    }
    for (char *text = texts; text;) {
        char *next = strstr(text, ";;");
        if (next) {
            *next = '\0';
            next += 2;
        }
        text = trim(text);
        if (!strstr(o.err, text)) {
            print_error("graft %s: stderr lacks \"%s\":\n%s", arguments, text, o.err);
            good = false;
        }
        text = next;
    }
    drop(&o);
    return good;
}

static void refuses_what_the_table_lists(void **state) {
    (void)state;
    FILE *f = fopen(GRAFT_SOURCE_DIR "/tests/cli_cases.txt", "rb");
    assert_non_null(f);
    char line[1024];
    int cases = 0, failed = 0;
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#' || line[0] == '\n') continue;
        char *code = strchr(line, '|'), *text = code ? strchr(code + 1, '|') : NULL;
        if (!text) fail_msg("not a case: %s", line);
        *code++ = '\0';
        *text++ = '\0';
        failed += !case_holds(trim(line), atoi(code), text);
        cases++;
    }
    fclose(f);
    assert_true(cases >= 50);
    assert_int_equal(failed, 0);
}

static const struct {
    const char *name;
    unsigned bit;
} verbs[] = {
    {"plan", GRAFT_VERB_PLAN},         {"convert", GRAFT_VERB_CONVERT},   {"train", GRAFT_VERB_TRAIN},
    {"eval", GRAFT_VERB_EVAL},         {"generate", GRAFT_VERB_GENERATE}, {"tokenize", GRAFT_VERB_TOKENIZE},
    {"info", GRAFT_VERB_INFO},         {"bench", GRAFT_VERB_BENCH},       {"fuse", GRAFT_VERB_FUSE},
    {"download", GRAFT_VERB_DOWNLOAD}, {"chat", GRAFT_VERB_CHAT},         {"serve", GRAFT_VERB_SERVE}};
enum { VERBS = sizeof verbs / sizeof *verbs };

static void help_shows_every_option_of_every_verb(void **state) {
    (void)state;
    for (int v = 0; v < VERBS; v++) {
        char arguments[64];
        snprintf(arguments, sizeof arguments, "%s --help", verbs[v].name);
        outcome o = run(arguments);
        assert_int_equal(o.code, 0);
        assert_string_equal(o.err, "");
        assert_non_null(strstr(o.out, "Usage: graft "));
        assert_non_null(strstr(o.out, "\nExamples\n  graft "));
        const graft_option *row;
        for (size_t i = 0; (row = graft_option_at(i)); i++) {
            char name[64];
            snprintf(name, sizeof name, "--%s%c", row->name, row->value ? ' ' : '\n');
            bool shown = strstr(o.out, name) != NULL;
            if (!shown && !row->value) { /* a switch: its help follows on the same line */
                snprintf(name, sizeof name, "    --%s ", row->name);
                shown = strstr(o.out, name) != NULL;
                snprintf(name, sizeof name, ", --%s ", row->name);
                shown = shown || strstr(o.out, name) != NULL;
            }
            bool taken = (row->verbs & verbs[v].bit) != 0;
            /* an example may name an option of its own verb only, so it cannot mislead this */
            if (shown != taken)
                fail_msg("graft %s: --%s %s", arguments, row->name, taken ? "missing" : "shown");
        }
        drop(&o);
    }
}

static void help_verb_is_verb_help(void **state) {
    (void)state;
    for (int v = 0; v < VERBS; v++) {
        char a[64], b[64], c[64];
        snprintf(a, sizeof a, "%s --help", verbs[v].name);
        snprintf(b, sizeof b, "help %s", verbs[v].name);
        snprintf(c, sizeof c, "%s -h", verbs[v].name);
        outcome x = run(a), y = run(b), z = run(c);
        assert_string_equal(x.out, y.out);
        assert_string_equal(x.out, z.out);
        assert_int_equal(y.code, 0);
        drop(&x);
        drop(&y);
        drop(&z);
    }
}

/* The page of one benchmark has what it takes and nothing else. */
static void help_of_a_benchmark(void **state) {
    (void)state;
    const char *const *names = graft_benchmarks();
    for (size_t k = 0; names[k]; k++) {
        char arguments[64], flag[64];
        snprintf(arguments, sizeof arguments, "bench %s --help", names[k]);
        outcome o = run(arguments);
        assert_int_equal(o.code, 0);
        for (size_t i = 0; graft_option_at(i); i++) {
            const graft_option *option = graft_option_at(i);
            if (!(option->verbs & GRAFT_VERB_BENCH)) continue;
            if (option->letter)
                snprintf(flag, sizeof flag, "  -%c, --%s ", option->letter, option->name);
            else
                snprintf(flag, sizeof flag, "    --%s ", option->name);
            if ((strstr(o.out, flag) != NULL) != graft_bench_takes(names[k], graft_option_at(i)->name))
                fail_msg("%s:%s", arguments, flag);
        }
        drop(&o);
    }
}

/* The command line has each benchmark of the library; a place where no picture can be ends it early. */
static void benchmarks_are_there(void **state) {
    (void)state;
    const char *const *names = graft_benchmarks();
    for (size_t k = 0; names[k]; k++) {
        char arguments[64];
        snprintf(arguments, sizeof arguments, "bench %s --svg /not/there/x.svg", names[k]);
        outcome o = run(arguments);
        assert_int_not_equal(o.code, 0);
        if (strstr(o.err, "no such benchmark")) fail_msg("%s: %s", names[k], o.err);
        drop(&o);
    }
}

static void program_help_names_every_verb(void **state) {
    (void)state;
    outcome o = run("--help"), h = run("help"), none = run("");
    assert_int_equal(o.code, 0);
    assert_string_equal(o.out, h.out);
    assert_int_equal(none.code, 2); /* no verb: the same page, but as an error */
    assert_string_equal(none.out, "");
    assert_string_equal(none.err, o.out);
    for (int v = 0; v < VERBS; v++) {
        char name[32];
        snprintf(name, sizeof name, "\n  %s ", verbs[v].name);
        assert_non_null(strstr(o.out, name));
    }
    drop(&o);
    drop(&h);
    drop(&none);
}

/* Every option with its last letter doubled is answered with a near name. */
static void mistyped_options_are_answered(void **state) {
    (void)state;
    const graft_option *row;
    for (size_t i = 0; (row = graft_option_at(i)); i++) {
        if (!(row->verbs & GRAFT_VERB_TRAIN)) continue;
        char arguments[96], hint[64];
        snprintf(arguments, sizeof arguments, "train --%s%c", row->name, row->name[strlen(row->name) - 1]);
        snprintf(hint, sizeof hint, "did you mean --%s?", row->name);
        outcome o = run(arguments);
        assert_int_equal(o.code, 2);
        if (!strstr(o.err, hint)) fail_msg("graft %s: %s", arguments, o.err);
        drop(&o);
    }
}

static void version_is_the_librarys(void **state) {
    (void)state;
    outcome o = run("--version"), t = run("train --version");
    assert_int_equal(o.code, 0);
    assert_string_equal(o.out, "graft " GRAFT_VERSION "\n");
    assert_string_equal(t.out, o.out);
    drop(&o);
    drop(&t);
}

/* One JSON document and nothing else; the caller drops the reference. */
static json_t *document_of(const char *arguments) {
    outcome o = run(arguments);
    if (o.code != 0) fail_msg("graft %s: exit %d\n%s", arguments, o.code, o.err);
    json_error_t error;
    json_t *document = json_loads(o.out, JSON_REJECT_DUPLICATES, &error); /* refuses anything after it */
    if (!document) fail_msg("graft %s: %s in\n%s", arguments, error.text, o.out);
    drop(&o);
    return document;
}

static void write_file(const char *name, const void *data, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/cwd/%s", directory, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void info_describes_a_file_in_json_and_in_words(void **state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"mlx\",\"odd\\u001b[31m\":\"of another program\"},"
        "\"some.tensor\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  ";
    unsigned char file[8 + sizeof header - 1 + 4] = {sizeof header - 1};
    memcpy(file + 8, header, sizeof header - 1);
    write_file("one.safetensors", file, sizeof file);
    json_t *document = document_of("info one.safetensors --json");
    assert_true(json_is_object(document));
    const json_t *metadata = json_object_get(document, "metadata");
    assert_int_equal(json_object_size(metadata), 2);
    assert_string_equal(json_string_value(json_object_get(metadata, "odd\x1b[31m")), "of another program");
    json_decref(document);
    outcome o = run("info one.safetensors");
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.out, "some.tensor"));
    assert_non_null(strstr(o.out, "of another program"));
    assert_string_equal(o.err, "");
    drop(&o);
}

/* What graft with the arguments (at most 7) writes to a terminal; malloc'ed. */
static char *on_terminal(char *const *arguments) {
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    char cwd[128], *text = NULL;
    size_t size = 0;
    snprintf(cwd, sizeof cwd, "%s/cwd", directory);
    int its_end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    pid_t child = fork();
    if (child == 0) {
        char *words[9] = {GRAFT_BINARY};
        for (size_t i = 0; i < 7 && arguments[i]; i++) words[i + 1] = arguments[i];
        if (chdir(cwd) == 0 && dup2(its_end, 1) == 1 && dup2(its_end, 2) == 2) execv(words[0], words);
        _exit(127);
    }
    close(its_end);
    FILE *to = open_memstream(&text, &size);
    char piece[512];
    for (ssize_t n; (n = read(terminal, piece, sizeof piece)) > 0;) fwrite(piece, 1, (size_t)n, to);
    fclose(to);
    close(terminal);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status) fail_msg("exit %d: %s", status, text);
    return text;
}

/* A terminal obeys escape sequences: those of a file do not reach it, as keys as little as as values. */
static void a_terminal_gets_no_escapes_of_a_file(void **state) {
    (void)state;
    static const char config[] = "{\"a\\u001b[2J\": {\"b\\u001b[2J\": [{\"c\\u001b[2J\": \"d\\u001b[2J\"}]}}";
    char command[160];
    snprintf(command, sizeof command,
             "mkdir -p %s/cwd/odd && cp %s/cwd/one.safetensors %s/cwd/odd/model.safetensors", directory,
             directory, directory);
    assert_int_equal(system(command), 0);
    write_file("odd/config.json", config, sizeof config - 1);
    char *text = on_terminal((char *[]){"info", "odd", NULL});
    for (char letter = 'a'; letter <= 'd'; letter++) {
        char shown[16];
        snprintf(shown, sizeof shown, "%c\\x1b[2J", letter);
        if (!strstr(text, shown)) fail_msg("%s", text);
    }
    assert_null(strchr(text, '\x1b'));
    free(text);
    /* and of a text without end it gets the beginning */
    char *longer = malloc(40100), tail[] = "\"}";
    assert_non_null(longer);
    int n = sprintf(longer, "{\"x\": \"a");
    for (size_t i = 0; i < 20000; i++) n += sprintf(longer + n, "\xc3\xa4");
    n += sprintf(longer + n, "%s", tail);
    write_file("odd/config.json", longer, (size_t)n);
    outcome o = run("info odd");
    assert_true(o.code == 0 && gr_json_utf8(o.out));
    assert_non_null(strstr(o.out, "\xc3\xa4 ... (40,001 bytes in all)\n"));
    drop(&o);
    free(longer);
}

static void plan_of_a_shape_is_the_documented_document(void **state) {
    (void)state;
    static const char *const parts[] = {"mapped", "state", "saved", "scratch", "other", "total"};
    json_t *document = document_of("plan --shape smollm2-135m --json");
    json_t *types = json_object_get(document, "types"), *memory = json_object_get(document, "memory");
    assert_int_equal(json_array_size(types), GRAFT_PLAN_TYPES);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        assert_true(json_is_integer(json_object_get(memory, parts[i])));
    json_t *parameters = json_object_get(document, "parameters");
    assert_int_equal(json_integer_value(json_object_get(parameters, "total")), 134515008);
    assert_true(json_array_size(json_object_get(document, "tensors")) > 200);
    json_decref(document);
}

/* One line of the kernels: the document agrees with itself. What is refused is in cli_cases.txt. */
static void kernels_are_measured(void **state) {
    (void)state;
    json_t *document = document_of("bench kernels --isa portable --only rows,add_f32 --threads 1 --json");
    json_t *lines = json_object_get(document, "kernels"), *line = json_array_get(lines, 0);
    assert_int_equal(json_array_size(lines), 1);
    assert_string_equal(json_string_value(json_object_get(line, "name")), "rows add_f32");
    assert_string_equal(json_string_value(json_object_get(line, "isa")), "portable");
    json_t *rate = json_object_get(line, "rate"), *limit = json_object_get(line, "limit");
    if (json_is_number(rate)) { /* null: other programs had the cores */
        double percent = json_number_value(json_object_get(line, "percent"));
        assert_true(json_number_value(rate) > 0);
        assert_true(fabs(100 * json_number_value(rate) / json_number_value(limit) - percent) <
                    1e-6 * percent);
    }
    json_decref(document);
}

/* Each benchmark prints its document and draws its picture; the other program may be any. */
static void benchmarks_print_and_draw(void **state) {
    (void)state;
    static const struct {
        const char *arguments, *field, *svg;
    } cases[] = {
        {"load --model tiny --bits 4 --q-group-size 32", "quantized", "bench-load.svg"},
        {"train --model tiny --steps 3 --seq-length 8 --peer torch --peer-steps 1", "peer",
         "bench-train.svg"},
        {"checkpoint --model tiny --steps 1 --seq-lengths 8", "lengths", "bench-checkpoint.svg"},
        {"accumulate --model tiny --seq-length 8 --svg own.svg", "splits", "own.svg"},
        {"curves --model tiny --steps 1 --values 8,12", "points", "bench-curves.svg"},
        {"curves --model tiny --steps 1 --seq-length 8 --over lora-rank --values 2", "points",
         "bench-curves.svg"},
    };
    static const char fake[] =
        "test -f $1/run.json && test -f $1/adapter/adapter_config.json && echo noise && "
        "echo '{\"program\": \"fake\", \"tokens_per_second\": 1, \"step_seconds\": 2, "
        "\"peak_rss_bytes\": 3, \"losses\": [1.5]}'";
    char *place = tiny_join(directory, "cwd");
    free(tiny_model_dir(place, "tiny", &(tiny_spec){.dtype = GR_BF16}));
    free(tiny_subdir(place, "peers"));
    tiny_write(place, "peers/bench_torch.py", fake);
    setenv("XDG_CACHE_HOME", place, 1);
    setenv("GRAFT_TOOLS", place, 1);
    setenv("GRAFT_PEERS_PYTHON", "/bin/sh", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char arguments[256];
        snprintf(arguments, sizeof arguments, "bench %s --threads 1", cases[i].arguments);
        outcome o = run(arguments);
        if (o.code != 0) fail_msg("graft %s: exit %d\n%s", arguments, o.code, o.err);
        assert_non_null(strstr(o.out, cases[i].svg));
        drop(&o);
        snprintf(arguments, sizeof arguments, "bench %s --threads 1 --json", cases[i].arguments);
        json_t *document = document_of(arguments);
        assert_non_null(json_object_get(document, cases[i].field));
        assert_string_equal(json_string_value(json_object_get(document, "svg")), cases[i].svg);
        char *svg = tiny_read(place, cases[i].svg, NULL);
        assert_int_equal(strncmp(svg, "<svg ", 5), 0);
        free(svg);
        json_decref(document);
    }
    tiny_write(place, "lines.txt", "one\ntwo\n");
    tiny_write(place, "peers/bench_tokenizers.py",
               "test -f $1/run.json && echo '{\"program\": \"fake\", \"tokens_per_second\": 1, "
               "\"tokens\": 6, \"digest\": \"0\"}'");
    outcome text = run("bench tokenize --model tiny --data lines.txt --peer tokenizers");
    assert_int_equal(text.code, 0);
    assert_non_null(strstr(text.out, "tokens are NOT the same"));
    drop(&text);
    json_t *tokens = document_of("bench tokenize --model tiny --data lines.txt --peer tokenizers --json");
    assert_int_equal(json_integer_value(json_object_get(tokens, "tokens")), 6);
    assert_true(json_is_false(json_object_get(tokens, "same_tokens")));
    json_decref(tokens);
    tiny_write(place, "peers/bench_torch.py", "echo why >&2; exit 3");
    outcome o = run("bench train --model tiny --steps 1 --seq-length 8 --peer torch");
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.err, "torch did not finish"));
    assert_non_null(strstr(o.err, "why"));
    drop(&o);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("GRAFT_TOOLS");
    unsetenv("GRAFT_PEERS_PYTHON");
    free(place);
}

static void stdout_that_fails_is_an_error_and_a_closed_pipe_is_none(void **state) {
    (void)state;
    if (access("/dev/full", W_OK) == 0) {
        outcome full = run_to("--help", ">/dev/full");
        assert_int_equal(full.code, 1);
        assert_non_null(strstr(full.err, "standard output"));
        drop(&full);
    }
    outcome closed = run_to("--help", ">&-");
    assert_int_equal(closed.code, 1);
    drop(&closed);
    /* `sleep` lets the reader go first; the code of the left side is kept in a file */
    char command[1024];
    snprintf(command, sizeof command,
             "cd '%s' && { sleep 0.2; '%s' help train; echo $? >code; } 2>err | true; while [ ! -s code ]; "
             "do sleep "
             "0.05; done; [ ! -s err ] && grep -qx 0 code",
             directory, GRAFT_BINARY);
    assert_int_equal(system(command), 0);
}

static int make_directory(void **state) {
    (void)state;
    if (!mkdtemp(directory)) return -1;
    char command[512];
    snprintf(command, sizeof command,
             "cd %s && mkdir cwd && : >out && cd cwd && : >empty.yaml && echo 'itres: 7' >typo.yaml && "
             "echo 'report_to: wandb' >report.yaml",
             directory);
    return system(command) || setenv("GRAFT_SOURCE_DIR", GRAFT_SOURCE_DIR, 1);
}

static int remove_directory(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_the_table_lists),
        cmocka_unit_test(help_shows_every_option_of_every_verb),
        cmocka_unit_test(help_verb_is_verb_help),
        cmocka_unit_test(help_of_a_benchmark),
        cmocka_unit_test(benchmarks_are_there),
        cmocka_unit_test(program_help_names_every_verb),
        cmocka_unit_test(mistyped_options_are_answered),
        cmocka_unit_test(version_is_the_librarys),
        cmocka_unit_test(info_describes_a_file_in_json_and_in_words),
        cmocka_unit_test(a_terminal_gets_no_escapes_of_a_file),
        cmocka_unit_test(plan_of_a_shape_is_the_documented_document),
        cmocka_unit_test(kernels_are_measured),
        cmocka_unit_test(benchmarks_print_and_draw),
        cmocka_unit_test(stdout_that_fails_is_an_error_and_a_closed_pipe_is_none),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
