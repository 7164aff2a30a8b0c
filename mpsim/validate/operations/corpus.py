"""Combinations of operands: all of them where codes are few, else edges, numbers near one, and random codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpsim.formats import Format
from mpsim.kernels.contract import Array

#: Combinations that are all computed.
ALL = 1 << 16
#: Random combinations of each kind where there are more.
RANDOM = 40_000
#: Combinations of edges, of which some are drawn where there are more.
CROSSED = 1 << 17


def combinations(formats: Sequence[Format], seed: int) -> tuple[list[Array], bool]:
    """The codes of each operand, unsigned (n,), and whether these are all combinations."""
    if sum(format.bits for format in formats) <= ALL.bit_length() - 1:
        axes = [np.arange(1 << format.bits, dtype=np.uint64) for format in formats]
        return _typed(np.meshgrid(*axes, indexing="ij"), formats), True
    random = np.random.default_rng(seed)
    crossed = _crossed([edges(format) for format in formats], random)
    anywhere = [random.integers(0, (1 << format.bits) - 1, RANDOM, np.uint64, endpoint=True) for format in formats]
    near = [_near(format, random, RANDOM) for format in formats]
    parts = [[array.reshape(-1) for array in part] for part in (crossed, anywhere, near)]
    return _typed([np.concatenate(each) for each in zip(*parts, strict=True)], formats), False


def _crossed(edges: Sequence[Array], random: np.random.Generator) -> list[Array]:
    """Every combination of the edges, or CROSSED of them."""
    if np.prod([float(each.size) for each in edges]) <= CROSSED:
        return list(np.meshgrid(*edges, indexing="ij"))
    return [random.choice(each, CROSSED) for each in edges]


def edges(format: Format) -> Array:
    """Codes at which operations turn: zeros, the smallest and largest numbers, powers of two around one, infinity and
    NaN, with their neighbours and both signs."""
    assert format.bias is not None
    one = format.bias << format.mantissa_bits
    step = 1 << format.mantissa_bits
    magnitudes = {0, 1, 2, step - 1, step, step + 1, format.largest_code - 1, format.largest_code}
    magnitudes |= {one + k * step + low for k in (-1, 0, 1) for low in (-1, 0, 1)}
    magnitudes |= {code for code in (format.infinity_code, format.nan_code) if code is not None}
    codes = sorted(code for code in magnitudes if 0 <= code <= format.magnitude_mask)
    return np.array([code | sign for code in codes for sign in {0, format.sign_mask}], np.uint64)


def _near(format: Format, random: np.random.Generator, count: int) -> Array:
    """Numbers within eight binades of one, where sums cancel and products stay in range."""
    assert format.bias is not None
    low, high = (min(max(format.bias + k, 0), (1 << format.exponent_bits) - 1) for k in (-4, 4))
    exponents = random.integers(low, high, count, np.uint64, endpoint=True) << np.uint64(format.mantissa_bits)
    mantissas = random.integers(0, (1 << format.mantissa_bits) - 1, count, np.uint64, endpoint=True)
    signs = random.integers(0, 2, count, np.uint64) * np.uint64(format.sign_mask)
    return exponents | mantissas | signs


def _typed(arrays: Sequence[Array], formats: Sequence[Format]) -> list[Array]:
    return [
        np.ascontiguousarray(array.reshape(-1), f"uint{format.code_bits}")
        for array, format in zip(arrays, formats, strict=True)
    ]
