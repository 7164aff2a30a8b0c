"""``mpsim validate cast`` for integer types: compares with a declared rule, or finds the rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.files.records import Fields, Record
from mpsim.integers import Integer, IntegerPolicy, as_integer
from mpsim.policies import Mode
from mpsim.process import in_default_environment
from mpsim.validate.answers import ConversionReport, Verdict, optional
from mpsim.validate.cast.integers.asking import IntegerAnswers, UnsteadyInteger, ask, corpus, unsteady
from mpsim.validate.cast.integers.comparing import IntegerComparison, compare, find, nan_number, wrong
from mpsim.validate.cast.integers.rules import PRESETS, IntegerRule
from mpsim.validate.cast.integers.rules import presets as preset_rules
from mpsim.validate.cast.nans import ANY
from mpsim.validate.sources import Source, as_source
from mpsim.validate.subjects.casts import Subject, as_subject, narrow_inputs


@dataclass(frozen=True)
class IntegerReport(ConversionReport):
    """The result of a validation of a cast to integers.

    ``declared`` is the comparison with the declared rule. Without one there are ``found``, the comparison with the
    nearest rule, and the number of differences of each preset. ``open_nan`` is what NaN becomes if the declared rule
    accepts anything.

    >>> report = validate_integer_cast(lambda x: np.clip(np.rint(np.nan_to_num(x)), -128, 127), "int8")
    >>> report.equal, report.target.name
    (True, 'int8')
    """

    target: Integer
    answers: IntegerAnswers
    declared: IntegerComparison | None = None
    found: IntegerComparison | None = None
    presets: dict[str, int] = field(default_factory=dict)
    unsteady: UnsteadyInteger | None = None
    open_nan: int | None = None

    @property
    def inputs(self) -> int:
        return int(self.answers.x.size)

    @property
    def verdict(self) -> Verdict:
        """Equality with the declared rule or, if there is none, with a preset or a rule that rounds once."""
        if self.unsteady is not None:
            return Verdict.DIFFERENT
        if self.declared is not None:
            return Verdict.of(self.declared.equal)
        assert self.found is not None
        return Verdict.of(bool(self.equal_presets) or (self.found.equal and self.found.rule.rounds_once))

    @property
    def equal_presets(self) -> list[str]:
        return [name for name, count in self.presets.items() if count == 0]

    def details(self) -> Record:
        return {
            **self.shared(self.target.name, self.inputs),
            "declared": optional(self.declared),
            "fingerprint": optional(self.found),
            "presets": self.presets,
            "unsteady": None if self.unsteady is None else self.unsteady._asdict(),
            "nan": self.open_nan,
        }


def declared_integer_rule(
    target: Integer, source: Source, mode: str | None, overflow: str | None, nan: str | None, infinity: str | None,
    preset: str | None,
) -> IntegerRule | None:  # fmt: skip
    """Returns the rule that the arguments declare, or None.

    Raises:
        UsageError: An argument is unknown or does not match.
    """
    if preset is not None:
        if any(each is not None for each in (mode, overflow, nan, infinity)):
            raise UsageError("give a preset, or mode, overflow, infinity and nan, not both")
        if preset not in PRESETS:
            raise UsageError(f"unknown preset {preset!r} of casts to integers. Known: {', '.join(PRESETS)}")
        rule = PRESETS[preset].rule(target, source)
        if rule is None:
            raise UsageError(f"preset {preset!r} has no cast from {source.name} to {target}")
        return rule
    if all(each is None for each in (mode, overflow, nan, infinity)):
        return None
    if mode is not None and Mode(mode).needs_random_bits:
        raise UsageError(
            f"mode {mode} is tested by mpsim.validate.cast.integers.stochastic, and by 'mpsim validate cast --mode'"
        )
    policy, any_nan = declared_integer_policy(target, mode, overflow, nan, infinity)
    return IntegerRule(target, policy, any_nan)


def declared_integer_policy(
    target: Integer, mode: str | None, overflow: str | None, nan: str | None, infinity: str | None,
    random_bit_count: int | None = None,
) -> tuple[IntegerPolicy, bool]:  # fmt: skip
    """Returns the policy that the arguments declare, and whether every result for NaN counts as right.

    Raises:
        UsageError: An argument is unknown or does not match.
    """
    any_nan = nan in (None, ANY)
    policy = IntegerPolicy(
        Mode(mode or "nearest_even"),
        overflow or "saturate",  # type: ignore[arg-type]
        "zero" if any_nan else str(nan),
        infinity or "overflow",
        random_bit_count,
    )
    policy.check(target)
    return policy, any_nan


@in_default_environment
def validate_integer_cast(
    subject: str | Subject | Callable[..., object],
    type: str | Integer | None = None,
    source: str | Source = "float32",
    *,
    mode: str | None = None,
    overflow: str | None = None,
    nan: str | None = None,
    infinity: str | None = None,
    preset: str | None = None,
    seed: int = 0,
) -> IntegerReport:
    """Tests a cast to an integer type, and reports whether it follows the declared policy, or which policy it follows.

    Args:
        subject: As for ``validate_cast``. It returns integers (numbers plus the zero point, or codes) or floats.
        type: The integer type, e.g. "int8", "uint4" or "uint8_z128". The default is that of a subject that is a dtype.
        source: The type of the inputs: a float, an integer type, or a format of at most 16 bits (codes).
        mode, overflow, nan, infinity: Declare a policy (``mpsim.integers.IntegerPolicy``). The others then default to
            nearest_even, saturate, any result for NaN, and infinity as a number beyond the range.
        preset: Declares the policy of a known system (``mpsim.validate.cast.integers.rules.PRESETS``).
        seed: The seed of random inputs.

    Raises:
        SubjectError: The subject cannot be run.
        UsageError: A name is wrong.

    >>> import numpy as np
    >>> def truncating(x):
    ...     return np.clip(x, -128, 127).astype(np.int8)
    >>> report = validate_integer_cast(truncating, "int8", "float16", mode="nearest_even")
    >>> report.declared.findings[0].cause
    'rounded as toward_zero'
    """
    checks.seed("seed", seed)
    subject, source = as_subject(subject), as_source(source)
    target = subject.integer if type is None else as_integer(type)
    if target is None:
        raise UsageError(f"{subject.name} does not declare its integer type; pass one, e.g. int8")
    rule = declared_integer_rule(target, source, mode, overflow, nan, infinity, preset)
    answers = ask(subject, source, target, corpus(target, source, seed))
    common: Fields = {
        "subject": subject.name, "source": source, "target": target, "answers": answers,
        "exhaustive": answers.holds_every_input, "unsteady": unsteady(answers), "state": tuple(subject.state),
        "notes": (*subject.notes, *narrow_inputs(subject, source)),
    }  # fmt: skip
    if rule is not None:
        number = nan_number(answers) if rule.any_nan and preset is None and np.isnan(answers.wide).any() else []
        return IntegerReport(
            **common, declared=compare(rule, answers), preset=preset, open_nan=number[0] if number else None
        )
    found = compare(find(IntegerRule(target), answers), answers)
    known = preset_rules(target, source)
    counts = {name: int(wrong(each, answers).sum()) for name, each in known.items()}
    counts = dict(sorted(counts.items(), key=lambda item: item[1]))
    return IntegerReport(**common, found=found, presets=counts)
