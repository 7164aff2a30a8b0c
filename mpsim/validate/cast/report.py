"""A CastReport for people (text), and for machines (JUnit XML; JSON is the report's own ``as_json``)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from mpsim.validate.cast import nans
from mpsim.validate.cast.classify import MEANINGS, Kind
from mpsim.validate.cast.compare import Comparison, Finding

if TYPE_CHECKING:
    from mpsim.validate.cast.validation import CastReport


def text(report: CastReport, width: int = 110) -> str:
    """The report as plain text: the verdict first, then what there is to say about each class of mismatches."""
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
    """A line in lines of at most so many columns; what is already aligned stays as it is."""
    if len(line) <= width or line.startswith(("┏", "┃", "┡", "│", "└")):
        return [line]
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)


def _sweep_line(report: CastReport) -> str:
    state = report.sweep
    assert state is not None
    which = report.preset or (next(iter(report.presets), None) if report.declared is None else None)
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
    """A class: name, count and meaning; its smallest counterexample; the cause, or that there is none known."""
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


def junit(report: CastReport) -> str:
    """JUnit XML: one test case per class of mismatches, and one for answers that depend on the array's length."""
    comparison = report.declared
    if comparison is None:
        comparison = min(report.presets.values(), key=lambda other: other.mismatches, default=report.once)
    assert comparison is not None
    found = {finding.kind.value: [line.strip() for line in finding_lines(finding)] for finding in comparison.findings}
    if report.unsteady is not None:
        found["unsteady"] = [line.strip() for line in _unsteady_lines(report)]
    cases = {name: found.get(name) for name in (*(kind.value for kind in Kind), "unsteady")}
    return junit_cases(f"mpsim validate cast {report.subject} from {report.source.name}", report.subject, cases)


def junit_cases(suite_name: str, subject: str, cases: Mapping[str, list[str] | None]) -> str:
    """JUnit XML of test cases by name: None for one that passes, else the lines of its failure."""
    suite = ElementTree.Element(
        "testsuite",
        name=suite_name,
        tests=str(len(cases)),
        failures=str(sum(lines is not None for lines in cases.values())),
        errors="0",
    )
    for name, lines in cases.items():
        case = ElementTree.SubElement(suite, "testcase", classname=subject, name=name)
        if lines is not None:
            failure = ElementTree.SubElement(case, "failure", message=lines[-1])
            failure.text = "\n".join(lines)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def junit_error(subject: str, message: str) -> str:
    """JUnit XML of a subject that could not be run."""
    suite = ElementTree.Element("testsuite", name=f"mpsim validate cast {subject}", tests="1", failures="0", errors="1")
    case = ElementTree.SubElement(suite, "testcase", classname=subject, name="run")
    ElementTree.SubElement(case, "error", message=message)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def plot(report: CastReport, path: Any) -> None:
    """A picture of error against input, to ``path``: the subject's error in quanta of the format, mismatches red.

    The suffix of the path gives the type (png, svg, pdf). Not more than 20 000 points are drawn.
    """
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure

    from mpsim.validate.cast.compare import expected_of
    from mpsim.validate.grid import places
    from mpsim.validate.sources import widened

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
    with matplotlib.rc_context({"svg.hashsalt": "mpsim"}):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.subplots()
        good = ~wrong[at]
        axes.scatter(x[at][good], error[good], s=2, color="0.6", label="as expected")
        axes.scatter(x[at][~good], error[~good], s=6, color="tab:red", label="different")
        axes.set_xscale("symlog", linthresh=report.format.smallest)
        axes.set_ylim(-2, 2)
        axes.axhline(0, color="0.8", linewidth=0.5)
        axes.set_xlabel(f"input ({report.source.name})")
        axes.set_ylabel(f"error in quanta of {report.format}")
        axes.set_title(f"{report.subject} against {comparison.rule.describe()}", fontsize=9)
        axes.legend(loc="upper left")
        figure.savefig(path)
