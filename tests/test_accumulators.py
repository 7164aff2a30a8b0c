"""Every accumulator: the definition against sums written out with fractions, every backend against the definition
and, on convolutions, against the reference; the public matmul."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from contractions import CONVOLUTIONS, KINDS, all_of, assert_same, define, defined, draw, some_places
from oracles import fraction as oracle

from mpsim.contraction import matmul
from mpsim.formats import FORMATS, Format
from mpsim.kernels import load
from mpsim.kernels import reference as reference_backend
from mpsim.kernels.reference.fma import fma
from mpsim.kernels.spec_dot import dot
from mpsim.products.accumulators import Accumulator

NARROW = (
    "fp_6_9_0", "bfloat16", "float16", "tf32", "dlfloat16", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz",
    "float4_e2m1fn", "fp_4_0_0", "fp_8_23_0",
)  # fmt: skip
ACCUMULATORS = (
    Accumulator(chunk=None),
    Accumulator(chunk=1),
    Accumulator(chunk=7),
    Accumulator(chunk=255),
    Accumulator(fma=False),
    Accumulator(fma=False, chunk=None),
    Accumulator(kind="exact"),
    *(Accumulator(format=name, chunk=chunk) for name in NARROW for chunk in (64, None)),
)
FEW = (
    Accumulator(chunk=7),
    Accumulator(fma=False),
    Accumulator(format="fp_6_9_0", chunk=64),
    Accumulator(kind="exact"),
)


def name(accumulator: Accumulator) -> str:
    return "-".join(map(str, (accumulator.kind, accumulator.format, accumulator.chunk, accumulator.fma)))


def rounded_by_oracle(exact: Fraction, format: Format) -> Fraction | float:
    """exact rounded to nearest even; infinity (as a float) or NaN or the largest number beyond the range."""
    if not exact:
        return Fraction(0)
    sign = -1 if exact < 0 else 1
    magnitude = oracle.round_magnitude(abs(exact), exact < 0, format, "nearest_even")
    if magnitude <= oracle.largest(format):
        return sign * magnitude
    infinite = math.inf if oracle.has(format, "inf") else math.nan
    return sign * (infinite if oracle.has(format, "nan") else oracle.largest(format))


def dot_by_oracle(a: list[Fraction], b: list[Fraction], accumulator: Accumulator) -> Fraction | float:
    """The sum written out; stops at the first infinity or NaN."""
    format = FORMATS[accumulator.format]
    products = [x * y for x, y in zip(a, b, strict=True)]
    if accumulator.kind == "exact":
        return rounded_by_oracle(sum(products, Fraction(0)), FORMATS["float32"])
    if accumulator.format == "float32" and not accumulator.fma:
        products = [rounded_by_oracle(product, format) for product in products]  # type: ignore[misc]
    chunk = accumulator.chunk or max(1, len(a))
    totals: list[Fraction | float] = []
    for start in range(0, len(a), chunk):
        total: Fraction | float = Fraction(0)
        for product in products[start : start + chunk]:
            if isinstance(total, float) or isinstance(product, float):
                return math.nan
            total = rounded_by_oracle(total + product, format)
        totals.append(total)
    result: Fraction | float = totals[0] if totals else Fraction(0)
    for total in totals[1:]:
        if isinstance(total, float) or isinstance(result, float):
            return math.nan
        result = rounded_by_oracle(result + total, format)
    return result


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=name)
@pytest.mark.parametrize("kind", ("normal", "cancellation", "subnormal", "wide"))
def test_definition_is_the_sum_in_fractions(accumulator: Accumulator, kind: str) -> None:
    for length in (0, 1, 5, 70):
        a, b = draw(kind, (2, length), 1), draw(kind, (2, length), 2)
        for row in range(2):
            expected = dot_by_oracle([*map(Fraction, a[row].tolist())], [*map(Fraction, b[row].tolist())], accumulator)
            if isinstance(expected, Fraction):
                assert Fraction(dot(a[row].tolist(), b[row].tolist(), accumulator)) == expected
            else:
                assert not math.isfinite(dot(a[row].tolist(), b[row].tolist(), accumulator))


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=name)
def test_matmul_is_the_definition(backends: list[str], accumulator: Accumulator) -> None:
    for kind in KINDS:
        for length in (0, 1, 67):
            a, b = draw(kind, (2, length), 1), draw(kind, (length, 2), 2)
            expected = np.array([[define(zip(row, column, strict=True), accumulator) for column in b.T] for row in a])
            for backend in backends:
                found = load(backend).matmul(a, b, accumulator=accumulator)
                assert_same(found, expected, (backend, kind, length))


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=name)
def test_matmul_in_every_variant(accumulator: Accumulator) -> None:
    kernels = pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
    for kind in ("specials", "cancellation", "subnormal", "overflow"):
        a, b = draw(kind, (3, 270), 1), draw(kind, (270, 37), 2)
        expected = reference_backend.matmul(a, b, accumulator=accumulator)
        try:
            for variant in kernels.variants():
                kernels.force_variant(variant)
                for threads in (1, 2):
                    found = load("compiled").matmul(a, b, accumulator=accumulator, threads=threads)
                    assert_same(found, expected, (kind, variant, threads))
        finally:
            kernels.force_variant(None)


@pytest.mark.parametrize("accumulator", FEW, ids=name)
def test_convolutions(backend: str, accumulator: Accumulator) -> None:
    """Against the reference, and the reference against the definition."""
    for case in CONVOLUTIONS[::3]:
        for kind in ("normal", "specials"):
            arrays = case.draw(kind)
            expected = all_of(reference_backend, case, arrays, accumulator=accumulator)
            if backend == "reference":
                for which, array in enumerate(expected):
                    for at in some_places(array.shape, 3):
                        define_at = defined(case, arrays, which, at, accumulator)
                        assert_same(array[at][None], define_at[None], (case, kind, which, at))
            else:
                for threads in (1, 2):
                    found = all_of(load(backend), case, arrays, accumulator=accumulator, threads=threads)
                    for which in range(3):
                        assert_same(found[which], expected[which], (case, kind, which, threads))


@pytest.mark.parametrize("length", (40, 600))
def test_exact_sum_of_terms_that_cancel(backend: str, length: int) -> None:
    """Terms of all magnitudes that cancel but for a small rest, in shuffled order; the order does not matter."""
    random = np.random.default_rng(length)
    half = draw("bits", (4 * length,), 7)
    half = half[np.isfinite(half)][:length]
    a = np.concatenate([half, -half, np.float32([2.0**-149, 1.5])])
    other = np.concatenate([half[::-1], half[::-1], np.float32([2.0**-149, 2.0**-120])])
    order = random.permutation(a.size)
    exact = Accumulator(kind="exact")
    for chosen in (np.arange(a.size), order):
        found = load(backend).matmul(a[None, chosen], other[chosen, None], accumulator=exact)
        assert found.item() == 1.5 * 2.0**-120


def test_exact_sum_at_midpoints(backend: str) -> None:
    """A midpoint of neighbouring float32 numbers, and that midpoint a very little more and less."""
    rest = [0.0, 2.0**-298, -(2.0**-298)]
    for expected, terms in (
        ((1.0, 1 + 2.0**-23, 1.0), (1.0, 2.0**-24)),
        ((1 + 2.0**-22, 1 + 2.0**-22, 1 + 2.0**-23), (1 + 2.0**-23, 2.0**-24)),
        ((0.0, 2.0**-149, 0.0), (0.0, 2.0**-150)),
        ((np.inf, np.inf, float(np.finfo(np.float32).max)), (float(np.finfo(np.float32).max), 2.0**103)),
    ):
        for small, value in zip(rest, expected, strict=True):
            tiny = math.copysign(2.0**-149, small) if small else 0.0
            split = 2.0**-75 if terms[1] == 2.0**-150 else 1.0
            a, b = np.float32([[terms[0], terms[1] / split, tiny]]), np.float32([[1], [split], [2.0**-149]])
            for sign in (1, -1):
                found = load(backend).matmul(sign * a, b, accumulator=Accumulator(kind="exact")).item()
                assert found == sign * value and (found or not small or math.copysign(1, found) == sign)


def test_exact_sum_keeps_every_digit_below_a_midpoint(backend: str) -> None:
    """2**e * (1 + 2**-24), and 2**(e - distance) more or less, wherever the digits of the sum begin and end."""
    exponents, distances = (grid.ravel() for grid in np.meshgrid(np.arange(32), np.arange(25, 120)))
    a = np.ldexp(np.float32(1), np.stack([exponents, exponents - 24, exponents - distances], axis=1)).astype(np.float32)
    for sign in (1, -1):
        b = np.float32([[1], [1], [sign]])
        found = load(backend).matmul(a, b, accumulator=Accumulator(kind="exact"))
        assert_same(found[:, 0], np.ldexp(np.float32(1 + (sign > 0) * 2.0**-23), exponents), sign)


@pytest.mark.parametrize("format", [name for name in NARROW if FORMATS[name].mantissa_bits >= 7])
def test_narrow_sum_that_float64_would_round_to_a_midpoint(backend: str, format: str) -> None:
    """An odd number, and a 46-bit product a little less than half a quantum: the sum has more than 53 bits."""
    half = 1.0
    odd = 2.0 * half * (2 ** FORMATS[format].mantissa_bits + 1)
    for sign in (1, -1):
        a, b = np.float32([[sign * odd, sign * (1 + 2.0**-23)]]), np.float32([[1], [half - 2.0**-23]])
        for chunk in (None, 64):
            found = load(backend).matmul(a, b, accumulator=Accumulator(format=format, chunk=chunk))
            assert found.item() == sign * odd


def test_fma_of_the_reference_is_exact() -> None:
    """c near -a*b, ties, results that are subnormal or overflow: 1500 of each kind, by the definition."""
    for kind in ("cancellation", "wide", "subnormal", "overflow"):
        a, b, c = (draw(kind, (1500,), seed) for seed in range(3))
        with np.errstate(all="ignore"):
            c[::3] = -(a * b)[::3]
            c[1::3] = (a * b * np.float32(2.0**24))[1::3]
        rows = np.stack([a, b, c], axis=1).tolist()
        expected = [dot([z, x], [1.0, y], Accumulator()) for x, y, z in rows]  # z * 1 + 0, then x * y + that
        assert_same(fma(a, b, c + np.float32(0)), np.float32(expected), kind)


def test_blas_is_near_and_promises_nothing(backend: str) -> None:
    accumulator = Accumulator(kind="blas")
    assert not accumulator.promises_bits
    for case in CONVOLUTIONS[::4]:
        arrays = case.draw("normal")
        exact = all_of(reference_backend, case, arrays, accumulator=Accumulator(kind="exact"))
        for found, near in zip(all_of(load(backend), case, arrays, accumulator=accumulator), exact, strict=True):
            np.testing.assert_allclose(found, near, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="promises no bits"):
        dot([1.0], [1.0], accumulator)


def test_chunk_and_precision_show_in_the_result() -> None:
    a, ones = np.full((1, 600), 0.1, np.float32), np.ones((600, 1), np.float32)
    results = {name(each): matmul(a, ones, each, backend="reference").item() for each in (Accumulator(), *FEW)}
    assert len(set(results.values())) >= 4, results


# -- the public function ------------------------------------------------------------------------------------


def test_public_matmul_widens_and_accepts_any_layout(backend: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="the test extra is not installed")
    a, b = draw("normal", (5, 7), 1), draw("normal", (4, 7), 2)
    expected = reference_backend.matmul(a, np.ascontiguousarray(b.T))
    assert_same(matmul(a, b.T, backend=backend, threads=1), expected)
    for narrow in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn):
        small = a.astype(narrow)
        wide = reference_backend.matmul(small.astype(np.float32), np.ascontiguousarray(b.T))
        assert_same(matmul(small, b.T, backend=backend, threads=1), wide)


def test_public_matmul_refuses_what_it_cannot_do() -> None:
    a = np.ones((2, 3), np.float32)
    for wrong, error, message in (
        ((a, a), ValueError, r"\(2, 3\) by \(2, 3\)"),
        ((a, a[0]), ValueError, r"b has shape \(3,\)"),
        ((a.astype(np.float64), a.T), TypeError, "a is float64"),
        ((a, np.ones((3, 1), int)), TypeError, "b is int64"),
        ((a, a.T, 64), TypeError, "accumulator must be an Accumulator, such as .*, or its text, .* got 64"),
        ((a, a.T, "hoper_float16"), ValueError, "hoper_float16"),
    ):
        with pytest.raises(error, match=message):
            matmul(*wrong, backend="reference")
    with pytest.raises(ValueError, match="threads"):
        matmul(a, a.T, backend="reference", threads=0)


def test_accumulator_formats_have_a_sign_a_zero_and_fit_float32() -> None:
    for format in ("float8_e8m0fnu", "float64"):
        with pytest.raises(ValueError, match=format):
            Accumulator(format=format)
