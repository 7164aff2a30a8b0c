"""What happens before the first and after the last sum of a product: C, scales, a bias; and further kinds of sums.

Expected numbers are written out in NumPy's float32 and float64 and in fractions, without the definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mpsim import Accumulator, matmul
from mpsim.errors import UsageError, UsageTypeError
from mpsim.kernels.philox import Stream, philox4x32
from mpsim.products.stages import (
    FLOAT32,
    AddC,
    Aligned,
    Bias,
    Blocks,
    ByColumn,
    Exact,
    Groups,
    Kahan,
    Lanes,
    Operand,
    Pairwise,
    Parts,
    Product,
    Rising,
    Scale,
    Scaled,
    Sums,
    Tail,
)

f = np.float32
BACKENDS = ("reference", "numba", "compiled")
RANDOM = np.random.default_rng(7)
A, B = RANDOM.standard_normal((5, 300)).astype(f), RANDOM.standard_normal((300, 7)).astype(f)
C, BIAS = RANDOM.standard_normal((5, 7)).astype(f), RANDOM.standard_normal(7).astype(f)
TOTAL = matmul(A, B, backend="reference")
DEEPGEMM = Product(order=Groups(Blocks(128), Scaled(Rising(), Scale("both", None), 128), Rising()))


def fma(x: Any, y: Any, z: Any) -> np.ndarray:
    """x * y + z of float32 arrays, one rounding: of a fraction to float64 and a float32 would be two."""

    def one(x: float, y: float, z: float) -> np.float32:
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        near = f(float(exact))
        steps = [np.nextafter(near, f(-np.inf)), near, np.nextafter(near, f(np.inf))]
        best = min(steps, key=lambda each: (abs(Fraction(float(each)) - exact), int(each.view(np.uint32)) & 1))
        return np.float32(best)

    return np.asarray(np.frompyfunc(one, 3, 1)(x, y, z), f)


def product_of_stages(*epilogue: Any) -> Product:
    return Product(epilogue=epilogue)


LEFT, RIGHT = RANDOM.standard_normal((5, 1)).astype(f), RANDOM.standard_normal((1, 7)).astype(f)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "product,given,expected",
    [
        (Product(), {"bias": BIAS}, TOTAL + BIAS),
        # CUTLASS's LinearCombination: beta * C is rounded, then one fused multiply-add
        (
            product_of_stages(Scale("alpha", None), AddC(products=FLOAT32)),
            {"c": C, "alpha": 0.3, "beta": 0.7},
            fma(TOTAL, f(0.3), f(0.7) * C),
        ),
        # and with nothing fused
        (
            product_of_stages(Scale("alpha"), AddC(products=FLOAT32)),
            {"c": C, "alpha": 0.3, "beta": 0.7},
            f(0.3) * TOTAL + f(0.7) * C,
        ),
        # beta * C exact
        (product_of_stages(AddC()), {"c": C, "beta": 0.7}, fma(C, f(0.7), TOTAL)),
        # one scale for each row, then one for each column, each product rounded; and the two as one factor
        (
            product_of_stages(Scale("left"), Scale("right"), Bias()),
            {"left_scale": LEFT, "right_scale": RIGHT, "bias": BIAS},
            TOTAL * LEFT * RIGHT + BIAS,
        ),
        (product_of_stages(Scale()), {"left_scale": LEFT, "right_scale": RIGHT}, TOTAL * (LEFT * RIGHT)),
        (product_of_stages(Scale()), {"left_scale": 0.1, "right_scale": RIGHT}, TOTAL * (f(0.1) * RIGHT)),
        # a bias in the format of the result
        (
            Product(epilogue=(Bias(Sums("float16")),), output=Sums("float16")),
            {"bias": BIAS},
            (TOTAL.astype(np.float64) + BIAS).astype(np.float16).astype(f),
        ),
    ],
)
def test_an_epilogue_is_its_formula(
    backend: str, product: Product, given: dict[str, Any], expected: np.ndarray
) -> None:
    assert matmul(A, B, product, backend=backend, **given).tobytes() == expected.astype(f).tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_of_blocks_are_promoted_with_their_scales(backend: str) -> None:
    """DeepGEMM: the scales of 128 k of a row, and of 128 k of all columns; total = fma(factor, sum, total)."""
    left = RANDOM.standard_normal((5, 3)).astype(f)
    right = RANDOM.standard_normal((3, 1)).astype(f)
    expected = np.zeros((5, 7), f)
    for j in range(3):
        part = slice(128 * j, 128 * (j + 1))
        sums = matmul(A[:, part], B[part], Accumulator(chunk=None), backend="reference")
        expected = fma(left[:, j : j + 1] * right[j], sums, expected)
    found = matmul(A, B, DEEPGEMM, left_scale=left, right_scale=right, backend=backend)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "order,first",
    [
        (Rising(), Rising(start="first")),
        (Aligned(8, 24, Sums("float32", "toward_zero")), Aligned(8, 24, Sums("float32", "toward_zero"), start="first")),
    ],
)
def test_c_at_the_start_is_a_first_term(backend: str, order: Any, first: Any) -> None:
    found = matmul(A[:, :64], B[:64], Product(order=order, start="c"), c=C, backend=backend)
    for i in range(5):
        for j in range(7):
            a, b = np.append(C[i, j], A[i, :64])[None], np.append(f(1), B[:64, j])[:, None]
            assert found[i, j] == matmul(a, b, Product(order=first), backend="reference").item()


@pytest.mark.parametrize("backend", BACKENDS)
def test_c_takes_the_place_of_the_first_zero_alone(backend: str) -> None:
    """In groups: of the outer sum if it begins with +0, else of the first group."""
    one = f(1) + np.zeros((1, 4), f)
    big = f([[2.0**24]])
    outer = Product(order=Groups(Blocks(2), Rising(), Rising()), start="c")
    inner = Product(order=Groups(Blocks(2), Rising(), Rising(start="first")), start="c")
    found = [matmul(one, one.T, each, c=big, backend=backend).item() for each in (outer, inner)]
    assert found == [2.0**24 + 4, 2.0**24 + 2]  # (2^24 + 2) + 2, and ((2^24 + 1) + 1) + 2, where 1 is lost twice
    assert matmul(one, one.T, inner, backend=backend).item() == 4
    assert matmul(one[:, :0], one.T[:0], outer, c=big, backend=backend).item() == 2.0**24


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_in_float64(backend: str) -> None:
    lanes = Product(order=Groups(Lanes(8), Rising(), Rising(Sums("float64"), "first")))
    found = matmul(A, B, lanes, backend=backend)
    for i in range(5):
        for j in range(7):
            sums = np.zeros(8, np.float64)
            for k in range(300):
                sums[k % 8] = fma(A[i, k], B[k, j], f(sums[k % 8])).item()
            total = sums[0]
            for lane in sums[1:]:
                total = total + lane
            assert found[i, j] == f(total)
    chain = matmul(A, B, Product(order=Rising(Sums("float64"))), backend=backend)
    expected = np.zeros((5, 7))
    for k in range(300):
        expected = expected + A[:, k, None].astype(np.float64) * B[k]
    assert chain.tobytes() == expected.astype(f).tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_kahan_keeps_what_rising_loses(backend: str) -> None:
    # exactly 2^24 + 105, between two float32 numbers; rising sums lose every term
    a = np.concatenate([f([2.0**24]), np.ones(100, f), f([0.1] * 50)])[None]
    ones = np.ones((a.size, 1), f)
    total, lost = f(0), f(0)
    for x in a[0]:
        y = x - lost
        following = total + y
        lost = (following - total) - y
        total = following
    assert total == 2.0**24 + 106
    assert matmul(a, ones, Product(order=Kahan()), backend=backend).item() == total
    assert matmul(a, ones, Product(order=Rising()), backend=backend).item() == 2.0**24


@pytest.mark.parametrize("backend", BACKENDS)
def test_subnormal_sums_become_zeros(backend: str) -> None:
    a = f([[2.0**-126, -(2.0**-127), -(2.0**-126), 2.0**-126]])
    flushed = Product(order=Rising(Sums(flush=True)))
    # 2^-126 - 2^-127 is subnormal: 0; then -2^-126 and, at last, 0
    assert matmul(a[:, :3], np.ones((3, 1), f), flushed, backend=backend).item() == -(2.0**-126)
    found = matmul(f([[-(2.0**-127)]]), np.ones((1, 1), f), Product(order=Pairwise(Sums(flush=True))), backend=backend)
    assert found.item() == 0 and np.signbit(found.item())


@pytest.mark.parametrize("backend", BACKENDS)
def test_stochastic_sums_read_one_word_for_each_rounding(backend: str) -> None:
    """1 + 2^-9 in bfloat16 (8 bits): a quarter of the way from 1 to 1 + 2^-7, at the first of two sums; the second is
    exact. Element e of rounding n reads word e % 4 of the counter (e // 4, step, tensor, 9 + 256 n)."""
    stream = Stream(0x123456789, "sums", tensor=3, step=5)
    ones = np.ones((40, 1), f)
    product = Product(order=Rising(Sums("bfloat16", "stochastic", random_bits=4)))
    found = matmul(np.hstack([ones, ones * f(2.0**-9)]), np.ones((2, 30), f), product, stream=stream, backend=backend)
    counter = np.array([[e // 4, 5, 3, 9 + 256] for e in range(1200)], np.uint32)
    words = philox4x32(counter, stream.key)[np.arange(1200), np.arange(1200) % 4]
    expected = np.where((words & 15) + 4 >= 16, f(1 + 2.0**-7), f(1)).reshape(40, 30)
    assert found.tobytes() == expected.tobytes()
    assert 0.2 < (found > 1).mean() < 0.3
    other = matmul(np.hstack([ones, ones * f(2.0**-9)]), np.ones((2, 30), f), product, backend=backend)
    assert other.tobytes() != found.tobytes()


def in_parts(x: np.ndarray, type: Any, count: int) -> list[np.ndarray]:
    """Successive roundings and subtractions."""
    found = []
    for _ in range(count):
        found.append(x.astype(type).astype(f))
        x = x - found[-1]
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [Rising(), Product().order])  # in steps, and by the kernel of the default
def test_products_of_parts(backend: str, order: Any) -> None:
    """bf16x3: the two small products first; all k of one product before the next, and of one k before the next."""
    pairs = ((1, 0), (0, 1), (0, 0))
    operand = Operand("bfloat16", "nearest_even", parts=2)
    left, right = in_parts(A[:, :80], ml_dtypes.bfloat16, 2), in_parts(B[:80], ml_dtypes.bfloat16, 2)
    whole = Product(operand, operand, order=order, parts=Parts(pairs))
    a, b = (np.concatenate([x[pair[side]] for pair in pairs], axis) for side, x, axis in ((0, left, 1), (1, right, 0)))
    expected = matmul(a, b, Product(order=order), backend="reference")
    assert matmul(A[:, :80], B[:80], whole, backend=backend).tobytes() == expected.tobytes()
    by_term = replace(whole, parts=Parts(pairs, Blocks(1)))
    places = np.arange(240).reshape(3, 80).T.ravel()
    expected = matmul(a[:, places], b[places], Product(order=order), backend="reference")
    assert matmul(A[:, :80], B[:80], by_term, backend=backend).tobytes() == expected.tobytes()
    exact = A[:, :80].astype(np.float64) @ B[:80].astype(np.float64)
    plain = matmul(*(np.ascontiguousarray(x[0]) for x in (left, right)), backend=backend)
    assert abs(expected - exact).max() < abs(plain - exact).max() / 100


BLOCKS = Product(order=Groups(Blocks(4), Scaled(Rising(), Scale("left"), 8), Rising()))


@pytest.mark.parametrize(
    "message,call",
    [
        ("multiplies by the scales of the left operand; give left_scale", lambda: matmul(A, B, BLOCKS)),
        ("takes no scales of the right operand", lambda: matmul(A, B, BLOCKS, left_scale=1.0, right_scale=1.0)),
        ("takes no scales of the left operand", lambda: matmul(A, B, left_scale=1.0)),
        ("takes no C", lambda: matmul(A, B, c=C)),
        ("beta is given, but C is not", lambda: matmul(A, B, beta=0.5)),
        ("not multiplied by alpha", lambda: matmul(A, B, alpha=0.5)),
        ("without beta", lambda: matmul(A, B, Product(order=Rising(), start="c"), c=C, beta=2)),
        (r"c has shape \(7, 5\); .* it has \(5, 7\)", lambda: matmul(A, B, product_of_stages(AddC()), c=C.T)),
        (r"bias has shape \(5,\)", lambda: matmul(A, B, bias=BIAS[:5])),
        (r"left_scale has shape \(5, 2\); .* it has \(5, 38\) or", lambda: matmul(A, B, BLOCKS, left_scale=C[:, :2])),
        ("adds no bias", lambda: matmul(A, B, product_of_stages(), bias=BIAS)),
        ("beta must be a finite number", lambda: matmul(A, B, product_of_stages(AddC()), c=C, beta=1e40)),
        ("one block of 2 k, not of 2", lambda: matmul(A, B, replace_block(2), left_scale=1.0)),
        ("no sum of this order begins", lambda: Product(order=Pairwise(), start="c")),
        ("no sum of this order begins", lambda: Product(order=Rising(start="first"), start="c")),
        ("no sum of this order begins", lambda: Product(order=Tail(4, Pairwise(), Rising(start="first")), start="c")),
        ("no sum of this order begins", lambda: Product(order=ByColumn(1, Pairwise(), Rising()), start="c")),
        ("no sum of this order begins", lambda: Product(order=ByColumn(1, Rising(), Pairwise()), start="c")),
        ("C is added once", lambda: Product(order=Rising(), start="c", epilogue=(AddC(),))),
        ("has one Bias", lambda: product_of_stages(Bias(), Bias())),
        ("alpha is multiplied once", lambda: product_of_stages(Scale("alpha"), Scale("alpha"))),
        ("multiplied once: by an order's Scaled", lambda: Product(order=BLOCKS.order, epilogue=(Scale("left"),))),
        ("at most 24 bits", lambda: product_of_stages(Scale("left", None), Scale("right"))),
        ("at most 24 bits", lambda: Product(order=Rising(Sums("float64")), epilogue=(Scale("left"),))),
        ("at most 24 bits; round it", lambda: Scaled(Rising(Sums("float64")))),
        (
            "numbers that are added exactly have at most 48 bits",
            lambda: Groups(Blocks(4), Rising(Sums("float64")), Exact()),
        ),
        ("those of left, right or both, not 'alpha'", lambda: Scaled(Rising(), Scale("alpha"))),
        ("a scaled order adds products of one block", lambda: Groups(Blocks(4), Rising(), Scaled(Rising()))),
        ("not in two scaled orders", lambda: Scaled(Scaled(Rising()))),
        ("the output cannot be float64", lambda: Product(output=Sums("float64"))),
        ("not float64", lambda: Sums("float64", "stochastic", random_bits=8)),
        ("stochastic sums need random_bits", lambda: Sums("float16", "stochastic")),
        ("random_bits are for stochastic sums", lambda: Sums("float16", random_bits=8)),
        ("random_bits must be", lambda: Sums("float16", "stochastic", random_bits=25)),
        ("aligned sums are rounded to nearest", lambda: Aligned(sums=Sums("float64"))),
        ("an epilogue is a tuple", lambda: product_of_stages(Rising())),
        ("at most 16 stages", lambda: product_of_stages(*[Scale("alpha")] * 17)),
        ("unknown factor 'middle'", lambda: Scale("middle")),
    ],
)
def test_what_cannot_be_is_refused(message: str, call: Callable[[], object]) -> None:
    with pytest.raises((UsageError, UsageTypeError), match=message):
        call()


def replace_block(size: int) -> Product:
    return Product(order=Groups(Blocks(4), Scaled(Rising(), Scale("left"), size), Rising()))
