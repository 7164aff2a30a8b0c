"""Compares rounding to every format in every mode, of all 16-bit numbers and of float32 patterns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.kernels import load, spec
from mpsim.kernels.contract import Array
from mpsim.kernels.cuda_check.table import THREADS, Extent, Row
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Overflow, Policy


class Combination(NamedTuple):
    """A format, a policy, and the type of their sources."""

    format: Format
    policy: Policy
    source: str


def combinations() -> list[Combination]:
    """Returns every format with every mode and overflow policy, nearest even first."""
    found = []
    for mode in Mode:
        for overflow in (Overflow.SATURATE, Overflow.MARK) if mode.is_legacy else Overflow:
            policy = Policy(mode, overflow, 12) if mode.takes_bit_count else Policy(mode, overflow)
            for format in FORMATS.values():
                if mode.is_legacy and not (spec.legacy_applies(format) and format.fits_float32):
                    continue
                found.append(Combination(format, policy, "float32" if format.fits_float32 else "float64"))
    return found


def sixteen_bit_numbers(quick: bool) -> np.ndarray:
    """Returns all float16 and all bfloat16 numbers as float32: 131072, or 64 if ``quick``."""
    codes = np.arange(0, 1 << 16, 1 << 11 if quick else 1, dtype=np.uint32)
    return np.concatenate([codes.astype(np.uint16).view(np.float16).astype(np.float32), (codes << 16).view(np.float32)])


class Numbers(NamedTuple):
    """The same numbers on the host and on the device."""

    host: np.ndarray
    device: Array

    @staticmethod
    def of(x: np.ndarray, extent: Extent) -> Numbers:
        """Copies them to the device."""
        return Numbers(x, load(extent.backend).from_numpy(x))


def compare_rounding(x: Numbers, c: Combination, extent: Extent, threads: int = THREADS) -> int:
    """Counts the results that differ in any bit. Different counts add one."""
    random = Stream(1, "rounding", 2, 3) if c.policy.mode.needs_random_bits else None
    cuda = load(extent.backend)
    result, counts = map(cuda.to_numpy, cuda.round_array(x.device, c.format, c.policy, random))
    wanted, wanted_counts = load(extent.peer).round_array(x.host, c.format, c.policy, random, threads=threads)
    pattern = f"u{x.host.itemsize}"
    different = int(np.count_nonzero(result.view(pattern) != wanted.view(pattern)))
    return different + (list(counts) != list(np.asarray(wanted_counts)))


def check_sixteen_bits(extent: Extent, end: float) -> Iterator[Row]:
    """Compares every combination on all 16-bit numbers."""
    x, by_mode = sixteen_bit_numbers(extent.quick), dict[str, Row]()
    with np.errstate(invalid="ignore"):  # signalling NaNs
        sources = {"float32": Numbers.of(x, extent), "float64": Numbers.of(x.astype(np.float64), extent)}
    step = 37 if extent.quick else 1
    for c in combinations()[::step]:
        row = by_mode.setdefault(c.policy.mode.value, Row("16-bit numbers", c.policy.mode.value))
        compare = partial(compare_rounding, sources[c.source], c, extent)
        row.measure(x.size, compare, f"{c.format} {c.policy.overflow}")
    yield from by_mode.values()


def check_patterns(extent: Extent, end: float) -> Iterator[Row]:
    """Compares every float32 combination on patterns spread over all 2**32, some in parallel, until the time is up."""
    step = (1 << 32) // extent.patterns
    x = (np.arange(extent.patterns, dtype=np.uint64) * step + 12345 % step).astype(np.uint32).view(np.float32)
    numbers = Numbers.of(x, extent)
    chosen = [c for c in combinations() if c.source == "float32"][:: 41 if extent.quick else 1]
    by_mode, done, workers = dict[str, Row](), 0, 1 if extent.quick else min(4, THREADS)

    def compare(c: Combination) -> tuple[Combination, int | None, float]:
        start = time.monotonic()
        if start > end:
            return c, None, 0.0
        return c, compare_rounding(numbers, c, extent, max(1, THREADS // workers)), time.monotonic() - start

    with ThreadPoolExecutor(workers) as pool:
        for c, different, seconds in pool.map(compare, chosen):
            if different is not None:
                row = by_mode.setdefault(c.policy.mode.value, Row("float32 patterns", c.policy.mode.value))
                row.add(x.size, different, seconds, f"{c.format} {c.policy.overflow}")
                done += 1
    yield from by_mode.values()
    if done < len(chosen):
        note = f"{len(chosen) - done} of {len(chosen)} combinations: time was up"
        yield Row("float32 patterns", "left out", note=note)
