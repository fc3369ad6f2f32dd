/* cmd_chat.c at a terminal: Ctrl-C ends the answer and not the conversation; at the prompt a second one ends
 * the program, which says so; a command that fails ends nothing. Without a terminal lines are turns. */
#include "tests/tiny_dir.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>

static char *root, *model;

static int setup(void **state) {
    (void)state;
    root = tiny_temp();
    model = tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tiny_remove(model);
    tiny_remove(root);
    return 0;
}

typedef struct terminal {
    int fd;
    pid_t child;
    gr_buf seen;
    size_t looked; /* bytes of it in which everything was found */
} terminal;

/* The program with a terminal of its own, from which Ctrl-C comes as from any. */
static void begin(terminal *t, const char *max_tokens) {
    *t = (terminal){.fd = posix_openpt(O_RDWR | O_NOCTTY)};
    assert_true(t->fd >= 0 && grantpt(t->fd) == 0 && unlockpt(t->fd) == 0);
    char name[100];
    snprintf(name, sizeof name, "%s", ptsname(t->fd));
    t->child = fork();
    assert_true(t->child >= 0);
    if (t->child == 0) {
        setsid(); /* the next terminal that it opens is its own */
        for (int i = 0; i < 3; i++) close(i);
        if (open(name, O_RDWR) != 0 || dup(0) != 1 || dup(0) != 2) _exit(126);
        close(t->fd);
        setenv("TERM", "xterm", 1);
        alarm(60);
        execl(GRAFT_BINARY, "graft", "chat", "--model", model, "--threads", "1", "--max-seq-length", "30000",
              "--max-tokens", max_tokens, (char *)NULL);
        _exit(127);
    }
}

static void type(const terminal *t, const char *text) {
    assert_int_equal(write(t->fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* What comes next within half a minute. */
static void read_on(terminal *t, const char *wanted) {
    char piece[4096];
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    ssize_t n = poll(&p, 1, 30000) > 0 ? read(t->fd, piece, sizeof piece) : 0;
    if (n <= 0) fail_msg("no %s in: %s", wanted, t->seen.data);
    for (ssize_t i = 0; i < n; i++)
        if (piece[i]) gr_buf_putc(&t->seen, piece[i]);
}

/* Waits until the text stands there, behind what was waited for before. */
static void expect(terminal *t, const char *text) {
    char *at;
    while (!(at = t->seen.data ? strstr(t->seen.data + t->looked, text) : NULL)) read_on(t, text);
    t->looked = (size_t)(at - t->seen.data) + strlen(text);
}

/* Says what the model has an endless answer to, of whole characters, and waits for its first. */
static void begun(terminal *t) {
    type(t, "x y\n");
    expect(t, "x y\r\n"); /* the echo */
    while (t->seen.len == t->looked) read_on(t, "answer");
}

static int end(terminal *t) {
    int status;
    char rest[4096];
    while (read(t->fd, rest, sizeof rest) > 0) {
    }
    while (waitpid(t->child, &status, 0) < 0) {
    }
    close(t->fd);
    gr_buf_free(&t->seen);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void ctrl_c_ends_the_answer(void **state) {
    (void)state;
    terminal t;
    begin(&t, "25000");
    expect(&t, "> ");
    begun(&t);
    type(&t, "\x03");
    expect(&t, "\n> ");
    assert_null(strstr(t.seen.data, "once more"));
    type(&t, "/save /nowhere/x\n");
    expect(&t, "graft chat: ");
    expect(&t, "> ");
    type(&t, "\x03");
    expect(&t, "(once more, or /quit, to end)");
    type(&t, "/help\n"); /* between the two: it is no second one in a row */
    expect(&t, "/adapter");
    expect(&t, "> ");
    type(&t, "\x03");
    expect(&t, "(once more, or /quit, to end)");
    type(&t, "\x03");
    assert_int_equal(end(&t), 0);
}

/* Key repeat sends many: they end the answer and nothing else. */
static void many_ctrl_c_end_one_answer(void **state) {
    (void)state;
    terminal t;
    begin(&t, "25000");
    expect(&t, "> ");
    for (int round = 0; round < 2; round++) {
        begun(&t);
        for (int i = 0; i < 2; i++) kill(t.child, SIGINT);
        expect(&t, "\n> ");
        type(&t, "/reset\n");
        expect(&t, "\n> ");
    }
    type(&t, "/quit\n");
    assert_int_equal(end(&t), 0);
}

/* Whatever comes with it. */
static void a_signal_to_end_is_not_lost(void **state) {
    (void)state;
    for (int first = 0; first < 2; first++) {
        terminal t;
        begin(&t, "25000");
        expect(&t, "> ");
        begun(&t);
        kill(t.child, SIGSTOP); /* they come at the same time */
        kill(t.child, first ? SIGTERM : SIGINT);
        kill(t.child, first ? SIGINT : SIGTERM);
        kill(t.child, SIGCONT);
        assert_int_equal(end(&t), 0);
    }
}

/* What the program says to that input, a list: answers, and of other lines their texts. New reference. */
static json_t *answers(const char *input, const char *more) {
    char command[4000], line[4000];
    json_t *list = json_array();
    tiny_write(root, "input", input);
    snprintf(command, sizeof command, "%s chat --model %s %s --json < %s/input 2>&1", GRAFT_BINARY, model,
             more, root);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *answer = json_loads(line, 0, NULL);
        json_array_append_new(list, answer ? answer : json_string(line));
    }
    pclose(f);
    char *path = tiny_join(root, "input");
    unlink(path);
    free(path);
    return list;
}

static const char *text_of(const json_t *list, size_t i) {
    const char *text = json_string_value(json_object_get(json_array_get(list, i), "text"));
    if (!text) fail_msg("no answer %zu", i);
    return text;
}

static void a_line_may_end_as_elsewhere(void **state) {
    (void)state;
    json_t *plain = answers("/set max-tokens 3\nab\n", ""), *dos = answers("/set max-tokens 3\r\nab\r\n", "");
    assert_int_equal(json_array_size(dos), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(dos, 0), "tokens")), 3);
    assert_string_equal(text_of(dos, 0), text_of(plain, 0));
    assert_int_equal(json_integer_value(json_object_get(json_array_get(dos, 0), "prompt_tokens")),
                     json_integer_value(json_object_get(json_array_get(plain, 0), "prompt_tokens")));
    json_decref(plain);
    json_decref(dos);
}

static void stop_texts_are_set_anew(void **state) {
    (void)state;
    char input[200];
    json_t *list = answers("a\n", "--max-tokens 60 --temp 1");
    char *whole = strdup(text_of(list, 0));
    json_decref(list);
    size_t at = 0;
    while (whole[at] && (whole[at] <= ' ' || whole[at] > '~')) at++;
    char stop = whole[at];
    assert_true(stop);
    snprintf(input, sizeof input,
             "/set stop %c\na\n/reset\n/set stop nowhere\na\n/reset\n/set stop %c\n/set stop\na\n", stop,
             stop);
    list = answers(input, "--max-tokens 60 --temp 1");
    assert_int_equal(json_array_size(list), 3);
    assert_int_equal(strlen(text_of(list, 0)), at);
    assert_string_equal(text_of(list, 1), whole);
    assert_string_equal(text_of(list, 2), whole);
    json_decref(list);
    list = answers("/set nothing 3\n", "");
    char *said = json_dumps(list, 0);
    assert_non_null(strstr(said, "max-tokens, temp, top-p, top-k, min-p"));
    assert_non_null(strstr(said, "seed"));
    free(said);
    json_decref(list);
    free(whole);
}

static void quotes_hold_a_message_of_several_lines(void **state) {
    (void)state;
    static const struct {
        const char *input;
        int tokens; /* of the message */
    } cases[] = {{"\"\"\"ab\n/quit\n\nc\"\"\"\n", 11},
                 {"\"\"\"\n/a\n\"\"\"\n", 2},
                 {"\"\"\"\n\na\n\n\"\"\"\n", 3},
                 {"\"\"\"/quit\"\"\"", 5},
                 {"\"\"\"\"\"\"\nb\n", 1}};
    json_t *one = answers("b\n", "--max-tokens 1");
    json_int_t least = json_integer_value(json_object_get(json_array_get(one, 0), "prompt_tokens")) - 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *list = answers(cases[i].input, "--max-tokens 1");
        assert_int_equal(json_array_size(list), 1);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "prompt_tokens")),
                         least + cases[i].tokens);
        json_decref(list);
    }
    json_t *open = answers("\"\"\"a\nb\n", "--max-tokens 1");
    assert_non_null(strstr(json_string_value(json_array_get(open, 0)), "has no end"));
    json_decref(open);
    json_decref(one);
}

static void a_terminal_tells_of_what_it_cuts(void **state) {
    (void)state;
    char longer[5000];
    terminal t;
    begin(&t, "2");
    expect(&t, "> ");
    memset(longer, 'x', sizeof longer);
    strcpy(longer + 4990, "\n");
    type(&t, longer);
    expect(&t, "the terminal cut a line");
    expect(&t, "> ");
    type(&t, "\"\"\"one\n");
    expect(&t, ". ");
    type(&t, "two\"\"\"\n");
    expect(&t, "\n> ");
    type(&t, "\"\"\"one\n"); /* what follows such a line is none either */
    expect(&t, ". ");
    type(&t, longer);
    expect(&t, ". ");
    type(&t, "/nonsense\n");
    expect(&t, ". ");
    type(&t, "end\"\"\"\n");
    expect(&t, "the terminal cut a line");
    expect(&t, "\n> ");
    assert_null(strstr(t.seen.data, "unknown command"));
    type(&t, "/quit\n");
    assert_int_equal(end(&t), 0);
}

static void the_end_of_input_and_signals_end_it(void **state) {
    (void)state;
    for (int how = 0; how < 3; how++) {
        terminal t;
        begin(&t, "2");
        expect(&t, "> ");
        if (how < 2)
            type(&t, how ? "/quit\n" : "\x04");
        else
            kill(t.child, SIGTERM);
        assert_int_equal(end(&t), 0);
    }
}

static void lines_are_turns(void **state) {
    (void)state;
    char command[2000], line[4000];
    int turns = 0;
    snprintf(command, sizeof command,
             "printf 'a\\n\\n/set max-tokens 3\\n//b' | %s chat --model %s --max-tokens 2 --json 2>&1",
             GRAFT_BINARY, model);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    for (; fgets(line, sizeof line, f); turns++) {
        json_t *answer = json_loads(line, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(answer, "tokens")), turns ? 3 : 2);
        assert_string_equal(json_string_value(json_object_get(answer, "finish_reason")), "length");
        json_decref(answer);
    }
    assert_int_equal(pclose(f), 0);
    assert_int_equal(turns, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ctrl_c_ends_the_answer),
        cmocka_unit_test(the_end_of_input_and_signals_end_it),
        cmocka_unit_test(many_ctrl_c_end_one_answer),
        cmocka_unit_test(a_signal_to_end_is_not_lost),
        cmocka_unit_test(lines_are_turns),
        cmocka_unit_test(a_line_may_end_as_elsewhere),
        cmocka_unit_test(stop_texts_are_set_anew),
        cmocka_unit_test(quotes_hold_a_message_of_several_lines),
        cmocka_unit_test(a_terminal_tells_of_what_it_cuts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
