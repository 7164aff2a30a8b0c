"""Defines levels, i.e. the high, low and intermediate formats of each role that an assignment chooses from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mpsim import checks
from mpsim.engine.tensor import ROLES
from mpsim.errors import UsageError
from mpsim.formats import Format, as_format
from mpsim.process import in_default_environment


@dataclass(frozen=True)
class Levels:
    """Holds a high and a low format for each role, and optionally further levels between them.

    Args:
        high, low: The format of each role, as a ``Format`` or a name.
        name: A name for messages. Levels with different names compare equal.
        between: Further levels, from high to low.

    Raises:
        ValueError: A role is missing or unknown, or a format is unknown.

    Source: paper §3.1 (``high``, ``low``) and §5.1 (``PAPER_LEVELS``). The paper has two levels.

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
        """Returns all levels, from high to low."""
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
        """Returns two levels.

        Args:
            high: The high format of every role.
            forward: The low format of activations and parameters.
            backward: The low format of activation gradients. The default is ``forward``.
            parameter_gradient: The low format of parameter gradients. The default is ``high``, as in the paper.
            name: A name for messages.
        """
        return cls(dict.fromkeys(ROLES, as_format(high)), _lower(high, forward, backward, parameter_gradient), name)

    @classmethod
    def in_steps(cls, high: str | Format, *lower: Sequence[str | Format], name: str | None = None) -> Levels:
        """Returns a high level and one or more lower levels.

        Args:
            high: The high format of every role.
            lower: The lower levels, from high to low. Each is (forward[, backward[, parameter_gradient]]) with the
                defaults of ``Levels.of``.
            name: A name for messages.

        >>> [level["activation"].name for level in Levels.in_steps("float16", ["fp_5_6_0"], ["fp_4_3_4"]).steps]
        ['float16', 'fp_5_6_0', 'fp_4_3_4']
        """
        if not lower:
            raise UsageError("levels in steps need at least one below the high one")
        *between, low = (_lower(high, *level) for level in lower)
        return cls(dict.fromkeys(ROLES, as_format(high)), low, name, tuple(between))

    def holds_low(self, role: str, format: Format) -> bool:
        """Returns whether a tensor of this role counts as low in this format.

        It does if the format is narrower than the role's high format, or if it differs from the high format and is the
        role's format of a lower level.
        """
        high = self.high[role]
        return format.bits < high.bits or (format != high and any(format == level[role] for level in self.steps[1:]))

    def raised(self, role: str, format: Format) -> Format:
        """Returns the role's format one level up.

        That is the format of the level above the highest level with the given format. It is the high format if the
        given format is the high one or belongs to no level.

        >>> PAPER_LEVELS.raised("activation", PAPER_LEVELS.low["activation"]).name
        'fp_6_9_0'
        """
        places = [place for place, level in enumerate(self.steps) if level[role] == format]
        return self.steps[max(places[0] - 1, 0)][role] if places else self.high[role]

    def __str__(self) -> str:
        """Returns the name, or text that ``parse_levels`` reads (if all roles have the same high format)."""
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
    """Returns a lower level, with the defaults of ``Levels.of``."""
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


#: Pairs of levels by name. A new pair is a new entry.
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

#: High: 1-6-9. Low: 1-4-3 with bias + 4 forward, 1-5-2 backward. Parameter gradients stay high (paper §5.1).
PAPER_LEVELS = LEVELS["paper"]


@in_default_environment
def parse_levels(text: str | Levels) -> Levels:
    """Returns levels by name or by their formats.

    Args:
        text: A name in ``LEVELS``, or ``HIGH:FORWARD[,BACKWARD[,PARAMETER_GRADIENT]]`` with the defaults of
            ``Levels.of``. More colons add lower levels, e.g. ``HIGH:FORWARD,BACKWARD:FORWARD,BACKWARD``.

    Raises:
        ValueError: The text is neither. The message lists similar names or the expected form.

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
            "or HIGH:FORWARD,BACKWARD[,PARAMETER_GRADIENT] by format names (e.g. fp_6_9_0:fp_4_3_4,fp_5_2_0), plus "
            ":FORWARD,BACKWARD for lower levels"
        )
        raise checks.unknown("levels", text, LEVELS, also=form)
    return Levels.in_steps(high.strip(), *parts)
