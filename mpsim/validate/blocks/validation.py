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
from mpsim.process import default_float_environment
from mpsim.validate.answers import Report, SubjectError, Verdict, optional
from mpsim.validate.blocks.answers import BlockAnswers
from mpsim.validate.blocks.chances import Chances, deciding_words, frequencies
from mpsim.validate.blocks.classes import Definition, Finding, findings
from mpsim.validate.blocks.corpus import across_of, group_size, quantizer_of, trial_of, whole_of
from mpsim.validate.blocks.expected import Trial, is_together
from mpsim.validate.blocks.lines import BlockFile
from mpsim.validate.blocks.subjects import BlockSubject, open_blocks
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
class BlockReport(Report):
    """The result. ``rules`` is the declared one, or all, nearest first. ``answers`` is "codes" or the type of values.

    ``format``: the name of the block format or preset, or "the description". ``words``: for descriptions that round at
    random, "given" or "own" random words; ``chances``: how often elements went up by the subject's own. ``unseen``:
    what was not looked at.
    """

    format: str
    quantizer: Quantizer
    blocks: int
    declared: bool
    answers: str
    rules: tuple[RuleResult, ...]
    words: str = ""
    chances: Chances | None = None
    unseen: str = ""

    @property
    def verdict(self) -> Verdict:
        """Equality with the declared rule or, if there is none, with any rule."""
        return Verdict.of(self.rules[0].blocks == 0 and (self.chances is None or self.chances.equal))

    def details(self) -> Record:
        return {
            "format": self.format,
            "blocks": self.blocks,
            "answers": self.answers,
            "declared": self.declared,
            "equal_to": [result.name for result in self.rules if not result.blocks],
            "rules": [result.to_dict() for result in self.rules],
            "random_words": self.words,
            "chances": optional(self.chances),
            "not_looked_at": self.unseen,
        }


def validate_blocks(
    subject: str | Callable[..., object],
    format: str | BlockFormat | Quantizer,
    *,
    scale_rule: str | None = None,
    scale_overflow: str | None = None,
    tensor_scale: float | None = None,
    statistic: float | None = None,
    given_bits: bool = False,
    calling: Calling = Calling(),
    seed: int = 0,
    backend: str = DEFAULT_BACKEND,
) -> BlockReport:
    """Tests a block quantiser on ``block_corpus`` and reports which definition it follows bit for bit.

    Args:
        subject: "package.module:function", "file.py:function" or a function. It takes float32: (n, block size), one
            block a row; for tiles of a x b (n * a, b), for columns (rows, n), for one scale of the tensor a tensor.
            It answers dequantised values of that shape, or (element codes, scales), and zero points if there are any.
            Two codes of 4 bits may share a byte. "library.so:name" is a C function of these arrays, "command:PROGRAM"
            a program that reads a line of hex words for each block, and "x.npz", "x.jsonl" or "x.txt" a file of blocks
            with answers (mpsim/validate/blocks/lines.py).
        format: A block format, of which all scale rules are compared unless one is declared; or a preset, or a
            description in stages, which is the declared one. Of a block whose scale is NaN only the scale counts.
        scale_rule, scale_overflow: The declared rule of a block format.
        tensor_scale: The second scale that the subject uses, or the largest magnitude that its multiplier follows
            from. By default it is found whether the subject uses that of its input, or none (a scale of 1).
        statistic: The largest magnitude, for descriptions that are given one.
        given_bits: For descriptions that round at random: whether the subject takes (numbers, uint32 words), where each
            answer has to be equal. Otherwise it has random bits of its own, and each element has to be one of two
            neighbours, with the right frequency.
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
    if given_bits and not first.element.policy.mode.needs_random_bits:
        raise UsageError("given_bits is for descriptions that round at random", "given_bits")
    opened = open_blocks(subject, first, calling, inputs=1 + given_bits)
    declared = scale_rule is not None or scale_overflow is not None or candidates[0].rule == ""
    with default_float_environment():
        found = _judged(opened, candidates, given, given_bits, seed, backend)
    return replace(found, format=_name(format), declared=declared)


def _judged(
    opened: BlockSubject, candidates: list[Definition], given: Given, given_bits: bool, seed: int, backend: str
) -> BlockReport:
    """Returns the report on the candidates."""
    first = candidates[0].quantizer
    draws = first.element.policy.mode.needs_random_bits and not given_bits  # random bits of its own
    if opened.file is not None:
        own, trial = _of_file(opened.file, first, given, given_bits, backend)
    else:
        own, trial = _of_corpus(opened, first, given, draws, seed, backend)
        if given_bits:
            trial = replace(trial, words=deciding_words(trial, first, seed))
    answered = opened.ask(trial)
    steady = opened.file is None and not draws
    if steady:
        _check_steady(opened, trial, answered)
    results = _compared(candidates, trial, answered, opened, steady)
    chances = None
    if draws and not results[0].blocks and opened.file is None:
        chances = frequencies(trial, first, answered, opened.ask)
    words = "own" if draws else "given" if given_bits else ""
    return BlockReport(
        opened.name, "", first, len(trial.blocks), False, answered.type or "codes", results, words, chances,
        _unseen(own, opened, words), state=opened.state,
    )  # fmt: skip


def _unseen(own: bool, subject: BlockSubject, words: str) -> str:
    """Returns what a report does not look at."""
    if subject.file is not None:
        return "frequencies, which a file does not show" if words == "own" else ""
    parts = ["infinities and NaNs, which the scale of the tensor depends on"] * own
    parts += ["whether elements of a call go up independently of each other"] * (words == "own")
    return "; ".join(parts)


def _of_corpus(
    opened: BlockSubject, quantizer: Quantizer, given: Given, draws: bool, seed: int, backend: str
) -> tuple[bool, Trial]:
    """Returns whether the second scale follows from the call, and the blocks of mpsim's corpus."""
    own = False
    if given.tensor_scale is None and quantizer.second is not None:
        own = _follows_input(opened, quantizer, draws, backend)
        given = given if own else replace(given, tensor_scale=whole_of(quantizer))
    return own, trial_of(quantizer, given, own, seed, backend)


def _of_file(file: BlockFile, quantizer: Quantizer, given: Given, given_bits: bool, backend: str) -> tuple[bool, Trial]:
    """Returns the same for the blocks of a file: one tensor, unless each is one or the second scale is given."""
    if given_bits and file.words is None:
        raise SubjectError("the file has no random words; expected a column random_bits")
    blocks = file.numbers.reshape(len(file.numbers) * file.across, -1)
    own = quantizer.second is not None and given.tensor_scale is None
    if own and quantizer.second is not None and quantizer.second.source == "given":
        raise UsageError("the second scale is given: pass tensor_scale", "tensor_scale")
    calls: tuple[slice, ...] = (slice(0, len(blocks)),) if own and len(blocks) > 1 else ()
    if not is_together(quantizer):
        calls = tuple(slice(i, i + 1) for i in range(len(blocks)))
    words = None if file.words is None or not given_bits else file.words.reshape(blocks.shape)
    return own, Trial(quantizer.group, blocks, given, backend, calls, file.across, words)


def _compared(
    candidates: list[Definition], trial: Trial, answered: BlockAnswers, subject: BlockSubject, steady: bool
) -> tuple[RuleResult, ...]:
    """Returns the comparison with each definition, the nearest first and with its classes.

    Raises SubjectError if answers that differ from all definitions are others in an equal call, and are to be
    ``steady``.
    """
    results = []
    for candidate in candidates:
        different = answered.differ(trial.expected(candidate.quantizer, answered))
        results.append(RuleResult(candidate, int(different.any(-1).sum()), int(different.sum())))
    results.sort(key=lambda result: (result.blocks, result.elements))
    nearest = results[0]
    if nearest.blocks:
        if steady and not subject.ask(trial).equals(answered):
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


def _follows_input(subject: BlockSubject, quantizer: Quantizer, draws: bool, backend: str) -> bool:
    """Whether a block's answer depends on a larger one in the same call, as where the tensor's scale is the input's.

    If the subject draws random bits of its own, only the scales are compared; without scales it is taken to depend.
    """
    if quantizer.second is not None and quantizer.second.source == "given":
        return False
    size = group_size(quantizer)
    block = (1 + np.arange(size) % 5 + np.arange(size) % 7 / 8).astype(np.float32)
    takes_words, answers = quantizer.element.policy.mode.needs_random_bits and not draws, []
    for factor in (1.0, 100.0):
        blocks = np.stack([block, block * np.float32(factor)])
        words = np.zeros(blocks.shape, np.uint32) if takes_words else None
        trial = Trial(quantizer.group, blocks, Given(), backend, across=across_of(quantizer, 2), words=words)
        found = subject.ask(trial)
        answers.append(found.at(np.array([0])))
    if draws:
        first, second = (each.scales for each in answers)
        return first is None or second is None or not np.array_equal(first, second)
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
