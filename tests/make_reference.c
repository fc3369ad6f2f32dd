/* make_reference markdown|man DATE|resume - writes docs/reference.md, docs/graft.1 or the table of --resume
 * in docs/adapters.md from the tables that the program itself reads. tools/pages.sh calls it (`make docs`);
 * test_reference.sh compares. No test of its own.
 */
#include "cli/cli.h"
#include "options/options.h"
#include <string.h>

/* What the environment changes; test_reference.sh looks for names in the code that are not here. */
static const char *const environment[][2] = {
    {"HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME",
     "where models by name lie; ~/.cache/huggingface/hub without them"},
    {"HF_ENDPOINT", "what graft download asks, in place of huggingface.co"},
    {"HF_TOKEN, HF_TOKEN_PATH", "its token, or the file that holds it"},
    {"HF_HUB_OFFLINE", "graft download refuses to fetch"},
    {"XDG_CACHE_HOME", "what graft keeps lies in graft below it: converted models, downloads of make demo"},
    {"GRAFT_API_KEY", "what graft serve asks of every client, without --api-key"},
    {"GRAFT_ISA", "a lower instruction set than this processor's best"},
    {"GRAFT_PEERS_PYTHON, GRAFT_TOOLS",
     "the Python that graft bench --peer runs, and the tools directory with its scripts"},
    {"NO_COLOR", "no colours on a terminal"},
    {"COLUMNS", "the width of tables and of texts side by side"},
    {"TMPDIR", "where bench --peer puts what it hands over"},
};
enum { ENVIRONMENT = sizeof environment / sizeof *environment };

static const char *const exits[][2] = {
    {"0", "done"},
    {"1", "failed"},
    {"2", "wrong usage"},
    {"130", "interrupted; train has saved a checkpoint. chat and serve end with 0"}};
enum { EXITS = sizeof exits / sizeof *exits };

/* ----------------------------------------------------------------------------------------------- markdown */

/* What stands for the files of the examples when test_docs.sh runs them, and what it cannot run. */
static const char *const stand_ins[] = {
    "cp tiny/base.gguf model.gguf; cp -r tiny/base-16bit model-16bit; cp -r tiny/data data",
    "cp tiny/data/test.jsonl rows.jsonl; head -3 tiny/data/test.jsonl > data/text.txt",
    "printf '\"one\"\\n{\"prompt\": \"two\"}\\n' > questions.jsonl",
    "printf '[{\"role\": \"user\", \"content\": \"one\"}]' > chat.json",
    ("printf 'model: model-4bit\\ndata: data\\ntrain: true\\niters: 8\\nnum_layers: 2\\nadapter_path: "
     "yaml\\nlora_parameters: {rank: 4, scale: 2, "
     "dropout: 0}\\n' > lora_config.yaml"),
    "graft convert --model model.gguf --mlx-path model-4bit -q",
    ("for a in style facts rank8 rank16 peft-adapter; do graft train --model model-4bit --data data --iters "
     "2 "
     "--adapter-path $a; "
     "done"),
    "rm peft-adapter/adapters.safetensors",
    "graft train --model model.gguf --data data --iters 2 --adapter-path gguf-adapters",
    ("graft export --adapter-path style --model model.gguf --to gguf --out lora; cp lora/adapter.gguf "
     "lora.gguf"),
};
static const struct {
    const char *word, *reason;
} not_run[] = {
    {"download", "asks the hub"},
    {"HuggingFaceTB", "asks the hub"},
    {"--peer", "runs another program"},
    {"bench kernels", "takes longer than a test may"},
    {"bench checkpoint", "takes longer than a test may"},
    {"--shape llama-3.2-1b", "takes longer than a test may"},
};

/* A cell of a table, or a line of text: what Markdown would take for its own is escaped. */
static void cell(const char *text) {
    for (; *text; text++) {
        if (strchr("|<*_", *text)) putchar('\\');
        putchar(*text);
    }
}

static void row_markdown(const graft_option *o, bool benchmarks) {
    char meaning[HELP_MEANING];
    help_meaning(meaning, sizeof meaning, o, benchmarks);
    fputs("| ", stdout);
    if (o->letter) printf("`-%c`, ", o->letter);
    printf("`--%s%s%s` | ", o->name, o->value ? " " : "", o->value ? o->value : "");
    if (o->value && o->fallback && o->fallback[0]) printf("`%s`", o->fallback);
    fputs(" | ", stdout);
    cell(meaning);
    puts(" |");
}

static void options_markdown(const verb *v) {
    const graft_option *o;
    puts("\n| option | default | meaning |\n|---|---|---|");
    for (int g = 0; graft_option_headings()[g]; g++) {
        bool titled = false;
        for (size_t i = 0; (o = graft_option_at(i)); i++) {
            if (!(o->verbs & v->bit) || o->heading != g) continue;
            if (!titled) printf("| **%s** | | |\n", graft_option_headings()[g]);
            titled = true;
            row_markdown(o, v->bit == GRAFT_VERB_BENCH);
        }
    }
}

static void examples_markdown(const verb *v) {
    for (size_t w = 0; w < sizeof not_run / sizeof *not_run; w++) {
        bool found = false;
        for (int i = 0; v->examples[i]; i++) found |= strstr(v->examples[i], not_run[w].word) != NULL;
        if (found) printf("\n<!-- not run [%s]: %s -->", not_run[w].word, not_run[w].reason);
    }
    puts("\n```sh");
    for (int i = 0; v->examples[i]; i++) puts(v->examples[i]);
    puts("```");
}

static void markdown(void) {
    const verb *v;
    puts("# Reference\n\nEvery verb and option of `graft`, made from the program's own tables by `make "
         "docs`: do not edit this\n"
         "page. `graft VERB --help` prints the same. Files are in [formats.md](formats.md) and "
         "[adapters.md](adapters.md), the documents of `--json` in [json.md](json.md).\n");
    for (size_t i = 0; i < sizeof stand_ins / sizeof *stand_ins; i++)
        printf("<!-- run: %s -->\n", stand_ins[i]);
    puts("\n| verb | does |\n|---|---|");
    for (size_t i = 0; (v = verb_at(i)); i++) {
        printf("| [%s](#graft-%s) | ", v->name, v->name);
        cell(v->summary);
        puts(" |");
    }
    puts("\nEvery verb also takes:\n\n| option | meaning |\n|---|---|");
    const cli_flag *f;
    for (size_t i = 0; (f = cli_flag_at(i)); i++) {
        fputs("| ", stdout);
        if (f->letter) printf("`-%c`, ", f->letter);
        printf("`--%s` | %s |\n", f->name, f->help);
    }
    puts("\n| exit code | means |\n|---|---|");
    for (int i = 0; i < EXITS; i++) printf("| %s | %s |\n", exits[i][0], exits[i][1]);
    puts("\n| environment | what it changes |\n|---|---|");
    for (int i = 0; i < ENVIRONMENT; i++) printf("| `%s` | %s |\n", environment[i][0], environment[i][1]);
    for (size_t i = 0; (v = verb_at(i)); i++) {
        printf("\n## graft %s\n\n", v->name);
        char text[HELP_WORDS];
        const char *words = help_words(text, sizeof text, v);
        printf("`graft %s%s%s%s`: ", v->name, words[0] ? " " : "", words, v->bit ? " [options]" : "");
        cell(v->summary);
        puts(".");
        if (v->about[0]) {
            putchar('\n');
            cell(v->about);
            putchar('\n');
        }
        if (v->bit) options_markdown(v);
        examples_markdown(v);
    }
}

/* -------------------------------------------------------------------------------------------- mdoc, man page
 */

/* One word of mdoc: backslashes and some signs are its own. Returns the width of what it printed. */
static int roff_word(const char *word, int n, bool quoted) {
    static const struct {
        char sign;
        const char *text;
    } own[] = {{'\\', "\\e"}, {'-', "\\-"}, {'~', "\\(ti"}, {'^', "\\(ha"}, {'`', "\\(ga"}, {'"', "\\(dq"}};
    int width = 0;
    for (int i = 0; i < n; i++) {
        const char *text = NULL;
        for (size_t k = 0; k < sizeof own / sizeof *own - !quoted; k++)
            if (word[i] == own[k].sign) text = own[k].text;
        width += text ? printf("%s", text) : printf("%c", word[i]);
    }
    return width;
}

/* Text of mdoc: sentences end lines, lines are short, and none begins with a control character. */
static void roff(const char *text) {
    enum { WIDTH = 72 };
    int at = 0;
    while (*text) {
        int n = (int)strcspn(text, " ");
        bool sentence = n > 0 && text[n - 1] == '.' && text[n] == ' ';
        if (at > 0 && at + n > WIDTH) at = 0, putchar('\n');
        if (at > 0) at += printf(" ");
        if (at == 0 && (*text == '.' || *text == '\'')) at += printf("\\&");
        at += roff_word(text, n, false);
        if (sentence) at = 0, putchar('\n');
        text += n;
        while (*text == ' ') text++;
    }
    if (at > 0) putchar('\n');
}

/* The same as one argument of a macro, whose quotes are its own. */
static void roff_argument(const char *text) {
    roff_word(text, (int)strlen(text), true);
}

static void item(const char *name, char letter, const char *value) {
    fputs(".It ", stdout);
    if (letter) printf("Fl %c , ", letter);
    fputs("Fl \\-", stdout);
    roff_argument(name);
    if (value) fputs(" Ar \"", stdout);
    if (value) roff_argument(value);
    puts(value ? "\"" : "");
}

/* What an option means, its default and the verbs that take it, as three sentences. */
static void item_text(const graft_option *o) {
    const verb *v;
    char meaning[HELP_MEANING], text[HELP_MEANING + 512];
    help_meaning(meaning, sizeof meaning, o, false);
    size_t n = (size_t)snprintf(text, sizeof text, "%s%s", meaning, meaning[0] ? ". " : "");
    if (o->value && o->fallback && o->fallback[0])
        n += (size_t)snprintf(text + n, sizeof text - n, "The default is %s. ", o->fallback);
    n += (size_t)snprintf(text + n, sizeof text - n, "Taken by");
    for (size_t i = 0; (v = verb_at(i)) && n < sizeof text; i++)
        if (o->verbs & v->bit) n += (size_t)snprintf(text + n, sizeof text - n, " %s,", v->name);
    if (n < sizeof text) text[n - 1] = '.';
    roff(text);
}

static void options_man(void) {
    const graft_option *o;
    const cli_flag *f;
    for (int g = 0; graft_option_headings()[g]; g++) {
        printf(".Ss %s\n.Bl -tag -width Ds\n", graft_option_headings()[g]);
        for (size_t i = 0; (o = graft_option_at(i)); i++) {
            if (o->heading != g) continue;
            item(o->name, o->letter, o->value);
            item_text(o);
        }
        for (size_t i = 0; !graft_option_headings()[g + 1] && (f = cli_flag_at(i)); i++) {
            item(f->name, f->letter, NULL);
            roff(f->help);
        }
        puts(".El");
    }
}

/* `date` as in "November 28, 2026". */
static void man(const char *date) {
    const verb *v;
    printf(".\\\" Made by make docs: do not edit.\n.Dd %s\n.Dt GRAFT 1\n.Os\n", date);
    puts(".Sh NAME\n.Nm graft\n.Nd fine-tune language models on the machine you have\n.Sh SYNOPSIS");
    for (size_t i = 0; (v = verb_at(i)); i++) {
        printf(".Nm\n.Cm %s\n", v->name);
        if (v->bit) puts(".Op Ar options");
        char text[HELP_WORDS];
        const char *words = help_words(text, sizeof text, v);
        if (words[0]) printf(".Ar \"");
        if (words[0]) roff_argument(words);
        if (words[0]) puts("\"");
    }
    puts(".Sh DESCRIPTION\n.Nm");
    roff("reads Hugging Face, MLX and GGUF models, trains LoRA adapters on 4-bit weights with the CPU, tells "
         "memory and time before it starts, and writes adapters that mlx-lm, PEFT and llama.cpp load.");
    puts(".Bl -tag -width Ds");
    for (size_t i = 0; (v = verb_at(i)); i++) {
        printf(".It Cm %s\n", v->name);
        roff(v->summary);
        if (v->about[0]) puts(".Pp");
        if (v->about[0]) roff(v->about);
    }
    puts(".El\n.Sh OPTIONS");
    options_man();
    puts(".Sh ENVIRONMENT\n.Bl -tag -width Ds");
    for (int i = 0; i < ENVIRONMENT; i++) {
        printf(".It %s\n", environment[i][0]);
        roff(environment[i][1]);
    }
    puts(".El\n.Sh EXIT STATUS\n.Bl -tag -width 130 -compact");
    for (int i = 0; i < EXITS; i++) printf(".It %s\n%s\n", exits[i][0], exits[i][1]);
    puts(".El\n.Sh EXAMPLES\n.Bd -literal");
    for (size_t i = 0; (v = verb_at(i)); i++)
        for (int e = 0; v->examples[e]; e++) {
            roff_argument(v->examples[e]);
            putchar('\n');
        }
    puts(".Ed");
}

/* ------------------------------------------------------------------------------------ what --resume allows
 */

/* Names of the options of train that may change freely; without `freely` those that no flag allows. */
static void ruled(bool freely) {
    const graft_option *o;
    const char *between = "`--";
    for (size_t i = 0; (o = graft_option_at(i)); i++) {
        gr_option_change change = gr_option_row_at(i)->change;
        if (freely ? change != GR_CHANGE_OWN && change != GR_CHANGE_FREELY : change != GR_CHANGE_NEVER)
            continue;
        printf("%s%s", between, o->name);
        between = " --";
    }
    putchar('`');
}

static void resume(void) {
    fputs("| on `--resume` | |\n|---|---|\n| may change | ", stdout);
    ruled(true);
    puts(": time, memory, what is written where, and when it stops, but no update. Base and rows, and what "
         "`--config` and `--preset` set, are compared themselves |");
    puts(
        "| refused until allowed | everything else, by name, all at once: `learning-rate: 0.0002 -> 0.0001`. "
        "`--allow-changes learning-rate,iters` lets these change, `data` other rows, `model` another base; "
        "the run says what was allowed |");
    fputs("| refused always | what the saved vectors would not fit or would mean something else with: ",
          stdout);
    ruled(false);
    puts(" |");
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "markdown") == 0)
        markdown();
    else if (argc == 3 && strcmp(argv[1], "man") == 0)
        man(argv[2]);
    else if (argc == 2 && strcmp(argv[1], "resume") == 0)
        resume();
    else
        return fprintf(stderr, "usage: make_reference markdown|man DATE|resume\n"), 2;
    return fflush(stdout) == 0 ? 0 : 1;
}
