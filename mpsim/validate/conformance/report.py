"""Reports on conformance as mpsim.validate.presentation has them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mpsim.validate.conformance.names import REPORT, format_name
from mpsim.validate.conformance.specializations import NOT_DEFINED, OF_FORMATS
from mpsim.validate.conformance.validation import ABSENT, DIFFERENT, EQUAL, FAILED, ConformanceReport, Row
from mpsim.validate.operations.classes import code_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BASIS = (
    "How this was found: by direct computation (§4.6). Every answer was compared, in every bit, with mpsim's own",
    "definition, a program in exact integers and fractions that was written from the text of the report. It does not",
    "come from the value tables of the working group, which are a check of it: mpsim decodes all 504 as published.",
    "The working group calls report and tables an unapproved draft, not to be used for purposes of conformance.",
    "This report is evidence for the specializations listed above. It is not a declaration of conformance.",
)


def text(report: ConformanceReport, width: int = 110) -> str:
    """The verdict first, then each specialization, then what was not looked at and what the comparison rests on."""
    lines = [f"{report.subject}: compared with the {REPORT}", _verdict(report), ""]
    lines += [line for row in report.rows for line in _row(row)]
    if failed := report.of(ABSENT):
        lines += ["", f"The subject does not have {len(failed)} of the {len(report.rows)} specializations asked for."]
    lines += ["", *_not_looked_at(report), "", *_BASIS]
    return "\n".join([*lines, "Versions: " + ", ".join(f"{name} {number}" for name, number in report.versions)])


def _verdict(report: ConformanceReport) -> str:
    """One sentence."""
    equal, different = len(report.of(EQUAL)), len(report.of(DIFFERENT))
    exhaustive = sum(row.exhaustive for row in report.of(EQUAL))
    answers = f"{report.answers:,} answers"
    if different:
        return f"different in {different} of {equal + different} specializations compared ({answers})"
    if not equal:
        return "nothing was compared"
    rest = f", {exhaustive} of them on all operands" if exhaustive < equal else ", each on all operands"
    return f"equal in every bit in {equal} specializations{rest} ({answers})"


def _row(row: Row) -> list[str]:
    name = str(row.specialization)
    if row.outcome == ABSENT:
        return [f"{name}: not provided"]
    if row.outcome == FAILED:
        return [f"{name}: no answers: {row.why}"]
    how = f"all {row.answers:,} operands" if row.exhaustive else f"{row.answers:,} operands, not all"
    if row.outcome == EQUAL:
        return [f"{name}: equal on {how}"]
    kappa = "" if row.kappa is None else f", κ = {_kappa(row.kappa)}"
    lines = [f"{name}: {row.wrong:,} of {row.answers:,} answers differ ({how}){kappa}"]
    return [*lines, f"  {_example(row)}"]


def _kappa(kappa: float) -> str:
    return "NaN" if math.isnan(kappa) else "∞" if math.isinf(kappa) else f"{kappa:.0f}"


def _example(row: Row) -> str:
    """Operands, the expected result and the answer."""
    assert row.example is not None
    each, (codes, expected, got) = row.specialization, row.example
    words = [code_words(code, format) for code, format in zip(codes, each.formats, strict=False)]
    words += [f"random bits {code:#x}" for code in codes[len(each.formats) :]]
    sides = [str(bool(side)) if each.result is None else code_words(side, each.result) for side in (expected, got)]
    return f"{', '.join(words)}: expected {sides[0]}, got {sides[1]}"


def _not_looked_at(report: ConformanceReport) -> list[str]:
    """What the report says nothing about."""
    external = ", ".join(map(format_name, report.external)) or "none, though §4.5 requires one"
    lines = [
        "Not looked at:",
        f"  constants of formats: {', '.join(OF_FORMATS[:6])}, …",
        f"  operations that mpsim does not define: {NOT_DEFINED}",
        f"  external formats other than: {external}",
    ]
    if sampled := sum(not row.exhaustive for row in report.rows if row.outcome in (EQUAL, DIFFERENT)):
        lines.append(f"  operands of {sampled} specializations that have more combinations than were asked")
    if report.missing:
        shown = ", ".join(report.missing[:3])
        lines.append(
            f"  {len(report.missing)} specializations that §4.5 requires: {shown}{', …' * (len(report.missing) > 3)}"
        )
    return lines


def cases(report: ConformanceReport) -> dict[str, list[str] | None]:
    """One case for each specialization; those that the subject does not have are failures unless they may be absent."""
    fine = (EQUAL, ABSENT) if report.partial else (EQUAL,)
    return {
        str(row.specialization): None if row.outcome in fine else [line.strip() for line in _row(row)]
        for row in report.rows
    }


def draw(report: ConformanceReport, axes: Axes) -> None:
    """Answers that differ, by specialization."""
    rows = sorted(report.of(DIFFERENT), key=lambda row: row.wrong)[-25:]
    if rows:
        bars = axes.barh([str(row.specialization) for row in rows], [row.wrong for row in rows], color="tab:red")
        axes.bar_label(bars, [f"{row.wrong:,}" for row in rows], padding=3)
        axes.tick_params(axis="y", labelsize=6)
    else:
        axes.text(0.5, 0.5, _verdict(report), ha="center", va="center", transform=axes.transAxes)
        axes.set_yticks([])
    axes.set_xlabel(f"answers that differ, of {report.answers:,}")
    axes.set_title(f"{report.subject}: {REPORT}", fontsize=9)
