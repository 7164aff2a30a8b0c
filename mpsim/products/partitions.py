"""Partitions: which terms of a dot product belong together, and in which order each group has its terms."""

from __future__ import annotations

from dataclasses import dataclass

from mpsim import checks

#: The most terms of a group, and the most groups.
MOST = 1 << 40


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

    >>> Lanes(2).split(5), Lanes(2, take=2).split(5)
    ([[0, 2, 4], [1, 3]], [[0, 1, 4], [2, 3]])
    """

    number: int
    take: int = 1

    def __post_init__(self) -> None:
        checks.whole("number of lanes", self.number, least=1, most=MOST)
        checks.whole("take", self.take, least=1, most=MOST)

    def split(self, length: int) -> list[list[int]]:
        """The terms of each lane that has any."""
        starts = range(0, min(self.number * self.take, length), self.take)
        turn = self.number * self.take
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
