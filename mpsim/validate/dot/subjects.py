"""Other people's dot and matrix products behind one interface: float32 numbers in, float32 numbers out."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mpsim.accumulators import Accumulator
from mpsim.formats import FORMATS
from mpsim.validate.subjects import adapters, native
from mpsim.validate.subjects.adapters import LIBRARIES, SubjectError

Array = np.ndarray[Any, Any]
Product = Callable[[Array, Array], Any]

#: Rows and columns of the matrices that subjects are asked for: of probes, one for each element of the diagonal.
SIDE = 16
EXAMPLE = (
    "float NAME(const float *a, const float *b, size_t n) or "
    "void NAME(const float *a, const float *b, float *c, size_t m, size_t n, size_t k)"
)


@dataclass
class DotSubject:
    """A matrix product under test. call(a (M, K), b (K, N)) -> (M, N), in the type of inputs."""

    name: str
    call: Product
    inputs: str = "float32"
    side: int = SIDE
    notes: list[str] = field(default_factory=list)

    def matmul(self, a: Array, b: Array) -> Array:
        """float32 (M, K) times (K, N), numbers of the inputs' format -> float32 (M, N)."""
        try:
            with np.errstate(all="ignore"):
                answer = self.call(as_inputs(a, self.inputs), as_inputs(b, self.inputs))
        except SubjectError:
            raise
        except Exception as error:  # anything at all may come out of somebody else's code
            cause = f"{error} ({type(error).__name__})"
            raise SubjectError(f"{self.name} failed on {a.shape} times {b.shape} {self.inputs}: {cause}") from error
        found = adapters._numpy(answer, self.name)
        if found.shape != (a.shape[0], b.shape[1]):
            raise SubjectError(f"{self.name} answered shape {found.shape} to {a.shape} times {b.shape}")
        if found.dtype.name not in FORMATS:
            raise SubjectError(f"{self.name} answered {found.dtype}; expected floats of at most 64 bits")
        note = "answers float64, which was rounded to float32"
        if found.dtype == np.float64 and note not in self.notes:
            self.notes.append(note)
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(found, np.float32)

    def dots(self, a: Array, b: Array) -> Array:
        """Dot products of the rows of a with the rows of b, both (P, K): the diagonals of products of matrices."""
        found = np.empty(len(a), np.float32)
        for start in range(0, len(a), self.side):
            left, right = np.zeros((2, self.side, a.shape[1]), np.float32)
            count = min(self.side, len(a) - start)
            left[:count], right[:count] = a[start : start + count], b[start : start + count]
            found[start : start + count] = self.matmul(left, np.ascontiguousarray(right.T)).diagonal()[:count]
        return found


def as_inputs(x: Array, inputs: str) -> Array:
    """float32 numbers as an array of the inputs' type (tf32: float32 with 10 fraction bits)."""
    if inputs in ("float32", "tf32"):
        return x.copy()
    if inputs == "float16":
        return x.astype(np.float16)
    try:
        import ml_dtypes
    except ModuleNotFoundError as error:
        raise SubjectError(f"inputs {inputs} need ml_dtypes (pip install ml_dtypes)") from error
    if not hasattr(ml_dtypes, inputs):
        raise SubjectError(f"inputs are float32, tf32, float16 or a type of ml_dtypes, not {inputs!r}")
    return x.astype(getattr(ml_dtypes, inputs))


def open_dot(
    subject: str | Callable[..., Any] | Accumulator,
    *,
    inputs: str = "float32",
    form: str = "matmul",
    arguments: str = "numpy",
    signature: str | None = None,
    header: Path | None = None,
    side: int = SIDE,
    backend: str = "compiled",
) -> DotSubject:
    """The subject: a function, an Accumulator (mpsim's own), or a name.

    ``package.module:function`` or ``file.py:function`` takes (M, K) and (K, N) arrays, or two vectors with
    ``form="dot"``; ``library.so:name`` is a C function on float32 rows, as ``EXAMPLE`` shows.
    Raises SubjectError if there is no such thing.
    """
    if form not in ("matmul", "dot"):
        raise SubjectError(f"form is 'matmul' or 'dot', not {form!r}")
    if side < 1:
        raise SubjectError(f"side is a number of rows, at least 1, not {side}")
    if inputs not in FORMATS:
        raise SubjectError(f"unknown inputs {inputs!r}")
    as_inputs(np.zeros(1, np.float32), inputs)
    if isinstance(subject, Accumulator):
        return DotSubject(f"mpsim {subject.kind}", of_accumulator(subject, backend), inputs, side)
    if not isinstance(subject, str):
        name = getattr(subject, "__name__", repr(subject))
        return DotSubject(name, _function(subject, form, arguments), inputs, side)
    place, colon, name = subject.rpartition(":")
    if colon and Path(place).suffix in LIBRARIES:
        if inputs not in ("float32", "tf32"):
            raise SubjectError(f"C functions are called with float arrays, not {inputs}")
        try:
            return DotSubject(subject, _c_function(Path(place), name, signature, header), inputs, side)
        except (native.NativeError, OSError) as error:
            raise SubjectError(str(error)) from error
    if not colon:
        place, _, name = subject.rpartition(".")
    if not place:
        raise SubjectError(f"{subject!r} names no subject; expected package.module:function or library.so:name")
    function = adapters._attribute(adapters._module(place), name, subject)
    if not callable(function):
        raise SubjectError(f"{subject} is {type(function).__name__}, not a function")
    return DotSubject(subject, _function(function, form, arguments), inputs, side)


def of_accumulator(accumulator: Accumulator, backend: str) -> Product:
    """mpsim's matrix product with an accumulator."""
    from mpsim.contraction import matmul

    return lambda a, b: matmul(a, b, accumulator, backend=backend, threads=1)


def _function(function: Callable[..., Any], form: str, arguments: str) -> Product:
    if arguments not in ("numpy", "torch"):
        raise SubjectError(f"arguments are 'numpy' or 'torch', not {arguments!r}")

    def given(x: Array) -> Any:
        return _tensor(x) if arguments == "torch" else x

    def dots(a: Array, b: Array) -> Array:
        columns = np.ascontiguousarray(b.T)
        return np.array([[function(given(x), given(y)) for y in columns] for x in a])

    return dots if form == "dot" else lambda a, b: function(given(a), given(b))


def _tensor(x: Array) -> Any:
    import torch

    name = x.dtype.name
    if name in ("float32", "float16"):
        return torch.from_numpy(x)
    return torch.from_numpy(x.view(f"uint{8 * x.dtype.itemsize}")).view(getattr(torch, name))


def _c_function(library: Path, name: str, signature: str | None, header: Path | None) -> Product:
    """A C function on float arrays: a dot product of two rows, or a matrix product of row-major matrices."""
    loaded = ctypes.CDLL(str(library.resolve()))
    if not hasattr(loaded, name):
        raise native.NativeError(f"{library} exports no {name!r}")
    answer, kinds = native._parse(signature or native._find_prototype(library, name, header), name)
    pointers, sizes = [kind for kind in kinds if kind.endswith("*")], [kind for kind in kinds if kind[-1] != "*"]
    if (len(pointers), len(sizes)) not in ((2, 1), (3, 3)) or {*pointers} != {"float *"}:
        raise native.NativeError(f"cannot call {name}({', '.join(kinds)}); expected {EXAMPLE}")
    function = getattr(loaded, name)
    function.argtypes = [ctypes.c_void_p if kind.endswith("*") else native._c_type(kind)[0] for kind in kinds]
    function.restype = native._c_type(answer)[0] if len(pointers) == 2 else None

    def dot(a: Array, b: Array) -> Array:
        columns = np.ascontiguousarray(b.T)
        values = [[function(x.ctypes.data, y.ctypes.data, x.size) for y in columns] for x in a]
        return np.array(values, np.float64 if answer == "double" else np.float32)

    def matmul(a: Array, b: Array) -> Array:
        out = np.zeros((a.shape[0], b.shape[1]), np.float32)
        function(a.ctypes.data, b.ctypes.data, out.ctypes.data, a.shape[0], b.shape[1], a.shape[1])
        return out

    return dot if len(pointers) == 2 else matmul
