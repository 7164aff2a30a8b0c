"""Arrays of more elements than an int of C counts: 2**31 and a rest that is no whole vector.

Their memory is a block of 64 MiB that repeats, and an end of its own, so that they need little. An index that loses its
upper bits leaves the end as it was. What kernels allocate repeats in the same way.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from backends import that_run

from mpsim import decode, encode, round_to
from mpsim.errors import UsageError
from mpsim.kernels import load
from mpsim.kernels.philox import Stream, random_bits
from mpsim.kernels.reference.reductions import BLOCK

Array = np.ndarray[Any, Any]
SIZE = (1 << 31) + (1 << 16) + 13
#: Bytes of the block, and elements of float32 in it.
PERIOD = 1 << 26
ELEMENTS = PERIOD // 4
#: The element of float32 from which memory does not repeat, 64 MiB before element 2**31.
START = (1 << 31) - ELEMENTS
#: Elements of the end that is compared, from before 2**31 on.
LAST = (1 << 16) + 13 + 4096
STREAM = Stream(7, "rounding", 1, 2)
#: Repeating memory of Linux.
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="maps memory as Linux does")


def repeating(shape: int | tuple[int, ...], dtype: Any = np.float32) -> Array:
    """An array whose memory is the same 64 MiB again and again, except for its last 64 to 128 MiB."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    whole = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000))
    address = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    file = os.memfd_create("block")
    os.ftruncate(file, PERIOD)
    for place in range(0, (size - 1) // PERIOD * PERIOD - PERIOD, PERIOD):
        access, how = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | 0x10  # MAP_FIXED
        assert libc.mmap(address + place, PERIOD, access, how, file, 0) == address + place
    os.close(file)
    return np.frombuffer(whole, dtype).reshape(shape)


@contextmanager
def allocating_little(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the compiled and the numba backend, NumPy and mpsim allocate for large arrays repeats too."""
    empty = np.empty

    def allocated(shape: Any, dtype: Any = np.float32, **options: Any) -> Array:
        large = np.prod(shape) * np.dtype(dtype).itemsize >= 1 << 30
        return repeating(shape, dtype) if large else empty(shape, dtype, **options)

    with monkeypatch.context() as patch:
        patch.setattr(np, "empty", allocated)
        for name, module in list(sys.modules.items()):
            if name.startswith(("mpsim.kernels.compiled.", "mpsim.kernels.numba_cpu.")) and "empty" in vars(module):
                patch.setattr(module, "empty", allocated)
        yield


def filled(x: Array, seed: int) -> Array:
    """Numbers of all magnitudes in the block and, others, in the end. The block is written once."""
    flat, random = x.reshape(-1), np.random.default_rng(seed)
    assert x.size >> 31 == 1
    for place, count in ((0, ELEMENTS), (START, x.size - START)):
        numbers = random.standard_normal(count, np.float32)
        numbers[::3] = np.ldexp(numbers[::3], random.integers(-150, 120, numbers[::3].size).astype(np.int32))
        numbers[::1001], numbers[7::5003] = np.inf, np.nan
        flat[place : place + count] = numbers
    return x


@pytest.fixture(scope="module")
def x() -> Array:
    return filled(repeating(SIZE), 1)


@pytest.fixture(params=[name for name in that_run() if name != "reference"])
def kernels(request: pytest.FixtureRequest) -> Any:
    return load(request.param)


def same(found: Array, wanted: Array) -> None:
    """Equal bits, where any NaN equals any other."""
    if found.dtype.kind == "f":
        assert np.array_equal(np.isnan(found), np.isnan(wanted))
        found, wanted = (np.where(np.isnan(each), np.float32(0), each) for each in (found, wanted))
    np.testing.assert_array_equal(found.view(f"u{found.itemsize}"), wanted.view(f"u{wanted.itemsize}"))


def test_images_of_too_many_elements_for_an_index_are_refused() -> None:
    """Also with padding. The next smaller ones are not."""
    row = np.float32(0)
    for backend in that_run():
        pool = load(backend).max_pool2d
        for shape, padding in ((1 << 16, 1 << 15), (0, 0)), ((1 << 16, (1 << 15) - 1), (0, 1)):
            with pytest.raises(UsageError, match="int32 indexes, and 65536 x 3276[78] elements with padding .* split"):
                pool(np.broadcast_to(row, (1, 1, *shape)), (1 << 12, 1 << 12), (1 << 12, 1 << 12), padding)


@pytest.mark.slow
@ON_LINUX
def test_rounding(x: Array, kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results, and counts of all elements, with and without random bits, and codes there and back."""
    backend, end = kernels.__name__.rsplit(".", 1)[1].removesuffix("_cpu"), x[-LAST:]
    for mode, bits in (("nearest_even", None), ("to_odd", None), ("stochastic", STREAM)):
        options: dict[str, Any] = {"random_bits": bits, "backend": backend, "counts": True, "threads": 2}
        options["random_bit_count"] = None if bits is None else 32
        round_to(end[:4], "float8_e4m3fn", mode, "saturate", **options)  # Numba compiles with the right np.empty
        with allocating_little(monkeypatch):
            found, counts = round_to(x, "float8_e4m3fn", mode, "saturate", **options)
        words = None if bits is None else random_bits(STREAM, LAST, SIZE - LAST)
        wanted, _ = round_to(end, "float8_e4m3fn", mode, "saturate", **options | {"random_bits": words})
        same(found[-LAST:], wanted)
        if bits is None:
            one, last = (
                np.array(round_to(part, "float8_e4m3fn", mode, "saturate", **options)[1])
                for part in (x[:ELEMENTS], x[START:])
            )
            assert tuple(counts) == tuple(START // ELEMENTS * one + last)
        del found
    decode(encode(end[:4], "float8_e5m2", backend=backend), "float8_e5m2", backend=backend)
    with allocating_little(monkeypatch):
        codes = encode(x, "float8_e5m2", backend=backend, threads=2)
        values = decode(codes, "float8_e5m2", backend=backend)
    same(codes[-LAST:], encode(end, "float8_e5m2", backend=backend))
    same(values[-LAST:], decode(codes[-LAST:].copy(), "float8_e5m2", backend=backend))
    assert values.size == SIZE


@pytest.mark.slow
@ON_LINUX
def test_random_words(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning and up to the end of a stream."""
    kernels.random_bits(STREAM, 4, threads=1)  # as above
    for first in (0, 5, (1 << 34) - SIZE):
        with allocating_little(monkeypatch):
            found = kernels.random_bits(STREAM, SIZE, first, threads=1)
        same(found[-LAST:], random_bits(STREAM, LAST, first + SIZE - LAST))
        same(found[:LAST], random_bits(STREAM, LAST, first + START - ELEMENTS))  # the last that repeat
        del found


#: A kernel, and how it is called.
ELEMENTWISE: dict[str, Callable[[Any, Array], Any]] = {
    "add": lambda kernels, x: kernels.add(x, x, threads=2),
    "multiply": lambda kernels, x: kernels.multiply(x, x, threads=2),
    "scale": lambda kernels, x: kernels.scale(x, 0.7, threads=2),
    "relu_gradient": lambda kernels, x: kernels.relu_gradient(x, x, threads=2),
    "positive": lambda kernels, x: kernels.positive(x, threads=2).view(np.uint8),
    "unary": lambda kernels, x: kernels.unary(x, "sigmoid", threads=2),
    "softmax": lambda kernels, x: kernels.softmax(x[: SIZE // 8 * 8].reshape(-1, 8), threads=2).reshape(-1),
    "take": lambda kernels, x: kernels.take(x.reshape(1, -1, 1), np.arange(SIZE - LAST, SIZE), threads=2).reshape(-1),
}


@pytest.mark.slow
@ON_LINUX
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(x: Array, kernels: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "numba" in kernels.__name__ and name not in ("add", "unary"):
        pytest.skip("compiles for long")
    last = SIZE // 8 * 8 if name == "softmax" else SIZE
    if name in ("add", "unary"):
        ELEMENTWISE[name](kernels, x[:8])  # as above
    with allocating_little(monkeypatch):
        found = ELEMENTWISE[name](kernels, x)
    end = x[last - 4096 : last].copy()
    reference = load("reference")
    if name == "softmax":
        same(found[-4096:], reference.softmax(end.reshape(-1, 8)).reshape(-1))
    elif name == "take":
        same(found[-4096:], end)
    else:
        same(found[-4096:], ELEMENTWISE[name](reference, end))


@pytest.mark.slow
@ON_LINUX
def test_sums_and_products(kernels: Any) -> None:
    """Of finite numbers, against partial sums of the block and the end, added one after another."""
    x = filled(repeating(SIZE), 2)
    for part in (x[:ELEMENTS], x[START:]):
        np.nan_to_num(part, copy=False, nan=1.0, posinf=1.0)
        part[np.abs(part) > 2.0**60] = 1.0
    reference = load("reference")

    def in_order(sums_of: Callable[[Array], Array]) -> np.float32:
        parts = [sums_of(x[:ELEMENTS])] * (START // ELEMENTS) + [sums_of(x[START:])]
        return np.add.accumulate(np.concatenate(parts), dtype=np.float32)[-1]

    def of_blocks(part: Array) -> Array:
        whole = part[: part.size // BLOCK * BLOCK].reshape(-1, BLOCK)
        rest = [np.float32(reference.total_sum(part[whole.size :]))] if part.size > whole.size else []
        return np.append(reference.channel_sum(np.ascontiguousarray(whole.T)), np.float32(rest)).astype(np.float32)

    assert np.float32(kernels.total_sum(x, threads=2)) == in_order(of_blocks)
    assert kernels.channel_sum(x.reshape(1, 1, -1), threads=2)[0] == in_order(of_blocks)


@pytest.mark.slow
@ON_LINUX
def test_many_planes_and_rows(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pooling and products of more than 2**31 inputs together, of which each result takes few."""
    rows = (1 << 31) // 4096 + 16
    x = filled(repeating((rows, 4096)), 3)
    reference, end = load("reference"), x[-4:].copy()
    window: tuple[Any, ...] = ((8, 8), (8, 8), (0, 0))
    for found, wanted in zip(
        kernels.max_pool2d(x.reshape(rows, 1, 64, 64), *window, threads=2),
        reference.max_pool2d(end.reshape(4, 1, 64, 64), *window),
        strict=True,
    ):
        same(found[-4:], wanted)
    same(
        kernels.avg_pool2d(x.reshape(rows, 1, 64, 64), *window, threads=2)[-4:],
        reference.avg_pool2d(end.reshape(4, 1, 64, 64), *window),
    )
    b = np.random.default_rng(4).standard_normal((4096, 3), np.float32)
    with np.errstate(all="ignore"):
        same(kernels.matmul(x, b, threads=2)[-4:], reference.matmul(end, b))
