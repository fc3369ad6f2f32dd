/* peer.c - finds the other program, gives it the work, reads the line it prints. */
#include "peer.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The newest environment in the cache that was finished. */
static bool python_of_cache(char *python, size_t size) {
    char pattern[3000];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    glob_t found;
    time_t newest = 0;
    python[0] = '\0';
    if (cache && cache[0] == '/')
        snprintf(pattern, sizeof pattern, "%s/graft/peers-*/ready", cache);
    else
        snprintf(pattern, sizeof pattern, "%s/.cache/graft/peers-*/ready", home ? home : "");
    if (glob(pattern, 0, NULL, &found) != 0) return false;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct stat info;
        size_t folder = strlen(found.gl_pathv[i]) - strlen("ready");
        if (stat(found.gl_pathv[i], &info) != 0 || info.st_mtime < newest) continue;
        newest = info.st_mtime;
        snprintf(python, size, "%.*sbin/python", (int)folder, found.gl_pathv[i]);
    }
    globfree(&found);
    return python[0] != '\0';
}

static graft_status find_python(cli *c, peer *p) {
    const char *given = getenv("GRAFT_PEERS_PYTHON");
    if (given && given[0])
        snprintf(p->python, sizeof p->python, "%s", given);
    else
        python_of_cache(p->python, sizeof p->python);
    if (p->python[0] && access(p->python, X_OK) == 0) return GRAFT_OK;
    cli_fail(c, GRAFT_NOT_FOUND, "no Python with the other programs");
    cli_where(c, p->python[0] ? p->python : "the cache has no finished graft/peers-*");
    cli_hint(c, "tools/peers/setup tools/peers/requirements.txt in the source tree installs them once (make "
                "check-peers does too); GRAFT_PEERS_PYTHON=FILE names another Python that has them");
    return GRAFT_NOT_FOUND;
}

/* GRAFT_TOOLS, else the tools directory beside or above the program: a build lies inside its source tree.
 * The peer "torch-compile" is bench_torch.py with the argument --compile. */
static graft_status find_script(cli *c, peer *p) {
    const char *tools = getenv("GRAFT_TOOLS"), *way = strchr(c->options.peer, '-');
    char at[3000] = "", name[32];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(c->options.peer, "-"), c->options.peer);
    snprintf(p->way, sizeof p->way, "-%s", way ? way : "");
    if (tools && tools[0]) {
        snprintf(p->script, sizeof p->script, "%s/peers/bench_%s.py", tools, name);
    } else {
        ssize_t n = readlink("/proc/self/exe", at, sizeof at - 1);
        at[n > 0 ? n : 0] = '\0';
        for (char *slash; (slash = strrchr(at, '/'));) {
            *slash = '\0';
            snprintf(p->script, sizeof p->script, "%s/tools/peers/bench_%s.py", at, name);
            if (access(p->script, R_OK) == 0) break;
        }
    }
    if (p->script[0] && access(p->script, R_OK) == 0) return GRAFT_OK;
    cli_fail(c, GRAFT_NOT_FOUND, "no script that runs %s", name);
    cli_where(c, tools && tools[0] ? p->script : "tools/peers in the directories above this program");
    cli_hint(c, "GRAFT_TOOLS=DIR names the tools directory of the source tree");
    return GRAFT_NOT_FOUND;
}

graft_status peer_find(cli *c, peer *p,
                       graft_status (*export)(const graft_options *, const graft_hooks *, const char *,
                                              graft_error *)) {
    *p = (peer){.export = export};
    if (!c->options.peer) return GRAFT_OK;
    graft_status status = export(&c->options, NULL, NULL, &c->err);
    if (status == GRAFT_OK) status = find_script(c, p);
    return status == GRAFT_OK ? find_python(c, p) : status;
}

/* The end of what the program said on stderr, which has its reason. */
static void show_log(cli *c, const char *log) {
    char text[4096], *line;
    FILE *f = fopen(log, "rbe");
    if (!f) return;
    fseek(f, 0, SEEK_END);
    long size = ftell(f), from = size > 4000 ? size - 4000 : 0;
    fseek(f, from, SEEK_SET);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' ')) n--;
    text[n] = '\0';
    line = strrchr(text, '\n');
    cli_found(c, line ? line + 1 : text);
}

/* Reads the program's stdout to its end; a stop ends the program. malloc'ed. */
static char *read_all(int fd, pid_t child, size_t *size) {
    char *text = NULL;
    size_t room = 0;
    *size = 0;
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (*signals_stop()) kill(child, SIGTERM);
        if (poll(&ready, 1, 200) <= 0) continue;
        if (room - *size < 4096) {
            char *grown = realloc(text, room = room * 2 + 8192);
            if (!grown) break;
            text = grown;
        }
        ssize_t n = read(fd, text + *size, room - *size - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        *size += (size_t)n;
    }
    if (text) text[*size] = '\0';
    return text;
}

static graft_status spawn(cli *c, const peer *p, const char *folder, const char *log, pid_t *child,
                          int *out) {
    int ends[2];
    posix_spawn_file_actions_t actions;
    char *const arguments[] = {(char *)(uintptr_t)p->python, (char *)(uintptr_t)p->script,
                               (char *)(uintptr_t)folder, p->way[1] ? (char *)(uintptr_t)p->way : NULL, NULL};
    if (pipe(ends) != 0) return cli_fail(c, GRAFT_IO, "cannot make a pipe: %s", strerror(errno));
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int failed = posix_spawn(child, p->python, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    *out = ends[0];
    if (!failed) return GRAFT_OK;
    close(ends[0]);
    cli_fail(c, GRAFT_IO, "cannot start the other program: %s", strerror(failed));
    cli_where(c, p->python);
    return GRAFT_IO;
}

/* The document into p->result. */
static graft_status take_document(cli *c, peer *p, const char *text) {
    const char *start = text;
    for (const char *at = text; at && (at = strchr(at, '\n')) && at[1];) /* libraries print lines too */
        start = ++at;
    json_error_t error;
    p->document = json_loads(start, JSON_REJECT_DUPLICATES, &error);
    const json_t *losses = json_object_get(p->document, "losses");
    const char *program = json_string_value(json_object_get(p->document, "program"));
    size_t n = json_array_size(losses);
    double speed = json_number_value(json_object_get(p->document, "tokens_per_second"));
    if (!program || !(n || json_object_get(p->document, "tokens")) || !(speed > 0))
        return cli_fail(c, GRAFT_CORRUPT, "the other program printed no result");
    p->losses = calloc(n + 1, sizeof *p->losses);
    if (!p->losses) return cli_fail(c, GRAFT_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) p->losses[i] = json_number_value(json_array_get(losses, i));
    p->result = (graft_bench_peer){
        .program = program,
        .tokens_per_second = speed,
        .step_seconds = json_number_value(json_object_get(p->document, "step_seconds")),
        .peak_rss_bytes = (uint64_t)json_integer_value(json_object_get(p->document, "peak_rss_bytes")),
        .losses = p->losses,
        .nlosses = n};
    return GRAFT_OK;
}

static graft_status run_in(cli *c, peer *p, const char *folder) {
    char log[4200];
    pid_t child = -1;
    int out = -1, code = 0;
    size_t size = 0;
    snprintf(log, sizeof log, "%s/log", folder);
    graft_status status = p->export(&c->options, &c->hooks, folder, &c->err);
    if (status == GRAFT_OK) status = spawn(c, p, folder, log, &child, &out);
    if (status != GRAFT_OK) return status;
    char *text = read_all(out, child, &size);
    close(out);
    while (waitpid(child, &code, 0) < 0 && errno == EINTR) continue;
    if (*signals_stop()) {
        status = cli_fail(c, GRAFT_INTERRUPTED, "benchmark stopped");
    } else if (!WIFEXITED(code) || WEXITSTATUS(code) != 0) {
        status = cli_fail(c, GRAFT_IO, "%s did not finish", c->options.peer);
        cli_where(c, p->script);
        show_log(c, log);
    } else {
        status = take_document(c, p, text ? text : "");
    }
    free(text);
    return status;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info;
    (void)kind;
    (void)place;
    remove(path);
    return 0;
}

graft_status peer_run(cli *c, peer *p) {
    const char *root = getenv("TMPDIR");
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/graft-peer-XXXXXX", root && root[0] ? root : "/tmp");
    if (!mkdtemp(folder)) {
        cli_fail(c, GRAFT_IO, "cannot make a temporary directory: %s", strerror(errno));
        cli_where(c, folder);
        return GRAFT_IO;
    }
    cli_event(c, &(graft_event){.kind = GRAFT_EVENT_NOTE, .text = "running the other program"});
    graft_status status = run_in(c, p, folder);
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return status;
}

void peer_free(peer *p) {
    json_decref(p->document);
    free(p->losses);
    p->document = NULL;
    p->losses = NULL;
}

double peer_number(const peer *p, const char *name) {
    return json_number_value(json_object_get(p->document, name));
}
