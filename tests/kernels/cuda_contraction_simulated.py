"""Contractions and pooling of the 'cuda' backend against the reference, bit for bit, in the CUDA simulator.

test_cuda_contraction.py runs this file. The simulator takes some 40 microseconds for a product in a tile, where threads
wait for each other, and 15 where each has an output: shapes are small.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from contractions import CONVOLUTIONS, KINDS, Convolution, all_of, assert_same, draw
from samples import SLOW

from mpsim.kernels import reference
from mpsim.kernels.contractions.lowering import (
    of_conv2d,
    of_conv2d_input_gradient,
    of_conv2d_weight_gradient,
    of_matmul,
)
from mpsim.kernels.cuda.chunks.accumulators import summation
from mpsim.kernels.cuda.contraction import functions, launches
from mpsim.kernels.cuda.contraction.plan import Form, Plan, Tile
from mpsim.kernels.cuda.contraction.tables import tables_of
from mpsim.kernels.cuda.contraction.tile import tile_kernel
from mpsim.kernels.cuda.device.arrays import from_numpy, to_numpy
from mpsim.kernels.cuda.layers import pooling
from mpsim.products.accumulators import Accumulator

Array = np.ndarray[Any, Any]
DEFAULT = Accumulator()
PLAIN = Accumulator(kind="aligned", chunk=None, rounding="toward_zero")
OTHERS = (
    Accumulator(chunk=None),
    Accumulator(chunk=7),
    Accumulator(chunk=1, fma=False),
    Accumulator(format="fp_6_9_0", chunk=8),
    Accumulator(format="float16", chunk=None),
    Accumulator(format="float8_e4m3fnuz", chunk=5),
    Accumulator(kind="exact"),
    Accumulator(kind="pairwise", chunk=3),
    Accumulator(kind="pairwise", chunk=8, fma=False),
    Accumulator(kind="pairwise", chunk=None),
    PLAIN,
    replace(PLAIN, terms=4, fraction_bits=23, chunk=6),
    replace(PLAIN, terms=32, fraction_bits=13, format="fp_8_13_0", inputs="float8_e4m3fn"),
    replace(PLAIN, terms=8, rounding="nearest_even", format="float16", inputs="float16", chunk=20),
    replace(PLAIN, terms=8, fraction_bits=1, format="float8_e4m3fn", chunk=3, least_alignment=-3),
)
TILE = Tile(8, 8, 4, 4, 4, 2, 2)
#: Threads beside and below each other, runs of rows and columns, pieces of more and of fewer lines than threads.
TILES = (
    TILE,
    Tile(4, 8, 4, 2, 4, 1, 4),
    Tile(16, 4, 4, 4, 4, 4, 1),
    Tile(4, 4, 8, 2, 1, 2, 1),
    Tile(2, 16, 4, 1, 8, 1, 2),
)
#: Remainders that meet one, two, all, or no elements of the kernel; images cut off; groups.
STRIDED = (
    Convolution(1, 2, 7, 4, 4, (3, 3), (2, 2), (1, 1)),
    Convolution(2, 2, 5, 4, 2, (1, 2), (2, 3), (0, 1)),
    Convolution(1, 4, 4, 5, 4, (3, 1), (2, 1), (3, 0), 2),
)


class Cuda:
    """The kernels, with NumPy's arrays."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(pooling if "pool" in name else functions, name)

        def run(*arguments: Any, **keywords: Any) -> Any:
            moved = [from_numpy(x) if isinstance(x, np.ndarray) else x for x in arguments]
            named = {key: from_numpy(x) if isinstance(x, np.ndarray) else x for key, x in keywords.items()}
            result = function(*moved, **named)
            return tuple(map(to_numpy, result)) if isinstance(result, tuple) else to_numpy(result)

        return run


cuda = Cuda()


def share_out(monkeypatch: pytest.MonkeyPatch, plan: Plan, workspace: int = 1 << 20) -> None:
    """Contractions go this way."""
    monkeypatch.setattr(launches, "plan", lambda *_: plan)
    monkeypatch.setattr(launches, "WORKSPACE", workspace)


@pytest.mark.parametrize("kind", KINDS)
def test_matmul(kind: str) -> None:
    for rows, length, columns in ((1, 1, 1), (5, 0, 3), (9, 5, 10), (3, 300, 2), (0, 3, 2)):
        a, b, bias = draw(kind, (rows, length), 1), draw(kind, (length, columns), 2), draw(kind, (columns,), 3)
        assert_same(cuda.matmul(a, b, bias=bias), reference.matmul(a, b, bias=bias), (rows, length, columns))


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles(monkeypatch: pytest.MonkeyPatch, tile: Tile) -> None:
    """In every form: several tiles and parts of tiles, pieces along k or not, chunks that end in a step."""
    for number, accumulator in enumerate((DEFAULT, Accumulator(chunk=6), Accumulator(chunk=6, fma=False))):
        every = ((False, False), (True, True), (number == 0, number > 0))
        for transposes in every if SLOW else every[number : number + 1]:
            a, b = (9, 7) if transposes[0] else (7, 9), (11, 9) if transposes[1] else (9, 11)
            left, right = draw("specials", a, 1), draw("specials", b, 2)
            share_out(monkeypatch, Plan(tile, number == 1, False))
            expected = reference.matmul(left, right, *transposes, accumulator=accumulator)
            assert_same(cuda.matmul(left, right, *transposes, accumulator=accumulator), expected, (transposes, number))


def test_steps_change_no_zero() -> None:
    """A sum of -0 stays so where a step has fewer k than it has room for, and a total of one chunk is its sum."""
    a, b = np.full((8, 1), -1e-30, np.float32), np.full((1, 8), 1e-30, np.float32)
    for accumulator in (DEFAULT, Accumulator(fma=False)):
        expected = reference.matmul(a, b, accumulator=accumulator)
        assert np.signbit(expected).all() == accumulator.fma and not expected.any()
        assert_same(cuda.matmul(a, b, accumulator=accumulator), expected)


@pytest.mark.parametrize("tile", (TILE, None), ids=str)
@pytest.mark.parametrize("workspace", (1, 1000, 1 << 20))
def test_chunks_side_by_side(monkeypatch: pytest.MonkeyPatch, tile: Tile | None, workspace: int) -> None:
    """Each in a block of its own, all of them or some at a time."""
    share_out(monkeypatch, Plan(tile, False, True), workspace)
    a, b = draw("normal", (5, 33), 1), draw("normal", (33, 6), 2)
    for accumulator in (Accumulator(chunk=6), Accumulator(kind="pairwise", chunk=6), Accumulator(chunk=16, fma=False)):
        assert_same(
            cuda.matmul(a, b, accumulator=accumulator), reference.matmul(a, b, accumulator=accumulator), accumulator
        )


@pytest.mark.parametrize("accumulator", OTHERS, ids=str)
@pytest.mark.parametrize("split", (False, True))
def test_accumulators(monkeypatch: pytest.MonkeyPatch, accumulator: Accumulator, split: bool) -> None:
    share_out(monkeypatch, Plan(None, False, split), 200)
    kinds, first = ("cancellation", "bits", "specials", "subnormal", "overflow"), OTHERS.index(accumulator)
    for kind in kinds if SLOW else (kinds[(first + split) % 5], kinds[(first + split + 2) % 5]):
        a, b = draw(kind, (3, 33), 1), draw(kind, (33, 5), 2)
        assert_same(cuda.matmul(a, b, accumulator=accumulator), reference.matmul(a, b, accumulator=accumulator), kind)
    if split:
        return
    case = CONVOLUTIONS[12]
    arrays = case.draw("specials")
    expected = all_of(reference, case, arrays, accumulator=accumulator)
    for found, array in zip(all_of(cuda, case, arrays, accumulator=accumulator), expected, strict=True):
        assert_same(found, array, case)


@pytest.mark.parametrize("number", (0, 2, 4, 5, 7, 8, 10, 12, 13, 14) if SLOW else (2, 4, 5, 7, 12, 13))
def test_convolutions(number: int) -> None:
    """Strides, padding, also more than the kernel's size less one, groups, depthwise, kernels beyond the image."""
    case = CONVOLUTIONS[number]
    kind = ("normal", "specials", "bits", "subnormal")[number % 4]
    arrays, bias = case.draw(kind), draw(kind, (case.outputs,), 4)
    expected = all_of(reference, case, arrays, bias)
    for which, found in enumerate(all_of(cuda, case, arrays, bias)):
        assert_same(found, expected[which], (kind, which))


def test_few_weights_and_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """k of the weight gradient crosses two chunks."""
    share_out(monkeypatch, Plan(None, False, True))
    case = CONVOLUTIONS[15]
    x, w, gy = case.draw("normal")
    arguments = (x, gy, w.shape, case.stride, case.padding, case.groups)
    assert_same(cuda.conv2d_weight_gradient(*arguments), reference.conv2d_weight_gradient(*arguments))


@pytest.mark.parametrize("accumulator", (DEFAULT, Accumulator(chunk=4), Accumulator(chunk=None, fma=False)), ids=str)
@pytest.mark.parametrize("stride", ((1, 1), (2, 3)))
def test_depthwise(monkeypatch: pytest.MonkeyPatch, accumulator: Accumulator, stride: tuple[int, int]) -> None:
    """In one chunk a kernel of its own, else the general one."""
    share_out(monkeypatch, Plan(None, False, False))
    case = Convolution(2, 3, 6, 5, 3, (3, 2), stride, (1, 2), 3)
    for kind in ("specials", "subnormal"):
        arrays = case.draw(kind)
        expected = all_of(reference, case, arrays, accumulator=accumulator)
        for which, found in enumerate(all_of(cuda, case, arrays, accumulator=accumulator)):
            assert_same(found, expected[which], (kind, which))


def test_negative_zero_meets_the_zeros_of_dilation() -> None:
    """A product that underflows to -0 becomes +0 when a later zero of the dilation takes part."""
    for channels in (1, 2):
        gy, w = np.full((1, channels, 2, 2), -1e-30, np.float32), np.full((channels, 1, 3, 3), 1e-30, np.float32)
        arguments = (gy, w, (1, channels, 5, 5), (2, 2), (0, 0), channels)
        expected = reference.conv2d_input_gradient(*arguments)
        assert not expected.any() and 0 < np.signbit(expected).sum() < expected.size
        assert_same(cuda.conv2d_input_gradient(*arguments), expected)


def test_pieces_lie_together_in_memory() -> None:
    """Whether neighbours along k do, on the left and on the right, or else rows and columns."""
    x, w, y = (2, 3, 8, 8), (5, 3, 3, 3), (2, 5, 8, 8)
    geometry = ((1, 1), (1, 1), 1)
    assert tables_of(of_matmul, (9, 9), (9, 9), False, False).form == (True, False, False)
    assert tables_of(of_matmul, (9, 9), (9, 9), True, True).form == (False, True, False)
    assert tables_of(of_conv2d, x, w, *geometry).form == (True, False, False)
    assert tables_of(of_conv2d_input_gradient, y, w, x, *geometry).form == (True, False, False)
    assert tables_of(of_conv2d_weight_gradient, x, y, w, *geometry).form == (True, True, False)


def test_offsets_of_64_bits() -> None:
    a, b = draw("normal", (5, 6), 1), draw("normal", (6, 9), 2)
    tables = tables_of(of_matmul, a.shape, b.shape, False, False)
    assert to_numpy(tables.left[1]).dtype == np.int32 and not tables.form[2]
    left, right, out = (
        tuple(from_numpy(to_numpy(table).astype(np.int64)) for table in three)
        for three in (tables.left, tables.right, tables.out)
    )
    wide = replace(tables, left=left, right=right, out=out, form=(True, False, True))
    found = to_numpy(launches.contract(wide, from_numpy(a), from_numpy(b), summation(DEFAULT)))
    assert_same(found, reference.matmul(a, b))


def test_what_has_no_order() -> None:
    a, b = draw("normal", (3, 20), 1), draw("normal", (20, 2), 2)
    near = reference.matmul(a, b, accumulator=Accumulator(kind="exact"))
    found = cuda.matmul(a, b, accumulator=Accumulator(kind="blas"))
    assert np.abs(found - near).max() < 1e-5
    with pytest.raises(TypeError, match='got float64 and float64. For gradient checks .* backend="reference"'):
        cuda.matmul(a.astype(np.float64), b.astype(np.float64))
    with pytest.raises(AssertionError):  # a step that threads cannot share
        tile_kernel(Tile(8, 8, 8, 4, 4, 2, 2), Form(True, True, True, False))


POOLINGS = ("max_pool2d", "max_pool2d_gradient", "avg_pool2d", "avg_pool2d_gradient")


def test_average_of_more_than_a_block() -> None:
    """The other cases of kernel_cases are among those of cuda_simulated.py."""
    x = draw("normal", (1, 1, 67, 65))
    assert_same(cuda.avg_pool2d(x, (66, 65), (1, 1), (0, 0)), reference.avg_pool2d(x, (66, 65), (1, 1), (0, 0)))


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_of_nothing(name: str) -> None:
    empty = np.empty((0, 2, 4, 4), np.float32)
    arguments: dict[str, tuple[Any, ...]] = {
        "max_pool2d": (empty, (2, 2), (2, 2), (0, 0)),
        "max_pool2d_gradient": (empty[:, :, :2, :2], np.empty((0, 2, 2, 2), np.int32), empty.shape),
        "avg_pool2d": (empty, (2, 2), (2, 2), (0, 0)),
        "avg_pool2d_gradient": (empty[:, :, :2, :2], empty.shape, (2, 2), (2, 2), (0, 0)),
    }
    found = getattr(cuda, name)(*arguments[name])
    assert (found[0] if name == "max_pool2d" else found).size == 0


@pytest.mark.parametrize("accumulator", (DEFAULT, Accumulator(chunk=10), Accumulator(chunk=7, fma=False)), ids=str)
@pytest.mark.parametrize("case", STRIDED, ids=str)
def test_strided_input_gradient(case: Convolution, accumulator: Accumulator) -> None:
    """In phases: chunks that lose some or all of their elements, places that get none, weights that are not finite."""
    for kind in ("subnormal", "specials") if SLOW else ("specials",):
        _, w, gy = case.draw(kind)
        for weights in (w, np.where(np.isfinite(w), w, np.float32(1))):
            arguments = (gy, weights, case.x_shape, case.stride, case.padding, case.groups)
            expected = reference.conv2d_input_gradient(*arguments, accumulator=accumulator)
            assert_same(cuda.conv2d_input_gradient(*arguments, accumulator=accumulator), expected, kind)


@pytest.mark.parametrize("accumulator", (Accumulator(chunk=10), Accumulator(fma=False)), ids=str)
def test_strided_input_gradient_with_an_infinite_weight(accumulator: Accumulator) -> None:
    """Every element is summed again; the other channel's are ordinary numbers."""
    case = STRIDED[0]
    _, w, gy = case.draw("normal")
    w[0, 0, 1, 1] = np.inf
    arguments = (gy, w, case.x_shape, case.stride, case.padding, case.groups)
    expected = reference.conv2d_input_gradient(*arguments, accumulator=accumulator)
    assert not np.isfinite(expected[:, 0]).any() and np.isfinite(expected[:, 1]).all()
    assert_same(cuda.conv2d_input_gradient(*arguments, accumulator=accumulator), expected)
