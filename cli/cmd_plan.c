/* cmd_plan.c - the plan as a table, totals, memory by part and time. */
#include "json_out.h"
#include <string.h>

static const char *yes(bool b) {
    return b ? "yes" : "no";
}

static const char *frozen_text(const char *frozen) {
    return strcmp(frozen, "true") == 0 ? "yes" : strcmp(frozen, "false") == 0 ? "no" : "partial";
}

static void print_types(const graft_plan *p) {
    int width = 4;
    for (size_t i = 0; i < GRAFT_PLAN_TYPES; i++)
        if ((int)strlen(p->types[i].type) > width) width = (int)strlen(p->types[i].type);
    printf("%-*s  %-8s  %-4s  %-7s  %7s  %15s  %8s  %s\n", width, "type", "quantize", "LoRA", "frozen",
           "tensors", "parameters", "size", "notes");
    for (size_t i = 0; i < GRAFT_PLAN_TYPES; i++) {
        const graft_plan_type *t = &p->types[i];
        out_buf parameters, size;
        printf("%-*s  %-8s  %-4s  %-7s  %7lld  %15s  %8s%s%s\n", width, t->type, yes(t->quantize),
               yes(t->lora), frozen_text(t->frozen), (long long)t->tensors,
               out_count(&parameters, t->parameters), out_size(&size, t->bytes),
               t->notes && t->notes[0] ? "  " : "", t->notes ? t->notes : "");
    }
}

static void print_tensors(const graft_plan *p, bool terminal) {
    int width = 6;
    for (size_t i = 0; i < p->tensors_count; i++) {
        int n = (int)strlen(p->tensors_list[i].name);
        if (n > width) width = n;
    }
    printf("\n%-*s  %-17s %-24s %-9s %5s  %-7s  %8s\n", width, "tensor", "shape", "type", "stored", "rank",
           "frozen", "size");
    for (size_t i = 0; i < p->tensors_count; i++) {
        const graft_plan_tensor *t = &p->tensors_list[i];
        char shape[48], stored[32], rank[24] = "";
        out_buf size;
        int n = snprintf(shape, sizeof shape, "%lld", (long long)t->shape[0]);
        if (t->shape[1]) snprintf(shape + n, sizeof shape - (size_t)n, " x %lld", (long long)t->shape[1]);
        if (t->quantize)
            snprintf(stored, sizeof stored, "%d/g%d", t->bits, t->group_size);
        else
            snprintf(stored, sizeof stored, "%d-bit", t->bits);
        if (t->adapter) snprintf(rank, sizeof rank, "%lld", (long long)t->rank);
        out_text(stdout, t->name, strlen(t->name), terminal);
        printf("%*s  %-17s %-24s %-9s %5s  %-7s  %8s\n", width - (int)strlen(t->name), "", shape, t->role,
               stored, rank, frozen_text(t->frozen), out_size(&size, t->bytes));
    }
}

static void print_part(const char *name, uint64_t bytes, const char *what) {
    out_buf size;
    printf("  %-8s %8s  %s\n", name, out_size(&size, bytes), what);
}

static void print_memory(const graft_plan *p) {
    const graft_memory *m = &p->memory;
    const char *of = p->packing.packs ? " packs" : "";
    printf("\nmemory: batches of %lld%s x %lld tokens, up to %lld tokens and %lld rows of logits at once, "
           "recompute %s\n",
           (long long)p->batch_size, of, (long long)p->sequence_length, (long long)p->slice_tokens,
           (long long)p->head_tile, p->grad_checkpoint ? p->grad_checkpoint : "none");
    print_part("mapped", m->mapped, "base weights, read from the file as needed");
    print_part("state", m->state, "adapter, gradients, optimizer");
    print_part("saved", m->saved, "activations kept for the backward pass");
    print_part("scratch", m->scratch, "buffers that every layer reuses");
    print_part("other", m->other, "program, tokenizer, row index, stacks");
    print_part("total", m->total, "forecast peak");
}

static void print_saving(const char *what, uint64_t bytes, uint64_t full) {
    out_buf size, of;
    if (full)
        printf("  %-24s %8s instead of %8s, %.1f %% less\n", what, out_size(&size, bytes),
               out_size(&of, full), 100 * (1 - (double)bytes / (double)full));
}

/* The guide's figure of memory saved, which does not say of what: of both. */
static void print_impact(const graft_plan *p) {
    printf("\nagainst training every weight in 16 bits with the same settings\n");
    print_saving("gradients, optimizer", p->gradients_optimizer, p->full_gradients_optimizer);
    print_saving("whole process", p->memory.total, p->full.total);
}

static void print_packing(const graft_packing *p) {
    out_buf rows, packs;
    if (p->packs)
        printf("\npacking: %s rows in %s packs of up to %lld tokens, %.1f %% full\n",
               out_count(&rows, p->rows), out_count(&packs, p->packs), (long long)p->capacity,
               p->percent_full);
}

static void print_time(const graft_plan *p) {
    out_buf a, b, d;
    if (p->time_seconds > 0)
        printf("\ntime: %s for %s iterations, %s tokens at %.4g tokens per second\n",
               out_seconds(&a, p->time_seconds), out_count(&b, p->iterations), out_count(&d, p->time_tokens),
               p->tokens_per_second);
    else if (p->tokens_per_second > 0)
        printf("\ntime: %.4g tokens per second; --data DIR forecasts the whole run\n", p->tokens_per_second);
    else
        printf("\ntime: --data DIR forecasts it\n");
}

static void print_plan(const cli *c, const graft_plan *p) {
    fputs("model: ", stdout);
    if (p->model) out_text(stdout, p->model, strlen(p->model), c->stream);
    printf(" (%s)\n\n", p->model_type ? p->model_type : "unknown type");
    print_types(p);
    if (c->options.tensors) print_tensors(p, c->stream);
    out_buf total, trainable;
    double percent =
        p->parameters_total > 0 ? 100.0 * (double)p->parameters_trainable / (double)p->parameters_total : 0;
    printf("\nparameters: %s in all, %s trainable (%.3f %%)\n", out_count(&total, p->parameters_total),
           out_count(&trainable, p->parameters_trainable), percent);
    print_memory(p);
    print_impact(p);
    print_packing(&p->packing);
    print_time(p);
}

int cmd_plan(cli *c) {
    graft_plan plan = {0};
    graft_status status = graft_plan_make(&c->options, &c->hooks, &plan, &c->err);
    progress_clear(&c->bar);
    if (status == GRAFT_OK && c->json)
        status = doc_print(c, doc_plan(&plan), false);
    else if (status == GRAFT_OK)
        print_plan(c, &plan);
    graft_plan_free(&plan);
    return cli_report(c, status);
}
