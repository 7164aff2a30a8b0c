"""Presents reports on casts to integers (see mpsim.validate.presentation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpsim.validate.cast.integers.comparing import MEANINGS, IntegerComparison, IntegerFinding, wrong
from mpsim.validate.cast.integers.validation import IntegerReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def text(report: IntegerReport, width: int = 110) -> str:
    """Returns the report as plain text, with the verdict first and then each class of mismatches."""
    how = "every input" if report.exhaustive else "a corpus"
    lines = [f"{report.subject}: {report.source.name} to {report.target}, {how}: {report.inputs:,} inputs"]
    if report.declared is not None:
        what = f"preset {report.preset}" if report.preset else report.declared.rule.describe(report.source)
        lines += _comparison(report.declared, f"the declared policy ({what})", report)
    if report.unsteady is not None:
        lines += _unsteady(report)
    if report.state:
        lines.append(f"the subject sets {' and '.join(report.state)} for its whole process")
    if report.found is not None:
        lines += _found(report.found, report)
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


def _found(found: IntegerComparison, report: IntegerReport) -> list[str]:
    """Returns the description of an undeclared cast."""
    once = "rounds once" if found.rule.rounds_once else "does not round the exact value once"
    lines = [
        f"{report.subject} takes {report.source.name} to {report.target}: {found.rule.describe(report.source)}; {once}"
    ]
    if found.equal:
        lines.append(f"this explains all {report.inputs:,} inputs tried")
    else:
        lines += _comparison(found, "this, the nearest description found,", report)
    if report.equal_presets:
        return [*lines, f"equal to preset {', '.join(report.equal_presets)}"]
    if not report.presets:
        return [*lines, f"there is no preset for {report.target} from {report.source.name}"]
    name, count = next(iter(report.presets.items()))
    return [*lines, f"equal to no preset; nearest is {name} ({count:,} differ)"]


def _comparison(comparison: IntegerComparison, what: str, report: IntegerReport) -> list[str]:
    if comparison.equal:
        line = f"equal to {what} on all {comparison.inputs:,} inputs"
        if report.open_nan is None:
            return [line]
        return [f"{line}; NaN, of which nothing is declared, becomes {report.open_nan} (--nan {report.open_nan})"]
    inputs = "1 input" if comparison.mismatches == 1 else f"{comparison.mismatches:,} inputs"
    lines = [f"different from {what} on {inputs}:"]
    return lines + [line for finding in comparison.findings for line in _finding(finding)]


def _finding(finding: IntegerFinding) -> list[str]:
    return [
        f"  {finding.kind.value}: {finding.inputs:,} ({MEANINGS[finding.kind]})",
        f"    smallest input {finding.smallest}",
        f"    likely cause: {finding.cause}" if finding.cause else "    unexplained",
    ]


def _unsteady(report: IntegerReport) -> list[str]:
    found, target = report.unsteady, report.target
    assert found is not None
    return [
        "different: an answer depends on the length of the array or on the place in it:",
        f"  input {found.pattern:#x} gives {target.number(found.usual)} among {report.inputs:,} inputs and "
        f"{target.number(found.other)} at place {found.place} of {found.length}",
    ]


def cases(report: IntegerReport) -> dict[str, list[str] | None]:
    """Returns a test case for each class of mismatches, and for answers that depend on the array."""
    comparison = report.declared or report.found
    assert comparison is not None
    found = {finding.kind.value: [line.strip() for line in _finding(finding)] for finding in comparison.findings}
    if report.unsteady is not None:
        found["unsteady"] = [line.strip() for line in _unsteady(report)]
    return {name: found.get(name) for name in [*(kind.value for kind in MEANINGS), "unsteady"]}


def draw(report: IntegerReport, axes: Axes) -> None:
    """Draws the subject's error by input, with mismatches in red and at most 20 000 points."""
    comparison, answers = report.declared or report.found, report.answers
    assert comparison is not None
    x, got = answers.wide, answers.numbers(answers.codes)
    with np.errstate(invalid="ignore"):
        shown = np.flatnonzero(np.isfinite(x) & np.isfinite(got) & (np.abs(x) <= 2.0 * max(1, report.target.most)))
    shown = shown[:: max(1, shown.size // 20_000)]
    bad = wrong(comparison.rule, answers)[shown]
    for flags, color, label in ((~bad, "0.6", "as expected"), (bad, "tab:red", "different")):
        axes.scatter(x[shown][flags], (got - x)[shown][flags], s=3, color=color, label=label)
    axes.set_ylim(-2, 2)
    axes.set_xlabel(f"input ({report.source.name})")
    axes.set_ylabel(f"error of {report.target}")
    axes.set_title(f"{report.subject} against {comparison.rule.describe(report.source)}", fontsize=9)
    axes.legend(loc="upper left")
