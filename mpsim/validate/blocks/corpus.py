"""Lists blocks at the turning points of the scales and elements of quantisers."""

from __future__ import annotations

import numpy as np

from mpsim.blocks import BlockFormat, Quantizer
from mpsim.blocks.quantization import described
from mpsim.blocks.quantizers.elements import Integer
from mpsim.blocks.quantizers.groups import Row
from mpsim.blocks.quantizers.presets import as_quantizer
from mpsim.blocks.running import Given
from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream, random_bits
from mpsim.kernels.spec_blocks import BLOCK_FORMATS
from mpsim.policies import Policy
from mpsim.validate.blocks.expected import Trial, is_together
from mpsim.validate.turning_points import beside, midpoints, numbers, with_midpoints

__all__ = ["block_corpus"]

#: Elements of a group whose size the description leaves open, of all blocks of a corpus, and of a group that is tested.
OPEN_SIZE, MOST_ELEMENTS, MOST_OF_GROUP = 64, 1 << 18, 1 << 20
#: Blocks where each is a call; calls and blocks of each where a scale of the whole call counts.
MOST_CALLS, TENSORS, PER_TENSOR, ACROSS = 96, 16, 64, 8


def block_corpus(
    format: str | BlockFormat | Quantizer, tensor_scale: float | None = None, seed: int = 0,
    statistic: float | None = None,
) -> Array:  # fmt: skip
    """Returns blocks at the turning points of scales and elements, float32 (n, block size).

    Largest magnitudes: at every power of two of float32, 1.5 times it, where the element's mantissa rounds up to the
    next, and the element's largest number, each with both neighbours; for scales that are rounded, also their numbers
    and midpoints, up to beyond the largest. The other elements: numbers and midpoints of the element format times a
    scale, and their neighbours. Then zeros of both signs, subnormal numbers, NaN and infinities, random patterns.
    """
    quantizer = quantizer_of(format)
    size = group_size(quantizer)
    if size > MOST_OF_GROUP:
        raise UsageError(f"groups of {size:,} numbers are too large to be tested; expected at most {MOST_OF_GROUP:,}")
    if quantizer.second is not None and tensor_scale is None:
        tensor_scale = whole_of(quantizer)
    digits = np.array([1.0, 1.5, _rounds_up(quantizer), quantizer.target / 2.0**quantizer.element.max_exponent])
    amax = np.ldexp(digits, np.arange(-149, 128)[:, None]).reshape(-1)
    grid = _scale_grid(quantizer)
    amax = np.concatenate([amax, grid * quantizer.target * _divisor(quantizer, tensor_scale)])
    drawn = np.ldexp(1.0 + _words(seed, 512) / 2**32, _words(seed, 512, 1) % 8)
    amax = np.concatenate([beside(amax, "float32"), beside(drawn, "float32")])
    amax = amax[(amax > 0) & np.isfinite(amax)]
    if amax.size * size > MOST_ELEMENTS:
        amax = amax[:: -(-amax.size * size // MOST_ELEMENTS)]
    x = _elements(quantizer, amax, Given(statistic, tensor_scale), seed)
    return np.ascontiguousarray(np.concatenate([x, _special_rows(size, seed)]))


def trial_of(quantizer: Quantizer, given: Given, own: bool, seed: int, backend: str) -> Trial:
    """Returns the blocks that a description is asked, in as many calls as it needs. ``own``: the second scale follows
    from the call."""
    if own:
        return _own_trial(quantizer, seed, backend)
    scale = given.tensor_scale if isinstance(given.tensor_scale, float) else None
    statistic = given.statistic if isinstance(given.statistic, float) else None
    blocks = block_corpus(quantizer, scale, seed, statistic)
    if is_together(quantizer):
        return Trial(quantizer.group, blocks, given, backend)
    rows = np.unique(np.linspace(0, len(blocks) - 1, MOST_CALLS).astype(int))
    special = np.arange(len(blocks) - 266, len(blocks) - 250)
    blocks = blocks[np.union1d(rows, special)]
    return Trial(quantizer.group, blocks, given, backend, tuple(slice(i, i + 1) for i in range(len(blocks))))


def _own_trial(quantizer: Quantizer, seed: int, backend: str) -> Trial:
    """Finite tensors of several largest magnitudes, in each blocks of all scales that it has."""
    assert quantizer.second is not None
    whole = quantizer.target * quantizer.second.most
    largest = np.ldexp(1.0 + _words(seed, TENSORS, 6) / 2**32, _words(seed, TENSORS, 7) % 24 - 12).astype(np.float32)
    largest[:4] = [whole, 1.0, 6.0, 10.0]
    plain = _scale_grid(quantizer)
    parts = []
    for number, top in enumerate(largest):
        points = beside(plain * quantizer.target * (float(top) / whole), "float32")
        points = points[(points > 0) & (points <= top)]
        amax = points[_words(seed, PER_TENSOR - 2, 8 + number) % points.size]
        amax[0] = top
        divisor = float(np.float32(float(top) / whole))
        given = divisor if quantizer.second.form == "divisor" else float(top)
        x = _elements(quantizer, amax, Given(None, given), seed + number)
        zeros = np.zeros((2, x.shape[1]), np.float32)
        zeros[1, ::2] = -0.0
        parts.append(np.concatenate([x, zeros]))
    calls = tuple(slice(PER_TENSOR * i, PER_TENSOR * (i + 1)) for i in range(len(parts)))
    blocks = np.ascontiguousarray(np.concatenate(parts))
    return Trial(quantizer.group, blocks, Given(), backend, calls, across_of(quantizer, ACROSS))


def across_of(quantizer: Quantizer, most: int) -> int:
    """Returns the number of blocks in a row: several where the second scale is that of each row."""
    return most if quantizer.second is not None and isinstance(quantizer.second.group, Row) else 1


def quantizer_of(format: str | BlockFormat | Quantizer) -> Quantizer:
    """Returns the description of a block format by rule floor, of a preset or of a text."""
    if isinstance(format, str) and format in BLOCK_FORMATS:
        format = BLOCK_FORMATS[format]
    if isinstance(format, BlockFormat):
        return described(format, "floor", "saturate", Policy("nearest_even", "saturate"))  # type: ignore[arg-type]
    return as_quantizer(format)


def whole_of(quantizer: Quantizer) -> float:
    """Returns the tensor scale, as the argument ``tensor_scale``, that divides by 1."""
    second = quantizer.second
    return 1.0 if second is None or second.form == "divisor" else quantizer.target * second.most


def _divisor(quantizer: Quantizer, tensor_scale: object) -> float:
    return float(tensor_scale) / whole_of(quantizer) if isinstance(tensor_scale, float) else 1.0


def group_size(quantizer: Quantizer) -> int:
    """Returns the number of elements of a group, where that is open OPEN_SIZE."""
    rows, columns = quantizer.group.shape
    return OPEN_SIZE if rows is None or columns is None else rows * columns


def _rounds_up(quantizer: Quantizer) -> float:
    return float(2 - 2.0 ** -(quantizer.element.mantissa_bits + 1))


def _scale_grid(quantizer: Quantizer) -> Array:
    """Returns the numbers and midpoints of scales that are rounded to few bits, and numbers beyond."""
    format = as_format(quantizer.scale.format)
    if format.bits > 8 or format.mantissa_bits == 0:
        return np.zeros(0)
    return np.append(with_midpoints(numbers(format)), [464.0, 480.0, 1024.0])


def _element_grid(quantizer: Quantizer) -> Array:
    element = quantizer.element
    if isinstance(element, Integer):
        return np.ldexp(np.arange(2 * element.ends[1] + 3), -1 - element.fraction_bits)
    rising = numbers(element.row)
    return np.concatenate([rising, midpoints(rising)])


def _words(seed: int, count: int, tensor: int = 0) -> Array:
    return random_bits(Stream(seed, "data_order", tensor=tensor), count).astype(np.int64)


def _elements(quantizer: Quantizer, amax: Array, given: Given, seed: int) -> Array:
    """Returns one block for each largest magnitude, with elements at turning points times the scale, or twice that."""
    shape = (amax.size, group_size(quantizer))
    grid = _element_grid(quantizer)
    lone = np.zeros(shape, np.float32)
    lone[:, 0] = amax
    if quantizer.rotation is not None:
        lone = np.repeat(lone[:, :1], shape[1], axis=1) / np.float32(shape[1])
    calls = () if is_together(quantizer) else tuple(slice(i, i + 1) for i in range(len(lone)))
    if calls:  # the statistic of each block as if it were a row
        divisor = (amax / quantizer.target)[:, None]
    else:
        expected = Trial(quantizer.group, lone, given, "reference", calls).expected(quantizer, None, values=False)
        divisor = expected.scale_numbers
        divisor = divisor * _divisor(quantizer, given.tensor_scale)
    words = _words(seed, shape[0] * shape[1], 2).reshape(shape)
    twice = 1 + (words >> 8 & 1) * (quantizer.scale.formula != "ratio")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        x = (grid[(words >> 12) % grid.size] * divisor * twice).astype(np.float32)
        toward = np.array([0, 0, np.inf], np.float32)[words % 3]
        x = np.where(words % 3 == 0, x, np.nextafter(x, toward))
    x = np.minimum(np.where(np.isfinite(x), x, 0), amax[:, None])
    number = np.arange(amax.size)
    x[number, number % shape[1]] = amax
    if quantizer.statistic.of == "range" and shape[1] > 1:  # both ends as large: both round to half of a step
        x[number[::3], (number[::3] + 1) % shape[1]] = amax[::3]
        signs = words >> 9 & 1
        signs[number[::3], (number[::3] + 1) % shape[1]] = 1 - signs[number[::3], number[::3] % shape[1]]
        return np.where(signs, -x, x).astype(np.float32)
    return np.where(words >> 9 & 1, -x, x).astype(np.float32)


def _special_rows(size: int, seed: int) -> Array:
    zeros = np.zeros((2, size), np.float32)
    zeros[1, ::2] = -0.0
    subnormal = (np.arange(2 * size) * np.finfo(np.float32).smallest_subnormal).reshape(2, size).astype(np.float32)
    special = np.tile(np.linspace(-3, 3, size, dtype=np.float32), (6, 1))
    for number, value in enumerate((np.nan, np.inf, -np.inf)):
        special[number, 0] = special[number + 3, -1] = value
    many = max(4, min(256, MOST_ELEMENTS // (4 * size)))
    patterns = _words(seed, many * size, 3).astype(np.uint32).view(np.float32).reshape(many, size)
    spread = np.ldexp(_words(seed, many * size, 4) / 2**31 - 1, _words(seed, many * size, 5) % 16 - 8)
    return np.concatenate([zeros, subnormal, special, patterns, spread.reshape(many, size).astype(np.float32)])
