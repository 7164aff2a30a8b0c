"""``mpsim validate cast``: a subject against a declared policy, or its fingerprint where none is declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mpsim.formats import Format, as_format
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.cast.compare import Answers, Comparison, ask, compare
from mpsim.validate.cast.exhaustive import Sweep, kept_answers, sweep
from mpsim.validate.cast.fingerprint import Fingerprint, fingerprint
from mpsim.validate.cast.presets import as_preset
from mpsim.validate.cast.presets import rules as preset_rules
from mpsim.validate.cast.rules import Rule
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.sources import Source, as_source
from mpsim.validate.subjects.adapters import Subject, SubjectError, open_subject

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CastReport:
    """What came out. declared: the comparison with the declared rule; else fingerprint, once (the comparison with
    the same mode and overflow, rounded once) and presets (the comparison with each) are there.

    ``equal``: to the declared rule, or, where none was declared, to some preset.
    """

    subject: str
    source: Source
    format: Format
    inputs: int
    exhaustive: bool
    answers: Answers
    declared: Comparison | None = None
    preset: str | None = None
    fingerprint: Fingerprint | None = None
    once: Comparison | None = None
    presets: dict[str, Comparison] = field(default_factory=dict)
    sweep: Sweep | None = None

    @property
    def equal(self) -> bool:
        if self.sweep is not None and self.sweep.mismatches:
            return False
        if self.declared is not None:
            return self.declared.equal
        return any(comparison.equal for comparison in self.presets.values())

    def as_json(self) -> dict[str, Any]:
        """The whole report as JSON values."""
        return {
            "subject": self.subject,
            "format": self.format.name,
            "source": self.source.name,
            "inputs": self.inputs,
            "exhaustive": self.exhaustive,
            "equal": self.equal,
            "preset": self.preset,
            "declared": None if self.declared is None else self.declared.as_json(),
            "fingerprint": None if self.fingerprint is None else self.fingerprint.as_json(),
            "against_one_rounding": None if self.once is None else self.once.as_json(),
            "presets": {name: comparison.as_json() for name, comparison in self.presets.items()},
            "sweep": None if self.sweep is None else self.sweep.as_json(),
        }


def validate_cast(
    subject: str | Subject | Any,
    format: str | Format | None = None,
    source: str | Source = "float32",
    *,
    mode: str | Mode | None = None,
    overflow: str | Overflow | None = None,
    preset: str | None = None,
    seed: int = 0,
    shrink: bool = True,
    backend: str = "compiled",
) -> CastReport:
    """Tries a cast on a corpus and says whether it follows the declared policy, or what policy it follows.

    subject: as ``open_subject`` takes it, a Subject, or a function (array of the source type -> codes or numbers).
    format: the target; None takes it from a subject that is a dtype. ``mode`` or ``overflow`` declare a policy (the
    other defaults to nearest_even, infinity), ``preset`` that of a known system; with none of them the subject is
    fingerprinted. Raises SubjectError if the subject cannot be run, ValueError for wrong names.

    >>> import numpy as np, mpsim
    >>> def truncating(x):
    ...     return mpsim.round_to(x, "float8_e5m2", "toward_zero", backend="reference")
    >>> report = validate_cast(truncating, "float8_e5m2", "float16", mode="nearest_even", backend="reference")
    >>> print(report.equal, report.declared.findings[0].cause)
    False rounded as toward_zero
    """
    opened = _opened(subject)
    source = as_source(source)
    target = target_format(opened, format)
    rule, name = declared_rule(target, source, mode, overflow, preset)
    patterns = _corpus(opened, target, source, seed)
    answers = ask(opened, source, target, patterns)
    _check_repeatable(answers)
    common: dict[str, Any] = {
        "subject": opened.name, "source": source, "format": target, "inputs": patterns.size,
        "exhaustive": patterns.size == 2**source.format.bits, "answers": answers,
    }  # fmt: skip
    if rule is not None:
        return CastReport(**common, declared=compare(rule, answers, shrink=shrink, backend=backend), preset=name)
    found = fingerprint(answers, backend)
    comparisons = {
        name: compare(known, answers, shrink=shrink, backend=backend)
        for name, known in preset_rules(target, source).items()
    }
    ordered = dict(sorted(comparisons.items(), key=lambda item: item[1].mismatches))
    once = compare(one_rounding(found.rule), answers, shrink=shrink, backend=backend)
    return CastReport(**common, fingerprint=found, once=once, presets=ordered)


def sweep_all(
    report: CastReport,
    *,
    resume: Path | None = None,
    blocks: int | None = None,
    on_progress: Callable[[Sweep], None] | None = None,
    backend: str = "compiled",
) -> CastReport:
    """The report, and all 2**32 float32 inputs against its rule; see ``exhaustive.sweep`` for the arguments.

    The rule is the declared one; else that of the preset nearest to the subject; else the fingerprint's. What
    mismatches are found on the way are classed together with those of the corpus. Raises ValueError for another
    source than float32.
    """
    if report.source.name != "float32" or report.answers.subject.inputs is not None:
        raise ValueError("an exhaustive sweep takes every float32; 16-bit sources are always exhaustive, vectors never")
    name, comparison = report.preset, report.declared
    if comparison is None:
        assert report.once is not None
        name, comparison = next(iter(report.presets.items()), (None, report.once))
    subject = report.answers.subject
    state = sweep(subject, comparison.rule, resume=resume, blocks=blocks, on_progress=on_progress, backend=backend)
    if state.kept:
        again = kept_answers(state, subject, comparison.rule, report.answers.patterns)
        comparison = compare(comparison.rule, again, backend=backend)
    if report.declared is not None:
        return replace(report, declared=comparison, sweep=state, exhaustive=state.complete)
    presets = report.presets if name is None else {**report.presets, name: comparison}
    return replace(report, presets=presets, sweep=state, exhaustive=state.complete)


def one_rounding(rule: Rule) -> Rule:
    """The policy nearest to a rule that has no second rounding and no peculiarity."""
    policy = rule.policy
    if policy.mode.is_legacy:
        policy = Policy(Mode.NEAREST_EVEN, policy.overflow)
    return Rule(rule.format, policy, nan_codes=rule.nan_codes)


def declared_rule(
    format: Format, source: Source, mode: str | Mode | None, overflow: str | Overflow | None, preset: str | None
) -> tuple[Rule | None, str | None]:
    """(the rule that the arguments declare, the preset's name); (None, None) where they declare nothing."""
    if preset is not None:
        if mode is not None or overflow is not None:
            raise ValueError("give a preset, or mode and overflow, not both")
        rule = as_preset(preset).rule(format, source)
        if rule is None:
            raise ValueError(f"preset {preset!r} has no cast from {source.name} to {format}")
        return rule, preset
    if mode is None and overflow is None:
        return None, None
    policy = Policy(Mode.NEAREST_EVEN if mode is None else mode, overflow or Overflow.INFINITY)  # type: ignore[arg-type]
    return Rule(format, policy), None


def _check_repeatable(answers: Answers) -> None:
    """SubjectError where some 4096 of the inputs, by themselves, are answered otherwise than among all others."""
    step = max(1, answers.patterns.size // 4096)
    again = ask(answers.subject, answers.source, answers.format, np.ascontiguousarray(answers.patterns[::step]))
    first, second = answers.results.outcome.keys[::step], again.results.outcome.keys
    differ = np.flatnonzero(first != second)
    if differ.size:
        x = float(again.x[differ[0]])
        raise SubjectError(
            f"{answers.subject.name} answers {x!r} otherwise in another call: it depends on the place in the array, "
            f"or is random (then declare --mode stochastic)"
        )


def _opened(subject: Any) -> Subject:
    if isinstance(subject, Subject):
        return subject
    if isinstance(subject, str):
        return open_subject(subject)
    if callable(subject):
        name = getattr(subject, "__name__", type(subject).__name__)
        return Subject(name, lambda source, x, bits: subject(x))
    raise TypeError(f"a subject is a name, a function or a Subject, got {type(subject).__name__}")


def target_format(subject: Subject, format: str | Format | None) -> Format:
    """The format given, or the subject's own; ValueError where neither says one."""
    if format is not None:
        return as_format(format)
    if subject.format is None:
        raise ValueError(f"{subject.name} does not say its format; pass one (--format, as float8_e4m3fn)")
    return subject.format


def _corpus(subject: Subject, format: Format, source: Source, seed: int) -> Array:
    if subject.inputs is not None:
        if subject.inputs.dtype != source.unsigned:
            raise SubjectError(
                f"{subject.name} has inputs of {8 * subject.inputs.dtype.itemsize} bits; the source is {source.name}"
            )
        return subject.inputs
    if source.name != "float64" and format.bits >= source.format.bits and not source.format.bits == 16:
        raise ValueError(f"{format} is no narrower than {source.name}; pass a wider source (--source float64)")
    return cast_corpus(format, source, seed=seed)
