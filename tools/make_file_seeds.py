"""Writes the seeds of the fuzz targets safetensors, gguf and jsonl. usage: python tools/make_file_seeds.py (from the root)"""
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

string = lambda s: struct.pack("<Q", len(s)) + s.encode()
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
