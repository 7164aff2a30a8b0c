"""Dot products that NVIDIA's GPUs computed, recorded by others, against products in stages: no bit may differ.

The recordings (Khattak and Mikaitis, ACM TACO, doi 10.1145/3830409; 48 sets of 5,000 instructions) are not part of the
project: without ``../shared/data/recorded_products.npz`` these tests are skipped.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mpsim import matmul
from mpsim.products.presets import PRESETS
from mpsim.products.stages import Product
from mpsim.products.text import product_of

PATH = Path(__file__).parents[3] / "shared" / "data" / "recorded_products.npz"
pytestmark = pytest.mark.skipif(not PATH.exists(), reason=f"the recordings are not at {PATH}")

TYPES: dict[str, Any] = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
NAMES = {"f16": "float16", "bf16": "bfloat16", "tf32": "tf32", "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}
#: GPU -> terms of an instruction, fraction bits and least exponents (float32, float16 sums) of all types but float8.
WMMA = {
    "V100": (4, 23, -131, -19), "A100": (8, 24, -132, -20), "A2": (8, 24, -132, -20), "Ada": (8, 24, -132, -20),
    "L40S": (8, 24, -132, -20), "H100": (16, 25, -133, -21), "H200": (16, 25, -133, -21), "B200": (16, 25, -133, -21),
}  # fmt: skip
#: Of float8, those whose C is the last addend, after sums that start at +0: the name of the preset.
AT_THE_END = {
    **{(gpu, "f16"): "hopper_mma_sync_{}_to_float16" for gpu in ("H100", "H200")},
    ("B200", "f16"): "blackwell_mma_sync_{}_to_float16",
    ("B200", "f32"): "blackwell_mma_sync_{}",
}
SETS = [
    f"{gpu}/{inputs}_to_{output}"
    for gpu in WMMA
    for inputs in NAMES
    for output in ("f32", "f16")
    if not PATH.exists() or f"{gpu}/{inputs}_to_{output}/d" in np.load(PATH).files
]


def product_for(gpu: str, inputs: str, output: str) -> tuple[Product, bool]:
    """The product with C at the start of the first sum, and whether C takes part."""
    float16, takes_c = output == "f16", True
    name = AT_THE_END.get((gpu, output))
    if inputs in ("e4m3", "e5m2") and name is not None:
        preset = PRESETS[name.format(NAMES[inputs])].summation
        assert isinstance(preset, Product)
        return replace(preset, start="c"), True
    if inputs in ("e4m3", "e5m2"):
        takes_c = gpu not in ("H100", "H200")
        sums = "float16" if takes_c and float16 else "sums(fp_8_13_0, toward_zero)"
        order = f"aligned({16 if takes_c else 32}, 13, {sums}{', -132' * takes_c})"
    else:
        terms, bits, least, narrow = WMMA[gpu]
        sums = f"float16, {narrow}" if float16 else f"sums(float32, toward_zero), {least}"
        order = f"aligned({terms}, {bits}, {sums})"
    operand, wide = f"operand({NAMES[inputs]})", "float16" if float16 else "float32"
    return product_of(f"product({operand}, {operand}, order={order}, output={wide}, start=c)"), takes_c


@pytest.mark.parametrize("name", SETS)
def test_no_result_of_a_recording_differs(name: str) -> None:
    gpu, _, what = name.partition("/")
    inputs, _, output = what.partition("_to_")
    data = np.load(PATH)
    a, b, c, d = (data[f"{name}/{each}"] for each in "abcd")
    a, b = ((x.view(np.float32) if inputs == "tf32" else x.view(TYPES[inputs]).astype(np.float32)) for x in (a, b))
    c = c.view(np.float32)
    c = c.astype(np.float16).astype(np.float32) if output == "f16" else c
    expected = d.view(np.float32) if output == "f32" else d.view(np.float16).astype(np.float32)
    product, takes_c = product_for(gpu, inputs, output)
    assert differing(a, b, c if takes_c else None, product, expected) == 0


def differing(a: np.ndarray, b: np.ndarray, c: np.ndarray | None, product: Product, expected: np.ndarray) -> int:
    """Rows whose dot product is not the one expected: the diagonals of products of a few rows."""
    found, few = np.empty(len(a), np.float32), 50
    for start in range(0, len(a), few):
        part = slice(start, start + few)
        left, right = np.ascontiguousarray(a[part]), np.ascontiguousarray(b[part].T)
        added = None if c is None else np.diag(c[part])
        found[part] = np.diag(matmul(left, right, product, c=added, threads=1))
    return int((found.view(np.uint32) != np.ascontiguousarray(expected).view(np.uint32)).sum())


def test_a_wrong_order_differs() -> None:
    """The check is able to fail: the other halves, no halves, or 13 bits. More than 20 bits are not distinguished."""
    data = np.load(PATH)
    a, b = (data[f"H100/e4m3_to_f16/{each}"].view(TYPES["e4m3"]).astype(np.float32) for each in "ab")
    c, d = data["H100/e4m3_to_f16/c"].view(np.float32), data["H100/e4m3_to_f16/d"].view(np.float16).astype(np.float32)
    c = c.astype(np.float16).astype(np.float32)
    for bits, halves, wrong in ((13, "lanes(2, 2)", 243), (25, "lanes(2)", 1562), (25, "blocks(16)", 1523)):
        order = f"groups(whole(), reordered({halves}, aligned(16, {bits}, float16)), rising(float16))"
        operand = "operand(float8_e4m3fn)"
        product = product_of(f"product({operand}, {operand}, order={order}, output=float16, start=c)")
        assert differing(a, b, c, product, d) == wrong
