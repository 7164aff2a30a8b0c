"""Converts arrays of numbers to integers and back. mpsim.integers.definition defines the results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import FORMATS
from mpsim.integers.types import Integer, IntegerOverflow, IntegerPolicy, as_integer, special_code
from mpsim.interchange import as_array
from mpsim.kernels.contract import Array
from mpsim.policies import Mode
from mpsim.process import in_default_environment


@in_default_environment
def to_integer(
    x: ArrayLike,
    type: str | Integer,
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | IntegerOverflow = IntegerOverflow.SATURATE,
    *,
    nan: str | int = "zero",
    infinity: str | int = "overflow",
    random_bits: Array | None = None,
    random_bit_count: int | None = None,
) -> Any:
    """Rounds each element of x to an integer, once, from its exact value, and returns the codes of an integer type.

    Args:
        x: Floats of any NumPy or ml_dtypes type, or integers, of any shape.
        type: The integer type, or its name: "int8", "uint4", "int8_sign_magnitude", "uint8_z128" (zero point 128).
        mode: The rounding mode.
        overflow: What a number outside the range becomes: "saturate", "wrap" (modulo 2**bits) or "indefinite" (x86).
        nan, infinity: What these become: "zero", "least", "most", "indefinite" or a number. Infinity is by default
            treated as a number beyond the range, and gives 0 with "wrap".
        random_bits, random_bit_count: As for ``mpsim.round_to``, for the stochastic modes.

    Returns:
        Codes of x's shape, of NumPy type ``Integer.dtype``. Those of two's complement are sign-extended.

    Raises:
        UsageError, UsageTypeError: An argument, or a combination of arguments, is not supported.

    Source: IEEE 754-2019 §5.8.

    >>> to_integer(np.float32([0.5, 1.5, 300, -np.inf]), "uint8", "nearest_even").tolist()
    [0, 2, 255, 0]
    """
    target = as_integer(type)
    policy = IntegerPolicy(mode, overflow, nan, infinity, random_bit_count)  # type: ignore[arg-type]
    policy.check(target)
    given = as_array(x)
    shape, array = given.shape, np.atleast_1d(given)
    if array.dtype.kind in "iu":
        magnitude = _magnitudes(array)
        codes = _codes(magnitude, array < 0, None, target, policy)
    elif array.dtype.name in FORMATS:
        with np.errstate(invalid="ignore"):
            wide = np.asarray(array, np.float64)
        bits = _random_bits(shape, policy, random_bits)
        codes = _of_floats(wide, bits, target, policy)
    else:
        raise UsageTypeError(f"x must be floats or integers, got {array.dtype}")
    return as_dtype(codes, target).reshape(shape)[()]


@in_default_environment
def from_integer(codes: ArrayLike, type: str | Integer) -> Any:
    """Returns the numbers of codes: the inverse of ``to_integer``, and the first step of a dequantiser.

    Args:
        codes: Integers, as ``to_integer`` returns them, or as non-negative codes.
        type: The integer type, or its name.

    Returns:
        int64 of the codes' shape, uint64 for unsigned types of 64 bits.

    Raises:
        UsageTypeError: The codes are not integers.

    >>> from_integer(np.uint8([0, 128, 255]), "uint8_z128").tolist()
    [-128, 0, 127]
    """
    target, given = as_integer(type), as_array(codes)
    shape, array = given.shape, np.atleast_1d(given)
    if array.dtype.kind not in "iu":
        raise UsageTypeError(f"codes must be integers, got {array.dtype}")
    unsigned = array.astype(np.int64 if array.dtype.kind == "i" else np.uint64).view(np.uint64) & _mask(target)
    if target.bits == 64 and not target.signed and not target.zero_point:
        return unsigned.reshape(shape)[()]
    sign = np.uint64(1 << target.bits - 1)
    negative = (unsigned & sign != 0) & target.signed
    magnitude = np.where(target.layout == "sign_magnitude", unsigned ^ sign, np.uint64(0) - (unsigned | ~_mask(target)))
    numbers = np.where(negative, np.uint64(0) - magnitude, unsigned) - np.uint64(target.zero_point % (1 << 64))
    return numbers.view(np.int64).reshape(shape)[()]


def as_dtype(codes: Array, type: Integer) -> Array:
    """Returns uint64 codes as arrays of the type's dtype, sign-extended for two's complement."""
    if type.dtype.startswith("int"):
        unused = np.uint64(64 - type.bits)
        return (codes << unused).view(np.int64).__rshift__(np.int64(64 - type.bits)).astype(type.dtype)
    return codes.astype(type.dtype)


def _magnitudes(x: Array) -> Array:
    """Returns |x| of integers as uint64, which also holds that of -2**63."""
    if x.dtype.kind == "u":
        return x.astype(np.uint64)
    wide = x.astype(np.int64).view(np.uint64)
    return np.where(x < 0, np.uint64(0) - wide, wide)


def _mask(type: Integer) -> np.uint64:
    return np.uint64((1 << type.bits) - 1)


def _of_floats(x: Array, random_bits: Array | None, type: Integer, policy: IntegerPolicy) -> Array:
    """Returns the uint64 codes of float64 numbers. |x| is split into a whole part and a fraction, both exact."""
    nan, infinite = np.isnan(x), np.isinf(x)
    magnitude = np.where(nan | infinite, 0.0, np.abs(x))
    negative = np.signbit(x)
    whole = np.floor(magnitude)
    rounded = whole + _goes_up(np.fmod(whole, 2) == 1, magnitude - whole, negative, random_bits, policy)
    codes = _codes(np.fmod(rounded, 2.0**64).astype(np.uint64), negative, rounded, type, policy)
    if nan.any():
        codes[nan] = np.uint64(special_code(policy.nan, type))
    if infinite.any():
        codes[infinite] = _of_infinity(negative[infinite], type, policy)
    return codes


def _of_infinity(negative: Array, type: Integer, policy: IntegerPolicy) -> Array:
    if policy.infinity != "overflow":
        return np.full(negative.shape, special_code(policy.infinity, type), np.uint64)
    if policy.overflow is IntegerOverflow.WRAP:
        return np.full(negative.shape, type.code(0), np.uint64)
    if policy.overflow is IntegerOverflow.INDEFINITE:
        return np.full(negative.shape, type.indefinite, np.uint64)
    return np.where(negative, np.uint64(type.code(type.least)), np.uint64(type.code(type.most)))


def _goes_up(odd: Array, rest: Array, negative: Array, random_bits: Array | None, policy: IntegerPolicy) -> Array:
    """Returns whether the magnitude becomes the next larger integer. ``rest`` is the discarded fraction."""
    some = rest > 0
    match policy.mode:
        case Mode.NEAREST_EVEN:
            return (rest > 0.5) | ((rest == 0.5) & odd)
        case Mode.NEAREST_AWAY:
            return rest >= 0.5
        case Mode.NEAREST_ZERO:
            return rest > 0.5
        case Mode.TOWARD_ZERO:
            return np.zeros(rest.shape, bool)
        case Mode.UP:
            return some & ~negative
        case Mode.DOWN:
            return some & negative
        case Mode.TO_ODD:
            return some & ~odd
    assert policy.random_bit_count is not None and random_bits is not None
    one = 1 << policy.random_bit_count
    words = (random_bits.astype(np.uint64) & np.uint64(one - 1)).astype(np.float64)
    if policy.mode is Mode.STOCHASTIC_EQUAL:
        return some & (2 * words >= one)
    if policy.mode is Mode.STOCHASTIC_B:
        return some & (np.floor(rest * (2.0 * one)) + 2 * words + 1 >= 2.0 * one)
    chance = np.rint(rest * one) if policy.mode is Mode.STOCHASTIC_C else np.floor(rest * one)
    return some & (chance + words >= one)


def _codes(magnitude: Array, negative: Array, whole: Array | None, type: Integer, policy: IntegerPolicy) -> Array:
    """Returns the codes of rounded numbers, with magnitudes modulo 2**64 and, for floats, as float64 ``whole``."""
    largest = type.most, -type.least
    if whole is None:
        limits = [np.uint64(min(limit, (1 << 64) - 1)) for limit in largest]
        beyond = magnitude > np.where(negative, limits[1], limits[0])
    else:
        beyond = whole > np.where(negative, _float_at_most(largest[1]), _float_at_most(largest[0]))
    numbers = np.where(negative, np.uint64(0) - magnitude, magnitude)
    with np.errstate(over="ignore"):
        codes = (numbers + np.uint64(type.zero_point % (1 << 64))) & _mask(type)
    if type.layout == "sign_magnitude":
        integers = (numbers + np.uint64(type.zero_point % (1 << 64))).view(np.int64)
        sign = np.uint64(1 << type.bits - 1)
        codes = np.where(integers < 0, (-integers).view(np.uint64) | sign, integers.view(np.uint64))
    if policy.overflow is IntegerOverflow.SATURATE:
        ends = np.where(negative, np.uint64(type.code(type.least)), np.uint64(type.code(type.most)))
        codes = np.where(beyond, ends, codes)
    elif policy.overflow is IntegerOverflow.INDEFINITE:
        codes = np.where(beyond, np.uint64(type.indefinite), codes)
    return np.asarray(codes)


def _float_at_most(limit: int) -> float:
    """Returns the largest float64 that is at most ``limit``."""
    found = float(limit)
    return found if int(found) <= limit else float(np.nextafter(found, 0.0))


def _random_bits(shape: tuple[int, ...], policy: IntegerPolicy, random_bits: Array | None) -> Array | None:
    if not policy.mode.takes_bit_count:
        if random_bits is not None:
            raise UsageError(f"mode {policy.mode.value!r} does not use random bits; pass random_bits=None")
        return None
    bits = np.asarray(random_bits)
    if random_bits is None or bits.dtype != np.uint32 or bits.shape != shape:
        raise UsageError(
            f"mode {policy.mode.value!r} needs random_bits: uint32 of shape {shape}, got "
            f"{checks.shown(random_bits) if random_bits is None else f'{bits.dtype} of shape {bits.shape}'}"
        )
    return np.atleast_1d(bits)
