"""Orders whose scales of blocks of k act before the alignment, as in instructions on MX and NVFP4 operands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from products import of_element, partitions, plain_sums

from mpsim import matmul
from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.kernels import load
from mpsim.kernels.contractions.beside import Beside
from mpsim.kernels.spec_dot import dot
from mpsim.products.stages import (
    AlignedScaled,
    Blocks,
    Groups,
    Operand,
    Order,
    Product,
    Reordered,
    Rising,
    Splits,
    Sums,
)
from mpsim.products.text import of_json, product_of, text_of, to_json
from mpsim.products.words import sentence_of
from mpsim.rounding import decode

BACKENDS = ("reference", "numba", "compiled")
CHOPPED = Sums(rounding="toward_zero")
E4M3, E2M1 = Operand("float8_e4m3fn", "truncate"), Operand("float4_e2m1fn", "nearest_even")
MX = Product(E4M3, E4M3, order=AlignedScaled(sums=CHOPPED))
NVFP4 = Product(E2M1, E2M1, order=AlignedScaled(64, 35, 16, 16, "float8_e4m3fn", CHOPPED, -139))


def row(length: int, **values: float) -> np.ndarray:
    """Zeros but for the numbers given by their k: k3=1.5."""
    found = np.zeros(length, np.float32)
    for k, value in values.items():
        found[int(k[1:])] = value
    return found


CANCELLING, HALVES = row(64, k0=0.5, k1=-0.5, k16=0.5), row(64, k0=0.5, k1=0.5, k16=0.5)


@pytest.mark.parametrize(
    "product,a,b,left,right,expected",
    [
        # The scales 2**10 and 2**-10 move the exponent of 1 * 1 by nothing, and of the second block's by 40: 25 bits
        # below 2**40 are left of what the first instruction gave.
        (MX, row(64, k0=1, k32=1, k33=-1), row(64, k0=1, k32=1, k33=1), [2.0**10, 2.0**20], [2.0**-10, 2.0**20], 0.0),
        (MX, row(64, k0=2.0**8, k32=1, k33=-1), row(64, k0=2.0**7, k32=1, k33=1), [1, 2.0**20], [1, 2.0**20], 2.0**15),
        # 192 * 1.5 = 2.25 * 2**7 has the exponent 7, beside which 2**-18 is kept, and is lost beside twice as much
        (MX, row(32, k0=192, k1=-192, k2=2.0**-9), row(32, k0=1.5, k1=1.5, k2=2.0**-9), [2.0**-7], [2.0**5], 2.0**-20),
        (MX, row(32, k0=384, k1=-384, k2=2.0**-9), row(32, k0=1.5, k1=1.5, k2=2.0**-9), [2.0**-7], [2.0**5], 0.0),
        (NVFP4, row(64, k0=1, k1=6), row(64, k0=0.5, k1=6), [1] * 4, [3] * 4, 36.5 * 3),
        # 36 * 448 * 448 * 16 in one block and 0.25 * 2**-18 in another: the scales' exponents alone, 16 and -12, count
        (NVFP4, np.float32([6] * 16 + [0.5] + [0] * 47), np.float32([6] * 16 + [0.5] + [0] * 47),
         [448, 2.0**-6, 1, 1], [448, 2.0**-6, 1, 1], 36.0 * 16 * 448 * 448),
        # 2**16 - 35 bits = 2**-19: of 0.25 * 2**-12 = 2**-14 nothing is lost, but the sum is rounded toward zero
        (NVFP4, CANCELLING, HALVES,
         [448, 2.0**-6, 1, 1], [448, 2.0**-6, 1, 1], 2.0**-14),
        (NVFP4, CANCELLING, HALVES,
         [448, 2.0**-9, 1, 1], [448, 2.0**-8, 1, 1], 2.0**-19),
        (NVFP4, CANCELLING, HALVES,
         [448, 2.0**-9, 1, 1], [448, 2.0**-9, 1, 1], 0.0),  # 2**-20 is cut off beside a sum that is 0
        (NVFP4, row(64, k0=1), row(64, k0=1), [math.nan, 1, 1, 1], [0, 1, 1, 1], math.nan),
        (NVFP4, row(64), row(64), [1, 1, 1, math.nan], [1, 1, 1, 1], math.nan),
    ],
)  # fmt: skip
def test_the_numbers_of_an_instruction_with_scales(
    product: Product, a: np.ndarray, b: np.ndarray, left: list[float], right: list[float], expected: float
) -> None:
    found = [dot(a.tolist(), b.tolist(), product, Beside(left_scale=left, right_scale=right))]
    for backend in BACKENDS:
        scales = {"left_scale": np.float32([left]), "right_scale": np.float32([right]).T}
        found.append(matmul(a[None], b[:, None], product, backend=backend, **scales).item())
    assert all(each == expected or math.isnan(each) and math.isnan(expected) for each in found), found


def numbers_of(name: str, negative: bool = True) -> st.SearchStrategy[float]:
    """Any numbers of a narrow format."""
    format = as_format(name)
    values = np.asarray(decode(np.arange(1 << format.bits, dtype=np.uint8), format)).tolist()
    return st.sampled_from([each for each in values if negative or not each < 0])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Product, np.ndarray, np.ndarray, Beside]:
    """Orders with scales, nested; operands (3, K) and (K, 2) of any numbers; scales of all shapes."""
    length = draw(st.integers(0, 40))
    scales = draw(st.sampled_from(["float8_e8m0fnu", "float8_e4m3fn"]))
    group = draw(st.sampled_from([None, None, 1, 2, 4]))
    block = (group or 1) * draw(st.integers(1, 8))
    if group is None:
        names = [draw(st.sampled_from(["float8_e4m3fn", "float8_e5m2", "float6_e3m2fn", "float16"])) for _ in range(2)]
        operands = [Operand(name, draw(st.sampled_from(["truncate", "nearest_even"]))) for name in names]
    else:
        operands = [Operand("float4_e2m1fn", "nearest_even")] * 2
    least, start = draw(st.sampled_from([None, -133, -139, 0])), draw(st.sampled_from(["zero", "first"]))
    terms, bits = (group or 1) * draw(st.integers(1, 9)), draw(st.integers(1, 24))
    start = start if group is None else "zero"  # the first term is a product
    order: Order = AlignedScaled(terms, bits, block, group, scales, draw(plain_sums()), least, start)
    around = draw(st.sampled_from(["", "splits", "blocks"] if group else ["", "splits", "any"]))
    if around == "splits":
        order = Groups(Splits(draw(st.integers(1, 4)), block), order, Rising(start="first"))
    elif around:
        order = Reordered(Blocks(block) if around == "blocks" else draw(partitions()), order)
    product = Product(*operands, order=order, start=draw(st.sampled_from(["zero", "c"])) if start == "zero" else "zero")
    numbers = [numbers_of(name) for name in ("float8_e4m3fn", "float8_e5m2", "float6_e3m2fn", "float4_e2m1fn")]
    draws = draw(st.sampled_from([st.one_of(*numbers), numbers[-1], numbers[0], st.floats(width=32)]))

    def array(rows: int, columns: int, of: st.SearchStrategy[float]) -> np.ndarray:
        values = draw(st.lists(of, min_size=rows * columns, max_size=rows * columns))
        return np.array(values, np.float64).astype(np.float32).reshape(rows, columns)

    of_scales = numbers_of(scales, negative=False)
    count = draw(st.sampled_from([1, max(1, -(-length // block))]))
    beside = Beside(
        c=array(3, 2, draws) if product.start == "c" else None,
        left_scale=array(draw(st.sampled_from([1, 3])), count, of_scales),
        right_scale=array(count, draw(st.sampled_from([1, 2])), of_scales),
    )
    return product, array(3, length, draws), array(length, 2, draws), beside


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=30)
@given(case=cases())
def test_a_backend_gives_the_definition(backend: str, case: tuple[Product, np.ndarray, np.ndarray, Beside]) -> None:
    product, a, b, beside = case
    found = load(backend).matmul(a, b, beside=beside, threads=1, accumulator=product)
    for i in range(3):
        for j in range(2):
            expected = dot(a[i].tolist(), b[:, j].tolist(), product, of_element(beside, i, j))
            same = found[i, j] == expected and math.copysign(1, expected) == math.copysign(1, found[i, j])
            assert same or math.isnan(expected) and math.isnan(found[i, j]), (product, a[i], b[:, j], beside, i, j)


@pytest.mark.parametrize("product", [MX, NVFP4])
def test_text_and_json_are_read_back(product: Product) -> None:
    assert product_of(text_of(product)) == product == of_json(to_json(product))


def test_a_sentence_says_what_is_scaled() -> None:
    assert (
        "by chained instructions of 32 terms, each product times the float8_e8m0fnu scales of its block of 32 k, "
        "aligned to the largest exponent and at least 2^-133, truncated to 25 fraction bits" in sentence_of(MX)
    )
    assert (
        "by chained instructions of 64 terms, the exact sum of every 16 products times the float8_e4m3fn scales of its "
        "block of 16 k, aligned to the largest exponent of the scales and at least 2^-139" in sentence_of(NVFP4)
    )


@pytest.mark.parametrize(
    "text,message",
    [
        ("product(order=alignedscaled())", "takes operands that are read with a conversion"),
        (
            "product(operand(float4_e2m1fn, truncate), operand(float4_e2m1fn, truncate), "
            "order=alignedscaled(64, 35, 16, 16))",
            "takes operands that are rounded to their formats",
        ),
        ("alignedscaled(64, 35, 16, 12)", "are not whole groups of 12"),
        ("alignedscaled(scales=float64)", "has values that float32 cannot hold"),
        (
            "product(operand(float8_e5m2, nearest_even), operand(float8_e5m2, nearest_even), "
            "order=alignedscaled(64, 35, 16, 16))",
            "bits, more than 52",
        ),
        ("groups(blocks(64), scaled(alignedscaled(), block=64), rising())", "multiplied once"),
    ],
)
def test_a_description_that_cannot_be_run_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        product_of(text)


@pytest.mark.parametrize(
    "left,message",
    [
        (None, "give left_scale"),
        (3.0, "left_scale has 3.0, but scales of this product are numbers of float8_e8m0fnu that are not negative"),
        (-1.0, "left_scale has -1.0"),
        (np.ones((1, 3), np.float32), r"left_scale has shape \(1, 3\)"),
    ],
)
def test_scales_that_are_not_of_the_format_are_refused(left: Any, message: str) -> None:
    a = np.ones((1, 64), np.float32)
    with pytest.raises(UsageError, match=message):
        matmul(a, a.T, MX, left_scale=left, right_scale=1.0, backend="reference")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_group_of_two_blocks_is_refused(backend: str) -> None:
    """Lanes take k 0, 2, 4, ... first, so 16 of these are of two blocks of 16 k."""
    order = Reordered(product_of("reordered(lanes(2), rising())").order.partition, NVFP4.order)  # type: ignore
    product = Product(E2M1, E2M1, order=order)
    a = np.ones((1, 64), np.float32)
    with pytest.raises(UsageError, match="16 terms that are added before they are scaled are not of one block"):
        matmul(a, a.T, product, left_scale=1.0, right_scale=1.0, backend=backend)
    with pytest.raises(UsageError, match="are not of one block"):
        dot([1.0] * 64, [1.0] * 64, product, Beside(left_scale=[1.0], right_scale=[1.0]))
