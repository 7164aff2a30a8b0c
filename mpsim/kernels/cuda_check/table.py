"""What is compared, and what came of it: the lines of the table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

#: Of the backend that is compared with.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PATTERNS = 1 << 26


class Extent(NamedTuple):
    """How much is compared."""

    backend: str  # "cuda:0"
    peer: str
    quick: bool

    @property
    def patterns(self) -> int:
        """How many float32 patterns: with the compiled backend all, with another one a sixteenth."""
        return 64 if self.quick else PATTERNS if self.peer == "compiled" else PATTERNS >> 4


@dataclass
class Row:
    """One line of the table: ``compared`` numbers of ``cases`` cases, and how many differ."""

    section: str
    what: str
    cases: int = 0
    compared: int = 0
    different: int = 0
    seconds: float = 0.0
    note: str = ""

    def measure(self, compared: int, compare: Callable[[], int], what: str) -> None:
        """Adds a case, timed; ``compare`` returns how many numbers differ."""
        start = time.monotonic()
        different = compare()
        self.add(compared, different, time.monotonic() - start, what)

    def add(self, compared: int, different: int, seconds: float, what: str) -> None:
        """Adds a case, and notes ``what`` differed first."""
        self.seconds += seconds
        self.cases += 1
        self.compared += compared
        self.different += different
        if different and not self.note:
            self.note = f"first: {what}" if what else ""

    def __str__(self) -> str:
        verdict = f"{self.different} DIFFER" if self.different else "equal" if self.cases else "-"
        start = f"{self.section:18} {self.what:24} {self.cases:6} {self.compared:15}"
        return f"{start} {verdict:>12} {self.seconds:8.1f} s  {self.note}"
