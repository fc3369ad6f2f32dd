/* One row for each way of cutting text. A new name is one word in a row; a new way is one row.
 * Source: the names and expressions of llama.cpp's llama-vocab.cpp and of the models' own tokenizer.json. */
#include "text/gguf_pre.h"
#include "text/token_parts.h"
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORDS        "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define UPPER        "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(after)                                                                                         \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" after "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" after "|"
#define SIGNS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES
#define HAN   "[\\u4e00-\\u9fa5\\u3040-\\u309f\\u30a0-\\u30ff]+"
#define ASIAN "[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-\\ud7ff]+"
#define DEEPSEEK3                                                                                            \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"     \
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES
/* Letters with case, as DeepSeek LLM lists them. */
#define CASED_LETTERS                                                                                        \
    "\\s?[A-Za-z\\u00b5\\u00c0-\\u00d6\\u00d8-\\u00f6\\u00f8-\\u01ba\\u01bc-\\u01bf\\u01c4-\\u0293\\u0295-"  \
    "\\u02af"                                                                                                \
    "\\u0370-\\u0373\\u0376\\u0377\\u037b-\\u037d\\u037f\\u0386\\u0388-\\u038a\\u038c\\u038e-"               \
    "\\u03a1\\u03a3-\\u03f5"                                                                                 \
    "\\u03f7-\\u0481\\u048a-\\u052f\\u0531-\\u0556\\u10a0-\\u10c5\\u13a0-\\u13f5\\u13f8-\\u13fd\\u1c90-"     \
    "\\u1cba"                                                                                                \
    "\\u1cbd-\\u1cbf\\u1d00-\\u1d2b\\u1d6b-\\u1d77\\u1d79-\\u1d9a\\u1e00-\\u1f15\\u1f18-\\u1f1d\\u1f20-"     \
    "\\u1f45"                                                                                                \
    "\\u1f48-\\u1f4d\\u1f50-\\u1f57\\u1f59\\u1f5b\\u1f5d\\u1f5f-\\u1f7d\\u1f80-\\u1fb4\\u1fb6-"              \
    "\\u1fbc\\u1fbe"                                                                                         \
    "\\u1fc2-\\u1fc4\\u1fc6-\\u1fcc\\u1fd0-\\u1fd3\\u1fd6-\\u1fdb\\u1fe0-\\u1fec\\u1ff2-\\u1ff4\\u1ff6-"     \
    "\\u1ffc"                                                                                                \
    "\\u2102\\u2107\\u210a-\\u2113\\u2115\\u2119-\\u211d\\u2124\\u2126\\u2128\\u212a-\\u212d\\u212f-"        \
    "\\u2134\\u2139"                                                                                         \
    "\\u213c-\\u213f\\u2145-\\u2149\\u214e\\u2183\\u2184\\u2c00-\\u2c7b\\u2c7e-\\u2ce4\\u2ceb-"              \
    "\\u2cee\\u2cf2\\u2cf3"                                                                                  \
    "\\ua640-\\ua66d\\ua680-\\ua69b\\ua722-\\ua76f\\ua771-\\ua787\\ua78b-\\ua78e\\uab70-\\uabbf\\ufb00-"     \
    "\\ufb06"                                                                                                \
    "\\ufb13-\\ufb17\\uff21-\\uff3a\\uff41-\\uff5a\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{" \
    "104fb}"                                                                                                 \
    "\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}]+"

static const gr_gguf_pre rows[] = {
    {.names = " default ", /* and where no name is given */
     .split = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GR_GPT2_PATTERN, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.names = " gpt-2 phi-2 mpt olmo jais jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code "
              "roberta-bpe "
              "gigachat a.x-4.0 mellum modern-bert exaone4 trillion granite-docling ",
     .gpt2 = true},
    {.names = " smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 ",
     .split = {"\\p{N}"},
     .gpt2 = true},
    {.names = " llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ",
     .split = {CONTRACTIONS "|" WORDS "|\\p{N}{1,3}" SIGNS},
     .ignore_merges = true,
     .add_bos = true},
    {.names = " dbrx smaug-bpe glm4 chatglm-bpe ", .split = {CONTRACTIONS "|" WORDS "|\\p{N}{1,3}" SIGNS}},
    {.names = " qwen2 deepseek-r1-qwen kormo f2llmv2 megrez ",
     .split = {CONTRACTIONS "|" WORDS "|\\p{N}" SIGNS},
     .nfc = true},
    {.names = " stablelm2 hunyuan solar-open grok-2 ", .split = {CONTRACTIONS "|" WORDS "|\\p{N}" SIGNS}},
    {.names = " qwen35 ",
     .split = {CONTRACTIONS
               "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES},
     .nfc = true},
    {.names = " seed-coder ",
     .split = {CONTRACTIONS "|" WORDS "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES}},
    {.names = " bailingmoe bailingmoe2 llada-moe ",
     .split = {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
               "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {.names = " tekken ",
     .split = {CASED("") "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES},
     .ignore_merges = true,
     .add_bos = true},
    {.names = " gpt-4o llama4 kanana2 talkie minimax-m2 ",
     .split = {CASED(CONTRACTIONS "?") "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES}},
    {.names = " deepseek-llm ",
     .split = {"[\\r\\n]", CASED_LETTERS,
               "\\s?[!-/:-~\\uff01-\\uff0f\\uff1a-\\uff5e\\u2018-\\u201f\\u3000-\\u3002]+", "\\s+$",
               ASIAN "|\\p{N}+"}},
    {.names = " deepseek-coder ", .split = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", ASIAN, "\\p{N}"}},
    {.names = " deepseek-v3 hunyuan-dense joyai-llm hy_v4 ", .split = {"\\p{N}{1,3}", HAN, DEEPSEEK3}},
    {.names = " poro-chat bloom gpt3-finnish ",
     .split = {" ?[^(\\s|.,!?\\u2026\\u3002\\uff0c\\u3001\\u0964\\u06d4\\u060c)]+"}},
    {.names = " viking ",
     .split = {" ?[^(\\s|.,!?\\u2026\\u3002\\uff0c\\u3001\\u0964\\u06d4\\u060c)]+", "\\p{N}"}},
};

const gr_gguf_pre *gr_gguf_pre_find(const char *name) {
    char word[66];
    size_t n = strlen(name);
    if (!n || n > 60 || strchr(name, ' ')) return NULL;
    snprintf(word, sizeof word, " %s ", name);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strstr(rows[i].names, word)) return &rows[i];
    return NULL;
}
