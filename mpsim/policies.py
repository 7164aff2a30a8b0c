"""Defines how a real number is rounded to a format: rounding mode, overflow policy, number of random bits.

Source: IEEE 754-2019 §4.3 and §7.4. docs/semantics.md has the complete definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from mpsim import checks
from mpsim.errors import UsageError


class Mode(StrEnum):
    """Selects which neighbour of an unrepresentable number is the result. Kernels number the modes in this order.

    >>> import mpsim
    >>> [float(mpsim.round_to(2.25, "fp_4_1_7", mode)) for mode in (Mode.NEAREST_EVEN, Mode.UP, Mode.TOWARD_ZERO)]
    [2.0, 3.0, 2.0]
    """

    NEAREST_EVEN = "nearest_even"
    NEAREST_AWAY = "nearest_away"
    NEAREST_ZERO = "nearest_zero"
    TOWARD_ZERO = "toward_zero"
    UP = "up"
    DOWN = "down"
    TO_ODD = "to_odd"
    STOCHASTIC = "stochastic"
    QPYTORCH_NEAREST = "qpytorch_nearest"
    QPYTORCH_STOCHASTIC = "qpytorch_stochastic"
    STOCHASTIC_B = "stochastic_b"
    STOCHASTIC_C = "stochastic_c"
    STOCHASTIC_EQUAL = "stochastic_equal"

    @property
    def number(self) -> int:
        return list(type(self)).index(self)

    @property
    def needs_random_bits(self) -> bool:
        return self.takes_bit_count or self is Mode.QPYTORCH_STOCHASTIC

    @property
    def takes_bit_count(self) -> bool:
        """Whether a number of random bits decides: StochasticA (``STOCHASTIC``), B and C of P3109 v4.0 §4.7.4, and
        ``STOCHASTIC_EQUAL``, where both neighbours have the probability 1/2 wherever the number lies between them."""
        return self in (Mode.STOCHASTIC, Mode.STOCHASTIC_B, Mode.STOCHASTIC_C, Mode.STOCHASTIC_EQUAL)

    @property
    def is_legacy(self) -> bool:
        """Whether the mode reproduces published results including their defects. It supports float32 sources only."""
        return self in (Mode.QPYTORCH_NEAREST, Mode.QPYTORCH_STOCHASTIC)


#: The modes that take no random bits, without the legacy ones.
PLAIN_MODES = tuple(mode for mode in Mode if not mode.needs_random_bits and not mode.is_legacy)


class Overflow(StrEnum):
    """Selects what a rounded result beyond the largest finite number becomes. Kernels number them in this order.

    >>> import mpsim
    >>> [float(mpsim.round_to(500.0, "float8_e4m3", overflow=each)) for each in (Overflow.INFINITY, Overflow.SATURATE)]
    [inf, 240.0]
    """

    INFINITY = "infinity"
    SATURATE = "saturate"
    SATURATE_PROPAGATE = "saturate_propagate"
    MARK = "mark"

    @property
    def number(self) -> int:
        return list(type(self)).index(self)


@dataclass(frozen=True)
class Policy:
    """Combines a rounding mode and an overflow policy.

    Args:
        mode: The rounding mode.
        overflow: The overflow policy.
        random_bit_count: For mode "stochastic" and its variants, the number of random bits used (1 to 32), otherwise
            None.

    Raises:
        ValueError: A name is unknown, or the three do not match.

    >>> Policy("up").overflow
    <Overflow.INFINITY: 'infinity'>
    """

    mode: Mode = Mode.NEAREST_EVEN
    overflow: Overflow = Overflow.INFINITY
    random_bit_count: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", _member(Mode, self.mode, "rounding mode"))
        object.__setattr__(self, "overflow", _member(Overflow, self.overflow, "overflow policy"))
        count = self.random_bit_count
        if self.mode.takes_bit_count:
            if count is None:
                raise UsageError(
                    f"random_bit_count must be a whole number from 1 to 32 for mode {self.mode.value!r}, got None",
                    "random_bit_count",
                )
            object.__setattr__(self, "random_bit_count", checks.whole("random_bit_count", count, least=1, most=32))
        elif count is not None:
            raise UsageError(
                f"random_bit_count is for mode 'stochastic', not {self.mode.value!r}; got {checks.shown(count)}",
                "random_bit_count",
            )
        if self.mode.is_legacy and self.overflow not in (Overflow.SATURATE, Overflow.MARK):
            raise UsageError(
                f"mode {self.mode.value!r} supports only overflow 'saturate' and 'mark' (as in QPyTorch), "
                f"got {self.overflow.value!r}"
            )


Choice = TypeVar("Choice", bound=StrEnum)


def _member(table: type[Choice], value: str, what: str) -> Choice:
    if isinstance(value, table):
        return value
    return table(checks.named(what, value, [member.value for member in table]))
