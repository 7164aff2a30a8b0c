"""Defines the extent of the comparison, and the lines of its table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

#: Threads of the CPU backend.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PATTERNS = 1 << 26


class Extent(NamedTuple):
    """The extent of the comparison."""

    backend: str  # "cuda:0"
    peer: str
    quick: bool

    @property
    def patterns(self) -> int:
        """The number of float32 patterns: PATTERNS with the compiled backend, a sixteenth of them with another one."""
        return 64 if self.quick else PATTERNS if self.peer == "compiled" else PATTERNS >> 4


@dataclass
class Row:
    """One line of the table: the numbers compared in all cases, and how many of them differ."""

    section: str
    what: str
    cases: int = 0
    compared: int = 0
    different: int = 0
    seconds: float = 0.0
    note: str = ""

    def measure(self, compared: int, compare: Callable[[], int], what: str) -> None:
        """Adds and times a case. ``compare`` returns how many numbers differ."""
        start = time.monotonic()
        different = compare()
        self.add(compared, different, time.monotonic() - start, what)

    def add(self, compared: int, different: int, seconds: float, what: str) -> None:
        """Adds a case, and notes ``what`` if it is the first that differs."""
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
