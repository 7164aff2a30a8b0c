"""Measures contractions beside NumPy's matmul (OpenBLAS) and PyTorch's convolutions, in the same run.

The matmuls are the products to which some convolutions of ResNet-18 correspond. The convolutions are all of ResNet-18
at two widths, with batch 128 and 32x32x3 input: forward, gradient by the input, gradient by the weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import mpsim._kernels as _kernels
import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,import-not-found,unused-ignore]

from bench import harness
from mpsim.kernels import compiled

MATMULS = ((64, 32768, 576), (128, 8192, 1152), (512, 2048, 4608), (1024, 1024, 1024))  # M, N, K
WIDTHS = (1.0, 0.25)
BATCH = 128
PASSES = ("forward", "by input", "by weight")
Call = Callable[[], Any]


class Layer(NamedTuple):
    """A convolution of square images and kernels."""

    channels: int
    outputs: int
    size: int
    kernel: int
    stride: int

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def operations(self) -> float:
        """Multiplications and additions of one pass."""
        return 2.0 * BATCH * self.outputs * (self.size // self.stride) ** 2 * self.channels * self.kernel**2


def resnet18(width: float) -> Counter[Layer]:
    """Counts its convolutions."""
    stages = [int(channels * width) for channels in (64, 128, 256, 512)]
    layers = [Layer(3, stages[0], 32, 3, 1)]
    channels, size = stages[0], 32
    for number, outputs in enumerate(stages):
        stride = 1 if number == 0 else 2
        layers += [Layer(channels, outputs, size, 3, stride)]
        if stride > 1:
            layers += [Layer(channels, outputs, size, 1, stride)]
        channels, size = outputs, size // stride
        layers += 3 * [Layer(channels, channels, size, 3, 1)]
    return Counter(layers)


def our_calls(layer: Layer, x: np.ndarray, w: np.ndarray, gy: np.ndarray, threads: int) -> dict[str, Call]:
    how = (2 * (layer.stride,), 2 * (layer.padding,), 1)
    return {
        "forward": lambda: compiled.conv2d(x, w, None, *how, threads=threads),
        "by input": lambda: compiled.conv2d_input_gradient(gy, w, x.shape, *how, threads=threads),
        "by weight": lambda: compiled.conv2d_weight_gradient(x, gy, w.shape, *how, threads=threads),
    }


def torch_calls(layer: Layer, x: np.ndarray, w: np.ndarray, gy: np.ndarray, threads: int) -> dict[str, Call]:
    import torch  # type: ignore[import-not-found,unused-ignore]

    torch.set_num_threads(threads)
    images, weights, gradient = (torch.from_numpy(array) for array in (x, w, gy))
    stride, padding = [layer.stride] * 2, [layer.padding] * 2

    def backward(by_input: bool) -> Call:
        mask = [by_input, not by_input, False]
        return lambda: torch.ops.aten.convolution_backward(
            gradient, images, weights, None, stride, padding, [1, 1], False, [0, 0], 1, mask
        )

    return {
        "forward": lambda: torch.nn.functional.conv2d(images, weights, None, stride, padding),
        "by input": backward(True),
        "by weight": backward(False),
    }


def time_layer(layer: Layer, threads: int, repetitions: int, with_torch: bool) -> dict[str, harness.Timing]:
    """Timings by "pass library"."""
    random = np.random.default_rng(0)
    x = random.standard_normal((BATCH, layer.channels, layer.size, layer.size), dtype=np.float32)
    w = random.standard_normal((layer.outputs, layer.channels, layer.kernel, layer.kernel), dtype=np.float32)
    out = layer.size // layer.stride
    gy = random.standard_normal((BATCH, layer.outputs, out, out), dtype=np.float32)
    calls = {f"{name} mpsim": call for name, call in our_calls(layer, x, w, gy, threads).items()}
    if with_torch:
        calls |= {f"{name} torch": call for name, call in torch_calls(layer, x, w, gy, threads).items()}
    return harness.interleaved(calls, repetitions)


def time_matmul(rows: int, columns: int, depth: int, threads: int, repetitions: int) -> dict[str, harness.Timing]:
    random = np.random.default_rng(0)
    a = random.standard_normal((rows, depth), dtype=np.float32)
    b = random.standard_normal((depth, columns), dtype=np.float32)
    with threadpool_limits(threads):
        return harness.interleaved(
            {"mpsim": lambda: compiled.matmul(a, b, threads=threads), "numpy": lambda: a @ b}, repetitions
        )


def absence_of_torch() -> str | None:
    """Returns why PyTorch cannot be timed, or None."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
    return None


def measure_matmuls(threads: int, repetitions: int) -> list[dict[str, Any]]:
    rows = []
    for shape in MATMULS:
        timings = time_matmul(*shape, threads, repetitions)
        ours, theirs = timings["mpsim"], timings["numpy"]
        rows.append(
            {
                "shape": shape,
                "ratio": {"minimum": ours.minimum / theirs.minimum, "median": ours.median / theirs.median},
                "seconds": {"mpsim": ours.minimum, "numpy": theirs.minimum},
                "gigaflops": 2e-9 * float(np.prod(shape)) / ours.minimum,
            }
        )
    return rows


def measure_layers(width: float, threads: int, repetitions: int, with_torch: bool) -> list[dict[str, Any]]:
    rows = []
    for layer, count in resnet18(width).items():
        timings = time_layer(layer, threads, repetitions, with_torch)
        row: dict[str, Any] = {"width": width, "layer": layer._asdict(), "count": count}
        for name in PASSES:
            ours, theirs = timings[f"{name} mpsim"], timings.get(f"{name} torch")
            row[name] = {"mpsim": ours._asdict(), "gigaflops": layer.operations / ours.minimum * 1e-9}
            if theirs:
                row[name] |= {"torch": theirs._asdict(), "ratio": ours.minimum / theirs.minimum}
        rows.append(row)
    return rows


def sums(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns the seconds of each pass over all layers with their counts, without the first gradient by the input."""
    totals: dict[str, dict[str, float]] = {}
    for name in PASSES:
        counted = [row for row in rows if name != "by input" or row["layer"]["channels"] != 3]
        totals[name] = {
            library: sum(row["count"] * row[name][library]["minimum"] for row in counted)
            for library in ("mpsim", "torch")
            if all(library in row[name] for row in counted)
        }
    return totals


def run(threads: int, repetitions: int) -> None:
    """Prints the tables and writes bench/results/contraction.json."""
    absent = absence_of_torch()
    console = Console()
    versions = ", ".join(f"{package} {version}" for package, version in harness.versions().items())
    console.print(
        f"{harness.processor()}, variant {_kernels.variant()}, {versions}\n{threads} thread{'s' * (threads > 1)}, "
        f"{repetitions} repetitions; milliseconds and ratios of minima, GFLOP/s of mpsim",
        markup=False,
    )
    matmuls = measure_matmuls(threads, repetitions)
    print_matmuls(console, matmuls)
    result = {**harness.surroundings(threads, repetitions), "variant": _kernels.variant(), "batch": BATCH}
    layers = []
    for width in WIDTHS:
        rows = measure_layers(width, threads, repetitions, absent is None)
        print_layers(console, width, rows)
        layers.append({"width": width, "sums": sums(rows), "rows": rows})
    if absent:
        console.print(f"torch: not available ({absent})", markup=False)
    result |= {"matmul": matmuls, "convolution": layers, "absent": {"torch": absent} if absent else {}}
    print(f"written to {harness.save('contraction', result)}")


def print_matmuls(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table("M x N x K", title="matmul beside NumPy's (OpenBLAS)")
    for column in ("mpsim", "numpy", "ratio (of medians)", "GFLOP/s"):
        table.add_column(column, justify="right")
    for row in rows:
        milliseconds = (f"{1e3 * row['seconds'][library]:.2f}" for library in ("mpsim", "numpy"))
        ratio = f"{row['ratio']['minimum']:.2f} ({row['ratio']['median']:.2f})"
        table.add_row(" x ".join(map(str, row["shape"])), *milliseconds, ratio, f"{row['gigaflops']:.0f}")
    console.print(table)


def print_layers(console: Console, width: float, rows: list[dict[str, Any]]) -> None:
    table = Table("layer", title=f"ResNet-18, width {width}, batch {BATCH}: convolutions beside PyTorch's")
    for name in PASSES:
        table.add_column(f"{name}: mpsim, torch, ratio (GFLOP/s)", justify="right")
    for row in rows:
        layer = Layer(**row["layer"])
        name = f"{row['count']} x {layer.channels}-{layer.outputs}, {layer.size}x{layer.size}, kernel {layer.kernel}"
        cells = []
        for each in PASSES:
            ours = f"{1e3 * row[each]['mpsim']['minimum']:.2f}"
            if "torch" in row[each]:
                ours += f" {1e3 * row[each]['torch']['minimum']:.2f} {row[each]['ratio']:.2f}"
            cells.append(f"{ours} ({row[each]['gigaflops']:.0f})")
        table.add_row(f"{name}, stride {layer.stride}", *cells)
    totals = sums(rows)
    cells = []
    for each in PASSES:
        ratio = f" {totals[each]['mpsim'] / totals[each]['torch']:.2f}" if "torch" in totals[each] else ""
        cells.append(" ".join(f"{1e3 * seconds:.0f}" for seconds in totals[each].values()) + ratio)
    table.add_section()
    table.add_row("sum", *cells)
    console.print(table)
