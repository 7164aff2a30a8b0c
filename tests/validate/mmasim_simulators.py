"""MMA-Sim's simulators as functions of NumPy arrays. Functions import it, as tests skip where it is absent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: MMA-Sim's names of operands -> mpsim's.
INPUTS = {
    "f32": "float32", "tf32": "tf32", "xf32": "tf32", "bf16": "bfloat16", "f16": "float16", "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2", "fp8": "float8_e4m3fnuz", "bf8": "float8_e5m2fnuz", "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn", "e2m1": "float4_e2m1fn",
}  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load() -> bool:
    """Imports MMA-Sim. Whether its sums of float32 and float64 are there, which are compiled when they are imported."""
    name = "mmasim.arithmetic.fma"
    try:
        import mmasim.arithmetic.fma  # noqa: F401
    except (RuntimeError, OSError, ImportError):  # no ninja, no compiler
        sys.modules[name] = ModuleType(name)
        sys.modules[name].MMA_FMA = type(None)  # type: ignore[attr-defined]
    return hasattr(sys.modules[name], "fma")


def of_nvidia() -> Iterator[tuple[str, str, str, Any]]:
    """(instruction, architecture, spelling, simulator) of every form without block scales."""
    load()
    from mmasim import nv_ptx
    from mmasim.nv_ptx import isa_mma, isa_tcgen05mma, isa_wgmma

    tables = {
        "MMA": isa_mma.mma_shape_and_type,
        "WGMMA": isa_wgmma.wgmma_shape_and_type,
        "TCGen05MMA": isa_tcgen05mma.tcgen05mma_shape_and_type,
    }
    for kind, table in tables.items():
        for architecture, texts in table.items():
            for spelling in texts:
                yield kind, architecture, spelling, getattr(nv_ptx, kind)(architecture, spelling)


def of_amd() -> Iterator[tuple[str, str, Any]]:
    """(architecture, suffix, simulator) of every matrix instruction."""
    load()
    from mmasim.amd import MFMA, isa_mfma

    for architecture, suffixes in isa_mfma.arch_mfma_suffix.items():
        for suffix in suffixes:
            yield architecture, suffix, MFMA(architecture, suffix)


def tensor(x: Array) -> Any:
    """NumPy's or ml_dtypes' array as MMA-Sim takes it: float6 and float4 as codes, the latter in bits 5 to 2."""
    import torch

    x = np.ascontiguousarray(x)
    if x.dtype.name in ("float32", "float16"):
        return torch.from_numpy(x.copy())
    codes = x.view(f"uint{8 * x.itemsize}").copy()
    if x.dtype.name.startswith(("float6", "float4")):
        return torch.from_numpy(codes << 2 if x.dtype.name.startswith("float4") else codes)
    return torch.from_numpy(codes.view(f"int{8 * x.itemsize}")).view(getattr(torch, x.dtype.name))


def chained(step: Callable[[Any, Any, Any], Any], k: int, a: Any, b: Any, c: Any) -> Array:
    """A chain of instructions over the last axis of a and b, padded with zeros; c of each is the sum so far."""
    for start in range(0, a.shape[-1], k):
        c = step(a[..., start : start + k].contiguous(), b[..., start : start + k].contiguous(), c)
    return np.asarray(c.numpy())


def padded(x: Array, k: int) -> Any:
    return tensor(np.pad(x, [(0, 0), (0, -x.shape[1] % k)]))


def dots(simulator: Any, a: Array, b: Array) -> Array:
    """Dot products of the rows of a with the rows of b: in one call of the simulator's single element."""
    import torch

    start = torch.zeros(len(a), dtype=simulator.c_type)
    return chained(simulator.dpa, simulator.k, padded(a, simulator.k), padded(b, simulator.k), start)


def product(simulator: Any, a: Array, b: Array) -> Array:
    """(M, K) times (K, N)."""
    import torch

    c = torch.zeros(len(a), b.shape[1], dtype=simulator.c_type)
    step = lambda x, y, z: simulator(x, y.T, z)  # noqa: E731
    return chained(step, simulator.k, padded(a, simulator.k), padded(b.T, simulator.k), c)


def scales_tensor(x: Array, name: str) -> Any:
    """Scales as codes of float8_e8m0fnu or float8_e4m3fn."""
    import ml_dtypes
    import torch

    return torch.from_numpy(x.astype(getattr(ml_dtypes, name)).view(np.uint8)).view(getattr(torch, name))
