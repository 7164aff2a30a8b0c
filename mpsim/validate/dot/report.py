"""A DotReport in words."""

from __future__ import annotations

from mpsim.tensor_cores import described
from mpsim.validate.dot.validation import DotReport, Tried

#: Terms of a counterexample that are printed.
SHOWN = 8


def text(report: DotReport) -> str:
    """The verdict first, then what the probes found, then how far off the results are."""
    shape = f"{report.length} k in matrices of {report.side} rows and columns"
    lines = [f"{report.subject}: dot products of {report.inputs}, probes of {shape}"]
    if report.declared is not None:
        lines += _verdict(report.declared, "the declared accumulator")
    if report.matches:
        first, *others = report.matches
        lines.append(f"equal to {_named(first)} on all probes and {first.results:,} random results")
        lines += [f"  also equal to {_named(other)}: nothing asked here tells them apart" for other in others]
    else:
        lines.append("equal to no accumulator that was tried")
        if report.nearest is not None:
            lines += _verdict(report.nearest, "the nearest of them,")
    lines.append("measured:")
    lines += [f"  {m.name.replace('_', ' ')}: {m.meaning}" for m in report.measurements]
    error = report.error
    lines.append(
        f"on random normal numbers {100 * error.correct:.1f} % of the results are the exact sum rounded once; "
        f"the others are up to {error.largest:,} ulps off, {error.mean:.3g} on average"
    )
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


def _named(tried: Tried) -> str:
    names = f" ({', '.join(tried.names)})" if tried.names else ""
    return described(tried.accumulator) + names


def _verdict(tried: Tried, what: str) -> list[str]:
    """Equal, or the first difference with the terms that are not zero."""
    if tried.difference is None:
        return [f"equal to {what} {_named(tried)} on all probes and {tried.results:,} random results"]
    d = tried.difference
    terms = [f"{x!r} * {y!r} at k = {k}" for k, x, y in d.terms]
    if tried.equal_but_zero_signs:
        return [f"but for the sign of {tried.zero_signs:,} zeros, equal to {what} {_named(tried)}"]
    more = f" + {len(terms) - SHOWN} more" if len(terms) > SHOWN else ""
    where = "; ".join(f"{name}: {count:,}" for name, count in tried.corpora.items())
    return [
        f"different from {what} {_named(tried)}: {tried.probes_differ:,} probes differ, "
        f"{tried.agreeing:,} of {tried.results:,} random results agree" + (f" (differ of {where})" if where else ""),
        f"  first difference ({d.corpus}): {' + '.join(terms[:SHOWN])}{more}",
        f"  expected {_number(d.expected)}, got {_number(d.found)}",
    ]


def _number(x: float) -> str:
    return f"{x!r} ({x.hex()})"
