"""Tokenizers as the families of real models configure them, trained here on a text, so that no model has to be fetched.

train(text_lines, folder) -> {name: path of a SentencePiece model}; json_families(models) and byte_families(text_lines) ->
{name: tokenizers.Tokenizer}.
The parts follow transformers 5.23 (convert_slow_tokenizer.py and the models' tokenization files) and the models' own
tokenizer.json.
"""
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# As the trainers of the models were told (sentencepiece's options).
TRAINED = {
    "llama": dict(model_type="bpe", vocab_size=2000, byte_fallback=True, split_digits=True, normalization_rule_name="identity",
                  remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, character_coverage=0.995),
    "gemma": dict(model_type="bpe", vocab_size=2000, byte_fallback=True, split_digits=True, normalization_rule_name="identity",
                  remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, add_dummy_prefix=False, pad_id=0,
                  eos_id=1, bos_id=2, unk_id=3, character_coverage=0.995,
                  user_defined_symbols=["<mask>", "<start_of_turn>", "<end_of_turn>", "\n\n", "\u2581\u2581", "\u2581\u2581\u2581"]),
    "t5": dict(model_type="unigram", vocab_size=2000, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.995),
    "xlmr": dict(model_type="unigram", vocab_size=2000, character_coverage=0.99),
    "unigram_bytes": dict(model_type="unigram", vocab_size=2000, byte_fallback=True, split_digits=True,
                          remove_extra_whitespaces=False, normalization_rule_name="nfkc", character_coverage=0.99),
}


def train(lines, folder, names=TRAINED):
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name in names:
        paths[name] = folder / f"{name}.model"
        if not paths[name].exists():
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_prefix=str(paths[name])[:-6], num_threads=1, minloglevel=2,
                hard_vocab_limit=False, **TRAINED[name])
    return paths


def proto(path):
    m = sentencepiece_model_pb2.ModelProto()
    m.ParseFromString(path.read_bytes())
    return m


def merges_of(vocab):
    """Two pieces merge when together they are a piece; earlier pieces first."""
    found = []
    for piece, rank in vocab.items():
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        found += [(rank, *cut) for cut in sorted(cuts, key=lambda c: (vocab[c[0]], vocab[c[1]]))]
    return [(left, right) for _, left, right in sorted(found, key=lambda m: (m[0], len(m[1]), len(m[2])))]


def sp_bpe(path, unk):
    m = proto(path)
    vocab = {p.piece: i for i, p in enumerate(m.pieces)}
    t = Tokenizer(models.BPE(vocab, merges_of(vocab), unk_token=unk, fuse_unk=True, byte_fallback=True))
    special = {"<start_of_turn>", "<end_of_turn>"}
    t.add_tokens([AddedToken(p.piece, normalized=False, special=p.type in (2, 3) or p.piece in special)
                  for p in m.pieces if p.type in (2, 3, 4)])
    return t


def bos(t, token):
    t.post_processor = processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B",
                                                     special_tokens=[(token, t.token_to_id(token))])
    return t


def llama_decoder(prefix=True):
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prefix else []))


def llama_legacy(path):
    """Llama 2, TinyLlama, Mistral 7B v0.1: their tokenizer.json."""
    t = sp_bpe(path, "<unk>")
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.decoder = llama_decoder()
    return bos(t, "<s>")


def llama_metaspace(path, scheme):
    """LlamaTokenizer without `legacy`; scheme always or never as other settings make it."""
    t = sp_bpe(path, "<unk>")
    t.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", scheme, split=False)
    t.decoder = llama_decoder(scheme != "never")
    return bos(t, "<s>")


def phi3(path):
    """Phi-3: Llama's with tokens that take the spaces after them."""
    t = llama_legacy(path)
    t.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)] +
                         [AddedToken(x, rstrip=True, normalized=False) for x in ("<|assistant|>", "<|user|>", "<|end|>")])
    return t


def gemma(path):
    t = sp_bpe(path, "<unk>")
    t.normalizer = normalizers.Replace(" ", "\u2581")
    t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    t.decoder = llama_decoder(False)
    return bos(t, "<s>")


def unigram(path, byte_fallback=False):
    m = proto(path)
    t = Tokenizer(models.Unigram([(p.piece, p.score) for p in m.pieces], m.trainer_spec.unk_id, byte_fallback))
    t.add_tokens([AddedToken(p.piece, normalized=False, special=True) for p in m.pieces if p.type in (2, 3)])
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(m.normalizer_spec.precompiled_charsmap),
                                         normalizers.Strip(left=False, right=True),
                                         normalizers.Replace(Regex(" {2,}"), "\u2581")])
    return t


def t5(path, scheme="always"):
    t = unigram(path)
    t.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", scheme)
    t.decoder = decoders.Metaspace("\u2581", scheme)
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return t


def xlmr(path):
    t = unigram(path)
    t.normalizer = normalizers.Precompiled(proto(path).normalizer_spec.precompiled_charsmap)
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                               pre_tokenizers.Metaspace("\u2581", "always")])
    t.decoder = decoders.Metaspace("\u2581", "always")
    return t


def unigram_bytes(path):
    t = unigram(path, True)
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(proto(path).normalizer_spec.precompiled_charsmap),
                                         normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.decoder = llama_decoder()
    return bos(t, "<s>")


def json_families(paths):
    """{family: tokenizer}; the end of a text is </s> in all."""
    return {
        "Llama 2, TinyLlama, Mistral 7B (Prepend)": llama_legacy(paths["llama"]),
        "Llama, Metaspace first": llama_metaspace(paths["llama"], "first"),
        "Llama, Metaspace always": llama_metaspace(paths["llama"], "always"),
        "Llama, Metaspace never": llama_metaspace(paths["llama"], "never"),
        "Phi-3": phi3(paths["llama"]),
        "Gemma": gemma(paths["gemma"]),
        "T5 (Unigram, nmt_nfkc)": t5(paths["t5"]),
        "Unigram, Metaspace first": t5(paths["t5"], "first"),
        "Unigram, Metaspace never": t5(paths["t5"], "never"),
        "XLM-R (Unigram, words first)": xlmr(paths["xlmr"]),
        "Unigram with byte fallback": unigram_bytes(paths["unigram_bytes"]),
    }


LETTERS = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
           "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*")
WORDS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
REST = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
# How the models' tokenizer.json normalize and split before byte-level BPE; None: ByteLevel's own expression, GPT-2's.
BYTES = {
    "Llama 3, SmolLM3, Phi-4, OLMo 2 (cl100k's splits)": (False, WORDS + "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" + REST),
    "Qwen2, Qwen3": (True, WORDS + "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" + REST),
    "StableLM 2": (False, WORDS + "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" + REST),
    "Ministral (tekken)": (False, LETTERS + "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" + REST),
    "StarCoder2, Granite 3, SmolLM2 (digits alone)": (False, "digits"),
    "OLMoE (GPT-NeoX's)": (True, None),
}


def byte_families(lines):
    found = {}
    for name, (nfc, split) in BYTES.items():
        t = Tokenizer(models.BPE())
        if nfc:
            t.normalizer = normalizers.NFC()
        own = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split in (None, "digits"))
        first = {None: [], "digits": [pre_tokenizers.Digits(individual_digits=True)]}.get(split)
        if first is None:
            first = [pre_tokenizers.Split(Regex(split), "isolated")]
        t.pre_tokenizer = pre_tokenizers.Sequence([*first, own])
        t.decoder = decoders.ByteLevel()
        t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=2000, special_tokens=["<s>", "</s>"], show_progress=False,
                                                         initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        found[name] = t
    return found
