"""Reports on operations as mpsim.validate.presentation has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpsim.validate.operations.causes import RULES
from mpsim.validate.operations.classes import Finding, code_words
from mpsim.validate.operations.validation import OperationReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def text(report: OperationReport, width: int = 110) -> str:
    """The verdict first, then each class of results that differ."""
    operands = " and ".join(format.name for format in report.formats)
    how = "all" if report.exhaustive else "the file's" if report.of_file else "edges and random ones,"
    what = f"{report.subject}: {report.operation} of {operands} to {report.result}"
    lines = [f"{what}, {how} {report.asked:,} combinations of codes"]
    if report.left_out:
        lines.append(f"{report.left_out:,} combinations are left out, whose result is NaN: {report.result} has none")
    if report.state:
        lines.append(f"the subject sets {' and '.join(report.state)} for its whole process")
    flags = [] if report.flags is None else [report.flags.words]
    if not report.wrong:
        return "\n".join([*lines, *_equal(report), *flags])
    if not report.declared:
        lines.append("equal to no mode and overflow policy")
    lines.append(f"different from {report.nearest.words} in {report.wrong:,} of {report.asked:,} results:")
    for finding in report.findings:
        lines += _finding(finding, report)
    lines.append(f"cause: {report.cause}; this gives every answer" if report.cause else "unexplained")
    return "\n".join([*lines, *flags])


def _equal(report: OperationReport) -> list[str]:
    """The rules that give every answer."""
    if not report.declared and len(report.equal_to) == len(RULES):
        return ["equal in every bit; no result is rounded, so every mode and overflow policy gives these results"]
    first, *others = (rule.words for rule in report.equal_to)
    lines = [f"equal in every bit: {first}"]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        lines.append(
            f"  {'all' if report.exhaustive else 'these'} operands give the same with {'; '.join(others[:3])}{more}"
        )
    return lines


def cases(report: OperationReport) -> dict[str, list[str] | None]:
    """One case for the operation, and one for each class of results that differ."""
    flags = {} if report.flags is None else {"flags": [report.flags.words] if report.flags.wrong else None}
    if not report.wrong:
        return {report.operation: None} | flags
    return flags | {finding.name: [line.strip() for line in _finding(finding, report)] for finding in report.findings}


def draw(report: OperationReport, axes: Axes) -> None:
    """Results that differ, by class."""
    rows = report.findings[::-1]
    if rows:
        bars = axes.barh([finding.name for finding in rows], [finding.count for finding in rows], color="tab:red")
        axes.bar_label(bars, [f"{finding.count:,}" for finding in rows], padding=3)
        axes.set_xlim(0, 1.15 * max(finding.count for finding in rows))
    else:
        axes.text(0.5, 0.5, "equal in every bit", ha="center", va="center", transform=axes.transAxes)
        axes.set_yticks([])
    axes.set_xlabel(f"results of {report.asked:,} that differ")
    axes.set_title(f"{report.subject}: {report.operation} to {report.result}, {report.nearest.words}", fontsize=9)


def _finding(finding: Finding, report: OperationReport) -> list[str]:
    operands, expected, got = finding.example
    given = ", ".join(code_words(code, format) for code, format in zip(operands, report.formats, strict=True))
    results = f"expected {code_words(expected, report.result)}, got {code_words(got, report.result)}"
    return [f"  {finding.name}: {finding.count:,}", f"    {report.operation}({given}): {results}"]
