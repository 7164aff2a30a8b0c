"""Computes vectors of casts and dot products: inputs and the results of mpsim's definition.

Inputs are computed from integers and Philox words only, so that they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mpsim import checks
from mpsim.contraction import matmul
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.kernels import DEFAULT_BACKEND, spec
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream, random_bits
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products import accumulators
from mpsim.products.accumulators import Summation
from mpsim.rounding import decode, encode, round_to
from mpsim.validate.sources import Source, as_float_source
from mpsim.validate.turning_points import beside_patterns, grid, point
from mpsim.vectors.forms import Table

#: The largest number of terms of a dot product, and of vectors in a set.
MOST_LENGTH, MOST_SIZE = 1 << 16, 1 << 22


def cast_tables(
    formats: Sequence[str | Format] | None = None,
    source: str = "float32",
    modes: Sequence[str] | None = None,
    overflows: Sequence[str] | None = None,
    *,
    size: int = 1000,
    seed: int = 0,
    random_bit_count: int = 16,
    backend: str = DEFAULT_BACKEND,
) -> Iterable[Table]:
    """Yields a table for every format, mode and overflow policy.

    The columns are the pattern of the input, a word of random bits (for stochastic modes), and the code of the expected
    result. Inputs are specials, codes and midpoints with their neighbours, the binades above the largest number, and
    random patterns. Inputs whose result has no code (NaN or a marked infinity in a format without it) are omitted.

    Args:
        formats: The target formats. The default is all named ones narrower than the source.
        source: The type of the inputs.
        modes, overflows: The default is all. Combinations that do not exist, such as QPyTorch's modes with other
            formats, are then skipped.
        size: The largest number of inputs of a format. With 0 it is all patterns of a 16-bit source.
        seed: The seed of random inputs and random bits.
        random_bit_count: How many low bits of a word mode "stochastic" uses.
        backend: The backend that computes the results.

    Raises:
        ValueError: An argument is out of range, a format is not narrower than the source, or a mode does not support
            it.
    """
    checks.whole("size", size, most=MOST_SIZE)
    checks.seed("seed", seed)
    origin = as_float_source(source)
    chosen = [row for row in FORMATS.values() if _narrower(row, origin)] if formats is None else formats
    for format in map(as_format, chosen):
        if not _narrower(format, origin):
            raise UsageError(f"{format} is not narrower than the source {origin.name}")
        patterns = cast_inputs(format, origin, size, seed)
        for mode in map(Mode, Mode if modes is None else modes):
            if modes is None and mode.is_legacy and not _legacy_applies(format, origin):
                continue
            for overflow in map(Overflow, Overflow if overflows is None else overflows):
                if mode.is_legacy and overflow not in (Overflow.SATURATE, Overflow.MARK) and overflows is None:
                    continue
                policy = Policy(mode, overflow, random_bit_count if Mode(mode).takes_bit_count else None)
                yield _cast_table(format, origin, policy, patterns, seed, backend)


def _narrower(format: Format, source: Source) -> bool:
    holds = source.format.fits(format.exponent_bits, format.mantissa_bits)
    wide = format.fits_float32 or source.wide == "float64"
    return wide and format.bits <= source.format.bits and format.name != source.name and not holds


def _legacy_applies(format: Format, source: Source) -> bool:
    return source.wide == "float32" and spec.legacy_applies(format)


def _cast_table(format: Format, source: Source, policy: Policy, patterns: Array, seed: int, backend: str) -> Table:
    x = source.values(patterns)
    words = random_bits(Stream(seed, "rounding"), x.size) if policy.mode.needs_random_bits else None
    result = round_to(
        x, format, policy.mode, policy.overflow, random_bits=words, random_bit_count=policy.random_bit_count,
        backend=backend, threads=1,
    )  # fmt: skip
    has_code = np.ones(x.shape, bool)
    if not format.has_nan:
        has_code &= ~np.isnan(result)
    if not format.has_infinity:
        has_code &= ~np.isinf(result)
    codes = encode(result[has_code], format, backend=backend, threads=1)
    columns = {"input": (patterns[has_code], source.format.bits)}
    if words is not None:
        columns["random_bits"] = (words[has_code], 32)
    columns["expected"] = (codes, format.bits)
    about = {
        "format": format.name, "source": source.name, "mode": policy.mode.value, "overflow": policy.overflow.value,
        "random_bit_count": policy.random_bit_count, "left_out": int((~has_code).sum()),
    }  # fmt: skip
    name = f"cast_{source.name}_to_{format.name}_{policy.mode.value}_{policy.overflow.value}"
    return Table(name, about, columns)


def cast_inputs(format: Format, source: str | Source, size: int, seed: int = 0) -> Array:
    """Returns at most ``size`` different patterns of the source in rising order: important ones, then random ones.

    >>> print(cast_inputs(FORMATS["float4_e2m1fn"], "float16", 400).size)
    400
    """
    origin = as_float_source(source)
    last, step = format.largest_code, 1 << format.mantissa_bits
    edges = [0, 1, 2, step - 1, step, last - 1, last, last + 1, *_sample(last + 1, 2 * step, 8, seed)]
    first = _specials(origin) + [p for code in edges if code >= 0 for p in _around(format, origin, code)]
    count = 1 << 16 if size <= 0 else size
    codes = _sample(0, last + 2 * step, count, seed + 1)
    rest = [p for code in codes for p in _around(format, origin, code)]
    random = random_bits(Stream(seed, "data_order", tensor=1), 2 * count).astype(np.uint64)
    mixed = (random[0::2] << np.uint64(32) | random[1::2]) >> np.uint64(64 - origin.format.bits)
    order = np.argsort(random_bits(Stream(seed, "data_order", tensor=2), len(rest)), kind="stable")
    by_lot = np.array(rest, np.uint64)[order][: max(count * 3 // 4, 1)]
    found = np.concatenate([np.array(first, np.uint64), by_lot, mixed])
    _, position = np.unique(found, return_index=True)
    kept = np.sort(found[np.sort(position)][:count])
    return kept.astype(origin.unsigned)


def _sample(first: int, count: int, wanted: int, seed: int) -> list[int]:
    """Returns at most ``wanted`` of the ``count`` integers that start at ``first``."""
    if count <= wanted:
        return list(range(first, first + count))
    words = random_bits(Stream(seed, "data_order"), wanted).astype(np.uint64)
    return sorted({first + (int(word) * count >> 32) for word in words})


def _specials(source: Source) -> list[int]:
    infinity = source.format.infinity_code
    quiet = source.format.nan_code
    assert infinity is not None and quiet is not None
    normal = 1 << source.format.mantissa_bits
    magnitudes = [0, 1, normal - 1, normal, infinity - 1, infinity, infinity + 1, quiet, quiet + 5]
    return [pattern | sign for pattern in magnitudes for sign in (0, source.sign_mask)]


def _around(format: Format, source: Source, code: int) -> list[int]:
    """Returns patterns of the number of a code and of the midpoint above it, with neighbours, for both signs."""
    far = grid(format, code)[1] >= 900  # infinity replaces these
    found = []
    for half in (0, 1):
        value = np.inf if far else point(format, code, half)
        found += beside_patterns(int(source.patterns(np.array([value]))[0]))
    return [pattern | sign for pattern in found for sign in (0, source.sign_mask)]


# -- dot products -------------------------------------------------------------------------------------------


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


# -- files --------------------------------------------------------------------------------------------------
