"""Writes tests/golden/affine.txt, gguf_blocks.txt and gguf_quantized.txt: what mlx and the gguf package make of fixed inputs.

usage: python tools/make_affine_golden.py (from the repository's root; needs mlx, gguf, numpy)
"""
import itertools
import importlib.metadata as md
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

rng = np.random.default_rng(20)
raw = lambda a: np.array(a.view({4: mx.uint32, 2: mx.uint16}[a.itemsize])).tobytes().hex()


def affine(path):
    w = rng.standard_normal((3, 128)).astype(np.float32)
    w[1, :32], w[1, 32:64], w[1, 64:96] = 0, -0.37, np.abs(w[1, 64:96])
    w[2, :32] *= 1e-9
    w[2, 32:64] = 100 + w[2, 32:64]
    w[2, 64:] *= np.exp(rng.uniform(-6, 3, 64)).astype(np.float32)
    with open(path, "w") as out:
        out.write(f"# tools/make_affine_golden.py with mlx {md.version('mlx')}\n"
                  "# w DTYPE values-as-f32 | q DTYPE BITS GROUP codes scales biases; 3 rows of 128; hex of the bytes\n")
        for name in ("F32", "F16", "BF16"):
            a = mx.array(w).astype({"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}[name])
            out.write(f"w {name} {raw(a.astype(mx.float32))}\n")
            for bits, group in itertools.product((2, 3, 4, 5, 6, 8), (32, 64, 128)):
                out.write(f"q {name} {bits} {group} " + " ".join(raw(x) for x in mx.quantize(a, group, bits)) + "\n")


HALVES = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q2_K: [80, 82], Q.Q3_K: [108],
          Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208], Q.F16: [0]}


def blocks(path):
    with open(path, "w") as out:
        out.write(f"# tools/make_affine_golden.py with gguf {md.version('gguf')}\n# TYPE NUMBER blocks values-as-f32; hex\n")
        for kind in (Q.F32, Q.F16, Q.BF16, *(k for k in HALVES if k != Q.F16), Q.Q8_K):
            n = 16 if kind in (Q.F32, Q.F16, Q.BF16) else 2
            data = rng.integers(0, 256, (n, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
            for at in HALVES.get(kind, []):
                data[:, at:at + 2] = (rng.standard_normal(n) * 0.02).astype(np.float16)[:, None].view(np.uint8)
            if kind in (Q.F32, Q.Q8_K):
                data[:, :4] = rng.standard_normal(n).astype(np.float32)[:, None].view(np.uint8)
            if kind == Q.BF16:
                data[:, 1] &= 0xBF
            if kind == Q.Q8_K:  # the package cannot read it; ggml: d * code
                values = data[:, :4].copy().view(np.float32) * data[:, 4:260].view(np.int8).astype(np.float32)
            else:
                values = dequantize(data, kind)
            out.write(f"{kind.name} {int(kind)} {data.tobytes().hex()} {values.astype(np.float32).tobytes().hex()}\n")


def quantized(path):
    own = np.random.default_rng(21)  # the other files stay as they are
    w = own.standard_normal((8, 32)).astype(np.float32)
    w[1], w[2], w[3], w[4] = 0, -0.37, np.abs(w[3]), -np.abs(w[4])
    w[5] *= 1e-7
    w[6] *= np.exp(own.uniform(-6, 3, 32)).astype(np.float32)
    w[7, 3:] = w[7, 2]
    with open(path, "w") as out:
        out.write(f"# tools/make_affine_golden.py with gguf {md.version('gguf')}\n# TYPE NUMBER values-as-f32 blocks; hex\n")
        for kind in (Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1):
            out.write(f"{kind.name} {int(kind)} {w.tobytes().hex()} {quantize(w, kind).tobytes().hex()}\n")


quantized("tests/golden/gguf_quantized.txt")
affine("tests/golden/affine.txt")
blocks("tests/golden/gguf_blocks.txt")
