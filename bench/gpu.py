"""Measures the cuda backend on a GPU, beside a copy from device to device and PyTorch (cuBLAS, cuDNN) in float32.

TF32 is off everywhere. Without a device it prints the cause and exits with 2. PyTorch is optional.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import reference_models
from bench import harness
from mpsim.assignment import PAPER_LEVELS, demote
from mpsim.formats import as_format
from mpsim.kernels import BackendUnavailable, Kernels, load
from mpsim.kernels.philox import Stream
from mpsim.policies import Policy
from mpsim.trace import trace
from mpsim.training.trainer import Trainer

MEBIBYTES = (256, 1024)
CALLS = 10  # between two readings of the clock
BATCH = 512
NETWORKS = ("resnet18", "squeezenet", "shufflenet_v2", "mobilenet_v2")
#: Of ResNet-18 on 32 x 32 images: channels, outputs, size, kernel, stride.
CONVOLUTIONS = (
    (3, 64, 32, 3, 1), (64, 64, 32, 3, 1), (64, 128, 32, 3, 2), (64, 128, 32, 1, 2), (128, 128, 16, 3, 1),
    (128, 256, 16, 3, 2), (256, 256, 8, 3, 1), (256, 512, 8, 3, 2), (512, 512, 4, 3, 1),
)  # fmt: skip
#: Format, mode, and whether the kernel draws random bits.
ROUNDINGS = (
    ("bfloat16", Policy()),
    ("float8_e4m3fn", Policy()),
    ("fp_5_2_0", Policy("nearest_away")),
    ("float8_e4m3fn", Policy("stochastic", random_bit_count=16)),
    ("fp_4_3_4", Policy("qpytorch_nearest", "saturate")),
)
#: The goals, as ratios.
GOALS = {"rounding": 0.8, "contraction": 0.4, "step, of PyTorch's time": 2.0, "step, of PyTorch's with rounding": 0.7}

Call = Callable[[], Any]


def repeated(call: Call, wait: Call) -> Call:
    """Returns a function that makes CALLS calls and then waits for the device."""

    def calls() -> None:
        for _ in range(CALLS):
            call()
        wait()

    return calls


def torch_on_gpu() -> Any:
    """Returns PyTorch with TF32 off, or None if it is not installed or has no CUDA."""
    try:
        import torch  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch if torch.cuda.is_available() else None


def copy(x: Any, y: Any) -> None:
    """Copies between arrays on the device, with as little Python as a kernel's launch."""
    from cuda.bindings import driver

    to, source = (int(array.gpu_data.device_pointer) for array in (y, x))
    (error,) = driver.cuMemcpyDtoDAsync(to, source, x.nbytes, int(x.stream))
    assert not error, error


def measure_rounding(kernels: Kernels, wait: Call, repetitions: int) -> list[dict[str, Any]]:
    """Measures rounding in place, in bytes per second, beside a copy from device to device."""
    rows = []
    for mebibytes in MEBIBYTES:
        x = kernels.from_numpy(np.random.default_rng(0).standard_normal(mebibytes << 18, np.float32))
        y = kernels.from_numpy(np.zeros(mebibytes << 18, np.float32))
        calls = {"copy": partial(copy, x, y)}
        for name, policy in ROUNDINGS:
            random = Stream(0, "rounding") if policy.mode.needs_random_bits else None
            calls[f"{name} {policy.mode}"] = lambda f=as_format(name), p=policy, r=random, x=x, y=y: (
                kernels.round_array(x, f, p, r, out=y)
            )
        seconds = harness.interleaved({n: repeated(c, wait) for n, c in calls.items()}, repetitions)
        for name, timing in seconds.items():
            rows.append({
                "array": f"{mebibytes} MiB",
                "what": name,
                "bytes_per_second": 2 * CALLS * (mebibytes << 20) / timing.minimum,
                "of_copy": seconds["copy"].minimum / timing.minimum,
            })  # fmt: skip
    return rows


def measure_contractions(kernels: Kernels, torch: Any, wait: Call, repetitions: int) -> list[dict[str, Any]]:
    """Measures a square product and ResNet-18's convolutions in all three directions, in operations per second."""
    rows = [_measured(_matmul_case(kernels, torch), torch, wait, repetitions)]
    for geometry in CONVOLUTIONS:
        rows += [_measured(case, torch, wait, repetitions) for case in _convolution_cases(kernels, torch, *geometry)]
    return rows


class Contraction(NamedTuple):
    """A contraction, the same by PyTorch, and the shape of the equally large matrix product by cuBLAS."""

    what: str
    shape: tuple[int, int, int]
    own: Call
    torch: Call | None = None

    @property
    def flops(self) -> float:
        """Multiplications and additions."""
        return 2.0 * np.prod(self.shape, dtype=float)


def _matmul_case(kernels: Kernels, torch: Any) -> Contraction:
    a, b = (np.random.default_rng(seed).standard_normal((4096, 4096), np.float32) for seed in (0, 1))
    x, y = kernels.from_numpy(a), kernels.from_numpy(b)
    peer = None
    if torch is not None:
        u, v = torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda()
        peer = lambda: u @ v  # noqa: E731
    return Contraction("matmul 4096", (4096, 4096, 4096), lambda: kernels.matmul(x, y), peer)


def _convolution_cases(
    kernels: Kernels, torch: Any, channels: int, outputs: int, size: int, kernel: int, stride: int
) -> list[Contraction]:
    padding, out = kernel // 2, (size - 1) // stride + 1
    generator = np.random.default_rng(0)
    shapes = ((BATCH, channels, size, size), (outputs, channels, kernel, kernel), (BATCH, outputs, out, out))
    host = [generator.standard_normal(shape, np.float32) for shape in shapes]
    x, w, gy = (kernels.from_numpy(array) for array in host)
    geometry = ((stride, stride), (padding, padding), 1)
    own: dict[str, Call] = {
        "forward": lambda: kernels.conv2d(x, w, None, *geometry),
        "by input": lambda: kernels.conv2d_input_gradient(gy, w, shapes[0], *geometry),
        "by weight": lambda: kernels.conv2d_weight_gradient(x, gy, shapes[1], *geometry),
    }
    peers: dict[str, Call] = {}
    if torch is not None:
        tx, tw, tg = (torch.from_numpy(array).cuda() for array in host)
        options = {"stride": stride, "padding": padding}
        gradient = torch.nn.grad
        peers = {
            "forward": lambda: torch.nn.functional.conv2d(tx, tw, None, **options),
            "by input": lambda: gradient.conv2d_input(shapes[0], tw, tg, **options),
            "by weight": lambda: gradient.conv2d_weight(tx, shapes[1], tg, **options),
        }
    what, area, taps = f"conv {channels}->{outputs}, {size}x{size}, {kernel}x{kernel}/{stride}", out * out, kernel**2
    matrices = {
        "forward": (outputs, channels * taps, BATCH * area),
        "by input": (channels, outputs * taps, BATCH * area),
        "by weight": (outputs, BATCH * area, channels * taps),
    }
    return [Contraction(f"{what} {way}", matrices[way], call, peers.get(way)) for way, call in own.items()]


def _measured(case: Contraction, torch: Any, wait: Call, repetitions: int) -> dict[str, Any]:
    calls = {"mpsim": repeated(case.own, wait)}
    if torch is not None:
        rows, length, columns = case.shape
        a, b = (torch.randn(shape, device="cuda") for shape in ((rows, length), (length, columns)))
        calls["torch"] = repeated(case.torch, torch.cuda.synchronize)
        calls["cublas"] = repeated(lambda: torch.mm(a, b), torch.cuda.synchronize)
    seconds = harness.interleaved(calls, repetitions)
    rates = {name: CALLS * case.flops / timing.minimum for name, timing in seconds.items()}
    ratios = {f"of_{name}": rates["mpsim"] / rate for name, rate in rates.items() if name != "mpsim"}
    return {"what": case.what, "flops_per_second": rates, **ratios}


def measure_steps(backend: str, torch: Any, repetitions: int) -> list[dict[str, Any]]:
    """Measures a training step with all tensors rounded, beside PyTorch in float32 and with rounding by operations."""
    rows = []
    generator = np.random.default_rng(0)
    images, labels = generator.standard_normal((BATCH, 3, 32, 32), np.float32), generator.integers(0, 10, BATCH)
    for network in NETWORKS:
        model = reference_models.build(network)
        trainer = Trainer(model, demote(trace(model, BATCH), 1.0), backend=backend)
        calls: dict[str, Call] = {"mpsim": lambda trainer=trainer: trainer.step(images, labels)}
        if torch is not None:
            from bench.torch_networks import TorchStep, rounders_by_operations

            plain = TorchStep(reference_models.build(network), device="cuda")
            rounding = rounders_by_operations(PAPER_LEVELS)
            rounded = TorchStep(reference_models.build(network), PAPER_LEVELS, device="cuda", rounding=rounding)
            calls["torch"] = lambda step=plain: step(images, labels)
            calls["torch, rounded"] = lambda step=rounded: step(images, labels)
        seconds = {name: timing.minimum for name, timing in harness.interleaved(calls, repetitions).items()}
        ratios = {name: seconds["mpsim"] / time for name, time in seconds.items() if name != "mpsim"}
        rows.append({"network": network, "batch": BATCH, "seconds": seconds, "mpsim_of": ratios})
    return rows


def show(console: Console, result: dict[str, Any]) -> None:
    """Prints three tables."""
    table = Table("array", "what", "GB/s", "of a copy", title="rounding with counts")
    for row in result["rounding"]:
        table.add_row(row["array"], row["what"], f"{row['bytes_per_second'] / 1e9:.0f}", f"{row['of_copy']:.2f}")
    console.print(table)
    table = Table("what", "TFLOP/s", "of cuBLAS", "of PyTorch", title="contractions, float32")
    for row in result["contraction"]:
        ratios = [f"{row[peer]:.2f}" if peer in row else "-" for peer in ("of_cublas", "of_torch")]
        table.add_row(row["what"], f"{row['flops_per_second']['mpsim'] / 1e12:.2f}", *ratios)
    console.print(table)
    table = Table("network", "ms", "of PyTorch", "of PyTorch, rounded", title=f"training step, batch {BATCH}")
    for row in result["step"]:
        ratios = [
            f"{row['mpsim_of'][peer]:.2f}" if peer in row["mpsim_of"] else "-" for peer in ("torch", "torch, rounded")
        ]
        table.add_row(row["network"], f"{1e3 * row['seconds']['mpsim']:.1f}", *ratios)
    console.print(table)
    console.print(f"goals: {GOALS}")


def run(threads: int, repetitions: int, device: int = 0) -> None:
    """Prints the tables and writes bench/results/gpu.json, with the device's name and driver."""
    backend, console = f"cuda:{device}", Console()
    try:
        kernels = load(backend)
    except BackendUnavailable as error:
        print(error)
        sys.exit(2)
    from mpsim.kernels.cuda.device.devices import describe
    from mpsim.kernels.cuda.device.devices import device as device_in_use
    from mpsim.kernels.cuda.device.intrinsics import SIMULATED

    if SIMULATED:
        print("this is the CUDA simulator, whose times are meaningless; unset NUMBA_ENABLE_CUDASIM")
        sys.exit(2)
    torch = torch_on_gpu()
    wait = device_in_use().kernel_stream.synchronize
    console.print(f"{describe()}\n{'with' if torch else 'without'} PyTorch, {repetitions} repetitions")
    result = {
        **harness.surroundings(threads, repetitions),
        "device": describe(),
        "goals": GOALS,
        "rounding": measure_rounding(kernels, wait, repetitions),
        "contraction": measure_contractions(kernels, torch, wait, repetitions),
        "step": measure_steps(backend, torch, repetitions),
    }
    show(console, result)
    print(f"written to {harness.save('gpu', result)}")
