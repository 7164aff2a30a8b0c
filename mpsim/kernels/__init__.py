"""Backends: interchangeable modules that all define the functions of ``contract.CONTRACT``, with equal bits."""

from __future__ import annotations

import importlib
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

from mpsim.accumulators import Accumulator
from mpsim.kernels.contract import CONTRACT
from mpsim.kernels.errors import BackendUnavailable, DeviceMemoryError

__all__ = ["BACKENDS", "BackendUnavailable", "DeviceMemoryError", "bind", "load"]

#: name -> (module, what it is)
BACKENDS = {
    "reference": ("mpsim.kernels.reference", "NumPy, readable, whole arrays"),
    "numba": ("mpsim.kernels.numba_cpu", "Numba, parallel loops"),
    "compiled": ("mpsim.kernels.compiled", "C with vector code chosen at run time"),
}


def load(name: str) -> ModuleType:
    """The backend's module.

    Raises ValueError for an unknown name, BackendUnavailable if it cannot run here; nothing falls back.

    >>> load("reference").__name__
    'mpsim.kernels.reference'
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}. Known: {', '.join(BACKENDS)}")
    try:
        return importlib.import_module(BACKENDS[name][0])
    except ImportError as error:
        others = " or ".join(f'backend="{other}"' for other in BACKENDS if other != name)
        raise BackendUnavailable(
            f"{name!r}: {error} ({type(error).__name__}). Run 'pip install -e .', or pass {others}."
        ) from error


def bind(name: str, threads: int = 1, accumulator: Accumulator = Accumulator()) -> Any:
    """The backend's functions as attributes, with ``threads`` and, for contractions, ``accumulator`` given.

    >>> import numpy as np
    >>> bind("reference").add(np.float32([1]), np.float32([2]))
    array([3.], dtype=float32)
    """
    module = load(name)
    bound = SimpleNamespace(backend=name, threads=threads, accumulator=accumulator)
    for row in CONTRACT.values():
        fixed: dict[str, Any] = {"threads": threads}
        if row.contraction:
            fixed["accumulator"] = accumulator
        setattr(bound, row.name, partial(getattr(module, row.name), **fixed))
    return bound
