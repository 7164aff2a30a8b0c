"""Lists blocks at the turning points of the scales and elements of block formats."""

from __future__ import annotations

import numpy as np

from mpsim.blocks import BlockFormat, quantize
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream, random_bits
from mpsim.kernels.spec_blocks import as_block_format
from mpsim.rounding import decode
from mpsim.validate.turning_points import beside, midpoints, numbers, with_midpoints

__all__ = ["block_corpus"]


def block_corpus(format: str | BlockFormat, tensor_scale: float | None = None, seed: int = 0) -> Array:
    """Returns blocks at the turning points of scales and elements, float32 (n, block size).

    Largest magnitudes: at every power of two of float32, 1.5 times it, where the element's mantissa rounds up to the
    next, and the element's largest number, each with both neighbours; for scales that are rounded, also their numbers
    and midpoints, up to beyond the largest. The other elements: numbers and midpoints of the element format times a
    scale, and their neighbours. Then zeros of both signs, subnormal numbers, NaN and infinities, random patterns.
    """
    row = as_block_format(format)
    element = row.element
    scale = np.float64(1.0 if tensor_scale is None else tensor_scale)
    rounds_up = 2 - 2.0 ** -(element.mantissa_bits + 1)
    digits = np.array([1.0, 1.5, rounds_up, element.largest / 2.0**element.max_exponent])
    amax = np.ldexp(digits, np.arange(-149, 128)[:, None]).reshape(-1)
    if row.tensor_scale:
        grid = with_midpoints(numbers(row.scale))
        amax = np.concatenate([amax, np.append(grid, [464.0, 480.0, 1024.0]) * element.largest * scale])
    drawn = np.ldexp(1.0 + _words(seed, 512) / 2**32, _words(seed, 512, 1) % 8)
    amax = np.concatenate([beside(amax, "float32"), beside(drawn, "float32")])
    amax = amax[(amax > 0) & np.isfinite(amax)]
    x = _elements(row, amax, scale, seed)
    return np.ascontiguousarray(np.concatenate([x, _special_rows(row.size, seed)]))


def _words(seed: int, count: int, tensor: int = 0) -> Array:
    return random_bits(Stream(seed, "data_order", tensor=tensor), count).astype(np.int64)


def _elements(row: BlockFormat, amax: Array, tensor_scale: np.float64, seed: int) -> Array:
    """Returns one block for each largest magnitude, with elements at turning points times the scale, or twice that."""
    element, shape = row.element, (amax.size, row.size)
    rising = numbers(element)
    grid = np.concatenate([rising, midpoints(rising)])
    lone = np.zeros(shape, np.float32)
    lone[:, 0] = amax
    given = float(tensor_scale) if row.tensor_scale else None
    scales = quantize(lone, row, tensor_scale=given, backend="reference").scales
    divisor = decode(scales, row.scale, np.float64, backend="reference") * tensor_scale
    words = _words(seed, amax.size * row.size, 2).reshape(shape)
    twice = 1 + (words >> 8 & 1) * (not row.tensor_scale)
    with np.errstate(over="ignore", under="ignore"):
        x = (grid[(words >> 12) % grid.size] * divisor * twice).astype(np.float32)
        toward = np.array([0, 0, np.inf], np.float32)[words % 3]
        x = np.where(words % 3 == 0, x, np.nextafter(x, toward))
    x = np.minimum(x, amax[:, None])
    number = np.arange(amax.size)
    x[number, number % row.size] = amax
    return np.where(words >> 9 & 1, -x, x).astype(np.float32)


def _special_rows(size: int, seed: int) -> Array:
    zeros = np.zeros((2, size), np.float32)
    zeros[1, ::2] = -0.0
    subnormal = (np.arange(2 * size) * np.finfo(np.float32).smallest_subnormal).reshape(2, size).astype(np.float32)
    special = np.tile(np.linspace(-3, 3, size, dtype=np.float32), (6, 1))
    for number, value in enumerate((np.nan, np.inf, -np.inf)):
        special[number, 0] = special[number + 3, -1] = value
    patterns = _words(seed, 256 * size, 3).astype(np.uint32).view(np.float32).reshape(256, size)
    spread = np.ldexp(_words(seed, 256 * size, 4) / 2**31 - 1, _words(seed, 256 * size, 5) % 16 - 8)
    return np.concatenate([zeros, subnormal, special, patterns, spread.reshape(256, size).astype(np.float32)])
