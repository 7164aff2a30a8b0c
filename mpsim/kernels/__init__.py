"""Backends are interchangeable modules that implement the functions of ``contract.Kernels`` with equal bits."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mpsim import checks, plugins
from mpsim.kernels.binding import Binding
from mpsim.kernels.contract import CONTRACT, Kernels
from mpsim.kernels.errors import BackendNotInstalled, BackendUnavailable, DeviceMemoryError
from mpsim.kernels.signatures import wrong_signature
from mpsim.process import in_default_environment
from mpsim.products.accumulators import Accumulator
from mpsim.products.passes import Choice

__all__ = [
    "BACKENDS", "CONTRACT", "DEFAULT_BACKEND", "FURTHER", "BackendUnavailable", "DeviceMemoryError", "Kernels", "bind",
    "hosted", "load",
]  # fmt: skip

#: name -> (module or its name, description)
BACKENDS: dict[str, tuple[str | ModuleType, str]] = {
    "reference": ("mpsim.kernels.reference", "NumPy, readable, whole arrays"),
    "numba": ("mpsim.kernels.numba_cpu", "Numba, parallel loops"),
    "compiled": ("mpsim.kernels.compiled", "C with vector code chosen at run time"),
    "cuda": ("mpsim.kernels.cuda", "Numba for NVIDIA devices; cuda:1 is the second device"),
}
HAS_EXTENSION = find_spec("mpsim._kernels") is not None
#: The backend of a call that names none. The C extension is absent from a wheel that was built without a compiler.
DEFAULT_BACKEND = "compiled" if HAS_EXTENSION else "numba"
NO_EXTENSION = (
    f"mpsim in {Path(__file__).parents[2]} has no C extension. Run 'pip install .' in a source tree with a C compiler "
    "installed; where another folder has an mpsim with its extension, run Python outside this one"
)
if not HAS_EXTENSION:
    logging.getLogger("mpsim").warning("The default backend is numba, with the same bits: %s.", NO_EXTENSION)

#: Kernels added by mpsim.extend.kernel: name -> functions by kind of array, "host" and "cuda".
FURTHER: dict[str, dict[str, Callable[..., object]]] = {}
#: The description of a backend of an installed package.
OF_PACKAGE = "of an installed package"


def known() -> list[str]:
    """Returns the names of all backends: mpsim's, those added by mpsim.extend, and those of installed packages."""
    return list(dict.fromkeys([*BACKENDS, *plugins.of_group("mpsim.backends")]))


def load(name: str) -> ModuleType:
    """Returns the backend's module. Arrays of "cuda" are on a device ("cuda:1": device 1). ``hosted`` accepts NumPy's.

    Raises ValueError for an unknown name, and BackendUnavailable if the backend cannot run here or violates the
    contract. No other backend is used instead.

    >>> load("reference").__name__
    'mpsim.kernels.reference'
    """
    kind, _, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind not in BACKENDS and (brought := plugins.load("mpsim.backends", kind)) is not None:
        if not isinstance(brought, ModuleType):
            raise BackendUnavailable(f"backend {kind!r} of an installed package is not a module, but {brought!r}")
        BACKENDS[kind] = (brought, OF_PACKAGE)
    if kind not in BACKENDS or (number and not (kind == "cuda" and number.isdecimal())):
        raise checks.unknown("backend", name, known())
    try:
        place = BACKENDS[kind][0]
        module = importlib.import_module(place) if isinstance(place, str) else place
    except ImportError as error:
        others = " or ".join(f'backend="{other}"' for other in BACKENDS if other not in (kind, "cuda"))
        if kind == "compiled" and not HAS_EXTENSION:
            raise BackendUnavailable(f"{kind!r}: {NO_EXTENSION}, or pass {others}.") from error
        cause = f"{kind!r}: {error} ({type(error).__name__})"
        if kind == "cuda" and isinstance(error, ModuleNotFoundError):
            raise BackendNotInstalled(f"{cause}. Run: pip install 'mpsim[cuda]', or pass {others}.") from error
        raise BackendUnavailable(f"{cause}. Install mpsim again, or pass {others}.") from error
    if kind == "cuda":
        module.use_device(int(number or 0))
    prepare(module)
    return module


@cache
def prepare(module: ModuleType) -> None:
    """Checks a module's functions, and makes them run in the default floating-point environment."""
    check_signatures(module)
    for name in CONTRACT:
        setattr(module, name, in_default_environment(getattr(module, name)))


def is_in_c(name: str) -> bool:
    """Returns whether a backend is the C extension, which has kernels beyond the contract (kernels/compiled/groups.py).

    >>> is_in_c("reference")
    False
    """
    return HAS_EXTENSION and name == "compiled"


def check_signatures(module: ModuleType) -> None:
    """Raises BackendUnavailable if a module's functions differ from the contract in names or arguments."""
    wrong = [words for row in CONTRACT.values() if (words := wrong_signature(row, getattr(module, row.name, None)))]
    if wrong:
        raise BackendUnavailable(
            f"{module.__name__} is not a backend: {'; '.join(wrong[:3])}. See mpsim.kernels.contract."
        )


def bind(name: str, threads: int | None = 1, accumulator: Choice = Accumulator()) -> Kernels:
    """Returns the backend's functions as attributes, with ``threads`` (None: one per core) and, for contractions,
    ``accumulator`` bound. Raises like ``load``, and UsageError for an invalid number of threads.

    >>> import numpy as np
    >>> bind("reference").add(np.float32([1]), np.float32([2]))
    array([3.], dtype=float32)
    """
    module, threads = load(name), checks.threads(threads)
    on_device = name.partition(":")[0] == "cuda"

    def function(kernel: str) -> Callable[..., object]:
        given = partial(getattr(module, kernel), threads=threads)
        return partial(_on_device, name, given) if on_device else given

    kind = "cuda" if on_device else "host"
    further = {
        each: in_default_environment(functions[kind]) for each, functions in FURTHER.items() if kind in functions
    }
    return Binding(function, {"backend": name, "threads": threads, **further}).kernels(accumulator)


def _on_device(name: str, function: Any, *arguments: object, **options: object) -> object:
    """Calls a function on the device of this name, whichever device this thread used last."""
    load(name)
    return function(*arguments, **options)


def hosted(name: str) -> Any:
    """Returns the backend's functions for NumPy arrays, also if its own arrays are on a device.

    >>> hosted("reference") is load("reference")
    True
    """
    return _Hosted(load(name)) if name.partition(":")[0] == "cuda" else load(name)


class _Hosted:
    """A backend on a device that copies NumPy arguments to the device and results back."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        return partial(self._call, getattr(self._module, name))

    def _call(self, function: Any, *arguments: Any, out: np.ndarray | None = None, **options: object) -> object:
        shape = next((x.shape for x in arguments if isinstance(x, np.ndarray)), None)
        sent = [self._sent(x) for x in arguments]
        result = function(*sent, **{key: self._sent(x) for key, x in options.items()})
        many = isinstance(result, tuple)
        received = [self._received(x, shape) for x in (result if many else (result,))]
        if out is not None:
            out[...] = received[0]
            received[0] = out
        return tuple(received) if many else received[0]

    def _sent(self, x: object) -> object:
        return self._module.from_numpy(np.atleast_1d(x)) if isinstance(x, np.ndarray) else x

    def _received(self, x: object, shape: tuple[int, ...] | None) -> object:
        if not self._module.is_on_device(x):
            return x
        array = self._module.to_numpy(x)
        return array.reshape(()) if shape == () and array.shape == (1,) else array
