"""Reports on stochastic rounding, in words and as test cases."""

from __future__ import annotations

from collections.abc import Callable

from mpsim.policies import Mode
from mpsim.validate.cast.compare import Finding
from mpsim.validate.cast.stochastic.chances import LETTERS
from mpsim.validate.cast.stochastic.result import StochasticReport

Lines = Callable[[Finding], list[str]]
_EQUAL = [
    "neighbours, frequencies and all that is certain: as they should be",
    "whether the results of different numbers are independent was not tested",
]


def text(report: StochasticReport, finding_lines: Lines) -> str:
    """The verdict first, then what differs and the cause. finding_lines: how findings of casts are written."""
    mode = report.policy.mode
    variants = {mode: f" (variant {letter})" for mode, letter in LETTERS.items()}
    variant = "" if mode is Mode.STOCHASTIC else variants.get(mode, " (both neighbours alike)")
    what = f"stochastic{variant}, overflow {report.policy.overflow.value}"
    head = f"{report.subject}: {report.source} to {report.format}, {what}, {report.trials:,} trials"
    if report.bits_given:
        lines = [head + f", given words of which {report.random_bit_count} bits count"]
        lines.append("equal in every trial" if report.equal else f"{report.mismatches:,} trials differ")
    else:
        lines = [head + f" of {report.points} numbers, its own random bits"]
        lines.append(f"and {report.spread:,} numbers of all binades, each rounded once")
        if mode is Mode.STOCHASTIC_EQUAL:
            lines.append("any number of random bits, 1 to 32, gives these frequencies")
        lines.append(f"a right subject fails with probability at most {report.false_alarm_rate:g}")
        lines += _EQUAL if report.equal else ["different:"]
    lines += _failures(report, finding_lines)
    if report.state:
        lines.append(f"the subject sets {' and '.join(report.state)} for its whole process")
    return "\n".join(lines)


def _failures(report: StochasticReport, finding_lines: Lines) -> list[str]:
    """What differs, and why."""
    lines = []
    if report.certain is not None and not report.certain.equal:
        count = f"{report.certain.mismatches:,} of {report.certain.inputs:,} inputs that no random bit decides"
        lines.append(f"{count} are answered differently:")
        lines += [line for finding in report.certain.findings for line in finding_lines(finding)]
    if report.mismatches and not report.bits_given:
        lines.append(f"{report.mismatches:,} results are neither of the two neighbours")
    if report.smallest is not None:
        found = report.smallest
        word = "" if report.word is None else f", random word {report.word:#010x}"
        lines.append(f"  smallest input {found.input}{word}: expected {found.expected}, got {found.got}")
    lines += [
        f"  {f.input!r}: up in {f.share:.2%}, expected {f.expected_share:.2%} (p = {f.probability:.1e})"
        for f in report.frequencies[:8]
    ]
    lines += [
        f"  {b.draws:,} numbers from {b.ends[0]:g} to {b.ends[1]:g}{b.part and ', ' + b.part}: up in {b.share:.2%}, "
        f"expected {b.expected_share:.2%}"
        for b in report.binades[:8]
    ]
    return lines + _cause(report)


def _cause(report: StochasticReport) -> list[str]:
    """What gives every trial, or every frequency."""
    if not (report.frequencies or report.binades or (report.bits_given and report.mismatches)):
        return []
    what = "trial" if report.bits_given else "frequency"
    if not report.causes:
        return [f"unexplained: no rule that mpsim knows gives every {what}"]
    first, *others = report.causes
    lines = [f"likely cause: {first}; this gives every {what}"]
    if others:
        names = [other.split(":")[0] for other in others[:4]] + ["…"] * (len(others) > 4)
        lines.append(f"  not told apart from: {', '.join(names)}")
    return lines


def cases(report: StochasticReport, finding_lines: Lines) -> dict[str, list[str] | None]:
    """A case for what is certain, for the trials and for the frequencies."""
    lines = [line.strip() for line in _failures(report, finding_lines)]
    certain = None if report.certain is None or report.certain.equal else lines
    return {
        "certain": certain,
        "trials" if report.bits_given else "neighbours": lines if report.mismatches else None,
        "frequencies": lines if report.frequencies or report.binades else None,
    }
