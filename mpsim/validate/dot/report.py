"""Reports on products as mpsim.validate.presentation has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from mpsim.products.accumulators import Accumulator, Summation, in_stages
from mpsim.products.tensor_cores import described
from mpsim.validate.dot.arguments.report import lines_of
from mpsim.validate.dot.arguments.validation import ArgumentsReport
from mpsim.validate.dot.orders.drawing import draw_tree, outline
from mpsim.validate.dot.orders.trees import tree_of_product
from mpsim.validate.dot.results import DotReport, Tried
from mpsim.validate.dot.shapes import WIDE_SIDE, WIDE_TERMS
from mpsim.validate.dot.vectors import DotVectorsReport

#: Terms of a counterexample that are printed.
SHOWN = 8


def text(report: DotReport | DotVectorsReport, width: int = 110) -> str:
    """The verdict first, then what the probes found, then how far off the results are."""
    if isinstance(report, DotVectorsReport):
        return str(report)
    if isinstance(report, ArgumentsReport):
        first, *rest = lines_of(report)
        shapes = [*_shape_lines(report), *_place_lines(report), *_terms_lines(report)]
        lines = [first, *shapes, *rest, *_state_lines(report)]
        return "\n".join([*lines, *_measured(report), *(f"note: {note}" for note in report.notes)])
    shape = f"{report.length} k in matrices of {report.side} rows and columns"
    lines = [f"{report.subject}: dot products of {report.inputs}, answered in {report.output}, probes of {shape}"]
    lines += _shape_lines(report) + _place_lines(report) + _terms_lines(report)
    if report.declared is not None:
        lines += _verdict(report.declared, "the declared accumulator")
    lines += _found(report)
    lines += _state_lines(report) + _measured(report)
    error = report.error
    if error.largest:
        lines.append(
            f"on random normal numbers {100 * error.correct:.1f} % of the results are the exact sum rounded once; "
            f"results are up to {error.largest:,} {error.output} numbers off, {error.mean:.3g} on average over all"
        )
    else:
        lines.append("on random normal numbers every result is the exact sum rounded once")
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes)])


def _state_lines(report: DotReport) -> list[str]:
    return [f"the subject sets {' and '.join(report.state)} for its whole process"] if report.state else []


def _measured(report: DotReport) -> list[str]:
    if not report.measurements:
        return []
    return ["measured:", *(f"  {m.name.replace('_', ' ')}: {m.meaning}" for m in report.measurements)]


def cases(report: DotReport | DotVectorsReport) -> dict[str, list[str] | None]:
    """Whether an accumulator gives the results, whatever the shape of the matrices and the place in them."""
    if isinstance(report, DotVectorsReport):
        return {"accumulator": None if report.equal else str(report).splitlines()}
    if isinstance(report, ArgumentsReport):
        return {
            "accumulator": None if report.equal else [*lines_of(report), *_shape_lines(report), *_place_lines(report)]
        }
    if report.declared is not None:
        lines = [] if report.declared.equal else _verdict(report.declared, "the declared accumulator")
    else:
        lines = [] if report.matches else _found(report)
    found = {"accumulator": lines, "shapes": _shape_lines(report), "places": _place_lines(report)}
    found["terms"] = _terms_lines(report)
    return {name: [line.strip() for line in lines] or None for name, lines in found.items()}


def draw(report: DotReport | DotVectorsReport, axes: Any) -> None:
    """The tree of the order that was found, or else how far results are from the exact sum rounded once; of a file, how
    many an accumulator does not give."""
    if isinstance(report, DotVectorsReport):
        rows = sorted(report.different.items(), key=lambda row: row[1])[:12][::-1]
        axes.barh([described(each) for each, _ in rows], [count for _, count in rows], color="tab:red")
        axes.tick_params("y", labelsize=6)
        axes.set_xlabel(f"results of {report.vectors:,} that it does not give")
        axes.set_title(f"{report.subject}: the nearest accumulators", fontsize=9)
        return
    if not report.matches:
        _draw_error(report, axes)
        return
    found = report.matches[0]
    draw_tree(tree_of_product(in_stages(found.accumulator), report.length), axes)
    correct = f"{100 * report.error.correct:.1f} % of random results are correctly rounded"
    title = f"{report.subject}: {report.length} {report.inputs} terms, as {found.text}; {correct}"
    axes.set_title(title, fontsize=9, wrap=True)


def _draw_error(report: DotReport, axes: Any) -> None:
    """How far results are from the exact sum rounded once."""
    error = report.error
    names = ["0", "1", *(f"{2**i}\u2013{2 ** (i + 1) - 1}" for i in range(1, max(1, len(error.counts) - 1)))]
    shares = [100 * count / sum(error.counts) for count in error.counts]
    axes.bar(names[: len(shares)], shares, color=["0.6", *["tab:blue"] * (len(shares) - 1)])
    if len(shares) > 9:  # too many to stand side by side
        axes.tick_params("x", labelrotation=60, labelsize=7)
    axes.set_xlabel(f"distance from the exact sum rounded once, in {error.output} numbers")
    axes.set_ylabel("results [%]")
    axes.set_title(f"{report.subject}: equal to no accumulator that was tried", fontsize=9, wrap=True)


def _shape_lines(report: DotReport) -> list[str]:
    found = report.shapes
    if found is None:
        return []
    (m, n), (row, column, there, whole) = found.shapes[0], found.place
    others = [f"  {line}" for line in found.lines]
    return [
        f"different: the sums depend on the shape of the matrices: {found.words}",
        f"  element [{row}, {column}] is {_number(there)} in a product of {m} x {n}, and {_number(whole)} in one of "
        f"{found.largest[0]} x {found.largest[1]}, of the same rows, columns and {found.length} k",
        *others,
    ]


def _terms_lines(report: DotReport) -> list[str]:
    lines = []
    if report.large:
        size = f"{WIDE_SIDE} rows and columns, of {WIDE_TERMS} k"
        lines.append(f"different: the sums depend on the shape of the matrices: other ones in a product of {size}")
    if report.terms:
        terms = ", ".join(map(str, report.terms))
        lines.append(f"different: the sums depend on the number of terms: other ones for K = {terms}")
    return lines


def _place_lines(report: DotReport) -> list[str]:
    found = report.places
    if found is None:
        return []
    row, column, there, moved = found.place
    return [
        "different: a sum depends on where its row and column are in the matrices:",
        f"  element [{row}, {column}] of a product of {found.side} x {found.side} is {_number(there)}, and "
        f"{_number(moved)} where all rows and columns are one further on, of {found.length} k",
        *(f"  {line}" for line in found.lines),
    ]


def _found(report: DotReport) -> list[str]:
    """What the subject is equal to and what that was distinguished from, or what it is nearest to."""
    if report.matches:
        first, *others = report.matches
        side = f"for {report.side} rows and columns " if report.shapes is not None else ""
        if report.places is not None and len(report.places.parts) > 1:
            side = f"for {report.places.parts[0][0]:,} of {report.side**2:,} elements "
        lines = [f"{side}equal to {first.text} on all probes and {first.results:,} random results"]
        lines += _also_equal(first, others)
        if others:
            lines.append(f"  of {report.separating:,} more inputs, none tells these apart")
        if first.drawn:
            lines.append("  these trees were found by probes; other numbers of terms were not asked; the first one is:")
            lines += [f"    {line}" for line in outline(tree_of_product(in_stages(first.accumulator), report.length))]
        if report.apart:
            what = "one accumulator" if len(report.apart) == 1 else f"{len(report.apart)} accumulators"
            lines.append(f"  told apart from {what} beside {'them' if others else 'it'}")
        return lines
    if report.declared is not None and report.declared.equal:
        return []
    lines = ["equal to no accumulator that was tried"]
    nearest = report.nearest
    if nearest is None:
        return lines
    if report.length in nearest.equal_at and nearest.corpora and not nearest.equal_but_zero_signs:
        rest = sorted({int(name.rpartition("= ")[2]) for name in nearest.corpora}, reverse=True)
        return [
            *lines,
            f"for K = {report.length} equal to {nearest.text}, for K = {', '.join(map(str, rest))} not: the sums "
            f"depend on the number of terms",
        ]
    return lines + _verdict(nearest, "the nearest of them,")


def _also_equal(first: Tried, others: Sequence[Tried]) -> list[str]:
    """The other matches: by the one field in which each differs from the first, or whole."""
    by_field: dict[str, list[str]] = {}
    rest = []
    for other in others:
        changed = _changed(first.accumulator, other.accumulator)
        if len(changed) == 1:
            value = getattr(other.accumulator, changed[0])
            names = f" ({', '.join(other.names)})" if other.names else ""
            by_field.setdefault(changed[0], []).append(("none" if value is None else str(value).lower()) + names)
        else:
            rest.append((other, changed))
    lines = [f"  also equal with {name}={' or '.join(values)}" for name, values in by_field.items()]
    combined = [other for other, changed in rest if changed and set(changed) <= set(by_field)]
    if combined:
        lines.append(f"  and with {len(combined)} combinations of these")
    return lines + [f"  also equal to {other.text}" for other, _ in rest if other not in combined]


def _changed(first: Summation, other: Summation) -> list[str]:
    """The fields in which two accumulators differ; none where one is written in stages."""
    if not (isinstance(first, Accumulator) and isinstance(other, Accumulator)):
        return []
    return [field.name for field in fields(Accumulator) if getattr(other, field.name) != getattr(first, field.name)]


def _verdict(tried: Tried, what: str) -> list[str]:
    """Equal, or the first difference with the terms that are not zero."""
    if tried.difference is None:
        return [f"equal to {what} {tried.text} on all probes and {tried.results:,} random results"]
    d = tried.difference
    terms = [f"{x!r} * {y!r} at k = {k}" for k, x, y in d.terms]
    if tried.equal_but_zero_signs:
        return [f"but for the sign of {tried.zero_signs:,} zeros, equal to {what} {tried.text}"]
    more = f" + {len(terms) - SHOWN} more" if len(terms) > SHOWN else ""
    kinds: dict[str, int] = {}
    for name, count in tried.corpora.items():
        kind = name.partition(",")[0]
        kinds[kind] = kinds.get(kind, 0) + count
    where = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
    return [
        f"different from {what} {tried.text}: {tried.probes_differ:,} probes differ, "
        f"{tried.agreeing:,} of {tried.results:,} random results agree" + (f" (different: {where})" if where else ""),
        f"  for example ({d.corpus}): {' + '.join(terms[:SHOWN])}{more}",
        f"  expected {_number(d.expected)}, got {_number(d.found)}",
    ]


def _number(x: float) -> str:
    return f"{x!r} ({x.hex()})"
