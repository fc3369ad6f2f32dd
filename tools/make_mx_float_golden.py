"""Writes tests/golden/mx_float.txt: what mlx reads out of mxfp4, mxfp8 and nvfp4 groups.

usage: python tools/make_mx_float_golden.py (from the repository's root; needs mlx, numpy)
"""
import importlib.metadata as md
import mlx.core as mx
import numpy as np

rng = np.random.default_rng(21)
MODES = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}
EDGES = [0, 1, 2, 7, 8, 127, 128, 200, 254, 255]  # zero, subnormal, one, negative, largest, NaN or infinite

with open("tests/golden/mx_float.txt", "w") as out:
    out.write(f"# tools/make_mx_float_golden.py with mlx {md.version('mlx')}\n"
              "# MODE codes scales values-as-f32; one row; hex of the bytes\n")
    for mode, (bits, group) in MODES.items():
        groups = len(EDGES) + 8
        codes = rng.integers(0, 256, groups * group * bits // 8, dtype=np.uint8)
        codes[-16:] = np.arange(16) * 17 if bits == 4 else [0, 1, 7, 8, 56, 120, 126, 127, 128, 129, 135, 136, 184, 248, 254, 255]
        scales = np.array(EDGES + list(rng.integers(90, 126, 8)), np.uint8)
        values = mx.dequantize(mx.array(codes.view(np.uint32)[None]), mx.array(scales[None]), group_size=group, bits=bits,
                               mode=mode, dtype=mx.float32)
        out.write(f"{mode} {codes.tobytes().hex()} {scales.tobytes().hex()} {np.array(values).tobytes().hex()}\n")
