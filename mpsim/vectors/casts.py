"""Computes vectors of casts: inputs of any source, and the results of mpsim's definition in any target.

Inputs are computed from integers and Philox words only, so that they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.formats import FORMATS, Format, as_format
from mpsim.integers import Integer, IntegerOverflow, as_integer, is_integer_name, to_integer
from mpsim.kernels import DEFAULT_BACKEND, spec
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream, random_bits
from mpsim.policies import Mode, Overflow, Policy
from mpsim.rounding import encode, round_to
from mpsim.validate.cast.integers.rules import unsigned_codes
from mpsim.validate.sources import Source, as_float_source, as_source
from mpsim.validate.turning_points import beside_patterns, grid, point
from mpsim.vectors.forms import Table
from mpsim.vectors.tables import MOST_SIZE, words64

#: What NaN becomes in an integer type, which the manifest states.
NAN = "zero"


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
    """Yields a table for every target, mode and overflow policy.

    The columns are the pattern of the input, a word of random bits (for stochastic modes), and the code of the expected
    result. Inputs of float sources are specials, codes and midpoints of the target with their neighbours, the binades
    above the largest number, and random patterns. Other sources of at most 16 bits have all patterns, or some of them,
    and wider integers those at which rounding to the target changes. Inputs whose result has no code (NaN or a marked
    infinity in a format without it) are omitted.

    Args:
        formats: The targets: formats or integer types. The default is all named formats narrower than the source.
        source: The type of the inputs: a float, an integer type, or a format of at most 16 bits.
        modes, overflows: The default is all. Combinations that do not exist, such as QPyTorch's modes with other
            formats, are then skipped. For a target that holds every input the default is nearest_even alone, and
            infinity or saturate.
        size: The largest number of inputs of a target. With 0 it is all patterns of a 16-bit source.
        seed: The seed of random inputs and random bits.
        random_bit_count: How many low bits of a word mode "stochastic" uses.
        backend: The backend that computes the results.

    Raises:
        ValueError: An argument is out of range, a format is not narrower than a float source, or a mode does not
            support it.

    >>> (table,) = cast_tables(["float16"], "float8_e4m3fn")
    >>> table.name, table.size
    ('cast_float8_e4m3fn_to_float16_nearest_even_infinity', 256)
    """
    checks.whole("size", size, most=MOST_SIZE)
    checks.seed("seed", seed)
    origin = as_source(source)
    if not size and origin.bits > 16:
        raise UsageError(f"size must be at least 1 for {origin.name}, got 0: all patterns are those of 16 bits", "size")
    chosen = [row for row in FORMATS.values() if _narrower(row, origin)] if formats is None else formats
    for each in chosen:
        target = as_integer(each) if is_integer_name(each) else as_format(each)  # type: ignore[arg-type]
        if origin.is_float and isinstance(target, Format) and not _narrower(target, origin):
            raise UsageError(f"{target} is not narrower than the source {origin.name}")
        patterns = inputs_of(target, origin, size, seed)
        for mode, overflow in _policies(target, origin, modes, overflows):
            count = random_bit_count if mode.takes_bit_count else None
            yield _cast_table(target, origin, mode, overflow, count, patterns, seed, backend)


def _policies(
    target: Format | Integer, source: Source, modes: Sequence[str] | None, overflows: Sequence[str] | None
) -> Iterable[tuple[Mode, str]]:
    """The modes and overflow policies of a target."""
    is_format = isinstance(target, Format)
    known = [each.value for each in (Overflow if is_format else IntegerOverflow)]
    if overflows is None:
        overflows = known[:1] if _holds(target, source) else known
        if isinstance(target, Integer) and target.layout == "sign_magnitude":
            overflows = [each for each in overflows if each != "wrap"]
    for mode in map(Mode, Mode if modes is None else modes):
        if modes is None and mode is not Mode.NEAREST_EVEN and _holds(target, source):
            continue
        if mode.is_legacy and modes is None and not (isinstance(target, Format) and _legacy_applies(target, source)):
            continue
        for overflow in overflows:
            checks.named("overflow policy", overflow, known)
            if mode.is_legacy and overflow not in (Overflow.SATURATE, Overflow.MARK) and len(overflows) == len(known):
                continue
            yield mode, overflow


def _narrower(format: Format, source: Source) -> bool:
    if not source.is_float:
        return format.fits_float32 and format.name != source.name and not _holds(format, source)
    holds = source.format.fits(format.exponent_bits, format.mantissa_bits)
    wide = format.fits_float32 or source.wide == "float64"
    return wide and format.bits <= source.format.bits and format.name != source.name and not holds


def _holds(target: Format | Integer, source: Source) -> bool:
    """Whether a target has every number of codes or integers."""
    if source.integer is not None:
        least, most = source.integer.least, source.integer.most
        if isinstance(target, Integer):
            return target.least <= least and most <= target.most
        return target.specials == "ieee" and target.precision >= source.bits and target.max_exponent >= source.bits
    if source.is_float or isinstance(target, Integer):
        return False
    return target.specials == "ieee" and source.format.fits(target.exponent_bits, target.mantissa_bits)


def _legacy_applies(format: Format, source: Source) -> bool:
    return source.is_float and source.wide == "float32" and spec.legacy_applies(format)


def _cast_table(
    target: Format | Integer, source: Source, mode: Mode, overflow: str, count: int | None, patterns: Array, seed: int,
    backend: str,
) -> Table:  # fmt: skip
    x = source.values(patterns)
    words = random_bits(Stream(seed, "rounding"), x.size) if mode.needs_random_bits else None
    has_code = np.ones(x.shape, bool)
    about: Record = {
        "format": target.name, "source": source.name, "mode": mode.value, "overflow": overflow,
        "random_bit_count": count,
    }  # fmt: skip
    if isinstance(target, Integer):
        found = to_integer(x, target, mode, overflow, nan=NAN, random_bits=words, random_bit_count=count)
        codes = unsigned_codes(found, target)
        about |= {"nan": NAN}
    else:
        policy = Policy(mode, Overflow(overflow), count)
        result = round_to(
            x, target, policy.mode, policy.overflow, random_bits=words, random_bit_count=count, backend=backend,
            threads=1,
        )  # fmt: skip
        if not target.has_nan:
            has_code &= ~np.isnan(result)
        if not target.has_infinity:
            has_code &= ~np.isinf(result)
        codes = encode(result[has_code], target, backend=backend, threads=1)
    columns = {"input": (patterns[has_code], source.bits)}
    if words is not None:
        columns["random_bits"] = (words[has_code], 32)
    columns["expected"] = (codes, target.bits)
    about |= {"left_out": int((~has_code).sum())}
    return Table(f"cast_{source.name}_to_{target.name}_{mode.value}_{overflow}".replace("-", "m"), about, columns)


def inputs_of(target: Format | Integer, source: Source, size: int, seed: int = 0) -> Array:
    """Returns at most ``size`` different patterns of the source in rising order.

    >>> from mpsim.validate.sources import as_source
    >>> inputs_of(FORMATS["float16"], as_source("int4"), 0).size
    16
    """
    if source.is_float and isinstance(target, Format):
        return cast_inputs(target, source, size, seed)
    if source.bits <= 16 and (size <= 0 or size >= 1 << source.bits):
        return np.arange(1 << source.bits, dtype=source.unsigned)
    count = size if size > 0 else 1 << 16
    words = words64(count, seed, 1)
    random = words >> np.uint64(64 - source.bits)
    if source.integer is not None:
        first = _integers(target, source.integer)
        lengths = (words >> np.uint64(39)) % np.uint64(source.bits)  # of every length
        random = np.concatenate([random >> lengths, random])
    elif source.is_float:
        assert isinstance(target, Integer)
        first = _beside_integers(target, source)
    else:
        first = np.array([code | sign for code in range(16) for sign in (0, source.sign_mask)], np.uint64)
    return _first(count, source, first, random)


def _first(count: int, source: Source, *patterns: Array) -> Array:
    """Returns the first ``count`` different patterns in rising order."""
    found = np.concatenate(patterns)
    _, position = np.unique(found, return_index=True)
    return np.sort(found[np.sort(position)][:count]).astype(source.unsigned)


def _integers(target: Format | Integer, type: Integer) -> Array:
    """Returns codes of integers: small ones, both ends, powers of two, and where rounding to the target changes."""
    points = {*range(-4, 5), type.least, type.most}
    precision = target.precision if isinstance(target, Format) else target.bits
    for length in range(1, type.bits + 1):
        top, half = 1 << length - 1, 1 << max(length - precision - 1, 0)
        points |= {top + step for step in (-1, 0, 1)}
        points |= {top + k * half + step for k in (1, 3) for step in (-1, 0, 1)}
    if isinstance(target, Integer):
        points |= {end + step for end in (target.least, target.most) for step in (-1, 0, 1)}
    points |= {-each for each in points}
    kept = sorted(each for each in points if type.least <= each <= type.most)
    return np.array([type.code(each) for each in kept], np.uint64)


def _beside_integers(type: Integer, source: Source) -> Array:
    """Returns patterns of floats: specials, and integers and halves with their neighbours, also around both ends."""
    numbers = {*range(9), *(1 << k for k in range(type.bits + 2)), abs(type.least), abs(type.most)}
    found = _specials(source)
    for number in sorted(numbers):
        for half in (-0.5, 0.0, 0.5):
            pattern = int(source.patterns(np.array([abs(number + half)]))[0])
            found += [p | sign for p in beside_patterns(pattern) for sign in (0, source.sign_mask)]
    return np.array(found, np.uint64)


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
    random = words64(count, seed, 1) >> np.uint64(64 - origin.format.bits)
    order = np.argsort(random_bits(Stream(seed, "data_order", tensor=2), len(rest)), kind="stable")
    by_lot = np.array(rest, np.uint64)[order][: max(count * 3 // 4, 1)]
    return _first(count, origin, np.array(first, np.uint64), by_lot, random)


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
