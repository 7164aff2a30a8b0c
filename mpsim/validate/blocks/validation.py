"""``mpsim validate blocks``: compares a block quantiser with a description, or finds the rule of a block format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mpsim import checks
from mpsim.blocks import SCALE_RULES, BlockFormat, Quantizer
from mpsim.blocks.quantization import described
from mpsim.blocks.quantizers.presets import PRESETS
from mpsim.blocks.quantizers.text import text_of
from mpsim.blocks.running import Given
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.spec_blocks import BLOCK_FORMATS, SCALE_OVERFLOWS
from mpsim.policies import Policy
from mpsim.validate.answers import Judged, SubjectError, Verdict
from mpsim.validate.blocks.answers import BlockAnswers, BlockSubject, open_blocks
from mpsim.validate.blocks.classes import Definition, Finding, findings
from mpsim.validate.blocks.corpus import across_of, group_size, quantizer_of, trial_of, whole_of
from mpsim.validate.blocks.expected import Trial
from mpsim.validate.subjects.environment import default_float_environment
from mpsim.validate.subjects.opening import Calling

__all__ = ["BlockReport", "RuleResult", "validate_blocks"]

#: The numbers of blocks in further calls of the subject.
LENGTHS = (1, 2, 3, 5, 8, 17, 64)


@dataclass(frozen=True)
class RuleResult:
    """The comparison with one definition. ``findings`` has the mismatches of the nearest definition by class."""

    definition: Definition
    blocks: int
    elements: int
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        return self.definition.name

    def to_dict(self) -> Record:
        return {
            "scale_rule": self.definition.rule,
            "scale_overflow": self.definition.scale_overflow,
            "quantizer": text_of(self.definition.quantizer),
            "differing_blocks": self.blocks,
            "differing_elements": self.elements,
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class BlockReport(Judged):
    """The result. ``rules`` is the declared one, or all, nearest first. ``answers`` is "codes" or the type of values.

    ``format``: the name of the block format or preset, or "the description". ``unseen``: what was not looked at.
    ``state`` describes what is unusual about the subject's floating-point arithmetic.
    """

    subject: str
    format: str
    quantizer: Quantizer
    blocks: int
    declared: bool
    answers: str
    rules: tuple[RuleResult, ...]
    unseen: str = ""
    state: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Equality with the declared rule or, if there is none, with any rule."""
        return Verdict.of(self.rules[0].blocks == 0)

    def to_dict(self) -> Record:
        """Returns the entire report as JSON types."""
        return {
            "subject": self.subject,
            "format": self.format,
            "blocks": self.blocks,
            "answers": self.answers,
            "declared": self.declared,
            "verdict": self.verdict.name.lower(),
            "equal": self.equal,
            "equal_to": [result.name for result in self.rules if not result.blocks],
            "rules": [result.to_dict() for result in self.rules],
            "not_looked_at": self.unseen,
            "floating_point_state": list(self.state),
        }


def validate_blocks(
    subject: str | Callable[..., object],
    format: str | BlockFormat | Quantizer,
    *,
    scale_rule: str | None = None,
    scale_overflow: str | None = None,
    tensor_scale: float | None = None,
    statistic: float | None = None,
    calling: Calling = Calling(),
    seed: int = 0,
    backend: str = DEFAULT_BACKEND,
) -> BlockReport:
    """Tests a block quantiser on ``block_corpus`` and reports which definition it follows bit for bit.

    Args:
        subject: "package.module:function", "file.py:function" or a function. It takes float32: (n, block size), one
            block a row; for tiles of a x b (n * a, b), for columns (rows, n), for one scale of the tensor a tensor.
            It answers dequantised values of that shape, or (element codes, scales), and zero points if there are any.
            Two codes of 4 bits may share a byte.
        format: A block format, of which all scale rules are compared unless one is declared; or a preset, or a
            description in stages, which is the declared one. Of a block whose scale is NaN only the scale counts.
        scale_rule, scale_overflow: The declared rule of a block format.
        tensor_scale: The second scale that the subject uses, or the largest magnitude that its multiplier follows
            from. By default it is found whether the subject uses that of its input, or none (a scale of 1).
        statistic: The largest magnitude, for descriptions that are given one.
        calling, seed, backend: As for ``validate_cast``.

    Returns:
        The report.

    Raises:
        SubjectError: The subject cannot be run or answers something else.
        ValueError: A name is unknown, or a description makes no sense.

    >>> from mpsim.blocks import round_to_blocks
    >>> report = validate_blocks(lambda x: round_to_blocks(x, "mxfp4", scale_rule="ceil"), "mxfp4")
    >>> [result.name for result in report.rules if result.blocks == 0]
    ['scale rule ceil']
    """
    checks.seed("seed", seed)
    candidates = _candidates(format, scale_rule, scale_overflow)
    first = candidates[0].quantizer
    given = _given(first, tensor_scale, statistic)
    opened = open_blocks(subject, first, calling)
    with default_float_environment():
        own = _follows_input(opened, first, backend) if given.tensor_scale is None and first.second else False
        if first.second is not None and not own and given.tensor_scale is None:
            given = replace(given, tensor_scale=whole_of(first))
        trial = trial_of(first, given, own, seed, backend)
        answered = opened.ask(trial)
        _check_steady(opened, trial, answered)
        results = _compared(candidates, trial, answered, opened)
    declared = scale_rule is not None or scale_overflow is not None or candidates[0].rule == ""
    return BlockReport(
        opened.name, _name(format), first, len(trial.blocks), declared, answered.type or "codes", results,
        "infinities and NaNs, which the scale of the tensor depends on" if own else "", tuple(opened.callee.state),
    )  # fmt: skip


def _compared(
    candidates: list[Definition], trial: Trial, answered: BlockAnswers, subject: BlockSubject
) -> tuple[RuleResult, ...]:
    """Returns the comparison with each definition, the nearest first and with its classes.

    Raises SubjectError if answers that differ from all definitions are others in an equal call.
    """
    results = []
    for candidate in candidates:
        different = answered.differ(trial.expected(candidate.quantizer, answered.values is not None))
        results.append(RuleResult(candidate, int(different.any(-1).sum()), int(different.sum())))
    results.sort(key=lambda result: (result.blocks, result.elements))
    nearest = results[0]
    if nearest.blocks:
        if not subject.ask(trial).equals(answered):
            raise _unsteady(subject, trial)
        classes = findings(nearest.definition, trial, answered, subject)
        results[0] = RuleResult(nearest.definition, nearest.blocks, nearest.elements, classes)
    return tuple(results)


def _name(format: str | BlockFormat | Quantizer) -> str:
    if isinstance(format, BlockFormat):
        return format.name
    return format if isinstance(format, str) and (format in BLOCK_FORMATS or format in PRESETS) else "the description"


def _candidates(format: str | BlockFormat | Quantizer, rule: str | None, overflow: str | None) -> list[Definition]:
    row = BLOCK_FORMATS.get(format) if isinstance(format, str) else format
    if not isinstance(row, BlockFormat):
        name = _name(format)
        quantizer = quantizer_of(format)
        for what, value in (("scale_rule", rule), ("scale_overflow", overflow)):
            if value is not None:
                raise UsageError(f"a preset or a description has its own {what}; leave it out, got {value!r}", what)
        if quantizer.element.policy.mode.needs_random_bits:
            raise UsageError(f"{name} rounds at random, so no answer is due; give it a mode without random bits")
        return [Definition(quantizer, f"preset {name}" if name in PRESETS else name, "", "")]
    if rule is not None:
        checks.named("scale rule", rule, SCALE_RULES)
    if overflow is not None:
        checks.named("scale_overflow", overflow, SCALE_OVERFLOWS)
    policy = Policy("nearest_even", "saturate")  # type: ignore[arg-type]
    if row.tensor_scale:
        if rule is not None:
            raise UsageError(f"{row.name} has one scale rule; got {rule!r}")
        names = [overflow] if overflow else SCALE_OVERFLOWS
        return [
            Definition(described(row, "floor", each, policy), f"scale overflow {each}", None, each) for each in names
        ]
    # No float32 block has an E8M0 scale beyond the largest: its exponent is at most 128 less the element's.
    beyond = overflow or "saturate"
    rules = [rule] if rule else list(SCALE_RULES)
    return [Definition(described(row, each, beyond, policy), f"scale rule {each}", each, beyond) for each in rules]


def _given(quantizer: Quantizer, tensor_scale: float | None, statistic: float | None) -> Given:
    if quantizer.second is None and tensor_scale is not None:
        raise UsageError(
            f"tensor_scale is for nvfp4 and others with a second scale; this has none, got {tensor_scale}",
            "tensor_scale",
        )
    for name, value in (("tensor_scale", tensor_scale), ("statistic", statistic)):
        if value is not None:
            checks.real(name, value, above=0, most=checks.FLOAT32_LARGEST)
    if quantizer.statistic.source == "given" and statistic is None:
        raise UsageError("statistic is given: pass statistic, the largest magnitude that the subject uses", "statistic")
    if quantizer.statistic.source == "input" and statistic is not None:
        raise UsageError("statistic follows from the input; leave it out", "statistic")
    return Given(None if statistic is None else float(statistic), None if tensor_scale is None else float(tensor_scale))


def _follows_input(subject: BlockSubject, quantizer: Quantizer, backend: str) -> bool:
    """Whether a block's answer depends on a larger one in the same call, as where the tensor's scale is the input's."""
    if quantizer.second is not None and quantizer.second.source == "given":
        return False
    size = group_size(quantizer)
    block = (1 + np.arange(size) % 5 + np.arange(size) % 7 / 8).astype(np.float32)
    answers = []
    for factor in (1.0, 100.0):
        blocks = np.stack([block, block * np.float32(factor)])
        found = subject.ask(Trial(quantizer.group, blocks, Given(), backend, across=across_of(quantizer, 2)))
        answers.append(found.at(np.array([0])))
    return not answers[0].equals(answers[1])


def _check_steady(subject: BlockSubject, trial: Trial, answered: BlockAnswers) -> None:
    """Raises SubjectError if answers depend on the number of blocks in a call, or differ in two equal calls."""
    if trial.is_whole or subject.quantizer.statistic.source == "given":
        if not subject.ask(trial).equals(answered):
            raise _unsteady(subject, trial)
        return
    generator = np.random.default_rng(0)
    for count in LENGTHS:
        rows = np.sort(generator.integers(0, len(trial.blocks), count))
        again, usual = subject.ask(trial.some(rows)), answered.at(rows)
        if not again.equals(usual):
            if not subject.ask(trial).equals(answered):
                raise _unsteady(subject, trial)
            raise SubjectError(
                f"{subject.name} answers some blocks otherwise among {count} than among {len(trial.blocks)}: each row "
                f"is a block of its own, and a tensor scale is the one given (--tensor-scale)"
            )


def _unsteady(subject: BlockSubject, trial: Trial) -> SubjectError:
    return SubjectError(
        f"{subject.name} answers {len(trial.blocks)} blocks differently in equal calls: it is random, or keeps "
        f"something from call to call"
    )
