/* make_tiny DIR - writes models of a few kilobytes and rows into DIR (which is there), for scripts that run
 * the program: base (Llama, 4 bits), base-16bit (the same, bf16), base.gguf (that one again, F16) and data
 * (train, valid and test.jsonl). No test of its own.
 */
#include "tests/tiny_llama_gguf.h"

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: make_tiny DIR\n"), 2;
    free(tiny_model_dir(argv[1], "base", &(tiny_spec){.bits = 4}));
    free(tiny_model_dir(argv[1], "base-16bit", &(tiny_spec){.dtype = GR_BF16}));
    tiny_llama_gguf_write(argv[1], "base.gguf");
    free(tiny_data_dir(argv[1], "data", 24, 6));
    return 0;
}
