"""Levels: the formats of each role, high, low and any between, among which an assignment chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mpsim import checks
from mpsim.engine.tensor import ROLES
from mpsim.errors import UsageError
from mpsim.formats import Format, as_format


@dataclass(frozen=True)
class Levels:
    """A high and a low format per role; formats may be given by name. ``between``: further levels, from high to low.

    Source: paper §3.1 (``high``, ``low``) and §5.1 (``PAPER_LEVELS``); more than two levels are beyond it. Raises
    ValueError if a role is missing or unknown, or a format is unknown.

    >>> Levels.of("bfloat16", "float8_e4m3fn", "float8_e5m2").low["activation_gradient"].name
    'float8_e5m2'
    """

    high: Mapping[str, Format]
    low: Mapping[str, Format]
    name: str | None = field(default=None, compare=False)
    between: tuple[Mapping[str, Format], ...] = ()

    def __post_init__(self) -> None:
        for side in ("high", "low"):
            object.__setattr__(self, side, _by_role(side, getattr(self, side)))
        object.__setattr__(self, "between", tuple(_by_role("between", level) for level in self.between))

    @property
    def steps(self) -> tuple[Mapping[str, Format], ...]:
        """All levels, from high to low."""
        return self.high, *self.between, self.low

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
        return cls(dict.fromkeys(ROLES, as_format(high)), _lower(high, forward, backward, parameter_gradient), name)

    @classmethod
    def in_steps(cls, high: str | Format, *lower: Sequence[str | Format], name: str | None = None) -> Levels:
        """``high`` for all, and at least one lower level, from high to low, each (forward[, backward[,
        parameter_gradient]]) with the defaults of ``Levels.of``.

        >>> [level["activation"].name for level in Levels.in_steps("float16", ["fp_5_6_0"], ["fp_4_3_4"]).steps]
        ['float16', 'fp_5_6_0', 'fp_4_3_4']
        """
        if not lower:
            raise UsageError("levels in steps need at least one below the high one")
        *between, low = (_lower(high, *level) for level in lower)
        return cls(dict.fromkeys(ROLES, as_format(high)), low, name, tuple(between))

    def holds_low(self, role: str, format: Format) -> bool:
        """Whether a tensor of this role in this format counts as held low: the format is narrower than the role's
        high format, or it is the role's format of a lower level and another one than the high format."""
        high = self.high[role]
        return format.bits < high.bits or (format != high and any(format == level[role] for level in self.steps[1:]))

    def raised(self, role: str, format: Format) -> Format:
        """The role's format one step up: that of the level above the highest one with this format; the high format
        for one that stands in no level, or is the high one.

        >>> PAPER_LEVELS.raised("activation", PAPER_LEVELS.low["activation"]).name
        'fp_6_9_0'
        """
        places = [place for place, level in enumerate(self.steps) if level[role] == format]
        return self.steps[max(places[0] - 1, 0)][role] if places else self.high[role]

    def __str__(self) -> str:
        """The name, or the text that ``parse_levels`` reads back (if one high format serves all roles)."""
        high = " ".join(dict.fromkeys(self.high[role].name for role in ROLES))
        return self.name or ":".join([high, *(_shown(level, high) for level in self.steps[1:])])


def _by_role(side: str, given: Mapping[str, str | Format]) -> dict[str, Format]:
    if set(given) != set(ROLES):
        raise UsageError(
            f"levels: {side!r} needs a format for each of {', '.join(ROLES)}; got {', '.join(given) or 'none'}"
        )
    return {role: as_format(given[role]) for role in ROLES}


def _lower(
    high: str | Format,
    forward: str | Format,
    backward: str | Format | None = None,
    parameter_gradient: str | Format | None = None,
) -> dict[str, Format]:
    """A lower level, with the defaults of ``Levels.of``."""
    low = as_format(forward)
    return {
        "activation": low,
        "parameter": low,
        "activation_gradient": low if backward is None else as_format(backward),
        "parameter_gradient": as_format(high if parameter_gradient is None else parameter_gradient),
    }


def _shown(level: Mapping[str, Format], high: str) -> str:
    low = [level[role].name for role in ROLES]
    shown = f"{low[0]},{low[2]}" + ("" if low[3] == high else f",{low[3]}")
    return shown + (f" (parameter {low[1]})" if low[1] != low[0] else "")


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
    """Levels by name, or from ``HIGH:FORWARD[,BACKWARD[,PARAMETER_GRADIENT]]`` (defaults as in ``Levels.of``); more
    colons add lower levels, as ``HIGH:FORWARD,BACKWARD:FORWARD,BACKWARD`` (``Levels.in_steps``).

    Raises ValueError with the near names or the expected form.

    >>> parse_levels("fp_6_9_0:fp_3_2_0,fp_4_1_0") == parse_levels("six_bit")
    True
    """
    if isinstance(text, Levels):
        return text
    if isinstance(text, str) and text in LEVELS:
        return LEVELS[text]
    high, *lower = text.split(":") if isinstance(text, str) else [""]
    parts = [[part.strip() for part in level.split(",")] for level in lower]
    if not parts or not all(1 <= len(level) <= 3 and all(level) for level in parts):
        form = (
            "or HIGH:FORWARD,BACKWARD[,PARAMETER_GRADIENT] by format names (as fp_6_9_0:fp_4_3_4,fp_5_2_0), with more "
            ":FORWARD,BACKWARD for lower levels"
        )
        raise checks.unknown("levels", text, LEVELS, also=form)
    return Levels.in_steps(high.strip(), *parts)
