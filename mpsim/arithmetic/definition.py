"""The definition of operations on codes: one element at a time, in exact integers and fractions.

Source: IEEE P3109 Interim Report v4.0 §4.9 to §4.16, where an operand or the result has a P3109 format; elsewhere IEEE
754-2019 §5.4 to §5.11, §6 and §9.2. The two differ in two things. P3109 has no negative zero, and its quotients of a
number by zero are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from mpsim.formats import Format
from mpsim.kernels import spec, spec_codes
from mpsim.kernels.spec import Exact
from mpsim.policies import Mode, Overflow, Policy

#: Bits of a root below the last one that any format keeps; the last of them says that something is left.
ROOT_BITS = 140


class Number(NamedTuple):
    """An operand or a result before it is rounded: a fraction, or a float that is infinite or NaN; and the sign bit,
    which also zeros have."""

    value: Fraction | float
    negative: bool

    @property
    def is_nan(self) -> bool:
        return self.value != self.value

    @property
    def magnitude(self) -> Fraction | float:
        return -self.value if self.value < 0 else self.value

    @property
    def is_infinite(self) -> bool:
        return self.magnitude == math.inf

    @property
    def is_zero(self) -> bool:
        return self.value == 0


NAN = Number(math.nan, False)


def signed(value: Fraction | float, zero_negative: bool = False) -> Number:
    """A number whose sign is that of its value, or, of a zero, the given one."""
    return Number(value, value < 0 if value != 0 else zero_negative)


def infinity(negative: bool) -> Number:
    return Number(-math.inf if negative else math.inf, negative)


def number_of(code: int, format: Format) -> Number:
    """The number of a code."""
    magnitude = spec_codes.magnitude_of(code, format)
    negative = bool(code & format.sign_mask) and code != format.nan_code
    if isinstance(magnitude, Exact):
        value: Fraction | float = magnitude.significand * Fraction(2) ** magnitude.exponent
    else:
        value = magnitude
    return Number(-value if negative else value, negative)


def code_of(x: Number, format: Format, policy: Policy, random_bits: int | None = None) -> int:
    """The code of a number rounded to a format. Raises UsageError where the result has no code in the format."""
    if isinstance(x.value, Fraction):
        exact = spec.exact_fraction(x.value, format)
        magnitude = spec.project(exact, x.negative, format, policy, random_bits)
    elif x.is_nan:
        magnitude = math.nan
    else:
        magnitude = spec.project_infinity(x.negative, format, policy)
    return spec_codes.code_of(magnitude, x.negative, format)


# -- arithmetic ----------------------------------------------------------------------------------------------
# zero_negative: whether a sum that is zero, and whose terms have two signs, is negative


def add(x: Number, y: Number, zero_negative: bool) -> Number:
    if x.is_nan or y.is_nan or (x.is_infinite and y.is_infinite and x.negative != y.negative):
        return NAN
    if x.is_infinite or y.is_infinite:
        return x if x.is_infinite else y
    return signed(x.value + y.value, x.negative if x.negative == y.negative else zero_negative)


def subtract(x: Number, y: Number, zero_negative: bool) -> Number:
    return add(x, negated(y), zero_negative)


def multiply(x: Number, y: Number, zero_negative: bool = False) -> Number:
    negative = x.negative != y.negative
    if x.is_nan or y.is_nan or (x.is_infinite and y.is_zero) or (x.is_zero and y.is_infinite):
        return NAN
    if x.is_infinite or y.is_infinite:
        return infinity(negative)
    return Number(x.value * y.value, negative)


def divide(x: Number, y: Number, zero_negative: bool = False) -> Number:
    negative = x.negative != y.negative
    if x.is_nan or y.is_nan or (x.is_infinite and y.is_infinite) or (x.is_zero and y.is_zero):
        return NAN
    if x.is_infinite or y.is_zero:
        return infinity(negative)
    return Number(Fraction(0) if y.is_infinite else x.value / y.value, negative)


def fma(x: Number, y: Number, z: Number, zero_negative: bool) -> Number:
    product = multiply(x, y)
    return product if z.is_nan and product.is_nan else add(product, z, zero_negative)


def faa(x: Number, y: Number, z: Number, zero_negative: bool) -> Number:
    """Fused add-add, which IEEE 754 does not have."""
    return add(add(x, y, zero_negative), z, zero_negative)


def reciprocal(x: Number, zero_negative: bool = False) -> Number:
    return divide(Number(Fraction(1), False), x)


def square_root(x: Number, zero_negative: bool = False) -> Number:
    if x.is_nan or x.is_zero:
        return NAN if x.is_nan else x
    if x.negative:
        return NAN
    return x if x.is_infinite else Number(root(Fraction(x.value)), False)


def reciprocal_square_root(x: Number, zero_negative: bool = False) -> Number:
    if x.is_nan or (x.negative and not x.is_zero):
        return NAN
    if x.is_zero:
        return infinity(x.negative)
    return Number(Fraction(0) if x.is_infinite else root(1 / Fraction(x.value)), False)


def root(x: Fraction) -> Fraction:
    """The square root of a positive fraction; an irrational one is cut far below any format, its last bit being 1."""
    exponent = spec.floor_log2(x) // 2 - ROOT_BITS
    scaled = x / Fraction(4) ** exponent
    found = math.isqrt(math.floor(scaled))
    inexact = found * found != scaled
    return (found | inexact) * Fraction(2) ** exponent


# -- signs ---------------------------------------------------------------------------------------------------


def negated(x: Number, zero_negative: bool = False) -> Number:
    return Number(-x.value, not x.negative)


def absolute(x: Number, zero_negative: bool = False) -> Number:
    return Number(x.magnitude, False)


def copy_sign(x: Number, y: Number, zero_negative: bool = False) -> Number:
    """x with the sign of y. P3109: NaN where either is; IEEE 754 copies sign bits, of a NaN too."""
    return negated(x) if x.negative != y.negative else x


def converted(x: Number, zero_negative: bool = False) -> Number:
    return x


# -- extrema -------------------------------------------------------------------------------------------------


def below(x: Number, y: Number) -> bool:
    """Whether x is less than y, -0 being less than +0."""
    return x.value < y.value or (x.is_zero and y.is_zero and x.negative and not y.negative)


def minimum(x: Number, y: Number, zero_negative: bool = False) -> Number:
    if x.is_nan or y.is_nan:
        return NAN
    return x if below(x, y) else y


def maximum(x: Number, y: Number, zero_negative: bool = False) -> Number:
    if x.is_nan or y.is_nan:
        return NAN
    return y if below(x, y) else x


def minimum_magnitude(x: Number, y: Number, zero_negative: bool = False) -> Number:
    if x.is_nan or y.is_nan or x.magnitude == y.magnitude:
        return minimum(x, y)
    return x if x.magnitude < y.magnitude else y


def maximum_magnitude(x: Number, y: Number, zero_negative: bool = False) -> Number:
    if x.is_nan or y.is_nan or x.magnitude == y.magnitude:
        return maximum(x, y)
    return x if x.magnitude > y.magnitude else y


Binary = Callable[[Number, Number, bool], Number]


def of_numbers(extremum: Binary) -> Binary:
    """The variant in which a NaN gives way to a number."""

    def chosen(x: Number, y: Number, zero_negative: bool) -> Number:
        if x.is_nan or y.is_nan:
            return y if x.is_nan else x
        return extremum(x, y, zero_negative)

    return chosen


def of_finite(extremum: Binary) -> Binary:
    """The variant in which NaN and infinities give way to finite numbers (P3109 §4.11.3)."""

    def chosen(x: Number, y: Number, zero_negative: bool) -> Number:
        if x.is_infinite != y.is_infinite and not (x.is_nan or y.is_nan):
            return y if x.is_infinite else x
        return of_numbers(extremum)(x, y, zero_negative)

    return chosen


def clamp(x: Number, low: Number, high: Number, zero_negative: bool = False) -> Number:
    """x held between two bounds (P3109 §4.11.4): NaN where the lower is above the upper, or the bounds are an infinity
    that leaves nothing between them."""
    if x.is_nan or low.is_nan or high.is_nan or low.value > high.value:
        return NAN
    if low.value == high.value and low.is_infinite:
        return low
    if high.value == -math.inf or low.value == math.inf:
        return NAN
    return low if x.value <= low.value else high if x.value >= high.value else x


def scaled(rule: Callable[..., Number]) -> Callable[..., Number]:
    """The variant whose operands each follow a scale factor, by which they are multiplied exactly (P3109 §5.5)."""

    def result(*factors: Any) -> Number:
        *numbers, zero_negative = factors
        products = [multiply(scale, x) for scale, x in zip(numbers[::2], numbers[1::2], strict=True)]
        return rule(*products, zero_negative)

    return result


#: name -> (operands, rule)
ARITHMETIC: dict[str, tuple[int, Callable[..., Number]]] = {
    "convert": (1, converted),
    "negate": (1, negated),
    "abs": (1, absolute),
    "copysign": (2, copy_sign),
    "add": (2, add),
    "subtract": (2, subtract),
    "multiply": (2, multiply),
    "divide": (2, divide),
    "fma": (3, fma),
    "faa": (3, faa),
    "sqrt": (1, square_root),
    "reciprocal": (1, reciprocal),
    "rsqrt": (1, reciprocal_square_root),
    "minimum": (2, minimum),
    "maximum": (2, maximum),
    "minimum_number": (2, of_numbers(minimum)),
    "maximum_number": (2, of_numbers(maximum)),
    "minimum_magnitude": (2, minimum_magnitude),
    "maximum_magnitude": (2, maximum_magnitude),
    "minimum_magnitude_number": (2, of_numbers(minimum_magnitude)),
    "maximum_magnitude_number": (2, of_numbers(maximum_magnitude)),
    "minimum_finite": (2, of_finite(minimum)),
    "maximum_finite": (2, of_finite(maximum)),
    "clamp": (3, clamp),
}
#: The operations that are defined with scale factors too.
SCALED = ("convert", "add", "subtract", "multiply", "fma", "faa")
ARITHMETIC |= {f"scaled_{name}": (2 * ARITHMETIC[name][0], scaled(ARITHMETIC[name][1])) for name in SCALED}
#: Operations on the sign bit, which do not compute: they keep the sign of a NaN.
OF_THE_SIGN = ("convert", "negate", "abs", "copysign")


def operate(
    name: str,
    codes: Sequence[int],
    formats: Sequence[Format],
    result: Format,
    policy: Policy = Policy(),
    random_bits: int | None = None,
    rules: str | None = None,
) -> int:
    """The code of an operation's result: computed exactly and rounded once. rules: see ``is_p3109``.

    >>> from mpsim.formats import FORMATS
    >>> fp8 = FORMATS["p3109_k8p3"]
    >>> hex(operate("add", [0x40, 0x3C], [fp8, fp8], fp8))  # 1 + 0.5
    '0x42'
    """
    p3109 = is_p3109(rules, (*formats, result))
    numbers = [number_of(code, format) for code, format in zip(codes, formats, strict=True)]
    if p3109:
        numbers = [Number(x.value, x.negative and not x.is_zero) for x in numbers]
    found = p3109_exception(name, numbers) if p3109 else None
    if found is None:
        found = ARITHMETIC[name][1](*numbers, policy.mode is Mode.DOWN and not p3109)
    if found.is_nan and (p3109 or name not in OF_THE_SIGN):
        found = NAN
    if p3109 and found.is_zero:
        found = Number(Fraction(0), False)
    return code_of(found, result, p3109_policy(policy, result) if p3109 else policy, random_bits)


def is_p3109(rules: str | None, formats: Sequence[Format]) -> bool:
    """Whether the rules of P3109 apply: "p3109", "ieee754", or None for P3109's where one of the formats is P3109's."""
    return rules == "p3109" or (rules is None and any(format.is_p3109 for format in formats))


def p3109_policy(policy: Policy, result: Format) -> Policy:
    """The policy by which P3109 rounds to a format of another standard: to odd, overflow is infinity (§4.7.5)."""
    if policy == Policy(Mode.TO_ODD) and result.has_infinity and not result.is_p3109:
        return Policy(Mode.TO_ODD, Overflow.MARK)
    return policy


def p3109_exception(name: str, numbers: Sequence[Number]) -> Number | None:
    """NaN where P3109 has it and IEEE 754 has not: quotients by zero (§4.10.5), and signs copied from NaN (§4.10.2)."""
    by_zero = name in ("divide", "reciprocal", "rsqrt") and numbers[-1].is_zero
    of_nan = name == "copysign" and numbers[-1].is_nan
    return NAN if by_zero or of_nan else None
