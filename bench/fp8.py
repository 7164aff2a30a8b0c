"""Measures a training step in FP8 with the sums of tensor cores, beside the same step in float32.

All cases use mpsim's compiled backend and are interleaved. float32 rounds nothing. fp8 uses the levels ``fp8_ocp`` with
mpsim's sums, then with the sums of Hopper's ``wgmma`` forward and by weight, and in all three passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import reference_models
from bench import harness
from bench.step import timed
from mpsim.assignment import assign
from mpsim.trace import trace
from mpsim.training.trainer import Trainer

#: Network, width, batch.
NETWORKS = (("small_cnn", 1.0, 128), ("resnet18", 0.25, 32), ("resnet18", 1.0, 8))
FORWARD_AND_WEIGHT = "forward=hopper_wgmma_float8_e4m3fn;weight_gradient=hopper_wgmma_float8_e4m3fn_float8_e5m2"
#: Name -> scheme, accumulator.
CASES = {
    "float32": ("float32", ""),
    "fp8": ("uniform_low", ""),
    "wgmma forward, by weight": ("uniform_low", FORWARD_AND_WEIGHT),
    "wgmma in all passes": (
        "uniform_low", f"{FORWARD_AND_WEIGHT};input_gradient=hopper_wgmma_float8_e5m2_float8_e4m3fn"
    ),
}  # fmt: skip


def trainer_of(network: str, width: float, batch: int, threads: int, scheme: str, accumulator: str) -> Trainer:
    model = reference_models.build(network, width)
    plan = assign(trace(model, batch), scheme, levels="fp8_ocp")
    return Trainer(model, plan, accumulator=accumulator, threads=threads, loss_scale=1024.0)


def measure(network: str, width: float, batch: int, threads: int, repetitions: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    trainers = {name: trainer_of(network, width, batch, threads, *case) for name, case in CASES.items()}
    model = trainers["float32"].model
    images = random.standard_normal((batch, *model.input_shape), dtype=np.float32)
    labels = random.integers(0, model.classes, batch)
    calls = {name: lambda trainer=trainer: trainer.step(images, labels) for name, trainer in trainers.items()}
    seconds = timed(calls, repetitions)
    return {"network": network, "width": width, "batch": batch, "seconds": seconds}


def run(threads: int, repetitions: int) -> None:
    """Prints the table and writes bench/results/fp8.json."""
    console = Console()
    console.print(f"{harness.processor()}, {harness.versions()}\n{threads} threads, {repetitions} repetitions")
    rows = [measure(*network, threads, repetitions) for network in NETWORKS]
    table = Table("network", "width", "batch", title="milliseconds of processor time per step, and ratio to float32")
    for name in CASES:
        table.add_column(name, justify="right")
    for row in rows:
        times = {name: times["processor_minimum"] for name, times in row["seconds"].items()}
        cells = [f"{1e3 * seconds:.1f} (x{seconds / times['float32']:.2f})" for seconds in times.values()]
        table.add_row(row["network"], str(row["width"]), str(row["batch"]), *cells)
    console.print(table)
    console.print(f"written to {harness.save('fp8', harness.surroundings(threads, repetitions) | {'rows': rows})}")
