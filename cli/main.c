/* main.c - from argv to one verb. */
#include "cli.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool color_wanted(void) {
    const char *term = getenv("TERM"), *none = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0 && !(none && none[0]);
}

/* A standard stream that the caller closed must not become the number of some file that we open. Read-only:
 * writing to it still fails. */
static void hold_standard_streams(void) {
    int fd;
    do fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

static int run(cli *c, int argc, char **argv) {
    if (argc < 2) {
        help_program(stderr);
        return EXIT_USAGE;
    }
    graft_status status = args_parse(c, argc, argv);
    if (status != GRAFT_OK) return cli_report(c, status);
    if (c->version) {
        printf("graft %s\n", graft_version());
        return EXIT_DONE;
    }
    if (c->help) {
        if (c->verb)
            help_verb(stdout, c->verb, c->words_count ? c->words[0] : NULL);
        else
            help_program(stdout);
        return EXIT_DONE;
    }
    if (mpi_ranks() > 1 && c->verb->bit != GRAFT_VERB_TRAIN) {
        cli_fail(c, GRAFT_USAGE, "only train runs as several ranks");
        cli_hint(c, "start %s without mpirun", c->verb->name);
        return cli_report(c, GRAFT_USAGE);
    }
    return c->verb->run(c);
}

int main(int argc, char **argv) {
    hold_standard_streams();
    cli c = {0};
    graft_options_init(&c.options);
    progress_init(&c.bar);
    c.stream = isatty(STDOUT_FILENO);
    if (!c.stream) setvbuf(stdout, NULL, _IOFBF, 1 << 16); /* a page of help is written, or fails, as one */
    c.color = color_wanted();
    c.hooks = (graft_hooks){.user = &c, .event = cli_event, .stop = signals_stop()};
    c.rank = mpi_rank();
    if (c.rank) signals_quiet();
    signals_install();
    bus_install();
    int code = run(&c, argc, argv);
    graft_status status = out_finish(&c);
    if (code == EXIT_DONE && status != GRAFT_OK) code = cli_report(&c, status);
    graft_options_free(&c.options);
    return code;
}
