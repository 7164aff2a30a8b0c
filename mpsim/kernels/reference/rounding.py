"""Rounds arrays in NumPy: kernels/spec.py line by line, in int64 and exact float64 arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mpsim.formats import Format
from mpsim.kernels import philox, spec
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Overflow, Policy

__all__ = [
    "all_finite",
    "canonical_nan",
    "decode_array",
    "encode_array",
    "encode_rounded",
    "from_numpy",
    "random_bits",
    "round_array",
    "stack_counts",
    "to_numpy",
    "zeros",
]


#: How many elements are rounded together, so that the intermediate arrays stay in the cache.
BLOCK = 1 << 15


def round_array(
    x: Array,
    format: Format,
    policy: Policy,
    random_bits: Array | philox.Stream | None = None,
    out: Array | None = None,
    threads: int = 1,
) -> tuple[Array, Array]:
    """Rounds x to the format like spec.round_value, and returns the sums of spec.counts, int64 (5,).

    ``threads`` changes nothing: NumPy runs on one.
    """
    out = np.empty_like(x) if out is None else out
    source, target = x.reshape(-1), out.reshape(-1)
    counts = np.zeros(5, np.int64)
    for start in range(0, source.size, BLOCK):
        block = source[start : start + BLOCK].copy()
        bits = None
        if policy.mode.needs_random_bits:
            if isinstance(random_bits, philox.Stream):
                bits = philox.random_bits(random_bits, block.size, start)
            else:
                assert random_bits is not None
                bits = random_bits.reshape(-1)[start : start + BLOCK]
        with np.errstate(all="ignore"):
            result = _round(block, format, policy, bits)
            counts += _counts(block, result, format)
        target[start : start + BLOCK] = result
    return out, counts


def _round(x: Array, format: Format, policy: Policy, bits: Array | None) -> Array:
    """Rounds one block, float32 or float64 -> the same type."""
    if spec.same_layout(x.dtype.name, format):
        infinity = (
            np.inf
            if policy.mode.is_legacy
            else spec.number(spec.overflowed(False, True, format, policy), False, format)
        )
        return canonical_nan(np.where(np.isinf(x), np.copysign(x.dtype.type(infinity), x), x))
    if policy.mode.is_legacy:
        return _round_like_qpytorch(x, format, policy, bits)
    wide = x.astype(np.float64)
    magnitude = _round_unbounded(wide, format, policy, bits)
    beyond = magnitude > format.largest
    for infinite, negative in product((True, False), (True, False)):
        here = (np.isinf(wide) == infinite) & (np.signbit(wide) == negative)
        end = spec.number(spec.overflowed(negative, infinite, format, policy), False, format)
        magnitude = np.where(here & beyond, end, magnitude)
        if negative and not format.signed:
            end = spec.number(spec.below_zero(infinite, format, policy), False, format)
            magnitude = np.where(here & (magnitude != 0), end, magnitude)
    result = np.copysign(magnitude, wide)
    if not format.has_negative_zero:
        result = np.where(result == 0, 0.0, result)
    if not format.has_zero:
        result = np.where(wide == 0, np.nan, result)
    narrow = result.astype(x.dtype)
    return np.where(np.isnan(narrow) | np.isnan(x), np.copysign(x.dtype.type(np.nan), x), narrow)


def _split(x: Array) -> tuple[Array, Array]:
    """(significand, exponent), int64, with |x| = significand * 2**exponent and 53 bits in the significand of
    every finite x but zero; a number that is not finite is taken as zero."""
    fraction, exponent = np.frexp(np.where(np.isfinite(x), np.abs(x), 0.0))
    return (fraction * 2.0**53).astype(np.int64), exponent.astype(np.int64) - 53


def _quantum_exponent(exponent: Array, format: Format) -> Array:
    lowest = format.quantum_exponent if format.subnormals else format.min_exponent
    return np.where(exponent < format.min_exponent, lowest, exponent - format.mantissa_bits)


def _round_unbounded(x: Array, format: Format, policy: Policy, bits: Array | None) -> Array:
    """Rounds |x| to the format's grid with an unlimited exponent, as float64. Infinity stays."""
    significand, exponent = _split(x)
    q = _quantum_exponent(exponent + 52, format)
    shift = q - exponent  # >= 0: no format has more than 53 significant bits
    near = np.minimum(shift, 62)  # all 53 bits are discarded beyond 53, and less than a half beyond 54
    keep = significand >> near
    discarded = significand - (keep << near)
    odd = keep % 2 == 1
    if format.has_parity_of_code:  # Format.is_odd
        assert format.bias is not None
        odd &= (q + format.bias) % 2 == 1
    keep = keep + _goes_up(odd, discarded, shift, np.signbit(x), policy, bits)
    if not format.has_zero:
        keep = np.maximum(keep, 1)
    return np.where(np.isinf(x), np.inf, np.ldexp(keep.astype(np.float64), q))


def _goes_up(odd: Array, discarded: Array, shift: Array, negative: Array, policy: Policy, bits: Array | None) -> Array:
    """Returns whether keep + discarded / 2**shift rounds to keep + 1 instead of keep."""
    half = np.int64(1) << np.maximum(np.minimum(shift, 62) - 1, 0)
    match policy.mode:
        case Mode.NEAREST_EVEN:
            up = (discarded > half) | ((discarded == half) & odd)
        case Mode.NEAREST_AWAY:
            up = discarded >= half
        case Mode.NEAREST_ZERO:
            up = discarded > half
        case Mode.TOWARD_ZERO:
            up = np.zeros_like(negative)
        case Mode.UP:
            up = ~negative
        case Mode.DOWN:
            up = negative
        case Mode.TO_ODD:
            up = ~odd
        case Mode.STOCHASTIC | Mode.STOCHASTIC_B | Mode.STOCHASTIC_C | Mode.STOCHASTIC_EQUAL:
            assert bits is not None
            up = _goes_up_by_chance(discarded, shift, policy, bits)
        case _:
            raise AssertionError(policy.mode)
    return up & (discarded != 0)


def _goes_up_by_chance(discarded: Array, shift: Array, policy: Policy, bits: Array) -> Array:
    k = policy.random_bit_count
    assert k is not None
    word, one = bits.astype(np.int64) & ((1 << k) - 1), 1 << k
    if policy.mode is Mode.STOCHASTIC_EQUAL:
        return np.asarray(2 * word >= one)
    if policy.mode is Mode.STOCHASTIC_B:
        k, word, one = k + 1, 2 * word + 1, 2 * one
    right, left = np.clip(shift - k, 0, 63), np.clip(k - shift, 0, 63)
    chance = discarded >> right << left  # floor(discarded * 2**k / 2**shift)
    if policy.mode is Mode.STOCHASTIC_C:
        rest = discarded - (discarded >> right << right)
        half = np.int64(1) << np.clip(shift - k - 1, 0, 62)
        chance = chance + ((right > 0) & ((rest > half) | ((rest == half) & (chance % 2 == 1))))
    return np.asarray(chance + word >= one)


def _round_like_qpytorch(x: Array, format: Format, policy: Policy, bits: Array | None) -> Array:
    """Computes spec.round_like_qpytorch in float32 operations."""
    bias, m = spec.extra_bias(format), format.mantissa_bits
    added: Any = np.uint32(1 << (22 - m))
    if policy.mode is Mode.QPYTORCH_STOCHASTIC:
        assert bits is not None
        added = bits & np.uint32((1 << (23 - m)) - 1)

    def add_and_truncate(value: Array) -> Array:
        dropped = np.uint32(23 - m)
        return ((value.view(np.uint32) + added) >> dropped << dropped).view(np.float32)

    t = x * np.float32(2.0**bias)
    smallest_normal = np.float32(2.0 ** (2 - 2 ** (format.exponent_bits - 1)))
    shift = np.copysign(smallest_normal, t)
    subnormal = add_and_truncate(t + shift) - shift
    normal = add_and_truncate(t)
    if format.exponent_bits < 8:
        clipped = np.inf if policy.overflow is Overflow.MARK else format.largest * 2.0**bias
        limit = np.float32(2.0 ** (2 ** (format.exponent_bits - 1) + 1))
        normal = np.where(np.abs(normal) >= limit, np.copysign(np.float32(clipped), t), normal)
    result = np.where(np.abs(t) < smallest_normal, subnormal, normal) * np.float32(2.0**-bias)
    return np.where(np.isnan(x), np.float32(-0.0), result)


def _counts(x: Array, result: Array, format: Format) -> Array:
    """Returns the sums of spec.counts over the block, int64 (5,)."""
    magnitude, nan = np.abs(x).astype(np.float64), np.isnan(x)
    midpoint, tie_overflows = format.overflow_threshold
    overflowed = (magnitude >= midpoint) if tie_overflows else (magnitude > midpoint)
    underflowed = (magnitude > 0) & (magnitude <= format.smallest / 2)
    rounded = np.abs(result)
    subnormal = (rounded > 0) & (rounded < format.smallest_normal)
    masks = (overflowed | nan, underflowed, nan, (result != x) & ~nan, subnormal)
    return np.array([np.count_nonzero(mask) for mask in masks], np.int64)


# -- codes --------------------------------------------------------------------------------------------------


def encode_array(x: Array, format: Format, threads: int = 1) -> Array:
    """Returns the codes of values of the format, unsigned with format.code_bits. Missing codes are not checked."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
    significand, exponent = _split(wide)
    highest = exponent + 52
    units = significand >> np.clip(_quantum_exponent(highest, format) - exponent, 0, 63)
    code = (np.maximum(highest - format.min_exponent, 0) << format.mantissa_bits) + units
    if not format.has_zero:
        code -= 1 << format.mantissa_bits
    code = np.where(wide == 0, 0, code).astype(np.uint64)
    signless_nan = format.specials not in ("ieee", "fn")
    negative = np.signbit(x) & ~(np.isnan(x) & signless_nan)
    if not format.has_negative_zero:
        negative &= wide != 0
    code = np.where(np.isinf(wide), np.uint64(format.infinity_code or 0), code)
    code = np.where(np.isnan(wide), np.uint64(format.nan_code or 0), code)
    code = code | np.where(negative, np.uint64(format.sign_mask), np.uint64(0))
    return np.asarray(code.astype(f"uint{format.code_bits}"))


def encode_rounded(
    x: Array, format: Format, policy: Policy, random_bits: Array | Stream | None = None, threads: int = 1
) -> tuple[Array, Array]:
    """Returns the codes of rounded numbers, and how many of these are NaN and infinite."""
    rounded, _ = round_array(x, format, policy, random_bits)
    return encode_array(rounded, format), strays(rounded)


def strays(rounded: Array) -> Array:
    """Returns how many numbers are NaN and infinite."""
    return np.array([np.count_nonzero(np.isnan(rounded)), np.count_nonzero(np.isinf(rounded))], np.int64)


def decode_array(codes: Array, format: Format, dtype: DTypeLike = np.float32, threads: int = 1) -> Array:
    """Returns the numbers of codes, like spec_codes.decode."""
    code = codes.astype(np.uint64)
    magnitude = (code & np.uint64(format.magnitude_mask)).astype(np.int64)
    biased, mantissa = magnitude >> format.mantissa_bits, magnitude & ((1 << format.mantissa_bits) - 1)
    implicit = np.int64(1) << format.mantissa_bits
    if format.has_zero:
        significand = np.where(biased > 0, mantissa + implicit, mantissa if format.subnormals else 0)
        exponent = format.quantum_exponent + np.maximum(biased - 1, 0)
    else:
        significand, exponent = mantissa + implicit, format.quantum_exponent + biased
    with np.errstate(all="ignore"):
        value = np.ldexp(significand.astype(np.float64), exponent)
        value = np.where(magnitude > format.largest_code, np.nan, value)
        if format.infinity_code is not None:
            value = np.where(magnitude == format.infinity_code, np.inf, value)
        value = np.where(code & np.uint64(format.sign_mask) != 0, -value, value)
        if format.nan_code is not None:
            value = np.where(code == np.uint64(format.nan_code), np.nan, value)
        return canonical_nan(np.asarray(value.astype(dtype)))


# -- arrays and random bits ---------------------------------------------------------------------------------


def random_bits(stream: philox.Stream, size: int, first: int = 0, threads: int = 1) -> Array:
    """Elements first .. first + size - 1 of the stream, uint32 (size,)."""
    return philox.random_bits(stream, size, first)


def canonical_nan(x: Array, threads: int = 1) -> Array:
    """Makes every NaN of x quiet and removes its payload, in place. It keeps the sign."""
    np.copyto(x, np.copysign(x.dtype.type(np.nan), x), where=np.isnan(x))
    return x


def all_finite(*arrays: Array, threads: int = 1) -> bool:
    """Returns whether the arrays have neither infinity nor NaN."""
    return all(bool(np.isfinite(x).all()) for x in arrays)


def stack_counts(counts: Sequence[Array], *, threads: int = 1) -> Array:
    """Returns the counts of several calls of ``round_array``, one row each: int64 (n, 5)."""
    return np.array(counts, np.int64).reshape(-1, 5)


def from_numpy(array: Array, threads: int = 1) -> Array:
    """Returns the array, copied only if it is not contiguous."""
    return np.asarray(array, order="C")


def to_numpy(array: Array, threads: int = 1) -> Array:
    """Returns the array."""
    return array


def zeros(shape: tuple[int, ...], threads: int = 1) -> Array:
    """Returns +0 as float32 of this shape."""
    return np.zeros(shape, np.float32)
