/* verb_table.c - the verbs. A new one is a row here and a file cmd_NAME.c. */
#include "cli.h"
#include <string.h>

static const verb table[] = {
    {"plan",
     GRAFT_VERB_PLAN,
     "",
     0,
     "what a training would do, need and take",
     "Reads only the model's configuration (weights are not needed) and shows, layer type by layer type, "
     "what is quantized, adapted and frozen, how many parameters train, what that saves against full "
     "training, and the memory and time that the run will take. With --budget it shows the fastest settings "
     "that fit.",
     cmd_plan,
     {"graft plan --model model-4bit", "graft plan --model model-4bit --data data --grad-checkpoint layer",
      "graft plan --shape llama-3-8b --lora-targets standard --budget 8GB",
      "graft plan --model model-4bit --tensors --json"}},
    {"convert",
     GRAFT_VERB_CONVERT,
     "",
     0,
     "any model in, MLX directory out, 4-bit if asked",
     "Reads a Hugging Face or MLX directory or a GGUF file and writes an MLX directory that mlx-lm loads "
     "too.",
     cmd_convert,
     {"graft convert --model model.gguf --mlx-path model-4bit -q",
      "graft convert --model HuggingFaceTB/SmolLM2-135M-Instruct --mlx-path model-4bit -q --q-group-size 32",
      "graft convert --model model-16bit --mlx-path model-mixed -q --quant-predicate down_proj=8,v_proj=6",
      "graft convert --model model-4bit --mlx-path model-float -d"}},
    {"train",
     GRAFT_VERB_TRAIN,
     "",
     0,
     "fine-tune: adapters, or whole blocks",
     "Trains on DIR/train.jsonl (valid.jsonl is used where present; also .json, .csv, .tsv), or on one "
     "file, and writes the adapter directory, which mlx-lm and PEFT load as it is. Ctrl-C saves a "
     "checkpoint; --resume continues from it exactly.",
     cmd_train,
     {"graft train --model model-4bit --data data --adapter-path adapters",
      "graft train --model model-4bit --data data --adapter-path adapters --resume",
      "graft train --model model-4bit --data data --lora-targets standard --lora-rank 8 --adapter-path small",
      "graft train --model model-4bit --data data --adapter-path short --patience 3 --keep-best",
      "graft train -c lora_config.yaml --iters 200"}},
    {"sweep",
     GRAFT_VERB_SWEEP,
     "",
     0,
     "a few settings tried, the best kept",
     "Trains with every combination of the --grid values, one after the other, each in a directory of its "
     "own in --adapter-path (sweep), and keeps the adapter with the lowest validation loss: best leads to "
     "it. All trials are forecast before the first starts; what does not fit --budget or --time is refused "
     "with nothing written. Takes the options of train. With --jobs N trials run at once in one process: "
     "they share threads, one copy of the base and --budget, and make the same adapters; where N do not fit "
     "the budget, fewer run at once. With --halving N all trials run the first part of the iterations and "
     "only the better 1/N go on from where they are, again and again until one is left; the others are "
     "dropped, which is no failure. --patience ends a trial that no longer gets better. A sweep that was "
     "stopped goes on with --resume, and --time that is over stops it: exit code 0, and what is left waits. "
     "Exit code 1 where no trial has a validation loss, or every one failed. graft report shows the trials.",
     cmd_sweep,
     {"graft sweep --model model-4bit --data data --iters 200 --grid lora-rank=8,16 --grid "
      "learning-rate=1e-4,2e-4",
      "graft sweep --model model-4bit --data data --iters 200 --grid lora-rank=8,16 --grid "
      "learning-rate=1e-4,2e-4 --resume",
      "graft sweep --model model-4bit --data data --grid 'lora-targets=standard|q_proj,v_proj' --patience 3 "
      "--adapter-path targets",
      "graft sweep --model model-4bit --data data --iters 200 --grid lora-rank=4,32 --budget 1GB --time 2h "
      "--adapter-path ranks",
      "graft sweep --model model-4bit --data data --iters 200 --grid learning-rate=5e-5,1e-4,2e-4,4e-4 "
      "--jobs 2 --adapter-path rates",
      "graft sweep --model model-4bit --data data --iters 800 --steps-per-eval 50 --grid lora-rank=8,32 "
      "--grid learning-rate=5e-5,1e-4,2e-4,4e-4 --halving 2 --adapter-path many"}},
    {"report",
     GRAFT_VERB_REPORT,
     "DIR [DIR ...]",
     GRAFT_REPORT_DIRS,
     "a training, or several compared, as one page",
     "Reads metrics.jsonl, run.json and the adapter in DIR and writes one page that needs no network: "
     "losses, validation, rate, speed, memory against the forecast, gradient, settings, data, what the "
     "adapter changes by block and module, and samples. Of two or more directories it overlays the curves "
     "and lists the settings that differ. With --prompts base and adapter answer that file's prompts first, "
     "and the answers are kept in DIR/samples.json. The directory of a sweep stands for its trials, of more "
     "than eight for the best. --json prints the numbers.",
     cmd_report,
     {"graft report adapters", "graft report adapters --prompts questions.jsonl --max-tokens 60",
      "graft report rank8 rank16 --html compared.html", "graft report sweep",
      "graft report adapters --json"}},
    {"eval",
     GRAFT_VERB_EVAL,
     "",
     0,
     "loss, perplexity and accuracy on a data set",
     "Measures the model, with or without an adapter, on a split of DIR or on one file.",
     cmd_eval,
     {"graft eval --model model-4bit --data data",
      "graft eval --model model-4bit --adapter-path adapters --data data",
      "graft eval --model model-4bit --data rows.jsonl --per-row --json"}},
    {"fuse",
     GRAFT_VERB_FUSE,
     "",
     0,
     "adapter into base: one model, and what that cost",
     "Writes an MLX directory in which the adapter is part of the weights: in the base's own quantization, "
     "or with --dequantize in 16 bits; or, of a GGUF base, a GGUF file. What the adapter does not change "
     "keeps its bytes. With --data it measures base, base and adapter, and the fused model on the user's "
     "rows, and warns where less than 80 % of the gain is left.",
     cmd_fuse,
     {"graft fuse --model model-4bit --adapter-path adapters --save-path fused --data data",
      "graft fuse --model model-4bit --adapter-path adapters --save-path fused-16bit --dequantize",
      "graft fuse --model model.gguf --adapter-path gguf-adapters --save-path fused.gguf",
      "graft fuse --model model-4bit --save-path fused --data rows.jsonl --json"}},
    {"export",
     GRAFT_VERB_EXPORT,
     "",
     0,
     "an adapter of any format, for mlx-lm, PEFT or llama.cpp",
     "Reads an adapter that graft, mlx-lm, PEFT or llama.cpp's converter made and writes it in the formats "
     "of --to: exactly, or what a format changes is said, and what it cannot hold is refused by name. Of "
     "the base only config.json or a GGUF file's metadata is read; --model is needed where the adapter does "
     "not say which it is.",
     cmd_export,
     {"graft export --adapter-path adapters --to gguf --out adapters",
      "graft export --adapter-path peft-adapter --model model-4bit --to mlx --out mlx-adapter",
      "graft export --adapter-path lora.gguf --model model.gguf --to peft --out peft-adapter --json",
      "graft export --adapter-path style=0.7,facts=0.5 --merge svd --out both"}},
    {"generate",
     GRAFT_VERB_GENERATE,
     "",
     0,
     "answer a prompt, with or without the adapter",
     "Applies the model's chat template unless told otherwise. A prompt of - is read from standard input. "
     "--prompts answers every line of a file, --batch-size at once; with --json each answer is a JSON line.",
     cmd_generate,
     {"graft generate --model model-4bit --prompt 'Why is the sky blue?'",
      "graft generate --model model-4bit --adapter-path adapters --prompt 'Why is the sky blue?' --compare",
      "echo 'Why?' | graft generate --model model-4bit --prompt - --temp 0.7 --seed 1",
      "graft generate --model model-4bit --prompts questions.jsonl --batch-size 16 --json"}},
    {"chat",
     GRAFT_VERB_CHAT,
     "",
     0,
     "talk to a model, with or without an adapter",
     "Keeps the conversation and what the model has read of it, so that a turn reads only what is new. "
     "Ctrl-C ends an answer; at the prompt a second one ends the program. Lines that begin with / are "
     "commands: /adapter PATH or none, /system TEXT, /set OPTION VALUE, /reset, /save FILE, /help, /quit. A "
     "history that outgrows --max-seq-length loses its oldest turns, which is said. Where standard input is "
     "no terminal each line of it is a turn; with --json each answer is a JSON line.",
     cmd_chat,
     {"graft chat --model model-4bit", "graft chat --model model-4bit --adapter-path adapters --temp 0.7",
      "graft chat --model model-4bit --adapter-path style=0.7,facts=0.3 --system-prompt 'Answer in one "
      "sentence.'",
      "printf 'Hello\\nAnd now?\\n' | graft chat --model model-4bit --json"}},
    {"serve",
     GRAFT_VERB_SERVE,
     "",
     0,
     "answer OpenAI's clients on this machine",
     "Listens for /v1/chat/completions, /v1/completions and /v1/models, streaming too, and answers several "
     "requests at once, --batch-size at most. A request's model is the base or an adapter that --adapter "
     "named; all share one base in memory. What cannot be done is refused by name. SIGINT and SIGTERM stop "
     "it: answers under way have five seconds more. docs/serve.md has every field.",
     cmd_serve,
     {"graft serve --model model-4bit --port 8080",
      "graft serve --model model-4bit --adapter style=style --adapter both=style=0.7,facts=0.3",
      "GRAFT_API_KEY=secret graft serve --model model-4bit --host 0.0.0.0 --max-tokens 512"}},
    {"tokenize",
     GRAFT_VERB_TOKENIZE,
     "",
     0,
     "rows as the model sees them, and which tokens train",
     "Shows every row's tokens. Tokens that carry loss are coloured on a terminal and stand in [[ ]] "
     "elsewhere.",
     cmd_tokenize,
     {"graft tokenize --model model-4bit --data data",
      "graft tokenize --model model-4bit --data data --html rows.html",
      "graft tokenize --model model-4bit --text 'Hello world' --json",
      "graft tokenize --model model-4bit --messages chat.json --render"}},
    {"info",
     GRAFT_VERB_INFO,
     "PATH",
     1,
     "what is in a file or directory",
     "Describes a safetensors or GGUF file, or a model or adapter directory: metadata, tensors, dtypes, "
     "digests.",
     cmd_info,
     {"graft info model.gguf", "graft info adapters/adapters.safetensors", "graft info model-4bit --json"}},
    {"download",
     GRAFT_VERB_DOWNLOAD,
     "owner/name[@revision]",
     1,
     "a model from the Hugging Face hub into the local cache",
     "Fetches configuration, tokenizer and safetensors, or what --include names, into the cache that other "
     "programs use too (HF_HUB_CACHE, HF_HOME, ~/.cache/huggingface/hub), from HF_ENDPOINT, with the token "
     "of HF_TOKEN or of the token file where a model needs one. Every file is compared with the digest that "
     "the hub announces. What was cut off, or stopped with Ctrl-C, goes on where it ended. Afterwards every "
     "verb takes --model owner/name, without network.",
     cmd_download,
     {"graft download HuggingFaceTB/SmolLM2-135M-Instruct", "graft download Qwen/Qwen3-0.6B@main --json",
      "graft download HuggingFaceTB/SmolLM2-360M-Instruct-GGUF --include '*q8_0.gguf'"}},
    {"bench",
     GRAFT_VERB_BENCH,
     "NAME",
     1,
     "how fast this machine trains, what 4 bits and recompute save",
     "load: the model in 16 bits against --bits, time and memory; the halves that it converts stay in "
     "${XDG_CACHE_HOME:-~/.cache}/graft/converted. train: the speed of training steps against the machine's "
     "measured peak, on a model or on random weights of a published shape (no download); --peer runs "
     "another program on the same batches. checkpoint: what recompute saves and costs by length. "
     "accumulate: the gradient of micro-batches against one batch's. Each prints a table and draws a "
     "picture. kernels: products, attention and elementwise work alone, in percent of the peak or of the "
     "bandwidth that the same run measures; no picture. tokenize: how fast the lines of --data become "
     "tokens. curves: speed and memory of a step as a setting grows. generate: how fast a prompt of "
     "--seq-length tokens is read, in percent of the peak, and --max-tokens more are written, in percent of "
     "the bandwidth; --peer llama runs llama.cpp on the same GGUF file. graft bench NAME --help lists the "
     "options of one.",
     cmd_bench,
     {"graft bench load --model model-4bit --data data", "graft bench train --shape llama-3.2-1b --steps 3",
      "graft bench train --model model-4bit --batch-size 1 --steps 50 --peer torch",
      "graft bench checkpoint --model model-4bit --seq-lengths 512,1024,2048,4096",
      "graft bench accumulate --model model-4bit --data data --grad-accumulation-steps 8",
      "graft bench kernels --only matmul,2048x2048",
      "graft bench generate --model model.gguf --max-tokens 128 --peer llama"}},
    {"help",
     0,
     "[VERB]",
     1,
     "the options of a verb, with examples",
     "",
     cmd_help,
     {"graft help train", "graft help"}},
};

const verb *verb_at(size_t index) {
    return index < sizeof table / sizeof *table ? &table[index] : NULL;
}

const verb *verb_find(const char *name) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}
