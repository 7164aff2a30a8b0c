"""``mpsim validate op``: an operation against its definition, and which mode and overflow policy it follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mpsim import checks
from mpsim.arithmetic import ARITHMETIC, operate
from mpsim.arithmetic.operations import formats_of_operands
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.formats import Format, as_format
from mpsim.kernels.contract import Array
from mpsim.policies import PLAIN_MODES, Mode, Overflow
from mpsim.process import default_float_environment
from mpsim.validate.answers import Report, SubjectError, Verdict, optional
from mpsim.validate.operations.causes import POLICIES, RULES, Rule, causes
from mpsim.validate.operations.classes import Finding, findings, same_codes
from mpsim.validate.operations.corpus import combinations
from mpsim.validate.operations.exceptions import Flags, compare_flags
from mpsim.validate.operations.subjects import OperationSubject, open_operation
from mpsim.validate.subjects.opening import Calling

#: Numbers of elements that the subject is asked again in one call.
LENGTHS = (1, 2, 3, 7, 33)


@dataclass(frozen=True)
class OperationReport(Report):
    """What came out.

    Attributes:
        equal_to: The rules that give every answer, one of them the declared one where one is declared.
        nearest: The declared rule, or the one that differs least; wrong: how many results differ from it.
        findings: The mismatches with it by class; cause: a change of the rule that gives every answer, if there is one.
        of_file: Whether the subject is a file of answers; flags: its flags, where the formats are IEEE 754's.
        asked: The number of combinations of codes; exhaustive: whether these are all; left_out: the number of those
            whose result is NaN, in a format without NaN.
    """

    operation: str
    formats: tuple[Format, ...]
    result: Format
    asked: int
    exhaustive: bool
    left_out: int
    declared: bool
    equal_to: tuple[Rule, ...]
    nearest: Rule
    wrong: int
    findings: tuple[Finding, ...] = ()
    cause: str | None = None
    flags: Flags | None = None
    of_file: bool = False

    @property
    def verdict(self) -> Verdict:
        """EQUAL to the declared rule, or to some where none is declared, in the flags too if there are some."""
        return Verdict.of(self.wrong == 0 and not (self.flags and self.flags.wrong))

    def details(self) -> Record:
        return {
            "operation": self.operation,
            "formats": [format.name for format in self.formats],
            "result": self.result.name,
            "asked": self.asked,
            "exhaustive": self.exhaustive,
            "left_out": self.left_out,
            "declared": self.declared,
            "equal_to": [rule.words for rule in self.equal_to],
            "nearest": self.nearest.words,
            "differing_results": self.wrong,
            "findings": [finding.to_dict() for finding in self.findings],
            "cause": self.cause,
            "flags": optional(self.flags),
        }


def validate_operation(
    subject: str | Callable[..., object],
    operation: str,
    formats: str | Format | Sequence[str | Format],
    *,
    result: str | Format | None = None,
    mode: str | None = None,
    overflow: str | None = None,
    preset: str | None = None,
    given: str = "codes",
    seed: int = 0,
    calling: Calling = Calling(),
) -> OperationReport:
    """Compare an implementation of an operation with its definition, in every bit of the result.

    Args:
        subject: "package.module:function", "file.py:function", "library.so:name" or a function of arrays, one for each
            operand, which returns codes (integers), an array of the result's type, or floats; or a file "x.txt".
        operation: A name of ``mpsim.arithmetic.ARITHMETIC``.
        formats: The format of all operands, or one for each; result: None for the first operand's.
        mode, overflow: The declared rule. With neither, all rules are compared.
        preset: "p3109" declares nearest even without saturation, which P3109 requires.
        given: "codes", or "numbers" for arrays of the formats' types (ml_dtypes or torch).
        seed: Of random operands, for more than 65,536 combinations of codes; calling: how the subject is called.

    Returns:
        A report with ``.equal``, ``.findings`` and ``.cause``. All NaNs of a format count as equal.

    Raises:
        SubjectError: For a subject that cannot be run, or answers something else.
        UsageError: For unknown names.

    Source: IEEE P3109 Interim Report v4.0 §4.9 to §4.11; IEEE 754-2019 §5.4.

    >>> from mpsim.arithmetic import operate
    >>> def add(x, y):
    ...     return operate("add", x, y, formats="p3109_k4p2", mode="up")
    >>> report = validate_operation(add, "add", "p3109_k4p2")
    >>> [rule.words for rule in report.equal_to], report.exhaustive
    (['up, overflow infinity'], True)
    """
    checks.named("operation", operation, list(ARITHMETIC))
    of_operands = formats_of_operands(operation, ARITHMETIC[operation][0], formats)
    target = of_operands[0] if result is None else as_format(result)
    opened = open_operation(subject, of_operands, target, given, calling)
    checks.seed("seed", seed)
    rules = _rules(*_declared(preset, (*of_operands, target), mode, overflow))
    return _judged(opened, operation, rules, not (mode is overflow is preset is None), seed)


def _judged(
    opened: OperationSubject, operation: str, rules: tuple[Rule, ...], declared: bool, seed: int
) -> OperationReport:
    """The report on the rules that are compared."""
    formats, target = opened.formats, opened.result
    with default_float_environment():
        codes, answers, flags, exhaustive, left_out = _asked(opened, operation, seed)
        right = [same_codes(_expected(operation, codes, formats, target, rule), answers, target) for rule in rules]
    counts = [int(np.count_nonzero(~each)) for each in right]
    equal_to = tuple(rule for rule, number in zip(rules, counts, strict=True) if not number)
    best = int(np.argmin(counts))
    report = OperationReport(
        opened.name, operation, formats, target, codes[0].size, exhaustive, left_out, declared, equal_to, rules[best],
        counts[best],
        state=() if opened.callee is None else tuple(opened.callee.state),
        flags=None if flags is None else compare_flags(operation, codes, flags, formats, target, rules[best]),
        of_file=opened.lines is not None,
    )  # fmt: skip
    return _explained(report, codes, answers, rules) if counts[best] else report


def _declared(
    preset: str | None, formats: Sequence[Format], mode: str | None, overflow: str | None
) -> tuple[str | None, str | None]:
    """The declared mode and overflow policy, those of a preset among them."""
    if preset is None:
        return mode, overflow
    checks.named("preset", preset, ["p3109"])
    if not any(format.is_p3109 for format in formats):
        raise UsageError(f"preset p3109 needs a format of P3109, as p3109_k8p3; got {', '.join(map(str, formats))}")
    return mode or "nearest_even", overflow or "infinity"


def _rules(mode: str | None, overflow: str | None) -> tuple[Rule, ...]:
    """The declared rule, or all."""
    if mode is None and overflow is None:
        return RULES
    named = checks.named("rounding mode", mode or "nearest_even", [each.value for each in PLAIN_MODES])
    policy = checks.named("overflow", overflow or "infinity", [each.value for each in POLICIES])
    return (Rule(Mode(named), Overflow(policy)),)


def _defined(
    operation: str, codes: list[Array], formats: tuple[Format, ...], result: Format
) -> tuple[list[Array], int]:
    """The combinations whose result the format has a code for, and how many others there are."""
    if result.has_nan:
        return codes, 0
    wide = operate(operation, *codes[: len(formats)], formats=formats, result="float32").view(np.float32)
    kept = ~np.isnan(wide)
    return [np.ascontiguousarray(array[kept]) for array in codes], int((~kept).sum())


def _expected(operation: str, codes: list[Array], formats: tuple[Format, ...], result: Format, rule: Rule) -> Array:
    """The codes of a rule."""
    found = operate(operation, *codes, formats=formats, result=result, mode=rule.mode, overflow=rule.overflow)
    return found.astype(np.uint64)


def _explained(
    report: OperationReport, codes: list[Array], answers: Array, compared: Sequence[Rule]
) -> OperationReport:
    """The report with the mismatches by class, and the cause if one rule gives every answer."""
    expected = _expected(report.operation, codes, report.formats, report.result, report.nearest)
    found = findings(codes, expected, answers, report.formats, report.result)
    cause = None
    for words, other in causes(report.operation, codes, report.formats, report.result, report.nearest, compared):
        if same_codes(other.astype(np.uint64), answers, report.result).all():
            cause = words
            break
    return replace(report, findings=tuple(found), cause=cause)


def _asked(opened: OperationSubject, operation: str, seed: int) -> tuple[list[Array], Array, Array | None, bool, int]:
    """Operands, answers, flags, whether these are all combinations, and how many were left out."""
    codes, exhaustive = combinations(opened.formats, seed)
    if opened.lines is None:
        codes, left_out = _defined(operation, codes, opened.formats, opened.result)
        return codes, _steady_answers(opened, codes), None, exhaustive, left_out
    rows = [column.astype(array.dtype) for column, array in zip(opened.lines.operands, codes, strict=True)]
    given, left_out = _defined(operation, [*rows, np.arange(rows[0].size)], opened.formats, opened.result)
    *rows, places = given
    flags = None if opened.lines.flags is None else opened.lines.flags[places]
    covers = exhaustive and len(set(zip(*map(np.ndarray.tolist, rows), strict=True))) + left_out == codes[0].size
    return rows, opened.lines.results[places], flags, covers, left_out


def _steady_answers(subject: OperationSubject, codes: list[Array]) -> Array:
    """The answers. SubjectError where equal calls, or calls with other numbers of elements, give different ones."""
    answers = subject.ask(codes)
    generator = np.random.default_rng(0)
    for length in LENGTHS:
        chosen = np.sort(generator.integers(0, codes[0].size, length))
        again = subject.ask([np.ascontiguousarray(array[chosen]) for array in codes])
        if not same_codes(answers[chosen], again, subject.result).all():
            raise SubjectError(
                f"{subject.name} answers some operands differently among {length} elements than among {codes[0].size}, "
                f"or differently in equal calls; an operation acts on each element alone"
            )
    return answers
