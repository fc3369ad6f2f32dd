/* make_tiny DIR - writes models of a few kilobytes and rows into DIR (which is there), for scripts that run
 * the program: base (Llama, 4 bits), base-16bit (the same, bf16), base.gguf (that one again, F16) data
 * (texts: train, valid and test.jsonl) and chats (the same as messages). No test of its own.
 */
#include "tests/tiny_llama_gguf.h"

/* `rows` conversations, whose questions no other file has where `first` differs. */
static void write_chats(const char *dir, const char *name, int rows, int first) {
    gr_buf b = {0};
    for (int r = first; r < first + rows; r++)
        gr_buf_printf(&b,
                      "{\"messages\": [{\"role\": \"user\", \"content\": \"Define %d.\"}, "
                      "{\"role\": \"assistant\", \"content\": \"%d and one.\"}]}\n",
                      r, r - 1);
    tiny_write(dir, name, b.data);
    gr_buf_free(&b);
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: make_tiny DIR\n"), 2;
    free(tiny_model_dir(argv[1], "base", &(tiny_spec){.bits = 4}));
    free(tiny_model_dir(argv[1], "base-16bit", &(tiny_spec){.dtype = GR_BF16}));
    tiny_llama_gguf_write(argv[1], "base.gguf");
    free(tiny_data_dir(argv[1], "data", 24, 6));
    char *chats = tiny_subdir(argv[1], "chats");
    write_chats(chats, "train.jsonl", 12, 1);
    write_chats(chats, "valid.jsonl", 4, 100);
    write_chats(chats, "test.jsonl", 4, 200);
    free(chats);
    return 0;
}
