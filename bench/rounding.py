"""Measures round_to with counts relative to a copy of the same array, beside other libraries in the same run.

The array has 4 Mi float32 numbers, normally distributed with deviation 2, and the output array exists already.
ml_dtypes and torch only cast to their type (without widening back to float32), so the ratios favour them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import harness
from mpsim.kernels import BackendUnavailable, load
from mpsim.kernels.philox import Stream
from mpsim.rounding import round_to

SIZE = 4 << 20
FORMATS = (
    "bfloat16", "float16", "tf32", "fp_6_9_0", "dlfloat16", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e3m4", "fp_4_3_4", "float6_e2m3fn", "float4_e2m1fn", "float8_e8m0fnu", "p3109_k8p4",
)  # fmt: skip
MODES = ("nearest_away", "nearest_zero", "toward_zero", "up", "down", "to_odd", "stochastic")
#: (format, mode) rows
ROWS = (
    *((name, "nearest_even") for name in FORMATS),
    *(("float8_e4m3fn", mode) for mode in MODES),
    ("fp_4_3_0", "qpytorch_nearest"),
    ("fp_4_3_0", "qpytorch_stochastic"),
)
BACKENDS = ("compiled", "numba")
Call = Callable[[], Any]


def ours(x: np.ndarray, out: np.ndarray, name: str, mode: str, backend: str, threads: int) -> Call:
    """Returns a call of round_to with counts. Random bits are drawn from a stream in the same pass."""
    options: dict[str, Any] = {"backend": backend, "threads": threads, "out": out, "counts": True}
    if mode.endswith("stochastic"):
        options["random_bits"] = Stream(seed=1, purpose="rounding")
    if mode == "stochastic":
        options["random_bit_count"] = 32
    if mode.startswith("qpytorch"):
        options["overflow"] = "saturate"
    return lambda: round_to(x, name, mode, **options)


def ml_dtypes_calls(x: np.ndarray, threads: int) -> dict[tuple[str, str], Call]:
    import ml_dtypes

    def cast(dtype: Any) -> Call:
        target: np.ndarray = np.empty(x.shape, dtype)
        return lambda: np.copyto(target, x, casting="unsafe")

    named = {name: getattr(ml_dtypes, name, None) for name in FORMATS}
    return {(name, "nearest_even"): cast(dtype) for name, dtype in named.items() if dtype is not None}


def torch_calls(x: np.ndarray, threads: int) -> dict[tuple[str, str], Call]:
    import torch  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(threads)
    source = torch.from_numpy(x)

    def cast(dtype: Any) -> Call:
        target = torch.empty(x.shape, dtype=dtype)
        return lambda: target.copy_(source)

    named = {name: getattr(torch, name, None) for name in FORMATS}
    return {(name, "nearest_even"): cast(dtype) for name, dtype in named.items() if dtype is not None}


def qtorch_calls(x: np.ndarray, threads: int) -> dict[tuple[str, str], Call]:
    import torch
    from qtorch.quant import float_quantize  # type: ignore[import-not-found,unused-ignore]  # builds its C++ code when imported

    torch.set_num_threads(threads)
    source = torch.from_numpy(x)
    return {
        ("fp_4_3_0", f"qpytorch_{rounding}"): partial(float_quantize, source, 4, 3, rounding=rounding)
        for rounding in ("nearest", "stochastic")
    }


PEERS = {"ml_dtypes": ml_dtypes_calls, "torch": torch_calls, "QPyTorch": qtorch_calls}


def cases(threads: int) -> tuple[dict[str, Call], dict[str, str]]:
    """Returns the calls by "format mode column", and why columns are empty."""
    x = (np.random.default_rng(0).standard_normal(SIZE) * 2).astype(np.float32)
    out = np.zeros_like(x)
    timed: dict[str, Call] = {"copy": lambda: np.copyto(out, x)}
    absent = {}
    for backend in BACKENDS:
        try:
            load(backend)
        except BackendUnavailable as error:
            absent[backend] = str(error)
            continue
        timed |= {f"{name} {mode} {backend}": ours(x, out, name, mode, backend, threads) for name, mode in ROWS}
    for peer, calls in PEERS.items():
        try:
            timed |= {f"{name} {mode} {peer}": call for (name, mode), call in calls(x, threads).items()}
        except Exception as error:  # a missing package, or one that cannot be built here: shown in the table
            absent[peer] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return timed, absent


def run(threads: int, repetitions: int) -> None:
    """Prints the table and writes bench/results/rounding.json."""
    timed, absent = cases(threads)
    timings = harness.interleaved(timed, repetitions)
    copy = timings["copy"]
    rows = []
    for name, mode in ROWS:
        row: dict[str, Any] = {"format": name, "mode": mode}
        for column in (*BACKENDS, *PEERS):
            if timing := timings.get(f"{name} {mode} {column}"):
                row[column] = {
                    "minimum": round(timing.minimum / copy.minimum, 3),
                    "median": round(timing.median / copy.median, 3),
                    "seconds": timing.minimum,
                }
        rows.append(row)
    _print(rows, absent, copy, threads, repetitions)
    result = {
        **harness.surroundings(threads, repetitions),
        "variant": _variant(),
        "elements": SIZE,
        "copy_seconds": copy._asdict(),
        "absent": absent,
        "rows": rows,
    }
    print(f"written to {harness.save('rounding', result)}")


def _variant() -> str:
    try:
        return str(importlib.import_module("mpsim._kernels").variant())
    except ImportError:
        return "none"


def _print(rows: list[dict[str, Any]], absent: dict[str, str], copy: harness.Timing, threads: int, count: int) -> None:
    versions = ", ".join(f"{package} {version}" for package, version in harness.versions().items())
    title = (
        f"Time of one pass over {SIZE >> 20} Mi float32, as a ratio to a copy ({copy.minimum * 1e3:.2f} ms): minimum "
        f"(median) of {count}, {threads} thread{'s' * (threads > 1)}\n{harness.processor()}, {versions}"
    )
    table = Table("format", "mode", title=title)
    for column in (*BACKENDS, *PEERS):
        table.add_column(column, justify="right")
    for row in rows:
        ratios = [row.get(column) for column in (*BACKENDS, *PEERS)]
        table.add_row(
            row["format"], row["mode"], *(f"{r['minimum']:.2f} ({r['median']:.2f})" if r else "-" for r in ratios)
        )
    console = Console()
    console.print(table)
    for column, cause in absent.items():
        console.print(f"{column}: not available ({cause})", markup=False)
