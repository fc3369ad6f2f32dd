/* cmd_generate.c - an answer, streamed to a terminal; with --compare beside the base model's. */
#include "json_out.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void on_event(void *user, const graft_event *e) {
    cli *c = user;
    if (e->kind != GRAFT_EVENT_TEXT) {
        cli_event(c, e);
        return;
    }
    if (!c->stream || c->json || c->options.compare || !e->text || e->done <= 0) return;
    progress_clear(&c->bar);
    out_text(stdout, e->text, (size_t)e->done, true);
    fflush(stdout);
}

enum { PROMPT_LIMIT = 64 << 20 }; /* bytes; no context is that long */

/* All of stdin as the prompt, without its last line end: a shell's echo adds one that nobody meant. */
static graft_status read_prompt(cli *c) {
    char *text = NULL;
    size_t used = 0, room = 0, got;
    do {
        if (room - used < 4096) {
            room = room ? room * 2 : 8192;
            char *grown = room <= PROMPT_LIMIT ? realloc(text, room) : NULL;
            if (!grown) {
                free(text);
                return room > PROMPT_LIMIT
                           ? cli_fail(c, GRAFT_RANGE, "the prompt on standard input is too long")
                           : cli_fail(c, GRAFT_NO_MEMORY, "no memory for the prompt");
            }
            text = grown;
        }
        got = fread(text + used, 1, room - used - 1, stdin);
        used += got;
    } while (got > 0);
    graft_status status = GRAFT_OK;
    if (ferror(stdin)) {
        status = cli_fail(c, GRAFT_IO, "cannot read the prompt");
        cli_where(c, "standard input");
        cli_found(c, strerror(errno));
    } else if (memchr(text, 0, used)) {
        status = cli_fail(c, GRAFT_CORRUPT, "the prompt holds a NUL byte");
        cli_where(c, "standard input");
    } else {
        if (used > 0 && text[used - 1] == '\n') used--;
        text[used] = '\0';
        status = graft_options_set(&c->options, GRAFT_VERB_GENERATE, "prompt", text, &c->err);
    }
    free(text);
    return status;
}

static graft_status print_document(cli *c, const graft_generation *answer, const graft_generation *base) {
    json_t *document = doc_generation(answer);
    if (base) document = doc_with(document, "base", doc_generation(base));
    return doc_print(c, document, false);
}

static void print_answer(const cli *c, const graft_generation *answer, const graft_generation *base) {
    const char *text = answer->text ? answer->text : "";
    if (base)
        out_compare(stdout, c->stream || getenv("COLUMNS") ? out_width(stdout) : 0, "base",
                    base->text ? base->text : "", "adapter", text, c->stream);
    else if (!c->stream)
        out_text(stdout, text, strlen(text), false);
    if (!base) putchar('\n');
    fflush(stdout);
    fprintf(stderr, "%lld prompt tokens at %.3g/s, %lld tokens at %.3g/s\n", (long long)answer->prompt_tokens,
            answer->prompt_tokens_per_second, (long long)answer->tokens,
            answer->generation_tokens_per_second);
}

/* One answer of many: a JSON line, or the text below its line's number. */
static void on_answer(void *user, uint64_t line, const graft_generation *answer) {
    cli *c = user;
    progress_clear(&c->bar);
    if (c->json) {
        json_t *row = json_pack("{s:I, s:o, s:I, s:I}", "line", (json_int_t)line, "text",
                                doc_text(answer->text), "tokens", (json_int_t)answer->tokens, "prompt_tokens",
                                (json_int_t)answer->prompt_tokens);
        (void)doc_print(c, row, true);
        return;
    }
    printf("--- line %llu\n", (unsigned long long)line);
    out_text(stdout, answer->text, strlen(answer->text), c->stream);
    putchar('\n');
}

static int generate_many(cli *c) {
    graft_generation total = {0};
    graft_status status = graft_generate_batch(&c->options, &c->hooks, on_answer, c, &total, &c->err);
    progress_clear(&c->bar);
    fflush(stdout);
    if (status == GRAFT_OK)
        fprintf(stderr, "%lld prompt tokens at %.3g/s, %lld tokens at %.3g/s\n",
                (long long)total.prompt_tokens, total.prompt_tokens_per_second, (long long)total.tokens,
                total.generation_tokens_per_second);
    return cli_report(c, status);
}

int cmd_generate(cli *c) {
    graft_status status = GRAFT_OK;
    if (c->options.prompts) return generate_many(c);
    if (!c->options.prompt) {
        cli_fail(c, GRAFT_USAGE, "no prompt");
        cli_expected(c, "--prompt TEXT, --prompt - to read standard input, or --prompts FILE.jsonl");
        return cli_report(c, GRAFT_USAGE);
    }
    if (strcmp(c->options.prompt, "-") == 0) status = read_prompt(c);
    if (status != GRAFT_OK) return cli_report(c, status);
    graft_hooks hooks = {.user = c, .event = on_event, .stop = c->hooks.stop};
    graft_generation answer = {0}, base = {0}, *other = c->options.compare ? &base : NULL;
    status = graft_generate(&c->options, &hooks, &answer, other, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_INTERRUPTED && c->stream && !c->json) putchar('\n'); /* the answer stops mid-line */
    if (status == GRAFT_OK && c->json)
        status = print_document(c, &answer, other);
    else if (status == GRAFT_OK)
        print_answer(c, &answer, other);
    graft_generation_free(&answer);
    graft_generation_free(&base);
    return cli_report(c, status);
}
