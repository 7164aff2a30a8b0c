"""Runs quantisers in stages on arrays: rotation, second scale, groups, codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.blocks.engine import Engine, F, Groups, Second
from mpsim.blocks.fast import is_fast, largest_of_groups, quantized
from mpsim.blocks.grids import Grid
from mpsim.blocks.quantized import Quantized
from mpsim.blocks.quantizers.elements import Integer
from mpsim.blocks.quantizers.groups import Row
from mpsim.blocks.quantizers.stages import Hadamard, Quantizer
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import FORMATS
from mpsim.interchange import as_array
from mpsim.kernels import philox
from mpsim.kernels.contract import Array
from mpsim.rounding import Counts, Stream, encode, round_to


@dataclass(frozen=True)
class Given:
    """What the caller passes in place of what follows from the array: statistics, a second scale, random words."""

    statistic: ArrayLike | None = None
    tensor_scale: ArrayLike | None = None
    random_bits: Array | Stream | None = None


def quantize_array(
    x: ArrayLike, quantizer: Quantizer, axis: int, given: Given, backend: str, threads: int | None
) -> tuple[Quantized, Counts]:
    """Returns x as codes and scales, and the counts of the quotients as they were rounded."""
    x, axis = checked(x, axis)
    _check_source(x, quantizer)
    engine = Engine(quantizer, backend, threads)
    if given.statistic is None and given.random_bits is None and is_fast(engine, x):
        found = _quantized_fast(np.require(x, None, ["C", "A"]), axis, engine, given.tensor_scale)
        if found is not None:
            return found
    with np.errstate(invalid="ignore"):  # a signaling NaN
        wide = x.astype(np.float64)
    bits = given.random_bits
    if isinstance(bits, Stream):
        bits = philox.random_bits(bits, wide.size).reshape(wide.shape)
    bits = None if bits is None else as_array(bits)
    if bits is not None and (bits.dtype != np.uint32 or bits.shape != wide.shape):
        raise UsageError(f"random_bits must be uint32 of x's shape {wide.shape}, got {bits.dtype} of {bits.shape}")
    if quantizer.rotation is not None:
        wide = rotated(wide, quantizer.rotation, axis, backend)
    grid = Grid(wide.shape, axis, quantizer.group)
    with np.errstate(all="ignore"):
        second = _second(lambda of_rows: grid.largest(wide, of_rows), engine, given.tensor_scale)
        statistic = _statistic(grid, quantizer, given.statistic)
        groups = engine.run(grid.split(wide), second, statistic, None if bits is None else grid.split(bits))
    return _coded(groups, second, grid, engine), _counts(groups.counts, wide)


def _quantized_fast(
    x: Array, axis: int, engine: Engine, tensor_scale: ArrayLike | None
) -> tuple[Quantized, Counts] | None:
    """The same for a float32 array by the kernels of groups, None where they cannot."""
    grid, threads = Grid(x.shape, axis, engine.quantizer.group), checks.threads(engine.threads)
    groups = np.ascontiguousarray(grid.split(x))
    with np.errstate(all="ignore"):
        found, whole = largest_of_groups(groups, grid, x, engine.backend, threads)
        second = _second(lambda of_rows: whole, engine, tensor_scale)
        coded = quantized(engine, groups, found, second, threads)
    if coded is None:
        return None
    scales = grid.join_scales(encode(coded.scales, engine.quantizer.scale.format, backend=engine.backend))
    counts = coded.counts if np.isfinite(found).all() else _counts(coded.counts, x)
    return _assembled(grid.join(coded.codes), scales, None, second, grid, engine), counts


def checked(x: ArrayLike, axis: int) -> tuple[Array, int]:
    """Returns x as an array of a float format, and the non-negative axis."""
    array = as_array(x)
    if array.dtype.name not in FORMATS:
        raise UsageTypeError(f"x must be float32, float64, float16 or an ml_dtypes float type, got {array.dtype}")
    if array.ndim == 0:
        raise UsageError(f"x needs an axis for the blocks, got shape {array.shape}; pass an array")
    axis = checks.whole("axis", axis, least=-array.ndim, most=array.ndim - 1, note=f" for x of shape {array.shape}")
    return array, axis % array.ndim


def _check_source(x: Array, quantizer: Quantizer) -> None:
    if quantizer.in_float32 and x.dtype == np.float64:
        raise UsageTypeError(
            "a stage of this quantiser computes in float32, so x must be float32 or narrower, got float64; pass "
            "x.astype(np.float32)"
        )


def rotated(x: Array, rotation: Hadamard, axis: int, backend: str) -> Array:
    """Returns x rotated along an axis (definition: ``rotate``)."""
    size = rotation.size
    if x.shape[axis] % size:
        raise UsageError(f"a rotation of {size} needs a multiple of {size} numbers along axis {axis}, got {x.shape}")
    parts = np.moveaxis(x, axis, -1).reshape(-1, size).astype(F)
    signs = np.array(rotation.signs or (1,) * size, F)
    total = np.zeros(parts.shape, F)
    with np.errstate(all="ignore"):
        for i in range(size):
            row = np.array([(-1) ** (i & j).bit_count() for j in range(size)], F) * signs[i]
            total = total + row * parts[:, i : i + 1]
        found = total / F(math.isqrt(size))
        found = np.where(np.isfinite(found), round_to(found, rotation.format, backend=backend), found)
    moved = found.astype(np.float64).reshape(np.moveaxis(x, axis, -1).shape)
    return np.ascontiguousarray(np.moveaxis(moved, -1, axis))


def _second(largest: Callable[[bool], Array], engine: Engine, given: ArrayLike | None) -> Second:
    """``largest(of_rows)``: the largest finite magnitudes, as of ``Grid.largest``."""
    stage = engine.quantizer.second
    if stage is None:
        if given is not None:
            raise UsageError(f"the quantiser has no second scale, so it takes no tensor_scale; got {given}")
        return engine.second(np.ones((1, 1, 1)), None)
    if stage.source == "given" and given is None:
        raise UsageError("the quantiser's second scale is given: pass tensor_scale", "tensor_scale")
    of_rows = isinstance(stage.group, Row)
    amax = largest(of_rows)
    if given is None:
        return engine.second(amax, None)
    number = as_array(given).astype(np.float64)
    if number.ndim and (not of_rows or number.size != amax.size):
        raise UsageError(f"tensor_scale must be one number, or one for each of {amax.size} rows, got {number.shape}")
    return engine.second(amax, _float32("tensor_scale", number).reshape(amax.shape if number.ndim else (1, 1, 1)))


def _float32(name: str, numbers: Array) -> Array:
    """Checks given numbers, which are positive and exact in float32."""
    flat = numbers.reshape(-1)
    wrong = [float(x) for x in flat if not 0 < x < math.inf or float(F(x)) != float(x)]
    if wrong and 0 < wrong[0] <= checks.FLOAT32_LARGEST:
        raise UsageError(f"{name} must be exact in float32, got {wrong[0]!r}; round it first", name)
    if wrong:
        checks.real(name, wrong[0], above=0, most=checks.FLOAT32_LARGEST)
        raise UsageError(f"{name} must be a float32 number, got {wrong[0]!r}", name)
    return numbers.astype(F)


def _statistic(grid: Grid, quantizer: Quantizer, given: object) -> Array | None:
    if quantizer.statistic.source == "input":
        if given is not None:
            raise UsageError("the quantiser takes its statistic from the input; leave out statistic", "statistic")
        return None
    if given is None:
        raise UsageError("the quantiser's statistic is given: pass statistic, the largest magnitude", "statistic")
    numbers = as_array(given).astype(np.float64)
    if np.isnan(numbers).any() or (numbers < 0).any():
        raise UsageError(f"statistic must be largest magnitudes, from 0 up, got {checks.shown(given)}", "statistic")
    if numbers.ndim == 0:
        return numbers.reshape(1, 1, 1)
    if numbers.shape != grid.scales_shape:
        raise UsageError(f"statistic must be one number or of shape {grid.scales_shape}, got {numbers.shape}")
    return grid.split_scales(numbers)


def _coded(groups: Groups, second: Second, grid: Grid, engine: Engine) -> Quantized:
    quantizer, element = engine.quantizer, engine.quantizer.element
    elements = grid.join(groups.elements)
    if isinstance(element, Integer):
        codes = elements.astype(np.int8 if element.signed else np.uint8)
    else:
        codes = encode(elements, element.row, backend=engine.backend, threads=engine.threads)
    scales = grid.join_scales(encode(groups.scales, quantizer.scale.format, backend="reference"))
    points = None if groups.zero_points is None else grid.join_scales(groups.zero_points).astype(np.int16)
    return _assembled(codes, scales, points, second, grid, engine)


def _assembled(
    codes: Array, scales: Array, points: Array | None, second: Second, grid: Grid, engine: Engine
) -> Quantized:
    quantizer, stage = engine.quantizer, engine.quantizer.second
    return Quantized(
        quantizer,
        codes,
        scales,
        points,
        None if stage is None else _shaped(second.divisor, grid),
        None if second.multiplier is None else _shaped(second.amax, grid),
        grid.axis,
    )


def _shaped(second: Array, grid: Grid) -> Array:
    """Returns the second scale as one number, or one a row in the array's shape with 1 along the axis."""
    if second.size == 1 and second.shape == (1, 1, 1):
        return np.asarray(second.reshape(()))
    return np.moveaxis(second.reshape(*grid.moved[:-1], 1), -1, grid.axis)


def _counts(numbers: Counts, wide: Array) -> Counts:
    wrong = int(np.sum(~np.isfinite(wide)))
    return numbers._replace(overflowed=numbers.overflowed + wrong, nan=int(np.isnan(wide).sum()))
