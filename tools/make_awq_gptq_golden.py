#!/usr/bin/env python3
"""Makes tests/golden/columns.json: a linear [in 64, out 64] as AutoAWQ and AutoGPTQ pack it, and what it stands for.

    python tools/make_awq_gptq_golden.py

The layouts are written out here with numpy as those programs describe them: AutoAWQ 0.2's pack_intweight order of
WQLinear_GEMM ([0, 2, 4, 6, 1, 3, 5, 7] along the outputs), AutoGPTQ 0.7's QuantLinear.pack (codes along the inputs, zeros
along the outputs and one less in every field; GPTQModel's gptq_v2 without that). A zero of 0 makes the subtraction borrow
from the next field: GPTQModel 2's convert_gptq_v2_to_v1_format_module and its inverse work on whole words.
"""
import json
import os

import numpy as np

IN, OUT, GROUP = 64, 64, 32
ONES = {4: 0x11111111, 8: 0x01010101}  # what the first version takes off a word of zeros


def words(fields, bits, order=None):
    """Packs the last axis: field k of a word at bit k * bits; `order`: which of the next eight goes there."""
    per = 32 // bits
    grouped = fields.reshape(*fields.shape[:-1], -1, per).astype(np.uint64)
    grouped = grouped[..., order] if order else grouped
    return (grouped << (np.arange(per, dtype=np.uint64) * np.uint64(bits))).sum(-1).astype(np.uint32)


def linear(seed, bits, zero_low):
    r = np.random.default_rng(seed)
    codes = r.integers(0, 1 << bits, (IN, OUT))
    zeros = r.integers(zero_low, 1 << bits, (IN // GROUP, OUT))
    scales = (r.random((IN // GROUP, OUT)) * 0.1 - 0.02).astype(np.float16)
    return codes, zeros, scales


def row(kind, bits, codes, zeros, scales, qweight, qzeros):
    biases = -(zeros.astype(np.float32) * scales.astype(np.float32)).T  # exact: 4 or 8 bits times 11
    return {"kind": kind, "bits": bits, "qweight": qweight.ravel().tolist(), "qzeros": qzeros.ravel().tolist(),
            "scales": scales.view(np.uint16).ravel().tolist(), "codes": codes.T.astype(np.uint8).tobytes().hex(),
            "biases": biases.astype(np.float32).view(np.uint32).ravel().tolist()}


def main():
    awq = [0, 2, 4, 6, 1, 3, 5, 7]
    rows = []
    codes, zeros, scales = linear(1, 4, 0)
    rows.append(row("awq", 4, codes, zeros, scales, words(codes, 4, awq), words(zeros, 4, awq)))
    for seed, kind, bits in ((2, "gptq", 4), (3, "gptq_v2", 4), (4, "gptq", 8)):
        codes, zeros, scales = linear(seed, bits, 0)
        zeros[0, [0, 3, 32 // bits - 1]] = 0  # first, inside and last of a word: the ones borrow from the next field
        packed = words(zeros, bits)
        if kind == "gptq":
            packed = (packed.astype(np.int64) - ONES[bits] & 0xFFFFFFFF).astype(np.uint32)
        rows.append(row(kind, bits, codes, zeros, scales, words(codes.T, bits).T, packed))
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "golden", "columns.json")
    with open(path, "w", encoding="utf-8") as f:
        f.write('{"made_by": "tools/make_awq_gptq_golden.py, numpy %s", "in": %d, "out": %d, "group": %d, "cases": [\n' %
                (np.__version__, IN, OUT, GROUP))
        f.write(",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]}\n")


if __name__ == "__main__":
    main()
