"""Aligned and pairwise accumulators: the definition against sums of integers, every backend against the definition."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from contractions import CONVOLUTIONS, KINDS, all_of, assert_same, define, draw
from oracles import fraction as oracle

import reference_models
from mpsim import Trainer
from mpsim.contraction import matmul
from mpsim.formats import as_format
from mpsim.kernels import load
from mpsim.kernels import reference as reference_backend
from mpsim.kernels.spec_dot import dot
from mpsim.products.accumulators import Accumulator

PLAIN = Accumulator(kind="aligned", chunk=None, rounding="toward_zero")
ALIGNED = (
    PLAIN,
    replace(PLAIN, terms=4, fraction_bits=23),
    replace(PLAIN, terms=32, fraction_bits=13, format="fp_8_13_0", inputs="float8_e4m3fn"),
    replace(PLAIN, terms=32, fraction_bits=13, format="fp_8_13_0", chunk=64),
    replace(PLAIN, terms=8, rounding="nearest_even", format="float16", inputs="float16", chunk=20),
    replace(PLAIN, terms=4, inputs="tf32"),
    replace(PLAIN, terms=64, fraction_bits=35, inputs="float4_e2m1fn"),
    replace(PLAIN, terms=1, fraction_bits=30, rounding="nearest_even"),
    replace(PLAIN, terms=8, fraction_bits=1, format="float8_e4m3fn", chunk=3),
    replace(PLAIN, terms=4, format="float16", rounding="nearest_even", inputs="float16", least_alignment=-21),
    replace(PLAIN, terms=4, fraction_bits=25, least_alignment=None),
    replace(PLAIN, terms=8, fraction_bits=13, least_alignment=-3),
    replace(PLAIN, terms=16, fraction_bits=13, format="fp_8_13_0", inputs="float8_e4m3fn/float8_e5m2"),
    replace(PLAIN, terms=8, fraction_bits=8, least_alignment=None, inputs="float16/float32", chunk=20),
)
PAIRWISE = (
    Accumulator(kind="pairwise", chunk=1),
    Accumulator(kind="pairwise", chunk=4, fma=False),
    Accumulator(kind="pairwise", chunk=16),
)


def name(accumulator: Accumulator) -> str:
    fields = (accumulator.kind, accumulator.format, accumulator.chunk, accumulator.terms, accumulator.fraction_bits)
    return "-".join(map(str, (*fields, accumulator.least_alignment, accumulator.inputs)))


def parts(x: float, mantissa_bits: int) -> tuple[int, int]:
    """x = integer * 2**(exponent - 23) from float32's bits, cut to its highest bits."""
    (bits,) = struct.unpack("<I", struct.pack("<f", x))
    integer, exponent = bits & 0x7FFFFF, bits >> 23 & 255
    integer, exponent = (integer | 1 << 23, exponent - 127) if exponent else (integer, -126)
    while integer and integer < 1 << 23:  # a subnormal: its own leading bit
        integer, exponent = integer << 1, exponent - 1
    if bits & 0x7F800000:
        integer = integer >> (23 - mantissa_bits) << (23 - mantissa_bits)
    else:  # float32's subnormals lose the same bits of their word
        integer = integer >> (-126 - exponent) >> (23 - mantissa_bits) << (23 - mantissa_bits) << (-126 - exponent)
    return (-integer if bits >> 31 else integer), exponent


def aligned_by_oracle(a: list[float], b: list[float], accumulator: Accumulator) -> float:
    """One chunk of finite numbers, in integers of 2**-400."""
    left, right, format = map(as_format, (*accumulator.operands, accumulator.format))
    n = accumulator.fraction_bits
    c = 0.0
    for start in range(0, len(a), accumulator.terms):
        addends = []
        for x, y in zip(a[start : start + accumulator.terms], b[start : start + accumulator.terms], strict=True):
            (p, e), (q, f) = parts(x, left.mantissa_bits), parts(y, right.mantissa_bits)
            if p and q:
                scale = max(e, left.min_exponent) + max(f, right.min_exponent)
                addends.append((p * q << (e + f - 46 + 400), scale))
        if c:
            p, e = parts(c, 23)
            addends.append((p << (e - 23 + 400), max(e, format.min_exponent)))
        least = [] if accumulator.least_alignment is None else [accumulator.least_alignment]
        place = max([*least, *(scale for _, scale in addends)], default=0) - n + 400
        total = sum((abs(value) >> place << place) * (1 if value > 0 else -1) for value, _ in addends)
        mode = accumulator.rounding
        magnitude = oracle.round_magnitude(abs(Fraction(total, 1 << 400)), total < 0, format, mode) if total else 0
        if magnitude > oracle.largest(format):
            return np.inf
        c = -float(magnitude) if total < 0 and magnitude else float(magnitude)
    return c


@pytest.mark.parametrize("accumulator", ALIGNED, ids=name)
@pytest.mark.parametrize("kind", ("normal", "cancellation", "subnormal", "wide"))
def test_definition_is_the_sum_in_integers(accumulator: Accumulator, kind: str) -> None:
    chunk = accumulator.chunk or 70
    for length in (1, 5, 70):
        for a, b in zip(draw(kind, (3, length), 1).tolist(), draw(kind, (3, length), 2).tolist(), strict=True):
            sums = [aligned_by_oracle(a[i : i + chunk], b[i : i + chunk], accumulator) for i in range(0, length, chunk)]
            if np.isfinite(sums).all():
                expected = np.float32(sums[0])
                for sum in sums[1:]:
                    expected = expected + np.float32(sum)
                assert dot(a, b, accumulator) == expected


def test_an_instruction_by_hand() -> None:
    """Terms below the quantum vanish one by one; what remains is cut, not rounded; the order within does not count."""
    model = replace(PLAIN, terms=4, fraction_bits=24)
    ones = [1.0] * 4
    assert dot([2.0**24, 0.75, 0.75, 0.75], ones, model) == 2**24
    assert dot([2.0**23, 0.75, 0.75, 0.75], ones, replace(model, format="fp_8_23_0")) == 2**23 + 1  # 3 * 0.5, cut
    assert dot([-(2.0**24), 1.0, 2.0**24, 1.0], ones, model) == 2
    assert dot([-(2.0**25), 1.0, 2.0**25, 1.0], ones, model) == 0
    assert dot([1.0, 2.0**-23, 2.0**-24, 2.0**-25], ones, model) == 1 + 2.0**-23
    assert dot([-1.0, -(2.0**-23), -(2.0**-24), 0.0], ones, model) == -(1 + 2.0**-23)
    assert dot([1.5, 2.0**-24], [1.5, 1.0], model) == 2.25  # the exponent of 1.5 * 1.5 is 0: 2**-24 is kept, then cut
    assert dot([1.5, -(2.0**-24)], [1.5, 1.0], model) == 2.25 - 2.0**-22


def test_subnormal_operands_have_the_exponent_of_the_smallest_normal_one() -> None:
    tiny = 2.0**-9  # float8_e4m3fn: subnormal, exponent -6
    model = replace(PLAIN, terms=2, fraction_bits=13, format="fp_8_13_0")
    a, b = [tiny, 2.0**-6], [2.0**8, 2.0**-6]
    assert dot(a, b, model) == 0.5 + 2.0**-12
    assert dot(a, b, replace(model, inputs="float8_e4m3fn")) == 0.5
    assert dot([1 + 2.0**-11], [1.0], replace(PLAIN, inputs="tf32")) == 1


def test_terms_are_aligned_to_an_exponent_of_at_least_minus_133(backend: str) -> None:
    """As measured on an H200 (docs/hardware.md): 511 * 2**-158 + 2**-158 is 2**-149 if no bit is cut off before."""
    a, b = np.float32([[511 * 2.0**-79, 2.0**-79]]), np.full((2, 1), 2.0**-79, np.float32)
    for bits, expected in ((24, 0.0), (25, 2.0**-149), (26, 2.0**-149)):
        model = replace(PLAIN, terms=2, fraction_bits=bits)
        assert dot(a[0].tolist(), b[:, 0].tolist(), model) == expected
        assert load(backend).matmul(a, b, accumulator=model).item() == expected


def test_a_sum_that_rounds_to_zero_is_positive(backend: str) -> None:
    a, b = np.float32([[-(2.0**-80), -(2.0**-90)]]), np.full((2, 1), 2.0**-80, np.float32)
    for model in (PLAIN, replace(PLAIN, rounding="nearest_even"), replace(PLAIN, format="float16", chunk=1)):
        for result in (
            load(backend).matmul(a, b, accumulator=model).item(),
            dot(*np.concatenate([a, b.T]).tolist(), model),
        ):
            assert (result, np.signbit(result)) == (0, False)


def test_two_formats_are_those_of_the_first_and_of_the_second_argument(backend: str) -> None:
    """1 + 2**-3 loses its last bit in float8_e5m2 only, and 1 + 2**-10 loses nothing in float16."""
    mixed = replace(PLAIN, inputs="float16/float8_e5m2")
    kernels, place = load(backend), ((1, 1), (0, 0), 1)
    one = (1, 1, 1, 1)
    for first, second, expected in ((1 + 2.0**-10, 1.125, 1 + 2.0**-10), (1.125, 1 + 2.0**-10, 1.125)):
        x, y = (np.full(one, value, np.float32) for value in (first, second))
        assert dot([first], [second], mixed) == expected
        for model in (mixed, mixed.product):
            assert kernels.matmul(x[0, 0], y[0, 0], accumulator=model).item() == expected
            assert kernels.conv2d(x, y, None, *place, accumulator=model).item() == expected
            assert kernels.conv2d_input_gradient(x, y, one, *place, accumulator=model).item() == expected
            assert kernels.conv2d_weight_gradient(x, y, one, *place, accumulator=model).item() == expected


def test_each_operand_has_the_least_exponent_of_its_own_format(backend: str) -> None:
    """2**-9 is subnormal in float8_e4m3fn, where its exponent is -6, and normal in float8_e5m2."""
    model = replace(PLAIN, terms=2, fraction_bits=13, format="fp_8_13_0", inputs="float8_e4m3fn/float8_e5m2")
    a, b = np.float32([[2.0**-9, 2.0**-6]]), np.float32([[2.0**8], [2.0**-6]])
    for left, right, expected in ((a, b, 0.5), (b.T, a.T, 0.5 + 2.0**-12)):  # the largest exponent is 2, or -1
        assert dot(left[0].tolist(), right[:, 0].tolist(), model) == expected
        assert load(backend).matmul(left, right, accumulator=model).item() == expected


def test_promotion_adds_in_float32() -> None:
    model = replace(PLAIN, terms=2, fraction_bits=13, format="fp_8_13_0")
    a, ones = [2.0**14, 0.0, 1.0, 1.0], [1.0] * 4
    assert dot(a, ones, model) == 2**14 and dot(a, ones, replace(model, chunk=2)) == 2**14 + 2


def test_pairs_are_neighbours_and_the_odd_one_waits() -> None:
    big, ones = 2.0**25, [1.0] * 5
    model = Accumulator(kind="pairwise", chunk=1)
    assert dot([big, 1.0, -big, 1.0, 1.0], ones, model) == 1  # only the odd one is left
    assert dot([1.0, 1.0, big, -big, 1.0], ones, model) == 3
    assert dot([big, -big, 1.0, 1.0, 1.0], ones, model) == 3
    assert dot([big, 1.0, 1.0, 1.0, -big], ones, model) == 0  # 2**25 + 2 is a tie
    assert dot([1.0, 1.0, 1.0, 1.0, big], ones, model) == 2**25 + 4


@pytest.mark.parametrize("accumulator", (*ALIGNED, *PAIRWISE), ids=name)
def test_matmul_is_the_definition(backend: str, accumulator: Accumulator) -> None:
    for kind in KINDS:
        for length in (0, 1, 67):
            a, b = draw(kind, (2, length), 1), draw(kind, (length, 2), 2)
            expected = np.array([[define(zip(row, column, strict=True), accumulator) for column in b.T] for row in a])
            assert_same(load(backend).matmul(a, b, accumulator=accumulator), expected, (kind, length))


@pytest.mark.parametrize("accumulator", (*ALIGNED, *PAIRWISE), ids=name)
def test_matmul_in_every_variant(accumulator: Accumulator) -> None:
    kernels = pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
    for kind in ("specials", "bits", "cancellation", "overflow"):
        a, b = draw(kind, (3, 270), 1), draw(kind, (270, 37), 2)
        expected = reference_backend.matmul(a, b, accumulator=accumulator)
        try:
            for variant in kernels.variants():
                kernels.force_variant(variant)
                for threads in (1, 2) if accumulator.kind == "aligned" else (1,):
                    found = load("compiled").matmul(a, b, accumulator=accumulator, threads=threads)
                    assert_same(found, expected, (kind, variant, threads))
        finally:
            kernels.force_variant(None)


@pytest.mark.parametrize("accumulator", (ALIGNED[3], ALIGNED[-2], PAIRWISE[1]), ids=name)
def test_convolutions(backend: str, accumulator: Accumulator) -> None:
    for case in CONVOLUTIONS[::3]:
        arrays = case.draw("specials")
        expected = all_of(reference_backend, case, arrays, accumulator=accumulator)
        for found, wanted in zip(all_of(load(backend), case, arrays, accumulator=accumulator), expected, strict=True):
            assert_same(found, wanted, case)


@pytest.mark.parametrize("backend", ("reference", "numba", "compiled"))
def test_the_product_that_tells_the_least_alignment_of_float16_sums(backend: str) -> None:
    """-2**-47 beside -2**-25: a tie of float16 where the small term is cut off, beyond one where it is not."""
    a, b = (np.array(codes, np.uint16).view(np.float16) for codes in ([0x8002, 0x8800], [0x0001, 0x0C00]))
    core = replace(PLAIN, terms=16, fraction_bits=25, format="float16", rounding="nearest_even", inputs="float16")
    for least, expected in ((-21, 0x0000), (-22, 0x8001), (-133, 0x8001), (None, 0x8001)):
        model = replace(core, least_alignment=least)
        found = matmul(a[None].astype(np.float32), b[:, None].astype(np.float32), model, backend=backend)
        assert found.astype(np.float16).view(np.uint16).item() == expected, least
        assert np.float16(dot(a.tolist(), b.tolist(), model)).view(np.uint16) == expected, least


def test_training_with_a_tensor_core() -> None:
    digests = set()
    for backend in ("reference", "compiled"):
        model = reference_models.build("small_cnn", width=0.25, classes=10, seed=0)
        trainer = Trainer(model, accumulator=ALIGNED[3], backend=backend, threads=1)
        images = np.random.default_rng(0).standard_normal((4, *model.input_shape)).astype(np.float32)
        trainer.step(images, np.arange(4))
        digests.add(trainer.digest())
    other = Trainer(reference_models.build("small_cnn", width=0.25, classes=10, seed=0), threads=1)
    other.step(images, np.arange(4))
    assert len(digests) == 1 and other.digest() not in digests


def test_what_cannot_be_is_refused() -> None:
    for wrong, message in (
        ({"terms": 0}, "terms"),
        ({"fraction_bits": 0}, "fraction_bits"),
        ({"fraction_bits": 49, "terms": 16}, "more than 53 bits"),
        ({"rounding": "up"}, "rounding 'up'"),
        ({"inputs": "float64"}, "inputs 'float64'"),
        ({"inputs": "float16/float64"}, "inputs 'float64'"),
        ({"inputs": "float16/float16"}, "one format twice"),
        ({"inputs": "float16/tf32/bfloat16"}, "more than two"),
        ({"least_alignment": 200}, "least_alignment"),
        ({"kind": "sequential"}, "nearest even"),
        ({"kind": "pairwise", "rounding": "nearest_even", "format": "float16"}, "float32"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(PLAIN, **wrong)  # type: ignore[arg-type]


def test_the_door_takes_them() -> None:
    a = np.float32([[2**24, 1, -(2**24), 1]])
    assert matmul(a, np.ones((4, 1), np.float32), replace(PLAIN, terms=2), backend="reference").item() == 1
