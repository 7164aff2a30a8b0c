"""Classifies mismatches of blocks by where they occur. Each class has an example and, if known, a cause.

A cause is a description that gives every answer to the blocks of its class and to all blocks that are right.
The example of ordinary blocks is one near 1, not the smallest one, which may consist of zeros or subnormal numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpsim.blocks import Quantizer
from mpsim.files.records import Record
from mpsim.formats import as_format
from mpsim.kernels.contract import Array
from mpsim.validate.blocks.answers import BlockAnswers
from mpsim.validate.blocks.causes import cause_of
from mpsim.validate.blocks.expected import Expected, Trial
from mpsim.validate.blocks.kinds import MEANINGS, Kind
from mpsim.validate.blocks.subjects import BlockSubject

#: The number of elements that are tried beside the largest of an example.
MOST_TRIED = 128


@dataclass(frozen=True)
class Definition:
    """A description, with its name. ``rule`` and ``scale_overflow``: those of a block format, else None."""

    quantizer: Quantizer
    name: str
    rule: str | None = None
    scale_overflow: str | None = None


ORDINARY = (Kind.SCALE, Kind.ELEMENT)


@dataclass(frozen=True)
class Counterexample:
    """A differing block. Elements that are not needed for the difference are 0.

    expected and got: numbers, or, if ``codes``, element codes; the scales are codes, None for numbers.
    """

    block: Array
    expected: Array
    got: Array
    expected_scale: int
    got_scale: int | None
    codes: bool

    def to_dict(self) -> Record:
        """Returns the fields as JSON types. ``input_hex`` has float32 patterns."""
        return {
            "input": self.block.tolist(),
            "input_hex": [f"{int(word):#010x}" for word in self.block.view(np.uint32)],
            "answers": "codes" if self.codes else "values",
            "expected": self.expected.tolist(),
            "got": self.got.tolist(),
            "expected_scale": self.expected_scale,
            "got_scale": self.got_scale,
        }


@dataclass(frozen=True)
class Finding:
    """A class: its numbers of blocks and elements, an example, the cause or None, and an observation or ""."""

    kind: Kind
    blocks: int
    elements: int
    example: Counterexample
    cause: str | None
    observed: str = ""

    def to_dict(self) -> Record:
        return {
            "class": self.kind.value, "blocks": self.blocks, "elements": self.elements,
            "example": self.example.to_dict(), "cause": self.cause, "observed": self.observed,
        }  # fmt: skip


def kinds_of(corpus: Array, expected: Expected, answered: BlockAnswers) -> Array:
    """Returns the index in ``list(Kind)`` of the class of every block."""
    finite = np.isfinite(corpus).all(-1)
    amax = np.abs(np.where(np.isfinite(corpus), corpus, 0)).max(-1)
    format = as_format(expected.quantizer.scale.format)
    scale, numbers = expected.scales[:, 0], expected.scale_numbers[:, 0]
    smallest = (numbers == format.smallest) & (not format.has_zero)
    limit = smallest | (numbers == format.largest) | np.isnan(numbers)
    wrong_scale = np.zeros(len(corpus), bool) if answered.scales is None else answered.scales[:, 0] != scale
    choices = (
        (~finite, Kind.SPECIAL), ((amax == 0) | (numbers == 0), Kind.ZEROS),
        (amax < np.finfo(np.float32).smallest_normal, Kind.SUBNORMAL), (limit, Kind.LIMIT), (wrong_scale, Kind.SCALE),
    )  # fmt: skip
    order = list(Kind)
    return np.select(
        [where for where, _ in choices], [order.index(kind) for _, kind in choices], order.index(Kind.ELEMENT)
    )


def findings(
    definition: Definition, trial: Trial, answered: BlockAnswers, subject: BlockSubject
) -> tuple[Finding, ...]:
    """Returns every class of blocks that differ from a definition."""
    corpus, expected = trial.blocks, trial.expected(definition.quantizer, answered)
    different = answered.differ(expected)
    wrong, kinds = different.any(-1), kinds_of(corpus, expected, answered)
    found: list[Finding] = []
    for index, kind in enumerate(Kind):
        members = wrong & (kinds == index)
        if not members.any():
            continue
        ordinary = np.isin(kinds, [list(Kind).index(each) for each in ORDINARY])
        region = (ordinary if kind in ORDINARY else kinds == index) | ~wrong  # a cause changes nothing that is right
        known = [finding.cause for finding in found]
        cause = cause_of(definition.quantizer, trial, answered, region, known)
        example = _example(trial, members, kind, subject, definition.quantizer, answered)
        observed = "" if cause is not None else _observed(kind, corpus[members])
        found.append(Finding(kind, int(members.sum()), int(different[members].sum()), example, cause, observed))
    return tuple(found)


def _observed(kind: Kind, blocks: Array) -> str:
    """Returns what is true of all differing blocks of a class if it has a common reason, otherwise ""."""
    if kind not in (*ORDINARY, Kind.LIMIT):
        return ""
    fraction, _ = np.frexp(np.abs(blocks).max(-1).astype(np.float64))
    if (fraction > 1 - 2.0**-18).all():
        return (
            "only blocks whose largest number is just below a power of two, as where a logarithm is rounded up to the "
            "integer"
        )
    if (fraction == 0.5).all():
        return "only blocks whose largest number is a power of two"
    return ""


# -- examples -------------------------------------------------------------------------------------------------


def _example(
    trial: Trial, members: Array, kind: Kind, subject: BlockSubject, quantizer: Quantizer, answered: BlockAnswers
) -> Counterexample:
    """Returns the ordinary block nearest to 1, or else the smallest, with as few nonzero elements as still differ.

    A block that depends on the others in its call is shown whole.
    """
    rows = np.flatnonzero(members)
    with np.errstate(invalid="ignore"):
        amax = np.abs(np.where(np.isnan(trial.blocks[rows]), np.inf, trial.blocks[rows])).max(-1).astype(np.float64)
    size = np.abs(np.log2(amax)) if kind in ORDINARY else amax
    first = rows[np.argsort(size, kind="stable")[0]]
    row = trial.blocks[first]
    only = np.array([first])
    if trial.is_whole or quantizer.statistic.source == "given" or subject.file is not None:
        return _counterexample(row, trial.expected(quantizer, answered).at(only), answered.at(only), 0)
    top = int(np.argmax(np.where(np.isnan(row), np.inf, np.abs(row))))
    fewer = np.zeros((min(row.size, MOST_TRIED) + 2, row.size), np.float32)  # the largest alone, with one other, all
    fewer[:, top] = row[top]
    wrong = np.flatnonzero(answered.at(only).differ(trial.some(only).expected(quantizer, answered.at(only)))[0])
    places = np.unique(np.concatenate([wrong, np.arange(row.size)]))[: len(fewer) - 2]
    fewer[np.arange(1, len(places) + 1), places] = row[places]
    fewer[-1] = row
    smaller = trial.of(fewer, None if trial.words is None else np.repeat(trial.words[only], len(fewer), 0))
    got = subject.ask(smaller)
    expected = smaller.expected(quantizer, got)
    differ = np.flatnonzero(got.differ(expected).any(-1))
    at = int(differ[0]) if differ.size else len(fewer) - 1
    return _counterexample(fewer[at], expected, got, at)


def _counterexample(block: Array, expected: Expected, answered: BlockAnswers, at: int) -> Counterexample:
    is_codes = answered.codes is not None
    wanted = expected.codes if is_codes else expected.values(answered.type)
    got = answered.codes if is_codes else answered.values
    assert got is not None
    got_scale = None if answered.scales is None else int(answered.scales[at, 0])
    return Counterexample(block, wanted[at], got[at], int(expected.scales[at, 0]), got_scale, is_codes)


__all__ = ["MEANINGS", "Counterexample", "Definition", "Finding", "Kind", "findings"]
