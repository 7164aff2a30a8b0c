"""What a user declares of a cast: a policy, field by field, or a preset."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import Format
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.cast import nans
from mpsim.validate.cast.policy.treatments import FIELDS, default
from mpsim.validate.cast.presets import as_preset
from mpsim.validate.cast.rules import Rule
from mpsim.validate.sources import Source


@dataclass(frozen=True)
class Declaration:
    """The declared policy of a cast. None means that nothing is declared.

    Args:
        mode: The rounding mode, by default nearest_even.
        overflow: The overflow policy, by default infinity.
        infinity, zero, underflow, subnormal_inputs, subnormal_results: Values of ``FIELDS``.
        nan: What NaN becomes (``FIELDS``), or its codes (``mpsim.validate.cast.nans.parse``), by default any code.
        preset: The name of a system's policy, in place of all others.

    >>> from mpsim.formats import FORMATS
    >>> from mpsim.validate.sources import SOURCES
    >>> rule, _ = Declaration(nan="payload", zero="positive").rule(FORMATS["bfloat16"], SOURCES["float32"])
    >>> rule.describe()
    'nearest_even, overflow infinity; every zero is +0; NaN keeps its payload'
    """

    mode: str | None = None
    overflow: str | None = None
    infinity: str | None = None
    nan: str | None = None
    zero: str | None = None
    underflow: str | None = None
    subnormal_inputs: str | None = None
    subnormal_results: str | None = None
    preset: str | None = None

    @property
    def names(self) -> list[str]:
        """The fields that are declared."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def rule(self, format: Format, source: Source) -> tuple[Rule | None, str | None]:
        """Returns the declared rule and the name of its preset, or (None, None) if nothing is declared.

        Raises:
            UsageError: A value is unknown, or does not go together with others or with the format.
        """
        if self.preset is not None:
            if others := [name for name in self.names if name != "preset"]:
                raise UsageError(f"give a preset, or {', '.join(others)}, not both")
            rule = as_preset(self.preset).rule(format, source)
            if rule is None:
                raise UsageError(f"preset {self.preset!r} has no cast from {source.name} to {format}")
            return rule, self.preset
        if not self.names:
            return None, None
        policy = Policy(self.mode or Mode.NEAREST_EVEN, self.overflow or Overflow.INFINITY)  # type: ignore[arg-type]
        rule = Rule(format, policy, nan_codes=nans.parse(self.codes_of_nan, format))
        chosen = {name: getattr(self, name) for name in FIELDS if name != "nan" and getattr(self, name) is not None}
        if self.nan is not None and self.codes_of_nan != self.nan:
            chosen["nan"] = self.nan
        for name, value in chosen.items():
            checks.named(name, value, FIELDS[name])
        if self.nan == nans.TRUNCATED:
            nans.parse(nans.PAYLOAD, format)  # refuses a format without payloads
            chosen["nan_codes"] = nans.TRUNCATED
        return rule.with_(**chosen), None

    @property
    def codes_of_nan(self) -> str:
        """The text for ``nans.parse``: any code if ``nan`` names a number."""
        is_number = self.nan in FIELDS["nan"] and self.nan != default("nan")
        return nans.ANY if self.nan is None or is_number else self.nan
