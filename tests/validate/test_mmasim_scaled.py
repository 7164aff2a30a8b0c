"""Every block-scaled instruction that MMA-Sim 2.1.1 simulates, against the preset of its name, in every bit.

A NaN is equal to any NaN. The rows are those of test_mmasim_presets.py, with scales of each block of k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mmasim_simulators import INPUTS, load, one_thread, padded, scales_tensor
from product_rows import any_codes, rows_of

from mpsim.formats import as_format
from mpsim.kernels.contractions.lowering import of_conv2d
from mpsim.kernels.contractions.rules import steps_of
from mpsim.kernels.contractions.steps import LEFT, RIGHT
from mpsim.kernels.contractions.tables import Reads, Table
from mpsim.kernels.philox import Stream
from mpsim.products.accumulators import in_stages
from mpsim.products.presets import PRESETS
from mpsim.products.stages import AlignedScaled, Product
from mpsim.rounding import decode
from mpsim.validate.dot.subjects import as_inputs, same
from mpsim.validate.subjects.worker import as_array

steps = pytest.importorskip("mpsim.kernels.compiled.steps", reason="mpsim._kernels is not built: 'pip install -e .'")
pytest.importorskip("ml_dtypes", reason="the test extra is not installed")
pytest.importorskip("torch", reason="the peers extra is not installed")
pytest.importorskip("mmasim", reason="the peers extra is not installed")

Array = np.ndarray[Any, Any]
SCALED = [name for name in PRESETS if "_mxf" in name or "_nvfp4" in name]


def forms() -> Iterator[tuple[str, Any]]:
    """(preset that is due, simulator) of every spelling but for m and n."""
    load()
    from mmasim import nv_ptx
    from mmasim.nv_ptx import isa_mma, isa_tcgen05mma

    tables = {
        ("rtx_blackwell_mma_sync", "MMABlockScale"): isa_mma.mma_block_scale_shape_and_type["RTX Blackwell"],
        ("blackwell_tcgen05", "TCGen05MMABlockScale"): isa_tcgen05mma.tcgen05mma_block_scale_shape_and_type[
            "Blackwell"
        ],
    }
    for (instruction, kind), spellings in tables.items():
        seen = set()
        for spelling in spellings:
            if (shape := spelling.partition("n")[2].partition("k")[2]) in seen:
                continue
            seen.add(shape)
            one = getattr(nv_ptx, kind)("Blackwell" if "tcgen05" in instruction else "RTX Blackwell", spelling)
            name = one.kind
            if one.kind == "mxf8f6f4":
                name += "_" + "_".join(dict.fromkeys([INPUTS[one.a_type_ptx], INPUTS[one.b_type_ptx]]))
            elif spelling.endswith("ue4m3") or ".ue4m3" in spelling:
                name = "nvfp4"
            elif one.kind == "mxf4nvf4":
                name += f"_block{one.block_size}"
            yield f"{instruction}_{name}", one


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[str, Any]]:
    with one_thread():
        found = list(forms())
        assert len(found) == len({name for name, _ in found}) == 2 * (25 + 4)
        yield dict(found)


def dots(product: Product, a: Array, b: Array, left: Array, right: Array) -> Array:
    """Dot products of the rows of a with the rows of b, each with its own scales: one grouped convolution of a point,
    whose left factor is the kernel."""
    count, length = a.shape
    c = of_conv2d(b.reshape(1, -1, 1, 1), a.reshape(count, length, 1, 1), (1, 1), (0, 0), count)
    program = steps_of(product, length, frozenset({LEFT, RIGHT}))
    one, rows = np.zeros(1, np.int64), np.arange(count, dtype=np.int64)
    tables = {each: Table(x.reshape(-1), 1, rows * x.shape[1], one, one) for each, x in ((LEFT, left), (RIGHT, right))}
    reads = Reads(tuple(tables[each] for each in program.reads), Stream(0, "sums"))
    return steps.run(c, program, reads, 1).reshape(count)


def numbers_of(name: str) -> Array:
    """The numbers of a format of scales that are not negative, in rising order; the last one is NaN."""
    format = as_format(name)
    codes = np.arange(1 << (format.bits - format.signed), dtype=np.uint8)
    return np.asarray(decode(codes, format)).astype(np.float32)


def any_scales(random: np.random.Generator, name: str, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Scales of both operands: near 1, over the format's whole range, or one for the whole row; NaN is rare."""
    numbers = numbers_of(name)
    middle, found = int(np.searchsorted(numbers[:-1], 1)), []
    spread = random.choice([0, 3, 20, len(numbers)], (shape[0], 1))
    for _ in range(2):
        places = middle + random.integers(-len(numbers), len(numbers) + 1, shape) % (2 * spread + 1) - spread
        x = numbers[np.clip(places, 0, len(numbers) - 2)]
        found.append(np.where(random.random(shape) < 0.001, numbers[-1], x))
    alike = random.random((shape[0], 1)) < 0.4
    return np.where(alike, found[0][:, :1], found[0]), np.where(alike, found[1][:, :1], found[1])


def turning(random: np.random.Generator, product: Product, length: int, count: int = 256) -> tuple[Array, ...]:
    """Rows where the alignment and its least exponent decide: blocks whose large scales align others that are much
    smaller, while their own products cancel; and, for scales that are powers of two, sums near the smallest number."""
    order = product.order
    assert isinstance(order, AlignedScaled)
    blocks = length // order.block
    a, b = (any_codes(random, each.format, (count, length)) for each in (product.left, product.right))
    a, b = np.nan_to_num(a, posinf=1, neginf=-1), np.nan_to_num(b, posinf=1, neginf=-1)
    large = random.random((count, blocks)) < 0.4
    numbers = numbers_of(order.scales)[:-1]
    low, high = (random.integers(0, 12, (2, count, blocks)) for _ in range(2))
    left, right = (np.where(large, numbers[-1 - one], numbers[two]) for one, two in zip(high, low, strict=True))
    cancels = np.repeat(large, order.block, axis=1)
    turn = np.where(np.arange(length) % 2, -1, 1) * np.repeat(np.abs(a[:, ::2]), 2, axis=1)
    a, b = np.where(cancels, turn, a), np.where(cancels, np.repeat(b[:, ::2], 2, axis=1), b)
    few = random.random(a.shape) < random.choice([0.05, 1.0], (count, 1))
    a = np.where(few | cancels, a, 0).astype(np.float32)
    if order.scales == "float8_e8m0fnu":
        left, right = (2.0 ** np.where(large, 10 + one % 4, -13 + one) for one in high)
        half = slice(0, count // 2)
        a[half], b[half] = 0, 0
        grouped = order.group is not None
        exponents = random.integers(-149, -133, (count // 2, blocks))
        for x, operand, sign in ((a, product.left, -1), (b, product.right, 1)):
            format = as_format(operand.format)
            large_number = 1.0 if grouped else 2.0 ** int(np.log2(format.largest))
            exponents -= int(np.log2(large_number))
            span = 2 if grouped else int(np.log2(format.largest / format.smallest)) + 1
            small = format.smallest * 2.0 ** random.integers(0, span, (count // 2, 1))
            x[half, :: order.terms] = large_number  # in the first block of an instruction
            x[half, order.block if grouped else 1 :: order.terms] = sign * small
        if grouped:
            exponents[:, 1 :: order.terms // order.block] = random.integers(-178, -168, (count // 2, 1))
        left[half], right[half] = 2.0 ** (exponents // 2), 2.0 ** (exponents - exponents // 2)
    return a, b.astype(np.float32), left.astype(np.float32), right.astype(np.float32)


def cases(product: Product, length: int, step: int) -> Iterator[tuple[Array, ...]]:
    """Operands and scales; every step-th row of those of other instructions."""
    order, random = product.order, np.random.default_rng(1)
    assert isinstance(order, AlignedScaled)
    for a, b in rows_of(product.left.format, product.right.format, length, -149):
        few = a[::step], b[::step]
        yield *few, *any_scales(random, order.scales, (len(few[0]), length // order.block))
    yield turning(random, product, length)


def results(simulator: Any, product: Product, a: Array, b: Array, left: Array, right: Array) -> Array:
    """What a chain of three instructions gives for each row."""
    import torch

    x, y = (
        padded(as_array(as_inputs(each, operand.format)), simulator.k)
        for each, operand in ((a, product.left), (b, product.right))
    )
    if simulator.packing == 2:  # two codes in a byte
        x, y = ((each[:, ::2] >> 2) << 4 | (each[:, 1::2] >> 2) for each in (x, y))
    order = product.order
    assert isinstance(order, AlignedScaled)
    alpha, beta = (scales_tensor(each, order.scales) for each in (left, right))
    c = torch.zeros(len(a))
    k, blocks = simulator.k // simulator.packing, simulator.k // simulator.block_size
    for i in range(3):
        at, of = slice(i * k, (i + 1) * k), slice(i * blocks, (i + 1) * blocks)
        c = simulator.dpa(*(each[:, at].contiguous() for each in (x, y)), c, alpha[:, of], beta[:, of])
    return np.asarray(c.numpy().astype(np.float64))


def differing(one: list[Any], product: Product, step: int = 8) -> int:
    """How many rows have another result than the product gives, with any of the simulators."""
    wrong = 0
    for a, b, left, right in cases(product, 3 * one[0].k, step):
        expected = dots(product, a, b, left, right).astype(np.float64)
        wrong += sum(int((~same(results(each, product, a, b, left, right), expected)).sum()) for each in one)
    return wrong


INSTRUCTIONS = ("blackwell_tcgen05", "rtx_blackwell_mma_sync")
KINDS = [name.removeprefix("blackwell_tcgen05_") for name in SCALED if name.startswith("blackwell_tcgen05")]


@pytest.mark.parametrize("kind", KINDS)
def test_an_instruction_with_scales_is_its_preset(kind: str, simulators: dict[str, Any]) -> None:
    """Both instructions of a kind have the same description."""
    product, other = (in_stages(PRESETS[f"{each}_{kind}"].summation) for each in INSTRUCTIONS)
    assert product == other
    assert differing([simulators[f"{each}_{kind}"] for each in INSTRUCTIONS], product) == 0


def test_every_form_has_a_preset(simulators: dict[str, Any]) -> None:
    assert sorted(simulators) == sorted(SCALED)


@pytest.mark.parametrize(
    "name,change",
    [
        *(("mxf8f6f4_float8_e4m3fn", change) for change in (
            {"fraction_bits": 24}, {"fraction_bits": 26}, {"least_exponent": -132}, {"least_exponent": -134},
            {"terms": 16},
        )),
        *(("mxf4", change) for change in (
            {"fraction_bits": 34}, {"fraction_bits": 36}, {"least_exponent": -138}, {"least_exponent": -140},
            {"terms": 32}, {"group": None}, {"group": 8}
        )),
        *(("nvfp4", change) for change in (
            {"fraction_bits": 34}, {"fraction_bits": 36}, {"terms": 32}, {"group": None}, {"group": 8},
        )),
    ],
)  # fmt: skip
def test_the_rows_tell_a_neighbour_apart(name: str, change: dict[str, Any], simulators: dict[str, Any]) -> None:
    product = in_stages(PRESETS[f"blackwell_tcgen05_{name}"].summation)
    assert isinstance(product.order, AlignedScaled)
    other = replace(product, order=replace(product.order, **change))
    assert differing([simulators[f"blackwell_tcgen05_{name}"]], other, step=16) > 0
