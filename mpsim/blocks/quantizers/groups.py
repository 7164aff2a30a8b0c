"""Which elements share a scale."""

from __future__ import annotations

from dataclasses import dataclass

from mpsim import checks

MOST_SIZE = 1 << 20


class Group:
    """Which elements share a scale."""

    @property
    def shape(self) -> tuple[int | None, int | None]:
        """Rows and columns; None is all of them. Columns lie along the quantised axis."""
        raise NotImplementedError


@dataclass(frozen=True)
class Tensor(Group):
    """All elements."""

    @property
    def shape(self) -> tuple[int | None, int | None]:
        return None, None


@dataclass(frozen=True)
class Row(Group):
    """The elements along the axis."""

    @property
    def shape(self) -> tuple[int | None, int | None]:
        return 1, None


@dataclass(frozen=True)
class Column(Group):
    """The elements across the axis: of a matrix quantised along its last axis, a column."""

    @property
    def shape(self) -> tuple[int | None, int | None]:
        return None, 1


@dataclass(frozen=True)
class Block(Group):
    """``size`` consecutive elements along the axis. The last block may be shorter.

    >>> Block(16).shape
    (1, 16)
    """

    size: int

    def __post_init__(self) -> None:
        checks.whole("size of a block", self.size, least=1, most=MOST_SIZE)

    @property
    def shape(self) -> tuple[int | None, int | None]:
        return 1, self.size


@dataclass(frozen=True)
class Tile(Group):
    """``rows`` by ``columns`` elements of a matrix. Tiles at the ends may be smaller."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        checks.whole("rows of a tile", self.rows, least=1, most=MOST_SIZE)
        checks.whole("columns of a tile", self.columns, least=1, most=MOST_SIZE)

    @property
    def shape(self) -> tuple[int | None, int | None]:
        return self.rows, self.columns
