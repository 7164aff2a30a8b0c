"""``mpsim validate cast``: compares a subject with a declared policy, or finds its policy if none is declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.files.records import Fields, Record
from mpsim.formats import Format, as_format
from mpsim.integers import is_integer_name
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.policies import Mode, Policy
from mpsim.process import default_float_environment, in_default_environment
from mpsim.validate.answers import ConversionReport, Verdict, optional
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import Answers, Unsteady, ask, of_vectors, unsteady
from mpsim.validate.cast.compare import Comparison, compare
from mpsim.validate.cast.exhaustive import Sweep, kept_answers, sweep
from mpsim.validate.cast.fingerprint import Fingerprint, fingerprint
from mpsim.validate.cast.nans import NanAnswers
from mpsim.validate.cast.policy.declaration import Declaration
from mpsim.validate.cast.presets import rules as preset_rules
from mpsim.validate.cast.rules import Rule
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.sources import Source, as_source
from mpsim.validate.subjects.casts import Subject, as_subject, narrow_inputs


@dataclass(frozen=True)
class CastReport(ConversionReport):
    """The result of ``validate_cast``.

    ``declared`` is the comparison with the declared rule. Without one there are ``fingerprint``, ``once`` (the
    comparison with the same mode and overflow, rounded once) and ``presets`` (the comparison with each preset).
    ``sweep`` compares with the declared rule, the rule of the preset ``swept``, or ``once``. ``unsteady`` is an input
    whose answer depends on its position or the length of the array. ``nan`` describes the treatment of NaN by a subject
    that returns codes.

    >>> report = validate_cast("numpy.float16", source="float64", preset="numpy", backend="reference")
    >>> report.equal, report.declared.mismatches
    (True, 0)
    """

    format: Format
    inputs: int
    answers: Answers
    declared: Comparison | None = None
    fingerprint: Fingerprint | None = None
    once: Comparison | None = None
    presets: dict[str, Comparison] = field(default_factory=dict)
    sweep: Sweep | None = None
    swept: str | None = None
    unsteady: Unsteady | None = None
    nan: NanAnswers | None = None

    @property
    def verdict(self) -> Verdict:
        """Equality with the declared rule or, if there is none, with a preset or with one rounding by a policy."""
        if self.unsteady is not None or (self.sweep is not None and self.sweep.mismatches):
            return Verdict.DIFFERENT
        if self.declared is not None:
            return Verdict.of(self.declared.equal)
        assert self.once is not None
        return Verdict.of(self.once.equal or any(comparison.equal for comparison in self.presets.values()))

    @property
    def open_nan(self) -> NanAnswers | None:
        """The treatment of NaN, if the declared rule accepts any code and the subject's is not canonical."""
        declared = self.declared
        if declared is None or self.preset or declared.rule.nan_codes != nans.ANY or self.nan is None:
            return None
        return None if self.nan.is_canonical else self.nan

    def details(self) -> Record:
        return {
            **self.shared(self.format.name, self.inputs),
            "declared": optional(self.declared),
            "fingerprint": optional(self.fingerprint),
            "against_one_rounding": optional(self.once),
            "presets": {name: comparison.to_dict() for name, comparison in self.presets.items()},
            "sweep": optional(self.sweep),
            "unsteady": optional(self.unsteady),
            "nan": None if self.nan is None else {"option": self.nan.option, "words": self.nan.words},
        }


@in_default_environment
def validate_cast(
    subject: str | Subject | Callable[..., object],
    format: str | Format | None = None,
    source: str | Source = "float32",
    *,
    seed: int = 0,
    shrink: bool = True,
    backend: str = DEFAULT_BACKEND,
    **policy: str | None,
) -> CastReport:
    """Tests a cast on a corpus and reports whether it follows the declared policy, or which policy it follows.

    Args:
        subject: A text for ``open_subject`` (which runs in a separate process), a Subject, or a function of this
            process that maps an array of the source type to codes or numbers.
        format: The target format. The default is that of a subject that is a dtype.
        source: The type of the inputs.
        seed: The seed of random inputs.
        shrink: Whether to search for smaller counterexamples.
        backend: The backend of the expected results.
        policy: The declared policy: ``mode``, ``overflow``, ``nan``, ``infinity``, ``zero``, ``underflow``,
            ``subnormal_inputs`` and ``subnormal_results``, or ``preset``
            (``mpsim.validate.cast.policy.declaration.Declaration``). Fields that are not given have their defaults.

    Raises:
        SubjectError: The subject cannot be run.
        ValueError: A name is wrong.

    >>> import numpy as np, mpsim
    >>> def truncating(x):
    ...     return mpsim.round_to(x, "float8_e5m2", "toward_zero", backend="reference")
    >>> report = validate_cast(truncating, "float8_e5m2", "float16", mode="nearest_even", backend="reference")
    >>> print(report.equal, report.declared.findings[0].cause)
    False rounded as toward_zero
    """
    checks.seed("seed", seed)
    opened = as_subject(subject)
    source = as_source(source)
    target = target_format(opened, format)
    rule, name = Declaration(**policy).rule(target, source)
    answers = _answers(opened, target, source, seed)
    common: Fields = {
        "subject": opened.name, "source": source, "format": target, "inputs": answers.patterns.size,
        "exhaustive": answers.holds_every_input, "answers": answers,
        "unsteady": unsteady(answers), "nan": nans.found(answers), "state": tuple(opened.state),
        "notes": (*opened.notes, *narrow_inputs(opened, source)),
    }  # fmt: skip
    if rule is not None:
        return CastReport(**common, declared=compare(rule, answers, shrink=shrink, backend=backend), preset=name)
    return _fingerprinted(common, answers, shrink, backend)


def _fingerprinted(common: Fields, answers: Answers, shrink: bool, backend: str) -> CastReport:
    """Returns the report on a subject without a declared rule. ``common`` are the other fields."""
    found = fingerprint(answers, backend)
    comparisons = {
        name: compare(known, answers, shrink=shrink, backend=backend)
        for name, known in preset_rules(answers.format, answers.source).items()
    }
    ordered = dict(sorted(comparisons.items(), key=lambda item: item[1].mismatches))
    once = compare(one_rounding(found.rule, answers.format), answers, shrink=shrink, backend=backend)
    return CastReport(**common, fingerprint=found, once=once, presets=ordered)


def sweep_all(
    report: CastReport,
    *,
    resume: Path | None = None,
    blocks: int | None = None,
    on_progress: Callable[[Sweep], None] | None = None,
    backend: str = DEFAULT_BACKEND,
) -> CastReport:
    """Adds a comparison of all 2**32 float32 inputs to a report. ``exhaustive.sweep`` describes the arguments.

    The rule is the declared one, otherwise that of the nearest preset. It is the fingerprint's, rounded once, if there
    is no preset, or if only the fingerprint explains the subject. Mismatches are classified together with those of the
    corpus.

    Raises:
        ValueError: The source is not float32.
    """
    if report.source.name != "float32" or report.answers.subject.vectors is not None:
        raise UsageError("an exhaustive sweep takes every float32; 16-bit sources are always exhaustive, vectors never")
    name, comparison = report.preset, report.declared
    if comparison is None:
        assert report.once is not None
        name, comparison = next(iter(report.presets.items()), (None, report.once))
        if report.once.equal and not comparison.equal:
            name, comparison = None, report.once
    subject = report.answers.subject
    with default_float_environment():
        state = sweep(subject, comparison.rule, resume=resume, blocks=blocks, on_progress=on_progress, backend=backend)
        if state.kept:
            again = kept_answers(state, subject, comparison.rule, report.answers.patterns)
            comparison = compare(comparison.rule, again, backend=backend)
    report = replace(report, state=tuple(subject.state), sweep=state, swept=name, exhaustive=state.complete)
    if report.declared is not None:
        return replace(report, declared=comparison)
    if name is None:
        return replace(report, once=comparison)
    return replace(report, presets={**report.presets, name: comparison})


def one_rounding(rule: Rule, format: Format) -> Rule:
    """Returns the rule that rounds to the format once with the same policy and without quirks."""
    policy = rule.policy
    if policy.mode.is_legacy:
        policy = Policy(Mode.NEAREST_EVEN, policy.overflow)
    return Rule(format, policy, nan_codes=rule.nan_codes)


def target_format(subject: Subject, format: str | Format | None) -> Format:
    """Returns the given format or the subject's. Raises UsageError if there is neither."""
    if is_integer_name(format) or subject.integer is not None:
        raise UsageError("casts to integer types are tested by mpsim.validate.validate_integer_cast")
    if format is not None:
        return as_format(format)
    if subject.format is None:
        raise UsageError(f"{subject.name} does not declare its format; pass one (e.g. --format float8_e4m3fn)")
    return subject.format


def _answers(subject: Subject, format: Format, source: Source, seed: int) -> Answers:
    if subject.vectors is not None:
        return of_vectors(subject, source, format)
    if source.name == "float32" and format.bits >= source.bits:
        raise UsageError(f"{format} is not narrower than {source.name}; pass a wider source (--source float64)")
    return ask(subject, source, format, cast_corpus(format, source, seed=seed))
