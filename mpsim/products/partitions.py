"""Partitions: which terms of a dot product belong together, and in which order each group has its terms."""

from __future__ import annotations

from dataclasses import dataclass

from mpsim import checks
from mpsim.errors import UsageError

#: The most parts of an operand: float32 has 24 bits.
MOST_PARTS = 24
#: The most terms of a group, and the most groups.
MOST = 1 << 40
RESTS = ("turn", "first")


@dataclass(frozen=True)
class Blocks:
    """Runs of ``size`` consecutive terms; the last may be shorter.

    >>> Blocks(2).split(5)
    [[0, 1], [2, 3], [4]]
    """

    size: int = 256

    def __post_init__(self) -> None:
        checks.whole("size of blocks", self.size, least=1, most=MOST)

    def split(self, length: int) -> list[list[int]]:
        """The terms of each group, in the order in which the group's inner order takes them."""
        return [list(range(start, min(start + self.size, length))) for start in range(0, length, self.size)]


@dataclass(frozen=True)
class Whole:
    """All terms as one group. With ``Rising()`` as the outer order, the total is added to +0 and is never -0.

    >>> Whole().split(3)
    [[0, 1, 2]]
    """

    def split(self, length: int) -> list[list[int]]:
        """The one group."""
        return [list(range(length))]


@dataclass(frozen=True)
class Splits:
    """``number`` runs of consecutive terms, as split-k kernels make them: each has length / number terms, rounded up to
    a multiple of ``multiple``; later runs may be shorter or absent.

    >>> Splits(2, multiple=2).split(5)
    [[0, 1, 2, 3], [4]]
    """

    number: int
    multiple: int = 1

    def __post_init__(self) -> None:
        checks.whole("number of splits", self.number, least=1, most=MOST)
        checks.whole("multiple", self.multiple, least=1, most=MOST)

    def split(self, length: int) -> list[list[int]]:
        """The terms of each group."""
        size = -(-length // (self.number * self.multiple)) * self.multiple
        return Blocks(max(1, size)).split(length)


@dataclass(frozen=True)
class Lanes:
    """``number`` groups that take ``take`` consecutive terms in turn, as the lanes of vector registers do.

    ``rest="first"``: all terms after the last whole turn belong to the first group, as where a loop is unrolled into
    several sums and the loop after it adds to the first of them.

    >>> Lanes(2).split(5), Lanes(2, take=2).split(5), Lanes(3, rest="first").split(8)
    ([[0, 2, 4], [1, 3]], [[0, 1, 4], [2, 3]], [[0, 3, 6, 7], [1, 4], [2, 5]])
    """

    number: int
    take: int = 1
    rest: str = "turn"

    def __post_init__(self) -> None:
        checks.whole("number of lanes", self.number, least=1, most=MOST)
        checks.whole("take", self.take, least=1, most=MOST)
        checks.named("rest", self.rest, RESTS)

    def split(self, length: int) -> list[list[int]]:
        """The terms of each lane that has any."""
        turn = self.number * self.take
        if self.rest == "first" and (whole := length // turn * turn) < length:
            first, *others = Lanes(self.number, self.take).split(whole) or [[]]
            return [[*first, *range(whole, length)], *others]
        starts = range(0, min(turn, length), self.take)
        return [
            [k for first in range(start, length, turn) for k in range(first, min(first + self.take, length))]
            for start in starts
        ]


@dataclass(frozen=True)
class Descending:
    """Runs of ``size`` consecutive terms as Blocks has them, each from its last term to its first; by default one run.

    >>> Descending().split(3), Descending(2).split(5)
    ([[2, 1, 0]], [[1, 0], [3, 2], [4]])
    """

    size: int = MOST

    def __post_init__(self) -> None:
        checks.whole("size of descending runs", self.size, least=1, most=MOST)

    def split(self, length: int) -> list[list[int]]:
        """The terms of each run."""
        return [run[::-1] for run in Blocks(self.size).split(length)]


Partition = Blocks | Whole | Splits | Lanes | Descending


@dataclass(frozen=True)
class Parts:
    """Which products of the operands' parts are kept, and in which order they are terms.

    ``pairs``: (part of the left operand, part of the right one), part 0 being the largest. ``within``: for each of its
    groups of k, each pair in turn has its products of these k. So ``Whole()`` adds one matrix product after another,
    ``Blocks(1)`` all products of one k before the next, and ``Blocks(8)`` those of an instruction of 8 terms.

    >>> Parts(((1, 0), (0, 0))).terms(2)
    [(0, 1, 0), (1, 1, 0), (0, 0, 0), (1, 0, 0)]
    """

    pairs: tuple[tuple[int, int], ...]
    within: Partition = Whole()

    def __post_init__(self) -> None:
        pairs = self.pairs
        if not isinstance(pairs, tuple) or not pairs or not all(isinstance(each, tuple) for each in pairs):
            raise UsageError(f"parts have a tuple of pairs, such as ((1, 0), (0, 0)), not {checks.shown(pairs)}")
        for pair in pairs:
            if len(pair) != 2:
                raise UsageError(f"a pair is one part of the left and one of the right, not {checks.shown(pair)}")
            for part in pair:
                checks.whole("part", part, most=MOST_PARTS - 1)
        if len(set(pairs)) < len(pairs):
            raise UsageError(f"each pair of parts is multiplied once, not {checks.shown(pairs)}")

    @property
    def count(self) -> tuple[int, int]:
        """The number of parts of the left and of the right operand."""
        left, right = (max(each) + 1 for each in zip(*self.pairs, strict=True))
        return left, right

    def terms(self, length: int) -> list[tuple[int, int, int]]:
        """k, part of the left and part of the right operand of each term."""
        return [(k, *pair) for group in self.within.split(length) for pair in self.pairs for k in group]
