#include "adapters/adapter.h"
#include "graft.h"

/* Which program loads which file. llama.cpp needs no config. */
static void say_files(gr_buf *b, const char *const *files) {
    const char *gguf = gr_adapter_file_name(2);
    int read = 0;
    for (int i = 0; files[i]; i++)
        gr_buf_printf(b, "%s `%s` is for %s", i ? "," : "", files[i], gr_adapter_program(files[i]));
    gr_buf_puts(b, "; `adapter_config.json`");
    for (int i = 0; files[i]; i++)
        if (strcmp(files[i], gguf) != 0)
            gr_buf_printf(b, " %s %s", read++ ? "and" : "is for", gr_adapter_program(files[i]));
    gr_buf_puts(b, read ? "." : " is graft's record of it.");
}

/* Does a hub know the base by that name? owner/name; a path is none. */
static bool is_hub_name(const char *base) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const size_t owner = strspn(base, letters);
    if (!owner || base[owner] != '/' || base[0] == '.') return false;
    const char *name = base + owner + 1;
    return *name && *name != '.' && !name[strspn(name, letters)] && !gr_path_exists(base) &&
           !gr_ends_with(base, ".gguf");
}

void gr_adapter_card_head(gr_buf *b, const char *made, const char *base, const gr_model_config *c,
                          const gr_tuning *tuning, unsigned formats) {
    const char *files[GR_ADAPTER_FORMATS + 1];
    bool dora = tuning->kind == GR_TUNE_DORA, peft = false;
    gr_adapter_files(files, c, tuning, formats);
    for (int i = 0; files[i]; i++) peft |= strcmp(files[i], gr_adapter_file_name(1)) == 0;
    gr_buf_printf(b, "---\n%s", peft ? "library_name: peft\n" : "");
    if (is_hub_name(base)) gr_buf_printf(b, "base_model: \"%s\"\n", base);
    gr_buf_printf(b, "tags: [%s, graft]\n---\n# %s for %s\n\n",
                  !tuning->adapted ? "full"
                  : dora           ? "dora"
                                   : "lora",
                  !tuning->adapted ? "Fine-tuned weights"
                  : dora           ? "DoRA adapter"
                                   : "LoRA adapter",
                  base);
    gr_buf_printf(b, "%s by graft %s.", made, graft_version());
    say_files(b, files);
    gr_buf notes = {0};
    gr_adapter_notes(&notes, c, tuning, formats);
    b->failed |= notes.failed;
    if (notes.len) gr_buf_printf(b, " Note: %s.", notes.data);
    gr_buf_free(&notes);
    gr_buf_puts(b, "\n\n");
}
