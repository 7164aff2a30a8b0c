"""Provides the instructions of instructions.cu as functions of NumPy arrays, built with nvcc and loaded with ctypes."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SOURCE = Path(__file__).with_name("instructions.cu")
#: Matrices are padded with zeros to multiples of these: rows of wgmma (mma.sync: 16), columns, bytes of k.
ROWS, COLUMNS, K_BYTES = 64, 8, 32


class HardwareError(RuntimeError):
    """There is no library or no device, or an instruction was called incorrectly."""


def build(folder: Path) -> Path:
    """Compiles the library for Hopper into the folder. Raises HardwareError with nvcc's output."""
    library = folder / "instructions.so"
    command = ["nvcc", "-gencode=arch=compute_90a,code=sm_90a", "-O2", "-shared", "-Xcompiler", "-fPIC"]
    try:
        done = subprocess.run([*command, "-o", str(library), str(SOURCE)], capture_output=True, text=True)
    except OSError as error:
        raise HardwareError(
            f"cannot run nvcc ({error}); install the CUDA toolkit, or pass a built --library"
        ) from error
    if done.returncode:
        raise HardwareError(f"nvcc failed on {SOURCE.name}: {done.stdout}{done.stderr}")
    return library


def opened(library: Path | None) -> ctypes.CDLL:
    """Loads the library. Raises HardwareError if there is none."""
    if library is None:
        raise HardwareError("this subject is a function of instructions.cu, which is not built; pass --library")
    try:
        loaded = ctypes.CDLL(str(library.resolve()))
    except OSError as error:
        raise HardwareError(f"cannot load {library}: {error}") from error
    loaded.explained.restype, loaded.explained.argtypes = ctypes.c_char_p, [ctypes.c_int]
    return loaded


def called(loaded: ctypes.CDLL, name: str, *arguments: Any) -> None:
    """Calls a function of the library. Raises HardwareError with CUDA's message if it fails."""
    error = getattr(loaded, name)(*arguments)
    if error:
        raise HardwareError(f"{name}: CUDA error {error}, {loaded.explained(error).decode()}")


def cast_of(name: str, code_bits: int) -> Callable[[Path | None], Callable[[Array], Array]]:
    """Returns a conversion: library -> function (array of the source type) -> codes of ``code_bits`` bits."""

    def of_library(library: Path | None) -> Callable[[Array], Array]:
        loaded = opened(library)

        def cast(x: Array) -> Array:
            codes = np.zeros(x.shape, f"uint{code_bits}")
            pointers = (ctypes.c_void_p(array.ctypes.data) for array in (x, codes))
            called(loaded, name, *pointers, ctypes.c_size_t(x.size))
            return codes

        return cast

    return of_library


def dot_of(name: str, inputs: str) -> Callable[[Path | None], Callable[[Array, Array], Array]]:
    """Returns a chain of matrix instructions: library -> function (M, K) times (K, N) -> float32 (M, N).

    The order of a descriptor's two offsets is found by products of small integers. If none is exact in either order,
    HardwareError is raised.
    """

    def of_library(library: Path | None) -> Callable[[Array, Array], Array]:
        loaded = opened(library)
        # A wrong order may make the device unusable for this process, in which no other subject runs.
        order = next((swap for swap in (0, 1) if _exact(loaded, name, inputs, swap)), None)
        if order is None:
            raise HardwareError(
                f"{name}: small integers have wrong products, in either order of a descriptor's offsets"
            )
        return lambda a, b: _product(loaded, name, a, b, order)

    return of_library


def _exact(loaded: ctypes.CDLL, name: str, inputs: str, swap: int) -> bool:
    """Returns whether small integers are multiplied exactly."""
    from mpsim.validate.dot.subjects import as_inputs
    from mpsim.validate.subjects.worker import as_array

    random = np.random.default_rng(1)
    a, b = (random.integers(-3, 4, shape).astype(np.float32) for shape in ((64, 70), (70, 24)))
    found = _product(loaded, name, *(as_array(as_inputs(x, inputs)) for x in (a, b)), swap)
    return np.array_equal(found, a @ b)


def _product(loaded: ctypes.CDLL, name: str, a: Array, b: Array, swap: int) -> Array:
    left, right = padded(a, ROWS, K_BYTES // a.itemsize), padded(b.T, COLUMNS, K_BYTES // b.itemsize)
    out = np.zeros((len(left), len(right)), np.float32)
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in (left, right, out))
    sizes = (len(left), len(right), left.shape[1] * left.itemsize)
    called(loaded, name, *pointers, *map(ctypes.c_size_t, sizes), ctypes.c_int(swap))
    return np.ascontiguousarray(out[: len(a), : b.shape[1]])


def padded(x: Array, rows: int, columns: int) -> Array:
    """Pads a matrix with zeros to multiples of rows and columns, row-major."""
    height, width = (-(-size // step) * step for size, step in zip(x.shape, (rows, columns), strict=True))
    out = np.zeros((height, width), x.dtype)
    out[: x.shape[0], : x.shape[1]] = x
    return out
