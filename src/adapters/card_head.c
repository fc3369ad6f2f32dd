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

void gr_adapter_card_head(gr_buf *b, const char *made, const char *base, const gr_model_config *c,
                          const gr_tuning *tuning, unsigned formats) {
    const char *files[GR_ADAPTER_FORMATS + 1];
    bool dora = tuning->kind == GR_TUNE_DORA, peft = false;
    gr_adapter_files(files, c, tuning, formats);
    for (int i = 0; files[i]; i++) peft |= strcmp(files[i], gr_adapter_file_name(1)) == 0;
    gr_buf_printf(b, "---\n%sbase_model: %s\ntags: [%s, graft]\n---\n# %s for %s\n\n",
                  peft ? "library_name: peft\n" : "", base,
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
