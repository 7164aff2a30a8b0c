"""Times alternatives in one run, interleaved, and describes the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("mpsim", "numpy", "numba", "ml_dtypes", "torch", "qtorch")


class Timing(NamedTuple):
    """Seconds of one call."""

    minimum: float
    median: float


def interleaved(
    cases: Mapping[str, Callable[[], Any]], repetitions: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing]:
    """Runs each case once to warm up, then all cases in turn, ``repetitions`` times.

    Disturbances of the machine therefore affect all cases alike, and ratios are more reliable than times. With
    ``time.process_time`` as the clock, the time of other programs does not count either.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for call in cases.values():
        call()
    for _ in range(repetitions):
        for name, call in cases.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return {name: Timing(min(times), statistics.median(times)) for name, times in seconds.items()}


def processor() -> str:
    """Returns the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the installed packages in PACKAGES."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def surroundings(threads: int, repetitions: int) -> dict[str, Any]:
    """Describes the conditions of a measurement."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "versions": versions(),
        "threads": threads,
        "repetitions": repetitions,
        "load_average": round(os.getloadavg()[0], 2),  # more than ``threads`` means that other programs disturb medians
    }


def save(name: str, result: Mapping[str, Any]) -> Path:
    """Writes bench/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
