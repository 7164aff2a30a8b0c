"""``python -m mpsim.kernels.cuda_check``: is every bit of the cuda backend on this device the CPU's?

It needs no network, and beside this tree only numpy, numba and numba-cuda. It compares with the compiled backend where
that is built, else with numba on smaller samples. Sections: the golden digests of all reference networks, every kernel
on shapes that fill the device, rounding of all 16-bit numbers and of 2**26 float32 patterns to every format in every
mode. It prints one table and ends with 0 if all is equal, 1 if not, 2 without a device. In the CUDA simulator use
``--quick``, which takes little of everything and no digests.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.kernels import BackendUnavailable, cuda_cases, load, spec
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Overflow, Policy

#: Seconds after which the rounding of float32 patterns starts no other combination.
BUDGET = 420
PATTERNS = 1 << 26


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


class Combination(NamedTuple):
    """A format and a policy, for sources of a type."""

    format: Format
    policy: Policy
    source: str


class Extent(NamedTuple):
    """How much is compared."""

    backend: str  # "cuda:0"
    peer: str
    quick: bool

    @property
    def patterns(self) -> int:
        """With the compiled backend all, with another one a sixteenth."""
        return 64 if self.quick else PATTERNS if self.peer == "compiled" else PATTERNS >> 4


def combinations() -> list[Combination]:
    """Every format in every mode and overflow, nearest even first."""
    found = []
    for mode in Mode:
        for overflow in (Overflow.SATURATE, Overflow.MARK) if mode.is_legacy else Overflow:
            policy = Policy(mode, overflow, 12) if mode is Mode.STOCHASTIC else Policy(mode, overflow)
            for format in FORMATS.values():
                if mode.is_legacy and not (spec.legacy_applies(format) and format.fits_float32):
                    continue
                found.append(Combination(format, policy, "float32" if format.fits_float32 else "float64"))
    return found


def sixteen_bit_numbers(quick: bool) -> np.ndarray:
    """All float16 and all bfloat16 numbers, as float32: 131072 of them, or 96."""
    codes = np.arange(0, 1 << 16, 1 << 11 if quick else 1, dtype=np.uint32)
    return np.concatenate([codes.astype(np.uint16).view(np.float16).astype(np.float32), (codes << 16).view(np.float32)])


class Numbers(NamedTuple):
    """The same numbers on the host and on the device."""

    host: np.ndarray
    device: Any

    @staticmethod
    def of(x: np.ndarray, extent: Extent) -> Numbers:
        """Sends them."""
        return Numbers(x, load(extent.backend).from_numpy(x))


def compare_rounding(x: Numbers, c: Combination, extent: Extent, threads: int = cuda_cases.THREADS) -> int:
    """How many results differ, in any bit; a difference of a count counts once."""
    random = Stream(1, "rounding", 2, 3) if c.policy.mode.needs_random_bits else None
    cuda = load(extent.backend)
    result, counts = map(cuda.to_numpy, cuda.round_array(x.device, c.format, c.policy, random))
    wanted, wanted_counts = load(extent.peer).round_array(x.host, c.format, c.policy, random, threads=threads)
    pattern = f"u{x.host.itemsize}"
    different = int(np.count_nonzero(result.view(pattern) != wanted.view(pattern)))
    return different + (list(counts) != list(np.asarray(wanted_counts)))


def check_sixteen_bits(extent: Extent, end: float) -> Iterator[Row]:
    """Every combination on all 16-bit numbers."""
    x, by_mode = sixteen_bit_numbers(extent.quick), dict[str, Row]()
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        sources = {"float32": Numbers.of(x, extent), "float64": Numbers.of(x.astype(np.float64), extent)}
    step = 37 if extent.quick else 1
    for c in combinations()[::step]:
        row = by_mode.setdefault(c.policy.mode.value, Row("16-bit numbers", c.policy.mode.value))
        compare = partial(compare_rounding, sources[c.source], c, extent)
        _measure(row, x.size, compare, f"{c.format} {c.policy.overflow}")
    yield from by_mode.values()


def check_patterns(extent: Extent, end: float) -> Iterator[Row]:
    """Every combination for float32 on patterns spread over all 2**32, while there is time, some side by side."""
    step = (1 << 32) // extent.patterns
    x = (np.arange(extent.patterns, dtype=np.uint64) * step + 12345 % step).astype(np.uint32).view(np.float32)
    numbers = Numbers.of(x, extent)
    chosen = [c for c in combinations() if c.source == "float32"][:: 41 if extent.quick else 1]
    by_mode, done, workers = dict[str, Row](), 0, 1 if extent.quick else min(4, cuda_cases.THREADS)

    def compare(c: Combination) -> tuple[Combination, int | None, float]:
        start = time.monotonic()
        if start > end:
            return c, None, 0.0
        return c, compare_rounding(numbers, c, extent, max(1, cuda_cases.THREADS // workers)), time.monotonic() - start

    with ThreadPoolExecutor(workers) as pool:
        for c, different, seconds in pool.map(compare, chosen):
            if different is not None:
                row = by_mode.setdefault(c.policy.mode.value, Row("float32 patterns", c.policy.mode.value))
                _add(row, x.size, different, seconds, f"{c.format} {c.policy.overflow}")
                done += 1
    yield from by_mode.values()
    if done < len(chosen):
        note = f"{len(chosen) - done} of {len(chosen)} combinations: the time was up"
        yield Row("float32 patterns", "left out", note=note)


def check_kernels(extent: Extent, end: float) -> Iterator[Row]:
    """Every kernel of the contract against the peer."""
    for name, cases in cuda_cases.cases(extent.quick).items():
        row = Row("kernels", name)
        for case in cases:
            _measure(row, 0, partial(cuda_cases.compare, name, case, extent, row), "")
        yield row


def check_digests(extent: Extent, end: float) -> Iterator[Row]:
    """Three steps of every reference network under every plan and both semantics against the committed digests."""
    from reference_models import golden

    for model in () if extent.quick else golden.WIDTHS:
        row = Row("three steps", model)
        wanted = json.loads((Path(golden.FOLDER) / f"{model}.json").read_text())["runs"]
        for case, run in zip(golden.cases(model), wanted, strict=True):
            what = f"{case.plan} {case.semantics}"
            _measure(row, 1, partial(_differs, golden.compute, case, extent.backend, run), what)
        yield row


def _differs(compute: Callable[..., Any], case: Any, backend: str, wanted: Any) -> int:
    return int(compute(case, backend) != wanted)


def _measure(row: Row, compared: int, compare: Callable[[], int], what: str) -> None:
    start = time.monotonic()
    different = compare()
    _add(row, compared, different, time.monotonic() - start, what)


def _add(row: Row, compared: int, different: int, seconds: float, what: str) -> None:
    row.seconds += seconds
    row.cases += 1
    row.compared += compared
    row.different += different
    if different and not row.note:
        row.note = f"first: {what}" if what else ""


SECTIONS: tuple[Callable[[Extent, float], Iterator[Row]], ...] = (
    check_digests,
    check_kernels,
    check_sixteen_bits,
    check_patterns,
)


def show(row: Row) -> str:
    """A line of the table."""
    verdict = f"{row.different} DIFFER" if row.different else "equal" if row.cases else "-"
    return (
        f"{row.section:18} {row.what:24} {row.cases:6} {row.compared:15} {verdict:>12} {row.seconds:8.1f} s  {row.note}"
    )


def peer_here() -> str:
    """The CPU backend to compare with."""
    try:
        load("compiled")
        return "compiled"
    except BackendUnavailable as error:
        print(f"compared with numba on smaller samples: {error}")
        return "numba"


def main(arguments: list[str] | None = None) -> int:
    """Runs the check; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m mpsim.kernels.cuda_check", description=__doc__)
    parser.add_argument("--device", type=int, default=0, help="the device's number (default 0)")
    parser.add_argument("--quick", action="store_true", help="little of everything, for the CUDA simulator")
    parser.add_argument("--seconds", type=float, default=BUDGET, help=f"after which no pass starts (default {BUDGET})")
    parser.add_argument("--json", type=Path, help="a file for the table's numbers")
    options = parser.parse_args(arguments)
    backend = f"cuda:{options.device}"
    try:
        load(backend)
    except BackendUnavailable as error:
        print(error)
        return 2
    from mpsim.kernels.cuda.arrays import describe

    end = time.monotonic() + options.seconds
    extent, rows = Extent(backend, peer_here(), options.quick), list[Row]()
    print(f"{describe()}\ncompared with {extent.peer!r}, bit for bit\n")
    for section in SECTIONS:
        for row in section(extent, end):
            print(show(row), flush=True)
            rows.append(row)
    different = sum(row.different for row in rows)
    print(f"\n{sum(row.compared for row in rows)} numbers compared, {different or 'none'} different")
    if options.json:
        options.json.write_text(json.dumps({"device": describe(), "rows": [asdict(row) for row in rows]}, indent=1))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
