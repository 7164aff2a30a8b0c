"""Arguments for every kernel on shapes that fill a device, and the comparison of its results with a CPU backend's."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from mpsim.accumulators import Accumulator
from mpsim.formats import FORMATS
from mpsim.kernels import load
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Policy

Array = np.ndarray[Any, Any]
Case = tuple[tuple[Any, ...], dict[str, Any]]

#: Of the backend that is compared with.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SPECIALS = np.array(
    [0x0, 0x80000000, 0x1, 0x807FFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000], np.uint32
).view(np.float32)

#: Each another way to sum a dot product.
ACCUMULATORS = (
    Accumulator(chunk=None),
    Accumulator(chunk=64, fma=False),
    Accumulator(kind="pairwise", chunk=32),
    Accumulator(format="fp_6_9_0", chunk=64),
    Accumulator(kind="aligned", chunk=None, terms=16, fraction_bits=24, rounding="toward_zero"),
    Accumulator(kind="exact"),
)


@cache
def numbers(seed: int, *shape: int) -> Array:
    """Numbers of many magnitudes, so that another order of a sum shows; nobody writes to them."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape, np.float32) * np.exp2(generator.integers(-6, 7, shape)).astype(np.float32)


def mixed(seed: int, *shape: int) -> Array:
    """One in a thousand replaced by zeros, subnormals, the largest, infinities, NaN."""
    generator, x = np.random.default_rng(seed), numbers(seed, *shape).copy()
    places = generator.integers(0, max(1, x.size), max(1, x.size // 1000))
    x.reshape(-1)[places] = generator.choice(SPECIALS, places.size)
    return x


def cases(quick: bool) -> dict[str, list[Case]]:
    """Kernel -> arguments; ``quick``: of shapes that the simulator manages."""
    flat = (300,) if quick else (1 << 24,)
    image = (2, 4, 5, 5) if quick else (128, 96, 32, 32)
    channels, rows = image[1], (3, 10) if quick else (4096, 1000)
    vector = numbers(9, channels)
    labels = np.random.default_rng(8).integers(0, rows[1], rows[0])
    half = (image[0], channels // 2, *image[2:])
    window = ((3, 3), (2, 2), (1, 1))
    pooled = (*image[:2], *((size - 1) // 2 + 1 for size in image[2:]))
    index = np.random.default_rng(7).integers(0, image[2] * image[3], pooled).astype(np.int32)
    e4m3 = FORMATS["float8_e4m3fn"]
    found: dict[str, list[Case]] = {}

    def add(name: str, *arguments: Any, **options: Any) -> None:
        found.setdefault(name, []).append((arguments, options))

    add("permute", numbers(0, image[0], 2, channels // 2, *image[2:]), (0, 2, 1, 3, 4))
    add("concatenate", [numbers(0, *half), numbers(1, *half)])
    add("slice_channels", mixed(0, *image), 1, channels)
    add("place_channels", mixed(0, *half), 1, channels)
    add("round_array", mixed(0, *flat), e4m3, Policy())
    add("round_array", mixed(1, *flat), e4m3, Policy(Mode.STOCHASTIC, random_bit_count=8), Stream(1, "rounding"))
    add("decode_array", np.random.default_rng(0).integers(0, 256, flat, dtype=np.uint8), e4m3, np.float32)
    codes = np.random.default_rng(0).integers(0, 256, flat, dtype=np.uint8)
    add("encode_array", load("reference").decode_array(codes, e4m3, np.float32), e4m3)
    add("random_bits", Stream(1, "rounding", 2, 3), flat[0], 7)
    add("canonical_nan", mixed(0, *flat))
    add("all_finite", numbers(0, *flat))
    add("all_finite", numbers(0, *flat), mixed(0, *flat))
    add("add", mixed(0, *flat), mixed(1, *flat))
    add("scale", mixed(0, *flat), 1 / 3)
    add("relu", mixed(0, *flat))
    add("positive", mixed(0, *flat))
    add("relu_gradient", mixed(0, *flat), mixed(1, *flat))
    add("sgd_update", numbers(0, *flat), numbers(1, *flat), numbers(2, *flat), 0.1, 0.9, 5e-4, 1 / 3)
    add("channel_sum", numbers(0, *image))
    add("channel_sum", numbers(0, *rows))
    add("total_sum", numbers(0, *flat))
    add("batch_norm", numbers(0, *image), vector, vector, 1e-5)
    add("batch_norm_inference", numbers(0, *image), vector, np.abs(vector), vector, vector, 1e-5)
    add("batch_norm_gradient", numbers(0, *image), numbers(1, *image), vector, vector, vector)
    add("update_running", numbers(0, channels), vector, 0.1, 1.01)
    add("max_pool2d", mixed(0, *image), *window)
    add("max_pool2d_gradient", numbers(0, *pooled), index, image)
    add("avg_pool2d", numbers(0, *image), *window)
    add("avg_pool2d", numbers(0, *image), image[2:], image[2:], (0, 0))
    add("avg_pool2d_gradient", numbers(0, *pooled), image, *window)
    add("log_softmax", numbers(0, *rows))
    add("log_softmax_gradient", numbers(0, *rows), -np.abs(numbers(1, *rows)))
    add("nll_loss", numbers(0, *rows), labels)
    add("nll_loss_gradient", np.full(1, 1024, np.float32), labels, rows)
    _contractions(add, quick)
    return found


def _contractions(add: Callable[..., None], quick: bool) -> None:
    rows, length, columns = (5, 300, 7) if quick else (1000, 2111, 1500)
    for left in (False, True):
        for right in (False, True):
            a = numbers(0, *((length, rows) if left else (rows, length)))
            b = numbers(1, *((columns, length) if right else (length, columns)))
            add("matmul", a, b, left, right, numbers(2, columns))
    short = 3 if quick else 8
    for accumulator in ACCUMULATORS:
        a, b = numbers(3, rows // short + 1, length), numbers(4, length, columns // short + 1)
        add("matmul", a, b, accumulator=accumulator)
    batch, size, wide = (1, 6, 4) if quick else (64, 32, 64)
    geometries = [
        (wide, wide, 3, (1, 1), (1, 1), 1),
        (wide, 2 * wide, 3, (2, 2), (1, 1), 1),
        (wide, 2 * wide, 1, (2, 2), (0, 0), 1),
        (wide, wide, 3, (1, 1), (1, 1), wide),
        (wide, wide, 3, (2, 2), (1, 1), wide),
        (wide, wide, 3, (2, 1), (1, 0), 2),
    ]
    for channels, outputs, kernel, stride, padding, groups in geometries:
        x = numbers(5, batch, channels, size, size)
        w = numbers(6, outputs, channels // groups, kernel, kernel)
        shape = tuple((size + 2 * padding[i] - kernel) // stride[i] + 1 for i in (0, 1))
        gy, geometry = numbers(7, batch, outputs, *shape), (stride, padding, groups)
        add("conv2d", x, w, numbers(8, outputs), *geometry)
        add("conv2d_input_gradient", gy, w, x.shape, *geometry)
        add("conv2d_weight_gradient", x, gy, w.shape, *geometry)


def compare(name: str, case: Case, extent: Any, row: Any) -> int:
    """How many numbers differ between ``extent.backend`` and ``extent.peer``, NaNs alike; adds to ``row.compared``.

    What a kernel changes in place counts as a result.
    """
    cuda, (arguments, options) = load(extent.backend), case
    device = [_moved(x, cuda.from_numpy) for x in arguments]
    result = _arrays((getattr(cuda, name)(*device, **options), device), cuda)
    own = [_moved(x, np.copy) for x in arguments]
    wanted = _arrays((getattr(load(extent.peer), name)(*own, threads=THREADS, **options), own), cuda)
    row.compared += sum(x.size for x in wanted)
    if [x.shape for x in result] != [x.shape for x in wanted]:
        return sum(x.size for x in wanted)
    return sum(different(x, y) for x, y in zip(result, wanted, strict=True))


def different(x: Array, y: Array) -> int:
    """How many elements of equal shapes differ in a bit, unless both are NaN."""
    if x.dtype != y.dtype:
        return x.size
    unlike = np.ascontiguousarray(x).reshape(-1).view(f"u{x.itemsize}") != np.ascontiguousarray(y).reshape(-1).view(
        f"u{y.itemsize}"
    )
    if x.dtype.kind == "f":
        unlike &= ~(np.isnan(x.reshape(-1)) & np.isnan(y.reshape(-1)))
    return int(np.count_nonzero(unlike))


def _moved(x: Any, move: Callable[[Array], Any]) -> Any:
    if isinstance(x, np.ndarray):
        return move(x)
    return [_moved(part, move) for part in x] if isinstance(x, list) else x


def _arrays(x: Any, cuda: Any) -> list[Array]:
    """Every array and number inside, on the host."""
    if isinstance(x, np.ndarray) or cuda.is_on_device(x):
        return [cuda.to_numpy(x)]
    if isinstance(x, tuple | list):
        return [array for part in x for array in _arrays(part, cuda)]
    return [np.array(x)] if isinstance(x, float | bool) else []
