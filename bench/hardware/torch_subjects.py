"""Provides PyTorch's conversions by ``.to`` and matrix products on a device as functions of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.hardware.library import padded

Array = np.ndarray[Any, Any]
#: k is padded with zeros to a multiple of this, which cuBLASLt requires for float8.
K = 16


def torch_cast(format: str, device: str = "cuda") -> Callable[[Path | None], Callable[[Array], Array]]:
    """Returns ``tensor.to(format)`` on the device: float32 -> codes."""

    def of_library(library: Path | None) -> Callable[[Array], Array]:
        import torch

        target = getattr(torch, format)

        def cast(x: Array) -> Array:
            moved = torch.from_numpy(x).to(device).to(target)
            codes = moved.view(getattr(torch, f"int{8 * target.itemsize}")).cpu().numpy()
            return np.asarray(codes.view(f"uint{8 * target.itemsize}"))

        return cast

    return of_library


def torch_dot(kind: str, device: str = "cuda") -> Callable[[Path | None], Callable[[Array, Array], Array]]:
    """Returns a product on the device with float32 results. kind: "mm" (16 bits), "tf32", "scaled", "scaled_fast"."""

    def of_library(library: Path | None) -> Callable[[Array, Array], Array]:
        import torch

        rules = torch.backends.cuda.matmul
        rules.allow_fp16_reduced_precision_reduction = rules.allow_bf16_reduced_precision_reduction = False
        rules.allow_tf32 = kind == "tf32"
        one = torch.ones((), device=device)

        def product(a: Array, b: Array) -> Array:
            x, y = (_tensor(padded(each, 1, K)).to(device) for each in (a, b.T))
            y = y.t() if kind.startswith("scaled") else y.t().contiguous()
            if kind == "tf32":
                found = torch.mm(x, y)
            elif kind == "mm":
                found = torch.mm(x, y, out_dtype=torch.float32)
            else:
                fast = kind == "scaled_fast"
                found = torch._scaled_mm(x, y, scale_a=one, scale_b=one, out_dtype=torch.float32, use_fast_accum=fast)
            return np.asarray(found.cpu().numpy())

        return product

    return of_library


def _tensor(x: Array) -> Any:
    import torch

    if x.dtype.name in ("float32", "float16"):
        return torch.from_numpy(x)
    return torch.from_numpy(x.view(f"int{8 * x.itemsize}")).view(getattr(torch, x.dtype.name))
