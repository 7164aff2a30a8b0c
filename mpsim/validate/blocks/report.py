"""Presents reports on block quantisers (see mpsim.validate.presentation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mpsim.blocks import Quantizer
from mpsim.blocks.quantizers.groups import Block, Column, Row, Tile
from mpsim.blocks.quantizers.words import sentence_of
from mpsim.rounding import decode
from mpsim.validate.blocks.answers import NO_CODE
from mpsim.validate.blocks.chances import FALSE_ALARM_RATE
from mpsim.validate.blocks.classes import MEANINGS, Counterexample, Finding, Kind
from mpsim.validate.blocks.validation import BlockReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Frequencies of each kind that are shown.
MOST_SHOWN = 5


def text(report: BlockReport, width: int = 110) -> str:
    """Returns the report as text, with the verdict first and then each class of differing blocks."""
    nearest = report.rules[0]
    answers = "codes" if report.answers == "codes" else f"values in {report.answers}"
    groups = f"{report.blocks:,} {_groups(report.quantizer)}"
    words = {"given": ", given random words", "own": ", its own random bits"}.get(report.words, "")
    lines = [f"{report.subject}: float32 to {report.format}, answered as {answers}, {groups}{words}"]
    if nearest.definition.rule == "":
        lines.append(sentence_of(report.quantizer))
    if report.state:
        lines.append(f"the subject sets {' and '.join(report.state)} for its whole process")
    if report.unseen:
        lines.append(f"not looked at: {report.unseen}")
    same = [result.name for result in report.rules if not result.blocks]
    if same and report.words == "own":
        return "\n".join([*lines, f"every element is one of its two neighbours: {', '.join(same)}", *_chances(report)])
    if same:
        return "\n".join([*lines, f"equal in every bit: {', '.join(same)}"])
    if not report.declared:
        others = ", ".join(f"{result.name} {result.blocks:,}" for result in report.rules)
        lines.append(f"equal to none; blocks that differ: {others}")
    count = f"{many(nearest.blocks, 'block')}, {many(nearest.elements, 'element')}"
    lines.append(f"different from {nearest.name} in {count}:")
    for finding in nearest.findings:
        lines += _finding(finding, report)
    return "\n".join(lines)


def _chances(report: BlockReport) -> list[str]:
    """Returns what was found of frequencies."""
    found = report.chances
    if found is None:
        return []
    lines = [
        f"{found.points:,} elements were rounded {found.draws:,} times, and {found.spread:,} once; a right subject "
        f"fails with probability at most {FALSE_ALARM_RATE:g}"
    ]
    if found.equal:
        return [*lines, "frequencies are as they should be"]
    lines.append("different: elements go up with other frequencies")
    lines += [
        f"  input {each.input}: up in {each.share:.2%}, expected {each.expected_share:.2%} (p = {each.probability:.1e})"
        for each in found.wrong[:MOST_SHOWN]
    ]
    lines += [
        f"  {each.draws:,} elements{f', {each.part}' if each.part else ''}: up in {each.share:.2%}, expected "
        f"{each.expected_share:.2%}"
        for each in found.groups[:MOST_SHOWN]
    ]
    if not found.causes:
        return [*lines, "    unexplained"]
    others = f" (or {'; '.join(found.causes[1:])})" if found.causes[1:] else ""
    return [*lines, f"    likely cause: {found.causes[0]}{others}"]


def cases(report: BlockReport) -> dict[str, list[str] | None]:
    """Returns a test case for each class of blocks, for the declared or the nearest definition."""
    found = {
        finding.kind.value: [line.strip() for line in _finding(finding, report)] for finding in report.rules[0].findings
    }
    chances = {} if report.chances is None else {"frequency": None if report.chances.equal else _chances(report)}
    return {kind.value: found.get(kind.value) for kind in Kind} | chances


def draw(report: BlockReport, axes: Axes) -> None:
    """Draws the number of differing blocks of each definition."""
    rows = report.rules[::-1]
    colors = ["tab:red" if result.blocks else "0.6" for result in rows]
    bars = axes.barh([result.name for result in rows], [result.blocks for result in rows], color=colors)
    axes.bar_label(bars, [f"{result.blocks:,}" if result.blocks else "equal" for result in rows], padding=3)
    axes.set_xlim(0, max(1, 1.15 * max(result.blocks for result in rows)))
    axes.set_xlabel(f"blocks of {report.blocks:,} that differ")
    axes.set_title(f"{report.subject}: float32 to {report.format}", fontsize=9)


def _finding(finding: Finding, report: BlockReport) -> list[str]:
    count = f"{many(finding.blocks, 'block')}, {many(finding.elements, 'element')}"
    head = f"  {finding.kind.value}: {count} ({MEANINGS[finding.kind]})"
    lines = [head, *_example(finding.example, report)]
    if finding.cause is not None:
        return [*lines, f"    likely cause: {finding.cause}"]
    return [*lines, f"    unexplained; {finding.observed}" if finding.observed else "    unexplained"]


def _groups(quantizer: Quantizer) -> str:
    match quantizer.group:
        case Block(size):
            return f"blocks of {size}"
        case Tile(rows, columns):
            return f"tiles of {rows} x {columns}"
        case Row():
            return "rows"
        case Column():
            return "columns"
        case _:
            return "tensors" if quantizer.statistic.source == "input" else "parts of a tensor"


def many(count: int, what: str) -> str:
    """Returns a count with its noun."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _example(found: Counterexample, report: BlockReport) -> list[str]:
    row = report.quantizer
    wanted = f"expected {_scale(found.expected_scale, row)}"
    scale = wanted if found.got_scale is None else f"{wanted}, got {_scale(found.got_scale, row)}"
    with np.errstate(invalid="ignore"):
        wrong = (found.expected != found.got) & ~((found.expected != found.expected) & (found.got != found.got))
    first = np.concatenate([np.flatnonzero(wrong)[:3], np.flatnonzero((found.block != 0) & ~wrong)[:3]])
    shown = np.sort(first) if first.size else np.array([0])
    others = np.setdiff1d(np.arange(found.block.size), shown)
    rest, more = np.count_nonzero(found.block[others]), np.count_nonzero(wrong[others])
    words = f"{rest} more elements" if rest else "all other elements 0"
    words += f", {more} of them wrong too" if more else ""
    lines = [f"    a block, {words}; scale: {scale}"]
    for at in shown:
        word = f"{int(found.block[at : at + 1].view(np.uint32)[0]):#010x}"
        expected, got = (_number(part[at], found.codes) for part in (found.expected, found.got))
        lines.append(f"      element {at}: input {found.block[at]!s} ({word}), expected {expected}, got {got}")
    return lines


def _scale(code: int, row: Quantizer) -> str:
    if code == NO_CODE:
        return "none of its numbers"
    value = float(decode(np.array([code], np.uint32), row.scale.format, np.float64, backend="reference")[0])
    fraction, exponent = np.frexp(value)
    shown = f"2^{int(exponent) - 1}" if fraction == 0.5 else str(value)
    return f"{shown} ({code:#04x})"


def _number(value: float, codes: bool) -> str:
    return f"code {int(value) & 0xFF:#04x}" if codes else str(value)
