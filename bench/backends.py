"""Measures the numba backend's time relative to the compiled one's, for each kernel on shapes of real networks.

Times are processor times of the whole process, and the two backends are called in turn, so that the ratios are valid on
a busy machine. Kernels that are the same NumPy code in both backends are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mpsim._kernels as _kernels
import numpy as np
from rich.console import Console
from rich.table import Table

from bench import harness
from mpsim.formats import FORMATS
from mpsim.kernels import load
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products.accumulators import Accumulator

GOAL = 5.0
BATCH = 128
IMAGES = ((64, 32), (128, 16), (512, 4))  # channels, side
#: Channels, outputs, side, kernel, stride, groups: ResNet-18 at widths 1.0 and 0.25, MobileNet's depthwise layers.
CONVOLUTIONS = (
    (3, 64, 32, 3, 1, 1),
    (3, 16, 32, 3, 1, 1),
    (64, 64, 32, 3, 1, 1),
    (16, 16, 32, 3, 1, 1),
    (16, 32, 32, 3, 2, 1),
    (128, 128, 16, 3, 1, 1),
    (128, 256, 16, 3, 2, 1),
    (64, 128, 32, 1, 2, 1),
    (128, 128, 4, 3, 1, 1),
    (32, 32, 32, 3, 1, 32),
    (96, 96, 16, 3, 2, 96),
    (144, 144, 8, 3, 1, 144),
    (240, 240, 4, 3, 1, 240),
)
MATMULS = ((128, 10, 512), (64, 8192, 576), (256, 256, 256))  # M, N, K
#: Format, source and policy of a pass over 2**22 numbers.
ROUNDINGS = (
    *(("float8_e4m3fn", "float32", Policy(mode)) for mode in Mode if not (mode.is_legacy or mode.needs_random_bits)),
    *((name, "float32", Policy()) for name in ("bfloat16", "float16", "float8_e4m3fnuz", "float8_e8m0fnu")),
    ("fp_4_3_0", "float32", Policy(Mode.QPYTORCH_NEAREST, Overflow.SATURATE)),
    ("fp_4_3_0", "float32", Policy(Mode.QPYTORCH_STOCHASTIC, Overflow.SATURATE)),
    ("float8_e8m0fnu", "float32", Policy(Mode.UP)),  # needs 64-bit integers
    ("float8_e4m3fn", "float64", Policy()),
    ("float8_e4m3fn", "float64", Policy(Mode.STOCHASTIC, random_bit_count=32)),
)
ACCUMULATORS = (
    Accumulator(chunk=None),
    Accumulator(fma=False),
    Accumulator(kind="pairwise"),
    Accumulator(format="fp_6_9_0", chunk=64),
    Accumulator(kind="exact"),
    Accumulator(kind="aligned"),
    Accumulator(kind="aligned", terms=32, fraction_bits=14, rounding="toward_zero"),
)
#: Channels, side, kernel, stride, padding.
POOLS = ((64, 32, 2, 2, 0), (64, 32, 3, 2, 1), (128, 32, 4, 4, 0), (512, 4, 4, 4, 0), (512, 7, 7, 7, 0))


class Case(NamedTuple):
    """One row."""

    kernel: str
    on: str
    arguments: tuple[Any, ...]
    options: dict[str, Any] = {}


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def cases() -> Iterator[Case]:
    """Yields every kernel that does more than copy a few numbers."""
    for channels, side in IMAGES:
        yield from layers(channels, side)
    for pool in POOLS:
        yield from pools(*pool)
    for convolution in CONVOLUTIONS:
        yield from convolutions(*convolution)
    yield from roundings(1 << 22)
    for rows, columns, depth in MATMULS:
        yield Case("matmul", f"{rows} x {columns} x {depth}", (draw(rows, depth), draw(depth, columns)))
    for rows, columns in ((BATCH, 10), (BATCH, 1000)):
        x = draw(rows, columns)
        yield Case("log_softmax", f"{rows} x {columns}", (x,))
        yield Case("log_softmax_gradient", f"{rows} x {columns}", (x, x))
    a, b = draw(64, 288), draw(288, 1024)
    for accumulator in ACCUMULATORS:
        yield Case("matmul", f"64 x 1024 x 288, {accumulator}", (a, b), {"accumulator": accumulator})
    parameters = draw(1 << 20)
    yield Case("sgd_update", "2**20", (parameters, parameters.copy(), parameters.copy(), 0.0, 0.9, 0.0, 1.0))


def layers(channels: int, side: int) -> Iterator[Case]:
    x, what = draw(BATCH, channels, side, side), f"{channels} x {side} x {side}"
    vector = np.abs(draw(channels)) + 1
    e4m3 = FORMATS["float8_e4m3fn"]
    yield Case("round_array", what, (x, e4m3, Policy()))
    stochastic = Policy(Mode.STOCHASTIC, random_bit_count=32)
    yield Case("round_array", f"{what}, stochastic", (x, e4m3, stochastic, Stream(1, "rounding")))
    for name, arguments in (
        ("add", (x, x)),
        ("scale", (x, 0.5)),
        ("relu", (x,)),
        ("positive", (x,)),
        ("relu_gradient", (x, x)),
        ("all_finite", (x,)),
        ("channel_sum", (x,)),
        ("total_sum", (x,)),
        ("batch_norm", (x, vector, vector, 1e-5)),
        ("batch_norm_inference", (x, vector, vector, vector, vector, 1e-5)),
        ("batch_norm_gradient", (x, x, vector, vector, vector)),
    ):
        yield Case(name, what, arguments)
    yield Case("relu_gradient", f"{what}, mask", (x, x > 0))
    y = x.copy()
    yield Case("round_array", f"{what}, in place", (y, e4m3, Policy()), {"out": y})
    yield Case("batch_norm", f"{what}, in place", (y, vector, vector, 1e-5), {"out": y})


def roundings(size: int) -> Iterator[Case]:
    for name, source, policy in ROUNDINGS:
        x, stream = 2 * draw(size).astype(source), Stream(1, "rounding") if policy.mode.needs_random_bits else None
        what = f"2**22 {source}, {name}, {policy.mode}"
        yield Case("round_array", what, (x, FORMATS[name], policy, stream), {"out": np.empty_like(x)})
    x = draw(size)
    for name in ("float8_e4m3fn", "bfloat16"):
        held, _ = load("compiled").round_array(x, FORMATS[name], Policy())
        yield Case("encode_array", f"2**22, {name}", (held, FORMATS[name]))
        codes = load("compiled").encode_array(held, FORMATS[name])
        yield Case("decode_array", f"2**22, {name}", (codes, FORMATS[name], np.float32))
    yield Case("random_bits", "2**22", (Stream(1, "rounding"), size))
    yield Case("canonical_nan", "2**22", (x,))


def pools(channels: int, side: int, kernel: int, stride: int, padding: int) -> Iterator[Case]:
    x, how = draw(BATCH, channels, side, side), (2 * (kernel,), 2 * (stride,), 2 * (padding,))
    what = f"{channels} x {side} x {side}, kernel {kernel}, stride {stride}"
    y, index = load("compiled").max_pool2d(x, *how)
    yield Case("max_pool2d", what, (x, *how))
    yield Case("max_pool2d_gradient", what, (y, index, x.shape))
    yield Case("avg_pool2d", what, (x, *how))
    yield Case("avg_pool2d_gradient", what, (y, x.shape, *how))


def convolutions(channels: int, outputs: int, side: int, kernel: int, stride: int, groups: int) -> Iterator[Case]:
    x, w = draw(BATCH, channels, side, side), draw(outputs, channels // groups, kernel, kernel)
    gy = draw(BATCH, outputs, side // stride, side // stride)
    how = (2 * (stride,), 2 * (kernel // 2,), groups)
    what = f"{channels}-{outputs} x {side} x {side}, kernel {kernel}, stride {stride}, groups {groups}"
    yield Case("conv2d", what, (x, w, None, *how))
    if channels != 3:  # the first layer's input has no gradient
        yield Case("conv2d_input_gradient", what, (gy, w, x.shape, *how))
    yield Case("conv2d_weight_gradient", what, (x, gy, w.shape, *how))


def measure(case: Case, threads: int, repetitions: int) -> dict[str, Any]:
    def call(backend: str) -> Callable[[], Any]:
        kernel = getattr(load(backend), case.kernel)
        return lambda: kernel(*case.arguments, threads=threads, **case.options)

    calls = {backend: call(backend) for backend in ("numba", "compiled")}
    timings = harness.interleaved(calls, repetitions, time.process_time)
    ours, theirs = timings["numba"], timings["compiled"]
    ratio = {"minimum": ours.minimum / theirs.minimum, "median": ours.median / theirs.median}
    return {
        "kernel": case.kernel,
        "on": case.on,
        "seconds": {k: v._asdict() for k, v in timings.items()},
        "ratio": ratio,
    }


def run(threads: int, repetitions: int) -> None:
    """Prints the table and writes bench/results/backends.json."""
    console = Console()
    title = (
        f"processor time, calls of the two backends in turn; {harness.processor()}, compiled: {_kernels.variant()}; "
        f"{threads} threads, {repetitions} repetitions"
    )
    table = Table("kernel", "on", title=title)
    for column in ("numba ms", "compiled ms", "numba / compiled (of medians)"):
        table.add_column(column, justify="right")
    rows = []
    for case in cases():
        row = measure(case, threads, repetitions)
        rows.append(row)
        times = (f"{1e3 * row['seconds'][backend]['minimum']:.3f}" for backend in ("numba", "compiled"))
        ratio = f"{row['ratio']['minimum']:.2f} ({row['ratio']['median']:.2f})"
        above = row["ratio"]["minimum"] > GOAL
        table.add_row(row["kernel"], row["on"], *times, ratio, style="bold" if above else None)
    console.print(table)
    slow = sum(row["ratio"]["minimum"] > GOAL for row in rows)
    print(f"{slow} of {len(rows)} above {GOAL:g}")
    result = {
        **harness.surroundings(threads, repetitions),
        "variant": _kernels.variant(),
        "batch": BATCH,
        "clock": "processor time",
        "rows": rows,
    }
    print(f"written to {harness.save('backends', result)}")
