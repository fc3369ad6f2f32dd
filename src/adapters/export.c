/* An adapter read in one format and written in others. */
#include "adapters/adapter_parts.h"
#include <stdio.h>

/* Names of the table, as text: "mlx, peft, gguf". */
static void list_formats(gr_buf *b) {
    for (const gr_adapter_format *f = gr_adapter_format_table; f->name; f++)
        gr_buf_printf(b, "%s%s", b->len ? ", " : "", f->name);
}

/* "mlx,gguf" as bits. */
static graft_status read_formats(unsigned *formats, const char *text, graft_error *err) {
    *formats = 0;
    for (const char *at = text; *at; at += *at == ',') {
        size_t n = strcspn(at, ",");
        unsigned bit = 0;
        while (n && *at == ' ') at++, n--;
        for (int i = 0; i < GR_ADAPTER_FORMATS; i++)
            if (strlen(gr_adapter_format_table[i].name) == n &&
                memcmp(gr_adapter_format_table[i].name, at, n) == 0)
                bit = 1u << i;
        if (!bit) break;
        *formats |= bit;
        at += n;
        if (!*at) return GRAFT_OK;
    }
    gr_buf names = {0};
    list_formats(&names);
    gr_fail(err, GRAFT_USAGE, "--to names formats");
    gr_expected(err, "some of %s, with commas between", names.data ? names.data : "");
    gr_found(err, "%s", text);
    gr_buf_free(&names);
    return GRAFT_USAGE;
}

/* What the first adapter of a list records; the others must not be known to be of another base. */
static graft_status read_records(gr_adapter_record *r, const gr_adapter_export *wish, graft_error *err) {
    gr_adapter_share *shares;
    size_t count;
    *r = (gr_adapter_record){0};
    GR_TRY(gr_adapter_shares_read(&shares, &count, wish->path, GR_MAPPED, err));
    graft_status st = gr_adapter_record_read(r, shares[0].path, err);
    for (size_t i = 1; st == GRAFT_OK && i < count; i++) {
        gr_adapter_record other;
        st = gr_adapter_record_read(&other, shares[i].path, err);
        bool same =
            !r->base_digest[0] || !other.base_digest[0] || strcmp(r->base_digest, other.base_digest) == 0;
        if (st == GRAFT_OK && !same && !wish->allow_other_base) {
            gr_fail(err, GRAFT_MISMATCH, "the adapters were trained on different base models");
            gr_where(err, "%s", shares[i].path);
            gr_expected(err, "base digest %s as in %s", r->base_digest, shares[0].path);
            gr_found(err, "%s", other.base_digest);
            st = gr_hint(err, "--allow-other-base adds them up all the same");
        }
        gr_adapter_record_free(&other);
    }
    gr_adapter_shares_free(shares, count);
    return st;
}

/* Every format that was named can hold all of it; without names those that can are taken. */
static graft_status choose(unsigned *formats, const gr_adapter_export *wish, const gr_model_config *c,
                           const gr_tuning *t, graft_error *err) {
    gr_buf able = {0}, why = {0};
    int lacking = -1;
    if (wish->to) GR_TRY(read_formats(formats, wish->to, err));
    unsigned asked = wish->to ? *formats : (1u << GR_ADAPTER_FORMATS) - 1;
    *formats = 0;
    for (int i = 0; i < GR_ADAPTER_FORMATS; i++) {
        const gr_adapter_format *f = &gr_adapter_format_table[i];
        bool holds = gr_adapter_holds(f, c, t, asked >> i & 1 && lacking < 0 ? &why : NULL);
        if (holds) gr_buf_printf(&able, "%s%s", able.len ? "," : "", f->name);
        if (!(asked >> i & 1)) continue;
        if (holds)
            *formats |= 1u << i;
        else if (lacking < 0)
            lacking = i;
    }
    if (wish->to && lacking >= 0) {
        gr_fail(err, GRAFT_UNSUPPORTED, "%s cannot hold this adapter", gr_adapter_format_table[lacking].file);
        gr_where(err, "%s", wish->path);
        gr_found(err, "%s", why.data ? why.data : "");
        gr_hint(err, "all of it fits into --to %s", able.data ? able.data : "");
    }
    gr_buf_free(&able);
    gr_buf_free(&why);
    return wish->to && lacking >= 0 ? GRAFT_UNSUPPORTED : GRAFT_OK;
}

/* A file of the format that is there: does it hold that adapter? False also where it is none at all. */
static graft_status holds_digest(bool *same, const char *path, const char *digest, graft_error *err) {
    gr_adapter_words words;
    graft_error why = {0};
    graft_status st = gr_adapter_words_read(&words, path, GR_MAPPED, &why);
    *same = st == GRAFT_OK && strcmp(words.digest, digest) == 0;
    if (st != GRAFT_IO && st != GRAFT_NOT_FOUND && st != GRAFT_NO_MEMORY) return GRAFT_OK;
    gr_fail(err, st, "%s", why.what);
    return gr_where(err, "%s", path);
}

/* Files of the same adapter that out has already stay there; another one's are not touched. */
static graft_status join(unsigned *formats, const char *out, const char *digest, graft_error *err) {
    graft_status st = GRAFT_OK;
    for (int i = 0; st == GRAFT_OK && i < GR_ADAPTER_FORMATS; i++) {
        bool same = false;
        char *path = gr_path_join(out, gr_adapter_format_table[i].file);
        if (!path) return gr_no_memory(err, strlen(out));
        bool there = gr_path_exists(path);
        if (there) st = holds_digest(&same, path, digest, err);
        if (same) *formats |= 1u << i;
        if (st == GRAFT_OK && there && !same) {
            gr_fail(err, GRAFT_USAGE, "the directory holds another adapter");
            gr_where(err, "%s", path);
            st = gr_hint(err, "give --out a new directory, or remove that adapter first");
        }
        free(path);
    }
    return st;
}

/* Is there a card that is not export's own? A training's says more. */
static bool has_card(const char *path) {
    graft_error none = {0};
    char *text = NULL;
    size_t size;
    if (!gr_path_exists(path)) return false;
    bool own = gr_file_read(&text, &size, path, (size_t)1 << 20, &none) == GRAFT_OK &&
               strstr(text, "\nExported by graft ");
    free(text);
    return !own;
}

static graft_status write_card(const gr_adapter_export *wish, const gr_adapter_exported *done,
                               const gr_adapter_record *r, const gr_model_config *c, const gr_tuning *t,
                               unsigned formats, graft_error *err) {
    gr_buf b = {0};
    char *path = gr_path_join(wish->out, "README.md");
    graft_status st = GRAFT_OK;
    gr_adapter_card_head(&b, "Exported", done->base, c, t, formats);
    gr_buf_printf(&b, "| | |\n|---|---|\n| from | %s |\n", wish->path);
    if (r->base_digest[0]) gr_buf_printf(&b, "| base digest | %s |\n", r->base_digest);
    gr_buf_printf(&b, "| adapter digest | %s |\n| iterations | %lld |\n", done->digest,
                  (long long)r->iteration);
    gr_buf_printf(&b, "| modules | %lld |\n| largest rank | %lld |\n| parameters | %lld |\n",
                  (long long)done->modules, (long long)done->rank, (long long)done->parameters);
    if (!path || b.failed)
        st = gr_no_memory(err, b.len);
    else if (!has_card(path))
        st = gr_file_replace(path, b.data, b.len, err);
    free(path);
    gr_buf_free(&b);
    return st;
}

/* known: what reading the adapter told of it. */
static graft_status write_all(gr_adapter_exported *done, const gr_adapter_export *wish, const char *known,
                              const gr_adapter_record *r, const gr_model_config *c, gr_tuning *t,
                              const float *params, graft_error *err) {
    unsigned formats;
    gr_buf notes = {0};
    GR_TRY(choose(&formats, wish, c, t, err));
    gr_adapter_digest(done->digest, params, t->parameters);
    GR_TRY(join(&formats, wish->out, done->digest, err));
    gr_adapter_notes(&notes, c, t, wish->to ? formats : (1u << GR_ADAPTER_FORMATS) - 1);
    if (known[0]) gr_buf_printf(&notes, "%s%s", notes.len ? "; " : "", known);
    graft_status st = gr_adapter_base_name(&done->base, &notes, wish, r, err);
    if (st != GRAFT_OK) {
        gr_buf_free(&notes);
        return st;
    }
    done->notes = notes.len || notes.failed ? gr_buf_take(&notes) : gr_strdup("");
    if (!done->notes) return gr_no_memory(err, notes.len);
    done->modules = t->adapted;
    done->rank = t->rank;
    done->parameters = t->parameters;
    gr_adapter_files(done->files, c, t, formats);
    const gr_adapter_info info = {.base = done->base,
                                  .record = r,
                                  .iteration = r->iteration,
                                  .template_kwargs = r->template_kwargs,
                                  .formats = formats};
    GR_TRY(gr_adapter_save(wish->out, c, t, params, &info, err));
    return write_card(wish, done, r, c, t, formats, err);
}

/* A run that trains into `out` holds its lock, and would take export's files for what a killed one left. */
static graft_status lock(gr_dir_lock *held, const char *out, graft_error *err) {
    char *file = gr_path_join(out, ".lock");
    *held = (gr_dir_lock){0};
    graft_status st = GRAFT_OK;
    if (!file)
        st = gr_no_memory(err, strlen(out));
    else if (gr_path_exists(file))
        st = gr_dir_lock_take(held, out, "wait until it has ended, or give another --out", err);
    free(file);
    return st;
}

graft_status gr_adapter_export_run(gr_adapter_exported *done, const gr_adapter_export *wish,
                                   graft_error *err) {
    gr_dir_lock held;
    gr_adapter_record record = {0};
    gr_model_config config;
    gr_tuning *tuning = NULL;
    float *params = NULL;
    unsigned formats;
    *done = (gr_adapter_exported){0};
    if (wish->to) GR_TRY(read_formats(&formats, wish->to, err));
    graft_status st = lock(&held, wish->out, err);
    if (st == GRAFT_OK) st = read_records(&record, wish, err);
    if (st == GRAFT_OK) st = gr_adapter_base_config(&config, wish, &record, err);
    if (st == GRAFT_OK) {
        const gr_model any = {0}; /* of no digest: the weights are not there */
        gr_adapter_base of = {.model = &any};
        st = gr_adapter_load_merged(&tuning, &params, wish->path, wish->merging, wish->merge_rank, &config,
                                    &of, err);
        if (st == GRAFT_OK) {
            tuning->dropout = record.dropout;
            st = write_all(done, wish, of.note, &record, &config, tuning, params, err);
        }
        gr_config_free(&config);
    }
    gr_dir_lock_release(&held);
    gr_tuning_free(tuning);
    free(params);
    gr_adapter_record_free(&record);
    if (st == GRAFT_OK) return st;
    free(done->base);
    free(done->notes);
    *done = (gr_adapter_exported){0};
    return st;
}
