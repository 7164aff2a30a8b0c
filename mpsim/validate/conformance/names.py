"""Names of IEEE P3109's Interim Report v4.0 and those of mpsim: formats (§3.2), operations, projections (§4.2)."""

from __future__ import annotations

import re
from typing import NamedTuple

from mpsim import checks
from mpsim.arithmetic import ARITHMETIC, COMPARISONS
from mpsim.arithmetic.definition import SCALED
from mpsim.errors import UsageError
from mpsim.formats import Format, as_format
from mpsim.policies import Mode, Overflow, Policy

#: The document that the names and the definition come from.
REPORT = "IEEE P3109 Interim Report v4.0 (26 June 2026)"
_SINGLE = {"fma": "FMA", "faa": "FAA", "reciprocal": "Recip", "rsqrt": "RSqrt", "copysign": "CopySign"}
_RELATIONS = ("less", "less_equal", "equal", "greater", "greater_equal")
_SPECIAL = {
    "is_nan": "IsNaN",
    "total_order": "TotalOrder",
    "next_greater": "NextGreaterThan",
    "next_less": "NextLessThan",
}


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


#: mpsim's name of an operation -> P3109's
OPERATIONS = {name: _SINGLE.get(name, _camel(name)) for name in ARITHMETIC if not name.startswith("scaled_")}
OPERATIONS |= {f"scaled_{name}": f"Scaled{OPERATIONS[name]}" for name in SCALED}
OPERATIONS |= {
    name: f"Compare{_camel(name)}" if name in _RELATIONS else _camel(name) for name in COMPARISONS
} | _SPECIAL
MODES = {
    Mode.NEAREST_EVEN: "NearestTiesToEven",
    Mode.NEAREST_AWAY: "NearestTiesToAway",
    Mode.TOWARD_ZERO: "TowardZero",
    Mode.UP: "TowardPositive",
    Mode.DOWN: "TowardNegative",
    Mode.TO_ODD: "ToOdd",
    Mode.STOCHASTIC: "StochasticA",
    Mode.STOCHASTIC_B: "StochasticB",
    Mode.STOCHASTIC_C: "StochasticC",
}
SATURATIONS = {
    Overflow.INFINITY: "SatNone",
    Overflow.SATURATE: "SatFinite",
    Overflow.SATURATE_PROPAGATE: "SatPropagate",
}
#: The formats of other standards that operations may convert to and from (§4.14).
EXTERNAL = {"binary64": "float64", "binary32": "float32", "binary16": "float16", "BFloat16": "bfloat16"}


def format_name(format: Format) -> str:
    """P3109's name of a format.

    >>> format_name(as_format("p3109_k8p3")), format_name(as_format("float32"))
    ('Binary8p3se', 'binary32')
    """
    if not format.is_p3109:
        return {ours: theirs for theirs, ours in EXTERNAL.items()}.get(format.name, format.name)
    domain = "f" if format.specials == "p3109_finite" else "e"
    return f"Binary{format.bits}p{format.precision}{'s' if format.signed else 'u'}{domain}"


def format_of(name: str) -> Format:
    """The format of a name of P3109's or of mpsim's. Raises UsageError for others.

    >>> format_of("Binary8p1uf").name
    'p3109_k8p1u_finite'
    """
    found = re.fullmatch(rf"Binary({checks.DIGITS})p({checks.DIGITS})([su])([ef])", name)
    if found:
        width, precision, sign, domain = found.groups()
        return as_format(f"p3109_k{width}p{precision}{'u' * (sign == 'u')}{'_finite' * (domain == 'f')}")
    format = as_format(EXTERNAL.get(name, name))
    if not format.is_p3109 and format.name not in EXTERNAL.values():
        raise UsageError(
            f"{format} is not a format of P3109; expected e.g. Binary8p3se or one of {', '.join(EXTERNAL)}"
        )
    return format


def operation_of(name: str) -> str:
    """mpsim's name of an operation that is named as in P3109 or as in mpsim.

    >>> operation_of("CompareLess"), operation_of("fma")
    ('less', 'fma')
    """
    back = {theirs: ours for ours, theirs in OPERATIONS.items()}
    return back.get(name) or checks.named("operation", name, list(OPERATIONS))


class Projection(NamedTuple):
    """A projection specification (§4.2): rounding and saturation mode, and for stochastic modes the number of bits."""

    mode: Mode = Mode.NEAREST_EVEN
    overflow: Overflow = Overflow.INFINITY
    bits: int | None = None

    @property
    def policy(self) -> Policy:
        return Policy(self.mode, self.overflow, self.bits)

    @property
    def mode_name(self) -> str:
        return f"{MODES[self.mode]}{self.bits or ''}"

    def __str__(self) -> str:
        return f"({self.mode_name}, {SATURATIONS[self.overflow]})"


def projection_of(mode: str, saturation: str) -> Projection:
    """A projection by names of P3109's or mpsim's; a stochastic mode has its number of bits behind it.

    >>> str(projection_of("StochasticA8", "SatFinite"))
    '(StochasticA8, SatFinite)'
    """
    stem, colon, count = mode.partition(":")
    found = re.fullmatch(rf"(Stochastic[ABC])({checks.DIGITS})", mode)
    if found:
        stem, count = found.groups()
    modes = {theirs: ours for ours, theirs in MODES.items()}
    member = modes.get(stem) or Mode(checks.named("mode", stem, [each.value for each in MODES]))
    if member.takes_bit_count != bool(count):
        raise UsageError(
            f"mode {mode!r}: a stochastic mode has a number of random bits, as StochasticA8; no other mode has one"
        )
    if count and not (count.isdecimal() and 1 <= int(count) <= 32):
        raise UsageError(f"mode {mode!r}: the number of random bits is 1 to 32")
    policies = {theirs: ours for ours, theirs in SATURATIONS.items()}
    policy = policies.get(saturation) or checks.named("saturation", saturation, [each.value for each in SATURATIONS])
    return Projection(member, Overflow(policy), int(count) if count else None)
