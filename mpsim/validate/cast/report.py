"""A CastReport for people (rich tables), and for machines (JUnit XML; JSON is the report's own ``as_json``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from mpsim.validate.cast.classify import MEANINGS, Kind
from mpsim.validate.cast.compare import Comparison, Finding

if TYPE_CHECKING:
    from rich.console import Console

    from mpsim.validate.cast.validation import CastReport


def text(report: CastReport) -> str:
    """The report as plain text of 110 columns."""
    from io import StringIO

    from rich.console import Console

    stream = StringIO()
    print_report(report, Console(file=stream, width=110, no_color=True))
    return stream.getvalue()


def print_report(report: CastReport, console: Console) -> None:
    """The verdict first, then what there is to say about each class of mismatches."""
    how = "every input" if report.exhaustive and report.sweep is None else "a corpus"
    head = f"{report.subject}: {report.source.name} to {report.format}, {how}: {report.inputs:,} inputs"
    console.print(head, style="bold", highlight=False)
    if report.sweep is not None:
        _print_sweep(report, console)
    if report.declared is not None:
        what = f"preset {report.preset}" if report.preset else report.declared.rule.describe()
        _print_comparison(report.declared, f"the declared policy ({what})", console)
    if report.fingerprint is not None and report.once is not None:
        console.print()
        console.print(report.fingerprint.paragraph(report.subject, report.source.name), highlight=False)
        console.print()
        _print_comparison(report.once, f"one rounding, {report.once.rule.describe()},", console)
        console.print()
        _print_presets(report, console)


def _print_sweep(report: CastReport, console: Console) -> None:
    state = report.sweep
    assert state is not None
    which = report.preset or (next(iter(report.presets), None) if report.declared is None else None)
    rule = f"preset {which}" if which else "the declared policy" if report.declared else "the fingerprint's policy"
    console.print(
        f"sweep: {state.inputs:,} of {2**32:,} float32 inputs, {state.mismatches:,} mismatches with {rule}; "
        f"{state.seconds:.1f} s, of which mpsim {state.own_seconds:.1f} s",
        highlight=False,
    )


def _print_comparison(comparison: Comparison, what: str, console: Console) -> None:
    if comparison.equal:
        console.print(f"equal to {what} on all {comparison.inputs:,} inputs", highlight=False)
        return
    inputs = "1 input" if comparison.mismatches == 1 else f"{comparison.mismatches:,} inputs"
    console.print(f"different from {what} on {inputs}:", highlight=False)
    for finding in comparison.findings:
        for line in finding_lines(finding):
            console.print(line, highlight=False, soft_wrap=False)


def finding_lines(finding: Finding) -> list[str]:
    """A class: name, count and meaning; its smallest counterexample; the cause."""
    smallest = finding.smallest
    lines = [
        f"  {finding.kind.value}: {finding.count:,} ({MEANINGS[finding.kind]})",
        f"    smallest input {smallest.input}: expected {smallest.expected}, got {smallest.got}",
    ]
    if smallest.midpoint is not None:
        middle = smallest.midpoint
        exact = f" = {middle}" if middle.denominator > 1 and middle.denominator < 10**12 else ""
        lines.append(f"    midpoint of the neighbours: {float(middle)!r}{exact}")
    return [*lines, f"    likely cause: {finding.cause}"]


def _print_presets(report: CastReport, console: Console) -> None:
    from rich.table import Table

    if not report.presets:
        return
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
        table.add_row(name, "equal" if comparison.equal else f"{comparison.mismatches:,}", where, shown)
    console.print(table)


def junit(report: CastReport) -> str:
    """JUnit XML: one test case per class of mismatches, failed where there are some."""
    comparison = report.declared
    if comparison is None:
        comparison = min(report.presets.values(), key=lambda other: other.mismatches, default=report.once)
    assert comparison is not None
    found = {finding.kind: finding for finding in comparison.findings}
    suite = ElementTree.Element(
        "testsuite",
        name=f"mpsim validate cast {report.subject} from {report.source.name}",
        tests=str(len(Kind)),
        failures=str(len(found)),
        errors="0",
    )
    for kind in Kind:
        case = ElementTree.SubElement(suite, "testcase", classname=report.subject, name=kind.value)
        if kind in found:
            lines = [line.strip() for line in finding_lines(found[kind])]
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
