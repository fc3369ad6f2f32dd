/* sigbus.c - a mapped file that was cut, or whose disk failed, as an error instead of a crash. */
#include "cli.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Everything below runs in a handler: open, read, write, close, pause and _exit only, no memory, no stdio. */

/* Every thread that computes may look at the file. The first one speaks, and ends all. */
static volatile int taken;

static void say(const char *text) {
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

/* A hexadecimal number at *at, which moves past it. */
static uintptr_t take_hex(const char **at) {
    uintptr_t value = 0;
    for (;; ++*at) {
        char c = **at;
        if (c >= '0' && c <= '9')
            value = value << 4 | (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uintptr_t)(c - 'a' + 10);
        else
            return value;
    }
}

/* The path in a line of /proc/self/maps if its range has the address; NULL if not. source: proc(5) */
static const char *path_in(const char *line, uintptr_t address) {
    uintptr_t first = take_hex(&line);
    if (*line++ != '-') return NULL;
    uintptr_t end = take_hex(&line);
    return address >= first && address < end ? strchr(line, '/') : NULL;
}

/* The file that is mapped where `address` is, into `path`. */
static bool find_file(char path[4200], uintptr_t address) {
    char piece[1024];
    size_t length = 0;
    ssize_t n;
    bool found = false;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    while (!found && (n = read(fd, piece, sizeof piece)) > 0)
        for (ssize_t i = 0; i < n && !found; i++) {
            if (piece[i] != '\n') {
                if (length + 1 < 4200) path[length++] = piece[i];
                continue;
            }
            path[length] = '\0';
            length = 0;
            const char *name = path_in(path, address);
            if (name) memmove(path, name, strlen(name) + 1);
            found = name != NULL;
        }
    close(fd);
    return found;
}

static void on_bus(int number, siginfo_t *info, void *context) {
    char path[4200]; /* one line of maps: a path has at most 4096 bytes */
    (void)context;
    if (info->si_code == BUS_ADRERR && find_file(path, (uintptr_t)info->si_addr)) {
        while (__atomic_exchange_n(&taken, 1, __ATOMIC_SEQ_CST)) pause();
        say("\ngraft: a mapped file was cut short, or its disk failed: ");
        say(path);
        say("\nhint: what was saved before is whole; restore the file, then start again (train: with "
            "--resume). --no-mmap reads files into memory first\n");
        _exit(EXIT_FAILED);
    }
    signal(number, SIG_DFL); /* something else: the system's own answer */
    raise(number);
}

void bus_install(void) {
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
