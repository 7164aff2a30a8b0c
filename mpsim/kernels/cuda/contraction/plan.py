"""Distributes the work of a contraction: lists the tiles, and chooses the plan with the least estimated time."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from mpsim.kernels.cuda.device.intrinsics import SIMULATED

#: Resident threads of a multiprocessor, with tile.REGISTERS each.
RESIDENT = 512
#: With one thread per output: the outputs that keep a multiprocessor busy, and the share of its peak rate they reach.
BUSY, RATE_OF_EACH = 1024, 0.05


class Tile(NamedTuple):
    """A block's output tile, each thread's share of it, and how many of the share's rows and columns are adjacent."""

    rows: int
    columns: int
    depth: int  # a multiple of 4
    thread_rows: int
    thread_columns: int
    row_run: int  # rows per load of shared memory
    column_run: int  # fewer, so that neighbouring threads write neighbouring columns

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows * self.columns // (self.thread_rows * self.thread_columns)

    @property
    def across(self) -> int:
        """Threads in a row of the tile."""
        return self.columns // self.thread_columns


class Form(NamedTuple):
    """The compile-time constants of a contraction's kernel."""

    fused: bool  # whether each product and its addition round once
    a_along_k: bool  # whether the left factor is contiguous along k instead of along rows
    b_along_k: bool
    wide: bool  # whether offsets need 64 bits


#: Tiles, and the estimated rate of each as a share of the first one's.
TILES: tuple[tuple[Tile, float], ...] = (
    ((Tile(8, 8, 4, 4, 4, 2, 2), 1.0),)
    if SIMULATED
    else (
        (Tile(128, 128, 8, 8, 8, 4, 2), 1.0),
        (Tile(64, 128, 8, 8, 8, 4, 2), 0.95),
        (Tile(32, 128, 8, 4, 8, 4, 2), 0.75),
        (Tile(16, 128, 8, 2, 8, 2, 2), 0.5),
        (Tile(32, 32, 16, 4, 4, 4, 2), 0.4),
    )
)


class Plan(NamedTuple):
    """How a contraction's work is distributed. The choice changes no bit."""

    tile: Tile | None  # None: one thread per output
    exchanged: bool  # whether rows and columns are exchanged
    split: bool  # whether each block sums one chunk


@lru_cache(maxsize=4096)
def plan(groups: int, rows: int, columns: int, chunks: int, multiprocessors: int, tiled: bool) -> Plan:
    """Returns the plan with the least estimated time. Its unit is the time in which a thread computes one product."""
    ways = []
    for split in (False, True)[: 1 + (chunks > 1)]:
        parallel, serial = (chunks, 1.1) if split else (1, chunks)
        waves = -(-groups * rows * columns * parallel // (multiprocessors * BUSY))
        ways.append((waves * serial * BUSY / RATE_OF_EACH, Plan(None, False, split)))
        for tile, rate in TILES if tiled else ():
            resident = max(1, RESIDENT // tile.threads)
            for exchanged in (False, True):
                high, wide = (columns, rows) if exchanged else (rows, columns)
                blocks = groups * -(-high // tile.rows) * -(-wide // tile.columns) * parallel
                waves = -(-blocks // (multiprocessors * resident))
                time = waves * serial * resident * tile.rows * tile.columns / rate
                ways.append((time, Plan(tile, exchanged, split)))
    return min(ways, key=lambda way: way[0])[1]
