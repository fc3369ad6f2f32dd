"""Compares graft's affine quantization and GGUF blocks with mlx and the gguf package, bit for bit.

The functions under test are internal, so the few sources they need are compiled into a shared library here.
"""
import ctypes, itertools, subprocess
from pathlib import Path

import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

lib = None  # set by checks()
rng = np.random.default_rng(0)
I64 = ctypes.c_int64
DTYPES = {"float32": (0, mx.float32), "float16": (1, mx.float16), "bfloat16": (2, mx.bfloat16)}
ptr = lambda a: a.ctypes.data_as(ctypes.c_void_p)


def raw(array):
    """The bytes of an mlx array."""
    wide = {4: mx.uint32, 2: mx.uint16}[array.itemsize]
    return np.array(array.view(wide)).view(np.uint8).ravel()


def weights(rows, cols, most):
    """Ordinary rows, and rows that meet the formula's corners; most: the largest number of the type."""
    w = rng.standard_normal((rows, cols)).astype(np.float32) * np.exp(rng.uniform(-8, 3, (rows, 1))).astype(np.float32)
    w[0] = 0
    w[1] = 0.37
    w[2] = -0.37
    w[3] = np.abs(w[3])
    w[4] = -np.abs(w[4])
    w[5] = rng.choice([-1.0, 1.0], cols)
    w[6] *= 1e-9
    w[7] = 100 + w[7] * 1e-3
    w[8, ::97] *= 1e4  # outliers, of both signs
    w[9, ::31] = 1e-3 * most
    w[10] *= 2.0**-140  # subnormal in f32 and bf16, zero in f16
    w[11] *= 2.0**-20  # subnormal in f16
    w[12] = rng.choice([most, -most], cols)  # a range of twice the largest number
    w[13] = most * rng.uniform(0.5, 1, cols)
    w[14] = -most * rng.uniform(0.4, 1, cols)
    w[15] = rng.choice([0.0, -0.0, 1e-8, -1e-8], cols)
    w[16, 1:] = 0  # one value alone
    w[17] = rng.choice([-1, 0.5], cols) * 2.0 ** rng.integers(-30, 10, cols)
    w[18] = np.where(np.arange(cols) % 2, 1, -1) * w[18, 0]  # |min| == |max|
    w[19] = 0.1 + np.arange(cols) % 16  # values between codes
    return np.clip(w, -most, most)  # no infinities


def quantize_both(a, bits, group, number):
    """(codes, scales, biases) of mlx and of graft for an array, raw bytes; and both dequantized."""
    rows, cols = a.shape
    q, s, b = mx.quantize(a, group_size=group, bits=bits)
    back = mx.dequantize(q, s.astype(mx.float32), b.astype(mx.float32), group, bits)
    w = np.array(a.astype(mx.float32))
    codes = np.zeros(rows * cols * bits // 8, np.uint8)
    scales, biases = (np.zeros(rows * cols // group * a.dtype.size, np.uint8) for _ in range(2))
    lib.gr_affine_quantize(ptr(codes), ptr(scales), ptr(biases), ptr(w), I64(rows), I64(cols), bits, group, number)
    ours = np.zeros_like(w)
    lib.gr_affine_dequantize(ptr(ours), ptr(codes), ptr(scales), ptr(biases), I64(rows), I64(cols), bits, group, number)
    return [raw(q), raw(s), raw(b)], [codes, scales, biases], np.array(back), ours


def check_affine():
    good = total = 0
    for (name, (number, dtype)), bits, group in itertools.product(DTYPES.items(), (2, 3, 4, 5, 6, 8), (32, 64, 128)):
        most = mx.finfo(dtype).max
        same = []
        for rows, cols in ((64, 384), (20, group), (21, 128)):  # rows of several groups and of a single one
            theirs, ours, back, values = quantize_both(mx.array(weights(rows, cols, most)).astype(dtype), bits, group, number)
            same += [np.array_equal(x, y) for x, y in zip(theirs, ours)]
            finite = np.isfinite(back)
            if not same[-3] or not same[-2]:
                n = ours[0].size // rows
                print(name, bits, group, "rows that differ:", sorted({int(i) // n for i in np.flatnonzero(theirs[0] != ours[0])}))
            size = np.abs(np.where(finite, back, 0)).max(axis=1, keepdims=True)
            same.append(bool(np.all(~finite | (np.abs(back - values) <= 2.0**-22 * size))))
        total += 1
        good += all(same)
        if not all(same):
            print(name, bits, group, same)
    print(f"affine: {good} of {total} combinations equal mlx {mx.__version__}")
    return good == total


def blocks(kind, n):
    """Random bytes with scales that are ordinary halves (their place differs by type)."""
    size, nbytes = GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (n, nbytes), dtype=np.uint8)
    halves = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q2_K: [80, 82], Q.Q3_K: [108],
              Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208], Q.F16: [0]}
    for at in halves.get(kind, []):
        data[:, at:at + 2] = (rng.standard_normal(n) * 0.02).astype(np.float16)[:, None].view(np.uint8)
    if kind in (Q.F32, Q.Q8_K):
        data[:, :4] = rng.standard_normal(n).astype(np.float32)[:, None].view(np.uint8)
    if kind == Q.BF16:
        data[:, 1] &= 0xBF  # exponent below the special values
    return data, size


def check_blocks():
    bad = 0
    for kind in (Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.Q8_K):
        data, size = blocks(kind, 64)
        if kind == Q.Q8_K:
            want = (data[:, :4].copy().view(np.float32) * data[:, 4:260].view(np.int8).astype(np.float32)).ravel()
        else:
            want = dequantize(data, kind).ravel()
        got = np.zeros(want.size, np.float32)
        lib.gr_gguf_dequantize(ptr(got), ptr(data), int(kind), I64(want.size))
        bits = lib.gr_gguf_affine_bits(int(kind))
        same = [np.array_equal(want, got)]
        if bits:
            number = lib.gr_gguf_affine_dtype(ptr(data), int(kind), I64(want.size))
            for d in {number, 0}:
                codes = np.zeros(want.size * bits // 8, np.uint8)
                scales, biases = (np.zeros(want.size // 32 * (4 if d == 0 else 2), np.uint8) for _ in range(2))
                lib.gr_gguf_to_affine(ptr(codes), ptr(scales), ptr(biases), ptr(data), int(kind), I64(want.size), d)
                back = np.zeros_like(want)
                lib.gr_affine_dequantize(ptr(back), ptr(codes), ptr(scales), ptr(biases), I64(1), I64(want.size), bits, 32, d)
                same.append(np.array_equal(want, back))
        if not all(same):
            bad += 1
            print(kind.name, same)
    print("GGUF blocks:", "all types equal" if not bad else f"{bad} types differ")
    return not bad


def load(ctx):
    """Compiles src/weights and what it stands on."""
    global lib
    root = Path(__file__).resolve().parents[2]
    out = ctx.work / "weights.so"
    sources = [str(p) for room in ("base", "files", "weights") for p in sorted((root / "src" / room).glob("*.c"))]
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-std=gnu17", "-D_GNU_SOURCE", "-ffp-contract=off",
                    f"-I{root / 'src'}", f"-I{root / 'include'}", *sources, "-o", str(out), "-ljansson", "-lpcre2-8", "-lpthread",
                    "-lm"], check=True)
    lib = ctypes.CDLL(str(out))


def run(ctx, check):
    if lib is None:
        load(ctx)
    assert check(), "see the lines above"


def checks(ctx):
    yield "affine groups equal mx.quantize, bit for bit", lambda: run(ctx, check_affine)
    yield "GGUF blocks equal the gguf package", lambda: run(ctx, check_blocks)
