"""Presents reports on casts (see mpsim.validate.presentation)."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from mpsim.validate.cast import nans
from mpsim.validate.cast.classify import MEANINGS, Kind
from mpsim.validate.cast.compare import Comparison, Finding, expected_of
from mpsim.validate.cast.stochastic import StochasticReport
from mpsim.validate.cast.stochastic import report as stochastic
from mpsim.validate.cast.validation import CastReport
from mpsim.validate.grid import places
from mpsim.validate.sources import widened

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def text(report: CastReport | StochasticReport, width: int = 110) -> str:
    """Returns the report as plain text, with the verdict first and then each class of mismatches."""
    if isinstance(report, StochasticReport):
        return stochastic.text(report, finding_lines)
    how = "every input" if report.exhaustive and report.sweep is None else "a corpus"
    lines = [f"{report.subject}: {report.source.name} to {report.format}, {how}: {report.inputs:,} inputs"]
    if report.sweep is not None:
        lines.append(_sweep_line(report))
    if report.declared is not None:
        what = f"preset {report.preset}" if report.preset else report.declared.rule.describe()
        lines += _comparison_lines(report.declared, f"the declared policy ({what})", report)
    if report.unsteady is not None:
        lines += _unsteady_lines(report)
    if report.state:
        lines.append(f"the subject sets {' and '.join(report.state)} for its whole process")
    if report.fingerprint is not None and report.once is not None:
        lines += ["", report.fingerprint.paragraph(report.subject, report.source.name), ""]
        lines += [*_comparison_lines(report.once, f"one rounding, {report.once.rule.describe()},", report), ""]
        lines += _preset_lines(report, width)
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join(part for line in lines for part in _wrapped(line, width)).rstrip("\n")


def _wrapped(line: str, width: int) -> list[str]:
    """Wraps a line at ``width`` columns, except lines of a table."""
    if len(line) <= width or line.startswith(("┏", "┃", "┡", "│", "└")):
        return [line]
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)


def _sweep_line(report: CastReport) -> str:
    state, which = report.sweep, report.swept
    assert state is not None
    rule = f"preset {which}" if which else "the declared policy" if report.declared else "the fingerprint's policy"
    return (
        f"sweep: {state.inputs:,} of {2**32:,} float32 inputs, {state.mismatches:,} mismatches with {rule}; "
        f"{state.seconds:.1f} s, of which mpsim {state.own_seconds:.1f} s"
    )


def _comparison_lines(comparison: Comparison, what: str, report: CastReport) -> list[str]:
    if comparison.equal:
        nan = report.open_nan
        line = f"equal to {what} on all {comparison.inputs:,} inputs"
        if nan is None:
            return [line]
        declare = "" if nan.option is None else f" (--nan {nan.option} declares it)"
        return [f"{line} but for NaN {'payloads' if nan.rule == nans.PAYLOAD else 'codes'}: {nan.words}{declare}"]
    inputs = "1 input" if comparison.mismatches == 1 else f"{comparison.mismatches:,} inputs"
    lines = [f"different from {what} on {inputs}:"]
    return lines + [line for finding in comparison.findings for line in finding_lines(finding)]


def finding_lines(finding: Finding) -> list[str]:
    """Returns lines on a class: its name, count and meaning, its smallest counterexample, and its cause if known."""
    smallest = finding.smallest
    lines = [
        f"  {finding.kind.value}: {finding.count:,} ({MEANINGS[finding.kind]})",
        f"    smallest input {smallest.input}: expected {smallest.expected}, got {smallest.got}",
    ]
    if smallest.midpoint is not None:
        middle = smallest.midpoint
        exact = f" = {middle}" if middle.denominator > 1 and middle.denominator < 10**12 else ""
        lines.append(f"    midpoint of the neighbours: {float(middle)!r}{exact}")
    if finding.cause is not None:
        return [*lines, f"    likely cause: {finding.cause}"]
    return [*lines, f"    unexplained; {finding.observed}" if finding.observed else "    unexplained"]


def _unsteady_lines(report: CastReport) -> list[str]:
    found = report.unsteady
    assert found is not None
    return [
        "different: an answer depends on the length of the array or on the place in it:",
        f"  {found.input!r} ({found.pattern:#x}) gives {float(found.usual.values[0])!r} among {report.inputs:,} inputs "
        f"and {float(found.other.values[0])!r} at place {found.place} of {found.length}",
    ]


def _preset_lines(report: CastReport, width: int) -> list[str]:
    from io import StringIO

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not report.presets:
        return []
    table = Table(title="Presets", title_justify="left", header_style="bold")
    table.add_column("preset")
    table.add_column("inputs that differ", justify="right")
    table.add_column("where")
    table.add_column("smallest: input, preset, subject", overflow="fold")
    for name, comparison in report.presets.items():
        where = ", ".join(f"{finding.kind.value} {finding.count:,}" for finding in comparison.findings)
        shown = ""
        if comparison.findings:
            first = comparison.findings[0].smallest
            shown = f"{first.input.value!r}: {first.expected.value!r}, {first.got.value!r}"
        count = "equal" if comparison.equal else f"{comparison.mismatches:,}"
        table.add_row(*(Text(cell) for cell in (name, count, where, shown)))
    stream = StringIO()
    Console(file=stream, width=width, no_color=True).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def cases(report: CastReport | StochasticReport) -> dict[str, list[str] | None]:
    """Returns a test case for each class of mismatches, for answers that depend on the array, and for a sweep.

    The rule is the declared one, otherwise the swept one, otherwise the nearest one. For stochastic rounding there is a
    case for each kind of check.
    """
    if isinstance(report, StochasticReport):
        return stochastic.cases(report, finding_lines)
    comparison = report.declared
    if comparison is None:
        assert report.once is not None
        candidates = [*report.presets.values(), report.once]
        if report.sweep is not None:
            candidates = [report.once if report.swept is None else report.presets[report.swept]]
        comparison = min(candidates, key=lambda other: other.mismatches)
    found = {finding.kind.value: [line.strip() for line in finding_lines(finding)] for finding in comparison.findings}
    if report.unsteady is not None:
        found["unsteady"] = [line.strip() for line in _unsteady_lines(report)]
    names = [*(kind.value for kind in Kind), "unsteady"]
    if report.sweep is not None:
        names.append("sweep")
        if report.sweep.mismatches:
            found["sweep"] = [_sweep_line(report)]
    return {name: found.get(name) for name in names}


def draw(report: CastReport, axes: Axes) -> None:
    """Draws the subject's error in quanta of the format by input, with mismatches in red and at most 20 000 points."""
    answers, comparison = report.answers, report.declared or report.once
    assert comparison is not None
    expected, got = expected_of(comparison.rule, answers)
    x = widened(answers.x)
    with np.errstate(invalid="ignore"):
        shown = np.isfinite(x) & np.isfinite(got.values) & (np.abs(x) <= 4 * report.format.largest)
    shown &= np.abs(x) >= report.format.smallest / 4
    wrong = expected.keys != got.keys
    at = np.flatnonzero(shown)
    at = np.concatenate([at[wrong[at]][:10_000], at[:: max(1, at.size // 10_000)]])
    error = (got.values[at] - x[at]) / places(answers.x[at], report.format, report.source).quantum
    good = ~wrong[at]
    axes.scatter(x[at][good], error[good], s=2, color="0.6", label="as expected")
    axes.scatter(x[at][~good], error[~good], s=6, color="tab:red", label="different")
    axes.set_xscale("symlog", linthresh=report.format.smallest)
    low, high = np.log10(report.format.smallest), np.log10(report.format.largest)
    step = max(1, int(np.ceil((high - low) / 5)))
    decades = [10.0**each for each in np.arange(np.floor(high), low + step / 2, -step)]
    axes.set_xticks([*(-x for x in decades), 0, *reversed(decades)])
    axes.set_ylim(-2, 2)
    axes.axhline(0, color="0.8", linewidth=0.5)
    axes.set_xlabel(f"input ({report.source.name})")
    axes.set_ylabel(f"error in quanta of {report.format}")
    axes.set_title(f"{report.subject} against {comparison.rule.describe()}", fontsize=9)
    axes.legend(loc="upper left")
