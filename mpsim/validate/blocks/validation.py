"""``mpsim validate blocks``: compares a block quantiser with mpsim.blocks and finds its scale rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mpsim import checks
from mpsim.blocks import SCALE_RULES, BlockFormat
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.kernels.contract import Array
from mpsim.kernels.spec_blocks import SCALE_OVERFLOWS, as_block_format
from mpsim.validate.answers import SubjectError, Verdict
from mpsim.validate.blocks.answers import BlockAnswers, BlockSubject, open_blocks
from mpsim.validate.blocks.classes import Definition, Finding, findings
from mpsim.validate.blocks.corpus import block_corpus
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
            "differing_blocks": self.blocks,
            "differing_elements": self.elements,
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class BlockReport:
    """The result. ``rules`` is the declared one, or all, nearest first. ``answers`` is "codes" or the type of values.

    ``state`` describes what is unusual about the subject's floating-point arithmetic.
    """

    subject: str
    format: BlockFormat
    blocks: int
    declared: bool
    answers: str
    rules: tuple[RuleResult, ...]
    state: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Equality with the declared rule or, if there is none, with any rule."""
        return Verdict.of(self.rules[0].blocks == 0)

    @property
    def equal(self) -> bool:
        return self.verdict is Verdict.EQUAL

    def to_dict(self) -> Record:
        """Returns the entire report as JSON types."""
        return {
            "subject": self.subject,
            "format": self.format.name,
            "blocks": self.blocks,
            "answers": self.answers,
            "declared": self.declared,
            "verdict": self.verdict.name.lower(),
            "equal": self.equal,
            "equal_to": [result.name for result in self.rules if not result.blocks],
            "rules": [result.to_dict() for result in self.rules],
            "floating_point_state": list(self.state),
        }


def validate_blocks(
    subject: str | Callable[..., object],
    format: str | BlockFormat,
    *,
    scale_rule: str | None = None,
    scale_overflow: str | None = None,
    tensor_scale: float | None = None,
    calling: Calling = Calling(),
    seed: int = 0,
    backend: str = "compiled",
) -> BlockReport:
    """Tests a block quantiser on ``block_corpus`` and reports which scale rule it follows bit for bit.

    subject: "package.module:function", "file.py:function" or a function; takes float32 (n, block size), one block a
    row, and answers dequantised values of that shape, or (element codes, scale codes (n,)). Elements round to nearest
    even and saturate. Of a block whose scale is NaN only the scale counts. ``scale_rule``, ``scale_overflow``:
    declared; with neither, all rules are compared. ``tensor_scale``: the one that an NVFP4 subject uses (default 1).
    Raises SubjectError for a subject that cannot be run or answers something else; ValueError for unknown names.

    >>> from mpsim.blocks import round_to_blocks
    >>> report = validate_blocks(lambda x: round_to_blocks(x, "mxfp4", scale_rule="ceil"), "mxfp4")
    >>> [result.name for result in report.rules if result.blocks == 0]
    ['scale rule ceil']
    """
    row = as_block_format(format)
    checks.seed("seed", seed)
    if row.tensor_scale:
        default = 1.0 if tensor_scale is None else tensor_scale
        tensor_scale = checks.real("tensor_scale", default, above=0, most=checks.FLOAT32_LARGEST)
    candidates = _candidates(row, scale_rule, scale_overflow, tensor_scale)
    corpus = block_corpus(row, tensor_scale, seed)
    opened = open_blocks(subject, row, calling)
    with default_float_environment():
        answered = opened.ask(corpus)
        _check_steady(opened, corpus, answered)
        results = []
        for candidate in candidates:
            different = answered.differ(candidate.blocks(corpus, row, backend))
            results.append(RuleResult(candidate, int(different.any(-1).sum()), int(different.sum())))
        results.sort(key=lambda result: (result.blocks, result.elements))
        nearest = results[0]
        if nearest.blocks:
            classes = findings(nearest.definition, corpus, answered, opened, backend)
            results[0] = RuleResult(nearest.definition, nearest.blocks, nearest.elements, classes)
    declared = scale_rule is not None or scale_overflow is not None
    state = tuple(opened.callee.state)
    return BlockReport(opened.name, row, len(corpus), declared, answered.type or "codes", tuple(results), state)


def _candidates(
    format: BlockFormat, rule: str | None, overflow: str | None, tensor_scale: float | None
) -> list[Definition]:
    if rule is not None:
        checks.named("scale rule", rule, SCALE_RULES)
    if overflow is not None:
        checks.named("scale_overflow", overflow, SCALE_OVERFLOWS)
    if format.tensor_scale:
        if rule is not None:
            raise UsageError(f"{format.name} has one scale rule; got {rule!r}")
        names = [overflow] if overflow else SCALE_OVERFLOWS
        return [Definition(None, each, tensor_scale=tensor_scale) for each in names]
    if tensor_scale is not None:
        raise UsageError(f"tensor_scale is for nvfp4; {format.name} has none, got {tensor_scale}", "tensor_scale")
    # No float32 block has an E8M0 scale beyond the largest: its exponent is at most 128 less the element's.
    return [Definition(each, overflow or "saturate") for each in ([rule] if rule else SCALE_RULES)]


def _check_steady(subject: BlockSubject, corpus: Array, answered: BlockAnswers) -> None:
    """Raises SubjectError if answers depend on the number of blocks in a call, or differ in two equal calls."""
    generator = np.random.default_rng(0)
    for count in LENGTHS:
        rows = np.sort(generator.integers(0, len(corpus), count))
        again, usual = subject.ask(corpus[rows]), answered.at(rows)
        if not again.equals(usual):
            if not subject.ask(corpus).equals(answered):
                raise SubjectError(
                    f"{subject.name} answers {len(corpus)} blocks differently in equal calls: it is random, or keeps "
                    f"something from call to call"
                )
            raise SubjectError(
                f"{subject.name} answers some blocks otherwise among {count} than among {len(corpus)}: each row is a "
                f"block of its own, and a tensor scale is the one given (--tensor-scale)"
            )
