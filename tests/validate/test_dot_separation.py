"""What distinguishes accumulators: rows made by rule, and proofs that there are no such rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mpsim.formats import FORMATS, as_format
from mpsim.kernels.spec_dot import dot as definition
from mpsim.products.accumulators import Accumulator
from mpsim.products.tensor_cores import TENSOR_CORES, described
from mpsim.products.text import product_of
from mpsim.rounding import encode, round_to
from mpsim.validate.dot.inputs.edges import edge_batches, edge_rows
from mpsim.validate.dot.orders.candidates import beside, distinct
from mpsim.validate.dot.orders.separability import inseparable
from mpsim.validate.dot.orders.separation import adversarial_rows
from mpsim.validate.dot.subjects import Model, same
from mpsim.validate.dot.validation import validate_dot

Array = np.ndarray[Any, Any]
pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")

INPUTS = sorted({row.inputs for row in TENSOR_CORES.values()})


@pytest.mark.parametrize("name", TENSOR_CORES)
def test_neighbours_of_tensor_cores_are_separated_or_proved_inseparable(name: str) -> None:
    row = TENSOR_CORES[name]
    length = 300 if row.promoted else 72
    a, b = edge_rows(as_format(row.inputs), length)
    output = "float16" if row.output == "float16" else "float32"
    found = Model(row.accumulator, output).dots(a, b)
    for other in beside(row.accumulator, row.inputs):
        equal = bool(same(found, Model(other, output).dots(a, b)).all())
        assert equal == bool(inseparable(row.accumulator, other, row.inputs, length)), described(other)


@pytest.mark.parametrize("inputs", [*INPUTS, "float32"])
def test_rows_are_numbers_of_their_format_and_no_row_is_made_by_chance(inputs: str) -> None:
    format = as_format(inputs)
    a, b = edge_rows(format, 40)
    assert a.shape == b.shape and a.shape[1] == 40 and len(a) > 100
    for x in (a, b):
        assert same(x.astype(float), round_to(x, format, backend="reference").astype(float)).all()
        assert format.has_nan or np.isfinite(x).all()
    again = edge_rows(format, 40)
    assert all(np.array_equal(x.view(np.uint32), y.view(np.uint32)) for x, y in zip((a, b), again, strict=True))
    assert [len(x) for x, _ in edge_batches(format, 16)] and edge_rows(format, 16)[0].shape[1] == 16


@pytest.mark.parametrize("name", ["hopper_float16", "ada_float8_e5m2_to_float16", "blackwell_float4_e2m1fn"])
def test_what_is_proved_holds_for_the_definition(name: str) -> None:
    """In Python's integers, on rows that separate others."""
    row, output = TENSOR_CORES[name], "float16" if TENSOR_CORES[name].output == "float16" else "float32"
    a, b = adversarial_rows(as_format(row.inputs), 40, 100, 5)
    alike = [each for each in beside(row.accumulator, row.inputs) if inseparable(row.accumulator, each, row.inputs, 40)]
    assert len(alike) > 3

    def results(accumulator: Accumulator) -> Array:
        found = [definition(x, y, accumulator) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        return np.asarray(round_to(np.float64(found), output, backend="reference"), np.float64)

    expected = results(row.accumulator)
    for each in alike:
        assert same(results(each), expected).all(), described(each)


def test_inseparable_claims_nothing_that_a_row_refutes() -> None:
    """All pairs of accumulators of a grid, of narrow and of wide inputs."""
    for inputs in ("float4_e2m1fn", "float6_e3m2fn", "float8_e5m2", "float16"):
        base = Accumulator(kind="aligned", chunk=None, terms=8, inputs=inputs, rounding="toward_zero")
        grid = [
            replace(base, fraction_bits=bits, least_alignment=least, format=format)
            for bits in (10, 13, 23)
            for least in (None, -133, -21, -10, 0)
            for format in ("float32", "fp_8_10_0", "float16")
        ]
        grid += [Accumulator(kind="exact"), Accumulator(chunk=None), Accumulator(kind="pairwise", chunk=1)]
        a, b = edge_rows(as_format(inputs), 40)
        results = [Model(each).dots(a, b) for each in grid]
        for i, one in enumerate(grid):
            for j, other in enumerate(grid[:i]):
                if inseparable(one, other, inputs, 40):
                    assert same(results[i], results[j]).all(), (described(one), described(other))


def test_the_row_that_decides_between_least_alignments_of_float16_sums() -> None:
    """docs/hardware.md: -2**-47 is lost beside -2**-25 with -21, and turns the tie with -133."""
    codes = np.zeros((2, 16), np.uint16)
    codes[0, :2], codes[1, :2] = (0x8002, 0x8800), (0x0001, 0x0C00)
    a, b = codes.view(np.float16).astype(float).tolist()
    hopper = TENSOR_CORES["hopper_float16_to_float16"].accumulator
    for least, expected in ((-21, 0x0000), (-133, 0x8001)):
        result = definition(a, b, replace(hopper, least_alignment=least))
        assert int(encode(np.float32(result), FORMATS["float16"])) == expected


def test_float4_sums_in_float16_are_not_called_exact() -> None:
    """Few terms of float4 never have to be rounded; many do."""
    row = TENSOR_CORES["blackwell_float4_e2m1fn_to_float16"]
    report = validate_dot(row.accumulator, inputs=row.inputs, length=72)
    found = [match.accumulator for match in report.matches]
    assert row.accumulator in found
    assert {(each.kind, each.format, each.terms, each.rounding) for each in found} == {
        ("aligned", "float16", 32, "nearest_even")
    }


def test_float6_sums_that_float32_has_to_round_are_told_apart() -> None:
    row = TENSOR_CORES["blackwell_float6_e3m2fn"]
    report = validate_dot(row.accumulator, inputs=row.inputs, length=520)
    found = [match.accumulator for match in report.matches]
    assert row.accumulator in found
    assert {replace(each, least_alignment=-133) for each in found} == {row.accumulator}


IN_PARTS = "product(operand(bfloat16, nearest_even, parts=2), operand(bfloat16, nearest_even, parts=2), order=rising()"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("product(order=alignedlate(8, 24))", "product(order=alignedlate(8, 23))"),
        ("product(order=alignedlate(8, 24, 31))", "product(order=alignedlate(8, 24, 30))"),
        (f"{IN_PARTS}, parts=parts(((1, 0), (0, 0))))", f"{IN_PARTS}, parts=parts(((0, 1), (0, 0))))"),
    ],
)
def test_descriptions_with_other_instructions_or_parts_are_not_the_same(one: str, other: str) -> None:
    """Their steps are the same, but not what a step computes."""
    products = [product_of(each) for each in (one, other, one)]
    assert distinct(products, 64) == products[:2]


def test_what_computes_the_same_is_compared_once() -> None:
    """An order with another part for more terms than are compared."""
    same_sums = [product_of(each) for each in ("rising()", "upto(1000, rising(), pairwise())")]
    assert distinct([*same_sums, product_of("pairwise()")], 64) == [same_sums[0], product_of("pairwise()")]
