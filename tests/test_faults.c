/* Whole commands on a machine that fails: the n-th call of a kind returns an error, for n = 1, 2, .. until
 * the command never makes so many. Each time: no crash, exit code 1 with one clear error (or success, where
 * the failure did no harm), no temporary file, and whatever was there before is there still or has become
 * what the command writes. FAULT_POINTS is the most points per command and kind (a few by default; 0: all).
 */
#include "tests/tiny_gguf.h"
#include "tests/world.h"

typedef enum duty {
    LEAVES_ALL,    /* writes nothing but stdout */
    ALL_OR_NONE,   /* the directory is as before, or as after a run without fault */
    ADDS_FILES,    /* whole files of a run without fault are added; what was there stays */
    KEEPS_ADAPTER, /* adapter and checkpoint are always loadable; resuming gives the same adapter */
    KEEPS_SWEEP    /* so are those of all trials; the adapter is the best */
} duty;

typedef struct command {
    const char *name, *arguments; /* words, separated by blanks */
    duty duty;
    bool same_output; /* stdout does not depend on clock or memory */
} command;

/* Run in the world: a directory with adapter/ (a finished run), part/ (one that was stopped), old/ (a
 * conversion), gguf/ (an adapter of g.gguf), and what the command adds. ../ has base, plain, data, g.gguf. */
static const command commands[] = {
    {"plan", "plan --model ../base --lora-rank 4 --max-seq-length 32 --json", LEAVES_ALL, false},
    {"info", "info ../base", LEAVES_ALL, true},
    {"info adapter", "info adapter", LEAVES_ALL, true},
    {"tokenize", "tokenize --model ../base --data ../data/train.jsonl", LEAVES_ALL, true},
    {"eval", "eval --model ../base --data ../data --adapter-path adapter --threads 2", LEAVES_ALL, true},
    {"generate", "generate --model ../base --adapter-path adapter --prompt one -m 4 --threads 2", LEAVES_ALL,
     true},
    {"generate --logits", "generate --model ../base --prompt one -m 0 --threads 1 --logits logits.npy",
     ALL_OR_NONE, true},
    {"convert", "convert --model ../plain -q --q-group-size 32 --mlx-path new --threads 1", ALL_OR_NONE,
     true},
    {"convert again", "convert --model ../plain -q --q-group-size 32 --mlx-path old --threads 1", ALL_OR_NONE,
     false},
    {"export", "export --model ../base --adapter-path adapter --to mlx,peft,gguf --out new", ADDS_FILES,
     true},
    {"export sum", "export --adapter-path adapter=0.5,adapter=0.5 --merge svd --to gguf --out new",
     ADDS_FILES, true},
    {"report", "report adapter --html page.html --json", ADDS_FILES, true},
    {"fuse",
     "fuse --model ../base --adapter-path adapter --save-path new --data ../data --split valid --threads 2",
     ALL_OR_NONE, true},
    {"fuse gguf", "fuse --model ../g.gguf --adapter-path gguf --save-path new.gguf --threads 2", ALL_OR_NONE,
     true},
    {"train",
     "train --model ../base --data ../data --adapter-path run --iters 2 --save-every 1 --keep-best "
     "--lora-rank 2 --batch-size 2 --threads 2 --steps-per-report 1 --steps-per-eval 1 --report-to "
     "tensorboard",
     KEEPS_ADAPTER, false},
    {"train --resume",
     "train --model ../base --data ../data --adapter-path part --iters 8 --save-every 3 --lora-rank 4 "
     "--batch-size 2 --grad-accumulation-steps 3 --learning-rate 5e-3 --steps-per-report 3 "
     "--steps-per-eval 4 --val-batches -1 --seed 7 --threads 2 --resume",
     KEEPS_ADAPTER, false},
    {"sweep",
     "sweep --model ../base --data ../data --adapter-path swept --iters 2 --save-every 1 --grid "
     "lora-rank=1,2 "
     "--batch-size 2 --threads 2 --steps-per-report 1 --steps-per-eval 1",
     KEEPS_SWEEP, false},
    {"sweep at once",
     "sweep --model ../base --data ../data --adapter-path swept --iters 2 --save-every 1 --grid "
     "lora-rank=1,2 "
     "--batch-size 2 --threads 2 --steps-per-report 1 --steps-per-eval 1 --jobs 2 --halving 2",
     KEEPS_SWEEP, false},
};

static const struct {
    const char *kind, *effects[3];
} faults[] = {{"alloc", {"ENOMEM"}},         {"open", {"EMFILE", "ESTALE"}},
              {"read", {"EIO", "ENOTCONN"}}, {"write", {"ENOSPC", "EDQUOT", "EIO"}},
              {"fsync", {"ENOSPC", "EIO"}},  {"rename", {"EROFS", "ENOSPC"}},
              {"close", {"ENOSPC", "EIO"}},  {"mkdir", {"EACCES", "ENOSPC"}},
              {"truncate", {"EROFS"}},       {"mmap", {"ENOMEM", "ENODEV"}},
              {"thread", {"EAGAIN"}},        {"lock", {"ENOLCK"}},
              {"stat", {"ESTALE"}},          {"link", {"ENOSPC", "EIO"}}};

/* ---- judging. Each returns what is wrong, or NULL. */

/* Every file of `a` is in `b` with the same bytes, and none has the name of a temporary one. */
static const char *inside(const char *a, const char *b) {
    DIR *dir = opendir(a);
    const char *bad = NULL;
    struct dirent *entry;
    if (!dir) return say(a, " is no directory", "");
    while (!bad && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *x = tiny_join(a, entry->d_name), *y = tiny_join(b, entry->d_name);
        if (gr_path_is_dir(x))
            bad = inside(x, y);
        else if (!same_bytes(x, y))
            bad = say(x, " is not ", y);
        free(x);
        free(y);
    }
    closedir(dir);
    return bad;
}

static const char *same_tree(const char *a, const char *b) {
    const char *bad = inside(a, b);
    return bad ? bad : inside(b, a);
}

/* Whole lines, each a JSON object. */
static const char *metrics_whole(const char *dir) {
    char *path = tiny_join(dir, "metrics.jsonl"), *rest = NULL;
    const char *bad = NULL;
    if (access(path, F_OK) == 0) {
        size_t n;
        char *text = tiny_read(dir, "metrics.jsonl", &n);
        if (n && text[n - 1] != '\n') bad = "metrics.jsonl ends inside a line";
        for (char *line = strtok_r(text, "\n", &rest); line && !bad; line = strtok_r(NULL, "\n", &rest)) {
            json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
            if (!j) bad = "metrics.jsonl has a line that is not JSON";
            json_decref(j);
        }
        free(text);
    }
    free(path);
    return bad;
}

/* The command's adapter directory; malloc'ed. */
static char *adapter_of(const command *c) {
    const char *own = strstr(c->arguments, "--adapter-path ") + 15;
    char *dir = gr_strndup(own, strcspn(own, " ")), *best;
    if (c->duty != KEEPS_SWEEP) return dir;
    best = tiny_join(dir, "best");
    free(dir);
    return best;
}

/* Is the adapter that of a run without fault, byte for byte? */
static const char *same_adapter(const command *c) {
    static const char *const names[] = {"adapters.safetensors", "adapter_model.safetensors",
                                        "adapter_config.json"};
    char *dir = adapter_of(c), *x = tiny_join(world, dir), *y = tiny_join(finished, dir);
    const char *bad = NULL;
    for (int i = 0; i < 3 && !bad; i++) {
        char *a = tiny_join(x, names[i]), *b = tiny_join(y, names[i]);
        if (!same_bytes(a, b)) bad = say("another ", a, " than without the fault");
        free(a);
        free(b);
    }
    free(dir);
    free(x);
    free(y);
    return bad;
}

/* Continues what a fault ended. */
static const char *resumes(const command *c) {
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "%s%s", c->arguments,
             strstr(c->arguments, "--resume") ? "" : " --resume");
    outcome o = run(arguments, NULL);
    const char *bad = o.code ? say("resuming afterwards fails: ", o.err, "") : same_adapter(c);
    outcome_free(&o);
    return bad;
}

/* After a failed rename the adapter's files may be of two saves, which their digests tell; resuming heals it.
 */
static const char *adapters_whole(const command *c, bool resume, bool renames) {
    static const char *const dirs[] = {"run",
                                       "run/best",
                                       "part",
                                       "adapter",
                                       "swept/01_lora-rank=1",
                                       "swept/01_lora-rank=1/best",
                                       "swept/02_lora-rank=2",
                                       "swept/02_lora-rank=2/best"};
    const char *bad = NULL;
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs && !bad; i++) {
        char *dir = tiny_join(world, dirs[i]);
        bad = adapter_loads(dirs[i]);
        if (renames && bad && strstr(bad, "not of one save")) bad = NULL, resume = true;
        if (!bad) bad = metrics_whole(dir);
        free(dir);
    }
    return bad || !resume ? bad : resumes(c);
}

static void remove_temps(const char *path) {
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *x = tiny_join(path, entry->d_name);
        if (gr_ends_with(x, ".tmp") && gr_path_is_dir(x))
            tiny_delete(x);
        else if (gr_ends_with(x, ".tmp"))
            unlink(x);
        else if (gr_path_is_dir(x))
            remove_temps(x);
        free(x);
    }
    if (dir) closedir(dir);
}

static const char *judge(const command *c, const outcome *o, const char *clean, const char *fault,
                         bool resume) {
    if (o->code < 0) return say("ended by a signal", o->signal == SIGALRM ? ": it hung" : "", "");
    if (o->code != 0 && o->code != 1) return say("another exit code, and ", o->err, "");
    const char *bad = o->code ? one_error(o) : NULL;
    if (!bad && !o->code && c->same_output && strcmp(o->out, clean) != 0)
        bad = "success, and another output than without the fault";
    if (strncmp(fault, "alloc", 5) == 0 && strchr(fault, '+'))
        remove_temps(world); /* without any memory nothing can be listed and removed: the next run does it */
    if (!bad) bad = temps(world);
    if (bad) return bad;
    switch (c->duty) {
    case LEAVES_ALL: return same_tree(world, start);
    case ALL_OR_NONE: bad = same_tree(world, finished); return bad && o->code ? same_tree(world, start) : bad;
    case ADDS_FILES: bad = inside(start, world); return bad ? bad : inside(world, finished);
    case KEEPS_ADAPTER:
    case KEEPS_SWEEP:
        bad = adapters_whole(c, resume, strncmp(fault, "rename", 6) == 0);
        return bad || o->code ? bad : same_adapter(c);
    }
    return NULL;
}

/* ---- the sweeps */

static struct { long points, struck, failed, crashed; } total;

static long calls_of(const command *c, const char *kind) {
    char fault[64];
    snprintf(fault, sizeof fault, "%s:1000000000:EIO", kind);
    world_reset();
    outcome o = run(c->arguments, fault);
    char *text = slurp("count");
    long n = strtol(text, NULL, 10);
    if (o.code != 0) fail_msg("%s: %s", c->name, o.err);
    free(text);
    outcome_free(&o);
    return n;
}

static bool point(const command *c, const char *fault, const char *clean, bool resume) {
    world_reset();
    outcome o = run(c->arguments, fault);
    const char *bad = judge(c, &o, clean, fault, resume && o.code);
    total.points++;
    total.struck += o.struck;
    total.crashed += o.code < 0 || o.code > 1;
    if (bad) {
        total.failed++;
        print_error("%s, %s: exit %d, signal %d: %s\n", c->name, fault, o.code, o.signal, bad);
    }
    outcome_free(&o);
    return bad == NULL;
}

static long wish(const char *name, long fallback) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : fallback;
}

static bool wanted(const char *name, const char *value) {
    const char *text = getenv(name);
    return !text || strcmp(text, value) == 0;
}

/* One kind: the n-th call alone, and every fourth time all that follow too. */
static void sweep_kind(const command *c, const char *kind, const char *const effects[3], const char *clean) {
    long most = wish("FAULT_POINTS", 2), calls = calls_of(c, kind), before = total.points;
    long step = most && calls > most ? calls / most : 1, first = wish("FAULT_FIRST", 1),
         last = wish("FAULT_LAST", calls);
    int count = 0;
    while (count < 3 && effects[count]) count++;
    for (long n = first; n <= calls && n <= last; n += step) {
        char fault[64];
        snprintf(fault, sizeof fault, "%s:%ld:%s", kind, n, effects[n / step % count]);
        point(c, fault, clean, !most || n % 3 == 0);
        if (n / step % 4) continue;
        snprintf(fault, sizeof fault, "%s:%ld+:%s", kind, n, effects[(n / step + 1) % count]);
        point(c, fault, clean, false);
    }
    if (!most) printf("%s, %s: %ld calls, %ld points\n", c->name, kind, calls, total.points - before);
}

static void sweep(const command *c) {
    long before = total.failed;
    world_reset();
    outcome clean = run(c->arguments, NULL);
    if (clean.code != 0) fail_msg("%s: exit %d: %s", c->name, clean.code, clean.err);
    tiny_delete(finished);
    copy_tree(world, finished);
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++)
        if (wanted("FAULT_KIND", faults[f].kind)) sweep_kind(c, faults[f].kind, faults[f].effects, clean.out);
    outcome_free(&clean);
    if (total.failed > before) fail_msg("%ld points failed", total.failed - before);
}

static void every_command(void **state) {
    (void)state;
    long before = total.failed;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (wanted("FAULT_COMMAND", commands[i].name)) sweep(&commands[i]);
    printf("%ld points, %ld faults struck, %ld crashes, %ld failed\n", total.points, total.struck,
           total.crashed, total.failed);
    assert_int_equal(total.failed, before);
}

/* What a machine may do and a program must not notice. */
static void short_and_interrupted_calls_change_nothing(void **state) {
    (void)state;
    static const char *const harmless[] = {"read%1:short",  "write%1:short",   "read%2:EINTR",
                                           "write%2:EINTR", "fsync%2:EINTR",   "open%3:EINTR",
                                           "close%3:EINTR", "truncate%2:EINTR"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const command *c = &commands[i];
        if (!wanted("FAULT_COMMAND", commands[i].name)) continue;
        world_reset();
        outcome clean = run(c->arguments, NULL);
        tiny_delete(finished);
        copy_tree(world, finished);
        for (size_t k = 0; k < sizeof harmless / sizeof *harmless; k++) {
            world_reset();
            outcome o = run(c->arguments, harmless[k]);
            const char *bad = o.code ? o.err : judge(c, &o, clean.out, harmless[k], false);
            if (bad) fail_msg("%s, %s: exit %d: %s", c->name, harmless[k], o.code, bad);
            outcome_free(&o);
        }
        outcome_free(&clean);
    }
}

static int make_worlds(void **state) {
    int failed = make_world(state);
    char *gguf = tiny_join(place, "g.gguf"), *adapter = tiny_join(start, "gguf");
    tiny_gguf_write(place, "g.gguf");
    tiny_gguf_adapter(gguf, adapter);
    free(gguf);
    free(adapter);
    return failed;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_and_interrupted_calls_change_nothing),
        cmocka_unit_test(every_command),
    };
    return cmocka_run_group_tests(tests, make_worlds, remove_world);
}
