/* cmd_bench.c - what this machine and this model do: tables, documents, pictures. A new benchmark is a row.
 */
#include "json_out.h"
#include "peer.h"
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------- the picture */

/* Where it goes; NULL: nowhere. */
static const char *picture_path(cli *c, char *path, size_t size) {
    if (c->options.svg) return strcmp(c->options.svg, "none") == 0 ? NULL : c->options.svg;
    snprintf(path, size, "bench-%s.svg", c->words[0]);
    return path;
}

/* A place that cannot be written is known before minutes of measuring. */
static graft_status picture_possible(cli *c) {
    const char *path = c->options.svg, *slash = path ? strrchr(path, '/') : NULL;
    char dir[4096] = ".";
    if (!path || strcmp(path, "none") == 0) return GRAFT_OK;
    if (slash) snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (access(dir, W_OK | X_OK) == 0) return GRAFT_OK;
    cli_fail(c, GRAFT_IO, "cannot write the picture: %s", strerror(errno));
    cli_where(c, path);
    cli_hint(c, "--svg takes a file in a directory that is there, or none");
    return GRAFT_IO;
}

/* After the figures: they count even where no picture can be written. One that nobody asked for is no
 * failure either. */
static graft_status picture_written(cli *c, graft_status status, const char **path) {
    if (status == GRAFT_OK || c->options.svg) return status;
    fprintf(stderr, "no picture: %s, %s\n", c->err.what, c->err.where);
    c->err = (graft_error){0};
    *path = NULL;
    return GRAFT_OK;
}

/* The document with the picture's name, or one line below the table. */
static graft_status finish(cli *c, json_t *document, const char *path, graft_status drawn) {
    graft_error why = c->err;
    if (c->json) document = doc_with(document, "svg", doc_text(drawn == GRAFT_OK ? path : NULL));
    if (c->json) {
        c->err = (graft_error){0};
        graft_status printed = doc_print(c, document, false);
        if (printed != GRAFT_OK) return printed;
    } else if (path && drawn == GRAFT_OK) {
        fputs("picture  ", stdout);
        out_text(stdout, path, strlen(path), c->stream);
        putchar('\n');
    }
    c->err = why;
    return drawn;
}

static const char *percent(out_buf *b, double value) {
    if (isfinite(value))
        snprintf(b->text, sizeof b->text, "%.1f %%", value);
    else
        snprintf(b->text, sizeof b->text, "-");
    return b->text;
}

static const char *size_or_dash(out_buf *b, uint64_t bytes) {
    if (bytes) return out_size(b, bytes);
    snprintf(b->text, sizeof b->text, "-");
    return b->text;
}

static const char *time_or_dash(out_buf *b, double seconds) {
    if (seconds > 0)
        snprintf(b->text, sizeof b->text, "%.4g s", seconds);
    else
        snprintf(b->text, sizeof b->text, "-");
    return b->text;
}

/* ------------------------------------------------------------------------------------------------- train */

/* The largest distance of the losses over the steps that both did. */
static double losses_apart(const graft_bench_result *r, const graft_bench_peer *p) {
    double most = 0;
    for (size_t i = 0; i < r->nlosses && i < p->nlosses; i++)
        most = fmax(most, fabs(r->losses[i] - p->losses[i]));
    return most;
}

static void print_train(const graft_bench_result *r) {
    out_buf peak, forecast, least;
    printf("speed    %.4g tokens per second, %.4g s per step\n", r->tokens_per_second, r->step_seconds);
    printf("compute  %.4g GFLOP/s, %.1f %% of the measured peak of %.4g (%.1f %% without recompute)\n",
           r->gflops, r->percent_of_peak, r->peak_gflops, r->percent_of_peak_without_recompute);
    printf(
        "memory   peak %s, forecast %s, floor %s; recompute %s, up to %lld tokens and %lld rows of logits at "
        "once\n",
        out_size(&peak, r->peak_rss_bytes), out_size(&forecast, r->forecast_bytes),
        out_size(&least, r->floor_bytes), r->grad_checkpoint, (long long)r->slice_tokens,
        (long long)r->head_tile);
    if (r->nlosses)
        printf("loss     %.4f -> %.4f in %zu steps\n", r->losses[0], r->losses[r->nlosses - 1], r->nlosses);
}

/* The largest first would hide the order of the step. */
static void print_profile(const graft_bench_result *r) {
    if (!r->nparts) return;
    printf("\n%-34s %10s %8s %8s   %s\n", "part of a step", "seconds", "share", "idle", "of its own limit");
    for (size_t i = 0; i < r->nparts; i++) {
        const graft_bench_part *p = &r->parts[i];
        printf("%-34s %10.4f %6.1f %% %6.1f %%   ", p->name, p->seconds, p->percent, p->idle_percent);
        if (isfinite(p->percent_of_limit))
            printf("%5.1f %% of %s\n", p->percent_of_limit, p->bandwidth ? "bandwidth" : "arithmetic");
        else
            puts("-");
    }
    printf("arithmetic %.4g GFLOP/s, bandwidth of reading %.3g GB/s\n", r->peak_gflops, r->read_gbs);
}

static void print_peer(const cli *c, const graft_bench_result *r, const peer *p) {
    out_buf peak;
    const graft_bench_peer *x = &p->result;
    putchar('\n');
    out_text(stdout, x->program, strlen(x->program), c->stream);
    printf(", the same batches\nspeed    %.4g tokens per second, %.4g s per step\n", x->tokens_per_second,
           x->step_seconds);
    printf("memory   peak %s\n", size_or_dash(&peak, x->peak_rss_bytes));
    printf("loss     %.4f -> %.4f in %zu steps\n", x->losses[0], x->losses[x->nlosses - 1], x->nlosses);
    printf("graft is %.2f x as fast; the losses differ by %.2g at most%s\n",
           r->tokens_per_second / x->tokens_per_second, losses_apart(r, x),
           c->options.model ? "" : " (random weights of its own)");
}

static json_t *doc_train_and_peer(const graft_bench_result *r, const peer *p) {
    json_t *document = doc_bench(r);
    if (!document || !p->document) return document;
    document = doc_with(document, "peer", json_incref(p->document));
    document = doc_with(document, "speedup", doc_number(r->tokens_per_second / p->result.tokens_per_second));
    document = doc_with(document, "losses_apart", doc_number(losses_apart(r, &p->result)));
    return document;
}

static graft_status show_train(cli *c, const graft_bench_result *r, const peer *p) {
    char name[64];
    const char *path = picture_path(c, name, sizeof name);
    const graft_bench_peer *other = p->document ? &p->result : NULL;
    graft_status drawn = path ? graft_bench_train_svg(r, other, path, &c->err) : GRAFT_OK;
    drawn = picture_written(c, drawn, &path);
    if (!c->json) print_train(r), print_profile(r);
    if (!c->json && other) print_peer(c, r, p);
    return finish(c, c->json ? doc_train_and_peer(r, p) : NULL, path, drawn);
}

static graft_status bench_train(cli *c) {
    graft_bench_result result = {0};
    peer other = {0};
    graft_status status = peer_find(c, &other, graft_bench_export);
    if (status == GRAFT_OK) status = graft_bench_train(&c->options, &c->hooks, &result, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->options.peer) status = peer_run(c, &other);
    if (status == GRAFT_OK) status = show_train(c, &result, &other);
    peer_free(&other);
    graft_bench_result_free(&result);
    return status;
}

/* -------------------------------------------------------------------------------------------------- load */

static const char *bits_name(out_buf *b, const graft_bench_half *x) {
    if (x->bits)
        snprintf(b->text, sizeof b->text, "%d-bit", x->bits);
    else
        snprintf(b->text, sizeof b->text, "mixed bits");
    return b->text;
}

static void print_load(const graft_bench_load_result *r) {
    const graft_bench_half *a = &r->plain, *b = &r->quantized;
    out_buf x, y, z;
    printf("%-16s %14s %14s\n", "", bits_name(&x, a), bits_name(&y, b));
    printf("%-16s %14s %14s  %.2f x as fast\n", "load time", time_or_dash(&x, a->load_seconds),
           time_or_dash(&y, b->load_seconds), r->load_speedup);
    if (isfinite(a->cold_seconds) && isfinite(b->cold_seconds))
        printf("%-16s %14s %14s  %.2f x as fast\n", "  from disk", time_or_dash(&x, a->cold_seconds),
               time_or_dash(&y, b->cold_seconds), a->cold_seconds / b->cold_seconds);
    printf("%-16s %14s %14s  %s less\n", "process peak", size_or_dash(&x, a->peak_rss_bytes),
           size_or_dash(&y, b->peak_rss_bytes), percent(&z, r->memory_saved_percent));
    printf("%-16s %14s %14s  %s less\n", "weights", out_size(&x, a->weight_bytes),
           out_size(&y, b->weight_bytes), percent(&z, r->weights_saved_percent));
    printf("%-16s %14.3f %14.3f\n", "bits per weight", a->bits_per_weight, b->bits_per_weight);
    printf("%-16s %14s %14s\n", "parameters", out_count(&x, a->parameters), out_count(&y, b->parameters));
    if (!isfinite(r->loss_difference)) return;
    printf("%-16s %14.4f %14.4f  %+.4f\n", "loss", a->loss, b->loss, r->loss_difference);
    printf("%-16s %14.3f %14.3f\n", "perplexity", a->perplexity, b->perplexity);
}

static graft_status bench_load(cli *c) {
    graft_bench_load_result r = {0};
    char name[64];
    graft_status status = graft_bench_load(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK) {
        const char *path = picture_path(c, name, sizeof name);
        status = path ? graft_bench_load_svg(&r, path, &c->err) : GRAFT_OK;
        status = picture_written(c, status, &path);
        if (!c->json) print_load(&r);
        status = finish(c, c->json ? doc_bench_load(&r) : NULL, path, status);
    }
    graft_bench_load_result_free(&r);
    return status;
}

/* -------------------------------------------------------------------------------------------- checkpoint */

/* The rung between: gate and up alone are computed again. */
static void print_mlp(const graft_bench_checkpoint_result *r) {
    out_buf x[7];
    printf(
        "\nonly gate and up again (--grad-checkpoint mlp)\n%-8s %10s   %8s %8s   %10s   %8s %8s   %10s %8s\n",
        "tokens", "peak", "saved", "forecast", "step", "slower", "forecast", "buffers", "saved");
    for (size_t i = 0; i < r->nlengths; i++) {
        const graft_bench_length *l = &r->lengths[i];
        printf("%-8lld %10s   %8s %8s   %10s   %8s %8s", (long long)l->seq_length,
               size_or_dash(&x[0], l->peak_mlp), percent(&x[1], l->mlp_saved_percent),
               percent(&x[2], l->mlp_forecast_saved_percent), time_or_dash(&x[3], l->step_mlp),
               percent(&x[4], l->mlp_slower_percent), percent(&x[5], l->mlp_forecast_slower_percent));
        printf("   %10s %8s\n", size_or_dash(&x[0], l->activations_mlp),
               percent(&x[6], l->mlp_activations_saved_percent));
    }
}

static void print_checkpoint(const graft_bench_checkpoint_result *r) {
    out_buf x[8];
    bool same = true;
    printf("%-8s %21s   %-26s   %21s   %-26s\n", "", "process peak", "memory saved by recompute",
           "seconds of a step", "slower with recompute");
    printf("%-8s %10s %10s   %8s %8s %8s   %10s %10s   %8s %8s %8s\n", "tokens", "keep all", "recompute",
           "measured", "forecast", "stated", "keep all", "recompute", "measured", "forecast", "stated");
    for (size_t i = 0; i < r->nlengths; i++) {
        const graft_bench_length *l = &r->lengths[i];
        printf("%-8lld %10s %10s   %8s %8s %8s   %10s %10s", (long long)l->seq_length,
               size_or_dash(&x[0], l->peak_none), size_or_dash(&x[1], l->peak_layer),
               percent(&x[2], l->saved_percent), percent(&x[3], l->forecast_saved_percent),
               percent(&x[4], l->stated_saved_percent), time_or_dash(&x[5], l->step_none),
               time_or_dash(&x[6], l->step_layer));
        printf("   %8s %8s %8s\n", percent(&x[0], l->slower_percent),
               percent(&x[1], l->forecast_slower_percent), percent(&x[2], l->stated_slower_percent));
        same &= l->same_losses || l->step_none <= 0 || l->step_layer <= 0;
    }
    printf("\n%-8s %21s   %8s\n%-8s %10s %10s   %8s\n", "", "kept and work buffers", "saved", "tokens",
           "keep all", "recompute", "");
    for (size_t i = 0; i < r->nlengths; i++) {
        const graft_bench_length *l = &r->lengths[i];
        printf("%-8lld %10s %10s   %8s\n", (long long)l->seq_length, size_or_dash(&x[0], l->activations_none),
               size_or_dash(&x[1], l->activations_layer), percent(&x[2], l->activations_saved_percent));
    }
    print_mlp(r);
    puts(same ? "\nall ways gave the same losses, bit for bit" : "\nthe losses DIFFER between the ways");
}

static graft_status bench_checkpoint(cli *c) {
    graft_bench_checkpoint_result r = {0};
    char name[64];
    graft_status status = graft_bench_checkpoint(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK) {
        const char *path = picture_path(c, name, sizeof name);
        status = path ? graft_bench_checkpoint_svg(&r, path, &c->err) : GRAFT_OK;
        status = picture_written(c, status, &path);
        if (!c->json) print_checkpoint(&r);
        status = finish(c, c->json ? doc_bench_checkpoint(&r) : NULL, path, status);
    }
    graft_bench_checkpoint_result_free(&r);
    return status;
}

/* -------------------------------------------------------------------------------------------- accumulate */

static void print_accumulate(const graft_bench_accumulate_result *r) {
    out_buf a, b, d;
    printf(
        "%lld rows of %lld to %lld targets (%s tokens, %s targets); gradient of %s parameters, norm %.4g\n\n",
        (long long)r->rows, (long long)r->shortest, (long long)r->longest, out_count(&a, r->tokens),
        out_count(&b, r->targets), out_count(&d, r->parameters), r->gradient_norm);
    printf("%-13s %5s   %-35s   %-24s\n", "", "", "graft, from one batch's gradient", "the mean of means");
    printf("%-13s %5s   %-9s %12s %12s   %12s %12s\n", "micro-batches", "rows", "bits", "largest", "relative",
           "largest", "relative");
    for (size_t i = 0; i < r->nsplits; i++) {
        const graft_bench_split *x = &r->splits[i];
        printf("%-13lld %5lld   %-9s %12.3g %12.3g   %12.3g %12.3g\n", (long long)x->micro_batches,
               (long long)x->rows, x->identical ? "the same" : "differ", x->largest_difference,
               x->relative_difference, x->means_largest_difference, x->means_relative_difference);
    }
}

static graft_status bench_accumulate(cli *c) {
    graft_bench_accumulate_result r = {0};
    char name[64];
    graft_status status = graft_bench_accumulate(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status != GRAFT_OK) return status;
    const char *path = picture_path(c, name, sizeof name);
    status = path ? graft_bench_accumulate_svg(&r, path, &c->err) : GRAFT_OK;
    status = picture_written(c, status, &path);
    if (!c->json) print_accumulate(&r);
    return finish(c, c->json ? doc_bench_accumulate(&r) : NULL, path, status);
}

/* ----------------------------------------------------------------------------------------------- kernels */

static graft_status bench_kernels(cli *c) {
    graft_bench_kernels_result r = {0};
    graft_status status = graft_bench_kernels(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->json) status = doc_print(c, doc_bench_kernels(&r), false);
    if (status == GRAFT_OK && !c->json) bench_kernels_print(&r);
    graft_bench_kernels_result_free(&r);
    return status;
}

/* ---------------------------------------------------------------------------------------------- tokenize */

static double of_peer(const peer *p, const char *name) {
    return json_number_value(json_object_get(p->document, name));
}

static bool same_tokens(const graft_bench_tokenize_result *r, const peer *p) {
    char digest[24];
    const char *theirs = json_string_value(json_object_get(p->document, "digest"));
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)r->digest);
    return theirs && strcmp(theirs, digest) == 0;
}

static void print_tokenize(const cli *c, const graft_bench_tokenize_result *r, const peer *p) {
    out_buf a, b, d;
    printf("%s texts, %s, %s tokens; the tokenizer opens in %.3g s\n", out_count(&a, (int64_t)r->texts),
           out_size(&b, r->bytes), out_count(&d, (int64_t)r->tokens), r->open_seconds);
    printf("speed    %.4g million tokens per second, %.4g MB/s, one thread\n", r->tokens_per_second / 1e6,
           r->megabytes_per_second);
    if (!p->document) return;
    putchar('\n');
    out_text(stdout, p->result.program, strlen(p->result.program), c->stream);
    printf(", the same texts\nspeed    %.4g million tokens per second with one thread, %.4g with all\n",
           p->result.tokens_per_second / 1e6, of_peer(p, "batch_tokens_per_second") / 1e6);
    printf("graft is %.2f x as fast; the tokens are %s\n", r->tokens_per_second / p->result.tokens_per_second,
           same_tokens(r, p) ? "the same" : "NOT the same");
}

static json_t *doc_tokenize_and_peer(const graft_bench_tokenize_result *r, const peer *p) {
    json_t *document = doc_bench_tokenize(r);
    if (!document || !p->document) return document;
    document = doc_with(document, "peer", json_incref(p->document));
    document = doc_with(document, "speedup", doc_number(r->tokens_per_second / p->result.tokens_per_second));
    document = doc_with(document, "same_tokens", json_boolean(same_tokens(r, p)));
    return document;
}

static graft_status bench_tokenize(cli *c) {
    graft_bench_tokenize_result r = {0};
    peer other = {0};
    graft_status status = peer_find(c, &other, graft_bench_tokenize_export);
    if (status == GRAFT_OK) status = graft_bench_tokenize(&c->options, &c->hooks, &r, &c->err);
    if (status == GRAFT_OK && c->options.peer) status = peer_run(c, &other);
    if (status == GRAFT_OK && c->json) status = doc_print(c, doc_tokenize_and_peer(&r, &other), false);
    if (status == GRAFT_OK && !c->json) print_tokenize(c, &r, &other);
    peer_free(&other);
    return status;
}

/* ------------------------------------------------------------------------------------------------ curves */

static void print_curves(const graft_bench_curves_result *r) {
    out_buf x[4];
    printf("%-12s %-34s   %s\n%-12s", "", "everything kept", "with recompute", r->over);
    for (int i = 0; i < 2; i++) printf(" %10s %9s %12s%s", "tokens/s", "of peak", "process", i ? "\n" : "  ");
    for (size_t i = 0; i < r->npoints; i++) {
        const graft_bench_cost *a = &r->points[i].none, *b = &r->points[i].layer;
        printf("%-12lld %10.1f %9s %12s   %10.1f %9s %12s\n", (long long)r->points[i].value,
               a->tokens_per_second, percent(&x[0], a->percent_of_peak), out_size(&x[1], a->peak_rss_bytes),
               b->tokens_per_second, percent(&x[2], b->percent_of_peak), out_size(&x[3], b->peak_rss_bytes));
    }
}

static graft_status bench_curves(cli *c) {
    graft_bench_curves_result r = {0};
    char name[64];
    graft_status status = graft_bench_curves(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status != GRAFT_OK) return status;
    const char *path = picture_path(c, name, sizeof name);
    status = path ? graft_bench_curves_svg(&r, path, &c->err) : GRAFT_OK;
    status = picture_written(c, status, &path);
    if (!c->json) print_curves(&r);
    return finish(c, c->json ? doc_bench_curves(&r) : NULL, path, status);
}

/* ---------------------------------------------------------------------------------------------- generate */

static void print_generate(const cli *c, const graft_bench_generate_result *r, const peer *p) {
    out_buf a;
    if (r->batch_size > 1) printf("%lld rows at once\n", (long long)r->batch_size);
    printf("prompt   %.4g tokens per second (%lld), %.4g GFLOP/s, %.1f %% of the measured peak of %.4g\n",
           r->prompt_tokens_per_second, (long long)r->prompt_tokens, r->prompt_gflops,
           r->prompt_percent_of_peak, r->peak_gflops);
    printf("answer   %.4g tokens per second (%lld), %.4g GB/s, %.1f %% of the measured bandwidth of %.4g\n",
           r->generation_tokens_per_second, (long long)r->tokens, r->generation_gbs,
           r->generation_percent_of_bandwidth, r->read_gbs);
    printf("memory   peak %s\n", out_size(&a, r->peak_rss_bytes));
    if (!p->document) return;
    double prompt = of_peer(p, "prompt_tokens_per_second");
    putchar('\n');
    out_text(stdout, p->result.program, strlen(p->result.program), c->stream);
    printf(", the same file and prompt\nprompt   %.4g tokens per second\nanswer   %.4g tokens per second\n",
           prompt, p->result.tokens_per_second);
    printf("memory   peak %s\n", size_or_dash(&a, p->result.peak_rss_bytes));
    printf("graft is %.2f x as fast with the prompt, %.2f x with the answer\n",
           r->prompt_tokens_per_second / prompt,
           r->generation_tokens_per_second / p->result.tokens_per_second);
}

static json_t *doc_generate_and_peer(const graft_bench_generate_result *r, const peer *p) {
    json_t *document = doc_bench_generate(r);
    if (!document || !p->document) return document;
    document = doc_with(document, "peer", json_incref(p->document));
    document = doc_with(document, "prompt_speedup",
                        doc_number(r->prompt_tokens_per_second / of_peer(p, "prompt_tokens_per_second")));
    document = doc_with(document, "speedup",
                        doc_number(r->generation_tokens_per_second / p->result.tokens_per_second));
    return document;
}

static graft_status bench_generate(cli *c) {
    graft_bench_generate_result r = {0};
    peer other = {0};
    graft_status status = peer_find(c, &other, graft_bench_generate_export);
    if (status == GRAFT_OK) status = graft_bench_generate(&c->options, &c->hooks, &r, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->options.peer) status = peer_run(c, &other);
    if (status == GRAFT_OK && c->json) status = doc_print(c, doc_generate_and_peer(&r, &other), false);
    if (status == GRAFT_OK && !c->json) print_generate(c, &r, &other);
    peer_free(&other);
    return status;
}

/* ----------------------------------------------------------------------------------------------- the verb */

static const struct benchmark {
    const char *name;
    graft_status (*run)(cli *c);
} benchmarks[] = {{"load", bench_load},
                  {"train", bench_train},
                  {"checkpoint", bench_checkpoint},
                  {"accumulate", bench_accumulate},
                  {"kernels", bench_kernels},
                  {"tokenize", bench_tokenize},
                  {"curves", bench_curves},
                  {"generate", bench_generate}};

int cmd_bench(cli *c) {
    const char *name = c->words_count ? c->words[0] : NULL;
    enum { COUNT = sizeof benchmarks / sizeof *benchmarks };
    const char *names[COUNT];
    char known[128] = "";
    size_t at = 0;
    for (size_t i = 0; i < COUNT; i++) {
        names[i] = benchmarks[i].name;
        if (name && strcmp(benchmarks[i].name, name) == 0) {
            graft_status possible = picture_possible(c);
            return cli_report(c, possible == GRAFT_OK ? benchmarks[i].run(c) : possible);
        }
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", benchmarks[i].name);
    }
    cli_fail(c, GRAFT_USAGE, "no such benchmark in this version");
    cli_expected(c, known);
    cli_found(c, name ? name : "none");
    const char *near = name ? nearest_name(name, names, COUNT) : NULL;
    if (near)
        cli_hint(c, "did you mean %s?", near);
    else
        cli_hint(c, "graft bench %s", benchmarks[1].name);
    return cli_report(c, GRAFT_USAGE);
}
