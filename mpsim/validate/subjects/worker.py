"""Calls users' functions with typed arrays, in this process or in that of ``serving``.

It imports only the standard library and NumPy, so that no expected value is computed where a subject may have changed
the floating-point state. Arrays are passed as words (integers of the type's width) with the name of the type.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
Fields = dict[str, Any]  # a decoded JSON object
PLAIN = ("float16", "float32", "float64")  # NumPy's own types; others come from ml_dtypes, or are torch's


class Typed(NamedTuple):
    """An array, with the name of its type (e.g. "float16", "bfloat16", "int8") and its words or integers."""

    type: str
    words: Array


class WorkerError(Exception):
    """The subject cannot be found, or does not return an array. The message is readable."""


Function = Callable[[Sequence[Typed]], list[Typed]]
BESIDE = ("c", "alpha", "beta", "bias", "left_scale", "right_scale")  # what products read beside their operands
ALIGNMENT = 64  # bytes of a cache line and of the widest vector registers
_UNWRITTEN = 0xA5A5A5A5A5A5A5A5  # where a C function is to write: no zero, which many results are
_FENCE = 0x5A  # bytes around that place
_OR_DTYPE = ", and not a dtype that NumPy or PyTorch casts to"


# -- arrays ---------------------------------------------------------------------------------------------------


def as_array(given: Typed) -> Array:
    """Returns the array for a NumPy function. Raises WorkerError if the type needs ml_dtypes and it is missing."""
    if given.type in PLAIN:
        return given.words.view(given.type)
    if given.type.startswith(("uint", "int")):
        return given.words
    try:
        import ml_dtypes

        return given.words.view(getattr(ml_dtypes, given.type))
    except (ModuleNotFoundError, AttributeError) as error:
        raise WorkerError(f"NumPy has no type {given.type}, and ml_dtypes does not give it ({error})") from error


def as_tensor(given: Typed) -> Any:
    """Returns the tensor for a PyTorch function."""
    import torch

    if given.type in PLAIN:
        return torch.from_numpy(given.words.view(given.type))
    is_byte = given.words.dtype == np.uint8
    words = torch.from_numpy(given.words if is_byte else given.words.view(given.words.dtype.name.removeprefix("u")))
    if given.type.startswith(("uint", "int")):
        return words
    if not hasattr(torch, given.type):
        raise WorkerError(f"PyTorch has no type {given.type}")
    return words.view(getattr(torch, given.type))


def aligned_rows(words: Array, shift: int = 0) -> Array:
    """A copy whose rows begin at multiples of ALIGNMENT bytes, on which the order of some sums depends; or ``shift``
    elements, less than ALIGNMENT bytes, further on."""
    (rows, length), unit = words.shape, ALIGNMENT // words.itemsize
    room = np.empty((rows + 1) * (stride := -(-(length + shift) // unit) * unit), words.dtype)
    copy = room[-room.ctypes.data % ALIGNMENT // words.itemsize :][: rows * stride].reshape(rows, stride)
    copy = copy[:, shift : shift + length]
    np.copyto(copy, words)
    return copy


def typed(answer: object) -> Typed:
    """Returns the words and the type of a returned array. Raises WorkerError if it is not an array."""
    of = () if type(answer) is np.ndarray else type(answer).__mro__
    if any((each.__module__, each.__name__) == ("torch", "Tensor") for each in of):
        return _typed_tensor(answer)
    try:
        array = np.asarray(answer)
    except Exception as error:
        raise WorkerError(f"answers {type(answer).__name__}, which NumPy cannot read") from error
    name, is_float = type(answer).__name__ if array.dtype.hasobject else _name(array.dtype), array.dtype.kind in "fV"
    if array.dtype.kind not in "fiuV" or not array.dtype.itemsize or array.dtype.names:
        raise WorkerError(f"answers {name}; expected integers (codes) or floats (numbers)")
    if is_float and array.dtype.itemsize > 8:
        raise WorkerError(f"answers {name}; expected floats of at most 64 bits")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if is_float:
        array = np.ascontiguousarray(array).view(f"uint{8 * array.dtype.itemsize}")
    return Typed(name, array)


@lru_cache
def _name(dtype: np.dtype[Any]) -> str:
    """Returns the name of a type, which NumPy puts together at each call."""
    return dtype.name


def _typed_tensor(answer: Any) -> Typed:
    import torch

    tensor = answer.detach().cpu().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    if name in ("float32", "float64", "float16") or name.startswith(("int", "uint")):
        return typed(tensor.numpy())
    words = {1: torch.uint8, 2: torch.int16}.get(tensor.element_size())
    if words is None or not tensor.dtype.is_floating_point:
        raise WorkerError(f"answers {tensor.dtype}; expected integers (codes) or floats (numbers)")
    array = tensor.reshape(-1).view(words).numpy().reshape(tuple(tensor.shape))
    return Typed(name, array.view(np.uint16) if array.dtype == np.int16 else array)


# -- subjects -------------------------------------------------------------------------------------------------


def load(spec: Fields) -> tuple[Function, Fields]:
    """Loads the function that a spec describes, as a function of typed arrays, and what is known about it.

    Kind "function" is ``name`` in ``place``, a module or a file.py. Kind "dotted" is the same, or a dtype, to which the
    function casts. Kind "native" has ``library``, ``name`` and ``shim`` (mpsim.validate.subjects.native). ``arguments``
    is "numpy" or "torch". With ``form`` "dot" the function accepts two vectors, and is called for each pair of rows.

    Raises WorkerError if the function cannot be loaded; the message says why.
    """
    if spec["kind"] == "native":
        return _native(spec), {}
    found = attribute(module(spec["place"]), spec["name"], spec["place"])
    if spec["kind"] == "dotted" and (cast := _dtype(found)) is not None:
        return cast
    if not callable(found) or isinstance(found, type):
        what = f"{spec['place']}.{spec['name']}" if spec["kind"] == "dotted" else f"{spec['place']}:{spec['name']}"
        raise WorkerError(f"{what} is {type(found).__name__}, not a function" + _OR_DTYPE * (spec["kind"] == "dotted"))
    form = spec.get("form", "")
    return of_function(found, spec["arguments"], form), {"takes": takes(found) if form == "matmul" else []}


def takes(function: Callable[..., object]) -> list[str]:
    """Names of BESIDE that a Python function takes after two operands; "=" follows those that have a default."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[2:]
    except (TypeError, ValueError):
        return []
    return [each.name + "=" * (each.default is not each.empty) for each in parameters if each.name in BESIDE]


def of_function(function: Callable[..., object], arguments: str = "numpy", form: str = "") -> Function:
    """Turns a Python function into a function of typed arrays. Those of a product after the first two have the names of
    ``takes``; one without a type is not passed, and one without axes is passed as a number."""
    given = as_tensor if arguments == "torch" else as_array
    names = [name.rstrip("=") for name in takes(function)] if form == "matmul" else []

    def call(arrays: Sequence[Typed]) -> list[Typed]:
        others = zip(names, arrays[2:], strict=False)
        named = {name: given(x) if x.words.ndim else given(x).item() for name, x in others if x.type}
        with np.errstate(all="ignore"):
            answer = function(*map(given, arrays[:2] if form == "matmul" else arrays), **named)
        return answers(answer)

    def answers(answer: object) -> list[Typed]:
        if isinstance(answer, tuple | list) and not all(isinstance(each, int | float | np.generic) for each in answer):
            return [typed(part) for part in answer]
        return [typed(answer)]

    def dots(arrays: Sequence[Typed]) -> list[Typed]:
        shift = int(arrays[2].words[0]) if len(arrays) > 2 else 0
        x, y = (given(Typed(each.type, aligned_rows(each.words, shift))) for each in arrays[:2])
        with np.errstate(all="ignore"):
            found = [answers(function(row, column))[0] for row, column in zip(x, y, strict=True)]
        return [Typed(found[0].type, np.stack([each.words.reshape(()) for each in found]))]

    return dots if form == "dot" else call


def _dtype(found: Any) -> tuple[Function, Fields] | None:
    """Returns the cast to a dtype of NumPy, ml_dtypes or PyTorch and its name, or None for other objects."""
    if type(found).__module__.split(".")[0] == "torch" and type(found).__name__ == "dtype":
        name = str(found).removeprefix("torch.")
        return lambda arrays: [typed(as_tensor(arrays[0]).to(found))], {"dtype": name}
    try:
        dtype = np.dtype(found)
    except TypeError:
        return None
    if dtype.kind not in "fViu" or not dtype.itemsize:
        return None

    def cast(arrays: Sequence[Typed]) -> list[Typed]:
        with np.errstate(all="ignore"):
            return [typed(as_array(arrays[0]).astype(dtype))]

    return cast, {"dtype": dtype.name}


def _native(spec: Fields) -> Function:
    """Returns a C function that is called through its shim (mpsim.validate.subjects.native.shims)."""
    if not hasattr(library := ctypes.CDLL(spec["library"]), spec["name"]):
        raise WorkerError(f"{spec['library']} exports no {spec['name']!r}")
    function = ctypes.cast(getattr(library, spec["name"]), ctypes.c_void_p)
    shim = ctypes.CDLL(spec["shim"]).mpsim_call
    shim.restype, shim.argtypes = None, [ctypes.c_void_p] * 3
    form, inputs = spec["form"], spec["inputs"]

    def call(arrays: Sequence[Typed]) -> list[Typed]:
        words = [np.ascontiguousarray(each.words) for each in arrays]
        if form == "dots":  # one sum per call, whose second operand is also a row
            words[1] = np.ascontiguousarray(words[1].T)
        shape, counts = _extents(form, words, spec["group"])
        unwritten = 0 if form in ("product", "dots") else _UNWRITTEN
        rooms = [_room(shape, unwritten >> 64 - bits, bits) for bits, _ in spec["outputs"]]
        outputs = [output for output, _ in rooms]
        passed = [*words[:inputs], *outputs, *words[inputs:]]
        pointers = (ctypes.c_void_p * len(passed))(*(each.ctypes.data for each in passed))
        shim(function, pointers, (ctypes.c_size_t * 4)(*counts))
        if any((fence != _FENCE).any() for _, fences in rooms for fence in fences):
            raise WorkerError(f"writes outside its array of {outputs[0].size} results")
        return [
            Typed(name, out.view(name) if name.startswith("int") else out)
            for (_, name), out in zip(spec["outputs"], outputs, strict=True)
        ]

    return call


def _room(shape: tuple[int, ...], content: int, bits: int) -> tuple[Array, tuple[Array, Array]]:
    """An array to write to, filled with ``content``, and the bytes before and after it, which nobody is to write."""
    size = int(np.prod(shape)) * bits // 8
    room = np.full(size + 3 * ALIGNMENT, _FENCE, np.uint8)
    first = ALIGNMENT + -room.ctypes.data % ALIGNMENT
    output = room[first : first + size].view(f"uint{bits}").reshape(shape)
    output.fill(content)
    return output, (room[:first], room[first + size :])


def _extents(form: str, words: Sequence[Array], group: Sequence[int | None]) -> tuple[tuple[int, ...], list[int]]:
    """Returns the shape of the results and the counts that a shim reads. group: rows and columns of a block."""
    if form in ("product", "dots"):
        (rows, inner), columns = words[0].shape, words[1].shape[form == "product"]
        return (rows, columns), [rows, columns, inner, 0]
    shape = words[0].shape
    rows, columns = shape if len(shape) == 2 else (1, words[0].size)
    blocks = -(-rows // (group[0] or max(rows, 1))) * -(-columns // (group[1] or max(columns, 1)))
    return shape, [words[0].size, rows, columns, blocks]


def module(place: str) -> ModuleType:
    """Imports a module by name or a file.py. Raises WorkerError, with the cause, if it cannot be imported."""
    try:
        if (path := Path(place)).suffix == ".py":
            spec = importlib.util.spec_from_file_location(f"_subject_{path.stem}", path)
            assert spec is not None and spec.loader is not None
            found = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found)
            return found
        if not {"", str(Path.cwd())} & {*sys.path}:
            sys.path.append(str(Path.cwd()))
        return importlib.import_module(place)
    except Exception as error:
        raise WorkerError(f"cannot import {place}: {words_of(error)}") from error


def attribute(holder: object, name: str, text: str) -> object:
    """Returns holder.name, where ``name`` may have dots. Raises WorkerError if there is no such attribute."""
    for part in name.split("."):
        if not hasattr(holder, part):
            raise WorkerError(f"{text} has no {name!r}")
        holder = getattr(holder, part)
    return holder


def words_of(error: BaseException) -> str:
    """Returns the message and the type of an error."""
    return f"{error} ({type(error).__name__})" if str(error) else type(error).__name__


# -- the floating-point state ---------------------------------------------------------------------------------


#: The smallest normal number and half of it; 1/2 and 2**30. 1, -1 and 1; 2**-30 away from 0, twice, and toward it.
_SMALL, _FACTORS = np.array([2.0**-126, 2.0**-127], np.float32), np.array([0.5, 2.0**30], np.float32)
_ONES, _TINY = np.array([1, -1, 1], np.float32), np.array([2.0**-30, -(2.0**-30), -(2.0**-30)], np.float32)
#: Their products and sums by default: the latter are the ones.
_PRODUCTS = np.array([1 << 22, 30 << 23], np.uint32).tobytes()


def float_state() -> list[str]:
    """Describes what is unusual about this thread's floating-point arithmetic. IEEE 754's default gives [].

    >>> float_state()
    []
    """
    with np.errstate(all="ignore"):
        products, sums = _SMALL * _FACTORS, _ONES + _TINY
    if products.tobytes() == _PRODUCTS and sums.tobytes() == _ONES.tobytes():
        return []
    (halved, grown), (above, below, inner) = products.view(np.uint32), sums.view(np.uint32)
    upward, downward, inward = above != 0x3F800000, below != 0xBF800000, inner != 0x3F800000
    states = {"flush-to-zero": not halved, "denormals-are-zero": not grown, "rounding upward": upward}
    states["rounding downward"] = downward and not upward
    states["rounding toward zero"] = inward and not (upward or downward)
    return [name for name in states if states[name]]
