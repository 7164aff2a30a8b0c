"""The lines of a report on a product that was given arguments beside its operands."""

from __future__ import annotations

from mpsim.validate.dot.arguments.validation import ArgumentsReport
from mpsim.validate.dot.arguments.values import OTHER_SHAPES
from mpsim.validate.dot.results import Tried

#: Terms of a counterexample that are printed, and descriptions beside the first.
SHOWN, OTHERS = 8, 6


def lines_of(report: ArgumentsReport) -> list[str]:
    """The verdict first."""
    given = ", ".join(report.arguments) or "nothing"
    lines = [
        f"{report.subject}: dot products of {report.inputs} with {given}, answered in {report.output}, of up to "
        f"{report.length} k in matrices of {report.side} rows and columns and {OTHER_SHAPES} other shapes"
    ]
    if report.declared is not None:
        return lines + verdict(report.declared, "the declared accumulator", given) + neighbours(report)
    if not report.matches:
        lines.append(f"equal to no description of what is done with {given} that was compared")
        return lines + ([] if report.nearest is None else verdict(report.nearest, "the nearest of them,", given))
    first = report.matches[0]
    return lines + verdict(first, "", given) + neighbours(report)


def neighbours(report: ArgumentsReport) -> list[str]:
    """The other descriptions that give every result, and how many do not."""
    others = report.matches[1:]
    lines = [f"  also equal to {other.text}" for other in others[:OTHERS]]
    if len(others) > OTHERS:
        lines.append(f"  and to {len(others) - OTHERS} more; no input that was tried tells them apart")
    if report.matches and report.apart:
        what = "one description" if len(report.apart) == 1 else f"{len(report.apart)} descriptions"
        lines.append(f"  told apart from {what} beside it")
    return lines


def verdict(tried: Tried, what: str, given: str) -> list[str]:
    """Equal, or the first difference with the terms that are not zero and the arguments of the element."""
    name = f"{what} {tried.text}".strip()
    if tried.difference is None:
        return [f"equal to {name} on {tried.results:,} results with random and edge values of {given}"]
    d = tried.difference
    terms = [f"{x!r} * {y!r} at k = {k}" for k, x, y in d.terms] or ["no terms but zeros"]
    more = f" + {len(terms) - SHOWN} more" if len(terms) > SHOWN else ""
    zeros = f", {tried.zero_signs:,} of the others but for the signs of zeros" if tried.zero_signs else ""
    return [
        f"different from {name}: {tried.agreeing:,} of {tried.results:,} results agree{zeros}",
        f"  for example ({d.corpus}): {' + '.join(terms[:SHOWN])}{more}",
        f"  expected {d.expected!r} ({d.expected.hex()}), got {d.found!r} ({d.found.hex()})",
        *([f"  cause: {tried.cause}"] if tried.cause else []),
    ]
