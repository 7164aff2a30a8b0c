"""Classifies mismatches of blocks by where they occur. Each class has an example and, if known, a cause.

A cause is a definition that gives every answer to the blocks of its class and to the ordinary blocks that are right.
The example of ordinary blocks is one near 1, not the smallest one, which may consist of zeros or subnormal numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from mpsim.blocks import SCALE_RULES, BlockFormat, Blocks, quantize
from mpsim.files.records import Record
from mpsim.kernels.contract import Array
from mpsim.policies import PLAIN_MODES, Mode, Overflow
from mpsim.rounding import decode
from mpsim.validate.blocks.answers import BlockAnswers, BlockSubject, expected_values


@dataclass(frozen=True)
class Definition:
    """Describes how blocks are quantised. ``rule`` is None for NVFP4, which has only one."""

    rule: str | None
    scale_overflow: str
    mode: Mode = Mode.NEAREST_EVEN
    overflow: Overflow = Overflow.SATURATE
    tensor_scale: float | None = None

    @property
    def name(self) -> str:
        return f"scale overflow {self.scale_overflow}" if self.rule is None else f"scale rule {self.rule}"

    def blocks(self, x: Array, format: BlockFormat, backend: str) -> Blocks:
        """Returns the definition's codes and scales."""
        return quantize(
            x, format, scale_rule=self.rule or "floor", scale_overflow=self.scale_overflow, mode=self.mode,
            overflow=self.overflow, tensor_scale=self.tensor_scale, backend=backend,
        )  # fmt: skip


class Kind(StrEnum):
    """The classes of blocks, in the order of a report."""

    SCALE = "scale"
    ELEMENT = "element"
    LIMIT = "scale_limit"
    SUBNORMAL = "subnormal"
    ZEROS = "zeros"
    SPECIAL = "special"


MEANINGS = {
    Kind.SCALE: "ordinary blocks whose scale is another",
    Kind.ELEMENT: "ordinary blocks of whose elements some are others",
    Kind.LIMIT: "blocks whose scale is the smallest or the largest there is, or none",
    Kind.SUBNORMAL: "blocks of subnormal float32 numbers",
    Kind.ZEROS: "blocks of zeros",
    Kind.SPECIAL: "blocks with a NaN or an infinity",
}
ORDINARY = (Kind.SCALE, Kind.ELEMENT)
#: The number of blocks on which a cause is tried first.
SAMPLE = 64


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


def kinds_of(corpus: Array, expected: Blocks, answered: BlockAnswers) -> Array:
    """Returns the index in ``list(Kind)`` of the class of every block."""
    finite = np.isfinite(corpus).all(-1)
    amax = np.abs(np.where(np.isfinite(corpus), corpus, 0)).max(-1)
    scale = expected.scales[:, 0]
    numbers = decode(scale, expected.format.scale, np.float64, backend="reference")
    largest = expected.format.scale.largest_code
    limit = (scale == 0) | (scale == largest) | np.isnan(numbers)
    wrong_scale = np.zeros(len(corpus), bool) if answered.scales is None else answered.scales[:, 0] != scale
    choices = (
        (~finite, Kind.SPECIAL), (amax == 0, Kind.ZEROS), (amax < np.finfo(np.float32).smallest_normal, Kind.SUBNORMAL),
        (limit, Kind.LIMIT), (wrong_scale, Kind.SCALE),
    )  # fmt: skip
    order = list(Kind)
    return np.select(
        [where for where, _ in choices], [order.index(kind) for _, kind in choices], order.index(Kind.ELEMENT)
    )


def findings(
    definition: Definition, corpus: Array, answered: BlockAnswers, subject: BlockSubject, backend: str
) -> tuple[Finding, ...]:
    """Returns every class of blocks that differ from a definition."""
    expected = definition.blocks(corpus, subject.format, backend)
    different = answered.differ(expected)
    wrong, kinds = different.any(-1), kinds_of(corpus, expected, answered)

    def define(x: Array, other: Definition) -> Blocks:
        return other.blocks(x, subject.format, backend)

    found: list[Finding] = []
    for index, kind in enumerate(Kind):
        members = wrong & (kinds == index)
        if not members.any():
            continue
        ordinary = np.isin(kinds, [list(Kind).index(each) for each in ORDINARY])
        region = ordinary if kind in ORDINARY else kinds == index
        known = [finding.cause for finding in found]
        cause = _cause(definition, corpus[region], answered.at(region), define, known)
        example = _example(corpus, members, kind, subject, lambda x: define(x, definition))
        observed = "" if cause is not None else _observed(kind, corpus[members])
        found.append(Finding(kind, int(members.sum()), int(different[members].sum()), example, cause, observed))
    return tuple(found)


# -- causes ---------------------------------------------------------------------------------------------------


def _cause(
    definition: Definition, corpus: Array, answered: BlockAnswers, define: Callable[[Array, Definition], Blocks],
    known: Sequence[str | None],
) -> str | None:  # fmt: skip
    """Finds a definition with one or two changed properties that gives every answer to these blocks, and describes it.

    ``known`` are causes of other classes. They are tried first, because one defect is more likely than two.
    """
    few = np.unique(np.linspace(0, len(corpus) - 1, SAMPLE).astype(int))
    parts = ((corpus[few], answered.at(few)), (corpus, answered))  # a few blocks refute most definitions
    for words, other in sorted(_others(definition), key=lambda row: row[0] not in known):
        if not any(got.differ(define(blocks, other)).any() for blocks, got in parts):
            return words
    return None


def _others(definition: Definition) -> Iterator[tuple[str, Definition]]:
    modes = [mode for mode in PLAIN_MODES if mode is not definition.mode]
    rules = [rule for rule in SCALE_RULES if definition.rule is not None and rule != definition.rule]
    for mode in modes:
        yield f"elements are rounded {mode.value}", replace(definition, mode=mode)
    for rule in rules:
        yield f"the scale follows rule {rule}", replace(definition, rule=rule)
    yield "elements beyond the largest do not saturate", replace(definition, overflow=Overflow.INFINITY)
    for rule in rules:
        for mode in modes:
            words = f"the scale follows rule {rule}, and elements are rounded {mode.value}"
            yield words, replace(definition, rule=rule, mode=mode)


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
    corpus: Array, members: Array, kind: Kind, subject: BlockSubject, define: Callable[[Array], Blocks]
) -> Counterexample:
    """Returns the ordinary block nearest to 1, or else the smallest, with as few nonzero elements as still differ."""
    rows = np.flatnonzero(members)
    with np.errstate(invalid="ignore"):
        amax = np.abs(np.where(np.isnan(corpus[rows]), np.inf, corpus[rows])).max(-1).astype(np.float64)
    size = np.abs(np.log2(amax)) if kind in ORDINARY else amax
    row = corpus[rows[np.argsort(size, kind="stable")[0]]]
    top = int(np.argmax(np.where(np.isnan(row), np.inf, np.abs(row))))
    fewer = np.zeros((row.size + 2, row.size), np.float32)  # the largest alone, with one other, all
    fewer[:, top] = row[top]
    fewer[np.arange(1, row.size + 1), np.arange(row.size)] = row
    fewer[-1] = row
    expected, answered = define(fewer), subject.ask(fewer)
    differ = np.flatnonzero(answered.differ(expected).any(-1))
    at = int(differ[0]) if differ.size else len(fewer) - 1
    wanted = expected.codes if answered.codes is not None else expected_values(expected, answered.type)
    got = answered.codes if answered.values is None else answered.values
    assert got is not None
    got_scale = None if answered.scales is None else int(answered.scales[at, 0])
    is_codes = answered.codes is not None
    return Counterexample(fewer[at], wanted[at], got[at], int(expected.scales[at, 0]), got_scale, is_codes)
