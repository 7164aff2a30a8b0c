"""How the work of a contraction is shared out: the tiles, and which plan is estimated to be the fastest."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from mpsim.kernels.cuda.device.intrinsics import SIMULATED

#: Threads of a multiprocessor at a time, with tile.REGISTERS each.
RESIDENT = 512
#: Outputs that keep a multiprocessor busy where each is one thread's, and the share of its products they reach.
BUSY, RATE_OF_EACH = 1024, 0.05


class Tile(NamedTuple):
    """The output of a block, what a thread has of it, and how many of its rows and columns are neighbours."""

    rows: int
    columns: int
    depth: int  # a multiple of 4
    thread_rows: int
    thread_columns: int
    row_run: int  # as many rows come in one load of shared memory
    column_run: int  # fewer, as neighbouring threads should write neighbouring columns

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows * self.columns // (self.thread_rows * self.thread_columns)

    @property
    def across(self) -> int:
        """Threads beside each other."""
        return self.columns // self.thread_columns


class Form(NamedTuple):
    """What of a contraction is built into its kernel."""

    fused: bool  # one rounding for each product and sum
    a_along_k: bool  # elements of neighbouring k lie together in the left factor, not those of neighbouring rows
    b_along_k: bool
    wide: bool  # offsets need 64 bits


#: Tiles, and how much of a device's products each is estimated to reach, as a share of what the first one does.
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
    """How a contraction is shared out. None of it changes a bit."""

    tile: Tile | None  # None: an output each
    exchanged: bool  # rows and columns
    split: bool  # blocks sum one chunk each


@lru_cache(maxsize=4096)
def plan(groups: int, rows: int, columns: int, chunks: int, multiprocessors: int, tiled: bool) -> Plan:
    """The plan of the least estimated time, counted in products of one thread for one of k."""
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
