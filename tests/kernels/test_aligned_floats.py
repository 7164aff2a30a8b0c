"""Aligned sums whose products float32 holds have their own kernel in C: every variant, at the ends of what it takes.

The reference sums in float64 and knows no such ends; it is compared with the definition in
tests/test_accumulators_aligned.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from contractions import assert_same

from mpsim.kernels import load
from mpsim.products.accumulators import Accumulator
from mpsim.products.tensor_cores import TENSOR_CORES, accumulator_of

kernels = pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
pytest.importorskip("ml_dtypes", reason="the test extra is not installed")

PLAIN = Accumulator(kind="aligned", chunk=None, rounding="toward_zero", inputs="float16")
ACCUMULATORS = (
    *{row.accumulator: None for row in TENSOR_CORES.values()},  # each once
    replace(PLAIN, terms=32, fraction_bits=13, format="fp_8_13_0", inputs="float8_e4m3fn/float8_e5m2"),
    # the ends of integers: 15 products and c in 31 bits, and 7; the totals of 31 terms in 24 bits, and not of 32
    replace(PLAIN, terms=16, fraction_bits=25, rounding="nearest_even"),
    replace(PLAIN, terms=15, fraction_bits=25, rounding="nearest_even"),
    replace(PLAIN, terms=40, fraction_bits=26),
    replace(PLAIN, terms=31, fraction_bits=17, format="fp_8_13_0"),
    replace(PLAIN, terms=32, fraction_bits=17, format="fp_8_13_0"),
    replace(PLAIN, terms=1, fraction_bits=1, format="fp_8_3_0"),
    replace(PLAIN, terms=200, fraction_bits=7, format="bfloat16"),
    # sums that overflow, in formats with infinity, with NaN only, with neither, and without subnormal numbers
    replace(PLAIN, terms=8, fraction_bits=12, format="float16", rounding="nearest_even"),
    replace(PLAIN, terms=8, fraction_bits=12, format="float8_e4m3fn"),
    replace(PLAIN, terms=8, fraction_bits=12, format="fp_6_9_0"),
    replace(PLAIN, terms=8, fraction_bits=12, format="dlfloat16", rounding="nearest_even"),
    replace(PLAIN, terms=8, fraction_bits=13, least_alignment=None, chunk=20),
    replace(PLAIN, terms=8, fraction_bits=13, least_alignment=40, format="fp_8_13_0"),
    replace(PLAIN, terms=8, inputs="bfloat16/float16", least_alignment=-252),
    replace(PLAIN, terms=8, inputs="float16/float32"),  # too many bits: the other kernel
)


def operands(kind: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    signed = random.choice((-1.0, 1.0), shape) * (1 + random.integers(0, 8, shape) / 8)
    x = signed * 2.0 ** random.integers(-12, 6, shape)
    if kind == "zeros":
        x *= random.random(shape) < 0.3
    elif kind == "full":  # the largest totals: every product is almost four times the power of its exponent
        x = np.full(shape, 2 - 2.0**-10)
    elif kind == "ends":  # the smallest and the largest that the kernel takes
        x = signed * 2.0 ** random.choice((-50, -49, 59, 60), shape)
        x[random.random(shape) < 0.2] = 0
    elif kind in ("below", "above"):  # one number beyond the ends
        x.flat[x.size // 3] = 2.0**-51 if kind == "below" else -(2.0**61)
    elif kind == "fading":  # a sum, then next to nothing, then nothing: zeros of both signs
        x *= 2.0 ** -np.linspace(0, 35, shape[1] if shape[0] < 9 else shape[0]).reshape(
            (1, -1) if shape[0] < 9 else (-1, 1)
        )
        x[:, shape[1] // 2 :] *= 0.0 if shape[0] < 9 else 1.0
    elif kind == "specials":
        x.flat[[5, 50, 95]] = np.inf, np.nan, -np.inf
    elif kind == "tiny":
        x *= 2.0**-130
    return np.float32(x)


@pytest.fixture(params=kernels.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    kernels.force_variant(request.param)
    yield request.param
    kernels.force_variant(None)


@pytest.mark.parametrize("kind", ("plain", "zeros", "full", "ends", "below", "above", "fading", "specials", "tiny"))
def test_every_variant_is_the_reference(variant: str, kind: str) -> None:
    for accumulator in ACCUMULATORS:
        for length, columns in ((70, 33), (131, 4 * 16 + 5)):
            a, b = operands(kind, (5, length), 1), operands(kind, (length, columns), 2)
            expected = load("reference").matmul(a, b, accumulator=accumulator)
            found = load("compiled").matmul(a, b, accumulator=accumulator, threads=2)
            assert_same(found, expected, (kind, accumulator, length))


@pytest.mark.parametrize("columns", (1, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 130))
def test_every_number_of_columns(variant: str, columns: int) -> None:
    for text in ("hopper_float8_e4m3fn", "hopper_float16"):
        accumulator = accumulator_of(text)
        a, b = operands("zeros", (3, 45), 1), operands("plain", (45, columns), 2)
        expected = load("reference").matmul(a, b, accumulator=accumulator)
        assert_same(load("compiled").matmul(a, b, accumulator=accumulator), expected, (text, columns))


def test_an_infinite_sum_stays(variant: str) -> None:
    accumulator = replace(PLAIN, terms=2, fraction_bits=12, format="float16", rounding="nearest_even")
    a = np.float32([[256, 256, 1, 1], [-256, 256, 1, 1]])
    b = np.float32([[256], [0], [-1], [1]])
    found = load("compiled").matmul(a, b, accumulator=accumulator)
    assert found.tolist() == [[np.inf], [-np.inf]]
    assert_same(found, load("reference").matmul(a, b, accumulator=accumulator), "")


def test_a_sum_that_cancels_is_a_positive_zero(variant: str) -> None:
    accumulator = accumulator_of("hopper_float8_e4m3fn")
    a, b = np.float32([[1, -1, -(2.0**-9)]]), np.float32([[1], [1], [2.0**-9]])
    assert_same(load("compiled").matmul(a, b, accumulator=accumulator), np.float32([[0]]), "")


def test_a_tiny_sum_before_zeros(variant: str) -> None:
    """c is 2**-110 and the next terms are zeros: one over the quantum, 2**136, is not a float32 number."""
    accumulator = replace(PLAIN, terms=2, fraction_bits=26, least_alignment=None, inputs="tf32")
    a = np.float32([[2.0**-50, 2.0**-50, 0, 0]])
    b = np.float32([[2.0**-50 + 2.0**-60], [-(2.0**-50)], [1], [1]])
    found = load("compiled").matmul(a, b, accumulator=accumulator)
    assert_same(found, np.float32([[2.0**-110]]), "")
