"""Levels: the high and the low format of each role, between which an assignment chooses."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from mpsim.engine.tensor import ROLES
from mpsim.formats import Format, as_format


@dataclass(frozen=True)
class Levels:
    """A high and a low format per role; formats may be given by name.

    Source: paper §3.1 (``high``, ``low``) and §5.1 (``PAPER_LEVELS``). Raises ValueError if a role is missing or
    unknown, or a format is unknown.

    >>> Levels.of("bfloat16", "float8_e4m3fn", "float8_e5m2").low["activation_gradient"].name
    'float8_e5m2'
    """

    high: Mapping[str, Format]
    low: Mapping[str, Format]
    name: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for side in ("high", "low"):
            given = getattr(self, side)
            if set(given) != set(ROLES):
                raise ValueError(
                    f"levels: {side!r} needs a format for each of {', '.join(ROLES)}; got {', '.join(given) or 'none'}"
                )
            object.__setattr__(self, side, {role: as_format(given[role]) for role in ROLES})

    @classmethod
    def of(
        cls,
        high: str | Format,
        forward: str | Format,
        backward: str | Format | None = None,
        parameter_gradient: str | Format | None = None,
        *,
        name: str | None = None,
    ) -> Levels:
        """``high`` for all; low: ``forward`` for activation and parameter, ``backward`` (default: as forward) for
        activation_gradient, ``parameter_gradient`` (default: stays ``high``, as in the paper)."""
        highest, low = as_format(high), as_format(forward)
        formats = {
            "activation": low,
            "parameter": low,
            "activation_gradient": low if backward is None else as_format(backward),
            "parameter_gradient": highest if parameter_gradient is None else as_format(parameter_gradient),
        }
        return cls(dict.fromkeys(ROLES, highest), formats, name)

    def holds_low(self, role: str, format: Format) -> bool:
        """Whether a tensor of this role in this format counts as held low: the format is narrower than the role's
        high format, or it is the role's low format and another one than the high format."""
        high = self.high[role]
        return format.bits < high.bits or (format == self.low[role] and format != high)

    def __str__(self) -> str:
        """The name, or the text that ``parse_levels`` reads back (if one high format serves all roles)."""
        low = [self.low[role].name for role in ROLES]
        high = " ".join(dict.fromkeys(self.high[role].name for role in ROLES))
        shown = f"{high}:{low[0]},{low[2]}" + ("" if low[3] == high else f",{low[3]}")
        if low[1] != low[0]:
            shown += f" (parameter {low[1]})"
        return self.name or shown


#: Named pairs. A new pair is one row.
LEVELS = {
    row.name: row
    for row in (
        Levels.of("fp_6_9_0", "fp_4_3_4", "fp_5_2_0", name="paper"),
        Levels.of("bfloat16", "float8_e4m3fn", "float8_e5m2", name="fp8_ocp"),
        Levels.of("float16", "float8_e4m3fn", "float8_e5m2", name="fp8_float16"),
        Levels.of("fp_6_9_0", "fp_3_2_0", "fp_4_1_0", name="six_bit"),
        Levels.of("fp_6_9_0", "fp_3_1_0", "fp_4_0_0", name="five_bit"),
        Levels.of("fp_6_9_0", "fp_2_1_0", "fp_3_0_0", name="four_bit"),
    )
    if row.name is not None
}

#: High 1-6-9; low 1-4-3 with bias + 4 forward, 1-5-2 backward; parameter gradients stay high (paper §5.1).
PAPER_LEVELS = LEVELS["paper"]


def parse_levels(text: str | Levels) -> Levels:
    """Levels by name, or from ``HIGH:FORWARD[,BACKWARD[,PARAMETER_GRADIENT]]`` (defaults as in ``Levels.of``).

    Raises ValueError with the near names or the expected form.

    >>> parse_levels("fp_6_9_0:fp_3_2_0,fp_4_1_0") == parse_levels("six_bit")
    True
    """
    if isinstance(text, Levels):
        return text
    if text in LEVELS:
        return LEVELS[text]
    high, colon, low = text.partition(":")
    parts = [part.strip() for part in low.split(",")]
    if not colon or not 1 <= len(parts) <= 3 or not all(parts):
        near = difflib.get_close_matches(text, LEVELS, n=2, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(
            f"unknown levels {text!r}{hint} Known: {', '.join(LEVELS)}, or HIGH:FORWARD,BACKWARD[,PARAMETER_GRADIENT] "
            f"by format names (as fp_6_9_0:fp_4_3_4,fp_5_2_0)"
        )
    return Levels.of(high.strip(), *parts)
