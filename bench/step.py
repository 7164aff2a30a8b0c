"""Measures a training step of mpsim with all tensors rounded, beside PyTorch in float32 and PyTorch with QPyTorch.

mpsim uses the ``demote`` plan at r = 1 with the paper's levels, promotion and counts. PyTorch runs the same networks
with the same weights on the same batch, and rounds nothing. QPyTorch rounds every op's output and input gradient, and
every parameter and its gradient, to the low formats, without counts or promotion.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import reference_models
from bench import growth as growing
from bench import harness
from mpsim.assignment import PAPER_LEVELS, demote
from mpsim.trace import trace
from mpsim.training.trainer import Trainer

BATCH = 128
NETWORKS = (
    ("resnet18", 1.0), ("resnet18", 0.25), ("shufflenet_v2", 0.25), ("mobilenet_v2", 0.25), ("squeezenet", 0.25),
    ("vit_tiny", 1.0), ("gpt_tiny", 1.0),
)  # fmt: skip
#: The batch of a transformer.
BATCHES = {"vit_tiny": 64, "gpt_tiny": 64}
LIBRARIES = ("mpsim", "torch", "qtorch")
Call = Callable[[], Any]


def batch_of(network: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Normally distributed images (size, 3, 32, 32) and labels of 10 classes, or 64 tokens and the next ones."""
    random = np.random.default_rng(0)
    if network == "gpt_tiny":
        text = random.integers(0, 10, (size, 65))
        return text[:, :-1], text[:, 1:]
    return random.standard_normal((size, 3, 32, 32), dtype=np.float32), random.integers(0, 10, size)


def trainer_of(network: str, width: float, batch: int, threads: int) -> Trainer:
    model = reference_models.build(network, width)
    return Trainer(model, demote(trace(model, batch), 1.0), threads=threads)


def call_of(library: str, network: str, width: float, batch: int, threads: int) -> Call:
    """Returns a call that runs one training step. Raises ImportError or an error of QPyTorch's build if unavailable."""
    data = batch_of(network, batch)
    if library == "mpsim":
        trainer = trainer_of(network, width, batch, threads)
        return lambda: trainer.step(*data)
    import torch  # type: ignore[import-not-found,unused-ignore]

    from bench.torch_networks import TorchStep

    torch.set_num_threads(threads)
    step = TorchStep(reference_models.build(network, width), PAPER_LEVELS if library == "qtorch" else None)
    return lambda: step(*data)


def libraries_here() -> tuple[list[str], dict[str, str]]:
    """Returns the libraries that can be timed, and why the others cannot."""
    absent = {}
    for library in LIBRARIES[1:]:
        try:
            call_of(library, "small_cnn", 0.25, 1, 1)
        except (ImportError, OSError, RuntimeError) as error:
            absent[library] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return [library for library in LIBRARIES if library not in absent], absent


def timed(calls: dict[str, Call], repetitions: int) -> dict[str, dict[str, float]]:
    """Times calls in turn after two warm-up calls, in seconds by the clock and of the processor (all threads)."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
        call()
    for _ in range(repetitions):
        for name, call in calls.items():
            clock, processor = time.perf_counter(), time.process_time()
            call()
            samples[name].append((time.perf_counter() - clock, time.process_time() - processor))
    result = {}
    for name, pairs in samples.items():
        clocks, processors = zip(*pairs, strict=True)
        result[name] = {
            "minimum": min(clocks),
            "median": statistics.median(clocks),
            "processor_minimum": min(processors),
        }
    return result


def measure(network: str, width: float, batch: int, threads: int, repetitions: int, here: list[str]) -> dict[str, Any]:
    calls = {library: call_of(library, network, width, batch, threads) for library in here}
    seconds = timed(calls, repetitions)
    ratios = {}
    if "torch" in seconds:
        ratios["mpsim / torch"] = _ratios(seconds["mpsim"], seconds["torch"])
    if "qtorch" in seconds:
        ratios["qtorch / mpsim"] = _ratios(seconds["qtorch"], seconds["mpsim"])
    return {"network": network, "width": width, "batch": batch, "seconds": seconds, "ratios": ratios}


def _ratios(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {name: a[name] / b[name] for name in a}


def table_of(rows: list[dict[str, Any]], absent: dict[str, str]) -> Table:
    table = Table("network", "width", "batch", title="milliseconds per training step, least (median)")
    for column in (*LIBRARIES, "mpsim / torch", "qtorch / mpsim"):
        table.add_column(column, justify="right")
    for row in rows:
        cells = []
        for library in LIBRARIES:
            t = row["seconds"].get(library)
            cells.append(f"{1e3 * t['minimum']:.0f} ({1e3 * t['median']:.0f})" if t else "absent")
        for name in ("mpsim / torch", "qtorch / mpsim"):
            r = row["ratios"].get(name)
            cells.append(f"{r['minimum']:.2f} ({r['median']:.2f}) cpu {r['processor_minimum']:.2f}" if r else "-")
        table.add_row(row["network"], str(row["width"]), str(row["batch"]), *cells)
    for library, reason in absent.items():
        table.caption = f"{table.caption or ''}{library}: {reason}\n"
    return table


# -- kernel by kernel ---------------------------------------------------------------------------------------
def profile(network: str, width: float, threads: int, repetitions: int) -> dict[str, Any]:
    """Measures seconds by kernel in the fastest of ``repetitions`` steps. "outside" is everything except kernels."""
    batch = BATCHES.get(network, BATCH)
    trainer, data = trainer_of(network, width, batch, threads), batch_of(network, batch)
    trainer.step(*data)
    spent, work = defaultdict[str, float](float), defaultdict[str, float](float)
    calls = defaultdict[str, int](int)
    for name, kernel in vars(trainer.kernels).items():
        if callable(kernel):
            setattr(trainer.kernels, name, _watched(name, kernel, spent, work, calls))
    best: dict[str, Any] = {"seconds": float("inf")}
    for _ in range(repetitions):
        for sums in (spent, work, calls):
            sums.clear()
        start = time.perf_counter()
        trainer.step(*data)
        seconds = time.perf_counter() - start
        if seconds < best["seconds"]:
            kernels = {name: {"seconds": spent[name], "work": work[name], "calls": calls[name]} for name in spent}
            kernels["outside"] = {"seconds": seconds - sum(spent.values()), "work": 0, "calls": 0}
            best = {"network": network, "width": width, "batch": batch, "seconds": seconds, "kernels": kernels}
    return best


def work_of(name: str, arguments: tuple, results: Any) -> float:
    """Counts a convolution's multiplications and additions, or the bytes of another kernel's arguments and results."""
    if name in ("conv2d", "conv2d_input_gradient"):
        gradient = results if name == "conv2d" else arguments[0]
        return 2.0 * gradient.size * np.prod(arguments[1].shape[1:])
    if name == "conv2d_weight_gradient":
        return 2.0 * arguments[1].size * np.prod(arguments[2][1:])
    given = [x for x in arguments if isinstance(x, np.ndarray)]
    for several in (*arguments, results):
        if isinstance(several, (tuple, list)):
            given += [x for x in several if isinstance(x, np.ndarray)]
    if isinstance(results, np.ndarray):
        given.append(results)
    return float(sum(x.nbytes for x in given))


def _watched(
    name: str, kernel: Callable, spent: dict[str, float], work: dict[str, float], calls: dict[str, int]
) -> Callable:
    def watched(*arguments: Any, **keywords: Any) -> Any:
        start = time.perf_counter()
        result = kernel(*arguments, **keywords)
        spent[name] += time.perf_counter() - start
        work[name] += work_of(name, arguments, result)
        calls[name] += 1
        return result

    return watched


def print_profile(console: Console, row: dict[str, Any]) -> None:
    title = f"{row['network']}, width {row['width']}, batch {row['batch']}: {1e3 * row['seconds']:.1f} ms"
    table = Table("kernel", title=title)
    for column in ("ms", "share", "calls", "rate"):
        table.add_column(column, justify="right")
    for name, spent in sorted(row["kernels"].items(), key=lambda item: -item[1]["seconds"]):
        share = spent["seconds"] / row["seconds"]
        if share >= 0.001:
            rate = f"{1e-9 * spent['work'] / spent['seconds']:.1f} {'GFLOP/s' if name.startswith('conv2d') else 'GB/s'}"
            cells = f"{1e3 * spent['seconds']:.2f}", f"{100 * share:.1f} %", str(spent["calls"])
            table.add_row(name, *cells, rate if spent["work"] else "")
    console.print(table)


def run(
    threads: int, repetitions: int, networks: list[str] | None = None, profiles: bool = False, growth: bool = False
) -> None:
    """Prints the table and writes bench/results/step.json (step_profile.json, step_growth.json)."""
    console = Console()
    console.print(f"{harness.processor()}, {harness.versions()}\n{threads} threads, {repetitions} repetitions")
    chosen = [row for row in NETWORKS if not networks or row[0] in networks]
    result: dict[str, Any] = harness.surroundings(threads, repetitions)
    name = "step" if threads == 1 else f"step_{threads}_threads"
    name += "".join(f"_{network}" for network in networks or ())  # keeps the file of all networks
    if profiles:
        rows = [profile(*row, threads, repetitions) for row in chosen]
        for row in rows:
            print_profile(console, row)
        print(f"written to {harness.save(name.replace('step', 'step_profile', 1), {**result, 'rows': rows})}")
        return
    here, absent = libraries_here()
    points = growing.points(BATCH) if growth else [(*row, BATCHES.get(row[0], BATCH)) for row in chosen]
    rows = [measure(*point, threads, repetitions, here) for point in points]
    if growth:
        growing.draw(rows, BATCH, f"{harness.processor()}, {threads} thread{'s' * (threads > 1)}")
        name = name.replace("step", "step_growth", 1)
    console.print(table_of(rows, absent))
    print(f"written to {harness.save(name, {**result, 'absent': absent, 'rows': rows})}")
