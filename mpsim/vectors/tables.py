"""Computes vectors of dot products: operands and the results of mpsim's definition."""

from __future__ import annotations

import numpy as np

from mpsim import checks
from mpsim.contraction import matmul
from mpsim.errors import UsageError
from mpsim.formats import Format, as_format
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream, random_bits
from mpsim.products import accumulators
from mpsim.products.accumulators import Summation
from mpsim.rounding import decode
from mpsim.vectors.forms import Table

#: The largest number of terms of a dot product, and of vectors in a set.
MOST_LENGTH, MOST_SIZE = 1 << 16, 1 << 22


def words64(count: int, seed: int, tensor: int) -> Array:
    """Returns random words of 64 bits."""
    halves = random_bits(Stream(seed, "data_order", tensor=tensor), 2 * count).astype(np.uint64)
    return halves[0::2] << np.uint64(32) | halves[1::2]


def dot_table(
    accumulator: Summation,
    inputs: str | Format = "float32",
    length: int = 64,
    *,
    size: int = 100,
    seed: int = 0,
    backend: str = DEFAULT_BACKEND,
    name: str = "dot",
) -> Table:
    """``size`` dot products of ``length`` terms. Columns: a and b, codes of ``inputs``; expected, float32 patterns.

    By turns: numbers of one or two binades; of all exponents that keep the sum finite; a second half that cancels
    the first; zeros of both signs and subnormal numbers between others. Raises ValueError for an accumulator that
    promises no bits, or inputs that float32 does not hold.
    """
    format = as_format(inputs)
    if not accumulator.promises_bits:
        raise UsageError("an accumulator of kind 'blas' promises no bits, so it has no vectors")
    if not format.fits_float32 or not format.signed:
        raise UsageError(f"the operands' format is one with a sign that float32 holds, not {format}")
    checks.whole("length", length, least=1, most=MOST_LENGTH)
    checks.whole("size", size, least=1, most=MOST_SIZE)
    checks.seed("seed", seed)
    a, b = (_operands(format, size, length, seed, tensor) for tensor in (3, 4))
    half = length // 2
    a[2::4, half : 2 * half], b[2::4, half : 2 * half] = a[2::4, :half], b[2::4, :half] ^ format.sign_mask
    left, right = (decode(codes, format, backend=backend, threads=1) for codes in (a, b))
    one = [matmul(left[i : i + 1], right[i : i + 1].T, accumulator, backend=backend, threads=1) for i in range(size)]
    results = np.concatenate(one).reshape(-1)
    results[np.isnan(results)] = np.nan
    columns = {"a": (a, format.bits), "b": (b, format.bits), "expected": (results.view(np.uint32), 32)}
    return Table(
        name, {"inputs": format.name, "length": length, "accumulator": accumulators.to_dict(accumulator)}, columns
    )


def _operands(format: Format, size: int, length: int, seed: int, tensor: int) -> Array:
    """Codes (size, length) of finite numbers."""
    words = random_bits(Stream(seed, "data_order", tensor), size * length).reshape(size, length).astype(np.int64)
    m = format.mantissa_bits
    lowest, highest = (1 if format.has_zero else 0), format.largest_code >> m
    centre = min(max(-format.quantum_exponent - m + lowest, lowest), highest)  # the binade of 1
    reach = min(28, max(centre - lowest, highest - centre))
    span = np.full((size, 1), 2)
    span[1::4] = 2 * reach + 1
    binade = np.clip(centre - span // 2 + (words >> 3 & 0xFFF) % span, lowest, highest)
    mantissa = (words * 0x9E3779B1 & 0xFFFFFFFF) >> max(32 - m, 0) if m else np.zeros_like(words)
    codes = np.minimum(binade << m | mantissa & ((1 << m) - 1), format.largest_code)
    codes[3::4] = np.where(words[3::4] % 3 == 0, words[3::4] % (1 << m), codes[3::4])
    signs = np.where(words & 0x80000000, format.sign_mask, 0)
    found = codes | signs
    if format.nan_code == format.sign_mask:
        found = np.where(found == format.nan_code, 0, found)
    return found.astype(f"uint{format.code_bits}")
