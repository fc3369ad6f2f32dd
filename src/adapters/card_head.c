#include "adapters/adapter.h"
#include "graft.h"

void gr_adapter_card_head(gr_buf *b, const char *made, const char *base, const gr_model_config *c,
                          const gr_tuning *tuning, unsigned formats) {
    const char *files[GR_ADAPTER_FORMATS + 1];
    bool dora = tuning->kind == GR_TUNE_DORA, peft = false;
    int n = 0;
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
    for (; files[n]; n++)
        gr_buf_printf(b, "%s `%s` is for %s", n ? "," : "", files[n], gr_adapter_program(files[n]));
    gr_buf_printf(b, "; `adapter_config.json` %s.", n > 1 ? "serves mlx-lm and PEFT" : "belongs to it");
    gr_buf notes = {0};
    gr_adapter_notes(&notes, c, tuning, formats);
    b->failed |= notes.failed;
    if (notes.len) gr_buf_printf(b, " Note: %s.", notes.data);
    gr_buf_free(&notes);
    gr_buf_puts(b, "\n\n");
}
