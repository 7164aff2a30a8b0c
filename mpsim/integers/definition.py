"""The definition of conversions to integers: one number at a time, in exact integers.

Source: IEEE 754-2019 §5.8 (rounding to integer formats), docs/semantics.md §2.
"""

from __future__ import annotations

import math
from fractions import Fraction

from mpsim.integers.types import Integer, IntegerOverflow, IntegerPolicy, special_code
from mpsim.kernels import spec


def code_of(
    x: float | Fraction | int, type: Integer, policy: IntegerPolicy = IntegerPolicy(), random_bits: int | None = None
) -> int:
    """Returns the code, as a non-negative integer, that a number becomes.

    >>> from mpsim.integers import as_integer
    >>> code_of(-0.75, as_integer("int8"))
    255
    """
    if isinstance(x, float) and math.isnan(x):
        return special_code(policy.nan, type)
    if isinstance(x, float) and math.isinf(x):
        if policy.infinity != "overflow":
            return special_code(policy.infinity, type)
        beyond = type.most + 1 if x > 0 else type.least - 1
        return type.code(0) if policy.overflow is IntegerOverflow.WRAP else in_range(beyond, type, policy)
    return in_range(to_whole(Fraction(x), policy, random_bits), type, policy)


def to_whole(x: Fraction, policy: IntegerPolicy, random_bits: int | None = None) -> int:
    """Returns an integer neighbour of x, by the mode. The discarded part is a fraction of two integers."""
    keep, rest = divmod(abs(x.numerator), x.denominator)
    shift = x.denominator.bit_length() - 1  # x comes from a binary number: the denominator is a power of two
    assert x.denominator == 1 << shift
    mode_up = spec.goes_up(keep % 2 == 1, rest, shift, x < 0, policy, random_bits) if rest else False  # type: ignore[arg-type]
    return -(keep + mode_up) if x < 0 else keep + mode_up


def in_range(number: int, type: Integer, policy: IntegerPolicy) -> int:
    """Returns the code of an integer, by the overflow policy where the type does not have it."""
    if type.least <= number <= type.most:
        return type.code(number)
    match policy.overflow:
        case IntegerOverflow.SATURATE:
            return type.code(type.most if number > 0 else type.least)
        case IntegerOverflow.WRAP:
            return (number + type.zero_point) % (1 << type.bits)
        case IntegerOverflow.INDEFINITE:
            return type.indefinite
    raise AssertionError(policy.overflow)
