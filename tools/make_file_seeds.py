"""Writes the seeds of the fuzz targets safetensors, gguf, jsonl, records, tokenizer, spm, hub_list, tokenizer_gguf, convert,
checkpoint, chat, round_trip, and some of adapter. usage: python tools/make_file_seeds.py (from the root)"""
import json, pathlib, struct

root = pathlib.Path("fuzz/corpus")


def put(kind, name, data):
    (root / kind).mkdir(parents=True, exist_ok=True)
    (root / kind / name).write_bytes(data)


def safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


entry = lambda dtype, shape, a, b: {"dtype": dtype, "shape": shape, "data_offsets": [a, b]}
put("safetensors", "two", safetensors({"__metadata__": {"format": "pt"}, "b": entry("F16", [2, 3], 0, 12), "a": entry("U32", [1], 12, 16)}, bytes(16)))
put("safetensors", "null_metadata", safetensors({"__metadata__": None, "x": entry("BF16", [], 0, 2)}, bytes(2)))
put("safetensors", "empty", safetensors({}, b""))
put("safetensors", "overlap", safetensors({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, bytes(6)))
put("safetensors", "huge", safetensors({"a": entry("F32", [1 << 30, 1 << 28], 0, 1 << 60)}, bytes(8)))

string = lambda s: struct.pack("<Q", len(s.encode())) + s.encode()
key = lambda name, kind, value: string(name) + struct.pack("<I", kind) + value
tensor = lambda name, dims, kind, at: string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, at)


def gguf(keys, tensors, data, version=3):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data


keys = [key("general.architecture", 8, string("llama")), key("llama.block_count", 4, struct.pack("<I", 2)),
        key("f", 6, struct.pack("<f", 1e-5)), key("t", 9, struct.pack("<IQ", 8, 3) + string("a") + string("") + string("xyz")),
        key("n", 9, struct.pack("<IQ", 5, 2) + struct.pack("<ii", -1, 7)), key("b", 7, b"\1")]
put("gguf", "small", gguf(keys, [tensor("w", [32, 2], 2, 0), tensor("n", [4], 0, 64)], bytes(80)))
put("gguf", "version2", gguf(keys[:2], [], b"", 2))
put("gguf", "beyond", gguf([], [tensor("w", [1 << 40, 1 << 20], 12, 0)], bytes(16)))

put("jsonl", "rows", b'{"text": "a"}\n\n  \t\r\n{"text": "b"}\r\n{"text": "no newline at the end"}')
put("jsonl", "bom", b"\xef\xbb\xbf{}\n")
put("jsonl", "bytes", bytes(range(256)))

sibling = lambda name, **more: {"rfilename": name, **more}
put("hub_list", "model", json.dumps({"sha": "0123456789abcdef" * 2 + "01234567", "siblings": [
    sibling("config.json", size=7, blobId="a" * 40), sibling("a/b.json"),
    sibling("model.safetensors", size=9, blobId="b" * 40, lfs={"sha256": "c" * 64, "size": 9, "pointerSize": 130})]}).encode())
put("hub_list", "upwards", json.dumps({"sha": "0" * 40, "siblings": [sibling("../x")]}).encode())

put("records", "table", b"\0a,\"b c\"\r\n1,\"x\n\"\"y\"\"\"\n\n,2\n3\n\"q\"r,4\n5,6,7")
put("records", "tabs", b"\1\xef\xbb\xbfa\tb\n1\t\"2\t3\"\n")
put("records", "array", b"\2 [ {\"a\": \"]\\\"\"}, [1, {}],\n7 ]\n")
put("records", "open", b"\0a,b\n\"x,1\n")
put("records", "lines", b"\2{\"a\": 1}\n\n[2]\n")
for name, row in {
    "alpaca": {"instruction": "a", "input": "b", "output": "c", "system": "s", "history": [["d", "e"]]},
    "sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 0}], "system": "s"},
    "flags": {"messages": [{"role": "user", "content": "a", "train": True}, {"role": "assistant", "content": "b", "weight": 0}]},
    "lists": {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
}.items():
    put("rows", name + ".bin", b"\2" + json.dumps(row).encode())

# ---- the tokenizers of tests/data, cut to what a fuzzer can change quickly
string_array = lambda name, items: key(name, 9, struct.pack("<IQ", 8, len(items)) + b"".join(string(s) for s in items))
int_array = lambda name, items: key(name, 9, struct.pack("<IQ", 5, len(items)) + struct.pack(f"<{len(items)}i", *items))
u32 = lambda name, value: key(name, 4, struct.pack("<I", value))
f32 = lambda name, value: key(name, 6, struct.pack("<f", value))
text_key = lambda name, value: key(name, 8, string(value))
G = "tokenizer.ggml."
gpt2 = [text_key(G + "model", "gpt2"), text_key(G + "pre", "smollm"), string_array(G + "tokens", ["a", "b", "1", "\u0120", "ab", "<s>", "</s>", "\u010a"]),
        int_array(G + "token_type", [1, 1, 1, 1, 1, 3, 3, 1]), string_array(G + "merges", ["a b"]), u32(G + "bos_token_id", 5), u32(G + "eos_token_id", 6),
        key(G + "add_bos_token", 7, b"\1"), text_key("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}")]
spm_tokens = ["<unk>", "<s>", "</s>", "\u2581", "a", "\u2581a", "b"] + [f"<0x{i:02X}>" for i in (0, 10, 32, 65, 0xC3, 0xA9)]
spm = [text_key(G + "model", "llama"), string_array(G + "tokens", spm_tokens), int_array(G + "token_type", [2, 3, 3, 1, 1, 1, 1] + [6] * 6),
       key(G + "scores", 9, struct.pack("<IQ", 6, len(spm_tokens)) + struct.pack(f"<{len(spm_tokens)}f", *[-float(i) for i in range(len(spm_tokens))]))]
unigram = json.loads(pathlib.Path("tests/data/tokenizer_unigram.json").read_text())
unigram["model"]["vocab"] = [row for row in unigram["model"]["vocab"] if len(row[0]) < 3][:60]
put("tokenizer", "unigram", json.dumps(unigram, ensure_ascii=False).encode() + "\n---\n<mask> la\u00a0lamp n\u0303 \ufb01 \u00e9e\u0301\r\n".encode())
for number, name in enumerate(("llama", "gemma", "unigram")):  # cut to 60 pieces: a field 1 with its length in one byte each
    model, at, pieces = pathlib.Path(f"tests/data/spm_{name}.model").read_bytes(), 0, []
    while model[at] == 10:
        pieces.append(model[at:at + 2 + model[at + 1]])
        at += 2 + model[at + 1]
    put("spm", name, bytes([number]) + b"".join(pieces[:9] + pieces[-60:]) + model[at:])
put("tokenizer_gguf", "gpt2", gguf(gpt2, [], b""))
put("tokenizer_gguf", "spm", gguf(spm, [], b""))

# ---- a model of one block, its linears in several block formats; the first byte chooses the options
HIDDEN, MLP, VOCAB = 32, 32, 8
TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22), "q8_0": (8, 32, 34)}


def model(arch, kinds, extra=()):
    parts = [("token_embd.weight", VOCAB, HIDDEN, kinds[0]), ("output_norm.weight", 0, HIDDEN, "f32"), ("blk.0.attn_norm.weight", 0, HIDDEN, "f32"),
             ("blk.0.ffn_norm.weight", 0, HIDDEN, "f32"), ("blk.0.attn_q.weight", 32, HIDDEN, kinds[1]), ("blk.0.attn_k.weight", 16, HIDDEN, kinds[2]),
             ("blk.0.attn_v.weight", 16, HIDDEN, kinds[2]), ("blk.0.attn_output.weight", HIDDEN, 32, kinds[3]), ("blk.0.ffn_gate.weight", MLP, HIDDEN, kinds[4]),
             ("blk.0.ffn_up.weight", MLP, HIDDEN, kinds[4]), ("blk.0.ffn_down.weight", HIDDEN, MLP, kinds[4])]
    tensors, data = [], b""
    for name, rows, cols, kind in parts:
        number, per, size = TYPES[kind]
        count = max(rows, 1) * cols
        tensors.append(tensor(name, [cols, rows] if rows else [cols], number, len(data)))
        data += struct.pack(f"<{count}f", *[1.0] * count) if kind == "f32" else bytes((i * 37 + 11) % 60 for i in range(count // per * size))
        data += bytes(-len(data) % 32)
    numbers = [u32(f"{arch}.block_count", 1), u32(f"{arch}.embedding_length", HIDDEN), u32(f"{arch}.feed_forward_length", MLP),
               u32(f"{arch}.attention.head_count", 2), u32(f"{arch}.attention.head_count_kv", 1), u32(f"{arch}.context_length", 64),
               f32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5), f32(f"{arch}.rope.freq_base", 10000.0)]
    return gguf([text_key("general.architecture", arch)] + numbers + gpt2 + list(extra), tensors, data)


put("convert", "llama", b"\0" + model("llama", ["q8_0", "q4_0", "q5_0", "f16", "q4_1"]))
put("convert", "dequantize", b"\1" + model("llama", ["f16", "q4_1", "q8_0", "q4_0", "q5_0"]))
put("convert", "quantize", b"\2" + model("llama", ["f16", "f16", "f16", "f16", "f16"]))

# ---- a GGUF LoRA of the base of fuzz_adapter.c: q and k, rank 2, one tensor in halves
lora = [("blk.0.attn_q.weight.lora_a", [8, 2], 0), ("blk.0.attn_q.weight.lora_b", [2, 8], 0), ("blk.1.attn_k.weight.lora_a", [8, 1], 1),
        ("blk.1.attn_k.weight.lora_b", [1, 4], 0)]
lora_tensors, lora_data = [], b""
for name, dims, kind in lora:
    lora_tensors.append(tensor(name, dims, kind, len(lora_data)))
    lora_data += struct.pack(f"<{dims[0] * dims[1]}{'fe'[kind]}", *range(dims[0] * dims[1]))
    lora_data += bytes(-len(lora_data) % 32)
lora_keys = [text_key("general.type", "adapter"), text_key("adapter.type", "lora"), text_key("general.architecture", "llama"), f32("adapter.lora.alpha", 4.0)]
put("adapter", "gguf", b"\n---\n" + gguf(lora_keys, lora_tensors, lora_data))
put("adapter", "gguf_digest", b'{"graft":{"digest":"0123456789abcdef"}}\n---\n' + gguf(lora_keys + [text_key("graft.digest", "0123456789abcdef")], lora_tensors, lora_data))

put("checkpoint", "whole", b"\0")
put("checkpoint", "changed", b"\0" + struct.pack("<HBB", 12, 1, 2) + struct.pack("<HBB", 90, 0, 7) + struct.pack("<HBB", 300, 8, 0))
put("checkpoint", "cut", b"\0" + struct.pack("<HH", 0xFFFF, 700))
put("checkpoint", "other", b"\1" + safetensors({"__metadata__": {"progress": "{}", "checksum": "0"}, "params": entry("F32", [1], 0, 4)}, bytes(4)))

messages = json.dumps({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "hi <e>"}, {"role": "assistant", "content": "yo"}], "tools": None}).encode()
put("chat", "plain", b"{% for m in messages %}{{ m.role }}:{{ m.content }}<e>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}\n---\n" + messages)
put("chat", "generation", b"{% for m in messages %}{{ m.role }}{% generation %}{{ m['content']|trim }}{% endgeneration %}{% endfor %}\n---\n" + messages)
put("chat", "system_first", b"{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[1:]|tojson }}\n---\n" + messages)

put("round_trip", "words", "The caf\u00e9's  aaaa 1111\n\n\tI'LL\u3000x".encode())
put("round_trip", "signs", "\U0001F600\u0301\u2581 <0x41>\r\n  !? \u00b2\u0663".encode())
put("round_trip", "bytes", bytes(range(256)))
