"""Declares integer types, and how a real number becomes an integer: mode, overflow, infinity and NaN.

docs/semantics.md §2 has the definition; mpsim.integers.definition states it in exact integers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.policies import Mode

#: How negative numbers are encoded in a signed type.
LAYOUTS = ("twos_complement", "sign_magnitude")


@dataclass(frozen=True)
class Integer:
    """An integer type of 2 to 64 bits.

    Args:
        name: Its name, such as "int8".
        bits: The width of a code.
        signed: Whether it has negative codes.
        layout: How they are encoded, one of ``LAYOUTS``.
        zero_point: The code that represents 0. The number of a code is the code's integer minus this.

    Raises:
        UsageError: The arguments do not describe a type, or the zero point is not one of its integers.

    >>> as_integer("uint8_z128").least, as_integer("int8_sign_magnitude").least
    (-128, -127)
    """

    name: str
    bits: int
    signed: bool = True
    layout: str = "twos_complement"
    zero_point: int = 0

    def __post_init__(self) -> None:
        checks.whole(f"bits of integer {self.name!r}", self.bits, least=2, most=64)
        checks.named(f"layout of integer {self.name!r}", self.layout, LAYOUTS)
        if self.layout == "sign_magnitude" and not self.signed:
            raise UsageError(f"integer {self.name!r} is unsigned, so it has no sign_magnitude layout")
        lowest, highest = self._lowest, self._highest
        if isinstance(self.zero_point, bool) or not isinstance(self.zero_point, int):
            raise UsageError(f"the zero point of {self.name!r} must be an integer, got {checks.shown(self.zero_point)}")
        if self.zero_point and self.bits > 32:
            raise UsageError(f"integer {self.name!r}: types of more than 32 bits have zero point 0")
        if not lowest <= self.zero_point <= highest:
            raise UsageError(
                f"the zero point of {self.name!r} must be one of its integers, {lowest} to {highest}; "
                f"got {self.zero_point}"
            )

    @property
    def _lowest(self) -> int:
        if not self.signed:
            return 0
        return -(1 << self.bits - 1) + (self.layout == "sign_magnitude")

    @property
    def _highest(self) -> int:
        return (1 << self.bits - self.signed) - 1

    @property
    def least(self) -> int:
        """The smallest number."""
        return self._lowest - self.zero_point

    @property
    def most(self) -> int:
        """The largest number."""
        return self._highest - self.zero_point

    @property
    def code_bits(self) -> int:
        """The width of the NumPy integer that holds a code: 8, 16, 32 or 64."""
        return next(width for width in (8, 16, 32, 64) if self.bits <= width)

    @property
    def dtype(self) -> str:
        """The NumPy type of codes: signed for two's complement, where it is sign-extended, otherwise unsigned."""
        return f"{'int' if self.signed and self.layout == 'twos_complement' else 'uint'}{self.code_bits}"

    @property
    def indefinite(self) -> int:
        """The code of x86's "integer indefinite": only the highest bit is set, or, in an unsigned type, all bits."""
        return 1 << self.bits - 1 if self.signed else (1 << self.bits) - 1

    def code(self, number: int) -> int:
        """Returns the code, as a non-negative integer, of a number from ``least`` to ``most``."""
        integer = number + self.zero_point
        if self.layout == "sign_magnitude" and integer < 0:
            return -integer | 1 << self.bits - 1
        return integer % (1 << self.bits)

    def number(self, code: int) -> int:
        """Returns the number of a code, given as a non-negative integer. Both zeros of sign_magnitude are 0."""
        sign = 1 << self.bits - 1
        if self.signed and code & sign:
            code = -(code ^ sign) if self.layout == "sign_magnitude" else code - 2 * sign
        return code - self.zero_point

    def __str__(self) -> str:
        return self.name


_NAME = re.compile(rf"(u?)int({checks.DIGITS})(_sign_magnitude)?(?:_z(-?{checks.DIGITS}))?")


def is_integer_name(name: object) -> bool:
    """Returns whether a name is that of an integer type.

    >>> is_integer_name("int8"), is_integer_name("bfloat16")
    (True, False)
    """
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def as_integer(name: str | Integer) -> Integer:
    """Returns an Integer unchanged, or the type of a name, such as ``int8``, ``int8_sign_magnitude`` or ``uint8_z128``.

    Raises:
        UsageError: There is no such type.

    >>> as_integer("int4").least
    -8
    """
    if isinstance(name, Integer):
        return name
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise UsageError(
            f"unknown integer type {name!r}; expected e.g. int8, uint4, int8_sign_magnitude, or uint8_z128 for a zero "
            f"point of 128"
        )
    layout = "sign_magnitude" if found[3] else "twos_complement"
    return Integer(name, int(found[2]), not found[1], layout, int(found[4] or 0))


class IntegerOverflow(StrEnum):
    """Selects what a rounded number outside the type's range becomes.

    >>> import numpy as np
    >>> from mpsim.integers import to_integer
    >>> [int(to_integer(np.float32(300), "int8", overflow=each)) for each in IntegerOverflow]
    [127, 44, -128]
    """

    #: The nearest number of the type.
    SATURATE = "saturate"
    #: The number modulo 2**bits; infinity gives 0, as in ECMAScript's ToInt32.
    WRAP = "wrap"
    #: ``Integer.indefinite``, as in x86's cvttss2si.
    INDEFINITE = "indefinite"


#: What NaN and infinity may become, besides a number: a name, and the number that it means in a type.
SPECIAL = ("zero", "least", "most", "indefinite")


def special_code(value: str | int, type: Integer) -> int:
    """Returns the code that a name of ``SPECIAL`` or a number means.

    Raises:
        UsageError: It is neither a name nor a number of the type.

    >>> hex(special_code("least", as_integer("int8")))
    '0x80'
    """
    if isinstance(value, str) and value in SPECIAL:
        numbers = {"zero": 0, "least": type.least, "most": type.most}
        return type.indefinite if value == "indefinite" else type.code(numbers[value])
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = type.most + 1
    if isinstance(value, bool) or not type.least <= number <= type.most:
        raise UsageError(
            f"NaN or infinity must become one of {', '.join(SPECIAL)}, or a number of {type} ({type.least} to "
            f"{type.most}); got {value!r}"
        )
    return type.code(number)


@dataclass(frozen=True)
class IntegerPolicy:
    """How a real number becomes an integer.

    Args:
        mode: The rounding mode to an integer. Ties to even are decided before the zero point is added.
        overflow: What a rounded number outside the range becomes.
        nan: What NaN becomes: a name of ``SPECIAL``, or a number.
        infinity: What infinity becomes: "overflow" (as a number beyond the range), a name of ``SPECIAL`` or a number.
        random_bit_count: For the stochastic modes, the number of random bits used (1 to 32), otherwise None.

    Raises:
        UsageError: A name is unknown, or the arguments do not match.

    >>> IntegerPolicy("nearest_even", nan="most").overflow
    <IntegerOverflow.SATURATE: 'saturate'>
    """

    mode: Mode = Mode.NEAREST_EVEN
    overflow: IntegerOverflow = IntegerOverflow.SATURATE
    nan: str | int = "zero"
    infinity: str | int = "overflow"
    random_bit_count: int | None = None

    def __post_init__(self) -> None:
        mode = Mode(checks.named("rounding mode", self.mode, [each.value for each in Mode if not each.is_legacy]))
        overflow = checks.named("overflow of integers", self.overflow, [each.value for each in IntegerOverflow])
        object.__setattr__(self, "mode", mode)
        object.__setattr__(self, "overflow", IntegerOverflow(overflow))
        if mode.takes_bit_count:
            checks.whole("random_bit_count", self.random_bit_count, least=1, most=32)
        elif self.random_bit_count is not None:
            raise UsageError(f"random_bit_count is for stochastic modes, not {mode.value!r}", "random_bit_count")

    def check(self, type: Integer) -> None:
        """Raises UsageError if the policy is not defined for a type."""
        if self.overflow is IntegerOverflow.WRAP and type.layout == "sign_magnitude":
            raise UsageError(f"overflow 'wrap' is defined for two's complement and unsigned integers, not for {type}")
        special_code(self.nan, type)
        if self.infinity != "overflow":
            special_code(self.infinity, type)
