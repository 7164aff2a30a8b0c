"""Blocks that are asked in one or more calls, and what a description expects of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mpsim.blocks import Quantizer, dequantize
from mpsim.blocks.quantized import Quantized
from mpsim.blocks.quantizers.groups import Column, Group, Tensor, Tile
from mpsim.blocks.running import Given, quantize_array
from mpsim.kernels.contract import Array
from mpsim.rounding import decode, round_to


@dataclass(frozen=True, eq=False)
class Expected:
    """What is expected of blocks (n, size). codes (n, size); scales and zero points (n, 1); ``exact`` values in float64
    and ``single`` ones in float32."""

    quantizer: Quantizer
    codes: Array
    scales: Array
    points: Array | None
    exact: Array
    single: Array
    inputs: Array | None = None

    @property
    def scale_numbers(self) -> Array:
        return np.asarray(decode(self.scales, self.quantizer.scale.format, np.float64, backend="reference"))

    def values(self, type: str) -> Array:
        """Returns the numbers as a type represents them, in float64."""
        wide = self.exact if self.quantizer.values == "exact" else self.single.astype(np.float64)
        if type == "float64":
            return wide
        if type == "float32":
            return self.single.astype(np.float64)
        return np.asarray(round_to(wide, type, "nearest_even", "infinity", threads=1), np.float64)

    def where(self, chosen: Array, other: Expected) -> Expected:
        """Returns these elements where they are chosen, and else those of the other."""
        pairs = ((self.codes, other.codes), (self.exact, other.exact), (self.single, other.single))
        codes, exact, single = (np.where(chosen, ours, theirs) for ours, theirs in pairs)
        return replace(self, codes=codes, exact=exact, single=single)

    def at(self, rows: Array) -> Expected:
        """Returns what is expected of some of the blocks."""
        points = None if self.points is None else self.points[rows]
        return replace(
            self, codes=self.codes[rows], scales=self.scales[rows], points=points, exact=self.exact[rows],
            single=self.single[rows], inputs=None if self.inputs is None else self.inputs[rows],
        )  # fmt: skip


def to_array(blocks: Array, group: Group, across: int = 1) -> Array:
    """Returns the array whose groups are the rows of ``blocks``, ``across`` blocks in each of its rows."""
    if across > 1:
        return blocks.reshape(len(blocks) // across, across * blocks.shape[1])
    if isinstance(group, Tile):
        return blocks.reshape(len(blocks) * group.rows, group.columns)
    return np.ascontiguousarray(blocks.T) if isinstance(group, Column) else blocks


def to_blocks(array: Array, group: Group, count: int) -> Array:
    """Returns the groups of an array as rows."""
    return np.ascontiguousarray(array.T) if isinstance(group, Column) else array.reshape(count, -1)


def per_block(numbers: Array, count: int) -> Array:
    """Returns one number a block, (n, 1), of one number a group or one for all."""
    return np.broadcast_to(numbers.reshape(-1, 1), (count, 1)) if numbers.size == 1 else numbers.reshape(count, 1)


class Answered(Protocol):
    """What a subject answered to blocks."""

    @property
    def values(self) -> Array | None:
        """Numbers, or None for codes."""

    def differ(self, expected: Expected) -> Array:
        """Returns which elements differ."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Blocks (n, size) and how they are asked.

    ``calls``: the rows of each call, () for one call. ``across``: blocks in a row of the array. ``given``: the
    statistic and the tensor scale. ``words``: a random word, uint32, for each element, if the subject is given them.
    """

    group: Group
    blocks: Array
    given: Given
    backend: str
    calls: tuple[slice, ...] = ()
    across: int = 1
    words: Array | None = None

    @property
    def is_whole(self) -> bool:
        """Whether blocks depend on the others in their call."""
        return any(rows.stop - rows.start > 1 for rows in self.calls)

    def arrays(self) -> list[Array]:
        """Returns the array of each call."""
        return self.in_calls(self.blocks)

    def in_calls(self, blocks: Array) -> list[Array]:
        """Returns what there is for each element of the blocks as an array for each call."""
        return [to_array(blocks[rows], self.group, self.across) for rows in self.calls or (slice(None),)]

    def some(self, rows: Array) -> Trial:
        """Returns a trial of some of the blocks, each of which has to be independent."""
        return self.of(self.blocks[rows], None if self.words is None else self.words[rows])

    def of(self, blocks: Array, words: Array | None = None) -> Trial:
        """Returns a trial of other independent blocks."""
        calls = tuple(slice(i, i + 1) for i in range(len(blocks))) if self.calls else ()
        return replace(self, blocks=blocks, calls=calls, words=words)

    def expected(self, quantizer: Quantizer, answered: Answered | None = None, values: bool = True) -> Expected:
        """Returns what a description expects.

        Args:
            quantizer: The description. If it rounds elements at random and the trial has no random words, either
                neighbour is expected: that which was answered, if it is one of them.
            answered: The answers.
            values: Whether the numbers are computed. Otherwise they are NaN, which takes less time. Answers in codes
                need none.
        """
        values = values and (answered is None or answered.values is not None)
        if not quantizer.element.policy.mode.needs_random_bits:
            return self.with_words(quantizer, None, values)
        if self.words is not None:
            return self.with_words(quantizer, self.words, values)
        down = self.with_words(quantizer, np.zeros(self.blocks.shape, np.uint32), values)
        if answered is None:
            return down
        up = self.with_words(quantizer, np.full(self.blocks.shape, 0xFFFFFFFF, np.uint32), values)
        return up.where(~answered.differ(up), down)

    def with_words(self, quantizer: Quantizer, words: Array | None, values: bool = False) -> Expected:
        """Returns what a description expects with these random words, with numbers or with codes alone."""
        given = self.given
        if quantizer.second is None:
            given = replace(given, tensor_scale=None)
        bits = [None] * max(len(self.calls), 1) if words is None else self.in_calls(words)
        parts = [
            quantize_array(array, quantizer, -1, replace(given, random_bits=each), self.backend, 1)[0]
            for array, each in zip(self.arrays(), bits, strict=True)
        ]
        counts = [len(self.blocks[rows]) for rows in self.calls or (slice(None),)]
        return replace(joined(parts, self.group, counts, values), inputs=self.blocks)


def joined(parts: Sequence[Quantized], group: Group, counts: Sequence[int], values: bool = True) -> Expected:
    """Returns the parts one behind the other. A scale of the tensor is that of each of its blocks."""
    pairs = list(zip(parts, counts, strict=True))
    points = [per_block(part.zero_points, count) for part, count in pairs if part.zero_points is not None]
    codes = np.concatenate([to_blocks(part.codes, group, count) for part, count in pairs])
    numbers = [np.broadcast_to(np.array(np.nan, type), codes.shape) for type in (np.float64, np.float32)]
    if values:
        numbers = [
            np.concatenate([to_blocks(dequantize(part, type), group, count) for part, count in pairs])
            for type in (np.float64, np.float32)
        ]
    scales = np.concatenate([per_block(part.scales, count) for part, count in pairs])
    return Expected(parts[0].quantizer, codes, scales, np.concatenate(points) if points else None, *numbers)


def is_together(quantizer: Quantizer) -> bool:
    """Whether one call has many groups: all but those of a tensor, whose statistic is not given."""
    return not isinstance(quantizer.group, Tensor) or quantizer.statistic.source == "given"
