"""Compares an implementation with P3109: every operation specialization that is asked for, in every bit."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.process import default_float_environment
from mpsim.validate.answers import SubjectError, Verdict
from mpsim.validate.conformance.names import REPORT
from mpsim.validate.conformance.specializations import Specialization, required
from mpsim.validate.conformance.subjects import Absent, Answers, NoOperations, Subject, open_implementation
from mpsim.validate.operations.classes import Codes, Example, same_codes
from mpsim.validate.operations.corpus import ALL, combinations
from mpsim.validate.subjects.opening import Calling

#: The number of random words for each combination of operands of a stochastic operation.
WORDS = 4
EQUAL, DIFFERENT, ABSENT, FAILED = "equal", "different", "absent", "failed"


@dataclass(frozen=True)
class Row:
    """What came of one specialization.

    Attributes:
        outcome: EQUAL, DIFFERENT, ABSENT (the subject does not have it) or FAILED (no answers; ``why`` says why).
        answers: How many answers were compared; exhaustive: whether these are all combinations of operands.
        wrong: How many differ; kappa: by how many values of the format at most (§4.4), None for a truth value.
        example: The first that differs.
    """

    specialization: Specialization
    outcome: str
    answers: int = 0
    exhaustive: bool = False
    wrong: int = 0
    kappa: float | None = None
    example: Example | None = None
    why: str = ""

    def to_dict(self) -> Record:
        example = self.example
        kappa: float | str | None = self.kappa
        if isinstance(kappa, float) and not math.isfinite(kappa):
            kappa = "NaN" if math.isnan(kappa) else "infinity"
        return {
            "specialization": str(self.specialization),
            "outcome": self.outcome,
            "answers": self.answers,
            "exhaustive": self.exhaustive,
            "differing_answers": self.wrong,
            "kappa": kappa,
            "operands": None if example is None else list(example.operands),
            "expected": None if example is None else example.expected,
            "got": None if example is None else example.got,
            "why": self.why,
        }


@dataclass(frozen=True)
class ConformanceReport:
    """What came of all specializations. ``missing``: those that §4.5 requires and that were not compared."""

    subject: str
    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    external: tuple[Format, ...]
    partial: bool
    versions: tuple[tuple[str, str], ...]

    def of(self, outcome: str) -> list[Row]:
        """The rows with an outcome."""
        return [row for row in self.rows if row.outcome == outcome]

    @property
    def verdict(self) -> Verdict:
        """DIFFERENT where an answer differs; UNDECIDED where nothing was compared, or not all that was asked for."""
        if self.of(DIFFERENT):
            return Verdict.DIFFERENT
        if not self.of(EQUAL) or self.of(FAILED) or (self.of(ABSENT) and not self.partial):
            return Verdict.UNDECIDED
        return Verdict.EQUAL

    @property
    def answers(self) -> int:
        return sum(row.answers for row in self.rows)

    def to_dict(self) -> Record:
        """The whole report as JSON values."""
        return {
            "subject": self.subject,
            "definition": REPORT,
            "versions": dict(self.versions),
            "verdict": self.verdict.name.lower(),
            "answers": self.answers,
            "differing_answers": sum(row.wrong for row in self.rows),
            "specializations": [row.to_dict() for row in self.rows],
            "required_but_not_compared": list(self.missing),
        }


def check_p3109(
    subject: str,
    specializations: Iterable[Specialization] | None = None,
    *,
    external: Sequence[Format] = (),
    partial: bool = False,
    seed: int = 0,
    calling: Calling = Calling(),
    on_progress: Callable[[int, int], None] | None = None,
) -> ConformanceReport:
    """Compare an implementation with mpsim's definition of P3109's operations, in every bit of every answer.

    Args:
        subject: See ``mpsim.validate.conformance.subjects.open_implementation``.
        specializations: What to compare; None for the list that §4.5 of the report requires.
        external: The formats of other standards that the implementation supports.
        partial: Whether specializations that the subject does not have leave the verdict as it is.
        seed: Of random operands, for operations with more than 65,536 combinations of codes.
        calling: How functions are called.
        on_progress: Called with the number of specializations that are done, and of all.

    Returns:
        A report with ``.verdict`` and ``.rows``.

    Raises:
        SubjectError: For a subject that has none of the forms, or no operation at all.
        UsageError: For a seed out of range, or no specializations.

    Source: IEEE P3109 Interim Report v4.0 §4.4 (κ), §4.5, §4.6.
    """
    checks.seed("seed", seed)
    needed = list(required(external))
    wanted = needed if specializations is None else list(dict.fromkeys(specializations))
    if not wanted:
        raise UsageError("no operation is left to compare: the operations, formats and modes do not go together")
    opened = open_implementation(subject, calling)
    rows = []
    with default_float_environment():
        for number, each in enumerate(wanted):
            rows.append(_compared(opened, each, seed))
            if on_progress is not None:
                on_progress(number + 1, len(wanted))
    compared = {row.specialization for row in rows if row.outcome in (EQUAL, DIFFERENT)}
    missing = tuple(str(each) for each in needed if each not in compared)
    return ConformanceReport(opened.name, tuple(rows), missing, tuple(external), partial, _versions())


def _versions() -> tuple[tuple[str, str], ...]:
    """What the comparison was computed with."""
    return (
        ("mpsim", version("mpsim")),
        ("Python", platform.python_version()),
        ("NumPy", np.__version__),
        ("machine", f"{platform.system()} {platform.machine()}"),
    )


def _compared(subject: Subject, each: Specialization, seed: int) -> Row:
    codes, exhaustive = operands(each, seed)
    try:
        found = subject.ask(each, codes)
        if subject.has_operands:
            exhaustive = exhaustive and _covers(found.codes, codes)
        else:
            _check_steady(subject, each, found)
    except Absent:
        return Row(each, ABSENT)
    except NoOperations:
        raise
    except SubjectError as error:
        return Row(each, FAILED, why=str(error))
    expected = each.expected(found.codes)
    most = 1 if each.result is None else each.result.magnitude_mask | each.result.sign_mask
    if int(found.results.max(initial=0)) > most:
        why = f"answers {int(found.results.max()):#x}; expected 0 to {most:#x}"
        return Row(each, FAILED, why=f"{each.named(subject.name)} {why}")
    same = expected == found.results if each.result is None else same_codes(expected, found.results, each.result)
    wrong = np.flatnonzero(~same)
    count = found.results.size
    if not wrong.size:
        return Row(each, EQUAL, count, exhaustive)
    first = int(wrong[0])
    example = Example(tuple(int(c[first]) for c in found.codes), int(expected[first]), int(found.results[first]))
    kappa = None if each.result is None else kappa_of(expected, found.results, each.result)
    return Row(each, DIFFERENT, count, exhaustive, wrong.size, kappa, example)


def operands(each: Specialization, seed: int) -> tuple[list[Array], bool]:
    """The codes of each operand and, in stochastic modes, the random words; and whether these are all combinations."""
    codes, exhaustive = combinations(each.formats, seed)
    count = each.random_bit_count
    if count is None:
        return codes, exhaustive
    if exhaustive and codes[0].size << count <= ALL:
        words = np.tile(np.arange(1 << count, dtype=np.uint32), codes[0].size)
        return [np.repeat(array, 1 << count) for array in codes] + [words], True
    words = np.random.default_rng(seed).integers(0, 1 << 32, WORDS * codes[0].size, np.uint32)
    return [np.tile(array, WORDS) for array in codes] + [words], False


def _covers(given: Sequence[Array], all: Sequence[Array]) -> bool:
    """Whether the rows of ``given`` are all those of ``all``."""
    return len(set(zip(*map(np.ndarray.tolist, given), strict=True))) == all[0].size


def _check_steady(subject: Subject, each: Specialization, found: Answers) -> None:
    """SubjectError where some operands are answered differently in another call."""
    chosen = np.sort(np.random.default_rng(0).integers(0, found.results.size, 33))
    again = subject.ask(each, [np.ascontiguousarray(array[chosen]) for array in found.codes]).results
    if not (again == found.results[chosen]).all():
        raise SubjectError(f"answers some operands differently among 33 elements than among {found.results.size:,}")


def kappa_of(expected: Array, got: Array, format: Format) -> float:
    """§4.4's κ: by how many values of the format answers differ at most; NaN or infinite where those do not match.

    >>> from mpsim.formats import FORMATS
    >>> kappa_of(np.array([0x40, 0x81]), np.array([0x43, 0x01]), FORMATS["p3109_k8p3"])
    3.0
    """
    right, answered = Codes(expected.astype(np.uint64), format), Codes(got.astype(np.uint64), format)
    if (right.nan != answered.nan).any():
        return math.nan
    signs = (right.infinite != answered.infinite) | (right.infinite & (right.negative != answered.negative))
    if signs.any():
        return math.inf
    finite = right.finite
    places = [np.where(each.negative, -each.magnitude, each.magnitude)[finite] for each in (right, answered)]
    return float(np.abs(places[0] - places[1]).max(initial=0))
