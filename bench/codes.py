"""Measures codes, conversions and blocks relative to a copy of as many bytes as each reads and writes.

The array has 4 Mi normally distributed numbers. Every call allocates its result, as a user's does, and so does a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import harness
from mpsim import blocks
from mpsim.blocks import BLOCK_FORMATS, quantizer_of
from mpsim.rounding import decode, encode, round_to

SIZE = 4 << 20
Call = Callable[[], Any]


class Case(NamedTuple):
    """``goal``: the largest ratio to a copy, or None. ``size``: bytes that are read and written for a number."""

    name: str
    call: Call
    size: float
    goal: float | None = None
    peers: dict[str, Call] = {}


def cases(threads: int) -> Iterator[Case]:
    """Yields what is timed."""
    x = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    wide, half, rows = x.astype(np.float64), x.astype(np.float16), x.reshape(-1, 1024)
    for name in ("float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float4_e2m1fn"):
        codes = encode(x, name, overflow="saturate")
        peers = _peers(x, name, threads)
        to_codes = partial(encode, x, name, overflow="saturate", threads=threads)
        yield Case(f"encode float32 to {name}", to_codes, 5, 1.1, peers)
        yield Case(f"decode {name} to float32", partial(decode, codes, name, threads=threads), 5, 1.1)
    for name in ("float8_e4m3fn", "float16", "bfloat16"):
        yield Case(f"round float64 to {name}", partial(round_to, wide, name, threads=threads), 16, 1.3)
    yield Case("round float16 to float8_e4m3fn", partial(round_to, half, "float8_e4m3fn", threads=threads), 6)
    for name in ("mxfp8_e4m3", "mxfp4", "nvfp4", "fp8_1x128"):
        format: Any = name if name in BLOCK_FORMATS else quantizer_of(name)
        quantised = blocks.quantize(rows, format)
        yield Case(f"quantise to {name}", partial(blocks.quantize, rows, format, threads=threads), 5)
        yield Case(f"dequantise {name}", partial(blocks.dequantize, quantised, threads=threads), 5)


def _peers(x: np.ndarray, name: str, threads: int) -> dict[str, Call]:
    """Returns casts of other libraries that are installed."""
    found: dict[str, Call] = {}
    try:
        import ml_dtypes

        dtype = np.dtype(getattr(ml_dtypes, name))
        found["ml_dtypes"] = lambda: x.astype(dtype)
    except ImportError:
        pass
    try:
        import torch

        torch.set_num_threads(threads)
        if hasattr(torch, name):
            source, kind = torch.from_numpy(x), getattr(torch, name)
            found["PyTorch"] = lambda: source.to(kind)
    except ImportError:
        pass
    return found


def run(threads: int, repetitions: int) -> None:
    """Prints the table and writes bench/results/codes.json."""
    made = list(cases(threads))
    bytes_copied = np.zeros(SIZE * 8, np.uint8)
    timed: dict[str, Call] = {"copy": lambda: bytes_copied[: SIZE * 4].copy()}
    for case in made:
        timed[case.name] = case.call
        timed |= {f"{case.name} {peer}": call for peer, call in case.peers.items()}
    timings = harness.interleaved(timed, repetitions)
    copy = timings["copy"]
    rows = []
    table = Table("", "million a second", "ratio to a copy", "goal", "peers", title=harness.processor())
    for case in made:
        timing, part = timings[case.name], case.size / 8
        ratio, median = timing.minimum / copy.minimum / part, timing.median / copy.median / part
        peers = {peer: round(timings[f"{case.name} {peer}"].minimum / timing.minimum, 2) for peer in case.peers}
        rows.append({
            "name": case.name, "ratio": round(ratio, 3), "median": round(median, 3), "goal": case.goal,
            "million_a_second": round(SIZE / timing.minimum / 1e6), "peers": peers,
        })  # fmt: skip
        goal = "" if case.goal is None else f"{case.goal}{'' if ratio <= case.goal else ' not met'}"
        told = ", ".join(f"{peer} {times} times as long" for peer, times in peers.items())
        table.add_row(case.name, str(rows[-1]["million_a_second"]), f"{ratio:.2f} ({median:.2f})", goal, told)
    Console(width=130).print(table)
    result = {**harness.surroundings(threads, repetitions), "copy_seconds": copy._asdict(), "rows": rows}
    print(f"written to {harness.save('codes', result)}")
